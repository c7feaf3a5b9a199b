"""Actions as requests: content types, field managers and queries, and what dry runs answer.

Bodies come complete from `core/bodies.py`; nothing is added to them here but a newer
resourceVersion, where nothing but the status has changed since the decision.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, assert_never

from dsgitops.adapters.kubernetes.kinds import CORE, path_of, path_of_daemonset
from dsgitops.core import record as records
from dsgitops.core.actions import Apply, DeletePod, Prune, Rehearse, Remember, Restore
from dsgitops.core.bodies import CHANGE_CAUSE
from dsgitops.core.model import Rehearsal
from dsgitops.ports import Request

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from dsgitops.core.model import Ref

SERVER_SIDE_APPLY = "application/apply-patch+yaml"
STRATEGIC_MERGE = "application/strategic-merge-patch+json"
MERGE = "application/merge-patch+json"
MANAGER = "dsgitops"
RECORD_MANAGER = "dsgitops-record"
CLI_MANAGER = "dsgitops-cli"
WRITE_SECONDS = 30.0
"""An API server whose etcd is away answers a write with 504 after 34 s; we wait no longer."""
PATHS_MAX = 50
"""Fields that a rehearsal names."""
NO_CONTENT = frozenset(
    {records.ANNOTATION, CHANGE_CAUSE, "deprecated.daemonset.template.generation"}
)
"""Annotations that say something about the content and are none of it; the last one is the API
server's own counter."""

Json = dict[str, Any]
Write = Apply | Rehearse | Restore | Remember | DeletePod | Prune
"""The actions that are requests to the API server."""


def request_of(action: Write, *, dry_run: bool = False) -> Request:
    """Return the request that carries an action out.

    Args:
        action: With a complete body.
        dry_run: Ask what would happen, and change nothing.  A `Rehearse` always does.
    """
    match action:
        case Apply() | Rehearse():
            query = {"fieldManager": MANAGER, "force": "true", "fieldValidation": "Strict"}
            dry_run = dry_run or isinstance(action, Rehearse)
            return patch(action.ref, action.body, SERVER_SIDE_APPLY, query, dry_run=dry_run)
        case Restore():
            query = {"fieldManager": MANAGER, "fieldValidation": "Strict"}
            return patch(action.ref, action.body, STRATEGIC_MERGE, query, dry_run=dry_run)
        case Remember():
            query = {"fieldManager": RECORD_MANAGER}
            return patch(action.ref, action.body, MERGE, query, dry_run=dry_run)
        case DeletePod():
            path = path_of(CORE, "pods", action.ref.namespace, action.pod)
            return _delete(path, action.uid, action.resource_version)
        case Prune():
            path = path_of_daemonset(action.ref)
            return _delete(path, action.uid, action.resource_version, propagation="Background")
        case _:
            assert_never(action)


def patch(
    ref: Ref,
    body: Mapping[str, Any],
    content_type: str,
    query: Mapping[str, str],
    *,
    dry_run: bool = False,
) -> Request:
    """Return a PATCH of one DaemonSet.

    Raises:
        ValueError: The body names a resourceVersion that the API server takes for none.
    """
    given = (body.get("metadata") or {}).get("resourceVersion")
    if given is not None and (not str(given).isdecimal() or str(given) == "0"):
        raise ValueError("a resourceVersion that is no number, or 0, is no precondition")
    return Request(
        method="PATCH",
        path=path_of_daemonset(ref),
        query={**query, "dryRun": "All"} if dry_run else query,
        headers={"Content-Type": content_type, "Accept": "application/json"},
        body=encoded(body),
        timeout=WRITE_SECONDS,
    )


def _delete(path: str, uid: str, version: str, propagation: str = "") -> Request:
    body: Json = {
        "kind": "DeleteOptions",
        "apiVersion": "v1",
        "preconditions": {"uid": uid, "resourceVersion": version},
    }
    if propagation:
        body["propagationPolicy"] = propagation
    return Request(
        method="DELETE",
        path=path,
        headers={"Content-Type": "application/json", "Accept": "application/json"},
        body=encoded(body),
        timeout=WRITE_SECONDS,
    )


