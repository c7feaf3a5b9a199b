"""Tell decisions as Kubernetes Events on the DaemonSet (events.k8s.io/v1).

Best effort: a short queue, one request at a time, dropped rather than waited for.  An Event that
says the same again within `SERIES` becomes a series of the first one.  Exact bodies: `cluster.md`
11.
"""

from __future__ import annotations

import json
from collections import OrderedDict, deque
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from dsgitops.adapters.kubernetes.answers import fault
from dsgitops.adapters.kubernetes.writes import MERGE
from dsgitops.core.news import WARNINGS
from dsgitops.errors import ActionRefused, ClusterUnreachable, DsgitopsError, Stale
from dsgitops.ports import Request

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

    from dsgitops.core.model import Reason, Ref
    from dsgitops.ports import Transport, Wake

CONTROLLER = "dsgitops.io/agent"
QUEUE_MAX = 256
"""Events that wait; beyond it the oldest are dropped."""
SERIES = timedelta(minutes=45)
"""The API server forgets an Event after an hour."""
SERIES_KEPT_MAX = 512
NOTE_BYTES_MAX = 1024
INSTANCE_MAX = 128
TRIES_MAX = 3
PAUSE = timedelta(seconds=2)
FORBIDDEN_PAUSE = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Telling:
    """One thing to tell."""

    ref: Ref
    uid: str
    """Of the DaemonSet: what makes `kubectl describe` find it."""
    reason: Reason
    note: str
    at: datetime
    tries: int = 0

    @property
    def same(self) -> tuple[str, Reason, str]:
        """What a repetition has in common with it."""
        return self.uid, self.reason, self.note


@dataclass(frozen=True, slots=True)
class _Told:
    name: str
    count: int
    at: datetime


