"""The exact bodies of every write, as tried on a real API server (`cluster.md` 0 to 4).

Every write of an existing object carries its uid and resourceVersion; every forward write carries
the record (without it, apply would remove the annotation) and the change cause.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from dsgitops.core import record as records
from dsgitops.core.model import EMPTY, strategy_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dsgitops.core.model import Desired, Live, Revision
    from dsgitops.core.record import LastGood, Record

CHANGE_CAUSE = "kubernetes.io/change-cause"
MANAGED_BY = "app.kubernetes.io/managed-by"
PREFIX = "dsgitops.io/"

Body = dict[str, Any]


def forward(desired: Desired, live: Live | None, record: Record, *, hold: bool) -> Body:
    """Return the server-side apply body: the manifest of Git, our annotations, preconditions.

    Args:
        desired: What Git has.
        live: The object to change; None creates it (then there is no precondition to give).
        record: The record that travels along.
        hold: Write `updateStrategy` as OnDelete with Git's numbers beside it, so that nothing
            restarts until we delete a pod.
    """
    spec = dict(desired.manifest["spec"])
    if hold:
        spec["updateStrategy"] = on_delete(spec)
    body = {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": _forward_metadata(desired, live, record),
        "spec": spec,
    }
    for pointer in desired.ignore_diff:
        body = _removed(body, [_unescaped(step) for step in pointer.lstrip("/").split("/")])
    return body


def on_delete(spec: Mapping[str, Any]) -> Body:
    """Return `updateStrategy` of type OnDelete with both numbers (missing ones become 0)."""
    strategy = strategy_of(spec)
    return {
        "type": "OnDelete",
        "rollingUpdate": {
            "maxUnavailable": strategy.max_unavailable,
            "maxSurge": strategy.max_surge,
        },
    }


def strategy_body(spec: Mapping[str, Any]) -> Body:
    """Return `updateStrategy` as Git has it, with both numbers."""
    strategy = strategy_of(spec)
    return on_delete(spec) | {"type": strategy.type}


def rollback(live: Live, revision: Revision, good: LastGood, record: Record, cause: str) -> Body:
    """Return the strategic merge body that restores a revision's template byte for byte."""
    return {
        "metadata": _preconditions(live)
        | {"annotations": {records.ANNOTATION: records.dump(record), CHANGE_CAUSE: cause}},
        "spec": {
            "template": {**revision.template, "$patch": "replace"},
            "updateStrategy": dict(good.strategy),
            "minReadySeconds": good.min_ready_seconds,
        },
    }


def remember(
    live: Live,
    record: Record,
    *,
    managed_fields: Sequence[Mapping[str, Any]] | None = None,
    strategy: Literal["OnDelete", "RollingUpdate"] | None = None,
) -> Body:
    """Return the merge body that changes the record, and what must change in the same write.

    Args:
        live: The object.
        record: Its new record.
        managed_fields: The list of `ownership.takeover`, if ownership is to move.
        strategy: Also stop the native controller (OnDelete), or let it go on with the numbers
            that stayed beside it.
    """
    metadata = _preconditions(live) | {"annotations": {records.ANNOTATION: records.dump(record)}}
    if managed_fields:
        metadata["managedFields"] = list(managed_fields)
    body: Body = {"metadata": metadata}
    if strategy:
        body["spec"] = {"updateStrategy": {"type": strategy}}
    return body


def _forward_metadata(desired: Desired, live: Live | None, record: Record) -> Body:
    given: Mapping[str, Any] = desired.manifest["metadata"]
    labels = {MANAGED_BY: "dsgitops"} | dict(given.get("labels") or EMPTY)
    annotations = dict(given.get("annotations") or EMPTY) | {
        CHANGE_CAUSE: desired.commit,
        records.ANNOTATION: records.dump(record),
    }
    metadata: Body = {
        "name": desired.ref.name,
        "namespace": desired.ref.namespace,
        "labels": labels,
        "annotations": annotations,
    }
    return metadata if live is None else metadata | _preconditions(live)


def _preconditions(live: Live) -> Body:
    """Return uid and resourceVersion; `""` and `"0"` would be no precondition at all."""
    if not live.uid or live.resource_version in ("", "0"):
        raise ValueError(f"{live.ref}: a write needs a uid and a resourceVersion")
    return {"uid": live.uid, "resourceVersion": live.resource_version}


def _unescaped(step: str) -> str:
    return step.replace("~1", "/").replace("~0", "~")


def _removed(value: Any, steps: list[str]) -> Any:  # noqa: ANN401 - any JSON
    """Return a copy of `value` without what the pointer's steps name."""
    head, rest = steps[0], steps[1:]
    if isinstance(value, dict) and head in value:
        if rest:
            return value | {head: _removed(value[head], rest)}
        return {key: each for key, each in value.items() if key != head}
    if isinstance(value, list) and head.isdigit() and int(head) < len(value):
        index = int(head)
        middle = [_removed(value[index], rest)] if rest else []
        return [*value[:index], *middle, *value[index + 1 :]]
    return value
