"""The table of rules: one story for each thing that can be the case."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from core.builders import (
    IMAGE,
    LONG_AGO,
    NOW,
    OURS,
    REF,
    SECRET,
    UID,
    broken,
    desired,
    edited,
    good,
    hash_of,
    live,
    node,
    nodes,
    observed,
    pod,
    record,
    revision,
    seconds,
)  # fmt: skip

from dsgitops.core import record as records
from dsgitops.core.actions import Apply, DeletePod, Recall, Rehearse, Remember, Restore
from dsgitops.core.decide import decide
from dsgitops.core.model import (
    FailureClass,
    Phase,
    Policy,
    Reason,
    Refusal,
    Rehearsal,
    Taint,
    Unreadable,
    WaitingFor,
)  # fmt: skip
from dsgitops.core.record import BadBefore, Quarantined

A = desired("fluentd:1")
B = desired("fluentd:2")
C = desired("fluentd:3")
NAMES = [each.name for each in nodes(3)]


def held(content, kind=FailureClass.READINESS_PROBE_FAILED):
    return Quarantined(
        digest=content.digest, template=content.template, hash=hash_of(content),
        commit=content.commit, failure_class=kind, at=LONG_AGO,
    )  # fmt: skip


def at_rest(content=A, **changes):
    return record(content, last_good=good(content), **changes)


def rolling(content=B, *, before=A, phase=Phase.ROLLING, **changes):
    """A rollout that began ten seconds ago."""
    given = {"reason": Reason.ROLLOUT_STARTED, "started": NOW - seconds(10)} | changes
    return record(content, phase=phase, last_good=good(before), **given)


def revisions(*contents, records_by=None):
    copies = records_by or {}
    return [revision(each, i + 1, copies.get(each.digest)) for i, each in enumerate(contents)]


def old_and_new(olds, news=(), *, since=None):
    since = since or NOW - seconds(5)
    return (
        *(pod(name, A) for name in olds),
        *(pod(name, B, since=since) for name in news),
    )


def in_flight(remembered, pods, *, of=B, hold=True, **more):
    """What is seen of a rollout from A to `of`."""
    seen = live(of, remembered, hold=hold, **more.pop("live", {}))
    return observed(seen, *revisions(A, of, records_by={of.digest: remembered}), pods=pods, **more)


def the(decision, kind):
    (found,) = [each for each in decision.actions if isinstance(each, kind)]
    return found


def body_record(action):
    return records.load(action.body["metadata"]["annotations"][records.ANNOTATION])


# ---------------------------------------------------------------------------- seeing nothing


def test_a_blind_view_never_reads_as_absent():
    decision = decide(A, observed(None, live_since=None), at_rest(), NOW)

    assert decision.reason is Reason.CLUSTER_UNREACHABLE
    assert not decision.actions


def test_nothing_is_done_while_the_controller_has_not_seen_the_spec():
    seen = live(A, at_rest(), observed_generation=3)

    decision = decide(B, observed(seen, *revisions(A)), at_rest(), NOW)

    assert decision.reason is Reason.CONTROLLER_STALE
    assert not decision.actions


def test_nor_is_an_object_adopted_then():
    decision = decide(A, observed(live(A, None, observed_generation=3)), None, NOW)

    assert decision.reason is Reason.CONTROLLER_STALE


# ---------------------------------------------------------------------------- not ours


def test_an_object_of_another_source_is_left_alone():
    other = replace(at_rest(), source="platform")

    decision = decide(B, observed(live(A, other), *revisions(A)), other, NOW)

    assert decision.reason is Reason.REFUSED
    assert not decision.actions


def test_a_record_of_a_newer_agent_is_only_read():
    newer = records.load('{"v":2,"source":"node-agents","phase":"Pausing"}')

    decision = decide(B, observed(live(A, None), *revisions(A)), newer, NOW)

    assert decision.reason is Reason.REFUSED
    assert not decision.actions


# ---------------------------------------------------------------------------- absent


def test_an_absent_object_is_created_with_its_record_and_without_a_hold():
    decision = decide(A, observed(None), None, NOW)

    body = the(decision, Apply).body
    assert decision.reason is Reason.ROLLOUT_STARTED
    assert "uid" not in body["metadata"]
    assert body["spec"]["updateStrategy"]["type"] == "RollingUpdate"
    assert body_record(the(decision, Apply)).phase is Phase.ROLLING


def test_an_object_that_was_deleted_comes_back_from_last_good_where_git_was_not_judged():
    remembered = rolling(B)

    asked = decide(B, observed(None), remembered, NOW)
    answered = decide(B, observed(None, recalled=A), remembered, NOW)

    assert the(asked, Recall).commit == A.commit
    assert the(answered, Apply).digest == A.digest
    assert body_record(the(answered, Apply)).last_good == remembered.last_good


def test_what_is_quarantined_is_not_created_even_where_nothing_else_is_known():
    remembered = record(B, phase=Phase.HELD, quarantine=(held(B),))

    decision = decide(B, observed(None), remembered, NOW)

    assert decision.reason is Reason.QUARANTINED
    assert not decision.actions


def test_a_suspended_object_is_not_created():
    asleep = desired(annotations={"dsgitops.io/suspend": '{"reason":"migration"}'})

    decision = decide(asleep, observed(None), None, NOW)

    assert decision.reason is Reason.SUSPENDED
    assert not decision.actions


def test_an_object_made_again_from_last_good_is_not_rolled_back_to_itself():
    remembered = record(
        A, phase=Phase.ROLLING, last_good=good(A), quarantine=(held(B),), started=NOW - seconds(30)
    )
    pods = tuple(pod(name, A, since=NOW - seconds(20)) for name in NAMES)
    seen = observed(live(A, remembered), *revisions(A), pods=pods)

    decision = decide(B, seen, remembered, NOW)

    assert not any(isinstance(each, Restore) for each in decision.actions)
    assert decision.reason is Reason.ROLLOUT_BAKING


def test_an_object_that_is_being_deleted_is_waited_for():
    decision = decide(A, observed(live(A, at_rest(), deleting=True)), at_rest(), NOW)

    assert decision.reason is Reason.MISSING
    assert not decision.actions


# ---------------------------------------------------------------------------- adoption


def adopted(pods, *, entry=None):
    managed = (entry or edited(*IMAGE, by="kubectl-client-side-apply"),)
    return observed(live(A, None, managed_fields=managed), *revisions(A), pods=pods)


def test_what_ran_available_for_the_bake_time_is_last_good_at_adoption():
    decision = decide(B, adopted(tuple(pod(name, A) for name in NAMES)), None, NOW)

    body = the(decision, Remember).body
    remembered = body_record(the(decision, Remember))
    assert remembered.last_good.hash == hash_of(A)
    assert remembered.last_good.digest is None
    assert [each["manager"] for each in body["metadata"]["managedFields"]] == ["dsgitops"]
    assert "spec" not in body


def test_what_is_younger_than_the_bake_time_is_waited_for():
    since = NOW - seconds(30)

    decision = decide(B, adopted(tuple(pod(n, A, since=since) for n in NAMES)), None, NOW)

    assert not decision.actions
    assert decision.look_again == since + timedelta(minutes=2)


def test_what_does_not_run_is_taken_over_and_is_nobodys_last_good():
    pods = (pod(NAMES[0], A), pod(NAMES[1], A), pod(NAMES[2], A, ready=False))

    decision = decide(B, adopted(pods), None, NOW)

    assert body_record(the(decision, Remember)).last_good is None


def test_a_pod_that_was_broken_before_the_adoption_fails_nothing():
    pods = (pod(NAMES[0], A), pod(NAMES[1], A), pod(NAMES[2], A, ready=False))
    taken = record(A)  # what runs equals Git, and was nobody's last good
    seen = observed(live(A, taken), *revisions(A), pods=pods)

    watched = body_record(the(decide(A, seen, taken, NOW), Remember))
    after = decide(A, replace(seen, live=live(A, watched)), watched, NOW + seconds(70))

    assert watched.bad_before == BadBefore(count=1, nodes=(NAMES[2],))
    assert after.reason is Reason.ROLLOUT_BAKING


def test_where_nothing_worked_before_the_adoption_it_is_told():
    pods = tuple(pod(name, A, ready=False) for name in NAMES)
    taken = record(A)
    seen = observed(live(A, taken), *revisions(A), pods=pods)

    watched = body_record(the(decide(A, seen, taken, NOW), Remember))
    after = decide(A, replace(seen, live=live(A, watched)), watched, NOW + seconds(70))

    assert watched.bad_before is None
    assert after.reason is Reason.ROLLOUT_FAILED


def test_nor_is_what_we_wrote_ourselves_excused_by_what_it_broke():
    """Released content that was nobody's last good, and is still broken on a node."""
    pods = (pod(NAMES[0], A), pod(NAMES[1], A), pod(NAMES[2], A, ready=False))
    ours = record(A)
    seen = observed(live(A, ours), *revisions(A, records_by={A.digest: ours}), pods=pods)

    watched = body_record(the(decide(A, seen, ours, NOW), Remember))

    assert watched.bad_before is None


