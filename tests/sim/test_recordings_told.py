"""Every recording of a real cluster is told again by the simulation: same change, same story.

A story is what the pods of a node went through, in order: phase, reasons of containers, Ready; and
which Events were told of them.  What flickers by in less than five seconds in one of the two may be
shorter, or missing, in the other: a busy machine skips it.
"""

import gzip
import json
from collections import defaultdict
from dataclasses import dataclass, field
from functools import cache
from itertools import permutations
from pathlib import Path

import pytest

from dsgitops.sim.world import World

RECORDINGS = Path(__file__).parents[3] / "shared" / "recordings"
LONG = 5.0
"""Seconds that a state must last to be part of the story."""
NOTICED = 0.3
"""Seconds that the other must have it for."""
FIRM = 3.0
"""Seconds that it must hold at once to have a place in the order."""
NOISE = {"Unhealthy", "Scheduled", "CgroupV1"}
"""Events that a healthy start may have or not have."""
CASES = sorted(path.name.removesuffix(".expect.json") for path in RECORDINGS.glob("*.expect.json"))
NAMESPACE = "agents"
COUNTS = ("desiredNumberScheduled", "updatedNumberScheduled", "numberMisscheduled")
COUNTS_AT_REST = (*COUNTS, "currentNumberScheduled", "numberReady")


@dataclass
class Story:
    """What became of the pods of one node since the change, in order of appearance."""

    lasted: dict = field(default_factory=lambda: defaultdict(float))
    """Seconds in each state, all together."""
    firm: dict = field(default_factory=dict)
    """When each state began that held for a while at once: the order of the story."""
    current: dict = field(default_factory=dict)
    """(since, counted up to, state) by pod."""
    events: dict = field(default_factory=dict)

    def pod(self, at, kind, pod, *, new):
        name = pod["metadata"]["name"]
        self.settle(at, name)
        said = token(pod, new=new)
        if kind == "DELETED":
            del self.current[name]
        elif self.current.get(name, (0, 0, ""))[2] != said:
            self.current[name] = (at, at, said)
            self.lasted.setdefault(said, 0.0)

    def settle(self, at, name):
        if name in self.current:
            since, counted, said = self.current[name]
            self.lasted[said] += at - counted
            if at - since > FIRM:
                self.firm[said] = min(since, self.firm.get(said, since))
            self.current[name] = (since, at, said)

    def end(self, at):
        for name in list(self.current):
            self.settle(at, name)

    def change(self, at):
        """Forget what lasted before the change."""
        self.current = {name: (at, at, said) for name, (_, _, said) in self.current.items()}
        self.lasted = defaultdict(float, {said: 0.0 for _, _, said in self.current.values()})
        self.firm = {}

    @property
    def long(self):
        """The states that belong to the story, in its order."""
        long = [said for said, lasted in self.lasted.items() if lasted >= LONG]
        return sorted(long, key=lambda said: self.firm.get(said, 0.0))

    @property
    def noticed(self):
        """The states that held long enough not to be an accident."""
        return {said for said, lasted in self.lasted.items() if lasted >= NOTICED}

    def is_told_by(self, other):
        common = [said for said in self.long if said in other.long]
        return (
            set(self.long) <= other.noticed
            and set(other.long) <= self.noticed
            and common == [said for said in other.long if said in common]
            and set(self.events) - NOISE == set(other.events) - NOISE
        )

    def __str__(self):
        lines = [f"    {lasted:7.1f} s  {said}" for said, lasted in self.lasted.items()]
        return "\n".join([*lines, f"    events {list(self.events)}"])


