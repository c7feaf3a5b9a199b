"""How far each commit came: from the decisions about each DaemonSet to one status a commit; pure.

A commit *touches* a DaemonSet when it brings it other content.  Its status is that of the
DaemonSets it touched: failed when one failed, finished when all are, superseded when newer content
came first.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime  # noqa: TC003 - a field's type
from typing import TYPE_CHECKING

from dsgitops.adapters.forge.standing import (
    GOING_BACK,
    TOLD_AGAIN_WITHIN,
    Standing,
    State,
    Touch,
    failed_before,
    failure,
    going_back_from,
    is_recent,
    standing_of,
    touch_of,
)
from dsgitops.core import narrate
from dsgitops.core.model import Phase, Reason

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dsgitops.core.model import Decision, Desired, Judgement, Ref, Unreadable
    from dsgitops.core.record import Quarantined, Record

COMMITS_MAX = 50
"""Commits that are remembered; of more, those that moved longest ago go."""
NAMED_MAX = 3
"""DaemonSets of a commit that are named; of more, how many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What is to be said of one commit."""

    commit: str
    """For display: `main@sha1:9f2c…`."""
    state: State
    word: str
    sentence: str

    @property
    def sha(self) -> str:
        """The full hash."""
        return sha_of(self.commit)

    @property
    def ref(self) -> str:
        """The branch or tag by which it was found; "": not known."""
        return self.commit.rpartition("@")[0]

    @property
    def key(self) -> tuple[str, str]:
        """What makes two statuses of a commit the same."""
        return self.state, self.word


@dataclass(slots=True)
class _Commit:
    """One commit, and the DaemonSets that it touched."""

    display: str
    standings: dict[Ref, Standing] = field(default_factory=dict["Ref", Standing])
    is_news: bool = False
    """Whether anything of it is worth telling; at a start most was told long ago."""


@dataclass(slots=True)
class _Known:
    """What is known of one DaemonSet."""

    touch: Touch | None = None
    quarantine: frozenset[tuple[str, datetime]] = frozenset()
    """Digests, and since when they are held."""
    failed: Quarantined | None = None
    """The content that is gone back from."""
    judgement: Judgement | None = None
    """By which it failed."""


@dataclass(slots=True)
class Board:
    """The commits of one repository."""

    commits: OrderedDict[str, _Commit] = field(default_factory=OrderedDict[str, _Commit])
    """By hash."""
    _known: dict[Ref, _Known] = field(default_factory=dict["Ref", _Known])

    def note(
        self,
        ref: Ref,
        given: Desired | Unreadable | None,
        decision: Decision,
        now: datetime,
        *,
        tip: str = "",
    ) -> tuple[Status, ...]:
        """Take in one decision.

        Args:
            ref: The DaemonSet.
            given: What Git has of it.
            decision: About it.
            now: The time.
            tip: The source's newest commit if this process saw it arrive, for display; else "".

        Returns:
            The statuses of the commits that it moved.
        """
        if decision.aside:
            return ()
        moved: dict[str, _Commit] = {}
        starts = ref not in self._known
        if starts:
            self._start(ref, decision.record, now, moved)
        touch = self._touched(ref, given, decision.record, tip, moved)
        told = self._fail(ref, touch, decision, moved)
        if touch is not None and sha_of(touch.commit) != told:
            before = self._standing(touch.commit, ref)
            found = standing_of(decision, touch, before)
            news = not starts or is_recent(decision, now)
            self._set(touch.commit, ref, found, moved, is_news=news)
        return tuple(_status(each) for each in moved.values() if each.is_news)

    def _start(
        self, ref: Ref, record: Record | None, now: datetime, moved: dict[str, _Commit]
    ) -> None:
        """Know what failed before this process began, so that it is not called finished."""
        known = self._known[ref] = _Known()
        if record is None:
            return
        for entry in record.quarantine:
            recent = now - entry.at < TOLD_AGAIN_WITHIN
            self._set(entry.commit, ref, failed_before(ref, entry), moved, is_news=recent)
        known.quarantine = _held(record)
        known.failed = going_back_from(record)

    def _touched(
        self,
        ref: Ref,
        given: Desired | Unreadable | None,
        record: Record | None,
        tip: str,
        moved: dict[str, _Commit],
    ) -> Touch | None:
        """Return the content that Git has now; what was there before is superseded."""
        known = self._known[ref]
        before, after = known.touch, touch_of(given, record, known.touch, tip)
        if before is not None and after is not None and before.content == after.content:
            return before
        known.touch = after
        standing = self._standing(before.commit, ref) if before else None
        commit = after.commit if after else ""
        if before and standing and standing.state.is_open and before.commit != commit:
            said = f"Superseded by {narrate.short(commit)}." if commit else "Git no longer has it."
            self._set(before.commit, ref, Standing(State.SUPERSEDED, "Superseded", said), moved)
        return after

    def _fail(
        self, ref: Ref, touch: Touch | None, decision: Decision, moved: dict[str, _Commit]
    ) -> str:
        """Note a failure with the content that failed, which may be older than Git's.

        Returns:
            The hash of its commit; "" where nothing fails.
        """
        known, record = self._known[ref], decision.record
        if record is None:
            return ""
        held = _held(record)
        if held - known.quarantine:
            known.failed, known.judgement = record.quarantine[-1], decision.judgement
        known.quarantine = held
        if decision.reason not in GOING_BACK | {Reason.ROLLOUT_FAILED}:
            if record.phase is not Phase.ROLLING_BACK:
                known.failed = None
            return ""
        if known.failed is None and decision.reason in GOING_BACK:
            return ""  # Git itself went back
        failed = known.failed
        digest, commit = (
            (failed.digest, failed.commit) if failed else (record.digest, record.commit)
        )
        if touch is not None and touch.content == digest:
            commit = touch.commit
        judgement = known.judgement if failed else decision.judgement
        self._set(commit, ref, failure(ref, decision, failed, judgement), moved)
        return sha_of(commit)

    def _standing(self, display: str, ref: Ref) -> Standing | None:
        commit = self.commits.get(sha_of(display))
        return commit.standings.get(ref) if commit else None

    def _set(
        self,
        display: str,
        ref: Ref,
        standing: Standing | None,
        moved: dict[str, _Commit],
        *,
        is_news: bool = True,
    ) -> None:
        sha = sha_of(display)
        if standing is None or not sha:
            return
        commit = self.commits.setdefault(sha, _Commit(display))
        if commit.standings.get(ref) != standing:
            self.commits.move_to_end(sha)
        commit.standings[ref] = standing
        commit.is_news |= is_news
        moved[sha] = commit
        while len(self.commits) > COMMITS_MAX:
            self.commits.popitem(last=False)


def sha_of(display: str) -> str:
    """Return the hash in `main@sha1:9f2c…`; "" where there is none (an adopted revision)."""
    return display.rpartition(":")[2]


def _held(record: Record) -> frozenset[tuple[str, datetime]]:
    return frozenset((each.digest, each.at) for each in record.quarantine)


def _status(commit: _Commit) -> Status:
    """Return the worst standing of a commit; of several good ones, how many."""
    standings = sorted(commit.standings.items())
    worst = next(state for state in State if any(s.state is state for _, s in standings))
    ref, standing = next((r, s) for r, s in standings if s.state is worst)
    said = standing.sentence if str(ref) in standing.sentence else f"{ref}: {standing.sentence}"
    if worst is State.SUCCESS and len(standings) > 1:
        said = f"{len(standings)} DaemonSets have it: {_names(r for r, _ in standings)}."
    return Status(commit=commit.display, state=worst, word=standing.word, sentence=said)


def _names(refs: Iterable[Ref]) -> str:
    names = [str(ref) for ref in refs]
    more = f" and {len(names) - NAMED_MAX} more" if len(names) > NAMED_MAX else ""
    return f"{', '.join(names[:NAMED_MAX])}{more}"
