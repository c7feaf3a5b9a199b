"""Git was polled and its files cannot be read: the disk of the mirror fails between the two."""

from __future__ import annotations

from scenarios.scene import Scene


def problems(scene):
    return [said.text for said in scene.said if "damaged" in said.text]


def test_a_mirror_that_fails_in_mid_rollout_is_told_once_and_delays_no_rollback():
    scene = Scene()
    scene.push(image="1")
    scene.run(60)
    scene.push(image="2-crash")
    assert scene.run(60, until=lambda: scene.phase() == "Canary")
    scene.repository.damaged = True
    scene.push(image="3")
    scene.run(90)

    assert scene.phase() == "Held"
    assert len(problems(scene)) == 1
    scene.repository.damaged = False
    scene.run(90)
    assert scene.phase() == "Idle"
    assert scene.record().commit.endswith("c3".ljust(40, "0"))


def test_an_agent_that_starts_on_a_damaged_mirror_with_git_away_waits_and_touches_nothing():
    scene = Scene()
    scene.push(image="1")
    scene.run(60)
    scene.repository.damaged = scene.repository.down = True
    before = len(scene.log.writes)
    scene.start_agent()
    scene.run(60)

    assert len(problems(scene)) == 1
    assert len(scene.log.writes) == before
    scene.repository.damaged = scene.repository.down = False
    scene.push(image="2")
    scene.run(90)
    assert scene.record().commit.endswith("c2".ljust(40, "0"))
