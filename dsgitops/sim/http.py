"""The simulated API server on a loopback port, so that kubectl and other clients can look at it.

Plain HTTP, one thread a connection, everything under one lock: the world moves only while no
request is being answered.
"""

from __future__ import annotations

import gzip
import sys
import threading
from contextlib import suppress
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Literal, cast
from urllib.parse import parse_qsl, urlsplit

import yaml

from dsgitops.ports import Request, Response

if TYPE_CHECKING:
    from pathlib import Path

    from dsgitops.ports import Stream
    from dsgitops.sim.api import ApiServer

GZIP_OVER_BYTES = 131_072
"""Bodies over this size are compressed for clients that accept it; watches never are."""

_WAIT = 1.0
"""Seconds after which a silent watch looks whether the server is to stop."""
_LARGEST_BODY = 8 * 1024 * 1024

Method = Literal["GET", "POST", "PATCH", "DELETE", "PUT"]


class HttpServer:
    """Serves an API server on 127.0.0.1.

    Args:
        api: What answers.
        lock: Held around every answer; whoever advances the world holds it too.
        port: 0 takes a free one.
    """

    def __init__(
        self, api: ApiServer, lock: threading.RLock | None = None, *, port: int = 0
    ) -> None:
        self.api = api
        self.lock = lock or threading.RLock()
        self.stopping = threading.Event()
        self._server = _Server(("127.0.0.1", port), self)
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="simulated-api", daemon=True
        )

    @property
    def url(self) -> str:
        """Return `http://127.0.0.1:PORT`."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """End open watches and stop answering; bounded."""
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5)

    def write_kubeconfig(self, path: Path) -> None:
        """Write a kubeconfig file whose only context is this server."""
        name = "simulated"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": name, "cluster": {"server": self.url}}],
            "users": [{"name": name, "user": {}}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
            "current-context": name,
        }
        path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
        path.chmod(0o600)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], owner: HttpServer) -> None:
        super().__init__(address, _Handler)
        self.owner = owner

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        """Say nothing of clients that hang up; whatever else happens is a mistake of ours."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    @property
    def _owner(self) -> HttpServer:
        return cast("_Server", self.server).owner

    def do_GET(self) -> None:
        """Answer GET, or stream a watch."""
        self._answer("GET")

    def do_POST(self) -> None:
        """Answer POST."""
        self._answer("POST")

    def do_PUT(self) -> None:
        """Answer PUT."""
        self._answer("PUT")

    def do_PATCH(self) -> None:
        """Answer PATCH."""
        self._answer("PATCH")

    def do_DELETE(self) -> None:
        """Answer DELETE."""
        self._answer("DELETE")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002, ANN401
        """Keep quiet: requests may carry secrets."""

    def date_time_string(self, timestamp: float | None = None) -> str:
        """Return header `Date`: the world's time, by which clients judge Leases and ages."""
        del timestamp
        return format_datetime(self._owner.api.clock.now(), usegmt=True)

    def _answer(self, method: Method) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        if length > _LARGEST_BODY:
            self.close_connection = True
            self._send(Response(status=413, body=b"Request entity too large"))
            return
        request = self._request(method, self.rfile.read(length))
        if method == "GET" and request.query.get("watch") in ("1", "true"):
            self._watch(request)
            return
        with self._owner.lock:
            response = self._owner.api.handle(request)
        self._send(response)

    def _request(self, method: Method, body: bytes) -> Request:
        url = urlsplit(self.path)
        return Request(
            method=method,
            path=url.path,
            query=dict(parse_qsl(url.query, keep_blank_values=True)),
            headers=dict(self.headers.items()),
            body=body,
        )

    def _send(self, response: Response) -> None:
        body, headers = response.body, dict(response.headers)
        accepts = self.headers.get("Accept-Encoding", "")
        if len(body) > GZIP_OVER_BYTES and "gzip" in accepts:
            body = gzip.compress(body, compresslevel=4)
            headers["content-encoding"] = "gzip"
        self.send_response(response.status)
        for name, value in headers.items():
            self.send_header(name.title(), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    # ------------------------------------------------------------------ watches

    def _watch(self, request: Request) -> None:
        awake = threading.Event()
        with self._owner.lock:
            stream = self._owner.api.watch(request, awake.set)
        if stream.status != 200:
            body = b"".join(stream.lines())
            self._send(Response(status=stream.status, body=body, headers=stream.headers))
            return
        self.send_response(200)
        for name, value in stream.headers.items():
            self.send_header(name.title(), value)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            self._stream(stream, awake)
        finally:
            with self._owner.lock:
                stream.close()

    def _stream(self, stream: Stream, awake: threading.Event) -> None:
        """Send what comes until the server ends the stream or the client hangs up."""
        while not self._owner.stopping.is_set():
            awake.clear()
            with self._owner.lock:
                lines, ended = stream.lines(), stream.ended
            if lines:
                data = b"".join(line + b"\n" for line in lines)
                self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
                self.wfile.flush()
            if ended:
                break
            if not lines:
                awake.wait(_WAIT)
        with suppress(OSError):
            self.wfile.write(b"0\r\n\r\n")
        self.close_connection = self._owner.stopping.is_set()
