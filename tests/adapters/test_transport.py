"""The transport over real sockets: loopback servers that hang, reset, drip and lie."""

from __future__ import annotations

import gzip
import http.server
import json
import shutil
import socket
import ssl
import subprocess
import threading
import time
from dataclasses import dataclass, field, replace

import pytest
import yaml
from kubernetes.client import configuration
from kubernetes.config import incluster_config

from dsgitops.adapters.kubernetes import transport as module
from dsgitops.adapters.kubernetes.transport import BACKLOG_BYTES_MAX, connect
from dsgitops.errors import ClusterUnreachable, UsageError
from dsgitops.ports import Request

GET = Request(method="GET", path="/apis/apps/v1/daemonsets", query={"limit": "2"}, timeout=30)
PATCH = Request(method="PATCH", path="/apis/apps/v1/x", body=b"{}", timeout=30)
SOON = 0.5
"""The timeout of a request that hangs."""
HANGS = 20.0
"""Seconds; nobody waits for half of it, however full the machine is."""


@dataclass
class Server:
    """A loopback server; `answer` is what it does with each request."""

    url: str
    seen: list = field(default_factory=list)
    answer: object = None


@pytest.fixture
def server():
    state = Server(url="")

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self):
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            state.seen.append((self.command, self.path, dict(self.headers), body))
            state.answer(self, len(state.seen))

        do_GET = do_PATCH = handle_any  # noqa: N815 - as http.server calls them

        def log_message(self, *_):
            pass

    listener = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listener.daemon_threads = True
    threading.Thread(target=listener.serve_forever, args=(0.05,), daemon=True).start()
    state.url = f"http://127.0.0.1:{listener.server_port}"
    state.listener = listener
    yield state
    listener.shutdown()
    listener.server_close()


def say(handler, status=200, body=b"{}", **headers):
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body)))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def chunk(handler, data):
    handler.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
    handler.wfile.flush()


def start_chunks(handler, status=200):
    handler.send_response(status)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()


def kubeconfig(tmp_path, url, user=None, cluster=None, name="config"):
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [
            {"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "logging"}}
        ],
        "clusters": [{"name": "c", "cluster": {"server": url, **(cluster or {})}}],
        "users": [{"name": "u", "user": user or {"token": "first"}}],
    }
    path = tmp_path / name
    path.write_text(yaml.safe_dump(content))
    return str(path)


def to(server, tmp_path, **user):
    return connect(kubeconfig(tmp_path, server.url, user or None), environ={})


def wait_until(true, seconds=30.0):
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends, "it did not happen in time"
        time.sleep(0.01)


# ---------------------------------------------------------------------------- one answer


def test_a_request_carries_query_token_and_asks_for_gzip(server, tmp_path):
    server.answer = lambda handler, _: say(handler, body=b'{"kind":"List"}', X_Seen="yes")

    response = to(server, tmp_path).send(GET)

    assert (response.status, response.body) == (200, b'{"kind":"List"}')
    assert response.headers["x-seen"] == "yes"
    command, path, headers, _ = server.seen[0]
    assert (command, path) == ("GET", "/apis/apps/v1/daemonsets?limit=2")
    assert headers["authorization"] == "Bearer first"
    assert headers["accept-encoding"] == "gzip"


def test_proxies_are_looked_for_at_the_start_and_not_for_each_request(
    server, tmp_path, monkeypatch
):
    server.answer = lambda handler, _: say(handler)
    looked = []
    transport = to(server, tmp_path)
    monkeypatch.setattr(configuration, "getproxies", lambda: looked.append("again") or {})

    transport.send(GET)

    assert len(server.seen) == 1
    assert not looked


def test_a_compressed_answer_is_read(server, tmp_path):
    body = json.dumps({"items": ["x" * 100] * 5000}).encode()
    server.answer = lambda handler, _: say(
        handler, body=gzip.compress(body), Content_Encoding="gzip"
    )

    assert to(server, tmp_path).send(GET).body == body


