"""Run one git command: with a deadline that kills its whole process group, and bounded output.

The only importer of GitPython.  Its `Git.execute` starts the process (list arguments, no shell);
its timeouts are not used: they look children up by `ps` and miss those that moved.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import selectors
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, BinaryIO, Protocol, cast

from dsgitops.errors import SourceUnreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

TEXT_MAX = 256
"""Characters of git's words in a message: enough for a sentence, too few for a page of HTML."""
STDERR_MAX = 64 * 1024
"""Bytes kept of what git says; a server can make it talk for ever."""
NOT_FOUND = 127
"""What `env` answers where there is no git."""
TICK = 0.25
"""Seconds between two looks at the guard while git is silent."""

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]+")
_USERINFO = re.compile(r"(?<=://)[^/@\s]+@")
_QUERY = re.compile(r"(?<=://)(\S*?)\?[^\s']*")
_MEASURED = re.compile(
    r",? after \d+ (?:ms|milliseconds|seconds)\b"
    r"| with \d+ (?:out of \d+ )?bytes (?:received|remaining to read)"
    r"| at offset \d+"
    r"|(?<=stream) \d+(?= was)"
    r"|(?<=[ :])\d+ (?=bytes of body)"
    r"|(?<=tmp_(?:obj|idx))_\w+|(?<=tmp_pack)_\w+"
)
"""What differs from one try to the next: with it each poll would be a new line of the log."""
DISK_FULL = re.compile(
    r"No space left on device|Disk quota exceeded|Read-only file system|File too large"
)
"""strerror(3) of the C locale, which git runs in."""

_running: set[subprocess.Popen[bytes]] = set()
"""Started and not ended.  Each leads a group of its own, which a Ctrl-C does not reach."""


@atexit.register
def _kill_running() -> None:
    """Polls run in daemon threads: at the interpreter's end nobody else would kill their git."""
    for process in tuple(_running):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


class Overdue(Exception):
    """The deadline passed; the process group was killed."""


class Oversized(Exception):
    """More came than the limit allows; the process group was killed."""


class Guard(Protocol):
    """Looks at what a running command does to the world."""

    def __call__(self) -> None:
        """Raise `Oversized` to have it killed."""
        ...


@dataclass(frozen=True, slots=True)
class Answer:
    """What a git command answered."""

    code: int
    out: bytes
    said: str
    """git's own last words from stderr, fit for a message: see `sanitise`."""


def run(  # noqa: PLR0913 - each is a limit of its own
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str],
    deadline: float,
    out_max: int = 64 * 1024 * 1024,
    given: bytes = b"",
    guard: Guard | None = None,
) -> Answer:
    """Run git and wait for it.

    Args:
        arguments: After `git`.  No secret: `/proc` shows them to everyone.
        environment: All of it: nothing is inherited.
        deadline: On `time.monotonic()`.
        out_max: Bytes of stdout.
        given: For its stdin.
        guard: Called every `TICK` seconds.

    Raises:
        Overdue: The deadline passed.
        Oversized: More than `out_max`, or the guard said so.
        SourceUnreachable: git is not installed or cannot be started.
    """
    with _in_memory(given) as stdin:
        started = _start(arguments, environment, stdin)
        process: subprocess.Popen[bytes] = started.proc
        _running.add(process)
        try:
            out, err = _drain(process, deadline, out_max, guard)
            code = process.wait(timeout=max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            _kill(process)
            raise Overdue from None
        except BaseException:
            _kill(process)
            raise
        finally:
            _running.discard(process)
            _close(process)
    if code == NOT_FOUND:
        raise _missing()
    return Answer(code, out, sanitise(err))


def _in_memory(given: bytes) -> BinaryIO:
    """Return a file for git's stdin that needs no disk: a full one must not stop a turn.

    A file, not a pipe: git may answer before it has read everything.
    """
    if hasattr(os, "memfd_create"):
        file = cast("BinaryIO", os.fdopen(os.memfd_create("stdin", os.MFD_CLOEXEC), "w+b"))
    else:  # no Linux: the CLI alone
        file = cast("BinaryIO", tempfile.TemporaryFile())  # noqa: SIM115 - the caller's
    file.write(given)
    file.seek(0)
    return file


def version(home: Path) -> tuple[int, ...]:
    """Return git's version: `(2, 39, 5)`.  Before 2.39 transfers are less guarded: warn.

    Args:
        home: An empty folder.

    Raises:
        SourceUnreachable: git is not installed.
    """
    surroundings = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(home)}
    answer = run(["version"], environment=surroundings, deadline=time.monotonic() + 10)
    numbers = re.search(rb"[0-9]+(?:\.[0-9]+)+", answer.out)
    return tuple(int(part) for part in numbers[0].split(b".")) if numbers else ()


