"""Create, replace, patch and delete, from the body of a request to the store.

The order is the API server's: body, ownership, admission, what the strategy sets, version,
validation, no-op, dry run, store.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from dsgitops.sim import answers, bodies, defaults, fields, patches, schema, validation
from dsgitops.sim.resources import DAEMON_SETS, NAMESPACES, NEW_EVENTS, PODS, served, stored
from dsgitops.sim.store import AlreadyExists

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from dsgitops.sim.resources import Resource, Route
    from dsgitops.sim.schema import Object
    from dsgitops.sim.store import Store
    from dsgitops.sim.validation import Cause

APPLY = "application/apply-patch+yaml"
STRATEGIC = "application/strategic-merge-patch+json"
MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
PATCHES = (JSON_PATCH, MERGE, STRATEGIC, APPLY)

STORED_MAX_BYTES = 1_572_864
"""etcd's limit on one request."""

Hook = "Callable[[str, str, Object, Object | None], Object]"
"""Admission: (CREATE | UPDATE, plural, object, old object) to the object that goes on.

Raises `AdmissionRefused` to refuse.
"""


class AdmissionRefused(Exception):
    """A hook says no; the message is the end of the 403's."""


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


@dataclass(frozen=True, slots=True)
class Written:
    """The answer to a write."""

    code: int
    object: Object
    warnings: tuple[str, ...] = ()


