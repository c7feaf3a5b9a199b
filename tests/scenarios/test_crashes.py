"""The agent killed at every write, and everything on its way to the API server going wrong.

After each of them the next agent, which remembers nothing, looks and goes on: the end is that of
an undisturbed run, with as many changes of the template and as many deleted pods.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial

import pytest
from scenarios.manifests import NAMESPACE
from scenarios.scene import POLICY, STAR, Scene
from scenarios.wire import Killed

from dsgitops.sim.clock import START
from dsgitops.sim.faults import Fault, Faults, Kind

PATIENCE = 900.0
AWAY = 3.0
"""Seconds until the next agent runs."""
STEPS = (
    ({"image": "1"}, "Idle"),
    ({"image": "2"}, "Idle"),
    ({"image": "3", "path": "/never"}, "Held"),
)
"""Created, rolled out, failed and rolled back: every phase that there is."""
FIX = ({"image": "4"}, "Idle")
SEEDS = range(1, 13)


@dataclass(frozen=True)
class End:
    """What is left of a story: what must not depend on what went wrong on the way."""

    template: dict
    record: object
    touched: frozenset[str]
    """Nodes whose pod was replaced in the last step."""
    template_changes: int
    deleted: int
    """Pods that the agent deleted."""


def play(scene, steps=STEPS):
    """Play a story to its end, with a new agent whenever one dies; return how it ended."""
    before = {}
    for options, phase in steps:
        before = pods_by_node(scene)
        commit = scene.push(**options)
        arrived = until(scene, commit, phase)
        assert arrived, f"{options} never came to {phase}: {scene.said[-3:]}"
    run(scene, 30)
    return end_of(scene, before)


def until(scene, commit, phase):
    def arrived():
        record = scene.record()
        if record is None or str(record.phase) != phase:
            return False
        of = record.quarantine[-1].commit if phase == "Held" else record.commit
        return of.endswith(commit)

    return run(scene, PATIENCE, arrived)


def run(scene, seconds, holds=None):
    """As `Scene.run`, but whoever dies has a successor."""
    try:
        return scene.run(seconds, until=holds)
    except Killed:
        scene.stay(AWAY)
        scene.start_agent()
        return scene.run(seconds, until=holds)


def kill(_scene):
    """End the agent's process."""
    raise Killed


def take_the_api(scene):
    """Take the API server from everybody, for longer than nodes may be silent."""
    scene.world.stop_api(60)


def struck(writes, befalls, *, landed):
    """Play the story once for each of its writes, struck at it; yield which, and how it ended."""
    for number in range(writes):
        which = f"{befalls.__name__} at write {number}, landed {landed}"
        scene = Scene()
        scene.log.struck_at, scene.log.landed = number, landed
        scene.log.befalls = partial(befalls, scene)
        try:
            found = play(scene)
        except AssertionError as problem:
            pytest.fail(f"{which}: {problem}")
        yield which, found


def end_of(scene, before):
    writes = scene.writes()
    changes = [each for each in writes if each.kind in ("apply", "restore")]
    after = pods_by_node(scene)
    return End(
        template=scene.live()["spec"]["template"],
        record=timeless(scene.record()),
        touched=frozenset(node for node in after if after[node] != before.get(node)),
        template_changes=len({(each.kind, _digest(each)) for each in changes}),
        deleted=sum(each.kind == "delete" for each in writes),
    )


def _digest(write):
    return write.body["metadata"]["annotations"]["kubernetes.io/change-cause"]


def pods_by_node(scene):
    return {
        pod["spec"]["nodeName"]: pod["metadata"]["uid"]
        for pod in scene.world.pods(NAMESPACE, STAR)
        if scene.world.store.get("daemonsets", NAMESPACE, STAR)
    }


def timeless(record):
    """Return a record without what differs between two runs of the same story."""
    good = replace(record.last_good, at=START)
    held = tuple(replace(entry, at=START) for entry in record.quarantine)
    return replace(
        record, n=0, uid="", started=None, progressed=None, last_good=good, quarantine=held
    )


