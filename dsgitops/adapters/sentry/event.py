"""An alert as a Sentry event, field by field: what is not named here is not sent."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any

from dsgitops.core import narrate
from dsgitops.core.alerts import Alert, Kind, fingerprint
from dsgitops.core.difference import explain
from dsgitops.core.record import Sign, stamp

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

CHANGES_MAX = 40
"""Paths of the diff; of more, how many."""
TAG_MAX = 200
"""Characters that Sentry keeps of a tag, and of a release."""
TEXT_MAX = 2000

Json = dict[str, Any]


def event_of(alert: Alert, *, cluster: str, environment: str, author: str = "") -> Json:
    """Return the event of an alert.

    Args:
        alert: The alert.
        cluster: Its name in the settings.
        environment: Sentry's.
        author: Name of the commit's author; "": not known.
    """
    text = f"[{cluster}] {alert.title}\n\n{alert.sentence}"
    return {
        "event_id": alert.id,
        "timestamp": stamp(alert.at),
        "platform": "other",
        "logger": "dsgitops",
        "level": alert.level,
        "logentry": {"formatted": text[:TEXT_MAX]},
        "transaction": str(alert.ref or alert.source),
        "fingerprint": list(fingerprint(alert, cluster)),
        "release": _hash(alert.commit)[:TAG_MAX],
        "environment": environment or "production",
        "tags": _tags(alert, cluster, author),
        "contexts": _contexts(alert),
    }


def check_in_of(  # noqa: PLR0913 - each is a field of the check-in
    *,
    cluster: str,
    source: str,
    ok: bool,
    seconds: float,
    minutes: int,
    environment: str,
    id_: str,
) -> Json:
    """Return the check-in of one poll.

    Args:
        cluster: Its name in the settings.
        source: The source's.
        ok: Whether the poll read the source.
        seconds: How long it took.
        minutes: How often check-ins come.
        environment: Sentry's.
        id_: 32 hexadecimal digits.
    """
    return {
        "type": "check_in",
        "check_in_id": id_,
        "monitor_slug": slug(cluster, source),
        "status": "ok" if ok else "error",
        "duration": round(seconds, 3),
        "environment": environment or "production",
        "monitor_config": {
            "schedule": {"type": "interval", "value": minutes, "unit": "minute"},
            "checkin_margin": max(2, minutes),
            "max_runtime": max(2, minutes),
            "failure_issue_threshold": 3,
            "recovery_threshold": 1,
        },
    }


def slug(cluster: str, source: str) -> str:
    """Return the name of a source's monitor: lower case, digits, `-` and `_`, at most 50."""
    plain = re.sub(r"[^a-z0-9_-]+", "-", f"dsgitops-{cluster}-{source}".lower()).strip("-")
    return plain[:50].rstrip("-")


def _tags(alert: Alert, cluster: str, author: str) -> dict[str, str]:
    tags = {
        "cluster": cluster,
        "kind": str(alert.kind),
        "reason": str(alert.reason),
        "source": alert.source,
        "namespace": alert.ref.namespace if alert.ref else "",
        "daemonset": alert.ref.name if alert.ref else "",
        "commit": narrate.short(alert.commit) if alert.commit else "",
        "author": author,
        "revision": alert.revision,
        "class": str(alert.failure_class or ""),
        "cause": str(alert.cause or ""),
        "nodes_failed": str(len(alert.nodes)) if alert.kind is Kind.FAILURE and alert.ref else "",
    }
    return {key: _line(value)[:TAG_MAX] for key, value in tags.items() if value}


def _contexts(alert: Alert) -> Json:
    if alert.ref is None:
        return {"source": _present({"source": alert.source, "commit": alert.commit})}
    contexts: Json = {"rollout": _rollout(alert)}
    if alert.evidence:
        contexts["nodes"] = {_line(each.node): _of_node(each) for each in alert.evidence}
        if alert.unlisted:
            contexts["nodes"]["and more"] = narrate.nodes(alert.unlisted)
    elif alert.nodes:
        contexts["nodes"] = {_line(each): "voted against it" for each in alert.nodes[:20]}
    changes = _diff(alert)
    if changes:
        contexts["diff"] = changes
    return contexts


def _rollout(alert: Alert) -> Json:
    since = alert.failed.since if alert.failed else None
    return _present(
        {
            "source": alert.source,
            "path": alert.path,
            "commit": alert.commit,
            "digest": alert.digest,
            "last good": alert.good_commit,
            "revision": alert.revision,
            "class": str(alert.failure_class or ""),
            "written": _at(since),
            "told": stamp(alert.at),
            "seconds": round((alert.at - since).total_seconds()) if since else None,
            "nodes": alert.total or None,
        }
    )


def _of_node(sign: Sign) -> str:
    """Return one node's evidence as people read it; names, numbers and words of ours."""
    parts = [
        sign.failure_class,
        sign.state,
        f"pod {sign.pod}" if sign.pod else "",
        f"container {sign.container}" if sign.container else "",
        sign.what,
        f"{sign.restarts} restarts" if sign.restarts else "",
        f"since {_at(sign.since)}" if sign.since else "",
    ]
    return ", ".join(_line(each) for each in parts if each)


def _diff(alert: Alert) -> Mapping[str, str]:
    """Return what differs between the good and the failed template: paths and hashes."""
    failed = alert.failed
    if failed is None or failed.good is None or failed.bad is None:
        return {}
    changes = explain(failed.good, failed.bad)
    shown = {each.path: _change(each.before, each.after) for each in changes[:CHANGES_MAX]}
    if len(changes) > CHANGES_MAX:
        shown["and more"] = f"{len(changes) - CHANGES_MAX} fields"
    return shown


def _change(before: str, after: str) -> str:
    return f"{_hidden(before)} -> {_hidden(after)}"


def _hidden(value: str) -> str:
    if not value:
        return "absent"
    if value.startswith("sha256:"):
        return value
    return "sha256:" + hashlib.sha256(value.encode(errors="replace")).hexdigest()[:12]


def _present(pairs: Json) -> Json:
    return {key: value for key, value in pairs.items() if value not in (None, "")}


def _at(instant: datetime | None) -> str:
    return stamp(instant) if instant else ""


def _hash(commit: str) -> str:
    return commit.rsplit(":", 1)[-1]


def _line(text: str) -> str:
    return "".join(each if each.isprintable() else " " for each in text)