def doing(action: Write) -> str:
    """Return an action in words, as they follow "cannot": `apply DaemonSet logging/fluentd`."""
    match action:
        case Apply():
            return f"apply DaemonSet {action.ref}"
        case Rehearse():
            return f"dry-run DaemonSet {action.ref}"
        case Restore():
            return f"roll DaemonSet {action.ref} back"
        case Remember():
            return f"write the record of DaemonSet {action.ref}"
        case DeletePod():
            return f"delete pod {action.ref.namespace}/{action.pod}"
        case Prune():
            return f"delete DaemonSet {action.ref}"
        case _:
            assert_never(action)


def encoded(body: Mapping[str, Any]) -> bytes:
    """Return a body as the API server reads it."""
    return json.dumps(body, default=_plain, ensure_ascii=False, separators=(",", ":")).encode()


def _plain(value: object) -> object:
    """Give `json` a dict for any other mapping (frozen values hold them)."""
    return dict(value)  # type: ignore[call-overload]


# ---------------------------------------------------------------------------- comparing objects


def content(daemonset: Mapping[str, Any]) -> Json:
    """Return what a write of content changes: spec, labels, and annotations beside `NO_CONTENT`."""
    metadata = daemonset.get("metadata") or {}
    annotations = metadata.get("annotations") or {}
    return {
        "spec": daemonset.get("spec") or {},
        "metadata": {
            "labels": metadata.get("labels") or {},
            "annotations": {
                key: each for key, each in annotations.items() if key not in NO_CONTENT
            },
        },
    }


def only_status_moved(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether the same decision would be taken again: nothing but the status was written."""

    def decided_on(daemonset: Mapping[str, Any]) -> Json:
        metadata = dict(daemonset.get("metadata") or {})
        metadata.pop("resourceVersion", None)
        entries = metadata.pop("managedFields", None) or ()
        owners = [each for each in entries if each.get("subresource") != "status"]
        return {"metadata": metadata, "owners": owners, "spec": daemonset.get("spec")}

    return decided_on(before) == decided_on(after)


def fresh_request(action: Rehearse) -> Request:
    """Return the dry run of a creation that nobody will see."""
    name = str(action.fresh["metadata"]["name"])
    ref = replace(action.ref, name=name)
    return request_of(Rehearse(ref=ref, body=action.fresh, digest=action.digest))


def rehearsal(
    digest: str,
    live: Mapping[str, Any] | None,
    answer: Mapping[str, Any],
    fresh: Mapping[str, Any] | None = None,
) -> Rehearsal:
    """Return what a dry run means.

    Ownership is left out of the comparison: after a write of the record alone it always differs,
    and `takeover` decides about it.

    Args:
        digest: Of the content that was asked about.
        live: The object that the answer started from; None: it would be created.
        answer: The object as it would be.
        fresh: A new object of the same content, as it would be; None: not asked, or not known.
    """
    if live is None:
        return Rehearsal(digest=digest, generation=0, equal=False, template_changes=True)
    before, after = content(live), content(answer)
    changed = tuple(differing(before, after))[:PATHS_MAX]
    return Rehearsal(
        digest=digest,
        generation=int(live["metadata"].get("generation") or 0),
        equal=before == after,
        template_changes=template_of(live) != template_of(answer),
        spec_differs=fresh is not None and fresh.get("spec") != answer.get("spec"),
        paths=changed,
    )


def template_of(daemonset: Mapping[str, Any]) -> Json:
    """Return `spec.template` without the patch directive that a body or a revision has."""
    template = (daemonset.get("spec") or {}).get("template") or {}
    return {key: each for key, each in template.items() if key != "$patch"}


def differing(before: object, after: object, path: str = "") -> Iterator[str]:
    """Yield the paths of the fields that differ, without their values: `spec.minReadySeconds`."""
    if before == after:
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(before.keys() | after.keys()):
            inside = f"{path}.{key}" if path else str(key)
            yield from differing(before.get(key), after.get(key), inside)
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (old, new) in enumerate(zip(before, after, strict=True)):
            yield from differing(old, new, f"{path}[{index}]")
    else:
        yield path