class Writer:
    """Writes objects as an API server does.

    Args:
        store: Where they go.
        now: The virtual clock.
        hooks: Admission, in order; read at every write.
    """

    def __init__(self, store: Store, now: Callable[[], datetime], hooks: list[Any]) -> None:
        self._store = store
        self._now = now
        self._hooks = hooks

    # ------------------------------------------------------------------ create

    def create(self, route: Route, body: bytes, options: Options) -> Written:
        """Answer POST.

        Raises:
            Refused: As the API server does.
            TooLarge: Over 3 MiB.
        """
        duplicates: list[str] = []
        given = bodies.mapping(body, duplicates)
        _check_identity(route, given, what="POST")
        resource = route.resource
        metadata = dict(given.get("metadata") or {})
        if metadata.get("resourceVersion"):
            raise answers.bad_request("resourceVersion should not be set on objects to be created")
        if route.namespace is not None:
            metadata["namespace"] = route.namespace
        new, warnings = self._kept(resource, {**given, "metadata": metadata}, options, duplicates)
        new = _with_generation(resource, new)
        write = self._write(resource, options, "Update", "")
        managed = fields.updated(
            resource.type, resource.empty_object(), _bare(new), fields.Managed(), write
        )
        return replace(self._created(route, new, managed, options), warnings=warnings)

    def _created(
        self, route: Route, new: Object, managed: fields.Managed, options: Options
    ) -> Written:
        resource = route.resource
        self._check_namespace(route)
        metadata = {key: each for key, each in new["metadata"].items() if key not in _SERVER_SET}
        new = {**new, "metadata": metadata | {"managedFields": fields.written(managed)}}
        new = self._admitted("CREATE", resource, new, None)
        new = _with_generation(resource, new)
        if resource.has_status and resource is not PODS:
            status = resource.empty.get("status")
            new = {**new, "status": status} if resource is not NAMESPACES else _active(new)
        self._validate(resource, new, None)
        if options.dry_run:
            return Written(201, served(resource, self._rehearsed(new)))
        return Written(201, served(resource, self._stored_new(resource, new)))

    def _stored_new(self, resource: Resource, new: Object) -> Object:
        _check_size(new)
        try:
            return self._store.create(resource.plural, stored(resource, new))
        except AlreadyExists:
            raise answers.already_exists(resource, new["metadata"]["name"]) from None

    def _rehearsed(self, new: Object) -> Object:
        """Return a new object as a dry run shows it: a uid, a time, no version."""
        metadata = dict(new["metadata"])
        metadata["uid"] = self._store.new_uid()
        metadata["creationTimestamp"] = self._stamp()
        if not metadata.get("name"):
            metadata["name"] = metadata.get("generateName", "") + "dry00"
        return {**new, "metadata": metadata}

    def _check_namespace(self, route: Route) -> None:
        if not route.resource.namespaced:
            return
        namespace = self._store.get("namespaces", "", route.namespace or "")
        if namespace is None:
            raise answers.not_found(NAMESPACES, route.namespace or "")
        if namespace["metadata"].get("deletionTimestamp"):
            why = (
                f"unable to create new content in namespace {route.namespace} "
                "because it is being terminated"
            )
            cause = {
                "reason": "NamespaceTerminating",
                "message": f"namespace {route.namespace} is being terminated",
                "field": "metadata.namespace",
            }
            raise answers.forbidden(route.resource, route.name, why, [cause])

    # ------------------------------------------------------------------ replace

    def replace(self, route: Route, body: bytes, options: Options) -> Written:
        """Answer PUT.

        Raises:
            Refused: As the API server does.
            TooLarge: Over 3 MiB.
        """
        duplicates: list[str] = []
        given = bodies.mapping(body, duplicates)
        _check_identity(route, given, what="PUT")
        live = self._live(route)
        if live is None:
            if route.resource.plural == "leases":
                return self.create(route, body, options)
            raise answers.not_found(route.resource, route.name)
        metadata = {**(given.get("metadata") or {}), "name": route.name}
        if not metadata.get("managedFields"):
            metadata["managedFields"] = live["metadata"].get("managedFields")
        return self._updated(route, live, {**given, "metadata": metadata}, options, duplicates)

    # ------------------------------------------------------------------ patch

    def patch(self, route: Route, media: str, body: bytes, options: Options) -> Written:
        """Answer PATCH.

        Args:
            route: What the path names.
            media: The content type without parameters.
            body: As sent.
            options: Of the query.

        Raises:
            Refused: As the API server does.
            TooLarge: Over 3 MiB.
        """
        if media not in PATCHES:
            raise answers.unsupported_media(PATCHES)
        _check_patch_options(media, options)
        if media == APPLY:
            return self._apply(route, body, options)
        duplicates: list[str] = []
        patch = bodies.parsed(body, duplicates)
        live = self._live(route)
        if live is None:
            raise answers.not_found(route.resource, route.name)
        patched = _patched(route.resource, media, live, patch)
        return self._updated(route, live, patched, options, duplicates, patch=body)

    def _updated(  # noqa: PLR0913 - all of one request
        self,
        route: Route,
        live: Object,
        given: Object,
        options: Options,
        duplicates: list[str],
        *,
        patch: bytes | None = None,
    ) -> Written:
        """Store what a PUT or a patch other than apply made of an object."""
        resource = route.resource
        _check_identity(route, given, what="PATCH")
        new, warnings = self._kept(resource, given, options, duplicates, patch=patch)
        new = _merged_endpoint(route, live, new)
        entries = (given.get("metadata") or {}).get("managedFields")
        base = fields.read(entries)
        write = self._write(resource, options, "Update", route.subresource)
        if base.sets:
            base = fields.updated(resource.type, _bare(live), _bare(new), base, write)
        new = _with_entries(new, base)
        return replace(self._committed(route, live, new, options), warnings=warnings)

    def _apply(self, route: Route, body: bytes, options: Options) -> Written:
        """Answer server-side apply."""
        resource = route.resource
        config = self._config(route, body, options)
        live = self._live(route)
        write = self._write(resource, options, "Apply", route.subresource)
        if live is None:
            return self._applied_new(route, config, write, options)
        base = fields.read(live["metadata"].get("managedFields"))
        if not base.sets:
            empty = resource.empty_object()
            base = fields.before_first_apply(resource.type, _bare(live), empty, write)
        try:
            merged, managed = fields.applied(resource.type, _bare(live), config, base, write)
        except fields.Conflicts as conflicts:
            raise answers.apply_conflict(*fields.conflict_texts(conflicts)) from None
        new, _ = self._kept(resource, merged, options, [])
        new = _with_entries(_merged_endpoint(route, live, new), managed)
        return self._committed(route, live, new, options)

    def _applied_new(
        self, route: Route, config: Object, write: fields.Write, options: Options
    ) -> Written:
        resource = route.resource
        uid = (config.get("metadata") or {}).get("uid")
        if uid:
            why = (
                f"uid mismatch: the provided object specified uid {uid}, "
                "and no existing object was found"
            )
            raise answers.conflict(resource, route.name, why)
        merged, managed = fields.applied(
            resource.type, resource.empty_object(), config, fields.Managed(), write
        )
        new, _ = self._kept(resource, merged, options, [])
        return self._created(route, new, managed, options)

    def _config(self, route: Route, body: bytes, options: Options) -> Object:
        """Return the checked body of an apply, with the URL's name and namespace."""
        duplicates: list[str] = []
        config = bodies.mapping(body, duplicates)
        if duplicates and options.validation == "Strict":
            raise answers.bad_request(
                "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal "
                f"errors:\n  {duplicates[0]}"
            )
        _check_apply_identity(route, config)
        metadata = dict(config.get("metadata") or {}) | {"name": route.name}
        if route.namespace is not None:
            metadata["namespace"] = route.namespace
        config = {**config, "metadata": metadata}
        if metadata.get("managedFields") is not None:
            raise answers.bad_request("metadata.managedFields must be nil")
        try:
            schema.check_typed(route.resource.type, config)
        except schema.Mismatch as mismatch:
            where = f"{route.namespace}/{route.name}" if route.namespace else f"/{route.name}"
            raise answers.internal(
                f"failed to create typed patch object ({where}; {route.resource.api_version}, "
                f"Kind={route.resource.kind}): {mismatch}"
            ) from None
        return config

    # ------------------------------------------------------------------ the last steps of an update

    def _committed(self, route: Route, live: Object, new: Object, options: Options) -> Written:
        resource = route.resource
        new = self._admitted("UPDATE", resource, new, live)
        new = _with_generation(resource, new, live)
        _check_version(resource, live, new)
        self._validate(resource, new, live)
        metadata = {**new["metadata"], "resourceVersion": live["metadata"]["resourceVersion"]}
        metadata["uid"] = live["metadata"]["uid"]
        new = {**new, "metadata": metadata}
        if _timeless(new) == _timeless(live):
            return Written(200, live)
        if options.dry_run:
            return Written(200, new)
        return Written(200, self._stored(resource, new))

    def _stored(self, resource: Resource, new: Object) -> Object:
        _check_size(new)
        saved = served(resource, self._store.update(resource.plural, stored(resource, new)))
        metadata = saved["metadata"]
        if metadata.get("deletionTimestamp") and not metadata.get("finalizers"):
            if metadata.get("deletionGracePeriodSeconds"):
                return saved
            namespace = metadata.get("namespace") or ""
            self._store.remove(resource.plural, namespace, metadata["name"])
        return saved

    def _admitted(self, verb: str, resource: Resource, new: Object, old: Object | None) -> Object:
        for hook in self._hooks:
            try:
                changed = hook(verb, resource.plural, new, old)
            except AdmissionRefused as refused:
                name = new["metadata"].get("name", "")
                raise answers.forbidden(resource, name, str(refused)) from None
            if changed is not new:
                options = Options(manager="admission", validation="Ignore")
                new, _ = self._kept(resource, changed, options, [])
        return new

    def _validate(self, resource: Resource, new: Object, old: Object | None) -> None:
        causes = list(_causes(resource, new, old))
        if causes:
            raise answers.invalid(resource, new["metadata"].get("name", ""), causes)

    def _kept(
        self,
        resource: Resource,
        given: Object,
        options: Options,
        duplicates: list[str],
        *,
        patch: bytes | None = None,
    ) -> tuple[Object, tuple[str, ...]]:
        """Return a body as the server keeps it, and warnings of what it dropped."""
        found = schema.Strictness()
        try:
            clean = schema.decoded(resource.type, given, found)
            clean = defaults.normalised(resource.type, clean)
        except (schema.Mismatch, defaults.BadQuantity) as error:
            raise answers.bad_request(
                f'{resource.kind} in version "v1" cannot be handled as a {resource.kind}: {error}'
            ) from None
        problems = [f'unknown field "{each}"' for each in found.unknown]
        problems += [f"duplicate field: {each}" for each in duplicates]
        if problems and options.validation == "Strict":
            _refuse_strictly(resource, problems, patch)
        clean = {"kind": resource.kind, "apiVersion": resource.api_version, **clean}
        if resource is DAEMON_SETS:
            clean = defaults.daemon_set(clean)
        elif resource is PODS:
            clean = defaults.pod(clean)
        return clean, tuple(problems) if options.validation == "Warn" else ()

    def _live(self, route: Route) -> Object | None:
        found = self._store.get(route.resource.plural, route.namespace or "", route.name)
        return None if found is None else served(route.resource, found)

    def _write(
        self, resource: Resource, options: Options, operation: str, subresource: str
    ) -> fields.Write:
        reset: tuple[schema.Path, ...] = ()
        if subresource == "status":
            reset = (("f:spec",),)
        elif resource.has_status:
            reset = (("f:status",),)
        owner = fields.Owner(options.manager, operation, resource.api_version, subresource)
        return fields.Write(owner, self._stamp(), force=bool(options.force), reset=reset)

    def _stamp(self) -> str:
        return self._now().strftime("%Y-%m-%dT%H:%M:%SZ")

    # ------------------------------------------------------------------ delete

    def delete(self, route: Route, options: Mapping[str, Any], *, dry_run: bool) -> Written:
        """Answer DELETE of one object.

        Args:
            route: What the path names.
            options: DeleteOptions, of the body and the query.
            dry_run: Change nothing.

        Raises:
            Refused: 404, or 409 of a precondition.
        """
        live = self._live(route)
        if live is None:
            raise answers.not_found(route.resource, route.name)
        _check_preconditions(route.resource, live, options.get("preconditions") or {})
        if route.resource is PODS:
            return self._delete_pod(live, options, dry_run=dry_run)
        finalizers = _deletion_finalizers(live, options)
        if finalizers or live["metadata"].get("finalizers"):
            return self._delete_finally(route, live, finalizers, dry_run=dry_run)
        if not dry_run:
            self._gone(route, live)
        return Written(200, _deleted(route.resource, live))

    def _gone(self, route: Route, live: Object) -> None:
        if route.resource is not NAMESPACES:
            self._store.remove(route.resource.plural, route.namespace or "", route.name)
            return
        metadata = {**live["metadata"], "deletionTimestamp": self._stamp()}
        new = {**live, "metadata": metadata, "status": {"phase": "Terminating"}}
        self._store.update("namespaces", new)

    def _delete_finally(
        self, route: Route, live: Object, finalizers: list[str], *, dry_run: bool
    ) -> Written:
        metadata = dict(live["metadata"])
        if not metadata.get("deletionTimestamp"):
            metadata |= {"deletionTimestamp": self._stamp(), "deletionGracePeriodSeconds": 0}
            if metadata.get("generation"):
                metadata["generation"] += 1
        old = metadata.get("finalizers") or []
        metadata["finalizers"] = old + [each for each in finalizers if each not in old]
        new = {**live, "metadata": metadata}
        if not dry_run:
            saved = self._store.update(route.resource.plural, stored(route.resource, new))
            new = served(route.resource, saved)
        return Written(200, new)

    def _delete_pod(self, live: Object, options: Mapping[str, Any], *, dry_run: bool) -> Written:
        metadata = live["metadata"]
        grace = _grace(live, options)
        if grace == 0 and not metadata.get("finalizers"):
            if not dry_run:
                self._store.remove("pods", metadata["namespace"], metadata["name"])
            return Written(200, live)
        left = metadata.get("deletionGracePeriodSeconds")
        if metadata.get("deletionTimestamp") and left is not None and grace >= left:
            return Written(200, live)
        until = self._now() + timedelta(seconds=grace)
        stamped = {
            **metadata,
            "generation": metadata.get("generation", 1) + 1,
            "deletionTimestamp": until.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "deletionGracePeriodSeconds": grace,
        }
        new = {**live, "metadata": stamped}
        return Written(200, new if dry_run else self._store.update("pods", new))

    def evict(self, route: Route, body: bytes, options: Options) -> Written:
        """Answer POST of an Eviction: a delete with a condition that says so.

        Raises:
            Refused: 404, or 409 of a precondition.
        """
        given = bodies.mapping(body)
        live = self._live(route)
        if live is None:
            raise answers.not_found(PODS, route.name)
        wanted = given.get("deleteOptions") or {}
        _check_preconditions(PODS, live, wanted.get("preconditions") or {})
        if not options.dry_run:
            condition = {
                "type": "DisruptionTarget",
                "status": "True",
                "lastProbeTime": None,
                "lastTransitionTime": self._stamp(),
                "reason": "EvictionByEvictionAPI",
                "message": "Eviction API: evicting",
            }
            status = dict(live.get("status") or {})
            others = [
                each for each in status.get("conditions") or [] if each["type"] != condition["type"]
            ]
            status["conditions"] = [*others, condition]
            live = self._store.update("pods", {**live, "status": status})
        self._delete_pod(live, wanted, dry_run=options.dry_run)
        return Written(201, answers.success(code=201))


