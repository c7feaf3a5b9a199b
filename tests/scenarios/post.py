"""Alerts in virtual time: the agent's own outbox, over a line that delivers at once or is down."""

from __future__ import annotations

from random import Random

from dsgitops.adapters.outbox import Outbox


class Inline:
    """A line without a thread: what is put is delivered at once, or when it is up again."""

    fault = None

    def __init__(self, post):
        self.channel = self
        self.name = "post"
        self.post = post
        self.waiting = {}

    def put(self, alert):
        self.waiting[alert.id] = alert
        if not self.post.down:
            self.flush()
        return True

    def flush(self):
        for alert in self.waiting.values():
            self.post.came(alert)
        self.waiting = {}


class Post:
    """What people were told over the life of a scene; survives the agents.

    Args:
        clock: The world's.
    """

    def __init__(self, clock):
        self.clock = clock
        self.down = False
        self.told = []
        """(virtual time, alert), each attempt."""
        self.outbox = None

    def open(self):
        """Return the desk of a new agent; the one before is dead."""
        self.outbox = Outbox([], wake=lambda: None, rng=Random(1))
        self.outbox.lines = (Inline(self),)
        return self.outbox

    def came(self, alert):
        self.told.append((self.clock.monotonic(), alert))
        self.outbox._confirm(alert, self.outbox.lines[0])

    def up(self):
        self.down = False
        if self.outbox is not None:
            self.outbox.lines[0].flush()

    def alerts(self):
        """Return each alert once, as it was told first."""
        return list({alert.id: alert for _, alert in reversed(self.told)}.values())[::-1]
