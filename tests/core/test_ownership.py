"""Taking fields over: everything of the spec becomes ours, once, and nothing else does."""

from __future__ import annotations

import json
from copy import deepcopy

from core.builders import manifest
from hypothesis import given
from hypothesis import strategies as st

from dsgitops.core.ownership import field_path, foreign, from_pointer, leaves, lookup, takeover

SPEC = {"f:spec": {"f:template": {"f:spec": {"f:hostPID": {}}}}}


def entry(manager, operation, fields, **more):
    return {
        "manager": manager, "operation": operation, "apiVersion": "apps/v1",
        "fieldsType": "FieldsV1", "fieldsV1": fields,
    } | more  # fmt: skip


OURS = entry("dsgitops", "Apply", {"f:spec": {"f:minReadySeconds": {}}, "f:metadata": {}})
STATUS = entry("kube-controller-manager", "Update", {"f:status": {}}, subresource="status")
EDIT = entry("kubectl-edit", "Update", SPEC | {"f:metadata": {"f:labels": {"f:team": {}}}})
CLIENT_SIDE = entry(
    "kubectl-client-side-apply",
    "Update",
    SPEC | {"f:metadata": {"f:annotations": {"f:last-applied": {}}}},
)


def test_nothing_to_gain_is_no_write():
    assert takeover([OURS, STATUS]) is None
    assert takeover([STATUS]) is None


def test_the_spec_of_others_becomes_ours_and_their_labels_stay_theirs():
    mine, theirs, status = takeover([EDIT, OURS, STATUS])

    assert mine["manager"] == "dsgitops"
    assert mine["fieldsV1"]["f:spec"] == {"f:minReadySeconds": {}} | SPEC["f:spec"]
    assert theirs["fieldsV1"] == {"f:metadata": {"f:labels": {"f:team": {}}}}
    assert status == STATUS


def test_what_a_rollback_left_in_our_own_name_is_taken_whole():
    update = entry("dsgitops", "Update", SPEC | {"f:metadata": {"f:annotations": {"f:x": {}}}})

    (mine,) = takeover([OURS, update])

    assert mine["fieldsV1"]["f:metadata"] == {"f:annotations": {"f:x": {}}}
    assert mine["operation"] == "Apply"


def test_an_older_api_version_of_ours_is_merged_into_the_new_one():
    old = entry("dsgitops", "Apply", SPEC) | {"apiVersion": "apps/v1beta2"}

    (mine,) = takeover([OURS, old])

    assert mine["apiVersion"] == "apps/v1"


def test_client_side_apply_is_taken_whole_at_adoption():
    (mine,) = takeover([CLIENT_SIDE])

    assert mine["fieldsV1"] == CLIENT_SIDE["fieldsV1"]


def test_after_adoption_what_kubectl_apply_annotates_is_a_persons():
    _, theirs = takeover([OURS, CLIENT_SIDE])

    assert "f:metadata" in theirs["fieldsV1"]


def test_ignored_paths_stay_with_whoever_holds_them():
    leave = frozenset({("f:spec", "f:template", "f:spec", "f:hostPID")})

    assert takeover([OURS, EDIT], leave=leave) is None
    assert takeover([OURS, CLIENT_SIDE], leave=leave) is None
    assert foreign([OURS, EDIT], leave=leave) == ()


def test_subresources_are_kept_as_they_are_even_when_empty():
    empty = entry("kubelet", "Update", {}, subresource="status")

    assert empty in takeover([OURS, EDIT, empty])


def test_who_else_wrote_the_spec_is_named():
    ((manager, operation, share),) = foreign([OURS, EDIT, STATUS])

    assert (manager, operation) == ("kubectl-edit", "Update")
    assert list(leaves(share, ("f:spec",))) == [
        ("f:spec", "f:template", "f:spec", "f:hostPID")
    ]  # fmt: skip


SEGMENTS = st.sampled_from(["f:spec", "f:metadata", "f:a", "f:b", 'k:{"name":"x"}', 'v:"y"', "."])
FIELDS = st.recursive(
    st.just({}), lambda below: st.dictionaries(SEGMENTS, below, max_size=3), max_leaves=8
)
ENTRIES = st.lists(
    st.builds(
        entry,
        st.sampled_from(["dsgitops", "dsgitops-record", "kubectl-client-side-apply", "helm"]),
        st.sampled_from(["Apply", "Update"]),
        FIELDS,
    ).flatmap(
        lambda made: st.sampled_from([made, made | {"subresource": "status"}])
    ),
    max_size=5,
)  # fmt: skip


def paths(entries, *, of=lambda each: True):
    return {
        path
        for each in entries
        if of(each) and not each.get("subresource")
        for path in leaves(each["fieldsV1"])
    }


@given(ENTRIES)
def test_taking_over_twice_is_taking_over_once(entries):
    before = deepcopy(entries)
    taken = takeover(entries)

    assert entries == before
    assert taken is None or takeover(taken) is None


@given(ENTRIES)
def test_the_new_list_is_never_empty_and_has_no_empty_entry_of_ours(entries):
    taken = takeover(entries)

    if taken is not None:
        assert taken
        assert all(each.get("manager") for each in taken)
        assert taken[0]["fieldsV1"]


@given(ENTRIES)
def test_no_field_is_lost_and_all_of_the_spec_is_ours(entries):
    taken = takeover(entries)

    if taken is not None:
        spec = {path for path in paths(entries) if path[0] == "f:spec" and len(path) > 1}
        mine = paths(taken, of=lambda each: each["manager"] == "dsgitops")
        assert all(any(have[: len(path)] == path for have in mine) for path in spec)
        rest = paths(taken, of=lambda each: each["manager"] != "dsgitops")
        assert not any(path[0] == "f:spec" and len(path) > 1 for path in rest)


def test_a_pointer_into_git_becomes_the_path_the_api_server_uses():
    git = manifest()
    git["spec"]["template"]["spec"]["containers"][0]["ports"] = [
        {"name": "http", "containerPort": 80}
    ]
    container = 'k:{"name":"fluentd"}'
    inside = ("f:spec", "f:template", "f:spec", "f:containers", container)

    assert from_pointer(git, "/spec/template/spec/containers/0/image") == (*inside, "f:image")
    assert from_pointer(git, "/spec/template/spec/containers/0/ports/0") == (
        *inside, "f:ports", 'k:{"containerPort":80,"protocol":"TCP"}',
    )  # fmt: skip
    assert from_pointer(git, "/metadata/annotations/a~1b") == (
        "f:metadata", "f:annotations", "f:a/b",
    )  # fmt: skip


def test_a_pointer_to_an_element_that_git_has_not_leaves_the_whole_list():
    for pointer in ("/spec/template/spec/containers/7/image", "/spec/template/spec/containers/²"):
        assert from_pointer(manifest(), pointer)[-1] == "f:containers"


def test_a_path_is_found_in_an_object_and_told_as_people_write_it():
    path = ("f:template", "f:spec", "f:containers", 'k:{"name":"fluentd"}', "f:image")

    assert lookup(manifest("fluentd:9")["spec"], path) == "fluentd:9"
    assert field_path(("f:spec", *path)) == ".spec.template.spec.containers[fluentd].image"


def test_nonsense_in_managed_fields_finds_nothing():
    assert lookup({"a": [{"b": 1}]}, ("f:a", "k:{nonsense")) is None
    assert lookup({"a": [1]}, ("f:a", "k:7")) is None
    assert field_path(("f:a", "k:7")) == ".a[]"
    assert json.loads("7") == lookup({"a": [7]}, ("f:a", "v:7"))
