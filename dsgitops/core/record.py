"""What the agent remembers of one DaemonSet: the annotation `dsgitops.io/record`.

It travels in the same PATCH as the template it speaks of, so there is no moment in which the agent
has acted and not remembered.  The fields are public API (`interfaces.md`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from dsgitops.core.model import EMPTY, FailureClass, Phase, Reason, WaitingFor

if TYPE_CHECKING:
    from collections.abc import Mapping

ANNOTATION = "dsgitops.io/record"
VERSION = 1
SIZE_MAX = 8192
"""Bytes.  All annotations of an object together may have 256 KiB; ours are copied into every
ControllerRevision."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LastGood:
    """The last content that was fully rolled out and stayed healthy for the bake time."""

    digest: str | None
    """None: adopted, from no commit of ours."""
    template: str | None = None
    """Template digest, where the content came from Git."""
    commit: str | None
    revision: str
    """Name of the ControllerRevision."""
    hash: str
    strategy: Mapping[str, Any] = EMPTY
    """`spec.updateStrategy` with both numbers."""
    min_ready_seconds: int = 0
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """Content that failed here and is not applied again until Git moves or a person says so."""

    digest: str
    template: str
    hash: str = ""
    commit: str
    failure_class: FailureClass
    at: datetime
    nodes: tuple[str, ...] = ()
    by: str = ""
    """For `ByHand`: who, as far as known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BadBefore:
    """Nodes that were not fine before the rollout: they never block and never vote."""

    count: int
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """What speaks against one node's pod, without a word of the kubelet's."""

    node: str
    pod: str = ""
    state: str = ""
    failure_class: str = ""
    container: str = ""
    what: str = ""
    """`ended 3 times, last with exit code 1 (Error)`; "" where only the kubelet has words."""
    restarts: int = 0
    since: datetime | None = None
    voting: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """An alert that is not delivered yet (`core/alerts.py` makes the whole of it)."""

    id: str
    reason: Reason
    """`RollingBack` while the outcome is awaited."""
    at: datetime
    digest: str = ""
    """Of the content that failed, or that is good again; it may be another's by now."""
    commit: str = ""
    failure_class: FailureClass | None = None
    cause: FailureClass | None = None
    """The class of the votes where `failure_class` is `BakeFailed`."""
    since: datetime | None = None
    """When the content that failed was written; in the bake, when all nodes were available."""
    total: int = 0
    """Nodes that should run the pod; 0: not known."""
    signs: tuple[Sign, ...] = ()
    """The first of the evidence, for an agent that did not see it; goes first for want of room."""
    more: int = 0
    """Nodes with evidence beyond `signs`."""

    @property
    def recovers(self) -> bool:
        """Whether it says that a failure is over."""
        return self.reason in (Reason.ROLLOUT_FINISHED, Reason.IN_SYNC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """See `interfaces.md`, Record.  `extra` keeps keys of newer agents."""

    source: str
    path: str = ""
    commit: str = ""
    """Of the content that was last written."""
    digest: str = ""
    template: str = ""
    uid: str = ""
    """Of the object it speaks of; empty in the write that creates."""
    n: int = 0
    """Counts writes of the record: was a lost answer ours?"""
    phase: Phase = Phase.IDLE
    reason: Reason = Reason.IN_SYNC
    waiting_for: WaitingFor | None = None
    started: datetime | None = None
    """The forward write; in `Baking`, when all nodes were available."""
    progressed: datetime | None = None
    last_good: LastGood | None = None
    bad_before: BadBefore | None = None
    quarantine: tuple[Quarantined, ...] = ()
    alerts: tuple[Pending, ...] = ()
    """Alerts that nobody confirmed yet; always empty where no channel is configured."""
    failed: str = ""
    """Id of the last failure that was told and is not over; empty where no channel is."""
    retried: str = ""
    """The last `dsgitops.io/retry-at` that was acted on."""
    swept: str = ""
    """Digest of the content for which every field was made ours; gone once it is written."""
    writes: tuple[datetime, ...] = ()
    """Times of drift writes in the last hour."""
    v: int = VERSION
    extra: Mapping[str, Any] = EMPTY

    @property
    def good_commit(self) -> str | None:
        """Commit of the last good content; None: there is none, or it was adopted."""
        return self.last_good.commit if self.last_good else None

    def next(self, **changes: Any) -> Record:  # noqa: ANN401 - dataclasses.replace, typed there
        """Return the record of the next write; what was waited for is over unless it is given."""
        return replace(self, **{"n": self.n + 1, "waiting_for": None} | changes)

    def holds(self, template: str, digest: str) -> Quarantined | None:
        """Return the quarantine entry that covers this content.

        The *template* is held: a new label or annotation around it does not free it.  An entry
        without one (what ran was adopted, from no content of ours) holds its digest alone.
        """
        for entry in self.quarantine:
            if entry.digest == digest or (entry.template and entry.template == template):
                return entry
        return None


def dump(record: Record) -> str:
    """Return the annotation's value: compact JSON, sorted keys, at most `SIZE_MAX` bytes.

    Over that, evidence of alerts goes first, then node names (those of the quarantine, which are
    for people, before those of the baseline, which excuse nodes), then the oldest quarantine
    entries; the newest stays.
    """
    text = _encode(record)
    if not _fits(text) and any(each.signs for each in record.alerts):
        record = replace(record, alerts=tuple(_bare(each) for each in record.alerts))
        text = _encode(record)
    if _fits(text):
        return text
    bare = replace(
        record, quarantine=tuple(replace(entry, nodes=()) for entry in record.quarantine)
    )
    bad = bare.bad_before
    while bad is not None and bad.nodes and not _fits(_encode(bare)):
        bad = replace(bad, nodes=bad.nodes[: len(bad.nodes) * 3 // 4])
        bare = replace(bare, bad_before=bad)
    while len(bare.quarantine) > 1 and not _fits(_encode(bare)):
        bare = replace(bare, quarantine=bare.quarantine[1:])
    return _encode(bare)


def _bare(each: Pending) -> Pending:
    return replace(each, signs=(), more=each.more + len(each.signs))


def has_room(record: Record, spare: int) -> bool:
    """Return whether `dump` drops nothing of a record, and would not with `spare` bytes more."""
    return _fits(_encode(record), spare)


def _fits(text: str, spare: int = 0) -> bool:
    return len(text.encode()) + spare <= SIZE_MAX


def load(text: str) -> Record | None:
    """Read the annotation; None when it is not a record of ours (someone wrote over it).

    Never raises: what people put into annotations is data.  Of a newer version only `v` and
    `source` are read: its other words may be unknown here, and it is never written.
    """
    try:
        given = json.loads(text)
        if "\\u" in text:  # a lone surrogate could be read, and never be written again
            json.dumps(given, ensure_ascii=False).encode()
        return _decode(given) if given["v"] <= VERSION else _newer(given)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def stamp(at: datetime) -> str:
    """Return an instant as the record has it: UTC, whole seconds."""
    return at.astimezone(UTC).replace(microsecond=0).isoformat().replace("+00:00", "Z")


def instant(text: str) -> datetime:
    """Read an instant; the inverse of `stamp`.

    Raises:
        ValueError: `text` is not an instant with a time zone.
    """
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(f"no time zone in {text!r}")
    return at.astimezone(UTC)


def _present(pairs: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in pairs.items() if value not in (None, "", (), [])}


def _encode(record: Record) -> str:
    good = record.last_good
    out: dict[str, Any] = dict(record.extra)
    out |= _present(
        {
            "v": record.v,
            "source": record.source,
            "path": record.path,
            "commit": record.commit,
            "digest": record.digest,
            "template": record.template,
            "uid": record.uid,
            "n": record.n,
            "phase": record.phase,
            "reason": record.reason,
            "waitingFor": record.waiting_for,
            "started": record.started and stamp(record.started),
            "progressed": record.progressed and stamp(record.progressed),
            "quarantine": [_encode_quarantined(entry) for entry in record.quarantine],
            "alerts": [_encode_pending(each) for each in record.alerts],
            "failed": record.failed,
            "retried": record.retried,
            "swept": record.swept,
            "writes": [stamp(at) for at in record.writes],
        }
    )
    if good is not None:
        out["lastGood"] = {
            "digest": good.digest,
            "commit": good.commit,
            "revision": good.revision,
            "hash": good.hash,
            "strategy": dict(good.strategy),
            "minReadySeconds": good.min_ready_seconds,
            "at": stamp(good.at),
        } | _present({"template": good.template})
    if record.bad_before is not None and record.bad_before.count:
        out["badBefore"] = {
            "count": record.bad_before.count,
            "nodes": list(record.bad_before.nodes),
        }
    return json.dumps(out, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _encode_quarantined(entry: Quarantined) -> dict[str, Any]:
    return _present(
        {
            "digest": entry.digest,
            "template": entry.template,
            "hash": entry.hash,
            "commit": entry.commit,
            "class": entry.failure_class,
            "at": stamp(entry.at),
            "nodes": list(entry.nodes),
            "by": entry.by,
        }
    )


def _encode_pending(each: Pending) -> dict[str, Any]:
    return _present(
        {
            "id": each.id,
            "reason": each.reason,
            "at": stamp(each.at),
            "digest": each.digest,
            "commit": each.commit,
            "class": each.failure_class,
            "cause": each.cause,
            "since": each.since and stamp(each.since),
            "total": each.total or None,
            "evidence": [_encode_sign(sign) for sign in each.signs],
            "more": each.more or None,
        }
    )


def _encode_sign(sign: Sign) -> dict[str, Any]:
    return _present(
        {
            "node": sign.node,
            "pod": sign.pod,
            "state": sign.state,
            "class": sign.failure_class,
            "container": sign.container,
            "message": sign.what,
            "restarts": sign.restarts or None,
            "since": sign.since and stamp(sign.since),
            "voting": sign.voting or None,
        }
    )


_KNOWN = frozenset(
    """v source path commit digest template uid n phase reason waitingFor started progressed
    lastGood badBefore quarantine alerts failed retried swept writes""".split()  # noqa: SIM905 - a list reads worse
)


def _newer(given: dict[str, Any]) -> Record:
    extra = {key: value for key, value in given.items() if key not in ("v", "source")}
    return Record(v=int(given["v"]), source=_text(given, "source"), extra=extra)


def _text(given: dict[str, Any], key: str) -> str:
    """Return a string; "" where there is none.

    Raises:
        TypeError: It is something else.
    """
    value = given.get(key, "")
    if not isinstance(value, str):
        raise TypeError(f"{key} is no string")
    return value


def _text_or_none(given: dict[str, Any], key: str) -> str | None:
    return None if given.get(key) is None else _text(given, key)


def _texts(given: dict[str, Any], key: str) -> tuple[str, ...]:
    values = given.get(key, [])
    if not isinstance(values, list) or not all(isinstance(each, str) for each in values):
        raise TypeError(f"{key} is no list of strings")
    return tuple(values)


def _decode(given: dict[str, Any]) -> Record:
    good = given.get("lastGood")
    bad = given.get("badBefore")
    return Record(
        v=int(given["v"]),
        source=_text(given, "source"),
        path=_text(given, "path"),
        commit=_text(given, "commit"),
        digest=_text(given, "digest"),
        template=_text(given, "template"),
        uid=_text(given, "uid"),
        n=int(given.get("n", 0)),
        phase=Phase(given.get("phase", "Idle")),
        reason=Reason(given.get("reason", "InSync")),
        waiting_for=WaitingFor(given["waitingFor"]) if "waitingFor" in given else None,
        started=instant(given["started"]) if "started" in given else None,
        progressed=instant(given["progressed"]) if "progressed" in given else None,
        last_good=None if good is None else _decode_last_good(good),
        bad_before=None
        if bad is None
        else BadBefore(count=int(bad["count"]), nodes=_texts(bad, "nodes")),
        quarantine=tuple(_decode_quarantined(entry) for entry in given.get("quarantine", ())),
        alerts=tuple(_decode_pending(each) for each in given.get("alerts", ())),
        failed=_text(given, "failed"),
        retried=_text(given, "retried"),
        swept=_text(given, "swept"),
        writes=tuple(instant(at) for at in given.get("writes", ())),
        extra={key: value for key, value in given.items() if key not in _KNOWN},
    )


def _decode_last_good(given: dict[str, Any]) -> LastGood:
    strategy = given.get("strategy", {})
    if not isinstance(strategy, dict):
        raise TypeError("strategy is no map")
    return LastGood(
        digest=_text_or_none(given, "digest"),
        template=_text_or_none(given, "template"),
        commit=_text_or_none(given, "commit"),
        revision=_text(given, "revision"),
        hash=_text(given, "hash"),
        strategy=strategy,
        min_ready_seconds=int(given.get("minReadySeconds", 0)),
        at=instant(given["at"]),
    )


def _decode_pending(given: dict[str, Any]) -> Pending:
    return Pending(
        id=_text(given, "id"),
        reason=Reason(given["reason"]),
        at=instant(given["at"]),
        digest=_text(given, "digest"),
        commit=_text(given, "commit"),
        failure_class=FailureClass(given["class"]) if "class" in given else None,
        cause=FailureClass(given["cause"]) if "cause" in given else None,
        since=instant(given["since"]) if "since" in given else None,
        total=int(given.get("total", 0)),
        signs=tuple(_decode_sign(each) for each in given.get("evidence", ())),
        more=int(given.get("more", 0)),
    )


def _decode_sign(given: dict[str, Any]) -> Sign:
    return Sign(
        node=_text(given, "node"),
        pod=_text(given, "pod"),
        state=_text(given, "state"),
        failure_class=_text(given, "class"),
        container=_text(given, "container"),
        what=_text(given, "message"),
        restarts=int(given.get("restarts", 0)),
        since=instant(given["since"]) if "since" in given else None,
        voting=given.get("voting") is True,
    )


def _decode_quarantined(given: dict[str, Any]) -> Quarantined:
    return Quarantined(
        digest=_text(given, "digest"),
        template=_text(given, "template"),
        hash=_text(given, "hash"),
        commit=_text(given, "commit"),
        failure_class=FailureClass(given["class"]),
        at=instant(given["at"]),
        nodes=_texts(given, "nodes"),
        by=_text(given, "by"),
    )
