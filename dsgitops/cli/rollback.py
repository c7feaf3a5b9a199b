"""`dsgitops rollback`: go back to the last good revision, or to another one, now.

One write with the person's own rights, with the record in it: it works while the agent is down,
and the agent follows it when it is back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dsgitops.cli import terminal
from dsgitops.cli.connection import Context, Kubeconfig  # noqa: TC001 - typer reads them
from dsgitops.cli.target import Namespace  # noqa: TC001
from dsgitops.errors import UsageError

if TYPE_CHECKING:
    from dsgitops.cli.connection import Connection
    from dsgitops.cli.way_back import WayBack
    from dsgitops.core.model import Live

REASON_MAX = 256
"""Characters: it goes into the record, which has 8 KiB for everything."""


def rollback(  # noqa: PLR0913 - each is a flag
    name: Annotated[str, typer.Argument(metavar="NAME", help="a DaemonSet, also NAMESPACE/NAME")],
    *,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="REVISION|COMMIT", help="where to [default: last good]"),
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="why, for whoever finds it so")] = "",
    yes: Annotated[
        bool, typer.Option("--yes", help="also to one that was never good, or if all pods restart")
    ] = False,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Go back to the last good revision, or to another; what is left is held until Git moves on.

    Only pods of other revisions restart.  Works while the agent is down.
    """
    from dsgitops.cli.connection import connect  # noqa: PLC0415 - heavy
    from dsgitops.cli.target import find, targets  # noqa: PLC0415
    from dsgitops.cli.writing import insist, person  # noqa: PLC0415

    if len(reason) > REASON_MAX:
        raise UsageError(f"--reason is longer than {REASON_MAX} characters", remedy="shorten it")
    connection = connect(kubeconfig, context)
    wanted = targets([name], namespace=namespace, home=connection.namespace)
    (live,) = find(connection, wanted)
    by = person(connection)
    why = terminal.plain(reason.strip())

    def write(live: Live) -> None:
        way = decide(connection, live, to, by=by, reason=why)
        _require_consent(connection, live, way, yes=yes)
        connection.client.write(way.action)
        _tell(live, way)

    insist(write, live, connection)


def decide(connection: Connection, live: Live, to: str | None, *, by: str, reason: str) -> WayBack:
    """Read what is needed, and decide.

    Raises:
        UsageError: There is nothing to go back to.
        DsgitopsError: The cluster cannot be read.
    """
    from dsgitops.cli.view import view_whole  # noqa: PLC0415 - heavy
    from dsgitops.cli.way_back import way_back  # noqa: PLC0415

    return way_back(view_whole(connection, live).situation(), to, by=by, reason=reason)


def _require_consent(connection: Connection, live: Live, way: WayBack, *, yes: bool) -> None:
    """Ask the API server what would come of it, and the person where that is more than expected.

    Raises:
        UsageError: It needs `--yes`.
    """
    from dsgitops.cli.way_back import is_exact  # noqa: PLC0415 - heavy

    answer = connection.client.write(way.action, dry_run=True)
    if not way.to.is_good and not yes:
        failed = f" ({way.to.failure_class})" if way.to.failure_class else ""
        raise UsageError(
            f"revision {way.to.revision.number} of {live.ref} was never good{failed}",
            remedy="give --yes if that is meant; dsgitops history shows which were",
        )
    if is_exact(way.to.revision, answer.template):
        return
    what = f"going back restarts all {live.desired_scheduled} pods: the API changes the template"
    if not yes:
        raise UsageError(what, remedy="give --yes if that is meant")
    terminal.warn(what)


def _tell(live: Live, way: WayBack) -> None:
    from dsgitops.core import narrate  # noqa: PLC0415 - heavy

    count = len(way.restarts)
    pods = "no pod restarts" if not count else f"{count} {'pod' if count == 1 else 'pods'} restart"
    terminal.say(f"{live.ref} goes back to {way.where}: {pods}")
    for entry in way.record.quarantine[-1:]:
        terminal.say(f"{narrate.short(entry.commit)} is held until Git moves on")
    terminal.note(f"follow it with dsgitops get {live.ref} -w")
