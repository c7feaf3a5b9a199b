"""`python -m dsgitops.cli.judge DIR`: play recordings of real kubelets through the judgement.

The judgement sees the stream alone, as an agent would: it finds out by itself when the template
changes, takes its baseline then, and keeps what a record would keep.  The expectation beside a
recording is read afterwards, to compare.
"""

from __future__ import annotations

import gzip
import json
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dsgitops.adapters.kubernetes import wire
from dsgitops.core.chronicle import Chronicle
from dsgitops.core.health import Question, baseline, judge, target_revision
from dsgitops.core.model import NodeState, Policy, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from dsgitops.core.model import FailureClass, Judgement, Live, Node, Pod, Revision

SETTINGS = Policy(
    mode="native",
    pod_deadline=timedelta(seconds=75),
    progress_deadline=timedelta(seconds=150),
    bake_time=timedelta(seconds=40),
    max_failed_nodes=1,
)
RUNS_ON = timedelta(minutes=10)
"""How long the clock goes on after the last line."""
LIST_GAP = 1.0
"""Seconds without a line after which the lists at the start are over."""
SLACK = 0.002
"""Seconds by which a stamp of an expectation may differ from its line's."""
DEADLINE_SLACK = 5.0
"""Seconds: stamps in objects are whole seconds, and the wall clock is guessed from them."""

Json = dict[str, Any]
_LISTED = {"ControllerRevision": 1, "Node": 2, "Pod": 3, "Event": 4, "DaemonSet": 5}
"""The order in which lists are taken in: a change of the template is judged with all else known."""

# ---------------------------------------------------------------------------- reading


@dataclass(frozen=True, slots=True)
class Line:
    """One watch event."""

    t: float
    """Seconds since the start of the recording."""
    type: str
    """ADDED, MODIFIED or DELETED."""
    object: Json

    @property
    def kind(self) -> str:
        """The object's kind."""
        return str(self.object.get("kind"))

    @property
    def uid(self) -> str:
        """The object's uid."""
        return str(self.object["metadata"].get("uid"))

    @property
    def version(self) -> int:
        """The object's resourceVersion; comparable within one cluster."""
        given = str(self.object["metadata"].get("resourceVersion"))
        return int(given) if given.isdecimal() else 0


@dataclass(frozen=True, slots=True)
class Recording:
    """One folder entry: the stream, and what is expected of it."""

    name: str
    lines: tuple[Line, ...]
    epoch: datetime
    """Wall-clock time at t = 0."""
    expect: Json


def load(path: Path) -> Recording:
    """Read `NN-name.jsonl.gz` and the `.expect.json` beside it.

    Raises:
        OSError: One of the two cannot be read.
        ValueError: One of the two is not what it should be.
    """
    with gzip.open(path, "rt", encoding="utf-8") as file:
        given = [json.loads(line) for line in file if line.strip()]
    lines = tuple(Line(float(each["t"]), each["type"], each["object"]) for each in given)
    name = path.name.removesuffix(".jsonl.gz")
    expect = json.loads(path.with_name(f"{name}.expect.json").read_text(encoding="utf-8"))
    return Recording(name, lines, _epoch(lines), expect)


def _epoch(lines: Iterable[Line]) -> datetime:
    """Guess the wall clock: no object can have been made after its line arrived."""
    stamps = (
        _created(line.object) - timedelta(seconds=line.t) for line in lines if line.type == "ADDED"
    )
    return max(stamps, default=datetime(2000, 1, 1, tzinfo=UTC))


def _created(content: Json) -> datetime:
    """Return when an object was made: the API server's whole second, finer where an Event says."""
    made = datetime.fromisoformat(content["metadata"]["creationTimestamp"])
    finer = datetime.fromisoformat(content.get("eventTime") or made.isoformat())
    return finer if timedelta() <= finer - made < timedelta(seconds=1) else made


# ---------------------------------------------------------------------------- playing


@dataclass(frozen=True, slots=True)
class Said:
    """What was said from one moment on."""

    t: float
    verdict: Verdict
    failure_class: FailureClass | None = None
    cause: FailureClass | None = None
    nodes: tuple[str, ...] = ()
    """Who is blamed: `badRevision`; for NodeProblem `badNode` and `badBefore`."""
    states: Mapping[str, NodeState] = field(default_factory=dict, compare=False)


