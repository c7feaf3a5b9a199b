"""Rollouts that do not go as planned: slow ones, crossed ones, nodes that come and go, people.

One agent keeps a DaemonSet for each story, all on the same fake nodes, and all stories run at the
same time: an agent blames nobody by the clock before it has watched for a minute, and a slow
rollout takes longer than that.  Every pod is watched all the time (`toll.py`).
"""

from __future__ import annotations

import time

import pytest
from cluster.town import (
    ABSENT,
    BAD,
    GOOD,
    NODES,
    SECOND,
    SLOW,
    SLOW_SECONDS,
    THIRD,
    WORSE,
    agent_in,
    town_on,
)

pytestmark = pytest.mark.timeout(400)  # the slow one waits for all of its nodes
MANY = 15
PROGRESS_SECONDS = 15
APART_SECONDS = 10
"""Two bad commits; the first is judged later: nobody is blamed by the clock for a minute."""


@pytest.fixture(scope="module")
def town(control_plane, tmp_path_factory):
    """An agent at work; each test brings its own DaemonSet."""
    with town_on(control_plane, tmp_path_factory.mktemp("town")) as made:
        made.kubelets.join(*(f"many-{number}" for number in range(MANY)), pool="many")
        made.push(slow(made, GOOD), made.manifest("twice"), made.manifest("half"))
        with agent_in(made):
            begin(made)
            yield made


def slow(town, image):
    found = town.manifest("slow", image, pool="many")
    found["metadata"]["annotations"] = {"dsgitops.io/progress-deadline": f"{PROGRESS_SECONDS}s"}
    return found


def begin(town):
    """Begin what takes its time while the other stories are told."""
    for name in ("slow", "twice"):
        town.wait(
            lambda name=name: town.team.record(name).get("phase") == "Idle", f"{name} is good"
        )
    town.push(slow(town, SLOW), town.manifest("twice", BAD))
    pushed = time.monotonic()
    town.wait(lambda: town.nodes_with("twice", BAD), "the canary has the first bad one")
    time.sleep(max(0.0, pushed + APART_SECONDS - time.monotonic()))
    town.push(town.manifest("twice", WORSE))


# -------------------------------------------------------------------- failures that cross others


def test_a_bad_commit_and_its_revert_restart_no_healthy_pod(town, prove):
    town.born(town.manifest("reverted"))
    before = {pod.node: pod.uid for pod in town.team.fleet("reverted")}
    town.push(town.manifest("reverted", BAD))
    town.wait(lambda: town.nodes_with("reverted", BAD), "the canary is broken")
    (broken,) = town.nodes_with("reverted", BAD)

    town.push(town.manifest("reverted"))  # what git revert makes
    town.wait(
        lambda: town.team.record("reverted").get("phase") == "Idle"
        and town.team.all_ready("reverted"), "all is as it was",
    )  # fmt: skip

    after = {pod.node: pod.uid for pod in town.team.fleet("reverted")}
    assert {node for node in after if after[node] != before[node]} == {broken}
    prove(**town.row("reverted", "a bad commit and `git revert` while it is on its canary"))


def test_what_is_quarantined_stays_out_for_as_long_as_git_has_it_and_the_next_goes_on(town, prove):
    town.born(town.manifest("held"))
    bad = town.manifest("held", ABSENT)
    town.push(bad)
    town.held("held")
    writes = town.team.writes("held")
    for number in range(3):  # new commits with the same content of this one
        commit = town.push(town.manifest("beside", env=[{"name": "COUNT", "value": str(number)}]))
        town.good(commit, "beside")

    assert town.team.writes("held") == writes
    assert len(town.tolls["held"].images[ABSENT]) == 1

    third = town.push(town.manifest("held", THIRD))
    town.good(third, "held")

    assert len(town.nodes_with("held", THIRD)) == NODES
    scenario = "quarantined for three commits, then content that is good"
    prove(**town.row("held", scenario, bad=ABSENT))


