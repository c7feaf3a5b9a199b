"""What one decision about one DaemonSet says of the commit that brought its content; pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from dsgitops.core import alerts, narrate
from dsgitops.core.model import Desired, FailureClass, Phase, Reason
from dsgitops.core.record import Pending

if TYPE_CHECKING:
    from datetime import datetime

    from dsgitops.core.model import Decision, Judgement, Ref, Unreadable
    from dsgitops.core.record import Quarantined, Record

TOLD_AGAIN_WITHIN = timedelta(days=1)
"""After a start, what ended before that is taken for told."""
_TRUNCATED = timedelta(seconds=1)
"""The record has whole seconds."""


class State(StrEnum):
    """How far a commit, or one DaemonSet of it, came; the worst first."""

    FAILURE = "failure"
    SUPERSEDED = "superseded"
    """Newer content came before it ended."""
    PENDING = "pending"
    """Under way."""
    WAITING = "waiting"
    """Not begun; something is waited for."""
    SUCCESS = "success"

    @property
    def is_open(self) -> bool:
        """Whether more is to come."""
        return self in (State.PENDING, State.WAITING)


@dataclass(frozen=True, slots=True)
class Standing:
    """How far one DaemonSet came with one commit's content."""

    state: State
    word: str
    """Another word is another status: the reason of a failure."""
    sentence: str


@dataclass(frozen=True, slots=True)
class Touch:
    """The content that a DaemonSet should have, and the commit that brought it."""

    content: str
    commit: str


_UNDER_WAY = frozenset(
    {
        Reason.ROLLOUT_STARTED,
        Reason.ROLLOUT_PROGRESSING,
        Reason.ROLLOUT_STALLED,
        Reason.ROLLOUT_BAKING,
        Reason.ROLLOUT_SUPERSEDED,
    }
)
GOING_BACK = frozenset({Reason.ROLLING_BACK, Reason.ROLLED_BACK, Reason.ROLLBACK_FAILED})
_UNUSABLE = frozenset(
    {Reason.REFUSED, Reason.CONFLICT, Reason.MANIFEST_INVALID, Reason.QUARANTINED}
)
_DONE = frozenset({Reason.IN_SYNC, Reason.ROLLOUT_FINISHED})


def touch_of(
    given: Desired | Unreadable | None, record: Record | None, before: Touch | None, tip: str
) -> Touch | None:
    """Return the content that Git has, and the commit that brought it.

    Args:
        given: What Git has.
        record: What is remembered of it.
        before: The last answer of this process.
        tip: The source's newest commit if this process saw it arrive, for display; else "".

    Returns:
        `before` where no commit can be named; None where Git has nothing.
    """
    if given is None:
        return None
    if not isinstance(given, Desired):
        known = given.manifest_invalid and tip
        return Touch(f"unreadable: {given.what}", tip) if known else before
    if before is None and record is not None:  # a start: Git's tip is not what brought it
        if record.digest == given.digest:
            return Touch(given.digest, record.commit)
        held = record.holds(given.template, given.digest)
        if held is not None and held.digest == given.digest:
            return Touch(given.digest, held.commit)
    return Touch(given.digest, given.commit)


def standing_of(decision: Decision, touch: Touch, before: Standing | None) -> Standing | None:
    """Return what a decision says of the content that Git has; None: nothing new."""
    found = _standing(decision, touch)
    if found is None or before is None:
        return found
    held = found.word == Reason.QUARANTINED
    if before.state is State.FAILURE and held:
        return None  # the same failure, of which less is known now
    over = before.state is State.SUCCESS
    again = decision.reason is Reason.ROLLOUT_STARTED
    return None if over and not (held or again) else found


def _standing(decision: Decision, touch: Touch) -> Standing | None:
    reason, record, said = decision.reason, decision.record, decision.because
    if reason in _UNUSABLE:
        return Standing(State.FAILURE, str(reason), said)
    if reason is Reason.WAITING or (reason is Reason.SUSPENDED and decision.pending):
        return Standing(State.WAITING, str(reason), said)
    if reason is Reason.ROLLOUT_STALLED:
        return Standing(State.PENDING, str(reason), said)
    if reason in _UNDER_WAY:
        return Standing(State.PENDING, "UnderWay", said)
    if reason in GOING_BACK:
        return _way_back(decision, touch)
    done = reason in _DONE and record is not None and record.phase is Phase.IDLE
    if not done or record is None or record.digest != touch.content:
        return None
    return Standing(State.SUCCESS, "Finished", said)


def _way_back(decision: Decision, touch: Touch) -> Standing:
    """Of content that Git has while other content is gone back from."""
    record = decision.record
    good = record.last_good if record is not None else None
    if good is None or good.digest != touch.content:
        return Standing(State.WAITING, "Waiting", "Waits until the way back is over.")
    over = decision.reason is Reason.ROLLED_BACK
    return Standing(*((State.SUCCESS, "Finished") if over else (State.PENDING, "UnderWay")),
                    decision.because)  # fmt: skip


def is_recent(decision: Decision, now: datetime) -> bool:
    """Whether what a decision says at a start may not have been told before it."""
    record = decision.record
    if record is None:
        return True
    ended: datetime | None = None
    if decision.reason is Reason.IN_SYNC and record.last_good is not None:
        ended = record.last_good.at
    if decision.reason is Reason.QUARANTINED and record.quarantine:
        ended = record.quarantine[-1].at
    return ended is None or now - ended < TOLD_AGAIN_WITHIN


def going_back_from(record: Record) -> Quarantined | None:
    """Return the content that a way back found in the record leaves; None: Git itself went back."""
    last = record.quarantine[-1] if record.quarantine else None
    if last is None or record.phase is not Phase.ROLLING_BACK or record.started is None:
        return None
    return last if last.at >= record.started - _TRUNCATED else None


def failure(
    ref: Ref, decision: Decision, failed: Quarantined | None, judgement: Judgement | None
) -> Standing:
    """Return the standing of content that failed, by the title that an alert of it has.

    Args:
        ref: The DaemonSet.
        decision: About it; has a record.
        failed: Its entry in the quarantine; None: it is held nowhere (`rollback: off`).
        judgement: By which it failed, where this process saw it.
    """
    record = decision.record
    assert record is not None, "a failure is of content that was written"
    if failed is not None and failed.failure_class is FailureClass.BY_HAND:
        return Standing(State.FAILURE, str(decision.reason), decision.because)
    about = Pending(
        id="",
        reason=decision.reason,
        at=failed.at if failed else record.started or _never(record),
        digest=failed.digest if failed else record.digest,
        commit=failed.commit if failed else record.commit,
        failure_class=failed.failure_class if failed else decision.failure_class,
    )
    title = alerts.alert_of(ref, about, record, alerts.Seen(judgement=judgement)).title
    return Standing(State.FAILURE, str(decision.reason), title)


def _never(record: Record) -> datetime:
    """Return an instant for what has none: it is in no title."""
    if record.last_good is not None:
        return record.last_good.at
    return record.quarantine[-1].at


def failed_before(ref: Ref, entry: Quarantined) -> Standing:
    """Return the standing of what failed before this process began."""
    said = f"{ref}: {narrate.short(entry.commit)} failed ({entry.failure_class})"
    return Standing(State.FAILURE, str(Reason.QUARANTINED), said)
