"""Git against live: what the API server adds is no difference, what it would change is."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace

import pytest
from core.builders import SECRET, defaulted, desired, live, manifest, record
from hypothesis import given
from hypothesis import strategies as st

from dsgitops.core.difference import explain, missing, template_missing
from dsgitops.core.quantity import quantity_of

CONTAINER = "/spec/template/spec/containers/0"


def container(**fields):
    """Git's manifest with more fields in its container."""
    content = desired()
    content.manifest["spec"]["template"]["spec"]["containers"][0].update(fields)
    return content


def shown(content, **fields):
    """The live object, with other fields in its container."""
    seen = live(content, record(content))
    spec = deepcopy(dict(seen.spec))
    spec["template"]["spec"]["containers"][0].update(fields)
    return replace(seen, spec=spec)


def test_what_the_api_server_fills_in_is_no_difference():
    content = desired()

    assert (
        missing(content, shown(content, terminationMessagePath="/dev/x", imagePullPolicy="Always"))
        == ""
    )


@pytest.mark.parametrize(
    ("git", "live_value"),
    [("1000m", "1"), (1, "1"), (0.5, "500m"), ("1024Mi", "1Gi"), ("1e3", "1k"), ("0.1", "100m")],
)
def test_quantities_compare_by_amount(git, live_value):
    content = container(resources={"limits": {"cpu": git}})

    assert missing(content, shown(content, resources={"limits": {"cpu": live_value}})) == ""


def test_another_amount_is_a_difference():
    content = container(resources={"limits": {"cpu": "1"}})

    path = missing(content, shown(content, resources={"limits": {"cpu": "2"}}))

    assert path == f"{CONTAINER}/resources/limits/cpu"


def test_a_value_that_only_looks_like_a_quantity_is_text():
    content = container(args=["1000m"])

    assert missing(content, shown(content, args=["1"])) == f"{CONTAINER}/args/0"


def test_more_items_by_merge_key_are_others_and_no_difference():
    content = container(volumeMounts=[{"mountPath": "/a", "name": "a"}])
    more = [{"mountPath": "/inj", "name": "inj"}, {"mountPath": "/a", "name": "a"}]

    assert missing(content, shown(content, volumeMounts=more)) == ""


def test_another_order_is_a_difference_because_it_restarts_pods():
    env = [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]
    content = container(env=env)

    assert missing(content, shown(content, env=env[::-1])) == f"{CONTAINER}/env"


def test_an_item_that_is_gone_is_named():
    env = [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]
    content = container(env=env)

    assert missing(content, shown(content, env=[env[0], {"name": "C"}])) == f"{CONTAINER}/env/1"


def test_ports_are_the_same_with_the_protocol_that_the_api_fills_in():
    content = container(ports=[{"containerPort": 80}])
    filled = [{"containerPort": 80, "protocol": "TCP"}]

    assert missing(content, shown(content, ports=filled)) == ""


def test_a_list_without_a_merge_key_is_one_value():
    content = container(args=["-v"])

    assert missing(content, shown(content, args=["-v", "-x"])) == f"{CONTAINER}/args"


def test_a_list_that_git_empties_is_a_difference_while_live_has_items():
    content = container(args=[])

    assert missing(content, shown(content, args=["-v"])) == f"{CONTAINER}/args"
    assert missing(content, shown(content)) == ""


def test_null_and_empty_maps_are_not_set():
    content = container(securityContext={}, lifecycle=None)

    assert missing(content, shown(content, securityContext=None)) == ""


def test_an_empty_dir_is_a_value():
    content = desired()
    content.manifest["spec"]["template"]["spec"]["volumes"] = [{"name": "v", "emptyDir": {}}]
    seen = live(content, None)
    spec = deepcopy(dict(seen.spec))
    spec["template"]["spec"]["volumes"] = [{"name": "v", "hostPath": {"path": "/x"}}]

    assert missing(content, live(content, None)) == ""
    assert missing(content, replace(seen, spec=spec)).endswith("/volumes/0/emptyDir")


