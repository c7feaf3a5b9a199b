"""The dry run as the difference between Git and the cluster (`cluster.md` 7.1, 7.3, 4.1)."""

from __future__ import annotations

import pytest
from contract.client import container_of, manifest

TEMPLATE_GENERATION = "deprecated.daemonset.template.generation"


def settled(cluster, body=None):
    answer = cluster.apply(body or manifest())
    assert answer.status == 201, answer.body
    assert cluster.settle(lambda: cluster.get()["status"].get("numberAvailable") == 12)
    cluster.rest()
    return cluster.get()


def test_no_change_answers_the_live_object_in_every_byte(cluster):
    live = settled(cluster)

    assert cluster.apply(manifest(), dryRun="All").body == live


def test_a_changed_template_shows_both_generations_and_writes_nothing(cluster):
    live = settled(cluster)
    changed = manifest()
    container_of(changed)["image"] = "registry.example/agent:2"

    tried = cluster.apply(changed, dryRun="All").body

    metadata = tried["metadata"]
    assert metadata["resourceVersion"] == live["metadata"]["resourceVersion"]
    assert metadata["generation"] == 2
    assert metadata["annotations"][TEMPLATE_GENERATION] == "2"
    assert container_of(tried)["image"] == "registry.example/agent:2"
    assert cluster.get() == live


def test_a_changed_strategy_bumps_the_generation_alone(cluster):
    settled(cluster)
    held = {"type": "OnDelete", "rollingUpdate": {"maxUnavailable": 2, "maxSurge": 0}}

    metadata = cluster.apply(manifest(updateStrategy=held), dryRun="All").body["metadata"]

    assert metadata["generation"] == 2
    assert metadata["annotations"][TEMPLATE_GENERATION] == "1"


def test_changed_labels_bump_nothing(cluster):
    settled(cluster)
    changed = manifest()
    changed["metadata"]["labels"] = {"team": "other"}

    live = cluster.apply(changed).body

    assert live["metadata"]["generation"] == 1
    assert live["metadata"]["labels"] == {"team": "other"}


def test_an_absent_object_answers_201_with_a_uid_and_no_version(cluster):
    answer = cluster.apply(manifest(), dryRun="All")

    assert answer.status == 201
    assert answer.body["metadata"]["uid"]
    assert answer.body["metadata"]["generation"] == 1
    assert "resourceVersion" not in answer.body["metadata"]
    assert cluster.call("GET", cluster.path("agent")).status == 404


def test_a_dry_run_create_of_a_taken_name_already_exists(cluster):
    cluster.create(manifest())

    assert cluster.create(manifest(), dryRun="All").status == 409


def test_what_only_the_server_sets_is_ignored_in_a_body(cluster):
    live = settled(cluster)
    body = manifest() | {"status": {"numberReady": 3}}
    body["metadata"] |= {"generation": 7, "creationTimestamp": "2001-01-01T00:00:00Z"}

    tried = cluster.apply(body, dryRun="All").body

    assert {**tried, "metadata": {**tried["metadata"], "managedFields": None}} == {
        **live,
        "metadata": {**live["metadata"], "managedFields": None},
    }


def test_a_body_without_namespace_takes_the_url_s_and_without_name_only_an_existing_one(cluster):
    nameless = manifest()
    del nameless["metadata"]["name"]

    refused = cluster.apply(nameless, name="agent")
    live = cluster.apply(manifest()).body
    again = cluster.apply(nameless, name="agent")

    assert (refused.status, refused.body["message"]) == (
        400,
        "the name of the object (agent based on URL) was undeterminable: name must be provided",
    )
    assert live["metadata"]["namespace"] == cluster.namespace
    assert (again.status, again.body["metadata"]["name"]) == (200, "agent")


def test_quantities_are_normalised(cluster):
    body = manifest()
    container_of(body)["resources"] = {
        "limits": {"cpu": "1000m", "memory": "1024Mi"},
        "requests": {"cpu": 0.1, "memory": "0.5Gi"},
    }

    live = cluster.apply(body).body

    assert container_of(live)["resources"] == {
        "limits": {"cpu": "1", "memory": "1Gi"},
        "requests": {"cpu": "100m", "memory": "512Mi"},
    }


