"""How the native controller rolls, halts and goes beyond its budget (`cluster.md` 2, 4, 5).

A version whose pods ask for more CPU than any node has stays Pending: a bad one on every cluster.
"""

from __future__ import annotations

from contract.client import JSON_PATCH, MERGE, STRATEGIC, container_of, preconditions
from contract.fleet import (
    HASH,
    HELD,
    by_node,
    hash_of,
    revisions,
    roll_out,
    rolled_out,
    status_is,
    uids,
    version,
)

ONE_BY_ONE = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}}


def careful(number, **spec):
    return version(number, **{"updateStrategy": ONE_BY_ONE} | spec)


def bad(number, **spec):
    """Return a version that no node has room for."""
    body = careful(number, **spec)
    container_of(body)["resources"] = {"requests": {"cpu": "1000"}}
    return body


def newest(cluster):
    return revisions(cluster)[-1]["metadata"]["labels"][HASH]


def halted(cluster, updated=1):
    """Whether the newest spec was seen, and so many pods of it are there and not available."""

    def holds():
        live = cluster.get()
        if live["status"].get("observedGeneration") != live["metadata"]["generation"]:
            return False
        worn = [hash_of(pod) for pod in cluster.pods()]
        return len(worn) == 12 and worn.count(newest(cluster)) == updated

    return holds


def rollback(cluster, revision, **spec):
    live = cluster.get()
    body = {
        "metadata": preconditions(live),
        "spec": {
            "template": revision["data"]["spec"]["template"],
            "updateStrategy": ONE_BY_ONE,
            "minReadySeconds": 0,
            **spec,
        },
    }
    for _ in range(20):  # the status is written meanwhile
        body["metadata"] = preconditions(cluster.get())
        answer = cluster.patch(body, media=STRATEGIC, manager="dsgitops", fieldValidation="Strict")
        if answer.status != 409:
            return answer
    raise AssertionError(answer.body)


# ---------------------------------------------------------------------------- halting, going back


def test_bad_versions_in_a_row_halt_at_the_budget_and_the_rollback_moves_no_other_pod(cluster):
    roll_out(cluster, careful(1))
    (good,) = revisions(cluster)
    before = uids(cluster.pods())

    for number in (2, 3):
        cluster.apply(bad(number))
        assert cluster.settle(halted(cluster))
    kept = before & uids(cluster.pods())
    assert len(kept) == 11

    assert rollback(cluster, good).status == 200
    assert cluster.settle(rolled_out(cluster))
    assert kept < uids(cluster.pods())
    again = revisions(cluster)[-1]
    assert (again["metadata"]["uid"], again["revision"]) == (good["metadata"]["uid"], 4)


def test_a_rollback_is_exact_although_a_person_wrote_in_mid_rollout_and_an_apply_is_not(cluster):
    roll_out(cluster, careful(1))
    (good,) = revisions(cluster)
    cluster.apply(bad(2))
    assert cluster.settle(halted(cluster))
    env = [{"name": "agent", "env": [{"name": "BY_HAND", "value": "1"}]}]
    by_hand = {"spec": {"template": {"spec": {"containers": env}}}}
    cluster.patch(by_hand, media=STRATEGIC, manager="kubectl-set")

    applied = cluster.apply(careful(1), dryRun="All").body
    assert {**applied["spec"]["template"], "$patch": "replace"} != good["data"]["spec"]["template"]
    restored = rollback(cluster, good).body

    assert {**restored["spec"]["template"], "$patch": "replace"} == good["data"]["spec"]["template"]
    assert cluster.settle(rolled_out(cluster))
    assert newest(cluster) == good["metadata"]["labels"][HASH]


def test_a_revision_that_lacks_a_default_of_today_is_not_restored_exactly(cluster):
    roll_out(cluster, careful(1))
    (good,) = revisions(cluster)
    template = good["data"]["spec"]["template"]
    pod = {key: each for key, each in template["spec"].items() if key != "schedulerName"}
    old = {"data": {"spec": {"template": {**template, "spec": pod}}}}

    restored = rollback(cluster, old).body["spec"]["template"]

    assert {**restored, "$patch": "replace"} != old["data"]["spec"]["template"]
    assert {**restored, "$patch": "replace"} == template


def test_a_pause_in_mid_rollout_holds_whatever_becomes_of_the_old_pods(cluster):
    roll_out(cluster, careful(1))
    cluster.apply(bad(2))
    assert cluster.settle(halted(cluster))
    before = uids(cluster.pods())

    cluster.patch({"spec": {"updateStrategy": {"type": "OnDelete"}}})
    assert cluster.settle(status_is(cluster, observedGeneration=3))
    make_unready(cluster, old_pods(cluster)[:3])
    assert cluster.settle(status_is(cluster, numberAvailable=8))
    cluster.rest_briefly()

    assert uids(cluster.pods()) == before
    assert len(revisions(cluster)) == 2


# ---------------------------------------------------------------------------- beyond the budget


def old_pods(cluster):
    return [pod for pod in cluster.pods() if hash_of(pod) != newest(cluster)]


