"""`dsgitops wait`: until a commit is everywhere, or is known to have failed: what CI calls."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dsgitops.cli import terminal
from dsgitops.cli.agents import AgentNamespace  # noqa: TC001 - typer reads them
from dsgitops.cli.connection import Context, Kubeconfig  # noqa: TC001
from dsgitops.cli.outcome import EXIT_CODES, Outcome, Result, outcome
from dsgitops.cli.sources import Config  # noqa: TC001
from dsgitops.cli.target import AllNamespaces, Names, Namespace, Selector  # noqa: TC001
from dsgitops.cli.worktree import WorkTreePath  # noqa: TC001
from dsgitops.errors import ClusterUnreachable, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dsgitops.cli.connection import Connection
    from dsgitops.cli.goal import Goal
    from dsgitops.cli.status import Status
    from dsgitops.cli.target import Targets
    from dsgitops.core.model import Ref

LOOK_SECONDS = 1.0
"""Between two looks: a few small requests each."""


class Output(StrEnum):
    """How `wait` prints."""

    TEXT = "text"
    JSON = "json"


def wait(  # noqa: PLR0913 - each is a flag
    names: Names = None,
    *,
    commit: Annotated[
        str | None, typer.Option("--commit", metavar="SHA", help="wait for it [default: HEAD]")
    ] = None,
    timeout: Annotated[str, typer.Option("--timeout", help="as 90s, 15m or 1h")] = "15m",
    namespace: Namespace = None,
    all_namespaces: AllNamespaces = False,
    selector: Selector = "",
    output: Annotated[Output, typer.Option("-o", "--output", help="text or json")] = Output.TEXT,
    path: WorkTreePath = Path(),
    config: Config = None,
    agent_namespace: AgentNamespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Wait until a commit is everywhere, bake included, or is known to have failed.

    Exits 0 finished, 3 failed (rolled back or not), 4 timeout, 5 superseded by a newer commit,
    6 suspended or held, 7 cluster unreachable.  A commit that the agent has not read is waited
    for; one that does not touch a DaemonSet is fine.
    """
    from dsgitops.cli.connection import connect  # noqa: PLC0415 - heavy
    from dsgitops.cli.goal import goal_of  # noqa: PLC0415
    from dsgitops.cli.target import targets  # noqa: PLC0415

    seconds = _seconds(timeout)
    connection = connect(kubeconfig, context)
    wanted = targets(
        names,
        namespace=namespace,
        home=connection.namespace,
        everywhere=all_namespaces,
        selector=selector,
    )
    with ExitStack() as stack:
        goal = goal_of(stack, path, config, commit)
        if goal.catalog is None:
            terminal.note("no work tree here has the commit: what it touches is not known")
        waiting = Waiting(connection, wanted, agent_namespace, goal)
        result = waiting.until(time.monotonic() + seconds, quiet=output is Output.JSON)
    if output is Output.JSON:
        terminal.say_json(waiting.as_json(result))
    elif result is Result.TIMEOUT:
        terminal.note(f"error: not decided after {timeout}")
    raise typer.Exit(EXIT_CODES[result])