def _start(arguments: Sequence[str], environment: Mapping[str, str], stdin: IO[bytes]) -> Any:  # noqa: ANN401 - GitPython's handle; letting go of it kills the process
    try:
        from git.cmd import Git  # noqa: PLC0415 - runs `git version` when imported
        from git.exc import GitError  # noqa: PLC0415
    except ImportError as error:
        raise _missing() from error
    # GitPython adds to the process's environment and cannot take away: `env -u` does.
    inherited = [name for name in os.environ if name not in environment and "=" not in name]
    try:
        # In the empty HOME: git must not find a repository, and its configuration, around it.
        return Git(environment.get("HOME")).execute(
            ["env", *(f"--unset={name}" for name in inherited), "git", *arguments],
            istream=cast("BinaryIO", stdin),
            as_process=True,
            env=environment,
            start_new_session=True,
        )
    except (GitError, OSError):
        raise _missing() from None


def _missing() -> SourceUnreachable:
    return SourceUnreachable("git cannot be started", remedy="install git 2.39 or newer")


def _drain(
    process: subprocess.Popen[bytes], deadline: float, out_max: int, guard: Guard | None
) -> tuple[bytes, bytes]:
    """Read stdout and stderr to their ends; never waits longer than the deadline."""
    assert process.stdout is not None
    assert process.stderr is not None
    out, err = bytearray(), bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ, out)
        selector.register(process.stderr, selectors.EVENT_READ, err)
        while selector.get_map():
            left = deadline - time.monotonic()
            if left <= 0:
                raise Overdue
            for key, _ in selector.select(min(left, TICK)):
                chunk = os.read(key.fd, 1 << 16)
                if not chunk:
                    selector.unregister(key.fileobj)
                key.data.extend(chunk)
            del err[:-STDERR_MAX]
            if len(out) > out_max:
                raise Oversized
            if guard is not None:
                guard()
    return bytes(out), bytes(err)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the group: git starts git-remote-https, ssh, index-pack.  Reap the leader."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _close(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def sanitise(err: bytes) -> str:
    """Return git's own last complaint as one short, harmless line.

    What the server says (`remote: …`, `remote error: …`) is left out: it is anybody's text and was
    seen to hold tokens.  ANSI sequences, control characters, user names and queries of URLs go.
    """
    text = _ANSI.sub("", err.decode("utf-8", "replace"))
    lines = [
        line
        for line in text.splitlines()
        if line.startswith(("fatal: ", "error: ", "ssh: ", "Host key", "No ", "git@"))
        or "Permission denied" in line
    ]
    fatal = [line for line in lines if line.startswith("fatal: ")] or lines
    if not fatal:
        return ""
    said = next((line for line in fatal if "fsck error" in line), fatal[-1])
    said = next((line for line in lines if DISK_FULL.search(line)), said)  # the cause of the rest
    said = said.removeprefix("fatal: ").removeprefix("error: ")
    if said.startswith("remote error:"):
        said = "the server refused"
    if said.startswith("Could not read from remote") and len(lines) > 1:
        said = lines[0].removeprefix("fatal: ").removeprefix("error: ")
    said = _QUERY.sub(r"\1", _USERINFO.sub("", _CONTROL.sub(" ", said)))
    said = _MEASURED.sub("", said).strip()
    return said if len(said) <= TEXT_MAX else said[: TEXT_MAX - 1] + "…"


def directory_size(directory: Path) -> int:
    """Return the bytes of the files right in a directory; 0 where it is not there (yet)."""
    try:
        with os.scandir(directory) as entries:
            return sum(_size(entry) for entry in entries)
    except OSError:
        return 0


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_size
    except OSError:  # gone meanwhile: git renames its temporary files
        return 0


def growth_guard(directory: Path, grown_max: int) -> Callable[[], None]:
    """Return a guard that stops a transfer once `directory` grew by more than `grown_max` bytes."""
    before = directory_size(directory)

    def check() -> None:
        if directory_size(directory) - before > grown_max:
            raise Oversized

    return check