@pytest.fixture(scope="module")
def undisturbed():
    """How the story ends when nothing goes wrong, and how many writes it takes."""
    scene = Scene()
    return play(scene), len(scene.log.writes)


def test_undisturbed_each_content_is_written_once_and_one_pod_is_broken(undisturbed):
    end, writes = undisturbed

    assert end.template_changes == 4  # three commits and one rollback
    assert end.deleted == 5  # four for the good commit, one for the bad one
    assert len(end.touched) == 1
    assert writes < 20


@pytest.mark.parametrize("landed", [False, True], ids=["before", "after"])
def test_killed_at_any_write_the_next_agent_comes_to_the_same_end(undisturbed, landed):
    end, writes = undisturbed

    for which, found in struck(writes, kill, landed=landed):
        assert found == end, which


@pytest.mark.parametrize("landed", [False, True], ids=["before", "after"])
def test_everybody_without_the_api_server_at_any_write_comes_to_the_same_end(undisturbed, landed):
    end, writes = undisturbed

    for which, found in struck(writes, take_the_api, landed=landed):
        assert found.template == end.template, which
        assert found.template_changes == end.template_changes, which
        assert (found.deleted, len(found.touched)) == (end.deleted, len(end.touched)), which


def test_a_write_never_lacks_the_record(undisturbed):
    scene = Scene()
    play(scene)

    for each in scene.log.writes:
        if each.kind != "delete":
            assert "dsgitops.io/record" in each.body["metadata"]["annotations"], each


# ---------------------------------------------------------------------------- the way to the server


def random_faults(seed):
    """Return faults over the first minutes, different for each seed."""
    dice = random.Random(f"story {seed}")
    kinds = [
        Kind.LOST_BEFORE, Kind.LOST_AFTER, Kind.CONFLICT, Kind.THROTTLED, Kind.ERROR,
        Kind.UNAVAILABLE, Kind.TIMEOUT, Kind.STALE, Kind.DROPPED, Kind.DUPLICATED, Kind.SILENT,
    ]  # fmt: skip
    faults = Faults(seed)
    for _ in range(8):
        kind = dice.choice(kinds)
        since = START + timedelta(seconds=dice.uniform(0, 200))
        lasts = timedelta(seconds=dice.uniform(1, 20))
        writes = kind in (Kind.CONFLICT, Kind.LOST_AFTER, Kind.TIMEOUT)
        faults.add(
            Fault(
                kind=kind,
                methods=("PATCH", "DELETE", "POST") if writes else (),
                probability=dice.uniform(0.3, 1.0),
                since=since,
                until=since + lasts,
                times=dice.choice([1, 3, None]),
            )
        )
    down = START + timedelta(seconds=dice.uniform(5, 150))
    faults.add(Fault(kind=Kind.DOWN, since=down, until=down + timedelta(seconds=30)))
    return faults


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_happens_on_the_way_it_ends_as_if_nothing_had(seed):
    """Stale reads, lost answers, 409, 429, 5xx, ended and silent watches, 30 s without a server."""
    calm = play(Scene(), (*STEPS, FIX))
    scene = Scene(faults=random_faults(seed))
    found = play(scene, (*STEPS, FIX))

    assert scene.world.faults.struck, f"seed {seed}: nothing went wrong"
    assert found.template == calm.template, f"seed {seed}"
    assert found.record == calm.record, f"seed {seed}"
    assert found.template_changes == calm.template_changes, f"seed {seed}"


def test_30_s_without_a_server_fail_no_good_rollout():
    policy = replace(POLICY, progress_deadline=timedelta(seconds=20))
    faults = Faults(1)
    scene = Scene(policy=policy, faults=faults)
    scene.push(image="1")
    scene.run(40)
    scene.push(image="2")
    scene.run(5)
    since = scene.world.now
    faults.add(Fault(kind=Kind.DOWN, since=since, until=since + timedelta(seconds=30)))
    scene.run(200, until=lambda: scene.phase() == "Idle" and not faults.faults[0].active(since))
    scene.run(200)

    reasons = {each.reason for each in scene.said}
    assert "RollingBack" not in reasons
    assert scene.record().last_good.commit.endswith("c2".ljust(40, "0"))
