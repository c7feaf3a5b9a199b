"""Virtual time: a clock that moves only when told to, and what is due when."""

from __future__ import annotations

import heapq
from datetime import UTC, datetime, timedelta
from itertools import count
from math import ceil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

START = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
"""A Monday morning: worlds that do not care about the date all begin here."""


class VirtualClock:
    """Time of a simulated world, and its agenda: a heap of (seconds, sequence, callback).

    Equal instants run in the order they were asked for, so a run depends on nothing but its seed.
    Implements `ports.Clock`.

    Args:
        start: The instant at `monotonic()` 0; aware.
    """

    def __init__(self, start: datetime = START) -> None:
        self.start = start
        self.seconds = 0.0
        """Since `start`; what the simulation itself computes with."""
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._sequence = count()
        self._stamped = (-1, "")

    def now(self) -> datetime:
        """Return the virtual time, in UTC."""
        return self.start + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        """Return virtual seconds since the start."""
        return self.seconds

    def stamp(self) -> str:
        """Return now as API objects have it: whole seconds, `2026-01-05T09:00:00Z`."""
        whole = int(self.seconds)
        if self._stamped[0] != whole:
            self._stamped = (whole, self.stamp_at(whole))
        return self._stamped[1]

    def stamp_at(self, seconds: float) -> str:
        """Return the API's time stamp of an instant, given in seconds since the start."""
        at = self.start + timedelta(seconds=int(seconds))
        return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def micro_stamp(self) -> str:
        """Return now with six decimals, as `eventTime` wants it."""
        return self.now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def seconds_of(self, at: datetime) -> float:
        """Return an instant as seconds since the start."""
        return (at - self.start).total_seconds()

    def after(self, delay: float, callback: Callable[[], None]) -> None:
        """Have `callback` run in `delay` seconds; a negative delay is now.

        Instants are whole microseconds, so that each can be told as a `datetime`, and met again.
        """
        at = ceil((self.seconds + max(0.0, delay)) * 1e6 - 1e-3) / 1e6
        heapq.heappush(self._agenda, (at, next(self._sequence), callback))

    def next_at(self) -> float | None:
        """Return when the next callback is due, in seconds since the start; None: nothing is."""
        return self._agenda[0][0] if self._agenda else None

    def run_next(self) -> None:
        """Move to the next callback and run it.

        Raises:
            IndexError: Nothing is due.
        """
        at, _, callback = heapq.heappop(self._agenda)
        self.seconds = max(self.seconds, at)
        callback()

    def run_until(self, seconds: float) -> int:
        """Run everything due until then, in order, and stand there.

        Returns:
            How many callbacks ran.
        """
        ran = 0
        while self._agenda and self._agenda[0][0] <= seconds:
            self.run_next()
            ran += 1
        self.seconds = max(self.seconds, seconds)
        return ran
