"""What the agent needs of the world, in our words.

Two doors to a cluster: `Transport` is HTTP, and the simulated cluster stands behind it just as a
real API server does; `Cluster` is what `agent.py` sees, and has one implementation only
(`adapters/kubernetes`), which runs over any `Transport`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from dsgitops.core.model import EMPTY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from dsgitops.core.actions import Action
    from dsgitops.core.alerts import Alert
    from dsgitops.core.model import Decision, Observed, Ref, Revision
    from dsgitops.core.record import Record
    from dsgitops.errors import DsgitopsError


NONE: Mapping[str, str] = EMPTY

# ---------------------------------------------------------------------------- time


class Clock(Protocol):
    """Wall time and waiting; virtual in the simulation."""

    def now(self) -> datetime:
        """Return the time, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never jump; only differences mean anything."""
        ...


# ---------------------------------------------------------------------------- HTTP


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One HTTP request to the API server."""

    method: Literal["GET", "POST", "PATCH", "DELETE", "PUT"]
    path: str
    """Absolute, without query: `/apis/apps/v1/daemonsets`."""
    query: Mapping[str, str] = NONE
    headers: Mapping[str, str] = NONE
    """`Content-Type` and `Accept` where they matter; names in any case."""
    body: bytes = b""
    timeout: float = 15.0
    """Seconds to wait for the next byte of the answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """One whole answer."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = NONE
    """Names in lower case."""


class Stream(Protocol):
    """An open watch: lines of JSON, as they come."""

    @property
    def status(self) -> int:
        """Of the answer: 200, or an error whose body is in `lines`; 0: none came yet."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Of the answer, names in lower case."""
        ...

    def lines(self) -> list[bytes]:
        """Return the whole lines that arrived since the last call; never blocks."""
        ...

    @property
    def ended(self) -> bool:
        """Whether no more lines will come: the server closed it, or the connection died."""
        ...

    def close(self) -> None:
        """Hang up.  Safe to call twice."""
        ...


class Transport(Protocol):
    """HTTP to one API server, with its credentials; a real one or the simulation."""

    host: str
    """For people: the server's host, no path, no credentials."""

    def send(self, request: Request) -> Response:
        """Send and read the whole answer, whatever its status.

        Raises:
            ClusterUnreachable: No answer (refused, reset, timed out, TLS); `landed` says whether
                the request can have had an effect.
        """
        ...

    def open(self, request: Request, wake: Wake) -> Stream:
        """Open a watch.  `wake` is called (from any thread) whenever `lines` or `ended` changed.

        Returns at once; errors are the stream's `status`, or an `ended` stream.
        """
        ...


class Wake(Protocol):
    """Called when there is something to look at; cheap, never raises, any thread."""

    def __call__(self) -> None:
        """Say so."""
        ...


# ---------------------------------------------------------------------------- Git


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One regular file of a commit."""

    path: str
    """From the repository's root, with `/`."""
    blob: str
    """Object id: equal ids are equal bytes, for ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """What a source's path holds at one commit."""

    commit: str
    """Full hash."""
    display: str
    """`main@sha1:<full hash>`."""
    files: tuple[File, ...] = ()
    """*.yaml, *.yml and *.json below the source's path, sorted by path."""
    problems: tuple[tuple[str, str], ...] = ()
    """(path, what is wrong) of entries that cannot be read: symlinks, submodules, bad names."""


class Source(Protocol):
    """One Git repository, ref and path."""

    name: str

    def fetch(self) -> Tree:
        """Bring the mirror to the remote's tip and list what is there.

        Raises:
            SourceUnreachable: No answer within the deadline; the last tree stays in force.
            SourceRefused: An answer that cannot be used (no such ref or path, empty repository).
        """
        ...

    def last(self) -> Tree | None:
        """Return what the mirror holds from earlier, without the network; None: nothing."""
        ...

    def at(self, commit: str) -> Tree | None:
        """Return the tree of an earlier commit (full hash) from the mirror; None: not there."""
        ...

    def read(self, blobs: Iterable[str]) -> Mapping[str, bytes]:
        """Return the bytes of blobs that a `Tree` named.

        Raises:
            SourceUnreachable: The mirror is damaged; it will be fetched anew.
        """
        ...

    def history(self) -> Sequence[str]:
        """Return the commits of what is in force, newest first, at most 50."""
        ...

    def contains(self, ancestor: str, commit: str) -> bool | None:
        """Whether `ancestor` is `commit` or one of its ancestors; None: not known here."""
        ...


