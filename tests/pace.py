"""Waiting by looking again and again: the dearer a look, the longer the rest after it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

REST_SECONDS_MAX = 2.0


def looks(seconds: float, *, rest: float = 0.2) -> Iterator[None]:
    """Yield for each look, the last when the time is over.

    Args:
        seconds: How long.
        rest: Seconds between two looks, at least.
    """
    ends = time.monotonic() + seconds
    while True:
        begun = time.monotonic()
        yield
        now = time.monotonic()
        if now >= ends:
            return
        time.sleep(min(max(rest, 4 * (now - begun)), REST_SECONDS_MAX))
