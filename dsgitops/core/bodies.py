"""The exact bodies of every write, as tried on a real API server (`cluster.md` 0 to 4).

Every write of an existing object carries its uid and resourceVersion; every forward write carries
the record (without it, apply would remove the annotation) and the change cause.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from dsgitops.core import record as records
from dsgitops.core.model import EMPTY, strategy_of
from dsgitops.core.ownership import our_metadata

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dsgitops.core.model import Desired, Live, Revision
    from dsgitops.core.record import LastGood, Record

CHANGE_CAUSE = "kubernetes.io/change-cause"
MANAGED_BY = "app.kubernetes.io/managed-by"
PREFIX = "dsgitops.io/"
FRESH = "-dsgitops-fresh"
"""Ends the name under which a dry run asks what a new object would be; nothing is stored."""
_NAME_MAX = 253 - len(FRESH)

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
    ignored = frozenset(_steps(pointer) for pointer in desired.ignore_diff)
    given: Body = _left_out(desired.manifest, ignored)
    spec = dict(given.get("spec") or EMPTY)
    if hold:
        spec["updateStrategy"] = on_delete(desired.manifest["spec"])
    elif ("spec", "updateStrategy") not in ignored:
        spec["updateStrategy"] = strategy_body(spec)
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": _forward_metadata(desired, given.get("metadata") or EMPTY, live, record),
        "spec": spec,
    }


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
    """Return `updateStrategy` as Git has it, with both numbers.

    Written out even where Git has none: what a pause wrote would otherwise stay, being nobody's.
    """
    strategy = strategy_of(spec)
    return on_delete(spec) | {"type": strategy.type}


def rollback(live: Live, revision: Revision, good: LastGood, record: Record, cause: str) -> Body:
    """Return the strategic merge body that restores a revision's template byte for byte."""
    return {
        "metadata": _preconditions(live)
        | {"annotations": {records.ANNOTATION: records.dump(record), CHANGE_CAUSE: cause}},
        "spec": {
            "template": {**revision.template, "$patch": "replace"},
            # without a strategy a hold would stay, and nothing would go back
            "updateStrategy": dict(good.strategy) or _released(live),
            "minReadySeconds": good.min_ready_seconds,
        },
    }


def fresh(desired: Desired, record: Record) -> Body:
    """Return the forward write as it would create an object under a name that nobody has."""
    name = desired.ref.name[:_NAME_MAX].rstrip("-.") + FRESH
    nameless = replace(desired, ref=replace(desired.ref, name=name))
    return forward(nameless, None, record, hold=False)


def sweep(live: Live, record: Record) -> Body:
    """Return the apply body that makes every field of the live spec ours and changes none.

    Labels and annotations that are ours already go along: apply would remove them.
    """
    entries = live.managed_fields
    labels, annotations = (our_metadata(entries, name) for name in ("labels", "annotations"))
    ours = {key: each for key, each in live.annotations.items() if key in annotations}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {
            "name": live.ref.name,
            "namespace": live.ref.namespace,
            "labels": {key: each for key, each in live.labels.items() if key in labels},
            "annotations": ours | {records.ANNOTATION: records.dump(record)},
        }
        | _preconditions(live),
        "spec": live.spec,
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


def with_record(body: Mapping[str, Any], record: Record) -> Body:
    """Return a body of any write with another record in it."""
    metadata = body["metadata"]
    annotations = metadata["annotations"] | {records.ANNOTATION: records.dump(record)}
    return {**body, "metadata": {**metadata, "annotations": annotations}}


def _released(live: Live) -> Body:
    return on_delete(live.spec) | {"type": "RollingUpdate"}


def _forward_metadata(
    desired: Desired, given: Mapping[str, Any], live: Live | None, record: Record
) -> Body:
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


def _steps(pointer: str) -> tuple[str, ...]:
    parts = pointer.removeprefix("/").split("/")
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in parts)


def _left_out(value: Any, ignored: frozenset[tuple[str, ...]], at: tuple[str, ...] = ()) -> Any:  # noqa: ANN401
    """Return any JSON without what JSON pointers name; indexes count as in the original."""
    if not ignored or not isinstance(value, dict | list):
        return value
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    kept = [
        (key, _left_out(each, ignored, (*at, str(key))))
        for key, each in pairs
        if (*at, str(key)) not in ignored
    ]
    return dict(kept) if isinstance(value, dict) else [each for _, each in kept]