# ---------------------------------------------------------------------------- checks

_SERVER_SET = frozenset(
    {
        "uid",
        "creationTimestamp",
        "resourceVersion",
        "selfLink",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "managedFields",
        "generation",
    }
)


def _check_identity(route: Route, given: Object, *, what: str) -> None:
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


def _check_apply_identity(route: Route, config: Object) -> None:
    resource = route.resource
    kind, version = config.get("kind") or "", config.get("apiVersion") or ""
    if (kind, version) != (resource.kind, resource.api_version):
        raise answers.bad_request(f"invalid object type: {version}, Kind={kind}")
    _check_identity(route, config, what="PATCH")


def _check_patch_options(media: str, options: Options) -> None:
    if media == APPLY and not options.named_manager:
        message = "Required value: is required for apply patch"
        cause = validation.Cause(validation.REQUIRED, "fieldManager", message)
        raise answers.invalid_options("PatchOptions", cause)
    if media != APPLY and options.force is not None:
        message = "Forbidden: may not be specified for non-apply patch"
        cause = validation.Cause(validation.FORBIDDEN, "force", message)
        raise answers.invalid_options("PatchOptions", cause)


def _check_version(resource: Resource, live: Object, new: Object) -> None:
    """Check the version that the body carries; "" and "0" are none at all."""
    given = new["metadata"].get("resourceVersion") or "0"
    if not str(given).isdigit():
        raise answers.internal(
            f'resourceVersion: Invalid value: "{given}": strconv.ParseUint: parsing "{given}": '
            "invalid syntax"
        )
    if given not in ("0", live["metadata"]["resourceVersion"]):
        raise answers.conflict(resource, live["metadata"]["name"], answers.MODIFIED)


