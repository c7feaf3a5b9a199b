"""A running agent: turns, and all that goes on between them, until it is stopped."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from datetime import datetime, timedelta

    from dsgitops.adapters.forge import Statuses
    from dsgitops.adapters.hands import Pool
    from dsgitops.adapters.kubernetes.cluster import KubernetesCluster
    from dsgitops.adapters.kubernetes.events import Events
    from dsgitops.adapters.kubernetes.lease import Lease
    from dsgitops.adapters.metrics import Metrics
    from dsgitops.adapters.outbox import Outbox
    from dsgitops.adapters.schedule import Polls
    from dsgitops.adapters.sentry.channel import CheckIns
    from dsgitops.adapters.source_watch import SourceWatch
    from dsgitops.agent import Agent
    from dsgitops.errors import DsgitopsError
    from dsgitops.ports import Polled

BREATH_SECONDS = 0.02
"""From one turn to the next: what comes in a burst (the pods of a fleet) is looked at once.  After
a longer rest a turn comes at once."""
UNSEEN_SECONDS_MAX = 10.0
"""`--once` gives up on a cluster that it cannot list by then."""
LAST_WORDS_SECONDS = 2.0
"""For Events that are not written yet when the agent ends."""
SWITCH_SECONDS = 0.001
"""For how long a turn may compute while a write has its answer to read.  Python's own 5 ms pass
several times in each write, and a write takes 3."""
IDLE_SECONDS_MAX = 1.0
"""A turn comes at least so often: clocks that jump, and watches that fell silent, are noticed."""


@dataclass(slots=True)
class Alerting:
    """What tells people, beside the log and the cluster."""

    outbox: Outbox
    watch: SourceWatch
    check_ins: tuple[CheckIns, ...] = ()

    def polled(self, polled: Polled) -> None:
        """Take in one poll."""
        self.watch.polled(polled)
        for each in self.check_ins:
            each.polled(polled)

    def pump(self, lease: Lease) -> None:
        """Go on with what the Lease keeps, and send what is due; never blocks."""
        if lease.leading and lease.kept_alerts is not None:
            self.watch.restore(lease.kept_alerts)
        self.watch.pump()


@dataclass(slots=True)
class Runtime:
    """An agent on a cluster, with everything that must be stopped again."""

    agent: Agent
    cluster: KubernetesCluster
    polls: Polls
    lease: Lease
    events: Events
    woken: threading.Event
    stopping: threading.Event
    close: Callable[[], None]
    hands: Pool
    metrics: Metrics
    dry_run: bool = False
    alerting: Alerting | None = None
    statuses: Statuses | None = None
    turned: float = 0.0
    """Monotonic time at which the last turn was completed, or the agent was built."""
    leads_since: float | None = None
    """Monotonic time since when we lead; None: we do not."""
    faults: dict[str, str] = field(default_factory=dict[str, str])
    """What was told of the watches and the Lease last."""

    def run(self) -> None:
        """Turn until `stopping` is set; then finish what is in flight."""
        sys.setswitchinterval(SWITCH_SECONDS)
        self.polls.start()
        while not self.stopping.is_set():
            self.woken.clear()
            now = self.agent.clock.now()
            self._chat(now)
            self._tell_faults()
            look = self.agent.turn() if self._decides() else self._stand_by(now)
            self._complete()
            if self.woken.wait(self._pause(look)):
                self.stopping.wait(self._breath())
        self._stop()

    def _decides(self) -> bool:
        """Whether we lead and have asked Git since: who led before may know a newer commit.

        Without that we would go back to ours.  A poll that failed is an answer as well.
        """
        if not self.lease.leading:
            self.leads_since = None
            return False
        if self.lease.term_left == inf:  # nobody is elected
            return True
        told = self.polls.told_as_of()
        if self.leads_since is None:
            self.leads_since = self.agent.clock.monotonic()
            for name in told:
                self.polls.poll_now(name)
        return all(at >= self.leads_since for at in told.values())

    def settle(self, patience: timedelta) -> bool:
        """Turn until every source was read and nothing is left to do at this moment.

        Returns:
            Whether it came to that within `patience`.
        """
        self.polls.start()
        clock = self.agent.clock
        begun = clock.monotonic()
        end = begun + patience.total_seconds()
        while clock.monotonic() < end and not self.stopping.is_set():
            self.woken.clear()
            self.agent.turn()
            self._chat(clock.now())
            self._tell_faults()
            if self._quiet():
                self._stop()
                return True
            if not self.cluster.synced and clock.monotonic() > begun + UNSEEN_SECONDS_MAX:
                break
            self.woken.wait(0.2)
        self._stop()
        return False

    def _complete(self) -> None:
        """Let others see that a turn was completed."""
        self.turned = self.agent.clock.monotonic()
        self.metrics.turned(self.agent.decisions.keys(), leading=self.lease.leading)

    def _say_the_last(self) -> None:
        """Write the Events that were told and not written yet; bounded."""
        clock = self.agent.clock
        end = clock.monotonic() + LAST_WORDS_SECONDS
        while self._speaking() and clock.monotonic() < end:
            self.woken.clear()
            self.events.pump(clock.now())
            self.woken.wait(0.05)

    def _speaking(self) -> bool:
        alerts = self.alerting is not None and self.alerting.outbox.busy
        statuses = self.statuses is not None and self.statuses.busy
        return self.events.pending or alerts or statuses

    def _stand_by(self, now: datetime) -> datetime | None:
        """Another agent leads: keep the view warm, and decide nothing."""
        self.agent.look(now)
        return self.cluster.next_timer()

    def _quiet(self) -> bool:
        polled = self.agent.intake.complete
        idle = not (self.agent.again or self.agent.busy)
        waits = any(each.aside for each in self.agent.decisions.values())
        if self.dry_run:
            return polled and self.cluster.synced and not self.agent.again
        return polled and idle and not waits and self.cluster.synced

    def _tell_faults(self) -> None:
        """Tell what stands in the way of the watches and the Lease, once: rights above all."""
        found = {what: error.what for what, error in self.cluster.faults().items()}
        if self.lease.fault is not None:
            found["lease"] = self.lease.fault.what
        if self.alerting is not None:
            faults = self.alerting.outbox.faults().items()
            found |= {f"alerts by {name}": _with_remedy(error) for name, error in faults}
        if self.statuses is not None:
            faults = self.statuses.faults().items()
            found |= {f"commit status of {name}": _with_remedy(error) for name, error in faults}
        for what, said in found.items():
            if self.faults.get(what) != said:
                self.agent.voice.problem("cluster", f"{what}: {said}")
        self.faults = found

    def _chat(self, now: datetime) -> None:
        if self.dry_run:
            return
        self.events.pump(now)
        self.lease.pump(now)
        if self.alerting is not None:
            self.alerting.pump(self.lease)

    def _pause(self, look: datetime | None) -> float:
        """Return for how long to wait, in seconds, if nothing wakes us."""
        now = self.agent.clock.now()
        renewal = None if self.dry_run else self.lease.next_timer(now)
        seconds = [(at - now).total_seconds() for at in (look, renewal) if at is not None]
        return max(0.0, min([IDLE_SECONDS_MAX, *seconds]))

    def _breath(self) -> float:
        """Return for how long to wait yet, in seconds, when woken now."""
        return max(0.0, self.turned + BREATH_SECONDS - self.agent.clock.monotonic())

    def _stop(self) -> None:
        self.polls.stop(timeout=2.0)
        self._say_the_last()
        self.close()
        if not self.dry_run:
            self.lease.release(self.agent.clock.now())


def _with_remedy(error: DsgitopsError) -> str:
    return f"{error.what}; {error.remedy}" if error.remedy else error.what