def test_a_null_is_not_set(cluster):
    body = manifest(minReadySeconds=None, revisionHistoryLimit=None)
    body["spec"]["template"]["metadata"]["creationTimestamp"] = None

    live = cluster.apply(body).body

    assert "minReadySeconds" not in live["spec"]
    assert live["spec"]["revisionHistoryLimit"] == 10
    assert live["spec"]["template"]["metadata"] == {"labels": {"app": "agent"}}


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("registry.example:5000/agent", "Always"),
        ("agent:latest", "Always"),
        ("agent:latest@sha256:" + "0" * 64, "Always"),
        ("agent:1", "IfNotPresent"),
        ("agent@sha256:" + "0" * 64, "IfNotPresent"),
    ],
)
def test_the_pull_policy_follows_the_tag(cluster, image, policy):
    body = manifest()
    container_of(body)["image"] = image

    assert container_of(cluster.apply(body, dryRun="All").body)["imagePullPolicy"] == policy


def test_a_template_gets_the_defaults_of_a_template_and_not_those_of_a_pod(cluster):
    body = manifest()
    body["spec"]["template"]["spec"] |= {
        "hostNetwork": True,
        "serviceAccountName": "agent",
        "volumes": [
            {"name": "data"},
            {"name": "secret", "secret": {"secretName": "s"}},
            {"name": "host", "hostPath": {"path": "/var"}},
            {
                "name": "token",
                "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]},
            },
        ],
    }
    container_of(body) | {"resources": {"limits": {"cpu": "1"}}}
    container_of(body)["readinessProbe"] = {"httpGet": {"port": 8080}}

    spec = cluster.apply(body, dryRun="All").body["spec"]["template"]["spec"]

    assert {key: spec[key] for key in ("dnsPolicy", "restartPolicy", "schedulerName")} == {
        "dnsPolicy": "ClusterFirst",
        "restartPolicy": "Always",
        "schedulerName": "default-scheduler",
    }
    assert spec["securityContext"] == {}
    assert spec["serviceAccount"] == "agent"
    assert "enableServiceLinks" not in spec
    assert spec["containers"][0]["ports"] == [
        {"name": "http", "containerPort": 8080, "protocol": "TCP"}
    ]
    assert spec["containers"][0]["readinessProbe"] == {
        "httpGet": {"path": "/", "port": 8080, "scheme": "HTTP"},
        "timeoutSeconds": 1,
        "periodSeconds": 10,
        "successThreshold": 1,
        "failureThreshold": 3,
    }
    assert spec["volumes"] == [
        {"name": "data", "emptyDir": {}},
        {"name": "secret", "secret": {"secretName": "s", "defaultMode": 420}},
        {"name": "host", "hostPath": {"path": "/var", "type": ""}},
        {
            "name": "token",
            "projected": {
                "sources": [{"serviceAccountToken": {"expirationSeconds": 3600, "path": "token"}}],
                "defaultMode": 420,
            },
        },
    ]


# ---------------------------------------------------------------------------- the pause


def test_a_pause_by_merge_patch_keeps_the_numbers_and_can_be_undone(cluster):
    settled(cluster)

    held = cluster.patch({"spec": {"updateStrategy": {"type": "OnDelete"}}}).body
    assert held["spec"]["updateStrategy"] == {
        "type": "OnDelete",
        "rollingUpdate": {"maxUnavailable": 2, "maxSurge": 0},
    }

    back = cluster.patch({"spec": {"updateStrategy": {"type": "RollingUpdate"}}}).body
    assert back["spec"]["updateStrategy"]["rollingUpdate"] == {"maxUnavailable": 2, "maxSurge": 0}


def test_below_on_delete_nothing_is_validated_and_missing_numbers_are_zero(cluster):
    odd = {"type": "OnDelete", "rollingUpdate": {"maxUnavailable": "abc"}}
    live = cluster.apply(manifest(updateStrategy=odd)).body
    assert live["spec"]["updateStrategy"]["rollingUpdate"] == {
        "maxUnavailable": "abc",
        "maxSurge": 0,
    }

    resumed = cluster.patch({"spec": {"updateStrategy": {"type": "RollingUpdate"}}})
    assert resumed.status == 422


def test_an_empty_rolling_update_below_on_delete_cannot_be_resumed(cluster):
    held = {"type": "OnDelete", "rollingUpdate": {}}
    live = cluster.apply(manifest(updateStrategy=held)).body
    assert live["spec"]["updateStrategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 0}

    resumed = cluster.patch({"spec": {"updateStrategy": {"type": "RollingUpdate"}}})
    assert resumed.status == 422