def token(pod, *, new):
    """Say in one line how a pod looks."""
    status = pod["status"]
    containers = []
    for it in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
        kind, detail = next(iter(it["state"].items()))
        word = detail.get("reason", "") if kind != "running" else "running"
        if word == "CrashLoopBackOff" or (kind == "terminated" and not status.get("reason")):
            # One of the two is shown during a back-off, as it happens.
            ended = detail if kind == "terminated" else it["lastState"]["terminated"]
            word = f"ended {ended['reason']} {ended['exitCode']}"
        if word in ("ErrImagePull", "ImagePullBackOff"):
            word = "cannot pull"
        last = it["lastState"].get("terminated")
        after = f" after {last['reason']} {last['exitCode']}" if last and kind == "running" else ""
        containers.append(f"{it['name']} {word}{' started' if it.get('started') else ''}{after}")
    ready = next((it for it in status.get("conditions", ()) if it["type"] == "Ready"), {})
    parts = ["new" if new else "old", status["phase"], status.get("reason", "")]
    parts += ["leaving" if pod["metadata"].get("deletionTimestamp") else "", *containers]
    parts += [f"Ready={ready.get('status')} {ready.get('reason', '')}"]
    return " | ".join(part for part in parts if part)


def node_of(pod):
    if pod["spec"].get("nodeName"):
        return pod["spec"]["nodeName"]
    required = pod["spec"]["affinity"]["nodeAffinity"]
    terms = required["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    return terms[0]["matchFields"][0]["values"][0]


class Listener:
    """Makes stories of watch events, recorded or simulated."""

    def __init__(self, good_hash):
        self.good = good_hash
        self.stories = defaultdict(Story)
        self.pods = {}
        self.refused = set()
        self.status = {}
        self.since = None

    def hear(self, at, kind, item):
        what = item["kind"]
        if what == "Pod":
            self.pods[item["metadata"]["name"]] = item
            new = item["metadata"]["labels"]["controller-revision-hash"] != self.good
            self.stories[node_of(item)].pod(at, kind, item, new=new)
        elif what == "Event" and self.since is not None:
            self._event(item)
        elif what == "DaemonSet":
            self.status = item.get("status", {})

    def _event(self, event):
        about = event["involvedObject"]
        pod = self.pods.get(about["name"])
        if about["kind"] == "DaemonSet" and event["type"] == "Warning":
            self.refused.add(event["reason"])
        if pod is None or pod["metadata"]["labels"]["controller-revision-hash"] == self.good:
            return
        if "not registered" not in event["message"]:
            self.stories[node_of(pod)].events[event["reason"]] = None

    def change(self, at):
        self.since = at
        for story in self.stories.values():
            story.change(at)


@cache
def recorded(case):
    """Return (expectation, listener, the DaemonSets applied with their times, the last time)."""
    expectation = json.loads((RECORDINGS / f"{case}.expect.json").read_text())
    listener = Listener(expectation["good_hash"])
    applied, generation, changed, at = [], None, False, 0.0
    lines = gzip.decompress((RECORDINGS / f"{case}.jsonl.gz").read_bytes()).splitlines()
    for line in lines:
        event = json.loads(line)
        at, item = event["t"], event["object"]
        if not changed and at >= expectation["changed_at"]:
            listener.change(expectation["changed_at"])
            changed = True
        listener.hear(at, event["type"], item)
        if item["kind"] == "DaemonSet" and item["metadata"]["generation"] != generation:
            generation = item["metadata"]["generation"]
            applied.append((at, item))
    for story in listener.stories.values():
        story.end(at)
    return expectation, listener, applied, at


def manifest(daemonset):
    metadata = {"name": "agent", "namespace": NAMESPACE, "labels": {"app": "agent"}}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": metadata,
        "spec": daemonset["spec"],
    }