def test_labels_and_annotations_of_git_are_looked_for_and_those_of_people_are_not():
    content = desired(labels={"a/b": "1"}, annotations={"c": "2"})
    seen = live(content, None)

    assert missing(content, replace(seen, labels={"a/b": "1", "mine": "x"})) == ""
    assert missing(content, replace(seen, labels={})) == "/metadata/labels/a~1b"


def test_what_every_write_sets_is_no_difference():
    content = desired(annotations={"kubernetes.io/change-cause": "by hand"})

    assert missing(content, replace(live(content, None), annotations={})) == ""


def test_ignored_paths_and_all_below_them_are_left_to_others():
    content = replace(container(args=["-v"]), ignore_diff=(f"{CONTAINER}/args",))
    other = replace(container(args=["-v"]), ignore_diff=("/spec/templ",))

    assert missing(content, shown(content, args=["-x"])) == ""
    assert missing(other, shown(other, args=["-x"])) == f"{CONTAINER}/args/0"


def test_a_template_is_compared_alone():
    content = desired(minReadySeconds=5)

    assert not template_missing(content, defaulted(content)["template"])
    assert template_missing(content, defaulted(desired("fluentd:9"))["template"])
    assert template_missing(content, {})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda below: (
        st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=4), below, max_size=3)
    ),
    max_leaves=10,
)


@given(JSON, JSON)
def test_any_two_shapes_can_be_compared(one, two):
    content = container(env=one, ports=one, args=one)

    assert isinstance(missing(content, shown(content, env=two, ports=two, args=two)), str)


@given(JSON)
def test_a_value_shows_itself(value):
    content = container(lifecycle=value)

    assert missing(content, live(content, None)) == ""


# ---------------------------------------------------------------------------- for people


def changes(before, after):
    return {(each.kind, each.path): each for each in explain(before, after)}


def test_equal_manifests_have_nothing_to_explain():
    assert explain(manifest(), manifest()) == ()


def test_a_changed_image_is_told_with_both_values_and_restarts():
    (change,) = explain(manifest("fluentd:1"), manifest("fluentd:2"))

    assert change.kind == "changed"
    assert change.path == "/spec/template/spec/containers/fluentd/image"
    assert (change.before, change.after, change.restarts) == ("fluentd:1", "fluentd:2", True)


def test_values_of_env_are_hashes_never_values():
    one = manifest(env=[{"name": "TOKEN", "value": SECRET}, {"name": "B", "value": "x"}])
    two = manifest(env=[{"name": "TOKEN", "value": SECRET + "2"}])

    text = repr(explain(one, two))

    assert "sha256:" in text
    assert SECRET not in text


def test_a_new_container_is_added_and_nothing_moved():
    two = manifest()
    two["spec"]["template"]["spec"]["containers"].insert(0, {"name": "first", "image": "x"})

    assert list(changes(manifest(), two)) == [("added", "/spec/template/spec/containers/first")]


def test_another_order_is_told_as_moved():
    env = [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]

    ((kind, path),) = changes(manifest(env=env), manifest(env=env[::-1]))

    assert (kind, path) == ("moved", "/spec/template/spec/containers/fluentd/env")


def test_a_change_of_a_label_restarts_nothing():
    (change,) = explain(manifest(labels={"a/b": "1"}), manifest(labels={"a/b": "2"}))

    assert change.path == "/metadata/labels/a~1b"
    assert not change.restarts


@given(JSON, JSON)
def test_any_two_shapes_can_be_explained(one, two):
    assert isinstance(explain({"spec": one}, {"spec": two}), tuple)


@pytest.mark.parametrize("text", ["", "abc", "1..2", "mi", "1mi", "--1", None, {}])
def test_what_is_no_quantity_is_none(text):
    assert quantity_of(text) is None


def test_the_manifests_are_not_changed_by_comparing():
    before, after = manifest(), manifest("fluentd:2")
    texts = json.dumps(before), json.dumps(after)

    explain(before, after)

    assert (json.dumps(before), json.dumps(after)) == texts