def test_an_adopted_object_that_equals_git_gets_the_record_and_nothing_else():
    taken = record(A, digest="", template="", commit="", last_good=replace(
        good(A), digest=None, template=None, commit=None))  # fmt: skip
    seen = observed(live(A, taken), *revisions(A))

    asked = decide(A, seen, taken, NOW)
    answer = Rehearsal(digest=A.digest, generation=4, equal=True)
    answered = decide(A, replace(seen, rehearsal=answer), taken, NOW)

    assert the(asked, Rehearse).digest == A.digest
    remembered = body_record(the(answered, Remember))
    assert (remembered.digest, remembered.last_good.digest) == (A.digest, A.digest)
    assert remembered.phase is Phase.IDLE


def test_an_adopted_object_whose_template_differs_is_rolled_out_under_the_hold():
    taken = record(A, digest="", template="", commit="", last_good=replace(
        good(A), digest=None, template=None, commit=None))  # fmt: skip
    answer = Rehearsal(digest=B.digest, generation=4, equal=False, template_changes=True)

    decision = decide(B, observed(live(A, taken), *revisions(A), rehearsal=answer), taken, NOW)

    assert decision.reason is Reason.ROLLOUT_STARTED
    assert the(decision, Apply).body["spec"]["updateStrategy"]["type"] == "OnDelete"


def test_git_that_only_removes_from_an_adopted_template_is_no_change_without_restarts():
    more = desired("fluentd:1", env=[{"name": "TOKEN", "value": "x"}, {"name": "EXTRA"}])
    fewer = desired("fluentd:1", env=[{"name": "TOKEN", "value": "x"}])
    unknown = replace(good(more), digest=None, template=None, commit=None)
    back = record(more, digest="", template="", commit="", phase=Phase.HELD, last_good=unknown)

    decision = decide(fewer, observed(live(more, back), *revisions(more)), back, NOW)

    assert the(decision, Rehearse).digest == fewer.digest


# ---------------------------------------------------------------------------- starting


def test_new_content_is_written_under_the_hold_with_both_numbers_and_nothing_restarts():
    decision = decide(B, observed(live(A, at_rest()), *revisions(A)), at_rest(), NOW)

    body = the(decision, Apply).body
    assert decision.reason is Reason.ROLLOUT_STARTED
    assert body["metadata"]["uid"] == UID
    assert body["metadata"]["resourceVersion"] == "4711"
    assert body["spec"]["updateStrategy"] == {
        "type": "OnDelete", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0},
    }  # fmt: skip
    assert body["metadata"]["annotations"]["kubernetes.io/change-cause"] == B.commit
    remembered = body_record(the(decision, Apply))
    assert (remembered.phase, remembered.digest) == (Phase.CANARY, B.digest)
    assert remembered.last_good == good(A)


def test_fields_of_others_are_taken_over_before_new_content_is_written():
    seen = live(A, at_rest(), managed_fields=(OURS, edited("f:minReadySeconds")))

    decision = decide(B, observed(seen, *revisions(A)), at_rest(), NOW)

    assert "managedFields" in the(decision, Remember).body["metadata"]
    assert decision.aside


def test_a_change_of_labels_is_one_write_and_last_good_takes_its_digest_over():
    relabelled = desired("fluentd:1", labels={"team": "logs"})

    decision = decide(relabelled, observed(live(A, at_rest()), *revisions(A)), at_rest(), NOW)

    body = the(decision, Apply).body
    remembered = body_record(the(decision, Apply))
    assert decision.reason is Reason.IN_SYNC
    assert body["spec"]["updateStrategy"]["type"] == "RollingUpdate"
    assert remembered.phase is Phase.IDLE
    assert remembered.last_good.digest == relabelled.digest
    assert remembered.last_good.commit == relabelled.commit


def test_a_start_waits_for_its_window_and_takes_nothing_from_anybody_meanwhile():
    later = NOW + timedelta(hours=3)
    seen = live(A, at_rest(), managed_fields=(OURS, edited("f:minReadySeconds")))

    decision = decide(replace(B, opens=later), observed(seen, *revisions(A)), at_rest(), NOW)

    assert (decision.reason, decision.waiting_for) == (Reason.WAITING, WaitingFor.WINDOW)
    assert decision.look_again == later
    assert "managedFields" not in the(decision, Remember).body["metadata"]


def test_what_is_waited_for_is_written_into_the_record_once():
    policy = Policy(max_concurrent_rollouts=1)
    content = desired("fluentd:2", policy=policy)
    first = decide(
        content, observed(live(A, at_rest()), *revisions(A), rolling_elsewhere=1), at_rest(), NOW
    )
    known = body_record(the(first, Remember))
    second = decide(
        content, observed(live(A, known), *revisions(A), rolling_elsewhere=1), known, NOW
    )

    assert (known.reason, known.waiting_for) == (Reason.WAITING, WaitingFor.CONCURRENCY)
    assert second.reason is Reason.WAITING
    assert not second.actions


def test_a_change_that_restarts_nothing_waits_for_no_window():
    relabelled = replace(desired(labels={"a": "b"}), opens=NOW + timedelta(hours=3))

    decision = decide(relabelled, observed(live(A, at_rest()), *revisions(A)), at_rest(), NOW)

    assert the(decision, Apply)


def test_what_the_api_server_refused_is_not_sent_again():
    no = Refusal(digest=B.digest, what="spec.selector is immutable", code=422)

    decision = decide(B, observed(live(A, at_rest()), *revisions(A), refusal=no), at_rest(), NOW)

    assert decision.reason is Reason.REFUSED
    assert not any(isinstance(each, Apply) for each in decision.actions)


def test_a_lack_of_rights_is_tried_again_after_a_while():
    no = Refusal(digest=B.digest, what="not allowed", code=403, at=NOW - timedelta(minutes=6))

    decision = decide(B, observed(live(A, at_rest()), *revisions(A), refusal=no), at_rest(), NOW)

    assert the(decision, Apply)


# ---------------------------------------------------------------------------- guarded


def test_a_node_that_was_bad_before_and_serves_again_is_taken_out_of_service_like_any_other():
    """Else the next content would forget that it is out by our hand."""
    remembered = rolling(
        reason=Reason.ROLLOUT_PROGRESSING, bad_before=BadBefore(count=2, nodes=("gone", NAMES[0]))
    )
    gone = node("gone", ready="Unknown")
    seen = {"nodes": (*nodes(3), gone)}
    pods = old_and_new(NAMES[:1], NAMES[1:])

    first = decide(B, in_flight(remembered, pods, **seen), remembered, NOW)
    known = body_record(the(first, Remember))
    then = decide(B, in_flight(known, pods, **seen), known, NOW)

    assert known.bad_before == BadBefore(count=1, nodes=("gone",))
    assert not any(isinstance(each, DeletePod) for each in first.actions)
    assert the(then, DeletePod).node == NAMES[0]


def test_one_whose_pod_is_still_broken_stays_excused():
    remembered = rolling(
        reason=Reason.ROLLOUT_PROGRESSING, bad_before=BadBefore(count=1, nodes=(NAMES[0],))
    )
    pods = (pod(NAMES[0], A, ready=False), *old_and_new((), NAMES[1:]))

    decision = decide(B, in_flight(remembered, pods), remembered, NOW)

    assert the(decision, DeletePod).node == NAMES[0]


def ill(content=A, *, lost=90, on=NAMES[0]):
    """A pod that ran for long, and has not been ready for some seconds."""
    found = pod(on, content, ready=False, since=NOW - seconds(lost))
    ran = replace(found.containers[0], running_since=LONG_AGO)
    return replace(found, created=LONG_AGO, containers=(ran,))


STARTING = pod(NAMES[0], A, ready=False, since=NOW - seconds(85))


def test_a_node_whose_old_pod_broke_by_itself_is_excused_before_the_pod_is_deleted():
    remembered = rolling(reason=Reason.ROLLOUT_PROGRESSING, started=NOW - seconds(600))
    others = old_and_new(NAMES[1:2], NAMES[2:])

    first = decide(B, in_flight(remembered, (ill(), *others)), remembered, NOW)
    known = body_record(the(first, Remember))
    then = decide(B, in_flight(known, (ill(), *others)), known, NOW)

    assert known.bad_before == BadBefore(count=1, nodes=(NAMES[0],))
    assert not any(isinstance(each, DeletePod) for each in first.actions)
    assert the(then, DeletePod).node == NAMES[0]
    as_ill = replace(pod(NAMES[0], B, ready=False), containers=(crashing(),))
    assert decide(B, in_flight(known, (as_ill, *others)), known, NOW).record.phase is Phase.ROLLING
    assert decide(B, in_flight(remembered, (as_ill, *others)), remembered, NOW).reason is (
        Reason.ROLLING_BACK
    )


