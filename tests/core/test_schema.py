"""The table of fields is the API's: whatever the models of the `kubernetes` package have, it has."""

from __future__ import annotations

import types
import typing

import pytest
from kubernetes.client import models

from dsgitops.core import schema
from dsgitops.core.schema import RANGES, ListOf, MapOf, Scalar, Struct

OPAQUE = {"V1ManagedFieldsEntry", "V1DaemonSetStatus"}
"""The server's own: any value is taken, and left out."""
MAY_BE_ABSENT = {("V1HTTPHeader", "value"), ("V1Sysctl", "value")}
"""Required in the description, and empty to every API server where they are not given."""


def _bare(annotation):
    """Return an annotation without Optional and Annotated."""
    if typing.get_origin(annotation) is typing.Annotated:
        return _bare(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        kinds = [each for each in typing.get_args(annotation) if each is not type(None)]
        return _bare(kinds[0]) if len(kinds) == 1 else tuple(_bare(each) for each in kinds)
    return annotation


def _differences(model, ours: Struct, seen: set[str]) -> list[str]:
    if model.__name__ in seen:
        return []
    seen.add(model.__name__)
    found = []
    for name, field in model.model_fields.items():
        key = field.serialization_alias or field.alias or name
        if key not in ours.fields:
            found.append(f"{model.__name__}.{key} is missing")
            continue
        if field.is_required() and key not in ours.required:
            found += (
                []
                if (model.__name__, key) in MAY_BE_ABSENT
                else [f"{model.__name__}.{key} is required"]
            )
        if not field.is_required() and key in ours.required:
            found.append(f"{model.__name__}.{key} is not required")
        found += _compared(
            _bare(field.annotation), ours.fields[key], f"{model.__name__}.{key}", seen
        )
    return found


def _compared(theirs, ours, where: str, seen: set[str]) -> list[str]:
    origin = typing.get_origin(theirs)
    if origin is list:
        if ours == Scalar("any"):
            return []
        if not isinstance(ours, ListOf):
            return [f"{where} is a list"]
        return _compared(_bare(typing.get_args(theirs)[0]), ours.element, where, seen)
    if origin is dict:
        if not isinstance(ours, MapOf):
            return [f"{where} is a map"]
        return _compared(_bare(typing.get_args(theirs)[1]), ours.element, where, seen)
    if hasattr(theirs, "model_fields"):
        if theirs.__name__ in OPAQUE and ours == Scalar("any"):
            return []
        return (
            _differences(theirs, ours, seen)
            if isinstance(ours, Struct)
            else [f"{where} is {theirs.__name__}"]
        )
    return [] if isinstance(ours, Scalar) and _takes(ours, theirs) else [f"{where} is {theirs}"]


def _takes(ours: Scalar, theirs) -> bool:
    if isinstance(theirs, tuple):
        return ours.name in ("intstr", "portref")
    name = getattr(theirs, "__name__", str(theirs))
    return {
        "str": ours.name in ("string", "quantity"),
        "int": ours.name in RANGES,
        "bool": ours.name == "bool",
        "datetime": ours.name == "time",
    }[name]


def test_every_field_of_a_daemonset_is_known_with_its_type():
    seen: set[str] = set()

    assert _differences(models.V1DaemonSet, schema.daemonset(), seen) == []
    assert {"V1PodSpec", "V1Container", "V1Probe", "V1Volume", "V1CSIVolumeSource"} <= seen
    assert len(seen) > 100


def _keys(name: str) -> set[str]:
    """Return the fields that the package has of a type."""
    model = getattr(models, f"V1{name}", None) or getattr(models, f"CoreV1{name}")
    return {field.serialization_alias or key for key, field in model.model_fields.items()}


def test_nothing_is_known_that_the_api_has_not():
    extra = {
        name: struct.fields.keys() - _keys(name)
        for name, struct in schema.types().items()
        if struct.fields.keys() - _keys(name)
    }

    assert extra == {}


def test_every_type_of_the_table_is_reached_and_known():
    known = schema.types()
    scalars = {"string", "bool", "any", "time", "quantity", "intstr", "portref", *RANGES}
    reached, todo = set(), [schema.daemonset()]
    while todo:
        struct = todo.pop()
        if struct.name in reached:
            continue
        reached.add(struct.name)
        for each in struct.fields.values():
            while isinstance(each, ListOf | MapOf):
                each = each.element  # noqa: PLW2901 - down to what it holds
            if isinstance(each, Struct):
                todo.append(each)
            else:
                assert each.name in scalars, f"{struct.name}: {each.name}"

    assert reached == set(known)


@pytest.mark.parametrize(
    ("field", "owner"), [("hostPort", "ContainerPort"), ("readinessProbe", "Container")]
)
def test_the_home_of_a_misplaced_field_is_known(field, owner):
    assert owner in schema.homes()[field]
