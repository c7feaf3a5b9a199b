"""One object in two sources (M72): what runs stays, and both sources are told."""

from __future__ import annotations

import pytest
from scenarios.manifests import NAMESPACE, text
from scenarios.repository import Repository, commit_name
from scenarios.scene import INTERVAL, STAR, Scene

from dsgitops import wiring

PATH = f"{STAR}.yaml"


@pytest.fixture
def two():
    """A scene whose agent follows a second source as well, which has another DaemonSet."""
    scene = Scene(nodes=3)
    scene.push(image="1")
    other = Repository(name="others")
    other.commit({"other.yaml": text("other", image="1")})
    scene.drive = wiring.simulated(
        scene.world,
        {each.name: each for each in (scene.repository, other)},
        namespaces=(NAMESPACE,),
        policy=scene.policy,
        voice=scene,
        interval=INTERVAL,
    )
    for number in range(1, 4):
        scene.options["other", commit_name(number)] = {"image": "1"}  # all of it is good
    scene.run(40)
    scene.said.clear()
    return scene, other


def told(scene, reason):
    return [(each.name, each.text) for each in scene.said if each.reason == reason]


def test_an_object_in_two_sources_is_left_as_it_is_and_both_are_told_once(two):
    scene, other = two
    other.commit({PATH: text(image="9")})
    scene.run(20)
    before = scene.world.clock.monotonic()
    scene.push(image="2")
    scene.run(60)

    assert scene.writes(before) == []
    assert told(scene, "Problem") == [
        ("node-agents", f"{PATH}:1: logging/agent is in source others too"),
        ("others", f"{PATH}:1: logging/agent is in source node-agents too"),
    ]
    assert told(scene, "ManifestInvalid") == [
        (
            STAR,
            "logging/agent is in the sources node-agents and others; what runs is left as it is.",
        )
    ]


def test_once_one_of_them_lets_go_the_other_goes_on(two):
    scene, other = two
    other.commit({PATH: text(image="9")})
    scene.push(image="2")
    scene.run(30)
    other.commit({PATH: None})
    scene.run(60)

    images = {each["spec"]["containers"][0]["image"] for each in scene.pods()}
    assert images == {"registry.sim/agent:2"}


def test_the_other_objects_of_both_sources_go_on(two):
    scene, other = two
    other.commit({PATH: text(image="9"), "other.yaml": text("other", image="2")})
    scene.run(60)

    images = {each["spec"]["containers"][0]["image"] for each in scene.pods("other")}
    assert images == {"registry.sim/agent:2"}


def test_a_new_object_that_two_sources_have_is_made_by_neither(two):
    scene, other = two
    other.commit({"new.yaml": text("new", image="1")})
    scene.commit({"new": {"image": "2"}})
    scene.run(30)

    assert scene.world.store.get("daemonsets", NAMESPACE, "new") is None
    assert told(scene, "ManifestInvalid")
