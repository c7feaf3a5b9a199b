"""Create, replace, patch and delete, from the body of a request to the store.

The order is the API server's: body, ownership, admission, what the strategy sets, version,
validation, no-op, dry run, store.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from dsgitops.sim import answers, bodies, checks, defaults, fields, patches, schema
from dsgitops.sim.checks import Options
from dsgitops.sim.resources import DAEMON_SETS, NAMESPACES, PODS, served, stored
from dsgitops.sim.store import AlreadyExists

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from dsgitops.sim.resources import Resource, Route
    from dsgitops.sim.schema import Object
    from dsgitops.sim.store import Store


class Hook(Protocol):
    """Admission: a mutating or refusing webhook."""

    def __call__(self, verb: str, resource: str, obj: Object, old: Object | None, /) -> Object:
        """Return the object that goes on.

        Args:
            verb: CREATE or UPDATE.
            resource: The plural.
            obj: As it is to be stored; not to be changed in place.
            old: As it is stored; None to create.

        Raises:
            AdmissionRefused: It must not be.
        """
        ...


class AdmissionRefused(Exception):
    """A hook says no; the message is the end of the 403's."""


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

    def __init__(self, store: Store, now: Callable[[], datetime], hooks: list[Hook]) -> None:
        self._store = store
        self._now = now
        self._hooks = hooks

    # ------------------------------------------------------------------ create

    def create(self, route: Route, body: bytes, options: Options) -> Written:
        """Answer POST.

        Raises:
            Refused: As the API server does.
        """
        duplicates: list[str] = []
        given = bodies.mapping(body, duplicates)
        checks.identity(route, given, what="POST")
        resource = route.resource
        metadata = dict(given.get("metadata") or {})
        if metadata.get("resourceVersion"):
            raise answers.internal("resourceVersion should not be set on objects to be created")
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
        taken = self._live(replace(route, name=new["metadata"].get("name", "")))
        if taken is not None:
            leaving = "deletionTimestamp" in taken["metadata"]
            raise answers.already_exists(resource, new["metadata"]["name"], leaving=leaving)
        if options.dry_run:
            return Written(201, served(resource, self._rehearsed(new)))
        return Written(201, served(resource, self._stored_new(resource, new)))

    def _stored_new(self, resource: Resource, new: Object) -> Object:
        checks.size(new)
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
        """
        duplicates: list[str] = []
        given = bodies.mapping(body, duplicates)
        checks.identity(route, given, what="PUT")
        live = self._live(route)
        if live is None:
            if route.resource.plural == "leases":
                return self.create(route, body, options)
            self._kept(route.resource, given, options, duplicates)  # it is read before looked for
            raise answers.not_found(route.resource, route.name)
        self._kept(route.resource, given, options, duplicates)
        checks.replaced_uid(route, live, given, options)
        metadata = {**(given.get("metadata") or {}), "name": route.name}
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
        """
        if media not in checks.PATCHES:
            raise answers.unsupported_media(checks.PATCHES)
        checks.patch_options(media, options)
        if media == checks.APPLY:
            return self._apply(route, body, options)
        duplicates: list[str] = []
        patch = bodies.parsed(body, duplicates)
        live = self._live(route)
        if live is None:
            raise answers.not_found(route.resource, route.name)
        patched = _patched(route.resource, media, live, patch)
        patched = checks.typed(route.resource, patched, body, media, options)
        checks.convertible(route.resource, patched, body)
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
        checks.identity(route, given, what="PATCH")
        new, warnings = self._kept(resource, given, options, duplicates, patch=patch)
        said = _template_count(new)
        new = _merged_endpoint(route, live, new)
        entries = (given.get("metadata") or {}).get("managedFields")
        if entries is None:  # who does not know of them does not wipe them
            entries = live["metadata"].get("managedFields")
        base = fields.read(entries)
        write = self._write(resource, options, "Update", route.subresource)
        if base.sets:
            counted = new
            if resource is DAEMON_SETS and not route.subresource:
                counted = _with_template_count(new, said)
            base = fields.updated(resource.type, _bare(live), _bare(counted), base, write)
        new = _with_entries(new, base)
        return replace(self._committed(route, live, new, options), warnings=warnings)

    def _apply(self, route: Route, body: bytes, options: Options) -> Written:
        """Answer server-side apply."""
        resource = route.resource
        live = self._live(route)
        given = _applied_body(body, options)
        config = self._config(route, given)
        write = self._write(resource, options, "Apply", route.subresource)
        if live is None:
            return self._applied_new(route, given, config, write, options)
        base = fields.read(live["metadata"].get("managedFields"))
        if not base.sets:
            empty = resource.empty_object()
            base = fields.before_first_apply(resource.type, _bare(live), empty, write)
        try:
            merged, managed = fields.applied(resource.type, _bare(live), config, base, write)
        except fields.Conflicts as conflicts:
            raise answers.apply_conflict(*fields.conflict_texts(conflicts)) from None
        new, _ = self._kept(resource, merged, options, [])
        checks.identity(route, given, what="PATCH")
        new = _with_entries(_merged_endpoint(route, live, new), managed)
        return self._committed(route, live, new, options)

    def _applied_new(
        self, route: Route, given: Object, config: Object, write: fields.Write, options: Options
    ) -> Written:
        resource = route.resource
        uid = (config.get("metadata") or {}).get("uid")
        if uid:
            why = (
                f"uid mismatch: the provided object specified uid {uid}, "
                "and no existing object was found"
            )
            raise answers.conflict(resource, route.name, why)
        checks.identity(route, given, what="PATCH")
        if not (given.get("metadata") or {}).get("name"):
            raise answers.bad_request(
                f"the name of the object ({route.name} based on URL) was undeterminable: "
                "name must be provided"
            )
        version = (config.get("metadata") or {}).get("resourceVersion")
        checks.readable_version(version or "0")
        merged, managed = fields.applied(
            resource.type, resource.empty_object(), config, fields.Managed(), write
        )
        new, _ = self._kept(resource, merged, options, [])
        made = self._created(route, new, managed, options)
        if options.dry_run and version:  # a dry run gives back what it was given
            metadata = {**made.object["metadata"], "resourceVersion": version}
            made = replace(made, object={**made.object, "metadata": metadata})
        return made

    def _config(self, route: Route, config: Object) -> Object:
        """Return the checked body of an apply, with the URL's name and namespace."""
        checks.apply_identity(route, config)
        given: Object = config.get("metadata") or {}
        metadata = given | {"name": route.name}
        if route.namespace is not None:
            metadata["namespace"] = route.namespace
        config = {**config, "metadata": metadata}
        if metadata.get("managedFields") is not None:
            raise answers.bad_request("metadata.managedFields must be nil")
        try:
            schema.check_typed(route.resource.type, config)
        except schema.Mismatch as mismatch:
            where = f"{given.get('namespace', '')}/{given.get('name', '')}"  # as the body has them
            raise answers.internal(
                f"failed to create typed patch object ({where}; {route.resource.api_version}, "
                f"Kind={route.resource.kind}): {mismatch}"
            ) from None
        checks.appliable(route.resource, config)
        return config

    # ------------------------------------------------------------------ the last steps of an update

    def _committed(self, route: Route, live: Object, new: Object, options: Options) -> Written:
        resource = route.resource
        new = self._admitted("UPDATE", resource, new, live)
        new = _with_generation(resource, new, live)
        checks.version(resource, live, new)
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
        checks.size(new)
        metadata = new["metadata"]
        graceful = metadata.get("deletionGracePeriodSeconds")
        if metadata.get("deletionTimestamp") and not metadata.get("finalizers") and not graceful:
            # nothing holds it any more: it goes without being written first
            namespace = metadata.get("namespace") or ""
            self._store.remove(resource.plural, namespace, metadata["name"])
            return new
        return served(resource, self._store.update(resource.plural, stored(resource, new)))

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
        mistakes = list(checks.mistakes(resource, new, old))
        if mistakes:
            raise answers.invalid(resource, new["metadata"].get("name", ""), mistakes)

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
            checks.refuse_strictly(resource, problems, patch)
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


