"""What goes wrong with the DaemonSet controller's own rolling update, and not with ours.

The same manifests on the same nodes at the same time: once kept by the agent, once applied with
`kubectl apply`, where Kubernetes' own controller does the rest (the control group).  Every pod is
watched all the time, and the nodes that are taken are counted in both (`toll.py`).

Kubernetes gives a silent node up after 50 s; this control plane does so after 12, and is silent
for as much longer as the control group needs to show what it does.
"""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from cluster import binaries
from cluster.control_plane import index, running
from cluster.fake_kubelet import NEVER_READY, Start, kubelets_on
from cluster.team import team_on
from cluster.toll import watched

if TYPE_CHECKING:
    from cluster.fake_kubelet import Kubelets
    from cluster.team import Agent, Team
    from cluster.toll import Tolls

pytestmark = pytest.mark.timeout(480)  # the first test waits for the whole story
NODES, FEW = 12, 4
NODE_GRACE_SECONDS = 12
IMAGE = "registry.example/agent"
BAD, SLOW, SECOND = f"{IMAGE}:bad", f"{IMAGE}:slow", f"{IMAGE}:2"
STARTS = {BAD: NEVER_READY, SLOW: Start(seconds=3), SECOND: Start(seconds=1)}
TERMINATING_SECONDS = 0.5
RAISED_SECONDS = 15
RAISED_UNAVAILABLE = 4
ROLLOUT = {
    "canary": {"nodes": 1, "bakeTime": "1s"},
    "bakeTime": "3s",
    "podDeadline": "20s",
    "progressDeadline": "3m",
}
POOLS = {
    "outage-bad": ("silent", BAD),
    "outage-good": ("silent", SLOW),
    "blip-bad": ("steady", BAD),
    "blip-good": ("steady", SLOW),
    "dead-node": ("dying", SECOND),
}
"""Where each DaemonSet's pods run, and the image of its second commit."""
DEAD = "dying-0"


@dataclass
class Story:
    """The team and the control group, side by side."""

    team: Team
    plain: Team
    """A namespace without an agent."""
    kubelets: Kubelets
    ours: Tolls
    theirs: Tolls
    tree: dict[str, dict] = field(default_factory=dict)
    """What Git has, by name."""
    agent: Agent | None = None
    commits: dict[str, str] = field(default_factory=dict)
    """The last commit that changed each DaemonSet."""

    def give(self, **wanted) -> None:
        """Commit new content of some DaemonSets, and apply the same to the control group."""
        for name, make in wanted.items():
            self.tree[name] = make(self.team)
            self.plain.kubectl("apply", "-f", "-", given=make(self.plain))
        made = self.team.commit(*self.tree.values())
        self.commits |= dict.fromkeys(wanted, made)

    def wait(self, holds, what: str, within: float = 150) -> None:
        self.team.wait(holds, f"{what} {self.kubelets.errors[-3:]}", within=within)

    def both_have(self, name: str, image: str, count: int) -> None:
        """Wait until so many nodes of both wear the image."""
        for toll in (self.ours, self.theirs):
            self.wait(
                lambda toll=toll: len(toll[name].images[image]) >= count, f"{name}: {count} {image}"
            )


def of(name: str, image: str = f"{IMAGE}:1", *, unavailable: int = 1, **spec):
    """Return what makes the manifest in a namespace."""
    pool = POOLS.get(name, ("steady", ""))[0]

    def make(team: Team) -> dict:
        found = team.manifest(name, image=image)
        found["spec"] |= spec
        found["spec"]["updateStrategy"]["rollingUpdate"]["maxUnavailable"] = unavailable
        # agents of nodes run whatever is wrong with the node
        pod = found["spec"]["template"]["spec"]
        pod |= {"tolerations": [{"operator": "Exists"}], "nodeSelector": {"pool": pool}}
        return found

    return make


