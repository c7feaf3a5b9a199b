"""What each node shows of a rollout, and whose doing it is: the revision's or the node's."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from dsgitops.core import deadlines, signals
from dsgitops.core.chronicle import Chronicle
from dsgitops.core.eligible import Eligible
from dsgitops.core.model import FailureClass, NodeState
from dsgitops.core.signals import NO_STORY, Seen, Signal, Weight

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dsgitops.core.chronicle import Gone, Story
    from dsgitops.core.health import Question
    from dsgitops.core.model import Node, Pod

VIEW_SETTLES = timedelta(seconds=60)
"""No deadline passes before the view has been live for so long: the node grace period is 50 s."""
STUCK = timedelta(seconds=30)
"""A pod on a Ready node is stuck when it is there so long after its grace period."""
LINGERS = timedelta(seconds=10)
"""How long a pod that must be gone by now holds back `Finished`."""
ALWAYS = datetime(1970, 1, 1, tzinfo=UTC)
"""Before everything: the stamp of what has none."""
_SECOND = timedelta(seconds=1)
_SECONDS_MAX = 10**8
_UNTOUCHED = "its kubelet has not taken it up"
_NODE_AT_WORK = timedelta(seconds=10)
"""Longer than a healthy node needs for a pod's network and volumes."""


@dataclass(slots=True)
class Look:
    """What one node shows, where it is not simply fine."""

    node: Node
    state: NodeState
    pod: Pod | None = None
    """The one that counts: of the target revision, if there is one."""
    signal: Signal | None = None
    begins: datetime = ALWAYS
    """When the pod's clock began."""
    due: datetime | None = None
    """When it votes if it is still not ready; None: never by time alone."""
    floor: datetime = ALWAYS
    """Until when its own probes let its first start take."""
    ready: bool = False
    settled: bool = False
    """Whether nothing more is awaited here: available, and no other pod lingers."""
    excused: bool = False
    """Bad before: never votes, never blocks."""
    voting: bool = False


@dataclass(slots=True)
class Survey:
    """All nodes as one judgement sees them."""

    question: Question
    hash: str = ""
    chronicle: Chronicle = field(default_factory=Chronicle)
    manifest: deadlines.Manifest = field(init=False)
    eligible: Eligible = field(init=False)
    scene: signals.Scene = field(init=False)
    states: dict[str, NodeState] = field(default_factory=dict)
    looks: list[Look] = field(default_factory=list)
    gone: dict[str, Gone] = field(default_factory=dict)
    timers: list[datetime] = field(default_factory=list)
    """When time alone changes what is seen here."""
    newest_ready: datetime | None = None
    """When a node last became available on the target revision."""
    anyone_ready: bool = False
    """Whether any pod of any revision is Ready."""
    unsettled: int = 0
    """Nodes that hold back `Finished`, looks aside."""
    away: list[tuple[datetime, datetime | None]] = field(default_factory=list)
    """Of NotReady nodes that were not bad before: since when, and when our pod started there.

    Nodes that the DaemonSet does not match count too: what takes them takes others."""

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
        # No method of ours: a cycle would keep all pods of every look until a full collection.
        self.scene = signals.Scene(
            manifest=self.manifest,
            started=q.started,
            first=q.first,
            baking_since=q.baking_since,
            surges=q.live.strategy.surges,
            shared=partial(self.chronicle.shared, self.hash, window=self.manifest.shared_window),
        )
        self.gone = self._failed_pods()

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
        if not self._is_uneventful(pod) or not self._is_long_available(ready.since):
            return False
        self.states[name] = NodeState.DESIRED
        return True

    def _is_uneventful(self, pod: Pod) -> bool:
        for container in pod.containers:
            if container.restarts or container.last is not None or container.terminated is not None:
                return False
        for container in pod.init_containers:
            ended = container.terminated
            if container.restarts or container.last is not None or (ended and ended.exit_code):
                return False
        story = self.chronicle.stories.get(pod.uid)
        return story is None or not story.notable

    def _is_long_available(self, since: datetime | None) -> bool:
        """Whether a Ready pod is available beyond the doubt that whole seconds leave."""
        seconds = self.question.live.min_ready_seconds
        if seconds > 0:
            if since is None or seconds > _SECONDS_MAX:
                return False
            since += timedelta(seconds=seconds)
            if since + 2 * _SECOND > self.question.now:
                return False
        self._became_ready(since)
        return True

    def _became_ready(self, since: datetime | None) -> None:
        self.anyone_ready = True
        if since is not None and (self.newest_ready is None or since > self.newest_ready):
            self.newest_ready = since

    def _look_at(self, node: Node, pods: list[Pod]) -> None:
        if not self.eligible.should_run(node):
            if pods:
                self.states[node.name] = NodeState.LEAVING
            elif not node.is_ready and node.ready_since is not None:
                self.away.append((node.ready_since, None))
            return
        excused = node.name in self.question.bad_before
        joining = not node.is_ready and not pods and not excused
        if joining and not self.eligible.is_scheduled_now(node):
            return  # not part of it yet: no pod is made there
        look = Look(node, NodeState.NO_POD, excused=excused)
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

    def _look_at_absent(self, look: Look, pods: list[Pod], new: Pod | None) -> None:
        """A node that does not report: its pods say nothing, whatever they show."""
        look.pod = new or _newest(pods)
        since = look.node.ready_since
        if not look.excused and since is not None:
            self.away.append((since, began(new) if new else None))
            given_up = since + self.question.policy.progress_deadline
            look.excused = given_up <= self.question.now
            self.timers.append(given_up)
        look.state = NodeState.BAD_BEFORE if look.excused else NodeState.BAD_NODE
        look.settled = look.excused

    def _look_at_new(self, look: Look, pods: list[Pod], new: Pod) -> None:
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
            self.wake(available)
            return
        if look.signal is not None and look.signal.weight is Weight.NODE and not look.excused:
            look.state = NodeState.BAD_NODE
        self._set_clock(look, new)
        if _is_untouched(new) and look.due is not None and look.due <= q.now:
            look.signal = Signal(FailureClass.NO_PROGRESS, Weight.NODE, message=_UNTOUCHED)
            look.state = NodeState.BAD_BEFORE if look.excused else NodeState.BAD_NODE

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
        return since + timedelta(seconds=min(max(seconds, 0), _SECONDS_MAX))

    def _look_at_old(self, look: Look, pods: list[Pod]) -> None:
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

    def _recall_failure(self, look: Look) -> None:
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
        self.wake(pod.deleting + STUCK)
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
        since = max(ready.since if ready and ready.since else ALWAYS, pod.deleting or ALWAYS)
        self.wake(since + LINGERS)
        return since + LINGERS > self.question.now

    def wake(self, at: datetime | None) -> None:
        """Look again then."""
        if at is not None:
            self.timers.append(at)

    # ------------------------------------------------------------------ clocks

    def _set_clock(self, look: Look, pod: Pod) -> None:
        """Say when a pod that is not ready will be blamed for it."""
        q = self.question
        condition = pod.conditions.get("ContainersReady")
        lost = condition.since if condition is not None and condition.status != "True" else None
        story = self.chronicle.stories.get(pod.uid, NO_STORY)
        seen = story.losses[-1] if lost is not None and story.losses else None  # by our clock
        stamps = (pod.created, look.node.ready_since, lost, seen, _could_start(pod))
        look.begins = max(each or ALWAYS for each in stamps)
        floor = self._floor(pod)
        if not any(each.restarts for each in (*pod.init_containers, *pod.containers)):
            look.floor = floor
            if story.pull_failed:
                look.begins = max(look.begins, _last_start(pod))
        if q.started is None or q.live_since is None or q.by_people:
            return
        pulls = story.pulling_since is not None or (story.heard_at is None and _may_pull(pod))
        if pulls or self._waits_for_others(pod, lost):
            return
        if self.question.baking_since is not None and _ran_on(pod, lost):
            due = look.begins + self.manifest.loss_allowance
        else:
            due = max(look.begins + story.pulled + self.manifest.pod_deadline, floor)
            due = _when_alive(due, look.begins, story)
        look.due = max(due, q.live_since + VIEW_SETTLES, q.started)
        self.wake(look.due)

    def _waits_for_others(self, pod: Pod, lost: datetime | None) -> bool:
        """Whether readiness went for pods of other revisions at the same time."""
        return lost is not None and _ran_on(pod, lost) and self.scene.shared(lost)

    def _floor(self, pod: Pod) -> datetime:
        """Before this, not being ready means nothing, whatever the settings say."""
        floor = ALWAYS
        for container in (*pod.init_containers, *pod.containers):
            demands = self.manifest.containers.get(container.name)
            if demands and container.running_since is not None and not container.ready:
                floor = max(floor, container.running_since + demands.floor)
        return floor


