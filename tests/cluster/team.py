"""A team at work: a Git repository, the agent as a process, and a namespace of a real cluster."""

from __future__ import annotations

import copy
import itertools
import json
import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

import yaml
from cluster.part import die_with_parent
from git_repositories import Repository, git_daemon
from pace import looks

if TYPE_CHECKING:
    from pathlib import Path

    from cluster.control_plane import ControlPlane

NODES = 5
"""Of the cluster's nodes, those of the team's pool."""
WAIT_SECONDS = 90.0
_numbers = itertools.count(1)
SETTINGS = {
    "rollout": {
        "canary": {"nodes": 1, "bakeTime": "2s"},
        "bakeTime": "3s",
        "podDeadline": "20s",
        "progressDeadline": "2m",
    },
    "leaderElection": "off",
    "http": {"listen": "127.0.0.1:0"},
}


@dataclass
class Agent:
    """`dsgitops run` as a process."""

    process: subprocess.Popen[bytes]
    log: Path

    def kill(self) -> None:
        """End it as a machine that loses its power would."""
        self.process.kill()
        self.process.wait(10)

    @property
    def lines(self) -> list[dict]:
        """What it logged, whole lines only."""
        text = self.log.read_text()
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    def reasons(self, name: str) -> list[str]:
        """Return the reasons of one DaemonSet in order."""
        found = [each for each in self.lines if each.get("daemonset", "").endswith(f"/{name}")]
        return [each["reason"] for each in found if "reason" in each]


