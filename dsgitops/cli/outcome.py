"""What became of a commit on one DaemonSet: the question that `wait` asks again and again.

Pure: everything it needs was read before.  The rule that matters most: a commit that no agent has
read yet is never a success, however healthy everything looks.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from dsgitops.cli.status import held_content
from dsgitops.core import narrate
from dsgitops.core.model import Phase, Reason
from dsgitops.core.situation import IN_FLIGHT

if TYPE_CHECKING:
    from collections.abc import Callable

    from dsgitops.cli.status import Status
    from dsgitops.core.model import Desired
    from dsgitops.core.record import Quarantined, Record


class Result(StrEnum):
    """How waiting ends (`interfaces.md`, WaitResult)."""

    FINISHED = "finished"
    FAILED = "failed"
    TIMEOUT = "timeout"
    SUPERSEDED = "superseded"
    HELD = "held"


EXIT_CODES = {
    Result.FINISHED: 0,
    Result.TIMEOUT: 4,
    Result.SUPERSEDED: 5,
    Result.HELD: 6,
    Result.FAILED: 3,
}
"""In order: where several DaemonSets ended differently, the last of them wins."""
_REFUSED = frozenset({Reason.REFUSED, Reason.CONFLICT, Reason.MANIFEST_INVALID})
"""Reasons after which the agent does nothing until Git or a person moves."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Where one DaemonSet is with a commit."""

    result: Result | None
    """None: not decided yet."""
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The commit that is waited for, as one DaemonSet sees it."""

    commit: str
    """Full hash."""
    content: Desired | None
    """What the commit has of the DaemonSet; None: nothing, or nobody knows."""
    wrong: str = ""
    """Why the commit's manifest of it cannot be used; empty: it can."""
    known: bool
    """Whether a work tree has the commit: only then `content` says something."""
    was_read: bool
    """Whether the agent has read the commit, or one after it."""
    contains: Callable[[str, str], bool | None]
    """(ancestor, commit): whether the one is the other, or before it; None: unknown."""

    def is_of(self, display: str) -> bool:
        """Whether a commit, as records have it, is the one asked for."""
        return bool(display) and display.rsplit(":", 1)[-1] == self.commit

    def is_before(self, display: str) -> bool:
        """Whether a commit of a record is known to come after the one asked for."""
        other = display.rsplit(":", 1)[-1]
        return bool(other) and other != self.commit and self.contains(self.commit, other) is True


def outcome(status: Status, asked: Asked) -> Outcome:
    """Return where a managed DaemonSet is with a commit."""
    record = status.view.record
    if record is None:
        return Outcome(None, "not managed yet")
    if record.phase is Phase.ROLLING_BACK:
        return Outcome(None, status.message)
    held = _holding(record, asked)
    if held is not None:
        return _held(record, held, asked)
    if _is_written(record, asked):
        return _written(status, record, asked)
    if asked.is_before(record.commit):
        newer = narrate.short(record.commit)
        return Outcome(Result.SUPERSEDED, f"{newer} came after {asked.commit[:7]}")
    return _not_written(status, asked)


def _holding(record: Record, asked: Asked) -> Quarantined | None:
    """Return the quarantine entry that covers what the commit has."""
    if asked.content is not None:
        return record.holds(asked.content.template, asked.content.digest)
    mine = (each for each in reversed(record.quarantine) if asked.is_of(each.commit))
    return next(mine, None)


def _held(record: Record, entry: Quarantined, asked: Asked) -> Outcome:
    """Its content failed: now (failed), or by an earlier commit already (nothing done)."""
    because = f"{narrate.short(entry.commit)} is held ({entry.failure_class})"
    if record.phase in IN_FLIGHT and asked.content and record.digest == asked.content.digest:
        return Outcome(None, because)  # a release is being tried: the entry is of before
    if asked.is_of(entry.commit) or asked.is_before(entry.commit):
        return Outcome(Result.FAILED, because)
    if not asked.was_read:
        return Outcome(None, _unread(asked))
    return Outcome(Result.HELD, because)


def _is_written(record: Record, asked: Asked) -> bool:
    """Whether what was last written is what the commit has."""
    if asked.content is not None and record.digest == asked.content.digest:
        return asked.was_read
    return asked.is_of(record.commit)


def _written(status: Status, record: Record, asked: Asked) -> Outcome:
    if record.phase is Phase.IDLE:
        return Outcome(Result.FINISHED, status.message)
    if record.phase is Phase.HELD:
        return _beside_held(status, record, asked)
    if status.suspend is not None:
        return Outcome(Result.HELD, status.message)
    return Outcome(None, status.message)


def _beside_held(status: Status, record: Record, asked: Asked) -> Outcome:
    """It is what runs, and something else is held: something newer, or it is a revert."""
    held = held_content(record)
    if held is not None and asked.is_before(held.commit):
        newer = narrate.short(held.commit)
        return Outcome(Result.SUPERSEDED, f"{newer} came after {asked.commit[:7]}, and is held")
    return Outcome(None, status.message)


def _not_written(status: Status, asked: Asked) -> Outcome:
    if not asked.was_read:
        return Outcome(None, _unread(asked))
    if status.suspend is not None:
        return Outcome(Result.HELD, status.message)
    if asked.wrong or status.reason in _REFUSED:
        return Outcome(Result.FAILED, asked.wrong or status.message)
    record = status.view.record
    resting = record is not None and record.phase is Phase.IDLE
    if resting and asked.known and asked.content is None:
        return Outcome(Result.FINISHED, f"{asked.commit[:7]} does not have it")
    if resting and not asked.known and status.reason != Reason.WAITING:
        return Outcome(Result.FINISHED, status.message)
    return Outcome(None, status.message)


def _unread(asked: Asked) -> str:
    return f"{asked.commit[:7]} was not read by the agent yet"
