"""DaemonSetStatus: what `get` shows, as the agent's own core judges what is there.

Everything comes from the live object, its record and its pods; only whether Git is still being
read comes from the agent's Lease.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dsgitops.core import narrate
from dsgitops.core import record as records
from dsgitops.core.model import NodeState, Phase, Reason
from dsgitops.core.situation import IN_FLIGHT
from dsgitops.core.standing import OUT_OF_SYNC, health_of, sync_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dsgitops.cli.view import View
    from dsgitops.core.model import Evidence, FailureClass, Judgement, Suspend
    from dsgitops.core.record import Quarantined, Record
    from dsgitops.core.situation import Situation
    from dsgitops.core.standing import Health, Sync

STANDING = OUT_OF_SYNC | {Reason.ROLLOUT_STALLED, Reason.SOURCE_UNREADABLE}
"""Reasons that the agent tells by Events and does not write into the record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What is to be said of one DaemonSet."""

    view: View
    sync: Sync
    health: Health
    reason: str
    message: str
    failure_class: FailureClass | None
    commit: str
    """What Git has, as far as it was tried: `main@sha1:…`."""
    live_commit: str
    """Whose template runs; empty: nobody's, it drifted, or it was adopted."""
    counts: Mapping[str, int]
    evidence: tuple[Evidence, ...]
    suspend: Suspend | None

    @property
    def total(self) -> int:
        """Nodes that should run the pod."""
        return self.counts["total"]

    @property
    def ready(self) -> str:
        """`11/12`: available on the live revision, of the nodes that should run it."""
        return f"{self.counts[NodeState.DESIRED]}/{self.total}"


def status(view: View, *, alive: bool | None) -> Status:
    """Judge one DaemonSet.

    Args:
        view: What was read of it.
        alive: Whether an agent reads its source; None: we may not know, and believe so.
    """
    if view.record is None or view.record.v > records.VERSION:
        return _unmanaged(view)
    situation = view.situation()
    judgement = situation.judgement if view.pods is not None else None
    counts = _counts(view, judgement)
    reason = _reason(view, situation)
    record = situation.record
    return Status(
        view=view,
        sync=_sync(view, situation, reason, alive=alive),
        health=_health(situation, counts),
        reason=reason,
        message=_message(view, situation, reason, judgement),
        failure_class=_class(record, judgement),
        commit=wanted_commit(record),
        live_commit=live_commit(situation),
        counts=counts,
        evidence=judgement.evidence if judgement else (),
        suspend=situation.suspend,
    )


def as_json(found: Status) -> dict[str, Any]:
    """Return the item of `get -o json` (`interfaces.md`)."""
    view, record = found.view, found.view.record
    raw = _raw_record(view)
    item: dict[str, Any] = {
        "namespace": view.live.ref.namespace,
        "name": view.live.ref.name,
        "source": record.source if record else None,
        "path": (record.path if record else "") or None,
        "commit": found.commit or None,
        "liveCommit": found.live_commit or None,
        "sync": found.sync,
        "health": found.health,
        "reason": found.reason or None,
        "message": found.message,
        "phase": str(record.phase) if record else None,
        "digest": (record.digest if record else "") or None,
        "lastGood": raw.get("lastGood"),
        "nodes": dict(found.counts),
        "evidence": [_evidence(each) for each in found.evidence],
        "quarantine": raw.get("quarantine", []),
        "record": raw or None,
    }
    if found.failure_class is not None:
        item["class"] = str(found.failure_class)
    if found.suspend is not None:
        until = found.suspend.until
        item["suspend"] = {
            "reason": found.suspend.reason,
            "by": found.suspend.by,
            "until": records.stamp(until) if until else None,
        }
    return item


def held_content(record: Record) -> Quarantined | None:
    """Return what is kept out while something else runs, or is on its way back."""
    if record.phase not in (Phase.HELD, Phase.ROLLING_BACK):
        return None
    current = record.holds(record.template, record.digest)
    return current or (record.quarantine[-1] if record.quarantine else None)


def wanted_commit(record: Record) -> str:
    """Return the commit that Git has of it: what is held, else what was written."""
    held = held_content(record)
    return held.commit if held is not None else record.commit


def live_commit(s: Situation) -> str:
    """Return the commit whose template is live; empty where it is nobody's."""
    record, good = s.record, s.record.last_good
    if good is not None and s.at_last_good and good.digest != record.digest:
        return good.commit or ""
    return "" if s.template_drifted and not s.at_last_good else record.commit


# ---------------------------------------------------------------------------- the parts


