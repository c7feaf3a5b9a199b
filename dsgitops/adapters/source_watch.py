"""Alerts that belong to no DaemonSet: a source that cannot be read for long, or is refused.

They are kept in the Lease's annotation, as those of DaemonSets are in their records: a restart
goes on with the same ids.  Delivered at least once.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from dsgitops.core import narrate
from dsgitops.core.alerts import Alert, Kind, event_id
from dsgitops.core.model import Reason
from dsgitops.core.record import instant, stamp
from dsgitops.errors import DsgitopsError, SourceRefused

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from dsgitops.adapters.outbox import Outbox
    from dsgitops.ports import Polled

UNREAD_FOR = timedelta(minutes=10)
"""So long may a source be away: servers are restarted.  One that is refused is told at once."""
ENTRIES_MAX = 64
WHAT_MAX = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """One failure of a source, and how far its telling is."""

    source: str
    since: datetime
    at: datetime
    """When it was told first."""
    what: str
    """In words of ours."""
    delivered: bool = False
    over: datetime | None = None
    """When the source was read again."""

    def alert(self, cluster: str) -> Alert:
        """Return what is to be told now: the failure, or after it that it is over."""
        recovered = self.delivered and self.over is not None
        lasted = (self.over or self.at) - self.since
        kind = Kind.RECOVERY if recovered else Kind.FAILURE
        title = f"source {self.source} can be read again, after {narrate.span(lasted)}"
        sentence = "New commits are rolled out again."
        if not recovered:
            title = f"source {self.source}: {self.what}"
            sentence = "What runs is left as it is; new commits are not rolled out."
        return Alert(
            id=event_id(cluster, self.source, stamp(self.since), kind),
            kind=kind,
            reason=Reason.SOURCE_UNREADABLE,
            level="info" if recovered else "error",
            at=self.over if recovered and self.over else self.at,
            title=title,
            sentence=sentence,
            source=self.source,
        )


class SourceWatch:
    """Watches the polls, in the turn; what it tells goes by the outbox.

    Args:
        outbox: Where alerts go.
        cluster: Its name in the settings.
        keep: Called with what is to be kept (one line of JSON) whenever that changes.
    """

    def __init__(self, outbox: Outbox, *, cluster: str, keep: Callable[[str], None]) -> None:
        self._outbox = outbox
        self._cluster = cluster
        self._keep = keep
        self._unread_since: dict[str, datetime] = {}
        self._troubles: dict[str, Trouble] = {}
        self._restored = False

    def restore(self, kept: str) -> None:
        """Go on with what an earlier agent kept; once, and what is known here already wins."""
        if self._restored:
            return
        self._restored = True
        early = bool(self._troubles)
        for trouble in _load(kept):
            self._troubles.setdefault(trouble.source, trouble)
            if trouble.over is None:
                self._unread_since.setdefault(trouble.source, trouble.since)
        if early:
            self._keep_all()

    def polled(self, polled: Polled) -> None:
        """Take in one poll."""
        before = self._troubles.get(polled.source)
        if polled.error is None:
            self._unread_since.pop(polled.source, None)
            if before is not None and before.over is None:
                self._note(replace(before, over=polled.at))
            return
        since = self._unread_since.setdefault(polled.source, polled.at)
        if before is not None and before.over is None:
            return
        refused = isinstance(polled.error, SourceRefused)
        if refused or polled.at - since >= UNREAD_FOR:
            what = _what(polled.error, polled.at - since)
            self._note(Trouble(source=polled.source, since=since, at=polled.at, what=what))

    def pump(self) -> None:
        """Send what is not delivered yet; forget what is both over and told."""
        for trouble in tuple(self._troubles.values()):
            if trouble.delivered and trouble.over is None:
                continue
            alert = trouble.alert(self._cluster)
            if not self._outbox.is_delivered(alert.id):
                self._outbox.send(alert)
            elif alert.kind is Kind.RECOVERY:
                del self._troubles[trouble.source]
                self._outbox.forget([alert.id])
                self._keep_all()
            else:
                self._note(replace(trouble, delivered=True))

    def _note(self, trouble: Trouble) -> None:
        self._troubles[trouble.source] = trouble
        self._keep_all()

    def _keep_all(self) -> None:
        if self._restored:  # else what an earlier agent kept would be written over
            self._keep(_dump(self._troubles))


def _what(error: DsgitopsError, lasted: timedelta) -> str:
    """Return an error in words of ours: what git or a server said stands behind a colon."""
    own = error.what.partition(": ")[0][:WHAT_MAX]
    seconds = timedelta(seconds=round(lasted.total_seconds()))
    since = f" for {narrate.span(seconds)}" if seconds else ""
    remedy = f" ({error.remedy})" if error.remedy else ""
    return f"{own}{since}{remedy}"


def _dump(troubles: dict[str, Trouble]) -> str:
    """Return one line of JSON; "" where there is nothing to keep."""
    kept = [_entry(each) for each in troubles.values()][:ENTRIES_MAX]
    return json.dumps(kept, separators=(",", ":")) if kept else ""


def _entry(each: Trouble) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "source": each.source,
        "since": stamp(each.since),
        "at": stamp(each.at),
        "what": each.what,
        "delivered": each.delivered,
    }
    return entry | ({"over": stamp(each.over)} if each.over else {})


def _load(kept: str) -> tuple[Trouble, ...]:
    """Read what was kept; what cannot be read was not ours."""
    try:
        return tuple(
            Trouble(
                source=str(each["source"]),
                since=instant(each["since"]),
                at=instant(each["at"]),
                what=str(each["what"])[: 2 * WHAT_MAX],
                delivered=bool(each["delivered"]),
                over=instant(each["over"]) if "over" in each else None,
            )
            for each in json.loads(kept or "[]")[:ENTRIES_MAX]
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ()