@pytest.mark.parametrize(
    "pods",
    [
        (ill(lost=30), *old_and_new(NAMES[1:2], NAMES[2:])),
        (ill(), ill(on=NAMES[1]), pod(NAMES[2], B)),
        (ill(C), *old_and_new(NAMES[1:2], NAMES[2:])),
        (STARTING, *old_and_new(NAMES[1:2], NAMES[2:])),
    ],
    ids=["a moment ago", "what many share", "superseded content", "a first start"],
)
def test_nobody_is_excused_for(pods):
    remembered = rolling(reason=Reason.ROLLOUT_PROGRESSING, started=NOW - seconds(600))

    decision = decide(B, in_flight(remembered, pods), remembered, NOW)

    assert decision.record.bad_before is None
    assert the(decision, DeletePod)


def test_fewer_than_half_of_the_nodes_are_ever_excused():
    """Else content that breaks everywhere would be proved by the nodes that are left."""
    names = [each.name for each in nodes(6)]
    remembered = rolling(
        reason=Reason.ROLLOUT_PROGRESSING, started=NOW - seconds(600),
        bad_before=BadBefore(count=2, nodes=tuple(names[:2])),
    )  # fmt: skip
    pods = (*(pod(name, B) for name in names[:2]), ill(on=names[2]), *old_and_new(names[3:]))

    decision = decide(B, in_flight(remembered, pods, nodes=nodes(6)), remembered, NOW)

    assert decision.record.bad_before.count == 2
    assert the(decision, DeletePod).node == names[2]


def test_who_runs_on_nodes_that_leave_says_nothing_of_those_that_stay():
    remembered = rolling(reason=Reason.ROLLOUT_PROGRESSING, started=NOW - seconds(600))
    taint = Taint(key="gpu", effect="NoSchedule")
    going = [replace(node(f"going-{n}"), taints=(taint,)) for n in range(3)]
    pods = (ill(), ill(on=NAMES[1]), ill(on=NAMES[2]), *(pod(each.name, A) for each in going))

    decision = decide(B, in_flight(remembered, pods, nodes=(*nodes(3), *going)), remembered, NOW)

    assert decision.record.bad_before is None


def test_nobody_is_excused_where_the_record_would_drop_others_for_it():
    def known(count):
        bad = BadBefore(count=count, nodes=tuple(each.name for each in many[:count]))
        return rolling(
            reason=Reason.ROLLOUT_PROGRESSING, started=NOW - seconds(600), bad_before=bad
        )

    def fits(record):
        return records.load(records.dump(record)) == record

    many = [node(f"ip-10-0-{n:03}.{'x' * 100}.internal") for n in range(400)]
    full = known(max(count for count in range(200) if fits(known(count))))
    pods = (ill(on=many[399].name), *(pod(each.name, A) for each in many[:399]))

    decision = decide(B, in_flight(full, pods, nodes=many), full, NOW)

    assert the(decision, DeletePod).node == many[399].name


def looked_at(content, known, pods, fleet, looks=6):
    """Return what a rollout writes and deletes, the record written down after each look."""
    done = []
    for at in (NOW + seconds(n) for n in range(looks)):
        decision = decide(content, in_flight(known, pods, of=content, nodes=fleet), known, at)
        done.append([type(each).__name__ for each in decision.actions])
        for action in decision.actions:
            known = body_record(action) if isinstance(action, Remember) else known
    return done


@pytest.mark.parametrize("how", ["cordoned", "ill"])
def test_more_bad_nodes_than_a_record_holds_are_written_once(how):
    fleet = [node(f"ip-10-0-{n:03}.{'x' * 60}.internal") for n in range(300)]
    away = {each.name for each in fleet[:120]}
    if how == "cordoned":
        fleet = [replace(each, unschedulable=each.name in away) for each in fleet]
    ill_ones = how == "ill"
    pods = [ill(on=each.name) if ill_ones and each.name in away else pod(each.name, A)
            for each in fleet]  # fmt: skip

    done = looked_at(B, rolling(), pods, fleet)

    assert done == [["Remember"], *[["DeletePod"]] * 5]


def test_a_pod_that_is_ready_but_young_is_excused_or_not_but_not_in_turns():
    content = replace(desired("fluentd:2", minReadySeconds=300), policy=Policy(canary_nodes=0))
    known = rolling(content)
    known = replace(known, last_good=replace(known.last_good, min_ready_seconds=300))
    young = replace(pod(NAMES[0], A, since=NOW - seconds(30)), created=LONG_AGO)

    done = looked_at(content, known, (young, *old_and_new(NAMES[1:])), nodes(3))

    assert done[:2] == [["Remember"], ["DeletePod"]]
    assert ["Remember"] not in done[1:]


def test_first_the_nodes_that_are_bad_already_are_remembered():
    remembered = rolling(phase=Phase.CANARY)
    pods = (pod(NAMES[0], A), pod(NAMES[1], A, ready=False), pod(NAMES[2], A))

    decision = decide(B, in_flight(remembered, pods), remembered, NOW)

    assert body_record(the(decision, Remember)).bad_before == BadBefore(
        count=1, nodes=(NAMES[1],)
    )  # fmt: skip
    assert not any(isinstance(each, DeletePod) for each in decision.actions)


def test_a_pod_that_a_dead_node_never_lets_go_keeps_nobody_from_seeing_who_was_bad():
    remembered = rolling(phase=Phase.CANARY)
    dead = node("node-09", ready="Unknown")
    pods = (*old_and_new(NAMES), pod("node-09", A, deleting=LONG_AGO))

    decision = decide(B, in_flight(remembered, pods, nodes=(*nodes(3), dead)), remembered, NOW)

    assert body_record(the(decision, Remember)).bad_before.nodes == ("node-09",)


@pytest.mark.parametrize("joined", [(), (pod("node-09", B, ready=False, since=NOW),)])
def test_a_node_that_joins_meanwhile_keeps_nobody_from_seeing_who_was_bad(joined):
    """Or one whose pod is never there for long: with hundreds of nodes there is always one."""
    remembered = rolling(phase=Phase.CANARY)
    lost = pod(NAMES[0], A, ready=False, since=NOW - seconds(1))
    pods = (lost, pod(NAMES[1], A, ready=False), pod(NAMES[2], A), *joined)
    fleet = (*nodes(3), node("node-09", since=NOW - seconds(5)))

    decision = decide(B, in_flight(remembered, pods, nodes=fleet), remembered, NOW)

    known = body_record(the(decision, Remember))
    assert known.bad_before == BadBefore(count=1, nodes=(NAMES[1],))
    again = decide(B, in_flight(known, pods, nodes=fleet), known, NOW)
    assert not any(isinstance(each, Remember) for each in again.actions)


def test_a_node_that_went_away_after_the_write_may_be_without_a_pod_by_our_hand():
    """Seen on Kubernetes: an outage of the API right after the first deletion.

    When it was over all nodes had been silent, and the canary passed for bad before: a second node
    was taken.
    """
    remembered = rolling(phase=Phase.CANARY)
    silent = node(NAMES[0], ready="Unknown", since=NOW - seconds(1))
    pods = (pod(NAMES[1], A, ready=False, since=NOW - seconds(1)), pod(NAMES[2], A))

    decision = decide(
        B, in_flight(remembered, pods, nodes=(silent, *nodes(3)[1:])), remembered, NOW
    )

    assert body_record(the(decision, Remember)).bad_before is None
    assert not any(isinstance(each, DeletePod) for each in decision.actions)


def test_the_canary_is_one_pod_with_both_preconditions():
    remembered = rolling(phase=Phase.CANARY)

    decision = decide(B, in_flight(remembered, old_and_new(NAMES)), remembered, NOW)

    deletion = the(decision, DeletePod)
    victim = next(each for each in old_and_new(NAMES) if each.name == deletion.pod)
    assert (deletion.uid, deletion.resource_version) == (victim.uid, victim.resource_version)


def test_nothing_more_goes_until_the_canary_has_been_available_for_its_bake_time():
    remembered = rolling(phase=Phase.CANARY)
    ready_since = NOW - seconds(4)
    pods = old_and_new(NAMES[1:], NAMES[:1], since=ready_since)

    decision = decide(B, in_flight(remembered, pods), remembered, NOW)

    assert not decision.actions
    assert decision.look_again == ready_since + seconds(10)


def test_then_the_rest_begins():
    remembered = rolling(phase=Phase.CANARY)
    pods = old_and_new(NAMES[1:], NAMES[:1], since=NOW - seconds(11))

    decision = decide(B, in_flight(remembered, pods), remembered, NOW)

    assert body_record(the(decision, Remember)).phase is Phase.ROLLING


def test_the_next_pod_goes_once_one_is_available():
    remembered = rolling(reason=Reason.ROLLOUT_PROGRESSING)

    waiting = decide(
        B, in_flight(remembered, (*old_and_new(NAMES[1:]), pod(NAMES[0], B, ready=False,
                                                             since=NOW - seconds(3)))),
        remembered, NOW,
    )  # fmt: skip
    going = decide(B, in_flight(remembered, old_and_new(NAMES[1:], NAMES[:1])), remembered, NOW)

    assert not waiting.actions
    assert the(going, DeletePod).node in NAMES[1:]