@dataclass(slots=True)
class Memory:
    """What an agent's record would hold."""

    good: Revision | None = None
    """Last good."""
    template: Mapping[str, Any] | None = None
    """What was last seen written."""
    started: datetime | None = None
    """The write; None: nothing is rolled out."""
    bad_before: frozenset[str] = frozenset()
    baking_since: datetime | None = None
    failed: Said | None = None
    """A verdict Failed stands until the template changes."""
    baked: bool = False
    """The last rollout is over, and was good."""


@dataclass(slots=True)
class Player:
    """An agent's eyes and memory, without its hands."""

    epoch: datetime
    memory: Memory = field(default_factory=Memory)
    policy: Policy = SETTINGS
    live: Live | None = None
    revisions: dict[str, Revision] = field(default_factory=dict)
    pods: dict[str, Pod] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    dead: set[str] = field(default_factory=set)
    chronicle: Chronicle = field(default_factory=Chronicle)
    live_since: datetime | None = None
    look_again: datetime | None = None
    said: list[Said] = field(default_factory=list)

    def play(self, lines: Sequence[Line]) -> list[Said]:
        """Play all lines and the ten minutes after; return what was said, changes only."""
        listed = _listed(lines)
        if listed:
            self.take_list(lines[:listed], lines[listed - 1].t)
        for line in lines[listed:]:
            self.take(line)
        if lines:
            self.run_on(lines[-1].t + RUNS_ON.total_seconds())
        return self.said

    def take_list(self, lines: Sequence[Line], t: float) -> None:
        """Take in what exists at `t`, and judge once: what is not in the list is gone."""
        now = self.at(t)
        self._wait_until(now)
        self.live_since = now
        present = {line.uid for line in lines}
        for pod in [each for each in self.pods.values() if each.uid not in present]:
            self.chronicle.pod_gone(pod, now)
            del self.pods[pod.uid]
        self.nodes = {}
        for line in sorted(lines, key=lambda each: _LISTED.get(each.kind, 0)):
            self._take(line, now)
        self._judge(now)

    def take(self, line: Line) -> None:
        """Take in one watch event and judge."""
        now = self.at(line.t)
        self._wait_until(now)
        self.live_since = self.live_since or now
        self._take(line, now)
        self._judge(now)

    def run_on(self, t: float) -> None:
        """Let the clock run until `t`."""
        self._wait_until(self.at(t))

    def at(self, t: float) -> datetime:
        """Return the wall-clock time at `t`."""
        return self.epoch + timedelta(seconds=t)

    def _wait_until(self, end: datetime) -> None:
        """Let time pass, looking again whenever the judgement asked for it."""
        while self.look_again is not None and self.look_again < end:
            now, self.look_again = self.look_again, None
            self._judge(now)

    # ------------------------------------------------------------------ the stream

    def _take(self, line: Line, now: datetime) -> None:
        if line.kind == "Event":
            self.chronicle.event(wire.event(line.object), now)
            return
        uid, version = line.uid, line.version
        late = uid in self.dead or version < self.versions.get(uid, -1)
        if line.kind == "Pod":
            self._take_pod(line, now, late=late)
        if late:
            return
        self.versions[uid] = version
        if line.type == "DELETED":
            self.dead.add(uid)
        if line.kind == "Node":
            self._take_node(line, now)
        elif line.kind == "ControllerRevision":
            revision = wire.revision(line.object)
            self.revisions[revision.name] = revision
        elif line.kind == "DaemonSet":
            self._take_daemonset(wire.daemonset(line.object), now)

    def _take_pod(self, line: Line, now: datetime, *, late: bool) -> None:
        pod = wire.pod(line.object)
        if line.type == "DELETED":
            self.chronicle.pod_gone(pod, now)
            self.pods.pop(pod.uid, None)
        else:
            self.chronicle.pod(pod, now)
            if not late:
                self.pods[pod.uid] = pod

    def _take_node(self, line: Line, now: datetime) -> None:
        node = wire.node(line.object)
        if line.type == "DELETED":
            self.nodes.pop(node.name, None)
            return
        self.nodes[node.name] = node
        self.chronicle.node(node, now)

    def _take_daemonset(self, live: Live, now: datetime) -> None:
        before, self.live = self.live, live
        memory = self.memory
        if memory.template is None:
            memory.template = live.template
        elif memory.template != live.template:
            self._change(before or live, live, now)

    def _change(self, before: Live, live: Live, now: datetime) -> None:
        """A new template: a rollout begins, or supersedes the one that is under way.

        Baseline and last good stay in mid-rollout: the nodes that the superseded content broke
        were fine before it.
        """
        memory = self.memory
        if memory.started is None:
            memory.good = target_revision(before, self.revisions.values()) or memory.good
            memory.bad_before = self._baseline(before, now)
        memory.template, memory.started = live.template, now
        memory.baking_since = memory.failed = None
        memory.baked = False

    def _baseline(self, before: Live, now: datetime) -> frozenset[str]:
        """Leave out pods of what comes: a late line may tell of the change after its first pod."""
        good = self.memory.good
        pods = [each for each in self.pods.values() if good is None or each.hash == good.hash]
        seconds = before.min_ready_seconds
        return baseline(before, pods, self.nodes.values(), min_ready_seconds=seconds, now=now)

    # ------------------------------------------------------------------ the verdict

    def _judge(self, now: datetime) -> None:
        live, memory = self.live, self.memory
        if live is None or self.live_since is None:
            return
        good = memory.good
        judgement = judge(
            Question(
                live=live,
                target=target_revision(live, self.revisions.values()),
                pods=list(self.pods.values()),
                nodes=list(self.nodes.values()),
                chronicle=self.chronicle,
                live_since=self.live_since,
                policy=self.policy,
                started=memory.started,
                bad_before=memory.bad_before,
                baking_since=memory.baking_since,
                previous_template=good.template if good else None,
                by_people=live.strategy.type == "OnDelete",
                now=now,
            )
        )
        self.look_again = judgement.look_again
        said = self._remember(_said(judgement, (now - self.epoch).total_seconds()), now)
        if not self.said or _differs(self.said[-1], said):
            self.said.append(said)

    def _remember(self, said: Said, now: datetime) -> Said:
        """Keep what a record would: a failure stands, a bake begins and ends."""
        memory = self.memory
        if memory.failed is not None:
            self.look_again = None
            return memory.failed
        if memory.started is None:
            return Said(said.t, Verdict.FINISHED, states=said.states) if memory.baked else said
        if said.verdict is Verdict.FAILED:
            memory.failed = said
        if said.verdict is not Verdict.FINISHED:
            return said
        memory.baking_since = memory.baking_since or now
        over = memory.baking_since + self.policy.bake_time
        undone = memory.good is not None and memory.template == memory.good.template
        if over <= now or undone:
            memory.started, memory.baking_since = None, None
            memory.bad_before, memory.baked = frozenset(), True
        elif self.look_again is None or over < self.look_again:
            self.look_again = over
        return said