class Stage:
    """A simulated cluster on which one case is played."""

    def __init__(self, case, seed=1):
        self.case = case
        self.expectation, _, self.applied, self.ends = recorded(case)
        self.changed_at = self.expectation["changed_at"]
        nodes = 2 if case == "38-node-joins" else 3
        self.world = World(nodes=nodes, seed=seed)
        self.pool = self.applied[0][1]["spec"]["template"]["spec"]["nodeSelector"]
        for node in self.world.kubelets:
            self.world.label(node, **self.pool)
        self.world.make_namespace(NAMESPACE)
        self.world.apply(manifest(self.applied[0][1]))
        young = case == "41-min-ready-seconds-raised"
        assert self.world.advance_until(self.is_finished, within=120)
        self.world.advance(3 if young else 90)
        self.listener = Listener(self.hash_of_newest())

    def is_finished(self):
        status = self.world.daemonset(NAMESPACE, "agent").get("status", {})
        wanted = status.get("desiredNumberScheduled")
        return bool(wanted) and status.get("numberAvailable") == wanted

    def hash_of_newest(self):
        newest = self.world.revisions(NAMESPACE, "agent")[-1]
        return newest["metadata"]["labels"]["controller-revision-hash"]

    def listen(self):
        world = self.world
        self.listener.hear(world.clock.seconds, "ADDED", world.daemonset(NAMESPACE, "agent"))
        for pod in world.pods(NAMESPACE, "agent"):
            self.listener.hear(world.clock.seconds, "ADDED", pod)
        self.start = world.clock.seconds
        self.listener.change(self.start)
        world.store.subscribe(
            lambda kind, _, item: self.listener.hear(world.clock.seconds, kind, item)
        )

    def pods(self, *, new):
        good = self.listener.good
        return [
            pod
            for pod in self.world.pods(NAMESPACE, "agent")
            if (pod["metadata"]["labels"]["controller-revision-hash"] != good) == new
            and "deletionTimestamp" not in pod["metadata"]
        ]

    def until(self, t):
        """Let time go by until `t` of the recording."""
        self.world.advance(max(0.0, self.start + t - self.changed_at - self.world.clock.seconds))

    def apply(self, number=1):
        self.world.apply(manifest(self.applied[number][1]))

    def play(self):
        PREPARE.get(self.case, lambda _: None)(self)
        self.listen()
        ACTS.get(self.case, Stage.apply)(self)
        self.until(self.ends)
        for story in self.listener.stories.values():
            story.end(self.world.clock.seconds)
        return self.listener


def acts_of(stage):
    return [act["t"] for act in stage.expectation["actions"]]


def on_delete(stage):
    stage.apply()
    stage.until(acts_of(stage)[1])
    stage.world.delete_pod(NAMESPACE, stage.pods(new=False)[0]["metadata"]["name"])


def prepare_dead(stage):
    stage.world.kill_kubelet("node-2")
    stage.world.advance(70)


def dead_before(stage):
    stage.apply()
    stage.until(acts_of(stage)[1])
    stage.world.revive("node-2")


def dies_mid_rollout(stage):
    stage.apply()

    def is_started():
        return any("Started" in story.events for story in stage.listener.stories.values())

    assert stage.world.advance_until(is_started, within=30)
    node = node_of(stage.pods(new=True)[0])
    stage.world.kill_node(node)
    stage.until(acts_of(stage)[2])
    stage.world.revive(node)


def restart_mid_rollout(stage):
    stage.apply()
    stage.world.advance(2)
    leaving = [
        pod
        for pod in stage.world.pods(NAMESPACE, "agent")
        if "deletionTimestamp" in pod["metadata"]
    ]
    stage.world.restart_kubelet(node_of(leaving[0]), 8)


def restart(stage):
    stage.world.restart_kubelet("node-1", 8)


def cordon_and_no_execute(stage):
    stage.apply()
    times = acts_of(stage)
    stage.until(times[1])
    stage.world.cordon("node-2")
    stage.until(times[2])
    stage.world.advance_until(
        lambda: any(node_of(it) == "node-2" for it in stage.pods(new=True)), within=20
    )
    stage.world.advance(2)
    stage.world.taint("node-2", "maintenance", "NoExecute", "true")
    stage.until(times[3])
    stage.world.untaint("node-2", "maintenance")
    stage.world.uncordon("node-2")


def deleted_by_hand(stage):
    stage.apply()
    times = acts_of(stage)
    stage.until(times[1])
    stage.world.delete_pod(NAMESPACE, stage.pods(new=True)[0]["metadata"]["name"])
    stage.until(times[2])
    old = stage.pods(new=False)
    stage.world.delete_pod(NAMESPACE, (old or stage.pods(new=True))[0]["metadata"]["name"])


