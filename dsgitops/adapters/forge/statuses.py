"""Statuses on their way: each repository has a thread; a turn never waits for a forge."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from dsgitops.adapters.attempt import in_time
from dsgitops.adapters.forge import dialects, http
from dsgitops.adapters.forge.board import COMMITS_MAX, Board
from dsgitops.errors import Undelivered

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from random import Random

    from dsgitops.adapters.forge.board import Status
    from dsgitops.adapters.forge.dialects import Repository
    from dsgitops.agent import Decide
    from dsgitops.core.model import Decision, Desired, Live, Observed, Unreadable
    from dsgitops.core.record import Record
    from dsgitops.errors import DsgitopsError
    from dsgitops.ports import Polled

ATTEMPT_SECONDS = 20.0
"""For all of one request."""
PAUSE_FIRST = 2.0
"""Seconds after the first failure; doubled by each that follows."""
PAUSE_MAX = 300.0
ASKED_MAX = 3600.0
"""Seconds; a forge that asks for more is tried again all the same."""
TRIES_MAX = 100
"""Of one status, some 8 hours: a commit that is gone from the forge is not tried for ever."""

log = logging.getLogger("dsgitops.status")


class Courier:
    """The queue and the thread of one repository: of each commit the newest status.

    Args:
        repository: Where they go.
        cluster: Its name in the settings.
        rng: Jitter.
    """

    def __init__(self, repository: Repository, *, cluster: str, rng: Random) -> None:
        self.repository = repository
        self.fault: DsgitopsError | None = None
        """What the last attempt met."""
        self._cluster = cluster
        self._rng = rng
        self._changed = threading.Condition()
        self._queue: OrderedDict[str, Status] = OrderedDict()
        self._sent: OrderedDict[str, tuple[str, str]] = OrderedDict()
        """The key of what was sent last, or is being sent, by commit."""
        self._tries: dict[str, int] = {}
        self._sending = False
        self._not_before = 0.0
        self._failures = 0
        self._thread: threading.Thread | None = None

    def put(self, status: Status) -> None:
        """Queue a status unless it is what was told last; never blocks."""
        with self._changed:
            if self._sent.get(status.sha) == status.key:
                self._queue.pop(status.sha, None)
                return
            known = self._queue.get(status.sha)
            if known is not None and known.key == status.key:
                return
            self._queue[status.sha] = status
            self._tries.pop(status.sha, None)
            while len(self._queue) > COMMITS_MAX:
                self._queue.popitem(last=False)
            self._start()
            self._changed.notify()

    @property
    def waiting(self) -> int:
        """How many statuses are not delivered yet."""
        with self._changed:
            return len(self._queue) + self._sending

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="commit-status", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        while True:
            self._carry(*self._next())

    def _carry(self, status: Status, before: tuple[str, str] | None) -> None:
        try:
            token = http.read_token(self.repository.token_file)
            made = dialects.post(self.repository, status, cluster=self._cluster, token=token)
            with in_time(ATTEMPT_SECONDS):
                http.send(made, self.repository.ca_file)
        except Undelivered as error:
            self._failed(status, before, error)
        except Exception as error:  # noqa: BLE001 - the thread must not end; no text: secrets
            log.debug("commit status: %s", type(error).__name__)
            self._failed(status, before, Undelivered(f"unexpected {type(error).__name__}"))
        else:
            self._delivered(status)

    def _next(self) -> tuple[Status, tuple[str, str] | None]:
        """Return what is due, and what was told of that commit before."""
        with self._changed:
            while True:
                pause = self._not_before - time.monotonic()
                if self._queue and pause <= 0:
                    sha, status = self._queue.popitem(last=False)
                    before = self._sent.get(sha)
                    self._sent[sha], self._sending = status.key, True
                    self._sent.move_to_end(sha)
                    while len(self._sent) > 2 * COMMITS_MAX:
                        self._sent.popitem(last=False)
                    return status, before
                self._changed.wait(pause if self._queue else None)

    def _delivered(self, status: Status) -> None:
        with self._changed:
            self._sending, self._failures, self.fault = False, 0, None
            self._tries.pop(status.sha, None)

    def _failed(self, status: Status, before: tuple[str, str] | None, error: Undelivered) -> None:
        """Come back later, others first; or give this one up."""
        with self._changed:
            self._sending, self.fault = False, error
            tries = self._tries[status.sha] = self._tries.get(status.sha, 0) + 1
            if error.refused or tries >= TRIES_MAX:
                self._tries.pop(status.sha)
                return  # it stands as told: what is refused is not sent again
            self._queue.setdefault(status.sha, status)
            self._not_before = time.monotonic() + self._pause(error.retry_after)
            self._failures += 1
            if before is None:
                self._sent.pop(status.sha, None)
            else:
                self._sent[status.sha] = before

    def _pause(self, asked: float) -> float:
        pause = min(PAUSE_FIRST * 2.0 ** min(self._failures, 16), PAUSE_MAX)
        return max(pause * self._rng.uniform(0.5, 1.0), min(asked, ASKED_MAX))


class Statuses:
    """Hears every decision, and has each commit's status told where its source says.

    Sources of one repository share what is said there: a commit has one status a cluster.

    Args:
        repositories: By source; sources without one are left out.
        cluster: Its name in the settings.
        rng: Jitter.
    """

    def __init__(
        self, repositories: Mapping[str, Repository], *, cluster: str, rng: Random
    ) -> None:
        self._places = {source: _place(each) for source, each in repositories.items()}
        self._boards = {place: Board() for place in self._places.values()}
        self._couriers = {
            _place(each): Courier(each, cluster=cluster, rng=rng) for each in repositories.values()
        }
        self._tips: dict[str, tuple[str, bool]] = {}
        """Of each source the newest commit, and whether it came while we ran."""

    def polled(self, polled: Polled) -> None:
        """Take in one poll; never blocks."""
        if polled.tree is None or polled.source not in self._places:
            return
        before = self._tips.get(polled.source)
        if before is None or before[0] != polled.tree.display:
            self._tips[polled.source] = polled.tree.display, before is not None

    def hearing(self, decide: Decide) -> Decide:
        """Return `decide`, heard."""

        def heard(
            given: Desired | Unreadable | None,
            observed: Observed,
            record: Record | None,
            now: datetime,
        ) -> Decision:
            decision = decide(given, observed, record, now)
            try:
                self._note(given, observed.live, decision, now)
            except Exception as error:  # noqa: BLE001 - no rollback may hang on what is said of it
                log.debug("commit status: %s", type(error).__name__)
            return decision

        return heard

    @property
    def busy(self) -> bool:
        """Whether something is on its way that nothing stands in the way of."""
        return any(each.waiting and each.fault is None for each in self._couriers.values())

    def faults(self) -> Mapping[str, DsgitopsError]:
        """Return what stands in the way, by source."""
        found = ((source, self._couriers[place]) for source, place in self._places.items())
        return {source: each.fault for source, each in found if each.fault is not None}

    def _note(
        self,
        given: Desired | Unreadable | None,
        live: Live | None,
        decision: Decision,
        now: datetime,
    ) -> None:
        ours = given or decision.record  # what Git no longer has, its record names
        place = self._places.get(ours.source) if ours is not None else None
        named = given or live
        if place is None or ours is None or named is None:
            return
        tip, arrived = self._tips.get(ours.source, ("", False))
        board = self._boards[place]
        for status in board.note(named.ref, given, decision, now, tip=tip if arrived else ""):
            self._couriers[place].put(status)


def _place(repository: Repository) -> tuple[str, str]:
    return repository.api, repository.name
