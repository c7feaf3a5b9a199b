"""What is remembered of pods beyond what their objects show."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from core.rollouts import UID, Rollout, at, conditions, event, node, old, ready, refused, unready

from dsgitops.core import chronicle
from dsgitops.core.chronicle import Chronicle
from dsgitops.core.model import Condition, Container

WINDOW = timedelta(seconds=6)


def lost(pod, since, **changes):
    """The pod with its readiness gone while its container runs on."""
    containers = tuple(replace(each, ready=False) for each in pod.containers)
    state = conditions(ready=False, since=at(since))
    return replace(pod, conditions=state, containers=containers, **changes)


def back(pod, since):
    return replace(pod, conditions=conditions(ready=True, since=at(since)))


def told(*steps):
    """Tell (seconds, pod) in order; return the story of the last pod."""
    known = Chronicle()
    for when, pod in steps:
        known.pod(pod, at(when))
    return known.stories[steps[-1][1].uid]


def test_each_loss_of_ready_without_a_restart_is_remembered():
    pod = ready("a")
    story = told(
        (10, pod),
        (17, lost(pod, 17)),
        (20, back(pod, 20)),
        (30, lost(pod, 30)),
        (34, back(pod, 34)),
    )

    assert story.losses == [at(17), at(30)]


def test_a_loss_between_two_lines_is_read_from_the_transition_time():
    pod = ready("a")
    story = told((10, pod), (21, back(pod, 20)))

    assert story.losses == [at(20)]


def test_a_crash_is_an_end_and_no_loss():
    pod = ready("a")
    down = replace(pod.containers[0], ready=False, running_since=None)
    crashed = replace(lost(pod, 17), containers=(down,))
    again = replace(back(pod, 19), containers=(replace(pod.containers[0], restarts=1),))

    assert told((10, pod), (17, crashed), (19, again)).losses == []


def test_going_away_is_no_loss():
    pod = ready("a")
    going = lost(pod, 20, deleting=at(20), grace=2)
    failed = lost(pod, 20, phase="Failed")

    assert told((10, pod), (20, going)).losses == []
    assert told((10, pod), (20, failed)).losses == []


def test_an_older_version_that_comes_late_moves_nothing():
    pod = ready("a", resource_version="7")
    newer = replace(back(pod, 10), resource_version="9")
    older = replace(lost(pod, 9), resource_version="8")

    assert told((10, pod), (12, newer), (12, older)).losses == []


def test_what_is_told_twice_counts_once():
    pod = ready("a")
    dark = lost(pod, 17)

    assert told((10, pod), (17, dark), (17, dark), (18, dark)).losses == [at(17)]


def test_losses_of_another_revision_at_the_same_time_are_shared():
    known = Chronicle()
    for pod in (ready("a"), old("b")):
        known.pod(pod, at(10))
        known.pod(lost(pod, 20), at(20))

    assert known.shared("new", at(22), WINDOW)
    assert not known.shared("new", at(40), WINDOW)
    alone = Chronicle()
    alone.pod(ready("a"), at(10))
    alone.pod(lost(ready("a"), 20), at(20))
    assert not alone.shared("new", at(20), WINDOW)


def test_an_evicted_pod_is_kept_after_its_object_went_in_ten_milliseconds():
    known = Chronicle()
    pod = ready("a", phase="Failed", reason="Evicted", message="exceeds the limit")
    known.pod_gone(pod, at(20))

    assert [(each.pod.name, each.message) for each in known.gone] == [
        ("new-a", "exceeds the limit")
    ]


def test_an_ordinary_pod_that_goes_leaves_nothing():
    known = Chronicle()
    known.pod(old("a"), at(0))
    known.pod_gone(old("a"), at(5))

    assert not known.stories


def test_kills_by_a_probe_are_counted_and_other_kills_are_not():
    pod = ready("a")
    known = Chronicle()
    message = "Container agent failed liveness probe, will be restarted"
    known.event(event(pod, "Killing", message, count=2), at(20))
    known.event(event(pod, "Killing", message, count=1), at(21))
    known.event(event(pod, "Killing", "Stopping container agent", count=9), at(22))

    assert known.stories[pod.uid].kills == {("agent", "liveness"): 2}


def test_the_time_spent_pulling_is_known_also_when_the_last_event_is_lost():
    creating = unready("a", waiting_reason="ContainerCreating")
    known = Chronicle()
    known.event(event(creating, "Pulling", "Pulling image", when=6), at(6))
    known.pod(creating, at(30))
    assert known.stories[creating.uid].pulling_since == at(6)

    known.pod(unready("a"), at(66))
    assert known.stories[creating.uid].pulling_since is None
    assert known.stories[creating.uid].pulled == timedelta(seconds=60)


def test_refusals_are_kept_by_the_uid_of_the_daemonset():
    known = Chronicle()
    known.event(refused("forbidden", when=5), at(6))

    assert [each.at for each in known.refusals(UID)] == [at(6)]
    assert list(known.refusals("another")) == []


def test_events_about_other_things_are_passed_over():
    known = Chronicle()
    other = replace(event(ready("a"), "Failed", "Failed to pull image"), kind="Job")
    known.event(other, at(5))

    assert not known.stories


def test_nodes_that_went_away_are_remembered_once():
    known = Chronicle()
    gone = node("a", ready="Unknown", ready_since=at(20))
    known.node(gone, at(20))
    known.node(gone, at(30))
    known.node(node("b"), at(30))

    assert list(known.away) == [("a", at(20))]


def test_memory_is_bounded_whatever_is_told(monkeypatch):
    monkeypatch.setattr(chronicle, "STORIES_MAX", 50)
    known = Chronicle()
    for number in range(2000):
        pod = ready("a", uid=f"u{number}", hash=f"h{number}", phase="Failed", reason="Evicted")
        known.pod(pod, at(number))
        known.event(replace(refused("no"), uid=f"d{number}"), at(number))

    assert len(known.stories) <= 50
    assert len(list(known.gone)) <= 512
    assert sum(1 for number in range(2000) if list(known.refusals(f"d{number}"))) <= 16


def test_two_losses_are_a_vote_and_shared_ones_blame_nobody():
    fleet = Rollout([ready("a"), old("b")])
    for when in (20, 40):
        fleet.chronicle.pod(lost(fleet.pods[0], when), at(when))
        fleet.chronicle.pod(back(fleet.pods[0], when + 5), at(when + 5))
    assert fleet.judge(50).failure_class == "ReadinessProbeFailed"

    for when in (20, 40):
        fleet.chronicle.pod(lost(fleet.pods[1], when), at(when))
        fleet.chronicle.pod(back(fleet.pods[1], when + 5), at(when + 5))
    assert fleet.judge(50).votes == 0


def test_a_failed_hook_is_remembered_from_the_status():
    failing = Container(name="agent", waiting_reason="PostStartHookError", waiting_message="exit 5")
    pod = ready("a", containers=(failing,), conditions={"Ready": Condition(status="False")})

    assert told((10, pod)).hook == "exit 5"
