"""Commits, people, nodes and deaths at random.

The safety properties hold at every step, and when
it is over the last good commit is everywhere.

A failure names its seed: `pytest tests/scenarios/test_monkey.py -k "[7]"`.
"""

from __future__ import annotations

import json
import random
from dataclasses import replace
from datetime import timedelta

import pytest
from scenarios.manifests import NAMESPACE
from scenarios.scene import POLICY, STAR, Scene

FOUND = (65, 280, 303, 423, 1065)
"""Seeds that once broke a property."""
SEEDS = (*range(1, 13), *FOUND)
ACTS = 14
NODES = 6
PATIENCE = 1500.0
PATIENT = replace(
    POLICY, pod_deadline=timedelta(seconds=70), progress_deadline=timedelta(seconds=90)
)
"""Longer than the 50 s for which a node that fell silent still counts as Ready."""
BAD = ({"image": "{n}-crash"}, {"image": "{n}", "path": "/never"}, {"image": "{n}-missing"})
GOOD = ({"image": "{n}"}, {"image": "{n}-slow-12s"}, {"image": "{n}", "minReadySeconds": "6"},
        {"image": "{n}", "label": "round={n}"})  # fmt: skip


class Monkey:
    """Does one thing after another to a scene."""

    def __init__(self, seed):
        self.dice = random.Random(f"monkey {seed}")
        self.scene = Scene(nodes=NODES, seed=seed, policy=PATIENT)
        self.number = 1
        self.dead = set()
        self.done = []

    def act(self):
        """Do something, and let some time go by."""
        acts = [self.push_good] * 3 + [self.push_bad] * 3 + [
            self.revert, self.kill_node, self.revive, self.restart, self.edit, self.label,
            self.delete_a_pod, self.suspend, self.resume, self.release, self.undo, self.add_node,
            self.silence, self.stop_api,
        ]  # fmt: skip
        act = self.dice.choice(acts)
        self.done.append(f"{self.scene.world.clock.monotonic():.0f}s {act.__name__}")
        act()
        self.scene.run(self.dice.choice([1, 3, 8, 15, 40]))

    def push_good(self):
        self._push(GOOD)

    def push_bad(self):
        self._push(BAD)

    def _push(self, contents):
        self.number += 1
        chosen = self.dice.choice(contents)
        self.scene.push(**{key: text.format(n=self.number) for key, text in chosen.items()})

    def revert(self):
        if len(self.scene.repository.commits) > 1:
            self.scene.revert()

    def kill_node(self):
        alive = sorted(set(self.scene.world.kubelets) - self.dead)
        if len(self.dead) < 2:
            node = self.dice.choice(alive)
            self.dead.add(node)
            self.scene.world.kill_node(node)

    def revive(self):
        for node in sorted(self.dead):
            self.scene.world.revive(node)
        self.dead.clear()

    def restart(self):
        self.scene.start_agent()

    def edit(self):
        self.scene.edit({"spec": {"minReadySeconds": self.dice.randint(1, 5)}})

    def label(self):
        self.scene.label(seen=str(self.number))

    def delete_a_pod(self):
        self.scene.auditor.people_delete = True
        pods = self.scene.pods()
        if pods:
            name = self.dice.choice(pods)["metadata"]["name"]
            self.scene.world.delete_pod(NAMESPACE, name)

    def suspend(self):
        self.scene.annotate(**{"dsgitops.io/suspend": json.dumps({"reason": "monkey"})})

    def resume(self):
        self.scene.annotate(**{"dsgitops.io/suspend": None})

    def release(self):
        self.scene.annotate(**{"dsgitops.io/retry-at": f"token-{len(self.done)}"})

    def undo(self):
        if len(self.scene.world.revisions(NAMESPACE, STAR)) > 1:
            self.scene.undo()

    def add_node(self):
        if len(self.scene.world.kubelets) < NODES + 2:
            self.scene.world.add_node()

    def silence(self):
        if not self.dead:
            self.scene.world.silence_all_kubelets(self.dice.choice([20.0, 70.0]))

    def stop_api(self):
        seconds = self.dice.choice([5.0, 20.0, 55.0, 70.0])
        self.scene.world.stop_api(seconds)
        self.scene.run(seconds)

    def make_peace(self):
        """Mend everything, and commit something that works."""
        self.revive()
        self.resume()
        self.scene.run(90)
        self.number += 1
        return self.scene.push(image=f"{self.number}-final")


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_is_done_it_is_safe_and_ends_well(seed):
    monkey = Monkey(seed)
    scene = monkey.scene
    scene.push(image="1")
    scene.run(40)
    try:
        for _ in range(ACTS):
            monkey.act()
        final = monkey.make_peace()
        ended = scene.run(PATIENCE, until=lambda: _is_at(scene, final))
    except AssertionError as violation:
        pytest.fail(f"seed {seed}: {violation}\n{monkey.done}")

    assert ended, f"seed {seed}: {monkey.done}\n{scene.said[-5:]}"
    images = {pod["spec"]["containers"][0]["image"] for pod in scene.pods()}
    assert images == {f"registry.sim/agent:{monkey.number}-final"}

    since = scene.world.clock.monotonic()
    scene.run(120)
    assert scene.writes(since + 30) == [], f"seed {seed}"


def _is_at(scene, commit):
    record = scene.record()
    good = record.last_good
    return record.phase == "Idle" and good is not None and (good.commit or "").endswith(commit)
