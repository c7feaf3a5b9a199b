"""Which pages there are: `/healthz`, `/readyz`, `/metrics`."""

from __future__ import annotations

import threading
from datetime import timedelta
from time import monotonic
from typing import TYPE_CHECKING

from dsgitops.adapters.metrics import CONTENT_TYPE
from dsgitops.web.health import alive, ready, stand, vitals
from dsgitops.web.message import Answer, sentence
from dsgitops.web.server import Server

if TYPE_CHECKING:
    from collections.abc import Callable

    from dsgitops.runtime import Runtime
    from dsgitops.settings import Settings
    from dsgitops.web.health import Finding

FRESH_SECONDS = 1.0
"""So long a text of metrics is used again: who asks in a loop must not slow the turns down."""
WAIT_SECONDS = 5.0
"""For a page that another thread is making; it hangs only where a turn does."""
NO_SOURCE = timedelta(seconds=30)
"""The interval where nothing is polled."""


def serve(runtime: Runtime, settings: Settings) -> Server:
    """Listen on `http.listen` and answer for an agent, from now on.

    Raises:
        UsageError: The address cannot be listened on.
    """
    interval = min((each.interval for each in settings.sources), default=NO_SOURCE)
    server = Server(
        settings.http.listen,
        {
            "/healthz": lambda: health(alive(vitals(runtime, interval))),
            "/readyz": lambda: health(ready(stand(runtime))),
            "/metrics": Reused(lambda: Answer(200, runtime.metrics.text(), CONTENT_TYPE)),
        },
    )
    server.start()
    return server


def health(found: Finding) -> Answer:
    """Return 200 or 503, and the sentence that says why."""
    return sentence(200 if found.well else 503, found.why)


class Reused:
    """A page that is made at most once a second, and by one thread at a time.

    Args:
        make: Makes it.
    """

    def __init__(self, make: Callable[[], Answer]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._made: tuple[float, Answer] | None = None

    def __call__(self) -> Answer:
        """Return the page; 503 where another thread does not come to an end with it."""
        if not self._lock.acquire(timeout=WAIT_SECONDS):
            return sentence(503, "This page takes too long to make.")
        try:
            if self._made is None or monotonic() - self._made[0] > FRESH_SECONDS:
                self._made = monotonic(), self._make()
            return self._made[1]
        finally:
            self._lock.release()