# ---------------------------------------------------------------------------- the cluster


class Cluster(Protocol):
    """What the agent sees of a cluster: watched, not polled."""

    def pump(self, now: datetime) -> frozenset[Ref]:
        """Take in what the watches brought; return the DaemonSets it may matter to.

        Never blocks.  Also opens, renews and gives up watches as time goes by.
        """
        ...

    def refs(self) -> frozenset[Ref]:
        """Return the DaemonSets in the managed namespaces that carry our record."""
        ...

    def observe(self, ref: Ref, now: datetime) -> Observed:
        """Return what is known of one DaemonSet; no request is made."""
        ...

    def follow(self, refs: frozenset[Ref]) -> None:
        """Say of which DaemonSets pods and Events are needed from now on."""
        ...

    def perform(self, action: Action, now: datetime) -> None:
        """Carry out one action.  Its answer shows in the next `observe`.

        Raises:
            Stale: A precondition failed; nothing was done.
            ActionRefused: The server will never accept it; kept as `Observed.refusal`.
            ClusterUnreachable: No answer; it may have landed.
        """
        ...

    def next_timer(self) -> datetime | None:
        """Return when `pump` wants to be called again although nothing arrives."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """How one DaemonSet's actions went."""

    ref: Ref
    error: Exception | None = None
    """The first that was raised; the actions after it were not tried."""


class Hands(Protocol):
    """Carries out actions, several DaemonSets at a time; inline in the simulation."""

    def submit(self, ref: Ref, work: Callable[[], None]) -> None:
        """Run `work` soon; its end is told by `finished`."""
        ...

    def finished(self) -> list[Done]:
        """Return what ended since the last call; never blocks."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Polled:
    """What one poll of a source brought."""

    source: str
    tree: Tree | None = None
    error: DsgitopsError | None = None
    """Exactly one of `tree` and `error` is there."""
    at: datetime
    """When it ended."""
    seconds: float = 0.0
    """How long it took."""


class Polls(Protocol):
    """When sources are read, and what came of it."""

    def take(self) -> tuple[Polled, ...]:
        """Return the polls that ended since the last call."""
        ...


class Voice(Protocol):
    """Where decisions are told: log, Events, metrics, alerts."""

    def tell(self, ref: Ref, decision: Decision, now: datetime, *, news: bool) -> None:
        """Tell one decision; `news` when it differs from the last one told of this DaemonSet."""
        ...

    def problem(self, source: str, what: str, *, remedy: str = "") -> None:
        """Tell what belongs to no DaemonSet: an unreadable source, an unreadable file."""
        ...

    def fault(self, ref: Ref, error: Exception) -> None:
        """Tell what went wrong with one DaemonSet; the others go on."""
        ...

    def read(self, source: str, commit: str, now: datetime, *, partial: bool) -> None:
        """Tell that decisions for this commit were made (the Lease's annotation, `wait`)."""
        ...


# ---------------------------------------------------------------------------- alerts


class Desk(Protocol):
    """Where alerts that stand in records are handed in, and their delivery is confirmed."""

    def hand(
        self, ref: Ref, record: Record | None, now: datetime, revisions: tuple[Revision, ...]
    ) -> frozenset[str] | None:
        """Take the alerts of a record as the cluster has it; never blocks.

        Args:
            ref: The DaemonSet.
            record: Its record.
            now: Time.
            revisions: Its ControllerRevisions: what differs, for who did not see it fail.

        Returns:
            Ids of those that every channel has confirmed; None: no channel is configured.
        """
        ...

    def arrived(self) -> frozenset[Ref]:
        """Return the DaemonSets of which alerts were confirmed since the last call."""
        ...


class Channel(Protocol):
    """One way to tell people; called from a thread of its own, and may take its time."""

    name: str
    """For people and logs: `sentry`."""

    def deliver(self, alert: Alert) -> None:
        """Send one alert and see it confirmed.  The same id may come again.

        Raises:
            Undelivered: It was not confirmed.
        """
        ...