def _pod(found: dict) -> Pod | None:
    metadata, spec = found["metadata"], found["spec"]
    if "deletionTimestamp" in metadata:
        return None
    conditions = {each["type"]: each["status"] for each in found["status"].get("conditions", [])}
    return Pod(
        name=metadata["name"],
        owner=metadata["ownerReferences"][0]["name"] if metadata.get("ownerReferences") else "",
        uid=metadata["uid"],
        node=spec.get("nodeName", ""),
        image=spec["containers"][0]["image"],
        revision=metadata["labels"]["controller-revision-hash"],
        created=datetime.fromisoformat(metadata["creationTimestamp"]),
        ready=conditions.get("Ready") == "True",
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask it to end; one that does not says in its log where each of its threads stands."""
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)
        process.wait(10)


@dataclass(frozen=True)
class Pod:
    """One pod that is not going."""

    name: str
    owner: str
    """Its DaemonSet."""
    uid: str
    node: str
    image: str
    revision: str
    """Hash of its ControllerRevision."""
    created: datetime
    ready: bool


@dataclass
class Team:
    """Everything lives below one folder and in one namespace."""

    plane: ControlPlane
    namespace: str
    folder: Path
    pool: str = "team"
    """Label of the nodes that the manifests ask for."""
    nodes: int = NODES
    settings: dict = field(default_factory=dict)
    """What differs from `SETTINGS`, and `source` for what differs in the source."""
    kubeconfig: Path | None = None
    """What the agent gets; None: the administrator's."""
    url: str = ""
    """Where its Git server has the repository (`serving`)."""
    repository: Repository = field(init=False)
    agents: list[Agent] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.repository = Repository.create(self.folder / "node-agents.git")

    # ------------------------------------------------------------------ Git

    def commit(self, *manifests: dict, message: str = "change") -> str:
        files = {f"{each['metadata']['name']}.yaml": yaml.safe_dump(each) for each in manifests}
        return self.repository.commit(files, message=message)

    def manifest(
        self, name: str = "agent", *, image: str = "registry.example/agent:1", **container
    ):
        """Return a DaemonSet on the pool's nodes; keyword arguments go into its container."""
        labels = {"app": name}
        return copy.deepcopy({
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {
                "selector": {"matchLabels": labels},
                "updateStrategy": {"rollingUpdate": {"maxUnavailable": 1}},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {
                        "nodeSelector": {"pool": self.pool},
                        "terminationGracePeriodSeconds": 1,
                        "containers": [{"name": "agent", "image": image, **container}],
                    },
                },
            },
        })  # fmt: skip

    # ------------------------------------------------------------------ the agent

    @contextmanager
    def agent(self):
        """Run the agent for the block; it must still be there at the end, and leave in order."""
        agent = self.start_agent()
        process = agent.process
        try:
            yield agent
            assert process.poll() is None, agent.log.read_text()
        finally:
            _end(process)
        assert process.returncode == 0, agent.log.read_text()

    def start_agent(self) -> Agent:
        """Start one; whoever asks ends it (`Agent.kill`)."""
        log = self.folder / f"agent-{len(self.agents)}.log"
        with log.open("wb") as err:
            process = subprocess.Popen(
                self._command(), stderr=err, stdout=subprocess.DEVNULL, env=self._environment(),
                start_new_session=True,  # its own share of the processor, not one of all tests'
                preexec_fn=die_with_parent,  # noqa: PLW1509 - only sets a signal
            )  # fmt: skip
        agent = Agent(process, log)
        self.agents.append(agent)
        return agent

    def turn(self) -> None:
        """Let a new agent make one turn and end."""
        done = subprocess.run(
            [*self._command(), "--once"], env=self._environment(), capture_output=True, check=False,
            timeout=60, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    def _command(self) -> list[str]:
        config = self.folder / "dsgitops.yaml"
        source = {"name": "agents", "url": self.url, "interval": "1s"}
        source["ref"] = {"branch": "main"}
        differs = dict(self.settings)
        source |= differs.pop("source", {})
        given = {"cacheDir": str(self.folder / "cache"), "namespaces": [self.namespace]}
        config.write_text(yaml.safe_dump(SETTINGS | given | differs | {"sources": [source]}))
        kubeconfig = str(self.kubeconfig or self.plane.kubeconfig)
        return [sys.executable, "-m", "dsgitops", "run", "--config", str(config),
                "--kubeconfig", kubeconfig, "--log-format", "json"]  # fmt: skip

    def _environment(self) -> dict[str, str]:
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith("DSGITOPS_")
        }
        return inherited | {"POD_NAMESPACE": self.namespace, "PYTHONFAULTHANDLER": "1"}

    # ------------------------------------------------------------------ the cluster

    def kubectl(self, *arguments: str, given: dict | None = None) -> str:
        """Run the real kubectl in the namespace."""
        command = [str(self.plane.binaries["kubectl"]), "--kubeconfig", str(self.plane.kubeconfig)]
        done = subprocess.run(
            [*command, "-n", self.namespace, *arguments],
            input=json.dumps(given) if given else None,
            capture_output=True, check=False, timeout=60, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def live(self, name: str = "agent") -> dict | None:
        found = self._list("apps/v1", "daemonsets")
        return next((each for each in found if each["metadata"]["name"] == name), None)

    def record(self, name: str = "agent") -> dict:
        live = self.live(name) or {"metadata": {}}
        annotations = live["metadata"].get("annotations", {})
        return json.loads(annotations.get("dsgitops.io/record", "{}"))

    def revisions(self) -> dict[str, int]:
        """Return the number of each ControllerRevision by its name."""
        found = self._list("apps/v1", "controllerrevisions")
        return {each["metadata"]["name"]: each["revision"] for each in found}

    def numbered_anew(self) -> bool:
        """Whether what all pods wear is the newest revision: Kubernetes counts a moment later."""
        numbers = self.revisions()
        newest = max(numbers, key=lambda name: numbers[name])
        return {pod.revision for pod in self.fleet()} == {newest.rpartition("-")[2]}

    def revision(self, name: str) -> dict:
        """Return what one ControllerRevision is: its identity, data and number."""
        path = f"/apis/apps/v1/namespaces/{self.namespace}/controllerrevisions/{name}"
        found = self.plane.call("GET", path)
        return {
            "uid": found["metadata"]["uid"],
            "data": found["data"],
            "revision": found["revision"],
        }

    def pods(self) -> dict[str, str]:
        """Return the image of each pod, by its UID; pods that are going are left out."""
        return {each.uid: each.image for each in self.fleet()}

    def fleet(self, name: str = "") -> list[Pod]:
        """Return the pods (of one DaemonSet) that are not going, by node."""
        found = [_pod(each) for each in self._list("v1", "pods")]
        kept = (each for each in found if each and each.owner.startswith(name))
        return sorted(kept, key=lambda pod: pod.node)

    def all_ready(self, name: str = "") -> bool:
        fleet = self.fleet(name)
        return len(fleet) == self.nodes and all(pod.ready for pod in fleet)

    def rollbacks(self, name: str = "") -> list[datetime]:
        """Return when the agent wrote the last good template back (`cluster.md` 2.1)."""
        return self._wrote(name, forced=False)

    def applies(self, name: str = "") -> list[datetime]:
        """Return when the agent wrote what Git has."""
        return self._wrote(name, forced=True)

    def _wrote(self, name: str, *, forced: bool) -> list[datetime]:
        place = f"/{self.namespace}/daemonsets/{name}"
        return [
            each.ended
            for each in self.plane.requests("dsgitops")
            if each.verb == "patch" and each.changed and place in each.path
            and "fieldManager=dsgitops&" in f"{each.path}&"
            and ("force=true" in each.path) == forced
        ]  # fmt: skip

    def _list(self, version: str, resource: str) -> list[dict]:
        root = "api/v1" if version == "v1" else f"apis/{version}"
        path = f"/{root}/namespaces/{self.namespace}/{resource}"
        return self.plane.call("GET", path)["items"]

    def writes(self, name: str = "") -> list[tuple[str, str]]:
        """Return what agents wrote so far (to one DaemonSet and its pods)."""
        places = [f"/{self.namespace}/{kind}/{name}" for kind in ("daemonsets", "pods")]
        return [
            (each.verb, each.path)
            for each in self.plane.requests("dsgitops")
            if each.writes and any(place in each.path for place in places)
        ]

    def changes(self) -> list[str]:
        """Return the agents' writes that took effect, without the random names in them.

        Kubernetes' own controller writes the same object, so that one or another write of ours
        meets a conflict and comes again: such tries changed nothing.
        """
        sent = [
            each
            for each in self.plane.requests("dsgitops")
            if (each.changed or each.cut_off)
            and re.search(f"/{self.namespace}/(daemonsets|pods)/", each.path)
        ]
        paths = [(each.verb, each.path) for each in sent]
        # What was cut off took effect where nobody had to send it again; a pod goes only once.
        return [
            each.change
            for at, each in enumerate(sent)
            if (each.changed and each.verb != "delete") or paths[at] not in paths[at + 1 :]
        ]

    # ------------------------------------------------------------------ waiting

    def wait(self, holds, what: str, *, within: float = WAIT_SECONDS):
        """Ask until the answer is true, and return it."""
        for _ in looks(within):
            if found := holds():
                return found
            if self.agents and (self.agents[-1].process.poll() or 0) > 0:
                break  # it gave up by itself
        log = self.agents[-1].log.read_text()[-3000:] if self.agents else ""
        raise AssertionError(f"not within {within:g} s: {what}\n{self.record()}\n{log}")

    def wait_until_good(self, commit: str, name: str = "agent") -> None:
        """Wait until the commit is what runs, baked, and nothing is left to do."""

        def good() -> bool:
            record = self.record(name)
            last = (record.get("lastGood") or {}).get("commit") or ""
            return last.endswith(commit) and record.get("phase") == "Idle"

        self.wait(good, f"{commit[:7]} is the last good commit")


@contextmanager
def team_on(plane, folder, **options):
    """A team with a namespace and a Git server of its own for the block."""
    namespace = plane.make_namespace(f"team-{next(_numbers)}")
    with serving(Team(plane, namespace, folder, **options)) as team:
        yield team
    plane.delete_namespace(namespace)


@contextmanager
def serving(team):
    """Serve the team's repository on loopback for the block."""
    with git_daemon(team.folder) as base:
        team.url = f"{base}/{team.repository.path.name}"
        yield team
