"""`dsgitops suspend` and `resume`: let nothing be written for a while, and say who and why.

The agent goes on looking and telling; a rollback in flight completes.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from dsgitops.cli import terminal
from dsgitops.cli.connection import Context, Kubeconfig  # noqa: TC001 - typer reads them
from dsgitops.cli.target import NamesNeeded, Namespace  # noqa: TC001
from dsgitops.errors import UsageError

if TYPE_CHECKING:
    from datetime import datetime

    from dsgitops.core.model import Live

REASON_MAX = 1024
"""Characters; it is shown in one line."""


def suspend(  # noqa: PLR0913 - each is a flag
    names: NamesNeeded,
    *,
    reason: Annotated[str, typer.Option("--reason", help="why, for whoever finds it so")],
    for_: Annotated[
        str | None, typer.Option("--for", metavar="DURATION", help="as 30m or 2h [default: no end]")
    ] = None,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Let the agent write nothing to DaemonSets, with a reason; rollouts stand still too."""
    from dsgitops.cli.connection import connect  # noqa: PLC0415 - heavy
    from dsgitops.cli.target import find, targets  # noqa: PLC0415
    from dsgitops.cli.writing import each_of, person  # noqa: PLC0415
    from dsgitops.core.record import stamp  # noqa: PLC0415
    from dsgitops.core.situation import SUSPEND  # noqa: PLC0415

    if not reason.strip() or len(reason) > REASON_MAX:
        raise UsageError("--reason needs words", remedy="say why, in one line")
    connection = connect(kubeconfig, context)
    wanted = targets(names, namespace=namespace, home=connection.namespace)
    lives = find(connection, wanted)
    until = _until(for_, connection.now())
    content = {"reason": terminal.plain(reason.strip()), "by": person(connection)}
    if until is not None:
        content["until"] = stamp(until)

    def write(live: Live) -> None:
        connection.client.annotate(live, {SUSPEND: json.dumps(content, ensure_ascii=False)})
        again = " (it was suspended before)" if SUSPEND in live.annotations else ""
        terminal.say(f"{live.ref} suspended{_ends(until)}{again}")

    code = each_of(lives, write, connection)
    raise typer.Exit(code)


def resume(
    names: NamesNeeded,
    *,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """End a suspension: the agent goes on from where things are."""
    from dsgitops.cli.connection import connect  # noqa: PLC0415 - heavy
    from dsgitops.cli.target import find, targets  # noqa: PLC0415
    from dsgitops.cli.writing import each_of  # noqa: PLC0415
    from dsgitops.core.situation import SUSPEND  # noqa: PLC0415

    connection = connect(kubeconfig, context)
    wanted = targets(names, namespace=namespace, home=connection.namespace)

    def write(live: Live) -> None:
        if SUSPEND not in live.annotations:
            terminal.note(f"{live.ref} is not suspended (what Git suspends, Git resumes)")
            return
        connection.client.annotate(live, {SUSPEND: None})
        terminal.say(f"{live.ref} resumed")

    code = each_of(find(connection, wanted), write, connection)
    raise typer.Exit(code)


def _until(given: str | None, now: datetime) -> datetime | None:
    from dsgitops.core import duration  # noqa: PLC0415 - only here

    if given is None:
        return None
    try:
        length = duration.parse(given)
    except ValueError as error:
        raise UsageError(f"--for {error}", remedy="write 30m, 2h or 24h") from None
    if not length:
        raise UsageError("--for is nothing at all", remedy="write 30m, 2h or 24h")
    return now + length


def _ends(until: datetime | None) -> str:
    from dsgitops.core.record import stamp  # noqa: PLC0415 - heavy

    return f" until {stamp(until)}" if until else ""
