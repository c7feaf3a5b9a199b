"""The Lease `dsgitops`: who leads, that the agent lives, and what it has read of Git.

`get` and `wait` read the annotation `dsgitops.io/sources`, so the Lease is kept with election off
too; then nobody waits for it, and a missing right is a warning.  With election on, time is
monotonic and our own: a lease counts as expired when *we* saw it unchanged for its duration, and
we lead no longer than `RENEW_DEADLINE` after the start of the last renewal that succeeded.
"""

from __future__ import annotations

import json
from concurrent.futures import wait
from dataclasses import dataclass
from datetime import timedelta
from math import inf
from typing import TYPE_CHECKING, Any, Literal

from dsgitops.adapters.kubernetes.answers import fault, read_object
from dsgitops.adapters.kubernetes.events import micros
from dsgitops.errors import DsgitopsError, Stale
from dsgitops.ports import Request

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor, Future
    from datetime import datetime

    from dsgitops.ports import Transport, Wake

NAME = "dsgitops"
SOURCES = "dsgitops.io/sources"
ALERTS = "dsgitops.io/alerts"
"""Alerts that belong to no DaemonSet (`adapters/source_watch.py`)."""
DURATION = timedelta(seconds=15)
"""After so long without renewal others may take it."""
RENEW_DEADLINE = 10.0
"""Seconds after which we stop leading if no renewal succeeded: well before others may take it."""
EVERY = 2.0
"""Seconds between renewals."""
LOOK = 1.0
"""Seconds between the looks of an agent on stand-by: what a clean stop costs.  After a death it is
added to `DURATION`, which only runs from the look that first saw the last renewal."""
RACE = 0.2
"""Seconds after somebody else wrote between our look and our write."""
PAUSE_MAX = 60.0
"""Seconds between tries while it fails and nobody needs it (election off)."""
REQUEST_SECONDS = 3.0

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Seen:
    """The Lease as it was last read."""

    content: Json
    since: float
    """Monotonic time since when it has looked so."""

    @property
    def holder(self) -> str:
        """Who holds it; empty: nobody, it was released."""
        return str((self.content.get("spec") or {}).get("holderIdentity") or "")

    @property
    def expires(self) -> float:
        """Monotonic time from which others may take it, if nobody renews it until then."""
        lasts = (self.content.get("spec") or {}).get("leaseDurationSeconds") or 0
        return self.since + float(lasts)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What one try came to."""

    content: Json | None
    """The Lease as the API server has it; None: somebody was faster, it has to be read."""
    written: bool = False


class Lease:
    """Keeps the Lease by `pump(now)`; never blocks unless `run` does.

    Args:
        transport: To the API server.
        namespace: The agent's own.
        identity: Who we are; unique to this process.
        election: Whether we must hold it to lead.
        run: Where requests are made; of its own, or slow lists would cost the lease.
        monotonic: Seconds that never jump.
        wake: Called when a request is done.
    """

    def __init__(  # noqa: PLR0913 - each is one thing of the world
        self,
        transport: Transport,
        *,
        namespace: str,
        identity: str,
        election: bool,
        run: Executor,
        monotonic: Callable[[], float],
        wake: Wake,
    ) -> None:
        self._transport = transport
        self._namespace = namespace
        self._identity = identity
        self._election = election
        self._run = run
        self._monotonic = monotonic
        self._wake = wake
        self._sources = ""
        self._alerts: str | None = None
        self._seen: Seen | None = None
        self._begun = 0.0
        self._renewed: float | None = None
        self._failures = 0
        self._trying: Future[_Outcome] | None = None
        self._due = monotonic()
        """When to try next; monotonic, or a clock that is set back would cost the leadership."""
        self.fault: DsgitopsError | None = None
        """What stood in the way of the last try."""

    @property
    def leading(self) -> bool:
        """Whether a write may start now.  Ask right before each; always so with election off."""
        if not self._election:
            return True
        return self._renewed is not None and self._monotonic() - self._renewed < RENEW_DEADLINE

    @property
    def term_left(self) -> float:
        """Seconds until another may lead; infinite with election off."""
        if not self._election:
            return inf
        if self._renewed is None:
            return 0.0
        return max(0.0, self._renewed + DURATION.total_seconds() - self._monotonic())

    def announce(self, sources: str) -> None:
        """Say what was read of Git (`dsgitops.io/sources`, JSON), with the next renewal, now."""
        if sources != self._sources:
            self._sources = sources
            self._due = self._monotonic()
            self._wake()

    def keep_alerts(self, alerts: str) -> None:
        """Keep this (`dsgitops.io/alerts`; empty: nothing) with the next renewal, now."""
        if alerts != self._alerts:
            self._alerts = alerts
            self._due = self._monotonic()
            self._wake()

    @property
    def kept_alerts(self) -> str | None:
        """What the Lease keeps of alerts, as last seen; None: it was not read yet."""
        if self._seen is None:
            return None
        annotations = (self._seen.content.get("metadata") or {}).get("annotations") or {}
        return str(annotations.get(ALERTS) or "")

    def pump(self, now: datetime) -> None:
        """Take the last answer in; renew, take or look when it is time."""
        self._take()
        if self._trying is not None or self._monotonic() < self._due:
            return
        self._begun = self._monotonic()
        self._trying = self._run.submit(self._turn, self._seen, self._sources, now)
        self._trying.add_done_callback(lambda _: self._wake())
        self._take()

    def next_timer(self, now: datetime) -> datetime | None:
        """Return when `pump` wants to be called although nothing arrives."""
        if self._trying is not None:
            return None
        return now + timedelta(seconds=max(0.0, self._due - self._monotonic()))

    def release(self, now: datetime) -> None:
        """Give it back, so that another need not wait for it to expire; for the end.

        Best effort, and bounded by a few requests.  Nothing may be written after it.
        """
        if self._trying is not None:  # it may be about to make us the holder
            wait({self._trying}, timeout=REQUEST_SECONDS)
            self._take()
        tried, self._renewed = self._renewed is not None, None
        if not tried:
            return
        try:
            self._give_back(now)
        except DsgitopsError as error:
            self.fault = error

    def _give_back(self, now: datetime) -> None:
        """Release it if it is ours; where it changed since it was seen, it is read and tried again.

        Raises:
            DsgitopsError: It could not be released; others wait until it expires.
        """
        seen = self._seen
        for _ in range(2):
            seen = seen or Seen(self._send("GET", None, now), self._monotonic())
            if seen.holder != self._identity:
                return
            content = self._content(seen, self._sources, now)
            content["spec"]["holderIdentity"] = ""
            try:
                self._send("PUT", content, now)
            except Stale:
                seen = None
            else:
                return

    # -- one try, on the executor

    def _turn(self, seen: Seen | None, sources: str, now: datetime) -> _Outcome:
        """Read the Lease, or write it where that is ours to do.

        Raises:
            DsgitopsError: No answer, or no right.
        """
        try:
            if seen is None:
                return self._look(sources, now)
            if not self._mine_to_take(seen):
                return _Outcome(self._send("GET", None, now))
            content = self._content(seen, sources, now)
            return _Outcome(self._send("PUT", content, now), written=True)
        except Stale:
            return _Outcome(None)

    def _look(self, sources: str, now: datetime) -> _Outcome:
        try:
            return _Outcome(self._send("GET", None, now))
        except Stale:  # there is none yet
            content = self._content(None, sources, now)
            return _Outcome(self._send("POST", content, now), written=True)

    def _mine_to_take(self, seen: Seen) -> bool:
        if not self._election or seen.holder in ("", self._identity):
            return True
        return self._monotonic() >= seen.expires

    def _content(self, seen: Seen | None, sources: str, now: datetime) -> Json:
        before: Json = dict(seen.content) if seen is not None else {}
        metadata: Json = dict(before.get("metadata") or {})
        spec: Json = dict(before.get("spec") or {})
        mine = spec.get("holderIdentity") == self._identity
        annotations = dict(metadata.get("annotations") or {})
        if sources:
            annotations[SOURCES] = sources
        if self._alerts is not None:
            annotations.pop(ALERTS, None)
            annotations |= {ALERTS: self._alerts} if self._alerts else {}
        metadata.pop("managedFields", None)
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata
            | {"name": NAME, "namespace": self._namespace, "annotations": annotations},
            "spec": spec
            | {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": int(DURATION.total_seconds()),
                "acquireTime": spec.get("acquireTime") if mine else micros(now),
                "renewTime": micros(now),
                "leaseTransitions": int(spec.get("leaseTransitions") or 0)
                + (0 if mine or seen is None else 1),
            },
        }

    def _send(
        self, method: Literal["GET", "POST", "PUT"], content: Json | None, now: datetime
    ) -> Json:
        path = f"/apis/coordination.k8s.io/v1/namespaces/{self._namespace}/leases"
        request = Request(
            method=method,
            path=path if method == "POST" else f"{path}/{NAME}",
            headers={"Content-Type": "application/json"} if content is not None else {},
            body=json.dumps(content).encode() if content is not None else b"",
            timeout=REQUEST_SECONDS,
        )
        response = self._transport.send(request)
        error = fault(response, doing=f"keep Lease {self._namespace}/{NAME}", now=now)
        if error is not None:
            raise error
        return read_object(response)

    # -- what came of it

    def _take(self) -> None:
        if self._trying is None or not self._trying.done():
            return
        done, self._trying = self._trying, None
        now = self._monotonic()
        try:
            outcome = done.result()
        except DsgitopsError as error:
            self.fault = error
            self._failures += 1
            self._due = now + self._pause()
            return
        self.fault, self._failures = None, 0
        if outcome.content is None:
            self._seen, self._due = None, now + RACE
            return
        seen = self._seen = self._as_seen(outcome.content)
        if outcome.written:
            self._renewed, self._due = self._begun, now + EVERY
        else:
            self._due = now if self._mine_to_take(seen) else min(now + LOOK, seen.expires)

    def _as_seen(self, content: Json) -> Seen:
        before = self._seen
        if before is not None and _version(before.content) == _version(content):
            return Seen(content, before.since)
        return Seen(content, self._monotonic())

    def _pause(self) -> float:
        longest = EVERY if self._election else PAUSE_MAX
        return min(EVERY * 2.0 ** min(self._failures - 1, 8), longest)


def _version(content: Json) -> object:
    return (content.get("metadata") or {}).get("resourceVersion")
