"""An envelope sink: a Sentry that keeps what it is sent, and has every fault that servers have."""

from __future__ import annotations

import gzip
import json
import socket
import ssl
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from pace import looks


class Sink:
    """Listens on loopback.  `answers` are used up first, then every envelope is taken."""

    def __init__(self):
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                sink.take(self)

            def log_message(self, *arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.answers = []
        """(status, headers), or a number of seconds to hang."""
        self.attempts = []
        """(monotonic time, status)."""
        self.envelopes = []
        """Taken ones: (header, item header, payload, raw bytes, request headers)."""
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def dsn(self):
        return f"http://public-key@127.0.0.1:{self.server.server_port}/7"

    def take(self, request):
        raw = request.rfile.read(int(request.headers["Content-Length"]))
        if request.headers.get("Content-Encoding") == "gzip":
            raw = gzip.decompress(raw)
        answer = self.answers.pop(0) if self.answers else (200, {})
        if not isinstance(answer, tuple):
            self.attempts.append((time.monotonic(), 0))
            time.sleep(answer)
            return
        status, headers = answer
        self.attempts.append((time.monotonic(), status))
        if status == 200:
            head, item, payload = raw.split(b"\n", 2)
            found = json.loads(head), json.loads(item), json.loads(payload)
            self.envelopes.append((*found, raw, dict(request.headers)))
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("Content-Length", "0")
        request.end_headers()

    def events(self):
        """Return the events, check-ins left out."""
        return [each[2] for each in self.envelopes if each[1]["type"] == "event"]

    def check_ins(self):
        return [each[2] for each in self.envelopes if each[1]["type"] == "check_in"]

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Drip:
    """Answers every request a byte at a time, and never comes to an end.

    Args:
        pause: Seconds between two bytes.
        context: For TLS; None: it speaks HTTP.
    """

    def __init__(self, pause=0.5, context=None):
        self.pause = pause
        self.server = socket.create_server(("127.0.0.1", 0))
        if context is not None:
            self.server = context.wrap_socket(self.server, server_side=True)
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def address(self):
        return f"127.0.0.1:{self.server.getsockname()[1]}"

    @property
    def dsn(self):
        return f"http://key@{self.address}/7"

    def _serve(self):
        while True:
            try:
                client, _ = self.server.accept()
            except OSError:
                return
            threading.Thread(target=self._drip, args=(client,), daemon=True).start()

    def _drip(self, client):
        with client:
            try:
                for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 10_000:
                    client.sendall(bytes([byte]))
                    time.sleep(self.pause)
            except OSError:
                return

    def close(self):
        self.server.close()


def wait_for(condition, seconds=30.0):
    """Return whether a condition comes true in time."""
    return any(condition() for _ in looks(seconds, rest=0.01))


def certificate_of_its_own(folder):
    """Return what a server needs for a certificate that nobody vouches for."""
    key, cert = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1",
         "-subj", "/CN=localhost", "-keyout", key, "-out", cert],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context


def with_certificate_of_its_own(folder):
    """Return a sink whose certificate nobody vouches for."""
    sink = Sink()
    sink.server.socket = certificate_of_its_own(folder).wrap_socket(
        sink.server.socket, server_side=True, do_handshake_on_connect=False
    )
    return sink
