"""The stage of `dsgitops demo`: a simulated cluster, a real Git repository, the real agent."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from dsgitops.core.model import NodeState, Phase, Policy, Reason, Ref

if TYPE_CHECKING:
    from collections.abc import Callable

    from dsgitops.core.model import Decision
    from dsgitops.ports import Source
    from dsgitops.sim.drive import Drive
    from dsgitops.sim.repository import Repository
    from dsgitops.sim.world import World

STAR = Ref("kube-system", "fluentd")
"""The DaemonSet that the story is about."""
MANIFEST = "clusters/prod/fluentd.yaml"
NAMESPACES = ("kube-system", "logging", "monitoring")
ZONES = ("zone-a", "zone-b", "zone-c")
INTERVAL = timedelta(seconds=5)
"""Between two polls of Git, in virtual time."""
POLICY = Policy(
    canary_nodes=1,
    canary_bake=timedelta(seconds=5),
    pod_deadline=timedelta(seconds=30),
    progress_deadline=timedelta(seconds=60),
    bake_time=timedelta(seconds=15),
)
"""Deadlines that fit a demo's clock; the agent's defaults are many times longer."""
LINES_KEPT = 200


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that was said, and when in virtual seconds."""

    at: float
    reason: str
    text: str


@dataclass(slots=True)
class Undoing:
    """What a rollback did to pods."""

    broken: int
    before: frozenset[str]
    """uids of the pods when it began."""
    replaced: int | None = None
    """Pods that were there before and are not after; None: it is not over."""


@dataclass(slots=True)
class Stage:
    """`ports.Voice` of the demo, and everything that its steps move."""

    world: World
    repository: Repository
    show: Callable[[Line], None]
    drive: Drive = field(init=False)
    lines: deque[Line] = field(default_factory=lambda: deque[Line](maxlen=LINES_KEPT))
    star: Decision | None = None
    phases: list[Phase] = field(default_factory=list[Phase])
    """Phases of the star, as they came."""
    undoing: Undoing | None = None
    started: float = field(default_factory=time.monotonic)

    # ---------------------------------------------------------------- ports.Voice

    def tell(self, ref: Ref, decision: Decision, now: datetime, *, news: bool) -> None:  # noqa: ARG002 - the line is at the world's time
        """Show what is said of the star; the other DaemonSets go on in silence."""
        if ref != STAR:
            return
        self.star = decision
        phase = decision.record.phase if decision.record else Phase.IDLE
        moved = not self.phases or self.phases[-1] is not phase
        if moved:
            self.phases.append(phase)
        self._watch_rollback(decision)
        if news or (moved and phase is Phase.ROLLING):
            self.say(decision.reason, decision.because)

    def problem(self, source: str, what: str, *, remedy: str = "") -> None:
        """Show what is wrong with Git."""
        self.say("Problem", f"{source}: {what}. {remedy}".strip())

    def fault(self, ref: Ref, error: Exception) -> None:
        """Show what went wrong: in a demo nothing should."""
        self.say("Fault", f"{ref}: {type(error).__name__}: {error}")

    def read(self, source: str, commit: str, now: datetime, *, partial: bool) -> None:
        """Nothing: the decisions say it."""

    # ---------------------------------------------------------------- what steps use

    def say(self, reason: str, text: str) -> None:
        """Show a line at this moment."""
        line = Line(self.world.clock.monotonic(), str(reason), text)
        self.lines.append(line)
        self.show(line)

    def commit(self, change: Callable[[str], str], message: str) -> None:
        """Change the star's manifest in Git."""
        text = self.repository.read(MANIFEST)
        changed = change(text)
        assert changed != text, "a commit that changes nothing shows nothing"
        self.repository.commit({MANIFEST: changed}, message)

    def phase(self) -> Phase | None:
        """Return the star's phase, as the agent last wrote it."""
        return self.phases[-1] if self.phases else None

    def rests(self) -> bool:
        """Whether the star is at rest with what Git has, and every other DaemonSet too."""
        decisions = self.drive.agent.decisions.values()
        return bool(decisions) and all(
            each.record is not None
            and each.record.phase is Phase.IDLE
            and each.reason in (Reason.IN_SYNC, Reason.ROLLOUT_FINISHED)
            for each in decisions
        )

    def holds(self) -> bool:
        """Whether the star's last commit is held."""
        return self.phase() is Phase.HELD

    def pods(self) -> frozenset[str]:
        """Return the uids of the star's pods."""
        found = self.world.pods(STAR.namespace, STAR.name)
        return frozenset(pod["metadata"]["uid"] for pod in found)

    def _watch_rollback(self, decision: Decision) -> None:
        if decision.reason is Reason.ROLLING_BACK and self.undoing is None:
            judgement = decision.judgement
            broken = judgement.count(NodeState.BAD_REVISION) if judgement else 0
            self.undoing = Undoing(broken, self.pods())
        if decision.reason is Reason.ROLLED_BACK and self.undoing is not None:
            self.undoing.replaced = len(self.undoing.before - self.pods())


def examples() -> Path:
    """Return the example repository: in the package, or beside it in a checkout."""
    packaged = Path(str(resources.files("dsgitops"))) / "examples"
    if packaged.is_dir():
        return packaged
    return Path(str(resources.files("dsgitops"))).parent / "examples" / "repo"


def build(
    folder: Path, *, nodes: int, show: Callable[[Line], None], seed: int = 1, serve: bool = False
) -> Stage:
    """Set the stage: the cluster, the repository with its first commit, the agent.

    Args:
        folder: An empty one, for the repository and the agent's mirror.
        nodes: How many there are, over three zones.
        show: Called with every line.
        seed: Of all chance in the cluster.
        serve: Whether people look in from outside.
    """
    from dsgitops import wiring  # noqa: PLC0415 - loads the client libraries
    from dsgitops.adapters.git import address, revision  # noqa: PLC0415
    from dsgitops.adapters.git.source import GitSource, Tracked  # noqa: PLC0415
    from dsgitops.sim.clock import START  # noqa: PLC0415
    from dsgitops.sim.repository import Repository  # noqa: PLC0415
    from dsgitops.sim.world import World  # noqa: PLC0415

    start = datetime.now(UTC) if serve else START  # kubectl shows ages by the real clock
    world = World(nodes=nodes, zones=ZONES, seed=seed, start=start, provides=True)
    for namespace in NAMESPACES:
        world.make_namespace(namespace)
    root = examples()
    repository = Repository.create(folder / "node-agents")
    files = {
        str(path.relative_to(root)): path.read_text()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }
    repository.commit(files, "Add the node agents")
    stage = Stage(world, repository, show)
    where = address.parse(str(repository.path))
    what = revision.parse("branch", "main")
    assert isinstance(where, address.Address), "an absolute path is an address"
    assert isinstance(what, revision.Revision), "main is a branch name"
    source: Source = GitSource(
        Tracked(name="node-agents", address=where, revision=what, path="clusters/prod"),
        folder / "cache",
    )
    stage.drive = wiring.simulated(
        world,
        {source.name: source},
        namespaces=NAMESPACES,
        policy=POLICY,
        voice=stage,
        interval=INTERVAL,
        tells=serve,
    )
    return stage
