"""How each revision of a DaemonSet ended: its ControllerRevisions joined with what made them.

The API server copies the record into every revision that it creates, so the revisions say by
themselves which commit made them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dsgitops.core.model import FailureClass, Revision
    from dsgitops.core.record import LastGood, Quarantined, Record
    from dsgitops.core.situation import Situation

Outcome = Literal["current", "good", "rolledBack", "superseded"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """One revision, what made it, and how it ended."""

    revision: Revision
    outcome: Outcome
    is_good: bool
    """Whether it was good at some time, be it current or not."""
    commit: str = ""
    """Empty: it came from no commit."""
    digest: str = ""
    template: str = ""
    failure_class: FailureClass | None = None


def endings(s: Situation) -> tuple[Ending, ...]:
    """Return the revisions, oldest number first.

    Args:
        s: With a live object and, where it is managed, its record.
    """
    return tuple(_ending(s, revision) for revision in s.observed.revisions)


def good_as(s: Situation, hash_: str) -> LastGood | None:
    """Return a revision as the last good one that it is, or was; None: it never was."""
    return next((each for each in _goods(s) if each.hash == hash_), None)


def _ending(s: Situation, revision: Revision) -> Ending:
    good = good_as(s, revision.hash)
    failed = _failed(s, revision)
    copy = _made_by(s, revision)
    current = s.target is not None and s.target.name == revision.name
    outcome: Outcome = "superseded"
    if current:
        outcome = "current"
    elif failed is not None:
        outcome = "rolledBack"
    elif good is not None:
        outcome = "good"
    made: Record | LastGood | Quarantined | None = copy or good or failed
    return Ending(
        revision=revision,
        outcome=outcome,
        is_good=good is not None,
        commit=(made.commit if made else "") or "",
        digest=(made.digest if made else "") or "",
        template=(made.template if made else "") or "",
        failure_class=failed.failure_class if failed else None,
    )


def _failed(s: Situation, revision: Revision) -> Quarantined | None:
    """Return the quarantine entry that is about a revision."""
    if s.given is None:
        return None
    copy = _made_by(s, revision)
    for entry in s.given.quarantine:
        if entry.hash == revision.hash:
            return entry
        if not entry.hash and copy is not None and copy.digest == entry.digest:
            return entry
    return None


def _made_by(s: Situation, revision: Revision) -> Record | None:
    """Return the record of the write that made a revision; None: no write of ours did.

    A revision that somebody else's write made has a copy too: that of the content before it.  Then
    an older revision has the same content's.
    """
    copy = s.copy_of_record(revision)
    if copy is None or not copy.digest or revision.created is None:
        return copy if copy and copy.digest else None
    for each in s.observed.revisions:
        other = s.copy_of_record(each)
        if other is None or each.created is None or other.template != copy.template:
            continue
        if (each.created, each.number) < (revision.created, revision.number):
            return None
    return copy


def _goods(s: Situation) -> Iterator[LastGood]:
    """Yield what was last good, now and in each revision's copy of the record, newest first."""
    if s.given is not None and s.given.last_good is not None:
        yield s.given.last_good
    for revision in reversed(s.observed.revisions):
        copy = s.copy_of_record(revision)
        if copy is not None and copy.last_good is not None:
            yield copy.last_good
