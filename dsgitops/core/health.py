"""The verdict on a rollout, from pods and nodes, with evidence node by node.

Never from status counters: they mix revisions, count terminating pods, and leave NotReady nodes in
or out depending on tolerations.  A node votes against the revision only if it was fine before, is
Ready now, and its pod of the new revision shows a signal of `signals` or passed its deadline.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from dsgitops.core import deadlines, signals
from dsgitops.core.budget import resolve
from dsgitops.core.chronicle import Chronicle
from dsgitops.core.eligible import Eligible
from dsgitops.core.model import (
    Evidence,
    FailureClass,
    Judgement,
    NodeState,
    Policy,
    Verdict,
)
from dsgitops.core.signals import NO_STORY, Seen, Signal, Weight

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from dsgitops.core.chronicle import Gone, Refusal, Story
    from dsgitops.core.model import Event, Live, Node, Pod, Revision

VIEW_SETTLES = timedelta(seconds=60)
"""No deadline passes before the view has been live for so long: the node grace period is 50 s."""
SUSPICION = timedelta(minutes=5)
"""A node that turns NotReady this soon after our pod started there is a suspect."""
SHARED_OUTAGE = timedelta(seconds=60)
"""NotReady nodes this close to one another, with and without our pod, have one cause."""
STUCK = timedelta(seconds=30)
"""A pod on a Ready node is stuck when it is there so long after its grace period."""
LINGERS = timedelta(seconds=10)
"""How long a pod that must be gone by now holds back `Finished`."""
_ALWAYS = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """All that a verdict depends on."""

    live: Live
    target: Revision | None
    """The revision whose template is the live one; None: not known yet."""
    pods: Sequence[Pod]
    nodes: Sequence[Node]
    events: Sequence[Event] = ()
    """Read only where `chronicle` is None or was never told an Event."""
    chronicle: Chronicle | None = None
    live_since: datetime | None
    """Since when the view has been live; None: blind."""
    policy: Policy
    started: datetime | None
    """The forward write; None: nothing is rolled out, nothing votes."""
    bad_before: frozenset[str] = frozenset()
    baking_since: datetime | None = None
    """Since when all were available; None: not yet."""
    canary: bool = False
    """One vote is enough."""
    first: bool = False
    """There was no revision before this one."""
    previous_template: Mapping[str, Any] | None = None
    """Of last good: what the change lowered or raised."""
    by_people: bool = False
    """Git says OnDelete: people delete the pods, no deadline runs."""
    now: datetime


def judge(question: Question) -> Judgement:
    """Return the verdict.  Pure and total: odd pods, nodes and Events never raise."""
    hearing = _Hearing(question)
    hearing.look_at_nodes()
    return hearing.judgement()


def target_revision(live: Live, revisions: Iterable[Revision]) -> Revision | None:
    """Return the revision whose template is the live one; None: it has not arrived yet.

    Never "the newest": watches are not ordered among one another.
    """
    wanted = _comparable(live.template)
    same = [each for each in revisions if _comparable(each.template) == wanted]
    return max(same, key=lambda each: each.number, default=None)


def eligible_nodes(live: Live, nodes: Iterable[Node]) -> list[str]:
    """Return the names of the nodes that should run the pod, those in trouble included."""
    eligible = Eligible.of(live.template)
    return [node.name for node in nodes if eligible.should_run(node)]


def baseline(
    live: Live,
    pods: Iterable[Pod],
    nodes: Iterable[Node],
    *,
    min_ready_seconds: int,
    now: datetime,
) -> frozenset[str]:
    """Return the nodes that are bad before a rollout: they will never block and never vote.

    These are nodes that are NotReady or cordoned, or whose pod is not available.  A node without
    a pod, or whose pod is just being replaced, is not bad.

    Args:
        live: The DaemonSet, before or after the forward write.
        pods: Of the DaemonSet, all before the rollout.
        nodes: All.
        min_ready_seconds: As it was before the rollout: a raised one makes no pod bad.
        now: The time.
    """
    eligible = Eligible.of(live.template)
    standing: dict[str, bool] = {}
    for pod in pods:
        if pod.deleting is None:
            fine = pod.is_available(now, min_ready_seconds)
            standing[pod.node] = fine or standing.get(pod.node, False)
    return frozenset(
        node.name
        for node in nodes
        if eligible.should_run(node)
        and (not node.is_ready or node.unschedulable or not standing.get(node.name, True))
    )


def _comparable(template: Mapping[str, Any]) -> Mapping[str, Any]:
    """Leave out `creationTimestamp: null`, which older control planes wrote into revisions."""
    metadata = template.get("metadata")
    if not isinstance(metadata, dict) or "creationTimestamp" not in metadata:
        return template
    rest = {key: value for key, value in metadata.items() if key != "creationTimestamp"}
    return {**template, "metadata": rest}


# ---------------------------------------------------------------------------- one node


@dataclass(slots=True)
class _Look:
    """What one node shows, where it is not simply fine."""

    node: Node
    state: NodeState
    pod: Pod | None = None
    """The one that counts: of the target revision, if there is one."""
    signal: Signal | None = None
    begins: datetime = _ALWAYS
    """When the pod's clock began."""
    due: datetime | None = None
    """When it votes if it is still not ready; None: never by time alone."""
    ready: bool = False
    settled: bool = False
    """Whether nothing more is awaited here: available, and no other pod lingers."""
    excused: bool = False
    """Bad before: never votes, never blocks."""
    voting: bool = False