def _check_preconditions(resource: Resource, live: Object, wanted: Mapping[str, Any]) -> None:
    metadata = live["metadata"]
    uid, version = wanted.get("uid"), wanted.get("resourceVersion")
    if uid is not None and uid != metadata["uid"]:
        why = (
            f"the UID in the precondition ({uid}) does not match the UID in record "
            f"({metadata['uid']}). The object might have been deleted and then recreated"
        )
        raise answers.conflict(resource, metadata["name"], why)
    if version is not None and version != metadata["resourceVersion"]:
        why = (
            f"the ResourceVersion in the precondition ({version}) does not match the "
            f"ResourceVersion in record ({metadata['resourceVersion']}). The object might have "
            "been modified"
        )
        raise answers.conflict(resource, metadata["name"], why)


def _check_size(new: Object) -> None:
    if len(json.dumps(new)) > STORED_MAX_BYTES:
        raise answers.internal("etcdserver: request is too large")


def _refuse_strictly(resource: Resource, problems: list[str], patch: bytes | None) -> NoReturn:
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


def _causes(resource: Resource, new: Object, old: Object | None) -> Iterable[Cause]:
    if old is not None:
        yield from validation.metadata_update(old, new)
    if old is None and new["metadata"].get("generateName") and not new["metadata"].get("name"):
        pass  # the store makes the name
    else:
        yield from validation.metadata(new, namespaced=resource.namespaced)
    if resource is DAEMON_SETS:
        yield from validation.daemon_set(new)
        if old is not None:
            yield from validation.daemon_set_update(old, new)
    elif resource is NEW_EVENTS:
        yield from validation.event(new) if old is None else validation.event_update(old, new)
    elif resource.plural == "controllerrevisions" and old is not None:
        yield from validation.controller_revision_update(old, new)


