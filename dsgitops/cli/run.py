"""`dsgitops run`: the agent itself."""

from __future__ import annotations

import logging
import os
import signal
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Never

import typer

from dsgitops.cli import terminal
from dsgitops.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from dsgitops.core.model import Decision, Problem
    from dsgitops.runtime import Runtime
    from dsgitops.settings import Settings

ONCE_PATIENCE = timedelta(minutes=2)
"""How long `--once` waits for its first look at Git and the cluster."""
_SHUTDOWN_SECONDS = 10
"""After SIGTERM the process is gone within this, whatever hangs (`interfaces.md`, run)."""


def run(  # noqa: PLR0913 - each is a flag
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="settings (YAML) [default: DSGITOPS_CONFIG]"),
    ] = None,
    *,
    once: Annotated[bool, typer.Option("--once", help="one turn, then exit with its verdict")] = (
        False
    ),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="send dry runs only, say what would be done; once")
    ] = False,
    kubeconfig: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="kubeconfig [default: KUBECONFIG, service account]"),
    ] = None,
    context: Annotated[
        str | None, typer.Option(metavar="NAME", help="context of the kubeconfig")
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="allow a kubeconfig that skips TLS verification")
    ] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="a setting, over file and environment"),
    ] = None,
    log_format: Annotated[str, typer.Option(metavar="json|text", help="of the log")] = "text",
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="also log decisions that did not change")
    ] = False,
) -> None:
    """Keep the cluster's DaemonSets as Git has them, until stopped."""
    from dsgitops import wiring  # noqa: PLC0415 - loads every client library
    from dsgitops.adapters import log  # noqa: PLC0415
    from dsgitops.adapters.kubernetes.transport import connect  # noqa: PLC0415

    form = _form(log_format)
    log.configure(form, verbose=verbose)
    settings = _settings(config, set_ or [], tell=_log if form == "json" else _note)
    transport = connect(kubeconfig, context=context, insecure=insecure)
    runtime = wiring.runtime(settings, transport, voice=log.LogVoice(), dry_run=dry_run)
    _stop_on_signals(runtime)
    if not (once or dry_run):
        _serve(runtime, settings)
        runtime.run()
        _end()
    settled = runtime.settle(ONCE_PATIENCE) and not runtime.agent.intake.unread
    raise typer.Exit(_verdict(runtime.agent.decisions.values(), settled=settled))


def _serve(runtime: Runtime, settings: Settings) -> None:
    """Answer for the agent's health and metrics from now on, until the process ends.

    Raises:
        UsageError: `http.listen` cannot be listened on.
    """
    from dsgitops.adapters.log import LOGGER  # noqa: PLC0415
    from dsgitops.web import serve  # noqa: PLC0415

    server = serve(runtime, settings)
    LOGGER.info("health and metrics are on port %d", server.port)


def _end() -> Never:
    """End the process here: what must be stopped has been, and is bounded.

    The interpreter's own shutdown is not: it was seen to hang beside threads that read watches.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _settings(
    config: Path | None, assignments: list[str], *, tell: Callable[[Problem], None]
) -> Settings:
    """Read the settings; tell every problem with its place.

    Raises:
        UsageError: There is none, or something in it is wrong.
    """
    from dsgitops.wiring import load_settings  # noqa: PLC0415

    named = os.environ.get("DSGITOPS_CONFIG")
    file = config or (Path(named) if named else None)
    if file is None:
        raise UsageError(
            "no configuration is named", remedy="give --config FILE or set DSGITOPS_CONFIG"
        )
    overrides: dict[str, str] = {}
    for each in assignments:
        name, equals, value = each.partition("=")
        if not equals:
            raise UsageError("--set wants NAME=VALUE", remedy="such as rollout.bakeTime=5m")
        overrides[name] = value
    settings, problems = load_settings(file, overrides)
    for problem in problems:
        tell(problem)
    if settings is None:
        count = sum(1 for each in problems if each.severity == "error")
        raise UsageError(f"{count} problem{'s'[: count != 1]} in the settings")
    return settings


def _note(problem: Problem) -> None:
    terminal.note(f"{problem.severity}: {terminal.plain(str(problem))}")
    if problem.remedy:
        terminal.note(f"hint: {terminal.plain(problem.remedy)}")


def _log(problem: Problem) -> None:
    """As one of the log's lines: whoever collects JSON reads nothing else."""
    from dsgitops.adapters.log import LOGGER  # noqa: PLC0415

    level = logging.ERROR if problem.severity == "error" else logging.WARNING
    LOGGER.log(level, "%s", f"{problem}; {problem.remedy}" if problem.remedy else str(problem))


def _form(given: str) -> Literal["json", "text"]:
    if given == "json":
        return "json"
    if given == "text":
        return "text"
    raise UsageError(f"--log-format {given!r} is not known", remedy="write json or text")


def _stop_on_signals(runtime: Runtime) -> None:
    """End in order on SIGTERM and Ctrl-C; a second one, or ten seconds, ends it anyway."""

    def stop(_number: int, _frame: object) -> None:
        if runtime.stopping.is_set():
            os._exit(130)
        runtime.stopping.set()
        runtime.woken.set()
        signal.alarm(_SHUTDOWN_SECONDS - 1)

    def give_up(_number: int, _frame: object) -> None:
        os._exit(0)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGALRM, give_up)


def _verdict(decisions: Iterable[Decision], *, settled: bool) -> int:
    """Return the exit code of one turn: the first that occurs of 7, 3, 6; in progress is 0."""
    from dsgitops.core.model import Reason  # noqa: PLC0415

    reasons = {each.reason for each in decisions}
    if not settled or reasons & {Reason.CLUSTER_UNREACHABLE, Reason.SOURCE_UNREADABLE}:
        return 7
    failed = {
        Reason.ROLLING_BACK,
        Reason.ROLLED_BACK,
        Reason.ROLLBACK_FAILED,
        Reason.ROLLOUT_FAILED,
    }
    if reasons & failed:
        return 3
    if reasons & {Reason.SUSPENDED, Reason.QUARANTINED}:
        return 6
    refused = {Reason.REFUSED, Reason.CONFLICT, Reason.MANIFEST_INVALID}
    return 2 if reasons & refused else 0
