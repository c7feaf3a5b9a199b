"""Bytes to requests: what is none is told so, whatever it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsgitops.web.message import Answer, Asked, head_of, read, sentence

HOST = b"\r\nHost: agent:8080"


@pytest.mark.parametrize(
    ("head", "method", "path"),
    [
        (b"GET /healthz HTTP/1.1" + HOST, "GET", "/healthz"),
        (b"GET /metrics?name[]=up&x HTTP/1.1" + HOST, "GET", "/metrics"),
        (b"HEAD /readyz HTTP/1.0", "HEAD", "/readyz"),
        (b"PURGE /a%2e%2e/b HTTP/1.1\r\nhost:\tx\r\nAccept: */*", "PURGE", "/a%2e%2e/b"),
    ],
)
def test_a_request_is_read_as_it_was_sent(head, method, path):
    assert read(head) == Asked(method, path)


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"GET",
        b"GET /",
        b"GET  / HTTP/1.1" + HOST,
        b"GET / HTTP/2.0" + HOST,
        b"GET / HTTP/1.1",  # no host
        b"GET / HTTP/1.1" + HOST + HOST,
        b"GET http://elsewhere/ HTTP/1.1" + HOST,
        b"GET /\x00 HTTP/1.1" + HOST,
        b"GET /\xc3\xa4 HTTP/1.1" + HOST,
        b"GET / HTTP/1.1" + HOST + b"\r\n folded: yes",
        b"GET / HTTP/1.1" + HOST + b"\r\nno colon",
        b"GET / HTTP/1.1" + HOST + b"\r\nA : b",
        b"GET / HTTP/1.1" + HOST + b"\nA: b",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
    ],
)
def test_what_is_no_request_is_answered_400(head):
    answer = read(head)

    assert isinstance(answer, Answer)
    assert answer.status == 400


@given(st.binary(max_size=300))
def test_no_bytes_raise(head):
    assert read(head) is not None
    assert read(b"GET / HTTP/1.1" + HOST + b"\r\n" + head) is not None


def test_an_answer_names_neither_program_nor_version():
    head = head_of(sentence(200, "Fine.")).decode()

    assert head.endswith("\r\n\r\n")
    assert "Content-Length: 6" in head
    assert "Connection: close" in head
    assert "server" not in head.lower()
    assert "python" not in head.lower()