def test_every_status_is_an_answer(server, tmp_path):
    server.answer = lambda handler, n: say(handler, status=(429, 409, 302, 500)[n - 1])
    transport = to(server, tmp_path)

    assert [transport.send(GET).status for _ in range(4)] == [429, 409, 302, 500]


def test_a_refused_connection_certainly_had_no_effect(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    transport = connect(kubeconfig(tmp_path, url), environ={})

    with pytest.raises(ClusterUnreachable) as caught:
        transport.send(PATCH)

    assert caught.value.landed is False
    assert "no connection" in caught.value.what


def test_a_name_without_address_certainly_had_no_effect(tmp_path):
    config = kubeconfig(tmp_path, "https://nowhere.invalid:6443")

    with pytest.raises(ClusterUnreachable) as caught:
        connect(config, environ={}).send(PATCH)

    assert caught.value.landed is False
    assert "DNS" in caught.value.remedy


def test_a_write_without_answer_may_have_landed(server, tmp_path):
    server.answer = lambda handler, _: time.sleep(HANGS)
    begun = time.monotonic()

    with pytest.raises(ClusterUnreachable) as caught:
        to(server, tmp_path).send(replace(PATCH, timeout=SOON))

    assert caught.value.landed is None
    assert "in time" in caught.value.what
    assert time.monotonic() - begun < HANGS / 2


def test_a_write_whose_connection_dies_is_not_sent_again(server, tmp_path):
    server.answer = lambda handler, _: handler.connection.shutdown(socket.SHUT_RDWR)

    with pytest.raises(ClusterUnreachable) as caught:
        to(server, tmp_path).send(PATCH)

    assert caught.value.landed is None
    assert len(server.seen) == 1


def test_a_read_whose_connection_dies_is_sent_once_more(server, tmp_path):
    def answer(handler, n):
        if n == 1:
            handler.connection.shutdown(socket.SHUT_RDWR)
        else:
            say(handler)

    server.answer = answer

    assert to(server, tmp_path).send(GET).status == 200
    assert len(server.seen) == 2


def test_a_read_that_dies_twice_is_told(server, tmp_path):
    server.answer = lambda handler, _: handler.connection.shutdown(socket.SHUT_RDWR)

    with pytest.raises(ClusterUnreachable, match="closed the connection"):
        to(server, tmp_path).send(GET)

    assert len(server.seen) == 2


def test_half_an_answer_is_none(server, tmp_path):
    def answer(handler, _):
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b'{"items":[')
        handler.wfile.flush()
        handler.connection.shutdown(socket.SHUT_RDWR)

    server.answer = answer

    with pytest.raises(ClusterUnreachable):
        to(server, tmp_path).send(GET)


