"""Look, decide, act: one turn after another, with no opinion of its own.

Single-threaded by design: watches and polls are taken in, each DaemonSet that changed (or whose
`look_again` came) gets one `decide`, and its actions go to the hands.  A fault of one DaemonSet
never stops another; nothing here waits for the network.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from dsgitops.core import record as records
from dsgitops.core.actions import Recall
from dsgitops.core.decide import decide
from dsgitops.core.model import Phase
from dsgitops.core.news import follows, is_news
from dsgitops.errors import ActionRefused, ClusterUnreachable, Stale

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from dsgitops.core.actions import Action
    from dsgitops.core.model import Decision, Desired, Observed, Ref, Revision, Unreadable
    from dsgitops.core.record import Record
    from dsgitops.intake import Intake
    from dsgitops.ports import Clock, Cluster, Desk, Done, Hands, Polls, Voice

    Decide = Callable[[Desired | Unreadable | None, Observed, Record | None, datetime], Decision]

ROUNDS_MAX = 20
"""Rounds in one turn: a step on the way (a takeover) is followed by the next at once."""
TURN_SECONDS = 1.0
"""After which a turn gives way to the Lease and to what was heard meanwhile: a thousand new
DaemonSets take seconds of a processor, and a pod may get a tenth of one."""
_RETRY_FIRST = timedelta(seconds=1)
_RETRY_MOST = timedelta(minutes=5)
_LOOK_AT_LEAST = timedelta(minutes=10)
"""A DaemonSet of which nothing is heard is looked at once in a while: no request is made."""


class NoDesk:
    """`ports.Desk` where no channel is configured."""

    def hand(
        self, ref: Ref, record: Record | None, now: datetime, revisions: tuple[Revision, ...]
    ) -> None:
        """Nobody is told."""

    def arrived(self) -> frozenset[Ref]:
        """Nothing ever does."""
        return frozenset()


@dataclass(slots=True)
class Agent:
    """One agent over its ports."""

    intake: Intake
    polls: Polls
    cluster: Cluster
    hands: Hands
    voice: Voice
    clock: Clock
    desk: Desk = field(default_factory=NoDesk)
    decide: Decide = decide
    """The rules; a wrapper that times them."""
    decisions: dict[Ref, Decision] = field(default_factory=dict)
    """The last decision of each DaemonSet; its actions are with the hands."""
    remembered: dict[Ref, Record] = field(default_factory=dict)
    """Records as last seen: of objects that were deleted, or whose annotation was."""
    due: dict[Ref, datetime] = field(default_factory=dict)
    busy: set[Ref] = field(default_factory=set)
    """DaemonSets whose actions are being carried out."""
    again: set[Ref] = field(default_factory=set)
    late: list[Ref] = field(default_factory=list)
    """DaemonSets that the last turn had no time for: the first of the next."""
    faults: dict[Ref, int] = field(default_factory=dict)
    """Faults in a row."""
    told: dict[Ref, Decision] = field(default_factory=dict)
    rolling: set[Ref] = field(default_factory=set)
    """DaemonSets that count for `maxConcurrentRollouts`."""
    waiting: set[Ref] = field(default_factory=set)
    """DaemonSets that wait for something, maybe for another's rollout."""
    followed: frozenset[Ref] = frozenset()
    """DaemonSets whose pods and Events were asked for."""

    def turn(self) -> datetime | None:
        """Take in what is new, tend what it matters to; return when to look again at the latest.

        None: only when woken.
        """
        now = self.clock.now()
        self.look(now)
        self.again |= {ref for ref, at in self.due.items() if at <= now}
        ends = self.clock.monotonic() + TURN_SECONDS
        for _ in range(ROUNDS_MAX):
            self._collect(now)
            todo = sorted(self.again - self.busy)
            if not todo:
                break
            self._tend_in_time(todo, now, ends)
            self._follow()
            self.again |= self.cluster.pump(now)
            if self.clock.monotonic() >= ends:
                break
        self.intake.tell_read(self.voice, now, settled=not (self.again or self.busy))
        return self._next(now)

    def look(self, now: datetime) -> None:
        """Take in what is new and decide nothing: all that an agent on stand-by does."""
        for polled in self.polls.take():
            self.again |= self.intake.take(polled, self.voice)
        self.again |= self.cluster.pump(now) | self.desk.arrived()

    def _follow(self) -> None:
        """Ask for the pods of what rolls out.  A rollout's first write goes before their lists."""
        self.followed = frozenset(
            ref
            for ref, decision in self.decisions.items()
            if decision.follow and (ref in self.followed or ref not in self.busy)
        )
        self.cluster.follow(self.followed)

    def _tend_in_time(self, todo: list[Ref], now: datetime, ends: float) -> None:
        """Tend one after another, the first in any case; the rest stays in `again`."""
        rank = {ref: at for at, ref in enumerate(self.late)}
        self.late = sorted(todo, key=lambda ref: rank.get(ref, len(rank)))
        while self.late:
            ref = self.late.pop(0)
            self.again.discard(ref)
            self._tend_safely(ref, now)
            if self.clock.monotonic() >= ends:
                break

    def _tend_safely(self, ref: Ref, now: datetime) -> None:
        try:
            self._tend(ref, now)
        except Exception as error:  # noqa: BLE001 - the one place: others must go on
            self._failed(ref, error, now)

    def _tend(self, ref: Ref, now: datetime) -> None:
        self.due.pop(ref, None)
        observed = self.cluster.observe(ref, now)
        record = self._recall(ref, observed)
        desired = self.intake.of(ref, record, now)
        if desired is None and record is None:
            self._forget(ref)
            return
        decision = self.decide(
            desired,
            replace(
                observed,
                rolling_elsewhere=self._rolling(ref),
                recalled=self.intake.recalled.get(ref),
                delivered=self.desk.hand(ref, record, now, observed.revisions),
            ),
            record,
            now,
        )
        self._note(ref, decision, now)
        if decision.actions:
            self.busy.add(ref)
            self.hands.submit(ref, partial(self._perform, decision.actions, now))

    def _recall(self, ref: Ref, observed: Observed) -> Record | None:
        """Return the record of the live object, or what it was when we last saw one."""
        live = observed.live
        text = live.annotations.get(records.ANNOTATION) if live else None
        found = records.load(text) if text else None
        if found is not None:
            self.remembered[ref] = found
        return self.remembered.get(ref)

    def _forget(self, ref: Ref) -> None:
        self.decisions.pop(ref, None)
        self.remembered.pop(ref, None)
        self.told.pop(ref, None)
        self.rolling.discard(ref)
        self.waiting.discard(ref)

    def _note(self, ref: Ref, decision: Decision, now: datetime) -> None:
        rolled = ref in self.rolling
        _set_in(self.rolling, ref, _rolls(decision))
        _set_in(self.waiting, ref, decision.waiting_for is not None)
        self.decisions[ref] = replace(decision, actions=())
        self.due[ref] = min(decision.look_again or now + _LOOK_AT_LEAST, now + _LOOK_AT_LEAST)
        if not decision.aside:
            before_told = self.told.get(ref)
            news = is_news(before_told, decision)
            if news or (before_told and follows(before_told.reason, decision.reason)):
                # What is never said (ControllerStale) hides nothing.
                self.told[ref] = replace(decision, actions=(), judgement=None)
            self.voice.tell(ref, decision, now, news=news)
        if rolled and ref not in self.rolling:
            self.again |= self.waiting

    def _rolling(self, ref: Ref) -> int:
        """Return how many other DaemonSets are in phase Canary or Rolling."""
        return len(self.rolling) - (ref in self.rolling)

    def _perform(self, actions: Iterable[Action], now: datetime) -> None:
        for action in actions:
            if isinstance(action, Recall):
                self.intake.recall(action)
            else:
                self.cluster.perform(action, now)

    def _collect(self, now: datetime) -> None:
        """Take in how actions went: each is followed by another look."""
        finished = self.hands.finished()
        for done in finished:
            self.busy.discard(done.ref)
            if done.error is None:
                self.faults.pop(done.ref, None)
                self.again.add(done.ref)
            else:
                self._went_wrong(done, now)
        if finished:
            self._follow()  # a write that failed may have landed

    def _went_wrong(self, done: Done, now: datetime) -> None:
        error = done.error
        if isinstance(error, ActionRefused):
            self.again.add(done.ref)  # the refusal is in the next `observe`: decide says so
            return
        assert error is not None, "only asked where there is one"
        self._failed(done.ref, error, now)

    def _failed(self, ref: Ref, error: Exception, now: datetime) -> None:
        """Look again later, ever later; what the server asked for is kept to."""
        count = self.faults.get(ref, 0)
        self.faults[ref] = count + 1
        delay = min(_RETRY_FIRST * 2 ** min(count, 16), _RETRY_MOST)
        if isinstance(error, Stale) and count == 0:
            delay = timedelta(milliseconds=50)
        if isinstance(error, ClusterUnreachable):
            delay = max(delay, timedelta(seconds=error.retry_after))
        self.due[ref] = now + delay
        if not isinstance(error, Stale):
            self.voice.fault(ref, error)

    def _next(self, now: datetime) -> datetime | None:
        if self.again - self.busy:
            return now
        instants = [*self.due.values(), self.cluster.next_timer()]
        return min((at for at in instants if at is not None), default=None)


def _set_in(refs: set[Ref], ref: Ref, is_in: bool) -> None:  # noqa: FBT001 - it is the value
    if is_in:
        refs.add(ref)
    else:
        refs.discard(ref)


def _rolls(decision: Decision) -> bool:
    """Whether it counts for `maxConcurrentRollouts`."""
    return decision.record is not None and decision.record.phase in (Phase.CANARY, Phase.ROLLING)
