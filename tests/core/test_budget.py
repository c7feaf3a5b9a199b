"""Which pods may go: never more nodes out by our hand than maxUnavailable."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from core.builders import (
    LONG_AGO,
    NOW,
    UID,
    ZONE,
    broken,
    desired,
    hash_of,
    live,
    node,
    nodes,
    pod,
    record,
    revision,
    seconds,
)
from hypothesis import given
from hypothesis import strategies as st

from dsgitops.core import budget
from dsgitops.core.budget import View, canary, next_deletions, order, resolve
from dsgitops.core.health import Question, judge
from dsgitops.core.model import NodeState, Policy

A, B = desired("fluentd:1"), desired("fluentd:2")


def view(pods, fleet, *, most=1, policy=None, bad_before=(), now=NOW, min_ready=0):
    """The view of a rollout from A to B, judged for real."""
    policy = policy or Policy()
    content = desired("fluentd:2", minReadySeconds=min_ready) if min_ready else B
    seen = live(content, record(content), hold=True)
    judgement = judge(
        Question(
            live=seen, target=revision(B, 2), pods=pods, nodes=fleet, live_since=LONG_AGO,
            policy=policy, started=NOW - seconds(100), bad_before=frozenset(bad_before), now=now,
        )
    )  # fmt: skip
    return View(
        uid=UID, judgement=judgement, pods=pods, nodes=fleet, target=hash_of(B),
        max_unavailable=most, min_ready_seconds=min_ready, policy=policy, now=now,
    )  # fmt: skip


def fleet_of(old=(), new=(), starting=(), going=(), out=()):
    """Pods by what they are; `out`: old ones that are not available."""
    return (
        *(pod(name, A) for name in old),
        *(pod(name, A, ready=False) for name in out),
        *(pod(name, A, deleting=NOW + seconds(20)) for name in going),
        *(pod(name, B, since=NOW - seconds(50)) for name in new),
        *(pod(name, B, ready=False, since=NOW - seconds(5)) for name in starting),
    )


def gone_now(seen, *, canary_only=False):
    return [each.node for each in next_deletions(seen, canary_only=canary_only)]


FLEET = nodes(10, zones=3)
NAMES = [each.name for each in FLEET]
IN_ORDER = order(UID, FLEET)


@pytest.mark.parametrize(
    ("value", "count", "expected"),
    [(2, 10, 2), ("10%", 10, 1), ("10%", 11, 2), ("1%", 1, 1), ("100%", 7, 7), ("0%", 7, 0)],
)
def test_percentages_round_up_as_the_controller_does(value, count, expected):
    assert resolve(value, nodes=count) == expected


@pytest.mark.parametrize("value", ["2", "", "%", "abc%"])
def test_what_is_neither_count_nor_percentage_is_an_error(value):
    with pytest.raises(ValueError):  # noqa: PT011 - int()'s own text differs
        resolve(value, nodes=3)


@pytest.mark.parametrize("most", ["abc", "2", 0, "0%"])
def test_a_limit_that_cannot_be_read_is_one_node(most):
    assert budget.limit(view(fleet_of(NAMES), FLEET, most=most)) == 1


def test_as_many_go_as_may_be_out():
    assert len(gone_now(view(fleet_of(NAMES), FLEET, most=3))) == 3
    assert len(gone_now(view(fleet_of(NAMES), FLEET, most="25%"))) == 3


def test_a_window_slides_one_goes_as_soon_as_one_is_available():
    seen = view(fleet_of(NAMES[3:], NAMES[:2], NAMES[2:3]), FLEET, most=2)

    assert len(gone_now(seen)) == 1


def test_terminating_pods_take_budget():
    assert gone_now(view(fleet_of(NAMES[1:], going=NAMES[:1]), FLEET)) == []


def test_a_node_without_a_pod_takes_budget():
    assert gone_now(view(fleet_of(NAMES[1:]), FLEET)) == []


def test_an_available_pod_waits_while_another_is_out_for_whatever_cause():
    seen = view(fleet_of(NAMES[1:], out=NAMES[:1]), FLEET)

    assert gone_now(seen) == NAMES[:1]


def test_a_shared_blip_is_no_licence_to_replace_the_fleet():
    first = view(fleet_of(out=NAMES), FLEET, most=2)
    next_turn = view(fleet_of(out=NAMES[2:], starting=NAMES[:2]), FLEET, most=2)

    assert len(gone_now(first)) == 2
    assert gone_now(next_turn) == []


def test_a_pod_counts_as_available_only_after_min_ready_seconds():
    pods = (
        *fleet_of(NAMES[1:]),
        pod(NAMES[0], B, since=NOW - seconds(20)),
    )

    assert gone_now(view(pods, FLEET, min_ready=30)) == []
    assert len(gone_now(view(pods, FLEET, min_ready=10))) == 1


def test_pods_on_nodes_that_are_not_ready_are_never_deleted():
    down = tuple(replace(each, ready="Unknown", ready_since=LONG_AGO) for each in FLEET[:9])

    assert gone_now(view(fleet_of(NAMES), (*down, FLEET[9]), most=5)) == [NAMES[9]]


def test_a_node_that_went_away_takes_budget_until_the_progress_deadline():
    def with_one_away(since):
        away = replace(FLEET[0], ready="Unknown", ready_since=since)
        return view(fleet_of(NAMES), (away, *FLEET[1:]))

    assert gone_now(with_one_away(NOW - timedelta(minutes=5))) == []
    assert len(gone_now(with_one_away(NOW - timedelta(minutes=10)))) == 1


def test_nodes_that_were_bad_before_block_nothing():
    away = replace(FLEET[0], ready="Unknown", ready_since=NOW - seconds(30))
    seen = view(fleet_of(NAMES), (away, *FLEET[1:]), bad_before=NAMES[:1])

    assert len(gone_now(seen)) == 1


def test_a_bad_node_on_a_ready_kubelet_gets_the_new_pod_first():
    seen = view(fleet_of(NAMES[1:], out=NAMES[:1]), FLEET, bad_before=NAMES[:1])

    assert gone_now(seen)[0] == NAMES[0]


def test_bad_nodes_are_not_all_replaced_at_once():
    many = NAMES[:6]
    one_going = (*fleet_of(NAMES[6:], out=many[1:]), pod(many[0], A, deleting=NOW + seconds(20)))

    seen = view(one_going, FLEET, bad_before=many)

    assert gone_now(seen) == []


def test_two_suspects_or_one_pause_everything():
    seen = view(fleet_of(NAMES), FLEET, most=5)

    assert gone_now(replace(seen, judgement=replace(seen.judgement, suspects=("x",)))) == []


def test_the_order_goes_round_the_zones_and_stays_the_same():
    zone_of = {each.name: each.labels[ZONE] for each in FLEET}

    assert sorted(IN_ORDER) == sorted(NAMES)
    assert {zone_of[name] for name in IN_ORDER[:3]} == {"z0", "z1", "z2"}
    assert {zone_of[name] for name in IN_ORDER[3:6]} == {"z0", "z1", "z2"}
    assert order(UID, reversed(FLEET)) == IN_ORDER


def test_two_daemonsets_do_not_pick_the_same_canary():
    firsts = {order(f"uid-{i}", FLEET)[0] for i in range(30)}

    assert len(firsts) > 3


# ---------------------------------------------------------------------------- canary


def test_the_canary_is_as_many_nodes_as_asked_under_the_same_budget():
    policy = Policy(canary_nodes=3)

    assert len(gone_now(view(fleet_of(NAMES), FLEET, most=5, policy=policy), canary_only=True)) == 3
    assert len(gone_now(view(fleet_of(NAMES), FLEET, most=2, policy=policy), canary_only=True)) == 2


def test_it_stops_at_its_number_until_it_is_over():
    seen = view(fleet_of(NAMES[1:], NAMES[:1]), FLEET, most=5)

    assert gone_now(seen, canary_only=True) == []


def test_it_is_over_after_its_bake_time_from_availability():
    pods = (*fleet_of(NAMES[1:]), pod(NAMES[0], B, since=NOW - seconds(9)))
    later = NOW + seconds(1)

    early = canary(view(pods, FLEET))

    assert not early.over
    assert early.look_again == later
    assert canary(view(pods, FLEET, now=later)).over


@pytest.mark.parametrize(("count", "asked", "wanted"), [(1, 1, 0), (2, 5, 1), (5, 0, 0), (5, 3, 3)])
def test_on_one_node_it_is_the_rollout_and_one_node_is_always_left_out(count, asked, wanted):
    some = nodes(count)
    seen = view(fleet_of(each.name for each in some), some, policy=Policy(canary_nodes=asked))

    assert canary(seen).wanted == wanted
    assert canary(seen).over is (wanted == 0)


def test_dead_nodes_do_not_keep_a_canary_from_being_over():
    down = tuple(replace(each, ready="Unknown", ready_since=LONG_AGO) for each in FLEET[2:])
    pods = (*fleet_of(NAMES[1:]), pod(NAMES[0], B, since=NOW - seconds(60)))
    policy = Policy(canary_nodes=5)

    seen = view(pods, (*FLEET[:2], *down), policy=policy, bad_before=NAMES[2:])

    assert canary(seen).over


@pytest.mark.parametrize("up", [0, 1, 2])
def test_a_canary_is_not_over_unproved_because_the_others_are_silent_for_a_moment(up):
    """Seen on Kubernetes: the API was away, all nodes were Unknown, and the rollout went on."""
    silent = tuple(replace(each, ready="Unknown", ready_since=NOW) for each in FLEET[up:])
    pods = (*fleet_of(NAMES[1:]), pod(NAMES[0], B, ready=False, since=NOW))

    seen = canary(view(pods, (*FLEET[:up], *silent)))

    assert (seen.wanted, seen.over) == (1, False)


def test_a_canary_is_a_node_that_can_vote():
    seen = view(fleet_of(NAMES[3:], out=NAMES[:3]), FLEET, most=5, bad_before=NAMES[:3])

    assert gone_now(seen, canary_only=True) == [
        name for name in IN_ORDER if name not in NAMES[:3]
    ][:1]  # fmt: skip


# ---------------------------------------------------------------------------- any fleet


@st.composite
def fleets(draw):
    """Any fleet in any stage, with what is bad before and how many may be out."""
    count = draw(st.integers(1, 12))
    fleet, pods = [], []
    for i in range(count):
        ready = draw(st.sampled_from(["True", "True", "True", "False", "Unknown"]))
        since = NOW - seconds(draw(st.sampled_from([5, 60, 700])))
        each = node(f"n{i}", ready=ready, zone=f"z{i % 3}", since=since)
        fleet.append(each)
        kind = draw(
            st.sampled_from(["old", "old", "out", "new", "starting", "broken", "going", "none"])
        )
        pods += {
            "old": [pod(each.name, A)],
            "out": [pod(each.name, A, ready=False)],
            "new": [pod(each.name, B, since=NOW - seconds(30))],
            "starting": [pod(each.name, B, ready=False, since=NOW - seconds(5))],
            "broken": [broken(each.name, B, since=NOW - seconds(90))],
            "going": [pod(each.name, A, deleting=NOW + seconds(20))],
            "none": [],
        }[kind]
    bad = draw(st.sets(st.sampled_from([each.name for each in fleet]), max_size=3))
    most = draw(st.integers(1, 4) | st.sampled_from(["10%", "50%"]))
    policy = Policy(canary_nodes=draw(st.integers(0, 3)), max_failed_nodes=9)
    return view(tuple(pods), tuple(fleet), most=most, bad_before=bad, policy=policy), bad


@given(fleets(), st.booleans())
def test_never_more_nodes_out_by_our_hand_than_may_be(drawn, canary_only):
    seen, bad = drawn
    chosen = next_deletions(seen, canary_only=canary_only)
    if not chosen:
        return
    victims = {each.node for each in chosen}
    most = budget.limit(seen)
    up = {
        each.node
        for each in seen.pods
        if each.deleting is None and each.is_ready
    }  # fmt: skip
    standing = {
        each.node for each in seen.pods if each.deleting is None and each.hash != seen.target
    }
    long_gone = {
        each.name for each in seen.nodes
        if not each.is_ready and each.ready_since <= NOW - timedelta(minutes=10)
    }  # fmt: skip
    out = {each.name for each in seen.nodes} - up - bad - long_gone

    by_our_hand = {name for name in out if name not in standing} | victims
    assert len(by_our_hand - bad) <= most
    if victims & up:
        assert len((out | (victims & up)) - bad) <= most


@given(fleets(), st.booleans())
def test_only_old_pods_on_ready_nodes_that_should_run_it_are_deleted(drawn, canary_only):
    seen, _ = drawn
    ready = {each.name for each in seen.nodes if each.is_ready}

    for each in next_deletions(seen, canary_only=canary_only):
        assert each.hash != seen.target
        assert each.deleting is None
        assert each.node in ready
        assert seen.judgement.states[each.node] in (NodeState.OLD, NodeState.BAD_BEFORE)


@given(fleets())
def test_what_may_go_depends_on_no_order(drawn):
    seen, _ = drawn
    turned = replace(seen, pods=tuple(reversed(seen.pods)), nodes=tuple(reversed(seen.nodes)))

    assert gone_now(turned) == gone_now(seen)


@given(fleets())
def test_a_canary_never_asks_for_every_node(drawn):
    seen, _ = drawn
    first = canary(seen)

    assert first.wanted <= max(seen.judgement.total - 1, 0)
    assert first.over or first.wanted > 0


def bad_before_with_new_pod(age):
    """Two broken nodes; the first has had its new pod for `age` seconds and it is not ready."""
    two = NAMES[:2]
    new = pod(two[0], B, ready=False, since=NOW - seconds(age))
    pods = (*fleet_of(NAMES[2:], out=two[1:]), replace(new, created=NOW - seconds(age)))
    return gone_now(view(pods, FLEET, bad_before=two))


def test_a_bad_node_is_waited_for_as_long_as_its_new_pod_is_young():
    assert bad_before_with_new_pod(60) == []
    assert bad_before_with_new_pod(121) == NAMES[1:2]


def test_cordoned_nodes_whose_pods_are_fine_go_last():
    cordoned = replace(FLEET[int(IN_ORDER[0][-2:])], unschedulable=True)
    fleet = tuple(cordoned if each.name == cordoned.name else each for each in FLEET)

    seen = view(fleet_of(NAMES), fleet, bad_before=[cordoned.name], most=10)

    assert gone_now(seen)[-1] == cordoned.name


def test_a_young_pod_of_superseded_content_takes_budget_on_a_node_that_was_bad_before_too():
    cordoned = replace(FLEET[0], unschedulable=True)
    middle = pod(cordoned.name, "superseded", ready=False, since=NOW - seconds(5))
    fleet = (cordoned, *FLEET[1:])

    seen = view((*fleet_of(NAMES[1:]), middle), fleet, bad_before=[cordoned.name])

    assert gone_now(seen, canary_only=True) == [], "nobody else goes while it is out"
    assert gone_now(seen) == [cordoned.name]


def test_a_pod_whose_node_just_came_back_is_no_broken_pod():
    """Its kubelet tells late that it is ready, or the machine was started anew."""
    cut_off = pod(NAMES[0], A, ready=False)
    fleet = (replace(FLEET[0], ready_since=NOW - seconds(1)), *FLEET[1:])
    pods = (*fleet_of(NAMES[1:]), cut_off)

    assert gone_now(view(pods, fleet, bad_before=NAMES[:1]))[0] != NAMES[0]
    assert gone_now(view(pods, FLEET, bad_before=NAMES[:1]))[0] == NAMES[0]
    assert gone_now(view(pods, fleet)) == [], "and it takes its place in the budget"
    assert budget.recovers(view(pods, fleet)) == NOW + seconds(59)
