"""Requests as bytes to values, answers as values to bytes: as much of HTTP/1.1 as is needed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus

HEAD_BYTES_MAX = 8192
"""Of request line and header fields together; a probe's has some 200."""

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_LINE = re.compile(rb"(" + _TOKEN + rb") (/[!-~]*) HTTP/1\.([01])")
_FIELD = re.compile(rb"(" + _TOKEN + rb"):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that can be answered."""

    method: str
    path: str
    """Without the query, as it was sent: nothing is decoded."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent back; the connection is closed after it."""

    status: int
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    allow: str = ""
    """Methods that would have been answered, for 405."""


def sentence(status: int, text: str) -> Answer:
    """Return a sentence as an answer."""
    return Answer(status, f"{text}\n".encode())


def read(head: bytes) -> Asked | Answer:
    """Read a request's head; an `Answer` (400) where it is none.

    Args:
        head: Request line and header fields, without the empty line after them.
    """
    first, *rest = head.split(b"\r\n")
    line = _LINE.fullmatch(first)
    fields = [_FIELD.fullmatch(each) for each in rest]
    if line is None or not all(fields):
        return sentence(400, "This is no HTTP/1.1 request.")
    hosts = sum(each is not None and each[1].lower() == b"host" for each in fields)
    if hosts > 1 or (line[3] == b"1" and hosts == 0):
        return sentence(400, "The request names no host, or several.")
    return Asked(line[1].decode(), line[2].partition(b"?")[0].decode())


def head_of(answer: Answer) -> bytes:
    """Return what is sent before an answer's body; it names neither program nor version."""
    lines = [
        f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}",
        f"Content-Type: {answer.content_type}",
        f"Content-Length: {len(answer.body)}",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        "Connection: close",
    ]
    if answer.allow:
        lines.append(f"Allow: {answer.allow}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n"
