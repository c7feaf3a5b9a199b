"""Alerts on their way: from the records to every channel, and confirmations back.

Each channel has a queue and a daemon thread of its own: nothing in a turn waits for it, and one
that hangs for ever holds up neither the others nor the process's end.  Nothing is kept here that
the records do not have: what a restart forgets, it finds there again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

from dsgitops.core import alerts
from dsgitops.core.raising import ripe
from dsgitops.errors import DsgitopsError, Undelivered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime
    from random import Random

    from dsgitops.core.alerts import Alert
    from dsgitops.core.model import Decision, Ref, Revision
    from dsgitops.core.record import Pending, Record
    from dsgitops.ports import Channel, Wake

    Result = Literal["sent", "failed", "dropped"]

QUEUE_MAX = 256
"""Alerts that wait for one channel; more stay in their records until there is room."""
KNOWN_MAX = 16
"""Alerts of one DaemonSet of which more is known than its record says."""
PAUSE_FIRST = 2.0
"""Seconds after the first failure of a channel; doubled by each that follows."""
PAUSE_MAX = 300.0
REVISIONS_WITHIN = timedelta(seconds=30)
"""So long an alert of an earlier agent waits for the list of ControllerRevisions, which comes with
that of the DaemonSets; then it is told without what differs."""
ASKED_MAX = 3600.0
"""Seconds; a channel that asks for more is tried again all the same."""

log = logging.getLogger("dsgitops.alerts")


class Line:
    """The queue and the thread of one channel.

    Args:
        channel: Where the alerts go.
        confirmed: Called on the line's thread when one was delivered.
        rng: Jitter, so that agents do not come back in step.
        counted: Told `sent`, `failed` or `dropped` of each attempt.
    """

    def __init__(
        self,
        channel: Channel,
        confirmed: Callable[[Alert, Channel], None],
        rng: Random,
        counted: Callable[[Result], None],
    ) -> None:
        self.channel = channel
        self.fault: DsgitopsError | None = None
        """What the last attempt met."""
        self._confirmed = confirmed
        self._rng = rng
        self._counted = counted
        self._changed = threading.Condition()
        self._queue: OrderedDict[str, Alert] = OrderedDict()
        self._sending = ""
        self._not_before = 0.0
        self._failures = 0
        self._thread: threading.Thread | None = None

    def put(self, alert: Alert) -> bool:
        """Queue an alert, or renew what is said of one that waits; never blocks.

        Returns:
            Whether there was room.
        """
        with self._changed:
            if alert.id == self._sending:
                return True
            if alert.id not in self._queue and len(self._queue) >= QUEUE_MAX:
                return False
            self._queue[alert.id] = alert
            self._start()
            self._changed.notify()
            return True

    @property
    def waiting(self) -> int:
        """How many alerts are not delivered yet."""
        with self._changed:
            return len(self._queue) + bool(self._sending)

    def _start(self) -> None:
        if self._thread is None:
            name = f"alerts-{self.channel.name}"
            self._thread = threading.Thread(target=self._work, name=name, daemon=True)
            self._thread.start()

    def _work(self) -> None:
        while True:
            alert = self._next()
            try:
                self.channel.deliver(alert)
            except Undelivered as error:
                self._failed(alert, error)
            except Exception as error:  # noqa: BLE001 - a defect of a channel must not end its thread
                log.debug("channel %s: %s", self.channel.name, type(error).__name__)
                self._failed(alert, Undelivered(f"unexpected {type(error).__name__}"))
            else:
                self._delivered(alert)

    def _next(self) -> Alert:
        with self._changed:
            while True:
                pause = self._not_before - time.monotonic()
                if self._queue and pause <= 0:
                    self._sending, alert = self._queue.popitem(last=False)
                    return alert
                self._changed.wait(pause if self._queue else None)

    def _delivered(self, alert: Alert) -> None:
        with self._changed:
            self._sending, self._failures, self.fault = "", 0, None
        self._counted("sent")
        self._confirmed(alert, self.channel)

    def _failed(self, alert: Alert, error: Undelivered) -> None:
        """Come back later with all of them, or give this one up."""
        self._counted("dropped" if error.refused else "failed")
        with self._changed:
            self._sending, self.fault = "", error
            if not error.refused:
                self._queue.setdefault(alert.id, alert)
                self._not_before = time.monotonic() + self._pause(error.retry_after)
                self._failures += 1
        if error.refused:
            self._confirmed(alert, self.channel)  # or it would be sent for ever

    def _pause(self, asked: float) -> float:
        pause = min(PAUSE_FIRST * 2.0 ** min(self._failures, 16), PAUSE_MAX)
        return max(pause * self._rng.uniform(0.5, 1.0), min(asked, ASKED_MAX))


@dataclass(slots=True)
class _Drawer:
    """What is known of the alerts of one DaemonSet."""

    landed: frozenset[str] = frozenset()
    """Ids that its record had when it was last handed in."""
    known: OrderedDict[str, alerts.Seen] = field(default_factory=OrderedDict[str, "alerts.Seen"])
    offered: dict[str, tuple[Pending, alerts.Seen]] = field(
        default_factory=dict[str, "tuple[Pending, alerts.Seen]"]
    )
    """What the queues have already."""
    waits_since: datetime | None = None
    """When an alert was met that an earlier agent raised, before the revisions were read."""


class Outbox:
    """`ports.Desk` over channels; also a `ports.Voice`, which hears what records do not keep.

    Args:
        channels: At least one.
        wake: Called when an alert was confirmed.
        rng: Jitter.
        counted: Told the result of each attempt: `sent`, `failed`, `dropped`.
    """

    def __init__(
        self,
        channels: Iterable[Channel],
        *,
        wake: Wake,
        rng: Random,
        counted: Callable[[Result], None] = lambda _result: None,
    ) -> None:
        self.lines = tuple(Line(each, self._confirm, rng, counted) for each in channels)
        self._wake = wake
        self._lock = threading.Lock()
        self._confirmed: dict[str, set[str]] = {}
        """Names of the channels that confirmed each alert."""
        self._arrived: set[Ref] = set()
        self._drawers: dict[Ref, _Drawer] = {}

    # -- ports.Desk

    def hand(
        self, ref: Ref, record: Record | None, now: datetime, revisions: tuple[Revision, ...]
    ) -> frozenset[str]:
        """See `ports.Desk`."""
        if record is None or not (record.alerts or ref in self._drawers):
            return frozenset()
        self._tidy(ref, record)
        for each in ripe(record, now):
            if self._is_known(ref, each, record, now, revisions):
                self._offer(ref, each, record)
        return frozenset(each.id for each in record.alerts if self.is_delivered(each.id))

    def arrived(self) -> frozenset[Ref]:
        """See `ports.Desk`."""
        if not self._arrived:
            return frozenset()
        with self._lock:
            arrived, self._arrived = frozenset(self._arrived), set()
        return arrived

    # -- alerts of no DaemonSet

    def send(self, alert: Alert) -> bool:
        """Queue an alert for every channel that has not confirmed it.

        Returns:
            Whether there was room in all.
        """
        with self._lock:
            has = self._confirmed.get(alert.id, set())
            lacking = [line for line in self.lines if line.channel.name not in has]
        had_room = [line.put(alert) for line in lacking]  # each is asked, whatever the others say
        return all(had_room)

    def is_delivered(self, alert: str) -> bool:
        """Whether every channel has confirmed the alert of this id."""
        with self._lock:
            return len(self._confirmed.get(alert, ())) == len(self.lines)

    def forget(self, ids: Iterable[str]) -> None:
        """Forget that these were confirmed: nobody will ask again."""
        with self._lock:
            for each in ids:
                self._confirmed.pop(each, None)

    @property
    def busy(self) -> bool:
        """Whether something is on its way on a channel that nothing stands in the way of."""
        return any(line.waiting and line.fault is None for line in self.lines)

    def faults(self) -> Mapping[str, DsgitopsError]:
        """Return what stands in the way of each channel, by its name."""
        return {line.channel.name: line.fault for line in self.lines if line.fault is not None}

    # -- ports.Voice

    def tell(self, ref: Ref, decision: Decision, now: datetime, *, news: bool) -> None:  # noqa: ARG002
        """Keep what only this process sees of an alert; see `ports.Voice`."""
        if decision.record is None or not decision.record.alerts:
            return
        known = self._drawers.setdefault(ref, _Drawer()).known
        for each in decision.record.alerts:
            known[each.id] = alerts.seen(decision, each, known.get(each.id, alerts.NOTHING_SEEN))
        while len(known) > KNOWN_MAX:
            known.popitem(last=False)

    def problem(self, source: str, what: str, *, remedy: str = "") -> None:
        """Nothing: problems of sources have a watch of their own (`adapters/sources.py`)."""

    def fault(self, ref: Ref, error: Exception) -> None:
        """Nothing: it is tried again."""

    def read(self, source: str, commit: str, now: datetime, *, partial: bool) -> None:
        """Nothing."""

    # -- inside

    def _is_known(
        self,
        ref: Ref,
        pending: Pending,
        record: Record,
        now: datetime,
        revisions: tuple[Revision, ...],
    ) -> bool:
        """Whether all that can be known of an alert is; after a restart revisions come late."""
        drawer = self._drawers.setdefault(ref, _Drawer())
        known = drawer.known.get(pending.id, alerts.NOTHING_SEEN)
        if known.failed is not None or pending.recovers:
            return True
        drawer.waits_since = drawer.waits_since or now
        if not revisions:
            return now >= drawer.waits_since + REVISIONS_WITHIN
        found = alerts.found_again(pending, record, revisions)
        drawer.known[pending.id] = replace(known, failed=found)
        return True

    def _offer(self, ref: Ref, pending: Pending, record: Record) -> None:
        drawer = self._drawers.setdefault(ref, _Drawer())
        known = drawer.known.get(pending.id, alerts.NOTHING_SEEN)
        before = drawer.offered.get(pending.id)
        if before is not None and before[0] == pending and before[1] is known:
            return
        if self.send(alerts.alert_of(ref, pending, record, known)):
            drawer.offered[pending.id] = pending, known

    def _tidy(self, ref: Ref, record: Record) -> None:
        """Forget alerts that were in the record and are no more."""
        drawer = self._drawers.setdefault(ref, _Drawer())
        landed = frozenset(each.id for each in record.alerts)
        gone = drawer.landed - landed
        drawer.landed = landed
        for each in gone:
            drawer.known.pop(each, None)
            drawer.offered.pop(each, None)
        self.forget(gone)
        if not (landed or drawer.known):
            del self._drawers[ref]

    def _confirm(self, alert: Alert, channel: Channel) -> None:
        with self._lock:
            self._confirmed.setdefault(alert.id, set()).add(channel.name)
            if alert.ref is not None:
                self._arrived.add(alert.ref)
        self._wake()