@dataclass(slots=True)
class _Hearing:
    """One judgement in the making."""

    question: Question
    hash: str = ""
    chronicle: Chronicle = field(default_factory=Chronicle)
    manifest: deadlines.Manifest = field(init=False)
    eligible: Eligible = field(init=False)
    scene: signals.Scene = field(init=False)
    states: dict[str, NodeState] = field(default_factory=dict)
    looks: list[_Look] = field(default_factory=list)
    gone: dict[str, Gone] = field(default_factory=dict)
    timers: list[datetime] = field(default_factory=list)
    newest_ready: datetime | None = None
    anyone_ready: bool = False
    unsettled: int = 0
    """Nodes that hold back `Finished`, looks aside."""
    away: list[tuple[datetime, datetime | None]] = field(default_factory=list)
    """Of NotReady nodes that were not bad before: since when, and when our pod started there."""

    def __post_init__(self) -> None:
        q = self.question
        self.hash = q.target.hash if q.target else ""
        self.chronicle = _chronicle(q)
        template = q.target.template if q.target else q.live.template
        self.manifest = deadlines.read(
            template,
            q.previous_template,
            min_ready_seconds=q.live.min_ready_seconds,
            policy=q.policy,
        )
        self.eligible = Eligible.of(q.live.template)
        self.scene = signals.Scene(
            manifest=self.manifest,
            started=q.started,
            first=q.first,
            baking=q.baking_since is not None,
            surges=q.live.strategy.surges,
            shared=self._is_shared,
        )
        self.gone = self._failed_pods()

    def _is_shared(self, loss: datetime) -> bool:
        return self.chronicle.shared(self.hash, loss, self.manifest.shared_window)

    def _failed_pods(self) -> dict[str, Gone]:
        """Return by node what failed as a whole by its own doing, and went."""
        started = self.question.started
        if started is None or not self.hash:
            return {}
        return {
            each.pod.node: each
            for each in self.chronicle.gone
            if each.pod.hash == self.hash
            and each.at >= started
            and signals.failed(each.pod, each.message, self.scene).weight >= Weight.WEAK
        }

    # ------------------------------------------------------------------ gathering

    def look_at_nodes(self) -> None:
        """Give each node its state, and keep a look at those that are not simply fine."""
        q = self.question
        pods: dict[str, list[Pod]] = {}
        uid = q.live.uid
        for pod in q.pods:
            if pod.owner in ("", uid):
                pods.setdefault(pod.node, []).append(pod)
        for node in q.nodes:
            found = pods.pop(node.name, None)
            if not self._is_plain(node, found):
                self._look_at(node, found or [])
        for name in pods:
            if name:
                self.states[name] = NodeState.LEAVING

    def _is_plain(self, node: Node, pods: list[Pod] | None) -> bool:
        """Settle the ordinary case at once: one pod, available, with nothing to tell."""
        if pods is None or len(pods) != 1 or node.ready != "True" or node.taints:
            return False
        pod = pods[0]
        ready = pod.conditions.get("Ready")
        if ready is None or ready.status != "True" or pod.deleting is not None:
            return False
        name = node.name
        if name in self.gone or not self.eligible.selects(node):
            return False
        if pod.hash != self.hash:
            if name in self.question.bad_before:
                return False
            self.anyone_ready = True
            self.unsettled += 1
            self.states[name] = NodeState.OLD
            return True
        if self.question.live.min_ready_seconds or pod.init_containers:
            return False
        for container in pod.containers:
            if container.restarts or container.last is not None:
                return False
        story = self.chronicle.stories.get(pod.uid)
        if story is not None and story.notable:
            return False
        self._became_ready(ready.since)
        self.states[name] = NodeState.DESIRED
        return True

    def _became_ready(self, since: datetime | None) -> None:
        self.anyone_ready = True
        if since is not None and (self.newest_ready is None or since > self.newest_ready):
            self.newest_ready = since

    def _look_at(self, node: Node, pods: list[Pod]) -> None:
        if not self.eligible.should_run(node):
            if pods:
                self.states[node.name] = NodeState.LEAVING
            return
        excused = node.name in self.question.bad_before
        joining = not node.is_ready and not pods and not excused
        if joining and not self.eligible.is_scheduled_now(node):
            return  # not part of it yet: no pod is made there
        look = _Look(node, NodeState.NO_POD, excused=excused)
        self.looks.append(look)
        new = _newest(each for each in pods if each.hash == self.hash and each.deleting is None)
        if not node.is_ready:
            self._look_at_absent(look, pods, new)
        elif new is not None:
            self._look_at_new(look, pods, new)
        else:
            self._look_at_old(look, pods)
        self._recall_failure(look)
        self.states[node.name] = look.state

    def _look_at_absent(self, look: _Look, pods: list[Pod], new: Pod | None) -> None:
        """A node that does not report: its pods say nothing, whatever they show."""
        look.pod = new or _newest(pods)
        since = look.node.ready_since
        if not look.excused and since is not None:
            self.away.append((since, _began(new) if new else None))
            given_up = since + self.question.policy.progress_deadline
            look.excused = given_up <= self.question.now
            self.timers.append(given_up)
        look.state = NodeState.BAD_BEFORE if look.excused else NodeState.BAD_NODE
        look.settled = look.excused

    def _look_at_new(self, look: _Look, pods: list[Pod], new: Pod) -> None:
        q = self.question
        look.pod, look.ready = new, new.is_ready
        story = self.chronicle.stories.get(new.uid, NO_STORY)
        look.signal = signals.read(Seen(new, look.node, story, self.scene))
        available = self._available_from(new, story)
        if look.ready and (available is None or available <= q.now):
            self._became_ready(available)
            look.state = NodeState.DESIRED
            look.settled = not self._anyone_lingers(pods, new)
            return
        look.state = NodeState.BAD_BEFORE if look.excused else NodeState.STARTING
        if look.ready:
            self.anyone_ready = True
            self._wake(available)
            return
        if look.signal is not None and look.signal.weight is Weight.NODE and not look.excused:
            look.state = NodeState.BAD_NODE
        self._set_clock(look, new)

    def _available_from(self, pod: Pod, story: Story) -> datetime | None:
        """Return when a Ready pod has been so for minReadySeconds; None: nobody knows.

        Counted from when it was seen to become Ready: the condition has whole seconds, rounded
        down, and nothing is finished a second too early.
        """
        seconds = self.question.live.min_ready_seconds
        ready = pod.conditions.get("Ready")
        if ready is None or ready.since is None:
            return None
        since = ready.since
        if seconds and story.ready_at is not None and story.ready_at - since < 2 * _SECOND:
            since = max(since, story.ready_at)
        return since + timedelta(seconds=min(max(seconds, 0), 10**8))

    def _look_at_old(self, look: _Look, pods: list[Pod]) -> None:
        """No pod of the target revision: the old one stands, or goes, or there is none."""
        standing = [each for each in pods if each.deleting is None]
        look.pod = _newest(standing) or _newest(pods)
        if standing:
            self.anyone_ready |= any(each.is_ready for each in standing)
            look.state = NodeState.OLD
        elif pods:
            stuck = sum(self._is_stuck(each) for each in pods)  # asks all: each sets a timer
            look.state = NodeState.BAD_NODE if stuck else NodeState.TERMINATING
        if look.excused:
            look.state = NodeState.BAD_BEFORE

    def _recall_failure(self, look: _Look) -> None:
        """A pod that failed by its own doing speaks even after its replacement is up."""
        gone = self.gone.get(look.node.name)
        if gone is None or not look.node.is_ready:
            return
        past = signals.failed(gone.pod, gone.message, self.scene)
        if look.signal is None or look.signal.weight < past.weight:
            look.signal = past

    def _is_stuck(self, pod: Pod) -> bool:
        story = self.chronicle.stories.get(pod.uid, NO_STORY)
        if story.stuck:
            return True
        if pod.deleting is None:
            return False
        self._wake(pod.deleting + STUCK)
        return pod.deleting + STUCK <= self.question.now

    def _anyone_lingers(self, pods: list[Pod], new: Pod) -> bool:
        """Whether another pod is still there beside an available new one.

        Without surge there can be none but for a moment, so that one whose end was not seen
        holds nothing back for long; with surge an old one that runs does.
        """
        surges = self.question.live.strategy.surges
        return any(self._lingers(each, surges=surges, new=new) for each in pods if each is not new)

    def _lingers(self, pod: Pod, *, surges: bool, new: Pod) -> bool:
        if surges and pod.phase not in ("Failed", "Succeeded"):
            return True
        ready = new.conditions.get("Ready")
        since = max(ready.since if ready and ready.since else _ALWAYS, pod.deleting or _ALWAYS)
        self._wake(since + LINGERS)
        return since + LINGERS > self.question.now

    def _wake(self, at: datetime | None) -> None:
        if at is not None:
            self.timers.append(at)

    # ------------------------------------------------------------------ clocks

    def _set_clock(self, look: _Look, pod: Pod) -> None:
        """Say when a pod that is not ready will be blamed for it."""
        q = self.question
        condition = pod.conditions.get("ContainersReady")
        lost = condition.since if condition is not None and condition.status != "True" else None
        stamps = (pod.created, look.node.ready_since, lost)
        look.begins = max(each or _ALWAYS for each in stamps)
        if q.started is None or q.live_since is None or q.by_people:
            return
        story = self.chronicle.stories.get(pod.uid, NO_STORY)
        if story.pulling_since is not None or self._waits_for_others(pod, lost):
            return
        if self.scene.baking and _ran_on(pod, lost):
            due = look.begins + self.manifest.loss_allowance
        else:
            due = max(look.begins + story.pulled + self.manifest.pod_deadline, self._floor(pod))
        look.due = max(due, q.live_since + VIEW_SETTLES, q.started)
        self._wake(look.due)

    def _waits_for_others(self, pod: Pod, lost: datetime | None) -> bool:
        """Whether readiness went for pods of other revisions at the same time."""
        return lost is not None and _ran_on(pod, lost) and self._is_shared(lost)

    def _floor(self, pod: Pod) -> datetime:
        """Before this, not being ready means nothing, whatever the settings say."""
        floor = _ALWAYS
        for container in (*pod.init_containers, *pod.containers):
            demands = self.manifest.containers.get(container.name)
            if demands and container.running_since is not None and not container.ready:
                floor = max(floor, container.running_since + demands.floor)
        return floor

    def _is_outage(self) -> bool:
        """Whether all pods of all revisions are not ready since one moment: nobody's fault here."""
        started = self.question.started
        lost = self.chronicle.last_loss_elsewhere(self.hash)
        if self.anyone_ready or lost is None or started is None:
            return False
        return lost >= started - VIEW_SETTLES

    # ------------------------------------------------------------------ votes

    def _count_votes(self) -> list[_Look]:
        """Mark and return the nodes that vote against the revision."""
        if self.question.started is None:
            return []
        heard = [
            each
            for each in self.looks
            if each.signal is not None and not each.excused and each.node.is_ready
        ]
        weak = Counter(
            each.signal.failure_class
            for each in heard
            if each.signal and each.signal.weight >= Weight.WEAK
        )
        outage = self._is_outage()
        for look in heard:
            look.voting = self._votes(look, weak, outage=outage)
            if look.voting:
                look.state = self.states[look.node.name] = NodeState.BAD_REVISION
        return [each for each in heard if each.voting]

    def _votes(self, look: _Look, weak: Counter[FailureClass], *, outage: bool) -> bool:
        signal = look.signal
        assert signal is not None, "only looks with a signal are heard"
        if signal.weight >= Weight.STRONG:
            return True
        if signal.weight is Weight.WEAK and weak[signal.failure_class] >= 2:
            return True
        if signal.weight in (Weight.NODE, Weight.WAIT) or look.due is None or look.ready:
            return False
        if outage and signal.weight is Weight.LATE:
            return False
        return look.due <= self.question.now

    def _votes_needed(self) -> int:
        """`maxFailedNodes`, but never more than the budget can show; in a canary one."""
        q = self.question
        if q.canary:
            return 1
        total = len(self.states) - sum(
            1 for each in self.states.values() if each is NodeState.LEAVING
        )
        most = total
        if not (q.first or q.by_people):
            strategy = q.live.strategy
            most = _resolve(
                strategy.max_surge if strategy.surges else strategy.max_unavailable, total
            )
        return max(1, min(_resolve(q.policy.max_failed_nodes, total), most))

    def _suspects(self) -> list[_Look]:
        """Return nodes that went NotReady soon after our pod started, and not with others."""
        if self.question.started is None:
            return []
        others = [since for since, began in self.away if began is None]
        return [
            look
            for look in self.looks
            if look.state is NodeState.BAD_NODE
            and not look.node.is_ready
            and look.pod is not None
            and look.pod.hash == self.hash
            and self._is_suspect(look.node.ready_since, _began(look.pod), others)
        ]

    def _is_suspect(
        self, since: datetime | None, began: datetime | None, others: list[datetime]
    ) -> bool:
        if since is None or began is None or not timedelta() <= since - began <= SUSPICION:
            return False
        return all(abs(each - since) > SHARED_OUTAGE for each in others)

    # ------------------------------------------------------------------ refusals, no progress

    def _refusals(self) -> list[Refusal]:
        """Return refusals of pods of this rollout that some node is still waiting for."""
        q = self.question
        waiting = (NodeState.NO_POD, NodeState.TERMINATING)
        if q.started is None or not any(each.state in waiting for each in self.looks):
            return []
        known = list(self.chronicle.refusals(q.live.uid))
        earlier = any(each.at < q.started for each in known)
        return [each for each in known if _is_of_rollout(each, q.started, earlier=earlier)]

    def _progress_ends(self, showing: list[_Look], refusals: list[Refusal]) -> datetime | None:
        """Return when there will have been no progress for too long; None: nothing to show."""
        q = self.question
        if q.started is None or q.live_since is None or q.by_people:
            return None
        begins = [each.begins for each in showing] + [each.at for each in refusals]
        if not begins:
            return None
        base = max(q.started, self.newest_ready or _ALWAYS, q.live_since, min(begins))
        ends = base + q.policy.progress_deadline + self.manifest.grace
        return max(ends, q.live_since + VIEW_SETTLES)

    # ------------------------------------------------------------------ the answer

    def judgement(self) -> Judgement:
        """Weigh what was gathered."""
        q = self.question
        voters, suspects = self._count_votes(), self._suspects()
        needed = self._votes_needed()
        verdict: Verdict = Verdict.PROGRESSING
        failure_class = cause = None
        if self._can_be_judged():
            verdict, failure_class = self._verdict(voters, needed, suspects)
        if verdict is Verdict.FAILED and self.scene.baking:
            cause, failure_class = failure_class, FailureClass.BAKE_FAILED
        if q.baking_since is not None:
            self._wake(q.baking_since + q.policy.bake_time)
        return Judgement(
            verdict=verdict,
            failure_class=failure_class,
            cause=cause,
            states=self.states,
            evidence=self._evidence(),
            votes=len(voters),
            votes_needed=needed,
            suspects=tuple(sorted(each.node.name for each in suspects)),
            progressed=self.newest_ready,
            available_since=self.newest_ready if verdict is Verdict.FINISHED else None,
            look_again=min((each for each in self.timers if each > q.now), default=None),
        )

    def _can_be_judged(self) -> bool:
        q = self.question
        return (
            q.live_since is not None
            and q.target is not None
            and q.live.observed_generation >= q.live.generation
        )

    def _verdict(
        self, voters: list[_Look], needed: int, suspects: list[_Look]
    ) -> tuple[Verdict, FailureClass | None]:
        certain = any(each.signal and each.signal.weight is Weight.CERTAIN for each in voters)
        if len(voters) >= needed or certain:
            return Verdict.FAILED, _most_named(voters)
        refusals = self._refusals()
        if any(not _PASSES.search(each.message) for each in refusals):
            return Verdict.FAILED, FailureClass.PODS_REFUSED
        if len(suspects) >= 2:
            return Verdict.FAILED, FailureClass.NODE_WENT_NOT_READY
        showing = self._showing()
        name = _most_named(showing) or (FailureClass.PODS_REFUSED if refusals else None)
        ends = self._progress_ends(showing, refusals)
        if ends is not None and ends <= self.question.now:
            return Verdict.FAILED, name or FailureClass.NO_PROGRESS
        self._wake(ends)
        if self._is_finished(ends):
            return Verdict.FINISHED, None
        if self._is_blocked_by_nodes():
            return Verdict.NODE_PROBLEM, None
        return Verdict.PROGRESSING, name

    def _showing(self) -> list[_Look]:
        """Return nodes that may vote and have a pod of the new revision that is not ready."""
        return [
            each
            for each in self.looks
            if each.pod is not None
            and each.pod.hash == self.hash
            and each.pod.deleting is None
            and not each.ready
            and not each.excused
            and each.node.is_ready
            and not (each.signal is not None and each.signal.weight is Weight.NODE)
        ]

    def _is_finished(self, ends: datetime | None) -> bool:
        """Whether every node that counts has an available pod of the target and no other."""
        if self.unsettled or any(not self._is_settled(each, ends) for each in self.looks):
            return False
        counted = sum(1 for each in self.states.values() if each is not NodeState.LEAVING)
        return not counted or self.newest_ready is not None or self._has_available()

    def _has_available(self) -> bool:
        return any(each is NodeState.DESIRED for each in self.states.values())

    def _is_settled(self, look: _Look, ends: datetime | None) -> bool:
        """Whether a node holds nothing back.

        One that was bad before and is Ready is waited for like any other as long as its pod can
        still become ready; it never blocks for good.
        """
        if look.settled or not look.excused:
            return look.settled
        q = self.question
        given_up = max(q.started or _ALWAYS, self.newest_ready or _ALWAYS, look.begins)
        given_up += q.policy.progress_deadline
        if look.due is not None:
            given_up = min(given_up, look.due)
        self._wake(given_up)
        hopeless = look.signal is not None and look.signal.weight >= Weight.NODE
        return hopeless or q.started is None or given_up <= q.now or (ends or given_up) <= q.now

    def _is_blocked_by_nodes(self) -> bool:
        """Whether a node is in the way: one in trouble, or one that was and eats the budget.

        The native update deletes the unavailable pod of a dead node first, and it stays
        Terminating: with `maxUnavailable: 1` nothing moves.  Own deletes go past such nodes.
        """
        counts = Counter(self.states.values())
        if counts[NodeState.BAD_NODE]:
            return True
        if not counts[NodeState.BAD_BEFORE]:
            return False
        moving = (
            counts[NodeState.STARTING] + counts[NodeState.TERMINATING] + counts[NodeState.NO_POD]
        )
        if counts[NodeState.OLD]:
            return not moving and self.question.live.strategy.type == "RollingUpdate"
        return not moving and not counts[NodeState.DESIRED]

    def _evidence(self) -> tuple[Evidence, ...]:
        told = [each for each in self.looks if each.state not in _FINE or each.signal is not None]
        told.sort(key=lambda each: (not each.voting, each.node.name))
        return tuple(_evidence_of(each) for each in told)


