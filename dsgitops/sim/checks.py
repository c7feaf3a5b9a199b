"""What the API server looks at before it writes: identity, options, version, size, validity."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from dsgitops.sim import answers, validation
from dsgitops.sim.resources import DAEMON_SETS, NEW_EVENTS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dsgitops.sim.resources import Resource, Route
    from dsgitops.sim.schema import Object
    from dsgitops.sim.validation import Cause

APPLY = "application/apply-patch+yaml"
STRATEGIC = "application/strategic-merge-patch+json"
MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
PATCHES = (JSON_PATCH, MERGE, STRATEGIC, APPLY)

STORED_MAX_BYTES = 1_572_864
"""etcd's limit on one request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the query and the headers say about a write."""

    manager: str
    """`fieldManager`, or the first word of the User-Agent."""
    named_manager: bool = False
    force: bool | None = None
    dry_run: bool = False
    validation: str = "Warn"
    """`fieldValidation`: Strict, Warn or Ignore."""


def identity(route: Route, given: Object, *, what: str) -> None:
    """Check kind, version, namespace and name of a body against the URL."""
    resource = route.resource
    kind, version = given.get("kind", resource.kind), given.get("apiVersion")
    if kind != resource.kind or version not in (None, resource.api_version):
        raise answers.bad_request(
            f"{kind} in version {json.dumps(version or '')} cannot be handled as a "
            f"{resource.kind}: no kind {json.dumps(kind)} is registered for the internal version "
            f"of group {json.dumps(resource.group)}"
        )
    metadata = given.get("metadata") or {}
    namespace = metadata.get("namespace")
    if resource.namespaced and namespace not in (None, "", route.namespace):
        raise answers.bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )
    name = metadata.get("name")
    if what != "POST" and name not in (None, "", route.name):
        raise answers.bad_request(
            f"the name of the object ({name}) does not match the name on the URL ({route.name})"
        )


def apply_identity(route: Route, config: Object) -> None:
    """Check that an apply is of the URL's type and object.

    Raises:
        Refused: 400.
    """
    resource = route.resource
    kind, version = config.get("kind") or "", config.get("apiVersion") or ""
    if (kind, version) != (resource.kind, resource.api_version):
        raise answers.bad_request(f"invalid object type: {version}, Kind={kind}")
    identity(route, config, what="PATCH")


def patch_options(media: str, options: Options) -> None:
    """Check that an apply names its manager, and that nothing else forces.

    Raises:
        Refused: 422.
    """
    if media == APPLY and not options.named_manager:
        message = "Required value: is required for apply patch"
        cause = validation.Cause(validation.REQUIRED, "fieldManager", message)
        raise answers.invalid_options("PatchOptions", cause)
    if media != APPLY and options.force is not None:
        message = "Forbidden: may not be specified for non-apply patch"
        cause = validation.Cause(validation.FORBIDDEN, "force", message)
        raise answers.invalid_options("PatchOptions", cause)


def version(resource: Resource, live: Object, new: Object) -> None:
    """Check the version that the body carries; "" and "0" are none at all."""
    given = new["metadata"].get("resourceVersion") or "0"
    if not str(given).isdigit():
        raise answers.internal(
            f'resourceVersion: Invalid value: "{given}": strconv.ParseUint: parsing "{given}": '
            "invalid syntax"
        )
    if given not in ("0", live["metadata"]["resourceVersion"]):
        raise answers.conflict(resource, live["metadata"]["name"], answers.MODIFIED)


def size(new: Object) -> None:
    """Check that etcd would take the object.

    Raises:
        Refused: 500, as etcd's refusal comes through.
    """
    if len(json.dumps(new)) > STORED_MAX_BYTES:
        raise answers.internal("etcdserver: request is too large")


def refuse_strictly(resource: Resource, problems: list[str], patch: bytes | None) -> NoReturn:
    """Refuse unknown and double fields: 400 of a whole object, 422 of a patch.

    Raises:
        Refused: Always.
    """
    joined = "strict decoding error: " + ", ".join(problems)
    if patch is None:
        raise answers.bad_request(
            f'{resource.kind} in version "v1" cannot be handled as a {resource.kind}: {joined}'
        )
    quoted = json.dumps(patch.decode(errors="replace"))
    cause = validation.Cause(validation.INVALID, "patch", f"Invalid value: {quoted}: {joined}")
    raise answers.Refused(
        answers.status(
            422,
            "Invalid",
            f' "" is invalid: patch: {cause.message}',
            {"causes": [{"reason": cause.reason, "message": cause.message, "field": cause.field}]},
        )
    )


def causes(resource: Resource, new: Object, old: Object | None) -> Iterable[Cause]:
    """Yield what is wrong with an object that is to be stored; `old` is None to create."""
    if old is not None:
        yield from validation.metadata_update(old, new)
    yield from validation.metadata(new, namespaced=resource.namespaced)
    if resource is DAEMON_SETS:
        yield from validation.daemon_set(new)
        if old is not None:
            yield from validation.daemon_set_update(old, new)
    elif resource is NEW_EVENTS:
        yield from validation.event(new) if old is None else validation.event_update(old, new)
    elif resource.plural == "controllerrevisions" and old is not None:
        yield from validation.controller_revision_update(old, new)
