"""What a strict dry run refuses, `validate` refused before: held against the simulated cluster."""

from __future__ import annotations

import copy
import json

import yaml
from core.manifests import SOUND
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dsgitops.core import manifest, schema
from dsgitops.core.schema import ListOf, MapOf, Scalar, Struct
from dsgitops.ports import Request
from dsgitops.sim.world import World

BASE = yaml.safe_load(SOUND)
DEPTH = 3

_WORLD = World(nodes=1, seed=1)
_WORLD.make_namespace("logging")
CLUSTER = _WORLD.transport()

TEXTS = st.sampled_from(["", "a", "agent", "http", "A_b", "x y", "logs", "50%", "8080"])
NUMBERS = st.sampled_from([-1, 0, 1, 600, 8080, 70_000])
SCALARS = {
    "string": TEXTS,
    "bool": st.booleans(),
    "quantity": st.sampled_from(["1", "100m", "1Gi", "-1", "x", 1, 0.5]),
    "intstr": NUMBERS | TEXTS,
    "portref": NUMBERS | TEXTS,
    "time": st.just("2026-11-21T00:00:00Z"),
    "any": st.just({}),
}


def of_type(kind, depth: int = DEPTH):
    """Draw values that may, or may not, be right for a field."""
    if isinstance(kind, Scalar):
        return (
            st.sampled_from([*kind.words, "bogus"])
            if kind.words
            else SCALARS.get(kind.name, NUMBERS)
        )
    if depth == 0:
        return st.none()
    if isinstance(kind, ListOf):
        return st.lists(of_type(kind.element, depth - 1), max_size=2)
    if isinstance(kind, MapOf):
        keys = st.sampled_from(["a", "app", "cpu", "memory", "b/c"])
        return st.dictionaries(keys, of_type(kind.element, depth - 1), max_size=2)
    fields = {
        name: of_type(kind.fields[name], depth - 1)
        for name in kind.fields
        if name not in kind.newer
    }
    required = {name: fields.pop(name) for name in kind.required}
    return st.fixed_dictionaries(required, optional=dict(list(fields.items())[:12]))


def structs(value, kind, path=()):
    """Yield (path, type) of every mapping of the sound manifest's spec."""
    if isinstance(kind, Struct) and isinstance(value, dict):
        if path[:1] == ("spec",):
            yield path, kind
        for key, each in value.items():
            yield from structs(each, kind.fields[key], (*path, key))
    elif isinstance(kind, ListOf):
        for index, each in enumerate(value):
            yield from structs(each, kind.element, (*path, index))


PLACES = list(structs(BASE, schema.daemonset()))


@st.composite
def spoilt(draw):
    """Draw the sound manifest with one field set to something, or removed."""
    path, kind = draw(st.sampled_from(PLACES))
    field = draw(st.sampled_from([name for name in kind.fields if name not in kind.newer]))
    document = copy.deepcopy(BASE)
    target = document
    for step in path:
        target = target[step]
    if draw(st.booleans()) and field in target:
        del target[field]
    else:
        target[field] = draw(of_type(kind.fields[field]))
    return document


def dry_run(document) -> tuple[int, str]:
    query = {
        "fieldManager": "dsgitops",
        "force": "true",
        "dryRun": "All",
        "fieldValidation": "Strict",
    }
    answer = CLUSTER.send(
        Request(
            method="PATCH",
            path="/apis/apps/v1/namespaces/logging/daemonsets/agent",
            query=query,
            headers={"Content-Type": "application/apply-patch+yaml"},
            body=json.dumps(document).encode(),
        )
    )
    return answer.status, answer.body.decode()


@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
@given(spoilt())
def test_what_a_strict_dry_run_refuses_is_an_error_here(document):
    file = manifest.read(json.dumps(document).encode(), path="f.json")
    status, said = dry_run(document)

    if status >= 400 and "imagePullSecrets: element" not in said:  # real ones have a default name
        assert file.manifests[0].problem is not None, said


def test_a_strict_dry_run_takes_the_sound_manifest():
    assert dry_run(BASE)[0] == 201