def _when_alive(due: datetime, begins: datetime, story: Story) -> datetime:
    """Return when a late pod can be blamed: a node that died counts as Ready for 50 s more.

    A deadline shorter than that is over at once only where its kubelet spoke since; else when the
    node's death would show.
    """
    heard = story.heard_at is not None and story.heard_at >= due
    return due if heard or due - begins >= VIEW_SETTLES else due + VIEW_SETTLES


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
    return max(pods, key=lambda each: (each.created or ALWAYS, each.name), default=None)


def began(pod: Pod) -> datetime | None:
    """Return when a container of the pod first ran, as far as its status says."""
    stamps = [
        stamp
        for each in (*pod.init_containers, *pod.containers)
        for stamp in (each.running_since, each.last.started if each.last else None)
        if stamp is not None
    ]
    return min(stamps, default=None)


def _last_start(pod: Pod) -> datetime:
    """Return when the last of its containers started: what a registry took is behind it then."""
    return max((each.running_since or ALWAYS for each in pod.containers), default=ALWAYS)


def _may_pull(pod: Pod) -> bool:
    """Whether a pod has all but its containers, so that without Events nobody knows what it awaits.

    An image, or the runtime: what a manifest gets wrong at that point the status says.
    """
    able = pod.conditions.get("PodReadyToStartContainers")
    waits = ("ContainerCreating", "PodInitializing")
    return (
        able is not None
        and able.status == "True"
        and any(each.waiting_reason in waits for each in pod.containers)
        and not any(each.running_since or each.last for each in pod.containers)
        and not any(
            each.running_since for each in pod.init_containers if each.name not in pod.sidecars
        )
    )


def _is_untouched(pod: Pod) -> bool:
    """Whether the kubelet has said nothing of a pod on its node: no manifest keeps it from that."""
    told = pod.containers or pod.init_containers or "ContainersReady" in pod.conditions
    return pod.bound and pod.phase == "Pending" and not told


def _could_start(pod: Pod) -> datetime | None:
    """Return when the node had network and volumes for the pod, where it took its time for them.

    What the node owed is no time of the revision's: it may start, and be late, from here.
    """
    able = pod.conditions.get("PodReadyToStartContainers")
    if able is None or able.status != "True" or able.since is None or pod.created is None:
        return None
    return able.since if able.since - pod.created > _NODE_AT_WORK else None


def _ran_on(pod: Pod, lost: datetime | None) -> bool:
    """Whether readiness went while the containers ran on, rather than never having come."""
    runs = [each.running_since for each in pod.containers]
    return (
        lost is not None and bool(runs) and all(each is not None and each < lost for each in runs)
    )