class Events:
    """Writes Events without ever blocking a turn.

    Args:
        transport: To the API server.
        instance: Who we are: the pod's name.
        run: Where requests are made.
        wake: Called when one is done.
    """

    def __init__(self, transport: Transport, *, instance: str, run: Executor, wake: Wake) -> None:
        self._transport = transport
        self._instance = instance[:INSTANCE_MAX] or "dsgitops"
        self._run = run
        self._wake = wake
        self._queue: deque[Telling] = deque(maxlen=QUEUE_MAX)
        self._told: OrderedDict[tuple[str, Reason, str], _Told] = OrderedDict()
        self._sending: tuple[Telling, Future[_Told]] | None = None
        self._not_before: datetime | None = None
        self._serial = 0
        self.dropped = 0
        """Events that were never written."""
        self.fault: DsgitopsError | None = None
        """What stood in the way of the last one."""

    def tell(self, ref: Ref, uid: str, reason: Reason, note: str, now: datetime) -> None:
        """Queue one Event; returns at once.

        Args:
            ref: The DaemonSet.
            uid: Its uid; where there is no object there is nothing to write on.
            reason: The decision's; also the Event's action.
            note: The decision's sentence; cut to 1,024 bytes.
            now: When it was decided.
        """
        if not uid:
            return
        if len(self._queue) == QUEUE_MAX:
            self.dropped += 1
        self._queue.append(Telling(ref, uid, reason, cut(note), now))

    def pump(self, now: datetime) -> None:
        """Take the answer of the last request in and send the next; never blocks."""
        self._take(now)
        while self._sending is None and self._queue:
            if self._not_before is not None and now < self._not_before:
                return
            telling = self._queue.popleft()
            future = self._run.submit(self._send, telling, self._earlier(telling), now)
            self._sending = telling, future
            future.add_done_callback(lambda _: self._wake())
            self._take(now)

    @property
    def pending(self) -> bool:
        """Whether something that was told is not written yet."""
        return bool(self._queue) or self._sending is not None

    def next_timer(self, now: datetime) -> datetime | None:
        """Return when `pump` wants to be called although nothing arrives."""
        if self._sending is not None or not self._queue:
            return None
        return self._not_before or now

    # -- one request

    def _send(self, telling: Telling, earlier: _Told | None, now: datetime) -> _Told:
        """Write one Event; runs on the executor.

        Raises:
            DsgitopsError: It was not written.
        """
        if earlier is not None:
            series = {"count": earlier.count + 1, "lastObservedTime": micros(telling.at)}
            try:
                self._exchange("PATCH", telling, earlier.name, {"series": series}, now)
                return replace(earlier, count=earlier.count + 1)
            except Stale:
                pass  # forgotten meanwhile: it begins anew
        self._serial += 1
        name = f"{telling.ref.name[:220]}.{_nanoseconds(telling.at) + self._serial % 1000:x}"
        self._exchange("POST", telling, name, self._body(telling, name), now)
        return _Told(name, 1, telling.at)

    def _exchange(
        self, method: str, telling: Telling, name: str, body: dict[str, Any], now: datetime
    ) -> None:
        path = f"/apis/events.k8s.io/v1/namespaces/{telling.ref.namespace}/events"
        patching = method == "PATCH"
        request = Request(
            method="PATCH" if patching else "POST",
            path=f"{path}/{name}" if patching else path,
            headers={"Content-Type": MERGE if patching else "application/json"},
            body=json.dumps(body).encode(),
        )
        error = fault(
            self._transport.send(request), doing=f"write an Event on {telling.ref}", now=now
        )
        if error is not None:
            raise error

    def _body(self, telling: Telling, name: str) -> dict[str, Any]:
        ref = telling.ref
        return {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": ref.namespace},
            "eventTime": micros(telling.at),
            "reportingController": CONTROLLER,
            "reportingInstance": self._instance,
            "action": str(telling.reason),
            "reason": str(telling.reason),
            "type": "Warning" if telling.reason in WARNINGS else "Normal",
            "regarding": {
                "apiVersion": "apps/v1",
                "kind": "DaemonSet",
                "namespace": ref.namespace,
                "name": ref.name,
                "uid": telling.uid,
            },
            "note": telling.note,
        }

    # -- what came of it

    def _take(self, now: datetime) -> None:
        if self._sending is None or not self._sending[1].done():
            return
        (telling, future), self._sending = self._sending, None
        try:
            told = future.result()
        except DsgitopsError as error:
            self._failed(telling, error, now)
            return
        self.fault = self._not_before = None
        self._told[telling.same] = told
        self._told.move_to_end(telling.same)
        while len(self._told) > SERIES_KEPT_MAX:
            self._told.popitem(last=False)

    def _failed(self, telling: Telling, error: DsgitopsError, now: datetime) -> None:
        self.fault = error
        if isinstance(error, ActionRefused):
            self.dropped += 1
            self._not_before = now + FORBIDDEN_PAUSE if error.code == 403 else now
            return
        asked = error.retry_after if isinstance(error, ClusterUnreachable) else 0.0
        self._not_before = now + max(PAUSE * 2**telling.tries, timedelta(seconds=asked))
        if telling.tries + 1 < TRIES_MAX and len(self._queue) < QUEUE_MAX:
            self._queue.appendleft(replace(telling, tries=telling.tries + 1))
        else:
            self.dropped += 1

    def _earlier(self, telling: Telling) -> _Told | None:
        told = self._told.get(telling.same)
        return told if told is not None and telling.at - told.at < SERIES else None


def micros(at: datetime) -> str:
    """Return an instant as Events and Leases need it: UTC with six decimals."""
    utc = at.astimezone(UTC).replace(tzinfo=None)
    return utc.isoformat(timespec="microseconds") + "Z"


def cut(note: str) -> str:
    """Return a note of at most 1,024 bytes, whole characters only."""
    encoded = note.encode()
    if len(encoded) <= NOTE_BYTES_MAX:
        return note
    return encoded[: NOTE_BYTES_MAX - 3].decode(errors="ignore") + "…"


def _nanoseconds(at: datetime) -> int:
    return int(at.timestamp() * 1_000_000) * 1000
