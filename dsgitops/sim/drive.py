"""An agent and a simulated world, moved together: the next instant at which either has to act.

The agent is the one that runs on a real cluster; only its hands work inline, its polls happen at
virtual times, and waiting is free.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from dsgitops.errors import DsgitopsError
from dsgitops.ports import Done, Polled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from dsgitops.agent import Agent
    from dsgitops.core.model import Ref
    from dsgitops.ports import Clock, Source
    from dsgitops.sim.world import World


_LEAST = timedelta(microseconds=1)
"""Time always moves: an event's instant is rounded to microseconds, and may lie just ahead."""


BREATH = timedelta(milliseconds=50)
"""Between two turns that watches asked for: what comes in a burst is looked at once, as the loop on
a real cluster does (`runtime.BREATH_SECONDS`)."""


class Chat(Protocol):
    """Something that writes to the cluster at times of its own."""

    def pump(self, now: datetime) -> None:
        """Write what is due."""
        ...

    def next_timer(self, now: datetime) -> datetime | None:
        """Return when something will be."""
        ...


class InlineHands:
    """`ports.Hands` that carry out at once, in the agent's own turn."""

    def __init__(self) -> None:
        self._done: list[Done] = []

    def submit(self, ref: Ref, work: Callable[[], None]) -> None:
        """See `ports.Hands`."""
        try:
            work()
        except Exception as error:  # noqa: BLE001 - handed to the agent, which tells kinds apart
            self._done.append(Done(ref=ref, error=error))
        else:
            self._done.append(Done(ref=ref))

    def finished(self) -> list[Done]:
        """See `ports.Hands`."""
        done, self._done = self._done, []
        return done


class VirtualPolls:
    """`ports.Polls` at virtual times: every source at its interval, the first at once."""

    def __init__(self, sources: Iterable[Source], interval: timedelta, clock: Clock) -> None:
        self._interval = interval
        self._clock = clock
        self._due = {source.name: (source, clock.now()) for source in sources}

    def poll_now(self) -> None:
        """Poll every source at the next turn, as a webhook would."""
        now = self._clock.now()
        self._due = {name: (source, now) for name, (source, _) in self._due.items()}

    def next_due(self) -> datetime | None:
        """Return when the next poll is."""
        return min((at for _, at in self._due.values()), default=None)

    def take(self) -> tuple[Polled, ...]:
        """See `ports.Polls`."""
        now = self._clock.now()
        late = [source for source, at in self._due.values() if at <= now]
        for source in late:
            self._due[source.name] = (source, now + self._interval)
        return tuple(_poll(source, now) for source in late)


@dataclass(slots=True)
class Drive:
    """Moves a world and an agent to the same instants."""

    world: World
    agent: Agent
    polls: VirtualPolls
    pace: Callable[[datetime], None] = field(default=lambda _at: None)
    """Called before time moves to an instant: a demo sleeps here, a test does not."""
    chats: tuple[Chat, ...] = ()
    """What else the agent says to the cluster: Events, its Lease."""
    awake: bool = True
    _look: datetime | None = None
    _turned: datetime | None = None

    def wake(self) -> None:
        """Let the agent have a turn at this instant (`ports.Wake`)."""
        self.awake = True

    def step(self, until: datetime) -> None:
        """Give the agent its turn if it has reason to, then move to the next instant."""
        now = self.world.clock.now()
        due = [self._look, self.polls.next_due()]
        rested = self._turned is None or now >= self._turned + BREATH
        if (self.awake and rested) or any(at is not None and at <= now for at in due):
            self.awake = False
            self._turned = now
            self._look = self.agent.turn()
        for chat in self.chats:
            chat.pump(now)
        instants = [until, self._look, self.polls.next_due(), self.world.next_event()]
        instants += [chat.next_timer(now) for chat in self.chats]
        if self.awake and self._turned is not None:
            instants.append(self._turned + BREATH)
        at = min(each for each in instants if each is not None)
        at = max(at, now + _LEAST)
        self.pace(at)
        self.world.step_to(at)

    def run(self, length: timedelta, *, until: Callable[[], bool] | None = None) -> bool:
        """Run for `length` of virtual time, or until `until` holds.

        Returns:
            Whether `until` held (True where none was given).
        """
        end = self.world.clock.now() + length
        while self.world.clock.now() < end:
            if until is not None and until():
                return True
            self.step(end)
        return until is None or until()


def _poll(source: Source, now: datetime) -> Polled:
    try:
        return Polled(source=source.name, tree=source.fetch(), at=now)
    except DsgitopsError as error:
        return Polled(source=source.name, error=error, at=now)
