"""What is worth a line: another decision, not another number."""

from __future__ import annotations

from dataclasses import replace

from core.builders import desired, record

from dsgitops.core.model import Decision, FailureClass, Reason, WaitingFor
from dsgitops.core.news import is_news

A, B = desired("fluentd:1"), desired("fluentd:2")


def said(reason, content=A, **more):
    return Decision(reason=reason, because="x.", record=record(content), **more)


def test_the_first_word_is_news():
    assert is_news(None, said(Reason.IN_SYNC))


def test_a_step_on_the_way_is_not():
    assert not is_news(None, said(Reason.WAITING, aside=True))


def test_numbers_that_move_are_progress():
    before = said(Reason.ROLLOUT_PROGRESSING)

    assert not is_news(before, replace(before, because="12 of 40 nodes."))


def test_what_a_suspension_keeps_waiting_is_news():
    before = said(Reason.SUSPENDED)

    assert is_news(before, replace(before, pending="9d01b7e waits"))
    assert not is_news(before, replace(before, because="Suspended. Now: 4 of 6 nodes."))


def test_what_follows_by_itself_is_silent():
    for before, after in [
        (Reason.ROLLOUT_STARTED, Reason.ROLLOUT_PROGRESSING),
        (Reason.ROLLOUT_SUPERSEDED, Reason.ROLLOUT_PROGRESSING),
        (Reason.ROLLOUT_FINISHED, Reason.IN_SYNC),
        (Reason.DRIFT_HEALED, Reason.IN_SYNC),
        (Reason.ROLLED_BACK, Reason.QUARANTINED),
        (Reason.ROLLOUT_FAILED, Reason.QUARANTINED),
    ]:
        assert not is_news(said(before), said(after))


def test_another_reason_is_news():
    assert is_news(said(Reason.ROLLOUT_PROGRESSING), said(Reason.ROLLOUT_STALLED))
    assert is_news(said(Reason.ROLLOUT_STALLED), said(Reason.ROLLOUT_PROGRESSING))


def test_another_commit_is_news_even_for_the_same_reason():
    assert is_news(said(Reason.QUARANTINED, A), said(Reason.QUARANTINED, B))


def test_another_class_or_thing_to_wait_for_is_news():
    waits = said(Reason.WAITING, waiting_for=WaitingFor.WINDOW)
    failed = said(Reason.ROLLOUT_FAILED, failure_class=FailureClass.CRASH_LOOP)

    assert is_news(waits, replace(waits, waiting_for=WaitingFor.CONCURRENCY))
    assert is_news(failed, replace(failed, failure_class=FailureClass.OOM_KILLED))