def test_what_a_rollback_restored_and_the_next_good_commit_lacks_is_gone(town, prove):
    had = town.manifest(
        "fields", env=[{"name": "OLD", "value": "1"}, {"name": "KEPT", "value": "1"}]
    )
    pod = had["spec"]["template"]["spec"]
    pod["containers"].append({"name": "old", "image": GOOD})
    pod["volumes"] = [{"name": "old", "emptyDir": {}}]
    had["spec"]["template"]["metadata"]["labels"] = {"app": "fields", "old": "1"}
    town.born(had)
    lacks = {"env": [{"name": "KEPT", "value": "1"}]}
    town.push(town.manifest("fields", ABSENT, **lacks))
    town.held("fields")
    live = town.team.live("fields")["spec"]["template"]
    assert live["metadata"]["labels"]["old"] == "1", "the rollback restored it"

    third = town.push(town.manifest("fields", THIRD, **lacks))
    town.good(third, "fields")

    live = town.team.live("fields")["spec"]["template"]
    (container,) = live["spec"]["containers"]
    assert container["env"] == lacks["env"]
    assert "volumes" not in live["spec"]
    assert live["metadata"]["labels"] == {"app": "fields"}
    scenario = "env, container, volume and label that a rollback restored, gone again"
    prove(**town.row("fields", scenario, bad=ABSENT))


# -------------------------------------------------------------------- nodes come and go


def test_a_node_that_joins_and_one_that_leaves_in_mid_rollout_disturb_nothing(town, prove):
    names = {f"moving-{number}" for number in range(4)}
    town.kubelets.join(*names, pool="moving")
    town.born(town.manifest("moving", pool="moving"))
    second = town.push(town.manifest("moving", SECOND, pool="moving"))
    town.wait(lambda: town.nodes_with("moving", SECOND), "the canary is there")
    (left,) = sorted(town.nodes_with("moving", GOOD))[-1:]
    town.kubelets.leave(left)
    town.kubelets.join("moving-new", pool="moving")

    town.good(second, "moving")

    assert town.nodes_with("moving", SECOND) == names - {left} | {"moving-new"}
    assert town.tolls["moving"].images[GOOD] == names, "the new node never had the old one"
    assert town.tolls["moving"].restarts == len(names - {left})
    assert "RollingBack" not in town.agent.reasons("moving")
    prove(**town.row("moving", "one node joins and one leaves in mid-rollout", nodes=4))


# -------------------------------------------------------------------- people and their verbs


def test_under_on_delete_nothing_restarts_until_a_person_deletes_pods(town, prove):
    def make(image):
        found = town.manifest("by-hand", image)
        found["spec"]["updateStrategy"] = {"type": "OnDelete"}
        return found

    town.born(make(GOOD))
    before = {pod.uid for pod in town.team.fleet("by-hand")}
    second = town.push(make(SECOND))
    town.wait(lambda: "RolloutStalled" in town.agent.reasons("by-hand"), "it says that it waits")
    assert {pod.uid for pod in town.team.fleet("by-hand")} == before

    town.team.kubectl("delete", "pod", town.team.fleet("by-hand")[0].name)
    town.wait(lambda: len(town.nodes_with("by-hand", SECOND)) == 1, "one follows")
    assert len({pod.uid for pod in town.team.fleet("by-hand")} & before) == NODES - 1

    town.team.kubectl("delete", "pod", "--selector=app=by-hand")
    town.good(second, "by-hand")
    assert town.deletes("by-hand") == 0
    prove(**town.row("by-hand", "OnDelete in Git: a person deletes the pods"))


def test_what_is_suspended_stands_still_in_mid_rollout_and_goes_on_when_resumed(town, prove):
    town.born(town.manifest("quiet"))
    second = town.push(town.manifest("quiet", SLOW))
    town.wait(lambda: town.nodes_with("quiet", SLOW), "the canary is there")
    town.verb("suspend", "quiet", "--reason", "a customer's demo")
    town.wait(lambda: "Suspended" in town.agent.reasons("quiet"), "it says so")
    town.wait(lambda: town.tolls["quiet"].taken == set(), "no pod is under way")
    updated, writes = town.nodes_with("quiet", SLOW), town.team.writes("quiet")
    assert 0 < len(updated) < NODES

    time.sleep(3)  # three polls: nothing happens in them

    assert town.nodes_with("quiet", SLOW) == updated
    assert town.team.writes("quiet") == writes
    town.verb("resume", "quiet")
    town.good(second, "quiet")
    assert len(town.nodes_with("quiet", SLOW)) == NODES
    prove(**town.row("quiet", "`dsgitops suspend` in mid-rollout, then `resume`"))


