"""A transport through which nothing can be changed: every write becomes a dry run."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dsgitops.ports import Request, Response, Stream, Transport, Wake


class DryRun:
    """`ports.Transport` that asks the API server to check each write and to store none."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.host = transport.host

    def send(self, request: Request) -> Response:
        """See `ports.Transport`."""
        if request.method == "GET":
            return self._transport.send(request)
        return self._transport.send(replace(request, query={**request.query, "dryRun": "All"}))

    def open(self, request: Request, wake: Wake) -> Stream:
        """See `ports.Transport`."""
        return self._transport.open(request, wake)
