"""The server under clients that are slow, many, hostile or gone."""

from __future__ import annotations

import http.client
import socket
import threading
import time
import urllib.request

import pytest

from dsgitops.errors import UsageError
from dsgitops.web import server as module
from dsgitops.web.message import Answer, sentence
from dsgitops.web.server import CONNECTIONS_MAX, HEAD_SECONDS, Server

REQUEST = b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n"
AT_ONCE = HEAD_SECONDS / 2
"""On a starved machine too: who waits for others waits until their time is over."""


def _broken():
    raise RuntimeError("the password is hunter2")


@pytest.fixture
def server():
    pages = {
        "/page": lambda: sentence(200, "Here."),
        "/long": lambda: Answer(200, b"x" * 12_000_000),
        "/broken": _broken,
    }
    made = Server("127.0.0.1:0", pages)
    made.start()
    yield made
    made.stop()


def connect(server):
    return socket.create_connection(("127.0.0.1", server.port), timeout=30)


def answer_to(server, sent):
    """Send bytes as they are; return the status of the answer (0: hung up on) and all of it."""
    with connect(server) as client:
        client.sendall(sent)
        taken = b""
        while chunk := client.recv(65536):
            taken += chunk
    return int(taken.split()[1]) if taken else 0, taken


def probe(server):
    """Ask as a kubelet does; return the status and the seconds it took."""
    begun = time.monotonic()
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    client.request("GET", "/page", headers={"User-Agent": "kube-probe/1.36"})
    status = client.getresponse().status
    client.close()
    return status, time.monotonic() - begun


def test_pages_are_answered_and_others_are_not_there(server):
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/page?x=1", timeout=30) as answer:
        assert answer.read() == b"Here.\n"

    assert answer_to(server, REQUEST.replace(b"page", b"../etc/passwd"))[0] == 404
    assert answer_to(server, REQUEST.replace(b"page", b"page/"))[0] == 404
    assert b"/etc/passwd" not in answer_to(server, REQUEST.replace(b"page", b"../etc/passwd"))[1]


def test_only_reading_is_allowed(server):
    for method in (b"POST", b"DELETE", b"CONNECT", b"TRACE"):
        status, answer = answer_to(server, REQUEST.replace(b"GET", method))
        assert status == 405
        assert b"Allow: GET, HEAD" in answer

    status, answer = answer_to(server, REQUEST.replace(b"GET", b"HEAD"))
    assert status == 200
    assert answer.endswith(b"\r\n\r\n")


def test_a_page_that_cannot_be_made_is_told_without_its_error(server):
    status, answer = answer_to(server, REQUEST.replace(b"page", b"broken"))

    assert status == 500
    assert b"hunter2" not in answer
    assert probe(server)[0] == 200


@pytest.mark.parametrize("junk", [b"\r\n\r\n", b"hello\r\n\r\n", b"\x16\x03\x01" + b"\r\n\r\n"])
def test_junk_is_answered_400(server, junk):
    assert answer_to(server, junk)[0] == 400


def test_a_head_without_end_is_answered_431(server):
    endless = b"GET /page HTTP/1.1\r\nHost: x\r\n" + b"X-Filler: " + b"y" * 100_000

    assert answer_to(server, endless)[0] == 431
    many = b"GET /page HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 5000 + b"\r\n"
    assert answer_to(server, many)[0] == 431


def test_a_client_that_says_nothing_is_sent_away(server, monkeypatch):
    monkeypatch.setattr(module, "HEAD_SECONDS", 0.3)
    begun = time.monotonic()

    status, _ = answer_to(server, b"GET /page HT")

    assert status == 408
    assert time.monotonic() - begun < AT_ONCE


def test_a_byte_now_and_then_does_not_prolong_the_time_for_a_request(server, monkeypatch):
    monkeypatch.setattr(module, "HEAD_SECONDS", 0.5)
    begun = time.monotonic()
    with connect(server) as client:
        for byte in REQUEST:
            try:
                client.sendall(bytes([byte]))
            except OSError:
                break
            time.sleep(0.5)
        end = time.monotonic() - begun

    assert end < 8, "the whole request would take 15 s"


def test_two_hundred_slow_clients_do_not_keep_a_probe_waiting(server):
    slow = []
    for _ in range(200):
        client = connect(server)
        client.sendall(b"GET /page HTTP/1.1\r\nX-")
        slow.append(client)
    took = [probe(server) for _ in range(5)]

    assert [status for status, _ in took] == [200] * 5
    assert max(seconds for _, seconds in took) < AT_ONCE
    assert len(_talking()) <= CONNECTIONS_MAX
    for client in slow:
        client.close()


def test_clients_that_do_not_read_their_answer_do_not_keep_a_probe_waiting(server):
    deaf = []
    for _ in range(CONNECTIONS_MAX):
        client = connect(server)
        client.sendall(b"GET /long HTTP/1.1\r\nHost: x\r\n\r\n")
        deaf.append(client)
    time.sleep(0.3)

    status, seconds = probe(server)
    assert status == 200
    assert seconds < AT_ONCE
    for client in deaf:
        client.close()


def test_clients_that_hang_up_leave_nothing_behind(server):
    for sent in (b"", b"GET", REQUEST):
        for _ in range(50):
            client = connect(server)
            client.sendall(sent)
            client.close()
    end = time.monotonic() + 30
    while time.monotonic() < end and _talking():
        time.sleep(0.05)

    assert not _talking()
    assert probe(server)[0] == 200


def _talking():
    return [each for each in threading.enumerate() if each.name == "web-client"]


def test_a_port_in_use_is_an_error_with_a_way_out(server):
    with pytest.raises(UsageError) as raised:
        Server(f"127.0.0.1:{server.port}", {})

    assert f"127.0.0.1:{server.port}" in raised.value.what
    assert "in use" in raised.value.what
    assert "http.listen" in raised.value.remedy


def test_an_address_of_another_machine_is_an_error():
    with pytest.raises(UsageError):
        Server("192.0.2.1:0", {})


def test_it_ends_at_once_although_clients_are_there(server):
    client = connect(server)
    client.sendall(b"GET")
    time.sleep(0.1)
    begun = time.monotonic()

    server.stop()

    assert time.monotonic() - begun < AT_ONCE
    with pytest.raises(ConnectionRefusedError):
        connect(server)
    client.close()