_MOVING = (NodeState.STARTING, NodeState.TERMINATING, NodeState.NO_POD)
_FINE = (NodeState.DESIRED, NodeState.OLD)
_PASSES = re.compile(
    r"failed calling webhook|deadline exceeded|connection refused|timed out|timeout"
    r"|[Ii]nternal error|too many requests|being terminated|etcdserver|try again|retry after"
)
"""Refusals that say nothing about the pod."""


def _chronicle(question: Question) -> Chronicle:
    """Return what was seen; without a chronicle, what the objects and Events at hand tell."""
    known = question.chronicle
    if known is not None and (known.heard or not question.events):
        return known
    written = Chronicle()
    for pod in question.pods:
        written.pod(pod, question.now)
    for event in question.events:
        written.event(event, question.now)
    return written


def _newest(pods: Iterable[Pod]) -> Pod | None:
    return max(pods, key=lambda each: (each.created or _ALWAYS, each.name), default=None)


def _began(pod: Pod) -> datetime | None:
    """Return when a container of the pod first ran, as far as its status says."""
    stamps = [
        stamp
        for each in (*pod.init_containers, *pod.containers)
        for stamp in (each.running_since, each.last.started if each.last else None)
        if stamp is not None
    ]
    return min(stamps, default=None)


def _ran_on(pod: Pod, lost: datetime | None) -> bool:
    """Whether readiness went while the containers ran on, rather than never having come."""
    runs = [each.running_since for each in pod.containers]
    return (
        lost is not None and bool(runs) and all(each is not None and each < lost for each in runs)
    )