# ---------------------------------------------------------------------------- values


def _patched(resource: Resource, media: str, live: Object, patch: Any) -> Object:  # noqa: ANN401
    try:
        if media == JSON_PATCH:
            patched = patches.json_patch(live, patch)
        elif media == MERGE:
            patched = patches.merge(live, patch)
        else:
            patched = patches.strategic(resource.type, live, patch)
    except patches.TestFailed:
        raise answers.rejected_patch() from None
    except patches.BadPatch as error:
        if media == JSON_PATCH:
            raise answers.rejected_patch() from None
        raise answers.bad_request(str(error)) from None
    if not isinstance(patched, dict):
        raise answers.bad_request("the patch does not make an object")
    return patched


def _merged_endpoint(route: Route, live: Object, new: Object) -> Object:
    """Return what an endpoint may write: status alone, or everything but it."""
    before = live["metadata"]
    metadata = {**new["metadata"], "namespace": before.get("namespace"), "name": before["name"]}
    for name in ("creationTimestamp", "generation", "deletionTimestamp"):
        metadata[name] = before.get(name)
    metadata["deletionGracePeriodSeconds"] = before.get("deletionGracePeriodSeconds")
    metadata.setdefault("uid", before["uid"])
    metadata = {key: each for key, each in metadata.items() if each is not None}
    if route.subresource == "status":
        kept = {**before, "resourceVersion": metadata.get("resourceVersion", "0")}
        return {
            **live,
            "metadata": kept | {"uid": metadata["uid"]},
            "status": new.get("status", {}),
        }
    if route.resource is DAEMON_SETS:
        annotations = dict(metadata.get("annotations") or {})
        kept_count = (before.get("annotations") or {}).get(defaults.TEMPLATE_GENERATION)
        if kept_count is not None:
            metadata["annotations"] = annotations | {defaults.TEMPLATE_GENERATION: kept_count}
    new = {**new, "metadata": metadata}
    if route.resource.has_status and "status" in live:
        new["status"] = live["status"]
    return new