# ---------------------------------------------------------------------------- values

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


def _applied_body(body: bytes, options: Options) -> Object:
    """Return the body of an apply as it was sent.

    Raises:
        Refused: 400.
    """
    duplicates: list[str] = []
    config = bodies.mapping(body, duplicates)
    if duplicates and options.validation == "Strict":
        raise answers.bad_request(
            "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal "
            f"errors:\n  {duplicates[0]}"
        )
    return config


def _patched(resource: Resource, media: str, live: Object, patch: Any) -> Object:  # noqa: ANN401
    try:
        if media == checks.JSON_PATCH:
            patched = patches.json_patch(live, patch)
        elif media == checks.MERGE:
            patched = patches.merge(live, patch)
        else:
            patched = patches.strategic(resource.type, live, patch)
    except patches.TestFailed:
        raise answers.rejected_patch() from None
    except patches.Unmergeable as error:
        raise answers.internal(str(error)) from None
    except patches.NoPatch as error:
        raise answers.bad_request(str(error)) from None
    except patches.BadPatch as error:
        if media == checks.JSON_PATCH:
            raise answers.rejected_patch() from None
        raise answers.bad_request(str(error)) from None
    return bodies.shaped(patched)


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


def _template_count(obj: Object) -> str:
    """Return the template generation that an object says it has; Kubernetes takes none for 0."""
    return str((obj["metadata"].get("annotations") or {}).get(defaults.TEMPLATE_GENERATION) or "0")


def _with_template_count(obj: Object, count: str) -> Object:
    annotations = {
        **(obj["metadata"].get("annotations") or {}),
        defaults.TEMPLATE_GENERATION: count,
    }
    return {**obj, "metadata": {**obj["metadata"], "annotations": annotations}}


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
