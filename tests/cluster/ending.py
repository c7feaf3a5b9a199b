"""A run that is asked to end (SIGTERM) ends as Ctrl-C does: what fixtures started is taken away."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

SECONDS_MAX = 60.0
"""For the workers to take away what they have; xdist itself would kill them after 10 s."""
_asked = []
"""The signal, once it came."""


def listen() -> None:
    """Raise KeyboardInterrupt at the first SIGTERM; nothing interrupts what follows."""
    signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(number, _frame):
    _asked.append(number)
    signal.signal(signal.SIGINT, _go_on)  # execnet interrupts a slow worker once more
    finish()
    raise KeyboardInterrupt


def finish() -> None:
    """Let no SIGTERM interrupt the end of a run."""
    signal.signal(signal.SIGTERM, _go_on)


def _go_on(*_):
    pass


def pass_on() -> None:
    """Ask the workers, who are all our children, to end too, and wait until they have."""
    pids = [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]
    for pid in pids if _asked else ():
        os.kill(pid, signal.SIGTERM)
    ends = time.monotonic() + SECONDS_MAX
    while _asked and any(map(_lives, pids)) and time.monotonic() < ends:
        time.sleep(0.1)


def _lives(pid: int) -> bool:
    with suppress(ChildProcessError):
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    return False


def leave() -> None:
    """End a worker that was asked to: it would wait for more work."""
    if _asked:
        os._exit(2)
