"""`ports.Transport` to the simulated API server, with the faults of the way to it."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

from dsgitops.errors import ClusterUnreachable
from dsgitops.ports import Request, Response, Stream, Wake
from dsgitops.sim import faults as ways
from dsgitops.sim.watches import Refusal, Watch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dsgitops.sim.api import ApiServer
    from dsgitops.sim.faults import Faults

_KEPT = 1000
_DOWN = ways.Fault(kind=ways.Kind.DOWN)

_OPENS_ALL_THE_SAME = (
    ways.Kind.SILENT,
    ways.Kind.STALE,
    ways.Kind.DUPLICATED,
    ways.Kind.DROPPED,
)


class SimTransport:
    """One client's way to the API server.

    Args:
        api: The server.
        faults: What goes wrong; None: nothing.
        headers: Sent with every request, such as `User-Agent` and `Authorization`.
    """

    host = "simulated"

    def __init__(
        self,
        api: ApiServer,
        faults: Faults | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.faults = faults
        self.requests: deque[Request] = deque(maxlen=_KEPT)
        """The last thousand requests, watches too."""
        self._api = api
        self._now = api.clock.now
        self._headers = {"User-Agent": "dsgitops", **(headers or {})}
        self._open: list[Watch] = []
        api.on_tick(self.disturb)

    def send(self, request: Request) -> Response:
        """Send and return the whole answer.

        Raises:
            ClusterUnreachable: The server is away, or a fault says so.
        """
        request = self._noted(request)
        fault = self._fault(request.method, request)
        instead = ways.before(fault, request)
        if instead is not None:
            return instead
        stale = None
        if fault is not None and fault.kind is ways.Kind.STALE:
            store = self._api.store
            stale = max(store.compacted, store.version - fault.behind)
        return ways.after(fault, self._api.handle(request, stale=stale))

    def open(self, request: Request, wake: Wake) -> Stream:
        """Open a watch; a fault may end, silence or refuse it."""
        request = self._noted(request)
        fault = self._fault("WATCH", request)
        if fault is not None and fault.kind not in _OPENS_ALL_THE_SAME:
            return self._refused(fault, request, wake)
        stream = self._api.watch(request, wake)
        if isinstance(stream, Watch):
            self._open = [each for each in self._open if not each.ended]
            self._open.append(stream)
            if fault is not None and fault.kind is not ways.Kind.STALE:
                ways.befall(fault.kind, stream)
        return stream

    def disturb(self) -> None:
        """Drop or silence the open watches for faults that are active now."""
        if self.faults is not None:
            self.faults.disturb(self._open, self._now())

    def _fault(self, method: str, request: Request) -> ways.Fault | None:
        if not self._api.is_up:
            return _DOWN
        if self.faults is None:
            return None
        return self.faults.strike(method, request.path, self._now())

    def _refused(self, fault: ways.Fault, request: Request, wake: Wake) -> Stream:
        wake()
        try:
            response = ways.before(fault, request)
        except ClusterUnreachable:
            response = None
        return Refusal(response or Response(status=0))

    def _noted(self, request: Request) -> Request:
        request = replace(request, headers={**self._headers, **request.headers})
        self.requests.append(request)
        return request
