"""Actions carried out by a few threads: one slow request holds up one DaemonSet, not the turn."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING

from dsgitops.ports import Done

if TYPE_CHECKING:
    from collections.abc import Callable

    from dsgitops.core.model import Ref
    from dsgitops.ports import Wake

WORKERS = 4
"""Requests at a time.  Four keep two API server cores busy (measured: `bench/`); more only queue
there."""


class Pool:
    """Carries out in a small pool; `wake` is called when something ended.

    Args:
        wake: Called from the pool's threads.
        workers: How many at a time.
        ends: Whether ends are told.  In a dry run they are not: nothing changed, so looking again
            would find the same to do, for ever.
    """

    def __init__(
        self,
        wake: Wake,
        *,
        workers: int = WORKERS,
        ends: bool = True,
    ) -> None:
        self._wake = wake
        self._ends = ends
        self._done: SimpleQueue[Done] = SimpleQueue()
        self._begun: dict[Ref, float] = {}
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="hands")

    def submit(self, ref: Ref, work: Callable[[], None]) -> None:
        """See `ports.Hands`."""
        self._pool.submit(self._carry_out, ref, work)

    def finished(self) -> list[Done]:
        """See `ports.Hands`."""
        done: list[Done] = []
        while True:
            try:
                done.append(self._done.get_nowait())
            except Empty:
                return done

    def longest(self) -> float:
        """Return for how many seconds the oldest work under way has been; 0: none is."""
        return max((monotonic() - at for at in self._begun.copy().values()), default=0.0)

    def close(self) -> None:
        """Let the writes in flight end (each has a deadline of its own); start no others."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _carry_out(self, ref: Ref, work: Callable[[], None]) -> None:
        self._begun[ref] = monotonic()
        done = _run(ref, work)
        del self._begun[ref]
        if self._ends or done.error is not None:
            self._done.put(done)
        self._wake()


def _run(ref: Ref, work: Callable[[], None]) -> Done:
    try:
        work()
    except Exception as error:  # noqa: BLE001 - handed to the agent, which tells the kinds apart
        return Done(ref=ref, error=error)
    return Done(ref=ref)
