"""What is refused, with which code and in which words (`cluster.md` 7.2)."""

from __future__ import annotations

import json

import pytest
from contract.client import APPLY, JSON, MERGE, STRATEGIC, container_of, manifest


def where(cluster):
    return "failed to create typed patch object (/agent; apps/v1, Kind=DaemonSet): "  # as the body


def with_container(**fields):
    body = manifest()
    container_of(body).update(fields)
    return body


def asking(path):
    return {"fieldRef": {"fieldPath": path}}


def with_file(reference):
    body = manifest()
    source = {"downwardAPI": {"items": [{"path": "file"} | reference]}}
    body["spec"]["template"]["spec"]["volumes"][1] = {"name": "extra"} | source
    return body


TYPED = {
    "unknown field": (
        manifest(minReadySecond=1),
        ".spec.minReadySecond: field not declared in schema",
    ),
    "unknown field in an element": (
        with_container(imagePullpolicy="Always"),
        (
            '.spec.template.spec.containers[name="agent"].imagePullpolicy: '
            "field not declared in schema"
        ),
    ),
    "duplicate env": (
        with_container(env=[{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]),
        '.spec.template.spec.containers[name="agent"].env: duplicate entries for key [name="A"]',
    ),
    "duplicate port": (
        with_container(
            ports=[
                {"containerPort": 80, "hostPort": 80},
                {"containerPort": 80, "hostPort": 81, "protocol": "TCP"},
            ]
        ),
        (
            '.spec.template.spec.containers[name="agent"].ports: duplicate entries for key '
            '[containerPort=80,protocol="TCP"]'
        ),
    ),
    "wrong type": (
        with_container(env=[{"name": "A", "value": 1}]),
        (
            '.spec.template.spec.containers[name="agent"].env[name="A"].value: expected string, '
            "got &value.valueUnstructured{Value:1}"
        ),
    ),
}


@pytest.mark.parametrize("validation", ["Strict", "Warn", "Ignore"])
@pytest.mark.parametrize("case", TYPED)
def test_an_apply_that_does_not_fit_the_schema_is_a_500_without_reason(cluster, case, validation):
    body, text = TYPED[case]

    answer = cluster.apply(body, fieldValidation=validation)

    assert answer.status == 500
    assert answer.body["message"] == where(cluster) + text
    assert "reason" not in answer.body
    assert "details" not in answer.body


CAUSES = {
    "selector and labels": (
        manifest(selector={"matchLabels": {"app": "other"}}),
        "FieldValueInvalid",
        "spec.template.metadata.labels",
        "`selector` does not match template `labels`",
    ),
    "empty selector": (
        manifest(selector={}),
        "FieldValueInvalid",
        "spec.selector",
        "empty selector is invalid for daemonset",
    ),
    "0 and 0": (
        manifest(updateStrategy={"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 0}}),
        "FieldValueRequired",
        "spec.updateStrategy.rollingUpdate.maxUnavailable",
        "cannot be 0 when maxSurge is 0",
    ),
    "0%": (
        manifest(updateStrategy={"rollingUpdate": {"maxUnavailable": "0%"}}),
        "FieldValueRequired",
        "spec.updateStrategy.rollingUpdate.maxUnavailable",
        "cannot be 0 when maxSurge is 0",
    ),
    "maxSurge alone": (
        manifest(updateStrategy={"rollingUpdate": {"maxSurge": 1}}),
        "FieldValueInvalid",
        "spec.updateStrategy.rollingUpdate.maxSurge",
        "may not be set when maxUnavailable is non-zero",
    ),
    "a number as text": (
        manifest(updateStrategy={"rollingUpdate": {"maxUnavailable": "2"}}),
        "FieldValueInvalid",
        "spec.updateStrategy.rollingUpdate.maxUnavailable",
        "a valid percent string must be",
    ),
    "150%": (
        manifest(updateStrategy={"rollingUpdate": {"maxUnavailable": "150%"}}),
        "FieldValueInvalid",
        "spec.updateStrategy.rollingUpdate.maxUnavailable",
        "must not be greater than 100%",
    ),
    "negative": (
        manifest(updateStrategy={"rollingUpdate": {"maxUnavailable": -1}}),
        "FieldValueInvalid",
        "spec.updateStrategy.rollingUpdate.maxUnavailable",
        "must be greater than or equal to 0",
    ),
    "Recreate": (
        manifest(updateStrategy={"type": "Recreate"}),
        "FieldValueNotSupported",
        "spec.updateStrategy",
        "supported values",
    ),
    "minReadySeconds": (
        manifest(minReadySeconds=-1),
        "FieldValueInvalid",
        "spec.minReadySeconds",
        "must be greater than or equal to 0",
    ),
    "revisionHistoryLimit": (
        manifest(revisionHistoryLimit=-1),
        "FieldValueInvalid",
        "spec.revisionHistoryLimit",
        "must be greater than or equal to 0",
    ),
    "empty image": (
        with_container(image=""),
        "FieldValueRequired",
        "spec.template.spec.containers[0].image",
        "Required value",
    ),
    "labels without a key for a variable": (
        with_container(env=[{"name": "A", "valueFrom": asking("metadata.labels")}]),
        "FieldValueNotSupported",
        "spec.template.spec.containers[0].env[0].valueFrom.fieldRef.fieldPath",
        'Unsupported value: "metadata.labels": supported values: "metadata.name", ',
    ),
    "a node's name for a file": (
        with_file(asking("spec.nodeName")),
        "FieldValueNotSupported",
        "spec.template.spec.volumes[1].downwardAPI.fieldRef.fieldPath",
        'Unsupported value: "spec.nodeName": supported values: "metadata.annotations", ',
    ),
    "mount without volume": (
        with_container(volumeMounts=[{"name": "nowhere", "mountPath": "/x"}]),
        "FieldValueNotFound",
        "spec.template.spec.containers[0].volumeMounts[0].name",
        "Not found",
    ),
}


@pytest.mark.parametrize("case", CAUSES)
def test_an_invalid_daemonset_is_a_422_with_its_causes(cluster, case):
    body, reason, field, text = CAUSES[case]

    answer = cluster.apply(body)

    assert (answer.status, answer.body["reason"]) == (422, "Invalid")
    assert answer.body["message"].startswith('DaemonSet.apps "agent" is invalid: ')
    details = answer.body["details"]
    assert (details["name"], details["group"], details["kind"]) == ("agent", "apps", "DaemonSet")
    matching = [each for each in details["causes"] if each["field"] == field]
    assert matching, details["causes"]
    assert matching[0]["reason"] == reason
    assert text in matching[0]["message"]


def test_a_restart_policy_but_always_is_not_supported(cluster):
    body = manifest()
    body["spec"]["template"]["spec"]["restartPolicy"] = "OnFailure"

    cause = cluster.apply(body).body["details"]["causes"][0]

    assert cause["reason"] == "FieldValueNotSupported"
    assert cause["field"] == "spec.template.spec.restartPolicy"


def test_the_selector_is_immutable(cluster):
    cluster.apply(manifest())
    body = manifest(selector={"matchLabels": {"app": "b"}})
    body["spec"]["template"]["metadata"]["labels"] = {"app": "b"}

    answer = cluster.apply(body)

    fields = {each["field"]: each["message"] for each in answer.body["details"]["causes"]}
    assert answer.status == 422
    assert "field is immutable" in fields["spec.selector"]


def test_a_label_with_its_key_is_for_variables_and_all_labels_are_for_files(cluster):
    body = with_file(asking("metadata.labels"))
    container_of(body)["env"] = [{"name": "A", "valueFrom": asking("metadata.labels['app']")}]

    assert cluster.apply(body).status == 201


@pytest.mark.parametrize("image", ["a b", "x:", "::::", "UPPER/case:1"])
def test_odd_image_names_are_accepted(cluster, image):
    assert cluster.apply(with_container(image=image)).status == 201


def test_annotations_over_256_kib_are_too_long(cluster):
    cluster.create(manifest())
    big = {"metadata": {"annotations": {"dsgitops.io/record": "x" * 270_000}}}

    answer = cluster.patch(big)

    assert answer.status == 422
    assert answer.body["details"]["causes"][0]["reason"] == "FieldValueTooLong"
    fits = {"metadata": {"annotations": {"dsgitops.io/record": "x" * 200_000}}}
    assert cluster.patch(fits).status == 200


# ---------------------------------------------------------------------------- the request itself


@pytest.mark.parametrize(
    ("version", "kind"),
    [("extensions/v1beta1", "DaemonSet"), ("apps/v2", "DaemonSet"), ("apps/v1", "Deployment")],
)
def test_an_apply_of_another_type_is_a_bad_request(cluster, version, kind):
    answer = cluster.apply(manifest() | {"apiVersion": version, "kind": kind})

    assert answer.status == 400
    assert f"invalid object type: {version}, Kind={kind}" in answer.body["message"]


@pytest.mark.parametrize("field", ["name", "namespace"])
def test_another_name_or_namespace_than_the_url_s_is_a_bad_request(cluster, field):
    body = manifest()
    body["metadata"][field] = "other"

    assert cluster.apply(body, name="agent").status == 400


def test_a_key_given_twice_is_refused_when_strict(cluster):
    text = json.dumps(manifest(minReadySeconds=1))
    text = text.replace('"minReadySeconds": 1', '"minReadySeconds": 1, "minReadySeconds": 2')
    query = {"fieldManager": "dsgitops", "force": "true"}

    strict = cluster.call(
        "PATCH",
        cluster.path("agent"),
        text.encode(),
        media=APPLY,
        fieldValidation="Strict",
        **query,
    )

    assert strict.status == 400
    assert strict.body["message"].startswith("error strict decoding YAML: ")
    assert 'line 1: key "minReadySeconds" already set in map' in strict.body["message"]


def test_apply_needs_a_manager_and_only_apply_may_force(cluster):
    nameless = cluster.call("PATCH", cluster.path("agent"), manifest(), media=APPLY, force="true")
    assert nameless.status == 422
    assert nameless.body["details"]["causes"][0]["field"] == "fieldManager"

    forced = cluster.patch({"spec": {}}, force="true")
    assert forced.status == 422
    assert forced.body["details"]["kind"] == "PatchOptions"
    assert forced.body["details"]["causes"][0]["field"] == "force"


def test_a_patch_of_an_unknown_media_type_is_unsupported(cluster):
    assert cluster.patch({}, media="text/plain").status == 415
    assert cluster.patch({}, media=JSON).status == 415


def test_a_body_that_cannot_be_read_is_a_bad_request(cluster):
    cluster.create(manifest())

    for media in (APPLY, STRATEGIC, MERGE):
        answer = cluster.call(
            "PATCH", cluster.path("agent"), b"{nonsense", media=media, fieldManager="x"
        )
        assert answer.status == 400


def test_a_body_over_3_mib_is_too_large(cluster):
    body = manifest()
    body["metadata"]["annotations"] = {"big": "x" * (3 * 1024 * 1024)}

    answer = cluster.apply(body)

    assert (answer.status, answer.body["reason"]) == (413, "RequestEntityTooLarge")


def test_a_namespace_that_is_not_there_is_not_found(cluster):
    path = "/apis/apps/v1/namespaces/nowhere/daemonsets"

    for answer in (
        cluster.call("POST", path, manifest()),
        cluster.call(
            "PATCH", f"{path}/agent", manifest(), media=APPLY, fieldManager="x", force="true"
        ),
    ):
        assert (answer.status, answer.body["reason"]) == (404, "NotFound")
        assert answer.body["message"] == 'namespaces "nowhere" not found'
    assert cluster.call("GET", path).body["items"] == []


def test_a_second_create_already_exists(cluster):
    cluster.create(manifest())

    answer = cluster.create(manifest())

    assert (answer.status, answer.body["reason"]) == (409, "AlreadyExists")
    assert answer.body["message"] == 'daemonsets.apps "agent" already exists'


def test_an_unknown_field_of_another_write_is_refused_when_strict_and_else_dropped(cluster):
    strict = cluster.create(manifest(minReadySecond=1), fieldValidation="Strict")
    assert strict.status == 400
    assert 'strict decoding error: unknown field "spec.minReadySecond"' in strict.body["message"]

    warned = cluster.create(manifest(minReadySecond=1))
    assert warned.status == 201
    assert "minReadySecond" not in warned.body["spec"]
    assert warned.headers["warning"] == r'299 - "unknown field \"spec.minReadySecond\""'

    patched = cluster.patch({"spec": {"minReadySecond": 1}}, fieldValidation="Strict")
    assert patched.status == 422
    assert "strict decoding error" in patched.body["message"]


def test_a_revision_s_data_is_immutable(cluster):
    cluster.create(manifest())
    assert cluster.settle(lambda: cluster.list("controllerrevisions") != [])
    name = cluster.list("controllerrevisions")[0]["metadata"]["name"]

    answer = cluster.call(
        "PATCH", cluster.path(name, "controllerrevisions"), {"data": {"x": 1}}, media=MERGE
    )

    assert answer.status == 422
