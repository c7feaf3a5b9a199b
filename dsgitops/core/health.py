"""The verdict on a rollout, from pods and nodes, with evidence node by node.

Never from status counters: they mix revisions, count terminating pods, and leave NotReady nodes in
or out depending on tolerations.  A node votes against the revision only if it was fine before, is
Ready now, and its pod of the new revision shows a signal of `signals` or passed its deadline.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from dsgitops.core import deadlines
from dsgitops.core.attribution import ALWAYS, VIEW_SETTLES, Look, Survey, began
from dsgitops.core.budget import resolve
from dsgitops.core.eligible import Eligible
from dsgitops.core.model import (
    Evidence,
    FailureClass,
    Judgement,
    NodeState,
    Policy,
    Verdict,
)
from dsgitops.core.signals import Weight
from dsgitops.core.wording import in_our_words

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from dsgitops.core.chronicle import Chronicle, Refusal
    from dsgitops.core.model import Event, Live, Node, Pod, Revision

SUSPICION = timedelta(minutes=5)
"""A node that turns NotReady this soon after our pod started there is a suspect."""
SHARED_OUTAGE = timedelta(seconds=60)
"""NotReady nodes this close to one another, with our pod just started and not, have one cause."""
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
    survey = Survey(question)
    survey.look_at_nodes()
    return _Hearing(question, survey).judgement()


def live_revisions(live: Live, revisions: Iterable[Revision]) -> list[Revision]:
    """Return the revisions whose template is the live one: one, or none that has arrived yet.

    More where a newer control plane writes the same template in other bytes: Kubernetes then makes
    a revision, and restarts no pod for it.
    """
    wanted = _comparable(live.template)
    return [each for each in revisions if _comparable(each.template) == wanted]


def target_revision(live: Live, revisions: Iterable[Revision]) -> Revision | None:
    """Return the revision whose template is the live one; None: it has not arrived yet.

    Never "the newest": watches are not ordered among one another.
    """
    same = live_revisions(live, revisions)
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
    a pod, or whose pod is just being replaced or in its first two minutes without a hitch, is not
    bad: it takes its place in the budget like any other.  So do cordoned ones whose pods serve
    where there are no others (a pool on its way out): somebody must be able to vote.

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
            fine = pod.is_available(now, min_ready_seconds) or _is_starting(pod, now)
            standing[pod.node] = fine or standing.get(pod.node, False)
    known = [node for node in nodes if eligible.should_run(node)]
    serving = [node for node in known if node.is_ready and standing.get(node.name, True)]
    steady = [node for node in serving if not node.unschedulable]
    return frozenset(node.name for node in known) - {node.name for node in steady or serving}


def _is_starting(pod: Pod, now: datetime) -> bool:
    """Whether a pod is young and nothing went wrong with it yet."""
    young = pod.created is not None and now - pod.created < deadlines.POD_DEADLINE_LEAST
    return (
        young
        and pod.phase != "Failed"
        and not _lost_ready(pod)
        and all(
            each.restarts == 0
            and each.last is None
            and (each.terminated is None or each.terminated.exit_code == 0)
            and each.waiting_reason in ("", "ContainerCreating", "PodInitializing")
            for each in (*pod.init_containers, *pod.containers)
        )
    )


def _lost_ready(pod: Pod) -> bool:
    """Whether a pod was Ready once: a condition that was False from the start is older than that.

    The kubelet writes it first before any container runs, and dates it anew only when it changes.
    """
    ready = pod.conditions.get("Ready")
    since = [each.running_since for each in pod.containers if each.running_since is not None]
    if ready is None or ready.status == "True" or ready.since is None:
        return False
    return len(since) == len(pod.containers) > 0 and ready.since > max(since)


def _comparable(template: Mapping[str, Any]) -> Mapping[str, Any]:
    """Leave out `creationTimestamp: null`, which older control planes wrote into revisions."""
    metadata = template.get("metadata")
    if not isinstance(metadata, dict) or "creationTimestamp" not in metadata:
        return template
    rest = {key: value for key, value in metadata.items() if key != "creationTimestamp"}
    return {**template, "metadata": rest}


# ---------------------------------------------------------------------------- weighing


@dataclass(frozen=True, slots=True)
class _Hearing:
    """One judgement in the making."""

    question: Question
    survey: Survey

    def _is_outage(self) -> bool:
        """Whether all pods of all revisions are not ready since one moment: nobody's fault here."""
        started = self.question.started
        lost = self.survey.chronicle.last_loss_elsewhere(self.survey.hash)
        if self.survey.anyone_ready or lost is None or started is None:
            return False
        return lost >= started - VIEW_SETTLES

    # ------------------------------------------------------------------ votes

    def _count_votes(self) -> list[Look]:
        """Mark and return the nodes that vote against the revision."""
        if self.question.started is None:
            return []
        heard = [
            each
            for each in self.survey.looks
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
                look.state = self.survey.states[look.node.name] = NodeState.BAD_REVISION
        return [each for each in heard if each.voting]

    def _votes(self, look: Look, weak: Counter[FailureClass], *, outage: bool) -> bool:
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
        total = len(self.survey.states) - sum(
            1 for each in self.survey.states.values() if each is NodeState.LEAVING
        )
        most = total
        if not (q.first or q.by_people):
            strategy = q.live.strategy
            most = _resolve(
                strategy.max_surge if strategy.surges else strategy.max_unavailable, total
            )
        return max(1, min(_resolve(q.policy.max_failed_nodes, total), most))

    def _suspects(self) -> list[Look]:
        """Return nodes that went NotReady soon after our pod started, and not with others."""
        if self.question.started is None:
            return []
        others = [
            since for since, began in self.survey.away if began is None or since - began > SUSPICION
        ]
        return [
            look
            for look in self.survey.looks
            if look.state is NodeState.BAD_NODE
            and not look.node.is_ready
            and look.pod is not None
            and look.pod.hash == self.survey.hash
            and self._is_suspect(look.node.ready_since, began(look.pod), others)
        ]

    def _is_suspect(
        self, since: datetime | None, began: datetime | None, others: list[datetime]
    ) -> bool:
        if since is None or began is None or not timedelta() <= since - began <= SUSPICION:
            return False
        return all(abs(each - since) > SHARED_OUTAGE for each in others)

    def _is_theirs_alone(self, suspects: list[Look]) -> bool:
        """Whether nodes without our pod had the time to show that they went away as well.

        Lost heartbeats are noticed node by node, and end so: the first two away, and the last two
        that are not back, say nothing.  Deletes are paused meanwhile, so nothing is lost by it.
        """
        q, states = self.question, self.survey.states
        stamps = [each.node.ready_since for each in suspects]
        others = [
            node.ready_since
            for node in q.nodes
            if node.is_ready and states.get(node.name, NodeState.LEAVING) is not NodeState.LEAVING
        ]
        known = [at for at in (*stamps, *others) if at is not None and at <= q.now]
        told = max(known, default=q.now) + SHARED_OUTAGE
        self.survey.wake(told)
        return bool(others) and told <= q.now

    # ------------------------------------------------------------------ refusals, no progress

    def _refusals(self) -> list[Refusal]:
        """Return refusals of pods of this rollout that some node is still waiting for.

        What was refused before a pod of the revision was made is over, or is refused again.
        """
        q = self.question
        waiting = (NodeState.NO_POD, NodeState.TERMINATING)
        if q.started is None or not any(each.state in waiting for each in self.survey.looks):
            return []
        known = list(self.survey.chronicle.refusals(q.live.uid))
        earlier = any(each.at < q.started for each in known)
        made = max(
            (pod.created for pod in q.pods if pod.created and pod.hash == self.survey.hash),
            default=ALWAYS,
        )
        return [
            each
            for each in known
            if _is_of_rollout(each, q.started, earlier=earlier) and (each.stamp or each.at) > made
        ]

    def _progress_ends(self, showing: list[Look], refusals: list[Refusal]) -> datetime | None:
        """Return when there will have been no progress for too long; None: nothing to show."""
        q = self.question
        if q.started is None or q.live_since is None or q.by_people:
            return None
        begins = [each.begins for each in showing] + [each.at for each in refusals]
        if not begins:
            return None
        base = max(q.started, self.survey.newest_ready or ALWAYS, q.live_since, min(begins))
        ends = base + q.policy.progress_deadline + self.survey.manifest.grace
        return max(ends, q.live_since + VIEW_SETTLES, *(each.floor for each in showing))

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
        if verdict is Verdict.FAILED and q.baking_since is not None:
            cause, failure_class = failure_class, FailureClass.BAKE_FAILED
        if q.baking_since is not None:
            self.survey.wake(q.baking_since + q.policy.bake_time)
        return Judgement(
            verdict=verdict,
            failure_class=failure_class,
            cause=cause,
            states=self.survey.states,
            evidence=self._evidence(),
            votes=len(voters),
            votes_needed=needed,
            suspects=tuple(sorted(each.node.name for each in suspects)),
            progressed=self.survey.newest_ready,
            available_since=self.survey.newest_ready if verdict is Verdict.FINISHED else None,
            look_again=min((each for each in self.survey.timers if each > q.now), default=None),
        )

    def _can_be_judged(self) -> bool:
        q = self.question
        return (
            q.live_since is not None
            and q.target is not None
            and q.live.observed_generation >= q.live.generation
        )

    def _verdict(
        self, voters: list[Look], needed: int, suspects: list[Look]
    ) -> tuple[Verdict, FailureClass | None]:
        certain = any(each.signal and each.signal.weight is Weight.CERTAIN for each in voters)
        if len(voters) >= needed or certain:
            return Verdict.FAILED, _most_named(voters)
        refusals = self._refusals()
        if any(not _PASSES.search(each.message) for each in refusals):
            return Verdict.FAILED, FailureClass.PODS_REFUSED
        accused = [each for each in suspects if not each.node.is_leaving]
        if len(accused) >= 2 and self._is_theirs_alone(accused):
            return Verdict.FAILED, FailureClass.NODE_WENT_NOT_READY
        showing = self._showing()
        name = _most_named(showing) or (FailureClass.PODS_REFUSED if refusals else None)
        ends = self._progress_ends(showing, refusals)
        if ends is not None and ends <= self.question.now:
            return Verdict.FAILED, name or FailureClass.NO_PROGRESS
        self.survey.wake(ends)
        if self._is_finished(ends):
            return Verdict.FINISHED, None
        if self._is_blocked_by_nodes():
            return Verdict.NODE_PROBLEM, None
        return Verdict.PROGRESSING, name

    def _showing(self) -> list[Look]:
        """Return nodes that may vote and have a pod of the new revision that is not ready."""
        return [
            each
            for each in self.survey.looks
            if each.pod is not None
            and each.pod.hash == self.survey.hash
            and each.pod.deleting is None
            and not each.ready
            and not each.excused
            and each.node.is_ready
            and not (each.signal is not None and each.signal.weight is Weight.NODE)
        ]

    def _is_finished(self, ends: datetime | None) -> bool:
        """Whether every node that counts has an available pod of the target and no other."""
        if self.survey.unsettled or any(
            not self._is_settled(each, ends) for each in self.survey.looks
        ):
            return False
        counted = sum(1 for each in self.survey.states.values() if each is not NodeState.LEAVING)
        return not counted or self.survey.newest_ready is not None or self._has_available()

    def _has_available(self) -> bool:
        return any(each is NodeState.DESIRED for each in self.survey.states.values())

    def _is_settled(self, look: Look, ends: datetime | None) -> bool:
        """Whether a node holds nothing back.

        One that was bad before and is Ready is waited for like any other as long as its pod can
        still become ready; it never blocks for good.
        """
        if look.settled or not look.excused:
            return look.settled
        q = self.question
        given_up = max(q.started or ALWAYS, self.survey.newest_ready or ALWAYS, look.begins)
        given_up += q.policy.progress_deadline
        if look.due is not None:
            given_up = min(given_up, look.due)
        self.survey.wake(given_up)
        hopeless = look.signal is not None and look.signal.weight >= Weight.NODE
        return hopeless or q.started is None or given_up <= q.now or (ends or given_up) <= q.now

    def _is_blocked_by_nodes(self) -> bool:
        """Whether a node is in the way: one in trouble, or one that was and eats the budget.

        The native update deletes the unavailable pod of a dead node first, and it stays
        Terminating: with `maxUnavailable: 1` nothing moves.  Own deletes go past such nodes.
        """
        counts = Counter(self.survey.states.values())
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
        told = [
            each for each in self.survey.looks if each.state not in _FINE or each.signal is not None
        ]
        told.sort(key=lambda each: (not each.voting, each.node.name))
        return tuple(_evidence_of(each) for each in told)


_MOVING = (NodeState.STARTING, NodeState.TERMINATING, NodeState.NO_POD)
_FINE = (NodeState.DESIRED, NodeState.OLD)
_PASSES = re.compile(
    r"failed calling webhook|deadline exceeded|connection refused|timed out|timeout"
    r"|[Ii]nternal error|too many requests|being terminated|etcdserver|try again|retry after"
    r"|not yet ready to handle|currently unable to handle|time allotted|shutting down"
    r"|storage is \(re\)initializing|connection lost|context canceled|an error on the server"
    r'|status unknown for quota|cannot create resource "pods"|creating: Unauthorized$'
    r'|serviceaccount "default" not found|Post "https?://'
)
"""Refusals that say nothing about the pod: the API server was not able to answer, or not yet, did
not know the controller, or the namespace was just made.  The last one: there was no answer at all.
"""


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


def _most_named(looks: list[Look]) -> FailureClass | None:
    """Return the class that most nodes name; of several, the most telling."""
    names = Counter(each.signal.failure_class for each in looks if each.signal is not None)
    order = list(FailureClass)
    return max(names, key=lambda each: (names[each], -order.index(each)), default=None)


def _evidence_of(look: Look) -> Evidence:
    signal = look.signal
    message = in_our_words(signal.failure_class, signal.message) if signal else ""
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
