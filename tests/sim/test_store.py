"""The simulated cluster's store: versions, history and sharing."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from dsgitops.sim.store import FIRST_VERSION, AlreadyExists, Gone, Store

NOW = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)


@pytest.fixture
def store():
    return Store(lambda: NOW, seed=7)


def pod(name="a", **fields):
    return {"metadata": {"namespace": "ns", "name": name}, **fields}


def test_a_new_object_gets_a_uid_a_version_and_a_time(store):
    made = store.create("pods", pod())

    assert made["metadata"]["resourceVersion"] == str(FIRST_VERSION + 1)
    assert made["metadata"]["creationTimestamp"] == "2026-01-05T09:00:00Z"
    assert len(made["metadata"]["uid"]) == 36
    assert store.get("pods", "ns", "a") is made


def test_equal_seeds_give_equal_uids_and_generated_names():
    def world():
        store = Store(lambda: NOW, seed=3)
        body = {"metadata": {"namespace": "ns", "generateName": "agent-"}}
        return [store.create("pods", body)["metadata"] for _ in range(3)]

    assert world() == world()
    assert all(len(each["name"]) == len("agent-") + 5 for each in world())


def test_a_taken_name_already_exists(store):
    store.create("pods", pod())

    with pytest.raises(AlreadyExists):
        store.create("pods", pod())


def test_an_update_gets_the_next_version_and_shares_what_stays(store):
    spec = {"nodeName": "n"}
    made = store.create("pods", pod(spec=spec))

    after = store.update("pods", {**made, "status": {"phase": "Running"}})

    assert int(after["metadata"]["resourceVersion"]) == store.version == FIRST_VERSION + 2
    assert after["spec"] is spec
    assert "status" not in made


def test_an_equal_update_keeps_the_version_and_tells_nobody(store):
    made = store.create("pods", pod())
    told = []
    store.subscribe(lambda kind, *_: told.append(kind))

    metadata = {**made["metadata"], "resourceVersion": "5"}
    assert store.update("pods", {**made, "metadata": metadata}) is made
    assert told == []


def test_a_removal_is_told_with_a_version_of_its_own(store):
    store.create("pods", pod())
    told = []
    store.subscribe(lambda kind, _, obj: told.append((kind, obj["metadata"]["resourceVersion"])))

    gone = store.remove("pods", "ns", "a")

    assert told == [("DELETED", str(FIRST_VERSION + 2))]
    assert gone["metadata"]["resourceVersion"] == str(FIRST_VERSION + 2)
    assert store.get("pods", "ns", "a") is None
    assert store.remove("pods", "ns", "a") is None


def test_listeners_hear_changes_in_order_although_a_subscriber_writes_in_between(store):
    heard = []

    def react(kind, _, obj):
        if kind == "ADDED" and obj["metadata"]["name"] == "a":
            store.create("pods", pod("b"))

    store.subscribe(react)
    store.listen(lambda change: heard.append(change.version))
    store.create("pods", pod())

    assert heard == [FIRST_VERSION + 1, FIRST_VERSION + 2]


def test_an_older_version_can_be_seen_again(store):
    made = store.create("pods", pod())
    version = store.version
    store.create("pods", pod("b"))
    store.update("pods", {**made, "status": {}})
    store.remove("pods", "ns", "a")

    assert store.at(version, "pods").list() == [made]
    assert [each["metadata"]["name"] for each in store.list("pods")] == ["b"]


def test_what_was_compacted_is_gone(store):
    store.create("pods", pod())
    old = store.version
    store.create("pods", pod("b"))
    store.compact(store.version)

    with pytest.raises(Gone, match=rf"too old resource version: {old} \({store.version}\)"):
        store.at(old, "pods")
    with pytest.raises(Gone):
        store.since(old)
    assert list(store.since(store.version)) == []
