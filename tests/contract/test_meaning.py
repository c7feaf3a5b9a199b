"""What the agent makes of the API server's answers (`cluster.md` 7.2, 9): never, again, or later.

The words of each answer are in the other tests; here each goes through `adapters/.../answers.py`.
No text of ours has a value of the manifest.
"""

from __future__ import annotations

import pytest
from contract.client import SECRET, STRATEGIC, container_of, manifest, meaning

from dsgitops.errors import ActionRefused, ClusterUnreachable, Stale

OTHER_UID = "11111111-2222-3333-4444-555555555555"


def with_container(**fields):
    body = manifest()
    container_of(body).update(fields)
    return body


def env(*variables):
    return with_container(env=[*variables])


REFUSED = {
    "unknown field": (
        manifest(minReadySecond=SECRET),
        500,
        "spec.minReadySecond is not a known field",
    ),
    "duplicate": (
        env({"name": "A", "value": SECRET}, {"name": "A", "value": "2"}),
        500,
        "env holds the same key twice",
    ),
    "wrong type": (env({"name": "A", "value": [SECRET]}), 500, "(expected string)"),
    "invalid": (
        manifest(updateStrategy={"rollingUpdate": {"maxUnavailable": SECRET}}),
        422,
        "spec.updateStrategy.rollingUpdate.maxUnavailable (must be a valid percent string)",
    ),
    "other kind": (manifest() | {"kind": "Deployment"}, 400, "cannot read the request"),
    "too large": (with_container(args=[SECRET * 300_000]), 500, "too large"),
    "far too large": (with_container(args=[SECRET * 600_000]), 413, "too large"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_manifest_that_will_never_do_is_refused_with_the_field_and_no_value(cluster, case):
    body, code, text = REFUSED[case]

    answer = cluster.apply(body)
    error = meaning(answer)

    assert answer.status == code
    assert isinstance(error, ActionRefused)
    assert error.code == code
    assert text in str(error)


def test_a_conflict_of_managers_is_refused_and_names_both(cluster):
    cluster.apply(manifest(minReadySeconds=1))
    cluster.patch({"spec": {"minReadySeconds": 5}}, media=STRATEGIC, manager="kubectl-set")

    error = meaning(cluster.apply(manifest(minReadySeconds=7), force="false"))

    assert isinstance(error, ActionRefused)
    assert "kubectl-set owns spec.minReadySeconds" in str(error)


@pytest.mark.parametrize("wrong", [{"resourceVersion": "999"}, {"uid": OTHER_UID}])
def test_a_precondition_that_failed_is_stale(cluster, wrong):
    cluster.create(manifest())

    by_apply = manifest()
    by_apply["metadata"] |= wrong

    assert isinstance(meaning(cluster.apply(by_apply)), Stale)
    assert isinstance(meaning(cluster.patch({"metadata": wrong})), Stale)


def test_what_is_gone_is_stale(cluster):
    by_apply = manifest()
    by_apply["metadata"]["uid"] = OTHER_UID

    assert isinstance(meaning(cluster.apply(by_apply)), Stale)
    assert isinstance(meaning(cluster.patch({"metadata": {"labels": {"a": "b"}}})), Stale)
    gone = cluster.call("DELETE", cluster.path("nobody", "pods"), {})
    assert isinstance(meaning(gone), Stale)


def test_a_pod_that_was_replaced_is_stale_to_delete(cluster):
    cluster.create(manifest())
    assert cluster.settle(lambda: len(cluster.pods()) == 12)
    name = cluster.pods()[0]["metadata"]["name"]

    body = {"preconditions": {"uid": OTHER_UID}}
    error = meaning(cluster.call("DELETE", cluster.path(name, "pods"), body))

    assert isinstance(error, Stale)


def test_a_namespace_that_is_not_there_is_refused(cluster):
    path = "/apis/apps/v1/namespaces/nowhere/daemonsets"

    error = meaning(cluster.call("POST", path, manifest()))

    assert isinstance(error, ActionRefused)
    assert "the namespace does not exist" in str(error)


def test_a_right_that_is_missing_is_named_for_the_one_who_grants_it(trouble):
    reader = trouble.reader()

    error = meaning(reader.apply(manifest()))

    assert isinstance(error, ActionRefused)
    assert error.code == 403
    where = f"in namespace {reader.namespace}"
    assert f"no right to patch daemonsets.apps {where}" in str(error)
    assert error.remedy == f"grant 'patch' on daemonsets.apps {where} to this account"


def test_wrong_credentials_and_a_busy_server_are_tried_again_later(trouble):
    stranger = trouble.stranger()
    unknown = meaning(stranger.call("GET", stranger.path()))
    busy = meaning(trouble.throttled())

    for error in (unknown, busy):
        assert isinstance(error, ClusterUnreachable)
        assert error.landed is False
    assert busy.retry_after == 1


def test_a_list_from_the_future_is_tried_again_after_what_the_server_says(cluster):
    error = meaning(cluster.call("GET", cluster.path(), resourceVersion=10**9))

    assert isinstance(error, ClusterUnreachable)
    assert error.retry_after == 1
