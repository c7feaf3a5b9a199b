"""How fast a commit reaches Kubernetes itself, beside a floor and beside kubectl, in one run.

.venv/bin/python bench/cluster.py [ROUNDS [DAEMONSETS]]

Needs the programs of `make cluster-parts`.  Rounds are interleaved in random order, and what counts
are the ratios inside one round, CPU seconds and requests: the machine may be busy otherwise.
All contenders have a repository and a namespace of their own; the moment at which an object is
there is that of the bench's own watch, and time runs from the moment a contender is told to fetch
(the agent by a signal, at which it polls as a webhook has it poll), so fetching is counted for all.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:1] = [str(HERE.parent), str(HERE.parent / "tests")]  # `cluster` is the tests', not this

import yaml  # noqa: E402 - found by the path above
from cluster import binaries  # noqa: E402 - found by the path above
from cluster.control_plane import index, running  # noqa: E402 - found by the path above
from cluster.part import die_with_parent  # noqa: E402 - found by the path above
from git_repositories import Repository, git_daemon  # noqa: E402 - found by the path above

from bench.fleet_of_manifests import manifest  # noqa: E402 - found by the path above
from dsgitops.adapters.kubernetes.transport import connect  # noqa: E402 - found by the path above
from dsgitops.ports import Request  # noqa: E402

NODES = 20
FIRST = 9999
"""Number of the manifest that is there before anything is measured: all are warm."""
WAIT_SECONDS = 300.0
TICK = os.sysconf("SC_CLK_TCK")
ROUND = "SETTING_0"
"""The variable of the pod template that each commit changes: its value is the round."""


# ---------------------------------------------------------------------------- what is seen


class Watch(threading.Thread):
    """Notes when each object came to be as it is, as a watch of the whole cluster tells it.

    Args:
        plane: The cluster.
        path: Of the collection.
        state: Returns what is noted of an object; only a change of it counts.
    """

    def __init__(self, plane, path, state):
        super().__init__(daemon=True)
        self.seen, self.history = {}, []
        self._state, self._news, self._told = state, threading.Event(), threading.Condition()
        query = {"watch": "1", "sendInitialEvents": "true", "allowWatchBookmarks": "true",
                 "resourceVersionMatch": "NotOlderThan"}  # fmt: skip
        self._stream = connect(str(plane.kubeconfig)).open(
            Request(method="GET", path=path, query=query, timeout=3600), self._news.set
        )
        self.start()

    def run(self):
        """Read until the server goes."""
        while not self._stream.ended:
            self._news.wait()
            self._news.clear()
            lines, now = self._stream.lines(), time.monotonic()
            with self._told:
                for line in lines:
                    self._note(json.loads(line), now)
                self._told.notify_all()

    def _note(self, event, now):
        found = event["object"]
        if event["type"] not in {"ADDED", "MODIFIED"} or "deletionTimestamp" in found["metadata"]:
            return
        key = (found["metadata"]["namespace"], found["metadata"]["name"])
        state = self._state(found)
        if self.seen.get(key, ("", 0.0))[0] != state:
            self.seen[key] = (state, now)
            self.history.append((key, state, now))

    def wait(self, keys, holds):
        """Return when the last of the objects came to be so.

        Raises:
            RuntimeError: One did not.
        """

        def reached():
            found = [self.seen.get(key, ("", 0.0)) for key in keys]
            return all(holds(state) for state, _ in found) and max(at for _, at in found)

        return self._wait_for(reached)

    def first(self, namespace, state, since):
        """Return when the first object of a namespace came to be so after a moment.

        Raises:
            RuntimeError: None did.
        """

        def reached():
            return next(
                (at for key, each, at in self.history
                 if at >= since and each == state and key[0] == namespace), None
            )  # fmt: skip

        return self._wait_for(reached)

    def last(self, namespace, state, since):
        """Return when the last object of a namespace came to be so, of those that were seen."""
        with self._told:
            return max(at for key, each, at in self.history
                       if at >= since and each == state and key[0] == namespace)  # fmt: skip

    def _wait_for(self, reached):
        with self._told:
            when = self._told.wait_for(reached, WAIT_SECONDS)
        if not when:
            raise RuntimeError("it did not come to that")
        return when


def round_of(found):
    """Return the round whose commit a DaemonSet wears."""
    env = found["spec"]["template"]["spec"]["containers"][0].get("env", [])
    return next((each["value"] for each in env if each["name"] == ROUND), "")


def phase_of(found):
    """Return the phase in the agent's record."""
    text = found["metadata"].get("annotations", {}).get("dsgitops.io/record", "{}")
    return json.loads(text).get("phase", "")