def evicted_by_api(stage):
    stage.apply()
    assert stage.world.advance_until(lambda: bool(stage.pods(new=True)), within=30)
    stage.world.advance(1.7)
    stage.world.evict_pod(NAMESPACE, stage.pods(new=True)[0]["metadata"]["name"])


def apply_twice(stage):
    stage.apply()
    stage.until(acts_of(stage)[1])
    stage.apply(2)


def node_joins(stage):
    stage.apply()
    stage.until(acts_of(stage)[1])
    stage.world.add_node("node-3", labels=stage.pool)


def backend_blip(stage):
    stage.apply()
    times = acts_of(stage)
    stage.until(times[1])
    stage.world.break_backend(times[2] - times[1])


def network_breaks(stage):
    stage.world.break_network("node-2", teardown="teardown" in stage.case)
    stage.apply()
    stage.until(acts_of(stage)[2])
    stage.world.mend_network("node-2")


PREPARE = {
    "27-dead-before-rollout": prepare_dead,
    "30-quota": lambda stage: stage.world.make_quota(NAMESPACE, "team", "100m"),
    "30-limit-range": lambda stage: stage.world.make_limit_range(NAMESPACE, "limits", "64Mi"),
    "30-pod-security-baseline": lambda stage: enforce(stage, "baseline"),
}
ACTS = {
    "26-on-delete": on_delete,
    "27-dead-before-rollout": dead_before,
    "27-node-dies-mid-rollout": dies_mid_rollout,
    "28-kubelet-restart-mid-rollout": restart_mid_rollout,
    "28-kubelet-restart": restart,
    "29-cordon-and-no-execute": cordon_and_no_execute,
    "32-pod-deleted-by-hand": deleted_by_hand,
    "32-pod-evicted-by-api": evicted_by_api,
    "35-two-bad-changes": apply_twice,
    "36-undo-after-bad": apply_twice,
    "38-node-joins": node_joins,
    "42-shared-backend-blip": backend_blip,
    "43-sandbox-fails-on-one-node": network_breaks,
    "43-teardown-fails-one-at-a-time": network_breaks,
}


def enforce(stage, level):
    namespace = stage.world.store.get("namespaces", "", NAMESPACE)
    labels = {**namespace["metadata"]["labels"], "pod-security.kubernetes.io/enforce": level}
    metadata = {**namespace["metadata"], "labels": labels}
    stage.world.store.update("namespaces", {**namespace, "metadata": metadata})


def best_match(real, told):
    """Return the pairs of nodes that tell most of the same, and how many do."""
    ours = list(told.stories.values())
    theirs = list(real.stories.values())
    pairings = (list(zip(theirs, it, strict=True)) for it in permutations(ours))
    return max(pairings, key=lambda pairs: sum(a.is_told_by(b) for a, b in pairs))


def compared(case, seed=1):
    """Return what differs between the recording and the simulation, one line each."""
    expectation, real, _, _ = recorded(case)
    told = Stage(case, seed).play()
    if len(real.stories) != len(told.stories):
        return [f"{len(told.stories)} nodes instead of {len(real.stories)}"]
    differences = [
        f"recorded:\n{a}\n  told:\n{b}" for a, b in best_match(real, told) if not a.is_told_by(b)
    ]
    for count in COUNTS_AT_REST if expectation["verdict"] == "Finished" else COUNTS:
        if real.status.get(count, 0) != told.status.get(count, 0):
            numbers = f"{real.status.get(count, 0)} recorded, {told.status.get(count, 0)} told"
            differences.append(f"status.{count} at the end: {numbers}")
    if real.refused != told.refused:
        differences.append(f"about the DaemonSet: {real.refused} recorded, {told.refused} told")
    return differences


@pytest.mark.skipif(not CASES, reason="../shared/recordings is not there")
@pytest.mark.parametrize("case", CASES or ["none"])
def test_the_simulation_tells_what_was_recorded(case):
    """Which node goes first is chance, so three worlds have a try."""
    tries = [compared(case, seed) for seed in (1, 2, 3)]

    assert [] in tries, "\n".join([case, *tries[0]])
