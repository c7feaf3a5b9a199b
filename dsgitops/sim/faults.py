"""What goes wrong between a client and the API server, on purpose and repeatable by its seed.

The transport asks before and after each request.  The API server itself never misbehaves: a lost
answer, a refused connection or a lagging cache is a matter of the way to it.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from dsgitops.errors import ClusterUnreachable
from dsgitops.sim import answers
from dsgitops.sim.resources import route

if TYPE_CHECKING:
    from datetime import datetime

    from dsgitops.ports import Request, Response
    from dsgitops.sim.watches import Watch


class Kind(Enum):
    """One way to go wrong."""

    LOST_BEFORE = "the connection dies before the request has an effect"
    LOST_AFTER = "the request has its effect, the answer never comes"
    DOWN = "the connection is refused; open watches end"
    CONFLICT = "409, somebody else wrote in between"
    THROTTLED = "429 with Retry-After"
    ERROR = "500 before any effect"
    UNAVAILABLE = "503 before any effect"
    TIMEOUT = "504; the write may have landed, and here it did"
    FORBIDDEN = "403"
    STALE = "a read is answered from an older version"
    SILENT = "a watch opens, or stays open, and brings nothing any more"
    DROPPED = "watches end"
    DUPLICATED = "a watch brings every event twice"


_WATCHES = (Kind.SILENT, Kind.DROPPED, Kind.DUPLICATED)


@dataclass(slots=True, kw_only=True)
class Fault:
    """One fault: what, for which requests, when and how often."""

    kind: Kind
    methods: tuple[str, ...] = ()
    """Empty: all; `WATCH` is a method here."""
    path: str = ""
    """A regular expression that the path must contain."""
    times: int | None = None
    """How often it still strikes; None: always."""
    skip: int = 0
    """How many matching requests are spared first."""
    probability: float = 1.0
    since: datetime | None = None
    until: datetime | None = None
    retry_after: int = 1
    """Seconds, of a 429."""
    behind: int = 10
    """Versions, of a stale read."""

    def strikes(self, method: str, path: str, now: datetime, dice: random.Random) -> bool:
        """Whether it strikes this request; counts."""
        if self.times == 0 or not self._covers(method, path, now):
            return False
        if self.probability < 1 and dice.random() >= self.probability:
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.times is not None:
            self.times -= 1
        return True

    def active(self, now: datetime) -> bool:
        """Whether it may strike now."""
        return (
            self.times != 0
            and (self.since is None or now >= self.since)
            and (self.until is None or now < self.until)
        )

    def _covers(self, method: str, path: str, now: datetime) -> bool:
        return (
            self.active(now)
            and (not self.methods or method in self.methods)
            and (not self.path or re.search(self.path, path) is not None)
        )


@dataclass(slots=True)
class Faults:
    """The faults of one transport.

    Args:
        seed: Of the dice that `Fault.probability` is held against.
        faults: May be changed at any time.
    """

    seed: int = 0
    faults: list[Fault] = field(default_factory=list[Fault])
    struck: list[tuple[Kind, str, str]] = field(default_factory=list[tuple[Kind, str, str]])
    """What struck: kind, method, path."""
    _dice: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._dice = random.Random(f"faults {self.seed}")

    def add(self, fault: Fault) -> Fault:
        """Add a fault and return it."""
        self.faults.append(fault)
        return fault

    def strike(self, method: str, path: str, now: datetime) -> Fault | None:
        """Return the first fault that strikes a request, or None."""
        for fault in self.faults:
            if fault.kind in _WATCHES and method != "WATCH":
                continue
            if fault.strikes(method, path, now, self._dice):
                self.struck.append((fault.kind, method, path))
                return fault
        return None

    def disturb(self, watches: list[Watch], now: datetime) -> None:
        """Let faults that are active now strike the open watches; `path` means the resource."""
        for fault in self.faults:
            if fault.kind not in (*_WATCHES, Kind.DOWN) or not fault.active(now):
                continue
            hit = [
                each
                for each in watches
                if not each.over and re.search(fault.path, each.terms.resource.plural)
            ]
            for watch in hit:
                self.struck.append((fault.kind, "WATCH", watch.terms.resource.plural))
                befall(fault.kind, watch)
            if hit and fault.times is not None:
                fault.times -= 1


def befall(kind: Kind, watch: Watch) -> None:
    """Let a fault happen to an open watch."""
    if kind is Kind.SILENT:
        watch.silent = True
    elif kind is Kind.DUPLICATED:
        watch.twice = True
    else:
        watch.end()


def before(fault: Fault | None, request: Request) -> Response | None:
    """Return the answer that a fault gives in place of the API server's; None: go on.

    Raises:
        ClusterUnreachable: No answer comes.
    """
    if fault is None:
        return None
    if fault.kind is Kind.DOWN:
        raise ClusterUnreachable("the API server refuses connections", landed=False)
    if fault.kind is Kind.LOST_BEFORE:
        raise ClusterUnreachable("the connection to the API server died", landed=None)
    if fault.kind is Kind.THROTTLED:
        return answers.too_many_requests(fault.retry_after)
    refused = _refusal(fault, request)
    return None if refused is None else refused.response()


def after(fault: Fault | None, response: Response) -> Response:
    """Return what arrives of an answer.

    Raises:
        ClusterUnreachable: Nothing does.
    """
    if fault is None:
        return response
    if fault.kind is Kind.LOST_AFTER:
        raise ClusterUnreachable("the connection to the API server died", landed=None)
    if fault.kind is Kind.TIMEOUT:
        message = (
            "Timeout: request did not complete within requested timeout - context deadline exceeded"
        )
        return answers.Refused(answers.status(504, "Timeout", message)).response()
    return response


def _refusal(fault: Fault, request: Request) -> answers.Refused | None:
    found = route(request.path)
    if fault.kind is Kind.UNAVAILABLE:
        return answers.unavailable("the server is currently unable to handle the request")
    if fault.kind is Kind.ERROR:
        return answers.internal("rpc error: code = Unavailable desc = transport is closing")
    if fault.kind is Kind.CONFLICT and found is not None:
        return answers.conflict(found.resource, found.name, answers.MODIFIED)
    if fault.kind is Kind.FORBIDDEN and found is not None:
        return answers.forbidden(found.resource, found.name, "access was taken away")
    return None
