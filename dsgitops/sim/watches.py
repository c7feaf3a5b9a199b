"""Open watches: what each of them still has to send, in virtual time."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from dsgitops.sim import tables
from dsgitops.sim.resources import served

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from dsgitops.ports import Response, Wake
    from dsgitops.sim.resources import Resource
    from dsgitops.sim.schema import Object
    from dsgitops.sim.selectors import Selection
    from dsgitops.sim.store import Change

BOOKMARK_EVERY = timedelta(seconds=60)
LAST_BOOKMARK = timedelta(seconds=1.5)
"""Before the end by `timeoutSeconds`."""
LONGEST = timedelta(seconds=3600)
"""Without `timeoutSeconds`; a real API server takes 30 to 60 minutes at random."""

INITIAL_EVENTS_END = "k8s.io/initial-events-end"


@dataclass(slots=True, kw_only=True)
class Terms:
    """What a watch was asked for."""

    resource: Resource
    selection: Selection
    view: str = ""
    """`Table`, `PartialObjectMetadata`, or "" for whole objects."""
    bookmarks: bool = False
    ends: datetime
    mute: bool = False
    """Asked from a version that has not come yet: silent until it ends."""


@dataclass(slots=True)
class Watch:
    """One open watch; a `ports.Stream`."""

    terms: Terms
    wake: Wake
    now: Callable[[], datetime]
    version: Callable[[], int]
    next_bookmark: datetime
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: {"content-type": "application/json"})
    closed: bool = False
    silent: bool = False
    """A connection that lives and brings nothing (a fault)."""
    twice: bool = False
    """Every event comes twice (a fault)."""
    _pending: deque[tuple[str, Object]] = field(default_factory=deque[tuple[str, Any]])
    _ended: bool = False
    _columns_sent: bool = False
    _last_bookmark_sent: bool = False

    # ------------------------------------------------------------------ ports.Stream

    def lines(self) -> list[bytes]:
        """Return the lines that are due, without line ends."""
        if self.silent:
            return []
        out: list[bytes] = []
        while self._pending:
            kind, obj = self._pending.popleft()
            out.append(self._encoded(kind, obj))
        return out

    @property
    def ended(self) -> bool:
        """Whether the server closed it."""
        return self._ended and (self.silent or not self._pending)

    def close(self) -> None:
        """Hang up."""
        self.closed = True
        self._ended = True
        self._pending.clear()

    # ------------------------------------------------------------------ the server's side

    def take(self, change: Change) -> None:
        """Take in a change if it is wanted; leaving the selection is a DELETED."""
        terms = self.terms
        if terms.mute or self._ended or change.resource != terms.resource.plural:
            return
        selection = terms.selection
        obj = served(terms.resource, change.object)
        if change.kind == "DELETED":
            if selection.matches(obj):
                self.send("DELETED", obj)
            return
        now_in = selection.matches(obj)
        before = change.before
        was_in = before is not None and selection.matches(served(terms.resource, before))
        if now_in:
            self.send("MODIFIED" if was_in else "ADDED", obj)
        elif was_in and before is not None:
            metadata = {**before["metadata"], "resourceVersion": str(change.version)}
            self.send("DELETED", served(terms.resource, {**before, "metadata": metadata}))

    def send(self, kind: str, obj: Object) -> None:
        """Put one event into the stream."""
        self._pending.extend([(kind, obj)] * (2 if self.twice else 1))
        if not self.silent:
            self.wake()

    def bookmark(self, *, initial: bool = False) -> None:
        """Send a bookmark of the present version."""
        metadata: Object = {"resourceVersion": str(self.version())}
        annotations = dict(self.terms.resource.of_stub)
        if initial:
            annotations[INITIAL_EVENTS_END] = "true"
        if annotations:
            metadata["annotations"] = annotations
        stub = {**self.terms.resource.empty_object(), "metadata": metadata}
        self.next_bookmark = self.now() + BOOKMARK_EVERY
        self.send("BOOKMARK", stub)

    def fail(self, status: Object) -> None:
        """Send an ERROR and end."""
        self._pending.append(("ERROR", status))
        self.end()

    def end(self) -> None:
        """End the stream as a server does: nothing marks it but its end."""
        self._ended = True
        self.wake()

    @property
    def due(self) -> datetime:
        """Return when `tick` has something to do."""
        terms = self.terms
        if not terms.bookmarks or terms.mute:
            return terms.ends
        last = terms.ends - LAST_BOOKMARK
        if not self._last_bookmark_sent:
            return min(self.next_bookmark, last)
        return min(self.next_bookmark, terms.ends)

    def tick(self, now: datetime) -> None:
        """Send the bookmarks that are due, and end in time."""
        terms = self.terms
        if now >= terms.ends:
            self.end()
            return
        if not terms.bookmarks or terms.mute:
            return
        if not self._last_bookmark_sent and now >= terms.ends - LAST_BOOKMARK:
            self._last_bookmark_sent = True
            self.bookmark()
        elif now >= self.next_bookmark:
            self.bookmark()

    @property
    def over(self) -> bool:
        """Whether the server can forget it."""
        return self._ended

    def _encoded(self, kind: str, obj: Object) -> bytes:
        body = obj if kind == "ERROR" else self._viewed(kind, obj)
        line = {"type": kind, "object": body}
        return json.dumps(line, separators=(",", ":"), ensure_ascii=False).encode()

    def _viewed(self, kind: str, obj: Object) -> Object:
        if self.terms.view == "PartialObjectMetadata":
            return tables.partial(obj)
        if self.terms.view != "Table":
            return obj
        if kind == "BOOKMARK":
            empty = tables.table(self.terms.resource, [], self.now(), headers=False)
            return empty | {"metadata": {"resourceVersion": obj["metadata"]["resourceVersion"]}}
        headers, self._columns_sent = not self._columns_sent, True
        return tables.table(self.terms.resource, [obj], self.now(), headers=headers)


class Refusal:
    """The stream of a watch that was not opened: a status and, as its one line, the body."""

    def __init__(self, response: Response) -> None:
        self.status = response.status
        self.headers = response.headers
        self._lines = [response.body] if response.body else []

    def lines(self) -> list[bytes]:
        """Return the body, once."""
        lines, self._lines = self._lines, []
        return lines

    @property
    def ended(self) -> bool:
        """Return True once the body was read."""
        return not self._lines

    def close(self) -> None:
        """Drop the body."""
        self._lines = []


class Hub:
    """All open watches of one API server."""

    def __init__(self) -> None:
        self._by_resource: dict[str, list[Watch]] = {}
        self._due: datetime | None = None

    def add(self, watch: Watch) -> None:
        """Take in a new watch."""
        self._by_resource.setdefault(watch.terms.resource.plural, []).append(watch)
        if self._due is None or watch.due < self._due:
            self._due = watch.due

    def take(self, change: Change) -> None:
        """Hand a change to the watches of its resource."""
        for watch in self._by_resource.get(change.resource, ()):
            watch.take(change)

    @property
    def due(self) -> datetime | None:
        """Return when `tick` has something to do; None: nothing is open."""
        return self._due

    def tick(self, now: datetime) -> None:
        """Send bookmarks and end watches as time goes by."""
        if self._due is None or now < self._due:
            return
        for plural, watches in self._by_resource.items():
            for watch in watches:
                if not watch.over and watch.due <= now:
                    watch.tick(now)
            self._by_resource[plural] = [each for each in watches if not each.over]
        self._due = min((each.due for each in self.watches()), default=None)

    def watches(self) -> list[Watch]:
        """Return the open watches."""
        return [each for watches in self._by_resource.values() for each in watches if not each.over]
