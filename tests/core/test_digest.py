"""Content has one digest however it is written; what is no content does not change it."""

from __future__ import annotations

import json

import pytest
from core.manifests import SOUND, spoilt
from hypothesis import given
from hypothesis import strategies as st

from dsgitops.core import manifest
from dsgitops.core.digest import canonical, digest, same_template, template_digest


def value(text: str):
    (found,) = manifest.read(text.encode(), path="f.yaml").manifests
    return found.value


def annotated(key: str, text: str = "x"):
    return value(
        spoilt(
            (
                "example.com/owner: platform",
                f"example.com/owner: platform\n    {key}: {json.dumps(text)}",
            )
        )
    )


def test_canonical_json_has_sorted_keys_no_spaces_and_plain_text():
    assert canonical({"b": [1, None], "a": "ü"}) == '{"a":"ü","b":[1,null]}'


def test_the_order_of_keys_and_the_format_do_not_matter():
    one = value(SOUND)
    other = json.loads(json.dumps(one, sort_keys=True))

    assert digest(one) == digest(other)
    assert digest(one).startswith("sha256:")
    assert len(digest(one)) == len("sha256:") + 64


@pytest.mark.parametrize(
    ("before", "after", "template"),
    [
        ("value: info", "value: debug", True),
        ("minReadySeconds: 5", "minReadySeconds: 6", False),
        ("example.com/owner: platform", "example.com/owner: storage", False),
        ("    app: agent\n  annotations", "    app: agent\n    tier: node\n  annotations", False),
    ],
)
def test_every_change_of_content_is_seen(before, after, template):
    changed = value(spoilt((before, after)))

    assert digest(changed) != digest(value(SOUND))
    assert (template_digest(changed) != template_digest(value(SOUND))) is template


def test_the_namespace_is_no_content():
    without = value(spoilt(("  namespace: logging\n", "")))

    assert digest(without) == digest(value(SOUND))


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("dsgitops.io/suspend", '{"reason": "night"}'),
        ("dsgitops.io/retry-at", "now"),
        ("dsgitops.io/sync-at", "now"),
        ("kubernetes.io/change-cause", "someone"),
        ("deprecated.daemonset.template.generation", "7"),
        ("kubectl.kubernetes.io/last-applied-configuration", "{}"),
    ],
)
def test_requests_to_the_agent_and_what_others_write_are_no_content(key, text):
    assert digest(annotated(key, text)) == digest(value(SOUND))


def test_how_it_is_rolled_out_is_content():
    assert digest(annotated("dsgitops.io/rollback", "disabled")) != digest(value(SOUND))


def test_the_order_of_containers_is_content():
    one = {"spec": {"template": {"spec": {"containers": [{"name": "a"}, {"name": "b"}]}}}}
    other = {"spec": {"template": {"spec": {"containers": [{"name": "b"}, {"name": "a"}]}}}}

    assert template_digest(one) != template_digest(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"metadata": {"creationTimestamp": None, "labels": {"a": "b"}}}, {"metadata": {"labels": {"a": "b"}}}),
        ({"spec": {"securityContext": {}, "volumes": []}}, {"spec": {}}),
        ({"spec": {"containers": [{"name": "a", "resources": {}}]}}, {"spec": {"containers": [{"name": "a"}]}}),
        ({"metadata": {"labels": None}}, {"metadata": {}}),
        ({"metadata": {}}, {}),
    ],
)  # fmt: skip
def test_templates_that_mean_the_same_are_the_same(one, other):
    assert same_template(one, other)
    assert same_template(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"spec": {"a": 1}}, {"spec": {"a": 2}}),
        ({"spec": {"a": ""}}, {"spec": {}}),
        ({"spec": {"a": 0}}, {"spec": {}}),
        ({"spec": {"a": False}}, {"spec": {}}),
        ({"volumes": [{"name": "a", "emptyDir": {}}]}, {"volumes": [{"name": "a"}]}),
        ({"podAffinity": [{"labelSelector": {}}]}, {"podAffinity": [{}]}),
        ({"args": ["a", "b"]}, {"args": ["b", "a"]}),
    ],
)
def test_templates_that_mean_something_else_are_not(one, other):
    assert not same_template(one, other)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=10,
)  # fmt: skip


@given(JSON, JSON)
def test_equal_values_have_equal_text_and_others_have_not(one, other):
    assert (canonical(one) == canonical(other)) == (
        json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    )
    assert same_template(one, one)
