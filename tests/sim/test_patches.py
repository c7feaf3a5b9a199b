"""The patch formats by their own rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsgitops.sim.patches import BadPatch, TestFailed, Unmergeable, json_patch, merge, strategic
from dsgitops.sim.schema import kind

POD_SPEC = kind("PodSpec")
CONTAINER = kind("Container")
JSON = st.recursive(
    st.booleans() | st.integers() | st.text(max_size=3),
    lambda each: (
        st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=3), each, max_size=3)
    ),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_a_merge_patch_follows_rfc_7396(target, patch, result):
    assert merge(target, patch) == result


@given(JSON, JSON)
def test_a_merge_patch_changes_nothing_that_came_in_and_is_idempotent(target, patch):
    before = repr(target)

    once = merge(target, patch)

    assert repr(target) == before
    assert merge(once, patch) == once


@pytest.mark.parametrize(
    ("operations", "result"),
    [
        ([{"op": "add", "path": "/b", "value": 1}], {"a": [1, 2], "b": 1}),
        ([{"op": "add", "path": "/a/1", "value": 9}], {"a": [1, 9, 2]}),
        ([{"op": "add", "path": "/a/-", "value": 9}], {"a": [1, 2, 9]}),
        ([{"op": "remove", "path": "/a/0"}], {"a": [2]}),
        ([{"op": "replace", "path": "/a/0", "value": 9}], {"a": [9, 2]}),
        ([{"op": "move", "from": "/a", "path": "/c"}], {"c": [1, 2]}),
        ([{"op": "copy", "from": "/a/1", "path": "/c"}], {"a": [1, 2], "c": 2}),
        ([{"op": "test", "path": "/a/1", "value": 2}], {"a": [1, 2]}),
    ],
)
def test_a_json_patch_follows_rfc_6902(operations, result):
    assert json_patch({"a": [1, 2]}, operations) == result


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "remove", "path": "/x"},
        {"op": "replace", "path": "/x/y", "value": 1},
        {"op": "add", "path": "/a/7", "value": 1},
        {"op": "shuffle", "path": "/a"},
        {"op": "add", "path": "a", "value": 1},
    ],
)
def test_a_json_patch_of_what_is_not_there_is_bad(operation):
    with pytest.raises(BadPatch):
        json_patch({"a": [1, 2]}, [operation])


def test_a_test_that_does_not_hold_fails():
    with pytest.raises(TestFailed):
        json_patch({"a": 1}, [{"op": "test", "path": "/a", "value": 2}])


# ---------------------------------------------------------------------------- strategic merge


def containers(*names, **fields):
    return {"containers": [{"name": name, "image": "x", **fields} for name in names]}


def test_keyed_lists_merge_by_their_key_and_others_are_replaced():
    target = containers("a", "b", args=["1"])

    out = strategic(POD_SPEC, target, {"containers": [{"name": "b", "image": "y", "args": ["2"]}]})

    assert out["containers"] == [
        {"name": "a", "image": "x", "args": ["1"]},
        {"name": "b", "image": "y", "args": ["2"]},
    ]


def test_patch_delete_takes_an_element_away():
    patch = {"containers": [{"name": "a", "$patch": "delete"}]}

    assert strategic(POD_SPEC, containers("a", "b"), patch) == containers("b")


def test_patch_replace_replaces_a_map_or_a_list():
    whole = strategic(POD_SPEC, containers("a"), {"$patch": "replace", "hostPID": True})
    listed = strategic(
        POD_SPEC, containers("a"), {"containers": [{"name": "c"}, {"$patch": "replace"}]}
    )

    assert whole == {"hostPID": True}
    assert listed == {"containers": [{"name": "c"}]}


def test_the_order_of_elements_can_be_told():
    patch = {"$setElementOrder/containers": [{"name": "c"}, {"name": "a"}]}

    out = strategic(POD_SPEC, containers("a", "b", "c"), patch)

    assert [each["name"] for each in out["containers"]] == ["b", "c", "a"]  # b stood before c


def test_an_order_that_the_patch_does_not_keep_is_refused():
    patch = {"$setElementOrder/containers": [{"name": "a"}], **containers("b")}

    with pytest.raises(Unmergeable, match="order in patch list"):
        strategic(POD_SPEC, containers("a", "b"), patch)


def test_what_a_patch_adds_stands_before_what_it_does_not_name():
    out = strategic(POD_SPEC, containers("a"), containers("b"))

    assert [each["name"] for each in out["containers"]] == ["b", "a"]


def test_null_removes_and_retained_keys_drop_the_others():
    volume = {"name": "v", "emptyDir": {}}
    patch = {"name": "v", "hostPath": {"path": "/x"}, "$retainKeys": ["name", "hostPath"]}

    out = strategic(
        POD_SPEC, {"volumes": [volume], "hostPID": True}, {"volumes": [patch], "hostPID": None}
    )

    assert out == {"volumes": [{"name": "v", "hostPath": {"path": "/x"}}]}


def test_finalizers_are_a_set_from_which_names_can_be_deleted():
    meta = kind("ObjectMeta")

    added = strategic(meta, {"finalizers": ["a"]}, {"finalizers": ["a", "b"]})
    less = strategic(meta, added, {"$deleteFromPrimitiveList/finalizers": ["a"]})

    assert added == {"finalizers": ["a", "b"]}
    assert less == {"finalizers": ["b"]}


def test_an_element_without_its_key_is_bad():
    with pytest.raises(Unmergeable, match="does not contain declared merge key: name"):
        strategic(POD_SPEC, containers("a"), {"containers": [{"image": "y"}]})


def test_ports_merge_by_number_alone():
    target = {"ports": [{"containerPort": 53, "protocol": "TCP"}]}

    out = strategic(CONTAINER, target, {"ports": [{"containerPort": 53, "name": "dns"}]})

    assert out["ports"] == [{"containerPort": 53, "protocol": "TCP", "name": "dns"}]