def test_when_all_are_updated_gits_strategy_returns_and_the_bake_begins():
    remembered = rolling(reason=Reason.ROLLOUT_PROGRESSING)

    decision = decide(B, in_flight(remembered, old_and_new([], NAMES)), remembered, NOW)

    apply = the(decision, Apply)
    assert decision.reason is Reason.ROLLOUT_BAKING
    assert apply.body["spec"]["updateStrategy"]["type"] == "RollingUpdate"
    assert body_record(apply).phase is Phase.BAKING


def test_after_the_bake_it_is_last_good_with_gits_strategy():
    remembered = rolling(phase=Phase.BAKING, reason=Reason.ROLLOUT_BAKING,
                         started=NOW - timedelta(minutes=2))  # fmt: skip
    pods = old_and_new([], NAMES, since=NOW - timedelta(minutes=3))

    decision = decide(B, in_flight(remembered, pods, hold=False), remembered, NOW)

    known = body_record(the(decision, Remember))
    assert decision.reason is Reason.ROLLOUT_FINISHED
    assert (known.phase, known.last_good.digest) == (Phase.IDLE, B.digest)
    assert known.last_good.strategy["type"] == "RollingUpdate"


def test_where_no_node_matches_it_finishes_with_a_warning_and_last_good_stays():
    remembered = rolling(phase=Phase.BAKING, reason=Reason.ROLLOUT_BAKING,
                         started=NOW - timedelta(minutes=2))  # fmt: skip

    decision = decide(B, in_flight(remembered, (), hold=False, nodes=()), remembered, NOW)

    assert decision.reason is Reason.ROLLOUT_FINISHED
    assert body_record(the(decision, Remember)).last_good == good(A)
    assert "No node matches" in decision.because


def test_content_that_makes_the_same_template_restarts_nothing_and_does_not_bake():
    same = desired("fluentd:1", env=[{"name": "TOKEN", "value": SECRET}], minReadySeconds=5)
    other = replace(same, template="sha256:written-otherwise")
    remembered = record(other, phase=Phase.CANARY, last_good=good(A), started=NOW - seconds(5),
                        reason=Reason.ROLLOUT_STARTED)  # fmt: skip
    seen = live(other, remembered, hold=True)
    pods = tuple(pod(name, A) for name in NAMES)

    decision = decide(other, observed(seen, *revisions(A), pods=pods), remembered, NOW)

    known = body_record(the(decision, Apply))
    assert decision.reason is Reason.IN_SYNC
    assert (known.phase, known.last_good.digest) == (Phase.IDLE, other.digest)
    assert known.last_good.hash == hash_of(A)


def test_a_restarted_agent_looks_at_the_pods_before_it_says_anything():
    remembered = rolling()
    seen = observed(live(B, remembered, hold=True), *revisions(A, B))

    decision = decide(B, seen, remembered, NOW)

    assert decision.follow
    assert decision.aside
    assert not decision.actions


def test_what_happens_to_a_dead_node_stalls_the_rollout_and_is_told():
    remembered = rolling(reason=Reason.ROLLOUT_PROGRESSING)
    gone = node("node-02", ready="Unknown", since=NOW - seconds(60))
    pods = (*old_and_new([], NAMES[:2]), pod("node-02", A))

    decision = decide(B, in_flight(remembered, pods, nodes=(*nodes(2), gone)), remembered, NOW)

    assert decision.reason is Reason.ROLLOUT_STALLED
    assert "node-02" in decision.because


# ---------------------------------------------------------------------------- failing


def failing(policy=None, *, before=A, **more):
    content = replace(B, policy=policy or Policy())
    remembered = rolling(phase=Phase.CANARY, before=before, **more)
    pods = (*old_and_new(NAMES[1:]), broken(NAMES[0], B, since=NOW - seconds(8)))
    return content, remembered, pods


def with_missing_image(pods):
    return tuple(
        replace(each, containers=tuple(
            replace(c, waiting_reason="InvalidImageName", waiting_message="bad name")
            if c.waiting_reason else c for c in each.containers))
        for each in pods
    )  # fmt: skip


def test_a_failed_rollout_goes_back_exactly_with_the_quarantine_in_the_same_write():
    content, remembered, pods = failing()
    seen = in_flight(remembered, with_missing_image(pods))

    decision = decide(content, seen, remembered, NOW)

    body = the(decision, Restore).body
    known = body_record(the(decision, Restore))
    assert decision.reason is Reason.ROLLING_BACK
    assert body["spec"]["template"] == {**revisions(A)[0].template, "$patch": "replace"}
    assert body["spec"]["updateStrategy"]["type"] == "RollingUpdate"
    assert body["spec"]["minReadySeconds"] == 0
    assert body["metadata"]["resourceVersion"] == "4711"
    assert known.phase is Phase.ROLLING_BACK
    assert [each.digest for each in known.quarantine] == [B.digest]
    assert known.quarantine[0].nodes == (NAMES[0],)
    assert known.digest == A.digest
    assert known.last_good == remembered.last_good


def test_newer_content_waits_for_the_rollback():
    _, remembered, pods = failing()

    decision = decide(C, in_flight(remembered, with_missing_image(pods)), remembered, NOW)

    assert the(decision, Restore)


def test_where_the_revision_is_gone_last_goods_commit_is_read_and_applied():
    content, remembered, pods = failing()
    seen = replace(
        in_flight(remembered, with_missing_image(pods)), revisions=tuple(revisions(B))
    )  # fmt: skip

    asked = decide(content, seen, remembered, NOW)
    answered = decide(content, replace(seen, recalled=A), remembered, NOW)

    assert the(asked, Recall).commit == A.commit
    assert the(answered, Apply).digest == A.digest
    assert body_record(the(answered, Apply)).phase is Phase.ROLLING_BACK
    assert "every pod restarts" in answered.because


def test_with_rollback_manual_it_is_held_where_it_stands():
    content, remembered, pods = failing(Policy(rollback="manual"))

    decision = decide(content, in_flight(remembered, with_missing_image(pods)), remembered, NOW)

    known = body_record(the(decision, Remember))
    assert decision.reason is Reason.ROLLOUT_FAILED
    assert (known.phase, known.quarantine[0].digest) == (Phase.HELD, B.digest)


def test_with_rollback_off_it_is_told_and_nothing_is_written():
    content, remembered, pods = failing(Policy(rollback="off"))

    decision = decide(content, in_flight(remembered, with_missing_image(pods)), remembered, NOW)

    assert decision.reason is Reason.ROLLOUT_FAILED
    assert not decision.actions


def test_with_rollback_off_the_fix_goes_on_all_the_same():
    _, remembered, pods = failing()
    fix = replace(C, policy=Policy(rollback="off"))

    decision = decide(fix, in_flight(remembered, with_missing_image(pods)), remembered, NOW)

    assert decision.reason is Reason.ROLLOUT_SUPERSEDED


def test_a_first_revision_that_fails_is_held_by_ondelete():
    remembered = record(B, phase=Phase.ROLLING, started=NOW - seconds(10))
    pods = with_missing_image(broken(name, B, since=NOW - seconds(8)) for name in NAMES)

    decision = decide(
        B, observed(live(B, remembered), *revisions(B), pods=pods), remembered, NOW
    )  # fmt: skip

    remember = the(decision, Remember)
    assert decision.reason is Reason.ROLLOUT_FAILED
    assert remember.body["spec"] == {"updateStrategy": {"type": "OnDelete"}}
    assert body_record(remember).phase is Phase.HELD


def test_nodes_of_the_baseline_that_left_are_not_counted():
    content, remembered, pods = failing(bad_before=BadBefore(count=3, nodes=("a", "b", "c")))

    decision = decide(content, in_flight(remembered, with_missing_image(pods)), remembered, NOW)

    assert decision.reason is Reason.ROLLING_BACK


def test_nor_are_those_that_leave():
    content, remembered, pods = failing(bad_before=BadBefore(count=3, nodes=("a", "b", "c")))
    taint = Taint(key="gpu", effect="NoSchedule")
    going = [replace(node(name), taints=(taint,)) for name in "abc"]
    fleet = (*nodes(3), *going)
    all_pods = (*with_missing_image(pods), *(pod(name, A) for name in "abc"))

    seen = in_flight(remembered, all_pods, nodes=fleet)

    assert decide(content, seen, remembered, NOW).reason is Reason.ROLLING_BACK


def test_where_no_old_pod_was_available_there_is_nothing_better():
    content, remembered, pods = failing(bad_before=BadBefore(count=3))  # no room for names

    decision = decide(content, in_flight(remembered, with_missing_image(pods)), remembered, NOW)

    assert decision.reason is Reason.ROLLOUT_FAILED
    assert not any(isinstance(each, Restore) for each in decision.actions)


# ---------------------------------------------------------------------------- rolling back


def going_back(**changes):
    given = {"started": NOW - seconds(20), "reason": Reason.ROLLING_BACK} | changes
    return record(A, phase=Phase.ROLLING_BACK, last_good=good(A), quarantine=(held(B),), **given)


