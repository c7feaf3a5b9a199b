"""One process of a cluster: a child that dies with us, even when we are killed."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_GOGC = "400"
"""Memory for time: a fifth less of the processor for a thousand nodes, beside Go's own 100."""
_LIBC = ctypes.CDLL(None)


def die_with_parent() -> None:
    """Ask the kernel to kill this (new) process when its parent ends, however it ends."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def started_in(folder: Path) -> list[str]:
    """Return the commands of all processes that have a folder's path in their environment."""
    found = []
    for each in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended meanwhile
            if str(folder).encode() in (each / "environ").read_bytes():
                found.append((each / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:100])
    return found


@dataclass
class Part:
    """One process, and how to start it again."""

    name: str
    arguments: list[str]
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                self.arguments,
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=self.log.parent,
                env={"GOGC": _GOGC, **os.environ},
                start_new_session=True,  # Ctrl-C is ours to handle
                preexec_fn=die_with_parent,  # noqa: PLW1509 - only sets a signal
            )

    def kill(self) -> None:
        """End it at once: an API server that is asked politely drains for a minute."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None

    @property
    def last_words(self) -> str:
        return self.log.read_text(errors="replace")[-2000:] if self.log.exists() else ""
