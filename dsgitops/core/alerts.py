"""What people are told when a rollout failed or is over it: one value for every channel.

A channel (Sentry, a messenger) takes an `Alert` and adds nothing of its own.  Everything in it is
a name, a number, a hash or a word of ours: what the kubelet quotes (hook output, messages of a
container that ended) may hold secrets and stays out.

An alert is made of the record, so that it can be sent again after a restart: the record keeps the
first of the evidence, and the ControllerRevisions what changed.  What only this process saw
(`Seen`) is more, and is added where it is still known.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

from dsgitops.core import narrate
from dsgitops.core.model import FailedContent, FailureClass, Phase, Reason
from dsgitops.core.record import Sign

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from dsgitops.core.model import Decision, Evidence, Judgement, Ref, Revision
    from dsgitops.core.record import Pending, Quarantined, Record

EVIDENCE_MAX = 20
"""Nodes of which evidence is told; of more, how many."""
KEPT_MAX = 5
"""Nodes of which the record keeps evidence until the alert is delivered: some 200 bytes each."""
Level = Literal["fatal", "error", "warning", "info"]

_QUOTING = frozenset({Reason.ROLLING_BACK, Reason.ROLLOUT_FAILED})
"""Decisions whose sentence is about the failure, not about what became of it."""


class Kind(StrEnum):
    """What an alert is about."""

    FAILURE = "failure"
    RECOVERY = "recovery"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One thing that somebody is to be told, complete."""

    id: str
    """32 hexadecimal digits; the same whenever it is sent again."""
    kind: Kind
    reason: Reason
    level: Level
    at: datetime
    title: str
    """One line that is enough to decide whether to get up; without the cluster's name."""
    sentence: str
    """What happened and what is done about it."""
    ref: Ref | None = None
    """None: it is about a source."""
    source: str = ""
    path: str = ""
    """Of the manifest in the source."""
    commit: str = ""
    """For display: `main@sha1:…`, of the content that failed, or that is good again."""
    digest: str = ""
    good_commit: str | None = None
    """Of what is put back; "" where it was adopted, None where there is none (or none known)."""
    revision: str = ""
    """Hash of the ControllerRevision that failed."""
    failure_class: FailureClass | None = None
    cause: FailureClass | None = None
    """The class of the votes where `failure_class` is `BakeFailed`."""
    nodes: tuple[str, ...] = ()
    """Nodes that voted against it."""
    total: int = 0
    """Nodes that should run the pod; 0: not known any more."""
    evidence: tuple[Sign, ...] = ()
    """At most `EVIDENCE_MAX`, voting nodes first."""
    unlisted: int = 0
    """Nodes with evidence beyond that."""
    failed: FailedContent | None = None
    """Since when it ran, and the templates: for paths and hashes only, never to be sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What this process saw when an alert was raised; a restart forgets it."""

    judgement: Judgement | None = None
    failed: FailedContent | None = None
    outcome: str = ""
    """The last decision's sentence about it, where it is free of quotes."""


NOTHING_SEEN = Seen()


def event_id(*parts: object) -> str:
    """Return an id that depends on `parts` alone, shaped as a UUID without dashes (version 5)."""
    text = "\0".join(str(part) for part in parts)
    raw = hashlib.sha256(text.encode(errors="replace")).hexdigest()
    variant = "89ab"[int(raw[16], 16) % 4]
    return f"{raw[:12]}5{raw[13:16]}{variant}{raw[17:32]}"


def seen(decision: Decision, pending: Pending, before: Seen = NOTHING_SEEN) -> Seen:
    """Return what a decision adds to what is known of an alert in its record.

    Args:
        decision: Any of this DaemonSet.
        pending: The alert.
        before: What was known of it.
    """
    record = decision.record
    if decision.failed is not None and record is not None and record.failed == pending.id:
        before = Seen(judgement=decision.judgement, failed=decision.failed)
    if decision.reason is not pending.reason or decision.reason in _QUOTING:
        return before
    return replace(before, outcome=decision.because)


def alert_of(ref: Ref, pending: Pending, record: Record, known: Seen = NOTHING_SEEN) -> Alert:
    """Return the whole alert of an entry in a record.

    Args:
        ref: The DaemonSet.
        pending: The entry, one of `record.alerts`.
        record: As the cluster has it.
        known: What this process saw.
    """
    held = _entry(pending, record)
    judgement = None if pending.recovers else known.judgement
    signs = signs_of(judgement) if judgement else pending.signs
    voting = tuple(each.node for each in signs if each.voting)
    nodes = (narrate.blamed(judgement) if judgement else ()) or (held.nodes if held else ())
    good = record.last_good
    draft = Alert(
        id=pending.id,
        kind=Kind.RECOVERY if pending.recovers else Kind.FAILURE,
        reason=pending.reason,
        level=_level(pending),
        at=pending.at,
        title="",
        sentence="",
        ref=ref,
        source=record.source,
        path=record.path,
        commit=pending.commit,
        digest=pending.digest,
        good_commit=(good.commit or "") if good and good.at <= pending.at else None,
        revision=held.hash if held else "",
        failure_class=pending.failure_class,
        cause=judgement.cause if judgement else pending.cause,
        nodes=nodes or voting,
        total=judgement.total if judgement else pending.total,
        evidence=signs[:EVIDENCE_MAX],
        unlisted=max(0, len(signs) - EVIDENCE_MAX) if judgement else pending.more,
        failed=known.failed,
    )
    return _told(draft, record, known)