def _listed(lines: Sequence[Line]) -> int:
    """Return how many lines are the lists at the start: ADDED, one after the other."""
    for place, line in enumerate(lines):
        if line.type != "ADDED" or line.t - lines[max(place - 1, 0)].t > LIST_GAP:
            return place
    return len(lines)


def _differs(before: Said, after: Said) -> bool:
    return (before.verdict, before.failure_class, before.nodes) != (
        after.verdict,
        after.failure_class,
        after.nodes,
    )


def _said(judgement: Judgement, t: float) -> Said:
    blamed: tuple[NodeState, ...] = ()
    if judgement.verdict is Verdict.FAILED:
        blamed = (NodeState.BAD_REVISION,)
    elif judgement.verdict is Verdict.NODE_PROBLEM:
        blamed = (NodeState.BAD_NODE, NodeState.BAD_BEFORE)
    nodes = sorted(name for name, state in judgement.states.items() if state in blamed)
    return Said(
        t,
        judgement.verdict,
        judgement.failure_class,
        judgement.cause,
        tuple(nodes),
        dict(judgement.states),
    )


# ---------------------------------------------------------------------------- comparing


@dataclass(frozen=True, slots=True)
class Comparison:
    """What one recording came to."""

    told: Said
    """What was said of the change: the last word, or the NodeProblem while it lasted."""
    differs: tuple[str, ...] = ()
    """Empty: as expected."""


