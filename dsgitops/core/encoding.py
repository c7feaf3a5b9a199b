"""From a blob's bytes to text: what is no manifest text is named for what it is."""

from __future__ import annotations

import re

from dsgitops.core.model import Problem

SIZE_MAX = 4 * 1024 * 1024
"""Bytes of one file.  The API server takes objects of 1.5 MB; a file may hold a few."""

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")
_BIDI = re.compile("[\u202a-\u202e\u2066-\u2069]")
_CONFLICT = re.compile(r"^(<{7}|\|{7}|>{7})( |$)", re.MULTILINE)
_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
_WIDE = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")


def text_of(data: bytes, *, path: str) -> str | Problem:
    """Return the text of a file, or why it is none.

    Args:
        data: The blob, whole.
        path: For the problem.
    """
    if len(data) > SIZE_MAX:
        what = f"is larger than {SIZE_MAX:,} bytes, and is not read"
        remedy = "split it; generated bundles belong outside of the source's path"
        return _whole(path, "file-too-large", what, remedy)
    if data.startswith(b"version https://git-lfs.github.com/spec/"):
        remedy = "keep manifests in Git as they are: remove the path from .gitattributes"
        return _whole(path, "lfs-pointer", "is a Git LFS pointer, not the file itself", remedy)
    if data.startswith(_WIDE) or data[:64].count(0) * 3 > len(data[:64]) > 1:
        return _whole(path, "encoding", "looks like UTF-16 or UTF-32", "save it as UTF-8")
    if data.startswith(b"\xef\xbb\xbf"):
        return _whole(path, "byte-order-mark", "begins with a byte order mark",
                      "save it as UTF-8 without one")  # fmt: skip
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8")
        return _at(path, before, len(before), "encoding", "a byte that is no UTF-8",
                   "save it as UTF-8; it may be Latin-1")  # fmt: skip
    return _odd(text, path) or text


def place(text: str, offset: int) -> tuple[int, int]:
    """Return line and column, both from 1, of the character at `offset`."""
    breaks = [found.end() for found in _BREAK.finditer(text, 0, offset)]
    return len(breaks) + 1, offset - (breaks[-1] if breaks else 0) + 1


def _odd(text: str, path: str) -> Problem | None:
    control = _CONTROL.search(text)
    if control:
        return _at(path, text, control.start(), "control-character",
                   f"control character U+{ord(control[0]):04X}",
                   "remove it; in double quotes it can be written as an escape")  # fmt: skip
    bidi = _BIDI.search(text)
    if bidi:
        return _at(path, text, bidi.start(), "suspicious-unicode",
                   f"U+{ord(bidi[0]):04X} changes the direction of text: what one reads here is "
                   "not what runs", "remove it")  # fmt: skip
    conflict = _CONFLICT.search(text)
    if conflict:
        return _at(path, text, conflict.start(), "merge-conflict", "marker of a merge conflict",
                   "resolve the conflict and commit again")  # fmt: skip
    return None


def _whole(path: str, rule: str, what: str, remedy: str) -> Problem:
    return Problem(path=path, line=1, column=1, rule=rule, what=what, remedy=remedy)


def _at(path: str, text: str, offset: int, rule: str, *words: str) -> Problem:
    line, column = place(text, offset)
    what, remedy = words
    return Problem(path=path, line=line, column=column, rule=rule, what=what, remedy=remedy)
