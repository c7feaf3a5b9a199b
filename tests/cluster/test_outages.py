"""The cluster's own parts fail in mid-rollout: what comes after ends as if nothing had happened.

Two teams meet each outage: the good commit of one must reach every node, the bad commit of the
other must be rolled back, and no pod is restarted that would not have been without it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import pytest
from cluster.fake_kubelet import kubelets_on
from cluster.team import NODES, SETTINGS, team_on

ROLLOUT = SETTINGS["rollout"] | {"canary": {"nodes": 1, "bakeTime": "5s"}}
OVER_SECONDS = 240.0
"""For all that follows an outage; nodes may be silent for a while, and deadlines stand still."""
OLD, NEW = "registry.example/agent:1", "registry.example/agent:2"
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


@dataclass
class Story:
    """Two teams in mid-rollout, and how it ended for each."""

    good: Ending
    bad: Ending
    hit: str
    """Where the two were when it happened."""
    reasons: list[str]
    """Of the good commit."""
    seconds: float
    """From the commit to the end of both."""


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
    ):
        first = {team.namespace: team.commit(team.manifest()) for team in (good, bad)}
        with good.agent() as agent, bad.agent():
            for team in (good, bad):
                team.wait(lambda team=team: is_good(team, first[team.namespace]), "it is good")
            before = {team.namespace: set(team.pods()) for team in (good, bad)}
            begun = time.monotonic()
            second = good.commit(good.manifest(image=NEW))
            wait_for_phase(good, "Canary")
            bad.commit(bad.manifest(image=NEW, resources=GREEDY))
            phase = wait_for_phase(bad, "Canary", "RollingBack")
            outage(plane)
            plane.wait_for_api()

            good.wait(lambda: is_good(good, second), "the good commit is out", within=OVER_SECONDS)
            bad.wait(lambda: is_held(bad), "the bad commit is rolled back", within=OVER_SECONDS)
            return Story(
                *(ending(team, before[team.namespace]) for team in (good, bad)),
                hit=f"Canary and {phase}",
                reasons=agent.reasons("agent"),
                seconds=time.monotonic() - begun,
            )


def wait_for_phase(team, *phases):
    return team.wait(
        lambda: next((each for each in phases if team.record().get("phase") == each), None),
        f"it is in {phases}",
    )


def is_good(team, commit):
    record = team.record()
    last = record.get("lastGood", {}).get("commit", "")
    return record.get("phase") == "Idle" and last.endswith(commit)


def is_held(team):
    return team.record()["phase"] == "Held" and team.all_ready() and team.numbered_anew()


def ending(team, before):
    fleet, live, record = team.fleet(), team.live(), team.record()
    return Ending(
        phase=record["phase"],
        held=tuple(each["class"] for each in record.get("quarantine", [])),
        revisions=tuple(sorted(team.revisions().items())),
        generation=live["metadata"]["generation"],
        images=tuple(pod.image for pod in fleet),
        replaced=len(before - {pod.uid for pod in fleet}),
    )


@pytest.fixture(scope="module")
def undisturbed(plane, tmp_path_factory):
    told = tell(plane, tmp_path_factory.mktemp("undisturbed"), lambda _: None)
    assert (told.good.images, told.good.replaced) == ((NEW,) * NODES, NODES)
    assert (told.bad.images, told.bad.replaced) == ((OLD,) * NODES, 1)
    assert told.bad.held == ("Unschedulable",)
    return told


@pytest.mark.timeout(600)
@pytest.mark.parametrize("scenario", OUTAGES)
def test_an_outage_in_mid_rollout_changes_neither_a_good_ending_nor_a_bad_one(
    plane, undisturbed, tmp_path, prove, scenario
):
    told = tell(plane, tmp_path, OUTAGES[scenario])

    assert told.good == undisturbed.good
    assert told.bad == undisturbed.bad
    assert "RollingBack" not in told.reasons
    prove(
        scenario=f"{scenario} in mid-rollout",
        nodes=f"{NODES} fake",
        outcome=f"the good commit {told.reasons[-1]}, the bad one RolledBack, {told.bad.held[0]}",
        restarted=f"{NODES}; 1 + 1",
        beside=f"undisturbed: the same revisions and pods, {undisturbed.seconds:.0f} s instead of"
        f" {told.seconds:.0f} s",
    )
