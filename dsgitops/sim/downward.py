"""What a variable or a file of a pod may ask of the pod itself (the downward API), as validated."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from dsgitops.sim import causes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dsgitops.sim.schema import Object

_SUBSCRIPTED = re.compile(r"(?P<path>.+?)\['(?P<key>.*)'\]", re.DOTALL)
_WITH_KEYS = ("metadata.annotations", "metadata.labels")
_OF_VARIABLES = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)
_OF_FILES = (
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
)
_KNOWN = {
    *_OF_VARIABLES,
    *_OF_FILES,
    "spec.host",
    "spec.restartPolicy",
    "spec.schedulerName",
    "status.phase",
}
_RESOURCES = tuple(
    f"{kind}.{name}"
    for kind in ("limits", "requests")
    for name in ("cpu", "ephemeral-storage", "memory")
)
_HUGE_PAGES = ("requests.hugepages-", "limits.hugepages-")


def of_variable(source: Object, field: str) -> Iterator[causes.Cause]:
    """Yield what is wrong with the references of a variable's `valueFrom`."""
    if source.get("fieldRef") is not None:
        yield from _field(source["fieldRef"], _OF_VARIABLES, f"{field}.fieldRef")
    if source.get("resourceFieldRef") is not None:
        yield from _resource(source["resourceFieldRef"], f"{field}.resourceFieldRef")


def of_files(items: Sequence[Object], field: str) -> Iterator[causes.Cause]:
    """Yield what is wrong with the files of a volume; causes do not say of which."""
    for each in items:
        if not each.get("path"):
            yield causes.required(f"{field}.path")
        if each.get("fieldRef") is not None:
            yield from _field(each["fieldRef"], _OF_FILES, f"{field}.fieldRef")
            if each.get("resourceFieldRef") is not None:
                detail = "fieldRef and resourceFieldRef can not be specified simultaneously"
                yield causes.invalid(field, "resource", detail)
        elif each.get("resourceFieldRef") is not None:
            reference, here = each["resourceFieldRef"], f"{field}.resourceFieldRef"
            if not reference.get("containerName"):
                yield causes.required(f"{here}.containerName")
            else:
                yield from _resource(reference, here)
        else:
            yield causes.required(field, "one of fieldRef and resourceFieldRef is required")


def _field(given: Object, allowed: Sequence[str], field: str) -> Iterator[causes.Cause]:
    path = given.get("fieldPath") or ""
    here = f"{field}.fieldPath"
    subscripted = _SUBSCRIPTED.fullmatch(path)
    if not path:
        yield causes.required(here)
    elif subscripted is not None and subscripted["path"] in _WITH_KEYS:
        key = subscripted["key"]
        key = key.lower() if subscripted["path"] == "metadata.annotations" else key
        if not causes.is_qualified(key):
            yield causes.unqualified(key, field)
    elif subscripted is not None:
        detail = f"error converting fieldPath: field label does not support subscript: {path}"
        yield causes.invalid(here, path, detail)
    elif path not in _KNOWN:
        detail = f"error converting fieldPath: field label not supported: {path}"
        yield causes.invalid(here, path, detail)
    elif (known := "spec.nodeName" if path == "spec.host" else path) not in allowed:
        yield causes.unsupported(here, known, allowed)


def _resource(given: Object, field: str) -> Iterator[causes.Cause]:
    wanted = given.get("resource") or ""
    if not wanted:
        yield causes.required(f"{field}.resource")
    elif wanted not in _RESOURCES and not wanted.startswith(_HUGE_PAGES):
        yield causes.unsupported(f"{field}.resource", wanted, _RESOURCES)
