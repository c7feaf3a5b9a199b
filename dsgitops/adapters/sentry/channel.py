"""Sentry as a channel for alerts, and its monitors for the poll loop."""

from __future__ import annotations

import logging
import math
import threading
from typing import TYPE_CHECKING

from dsgitops.adapters.sentry.event import check_in_of, event_of
from dsgitops.adapters.sentry.uplink import Uplink
from dsgitops.core.alerts import event_id
from dsgitops.core.difference import explain
from dsgitops.errors import Undelivered

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import timedelta
    from pathlib import Path

    from dsgitops.core.alerts import Alert
    from dsgitops.ports import Polled

CHECK_IN_SECONDS = 60.0
"""At most one check-in of a source in so long; less for a poll whose outcome changed."""

log = logging.getLogger("dsgitops.alerts")


class SentryChannel:
    """`ports.Channel` to one Sentry project.

    Args:
        dsn_file: Holds the DSN.
        cluster: Its name in the settings.
        environment: Sentry's.
        author: From source and commit to the author's name, "" where it is not known; may take
            its time.
    """

    name = "sentry"

    def __init__(
        self, dsn_file: Path, *, cluster: str, environment: str, author: Callable[[str, str], str]
    ) -> None:
        self._uplink = Uplink(dsn_file)
        self._cluster = cluster
        self._environment = environment
        self._author = author
        explain({}, {"": ""})  # loads deepdiff now: later it would take a turn's time

    def deliver(self, alert: Alert) -> None:
        """See `ports.Channel`."""
        author = self._author(alert.source, alert.commit) if alert.commit else ""
        event = event_of(alert, cluster=self._cluster, environment=self._environment, author=author)
        self._uplink.send(event)


class CheckIns:
    """Tells Sentry's monitors that sources are polled; best effort, on a thread of its own.

    Args:
        dsn_file: Holds the DSN.
        cluster: Its name in the settings.
        environment: Sentry's.
        intervals: Of the sources, by name.
    """

    def __init__(
        self,
        dsn_file: Path,
        *,
        cluster: str,
        environment: str,
        intervals: Mapping[str, timedelta],
    ) -> None:
        self._uplink = Uplink(dsn_file)
        self._cluster = cluster
        self._environment = environment
        self._minutes = {
            name: max(1, math.ceil(each.total_seconds() / 60)) for name, each in intervals.items()
        }
        self._changed = threading.Condition()
        self._latest: dict[str, Polled] = {}
        self._sent: dict[str, Polled] = {}
        self._thread: threading.Thread | None = None

    def polled(self, polled: Polled) -> None:
        """Take in one poll; never blocks."""
        before = self._sent.get(polled.source)
        if before is not None and not _is_due(before, polled):
            return
        self._sent[polled.source] = polled
        with self._changed:
            self._latest[polled.source] = polled
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="check-ins", daemon=True)
                self._thread.start()
            self._changed.notify()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._latest:
                    self._changed.wait()
                _, polled = self._latest.popitem()
            try:
                self._uplink.send(self._check_in(polled))
            except Undelivered as error:
                log.debug("check-in: %s", error.what)  # the next one comes in a minute
            except Exception as error:  # noqa: BLE001 - the thread must not end
                log.debug("check-in: %s", type(error).__name__)

    def _check_in(self, polled: Polled) -> dict[str, object]:
        return check_in_of(
            cluster=self._cluster,
            source=polled.source,
            ok=polled.error is None,
            seconds=polled.seconds,
            minutes=self._minutes.get(polled.source, 1),
            environment=self._environment,
            id_=event_id(self._cluster, polled.source, polled.at.isoformat()),
        )


def _is_due(before: Polled, now: Polled) -> bool:
    if (before.error is None) != (now.error is None):
        return True
    return (now.at - before.at).total_seconds() >= CHECK_IN_SECONDS * 0.9
