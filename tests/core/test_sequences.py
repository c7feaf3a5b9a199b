"""What holds over sequences of decisions: commits good and bad, dead nodes, people with kubectl."""

from __future__ import annotations

import os
from datetime import timedelta

import pytest
from core.builders import desired, seconds, sha
from core.town import Town, stored
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from dsgitops.core.actions import Apply, DeletePod, Restore
from dsgitops.core.model import FailureClass, Phase, Policy, Reason

QUICK = Policy(
    canary_bake=seconds(5),
    bake_time=seconds(15),
    progress_deadline=timedelta(minutes=2),
    pod_deadline=seconds(30),
)
NATIVE = Policy(
    mode="native", bake_time=seconds(15), progress_deadline=timedelta(minutes=2),
    pod_deadline=seconds(30),
)  # fmt: skip


def commit(image, policy=QUICK, **more):
    return desired(image, policy=policy, **more)


def template(content):
    return sha(stored(content.manifest["spec"])["template"])


def town_with(content, count=5):
    town = Town(content, count)
    town.push(content)
    town.run(12)
    return town


def is_at_rest_on(town, content):
    known = town.record()
    return (
        known is not None
        and known.phase is Phase.IDLE
        and sha(town.live.template) == template(content)
        and all(pod.hash == town.current().hash and pod.is_ready for pod in town.pods.values())
        and known.last_good is not None
        and known.last_good.hash == town.current().hash
    )


def reasons(town):
    found = []
    for decision in town.said:
        if not decision.aside and (not found or found[-1] is not decision.reason):
            found.append(decision.reason)
    return found


@pytest.mark.parametrize("policy", [QUICK, NATIVE])
def test_a_good_commit_rolls_out_and_becomes_last_good(policy):
    town = town_with(commit("fluentd:1", policy))
    assert is_at_rest_on(town, town.git)

    good = commit("fluentd:2", policy)
    town.push(good)
    most = 0
    for _ in range(40):
        town.run()
        most = max(most, len(town.out))

    assert is_at_rest_on(town, good)
    assert most == 1
    assert town.live.strategy.type == "RollingUpdate"


@pytest.mark.parametrize("policy", [QUICK, NATIVE])
def test_a_bad_commit_breaks_one_node_goes_back_and_the_fix_goes_on(policy):
    good, bad, fix = (commit(f"fluentd:{tag}", policy) for tag in ("1", "bad", "3"))
    town = town_with(good)
    before = {name: pod.uid for name, pod in town.pods.items()}

    town.push(bad)
    town.run(40)
    kept = sum(town.pods[name].uid == uid for name, uid in before.items())
    held = town.record()
    town.run(20)
    writes = [each for each in town.said[-20:] if each.actions]
    town.push(fix)
    town.run(40)

    assert kept == 4
    assert held.phase is Phase.HELD
    assert held.quarantine[0].failure_class is FailureClass.CRASH_LOOP
    assert not writes
    assert is_at_rest_on(town, fix)


def test_a_rollout_writes_the_object_four_times():
    town = town_with(commit("fluentd:1"))
    before = town.record().n
    town.said.clear()

    town.push(commit("fluentd:2"))
    town.run(40)

    assert town.record().n - before == 4
    assert reasons(town) == [
        Reason.ROLLOUT_STARTED, Reason.ROLLOUT_PROGRESSING, Reason.ROLLOUT_BAKING,
        Reason.ROLLOUT_FINISHED, Reason.IN_SYNC,
    ]  # fmt: skip


def test_three_bad_commits_in_a_row_break_no_more_than_may_be_out():
    town = town_with(commit("fluentd:1"))
    most = 0
    for i in range(3):
        town.push(commit(f"fluentd:bad{i}"))
        for _ in range(4):
            town.run()
            most = max(most, len(town.out))
    town.run(40)

    assert most == 1
    assert sha(town.live.template) == template(commit("fluentd:1"))


def test_a_dead_node_blocks_nothing_and_gets_the_new_pod_when_it_is_back():
    town = town_with(commit("fluentd:1"))
    town.take_down("n3")
    town.run(30)

    good = commit("fluentd:2")
    town.push(good)
    town.run(60)
    finished = town.record().phase
    town.bring_up("n3")
    town.run(6)

    assert finished is Phase.IDLE
    assert town.record().last_good.digest == good.digest


def test_released_content_is_tried_again_from_the_canary_on():
    town = town_with(commit("fluentd:1"))
    town.push(commit("fluentd:bad"))
    town.run(40)
    assert town.record().phase is Phase.HELD

    town.said.clear()
    town.annotate("dsgitops.io/retry-at", "again")
    town.run(40)

    assert Reason.ROLLOUT_STARTED in reasons(town)
    assert town.record().phase is Phase.HELD
    assert len(town.record().quarantine) == 1


def test_an_undo_by_hand_is_kept_until_git_moves():
    first, second, third = (commit(f"fluentd:{i}") for i in (1, 2, 3))
    town = town_with(first)
    town.push(second)
    town.run(40)

    town.undo()
    town.run(40)
    assert sha(town.live.template) == template(first)
    assert town.record().phase is Phase.HELD
    town.push(third)
    town.run(40)

    assert is_at_rest_on(town, third)


