"""Keep a copy of one list of the API server, live: list once, then watch.

A state machine that `pump(now)` drives: it starts no thread, reads no clock and draws no number
but from the generator it is given, so the simulation plays every fault against this very code.

Paged lists were chosen over WatchList: they read from etcd's quorum, so never from a server that
is behind, they work on every version, and a list that fails half-way has a plain meaning: nothing
was read.  The facts behind the numbers are in `cluster.md` 8 and 12.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from dsgitops.adapters.kubernetes.answers import fault, read_status
from dsgitops.adapters.kubernetes.lists import read_list
from dsgitops.adapters.kubernetes.shelf import newer
from dsgitops.errors import ActionRefused, ClusterUnreachable, DsgitopsError, Stale
from dsgitops.ports import Request, Response

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future
    from random import Random

    from dsgitops.adapters.kubernetes.lists import Collection, Listing
    from dsgitops.adapters.kubernetes.shelf import Decode, Shelf
    from dsgitops.ports import Stream, Transport, Wake

SILENCE = timedelta(seconds=75)
"""A bookmark comes every 60 s; who hears nothing for longer cannot say what is there now."""
DOUBT = timedelta(seconds=68)
"""A watch so silent may be dead or misled, and the list is read anew, in time to stay live.  It may
also be fine: etcd without `--watch-progress-notify-interval` gives no bookmarks where nothing
happens (seen on 1.36)."""
LOST = timedelta(seconds=5)
"""Without a watch for longer than this, the copy is not live: nobody's deadline may pass on it."""
WATCH_SECONDS = (240, 300)
"""`timeoutSeconds`, drawn anew for each watch, so that many do not end at once."""
BACKOFF_FIRST = 0.5
BACKOFF_MAX = 30.0
FORBIDDEN_MAX = 120.0
"""Seconds between tries while a right is missing: it may be granted again."""
SHORT_LIFE = timedelta(seconds=5)
"""A watch that ends so soon, and said nothing, is a failure, however politely it ended."""
RESUMES_MAX = 4
"""Watches in a row that failed from one version; then the list is read anew."""
OLDER_LISTS_MAX = 2
"""Lists older than what was seen that are put down to a server being behind; the next one is
believed: etcd was restored."""


class _LineMeta(msgspec.Struct, rename={"version": "resourceVersion"}):
    version: str = ""


class _LineObject(msgspec.Struct):
    metadata: _LineMeta | None = None


class _Line(msgspec.Struct):
    type: str
    object: msgspec.Raw