def _with_entries(new: Object, managed: fields.Managed) -> Object:
    metadata = {key: each for key, each in new["metadata"].items() if key != "managedFields"}
    if managed.sets:
        metadata["managedFields"] = fields.written(managed)
    return {**new, "metadata": metadata}


def _with_generation(resource: Resource, new: Object, old: Object | None = None) -> Object:
    """Return the object with generation and template generation as the strategy sets them."""
    if resource not in (DAEMON_SETS, PODS):
        return new
    metadata = dict(new["metadata"])
    annotations = metadata.get("annotations") or {}
    if old is None:
        metadata["generation"] = 1
        templates = 1
    else:
        before = old["metadata"]
        changed = old["spec"] != new["spec"]
        metadata["generation"] = before.get("generation", 1) + (1 if changed else 0)
        count = (before.get("annotations") or {}).get(defaults.TEMPLATE_GENERATION, "1")
        templates = int(count) + (old["spec"].get("template") != new["spec"].get("template"))
    if resource is DAEMON_SETS:
        metadata["annotations"] = annotations | {defaults.TEMPLATE_GENERATION: str(templates)}
    return {**new, "metadata": metadata}


def _active(namespace: Object) -> Object:
    name = namespace["metadata"].get("name", "")
    labels = {"kubernetes.io/metadata.name": name, **(namespace["metadata"].get("labels") or {})}
    return {
        **namespace,
        "metadata": {**namespace["metadata"], "labels": labels},
        "spec": {"finalizers": ["kubernetes"]},
        "status": {"phase": "Active"},
    }


def _bare(obj: Object) -> Object:
    """Return an object without its managedFields."""
    metadata = {key: each for key, each in obj["metadata"].items() if key != "managedFields"}
    return {**obj, "metadata": metadata}


def _timeless(obj: Object) -> Object:
    """Return an object without the times of its entries, to see whether anything changed."""
    metadata = dict(obj["metadata"])
    if "managedFields" in metadata:
        metadata["managedFields"] = [
            {key: each for key, each in entry.items() if key != "time"}
            for entry in metadata["managedFields"]
        ]
    return {**obj, "metadata": metadata}


def _grace(live: Object, options: Mapping[str, Any]) -> int:
    """Return the seconds a pod has; none when it never ran or has ended."""
    spec, status = live.get("spec") or {}, live.get("status") or {}
    if not spec.get("nodeName") or status.get("phase") in ("Succeeded", "Failed"):
        return 0
    given = options.get("gracePeriodSeconds")
    wanted = spec.get("terminationGracePeriodSeconds", 30) if given is None else given
    return max(int(wanted), 0)


def _deletion_finalizers(live: Object, options: Mapping[str, Any]) -> list[str]:
    policy = options.get("propagationPolicy")
    if options.get("orphanDependents"):
        policy = "Orphan"
    if live["kind"] not in ("DaemonSet", "ControllerRevision", "Namespace"):
        return []
    return {"Orphan": ["orphan"], "Foreground": ["foregroundDeletion"]}.get(str(policy), [])


def _deleted(resource: Resource, live: Object) -> Object:
    if resource is NAMESPACES:
        return live
    details = {"name": live["metadata"]["name"]}
    if resource.group:
        details["group"] = resource.group
    details |= {"kind": resource.plural, "uid": live["metadata"]["uid"]}
    return answers.success(details)
