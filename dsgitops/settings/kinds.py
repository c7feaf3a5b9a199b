"""How one value of the settings is read: each kind takes what YAML gave and answers or refuses.

A kind raises `Wrong`, whose text says what was expected and never what was found: it may be a
secret in the wrong place.
"""

from __future__ import annotations

import re
from dataclasses import field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from dsgitops.core import duration as durations

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")
_PERCENT = re.compile(r"([1-9][0-9]?|100)%")
_LISTEN = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]*):(?P<port>[0-9]{1,5})")


class Wrong(Exception):
    """A value that cannot be used.

    Args:
        what: What is wrong, continuing "`key` …".
        remedy: What to write instead.
    """

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy


class Kind(Generic[T]):
    """Reads one value.

    Args:
        read: From a plain JSON value; raises `Wrong`.
        from_text: From the text of an environment variable or flag to a JSON value; None: the
            text is the value.
    """

    def __init__(
        self, read: Callable[[object], T], from_text: Callable[[str], object] | None = None
    ) -> None:
        self.read = read
        self.from_text: Callable[[str], object] = from_text or str


def setting(default: T, kind: Kind[T]) -> T:
    """Declare a field of a settings class: its default, and how it is read."""
    made: Any = field(default=default, metadata={"kind": kind})
    return cast("T", made)


def required(kind: Kind[T]) -> T:
    """Declare a field that has no default."""
    made: Any = field(metadata={"kind": kind})
    return cast("T", made)


# ---------------------------------------------------------------------------- the kinds


def text(*, length_max: int = 1024) -> Kind[str]:
    """Return the kind of one line of text, not empty."""

    def read(value: object) -> str:
        if not isinstance(value, str) or not value:
            raise Wrong("is no text", "write a string")
        if len(value) > length_max or not value.isprintable():
            raise Wrong(f"is longer than {length_max} characters or more than one line")
        return value

    return Kind(read)


def label() -> Kind[str]:
    """Return the kind of names as Kubernetes has them (RFC 1123 label)."""

    def read(value: object) -> str:
        if not isinstance(value, str) or not _LABEL.fullmatch(value):
            raise Wrong("is no name", "use lower-case letters, digits and dashes, 63 at most")
        return value

    return Kind(read)


def word(*words: str) -> Kind[Any]:
    """Return the kind of one of a few words."""

    def read(value: object) -> str:
        if isinstance(value, str) and value in words:
            return value
        raise Wrong("is none of the words it can be", f"write {_either(words)}")

    return Kind(read)


def flag() -> Kind[bool]:
    """Return the kind of true and false."""

    def read(value: object) -> bool:
        if isinstance(value, bool):
            return value
        raise Wrong("is neither true nor false", "write true or false, without quotes")

    return Kind(read, lambda given: {"true": True, "false": False}.get(given, given))


def count(*, least: int, most: int = 1_000_000) -> Kind[int]:
    """Return the kind of whole numbers within bounds."""

    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise Wrong(f"is no whole number from {least} to {most}")
        return value

    return Kind(read, _number)


def count_or_percent() -> Kind[int | str]:
    """Return the kind of counts from 1, and of percentages from "1%" to "100%"."""

    def read(value: object) -> int | str:
        if isinstance(value, str) and _PERCENT.fullmatch(value):
            return value
        if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 1_000_000:
            return value
        raise Wrong("is neither a count from 1 nor a percentage", 'write 2 or "10%"')

    return Kind(read, _number)


def duration(
    *, least: timedelta = timedelta(), most: timedelta = timedelta(days=366)
) -> Kind[timedelta]:
    """Return the kind of durations as Go writes them, within bounds."""

    def read(value: object) -> timedelta:
        if isinstance(value, int | float) and not isinstance(value, bool):
            raise Wrong("has no unit", "write 30s, 10m or 1h")
        if not isinstance(value, str):
            raise Wrong("is no duration", "write 30s, 1m30s or 1h")
        try:
            read_ = durations.parse(value)
        except ValueError as error:
            raise Wrong(str(error)) from None
        if not least <= read_ <= most:
            raise Wrong(f"is not between {durations.show(least)} and {durations.show(most)}")
        return read_

    return Kind(read)


def duration_or(name: str, *, least: timedelta) -> Kind[timedelta | None]:
    """Return the kind of durations where a word (`auto`) means that none is set."""
    inner = duration(least=least)

    def read(value: object) -> timedelta | None:
        return None if value == name else inner.read(value)

    return Kind(read)


def path() -> Kind[Path | None]:
    """Return the kind of paths on this machine."""

    def read(value: object) -> Path | None:
        if not isinstance(value, str) or not value or not value.isprintable() or '"' in value:
            raise Wrong("is no path")
        return Path(value)

    return Kind(read)


def listen() -> Kind[str]:
    """Return the kind of `host:port`; no host is all interfaces."""

    def read(value: object) -> str:
        match = _LISTEN.fullmatch(value) if isinstance(value, str) else None
        if match is None or not 0 <= int(match["port"]) <= 65535:
            raise Wrong("is no address to listen on", "write 0.0.0.0:8080")
        return match[0]

    return Kind(read)


def many(inner: Kind[T]) -> Kind[tuple[T, ...]]:
    """Return the kind of lists; in a variable or flag the items are set apart by commas."""

    def read(value: object) -> tuple[T, ...]:
        if not isinstance(value, list):
            raise Wrong("is no list", "write [a, b]")
        items: list[object] = value
        return tuple(inner.read(item) for item in items)

    return Kind(read, lambda given: [item.strip() for item in given.split(",") if item.strip()])


def _number(given: str) -> object:
    return int(given) if given.isascii() and given.isdigit() and len(given) < 10 else given


def _either(words: tuple[str, ...]) -> str:
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last
