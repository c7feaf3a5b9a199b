"""The resources that the simulated API server serves, and how paths name them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dsgitops.sim import schema

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dsgitops.sim.schema import Object, Struct

READ_WRITE = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One resource of one API version."""

    plural: str
    kind: str
    group: str = ""
    namespaced: bool = True
    subresources: tuple[str, ...] = ()
    short_names: tuple[str, ...] = ()
    type_name: str = ""
    """In the schema, where it is not the kind."""
    empty: Mapping[str, object] = field(default_factory=dict[str, object])
    """What Go's zero value looks like in JSON, beside metadata: parts that no write adds."""
    of_stub: Mapping[str, str] = field(default_factory=dict[str, str])
    """Annotations that the API server's own conversion gives to a bookmark."""

    @property
    def api_version(self) -> str:
        """Return `apps/v1`, `v1`."""
        return f"{self.group}/v1" if self.group else "v1"

    @property
    def qualified(self) -> str:
        """Return `daemonsets.apps`, `pods`: as messages name it."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def type(self) -> Struct:
        """Return the type of its objects."""
        return schema.kind(self.type_name or self.kind)

    @property
    def has_status(self) -> bool:
        """Whether status is written through a subresource only."""
        return "status" in self.subresources

    def empty_object(self) -> Object:
        """Return an object with nothing in it, as a new one starts in Go."""
        return {"apiVersion": self.api_version, "kind": self.kind, "metadata": {}, **self.empty}


_EMPTY_DAEMON_SET: Mapping[str, object] = {
    "spec": {
        "selector": None,
        "template": {"metadata": {}, "spec": {"containers": None}},
        "updateStrategy": {},
    },
    "status": {
        "currentNumberScheduled": 0,
        "numberMisscheduled": 0,
        "desiredNumberScheduled": 0,
        "numberReady": 0,
    },
}

DAEMON_SETS = Resource(
    plural="daemonsets",
    kind="DaemonSet",
    group="apps",
    subresources=("status",),
    short_names=("ds",),
    empty=_EMPTY_DAEMON_SET,
    of_stub={"deprecated.daemonset.template.generation": "0"},
)
PODS = Resource(
    plural="pods",
    kind="Pod",
    subresources=("status", "eviction"),
    short_names=("po",),
    empty={"spec": {"containers": None}, "status": {}},
)
NODES = Resource(
    plural="nodes",
    kind="Node",
    namespaced=False,
    subresources=("status",),
    short_names=("no",),
    empty={"spec": {}, "status": {}},
)
NAMESPACES = Resource(
    plural="namespaces",
    kind="Namespace",
    namespaced=False,
    subresources=("status",),
    short_names=("ns",),
    empty={"spec": {}, "status": {}},
)
EVENTS = Resource(
    plural="events",
    kind="Event",
    short_names=("ev",),
    empty={"involvedObject": {}, "source": {}},
)
NEW_EVENTS = Resource(
    plural="events",
    kind="Event",
    group="events.k8s.io",
    short_names=("ev",),
    type_name="EventsEvent",
    empty={"regarding": {}, "deprecatedSource": {}},
)
RESOURCES = (
    DAEMON_SETS,
    Resource(plural="controllerrevisions", kind="ControllerRevision", group="apps"),
    PODS,
    NODES,
    NAMESPACES,
    EVENTS,
    NEW_EVENTS,
    Resource(plural="configmaps", kind="ConfigMap", short_names=("cm",)),
    Resource(plural="secrets", kind="Secret"),
    Resource(plural="serviceaccounts", kind="ServiceAccount", short_names=("sa",)),
    Resource(plural="leases", kind="Lease", group="coordination.k8s.io", empty={"spec": {}}),
)
GROUPS = (
    "apps",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "coordination.k8s.io",
    "events.k8s.io",
)

_BY_PATH = {(each.group, each.plural): each for each in RESOURCES}
_STORED = {each.plural: each for each in RESOURCES if each is not NEW_EVENTS}


@dataclass(frozen=True, slots=True)
class Route:
    """What a path names."""

    resource: Resource
    namespace: str | None
    """None: cluster-wide."""
    name: str = ""
    subresource: str = ""


def resource_of(plural: str) -> Resource | None:
    """Return the resource under which the store keeps objects of a plural."""
    return _STORED.get(plural)


def route(path: str) -> Route | None:
    """Return what a path names; None where nothing is served."""
    steps = [step for step in path.split("/") if step]
    if steps[:2] == ["api", "v1"]:
        group, rest = "", steps[2:]
    elif len(steps) > 2 and steps[0] == "apis" and steps[2] == "v1":
        group, rest = steps[1], steps[3:]
    else:
        return None
    namespace = None
    if rest[:1] == ["namespaces"] and len(rest) > 2 and (group, rest[2]) in _BY_PATH:
        namespace, rest = rest[1], rest[2:]
    resource = _BY_PATH.get((group, rest[0])) if rest else None
    if resource is None or len(rest) > 3:
        return None
    if (namespace is not None) != resource.namespaced and len(rest) > 1:
        return None
    subresource = rest[2] if len(rest) == 3 else ""
    if subresource and subresource not in resource.subresources:
        return None
    return Route(resource, namespace, rest[1] if len(rest) > 1 else "", subresource)


# ---------------------------------------------------------------------------- the two Events

_RENAMED = {
    "regarding": "involvedObject",
    "note": "message",
    "reportingController": "reportingComponent",
    "deprecatedSource": "source",
    "deprecatedFirstTimestamp": "firstTimestamp",
    "deprecatedLastTimestamp": "lastTimestamp",
    "deprecatedCount": "count",
}
_BACK = {core: new for new, core in _RENAMED.items()}


def stored(resource: Resource, obj: Object) -> Object:
    """Return an object as the store keeps it: Events of both groups are one thing."""
    if resource is not NEW_EVENTS:
        return obj
    core = {_RENAMED.get(key, key): value for key, value in obj.items()}
    return core | {"apiVersion": EVENTS.api_version, "kind": EVENTS.kind}


def served(resource: Resource, obj: Object) -> Object:
    """Return a stored object as a resource serves it, with its kind and version first."""
    kind = {"kind": resource.kind, "apiVersion": resource.api_version}
    if resource is NEW_EVENTS:
        return kind | {_BACK.get(key, key): value for key, value in obj.items()} | kind
    return kind | obj if obj.get("kind") != resource.kind else obj
