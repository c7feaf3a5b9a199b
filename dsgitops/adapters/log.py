"""Log lines: one per change of decision, as JSON or text, on stderr.

Control characters of others (commit messages, kubelet texts) are escaped: a line is a line.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, TextIO

from dsgitops.core.model import NodeState
from dsgitops.core.narrate import short
from dsgitops.core.news import WARNINGS
from dsgitops.errors import DsgitopsError

if TYPE_CHECKING:
    from dsgitops.core.model import Decision, Ref

LOGGER = logging.getLogger("dsgitops")


def configure(
    form: Literal["json", "text"], *, verbose: bool = False, stream: TextIO | None = None
) -> None:
    """Send our log lines, and nobody else's, to `stream` (stderr)."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    LOGGER.handlers[:] = [handler]
    LOGGER.setLevel(logging.DEBUG if verbose else logging.INFO)
    LOGGER.propagate = False


class JsonLines(logging.Formatter):
    """`ts, level, daemonset, commit, reason, message, nodes_ready, nodes, class`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line."""
        line: dict[str, Any] = {"ts": _stamp(record), "level": record.levelname.lower()}
        line |= _fields(record)
        line["message"] = record.getMessage()
        return json.dumps(line, ensure_ascii=True)


class TextLines(logging.Formatter):
    """`09:00:12 kube-system/fluentd RolledBack Back on 9d01b7e: …`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line."""
        fields = _fields(record)
        words = [_stamp(record)[11:19], fields.get("daemonset"), fields.get("reason")]
        message = record.getMessage().encode("unicode_escape", "replace").decode("ascii")
        if record.getMessage().isprintable():
            message = record.getMessage()
        return " ".join([*(str(word) for word in words if word), message])


class LogVoice:
    """`ports.Voice` into the log."""

    def tell(self, ref: Ref, decision: Decision, now: datetime, *, news: bool) -> None:
        """See `ports.Voice`."""
        level = logging.WARNING if decision.reason in WARNINGS else logging.INFO
        fields = decision_fields(ref, decision)
        LOGGER.log(
            level if news else logging.DEBUG,
            "%s",
            decision.because,
            extra={"fields": fields, "at": now},
        )

    def problem(self, source: str, what: str, *, remedy: str = "") -> None:
        """See `ports.Voice`."""
        text = f"{what}; {remedy}" if remedy else what
        LOGGER.warning("%s", text, extra={"fields": {"source": source}})

    def fault(self, ref: Ref, error: Exception) -> None:
        """See `ports.Voice`: our own errors by their text, others by class only (secrets)."""
        if isinstance(error, DsgitopsError):
            what = f"{error.what}; {error.remedy}" if error.remedy else error.what
        else:
            what = f"unexpected {type(error).__name__} at {_place(error)}"
        LOGGER.error("%s", what, extra={"fields": {"daemonset": str(ref)}})

    def read(self, source: str, commit: str, now: datetime, *, partial: bool) -> None:
        """See `ports.Voice`."""
        some = ", some files unreadable" if partial else ""
        LOGGER.info(
            "read %s%s", short(commit), some, extra={"fields": {"source": source}, "at": now}
        )


def decision_fields(ref: Ref, decision: Decision) -> dict[str, Any]:
    """Return the fields of a decision's line, absent ones left out."""
    judgement = decision.judgement
    fields: dict[str, Any] = {
        "daemonset": str(ref),
        "commit": decision.record.commit if decision.record else None,
        "reason": str(decision.reason),
        "class": decision.failure_class,
    }
    if judgement is not None:
        fields["nodes_ready"] = judgement.count(NodeState.DESIRED)
        fields["nodes"] = judgement.total
    return {key: value for key, value in fields.items() if value is not None}


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields: dict[str, Any] = getattr(record, "fields", {})
    return fields


def _stamp(record: logging.LogRecord) -> str:
    at: datetime = getattr(record, "at", None) or datetime.fromtimestamp(record.created, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _place(error: Exception) -> str:
    """Return file and line of our innermost frame: never a value."""
    trace = error.__traceback__
    place = "unknown place"
    while trace is not None:
        code = trace.tb_frame.f_code
        if "dsgitops" in code.co_filename:
            place = f"{code.co_filename.rpartition('dsgitops/')[2]}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place
