"""A server for a few small pages that slow, hostile or many clients cannot hold.

One request a connection, a thread for each connection, and never more than `CONNECTIONS_MAX`: when
another comes, the one that has been open for longest is hung up on.  A client that sends a byte a
second so loses to a probe, which is done in a millisecond.
"""

from __future__ import annotations

import logging
import socket
import threading
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING

from dsgitops.errors import UsageError
from dsgitops.web.message import HEAD_BYTES_MAX, Answer, Asked, head_of, read, sentence

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Page = Callable[[], Answer]

log = logging.getLogger(__name__)

CONNECTIONS_MAX = 32
"""Kubelet, a few Prometheus servers and people; each costs a thread while it lasts."""
HEAD_SECONDS = 5.0
"""For the request as a whole, not from byte to byte."""
ANSWER_SECONDS = 10.0
"""For the answer as a whole."""
EVICTION_SECONDS = 1.0
"""For the thread of a connection that was hung up on to end, and for what a client still says after
its answer."""
BACKLOG = 512
"""Connections that wait to be taken; over that the kernel lets a client try again in a second."""
ACCEPT_PAUSE_SECONDS = 0.1
"""After a connection could not be taken (no file handle is left)."""
_LEFTOVER_BYTES_MAX = 65536


class Server:
    """Serves pages from threads of its own, from `start` on.

    Args:
        listen: `host:port`; no host is all interfaces, port 0 takes a free one.
        pages: By path.

    Raises:
        UsageError: The address cannot be listened on.
    """

    def __init__(self, listen: str, pages: Mapping[str, Page]) -> None:
        self._pages = pages
        self._listener = _listener(listen)
        self.port: int = self._listener.getsockname()[1]
        """The port that is listened on."""
        self._free = threading.BoundedSemaphore(CONNECTIONS_MAX)
        self._lock = threading.Lock()
        self._open: dict[socket.socket, None] = {}
        """Connections, the oldest first."""
        self._closed = False
        self._thread = threading.Thread(target=self._accept, name="web", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Hang up on everybody and stop answering; returns within a second."""
        self._closed = True
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for each in self._open:
                _hang_up(each)
        if self._thread.is_alive():
            self._thread.join(1.0)

    # -------------------------------------------------------------------- connections

    def _accept(self) -> None:
        while not self._closed:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                if not self._closed:
                    threading.Event().wait(ACCEPT_PAUSE_SECONDS)
                continue
            if not self._make_room():
                connection.close()
                continue
            with self._lock:
                self._open[connection] = None
            self._begin(connection)

    def _begin(self, connection: socket.socket) -> None:
        work = threading.Thread(
            target=self._converse, args=(connection,), name="web-client", daemon=True
        )
        try:
            work.start()
        except RuntimeError:  # no thread can be started: the next client may have more luck
            self._end(connection)

    def _make_room(self) -> bool:
        """Take a place for a connection; hang up on the oldest where all are taken."""
        if self._free.acquire(blocking=False):
            return True
        with self._lock:
            oldest = next(iter(self._open), None)
            if oldest is not None:
                _hang_up(oldest)
        return self._free.acquire(timeout=EVICTION_SECONDS)

    def _converse(self, connection: socket.socket) -> None:
        try:
            with suppress(OSError):
                self._answer(connection)
        finally:
            self._end(connection)

    def _end(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.pop(connection, None)
        connection.close()
        self._free.release()

    # -------------------------------------------------------------------- one request

    def _answer(self, connection: socket.socket) -> None:
        head = _head(connection)
        if head is None:
            return
        asked = read(head) if isinstance(head, bytes) else head
        answer = self._page(asked) if isinstance(asked, Asked) else asked
        connection.settimeout(ANSWER_SECONDS)
        connection.sendall(head_of(answer))
        if not (isinstance(asked, Asked) and asked.method == "HEAD"):
            connection.sendall(answer.body)
        connection.shutdown(socket.SHUT_WR)
        if not isinstance(asked, Asked):
            _drain(connection)

    def _page(self, asked: Asked) -> Answer:
        page = self._pages.get(asked.path)
        if page is None:
            return sentence(404, "There is no such page.")
        if asked.method not in ("GET", "HEAD"):
            answer = sentence(405, "This page can only be read.")
            return Answer(answer.status, answer.body, allow="GET, HEAD")
        try:
            return page()
        except Exception as error:  # noqa: BLE001 - the top of a thread: a fault here must be seen
            # The type only: an unknown error's text may hold anything.
            log.error("page %s ended with %s", asked.path, type(error).__name__)  # noqa: TRY400
            return sentence(500, "This page cannot be made; the log says more.")


def _head(connection: socket.socket) -> bytes | Answer | None:
    """Return a request's head without its end; an answer where it is too long or too slow.

    None: the client hung up.
    """
    ends = monotonic() + HEAD_SECONDS
    taken = b""
    while (end := taken.find(b"\r\n\r\n")) < 0:
        if len(taken) > HEAD_BYTES_MAX:
            return sentence(431, f"A request may have {HEAD_BYTES_MAX} bytes before its body.")
        left = ends - monotonic()
        if left <= 0:
            return sentence(408, f"The request was not there within {HEAD_SECONDS:g} s.")
        connection.settimeout(left)
        try:
            chunk = connection.recv(HEAD_BYTES_MAX)
        except TimeoutError:
            continue
        if not chunk:
            return None
        taken += chunk
    if end > HEAD_BYTES_MAX:
        return sentence(431, f"A request may have {HEAD_BYTES_MAX} bytes before its body.")
    return taken[:end]


def _drain(connection: socket.socket) -> None:
    """Read some of what is still coming: closing on unread bytes would destroy the answer."""
    ends = monotonic() + EVICTION_SECONDS
    left = _LEFTOVER_BYTES_MAX
    while left > 0 and (wait := ends - monotonic()) > 0:
        connection.settimeout(wait)
        chunk = connection.recv(8192)
        if not chunk:
            return
        left -= len(chunk)


def _hang_up(connection: socket.socket) -> None:
    """Wake the thread that reads or writes it; that thread closes it."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _listener(listen: str) -> socket.socket:
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, int(port)), family=family, backlog=BACKLOG)
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "is no host name"
        raise UsageError(
            f"cannot listen on {listen} ({why})", remedy="set http.listen to another address"
        ) from None