def test_an_answer_that_drips_for_ever_is_given_up(server, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ANSWER_SECONDS_MAX", 0.4)

    def answer(handler, _):
        start_chunks(handler)
        for _ in range(400):
            chunk(handler, b" ")
            time.sleep(HANGS / 400)

    server.answer = answer
    begun = time.monotonic()

    with pytest.raises(ClusterUnreachable, match="in time"):
        to(server, tmp_path).send(GET)

    assert time.monotonic() - begun < HANGS / 2


def test_error_texts_hold_neither_token_nor_body(server, tmp_path):
    server.answer = lambda handler, _: handler.connection.shutdown(socket.SHUT_RDWR)
    secret = Request(method="PATCH", path="/x", query={"q": "canary-q"}, body=b"canary-body")

    with pytest.raises(ClusterUnreachable) as caught:
        to(server, tmp_path, token="canary-token").send(secret)

    told = f"{caught.value} {caught.value.what} {caught.value.remedy} {caught.value.__cause__}"
    assert "canary" not in told


# ---------------------------------------------------------------------------- credentials


def test_a_rotated_token_file_is_read_again_after_a_401(server, tmp_path):
    token = tmp_path / "token"
    token.write_text("old")

    def answer(handler, _):
        fresh = handler.headers["authorization"] == "Bearer new"
        say(handler, status=200 if fresh else 401)

    server.answer = answer
    transport = to(server, tmp_path, tokenFile=str(token))
    token.write_text("new")

    assert transport.send(PATCH).status == 200
    assert len(server.seen) == 2


def test_credentials_that_stay_refused_are_not_read_in_a_loop(server, tmp_path):
    server.answer = lambda handler, _: say(handler, status=401)
    transport = to(server, tmp_path)

    assert [transport.send(GET).status for _ in range(3)] == [401, 401, 401]
    assert len(server.seen) == 4, "one renewal for all three"


def test_a_watch_renews_its_credentials_too(server, tmp_path):
    token = tmp_path / "token"
    token.write_text("old")

    def answer(handler, _):
        fresh = handler.headers["authorization"] == "Bearer new"
        say(handler, status=200 if fresh else 401, body=b'{"type":"BOOKMARK"}\n')

    server.answer = answer
    transport = to(server, tmp_path, tokenFile=str(token))
    token.write_text("new")
    stream = transport.open(GET, lambda: None)
    lines = []
    wait_until(lambda: lines.extend(stream.lines()) or stream.ended)

    assert stream.status == 200
    assert lines == [b'{"type":"BOOKMARK"}']


# ---------------------------------------------------------------------------- which cluster


def test_the_clusters_are_looked_for_in_order(tmp_path):
    flag = kubeconfig(tmp_path, "https://flag.example:6443", name="a")
    variable = kubeconfig(tmp_path, "https://variable.example", name="b")
    around = {"KUBECONFIG": variable}

    assert connect(flag, environ=around).host == "flag.example:6443"
    assert connect(environ=around).host == "variable.example"
    with pytest.raises(UsageError, match="no cluster"):
        connect(environ={})
    with pytest.raises(UsageError, match="service account"):
        connect(environ={"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"})


def test_the_kubeconfig_says_the_namespace(tmp_path):
    assert connect(kubeconfig(tmp_path, "https://a.example"), environ={}).namespace == "logging"


@pytest.mark.parametrize("content", ["[1, 2]", "a: {b: c}", "}{", "", "contexts: 5"])
def test_a_file_of_the_wrong_shape_is_told_not_thrown(tmp_path, content):
    path = tmp_path / "config"
    path.write_text(content)

    with pytest.raises(UsageError, match="kubeconfig"):
        connect(str(path), environ={})


def test_a_missing_file_and_a_missing_context_are_told(tmp_path):
    with pytest.raises(UsageError, match="kubeconfig"):
        connect(str(tmp_path / "none"), environ={})
    with pytest.raises(UsageError, match="kubeconfig"):
        connect(kubeconfig(tmp_path, "https://a.example"), context="elsewhere", environ={})


def test_unverified_servers_are_refused_unless_on_loopback_or_allowed(tmp_path):
    skip = {"insecure-skip-tls-verify": True}
    far = kubeconfig(tmp_path, "https://10.1.2.3:6443", cluster=skip, name="far")
    plain = kubeconfig(tmp_path, "http://10.1.2.3:8080", name="plain")
    near = kubeconfig(tmp_path, "https://127.0.0.1:6443", cluster=skip, name="near")

    for config in (far, plain):
        with pytest.raises(UsageError, match="not be verified"):
            connect(config, environ={})
        assert connect(config, insecure=True, environ={}).host.startswith("10.1.2.3")
    assert connect(near, environ={}).host == "127.0.0.1:6443"


def exec_user(tmp_path, prints):
    program = tmp_path / "plugin"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{prints}\nEND\n")
    program.chmod(0o755)
    return {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": str(program),
            "interactiveMode": "Never",
        }
    }