@pytest.fixture(scope="module")
def story(request, tmp_path_factory):
    """Let it all happen once; the tests look at what is left of it."""
    if os.environ.get("DSGITOPS_CLUSTER") != "real":
        pytest.skip("needs a real control plane: make cluster-test")
    folder, before = tmp_path_factory.mktemp("traps"), request.session.testsfailed
    with ExitStack() as stack:
        plane = stack.enter_context(
            running(
                binaries.cached(), index=index(1), node_grace=NODE_GRACE_SECONDS,
                failed=lambda: request.session.testsfailed > before,
            )
        )  # fmt: skip
        kubelets = stack.enter_context(kubelets_on(plane))
        kubelets.starts |= STARTS
        kubelets.terminating_seconds = TERMINATING_SECONDS
        for pool, count in (("silent", NODES), ("steady", NODES), ("dying", FEW)):
            kubelets.join(*(f"{pool}-{number}" for number in range(count)), pool=pool)
        (folder / "plain").mkdir()
        team = stack.enter_context(team_on(plane, folder, settings={"rollout": ROLLOUT}))
        plain = stack.enter_context(team_on(plane, folder / "plain"))
        ours = stack.enter_context(watched(plane, team.namespace))
        theirs = stack.enter_context(watched(plane, plain.namespace))
        story = Story(team, plain, kubelets, ours, theirs)
        story.give(**{name: of(name) for name in POOLS})
        story.agent = stack.enter_context(team.agent())
        unfold(story)
        yield story


def unfold(story: Story) -> None:
    """Good pods everywhere; a node dies; new content; then all that can go wrong at once."""
    for name, commit in story.commits.items():
        story.team.wait_until_good(commit, name)
        story.wait(lambda name=name: all_available(story.plain, name), f"{name} is there")
    story.kubelets.silent.add(DEAD)
    story.wait(lambda: DEAD in story.kubelets.lost(), "the node is given up")

    story.give(raised=of("raised"), **{name: of(name, POOLS[name][1]) for name in POOLS})
    story.both_have("outage-bad", BAD, 1)
    story.both_have("outage-good", SLOW, 2)
    silence(story)
    raise_min_ready(story)
    story.both_have("blip-bad", BAD, 1)
    story.both_have("blip-good", SLOW, 2)
    blip(story)
    end_silence(story)
    settle(story)


def silence(story: Story) -> None:
    story.kubelets.silent |= {node for node in story.kubelets.nodes if node.startswith("silent-")}


def raise_min_ready(story: Story) -> None:
    """While its pods are ready for less than the new minReadySeconds: they lose it just before."""
    story.team.wait_until_good(story.commits["raised"], "raised")
    lose_readiness(story, "raised")
    story.kubelets.unready.discard("raised")
    raised = of("raised", SECOND, unavailable=RAISED_UNAVAILABLE, minReadySeconds=RAISED_SECONDS)
    for team in (story.team, story.plain):
        story.wait(lambda team=team: all(pod.ready for pod in team.fleet("raised")), "ready again")
    story.give(raised=raised)


def blip(story: Story) -> None:
    """Every pod loses readiness until the control group's controller has seen it."""
    lose_readiness(story, "blip-bad", "blip-good")
    time.sleep(2)  # what a shared blip lasts: there is no state to wait for
    story.kubelets.unready -= {"blip-bad", "blip-good"}


def lose_readiness(story: Story, *names: str) -> None:
    """Take it from all pods of these DaemonSets, and wait until the API says so."""
    story.kubelets.unready |= set(names)
    for team in (story.team, story.plain):
        for name in names:
            story.wait(
                lambda team=team, name=name: not any(pod.ready for pod in team.fleet(name)),
                f"no pod of {name} is ready",
            )


def end_silence(story: Story) -> None:
    silent = {node for node in story.kubelets.nodes if node.startswith("silent-")}
    story.wait(lambda: silent <= story.kubelets.lost(), "all nodes are given up")
    time.sleep(5)  # the controllers have seen it
    story.kubelets.silent -= silent
    story.wait(lambda: not story.kubelets.lost() & silent, "all nodes are back")


def settle(story: Story) -> None:
    """Wait until each of ours is where it ends; then what the control group did is done too."""
    for name in ("outage-bad", "blip-bad"):
        story.wait(lambda name=name: story.team.record(name).get("phase") == "Held", name)
    for name in ("outage-good", "blip-good", "raised"):
        story.wait(lambda name=name: story.team.record(name).get("phase") in {"Idle", "Held"}, name)
    story.wait(
        lambda: (
            len(story.ours["dead-node"].images[SECOND]) == FEW - 1
            and story.team.record("dead-node").get("phase") in {"Idle", "Held", "Baking"}
        ),
        "the living nodes are updated",
    )


