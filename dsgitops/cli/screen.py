"""What a demo shows: plain lines, or a live table on a terminal.  At most 80 columns."""

from __future__ import annotations

import textwrap
import time
from typing import TYPE_CHECKING, Any, Protocol, Self

from dsgitops.cli import terminal
from dsgitops.core.budget import resolve
from dsgitops.core.model import NodeState, Phase

if TYPE_CHECKING:
    from dsgitops.cli.stage import Line, Stage

WIDTH = 80
FRAMES_PER_SECOND = 10
_LINES_SHOWN = 12
_MARKS: dict[NodeState, tuple[str, str]] = {
    NodeState.DESIRED: ("●", "green"),
    NodeState.OLD: ("○", "cyan"),
    NodeState.STARTING: ("◐", "yellow"),
    NodeState.TERMINATING: ("◌", "yellow"),
    NodeState.NO_POD: ("·", "yellow"),
    NodeState.BAD_REVISION: ("✗", "red"),
    NodeState.BAD_NODE: ("!", "magenta"),
    NodeState.BAD_BEFORE: ("!", "magenta"),
    NodeState.LEAVING: ("·", "dim"),
}
"""A character and a colour for each state: the picture can be read without colours."""


class Screen(Protocol):
    """Where the demo is seen."""

    def __enter__(self) -> Self:
        """Begin."""
        ...

    def __exit__(self, *_: object) -> None:
        """End; what was shown last stays."""
        ...

    def line(self, line: Line) -> None:
        """Show one line."""
        ...

    def frame(self, stage: Stage) -> None:
        """Show where things are now; called often."""
        ...


class Plain:
    """Lines, for pipes and files."""

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """End."""

    def line(self, line: Line) -> None:
        """Print it, wrapped to 80 columns."""
        terminal.say(wrapped(line))

    def frame(self, stage: Stage) -> None:
        """Nothing: lines say what changed."""


class Live:
    """A table that is drawn again and again, on a terminal."""

    def __init__(self, title: str) -> None:
        from rich.live import Live as RichLive  # noqa: PLC0415 - only on a terminal

        self._title = title
        self._drawn = 0.0
        self._stage: Stage | None = None
        self._live = RichLive(auto_refresh=False, transient=False)

    def __enter__(self) -> Self:
        """Begin."""
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End; the last frame stays."""
        if self._stage is not None:
            self.draw(self._stage)
        self._live.stop()

    def line(self, line: Line) -> None:
        """Nothing: the frame shows the last lines."""

    def frame(self, stage: Stage) -> None:
        """Draw, but not more often than eyes can follow."""
        self._stage = stage
        now = time.monotonic()
        if now - self._drawn < 1 / FRAMES_PER_SECOND:
            return
        self._drawn = now
        self.draw(stage)

    def draw(self, stage: Stage) -> None:
        """Draw now."""
        self._live.update(_picture(self._title, stage), refresh=True)


def clock(seconds: float) -> str:
    """Return virtual time as `m:ss`."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def wrapped(line: Line, width: int = WIDTH) -> str:
    """Return a line with its time and reason, wrapped under itself."""
    head = f"{clock(line.at):>5}  {line.reason:<18}  "
    return textwrap.fill(
        terminal.plain(line.text),
        width=width,
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _picture(title: str, stage: Stage) -> Any:  # noqa: ANN401 - rich's renderables
    from rich.console import Group  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    at = stage.world.clock.monotonic()
    head = Text(f"{title}   clock {clock(at)}", style="bold")
    rows = [head, Text(_where(stage))]
    rows += _zones(stage)
    rows.append(_legend(stage))
    rows.append(Text(""))
    rows += [Text(each) for each in _last(stage)]
    return Group(*rows)


def _last(stage: Stage) -> list[str]:
    """Return the last things said, as many as there is room for; none of them cut."""
    said: list[str] = []
    for line in reversed(stage.lines):
        whole = wrapped(line).splitlines()
        if len(said) + len(whole) > _LINES_SHOWN:
            break
        said = whole + said
    return said


def _where(stage: Stage) -> str:
    decision = stage.star
    record = decision.record if decision else None
    if decision is None or record is None:
        return "the DaemonSets are being created"
    commit = record.commit.rpartition(":")[2][:7]
    return f"kube-system/fluentd   commit {commit}   phase {record.phase}   {_budget(stage)}"


def _budget(stage: Stage) -> str:
    judgement = stage.star.judgement if stage.star else None
    record = stage.star.record if stage.star else None
    if judgement is None or record is None or record.last_good is None:
        return ""  # nothing is out where nothing ran before
    found = stage.world.daemonset("kube-system", "fluentd")
    rolling = found["spec"]["updateStrategy"].get("rollingUpdate") or {}
    most = max(1, resolve(rolling.get("maxUnavailable") or 1, nodes=judgement.total))
    out = judgement.total - judgement.count(NodeState.DESIRED) - judgement.count(NodeState.OLD)
    return f"out {out} of at most {most}"


def _states(stage: Stage) -> dict[str, NodeState]:
    """Return the state of every node; at rest all have what Git has."""
    judgement = stage.star.judgement if stage.star else None
    if judgement is not None:
        return dict(judgement.states)
    if stage.phase() in (Phase.IDLE, Phase.HELD):
        names = (node["metadata"]["name"] for node in stage.world.store.list("nodes"))
        return dict.fromkeys(names, NodeState.DESIRED)
    return {}


def _zones(stage: Stage) -> list[Any]:
    from rich.text import Text  # noqa: PLC0415

    states = _states(stage)
    zones: dict[str, list[tuple[int, str]]] = {}
    for node in stage.world.store.list("nodes"):
        name = node["metadata"]["name"]
        zone = node["metadata"]["labels"].get("topology.kubernetes.io/zone", "")
        zones.setdefault(zone, []).append((len(name), name))
    rows: list[Any] = []
    for zone, names in sorted(zones.items()):
        row = Text(f"{zone:<8} ")
        for _, name in sorted(names)[: WIDTH - 10]:
            mark, style = _MARKS[states[name]] if name in states else ("·", "dim")
            row.append(mark, style=style)
        rows.append(row)
    return rows


def _legend(stage: Stage) -> Any:  # noqa: ANN401 - rich's
    from rich.text import Text  # noqa: PLC0415

    states = list(_states(stage).values())
    row = Text("nodes    ")
    for state, (mark, style) in _MARKS.items():
        count = states.count(state)
        if count:
            row.append(f"{mark} {count} {state.value}  ", style=style)
    return row
