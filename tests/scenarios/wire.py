"""The agent's way to the API server, noted write by write; it can be cut at any of them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dsgitops.sim.transport import SimTransport

if TYPE_CHECKING:
    from collections.abc import Callable

APPLY = "application/apply-patch+yaml"
STRATEGIC = "application/strategic-merge-patch+json"
MERGE = "application/merge-patch+json"


class Killed(BaseException):
    """The agent's process ends here, whatever it was doing; nothing in it may catch this."""


@dataclass(frozen=True, slots=True)
class Write:
    """One write that was answered."""

    at: float
    """Virtual seconds."""
    method: str
    path: str
    kind: str
    """`apply`, `restore`, `remember`, `delete` or `other`."""
    body: dict[str, Any]
    status: int


@dataclass(slots=True)
class Log:
    """Every write of every agent of a scene."""

    writes: list[Write] = field(default_factory=list)
    struck_at: int | None = None
    """Number of the write at which something befalls."""
    befalls: Callable[[], None] | None = None
    """What."""
    landed: bool = False
    """Whether that write has its effect before."""
    sent: int = 0
    auditors: list[Any] = field(default_factory=list)

    def landed_ones(self):
        """Return the writes that the server took."""
        return [each for each in self.writes if each.status < 300]


class Door:
    """The API server, where every write is noted as it comes in: also one whose answer is lost."""

    def __init__(self, world, log):
        self._world = world
        self._log = log

    def __getattr__(self, name):
        return getattr(self._world.api, name)

    def handle(self, request, **options):
        """Answer, and note."""
        if not is_write(request):
            return self._world.api.handle(request, **options)
        for auditor in self._log.auditors:
            auditor.before(request)
        answer = self._world.api.handle(request, **options)
        body = json.loads(request.body or b"{}")
        at = self._world.clock.monotonic()
        kind = kind_of(request)
        write = Write(at, request.method, request.path, kind, body, answer.status)
        self._log.writes.append(write)
        for auditor in self._log.auditors:
            auditor.after(write)
        return answer


class Wire(SimTransport):
    """A `SimTransport` through the `Door`, where something can befall at any write."""

    def __init__(self, world, log, faults=None):
        super().__init__(Door(world, log), faults)
        self.log = log

    def send(self, request):
        """Send; at the write that the log says, let befall what it says."""
        if not is_write(request):
            return super().send(request)
        number, self.log.sent = self.log.sent, self.log.sent + 1
        struck = number == self.log.struck_at
        if struck and not self.log.landed:
            self.log.befalls()
        answer = super().send(request)
        if struck and self.log.landed:
            self.log.befalls()
        return answer


def is_write(request):
    """Whether it changes a DaemonSet or a pod: dry runs, Events and the Lease do not count."""
    if request.method == "GET" or request.query.get("dryRun"):
        return False
    return "/daemonsets" in request.path or "/pods" in request.path


def kind_of(request):
    """Return what a write is, in the words of `core.actions`."""
    if request.method == "DELETE":
        return "delete"
    kind = next((v for k, v in request.headers.items() if k.lower() == "content-type"), "")
    return {APPLY: "apply", STRATEGIC: "restore", MERGE: "remember"}.get(kind, "other")