def _unmanaged(view: View) -> Status:
    newer = view.record is not None
    message = "written by a newer dsgitops" if newer else "not managed by dsgitops"
    return Status(
        view=view,
        sync="Unknown",
        health="Unknown",
        reason="",
        message=message,
        failure_class=None,
        commit="",
        live_commit="",
        counts=_counts(view, None),
        evidence=(),
        suspend=None,
    )


def _counts(view: View, judgement: Judgement | None) -> dict[str, int]:
    """Count nodes by state; at rest the status alone says it: all are fine."""
    if judgement is not None:
        return {"total": judgement.total} | {each: judgement.count(each) for each in NodeState}
    live = view.live
    available = min(live.available, live.desired_scheduled)
    counts: dict[str, int] = {"total": live.desired_scheduled} | dict.fromkeys(NodeState, 0)
    counts[NodeState.DESIRED] = available
    counts[NodeState.STARTING] = live.desired_scheduled - available
    return counts


def _reason(view: View, s: Situation) -> str:
    """Return the record's reason, or what the agent said since and did not write."""
    if s.suspend is not None:
        return Reason.SUSPENDED
    told = view.told
    if told is not None and told.reason in STANDING and s.record.phase is not Phase.ROLLING_BACK:
        return told.reason
    return s.record.reason


def _sync(view: View, s: Situation, reason: str, *, alive: bool | None) -> Sync:
    waits = _waits(view, s)
    unknown = alive is False or waits is None
    found = sync_of(s.record.phase, reason, unknown=unknown, pending=bool(waits))
    return "OutOfSync" if found == "Synced" and s.template_drifted else found


def _waits(view: View, s: Situation) -> bool | None:
    """Whether Git has moved past what is suspended: the agent says so; None: it did not say.

    Nothing of it is in the record, as nothing is written.  In mid-rollout the record tells.
    """
    if s.suspend is None or s.record.phase in IN_FLIGHT:
        return False
    told = view.told
    begins = narrate.suspension(s.suspend)
    if told is None or told.reason != Reason.SUSPENDED or not told.message.startswith(begins):
        return None
    return told.message != begins


def _health(s: Situation, counts: Mapping[str, int]) -> Health:
    complete = counts[NodeState.DESIRED] == counts["total"]
    record, suspended = s.record, s.suspend is not None
    return health_of(record.phase, record.reason, suspended=suspended, complete=complete)


def _class(record: Record, judgement: Judgement | None) -> FailureClass | None:
    """Return why what Git has (or had) failed."""
    held = held_content(record)
    if held is not None:
        return held.failure_class
    return judgement.failure_class if judgement and record.phase in IN_FLIGHT else None


def _message(view: View, s: Situation, reason: str, judgement: Judgement | None) -> str:
    """Return the agent's own sentence, or ours from what is seen now where that moves."""
    told = view.told
    if s.suspend is not None:
        return told.message if told and _waits(view, s) else narrate.suspension(s.suspend)
    moving = s.record.phase in IN_FLIGHT or s.record.phase is Phase.ROLLING_BACK
    if told is not None and told.reason == reason and (not moving or reason in STANDING):
        return told.message
    commit = narrate.short(s.record.commit)
    if judgement is not None and moving:
        if s.record.phase is Phase.ROLLING_BACK:
            return f"Back on {_good(s)}: {narrate.progress(judgement)}."
        return f"{commit} is on {narrate.progress(judgement)}."
    entry = held_content(s.record)
    if entry is not None:
        back = f"; {_good(s)} stays" if s.at_last_good else ""
        return f"{narrate.short(entry.commit)} is held ({entry.failure_class}){back}."
    if judgement is not None:
        return f"At {commit}: {narrate.progress(judgement)}."
    nodes = narrate.nodes(view.live.desired_scheduled)
    return f"At {commit}, available on {view.live.available} of {nodes}."


def _good(s: Situation) -> str:
    good = s.record.last_good
    return narrate.short(good.commit if good else None)


def _evidence(each: Evidence) -> dict[str, Any]:
    return {
        "node": each.node,
        "pod": each.pod,
        "state": str(each.state),
        "class": str(each.failure_class) if each.failure_class else None,
        "container": each.container,
        "message": each.message,
        "restarts": each.restarts,
        "since": records.stamp(each.since) if each.since else None,
    }


def _raw_record(view: View) -> dict[str, Any]:
    """Return the record as it is written, keys of newer agents included."""
    if view.record is None:
        return {}
    raw: dict[str, Any] = json.loads(view.live.annotations[records.ANNOTATION])
    return raw
