"""What commands read and write, over the simulation."""

from __future__ import annotations

import pytest

from dsgitops.adapters.kubernetes.client import Client
from dsgitops.core import bodies
from dsgitops.core.actions import Remember
from dsgitops.core.model import Ref
from dsgitops.core.record import Record
from dsgitops.errors import ActionRefused, Stale
from dsgitops.sim.world import World

REF = Ref("logging", "agent")


def manifest(name="agent", namespace="logging"):
    labels = {"app": name}
    containers = [{"name": "agent", "image": "quay.io/acme/agent:v1"}]
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": containers}},
        },
    }


@pytest.fixture
def world():
    world = World(nodes=3, seed=2)
    world.make_namespace("logging")
    world.apply(manifest())
    world.apply(manifest("second"))
    world.apply(manifest("third", "default"))
    world.advance(20)
    return world


@pytest.fixture
def client(world):
    return Client(world.transport(), lambda: world.now)


def test_daemonsets_are_read_by_name_namespace_and_label(client):
    assert client.daemonset(REF).ref == REF
    assert client.daemonset(Ref("logging", "none")) is None
    assert [each.ref.name for each in client.daemonsets()] == ["third", "agent", "second"]
    assert len(client.daemonsets("logging")) == 2
    assert [each.ref.name for each in client.daemonsets("logging", "app=second")] == ["second"]


def test_what_belongs_to_a_daemonset_is_read(client, world):
    live = client.daemonset(REF)

    assert [each.template for each in client.revisions(live)] == [live.template]
    assert {pod.node for pod in client.pods(live)} == {"node-1", "node-2", "node-3"}
    assert {pod.owner for pod in client.pods(live)} == {live.uid}
    assert {event.reason for event in client.events(live)} == {"SuccessfulCreate"}
    assert [node.name for node in client.nodes()] == ["node-1", "node-2", "node-3"]


def test_the_lease_is_read_or_absent(client, world):
    assert client.lease("default") is None
    world.store.create(
        "leases", {"metadata": {"name": "dsgitops", "namespace": "default"}, "spec": {}}
    )
    assert client.lease("default")["metadata"]["name"] == "dsgitops"


def test_annotations_are_set_and_removed_as_dsgitops_cli(client):
    live = client.annotate(client.daemonset(REF), {"dsgitops.io/suspend": "{}"})
    assert live.annotations["dsgitops.io/suspend"] == "{}"
    assert "dsgitops-cli" in {entry["manager"] for entry in live.managed_fields}
    generation = live.generation

    live = client.annotate(live, {"dsgitops.io/suspend": None})
    assert "dsgitops.io/suspend" not in live.annotations
    assert live.generation == generation


def test_an_object_that_changed_since_is_not_annotated(client):
    live = client.daemonset(REF)
    client.annotate(live, {"a": "1"})

    with pytest.raises(Stale):
        client.annotate(live, {"a": "2"})
    assert client.daemonset(REF).annotations["a"] == "1"


def test_a_record_is_written_as_the_agent_would(client):
    live = client.daemonset(REF)
    action = Remember(ref=REF, body=bodies.remember(live, Record(source="s")))

    assert "dsgitops.io/record" in client.write(action, dry_run=True).annotations
    assert "dsgitops.io/record" not in client.daemonset(REF).annotations
    assert "dsgitops.io/record" in client.write(action).annotations


def test_a_missing_right_names_verb_and_resource(client, world):
    world.api.account.rules = []

    with pytest.raises(
        ActionRefused, match=r"no right to list daemonsets\.apps in namespace logging"
    ):
        client.daemonsets("logging")
