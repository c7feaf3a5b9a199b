"""Writes by hand: one DaemonSet after another, each on the very object that was read."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING

from dsgitops.cli import terminal
from dsgitops.errors import DsgitopsError, Stale, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from dsgitops.cli.connection import Connection
    from dsgitops.core.model import Live, Ref

TRIES_MAX = 4
"""A rollout writes the status all the time: a write meets that, reads again and is sent again."""
PRECEDENCE = (7, 3, 6, 5, 4, 2, 1)
"""Exit codes: where several DaemonSets end differently, the first of these wins."""


def person(connection: Connection) -> str:
    """Return who does it: the name that the API server knows us by, else the local user's."""
    try:
        name = connection.client.user()
    except DsgitopsError:  # older servers do not answer that; the write itself will tell
        name = ""
    return name or getpass.getuser()


def read_again(connection: Connection, ref: Ref) -> Live:
    """Return a DaemonSet as it is now.

    Raises:
        UsageError: There is none.
    """
    live = connection.client.daemonset(ref)
    if live is None:
        raise UsageError(f"there is no DaemonSet {ref}", remedy="check name and namespace")
    return live


def insist(write: Callable[[Live], None], live: Live, connection: Connection) -> None:
    """Write; where somebody wrote meanwhile, look again and decide anew, a few times.

    Args:
        write: Decides and writes, on what it is given.
        live: As read before.
        connection: To read it again.

    Raises:
        Stale: It never stood still.
        DsgitopsError: What `write` raises.
    """
    for left in reversed(range(TRIES_MAX)):
        try:
            write(live)
        except Stale:
            if not left:
                raise
            live = read_again(connection, live.ref)
        else:
            return


def each_of(lives: Iterable[Live], write: Callable[[Live], None], connection: Connection) -> int:
    """Write to several DaemonSets; what goes wrong with one does not stop the others.

    Returns:
        The exit code.
    """
    codes: set[int] = set()
    for live in lives:
        try:
            insist(write, live, connection)
        except DsgitopsError as error:
            terminal.complain(error)
            codes.add(error.exit_code)
    return next((code for code in PRECEDENCE if code in codes), 0)
