"""A rollback by hand, decided: which revision, what is held from now on, and the exact write.

Pure, like the rules of the agent, and in the agent's own words: the record that travels in the
write is what makes the agent follow it when it comes back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dsgitops.cli.ending import endings, good_as
from dsgitops.core import bodies, narrate
from dsgitops.core import record as records
from dsgitops.core.actions import Restore
from dsgitops.core.model import FailureClass, Phase, Reason, Ref
from dsgitops.core.record import LastGood, Quarantined, Record
from dsgitops.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dsgitops.cli.ending import Ending
    from dsgitops.core.model import Revision
    from dsgitops.core.situation import Situation

HEX_DIGITS_MIN = 7
"""Of a commit that is given short: fewer could be a revision's number."""
_HEX = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True, kw_only=True)
class WayBack:
    """A rollback that can be sent."""

    to: Ending
    record: Record
    action: Restore
    restarts: tuple[str, ...]
    """Nodes whose pod is replaced: those of another revision."""

    @property
    def where(self) -> str:
        """Where it goes, in words: `9d01b7e (revision 5)`."""
        number = self.to.revision.number
        commit = narrate.short(self.to.commit) if self.to.commit else "no commit of ours"
        return f"{commit} (revision {number})"


def way_back(s: Situation, to: str | None, *, by: str, reason: str) -> WayBack:
    """Decide a rollback.

    Args:
        s: With the live object, its record, revisions and pods.
        to: A revision's number or name, or a commit; None: the last good one.
        by: Who does it.
        reason: Why; empty: not said.

    Raises:
        UsageError: There is nothing to go back to, or it is not clear to what.
    """
    _require_record(s)
    every = endings(s)
    chosen = _last_good(s, every) if to is None else _named(s, every, to)
    if s.target is not None and chosen.revision.name == s.target.name:
        raise UsageError(
            f"{s.live.ref} is on revision {chosen.revision.number} already",
            remedy=_candidates(s, every),
        )
    good = _as_good(s, chosen)
    record = _record(s, chosen, good, by=_who(by, reason))
    cause = chosen.commit or f"revision {chosen.revision.number}"
    body = bodies.rollback(s.live, chosen.revision, good, record, cause)
    return WayBack(
        to=chosen,
        record=record,
        action=Restore(ref=s.live.ref, body=body),
        restarts=tuple(
            sorted(pod.node for pod in s.observed.pods if pod.hash != chosen.revision.hash)
        ),
    )


def is_exact(revision: Revision, answered: Mapping[str, Any]) -> bool:
    """Whether the API server makes exactly the revision's template of it.

    Else (defaults or admission changed since) a new revision is made and every pod restarts.
    """
    return {key: each for key, each in answered.items() if key != "$patch"} == {
        key: each for key, each in revision.template.items() if key != "$patch"
    }


def _require_record(s: Situation) -> None:
    ref: Ref = s.live.ref
    if s.given is None:
        raise UsageError(
            f"{ref} is not managed by dsgitops", remedy="kubectl rollout undo goes back without it"
        )
    if s.given.v > records.VERSION:
        raise UsageError(f"{ref} is managed by a newer dsgitops", remedy="use that version")
    if s.live.deleting:
        raise UsageError(f"{ref} is being deleted", remedy="wait until it is gone")


# ---------------------------------------------------------------------------- which revision


def _last_good(s: Situation, every: Sequence[Ending]) -> Ending:
    good = s.record.last_good
    if good is None:
        raise UsageError(f"{s.live.ref} has no last good revision", remedy=_candidates(s, every))
    found = next((each for each in every if each.revision.hash == good.hash), None)
    if found is None:
        raise UsageError(
            f"the last good revision {good.revision} of {s.live.ref} is gone",
            remedy=f"revert to {narrate.short(good.commit)} in Git",
        )
    return found


def _named(s: Situation, every: Sequence[Ending], to: str) -> Ending:
    found = [each for each in every if to in (str(each.revision.number), each.revision.name)]
    if not found and len(to) >= HEX_DIGITS_MIN and _HEX.issuperset(to.lower()):
        found = [each for each in every if _digits(each.commit).startswith(to.lower())]
    if not found:
        raise UsageError(f"{s.live.ref} has no revision {to!r}", remedy=_candidates(s, every))
    if len({_digits(each.commit) for each in found}) > 1:
        raise UsageError(f"{to} is more than one commit", remedy="give more of its digits")
    return found[-1]


def _digits(commit: str) -> str:
    return commit.rpartition(":")[2]


def _candidates(s: Situation, every: Sequence[Ending]) -> str:
    current = s.target.name if s.target else ""
    good = [each for each in every if each.is_good and each.revision.name != current]
    if not good:
        return "see dsgitops history: no other revision was good"
    named = ", ".join(f"{each.revision.number} ({_digits(each.commit)[:7]})" for each in good[-3:])
    return f"good before: give --to {named}"


# ---------------------------------------------------------------------------- what is written


def _as_good(s: Situation, chosen: Ending) -> LastGood:
    """Return the chosen revision as last good: a person said so.

    Strategy and minReadySeconds are not in a revision; they are as when it was good, else as now.
    """
    before = good_as(s, chosen.revision.hash)
    if before is not None:
        return replace(before, at=s.now)
    return LastGood(
        digest=chosen.digest or None,
        template=chosen.template or None,
        commit=chosen.commit or None,
        revision=chosen.revision.name,
        hash=chosen.revision.hash,
        strategy=_strategy(s),
        min_ready_seconds=s.live.min_ready_seconds,
        at=s.now,
    )


def _strategy(s: Situation) -> dict[str, Any]:
    """Return the strategy to go back with: Git's, and not the OnDelete of a held rollout."""
    now = bodies.strategy_body(s.live.spec)
    good = s.record.last_good
    if s.live.strategy.type != "OnDelete":
        return now
    if good is not None and good.strategy:
        return dict(good.strategy)
    return now | {"type": "RollingUpdate"} if s.record.phase is Phase.CANARY else now


def _record(s: Situation, chosen: Ending, good: LastGood, *, by: str) -> Record:
    """Return the record that travels along: the current content is held, by hand."""
    held = [each for each in s.record.quarantine if not _is_of(each, chosen)]
    for entry in _left(s, chosen, by):
        known = any(each.digest == entry.digest for each in held)
        held += [] if known else [entry]
    return s.record.next(
        phase=Phase.ROLLING_BACK,
        reason=Reason.ROLLING_BACK,
        started=s.now,
        progressed=None,
        digest=good.digest or "",
        template=good.template or "",
        commit=good.commit or "",
        last_good=good,
        quarantine=tuple(held),
    )


def _is_of(entry: Quarantined, chosen: Ending) -> bool:
    return entry.hash == chosen.revision.hash or bool(
        entry.template and entry.template == chosen.template
    )


def _left(s: Situation, chosen: Ending, by: str) -> list[Quarantined]:
    """Return what is gone back from: what was last written, which is what is live."""
    record = s.record
    if not record.digest or record.template == chosen.template:
        return []
    return [
        Quarantined(
            digest=record.digest,
            template=record.template,
            hash=s.target.hash if s.target else "",
            commit=record.commit,
            failure_class=FailureClass.BY_HAND,
            at=s.now,
            by=by,
        )
    ]


def _who(by: str, reason: str) -> str:
    return f"{by}: {reason}" if reason else by