def test_a_rollback_is_done_when_every_ready_node_is_available_again():
    remembered = going_back()
    pods = tuple(pod(name, A) for name in NAMES)

    decision = decide(
        B, observed(live(A, remembered), *revisions(A, B), pods=pods), remembered, NOW
    )  # fmt: skip

    known = body_record(the(decision, Remember))
    assert decision.reason is Reason.ROLLED_BACK
    assert known.phase is Phase.HELD
    assert B.commit[10:17] in decision.because


def test_a_rollback_goes_on_while_suspended_and_while_git_cannot_be_read():
    remembered = going_back()
    pods = (*(pod(name, A) for name in NAMES[1:]), broken(NAMES[0], B, since=NOW - seconds(60)))
    asleep = live(A, remembered, annotations={
        "dsgitops.io/suspend": "{}", records.ANNOTATION: records.dump(remembered)})  # fmt: skip
    unreadable = Unreadable(ref=REF, source="node-agents", what="a.yaml:1: bad",
                            manifest_invalid=True)  # fmt: skip

    for git in (B, unreadable, None):
        decision = decide(git, observed(asleep, *revisions(A, B), pods=pods), remembered, NOW)
        assert decision.reason is Reason.ROLLING_BACK


def test_a_rollback_that_does_not_move_fails_once_and_stops():
    remembered = going_back(started=NOW - timedelta(minutes=11))
    pods = tuple(broken(name, A, since=NOW - timedelta(minutes=11)) for name in NAMES)
    seen = observed(live(A, remembered), *revisions(A, B), pods=pods)

    failed = decide(B, seen, remembered, NOW)
    known = body_record(the(failed, Remember))
    after = decide(B, replace(seen, live=live(A, known)), known, NOW)

    assert failed.reason is Reason.ROLLBACK_FAILED
    assert known.phase is Phase.HELD
    assert after.reason is Reason.ROLLBACK_FAILED
    assert not after.actions


def test_a_rollback_waits_for_what_its_manifests_allow_a_stop_and_a_start():
    """Broken pods that take their grace period, and last good that needs longer than the deadline."""
    slow = desired(template={"metadata": {"labels": {"app": "fluentd"}}, "spec": {"containers": [
        {"name": "fluentd", "image": "fluentd:1", "startupProbe": {"failureThreshold": 90}}]}})  # fmt: skip
    remembered = replace(going_back(started=NOW), last_good=good(slow))
    going = pod(NAMES[0], B, ready=False, deleting=NOW + seconds(900), grace=900)
    coming = pod(NAMES[0], slow, ready=False, since=NOW + seconds(5))
    rest = tuple(pod(name, slow) for name in NAMES[1:])

    def told(one, after):
        seen = observed(live(slow, remembered), *revisions(slow, B), pods=(one, *rest))
        return decide(B, seen, remembered, NOW + seconds(after)).reason

    assert told(coming, 950) is Reason.ROLLING_BACK
    assert told(coming, 970) is Reason.ROLLBACK_FAILED
    assert told(going, 1800) is Reason.ROLLING_BACK
    assert told(going, 1870) is Reason.ROLLBACK_FAILED


def test_nothing_is_rolled_back_while_all_nodes_are_away():
    remembered = going_back()
    away = tuple(replace(each, ready="Unknown", ready_since=NOW) for each in nodes(3))
    pods = tuple(pod(name, A) for name in NAMES)

    decision = decide(
        B, observed(live(A, remembered), *revisions(A, B), pods=pods, nodes=away), remembered, NOW
    )  # fmt: skip

    assert decision.reason is Reason.ROLLING_BACK


def test_a_template_that_someone_changes_on_the_way_back_is_put_back_again():
    remembered = going_back()
    drifted = live(C, remembered, managed_fields=(OURS, edited(*IMAGE)))
    pods = tuple(pod(name, A) for name in NAMES)

    decision = decide(B, observed(drifted, *revisions(A, B, C), pods=pods), remembered, NOW)

    assert the(decision, Restore)
    assert "kubectl-edit" in decision.because


# ---------------------------------------------------------------------------- held


def rolled_back():
    return record(A, phase=Phase.HELD, reason=Reason.ROLLED_BACK, last_good=good(A),
                  quarantine=(held(B),))  # fmt: skip


def test_held_content_stays_out_and_nothing_is_written():
    decision = decide(B, observed(live(A, rolled_back()), *revisions(A, B)), rolled_back(), NOW)

    assert decision.reason is Reason.QUARANTINED
    assert not decision.actions


def test_a_new_label_around_a_held_template_does_not_free_it():
    relabelled = desired("fluentd:2", labels={"try": "again"})

    seen = observed(live(A, rolled_back()), *revisions(A, B))
    decision = decide(relabelled, seen, rolled_back(), NOW)

    assert decision.reason is Reason.QUARANTINED


def test_newer_content_goes_on_and_the_quarantine_stays():
    decision = decide(C, observed(live(A, rolled_back()), *revisions(A, B)), rolled_back(), NOW)

    known = body_record(the(decision, Apply))
    assert decision.reason is Reason.ROLLOUT_STARTED
    assert [each.digest for each in known.quarantine] == [B.digest]


def test_when_git_goes_back_to_last_good_it_is_at_rest_without_a_rollout():
    decision = decide(A, observed(live(A, rolled_back()), *revisions(A, B)), rolled_back(), NOW)

    known = body_record(the(decision, Remember))
    assert decision.reason is Reason.IN_SYNC
    assert known.phase is Phase.IDLE
    assert known.quarantine


def test_the_same_bad_content_pushed_again_is_held_at_once():
    back = replace(rolled_back(), phase=Phase.IDLE, reason=Reason.IN_SYNC)

    decision = decide(B, observed(live(A, back), *revisions(A, B)), back, NOW)

    assert decision.reason is Reason.QUARANTINED
    assert body_record(the(decision, Remember)).phase is Phase.HELD


@pytest.mark.parametrize("token", ["2026-11-21T05:00:00Z", f"2026/{B.digest}"])
def test_released_content_is_rolled_out_again_under_the_hold(token):
    seen = live(A, rolled_back())
    seen = replace(seen, annotations={**seen.annotations, "dsgitops.io/retry-at": token})

    released = decide(B, observed(seen, *revisions(A, B)), rolled_back(), NOW)
    known = body_record(the(released, Remember))
    after = decide(
        B,
        observed(replace(seen, annotations={
            "dsgitops.io/retry-at": token, records.ANNOTATION: records.dump(known)}),
            *revisions(A, B)),
        known, NOW,
    )  # fmt: skip

    assert known.quarantine == ()
    assert known.retried == token
    assert after.reason is Reason.ROLLOUT_STARTED
    assert the(after, Apply).body["spec"]["updateStrategy"]["type"] == "OnDelete"


def test_a_release_of_other_content_frees_nothing():
    seen = live(A, rolled_back())
    token = "1/sha256:other"
    seen = replace(seen, annotations={**seen.annotations, "dsgitops.io/retry-at": token})

    decision = decide(B, observed(seen, *revisions(A, B)), rolled_back(), NOW)

    known = body_record(the(decision, Remember))
    assert known.quarantine == (held(B),)
    assert known.phase is Phase.HELD


def test_drift_while_held_heals_towards_last_good():
    drifted = live(C, rolled_back(), managed_fields=(OURS, edited(*IMAGE)))

    decision = decide(B, observed(drifted, *revisions(A, B, C)), rolled_back(), NOW)

    assert decision.reason is Reason.DRIFT_HEALED
    assert the(decision, Restore).body["spec"]["template"]["spec"] == defaulted_template(A)


def defaulted_template(content):
    return revisions(content)[0].template["spec"]


def test_what_is_held_by_hand_under_manual_is_not_rolled_back_because_someone_touched_it():
    stays = record(B, phase=Phase.HELD, reason=Reason.ROLLOUT_FAILED, last_good=good(A),
                   quarantine=(held(B),))  # fmt: skip
    seen = live(B, stays, hold=True, managed_fields=(OURS, edited(*IMAGE)))

    decision = decide(B, observed(seen, *revisions(A, B)), stays, NOW)

    assert decision.reason is Reason.ROLLOUT_FAILED
    assert not decision.actions


# ---------------------------------------------------------------------------- superseding


@pytest.mark.parametrize("phase", [Phase.CANARY, Phase.ROLLING, Phase.BAKING])
def test_newer_content_is_written_at_once_under_the_same_hold(phase):
    remembered = rolling(phase=phase, bad_before=BadBefore(count=1, nodes=("node-09",)))
    pods = old_and_new(NAMES[2:], NAMES[:2])
    if phase is Phase.BAKING:
        pods = old_and_new([], NAMES)

    decision = decide(
        C, in_flight(remembered, pods, hold=phase is not Phase.BAKING), remembered, NOW
    )  # fmt: skip

    known = body_record(the(decision, Apply))
    assert decision.reason is Reason.ROLLOUT_SUPERSEDED
    assert the(decision, Apply).body["spec"]["updateStrategy"]["type"] == "OnDelete"
    assert (known.phase, known.digest) == (Phase.CANARY, C.digest)
    assert known.last_good == good(A)
    assert known.bad_before == remembered.bad_before
    assert known.quarantine == ()