def _is_of_rollout(refusal: Refusal, started: datetime, *, earlier: bool) -> bool:
    """Whether a refusal is about the revision that was written at `started`.

    Events carry whole seconds and come late: where an earlier revision was refused as well, one
    from the very second of the write is left to it.
    """
    if refusal.at < started:
        return False
    if refusal.stamp is None:
        return True
    return refusal.stamp > started if earlier else refusal.stamp + _SECOND > started


def _resolve(value: int | str, nodes: int) -> int:
    try:
        return resolve(value, nodes=nodes)
    except ValueError:
        return 1


def _most_named(looks: list[_Look]) -> FailureClass | None:
    """Return the class that most nodes name; of several, the most telling."""
    names = Counter(each.signal.failure_class for each in looks if each.signal is not None)
    order = list(FailureClass)
    return max(names, key=lambda each: (names[each], -order.index(each)), default=None)


def _evidence_of(look: _Look) -> Evidence:
    signal = look.signal
    message = signal.message if signal else ""
    if look.state is NodeState.BAD_NODE and not look.node.is_ready:
        message = f"the node's Ready condition is {look.node.ready}"
    return Evidence(
        node=look.node.name,
        pod=look.pod.name if look.pod else "",
        state=look.state,
        failure_class=signal.failure_class if signal else None,
        container=signal.container if signal else "",
        message=message,
        restarts=signal.restarts if signal else 0,
        since=signal.since if signal else None,
        voting=look.voting,
    )