def test_an_exec_plugin_gives_the_token_but_not_inside_a_cluster(server, tmp_path):
    prints = json.dumps(
        {
            "apiVersion": "client.authentication.k8s.io/v1",
            "kind": "ExecCredential",
            "status": {"token": "from-plugin"},
        }
    )
    config = kubeconfig(tmp_path, server.url, exec_user(tmp_path, prints))
    server.answer = lambda handler, _: say(handler)

    connect(config, environ={}).send(GET)

    assert server.seen[0][2]["authorization"] == "Bearer from-plugin"
    with pytest.raises(UsageError, match="exec"):
        connect(config, environ={"KUBERNETES_SERVICE_HOST": "10.0.0.1"})


def test_an_exec_plugin_that_gives_nothing_is_told(tmp_path):
    config = kubeconfig(tmp_path, "https://a.example", exec_user(tmp_path, "nonsense"))

    with pytest.raises(UsageError, match="gave no credentials"):
        connect(config, environ={})


# ---------------------------------------------------------------------------- watches


def test_a_watch_brings_whole_lines_as_they_come_and_then_ends(server, tmp_path):
    go_on = threading.Event()

    def answer(handler, _):
        start_chunks(handler)
        chunk(handler, b'{"n":1}\n{"n":2}\n{"n"')
        go_on.wait(30)
        chunk(handler, b":3}\n")
        chunk(handler, b"")

    server.answer = answer
    woken = []
    stream = to(server, tmp_path).open(GET, lambda: woken.append(1))
    lines = []

    wait_until(lambda: lines.extend(stream.lines()) or len(lines) == 2)
    assert (lines, stream.ended, stream.status) == ([b'{"n":1}', b'{"n":2}'], False, 200)
    go_on.set()
    wait_until(lambda: lines.extend(stream.lines()) or stream.ended)
    assert lines[2:] == [b'{"n":3}']
    assert len(woken) >= 3


def test_half_a_line_of_a_dying_watch_is_dropped(server, tmp_path):
    def answer(handler, _):
        start_chunks(handler)
        chunk(handler, b'{"n":1}\n{"n":2')
        handler.connection.shutdown(socket.SHUT_RDWR)

    server.answer = answer
    stream = to(server, tmp_path).open(GET, lambda: None)
    lines = []
    wait_until(lambda: lines.extend(stream.lines()) or stream.ended)

    assert lines == [b'{"n":1}']


def test_a_refused_watch_shows_status_headers_and_body(server, tmp_path):
    server.answer = lambda handler, _: say(
        handler, status=429, body=b'{"kind":"Status"}', Retry_After="3"
    )
    stream = to(server, tmp_path).open(GET, lambda: None)
    wait_until(lambda: stream.status == 429)
    body = []
    wait_until(lambda: body.extend(stream.lines()) or stream.ended)

    assert stream.headers["retry-after"] == "3"
    assert body == [b'{"kind":"Status"}']


def test_a_half_open_watch_ends_by_its_read_timeout(server, tmp_path):
    def answer(handler, _):
        start_chunks(handler)
        chunk(handler, b'{"n":1}\n')
        time.sleep(HANGS)

    server.answer = answer
    stream = to(server, tmp_path).open(replace(GET, timeout=SOON), lambda: None)
    begun = time.monotonic()
    lines = []
    wait_until(lambda: lines.extend(stream.lines()) or stream.ended)

    assert lines == [b'{"n":1}']
    assert time.monotonic() - begun < HANGS / 2