def readiness_of(found):
    """Return whether a pod is ready, or why it has no node, with its round."""
    env = found["spec"]["containers"][0].get("env", [])
    value = next((each["value"] for each in env if each["name"] == ROUND), "")
    conditions = found["status"].get("conditions", [])
    told = {each["type"]: each.get("reason") or each["status"] for each in conditions}
    if told.get("PodScheduled") == "Unschedulable":
        return f"{value} Unschedulable"
    return f"{value} Ready" if told.get("Ready") == "True" else f"{value} not ready"


# ---------------------------------------------------------------------------- who is measured


@dataclass
class Fleet:
    """A repository of many manifests, one a file, all of a namespace of its own."""

    plane: object
    folder: Path
    namespace: str
    files: dict = field(default_factory=dict)

    def __post_init__(self):
        self.plane.make_namespace(self.namespace)
        self.repository = Repository.create(self.folder / f"{self.namespace}.git")
        self.first = self.commit([FIRST], "first")

    def commit(self, numbers, value, *, nodes="nowhere", requests=None):
        """Commit a change of some manifests; return the keys of their objects."""
        keys = []
        for number in numbers:
            found = manifest(number, nodes=nodes)
            container = found["spec"]["template"]["spec"]["containers"][0]
            container["resources"]["requests"] |= requests or {}
            found["metadata"]["namespace"] = self.namespace
            env = found["spec"]["template"]["spec"]["containers"][0]["env"]
            env[0] = {"name": ROUND, "value": value}
            self.files[f"{found['metadata']['name']}.yaml"] = yaml.safe_dump(found)
            keys.append((self.namespace, found["metadata"]["name"]))
        self.repository.commit(self.files)
        return keys


def cpu_of(pid):
    """Return the CPU seconds of a process and of the children that it waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(each) for each in fields[11:15]) / TICK


def memory_of(pid, name):
    """Return what the kernel says of a process (`VmRSS`, `VmHWM`), in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(each.split()[1]) / 1024 for each in lines if each.startswith(name))


@dataclass
class Resident:
    """A contender that runs all the time and is told when to fetch."""

    fleet: Fleet
    url: str
    process: subprocess.Popen | None = None
    seconds_cpu: float = 0.0

    @property
    def pid(self):
        """Of its process."""
        return self.process.pid

    def _start(self, *command, **options):
        self.process = subprocess.Popen(
            [sys.executable, *command], preexec_fn=die_with_parent, **options  # noqa: PLW1509
        )  # fmt: skip

    def stop(self):
        """End it."""
        self.process.kill()
        self.process.wait(10)

    def cpu(self):
        """Return its CPU seconds so far."""
        return cpu_of(self.pid)

    def end(self):
        """Nothing: it goes on."""


class Floor(Resident):
    """The least that any agent must do."""

    name, agent = "floor", "floor"

    def start(self):
        """Start it."""
        fleet = self.fleet
        place = str(fleet.folder / f"{fleet.namespace}-mirror")
        script = str(HERE / "cluster_floor.py")
        self._start(script, self.url, place, fleet.plane.url, fleet.plane.token,
                    stdin=subprocess.PIPE)  # fmt: skip
        self.go(fleet.first)

    def go(self, _keys):
        """Tell it to fetch."""
        self.process.stdin.write(b"go\n")
        self.process.stdin.flush()


class Agent(Resident):
    """The agent."""

    name, agent = "dsgitops", "dsgitops"

    def start(self, **settings):
        """Start it; it polls at once."""
        fleet = self.fleet
        config = fleet.folder / f"{fleet.namespace}.yaml"
        source = {"name": fleet.namespace, "url": self.url, "interval": "12h", "allowEmpty": True}
        config.write_text(yaml.safe_dump({
            "cacheDir": str(fleet.folder / f"{fleet.namespace}-cache"),
            "namespaces": [fleet.namespace], "sources": [source], "leaderElection": "off",
            "rollout": {"canary": {"nodes": 1, "bakeTime": "1s"}, "bakeTime": "1s"},
            **settings,
        }))  # fmt: skip
        kubeconfig = str(fleet.plane.kubeconfig)
        self.log = fleet.folder / f"{fleet.namespace}.log"
        with self.log.open("wb") as log:
            script = str(HERE / "prompted_agent.py")
            self._start(script, str(config), kubeconfig, stderr=log, env=_around(fleet))

    def go(self, _keys):
        """Tell it to fetch."""
        os.kill(self.pid, 10)  # SIGUSR1