def compare(recording: Recording, said: Sequence[Said]) -> Comparison:
    """Compare what was said with what is expected, and when."""
    expect = recording.expect
    changed = float(expect.get("changed_at") or 0)
    after = _since(said, changed)
    wanted = expect["verdict"]
    told = next((each for each in after if each.verdict.value == wanted), after[-1])
    check = {
        "Failed": _check_failed,
        "Finished": _check_finished,
        "NodeProblem": _check_phases,
        "Progressing": _check_progressing,
    }[wanted]
    if wanted != "NodeProblem":
        told = after[-1]
    return Comparison(told, tuple(check(recording, after)))


def _since(said: Sequence[Said], t: float) -> list[Said]:
    """Return what was said from `t` on, beginning with what stood then."""
    before = [each for each in said if each.t <= t]
    return [*before[-1:], *(each for each in said if each.t > t)]


def _check_failed(recording: Recording, after: Sequence[Said]) -> Iterable[str]:
    expect, last = recording.expect, after[-1]
    if last.verdict is not Verdict.FAILED:
        yield f"{last.verdict} instead of Failed"
        return
    yield from _check_class(expect, last)
    yield from _check_nodes(expect, last, NodeState.BAD_REVISION)
    yield from _check_moment(recording, last.t, deadline=bool(expect.get("needs_deadline")))
    passing = [each for each in after[1:] if each.verdict is Verdict.FINISHED]
    floor = expect.get("finished_before")
    if passing and (floor is None or passing[0].t < floor - SLACK):
        yield f"Finished at {passing[0].t:.1f}"


def _check_finished(recording: Recording, after: Sequence[Said]) -> Iterable[str]:
    expect, last = recording.expect, after[-1]
    if last.verdict is not Verdict.FINISHED:
        yield f"{last.verdict} instead of Finished"
        return
    if expect.get("phases"):
        yield from _check_phases(recording, after)
        return
    if any(each.verdict is Verdict.FAILED for each in after):
        yield "Failed in between"
    first = next(each for each in after if each.verdict is Verdict.FINISHED)
    if expect.get("new_hashes"):
        first = next(each for each in _moved(after) if each.verdict is Verdict.FINISHED)
        waits = any(each.object["spec"].get("minReadySeconds") for each in _daemonsets(recording))
        yield from _check_moment(recording, first.t, deadline=waits)
    elif len(after) > 1 or after[0].verdict is not Verdict.FINISHED:
        yield "not Finished all the time"


def _check_progressing(recording: Recording, after: Sequence[Said]) -> Iterable[str]:
    expect, last = recording.expect, after[-1]
    end = recording.lines[-1].t
    early = [
        each for each in _moved(after) if each.t <= end and each.verdict is not Verdict.PROGRESSING
    ]
    if early:
        yield f"{early[0].verdict} at {early[0].t:.1f}"
    if not expect.get("needs_deadline"):
        if last.verdict is not Verdict.PROGRESSING:
            yield f"{last.verdict} in the end"
    elif last.verdict is not Verdict.FAILED:
        yield f"{last.verdict} after the deadline"
    else:
        yield from _check_class(expect, last)


def _check_phases(recording: Recording, after: Sequence[Said]) -> Iterable[str]:
    """Check verdicts over time: each phase's comes within one line, and no later one before."""
    phases = recording.expect.get("phases") or [recording.expect]
    ends = [float(each["from"]) for each in phases[1:]] + [float("inf")]
    for phase, end in zip(phases, ends, strict=True):
        begin = float(phase.get("from", recording.expect["earliest"]))
        yield from _check_phase(recording, phase, (begin, end), after)


def _check_phase(
    recording: Recording, phase: Json, span: tuple[float, float], after: Sequence[Said]
) -> Iterable[str]:
    begin, end = span
    here = [each for each in _moved(after) if begin - SLACK <= each.t < end - SLACK]
    wanted = phase["verdict"]
    hits = [each for each in here if each.verdict.value == wanted]
    if wanted == "Progressing":
        hits = hits or [each for each in _since(after, begin)[:1] if each.verdict.value == wanted]
    if not hits and not _is_before_deadline(wanted, span):
        yield f"no {wanted} from {begin:.1f} on"
    if not hits:
        return
    if phase.get("class"):
        yield from _check_class(phase, hits[0])
    if phase.get("nodes") and sorted(phase["nodes"]) != list(hits[0].nodes):
        yield f"nodes {','.join(hits[0].nodes)} from {begin:.1f} on"
    for each in here:
        if each.verdict in (Verdict.FAILED, Verdict.FINISHED) and each.verdict.value != wanted:
            yield f"{each.verdict} at {each.t:.1f}"
    if wanted in ("NodeProblem", "Finished"):
        # the evidence of the case's own verdict may come after its phase begins
        own = wanted == recording.expect["verdict"] and begin <= recording.expect["earliest"] < end
        earliest = float(recording.expect["earliest"]) if own else begin
        yield from _check_moment(
            recording, max(hits[0].t, earliest), deadline=False, earliest=earliest
        )


