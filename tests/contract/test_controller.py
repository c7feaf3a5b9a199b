"""What the DaemonSet controller does, as the agent builds on it (`cluster.md` 1, 4, 5, 10)."""

from __future__ import annotations

from contract.client import STRATEGIC
from contract.fleet import (
    HASH,
    HELD,
    RECORD,
    by_node,
    patch_node,
    revisions,
    roll_out,
    rolled_out,
    status_is,
    version,
)

# ---------------------------------------------------------------------------- revisions


def test_a_revision_holds_the_template_and_the_annotations_of_its_moment(cluster):
    live = roll_out(cluster, version(1, "first"))

    (first,) = revisions(cluster)
    assert first["revision"] == 1
    assert first["data"] == {
        "spec": {"template": {"$patch": "replace", **live["spec"]["template"]}}
    }
    assert first["metadata"]["annotations"] == live["metadata"]["annotations"]
    assert first["metadata"]["annotations"][RECORD] == "first"
    hashed = first["metadata"]["labels"][HASH]
    assert first["metadata"]["name"] == f"agent-{hashed}"
    assert {pod["metadata"]["labels"][HASH] for pod in cluster.pods()} == {hashed}


def test_a_later_annotation_makes_no_revision_and_reaches_none(cluster):
    roll_out(cluster, version(1, "first"))

    cluster.apply(version(1, "second"))
    cluster.rest()

    (only,) = revisions(cluster)
    assert only["metadata"]["annotations"][RECORD] == "first"


def test_going_back_reuses_the_revision_under_the_highest_number_with_its_old_annotations(cluster):
    roll_out(cluster, version(1, "first"))
    (first,) = revisions(cluster)
    roll_out(cluster, version(2, "second"))
    roll_out(cluster, version(1, "third"))

    second, again = revisions(cluster)
    assert (second["revision"], again["revision"]) == (2, 3)
    assert again["metadata"]["uid"] == first["metadata"]["uid"]
    assert again["data"] == first["data"]
    assert again["metadata"]["annotations"][RECORD] == "first"


def test_revisions_beyond_the_limit_go_the_oldest_first(cluster):
    for number in (1, 2, 3, 4):
        roll_out(cluster, version(number, revisionHistoryLimit=1))

    assert cluster.settle(lambda: [each["revision"] for each in revisions(cluster)] == [3, 4])


# ---------------------------------------------------------------------------- status


def test_the_observed_generation_follows_the_spec_and_no_metadata(cluster):
    roll_out(cluster, version(1))
    assert cluster.get()["status"]["observedGeneration"] == 1

    cluster.patch({"metadata": {"labels": {"x": "y"}}})
    cluster.rest()
    assert cluster.get()["status"]["observedGeneration"] == 1

    cluster.patch({"spec": {"minReadySeconds": 1}})
    assert cluster.settle(status_is(cluster, observedGeneration=2))


def test_the_status_belongs_to_the_controller_through_its_subresource(cluster):
    live = roll_out(cluster, version(1))

    (entry,) = (each for each in live["metadata"]["managedFields"] if each.get("subresource"))

    assert (entry["manager"], entry["operation"]) == ("kube-controller-manager", "Update")
    assert entry["subresource"] == "status"
    assert set(entry["fieldsV1"]) == {"f:status"}
    owned = {key.removeprefix("f:") for key in entry["fieldsV1"]["f:status"]}
    assert owned == {
        "currentNumberScheduled",
        "desiredNumberScheduled",
        "numberAvailable",
        "numberReady",
        "observedGeneration",
        "updatedNumberScheduled",
    }


# ---------------------------------------------------------------------------- strategies


