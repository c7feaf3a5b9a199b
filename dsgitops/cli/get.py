"""`dsgitops get`: a row a DaemonSet: in sync or not, healthy or not, and why."""

from __future__ import annotations

import time
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dsgitops.cli import terminal
from dsgitops.cli.agents import AgentNamespace  # noqa: TC001 - typer reads them
from dsgitops.cli.connection import Context, Kubeconfig  # noqa: TC001
from dsgitops.cli.target import AllNamespaces, Names, Namespace, Selector  # noqa: TC001

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import timedelta

    from dsgitops.cli.agents import Agents
    from dsgitops.cli.connection import Connection
    from dsgitops.cli.status import Status
    from dsgitops.cli.table import Colour
    from dsgitops.cli.target import Targets

WATCH_SECONDS = 2.0
"""Between two looks with `-w`: as long as an agent takes between two renewals of its Lease."""
HEADINGS = ("NAMESPACE", "NAME", "SYNC", "HEALTH", "REVISION", "READY", "MESSAGE")
WIDE_HEADINGS = (
    *HEADINGS[:6], "PHASE", "REASON", "COMMIT", "LAST-GOOD", "SOURCE", "MESSAGE",
)  # fmt: skip
COLOURS: Mapping[str, Colour] = {
    "Synced": "green",
    "Healthy": "green",
    "OutOfSync": "yellow",
    "Progressing": "blue",
    "Suspended": "yellow",
    "Degraded": "yellow",
    "Held": "yellow",
    "Unknown": "yellow",
    "Failed": "red",
}


