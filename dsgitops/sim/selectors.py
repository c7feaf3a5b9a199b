"""Label and field selectors of list and watch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dsgitops.sim import answers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dsgitops.sim.resources import Resource
    from dsgitops.sim.schema import Object

_SET = re.compile(r"^(?P<key>\S+)\s+(?P<operator>in|notin)\s+\((?P<values>[^)]*)\)$")

_METADATA = frozenset({"metadata.name", "metadata.namespace"})
_REFERENCE = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
_FIELDS: Mapping[tuple[str, str], frozenset[str]] = {
    ("", "pods"): frozenset(
        {
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        }
    ),
    ("", "nodes"): frozenset({"spec.unschedulable"}),
    ("", "namespaces"): frozenset({"status.phase"}),
    ("", "secrets"): frozenset({"type"}),
    ("", "events"): frozenset(
        {f"involvedObject.{each}" for each in _REFERENCE}
        | {"reason", "reportingComponent", "source", "type"}
    ),
    ("events.k8s.io", "events"): frozenset(
        {f"regarding.{each}" for each in _REFERENCE} | {"reason", "reportingController", "type"}
    ),
}


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on one label or field."""

    key: str
    operator: str
    """`in`, `notin`, `exists`, `absent`."""
    values: frozenset[str] = frozenset()

    def holds(self, value: str | None) -> bool:
        """Whether a value (None: not there) satisfies it."""
        if self.operator == "in":
            return value is not None and value in self.values
        if self.operator == "notin":
            return value is None or value not in self.values
        return (value is not None) == (self.operator == "exists")


@dataclass(frozen=True, slots=True)
class Selection:
    """What a list or watch wants."""

    namespace: str | None = None
    labels: tuple[Requirement, ...] = ()
    fields: tuple[Requirement, ...] = ()

    @property
    def everything(self) -> bool:
        """Whether nothing but the namespace narrows it."""
        return not self.labels and not self.fields

    def matches(self, obj: Object) -> bool:
        """Whether a served object is wanted."""
        metadata = obj["metadata"]
        if self.namespace is not None and metadata.get("namespace") != self.namespace:
            return False
        labels = metadata.get("labels") or {}
        return all(each.holds(labels.get(each.key)) for each in self.labels) and all(
            each.holds(_field(obj, each.key)) for each in self.fields
        )


def selection(resource: Resource, namespace: str | None, query: Mapping[str, str]) -> Selection:
    """Return what a query selects.

    Raises:
        Refused: 400, a selector that cannot be read or a field that cannot be selected by.
    """
    fields = tuple(_requirement(each) for each in _split(query.get("fieldSelector", "")))
    allowed = _METADATA | _FIELDS.get((resource.group, resource.plural), frozenset())
    for each in fields:
        if each.key not in allowed:
            raise answers.bad_request(_not_selectable(resource, each.key))
    labels = tuple(_requirement(each) for each in _split(query.get("labelSelector", "")))
    return Selection(namespace, labels, fields)


def _not_selectable(resource: Resource, key: str) -> str:
    if (resource.group, resource.plural) in _FIELDS:  # those have a conversion of their own
        return f"field label not supported: {key}"
    return f'"{key}" is not a known field selector: only "metadata.name", "metadata.namespace"'


def _split(text: str) -> list[str]:
    """Split at commas outside parentheses."""
    return [part.strip() for part in re.split(r",(?![^(]*\))", text) if part.strip()]


def _requirement(text: str) -> Requirement:
    match = _SET.match(text)
    if match:
        values = frozenset(value.strip() for value in match["values"].split(","))
        return Requirement(match["key"], match["operator"], values)
    for sign, operator in (("!=", "notin"), ("==", "in"), ("=", "in")):
        key, found, value = text.partition(sign)
        if found:
            return Requirement(key.strip(), operator, frozenset({value.strip()}))
    if text.startswith("!"):
        return Requirement(text[1:].strip(), "absent")
    if " " in text:
        raise answers.bad_request(f"unable to parse requirement: {text!r}")
    return Requirement(text, "exists")


def _field(obj: Object, path: str) -> str:
    value: Any = obj
    for step in path.split("."):
        value = value.get(step) if isinstance(value, dict) else None
    if path == "source" and isinstance(value, dict):
        value = value.get("component")
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "false" if path in ("spec.hostNetwork", "spec.unschedulable") else ""
    return str(value)
