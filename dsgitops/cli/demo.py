"""`dsgitops demo`: the main job on a simulated cluster; offline, and it ends by itself."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
import threading
import time
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dsgitops.cli import terminal
from dsgitops.errors import DsgitopsError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from dsgitops.cli.screen import Screen
    from dsgitops.cli.stage import Stage
    from dsgitops.sim.http import HttpServer

SPEED = 10.0
NODES_MAX = 5000


class DemoFailed(DsgitopsError):
    """The story did not come to its end: a defect of ours."""


def demo(
    scenario: Annotated[
        str, typer.Option(metavar="good|bad|drift|ondelete|slow", help="what happens")
    ] = "bad",
    nodes: Annotated[int, typer.Option(min=1, max=NODES_MAX, help="simulated nodes")] = 40,
    speed: Annotated[
        float, typer.Option(min=0, help="virtual seconds a second; 0: as fast as it goes")
    ] = SPEED,
    *,
    keep: Annotated[
        bool, typer.Option("--keep", help="keep the Git repository, and say where it is")
    ] = False,
    serve: Annotated[
        bool, typer.Option("--serve", help="serve the cluster for kubectl until Ctrl-C")
    ] = False,
) -> None:
    """Watch a good commit, a bad one, the rollback and the fix."""
    from dsgitops.cli.scenarios import SCENARIOS  # noqa: PLC0415 - loads the simulation
    from dsgitops.cli.stage import build  # noqa: PLC0415

    if scenario not in SCENARIOS:
        raise UsageError(
            f"there is no scenario {scenario!r}", remedy=f"one of {', '.join(SCENARIOS)}"
        )
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    folder = Path(tempfile.mkdtemp(prefix="dsgitops-demo-"))
    screen = _screen(scenario, nodes, speed)
    try:
        stage = build(folder, nodes=nodes, show=screen.line, serve=serve)
        _introduce(nodes, speed)
        server = _serve(stage, folder) if serve else None
        with screen:
            _play(stage, scenario, screen, speed, server)
        _summarise(stage, scenario)
        if server is not None:
            _go_on(stage, screen, server)
    finally:
        if keep:
            terminal.note(f"kept: {folder / 'node-agents'}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def _leave(number: int, _frame: object) -> None:
    """End as a shell tells of a signal, but tidy up first."""
    raise SystemExit(128 + number)


def _screen(scenario: str, nodes: int, speed: float) -> Screen:
    from dsgitops.cli.screen import Live, Plain  # noqa: PLC0415

    if sys.stdout.isatty() and speed > 0:
        return Live(f"dsgitops demo, scenario {scenario}, {nodes} nodes")
    return Plain()


def _introduce(nodes: int, speed: float) -> None:
    from dsgitops.cli.stage import POLICY  # noqa: PLC0415
    from dsgitops.core.narrate import span  # noqa: PLC0415

    pace = f"{speed:g} times real time" if speed else "as fast as it goes"
    count = "1 simulated node" if nodes == 1 else f"{nodes} simulated nodes"
    terminal.say(f"{count} in three zones, {pace}. Deadlines to fit:")
    terminal.say(
        f"a pod is ready within {span(POLICY.pod_deadline or timedelta())}, canary "
        f"{span(POLICY.canary_bake)}, bake {span(POLICY.bake_time)}, "
        f"no progress {span(POLICY.progress_deadline)}."
    )
    terminal.say()


def _play(
    stage: Stage, scenario: str, screen: Screen, speed: float, server: HttpServer | None
) -> None:
    from dsgitops.cli.scenarios import PATIENCE, SCENARIOS  # noqa: PLC0415
    from dsgitops.cli.stage import INTERVAL  # noqa: PLC0415

    stage.drive.pace = _pace(stage, screen, speed, server)
    with _lock_of(server):
        for step in SCENARIOS[scenario]:
            stage.say("", f"-- {step.title}")
            step.act(stage)
            stage.drive.run(INTERVAL + timedelta(seconds=1))  # until the agent has polled
            done = stage.drive.run(PATIENCE, until=partial(step.until, stage))
            if not done:
                raise DemoFailed(f"the step {step.title!r} did not end")
    screen.frame(stage)


def _pace(
    stage: Stage, screen: Screen, speed: float, server: HttpServer | None
) -> Callable[[datetime], None]:
    """Return what is called before time moves: draw, and wait until it is really that late."""
    begun = time.monotonic()
    origin = stage.world.clock.monotonic()

    def pace(at: datetime) -> None:
        screen.frame(stage)
        if not speed:
            return
        due = begun + (stage.world.clock.seconds_of(at) - origin) / speed
        pause = due - time.monotonic()
        if pause <= 0:
            return
        if server is None:
            time.sleep(pause)
            return
        server.lock.release()
        try:
            time.sleep(pause)
        finally:
            server.lock.acquire()

    return pace


def _lock_of(server: HttpServer | None) -> AbstractContextManager[object]:
    from contextlib import nullcontext  # noqa: PLC0415

    return server.lock if server is not None else nullcontext()


def _summarise(stage: Stage, scenario: str) -> None:
    terminal.say()
    minutes = stage.world.clock.monotonic()
    real = time.monotonic() - stage.started
    terminal.say(f"{minutes:.0f} s of cluster time in {real:.0f} s.")
    undoing = stage.undoing
    if undoing is not None and undoing.replaced is not None:
        end = ", and no other" if undoing.replaced == undoing.broken else ""
        terminal.say(
            f"The bad commit broke {_pods(undoing.broken)}; the rollback restarted "
            f"{_pods(undoing.replaced)}{end}."
        )
    terminal.say()
    terminal.say("Try next:")
    others = {"bad": "drift", "drift": "ondelete", "ondelete": "slow"}
    program = _program()
    terminal.say(f"  {program} demo --scenario {others.get(scenario, 'bad')}")
    terminal.say(f"  {program} demo --serve    # kubectl get ds,pods -A beside it")
    terminal.say(f"  {program} validate examples/repo")


def _program() -> str:
    """Return what to type for this command here: a checkout's own is not in the PATH."""
    if shutil.which("dsgitops"):
        return "dsgitops"
    own = Path(".venv/bin/dsgitops")
    return str(own) if own.exists() else "python -m dsgitops"


def _pods(count: int) -> str:
    return "1 pod" if count == 1 else f"{count} pods"


def _serve(stage: Stage, folder: Path) -> HttpServer:
    from dsgitops.sim.http import HttpServer  # noqa: PLC0415

    server = HttpServer(stage.world.api, threading.RLock())
    server.start()
    kubeconfig = folder / "kubeconfig"
    server.write_kubeconfig(kubeconfig)
    terminal.say(f"serving the cluster: export KUBECONFIG={kubeconfig}")
    terminal.say()
    return server


def _go_on(stage: Stage, screen: Screen, server: HttpServer) -> None:
    """Keep the cluster and the agent going until Ctrl-C."""
    terminal.note("the cluster goes on in real time until Ctrl-C")
    stage.drive.pace = _pace(stage, screen, 1.0, server)
    try:
        with server.lock:
            while True:
                stage.drive.run(timedelta(hours=1))
    except KeyboardInterrupt:
        terminal.note("")
    finally:
        server.stop()