def test_on_delete_restarts_nothing_and_a_deleted_pod_comes_back_new(cluster):
    roll_out(cluster, version(1))
    before = by_node(cluster)

    cluster.apply(version(2, updateStrategy=HELD))
    assert cluster.settle(status_is(cluster, observedGeneration=2))
    cluster.rest()
    assert cluster.get()["status"].get("updatedNumberScheduled", 0) == 0
    assert {pod["metadata"]["uid"] for pod in cluster.pods()} == {
        pod["metadata"]["uid"] for pod in before.values()
    }

    node = min(before)
    name = before[node]["metadata"]["name"]
    assert cluster.call("DELETE", cluster.path(name, "pods")).status == 200
    assert cluster.settle(status_is(cluster, updatedNumberScheduled=1, numberAvailable=12))
    after = by_node(cluster)
    moved = [each for each in after if after[each]["metadata"] != before[each]["metadata"]]
    assert moved == [node]
    assert after[node]["metadata"]["labels"][HASH] != before[node]["metadata"]["labels"][HASH]


def test_going_back_to_rolling_update_finishes_what_was_held(cluster):
    roll_out(cluster, version(1))
    cluster.apply(version(2, updateStrategy=HELD))
    assert cluster.settle(status_is(cluster, observedGeneration=2))

    cluster.patch({"spec": {"updateStrategy": {"type": "RollingUpdate"}}})

    assert cluster.settle(rolled_out(cluster))


def test_surge_never_has_a_node_without_a_ready_pod(cluster):
    surge = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 3}}
    roll_out(cluster, version(1, updateStrategy=surge))
    listed = cluster.call("GET", cluster.path(resource="pods")).body
    at = listed["metadata"]["resourceVersion"]
    stream = cluster.open("pods", resourceVersion=at, labelSelector="app=agent")
    ready = {pod["metadata"]["uid"]: pod["spec"]["nodeName"] for pod in cluster.pods()}

    roll_out(cluster, version(2, updateStrategy=surge))
    assert cluster.settle(lambda: len(cluster.pods()) == 12)

    def all_gone(told):
        return sum(each["type"] == "DELETED" for each in told) == 12

    for event in cluster.events(stream, until=all_gone):
        pod = event["object"]
        uid, node = pod["metadata"]["uid"], pod["spec"].get("nodeName")
        leaving = event["type"] == "DELETED" or "deletionTimestamp" in pod["metadata"]
        ready.pop(uid, None)
        if not leaving and is_ready(pod):
            ready[uid] = node
        assert len(set(ready.values())) == 12, event


def is_ready(pod):
    conditions = pod["status"].get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


# ---------------------------------------------------------------------------- nodes


def test_a_node_that_joins_gets_a_pod(cluster):
    roll_out(cluster, version(1))

    cluster.join("node-late", {})
    try:
        assert cluster.settle(rolled_out(cluster, 13))
        assert "node-late" in by_node(cluster)
    finally:
        cluster.leave("node-late")
    assert "node-late" not in cluster.nodes()  # it counts until its pod is collected: a minute


def test_a_node_that_joins_while_held_runs_the_new_template_at_once(cluster):
    roll_out(cluster, version(1))
    cluster.apply(version(2, updateStrategy=HELD))
    assert cluster.settle(status_is(cluster, observedGeneration=2))

    cluster.join("node-late", {})
    try:
        assert cluster.settle(status_is(cluster, updatedNumberScheduled=1, numberAvailable=13))
        newest = revisions(cluster)[-1]["metadata"]["labels"][HASH]
        assert by_node(cluster)["node-late"]["metadata"]["labels"][HASH] == newest
    finally:
        cluster.leave("node-late")


def test_a_node_s_label_lets_its_pod_come_and_go(cluster):
    body = version(1)
    body["spec"]["template"]["spec"]["nodeSelector"] = {f"only-{cluster.namespace}": "yes"}
    cluster.apply(body)
    assert cluster.settle(status_is(cluster, observedGeneration=1))
    assert cluster.get()["status"]["desiredNumberScheduled"] == 0
    node = cluster.nodes()[0]

    label = f"only-{cluster.namespace}"
    patch_node(cluster, node, {"metadata": {"labels": {label: "yes"}}})
    assert cluster.settle(rolled_out(cluster, 1))
    assert list(by_node(cluster)) == [node]

    patch_node(cluster, node, {"metadata": {"labels": {label: None}}})
    assert cluster.settle(lambda: cluster.pods() == [])
    assert cluster.settle(rolled_out(cluster, 0))