def test_a_rollback_by_hand_to_a_revision_is_kept_until_git_moves_on(town, prove):
    town.born(town.manifest("choice"))
    town.born(town.manifest("choice", SECOND))
    town.born(town.manifest("choice", THIRD))
    town.verb("rollback", "choice", "--to", "1", "--reason", "the third is too loud")
    town.wait(lambda: len(town.nodes_with("choice", GOOD)) == NODES, "all are back")
    held = town.held("choice")
    assert held["class"] == "ByHand"

    fourth = town.push(town.manifest("choice", SECOND, env=[{"name": "A", "value": "1"}]))
    town.good(fourth, "choice")

    assert len(town.nodes_with("choice", SECOND)) == NODES
    prove(**town.row("choice", "`dsgitops rollback --to 1`, then a new commit"))


def test_pods_of_a_daemonset_that_was_deleted_alone_are_adopted_as_they_are(town, prove):
    good = town.born(town.manifest("orphans"))
    before = town.team.live("orphans")["metadata"]["uid"]
    pods = {pod.uid for pod in town.team.fleet("orphans")}
    town.team.kubectl("delete", "daemonset", "orphans", "--cascade=orphan")
    town.wait(
        lambda: (town.team.live("orphans") or {"metadata": {"uid": before}})["metadata"]["uid"]
        != before, "it is made again",
    )  # fmt: skip
    town.good(good, "orphans")

    assert {pod.uid for pod in town.team.fleet("orphans")} == pods
    assert len([each for each in town.team.revisions() if each.startswith("orphans-")]) == 1
    prove(**town.row("orphans", "`kubectl delete ds --cascade=orphan`: made again, pods adopted"))


# -------------------------------------------------------------------- last, for they take longest


def test_two_bad_commits_one_after_the_other_break_one_node_together(town, prove):
    held = town.held("twice")

    toll = town.tolls["twice"]
    assert "RolloutSuperseded" in town.agent.reasons("twice"), "the first was still being judged"
    _good, first, second = town.team.applies("twice")
    apart = (second - first).total_seconds()
    assert apart > APART_SECONDS - 2, "an agent looks at Git once a second"
    assert held["class"] == "ReadinessProbeFailed"
    assert toll.most_taken == 1
    assert len(toll.images[BAD] | toll.images[WORSE]) == 1
    assert town.nodes_with("twice", GOOD) == {f"town-{number}" for number in range(NODES)}
    scenario = f"two bad commits {apart:.0f} s apart, the first still on its canary"
    prove(**town.row("twice", scenario, bad=WORSE))


def test_a_bad_commit_while_half_the_pods_are_not_ready_takes_no_further_node(town, prove):
    sick = {f"town-{number}" for number in range(NODES // 2)}
    keys = {f"{town.team.namespace}/half/{node}" for node in sick}
    town.kubelets.unready |= keys
    town.wait(
        lambda: {pod.node for pod in town.team.fleet("half") if not pod.ready} == sick, "sick"
    )

    town.push(town.manifest("half", ABSENT))
    held = town.held("half")

    toll = town.tolls["half"]
    assert toll.most_taken == 1
    assert len(toll.images[ABSENT]) == 1
    assert not toll.images[ABSENT] & sick, "a node that can show whether it works"
    assert held["nodes"] == list(toll.images[ABSENT])
    assert {pod.node for pod in town.team.fleet("half") if not pod.ready} == sick
    scenario = "a bad commit while half the pods are not ready anyway"
    prove(**town.row("half", scenario, bad=ABSENT))
    town.kubelets.unready -= keys


def test_a_slow_but_healthy_rollout_far_beyond_the_deadline_is_never_reverted(town, prove):
    town.wait(lambda: len(town.nodes_with("slow", SLOW)) == MANY, "it is everywhere")
    town.wait(lambda: town.team.record("slow").get("phase") == "Idle", "it is good")

    toll = town.tolls["slow"]
    made = sorted(pod.created for pod in town.team.fleet("slow"))
    took = (made[-1] - made[0]).total_seconds()
    assert took > 3 * PROGRESS_SECONDS
    assert toll.most_taken == 1
    assert toll.restarts == MANY
    assert "RollingBack" not in town.agent.reasons("slow")
    what = f"slow but healthy: {MANY} nodes, {SLOW_SECONDS} s each, deadline {PROGRESS_SECONDS} s"
    prove(**town.row("slow", what, nodes=MANY))
