"""The cluster's own parts fail in mid-rollout: what comes after ends as if nothing had happened.

Two teams meet each outage: the good commit of one must reach every node, the bad commit of the
other must be rolled back, and no pod is restarted that would not have been without it.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import combinations

import pytest
from cluster.fake_kubelet import kubelets_on
from cluster.team import NODES, SETTINGS, team_on
from cluster.toll import watched

ROLLOUT = SETTINGS["rollout"] | {"canary": {"nodes": 1, "bakeTime": "5s"}}
OVER_SECONDS = 240.0
"""For all that follows an outage; nodes may be silent for a while, and deadlines stand still."""
OLD, NEW = "registry.example/agent:1", "registry.example/agent:2"
RECORD = "fieldManager=dsgitops-record"
RECORDS_MORE_MAX = 8
SAID_OF_OUTAGES = {"ClusterUnreachable", "RolloutStalled", "RolloutProgressing"}
"""That the cluster, or nodes, cannot be seen; what was said before may be said once more."""
GREEDY = {"requests": {"cpu": "64"}}
"""More than a node has."""


def kill_api_server(plane):
    plane.parts["apiserver"].kill()
    plane.parts["apiserver"].start()


def stop_api_server(plane):
    """Ask it to end: for a minute it refuses all, and watches stay open and silent."""
    process = plane.parts["apiserver"].process
    process.terminate()
    process.wait(120)
    plane.parts["apiserver"].start()


def restart_etcd(plane):
    leave_without_etcd(plane, seconds=3)


def lose_etcd(plane):
    leave_without_etcd(plane, seconds=30)


def leave_without_etcd(plane, *, seconds):
    plane.parts["etcd"].kill()
    time.sleep(seconds)
    plane.parts["etcd"].start()


OUTAGES = {
    "the API server is killed and started again": kill_api_server,
    "the API server is stopped politely and started again": stop_api_server,
    "etcd is restarted": restart_etcd,
    "etcd is away for 30 s": lose_etcd,
}


@dataclass(frozen=True)
class Ending:
    """What a rollout leaves behind; the same in every run."""

    phase: str
    held: tuple[str, ...]
    """Classes of what is in quarantine."""
    revisions: tuple[tuple[str, int], ...]
    generation: int
    """Writes that changed the spec."""
    images: tuple[str, ...]
    replaced: int
    """Nodes whose pod is another one than before the commit."""
    restarts: str
    """Pods made there and back, by the events of a watch."""
    most_taken: int
    """Nodes at once."""
    writes: tuple[str, ...] = field(compare=False)
    """What its agent wrote but for the record, in order."""
    records: int = field(compare=False)
    """How often it wrote the record."""
    reasons: tuple[str, ...] = field(compare=False)
    """What it said."""


@dataclass
class Story:
    """Two teams in mid-rollout, and how it ended for each."""

    good: Ending
    bad: Ending
    hit: str
    """Where the two were when it happened."""
    seconds: float
    """From the commit to the end of both."""

    @property
    def records(self) -> int:
        return self.good.records + self.bad.records


@pytest.fixture(scope="module")
def plane(own_plane):
    """A control plane with nodes that say how their pods are once they are heard again.

    kwok's do not: a pod that the control plane took for lost stays unready there for ever.
    """
    with kubelets_on(own_plane) as kubelets:
        kubelets.join(*(f"fake-{number}" for number in range(NODES)), pool="team")
        yield own_plane


def tell(plane, folder, outage):
    """Tell the story of two teams with an outage in the middle."""
    options = {"settings": {"rollout": ROLLOUT}}
    for name in ("good", "bad"):
        (folder / name).mkdir()
    with (
        team_on(plane, folder / "good", **options) as good,
        team_on(plane, folder / "bad", **options) as bad,
        watched(plane, good.namespace, through_outages=True) as good_tolls,
        watched(plane, bad.namespace, through_outages=True) as bad_tolls,
    ):
        first = {team.namespace: team.commit(team.manifest()) for team in (good, bad)}
        with good.agent(), bad.agent():
            for team in (good, bad):
                team.wait(lambda team=team: is_good(team, first[team.namespace]), "it is good")
            before = {team.namespace: set(team.pods()) for team in (good, bad)}
            begun = time.monotonic()
            second = good.commit(good.manifest(image=NEW))
            wait_for_phase(good, "Canary")
            bad.commit(bad.manifest(image=NEW, resources=GREEDY))
            wait_for_phase(bad, "Canary", "RollingBack")
            hit = " and ".join(team.record()["phase"] for team in (good, bad))
            outage(plane)
            plane.wait_for_api()

            good.wait(lambda: is_good(good, second), "the good commit is out", within=OVER_SECONDS)
            bad.wait(lambda: is_held(bad), "the bad commit is rolled back", within=OVER_SECONDS)
            seconds = time.monotonic() - begun
        tolls = {good.namespace: good_tolls, bad.namespace: bad_tolls}
        ends = (
            ending(team, before[team.namespace], tolls[team.namespace]["agent"])
            for team in (good, bad)
        )
        return Story(*ends, hit=hit, seconds=seconds)


def wait_for_phase(team, *phases):
    team.wait(lambda: team.record().get("phase") in phases, f"it is in {phases}")


def is_good(team, commit):
    record = team.record()
    last = record.get("lastGood", {}).get("commit", "")
    return record.get("phase") == "Idle" and last.endswith(commit)


def is_held(team):
    return team.record()["phase"] == "Held" and team.all_ready() and team.numbered_anew()


def ending(team, before, toll):
    fleet, live, record, changes = team.fleet(), team.live(), team.record(), team.changes()
    writes = tuple(each for each in changes if RECORD not in each)
    return Ending(
        phase=record["phase"],
        held=tuple(each["class"] for each in record.get("quarantine", [])),
        revisions=tuple(sorted(team.revisions().items())),
        generation=live["metadata"]["generation"],
        images=tuple(pod.image for pod in fleet),
        replaced=len(before - {pod.uid for pod in fleet}),
        restarts=toll.there_and_back,
        most_taken=toll.most_taken,
        writes=writes,
        records=len(changes) - len(writes),
        reasons=tuple(team.agents[-1].reasons("agent")),
    )


@pytest.fixture(scope="module")
def undisturbed(plane, tmp_path_factory):
    told = tell(plane, tmp_path_factory.mktemp("undisturbed"), lambda _: None)
    assert (told.good.images, told.good.replaced) == ((NEW,) * NODES, NODES)
    assert (told.bad.images, told.bad.replaced) == ((OLD,) * NODES, 1)
    assert told.bad.held == ("Unschedulable",)
    assert (told.good.restarts, told.good.most_taken) == (f"{NODES} + 0", 1)
    assert (told.bad.restarts, told.bad.most_taken) == ("1 + 1", 1)
    return told


def assert_same_writes(told, calm, *, unnoted):
    """What changed is the same, in the same order.

    The record is written anew for each change of what its agent sees (who is in the way, and who no
    more), which an outage makes more of: not compared, but no storm.

    An API server that is killed notes no more what it has just carried out (`unnoted`): that it
    landed, and once, is in the generation and in the pods.
    """
    lacks = len(calm.writes) - len(told.writes)
    assert 0 <= lacks <= unnoted, told.writes
    assert told.writes in set(combinations(calm.writes, len(told.writes))), "in the same order"
    more = Counter(told.reasons) - Counter(calm.reasons)
    assert set(more) <= SAID_OF_OUTAGES | set(calm.reasons)
    assert told.records <= calm.records + RECORDS_MORE_MAX


@pytest.mark.timeout(600)
@pytest.mark.parametrize("scenario", OUTAGES)
def test_an_outage_in_mid_rollout_changes_neither_a_good_ending_nor_a_bad_one(
    plane, undisturbed, tmp_path, prove, scenario
):
    told = tell(plane, tmp_path, OUTAGES[scenario])

    assert told.good == undisturbed.good
    assert told.bad == undisturbed.bad
    unnoted = 1 if OUTAGES[scenario] is kill_api_server else 0
    assert_same_writes(told.good, undisturbed.good, unnoted=unnoted)
    assert_same_writes(told.bad, undisturbed.bad, unnoted=unnoted)
    assert "RollingBack" not in told.good.reasons
    both = (told.good, told.bad)
    more = told.records - undisturbed.records
    prove(
        scenario=f"{scenario} in mid-rollout",
        nodes=f"{NODES} fake",
        outcome=f"hit in {told.hit}: the good commit {told.good.reasons[-1]}, the bad one"
        f" {told.bad.reasons[-1]}, {told.bad.held[0]}; at most {told.good.most_taken} and"
        f" {told.bad.most_taken} taken at once",
        writes=told.records + sum(len(each.writes) for each in both),
        restarted=f"{told.good.restarts}; {told.bad.restarts}",
        beside=f"undisturbed: the same writes ({more:+} of the record, for what the outage made"
        f" the agents see), revisions and pods, {undisturbed.seconds:.0f} s instead of"
        f" {told.seconds:.0f} s",
    )