def signs_of(judgement: Judgement) -> tuple[Sign, ...]:
    """Return the evidence of a judgement as it is told, voting nodes first."""
    return tuple(_sign(each) for each in judgement.evidence)


def found_again(pending: Pending, record: Record, revisions: Iterable[Revision]) -> FailedContent:
    """Return what the cluster still shows of content whose failure an earlier agent raised.

    Args:
        pending: One of `record.alerts`.
        record: As the cluster has it.
        revisions: Of the DaemonSet; old ones may be gone.
    """
    held, good = _entry(pending, record), record.last_good
    templates = {each.hash: each.template for each in revisions}
    return FailedContent(
        since=pending.since,
        good=templates.get(good.hash) if good and good.at <= pending.at else None,
        bad=templates.get(held.hash) if held else None,
    )


def told_by(ref: Ref, decision: Decision) -> tuple[Alert, ...]:
    """Return the alerts that stand in a decision's record, with what the decision shows."""
    record = decision.record
    if record is None:
        return ()
    return tuple(alert_of(ref, each, record, seen(decision, each)) for each in record.alerts)


def fingerprint(alert: Alert, cluster: str) -> tuple[str, ...]:
    """Return what makes two alerts the same issue: cluster, namespace, name, digest, class."""
    if alert.ref is None:
        return (cluster, "source", alert.source, str(alert.kind), str(alert.reason))
    last = alert.failure_class or ("Recovered" if alert.kind is Kind.RECOVERY else alert.reason)
    return (cluster, alert.ref.namespace, alert.ref.name, alert.digest, str(last))


# ---------------------------------------------------------------------------- the pieces


def _entry(pending: Pending, record: Record) -> Quarantined | None:
    """Return the quarantine entry of the content that failed; released ones are gone."""
    found = (each for each in record.quarantine if each.digest == pending.digest)
    return None if pending.recovers else next(found, None)


def _level(pending: Pending) -> Level:
    """A rolled back failure can wait for the morning; one that was not cannot."""
    if pending.recovers:
        return "info"
    return "error" if pending.reason in (Reason.ROLLED_BACK, Reason.ROLLING_BACK) else "fatal"


def _sign(each: Evidence) -> Sign:
    return Sign(
        node=each.node,
        pod=each.pod,
        state=each.state,
        failure_class=each.failure_class or "",
        container=each.container,
        what=each.message,
        restarts=each.restarts,
        since=each.since,
        voting=each.voting,
    )


def _told(draft: Alert, record: Record, known: Seen) -> Alert:
    if draft.kind is Kind.RECOVERY:
        return replace(draft, title=_recovered(draft), sentence=_recovery(draft, known))
    return replace(draft, title=_failed(draft), sentence=_failure(draft, record, known))


def _failed(alert: Alert) -> str:
    """Return `logging/agent: 3f2a91c failed on 1 of 40 nodes (CrashLoop), back on 9d01b7e`."""
    commit, good = narrate.short(alert.commit), _good(alert)
    outcome = {
        Reason.ROLLED_BACK: f"back on {good}",
        Reason.ROLLING_BACK: f"going back to {good}",
        Reason.ROLLBACK_FAILED: f"and the way back to {good} stopped",
    }.get(alert.reason, "NOT rolled back")
    return f"{alert.ref}: {commit} failed{_where(alert)} ({_why(alert)}), {outcome}"


def _good(alert: Alert) -> str:
    """Name what was gone back to; told late, the record may have a newer last good."""
    return "what ran before" if alert.good_commit is None else narrate.short(alert.good_commit)


def _where(alert: Alert) -> str:
    if alert.total:
        return f" on {len(alert.nodes)} of {narrate.nodes(alert.total)}" if alert.nodes else ""
    return f" on {narrate.named(alert.nodes)}" if alert.nodes else ""


def _why(alert: Alert) -> str:
    cause = f", {alert.cause}" if alert.cause else ""
    return f"{alert.failure_class or FailureClass.NO_PROGRESS}{cause}"


def _failure(alert: Alert, record: Record, known: Seen) -> str:
    """Return why it failed, in words of ours, and what was made of it."""
    first = next((each for each in alert.evidence if each.node in alert.nodes), None)
    place = f" on {narrate.named(alert.nodes)}" if alert.nodes else ""
    said = [part for part in ((first.container, first.what) if first else ()) if part]
    quote = f" ({': '.join(said)})" if said else ""
    why = f"{narrate.short(alert.commit)} failed: {_why(alert)}{place}{quote}."
    return f"{why} {known.outcome or _outcome(alert, record)}"


def _outcome(alert: Alert, record: Record) -> str:
    good = _good(alert)
    if alert.reason is Reason.ROLLED_BACK:
        return f"Back on {good}."
    if alert.reason is Reason.ROLLBACK_FAILED:
        return f"Going back to {good} stopped. Nothing more is done; look at the nodes."
    if alert.reason is Reason.ROLLING_BACK:
        return f"Going back to {good}."
    if record.phase is Phase.HELD:
        return "It stays where it is and goes no further; `dsgitops rollback` goes back."
    return "Nothing is put back."


def _recovered(alert: Alert) -> str:
    commit = narrate.short(alert.commit)
    if alert.reason is Reason.ROLLOUT_FINISHED:
        return f"{alert.ref}: recovered, {commit} is rolled out"
    return f"{alert.ref}: recovered, Git is back at {commit}"


def _recovery(alert: Alert, known: Seen) -> str:
    return known.outcome or f"{narrate.short(alert.commit)} is what runs and what Git has."
