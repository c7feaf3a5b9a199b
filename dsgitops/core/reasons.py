"""The reason in the record: written when it changes, so that `get` can say it without the agent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dsgitops.core.model import Decision, Reason
from dsgitops.core.news import follows
from dsgitops.core.record import VERSION
from dsgitops.core.steps import remember, remembering

if TYPE_CHECKING:
    from dsgitops.core.situation import Situation

_WRITTEN = frozenset(
    {
        Reason.IN_SYNC,
        Reason.MANIFEST_INVALID,
        Reason.REFUSED,
        Reason.CONFLICT,
        Reason.DRIFT_GIVEN_UP,
        Reason.ROLLOUT_PROGRESSING,
        Reason.ROLLOUT_STALLED,
        Reason.ROLLOUT_FAILED,
        Reason.ROLLOUT_BAKING,
        Reason.QUARANTINED,
        Reason.WAITING,
    }
)
"""Not what is true of all at once (an unreachable cluster or source), nor what passes by itself;
all other reasons come with a write of their own."""


def remembering_why(s: Situation, decision: Decision) -> Decision:
    """Return the decision with the write of its reason, where that is new and nothing else is."""
    if decision.aside or decision.actions or decision.reason not in _WRITTEN:
        return decision
    if not may_write(s) or _is_known(s, decision):
        return decision
    record = s.record.next(reason=decision.reason, waiting_for=decision.waiting_for)
    return remembering(decision, record, remember(s, record))


def may_write(s: Situation) -> bool:
    """Whether a write of the record alone is ours to make now."""
    given, live = s.given, s.observed.live
    if given is None or live is None or live.deleting or s.observed.live_since is None:
        return False
    if given.v > VERSION or (s.desired is not None and s.desired.source != given.source):
        return False
    return s.suspend is None and live.observed_generation >= live.generation


def _is_known(s: Situation, decision: Decision) -> bool:
    if decision.reason is Reason.ROLLOUT_FAILED and s.policy.rollback == "off":
        return True  # told only: nothing is written
    if decision.waiting_for is not s.record.waiting_for:
        return False
    return follows(s.record.reason, decision.reason)
