"""What the API server looks at before it writes: identity, options, version, size, validity."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from dsgitops.sim import answers, causes, defaults, schema, validation
from dsgitops.sim.resources import DAEMON_SETS, NEW_EVENTS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dsgitops.sim.causes import Cause
    from dsgitops.sim.resources import Resource, Route
    from dsgitops.sim.schema import Object

APPLY = "application/apply-patch+yaml"
STRATEGIC = "application/strategic-merge-patch+json"
MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
PATCHES = (JSON_PATCH, MERGE, STRATEGIC, APPLY)

_OLD_VERSIONS = {"daemonsets": ("extensions/v1beta1", "apps/v1beta2")}
"""Versions that are read though not served."""
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
    kind, version = given.get("kind") or resource.kind, given.get("apiVersion")
    if kind != resource.kind or version not in (None, "", resource.api_version):
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
    if what == "PUT" and not name:
        raise answers.bad_request(
            f"the name of the object ({route.name} based on URL) was undeterminable: "
            "name must be provided"
        )
    if what != "POST" and name not in (None, "", route.name):
        raise answers.bad_request(
            f"the name of the object ({name}) does not match the name on the URL ({route.name})"
        )


def apply_identity(route: Route, config: Object) -> None:
    """Check that an apply is of the URL's type; of which object is looked at after the merge.

    Raises:
        Refused: 400.
    """
    resource = route.resource
    kind, version = config.get("kind") or "", config.get("apiVersion") or ""
    if (kind, version) != (resource.kind, resource.api_version):
        raise answers.bad_request(f"invalid object type: {version}, Kind={kind}")


def patch_options(media: str, options: Options) -> None:
    """Check that an apply names its manager, and that nothing else forces.

    Raises:
        Refused: 422.
    """
    if media == APPLY and not options.named_manager:
        message = "Required value: is required for apply patch"
        cause = causes.Cause(causes.REQUIRED, "fieldManager", message)
        raise answers.invalid_options("PatchOptions", cause)
    if media != APPLY and options.force is not None:
        message = "Forbidden: may not be specified for non-apply patch"
        cause = causes.Cause(causes.FORBIDDEN, "force", message)
        raise answers.invalid_options("PatchOptions", cause)


def version(resource: Resource, live: Object, new: Object) -> None:
    """Check the version that the body carries; "" and "0" are none at all."""
    given = new["metadata"].get("resourceVersion") or "0"
    readable_version(given)
    if given not in ("0", live["metadata"]["resourceVersion"]):
        raise answers.conflict(resource, live["metadata"]["name"], answers.MODIFIED)


def readable_version(given: str) -> None:
    """Check that a version is a number.

    Raises:
        Refused: 500.
    """
    if not str(given).isdigit():
        raise answers.internal(f'strconv.ParseUint: parsing "{given}": invalid syntax')


def replaced_uid(route: Route, live: Object, given: Object, options: Options) -> None:
    """Check the uid of a PUT, which is a precondition; a patch's is a field that must not change.

    Raises:
        Refused: 409.
    """
    uid, own = (given.get("metadata") or {}).get("uid"), live["metadata"]["uid"]
    if uid and uid != own:
        key = f"/{route.resource.plural}/{route.namespace}/{route.name}"
        key = key if options.dry_run else f"/registry{key}"
        why = (
            f"StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, "
            f"AdditionalErrorMsg: Precondition failed: UID in precondition: {uid}, "
            f"UID in object meta: {own}"
        )
        raise answers.conflict(route.resource, route.name, why)


def propagation(options: Object) -> None:
    """Check how a delete wants to treat what hangs on the object.

    Raises:
        Refused: 422.
    """
    policy = options.get("propagationPolicy")
    if policy not in (None, "Foreground", "Background", "Orphan"):
        message = (
            f'Unsupported value: {json.dumps(policy)}: supported values: "Foreground", '
            '"Background", "Orphan", "nil"'
        )
        cause = causes.Cause(causes.NOT_SUPPORTED, "propagationPolicy", message)
        raise answers.invalid_options("DeleteOptions", cause)


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
    raise _unfit_patch(patch, joined)


def typed(
    resource: Resource, patched: Object, patch: bytes, media: str, options: Options
) -> Object:
    """Return what a patch made, as one of the resource's type.

    A strategic merge is decoded into that type whatever it says; the other ways are decoded as
    what they say they are.

    Raises:
        Refused: 422 of the patch, 400 where it has no version.
    """
    kind, version = patched.get("kind"), patched.get("apiVersion")
    if not all(each is None or isinstance(each, str) for each in (kind, version)):
        raise _unfit_patch(patch, "cannot unmarshal into Go struct field of type string")
    if media != STRATEGIC:
        if not version and options.validation != "Strict":
            raise answers.bad_request("Object 'apiVersion' is missing")
        if version not in (resource.api_version, *_OLD_VERSIONS.get(resource.plural, ())):
            raise _unfit_patch(patch, "no kind is registered for this version")
        if kind not in (None, "", resource.kind):
            raise _unfit_patch(patch, "no such conversion")
    return {**patched, "kind": resource.kind, "apiVersion": resource.api_version}


def convertible(resource: Resource, patched: Object, patch: bytes) -> None:
    """Check that what a strategic merge made is of the resource's type.

    Raises:
        Refused: 422 of the patch; what other ways made is a 400.
    """
    if not (patched.get("metadata") or {}).get("name"):
        raise answers.bad_request("name must be provided")
    try:
        clean = schema.decoded(resource.type, patched, schema.Strictness())
        defaults.normalised(resource.type, clean)
    except (schema.Mismatch, defaults.BadQuantity) as error:
        raise _unfit_patch(patch, str(error)) from None


def appliable(resource: Resource, config: Object) -> None:
    """Check what an apply's schema lets through and the type does not: broken quantities.

    Raises:
        Refused: 500.
    """
    try:
        clean = schema.decoded(resource.type, config, schema.Strictness())
        defaults.normalised(resource.type, clean)
    except (schema.Mismatch, defaults.BadQuantity) as error:
        raise answers.internal(str(error)) from None


def _unfit_patch(patch: bytes, why: str) -> answers.Refused:
    quoted = json.dumps(patch.decode(errors="replace"))
    cause = causes.Cause(causes.INVALID, "patch", f"Invalid value: {quoted}: {why}")
    listed = {"reason": cause.reason, "message": cause.message, "field": cause.field}
    message = f' "" is invalid: patch: {cause.message}'
    return answers.Refused(answers.status(422, "Invalid", message, {"causes": [listed]}))


def mistakes(resource: Resource, new: Object, old: Object | None) -> Iterable[Cause]:
    """Yield what is wrong with an object that is to be stored; `old` is None to create."""
    if old is not None:
        yield from validation.metadata_update(old, new)
    else:
        yield from validation.metadata(new, namespaced=resource.namespaced)
    if resource is DAEMON_SETS:
        if old is not None:
            yield from validation.daemon_set_update(old, new)
        yield from validation.daemon_set(new)
    elif resource is NEW_EVENTS:
        yield from validation.event(new) if old is None else validation.event_update(old, new)
    elif resource.plural == "controllerrevisions" and old is not None:
        yield from validation.controller_revision_update(old, new)