def test_an_unreachable_watch_ends_without_status(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    stream = connect(kubeconfig(tmp_path, url), environ={}).open(GET, lambda: None)
    wait_until(lambda: stream.ended)

    assert (stream.status, stream.lines()) == (0, [])


def test_hanging_up_returns_at_once_and_ends_the_thread(server, tmp_path):
    def answer(handler, _):
        start_chunks(handler)
        chunk(handler, b'{"n":1}\n')
        time.sleep(HANGS)

    server.answer = answer
    silent = Request(method="GET", path="/w", timeout=60)
    before = threading.active_count()
    stream = to(server, tmp_path).open(silent, lambda: None)
    wait_until(lambda: stream.status == 200)

    begun = time.monotonic()
    stream.close()
    stream.close()
    assert time.monotonic() - begun < HANGS / 2
    assert stream.ended
    wait_until(lambda: not any(t.name == "watch" for t in threading.enumerate()), HANGS / 2)
    assert threading.active_count() <= before + 2


def test_a_watch_that_nobody_reads_stops_reading(server, tmp_path):
    line = b"x" * 65535 + b"\n"
    sent = []

    def answer(handler, _):
        start_chunks(handler)
        for _ in range(1000):  # 64 MiB
            chunk(handler, line)
            sent.append(len(line))
        chunk(handler, b"")

    server.answer = answer
    stream = to(server, tmp_path).open(Request(method="GET", path="/w"), lambda: None)
    wait_until(lambda: sum(sent) > BACKLOG_BYTES_MAX)
    time.sleep(0.3)
    held = sum(sent)
    time.sleep(0.2)

    assert held < 4 * BACKLOG_BYTES_MAX
    assert sum(sent) == held, "the server is held back"
    total = []
    wait_until(lambda: total.extend(map(len, stream.lines())) or stream.ended)
    assert sum(total) == 1000 * (len(line) - 1)


# ---------------------------------------------------------------------------- TLS


@pytest.fixture
def tls(server, tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    server.listener.socket = context.wrap_socket(server.listener.socket, server_side=True)
    server.url = server.url.replace("http:", "https:")
    server.ca = str(cert)
    return server


def test_a_trusted_server_is_talked_to_over_tls(tls, tmp_path):
    tls.answer = lambda handler, _: say(handler)
    config = kubeconfig(tmp_path, tls.url, cluster={"certificate-authority": tls.ca})

    assert connect(config, environ={}).send(PATCH).status == 200


def test_an_untrusted_certificate_sends_nothing(tls, tmp_path):
    tls.answer = lambda handler, _: say(handler)

    with pytest.raises(ClusterUnreachable) as caught:
        connect(kubeconfig(tmp_path, tls.url), environ={}).send(PATCH)

    assert caught.value.landed is False
    assert "not trusted" in caught.value.what
    assert tls.seen == []


def test_hanging_up_on_tls_ends_the_thread_too(tls, tmp_path):
    def answer(handler, _):
        start_chunks(handler)
        chunk(handler, b'{"n":1}\n')
        time.sleep(3)

    tls.answer = answer
    config = kubeconfig(tmp_path, tls.url, cluster={"certificate-authority": tls.ca})
    stream = connect(config, environ={}).open(
        Request(method="GET", path="/w", timeout=60), lambda: None
    )
    wait_until(lambda: stream.status == 200)
    stream.close()

    wait_until(lambda: not any(t.name == "watch" for t in threading.enumerate()), HANGS / 2)


def test_a_tls_handshake_that_hangs_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CONNECT_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        config = kubeconfig(tmp_path, f"https://127.0.0.1:{deaf.getsockname()[1]}")
        begun = time.monotonic()

        with pytest.raises(ClusterUnreachable):
            connect(config, environ={}).send(PATCH)

        assert time.monotonic() - begun < HANGS / 2


def test_inside_a_cluster_the_service_account_is_used_and_its_token_may_rotate(
    tls, tmp_path, monkeypatch
):
    account = tmp_path / "account"
    account.mkdir()
    (account / "token").write_text("old\n")
    (account / "namespace").write_text("dsgitops-system\n")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(account / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", tls.ca)
    monkeypatch.setattr(module, "SERVICE_ACCOUNT", account)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", tls.url.rpartition(":")[2])
    monkeypatch.delenv("KUBECONFIG", raising=False)

    def answer(handler, _):
        fresh = handler.headers["authorization"] == "bearer new"
        say(handler, status=200 if fresh else 401)

    tls.answer = answer
    transport = connect()
    (account / "token").write_text("new\n")

    assert transport.send(GET).status == 200
    assert transport.namespace == "dsgitops-system"
    assert tls.seen[0][2]["authorization"] == "bearer old"