def _around(fleet):
    """Return the environment of an agent: none of the variables that set something."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DSGITOPS_")}
    return kept | {"POD_NAMESPACE": fleet.namespace}


@dataclass
class Kubectl:
    """`git pull` and `kubectl apply --server-side`, of the files that changed or of the tree."""

    fleet: Fleet
    url: str
    name: str
    process: subprocess.Popen | None = None
    used: float = 0.0
    agent = "kubectl"

    def start(self):
        """Make the clone, and apply what is there."""
        self.clone = self.fleet.folder / f"{self.fleet.namespace}-clone"
        subprocess.run(["git", "clone", "-q", self.url, self.clone], check=True)
        self.go(self.fleet.first)
        self.end()

    def go(self, keys):
        """Start it."""
        files = [f"-f {name}.yaml" for _, name in keys] if "file" in self.name else ["-R -f ."]
        program = self.fleet.plane.binaries["kubectl"]
        apply = f"{program} --kubeconfig {self.fleet.plane.kubeconfig} apply --server-side"
        script = f"git pull -q && {apply} {' '.join(files)} > /dev/null"
        self.process = subprocess.Popen(["sh", "-c", script], cwd=self.clone)

    def end(self):
        """Wait for it."""
        _, status, usage = os.wait4(self.process.pid, 0)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        self.used += usage.ru_utime + usage.ru_stime

    def cpu(self):
        """Return the CPU seconds of all runs so far."""
        return self.used

    def stop(self):
        """Nothing runs."""


def wait_for(holds):
    """Wait until it holds.

    Raises:
        RuntimeError: It did not.
    """
    end = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < end:
        if found := holds():
            return found
        time.sleep(0.2)
    raise RuntimeError("it did not come to that")


# ---------------------------------------------------------------------------- how it is measured


@dataclass
class Took:
    """One measurement."""

    seconds: float
    cpu: float
    api_cpu: float
    requests: str


@dataclass
class Bench:
    """A cluster, and what is seen of it."""

    plane: object
    folder: Path
    git: str
    count: int

    def __post_init__(self):
        self.rounds = Watch(self.plane, "/apis/apps/v1/daemonsets", round_of)

    def url(self, fleet):
        """Return the URL of a fleet's repository."""
        return f"{self.git}/{fleet.repository.path.name}"

    def measure(self, contender, numbers, value):
        """Commit, tell the contender, and wait until the last object is there."""
        keys = contender.fleet.commit(numbers, value)
        server = self.plane.parts["apiserver"].process.pid
        since, cpu, api_cpu = datetime.now(UTC), contender.cpu(), cpu_of(server)
        begun = time.monotonic()
        contender.go(keys)
        seconds = self.rounds.wait(keys, lambda state: state == value) - begun
        contender.end()
        took = Took(seconds, contender.cpu() - cpu, cpu_of(server) - api_cpu, "")
        took.requests = self._requests(contender, since)
        print(f"    {value:10} {contender.name:14} {seconds:6.2f} s", flush=True)
        return took

    def _requests(self, contender, since):
        found = {}
        for each in self.plane.requests(contender.agent):
            if each.ended >= since and each.verb != "watch":
                kind = each.path.partition("?")[0].split("/")[-2 if each.writes else -1]
                name = f"{each.verb} {kind}" if not each.path.startswith("/openapi") else "openapi"
                found[name] = found.get(name, 0) + 1
        return ", ".join(f"{count} {name}" for name, count in sorted(found.items())) or "none"

    def rest(self, contender):
        """Wait until what the contender does after the last object is done."""
        if contender.name == "dsgitops":
            before = -1.0
            while before != (before := contender.cpu()):
                time.sleep(2)


def spread(numbers):
    """Return minimum, median and maximum."""
    low, middle, high = min(numbers), statistics.median(numbers), max(numbers)
    return f"{low:.2f} / {middle:.2f} / {high:.2f}"


def show(title, goal, rounds):
    """Print what a contender took, as ratios to the floor of the same round."""
    print(f"\n{title}   (min / median / max; {goal})")
    for name in rounds[0]:
        took = [each[name] for each in rounds]
        ratio = [each[name].seconds / each["floor"].seconds for each in rounds]
        print(
            f"  {name:14} {spread(ratio):>20} x floor"
            f"  {spread([each.seconds for each in took]):>22} s"
            f"  own CPU {spread([each.cpu for each in took])} s"
            f"  API server {statistics.median(each.api_cpu for each in took):.2f} s"
            f"\n{'':17}{took[-1].requests}",
            flush=True,
        )


def in_random_order(contenders, rng):
    """Return them in another order."""
    return rng.sample(contenders, len(contenders))