def all_available(team: Team, name: str) -> bool:
    status = (team.live(name) or {}).get("status", {})
    return status.get("numberAvailable", 0) == status.get("desiredNumberScheduled", -1)


def nodes_of(name: str) -> int:
    return FEW if name == "dead-node" else NODES


def show(prove, story: Story, name: str, scenario: str, beside: str) -> None:
    """A row of the table: ours, and the control group."""
    ours, reasons = story.ours[name], story.agent.reasons(name)
    held, detected = story.team.record(name).get("quarantine"), None
    outcome = f"RolledBack, {held[0]['class']}" if held else reasons[-1]
    if held:
        (rollback,) = story.team.rollbacks(name)
        detected = (rollback - ours.first[BAD]).total_seconds()
    prove(
        detected=detected,
        scenario=scenario,
        nodes=f"{nodes_of(name)} fake",
        outcome=f"{outcome}; at most {ours.most_taken} taken at once",
        writes=len(story.team.writes(name)),
        restarted=str(ours.restarts),
        beside=beside,
    )


OUTAGE = f"all kubelets silent (nodes given up after {NODE_GRACE_SECONDS} s instead of 50)"


@pytest.mark.parametrize(
    ("name", "what"), [("outage-bad", OUTAGE), ("blip-bad", "all pods not ready for 2 s")]
)
def test_what_hits_all_nodes_while_a_bad_rollout_is_halted_spreads_it_to_none(
    story, prove, name, what
):
    ours, theirs = story.ours[name], story.theirs[name]
    story.wait(lambda: len(theirs.images[BAD]) == NODES, "the control group shows the trap")

    assert len(ours.images[BAD]) == 1
    assert ours.most_taken == 1
    story.team.wait(lambda: story.team.record(name).get("reason") == "RolledBack", "rolled back")
    assert ours.restarts == 2, "there and back, on one node"
    beside = f"{len(theirs.images[BAD])} of {NODES} on the bad revision"
    show(prove, story, name, f"{what} while a bad rollout is halted", beside)


@pytest.mark.parametrize(
    ("name", "what"), [("outage-good", OUTAGE), ("blip-good", "all pods not ready for 2 s")]
)
def test_what_hits_all_nodes_in_mid_rollout_of_a_good_commit_takes_no_more_than_one(
    story, prove, name, what
):
    ours, theirs = story.ours[name], story.theirs[name]
    story.wait(lambda: len(theirs.images[SLOW]) == NODES, "the control group has gone on")

    assert theirs.most_taken > 1, "the control group shows the trap"
    assert ours.most_taken == 1
    story.team.wait_until_good(story.commits[name], name)
    assert len(ours.images[SLOW]) == ours.restarts == NODES
    beside = f"{theirs.most_taken} of {NODES} taken at once"
    show(prove, story, name, f"{what} in mid-rollout of a good commit", beside)


def test_min_ready_seconds_raised_with_the_template_take_no_more_than_max_unavailable(story, prove):
    ours, theirs = story.ours["raised"], story.theirs["raised"]

    assert theirs.most_taken > RAISED_UNAVAILABLE, "the control group shows the trap"
    assert ours.most_taken <= RAISED_UNAVAILABLE
    story.team.wait_until_good(story.commits["raised"], "raised")
    assert len(ours.images[SECOND]) == NODES
    beside = f"{theirs.most_taken} of {NODES} taken at once"
    show(
        prove, story, "raised",
        f"minReadySeconds raised with the template, maxUnavailable {RAISED_UNAVAILABLE}", beside,
    )  # fmt: skip


def test_a_node_that_is_dead_before_the_rollout_blocks_none_of_the_others(story, prove):
    ours, theirs = story.ours["dead-node"], story.theirs["dead-node"]

    updated = len(theirs.images[SECOND])
    assert updated < FEW - 1, "the control group is blocked"
    assert ours.images[SECOND] == {f"dying-{number}" for number in range(1, FEW)}
    assert ours.most_taken == 1
    story.kubelets.silent.discard(DEAD)
    story.wait(lambda: DEAD in ours.images[SECOND], "it follows when it is back")
    beside = f"blocked: {updated} of {FEW - 1} living nodes updated"
    show(prove, story, "dead-node", "one node dead before the rollout", beside)
