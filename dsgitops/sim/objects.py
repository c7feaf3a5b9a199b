"""Reading and building API objects: plain dicts, as JSON has them."""

from __future__ import annotations

import json
from typing import Any

Object = dict[str, Any]
"""An API object or a part of one.  Those that come from the store are never changed in place."""

_UNITS = {
    "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60,
    "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15, "E": 10**18,
    "m": 1e-3, "u": 1e-6, "n": 1e-9,
}  # fmt: skip


def dig(item: Any, *path: str, default: Any = None) -> Any:  # noqa: ANN401 - JSON
    """Return what is found below `path`, or `default` where a step is missing or null."""
    for key in path:
        if not isinstance(item, dict):
            return default
        item = item.get(key)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return default if item is None else item


def each(item: Any, *path: str) -> list[Object]:  # noqa: ANN401 - JSON
    """Return the list of objects below `path`; empty where it is missing or null."""
    found: list[Object] | None = dig(item, *path)
    return found or []


def name_of(item: Object) -> str:
    """Return `metadata.name`."""
    return str(item["metadata"]["name"])


def namespace_of(item: Object) -> str:
    """Return `metadata.namespace`, "" for what belongs to the cluster."""
    return str(item["metadata"].get("namespace", ""))


def uid_of(item: Object) -> str:
    """Return `metadata.uid`."""
    return str(item["metadata"]["uid"])


def labels_of(item: Object) -> dict[str, str]:
    """Return `metadata.labels`."""
    metadata: Object = item.get("metadata") or {}
    return metadata.get("labels") or {}


def is_terminating(item: Object) -> bool:
    """Whether it has a deletionTimestamp."""
    return bool(item["metadata"].get("deletionTimestamp"))


def controller_of(item: Object) -> Object | None:
    """Return the ownerReference with `controller: true`."""
    for reference in each(item, "metadata", "ownerReferences"):
        if reference.get("controller"):
            return reference
    return None


def owned_by(owner: Object, kind: str, api_version: str) -> Object:
    """Return the ownerReference of a child that `owner` controls."""
    return {
        "apiVersion": api_version,
        "kind": kind,
        "name": name_of(owner),
        "uid": uid_of(owner),
        "controller": True,
        "blockOwnerDeletion": True,
    }


def with_metadata(item: Object, **changes: Any) -> Object:  # noqa: ANN401 - JSON
    """Return a copy with fields of its metadata replaced; None removes one."""
    metadata = {**item["metadata"], **changes}
    return {**item, "metadata": {key: it for key, it in metadata.items() if it is not None}}


def condition_of(item: Object, kind: str) -> Object | None:
    """Return one of `status.conditions`."""
    status: Object = item.get("status") or {}
    conditions: list[Object] = status.get("conditions") or []
    for condition in conditions:
        if condition.get("type") == kind:
            return condition
    return None


def is_ready(item: Object) -> bool:
    """Whether condition Ready is True; of a pod or a node."""
    ready = condition_of(item, "Ready")
    return ready is not None and ready.get("status") == "True"


def is_finished(pod: Object) -> bool:
    """Whether the pod's phase is terminal."""
    status: Object = pod.get("status") or {}
    return status.get("phase") in ("Failed", "Succeeded")


def node_of(pod: Object) -> str:
    """Return the node a DaemonSet's pod is for, bound to it or not yet."""
    bound: str = dig(pod, "spec", "nodeName", default="")
    if bound:
        return bound
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    terms = each(pod, "spec", "affinity", "nodeAffinity", required, "nodeSelectorTerms")
    for term in terms:
        for field in each(term, "matchFields"):
            if field.get("key") == "metadata.name" and len(field.get("values", ())) == 1:
                return str(field["values"][0])
    return ""


def selects(selector: Object, labels: dict[str, str]) -> bool:
    """Whether a LabelSelector matches; an empty one matches everything."""
    wanted: dict[str, str] = dig(selector, "matchLabels", default={})
    if any(labels.get(key) != value for key, value in wanted.items()):
        return False
    return all(holds(it, labels) for it in each(selector, "matchExpressions"))


def holds(requirement: Object, labels: dict[str, str]) -> bool:
    """Whether one `{key, operator, values}` holds of labels (or of a node's fields)."""
    value = labels.get(str(requirement.get("key")))
    values: list[str] = requirement.get("values") or []
    match requirement.get("operator"):
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt" as operator:
            return _compares(operator, value, values)
        case _:
            return False


def _compares(operator: str, value: str | None, values: list[str]) -> bool:
    try:
        given, bound = int(value or ""), int(values[0])
    except (ValueError, IndexError):
        return False
    return given > bound if operator == "Gt" else given < bound


def quantity(text: Any) -> float:  # noqa: ANN401 - a number or a string, as people write it
    """Return a resource quantity as a number: `10m` is 0.01, `16Mi` is 16777216."""
    given = str(text)
    for suffix, factor in _UNITS.items():
        if given.endswith(suffix):
            return float(given[: -len(suffix)] or 0) * factor
    return float(given or 0)


def canonical(item: Any) -> str:  # noqa: ANN401 - JSON
    """Return the JSON that equal contents share: sorted keys, no spaces."""
    return json.dumps(item, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
