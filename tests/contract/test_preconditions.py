"""What a write may assume, and what happens when it is wrong (`cluster.md` 1.1, 4.2)."""

from __future__ import annotations

import pytest
from contract.client import APPLY, JSON_PATCH, MERGE, STRATEGIC, manifest, preconditions

OTHER_UID = "11111111-2222-3333-4444-555555555555"


def write(cluster, media, metadata, spec=None):
    """Send the same small change in one of the ways."""
    if media == APPLY:
        body = manifest(minReadySeconds=3)
        body["metadata"] |= metadata
        return cluster.apply(body)
    body = {"metadata": metadata, "spec": spec or {"minReadySeconds": 3}}
    return cluster.patch(body, media=media)


WAYS = pytest.mark.parametrize("media", [APPLY, STRATEGIC, MERGE])


@WAYS
def test_a_stale_version_is_a_conflict(cluster, media):
    cluster.create(manifest())

    answer = write(cluster, media, {"resourceVersion": "999"})

    assert (answer.status, answer.body["reason"]) == (409, "Conflict")
    assert answer.body["message"].endswith(
        "the object has been modified; please apply your changes to the latest version and try again"
    )
    assert "causes" not in answer.body["details"]


@WAYS
def test_another_uid_is_invalid_and_named_twice(cluster, media):
    cluster.create(manifest())

    answer = write(cluster, media, {"uid": OTHER_UID})

    assert (answer.status, answer.body["reason"]) == (422, "Invalid")
    causes = [each for each in answer.body["details"]["causes"] if each["field"] == "metadata.uid"]
    assert len(causes) == 2
    assert "field is immutable" in causes[0]["message"]


@WAYS
def test_both_wrong_is_the_version_s_conflict(cluster, media):
    cluster.create(manifest())

    assert write(cluster, media, {"uid": OTHER_UID, "resourceVersion": "999"}).status == 409


@WAYS
def test_both_right_is_written(cluster, media):
    live = cluster.create(manifest()).body
    cluster.settle(lambda: cluster.get()["status"].get("observedGeneration") == 1)
    cluster.rest()
    live = cluster.get()

    answer = write(cluster, media, preconditions(live))

    assert answer.status == 200, answer.body
    assert answer.body["spec"]["minReadySeconds"] == 3


@pytest.mark.parametrize("nothing", ["", "0"])
@WAYS
def test_an_empty_or_zero_version_is_no_precondition(cluster, media, nothing):
    cluster.create(manifest())

    assert write(cluster, media, {"resourceVersion": nothing}).status == 200


@WAYS
def test_a_version_that_is_no_number_is_a_server_error(cluster, media):
    cluster.create(manifest())

    assert write(cluster, media, {"resourceVersion": "abc"}).status == 500


def test_apply_creates_an_absent_object_although_a_version_was_given(cluster):
    answer = write(cluster, APPLY, {"resourceVersion": "999"})

    assert answer.status == 201


def test_apply_with_a_uid_does_not_create(cluster):
    answer = write(cluster, APPLY, {"uid": OTHER_UID})

    assert answer.status == 409
    assert (
        f"the provided object specified uid {OTHER_UID}, and no existing object was found"
        in (answer.body["message"])
    )
    assert cluster.call("GET", cluster.path("agent")).status == 404


@pytest.mark.parametrize("media", [STRATEGIC, MERGE])
def test_a_patch_of_an_absent_object_is_not_found(cluster, media):
    answer = write(cluster, media, {})

    assert (answer.status, answer.body["reason"]) == (404, "NotFound")
    assert answer.body["message"] == 'daemonsets.apps "agent" not found'


def test_a_json_patch_whose_test_fails_is_refused_without_details(cluster):
    cluster.create(manifest())
    wrong = [{"op": "test", "path": "/metadata/generation", "value": 3}]

    answer = cluster.patch(wrong, media=JSON_PATCH)

    assert (answer.status, answer.body["reason"]) == (422, "Invalid")
    assert answer.body["message"] == (
        "the server rejected our request due to an error in our request"
    )


def test_a_json_patch_with_the_right_version_is_written(cluster):
    cluster.create(manifest())
    cluster.rest()
    live = cluster.get()
    patch = [
        {
            "op": "replace",
            "path": "/metadata/resourceVersion",
            "value": live["metadata"]["resourceVersion"],
        },
        {"op": "add", "path": "/metadata/annotations/a~1b", "value": "c"},
    ]

    first, second = (cluster.patch(patch, media=JSON_PATCH) for _ in range(2))

    assert first.body["metadata"]["annotations"]["a/b"] == "c"
    assert second.status == 409


# ---------------------------------------------------------------------------- deleting


