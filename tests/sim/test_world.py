"""A world moves only when it is moved, and shows the same to every client."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from simulated import NAME, NAMESPACE, condition, daemonset, events, is_finished, settle, staying

from dsgitops.ports import Request
from dsgitops.sim.clock import START, VirtualClock
from dsgitops.sim.world import World


def get(world, path):
    answer = world.transport().send(Request(method="GET", path=path))
    return json.loads(answer.body)


# ---------------------------------------------------------------------------- time


def test_equal_instants_run_in_the_order_they_were_asked_for():
    clock, ran = VirtualClock(), []
    clock.after(2, lambda: ran.append("later"))
    clock.after(1, lambda: ran.append("first"))
    clock.after(1, lambda: ran.append("second"))
    clock.run_until(3)

    assert ran == ["first", "second", "later"]
    assert clock.now() == START + timedelta(seconds=3)
    assert clock.monotonic() == 3


def test_nothing_is_late_although_the_world_is_moved_in_big_steps():
    clock, seen = VirtualClock(), []
    clock.after(1.5, lambda: seen.append(clock.seconds))
    clock.run_until(10)

    assert seen == [1.5]


def test_a_driver_can_go_from_event_to_event_and_sees_what_a_big_step_sees():
    def walked():
        world = World(nodes=3)
        world.apply(daemonset())
        end = world.now + timedelta(seconds=60)
        while (at := world.next_event()) is not None and at <= end:
            world.step_to(at)
        world.step_to(end)
        return world

    def leapt():
        world = World(nodes=3)
        world.apply(daemonset())
        world.advance(60)
        return world

    assert walked().store.list("pods") == leapt().store.list("pods")


def test_time_passes_up_to_an_instant():
    world = World(nodes=1)
    at = world.now + timedelta(minutes=5)
    world.advance(until=at)

    assert world.now == at


# ---------------------------------------------------------------------------- clients


def test_what_controllers_do_is_seen_over_the_api():
    world = World(nodes=3)
    world.apply(daemonset())
    settle(world)
    path = f"/apis/apps/v1/namespaces/{NAMESPACE}/daemonsets/{NAME}"
    pods = get(world, f"/api/v1/namespaces/{NAMESPACE}/pods")["items"]

    assert get(world, path)["status"]["numberAvailable"] == 3
    assert len(pods) == 3
    assert len(get(world, "/api/v1/nodes")["items"]) == 3


def test_nodes_are_dealt_to_zones_in_turn():
    world = World(nodes=7, zones=("a", "b", "c"))
    zones = [
        it["metadata"]["labels"]["topology.kubernetes.io/zone"]
        for it in get(world, "/api/v1/nodes")["items"]
    ]

    assert sorted(zones) == ["a", "a", "a", "b", "b", "c", "c"]


def test_a_manifest_that_the_api_refuses_is_an_error():
    world = World(nodes=1)
    with pytest.raises(ValueError, match="422"):
        world.apply(daemonset(spec={"selector": {"matchLabels": {"app": "other"}}}))


def test_a_pod_deleted_over_the_api_is_replaced():
    world = World(nodes=1)
    world.apply(daemonset())
    settle(world)
    (pod,) = staying(world)
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/{pod['metadata']['name']}"
    preconditions = {"uid": pod["metadata"]["uid"]}
    body = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": preconditions}
    answer = world.transport().send(
        Request(method="DELETE", path=path, body=json.dumps(body).encode())
    )
    world.advance(10)

    assert answer.status == 200
    assert [it["metadata"]["uid"] for it in staying(world)] != [pod["metadata"]["uid"]]
    assert is_finished(world)


def test_an_unbound_pod_deleted_over_the_api_is_gone_at_once():
    world = World(nodes=1)
    world.apply(daemonset(resources={"requests": {"cpu": "64"}}))
    world.advance(5)
    (pod,) = staying(world)
    world.delete_pod(NAMESPACE, pod["metadata"]["name"])

    assert world.store.get("pods", NAMESPACE, pod["metadata"]["name"]) is None


def test_an_evicted_pod_has_the_condition_before_the_deletion():
    world = World(nodes=1)
    world.apply(daemonset())
    settle(world)
    told = []
    world.store.subscribe(
        lambda _, resource, item: (
            told.append(
                ("deletionTimestamp" in item["metadata"], condition(item, "DisruptionTarget"))
            )
            if resource == "pods"
            else None
        )
    )
    world.evict_pod(NAMESPACE, staying(world)[0]["metadata"]["name"])
    world.advance(10)

    assert told[:2] == [(False, "True"), (True, "True")]
    assert is_finished(world)


def test_a_watch_sees_a_rollout_as_it_happens():
    world = World(nodes=2)
    watch = world.transport().open(
        Request(
            method="GET",
            path=f"/apis/apps/v1/namespaces/{NAMESPACE}/daemonsets",
            query={"watch": "1", "allowWatchBookmarks": "true"},
        ),
        lambda: None,
    )
    world.apply(daemonset())
    settle(world)
    lines = [json.loads(line) for line in watch.lines()]

    assert lines[0]["type"] == "ADDED"
    assert lines[-1]["object"]["status"]["numberAvailable"] == 2

    world.advance(70)

    assert "BOOKMARK" in {json.loads(line)["type"] for line in watch.lines()}


# ---------------------------------------------------------------------------- companions


COMPANIONS = {
    "serviceAccountName": "agent",
    "volumes": [
        {"name": "conf", "configMap": {"name": "settings"}},
        {"name": "cert", "secret": {"secretName": "tls"}},
        {"name": "both", "projected": {"sources": [{"secret": {"name": "token"}}]}},
    ],
}
FROM_KEY = [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "login", "key": "password"}}}]


def test_a_world_that_provides_makes_what_a_manifest_names():
    world = World(nodes=2, provides=True)
    world.apply(daemonset(pod=COMPANIONS, env=FROM_KEY))

    settle(world, within=10)


def test_a_world_that_does_not_provide_refuses_or_waits_as_a_real_one():
    world = World(nodes=2)
    world.apply(daemonset(pod=COMPANIONS, env=FROM_KEY))
    world.advance(30)

    assert events(world, "FailedCreate")
    assert not is_finished(world)


def test_what_has_missing_in_its_name_is_not_provided():
    world = World(nodes=1, provides=True)
    world.apply(daemonset(envFrom=[{"configMapRef": {"name": "missing-settings"}}]))
    world.advance(30)

    assert not is_finished(world)


CORPUS = Path(__file__).parents[3] / "shared" / "corpus"


@pytest.mark.skipif(not CORPUS.is_dir(), reason="../shared/corpus is not there")
def test_the_daemonsets_of_real_projects_become_available():
    world = World(nodes=3, provides=True)
    applied = []
    for number, path in enumerate(sorted(CORPUS.glob("*.yaml"))):
        namespace = f"corpus-{number}"
        world.make_namespace(namespace)
        for manifest in yaml.safe_load_all(path.read_text()):
            if (manifest or {}).get("kind") != "DaemonSet" or "selector" not in manifest["spec"]:
                continue
            if manifest["apiVersion"] != "apps/v1":
                continue
            manifest["metadata"]["namespace"] = namespace
            applied.append((path.name, world.apply(manifest)))
    world.advance(60)

    stuck = []
    for name, it in applied:
        live = world.daemonset(it["metadata"]["namespace"], it["metadata"]["name"])
        counts = live["status"]
        if counts["desiredNumberScheduled"] != counts.get("numberAvailable", 0):
            stuck.append(name)
    assert len(applied) == 23
    assert stuck == []


def test_events_are_kept_for_an_hour():
    world = World(nodes=1)
    world.apply(daemonset())
    settle(world)
    world.advance(1800)
    before = len(world.store.list("events"))
    world.advance(2400)

    assert before > 0
    assert world.store.list("events") == []
