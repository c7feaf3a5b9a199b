"""One attempt to deliver something, which ends: a deadline over every connection it opens.

A server that answers in drops keeps to each single timeout of a client library for ever.  What
all these libraries have in common is that they connect sockets, which Python tells its audit hooks.
"""

from __future__ import annotations

import functools
import socket
import sys
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from dsgitops.errors import Undelivered

if TYPE_CHECKING:
    from collections.abc import Generator

_AGAIN_SECONDS = 1.0
"""A connection that was being opened at the deadline is broken so soon after it."""


class _Attempt:
    """What is opened in one block."""

    def __init__(self) -> None:
        self.handles: list[socket.socket] = []
        """Duplicates: TLS takes the originals."""
        self.done = threading.Event()
        self.over = False

    def watch(self, seconds: float) -> None:
        while not self.done.wait(_AGAIN_SECONDS if self.over else seconds):
            self.over = True
            for each in tuple(self.handles):
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)


class _Thread(threading.local):
    """What holds for the thread that attempts."""

    attempt: _Attempt | None = None


_here = _Thread()


def _heard(event: str, arguments: tuple[object, ...]) -> None:
    """Note a socket of this thread's attempt before it is connected; none is after the deadline."""
    attempt = _here.attempt
    if event != "socket.connect" or attempt is None:
        return
    if attempt.over:
        raise TimeoutError
    opened = arguments[0]
    assert isinstance(opened, socket.socket), "Python's list of audit events says so"
    attempt.handles.append(socket.fromfd(opened.fileno(), opened.family, opened.type))


@functools.cache
def _listen() -> None:
    """Hear of connections: once, and for as long as the process lives."""
    sys.addaudithook(_heard)


@contextmanager
def in_time(seconds: float) -> Generator[None]:
    """Break the connections that this thread opens in the block when its time is over.

    Raises:
        Undelivered: It was over, whatever came of the block: half an answer may say 200.
    """
    _listen()
    attempt = _here.attempt = _Attempt()
    watcher = threading.Thread(target=attempt.watch, args=(seconds,), name="attempt", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        _here.attempt = None
        attempt.done.set()
        watcher.join()
        for each in attempt.handles:
            each.close()
        if attempt.over:
            raise Undelivered("no answer in time") from None