def one_pod(cluster):
    cluster.create(manifest())
    assert cluster.settle(lambda: cluster.get()["status"].get("numberAvailable") == 12)
    cluster.rest()
    return cluster.pods()[0]


def delete(cluster, name, resource="pods", **options):
    return cluster.call("DELETE", cluster.path(name, resource), options)


@pytest.mark.parametrize("wrong", [{"uid": OTHER_UID}, {"resourceVersion": "999"}])
def test_deleting_a_pod_that_is_not_meant_is_a_conflict(cluster, wrong):
    pod = one_pod(cluster)

    answer = delete(cluster, pod["metadata"]["name"], preconditions=wrong)

    assert (answer.status, answer.body["reason"]) == (409, "Conflict")
    assert "in the precondition" in answer.body["message"]
    assert "deletionTimestamp" not in cluster.get(pod["metadata"]["name"], "pods")["metadata"]


def test_a_deleted_pod_stays_while_something_holds_it_and_a_repeat_is_welcome(cluster):
    pod = one_pod(cluster)
    name = pod["metadata"]["name"]
    held = {"metadata": {"finalizers": ["example.com/hold"]}}
    place = cluster.path(name, "pods")
    pod = cluster.call("PATCH", place, held, media=MERGE).body

    first = delete(cluster, name, preconditions=preconditions(pod))
    again = delete(cluster, name)

    assert (first.status, again.status) == (200, 200)
    assert first.body["metadata"]["deletionGracePeriodSeconds"] == 1
    asked = first.body["metadata"]["deletionTimestamp"]
    repeated = again.body["metadata"]
    let_go = repeated["deletionGracePeriodSeconds"] == 0  # by its node, between the two
    assert let_go or repeated["deletionTimestamp"] == asked
    cluster.call("PATCH", place, {"metadata": {"finalizers": None}}, media=MERGE)
    assert cluster.settle(lambda: cluster.call("GET", place).status == 404)
    assert delete(cluster, name).status == 404


def test_a_pod_deleted_without_grace_is_gone_at_once(cluster):
    name = one_pod(cluster)["metadata"]["name"]

    assert delete(cluster, name, gracePeriodSeconds=0).status == 200

    assert cluster.call("GET", cluster.path(name, "pods")).status == 404


def test_an_eviction_deletes_under_its_precondition(cluster):
    pod = one_pod(cluster)
    name = pod["metadata"]["name"]
    body = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": name, "namespace": cluster.namespace},
    }
    path = cluster.path(name, "pods") + "/eviction"

    wrong = cluster.call(
        "POST", path, body | {"deleteOptions": {"preconditions": {"uid": OTHER_UID}}}
    )
    right = cluster.call(
        "POST", path, body | {"deleteOptions": {"preconditions": {"uid": pod["metadata"]["uid"]}}}
    )

    assert wrong.status == 409
    assert (right.status, right.body["status"]) == (201, "Success")
    left = cluster.call(
        "GET", cluster.path(name, "pods")
    )  # a kwok node does not wait for the grace
    gone = left.status == 404 or left.body["metadata"]["uid"] != pod["metadata"]["uid"]
    assert gone or left.body["metadata"]["deletionTimestamp"]


def test_a_daemonset_deleted_as_orphan_leaves_pods_that_the_next_one_adopts(cluster):
    one_pod(cluster)
    live = cluster.get()
    before = {pod["metadata"]["uid"] for pod in cluster.pods()}
    revision = cluster.list("controllerrevisions")[0]["metadata"]["name"]

    answer = delete(
        cluster,
        "agent",
        "daemonsets",
        propagationPolicy="Orphan",
        preconditions={"uid": live["metadata"]["uid"]},
    )
    assert answer.status == 200
    assert answer.body["metadata"]["finalizers"] == ["orphan"]
    assert cluster.settle(lambda: cluster.call("GET", cluster.path("agent")).status == 404)
    assert all("ownerReferences" not in pod["metadata"] for pod in cluster.pods())

    anew = cluster.apply(manifest()).body
    uid = anew["metadata"]["uid"]

    def adopted():
        pods = cluster.pods()
        owners = [pod["metadata"].get("ownerReferences", []) for pod in pods]
        owned = all([each["uid"] for each in some] == [uid] for some in owners)
        return owned and {pod["metadata"]["uid"] for pod in pods} == before

    assert cluster.settle(adopted)
    assert [each["metadata"]["name"] for each in cluster.list("controllerrevisions")] == [revision]


def test_a_daemonset_deleted_in_the_background_is_gone_and_its_pods_follow(cluster):
    one_pod(cluster)

    answer = delete(cluster, "agent", "daemonsets")

    assert (answer.status, answer.body["status"]) == (200, "Success")
    assert cluster.call("GET", cluster.path("agent")).status == 404
    assert cluster.settle(lambda: cluster.pods() == [])
