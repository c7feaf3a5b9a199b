"""Lists and watches, as the reflector relies on them (`cluster.md` 8)."""

from __future__ import annotations

import pytest
from contract.client import container_of, manifest

PARTIAL = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
PARTIAL_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
TABLE = "application/json;as=Table;g=meta.k8s.io;v=v1"


def several(cluster, count=5):
    """Make so many DaemonSets, without pods."""
    for index in range(count):
        body = manifest(f"agent-{index}")
        body["spec"]["template"]["spec"]["nodeSelector"] = {"no": "node"}
        assert cluster.create(body).status == 201
    cluster.rest()


def listing(cluster, resource="daemonsets", accept="application/json", **query):
    return cluster.call("GET", cluster.path(resource=resource), accept=accept, **query)


def version(cluster):
    return listing(cluster).body["metadata"]["resourceVersion"]


def kinds(events):
    return [each["type"] for each in events]


# ---------------------------------------------------------------------------- lists


def test_pages_share_the_first_page_s_version_and_say_how_many_are_left(cluster):
    several(cluster)

    first = listing(cluster, limit=2).body
    cluster.create(manifest("later"))
    query = {"limit": 2, "continue": first["metadata"]["continue"]}
    second = listing(cluster, **query).body
    third = listing(cluster, **query | {"continue": second["metadata"]["continue"]}).body

    names = [each["metadata"]["name"] for page in (first, second, third) for each in page["items"]]
    assert names == [f"agent-{index}" for index in range(5)]
    assert [page["metadata"].get("remainingItemCount") for page in (first, second, third)] == [
        3,
        1,
        None,
    ]
    assert len({page["metadata"]["resourceVersion"] for page in (first, second, third)}) == 1
    assert "continue" not in third["metadata"]


def test_the_limit_is_ignored_when_any_version_will_do(cluster):
    several(cluster)

    body = listing(cluster, limit=2, resourceVersion=0).body

    assert len(body["items"]) == 5
    assert "continue" not in body["metadata"]


def test_items_of_a_list_have_no_kind(cluster):
    several(cluster, 1)

    body = listing(cluster).body

    assert (body["kind"], body["apiVersion"]) == ("DaemonSetList", "apps/v1")
    assert {"kind", "apiVersion"}.isdisjoint(body["items"][0])


def test_an_exact_version_is_the_list_as_it_was(cluster):
    several(cluster, 2)
    before = version(cluster)
    cluster.create(manifest("later"))

    answer = listing(cluster, resourceVersion=before, resourceVersionMatch="Exact")

    assert len(answer.body["items"]) == 2


