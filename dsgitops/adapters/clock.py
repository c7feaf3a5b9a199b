"""The machine's clock, as `ports.Clock`; put right by the API server's where they differ."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dsgitops.ports import Request, Response, Stream, Transport, Wake

_SLACK = timedelta(seconds=1)
"""Clocks that agree on the second agree: a correction that flickers is worse than none."""


class SystemClock:
    """Wall time in UTC, and seconds that never jump."""

    def now(self) -> datetime:
        """Return the time, aware, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds since some moment; a suspended machine may not count them."""
        return time.monotonic()


class ClusterClock(SystemClock):
    """Wall time as the cluster has it, as far as its answers told it, else the machine's.

    Leases, suspensions and Ready transitions are by clocks of the cluster: with a clock that is an
    hour ahead a pod that was made just now is an hour late.
    """

    def __init__(self) -> None:
        self._ahead = timedelta()

    def now(self) -> datetime:
        """Return the time, aware, in UTC."""
        return super().now() + self._ahead

    def heard(self, date: str, sent: datetime, received: datetime) -> None:
        """Take in the `Date` of an answer.

        Args:
            date: As the header has it; empty or unreadable: nothing is learned.
            sent: When the request was sent, by the machine's clock.
            received: When its answer was read, by the same.
        """
        try:
            said = parsedate_to_datetime(date)
        except (ValueError, TypeError):
            return
        if said.tzinfo is not None:
            self._ahead = correction(self._ahead, said, sent, received)


def correction(held: timedelta, said: datetime, sent: datetime, received: datetime) -> timedelta:
    """Return how far the cluster is ahead of the machine: what was held, where that can be right.

    The server's clock showed `said` (whole seconds, rounded down) at some moment of the request.
    """
    least, most = said - received - _SLACK, said - sent + 2 * _SLACK
    if least > most or least <= held <= most:  # the machine's clock was set back meanwhile
        return held
    return timedelta() if least <= timedelta() <= most else least + (most - least) / 2


class Dated:
    """`ports.Transport` whose answers set a clock.

    Args:
        transport: What is asked.
        clock: Told the `Date` of each answer.
    """

    def __init__(self, transport: Transport, clock: ClusterClock) -> None:
        self._transport = transport
        self._clock = clock
        self.host = transport.host
        self.namespace = str(getattr(transport, "namespace", ""))
        """Of the kubeconfig; empty: not known."""

    def send(self, request: Request) -> Response:
        """See `ports.Transport`."""
        sent = datetime.now(UTC)
        response = self._transport.send(request)
        self._clock.heard(response.headers.get("date", ""), sent, datetime.now(UTC))
        return response

    def open(self, request: Request, wake: Wake) -> Stream:
        """See `ports.Transport`."""
        return self._transport.open(request, wake)