def test_an_edit_by_hand_is_put_back_and_restarts_only_what_took_it():
    content = commit("fluentd:1")
    town = town_with(content)
    before = {name: pod.uid for name, pod in town.pods.items()}

    town.edit_image("fluentd:bad")
    town.run(20)

    assert is_at_rest_on(town, content)
    assert sum(town.pods[name].uid == uid for name, uid in before.items()) >= 4


def test_a_first_commit_that_is_bad_is_held_and_the_fix_rolls_out():
    town = Town(commit("fluentd:bad"))
    town.push(town.git)
    town.run(20)
    assert town.record().phase is Phase.HELD
    assert town.record().reason is Reason.ROLLOUT_FAILED

    fix = commit("fluentd:2")
    town.push(fix)
    town.run(60)

    assert is_at_rest_on(town, fix)


def test_an_object_that_is_deleted_in_mid_rollout_comes_back_from_last_good_then_goes_on():
    town = town_with(commit("fluentd:1"))
    newer = commit("fluentd:2")
    town.push(newer)
    town.run(2)

    town.delete_object()
    town.said.clear()
    town.run(60)

    assert "fluentd:1" in str(
        next(a for d in town.said for a in d.actions if isinstance(a, Apply)).body
    )
    assert is_at_rest_on(town, newer)


def test_an_object_that_is_deleted_while_held_comes_back_from_last_good_and_stays_held():
    good, bad = commit("fluentd:1"), commit("fluentd:bad")
    town = town_with(good)
    town.push(bad)
    town.run(40)

    town.delete_object()
    town.run(40)

    assert sha(town.live.template) == template(good)
    assert town.record().phase is Phase.HELD
    assert town.record().holds(bad.template, bad.digest)


# ---------------------------------------------------------------------------- any sequence

COMMITS = [
    commit("fluentd:1"), commit("fluentd:2"), commit("fluentd:bad"), commit("fluentd:worse-bad"),
    commit("fluentd:2", labels={"team": "logs"}), commit("fluentd:1", NATIVE),
    commit("fluentd:bad", NATIVE), commit("fluentd:3", minReadySeconds=7),
]  # fmt: skip
NODES = [f"n{i}" for i in range(4)]
STEPS = st.one_of(
    st.tuples(st.just("push"), st.sampled_from(COMMITS)),
    st.tuples(st.just("push"), st.sampled_from(COMMITS)),
    st.tuples(st.just("take_down"), st.sampled_from(NODES)),
    st.tuples(st.just("bring_up"), st.sampled_from(NODES)),
    st.tuples(st.just("edit_image"), st.sampled_from(["fluentd:bad", "fluentd:9"])),
    st.tuples(st.just("undo")),
    st.tuples(st.just("delete_object")),
    st.tuples(st.just("annotate"), st.just("dsgitops.io/suspend"), st.sampled_from(["{}", None])),
    st.tuples(st.just("annotate"), st.just("dsgitops.io/retry-at"), st.sampled_from("abc")),
)
BY_HAND = ("edit_image", "undo")


@settings(
    max_examples=int(os.environ.get("DSGITOPS_SEQUENCES", "25")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.lists(st.tuples(STEPS, st.integers(1, 12)), max_size=8))
def test_whatever_happens_the_fix_arrives_in_the_end(story):
    """S2, S4, S13, S16 and L1, L5 of the design over any sequence of steps."""
    town = town_with(COMMITS[0], count=4)
    armed_by_hand = False
    for (what, *arguments), steps in story:
        note(f"{what} {[getattr(each, 'commit', each) for each in arguments]}, then {steps} steps")
        getattr(town, what)(*arguments)
        armed_by_hand |= what in BY_HAND
        for _ in range(steps):
            watch(town, armed_by_hand=armed_by_hand)
    for name in NODES:
        town.bring_up(name)
    town.annotate("dsgitops.io/suspend", None)
    fix = commit("fluentd:fixed")
    town.push(fix)
    for _ in range(110):
        watch(town, armed_by_hand=armed_by_hand)

    assert is_at_rest_on(town, fix)
    town.said.clear()
    town.run(10)
    assert not any(decision.actions for decision in town.said)


def watch(town, *, armed_by_hand):
    """Make one step and look at what it did."""
    before, held = town.record(), {each.template for each in town.record().quarantine}
    said = len(town.said)
    town.run()
    after = town.record()

    assert after is not None
    if before.last_good is not None:
        assert after.last_good is not None
        assert after.last_good.hash in {each.hash for each in town.revisions}
    for decision in town.said[said:]:
        for action in decision.actions:
            released = after.retried != before.retried
            if isinstance(action, Apply) and not released:
                assert sha(action.body["spec"]["template"]) not in held
            if isinstance(action, Restore):
                good = after.last_good.hash
                written = {
                    k: v for k, v in action.body["spec"]["template"].items() if k != "$patch"
                }
                assert next(r for r in town.revisions if r.hash == good).template == written
            if isinstance(action, DeletePod):
                assert action.node not in town.down
    if not armed_by_hand:
        spared = set(after.bad_before.nodes) if after.bad_before else set()
        assert len(town.out - set(town.down) - spared) <= town.most()