@dataclass(slots=True)
class Waiting:
    """One wait: what was seen last, and what became of each DaemonSet."""

    connection: Connection
    wanted: Targets
    agent_namespace: str | None
    goal: Goal
    seen: dict[Ref, Status] = field(default_factory=dict)
    outcomes: dict[Ref, Outcome] = field(default_factory=dict)

    def until(self, end: float, *, quiet: bool) -> Result:
        """Look again and again until every DaemonSet is decided.

        Args:
            end: When to give up, on `time.monotonic()`.
            quiet: Print no changes.

        Raises:
            ClusterUnreachable: The first look failed, or the last one: nobody knows.
            DsgitopsError: It will never be decided: no such DaemonSet, no right to look.
        """
        self.look(quiet=quiet)
        away: ClusterUnreachable | None = None
        while not self._is_over() or away is not None:
            left = end - time.monotonic()
            if left <= 0:
                if away is not None:
                    raise away
                break
            time.sleep(min(LOOK_SECONDS, left))
            try:
                self.look(quiet=quiet)
                away = None
            except ClusterUnreachable as error:
                away = error
        return self._result()

    def look(self, *, quiet: bool) -> None:
        """Look once, and say what changed.

        Raises:
            DsgitopsError: The cluster cannot be read, or there is nothing to wait for.
        """
        from dsgitops.cli.agents import find_agents  # noqa: PLC0415 - heavy

        agents = find_agents(self.connection, self.agent_namespace)
        found = self._statuses()
        self.seen = {ref: each for ref, each in found.items() if each is not None}
        before, self.outcomes = self.outcomes, {}
        for ref, status in found.items():
            record = status.view.record if status is not None else None
            asked = self.goal.asked(ref, record.source if record else "", agents)
            if status is not None and record is not None:
                self.outcomes[ref] = outcome(status, asked)
            elif asked.known and asked.content is None and not asked.wrong:
                where = "the cluster" if status is None else "what dsgitops manages"
                raise UsageError(
                    f"{ref} is neither in {where} nor in commit {asked.commit[:7]}",
                    remedy="check the name, or give -n",
                )
            else:
                self.outcomes[ref] = Outcome(None, "not made by the agent yet")
            if not quiet and before.get(ref) != self.outcomes[ref]:
                _tell(ref, self.outcomes[ref])

    def as_json(self, result: Result) -> dict[str, Any]:
        """Return the `WaitResult` (`interfaces.md`)."""
        from dsgitops.cli.status import as_json  # noqa: PLC0415 - heavy

        return {
            "apiVersion": terminal.API_VERSION,
            "kind": "WaitResult",
            "commit": self.goal.commit,
            "result": str(result),
            "items": [as_json(each) for each in self.seen.values()],
        }

    def _is_over(self) -> bool:
        return all(each.result is not None for each in self.outcomes.values())

    def _result(self) -> Result:
        """Return the result that wins: see `EXIT_CODES`."""
        ended = {each.result or Result.TIMEOUT for each in self.outcomes.values()}
        return max(ended, key=list(EXIT_CODES).index)

    def _statuses(self) -> dict[Ref, Status | None]:
        """Return what is to be said of each DaemonSet; None: it is not there (yet)."""
        from dsgitops.cli.status import status  # noqa: PLC0415 - heavy
        from dsgitops.cli.view import views  # noqa: PLC0415

        client, wanted = self.connection.client, self.wanted
        if wanted.refs:
            lives = [client.daemonset(ref) for ref in wanted.refs]
        else:
            lives = list(client.daemonsets(wanted.namespace, wanted.selector))
        there = [live for live in lives if live is not None]
        judged = [status(view, alive=True) for view in views(self.connection, there, wanted)]
        found: dict[Ref, Status | None] = {each.view.live.ref: each for each in judged}
        if wanted.refs:
            return {ref: found.get(ref) for ref in wanted.refs}
        return self._of_all(judged)

    def _of_all(self, judged: Sequence[Status]) -> dict[Ref, Status | None]:
        """Return what is managed, and what the commit adds to it.

        Raises:
            UsageError: There is nothing of either.
        """
        managed = {each.view.live.ref: each for each in judged if each.view.record is not None}
        paths = [each.view.record.path for each in managed.values() if each.view.record]
        added = self.goal.refs(self.wanted, self.connection.namespace, filter(None, paths))
        if not managed and not added:
            raise UsageError(
                f"no DaemonSet {self.wanted.where} is managed by dsgitops", remedy="give -n or -A"
            )
        return {**dict.fromkeys(added), **managed}


def _tell(ref: Ref, found: Outcome) -> None:
    word = f"{found.result}: " if found.result is not None else ""
    terminal.say(terminal.plain(f"{ref}: {word}{found.because}"))


def _seconds(timeout: str) -> float:
    from dsgitops.core import duration  # noqa: PLC0415 - only here

    try:
        return duration.parse(timeout).total_seconds()
    except ValueError as error:
        raise UsageError(f"--timeout {error}", remedy="write 90s, 15m or 1h") from None
