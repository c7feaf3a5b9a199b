"""A transport through which only the agent that leads can write (`safety.md`, S1).

Asked right before each request, not before each action: an action may be several requests, each
of which may take long, and the process may have been stopped meanwhile.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from dsgitops.errors import ClusterUnreachable

if TYPE_CHECKING:
    from dsgitops.ports import Request, Response, Stream, Transport, Wake


class Term(Protocol):
    """For how long this agent leads."""

    @property
    def leading(self) -> bool:
        """Whether a write may start now."""
        ...

    @property
    def term_left(self) -> float:
        """Seconds until another agent may lead."""
        ...


class Fenced:
    """`ports.Transport` that refuses writes unless this agent leads.

    Args:
        transport: What is asked.
        term: Whether we lead, and until when.
    """

    def __init__(self, transport: Transport, term: Term) -> None:
        self._transport = transport
        self._term = term
        self.host = transport.host

    def send(self, request: Request) -> Response:
        """See `ports.Transport`.  A write is not waited for longer than our term lasts.

        Raises:
            ClusterUnreachable: As the transport says; or we do not lead, and nothing was sent.
        """
        if request.method == "GET":
            return self._transport.send(request)
        if not self._term.leading:
            what = "another agent may lead now; nothing was written"
            raise ClusterUnreachable(what, landed=False)
        within = min(request.timeout, self._term.term_left)
        return self._transport.send(replace(request, timeout=within))

    def open(self, request: Request, wake: Wake) -> Stream:
        """See `ports.Transport`."""
        return self._transport.open(request, wake)
