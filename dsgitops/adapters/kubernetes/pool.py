"""A few threads for requests that nobody has to wait for at the end.

The standard pool joins its threads when the interpreter exits: one list that hangs would hold the
agent's end up for a minute and a half.  These threads are daemons: reading can be given up.
"""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
R = TypeVar("R")


class DaemonPool(Executor):
    """`concurrent.futures.Executor` whose threads never outlive the process.

    Args:
        workers: Threads at most; each is started when there is work for it.
        name: Of the threads, for people.
    """

    def __init__(self, workers: int, name: str = "api") -> None:
        self._workers = workers
        self._name = name
        self._changed = threading.Condition()
        self._work: deque[Callable[[], None]] = deque()
        self._threads = 0
        self._idle = 0
        self._closed = False

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Run a call soon.

        Raises:
            RuntimeError: The pool is shut down.
        """
        future: Future[R] = Future()

        def work() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001 - it is the future's to tell
                future.set_exception(error)
            else:
                future.set_result(result)

        with self._changed:
            if self._closed:
                raise RuntimeError("the pool is shut down")
            self._work.append(work)
            if self._idle < len(self._work) and self._threads < self._workers:
                self._threads += 1
                threading.Thread(target=self._labour, name=self._name, daemon=True).start()
            self._changed.notify()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - as Executor has it
        """Take no more work.  With `wait`, what was submitted is finished first.

        Args:
            wait: Whether to wait for it, without end.
            cancel_futures: Drop what has not begun.
        """
        with self._changed:
            self._closed = True
            if cancel_futures:
                self._work.clear()
            self._changed.notify_all()
            while wait and self._threads:
                self._changed.wait()

    def _labour(self) -> None:
        while True:
            with self._changed:
                self._idle += 1
                while not self._work and not self._closed:
                    self._changed.wait()
                self._idle -= 1
                if not self._work:
                    self._threads -= 1
                    self._changed.notify_all()
                    return
                work = self._work.popleft()
            work()
