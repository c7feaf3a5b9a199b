"""The control plane is upgraded, and writes the same templates in other bytes (1.33 to 1.34).

Kubernetes makes a revision for it and restarts no pod (`docs/simulator.md`); no more do we.
"""

from __future__ import annotations

import pytest
from scenarios.scene import Scene


@pytest.fixture
def scene():
    """A fleet whose good commit was written by the older control plane."""
    scene = Scene()
    scene.world.controller.history.null_times = True
    scene.push(image="1")
    assert scene.run(300, until=lambda: scene.phase() == "Idle")
    return scene


def upgrade(scene):
    """The first sync of the newer controller makes the revision anew."""
    scene.world.controller.history.null_times = False
    scene.label(seen="newer")
    scene.run(30)


def is_good(scene, commit):
    return scene.phase() == "Idle" and scene.record().last_good.commit.endswith(commit)


def uids(scene):
    return {pod["spec"]["nodeName"]: pod["metadata"]["uid"] for pod in scene.pods()}


def test_at_rest_nothing_restarts_and_nothing_is_said(scene):
    before, told = uids(scene), len(scene.said)

    upgrade(scene)
    scene.run(300)

    assert len(scene.world.revisions("logging", "agent")) == 2
    assert uids(scene) == before
    assert scene.phase() == "Idle"
    assert scene.said[told:] == []


def test_the_next_commit_goes_out_as_ever(scene):
    upgrade(scene)

    commit = scene.push(image="2")

    assert scene.run(300, until=lambda: is_good(scene, commit))
    assert {pod["spec"]["containers"][0]["image"][-1] for pod in scene.pods()} == {"2"}
    assert scene.auditor.violations == []


def test_in_mid_rollout_it_goes_on(scene):
    scene.world.controller.history.null_times = True
    commit = scene.push(image="2")
    assert scene.run(300, until=lambda: scene.phase() == "Rolling")

    upgrade(scene)

    assert scene.run(300, until=lambda: is_good(scene, commit))
    assert "RolloutSuperseded" not in {each.reason for each in scene.said}
    assert scene.auditor.violations == []


def test_a_bad_commit_right_after_it_is_rolled_back_though_the_old_bytes_are_no_more(scene, caplog):
    upgrade(scene)
    scene.log.auditors.remove(scene.auditor)  # nobody can write the old bytes: S3 cannot hold

    scene.push(image="3", path="/never")
    assert scene.run(300, until=lambda: scene.phase() == "Held")
    scene.run(300)

    assert {pod["spec"]["containers"][0]["image"][-1] for pod in scene.pods()} == {"1"}
    assert scene.live()["status"]["numberAvailable"] == len(scene.pods()) == 4
    assert "not exact" in caplog.text