def test_a_new_label_in_mid_rollout_is_one_write_and_the_rollout_goes_on():
    remembered = rolling(reason=Reason.ROLLOUT_PROGRESSING)
    relabelled = desired("fluentd:2", labels={"team": "logs"})

    decision = decide(
        relabelled, in_flight(remembered, old_and_new(NAMES[1:], NAMES[:1])), remembered, NOW
    )  # fmt: skip

    known = body_record(the(decision, Apply))
    assert (known.phase, known.started) == (Phase.ROLLING, remembered.started)
    assert the(decision, Apply).body["spec"]["updateStrategy"]["type"] == "OnDelete"


@pytest.mark.parametrize("phase", [Phase.CANARY, Phase.ROLLING, Phase.BAKING])
def test_git_back_on_last_good_in_mid_rollout_is_the_exact_rollback_and_no_quarantine(phase):
    remembered = rolling(phase=phase)

    decision = decide(
        A, in_flight(remembered, old_and_new(NAMES[1:], NAMES[:1])), remembered, NOW
    )  # fmt: skip

    known = body_record(the(decision, Restore))
    assert known.phase is Phase.ROLLING_BACK
    assert known.quarantine == ()


def test_then_it_is_at_rest():
    remembered = replace(going_back(), quarantine=())
    pods = tuple(pod(name, A) for name in NAMES)

    decision = decide(
        A, observed(live(A, remembered), *revisions(A, B), pods=pods), remembered, NOW
    )  # fmt: skip

    assert body_record(the(decision, Remember)).phase is Phase.IDLE
    assert "held" not in decision.because


def test_held_content_pushed_in_mid_rollout_goes_back_to_last_good():
    remembered = rolling(quarantine=(held(C),))

    decision = decide(
        C, in_flight(remembered, old_and_new(NAMES[1:], NAMES[:1])), remembered, NOW
    )  # fmt: skip

    assert the(decision, Restore)


def test_a_rollout_goes_on_while_newer_content_is_refused():
    remembered = rolling(reason=Reason.ROLLOUT_PROGRESSING)
    no = Refusal(digest=C.digest, what="spec.selector is immutable", code=422)

    decision = decide(
        C, in_flight(remembered, old_and_new(NAMES[1:], NAMES[:1]), refusal=no), remembered, NOW
    )  # fmt: skip

    assert the(decision, DeletePod)


# ---------------------------------------------------------------------------- no Git


@pytest.mark.parametrize("invalid", [True, False])
def test_what_git_says_illegibly_leaves_what_runs(invalid):
    unreadable = Unreadable(ref=REF, source="node-agents", what="a.yaml:3:1: no name",
                            manifest_invalid=invalid)  # fmt: skip

    decision = decide(unreadable, observed(live(A, at_rest()), *revisions(A)), at_rest(), NOW)

    assert decision.reason is (Reason.MANIFEST_INVALID if invalid else Reason.SOURCE_UNREADABLE)
    assert all(isinstance(each, Remember) for each in decision.actions)


@pytest.mark.parametrize("git", [None, Unreadable(
    ref=REF, source="node-agents", what="unread", manifest_invalid=False)])  # fmt: skip
def test_a_rollout_in_flight_goes_on_without_git(git):
    remembered = rolling(reason=Reason.ROLLOUT_PROGRESSING)

    decision = decide(
        git, in_flight(remembered, old_and_new(NAMES[1:], NAMES[:1])), remembered, NOW
    )  # fmt: skip

    assert the(decision, DeletePod)


def test_without_git_the_strategy_returns_by_the_numbers_that_stayed():
    remembered = rolling(reason=Reason.ROLLOUT_PROGRESSING)

    decision = decide(None, in_flight(remembered, old_and_new([], NAMES)), remembered, NOW)

    body = the(decision, Remember).body
    assert body["spec"] == {"updateStrategy": {"type": "RollingUpdate"}}


def test_what_git_no_longer_has_stays():
    decision = decide(None, observed(live(A, at_rest()), *revisions(A)), at_rest(), NOW)

    assert decision.reason is Reason.PRUNE_HELD
    assert not decision.actions


# ---------------------------------------------------------------------------- suspended


def asleep(content, remembered, **more):
    suspend = json.dumps({"reason": "migration", "by": "ann"})
    annotations = {"dsgitops.io/suspend": suspend, records.ANNOTATION: records.dump(remembered)}
    return live(content, remembered, annotations=annotations, **more)


def test_suspended_at_rest_nothing_is_written_and_the_reason_is_told():
    decision = decide(B, observed(asleep(A, at_rest()), *revisions(A)), at_rest(), NOW)

    assert decision.reason is Reason.SUSPENDED
    assert "by ann" in decision.because
    assert "migration" in decision.because
    assert not decision.actions


def test_suspended_in_mid_rollout_no_pod_is_deleted():
    remembered = rolling(reason=Reason.ROLLOUT_PROGRESSING)
    pods = old_and_new(NAMES[1:], NAMES[:1])
    seen = observed(asleep(B, remembered, hold=True), *revisions(A, B), pods=pods)

    decision = decide(B, seen, remembered, NOW)

    assert decision.reason is Reason.SUSPENDED
    assert not decision.actions


def test_a_native_rollout_is_paused_by_ondelete_when_suspended():
    native = replace(B, policy=Policy(mode="native"))
    remembered = rolling(reason=Reason.ROLLOUT_PROGRESSING)
    pods = old_and_new(NAMES[1:], NAMES[:1])
    seen = observed(asleep(B, remembered), *revisions(A, B), pods=pods)

    decision = decide(native, seen, remembered, NOW)

    assert the(decision, Remember).body["spec"] == {"updateStrategy": {"type": "OnDelete"}}


def test_a_suspension_ends_by_itself():
    until = {"until": "2026-11-21T04:59:00Z"}
    seen = live(A, at_rest(), annotations={
        "dsgitops.io/suspend": json.dumps(until),
        records.ANNOTATION: records.dump(at_rest())})  # fmt: skip

    decision = decide(A, observed(seen, *revisions(A)), at_rest(), NOW)

    assert decision.reason is Reason.IN_SYNC


# ---------------------------------------------------------------------------- native, OnDelete

