"""Durations as Go writes them: `30s`, `1m30s`, `1.5h`."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal

_SECONDS = {
    "h": Decimal(3600),
    "m": Decimal(60),
    "s": Decimal(1),
    "ms": Decimal("1e-3"),
    "us": Decimal("1e-6"),
    "µs": Decimal("1e-6"),  # U+00B5, the micro sign
    "μs": Decimal("1e-6"),  # U+03BC, the Greek letter: Go reads both
    "ns": Decimal("1e-9"),
}
_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(h|ms|us|µs|μs|ns|m|s)")
_LENGTH_MAX = 64
_SECONDS_MAX = Decimal(2**63) / Decimal(10**9)
"""Go keeps nanoseconds in 63 bits: about 292 years."""


def parse(text: str) -> timedelta:
    """Read a duration as Go's `time.ParseDuration` does, without a sign.

    Args:
        text: Numbers each with a unit of h, m, s, ms, us (µs), ns: `1m30s`, `1.5h`, `0s`.

    Returns:
        The duration, cut to whole microseconds.

    Raises:
        ValueError: It is something else (a bare number, another unit, a sign, too long); the
            message says what was expected and does not quote `text`.
    """
    if not text:
        raise ValueError("is empty: write a duration such as 30s or 1m30s")
    if text[0] in "+-":
        raise ValueError("has a sign: durations are never negative")
    if text.isascii() and text.isdigit():
        raise ValueError("has no unit: write 30s, 10m or 1h")
    if len(text) > _LENGTH_MAX:
        raise ValueError("is too long for a duration")
    return timedelta(microseconds=int(_seconds(text) * 1_000_000))


def show(duration: timedelta) -> str:
    """Write a duration in the shortest way that `parse` reads back: `10m`, `1m30s`, `0s`.

    Raises:
        ValueError: It is negative.
    """
    if duration < timedelta(0):
        raise ValueError("is negative")
    minutes, seconds = divmod(duration, timedelta(minutes=1))
    hours, minutes = divmod(minutes, 60)
    parts = [f"{hours}h" if hours else "", f"{minutes}m" if minutes else "", _below(seconds)]
    return "".join(parts) or "0s"


def _below(rest: timedelta) -> str:
    """Write what is less than a minute; empty for nothing."""
    if not rest:
        return ""
    if rest < timedelta(milliseconds=1):
        return f"{rest.microseconds}us"
    if rest < timedelta(seconds=1):
        return f"{_plain(Decimal(rest.microseconds) / 1000)}ms"
    return f"{_plain(Decimal(rest.seconds) + Decimal(rest.microseconds) / 1_000_000)}s"


def _plain(number: Decimal) -> str:
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _seconds(text: str) -> Decimal:
    total, at = Decimal(0), 0
    while at < len(text):
        part = _PART.match(text, at)
        if part is None:
            raise ValueError("is no duration: write numbers with units h, m, s or ms, like 1m30s")
        total += Decimal(part[1]) * _SECONDS[part[2]]
        at = part.end()
    if total >= _SECONDS_MAX:
        raise ValueError("is longer than 292 years")
    return total