def make_unready(cluster, pods):
    for pod in pods:
        set_status(cluster, pod, ready="False")


def set_status(cluster, pod, *, ready="True", **status):
    """Write into a pod's status what a kubelet would."""
    conditions = [
        each | ({"status": ready} if each["type"] in ("Ready", "ContainersReady") else {})
        for each in pod["status"]["conditions"]
    ]
    path = cluster.path(pod["metadata"]["name"], "pods") + "/status"
    changes = status | {"conditions": conditions}
    body = [
        {"op": "replace", "path": f"/status/{key}", "value": each} for key, each in changes.items()
    ]
    answer = cluster.call("PATCH", path, body, media=JSON_PATCH, fieldManager="kubelet")
    assert answer.status == 200, answer.body


def test_old_pods_that_turn_unready_in_mid_rollout_are_all_replaced_at_once(cluster):
    roll_out(cluster, careful(1))
    cluster.apply(bad(2))
    assert cluster.settle(halted(cluster))

    make_unready(cluster, old_pods(cluster)[:3])

    assert cluster.settle(halted(cluster, updated=4))
    cluster.rest_briefly()
    assert halted(cluster, updated=4)()  # they count: no fifth node is taken


def test_min_ready_seconds_raised_with_the_template_take_every_node_at_once(cluster):
    roll_out(cluster, careful(1))

    cluster.apply(bad(2, minReadySeconds=3600))

    assert cluster.settle(halted(cluster, updated=12))


def test_pods_younger_than_min_ready_seconds_are_replaced_at_once_by_the_next_version(cluster):
    cluster.apply(careful(1, minReadySeconds=3600))
    assert cluster.settle(status_is(cluster, numberReady=12, numberAvailable=0))

    cluster.apply(bad(2, minReadySeconds=3600))

    assert cluster.settle(halted(cluster, updated=12))


def test_a_failed_pod_is_replaced_and_told_of(cluster):
    roll_out(cluster, version(1))
    pod = cluster.pods()[0]
    node = pod["spec"]["nodeName"]

    set_status(cluster, pod, ready="False", phase="Failed")

    def replaced():
        found = by_node(cluster).get(node)
        return found is not None and found["metadata"]["uid"] != pod["metadata"]["uid"]

    assert cluster.settle(replaced)
    uid = cluster.get()["metadata"]["uid"]
    told = cluster.list("events", fieldSelector=f"involvedObject.uid={uid},reason=FailedDaemonPod")
    (event,) = told
    assert event["type"] == "Warning"
    name = pod["metadata"]["name"]
    assert event["message"] == (
        f"Found failed daemon pod {cluster.namespace}/{name} on node {node}, will try to kill it"
    )


# ---------------------------------------------------------------------------- history


def test_without_a_history_the_replaced_revision_is_gone_with_its_last_pod(cluster):
    roll_out(cluster, version(1, revisionHistoryLimit=0))
    roll_out(cluster, version(2, revisionHistoryLimit=0))

    assert cluster.settle(lambda: [each["revision"] for each in revisions(cluster)] == [2])


def test_a_revision_that_pods_wear_outlives_the_limit(cluster):
    roll_out(cluster, version(1, revisionHistoryLimit=1))
    for number in (2, 3, 4):
        cluster.apply(version(number, revisionHistoryLimit=1, updateStrategy=HELD))
        assert cluster.settle(status_is(cluster, observedGeneration=number))

    assert cluster.settle(lambda: [each["revision"] for each in revisions(cluster)] == [1, 4])


def test_a_revision_s_name_that_is_taken_by_other_content_gives_another_hash(cluster):
    cluster.apply(version(1))
    assert cluster.settle(lambda: revisions(cluster) != [])
    (first,) = revisions(cluster)
    cluster.call("DELETE", cluster.path("agent"))
    assert cluster.settle(lambda: revisions(cluster) == [] and cluster.pods() == [])
    name = first["metadata"]["name"]
    taken = {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {"name": name},
        "data": {"other": "content"},
        "revision": 1,
    }
    path = cluster.path(resource="controllerrevisions")
    assert cluster.call("POST", path, taken).status == 201

    roll_out(cluster, version(1))

    assert cluster.get()["status"]["collisionCount"] == 1
    (worn,) = {hash_of(pod) for pod in cluster.pods()}
    assert worn != first["metadata"]["labels"][HASH]


def test_a_template_that_a_newer_control_plane_writes_in_other_bytes_restarts_no_pod(cluster):
    live = roll_out(cluster, version(1))
    before = uids(cluster.pods())
    (today,) = revisions(cluster)
    written_before(cluster, today)

    cluster.patch({"spec": {"minReadySeconds": 1}})  # any reason to sync will do
    assert cluster.settle(status_is(cluster, observedGeneration=2, updatedNumberScheduled=12))

    assert [each["revision"] for each in revisions(cluster)] == [1, 2]
    assert (
        revisions(cluster)[-1]["data"]["spec"]["template"]["spec"]
        == (live["spec"]["template"]["spec"])
    )
    cluster.rest()
    assert uids(cluster.pods()) == before  # their generation is the template's
    assert {hash_of(pod) for pod in cluster.pods()} == {"older"}