def test_a_list_from_the_future_times_out(cluster):
    answer = listing(cluster, resourceVersion=10**9)

    assert (answer.status, answer.body["reason"]) == (504, "Timeout")
    assert answer.body["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"
    assert answer.body["details"]["retryAfterSeconds"] == 1


def test_metadata_alone_must_be_asked_for_in_the_right_form(cluster):
    several(cluster, 1)

    body = listing(cluster, accept=PARTIAL_LIST).body
    assert body["kind"] == "PartialObjectMetadataList"
    assert set(body["items"][0]) == {"kind", "apiVersion", "metadata"}
    assert body["items"][0]["metadata"]["managedFields"]
    assert listing(cluster, accept=PARTIAL).status == 406
    assert listing(cluster, accept=f"{PARTIAL},application/json").status == 406
    assert listing(cluster, accept=f"{PARTIAL_LIST},application/json").status == 200


def test_pods_are_found_by_labels_and_by_the_fields_that_are_served(cluster):
    cluster.create(manifest())
    assert cluster.settle(lambda: cluster.get()["status"].get("numberAvailable") == 12)
    pods = cluster.pods()
    node, hashed = (
        pods[0]["spec"]["nodeName"],
        pods[0]["metadata"]["labels"]["controller-revision-hash"],
    )

    assert len(cluster.list("pods", fieldSelector=f"spec.nodeName={node}")) == 1
    assert cluster.list("pods", fieldSelector="status.phase!=Running") == []
    selector = f"controller-revision-hash in ({hashed},other)"
    assert len(cluster.list("pods", labelSelector=selector)) == 12
    assert cluster.list("pods", labelSelector=f"controller-revision-hash notin ({hashed})") == []
    assert len(cluster.list("pods", labelSelector="app,!nothing,app==agent")) == 12


@pytest.mark.parametrize(
    ("resource", "field", "message"),
    [
        ("pods", "metadata.ownerReferences", "field label not supported: metadata.ownerReferences"),
        (
            "daemonsets",
            "spec.minReadySeconds",
            (
                '"spec.minReadySeconds" is not a known field selector: '
                'only "metadata.name", "metadata.namespace"'
            ),
        ),
    ],
)
def test_other_fields_cannot_be_selected_by(cluster, resource, field, message):
    answer = listing(cluster, resource, fieldSelector=f"{field}=x")

    assert (answer.status, answer.body["message"]) == (400, message)


def test_daemonsets_are_selected_by_name(cluster):
    several(cluster, 3)

    assert len(cluster.list("daemonsets", fieldSelector="metadata.name=agent-1")) == 1


def test_kubectl_s_table_has_its_usual_columns(cluster):
    cluster.create(manifest())
    assert cluster.settle(lambda: cluster.get()["status"].get("numberAvailable") == 12)

    body = listing(cluster, accept=TABLE).body

    columns = [each["name"] for each in body["columnDefinitions"] if each["priority"] == 0]
    assert columns == [
        "Name",
        "Desired",
        "Current",
        "Ready",
        "Up-to-date",
        "Available",
        "Node Selector",
        "Age",
    ]
    assert body["rows"][0]["cells"][:7] == ["agent", 12, 12, 12, 12, 12, "<none>"]
    pod = listing(cluster, "pods", accept=TABLE).body["rows"][0]
    assert pod["cells"][1:4] == ["2/2", "Running", "0"]
    assert pod["object"]["kind"] == "PartialObjectMetadata"


# ---------------------------------------------------------------------------- watches


def test_a_watch_tells_what_happens_after_its_version_in_order(cluster):
    start = version(cluster)
    stream = cluster.open(resourceVersion=start)
    live = cluster.create(manifest()).body
    cluster.patch({"metadata": {"labels": {"x": "y"}}})
    cluster.call("DELETE", cluster.path("agent"))

    events = cluster.events(stream, until=lambda told: "DELETED" in kinds(told))

    assert events[0]["type"] == "ADDED"
    assert events[0]["object"]["metadata"]["uid"] == live["metadata"]["uid"]
    assert (events[0]["object"]["kind"], events[0]["object"]["apiVersion"]) == (
        "DaemonSet",
        "apps/v1",
    )
    assert events[-1]["type"] == "DELETED"
    versions = [int(each["object"]["metadata"]["resourceVersion"]) for each in events]
    assert versions == sorted(versions)
    assert versions[-1] > versions[-2]


def test_a_watch_from_an_older_version_first_brings_what_was_missed(cluster):
    start = version(cluster)
    cluster.create(manifest())

    events = cluster.events(cluster.open(resourceVersion=start))

    assert kinds(events)[0] == "ADDED"


def test_a_watch_without_a_version_begins_with_what_is_there(cluster):
    several(cluster, 2)

    events = cluster.events(cluster.open(), until=lambda told: len(told) > 1)

    assert kinds(events) == ["ADDED", "ADDED"]


def test_a_no_op_write_is_not_told(cluster):
    cluster.create(manifest())
    cluster.rest()
    stream = cluster.open(resourceVersion=version(cluster))

    cluster.patch({"metadata": {"labels": {"team": "nodes"}}})
    cluster.patch({"metadata": {"labels": {"team": "other"}}})

    (only,) = cluster.events(stream)
    assert only["object"]["metadata"]["labels"] == {"team": "other"}


def test_the_initial_events_end_with_a_marked_bookmark(cluster):
    several(cluster, 2)
    query = {
        "sendInitialEvents": "true",
        "allowWatchBookmarks": "true",
        "resourceVersionMatch": "NotOlderThan",
    }

    events = cluster.events(cluster.open(**query), until=lambda told: len(told) > 2)

    assert kinds(events) == ["ADDED", "ADDED", "BOOKMARK"]
    mark = events[-1]["object"]
    assert mark["metadata"]["annotations"] == {
        "deprecated.daemonset.template.generation": "0",
        "k8s.io/initial-events-end": "true",
    }
    assert int(mark["metadata"]["resourceVersion"]) >= max(
        int(each["object"]["metadata"]["resourceVersion"]) for each in events[:2]
    )


def test_initial_events_without_a_match_are_refused(cluster):
    stream = cluster.open(sendInitialEvents="true", allowWatchBookmarks="true")

    assert stream.status == 422
    assert b"resourceVersionMatch" in cluster.lines(stream)[0]


def test_without_bookmarks_nothing_marks_the_end_of_the_initial_events(cluster):
    several(cluster, 1)
    stream = cluster.open(sendInitialEvents="true", resourceVersionMatch="NotOlderThan")
    cluster.create(manifest("later"))

    events = cluster.events(stream, until=lambda told: kinds(told).count("ADDED") > 1)

    assert "BOOKMARK" not in kinds(events)


def test_a_watch_ends_by_itself_after_its_seconds_and_a_bookmark_comes_before(cluster):
    start = version(cluster)
    seconds = 9  # etcd tells its progress every 5; where nothing happens there is no other bookmark
    stream = cluster.open(resourceVersion=start, allowWatchBookmarks="true", timeoutSeconds=seconds)

    events = cluster.events(stream, until=lambda _: stream.ended)

    assert set(kinds(events)) == {"BOOKMARK"}
    assert int(events[-1]["object"]["metadata"]["resourceVersion"]) >= int(start)


def test_a_watch_from_the_future_is_silent_until_its_end(cluster):
    stream = cluster.open(resourceVersion=10**9, allowWatchBookmarks="true", timeoutSeconds=4)
    cluster.create(manifest())

    assert stream.status == 200
    assert cluster.events(stream, until=lambda _: stream.ended) == []


@pytest.mark.timeout(200)
def test_a_calm_watch_has_a_bookmark_each_minute(calm):
    first = calm.first()

    # a minute, and what etcd needs to tell its progress; the reflector doubts after 68 s
    assert 50 <= first.after <= 68
    assert first.event["type"] == "BOOKMARK"
    assert first.event["object"]["kind"] == "DaemonSet"
    assert first.event["object"]["spec"]["template"]["spec"]["containers"] is None
    assert int(first.event["object"]["metadata"]["resourceVersion"]) >= int(calm.start)


def test_a_version_that_is_no_number_is_a_server_error(cluster):
    assert cluster.open(resourceVersion="abc").status == 500


def test_leaving_a_selection_is_a_delete_and_entering_it_an_add(cluster):
    cluster.create(manifest())
    cluster.rest()
    stream = cluster.open(resourceVersion=version(cluster), labelSelector="team=nodes")

    left = cluster.patch({"metadata": {"labels": {"team": "other"}}}).body
    cluster.patch({"metadata": {"labels": {"note": "unseen"}}})
    cluster.patch({"metadata": {"labels": {"team": "nodes"}}})

    first, second = cluster.events(stream, until=lambda told: len(told) > 1)
    assert (first["type"], second["type"]) == ("DELETED", "ADDED")
    assert first["object"]["metadata"]["labels"]["team"] == "nodes"
    assert first["object"]["metadata"]["resourceVersion"] == left["metadata"]["resourceVersion"]


def test_a_watch_of_metadata_alone(cluster):
    stream = cluster.open(resourceVersion=version(cluster), accept=f"{PARTIAL},application/json")
    cluster.create(manifest())

    event = cluster.events(stream)[0]

    assert event["object"]["kind"] == "PartialObjectMetadata"
    assert "spec" not in event["object"]


def test_a_closed_stream_brings_nothing_more(cluster):
    stream = cluster.open(resourceVersion=version(cluster))
    stream.close()
    stream.close()
    cluster.create(manifest())

    assert stream.lines() == []
    assert stream.ended


def test_the_replaced_pod_of_a_rollout_is_seen_terminating_and_gone(cluster):
    cluster.create(manifest())
    assert cluster.settle(lambda: cluster.get()["status"].get("numberAvailable") == 12)
    start = listing(cluster, "pods").body["metadata"]["resourceVersion"]
    stream = cluster.open("pods", resourceVersion=start, labelSelector="app=agent")
    body = manifest()
    container_of(body)["image"] = "registry.example/agent:2"
    cluster.apply(body)

    def rolled_out():
        status = cluster.get()["status"]
        return status["observedGeneration"] == 2 and status.get("updatedNumberScheduled") == 12

    assert cluster.settle(rolled_out)
    assert cluster.settle(lambda: len(cluster.pods()) == 12)
    events = cluster.events(stream, until=lambda told: kinds(told).count("DELETED") == 12)
    gone = [each["object"] for each in events if each["type"] == "DELETED"]

    assert len(gone) == 12
    assert all(pod["metadata"]["deletionTimestamp"] for pod in gone)
    assert kinds(events).count("ADDED") == 12
