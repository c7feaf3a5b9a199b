"""Which decisions are worth a line: changes of decision, not of numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dsgitops.core.model import Reason

if TYPE_CHECKING:
    from dsgitops.core.model import Decision

WARNINGS = frozenset(
    {
        Reason.MANIFEST_INVALID,
        Reason.REFUSED,
        Reason.CONFLICT,
        Reason.DRIFT_GIVEN_UP,
        Reason.ROLLOUT_STALLED,
        Reason.ROLLOUT_FAILED,
        Reason.ROLLING_BACK,
        Reason.ROLLED_BACK,
        Reason.ROLLBACK_FAILED,
        Reason.QUARANTINED,
    }
)
"""Reasons that are warnings, as Events and as log lines (`interfaces.md`, Events)."""

_QUIETLY_AFTER = {
    Reason.IN_SYNC: frozenset({Reason.ROLLOUT_FINISHED, Reason.DRIFT_HEALED, Reason.IN_SYNC}),
    Reason.QUARANTINED: frozenset(
        {Reason.ROLLED_BACK, Reason.ROLLBACK_FAILED, Reason.ROLLOUT_FAILED, Reason.QUARANTINED}
    ),
    Reason.ROLLOUT_PROGRESSING: frozenset(
        {
            Reason.ROLLOUT_STARTED,
            Reason.ROLLOUT_SUPERSEDED,
            Reason.ROLLOUT_PROGRESSING,
            Reason.DRIFT_HEALED,
        }
    ),
}
"""What follows by itself from what was said before."""


def follows(before: Reason, after: Reason) -> bool:
    """Whether `after` comes by itself once `before` was said."""
    return before is after or before in _QUIETLY_AFTER.get(after, frozenset())


def is_news(before: Decision | None, after: Decision) -> bool:
    """Whether `after` says something that `before` did not.

    Numbers that move (nodes done, pods starting) are progress, not news; another commit, reason,
    class or thing to wait for is.
    """
    if after.aside or after.reason is Reason.CONTROLLER_STALE:
        return False
    if before is None:  # a start is blind for a moment, of every DaemonSet
        return after.reason is not Reason.CLUSTER_UNREACHABLE
    if _content(before) != _content(after) and after.reason is not Reason.IN_SYNC:
        return True
    if before.reason in _QUIETLY_AFTER.get(after.reason, frozenset()):
        return False
    return (before.reason, before.waiting_for, before.failure_class, before.pending) != (
        after.reason,
        after.waiting_for,
        after.failure_class,
        after.pending,
    )


def _content(decision: Decision) -> str:
    return decision.record.digest if decision.record else ""