def from_empty(bench, rounds, rng):
    """Measure all manifests from nothing; return the contenders of the last round."""
    results = []
    for number in range(rounds):
        left, took = [], {}
        for name in rng.sample(["floor", "dsgitops", "kubectl tree"], 3):
            fleet = Fleet(bench.plane, bench.folder, f"{name.replace(' ', '-')}-{number}")
            contender = made(name, fleet, bench.url(fleet))
            contender.start()
            bench.rounds.wait(fleet.first, lambda state: state == "first")
            bench.rest(contender)
            took[name] = bench.measure(contender, range(bench.count), f"empty-{number}")
            bench.rest(contender)
            left.append(contender)
        results.append(took)
        if number < rounds - 1:
            for each in left:
                each.stop()  # what it made stays, and costs nobody anything: it has no pods
    order = ("floor", "dsgitops", "kubectl tree")
    show(f"{bench.count} DaemonSets from empty", "goal 1.3 x floor",
         [{name: each[name] for name in order} for each in results])  # fmt: skip
    return left


def made(name, fleet, url):
    """Return a contender by its name."""
    kinds = {"floor": Floor, "dsgitops": Agent}
    return kinds[name](fleet, url) if name in kinds else Kubectl(fleet, url, name)


def commits(bench, contenders, rounds, rng):
    """Measure commits of 1 and of 10 manifests."""
    for changed, goal in ((1, "goal 1.5 x floor, 0.1 s of CPU"), (10, "goal 1.5 x floor")):
        results = []
        for number in range(rounds):
            numbers, took = rng.sample(range(bench.count), changed), {}
            for contender in in_random_order(contenders, rng):
                value = f"{changed}-{number}"
                took[contender.name] = bench.measure(contender, numbers, value)
                bench.rest(contender)
            results.append({each.name: took[each.name] for each in contenders})
        show(f"a commit to {changed} of {bench.count}", goal, results)


def verdicts(bench, rounds):
    """Measure how soon a rollout's end, and its failure, are acted on."""
    plane = bench.plane
    phases = Watch(plane, "/apis/apps/v1/daemonsets", phase_of)
    pods = Watch(plane, "/api/v1/pods", readiness_of)
    fleet = Fleet(plane, bench.folder, "verdicts")
    place = fleet.namespace
    agent = Agent(fleet, bench.url(fleet))
    first = fleet.commit([FIRST], "0", nodes="linux")
    agent.start()
    phases.wait(first, lambda phase: phase == "Idle")
    baking, back = [], []
    try:
        for number in range(1, rounds + 1):
            since = time.monotonic()
            fleet.commit([FIRST], str(number), nodes="linux")
            agent.go(first)
            said = phases.first(place, "Baking", since)
            baking.append(said - pods.last(place, f"{number} Ready", since))
            phases.first(place, "Idle", said)
            since = time.monotonic()
            fleet.commit([FIRST], f"{number}b", nodes="linux", requests={"cpu": "64"})
            agent.go(first)
            evident = pods.first(place, f"{number}b Unschedulable", since)
            back.append(phases.first(place, "RollingBack", since) - evident)
            phases.first(place, "Held", since)
    finally:
        agent.stop()
    print(f"\nA rollout over {NODES} pods   (min / median / max of {rounds})")
    print(f"  last pod ready -> RolloutBaking said   {spread(baking)} s   goal 0.5 s")
    print(f"  evidence in the API -> rollback PATCH  {spread(back)} s   goal 0.2 s", flush=True)


def show_memory(contenders, when):
    """Print what the resident contenders hold."""
    for each in contenders:
        if isinstance(each, Resident):
            steady, peak = (memory_of(each.pid, name) for name in ("VmRSS", "VmHWM"))
            goals = "   goals 64 and 96 MiB" * (each.name == "dsgitops")
            print(f"  {each.name:14} {steady:5.0f} MiB {when}, peak {peak:.0f} MiB{goals}")


def main():
    """Measure and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 1000
    rng = random.Random(1)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        plane = stack.enter_context(running(binaries.cached(), index=index(3)))
        plane.add_nodes(NODES)
        bench = Bench(plane, folder, stack.enter_context(git_daemon(folder)), count)
        contenders = from_empty(bench, max(1, rounds // 2), rng)
        for each in contenders:
            stack.callback(each.stop)
        show_memory(contenders, "from empty")
        commits(bench, contenders, rounds, rng)
        show_memory(contenders, "after all commits")
        verdicts(bench, 2 * rounds)


if __name__ == "__main__":
    main()
