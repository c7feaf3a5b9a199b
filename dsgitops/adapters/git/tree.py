"""What a commit holds: `ls-tree -z` read entry by entry, so that one bad name is one problem."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dsgitops.ports import File

if TYPE_CHECKING:
    from collections.abc import Iterable

SUFFIXES = (".yaml", ".yml", ".json")
_SUFFIXES = tuple(suffix.encode() for suffix in SUFFIXES)
FILE_BYTES_MAX = 4 * 1024 * 1024
"""An object in the API may have 1.5 MiB; a file may hold several."""
FILES_MAX = 20_000
ENTRIES_MAX = 200_000
"""Files of any kind below the path."""
DEPTH_MAX = 64
LISTING_BYTES_MAX = 64 * 1024 * 1024
"""Bytes of `ls-tree`'s answer: trees that repeat each other unfold without end."""
LFS_POINTER_BYTES_MAX = 1024
"""git-lfs.com: a pointer file is smaller than this."""
LFS_POINTER = b"version https://git-lfs.github.com/spec/"

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
_PLAIN_NAME = re.compile(
    rb"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}(?:/[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99})*"
)
"""Names that need no further look: nearly all of them."""
_PLAIN_SUFFIX = re.compile(r"\.[A-Za-z]{1,8}$")


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of `ls-tree -r -l -z`."""

    mode: str
    blob: str
    size: int
    """Bytes; 0 for what is no blob."""
    name: bytes

    @property
    def is_regular(self) -> bool:
        """Whether it is a file, executable or not."""
        return self.mode in {"100644", "100755", "100664"}


@dataclass(frozen=True, slots=True)
class Listing:
    """The manifests below a path, and what is there but cannot be read."""

    files: tuple[File, ...]
    problems: tuple[tuple[str, str], ...]
    suspects: tuple[File, ...] = ()
    """Files so small that they may be LFS pointers: their bytes tell."""


def read_entries(answer: bytes) -> Iterable[Entry]:
    """Read the answer of `ls-tree -r -l -z`."""
    for line in answer.split(b"\0"):
        head, tab, name = line.partition(b"\t")
        if not tab:
            continue
        mode, _kind, blob, size = head.decode("ascii").split()
        yield Entry(mode, blob, int(size) if size.isdecimal() else 0, name)


def survey(entries: Iterable[Entry], *, below: str = "") -> Listing:
    """Sort entries into files and problems.

    Args:
        entries: With names relative to `below`.
        below: The source's path, put before each name.
    """
    found: dict[str, Entry] = {}
    problems: dict[str, str] = {}
    for entry in entries:
        path, what = _judge(entry, below)
        if path in found:
            what = "two entries of the tree have this name"
        if what:
            problems[path] = what
        elif path:
            found[path] = entry
    paths = sorted(found.keys() - problems.keys())
    files = {path: File(path=path, blob=found[path].blob) for path in paths}
    small = (path for path in paths if 0 < found[path].size < LFS_POINTER_BYTES_MAX)
    return Listing(
        tuple(files.values()),
        tuple(sorted(problems.items())),
        tuple(files[path] for path in small),
    )


def _judge(entry: Entry, below: str) -> tuple[str, str]:
    """Return (path fit to be shown, what is wrong); an empty path: of no concern."""
    path = _shown(entry.name, below)
    matters = entry.name.lower().endswith(_SUFFIXES)
    if entry.mode == "160000":
        return path, "is a submodule: submodules are not read"
    if entry.mode == "120000":
        return (
            (path, "is a symbolic link: links are not followed") if _may_hide(entry) else ("", "")
        )
    if not matters:
        return "", ""
    what = _name_fault(entry.name)
    if not what and entry.size > FILE_BYTES_MAX:
        what = f"has {entry.size} bytes: more than {FILE_BYTES_MAX} are not read"
    return path, what


def _may_hide(entry: Entry) -> bool:
    """Whether a link may stand for a manifest or for a folder of them."""
    name = entry.name.rpartition(b"/")[2].decode("utf-8", "replace")
    suffix = _PLAIN_SUFFIX.search(name)
    return suffix is None or suffix[0].lower() in SUFFIXES


def _name_fault(name: bytes) -> str:
    if _PLAIN_NAME.fullmatch(name):
        return ""
    try:
        text = name.decode("utf-8")
    except UnicodeDecodeError:
        return "has a name that is not UTF-8"
    parts = text.split("/")
    if any(part in {"", ".", ".."} for part in parts):
        return "has a name with an empty part, `.` or `..`"
    if any(part.lower().rstrip(". ") == ".git" for part in parts):
        return "has a name with `.git` in it"
    if "\\" in text or _CONTROL.search(text):
        return "has a name with backslashes or control characters"
    if any(len(part.encode()) > 255 for part in parts):
        return "has a name longer than 255 bytes"
    return ""


def _shown(name: bytes, below: str) -> str:
    """Return a path that is safe to print; escapes make it differ from every real one."""
    text = name.decode("utf-8", "backslashreplace")
    if _PLAIN_NAME.fullmatch(name):
        return f"{below}/{text}" if below else text
    text = _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)
    text = text if len(text) <= 1024 else text[:1023] + "…"
    return f"{below}/{text}" if below else text


def too_deep(entries: Iterable[Entry]) -> bool:
    """Whether folders are nested deeper than people do."""
    return any(entry.name.count(b"/") > DEPTH_MAX for entry in entries)