def written_before(cluster, revision):
    """Put a revision and its pods as a control plane before 1.34 would have left them."""
    template = revision["data"]["spec"]["template"]
    dated = {**template, "metadata": {"creationTimestamp": None, **template["metadata"]}}
    older = {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": "agent-older",
            "labels": revision["metadata"]["labels"] | {HASH: "older"},
            "ownerReferences": revision["metadata"]["ownerReferences"],
        },
        "data": {"spec": {"template": dated}},
        "revision": 1,
    }
    path = cluster.path(resource="controllerrevisions")
    assert cluster.call("POST", path, older).status == 201
    for pod in cluster.pods():
        label = {"metadata": {"labels": {HASH: "older"}}}
        cluster.call("PATCH", cluster.path(pod["metadata"]["name"], "pods"), label, media=MERGE)
    gone = cluster.call("DELETE", f"{path}/{revision['metadata']['name']}")
    assert gone.status == 200


# ---------------------------------------------------------------------------- whose pods


def orphaned(cluster, body):
    """Roll out, delete the DaemonSet alone, and return the uids of the pods that stay."""
    roll_out(cluster, body)
    cluster.call("DELETE", cluster.path("agent"), {"propagationPolicy": "Orphan"})
    assert cluster.settle(lambda: cluster.call("GET", cluster.path("agent")).status == 404)
    return uids(cluster.pods())


def test_adopted_pods_of_the_same_generation_pass_for_new_ones_whatever_they_run(cluster):
    before = orphaned(cluster, version(1))

    cluster.apply(version(2))

    assert cluster.settle(rolled_out(cluster))  # so the status says, and no hash of the pods does
    cluster.rest()
    assert uids(cluster.pods()) == before
    assert newest(cluster) not in {hash_of(pod) for pod in cluster.pods()}


def test_the_template_after_that_replaces_adopted_pods(cluster):
    before = orphaned(cluster, version(1))
    cluster.apply(version(2))
    assert cluster.settle(rolled_out(cluster))

    cluster.apply(version(3))

    assert cluster.settle(lambda: before.isdisjoint(uids(cluster.pods())) and rolled_out(cluster)())
    assert {hash_of(pod) for pod in cluster.pods()} == {newest(cluster)}


def test_a_pod_whose_labels_match_no_more_is_let_go_and_replaced(cluster):
    roll_out(cluster, version(1))
    pod = cluster.pods()[0]
    name = pod["metadata"]["name"]
    path = cluster.path(name, "pods")

    relabelled = [{"op": "replace", "path": "/metadata/labels/app", "value": "other"}]
    cluster.call("PATCH", path, relabelled, media=JSON_PATCH, fieldManager="person")

    assert cluster.settle(
        lambda: (
            len(cluster.pods()) == 12
            and not cluster.get(name, "pods")["metadata"].get("ownerReferences")
        )
    )
    assert pod["metadata"]["uid"] not in uids(cluster.pods())


# ---------------------------------------------------------------------------- pods that cannot be


def test_a_pod_beyond_the_quota_is_told_of_by_the_daemonset_s_events(cluster):
    cluster.quota("1")
    body = version(1)
    for index in (0, 1):
        container_of(body, index)["resources"] = {"requests": {"cpu": "250m"}}

    cluster.apply(body)

    uid = cluster.get()["metadata"]["uid"]
    selector = f"involvedObject.uid={uid},reason=FailedCreate"
    assert cluster.settle(
        lambda: any(
            "exceeded quota: cpu, requested: requests.cpu=500m, used: requests.cpu=1, limited: requests.cpu=1"
            in each["message"]
            for each in cluster.list("events", fieldSelector=selector)
        )
    )
    (event, *_) = cluster.list("events", fieldSelector=selector)
    assert event["type"] == "Warning"
    assert event["message"].startswith('Error creating: pods "agent-')
    assert len(cluster.pods()) == 2


def test_a_pod_that_fits_no_node_waits_and_says_so(cluster):
    cluster.apply(bad(1))
    assert cluster.settle(lambda: len(cluster.pods()) == 12)

    def said():
        pod = cluster.pods()[0]
        return [
            each for each in pod["status"].get("conditions", []) if each["type"] == "PodScheduled"
        ]

    assert cluster.settle(lambda: bool(said()))
    (condition,) = said()
    assert (condition["status"], condition["reason"]) == ("False", "Unschedulable")
    assert "Insufficient cpu" in condition["message"]
    assert "nodeName" not in cluster.pods()[0]["spec"]
    (term,) = pinned_to(cluster.pods()[0])
    (field,) = term["matchFields"]
    assert (field["key"], field["operator"]) == ("metadata.name", "In")
    assert field["values"][0] in cluster.nodes()


def pinned_to(pod):
    affinity = pod["spec"]["affinity"]["nodeAffinity"]
    return affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
