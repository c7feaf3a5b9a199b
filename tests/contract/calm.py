"""A watch that nothing but bookmarks comes through, and when the first of them came."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from contract.client import Cluster

_OPENING_SECONDS = 1.0
"""Until then a stream wakes us because it was answered."""


@dataclass(frozen=True)
class Came:
    """An event, and so many seconds after the watch began."""

    event: dict[str, Any]
    after: float


class Calm:
    """Begins with its making, so that the minutes pass while others are busy.

    Args:
        cluster: A namespace where nobody writes.
        clock: Its seconds.
    """

    def __init__(self, cluster: Cluster, clock: Callable[[], float]) -> None:
        self._cluster = cluster
        self._clock = clock
        self._woken: list[float] = []
        self._began = clock()
        listed = cluster.call("GET", cluster.path()).body
        self.start = listed["metadata"]["resourceVersion"]
        """The version that it begins at."""
        self._stream = cluster.open(
            wake=self._note, resourceVersion=self.start, allowWatchBookmarks="true"
        )

    def _note(self) -> None:
        self._woken.append(self._clock() - self._began)

    def first(self) -> Came:
        """Wait for the first event, if it is not there yet."""
        event = self._cluster.events(self._stream)[0]
        return Came(event, next(at for at in self._woken if at > _OPENING_SECONDS))
