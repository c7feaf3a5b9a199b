"""From the flags of a command to a cluster, with the person's own kubeconfig and rights."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from dsgitops.adapters.kubernetes.client import Client
    from dsgitops.ports import Request, Response, Stream, Transport, Wake

SKEW_MIN = timedelta(seconds=2)
"""The server tells whole seconds: a smaller difference is none."""

Kubeconfig = Annotated[
    str | None,
    typer.Option(
        "--kubeconfig", metavar="FILE", help="kubeconfig [default: KUBECONFIG, ~/.kube/config]"
    ),
]
Context = Annotated[
    str | None, typer.Option("--context", metavar="NAME", help="context of the kubeconfig")
]


class ServerTime:
    """A transport that also tells the time as the API server has it.

    Leases, suspensions and Ready transitions are by clocks of the cluster: a laptop whose clock is
    wrong must not call a living agent dead.

    Args:
        transport: The one that requests go through.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._ahead = timedelta()
        self.host = transport.host

    def send(self, request: Request) -> Response:
        """See `ports.Transport`."""
        response = self._transport.send(request)
        self._note(response.headers.get("date", ""))
        return response

    def open(self, request: Request, wake: Wake) -> Stream:
        """See `ports.Transport`."""
        return self._transport.open(request, wake)

    def now(self) -> datetime:
        """Return the time by the server's clock, as far as it told it, else by ours."""
        return datetime.now(UTC) + self._ahead

    def _note(self, date: str) -> None:
        try:
            ahead = parsedate_to_datetime(date) - datetime.now(UTC)
        except (ValueError, TypeError):  # no date, or one without a zone
            return
        self._ahead = ahead if abs(ahead) > SKEW_MIN else timedelta()


@dataclass(frozen=True, slots=True)
class Connection:
    """One cluster, as one person sees it."""

    client: Client
    time: ServerTime
    namespace: str
    """Where the person works: `-n` where it is not given."""

    @property
    def host(self) -> str:
        """The API server's host, for people."""
        return self.time.host

    def now(self) -> datetime:
        """Return the time of the cluster, aware, in UTC."""
        return self.time.now()


def connect(kubeconfig: str | None, context: str | None) -> Connection:
    """Return the cluster that the flags or the surroundings name; no request is made yet.

    Raises:
        UsageError: There is none, or it may not be used.
    """
    from dsgitops.adapters.kubernetes.transport import connect as transport_to  # noqa: PLC0415

    transport = transport_to(kubeconfig, context=context, home=True)
    return over(transport, namespace=transport.namespace)


def over(transport: Transport, *, namespace: str = "default") -> Connection:
    """Return a connection over any transport."""
    from dsgitops.adapters.kubernetes.client import Client  # noqa: PLC0415 - decoders are slow

    time = ServerTime(transport)
    return Connection(Client(time, time.now), time, namespace)