def tainted(cluster, node, effect):
    patch_node(cluster, node, {"spec": {"taints": [{"key": "kept", "effect": effect}]}}, STRATEGIC)


def untainted(cluster, node):
    change = {"spec": {"taints": [{"key": "kept", "$patch": "delete"}]}}
    taints = cluster.call("GET", f"/api/v1/nodes/{node}").body["spec"].get("taints", [])
    left = [each for each in taints if each["key"] != "kept"]
    change = {"spec": {"taints": left or None}}
    patch_node(cluster, node, change)


def test_a_taint_against_new_pods_leaves_the_old_one_and_counts_from_the_next_sync(cluster):
    roll_out(cluster, version(1))
    node = cluster.nodes()[0]
    before = by_node(cluster)[node]["metadata"]["uid"]

    tainted(cluster, node, "NoSchedule")
    try:
        cluster.patch({"spec": {"minReadySeconds": 1}})  # any reason to sync will do
        counted = status_is(
            cluster, desiredNumberScheduled=11, numberMisscheduled=1, numberAvailable=11
        )
        assert cluster.settle(counted), cluster.get()["status"]
        assert by_node(cluster)[node]["metadata"]["uid"] == before
    finally:
        untainted(cluster, node)
    assert cluster.settle(rolled_out(cluster))
    assert by_node(cluster)[node]["metadata"]["uid"] == before


def test_a_taint_against_all_pods_takes_the_pod_away_until_it_goes(cluster):
    roll_out(cluster, version(1))
    node = cluster.nodes()[0]

    tainted(cluster, node, "NoExecute")
    try:
        assert cluster.settle(lambda: node not in by_node(cluster))
        assert cluster.settle(status_is(cluster, desiredNumberScheduled=11, numberMisscheduled=0))
    finally:
        untainted(cluster, node)
    assert cluster.settle(rolled_out(cluster))
    assert node in by_node(cluster)


def test_a_tolerated_taint_changes_nothing(cluster):
    body = version(1)
    body["spec"]["template"]["spec"]["tolerations"] = [{"operator": "Exists"}]
    roll_out(cluster, body)
    node = cluster.nodes()[0]
    before = by_node(cluster)[node]["metadata"]["uid"]

    tainted(cluster, node, "NoExecute")
    try:
        cluster.rest()
        assert cluster.get()["status"]["desiredNumberScheduled"] == 12
        assert by_node(cluster)[node]["metadata"]["uid"] == before
    finally:
        untainted(cluster, node)


# ---------------------------------------------------------------------------- deleting


def test_a_daemonset_deleted_in_the_foreground_waits_for_its_pods(cluster):
    roll_out(cluster, version(1))

    answer = cluster.call("DELETE", cluster.path("agent"), {"propagationPolicy": "Foreground"})

    assert answer.status == 200
    assert answer.body["metadata"]["finalizers"] == ["foregroundDeletion"]
    assert answer.body["metadata"]["deletionTimestamp"]
    assert cluster.settle(lambda: cluster.call("GET", cluster.path("agent")).status == 404)
    assert cluster.pods() == []


def test_a_finalizer_keeps_a_deleted_daemonset_until_it_is_taken_away(cluster):
    body = version(1)
    body["metadata"]["finalizers"] = ["example.io/wait"]
    cluster.apply(body)

    assert cluster.call("DELETE", cluster.path("agent")).status == 200
    live = cluster.get()
    assert live["metadata"]["deletionTimestamp"]
    refused = cluster.create(version(1))
    assert refused.body["message"].startswith("object is being deleted: ")

    cluster.patch({"metadata": {"finalizers": None}})
    assert cluster.settle(lambda: cluster.call("GET", cluster.path("agent")).status == 404)