NATIVE = replace(B, policy=Policy(mode="native", max_failed_nodes=2))
TWO = {"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 2}}}


def test_native_mode_writes_gits_strategy_with_the_baseline():
    pods = (pod(NAMES[0], A), pod(NAMES[1], A), pod(NAMES[2], A, ready=False))
    seen = observed(live(A, at_rest()), *revisions(A), pods=pods)

    decision = decide(NATIVE, seen, at_rest(), NOW)

    known = body_record(the(decision, Apply))
    assert the(decision, Apply).body["spec"]["updateStrategy"]["type"] == "RollingUpdate"
    assert known.phase is Phase.ROLLING
    assert known.bad_before == BadBefore(count=1, nodes=(NAMES[2],))


def test_native_mode_waits_while_more_pods_are_out_than_may_be():
    pods = (pod(NAMES[0], A), pod(NAMES[1], A, ready=False), pod(NAMES[2], A, ready=False))
    seen = observed(live(A, at_rest()), *revisions(A), pods=pods)

    decision = decide(NATIVE, seen, at_rest(), NOW)

    assert (decision.reason, decision.waiting_for) == (Reason.WAITING, WaitingFor.BUDGET)
    assert not any(isinstance(each, Apply) for each in decision.actions)


def test_native_mode_counts_readiness_with_the_new_min_ready_seconds():
    raised = replace(desired("fluentd:2", minReadySeconds=600), policy=Policy(mode="native"))
    pods = tuple(pod(name, A, since=NOW - seconds(60)) for name in NAMES)
    seen = observed(live(A, at_rest()), *revisions(A), pods=pods)

    decision = decide(raised, seen, at_rest(), NOW)

    assert (decision.reason, decision.waiting_for) == (Reason.WAITING, WaitingFor.BUDGET)


def native_in_flight(*, paused, one_broken):
    content = replace(desired("fluentd:2", **TWO), policy=NATIVE.policy)
    remembered = rolling(content, reason=Reason.ROLLOUT_PROGRESSING)
    new = broken(NAMES[0], content, since=NOW - seconds(8))
    crashed = replace(new, containers=(crashing(),))
    first = crashed if one_broken else pod(NAMES[0], content, since=NOW - seconds(5))
    pods = (first, pod(NAMES[1], A), pod(NAMES[2], A))
    return content, remembered, in_flight(remembered, pods, of=content, hold=paused)


def crashing():
    from dsgitops.core.model import Container, Ended  # noqa: PLC0415 - one story needs them

    last = Ended(reason="Error", exit_code=1, started=NOW - seconds(3), finished=NOW - seconds(2))
    return Container(name="fluentd", restarts=3, waiting_reason="CrashLoopBackOff", last=last)


def test_the_first_vote_in_native_mode_pauses_in_the_same_turn():
    content, remembered, seen = native_in_flight(paused=False, one_broken=True)

    decision = decide(content, seen, remembered, NOW)

    assert decision.judgement.votes == 1
    assert decision.judgement.votes_needed == 2
    assert the(decision, Remember).body["spec"] == {"updateStrategy": {"type": "OnDelete"}}


def test_it_stays_paused_while_the_vote_stands_and_goes_on_when_it_falls():
    content, remembered, seen = native_in_flight(paused=True, one_broken=True)
    stays = decide(content, seen, remembered, NOW)
    content, remembered, seen = native_in_flight(paused=True, one_broken=False)
    goes_on = decide(content, seen, remembered, NOW)

    assert not any("spec" in each.body for each in stays.actions)
    assert the(goes_on, Remember).body["spec"] == {"updateStrategy": {"type": "RollingUpdate"}}


def test_with_surge_the_controller_restarts_even_in_guarded_mode():
    surge = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    content = desired("fluentd:2", updateStrategy=surge)
    pods = tuple(pod(name, A) for name in NAMES)

    decision = decide(
        content, observed(live(A, at_rest()), *revisions(A), pods=pods), at_rest(), NOW
    )  # fmt: skip

    assert the(decision, Apply).body["spec"]["updateStrategy"] == surge


BY_PEOPLE = desired("fluentd:2", updateStrategy={"type": "OnDelete"})


def test_where_git_says_ondelete_no_pod_is_deleted_and_it_says_so():
    remembered = rolling(BY_PEOPLE, reason=Reason.ROLLOUT_PROGRESSING)
    pods = (pod(NAMES[0], BY_PEOPLE, since=NOW - seconds(60)), *old_and_new(NAMES[1:]))

    decision = decide(
        BY_PEOPLE, in_flight(remembered, pods, of=BY_PEOPLE, hold=False), remembered, NOW
    )  # fmt: skip

    assert decision.reason is Reason.ROLLOUT_STALLED
    assert "1 of 3 nodes" in decision.because
    assert not any(isinstance(each, DeletePod) for each in decision.actions)


def test_where_git_says_ondelete_it_is_written_once_and_nothing_is_held():
    decision = decide(BY_PEOPLE, observed(live(A, at_rest()), *revisions(A)), at_rest(), NOW)

    assert the(decision, Apply).body["spec"]["updateStrategy"]["type"] == "OnDelete"
    assert body_record(the(decision, Apply)).phase is Phase.ROLLING


# ---------------------------------------------------------------------------- drift


def in_other_bytes(content, number):
    """The revision that a newer control plane makes of the same template."""
    made = revision(content, number)
    template = dict(made.template)
    template["metadata"] = template["metadata"] | {"creationTimestamp": None}
    return replace(made, name="fluentd-rewritten", hash="rewritten", template=template)


@pytest.mark.parametrize("pods", [(), tuple(pod(f"node-{i:02}", A) for i in range(3))])
def test_a_control_plane_that_writes_revisions_in_other_bytes_is_no_change(pods):
    remembered = at_rest()
    twice = (revision(A, 1), in_other_bytes(A, 2))

    decision = decide(A, observed(live(A, remembered), *twice, pods=pods), remembered, NOW)

    assert decision.reason is Reason.IN_SYNC
    assert decision.actions == ()
    assert not decision.follow


def test_in_mid_rollout_pods_of_either_bytes_are_new():
    remembered = rolling(phase=Phase.ROLLING)
    news = tuple(
        replace(pod(name, B, since=NOW - seconds(5)), hash=hash_)
        for name, hash_ in (("node-00", hash_of(B)), ("node-01", "rewritten"))
    )
    seen = observed(
        live(B, remembered, hold=True),
        revision(A, 1),
        revision(B, 2),
        in_other_bytes(B, 3),
        pods=(*news, pod("node-02", A)),
    )

    decision = decide(B, seen, remembered, NOW)

    assert [each.node for each in decision.actions if isinstance(each, DeletePod)] == ["node-02"]


def test_in_sync_is_silence():
    decision = decide(A, observed(live(A, at_rest()), *revisions(A)), at_rest(), NOW)

    assert decision.reason is Reason.IN_SYNC
    assert not decision.actions
    assert decision.look_again is None


def test_a_template_that_someone_edited_is_put_back_exactly():
    drifted = live(C, at_rest(), managed_fields=(OURS, edited(*IMAGE)))

    decision = decide(A, observed(drifted, *revisions(A, C)), at_rest(), NOW)

    assert decision.reason is Reason.DRIFT_HEALED
    assert the(decision, Restore)
    assert "kubectl-edit" in decision.because


def test_a_field_outside_the_template_is_taken_over_then_written_again():
    spec = {**live(A, None).spec, "minReadySeconds": 30}
    drifted = live(A, at_rest(), spec=spec, managed_fields=(OURS, edited("f:minReadySeconds")))

    first = decide(A, observed(drifted, *revisions(A)), at_rest(), NOW)

    assert "managedFields" in the(first, Remember).body["metadata"]


def test_drift_that_comes_back_all_the_time_is_given_up_with_a_name():
    writes = tuple(NOW - timedelta(minutes=i) for i in range(5, 0, -1))
    fought = at_rest(writes=writes)
    drifted = live(C, fought, managed_fields=(OURS, edited(*IMAGE, by="shell-operator")))

    decision = decide(A, observed(drifted, *revisions(A, C)), fought, NOW)

    assert decision.reason is Reason.DRIFT_GIVEN_UP
    assert "shell-operator" in decision.because
    assert decision.look_again == writes[0] + timedelta(hours=1)
    assert not any(isinstance(each, Restore | Apply) for each in decision.actions)


def test_a_field_that_flux_applies_with_another_value_is_a_conflict():
    flux = edited(*IMAGE, by="kustomize-controller", operation="Apply")
    drifted = live(C, at_rest(), managed_fields=(OURS, flux))

    decision = decide(A, observed(drifted, *revisions(A, C)), at_rest(), NOW)

    assert decision.reason is Reason.CONFLICT
    assert "kustomize-controller" in decision.because
    assert ".spec.template.spec.containers[fluentd].image" in decision.because
    assert not any(isinstance(each, Restore | Apply) for each in decision.actions)


def test_a_field_that_flux_applies_with_our_value_is_no_drift():
    flux = edited(*IMAGE, by="kustomize-controller", operation="Apply")

    decision = decide(
        A, observed(live(A, at_rest(), managed_fields=(OURS, flux)), *revisions(A)), at_rest(), NOW
    )  # fmt: skip

    assert decision.reason is Reason.IN_SYNC


def test_a_failing_rollout_is_rolled_back_although_flux_holds_the_same_values():
    content, remembered, pods = failing()
    flux = edited(*IMAGE, by="kustomize-controller", operation="Apply")
    seen = in_flight(
        remembered, with_missing_image(pods), live={"managed_fields": (OURS, flux)}
    )  # fmt: skip

    assert the(decide(content, seen, remembered, NOW), Restore)


def test_a_difference_that_the_api_server_makes_itself_is_in_sync():
    relaxed = {**live(A, None).spec, "minReadySeconds": 7}
    content = desired("fluentd:1", minReadySeconds="7")  # as a webhook or conversion would have it
    remembered = at_rest(content)
    seen = observed(live(content, remembered, spec=relaxed), *revisions(content))

    asked = decide(content, seen, remembered, NOW)
    answer = Rehearsal(digest=content.digest, generation=4, equal=True)
    answered = decide(content, replace(seen, rehearsal=answer), remembered, NOW)

    assert the(asked, Rehearse)
    assert answered.reason is Reason.IN_SYNC
    assert not answered.actions


def test_an_undo_to_a_revision_that_was_good_is_respected_and_what_git_has_is_held():
    copy = record(B, phase=Phase.CANARY, last_good=good(A))
    remembered = at_rest(B)
    undone = live(A, remembered, managed_fields=(OURS, edited(*IMAGE, by="kubectl-rollout")))

    decision = decide(
        B, observed(undone, *revisions(A, B, records_by={B.digest: copy})), remembered, NOW
    )  # fmt: skip

    known = body_record(the(decision, Remember))
    assert known.quarantine[-1].failure_class is FailureClass.BY_HAND
    assert known.quarantine[-1].digest == B.digest
    assert known.quarantine[-1].by == "kubectl-rollout"
    assert known.last_good.hash == hash_of(A)


def test_an_undo_that_only_removed_a_field_is_seen_by_its_revision():
    more = desired("fluentd:1", env=[{"name": "TOKEN", "value": "x"}, {"name": "EXTRA"}])
    fewer = desired("fluentd:1", env=[{"name": "TOKEN", "value": "x"}])
    copies = {
        fewer.digest: record(fewer, phase=Phase.CANARY),
        more.digest: record(more, phase=Phase.CANARY, last_good=good(fewer)),
    }
    remembered = at_rest(more)
    seen = observed(live(fewer, remembered), *revisions(fewer, more, records_by=copies))

    decision = decide(more, seen, remembered, NOW)

    assert decision.reason is Reason.ROLLING_BACK
    assert decision.failure_class is FailureClass.BY_HAND


def test_an_undo_in_mid_rollout_is_completed_as_a_rollback():
    remembered = rolling(reason=Reason.ROLLOUT_PROGRESSING)
    undone = live(
        A, remembered, hold=True, managed_fields=(OURS, edited(*IMAGE, by="kubectl-rollout"))
    )  # fmt: skip
    seen = observed(undone, *revisions(A, B), pods=old_and_new(NAMES[1:], NAMES[:1]))

    decision = decide(B, seen, remembered, NOW)

    known = body_record(the(decision, Restore))
    assert known.phase is Phase.ROLLING_BACK
    assert known.quarantine[0].failure_class is FailureClass.BY_HAND
    assert known.quarantine[0].digest == B.digest


def test_a_template_changed_in_mid_rollout_is_written_again_under_the_hold():
    remembered = rolling(reason=Reason.ROLLOUT_PROGRESSING)
    changed = live(C, remembered, hold=True, managed_fields=(OURS, edited(*IMAGE)))
    pods = old_and_new(NAMES[1:], NAMES[:1])

    first = decide(B, observed(changed, *revisions(A, B, C), pods=pods), remembered, NOW)
    taken = body_record(the(first, Remember))
    changed = replace(changed, managed_fields=(OURS,))
    still = decide(B, observed(changed, *revisions(A, B, C, records_by={
        B.digest: remembered, C.digest: remembered}), pods=pods), taken, NOW)  # fmt: skip

    assert first.aside
    assert the(still, Apply).body["spec"]["updateStrategy"]["type"] == "OnDelete"
    assert "changed the pod template" in still.because


def test_a_changed_template_is_not_blamed_on_the_controller_before_its_revision_is_made():
    taken = replace(rolling(), reason=Reason.DRIFT_FOUND)
    changed = live(C, taken, hold=True, managed_fields=(OURS,))
    pods = old_and_new(NAMES[1:], NAMES[:1])

    decision = decide(B, observed(changed, *revisions(A, B), pods=pods), taken, NOW)

    assert decision.reason is Reason.DRIFT_HEALED
    assert "changed the pod template" in decision.because


def test_whoever_lets_the_controller_loose_in_mid_rollout_is_stopped_in_one_write():
    remembered = rolling(reason=Reason.ROLLOUT_PROGRESSING)
    loose = live(B, remembered, managed_fields=(OURS, edited("f:updateStrategy", "f:type")))
    pods = old_and_new(NAMES[1:], NAMES[:1])

    decision = decide(B, observed(loose, *revisions(A, B), pods=pods), remembered, NOW)

    body = the(decision, Remember).body
    assert body["spec"] == {"updateStrategy": {"type": "OnDelete"}}
    assert "managedFields" in body["metadata"]


def test_a_revision_that_nobody_asked_for_is_watched():
    upgraded = replace(revision(A, 2), name="fluentd-new", hash="new", created=NOW)
    seen = live(A, at_rest())
    spec = json.loads(json.dumps(dict(seen.spec)))
    spec["template"]["spec"]["enableServiceLinks"] = True
    upgraded = replace(upgraded, template=spec["template"])
    made = replace(seen, spec=spec)

    decision = decide(A, observed(made, *revisions(A), upgraded), at_rest(), NOW)

    assert decision.reason is Reason.ROLLOUT_PROGRESSING
    assert body_record(the(decision, Remember)).phase is Phase.ROLLING


# ---------------------------------------------------------------------------- the record


def test_a_record_that_someone_took_off_is_written_again():
    bare = live(A, None)

    decision = decide(A, observed(bare, *revisions(A)), at_rest(), NOW)

    assert body_record(the(decision, Remember)).last_good == good(A)


def test_a_record_that_came_along_in_a_copy_keeps_quarantine_and_known_good_only():
    copied = replace(rolling(), uid="another", quarantine=(held(C),))

    decision = decide(B, observed(live(B, copied), *revisions(B)), copied, NOW)

    known = body_record(the(decision, Remember))
    assert (known.uid, known.phase) == (UID, Phase.IDLE)
    assert known.quarantine == (held(C),)
    assert known.last_good is None


def test_a_long_release_token_costs_no_quarantine():
    seen = live(A, rolled_back())
    token = "x" * 100_000
    seen = replace(seen, annotations={**seen.annotations, "dsgitops.io/retry-at": token})
    kept = replace(rolled_back(), quarantine=(held(B), held(C)))

    decision = decide(B, observed(seen, *revisions(A)), kept, NOW)

    text = the(decision, Remember).body["metadata"]["annotations"][records.ANNOTATION]
    assert len(text) < records.SIZE_MAX


def test_a_field_that_someone_added_is_gone_after_two_writes():
    spec = json.loads(json.dumps(dict(live(A, None).spec)))
    spec["minReadySeconds"] = 30
    entry = edited("f:minReadySeconds")
    added = live(A, at_rest(), spec=spec, managed_fields=(OURS, entry))

    first = decide(A, observed(added, *revisions(A)), at_rest(), NOW)
    known = body_record(the(first, Remember))
    ours = live(A, known, spec=spec)
    second = decide(A, observed(ours, *revisions(A)), known, NOW)
    healed = body_record(the(second, Apply))
    third = decide(A, observed(live(A, healed), *revisions(A)), healed, NOW)

    assert second.reason is Reason.DRIFT_HEALED
    assert healed.writes == (NOW,)
    assert third.reason is Reason.IN_SYNC
    assert not third.actions


def test_newer_content_of_the_same_template_waits_in_native_mode_too():
    raised = replace(desired("fluentd:2", minReadySeconds=600), policy=Policy(mode="native"))
    remembered = rolling(reason=Reason.ROLLOUT_PROGRESSING)
    pods = old_and_new(NAMES[1:], NAMES[:1], since=NOW - seconds(5))
    pods = tuple(
        replace(each, conditions=pod(each.node, A, since=NOW - seconds(60)).conditions)
        for each in pods
    )

    decision = decide(raised, in_flight(remembered, pods, hold=False), remembered, NOW)

    assert (decision.reason, decision.waiting_for) == (Reason.WAITING, WaitingFor.BUDGET)


def test_a_rollback_from_git_lets_the_controller_go_on():
    content, remembered, pods = failing()
    seen = replace(in_flight(remembered, with_missing_image(pods)), revisions=tuple(revisions(B)))

    answered = decide(content, replace(seen, recalled=A), remembered, NOW)

    assert the(answered, Apply).body["spec"]["updateStrategy"]["type"] == "RollingUpdate"


def test_the_record_of_a_rollback_speaks_of_what_it_puts_back():
    content, remembered, pods = failing()

    decision = decide(content, in_flight(remembered, with_missing_image(pods)), remembered, NOW)

    known = body_record(the(decision, Restore))
    assert (known.digest, known.template, known.commit) == (A.digest, A.template, A.commit)


def test_a_node_that_goes_away_after_its_pod_was_deleted_keeps_its_place_in_the_budget():
    remembered = rolling(phase=Phase.CANARY)
    away = node("node-00", ready="Unknown", since=NOW - seconds(2))
    going = pod("node-00", A, deleting=NOW + seconds(25))
    pods = (going, *old_and_new(NAMES[1:]))

    decision = decide(B, in_flight(remembered, pods, nodes=(away, *nodes(3)[1:])), remembered, NOW)

    assert decision.record.bad_before is None
    assert not any(isinstance(each, DeletePod) for each in decision.actions)


def test_pods_that_superseded_content_left_unready_are_not_bad_before():
    remembered = rolling(C, phase=Phase.CANARY, reason=Reason.ROLLOUT_SUPERSEDED)
    pods = (broken(NAMES[0], B, since=NOW - seconds(8)), *old_and_new(NAMES[1:]))
    seen = in_flight(remembered, pods, of=C)

    decision = decide(C, seen, remembered, NOW)

    assert decision.record.bad_before is None
    assert [each.node for each in decision.actions] == [NAMES[0]]


def test_a_removal_by_hand_is_told_from_our_own_revision_by_which_came_first():
    more = desired("fluentd:2", env=[{"name": "TOKEN", "value": "x"}, {"name": "EXTRA"}])
    fewer = desired("fluentd:2", env=[{"name": "TOKEN", "value": "x"}])
    remembered = rolling(more, reason=Reason.ROLLOUT_PROGRESSING)
    pods = tuple(pod(name, A) for name in NAMES)
    ours, theirs = revision(more, 2, remembered), revision(fewer, 3, remembered)
    removed = observed(live(fewer, remembered, hold=True), revision(A, 1), ours, theirs, pods=pods)
    only = observed(live(fewer, remembered, hold=True), revision(A, 1), theirs, pods=pods)

    assert decide(more, removed, remembered, NOW).reason is Reason.DRIFT_HEALED
    assert decide(more, only, remembered, NOW).reason is Reason.ROLLOUT_PROGRESSING