_LINE = msgspec.json.Decoder(_Line)
_VERSION = msgspec.json.Decoder(_LineObject)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a reflector needs of the world."""

    transport: Transport
    run: Executor
    """Where lists are read: a small pool, or `Inline`."""
    rng: Random
    """For jitter alone."""
    wake: Wake


class Reflector:
    """One collection, listed and watched into a shelf.

    Args:
        what: The collection.
        shelf: The copy; several reflectors may share one, each with a namespace of its own.
        decode: What is kept of an object.
        around: Transport, executor, jitter, wake.
    """

    def __init__(
        self, what: Collection, shelf: Shelf, decode: Decode, around: Surroundings
    ) -> None:
        self.what = what
        self.live_since: datetime | None = None
        """Since when the copy has been live without a gap; None: it may be behind."""
        self.synced = False
        """Whether the list was read at least once: the copy means something."""
        self.fault: DsgitopsError | None = None
        """What stands in the way now."""
        self._shelf = shelf
        self._decode = decode
        self._around = around
        self._version = ""
        self._newest = ""
        """The newest version ever seen; survives a relist."""
        self._failures = 0
        self._older = 0
        self._due: datetime | None = None
        self._list: Future[Listing] | None = None
        self._watch: Stream | None = None
        self._opened: datetime | None = None
        self._heard: datetime | None = None
        self._lost: datetime | None = None
        """Since when no watch could be had; None: there is one, or there was no fault."""
        self._answered: datetime | None = None
        """When a watch was had again."""
        self._body = b""
        """Of a watch that was refused."""
        self._doubted = False
        """Whether the list is read anew because the watch fell silent."""
        self._fault_of_list = False
        self._closed = False

    # -- what others ask

    @property
    def forbidden(self) -> bool:
        """Whether the last try was refused for a missing right."""
        return isinstance(self.fault, ActionRefused) and self.fault.code == 403

    def next_timer(self, now: datetime) -> datetime | None:
        """Return when `pump` wants to be called although nothing arrives."""
        if self._closed or self._list is not None:
            return None
        due = self._deadline() if self._watch is not None else self._due or now
        last = self._last_sign()
        if self.live_since is None or last is None:
            return due
        return min(due, last + SILENCE)

    def live_at(self, now: datetime) -> datetime | None:
        """Return `live_since`, unless nothing was heard, or no watch had, for too long."""
        last = self._last_sign()
        fresh = last is not None and now - last <= SILENCE
        lost = self._lost is not None and now - self._lost > LOST
        return self.live_since if fresh and not lost else None

    def _last_sign(self) -> datetime | None:
        """When the server was last heard: a line, or an answer after a time without."""
        signs = [each for each in (self._heard, self._answered) if each is not None]
        return max(signs, default=None)

    def seen(self, version: str) -> bool:
        """Whether the watch has come as far as `version`: what it does not show is gone."""
        return bool(self._version) and not newer(version, self._version)

    def close(self) -> None:
        """Stop; returns at once.  The copy is left as it is."""
        self._closed = True
        self.live_since = None
        self._hang_up()
        if self._list is not None:
            self._list.cancel()

    # -- driven by time

    def pump(self, now: datetime) -> None:
        """Take in what arrived and start what is due.  Never blocks, unless `run` is `Inline`."""
        if self._closed:
            return
        self._take_list(now)
        self._take_lines(now)
        self.live_since = self.live_at(now)
        if self._watch is None and self._list is None and (self._due is None or self._due <= now):
            self._start(now)

    def _start(self, now: datetime) -> None:
        if self._version:
            self._open(now)
            return
        self._list = self._around.run.submit(
            read_list,
            self._around.transport,
            self.what.path,
            self.what.query,
            self._decode,
            now,
        )
        self._list.add_done_callback(lambda _: self._around.wake())
        self._take_list(now)

    # -- lists

    def _take_list(self, now: datetime) -> None:
        if self._list is None or not self._list.done():
            return
        done, self._list = self._list, None
        try:
            listing = done.result()
        except DsgitopsError as error:
            self._list_failed(error, now)
            return
        if self._is_behind(listing):
            self._list_failed(ClusterUnreachable("the API server answers from the past"), now)
            return
        behind = newer(self._newest, listing.version)  # believed now: etcd was restored
        reach = self._newest if behind and self._newest else listing.version
        if self._shelf.replace(listing.items, reach, self.what.namespace) and self._doubted:
            self.live_since = None  # the watch was blind indeed
        self._doubted = False
        self._version = self._newest = listing.version
        self._older = 0
        self.synced = True
        if self._fault_of_list:  # one of the watch is over when a watch is had
            self.fault = None
        self._regain(now)
        self._hear(now)
        self._open(now)

    def _is_behind(self, listing: Listing) -> bool:
        if not self._newest or not newer(self._newest, listing.version):
            return False
        self._older += 1
        return self._older <= OLDER_LISTS_MAX

    # -- watches

    def _open(self, now: datetime) -> None:
        query = {
            **self.what.query,
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(self._around.rng.randint(*WATCH_SECONDS)),
        }
        request = Request(
            method="GET",
            path=self.what.path,
            query=query,
            timeout=SILENCE.total_seconds(),
        )
        self._opened, self._due, self._body = now, None, b""
        self._watch = self._around.transport.open(request, self._around.wake)
        self._take_lines(now)

    def _take_lines(self, now: datetime) -> None:
        watch = self._watch
        if watch is None:
            return
        lines = watch.lines()
        if watch.status not in (0, 200):
            self._body += b"".join(lines)
            if watch.ended:
                self._refused(watch, now)
            return
        if not watch.ended:
            self._see_whether_it_is_answered(watch.status, now)
        for line in lines:
            if not self._take_line(line, now):
                return
        if watch.ended:  # which it is only when all its lines were taken
            self._ended(watch.status, now)
        elif now > self._deadline():
            self._doubt()

    def _see_whether_it_is_answered(self, status: int, now: datetime) -> None:
        """A watch that was asked for and not answered is none: what happens now is not seen."""
        opened = self._opened or now
        if status == 200:
            self._regain(now)
            if now - opened > SHORT_LIFE:
                self.fault = None
        elif self._lost is None and now - opened > LOST:
            self._lost = opened
            self.fault = ClusterUnreachable(f"the watch of {self._noun} is not answered")
            self._fault_of_list = False

    def _take_line(self, raw: bytes, now: datetime) -> bool:
        """Take one event in; False when the watch is over."""
        try:
            line = _LINE.decode(raw)
            if line.type == "ERROR":
                self._told_off(line.object, now)
                return False
            meta = _VERSION.decode(line.object).metadata
        except (msgspec.DecodeError, UnicodeDecodeError):
            self._failed(ClusterUnreachable("the watch brings something that is no event"), now)
            return False
        if meta is not None and meta.version:
            self._version = meta.version
            if newer(meta.version, self._newest):
                self._newest = meta.version
        self._hear(now)
        self.fault = None
        self._failures = 0
        if line.type in ("ADDED", "MODIFIED", "DELETED"):
            item = self._decode(line.object)
            if item is not None:
                (self._shelf.drop if line.type == "DELETED" else self._shelf.put)(item)
        return True

    def _hear(self, now: datetime) -> None:
        self._heard = now
        if self.live_since is None:
            self.live_since = now

    def _regain(self, now: datetime) -> None:
        """The server answers again: what was missed comes now, so the copy is live from here."""
        if self._lost is None:
            return
        if now - self._lost > LOST:
            self.live_since = now
        self._lost, self._answered = None, now

    def _deadline(self) -> datetime:
        """When an open watch has been silent for too long."""
        times = [each for each in (self._opened, self._heard) if each is not None]
        return max(times) + DOUBT

    def _told_off(self, status: msgspec.Raw, now: datetime) -> None:
        """An ERROR event: 410 means that events are lost for ever, anything else is a fault."""
        known = read_status(bytes(status))
        answer = Response(status=known.code or 500, body=bytes(status))
        self._failed(fault(answer, doing=f"watch {self._noun}", now=now), now)

    def _refused(self, watch: Stream, now: datetime) -> None:
        answer = Response(status=watch.status, body=self._body, headers=watch.headers)
        error = fault(answer, doing=f"watch {self._noun}", now=now)
        self._failed(error, now)

    def _ended(self, status: int, now: datetime) -> None:
        """The server closed it, or the connection died: go on from the last version seen."""
        opened = self._opened or now
        useful = self._heard is not None and self._heard > opened
        if status == 0:
            self._failed(ClusterUnreachable(f"the watch of {self._noun} is not answered"), now)
        elif useful or now - opened > SHORT_LIFE:
            self._hang_up()
            self._failures = 0
            self._due = now
        else:
            self._failed(ClusterUnreachable(f"the watch of {self._noun} ends at once"), now)

    def _doubt(self) -> None:
        """Silent beyond the bookmark's time: half-open, a version from the future, or truly calm.

        Only a list can tell; where it shows nothing new the copy was live all along.
        """
        self._hang_up()
        self._doubted = True
        self._version = ""

    # -- faults

    def _list_failed(self, error: DsgitopsError, now: datetime) -> None:
        self._failed(error, now)
        self._fault_of_list = True

    def _failed(self, error: DsgitopsError | None, now: datetime) -> None:
        self._hang_up()
        self.fault, self._fault_of_list = error, False
        self._failures += 1
        self._lost = self._lost or now
        if isinstance(error, Stale) or self._failures > RESUMES_MAX:
            self._version = ""  # list anew
        if isinstance(error, Stale):
            self.live_since = None
        self._due = now + timedelta(seconds=self._pause(error))

    def _pause(self, error: DsgitopsError | None) -> float:
        """Return seconds: exponential, jittered, and not sooner than the server asked for."""
        lost = isinstance(error, Stale) and self._failures == 1
        if lost:
            return 0.0
        longest = FORBIDDEN_MAX if isinstance(error, ActionRefused) else BACKOFF_MAX
        wait = min(BACKOFF_FIRST * 2.0 ** min(self._failures - 1, 16), longest)
        asked = error.retry_after if isinstance(error, ClusterUnreachable) else 0.0
        return asked + wait * self._around.rng.uniform(0.5, 1.0)

    def _hang_up(self) -> None:
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    @property
    def _noun(self) -> str:
        return self.what.path.rpartition("/")[2]
