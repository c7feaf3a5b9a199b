"""Events, Leases, reviews and the doors that are open to everyone (`cluster.md` 9, 11)."""

from __future__ import annotations

import pytest
from contract.client import MERGE, manifest

EVENTS = "/apis/events.k8s.io/v1/namespaces/{}/events"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/{}/leases"


def event(cluster, uid="7f1b", **fields):
    body = {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": "agent.18e9f86110"},
        "eventTime": "2026-01-02T03:04:05.000000Z",
        "reportingController": "dsgitops.io/agent",
        "reportingInstance": "pod-name",
        "action": "Rollback",
        "reason": "RolledBack",
        "type": "Warning",
        "regarding": {
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "namespace": cluster.namespace,
            "name": "agent",
            "uid": uid,
        },
        "note": "the sentence",
    } | fields
    return cluster.call("POST", EVENTS.format(cluster.namespace), body)


def test_an_event_is_seen_in_both_groups_and_found_by_uid(cluster):
    assert event(cluster).status == 201

    (core,) = cluster.list("events", fieldSelector="involvedObject.uid=7f1b")
    assert core["message"] == "the sentence"
    assert core["reportingComponent"] == "dsgitops.io/agent"
    new = cluster.call("GET", EVENTS.format(cluster.namespace), fieldSelector="regarding.uid=7f1b")
    assert [each["note"] for each in new.body["items"]] == ["the sentence"]
    assert new.body["apiVersion"] == "events.k8s.io/v1"


def test_a_repeat_is_a_series_and_nothing_else_may_change(cluster):
    event(cluster)
    path = EVENTS.format(cluster.namespace) + "/agent.18e9f86110"
    series = {"count": 2, "lastObservedTime": "2026-01-02T03:05:05.000000Z"}

    repeated = cluster.call("PATCH", path, {"series": series}, media=MERGE)
    assert repeated.status == 200, repeated.body
    assert repeated.body["series"] == series

    assert cluster.call("PATCH", path, {"note": "other"}, media=MERGE).status == 422
    once = {"series": series | {"count": 1}}
    assert event(cluster, metadata={"name": "b"}, **once).status == 422


@pytest.mark.parametrize(
    "field", ["eventTime", "reportingController", "reportingInstance", "action", "reason", "type"]
)
def test_an_event_needs_all_but_its_note(cluster, field):
    assert event(cluster, **{field: None}).status == 422
    assert event(cluster, note=None).status == 201


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("note", "ü" * 513, 422),
        ("reason", "r" * 129, 422),
        ("type", "Bad", 422),
        ("regarding", {"kind": "DaemonSet", "name": "agent"}, 422),
        ("eventTime", "2026-01-02T03:04:05Z", 400),
    ],
)
def test_an_event_beyond_its_limits_is_refused(cluster, field, value, code):
    assert event(cluster, **{field: value}).status == code


def test_an_event_s_name_cannot_be_generated_behind_a_dot(cluster):
    assert event(cluster, metadata={"generateName": "agent."}).status == 422


def test_the_world_tells_of_pods_by_core_events(cluster):
    cluster.create(manifest())
    uid = cluster.get()["metadata"]["uid"]
    assert cluster.settle(lambda: len(cluster.pods()) == 12)

    told = cluster.list("events", fieldSelector=f"involvedObject.uid={uid}")

    assert {each["reason"] for each in told} == {"SuccessfulCreate"}


# ---------------------------------------------------------------------------- leases


def lease(cluster, holder="a", time="2026-01-02T03:04:05.000000Z", **metadata):
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "dsgitops", **metadata},
        "spec": {
            "holderIdentity": holder,
            "leaseDurationSeconds": 15,
            "acquireTime": time,
            "renewTime": time,
        },
    }


def test_a_lease_is_held_by_its_version(cluster):
    path = LEASES.format(cluster.namespace)
    made = cluster.call("POST", path, lease(cluster)).body
    version = made["metadata"]["resourceVersion"]

    assert cluster.call("POST", path, lease(cluster)).body["reason"] == "AlreadyExists"
    taken = cluster.call("PUT", f"{path}/dsgitops", lease(cluster, "b", resourceVersion=version))
    stale = cluster.call("PUT", f"{path}/dsgitops", lease(cluster, "c", resourceVersion=version))
    assert (taken.status, stale.status) == (200, 409)
    assert stale.body["reason"] == "Conflict"

    released = cluster.call(
        "PUT",
        f"{path}/dsgitops",
        lease(cluster, "", resourceVersion=taken.body["metadata"]["resourceVersion"]),
    )
    assert released.status == 200
    assert released.body["spec"]["holderIdentity"] == ""


def test_a_lease_s_times_need_six_decimals(cluster):
    path = LEASES.format(cluster.namespace)

    assert cluster.call("POST", path, lease(cluster, time="2026-01-02T03:04:05Z")).status == 400


# ---------------------------------------------------------------------------- open to everyone


def test_version_and_health_are_served(cluster):
    assert cluster.call("GET", "/version").body["gitVersion"].startswith("v1.")
    assert cluster.call("GET", "/readyz").body == b"ok"
    assert cluster.call("GET", "/livez").body == b"ok"


def test_an_unknown_path_is_not_found(cluster):
    answer = cluster.call("GET", "/apis/example.io/v1/things")

    assert answer.status == 404


def test_an_account_can_ask_what_it_may_do(cluster):
    root = "/apis/authorization.k8s.io/v1"
    attributes = {
        "namespace": cluster.namespace,
        "verb": "patch",
        "group": "apps",
        "resource": "daemonsets",
    }

    single = cluster.call(
        "POST", f"{root}/selfsubjectaccessreviews", {"spec": {"resourceAttributes": attributes}}
    )
    rules = cluster.call(
        "POST", f"{root}/selfsubjectrulesreviews", {"spec": {"namespace": cluster.namespace}}
    )
    who = cluster.call(
        "POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", {"metadata": {}}
    )

    assert (single.status, single.body["status"]["allowed"]) == (201, True)
    assert rules.body["status"]["resourceRules"][0]["verbs"]
    assert who.body["status"]["userInfo"]["username"]
