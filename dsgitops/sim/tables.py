"""Answers as tables, for `kubectl get`: the columns that people know."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dsgitops.sim.resources import Resource
    from dsgitops.sim.schema import Object

Row = list[Any]
Column = tuple[str, str, int]
"""Name, type, priority (1: only with `-o wide`)."""

_NONE = "<none>"
_UNKNOWN = "<unknown>"

_DAEMON_SET: Sequence[Column] = (
    ("Name", "string", 0),
    ("Desired", "integer", 0),
    ("Current", "integer", 0),
    ("Ready", "integer", 0),
    ("Up-to-date", "integer", 0),
    ("Available", "integer", 0),
    ("Node Selector", "string", 0),
    ("Age", "string", 0),
    ("Containers", "string", 1),
    ("Images", "string", 1),
    ("Selector", "string", 1),
)
_POD: Sequence[Column] = (
    ("Name", "string", 0),
    ("Ready", "string", 0),
    ("Status", "string", 0),
    ("Restarts", "string", 0),
    ("Age", "string", 0),
    ("IP", "string", 1),
    ("Node", "string", 1),
    ("Nominated Node", "string", 1),
    ("Readiness Gates", "string", 1),
)
_REVISION: Sequence[Column] = (
    ("Name", "string", 0),
    ("Controller", "string", 0),
    ("Revision", "string", 0),
    ("Age", "string", 0),
)
_NODE: Sequence[Column] = (
    ("Name", "string", 0),
    ("Status", "string", 0),
    ("Roles", "string", 0),
    ("Age", "string", 0),
    ("Version", "string", 0),
)
_EVENT: Sequence[Column] = (
    ("Last Seen", "string", 0),
    ("Type", "string", 0),
    ("Reason", "string", 0),
    ("Object", "string", 0),
    ("Message", "string", 0),
)
_NAMESPACE: Sequence[Column] = (
    ("Name", "string", 0),
    ("Status", "string", 0),
    ("Age", "string", 0),
)
_LEASE: Sequence[Column] = (("Name", "string", 0), ("Holder", "string", 0), ("Age", "string", 0))
_PLAIN: Sequence[Column] = (("Name", "string", 0), ("Created At", "string", 0))


def table(
    resource: Resource, objects: Sequence[Object], now: datetime, *, headers: bool = True
) -> Object:
    """Return a meta.k8s.io/v1 Table of objects.

    Args:
        resource: What they are.
        objects: In order.
        now: For ages.
        headers: Whether columns are defined; a watch does so once.
    """
    columns, cells = _VIEWS.get(resource.plural, (_PLAIN, _plain))
    body: Object = {"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {}}
    body["columnDefinitions"] = [_definition(each) for each in columns] if headers else None
    body["rows"] = [{"cells": cells(each, now), "object": partial(each)} for each in objects]
    return body


def partial(obj: Object) -> Object:
    """Return an object as PartialObjectMetadata; unlike whole ones it has its kind in lists too."""
    kind = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"}
    return {**kind, "metadata": obj["metadata"]}


def _definition(column: Column) -> Object:
    name, kind, priority = column
    return {
        "name": name,
        "type": kind,
        "format": "name" if name == "Name" else "",
        "description": "",
        "priority": priority,
    }


def age(since: str | None, now: datetime) -> str:
    """Return a time as kubectl shows its age: `75s`, `5m30s`, `3h`, `2d`."""
    if not since:
        return _UNKNOWN
    seconds = int((now - datetime.fromisoformat(since)).total_seconds())
    if seconds < 120:
        return f"{max(seconds, 0)}s"
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if minutes < 10:
        rest = seconds % 60
        return f"{minutes}m{rest}s" if rest else f"{minutes}m"
    if hours < 3:
        return f"{minutes}m"
    if hours < 48:
        rest = minutes % 60
        return f"{hours}h{rest}m" if hours < 8 and rest else f"{hours}h"
    return f"{days}d"


def _daemon_set(obj: Object, now: datetime) -> Row:
    spec, status = obj["spec"], obj.get("status") or {}
    template = spec["template"]["spec"]
    containers = template.get("containers") or []
    return [
        obj["metadata"]["name"],
        status.get("desiredNumberScheduled", 0),
        status.get("currentNumberScheduled", 0),
        status.get("numberReady", 0),
        status.get("updatedNumberScheduled", 0),
        status.get("numberAvailable", 0),
        _labels(template.get("nodeSelector")),
        age(obj["metadata"].get("creationTimestamp"), now),
        ",".join(each["name"] for each in containers),
        ",".join(each.get("image", "") for each in containers),
        _labels((spec.get("selector") or {}).get("matchLabels")),
    ]


def _labels(labels: Object | None) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted((labels or {}).items())) or _NONE


def _pod(obj: Object, now: datetime) -> Row:
    spec, status = obj["spec"], obj.get("status") or {}
    statuses = status.get("containerStatuses") or []
    total = len(spec.get("containers") or [])
    ready = sum(1 for each in statuses if each.get("ready"))
    return [
        obj["metadata"]["name"],
        f"{ready}/{total}",
        _pod_status(obj, status),
        _restarts(statuses, now),
        age(obj["metadata"].get("creationTimestamp"), now),
        status.get("podIP") or _NONE,
        spec.get("nodeName") or _NONE,
        _NONE,
        _NONE,
    ]


def _pod_status(obj: Object, status: Object) -> str:
    """Return what kubectl prints as STATUS: the waiting or terminated reason, or the phase."""
    if obj["metadata"].get("deletionTimestamp"):
        return "Terminating"
    init = _init_reason(obj, status)
    if init:
        return init
    reason = status.get("reason") or status.get("phase") or "Unknown"
    for each in reversed(status.get("containerStatuses") or []):
        state = each.get("state") or {}
        waiting, terminated = state.get("waiting") or {}, state.get("terminated")
        if waiting.get("reason"):
            reason = waiting["reason"]
        elif terminated is not None:
            reason = terminated.get("reason") or f"ExitCode:{terminated.get('exitCode', 0)}"
    return str(reason)


def _init_reason(obj: Object, status: Object) -> str:
    containers = obj["spec"].get("initContainers") or []
    sidecars = {each["name"] for each in containers if each.get("restartPolicy") == "Always"}
    statuses = status.get("initContainerStatuses") or []
    for index, each in enumerate(statuses):
        state = each.get("state") or {}
        terminated = state.get("terminated")
        if terminated is not None and terminated.get("exitCode") == 0:
            continue
        if each["name"] in sidecars and each.get("started"):
            continue
        if terminated is not None:
            return f"Init:{terminated.get('reason') or 'Error'}"
        waiting = (state.get("waiting") or {}).get("reason")
        if waiting and waiting != "PodInitializing":
            return f"Init:{waiting}"
        return f"Init:{index}/{len(containers)}"
    return ""


def _restarts(statuses: Sequence[Object], now: datetime) -> str:
    count = sum(each.get("restartCount", 0) for each in statuses)
    ends = [
        ((each.get("lastState") or {}).get("terminated") or {}).get("finishedAt")
        for each in statuses
    ]
    last = max((each for each in ends if each), default=None)
    return f"{count} ({age(last, now)} ago)" if count and last else str(count)


def _revision(obj: Object, now: datetime) -> Row:
    owners = [
        each for each in obj["metadata"].get("ownerReferences") or [] if each.get("controller")
    ]
    controller = _NONE
    if owners:
        group = owners[0]["apiVersion"].partition("/")[0]
        controller = f"{owners[0]['kind'].lower()}.{group}/{owners[0]['name']}"
    created = age(obj["metadata"].get("creationTimestamp"), now)
    return [obj["metadata"]["name"], controller, str(obj.get("revision", 0)), created]


def _node(obj: Object, now: datetime) -> Row:
    status = obj.get("status") or {}
    ready = [each for each in status.get("conditions") or [] if each["type"] == "Ready"]
    words = ["Unknown"]
    if ready:
        words = ["Ready" if ready[0]["status"] == "True" else "NotReady"]
    if (obj.get("spec") or {}).get("unschedulable"):
        words.append("SchedulingDisabled")
    version = (status.get("nodeInfo") or {}).get("kubeletVersion", "")
    created = age(obj["metadata"].get("creationTimestamp"), now)
    return [obj["metadata"]["name"], ",".join(words), _NONE, created, version]


def _event(obj: Object, now: datetime) -> Row:
    series = obj.get("series") or {}
    about = obj.get("involvedObject") or obj.get("regarding") or {}
    last = series.get("lastObservedTime") or obj.get("lastTimestamp")
    seen = last or obj.get("eventTime") or obj.get("deprecatedLastTimestamp")
    return [
        age(seen, now),
        obj.get("type", ""),
        obj.get("reason", ""),
        f"{about.get('kind', '').lower()}/{about.get('name', '')}",
        (obj.get("message") or obj.get("note") or "").strip(),
    ]


def _namespace(obj: Object, now: datetime) -> Row:
    phase = (obj.get("status") or {}).get("phase", "")
    return [obj["metadata"]["name"], phase, age(obj["metadata"].get("creationTimestamp"), now)]


def _lease(obj: Object, now: datetime) -> Row:
    holder = (obj.get("spec") or {}).get("holderIdentity") or ""
    return [obj["metadata"]["name"], holder, age(obj["metadata"].get("creationTimestamp"), now)]


def _plain(obj: Object, _now: datetime) -> Row:
    return [obj["metadata"]["name"], obj["metadata"].get("creationTimestamp", "")]


_VIEWS: dict[str, tuple[Sequence[Column], Callable[[Object, datetime], Row]]] = {
    "daemonsets": (_DAEMON_SET, _daemon_set),
    "pods": (_POD, _pod),
    "controllerrevisions": (_REVISION, _revision),
    "nodes": (_NODE, _node),
    "events": (_EVENT, _event),
    "namespaces": (_NAMESPACE, _namespace),
    "leases": (_LEASE, _lease),
}
