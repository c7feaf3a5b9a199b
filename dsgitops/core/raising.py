"""Alerts in the record: put there in the write that they are about, gone once delivered.

A failure is put there with its quarantine, so that no crash can lose it, and says `RollingBack`
until the outcome is known; it is sent when it is `ripe`.  Where no channel is configured
(`Observed.delivered` is None) nothing here changes a decision.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from dsgitops.core import bodies
from dsgitops.core.actions import Apply, Remember, Restore
from dsgitops.core.alerts import KEPT_MAX, event_id, signs_of
from dsgitops.core.model import Decision, FailedContent, FailureClass, Phase, Reason
from dsgitops.core.reasons import may_write
from dsgitops.core.record import Pending
from dsgitops.core.steps import earliest, remember

if TYPE_CHECKING:
    from datetime import datetime

    from dsgitops.core.actions import Action
    from dsgitops.core.model import Judgement
    from dsgitops.core.record import Quarantined, Record
    from dsgitops.core.situation import Situation

OUTCOME_WITHIN = timedelta(minutes=2)
"""A failure is told by then even if the way back is not over: one message, and not too late."""
PENDING_MAX = 8
"""Alerts that wait in one record; of more, the oldest go."""
_OVER = frozenset({Reason.ROLLOUT_FINISHED, Reason.IN_SYNC})


def raising(s: Situation, decision: Decision) -> Decision:
    """Return the decision with the alerts that it raises, and without those delivered."""
    delivered = s.observed.delivered
    if delivered is None or s.given is None or s.observed.live is None or decision.aside:
        return decision
    before, after = s.record, decision.record or s.record
    kept = tuple(each for each in after.alerts if each.id not in delivered)
    told = _told(s, decision, replace(after, alerts=kept))
    if told == after:
        return _looking_again(decision, s.now)
    decision = _written(s, decision, told)
    if told.failed and told.failed != before.failed:
        decision = replace(decision, failed=_content(s))
    return _looking_again(decision, s.now)


def ripe(record: Record, now: datetime) -> tuple[Pending, ...]:
    """Return the alerts of a record, as the cluster has it, that are to be sent now."""
    awaited = record.phase is Phase.ROLLING_BACK
    return tuple(
        each
        for each in record.alerts
        if not awaited or each.reason is not Reason.ROLLING_BACK or now >= each.at + OUTCOME_WITHIN
    )


def _looking_again(decision: Decision, now: datetime) -> Decision:
    """Come back when an alert becomes ripe by time alone."""
    record = decision.record
    if record is None or record.phase is not Phase.ROLLING_BACK:
        return decision
    instants = (each.at + OUTCOME_WITHIN for each in record.alerts)
    at = earliest(decision.look_again, *(each for each in instants if each > now))
    return decision if at == decision.look_again else replace(decision, look_again=at)


# ---------------------------------------------------------------------------- what is raised


def _told(s: Situation, decision: Decision, after: Record) -> Record:
    entry = _new_failure(s, after)
    if entry is not None:
        return _failure(s, decision, after, entry.failure_class)
    if decision.reason is Reason.ROLLOUT_FAILED and s.record.reason is not Reason.ROLLOUT_FAILED:
        return _only_told(s, decision, after)
    if after.reason is Reason.ROLLED_BACK and s.record.reason is not Reason.ROLLED_BACK:
        return replace(after, alerts=tuple(_rolled_back(each) for each in after.alerts))
    if after.reason is Reason.ROLLBACK_FAILED and s.record.reason is not Reason.ROLLBACK_FAILED:
        return _stuck(s, decision, after)
    if s.record.failed and after.phase is Phase.IDLE and decision.reason in _OVER:
        return _recovery(s, decision, after)
    return after


def _new_failure(s: Situation, after: Record) -> Quarantined | None:
    """Return the content that this very decision quarantines; what people undo is no failure."""
    if after.quarantine == s.record.quarantine or not after.quarantine:
        return None
    entry = after.quarantine[-1]
    if entry in s.record.quarantine or entry.failure_class is FailureClass.BY_HAND:
        return None
    return entry


def _failure(s: Situation, decision: Decision, after: Record, kind: FailureClass | None) -> Record:
    # `after` may speak of last good already: the one before speaks of what failed
    return _added(s, after, decision, kind, s.record)


def _only_told(s: Situation, decision: Decision, after: Record) -> Record:
    """Nothing is quarantined (`rollback: off`): the reason is the memory that it was told."""
    told = replace(after, reason=Reason.ROLLOUT_FAILED)
    return _added(s, told, decision, decision.failure_class, s.record)


def _rolled_back(each: Pending) -> Pending:
    return replace(each, reason=Reason.ROLLED_BACK) if _awaits(each) else each


def _awaits(each: Pending) -> bool:
    return each.reason is Reason.ROLLING_BACK


def _stuck(s: Situation, decision: Decision, after: Record) -> Record:
    """The way back stopped: told anew, louder, in place of what was not sent yet."""
    last = after.quarantine[-1] if after.quarantine else None
    waiting = replace(after, alerts=tuple(each for each in after.alerts if not _awaits(each)))
    about = after if last is None else replace(after, digest=last.digest, commit=last.commit)
    return _added(s, waiting, decision, decision.failure_class, about)


def _recovery(s: Situation, decision: Decision, after: Record) -> Record:
    told = _added(s, after, decision, None, after)
    return replace(told, failed="")


def _added(
    s: Situation, after: Record, decision: Decision, kind: FailureClass | None, about: Record
) -> Record:
    """Return the record with one alert more.

    Args:
        s: The situation.
        after: The record that is going to be written.
        decision: What is told.
        kind: Why it failed.
        about: Whose digest and commit the alert is about.
    """
    n = max(after.n, s.record.n + 1)
    reason, judgement = decision.reason, decision.judgement
    fails = reason not in _OVER
    made = Pending(
        id=event_id(s.live.ref, s.live.uid, about.digest, kind or reason, n),
        reason=reason,
        at=s.now,
        digest=about.digest,
        commit=about.commit,
        failure_class=kind,
        since=s.record.started if fails else None,
    )
    if fails and judgement is not None:
        made = _with_evidence(made, judgement)
    alerts = (*after.alerts, made)[-PENDING_MAX:]
    return replace(after, alerts=alerts, failed=made.id)


def _with_evidence(made: Pending, judgement: Judgement) -> Pending:
    """Keep the first of the evidence: whoever delivers the alert may not have seen it."""
    signs = signs_of(judgement)
    return replace(
        made,
        cause=judgement.cause,
        total=judgement.total,
        signs=signs[:KEPT_MAX],
        more=max(0, len(signs) - KEPT_MAX),
    )


def _content(s: Situation) -> FailedContent:
    good = s.good_revision
    return FailedContent(
        since=s.record.started,
        good=good.template if good else None,
        bad=s.target.template if s.target else None,
    )


# ---------------------------------------------------------------------------- how it is written


def _written(s: Situation, decision: Decision, told: Record) -> Decision:
    """Return the decision whose one write carries `told`, or a write of its own."""
    if not decision.actions:
        if not may_write(s):
            return decision
        record = replace(told, n=s.record.n + 1)
        return replace(decision, actions=(remember(s, record),), record=record)
    if not any(isinstance(each, Apply | Restore | Remember) for each in decision.actions):
        return decision  # pods are being deleted: the next look writes it
    actions = tuple(_carrying(each, told) for each in decision.actions)
    return replace(decision, actions=actions, record=told)


def _carrying(action: Action, told: Record) -> Action:
    if isinstance(action, Apply | Restore | Remember):
        return replace(action, body=bodies.with_record(action.body, told))
    return action
