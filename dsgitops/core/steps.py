"""The pieces that rules are made of: one write, one sentence, one look closer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from dsgitops.core import bodies, narrate
from dsgitops.core.actions import Apply, Rehearse, Remember, Restore
from dsgitops.core.model import EMPTY, Decision, Desired, Phase, Reason, Unreadable, WaitingFor
from dsgitops.core.ownership import field_path, owns_template
from dsgitops.core.situation import IN_FLIGHT, Situation

if TYPE_CHECKING:
    from datetime import datetime

    from dsgitops.core.actions import Action
    from dsgitops.core.record import Record


def take_over(s: Situation, what: str, *, pause: bool = False, heals: bool = False) -> Decision:
    """Move the spec's ownership to us first, or fields absent from Git would survive.

    Args:
        s: The situation.
        what: What is written then, for people.
        pause: Also stop the native controller in the same write.
        heals: The write that follows heals drift.  The record says so: once the fields are ours,
            a field that was added shows nothing any more.
    """
    record = s.record.next(reason=Reason.DRIFT_FOUND) if heals else s.record.next()
    return Decision(
        reason=Reason.WAITING,
        waiting_for=WaitingFor.PREFLIGHT,
        because=f"Taking the fields over before writing {what}.",
        actions=(remember(s, record, take=True, pause=pause),),
        record=record,
        follow=in_flight(s),
        aside=True,
    )


def rehearse(s: Situation, content: Desired, because: str, *, fresh: bool = False) -> Decision:
    """Ask what the forward write would change; nothing is written.

    Args:
        s: The situation.
        content: What would be written.
        because: The sentence.
        fresh: Also ask what a new object would be.
    """
    record = s.written()
    return Decision(
        reason=Reason.WAITING,
        waiting_for=WaitingFor.PREFLIGHT,
        because=because,
        actions=(Rehearse(ref=content.ref, body=bodies.forward(content, s.live, record,
                                                               hold=False),
                          digest=content.digest,
                          fresh=bodies.fresh(content, record) if fresh else EMPTY),),
        record=s.record,
        aside=True,
    )  # fmt: skip


def look_closer(s: Situation, because: str, *, look_again: datetime | None = None) -> Decision:
    """Ask for pods and Events; nothing is told until they are there."""
    return Decision(
        reason=Reason.WAITING,
        waiting_for=WaitingFor.PREFLIGHT,
        because=because,
        record=s.given,
        follow=True,
        look_again=look_again,
        aside=look_again is None,
    )


def suspended(s: Situation, state: str, *, pending: str = "") -> Decision:
    """Say who suspended it, why, until when, and what is to be seen or waits meanwhile."""
    suspend = s.suspend
    assert suspend is not None, "only asked when suspended"
    now = pending or state
    return Decision(
        reason=Reason.SUSPENDED,
        because=narrate.suspension(suspend) + (f" Now: {now}." if now else ""),
        pending=pending,
        record=s.given,
        look_again=suspend.until,
        follow=in_flight(s),
    )


def unreadable(s: Situation) -> Decision | None:
    """Say why Git cannot be understood; None where it can."""
    if not isinstance(s.desired, Unreadable):
        return None
    invalid = s.desired.manifest_invalid
    return Decision(
        reason=Reason.MANIFEST_INVALID if invalid else Reason.SOURCE_UNREADABLE,
        because=f"{s.desired.what}; what runs is left as it is.",
        record=s.given,
        aside=s.desired.early,
    )


def good_takes_content(s: Situation, record: Record) -> Record:
    """Content that leaves the template alone: last good takes over its digest and commit."""
    good, content = record.last_good, s.content
    if good is None or content is None:
        return record
    spec = content.manifest["spec"]
    good = replace(
        good,
        digest=content.digest,
        template=content.template,
        commit=content.commit,
        strategy=bodies.strategy_body(spec),
        min_ready_seconds=int(spec.get("minReadySeconds") or 0),
        at=s.now,
    )
    return replace(record, last_good=good)


def speaking_of_good(record: Record) -> Record:
    """Return the record as it travels with last good's template: of that it speaks."""
    good = record.last_good
    if good is None:
        return record
    return replace(
        record,
        digest=good.digest or "",
        template=good.template or "",
        commit=good.commit or "",
    )


def apply_content(s: Situation, content: Desired, record: Record, *, hold: bool) -> Apply:
    """Return the forward write."""
    return Apply(
        ref=content.ref,
        body=bodies.forward(content, s.live, record, hold=hold),
        digest=content.digest,
    )


def restore_good(s: Situation, record: Record) -> Restore:
    """Return the exact rollback to the last good revision."""
    good, revision = record.last_good, s.good_revision
    assert good is not None, "callers check"
    assert revision is not None, "callers check"
    cause = good.commit or f"revision {revision.number}"
    return Restore(ref=s.live.ref, body=bodies.rollback(s.live, revision, good, record, cause))


def remember(
    s: Situation,
    record: Record,
    *,
    take: bool = False,
    pause: bool = False,
    resume: bool = False,
) -> Remember:
    """Return the write of the record, with what must change in the same write.

    Args:
        s: The situation.
        record: The record to write.
        take: Also take the ownership of the spec over.
        pause: Also stop the native controller.
        resume: Also let it go on.
    """
    fields = s.takeover if take else None
    strategy: Literal["OnDelete", "RollingUpdate"] | None = None
    if pause or resume:
        strategy = "OnDelete" if pause else "RollingUpdate"
    body = bodies.remember(s.live, record, managed_fields=fields, strategy=strategy)
    return Remember(ref=s.live.ref, body=body)


def remembering(decision: Decision, record: Record, action: Action) -> Decision:
    """Return the same answer, with the write that remembers it."""
    return replace(decision, actions=(action,), record=record)


def first_difference(s: Situation) -> str:
    """Return the first field where live is not what Git has; "": none."""
    if s.content is None:
        return ""
    if s.lacking or not s.changed_by_others:
        return s.lacking
    return field_path(s.changed_by_others[0]).lstrip(".")


def owners(s: Situation) -> str:
    """Return who else wrote the spec, by manager name."""
    names = sorted({manager for manager, _, _ in s.foreign})
    return " and ".join(names) or "someone"


def template_owner(s: Situation) -> str:
    """Return who else wrote the pod template."""
    names = sorted({name for name, _, share in s.foreign if owns_template(share)})
    return " and ".join(names) or "someone"


def heals(s: Situation) -> bool:
    """Whether fields were taken over to write Git's content again, and that was not done yet."""
    return s.record.reason is Reason.DRIFT_FOUND


def in_flight(s: Situation) -> bool:
    """Whether something is under way that needs its pods watched."""
    return s.given is not None and (
        s.given.phase in IN_FLIGHT or s.given.phase is Phase.ROLLING_BACK
    )


def earliest(*instants: datetime | None) -> datetime | None:
    """Return the first of the instants that are known."""
    return min((at for at in instants if at is not None), default=None)
