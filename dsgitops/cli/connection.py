"""From the flags of a command to a cluster, with the person's own kubeconfig and rights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from datetime import datetime

    from dsgitops.adapters.kubernetes.client import Client
    from dsgitops.ports import Clock, Transport

Kubeconfig = Annotated[
    str | None,
    typer.Option(
        "--kubeconfig", metavar="FILE", help="kubeconfig [default: KUBECONFIG, ~/.kube/config]"
    ),
]
Context = Annotated[
    str | None, typer.Option("--context", metavar="NAME", help="context of the kubeconfig")
]


@dataclass(frozen=True, slots=True)
class Connection:
    """One cluster, as one person sees it."""

    client: Client
    clock: Clock
    """As the cluster has it."""
    host: str
    """The API server's, for people."""
    namespace: str
    """Where the person works: `-n` where it is not given."""

    def now(self) -> datetime:
        """Return the time of the cluster, aware, in UTC."""
        return self.clock.now()


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
    from dsgitops.adapters.clock import ClusterClock, Dated  # noqa: PLC0415
    from dsgitops.adapters.kubernetes.client import Client  # noqa: PLC0415 - decoders are slow

    clock = ClusterClock()
    client = Client(Dated(transport, clock), clock.now)
    return Connection(client, clock, transport.host, namespace)