class Output(StrEnum):
    """How `get` prints."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


def get(  # noqa: PLR0913 - each is a flag
    names: Names = None,
    *,
    namespace: Namespace = None,
    all_namespaces: AllNamespaces = False,
    selector: Selector = "",
    output: Annotated[
        Output, typer.Option("-o", "--output", help="table, wide, json, yaml or name")
    ] = Output.TABLE,
    watch: Annotated[bool, typer.Option("-w", "--watch", help="go on, and print changes")] = False,
    agent_namespace: AgentNamespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """DaemonSets that the agent manages: in sync or not, healthy or not, and why.

    Held means that what Git has failed here and is kept out; Unknown, that no agent was seen
    lately, or that it cannot read Git.
    """
    from dsgitops.cli.connection import connect  # noqa: PLC0415 - heavy
    from dsgitops.cli.target import targets  # noqa: PLC0415

    connection = connect(kubeconfig, context)
    wanted = targets(
        names,
        namespace=namespace,
        home=connection.namespace,
        everywhere=all_namespaces,
        selector=selector,
    )
    found, agents = look(connection, wanted, agent_namespace)
    show(connection, found, output, wanted, compact=watch)
    if output in (Output.TABLE, Output.WIDE):
        _tell_agents(connection, found, agents)
    if watch:
        _watch(connection, wanted, agent_namespace, output, found)


def look(
    connection: Connection, wanted: Targets, agent_namespace: str | None
) -> tuple[tuple[Status, ...], Agents]:
    """Read and judge.

    Raises:
        UsageError: A DaemonSet that was named is not there.
        DsgitopsError: The cluster cannot be read.
    """
    from dsgitops.cli.agents import find_agents  # noqa: PLC0415 - see `get`
    from dsgitops.cli.status import status  # noqa: PLC0415
    from dsgitops.cli.target import find  # noqa: PLC0415
    from dsgitops.cli.view import views  # noqa: PLC0415

    lives = find(connection, wanted)
    if not wanted.refs:
        lives = tuple(live for live in lives if _is_ours(live.annotations))
    agents = find_agents(connection, agent_namespace)
    now = connection.now()
    return tuple(
        status(view, alive=agents.is_alive(view.record.source if view.record else "", now))
        for view in views(connection, lives, wanted)
    ), agents


def show(
    connection: Connection,
    found: Sequence[Status],
    output: Output,
    wanted: Targets,
    *,
    compact: bool = False,
) -> None:
    """Print statuses to stdout."""
    if output is Output.JSON:
        terminal.say_json(listed(connection, found), compact=compact)
    elif output is Output.YAML:
        terminal.say_yaml(listed(connection, found))
    elif output is Output.NAME:
        for each in found:
            terminal.say(f"daemonset.apps/{each.view.live.ref.name}")
    elif found:
        _show_table(found, output)
    else:
        terminal.note(f"no DaemonSet {wanted.where} is managed by dsgitops")


def listed(connection: Connection, found: Iterable[Status]) -> dict[str, Any]:
    """Return the `DaemonSetStatusList` (`interfaces.md`)."""
    from dsgitops.cli.status import as_json  # noqa: PLC0415 - see `get`

    return {
        "apiVersion": terminal.API_VERSION,
        "kind": "DaemonSetStatusList",
        "cluster": connection.host,
        "items": [as_json(each) for each in found],
    }


def _show_table(found: Sequence[Status], output: Output, *, heading: bool = True) -> None:
    from dsgitops.cli.table import Table  # noqa: PLC0415 - see `get`

    wide = output is Output.WIDE
    rows = [_wide_row(each) if wide else _row(each) for each in found]
    headings = WIDE_HEADINGS if wide else HEADINGS
    Table(headings, rows, COLOURS, has_text=True).show(heading=heading)


def _row(each: Status) -> list[str]:
    ref = each.view.live.ref
    commit = _short(each.live_commit)
    return [ref.namespace, ref.name, each.sync, each.health, commit, each.ready, each.message]


def _wide_row(each: Status) -> list[str]:
    record = each.view.record
    good = record.last_good if record else None
    phase, source = (str(record.phase), record.source) if record else ("", "")
    return [
        *_row(each)[:6],
        phase,
        each.reason,
        _short(each.commit),
        _short(good.commit if good else ""),
        source,
        each.message,
    ]


def _tell_agents(connection: Connection, found: Sequence[Status], agents: Agents) -> None:
    """Say when the agent was last seen."""
    now = connection.now()
    latest = agents.latest()
    if agents.refused:
        terminal.note("agent last seen: unknown (no right to read its Lease)")
    elif latest is None or latest.seen is None:
        if found:
            terminal.warn("no agent was ever seen in this cluster (no Lease dsgitops)")
    elif latest.is_stale(now):
        terminal.warn(f"the agent was last seen {ago(now - latest.seen)}: SYNC is not known")
    else:
        who = f" ({latest.namespace}/{latest.holder})" if latest.holder else ""
        terminal.note(f"agent last seen {ago(now - latest.seen)}{who}")


def _watch(
    connection: Connection,
    wanted: Targets,
    agent_namespace: str | None,
    output: Output,
    before: Sequence[Status],
) -> None:
    """Print what changes, a row a change, until interrupted; an API server away is waited for."""
    from dsgitops.errors import ClusterUnreachable  # noqa: PLC0415 - see `get`

    shown = {each.view.live.ref: _face(each) for each in before}
    while True:
        time.sleep(WATCH_SECONDS)
        try:
            found, _ = look(connection, wanted, agent_namespace)
        except ClusterUnreachable as error:
            terminal.warn(error.what)
            continue
        changed = [each for each in found if shown.get(each.view.live.ref) != _face(each)]
        shown = {each.view.live.ref: _face(each) for each in found}
        if not changed:
            continue
        if output in (Output.TABLE, Output.WIDE):
            _show_table(changed, output, heading=False)
        else:
            show(connection, changed, output, wanted, compact=True)


def _face(each: Status) -> list[str]:
    """Return what a reader sees of it: another face is a change."""
    return [*_wide_row(each)]


def _is_ours(annotations: Mapping[str, str]) -> bool:
    from dsgitops.core.record import ANNOTATION  # noqa: PLC0415 - see `get`

    return ANNOTATION in annotations


def _short(commit: str | None) -> str:
    """Return the seven digits by which people know a commit."""
    return (commit or "").rsplit(":", 1)[-1][:7]


def ago(age: timedelta) -> str:
    """Return an age as people say it: `3s ago`, `12m ago`."""
    seconds = max(0, round(age.total_seconds()))
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length}{unit} ago"
    return f"{seconds}s ago"
