"""A health wait never blocks anything: what comes meanwhile is written when its poll sees it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from scenarios.scene import INTERVAL, POLICY, Scene

LONG = replace(POLICY, pod_deadline=timedelta(minutes=20), progress_deadline=timedelta(minutes=30))
AT_ONCE = 1.0
"""Virtual seconds from the poll that sees a commit to its write."""


def scene_with_a_rollout_that_hangs():
    """A bad rollout of `agent`, whose deadline is far away, beside `other`."""
    scene = Scene(policy=LONG)
    scene.commit({"agent": {"image": "1"}, "other": {"image": "1"}})
    scene.run(40)
    scene.commit({"agent": {"image": "2", "path": "/never"}})
    scene.run(60)
    assert scene.phase() == "Canary"
    return scene


def written_within(scene, name, since):
    """Return how long after the next poll a DaemonSet's content was written."""
    poll = scene.drive.polls.next_due()
    scene.run(INTERVAL.total_seconds() + 5)
    writes = [
        each
        for each in scene.writes(since)
        if each.kind in ("apply", "restore") and each.path.endswith(f"/{name}")
    ]
    assert writes, f"{name} was not written"
    return writes[0].at - scene.world.clock.seconds_of(poll)


def test_a_revert_of_the_rollout_that_is_waited_for_is_written_at_once():
    scene = scene_with_a_rollout_that_hangs()
    since = scene.world.clock.monotonic()
    scene.revert()

    assert 0 <= written_within(scene, "agent", since) < AT_ONCE
    scene.run(20)
    assert scene.phase() == "Idle"


def test_a_fix_of_the_rollout_that_is_waited_for_is_written_at_once():
    scene = scene_with_a_rollout_that_hangs()
    since = scene.world.clock.monotonic()
    scene.commit({"agent": {"image": "3"}})

    assert 0 <= written_within(scene, "agent", since) < AT_ONCE


def test_a_commit_of_another_daemonset_is_written_at_once():
    scene = scene_with_a_rollout_that_hangs()
    since = scene.world.clock.monotonic()
    scene.commit({"other": {"image": "2"}})

    assert 0 <= written_within(scene, "other", since) < AT_ONCE
    assert scene.run(120, until=lambda: scene.phase("other") == "Idle")
    assert scene.phase() == "Canary", "the other one is still waited for"


def test_a_new_daemonset_is_created_at_once():
    scene = scene_with_a_rollout_that_hangs()
    since = scene.world.clock.monotonic()
    scene.commit({"third": {"image": "1"}})

    assert 0 <= written_within(scene, "third", since) < AT_ONCE