def _is_before_deadline(wanted: str, span: tuple[float, float]) -> bool:
    """Whether a failure that time alone proves ended before our deadline for a pod."""
    begin, end = span
    return wanted == "Failed" and end - begin < (SETTINGS.pod_deadline or RUNS_ON).seconds


def _moved(after: Sequence[Said]) -> Sequence[Said]:
    """Leave out what stood before the change."""
    return after[1:] if len(after) > 1 else after


def _daemonsets(recording: Recording) -> list[Line]:
    return [each for each in recording.lines if each.kind == "DaemonSet"]


def _check_class(expect: Json, last: Said) -> Iterable[str]:
    named = {str(last.failure_class), str(last.cause)}
    right = {expect.get("class"), *expect.get("class_also", ())}
    if expect.get("class") and str(last.failure_class) not in right:
        yield f"class {last.failure_class}"
    elif last.cause is not None and len(right) > 1 and not named <= right:
        yield f"cause {last.cause}"


def _check_nodes(expect: Json, last: Said, state: NodeState) -> Iterable[str]:
    wanted = sorted(name for name, each in expect["node_votes"].items() if each == state.value)
    if wanted != list(last.nodes):
        yield f"nodes {','.join(last.nodes) or '-'} instead of {','.join(wanted) or '-'}"


def _check_moment(
    recording: Recording, t: float, *, deadline: bool, earliest: float | None = None
) -> Iterable[str]:
    """Check that nothing is said before its evidence, nor more than one line or deadline after."""
    floor = float(recording.expect["earliest"] if earliest is None else earliest)
    if t < floor - SLACK:
        yield f"{floor - t:.1f} s before the evidence"
        return
    between = sum(1 for each in recording.lines if floor + SLACK < each.t < t - SLACK)
    if deadline:
        latest = floor + max(SETTINGS.pod_deadline or RUNS_ON, SETTINGS.progress_deadline).seconds
        if t > latest + DEADLINE_SLACK:
            yield f"{t - floor:.1f} s after the evidence"
    elif between > 1:
        yield f"{between} lines after the evidence"


# ---------------------------------------------------------------------------- the command


def main(arguments: Sequence[str]) -> Literal[0, 1, 2]:
    """Play a folder; print a line each; return the exit code."""
    paths = sorted(Path(arguments[0]).glob("*.jsonl.gz")) if len(arguments) == 1 else []
    if not paths:
        sys.stderr.write("usage: python -m dsgitops.cli.judge DIR   (a folder of *.jsonl.gz)\n")
        return 2
    wrong = False
    for path in paths:
        row = _judged(path)
        wrong |= row[-1] != "ok"
        sys.stdout.write("\t".join(row) + "\n")
        sys.stdout.flush()
    return 1 if wrong else 0


def _judged(path: Path) -> list[str]:
    """Play one recording; a file that cannot be read is a line like any other, and not ok."""
    try:
        recording = load(path)
        return _row(recording, compare(recording, Player(recording.epoch).play(recording.lines)))
    except (OSError, ValueError, KeyError) as error:
        name = path.name.removesuffix(".jsonl.gz")
        return [name, "-", "-", "-", "-", "-", f"cannot be read: {type(error).__name__}"]


def _row(recording: Recording, result: Comparison) -> list[str]:
    told, expect = result.told, recording.expect
    wanted = " ".join(filter(None, (expect["verdict"], expect.get("class"))))
    return [
        recording.name,
        str(told.verdict),
        str(told.failure_class or "-"),
        ",".join(told.nodes) or "-",
        f"{told.t:.1f}",
        f"{wanted} {expect['earliest']}",
        "; ".join(result.differs) or "ok",
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
