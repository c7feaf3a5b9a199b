"""An API server that takes connections and never answers: all of them, or one kind of request."""

from __future__ import annotations

import time

from scenarios.wire import Door
from test_process import Place

EVERYTHING = frozenset({"list", "watch", "write"})


class HangingDoor(Door):
    """Answers like the API server, but for the kinds in `hangs`; those wait until they leave it."""

    def __init__(self, world, log, lock):
        super().__init__(world, log)
        self.hangs = frozenset()
        self._lock = lock

    def handle(self, request, **options):
        self._hang(request)
        return super().handle(request, **options)

    def watch(self, request, wake):
        self._hang(request)
        return _Stream(self._world.api.watch(request, wake), self)

    def _hang(self, request):
        kind = kind_of(request)
        while kind in self.hangs:
            self._lock.release()  # held around every answer: the world goes on meanwhile
            try:
                time.sleep(0.05)
            finally:
                self._lock.acquire()


class _Stream:
    """A watch that ends when watches begin to hang: what follows it is not answered."""

    def __init__(self, stream, door):
        self._stream, self._door = stream, door

    def __getattr__(self, name):
        return getattr(self._stream, name)

    @property
    def ended(self):
        return "watch" in self._door.hangs or self._stream.ended


def kind_of(request):
    if request.method != "GET":
        return "write"
    return "watch" if request.query.get("watch") else "list"


class HangingPlace(Place):
    """A place whose API server hangs at will: `place.door.hangs`."""

    def open(self):
        self.door = HangingDoor(self.world, self.log, self.lock)
        self.server.api = self.door
        super().open()
