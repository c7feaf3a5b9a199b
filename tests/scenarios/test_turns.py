"""A turn is short, however much there is to do: the Lease and the news are not kept waiting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from scenarios.scene import Scene

from dsgitops.agent import TURN_SECONDS

if TYPE_CHECKING:
    from dsgitops.ports import Clock

NAMES = [f"agent-{number}" for number in range(8)]
SECONDS_EACH = TURN_SECONDS * 0.4
"""What a decision takes: the third is the last of a turn."""


@dataclass
class SlowClock:
    """The world's clock, and what decisions took of a processor beside it."""

    clock: Clock
    spent: float = 0.0

    def now(self):
        return self.clock.now()

    def monotonic(self):
        return self.clock.monotonic() + self.spent


@pytest.fixture
def scene():
    """Eight DaemonSets at rest, and a commit that changes each."""
    made = Scene(nodes=3)
    made.commit({name: {"image": "1"} for name in NAMES})
    made.run(40)
    made.commit({name: {"image": "2"} for name in NAMES})
    return made


def starve(agent):
    """Let each decision take long; return the names in the order in which they were tended."""
    clock, decide, tended = SlowClock(agent.clock), agent.decide, []

    def slowly(desired, observed, record, now):
        clock.spent += SECONDS_EACH
        tended.append(desired.ref.name)
        return decide(desired, observed, record, now)

    agent.clock, agent.decide = clock, slowly
    return tended


def test_a_turn_that_takes_long_gives_way_and_the_next_goes_on_at_once(scene):
    agent = scene.drive.agent
    scene.drive.polls.poll_now()
    tended = starve(agent)

    assert agent.turn() == agent.clock.now()
    assert tended == NAMES[:3]


def test_who_was_left_is_the_first_of_the_next_turn(scene):
    agent = scene.drive.agent
    scene.drive.polls.poll_now()
    tended = starve(agent)
    for _ in range(3):
        agent.turn()

    assert tended[:8] == NAMES


def test_all_of_it_is_rolled_out_in_the_end(scene):
    starve(scene.drive.agent)

    def is_done(name):
        images = {each["spec"]["containers"][0]["image"] for each in scene.pods(name)}
        return scene.phase(name) == "Idle" and images == {"registry.sim/agent:2"}

    assert scene.run(300, until=lambda: all(is_done(name) for name in NAMES))
