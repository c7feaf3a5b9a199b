"""What was seen to happen: facts that the objects themselves no longer show.

Filled by whoever watches, in the order in which things arrive; read by `health.judge`.  A pod that
lost Ready twice looks like one that never did, an evicted pod is gone in 10 ms, a kill by a probe
leaves no trace in the status.  Nothing here is needed for a right verdict: after a restart it is
empty, and the same things are found out later or named more generally.

Lines may come twice, late or never: an older `resourceVersion` adds facts and moves nothing, and a
readiness lost between two lines is read from the condition's transition time.
"""

from __future__ import annotations

import re
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from dsgitops.core.model import Container, Ended, Event, Node, Pod

STORIES_MAX = 20_000
"""Pods remembered, gone ones included; the oldest go first."""
_GONE_MAX = 512
_AWAY_MAX = 512
_LOSSES_MAX = 64
_REFUSALS_MAX = 32
_HASHES_MAX = 16
_ENDS_MAX = 16
_MESSAGE_MAX = 1024

KILLED_BY_PROBE = re.compile(
    r"^Container (?:runtime )?(\S+) failed (liveness|startup) probe, will be restarted"
)
_ONE_WORD = re.compile(r"^Error: \w+$")
_NOISE = re.compile(r"not registered|failed to sync \w+ cache|timed out waiting for the condition")


@dataclass(slots=True)
class Story:
    """What happened to one pod."""

    hash: str = ""
    node: str = ""
    notable: bool = False
    """Whether there is anything here beyond an ordinary life."""
    ends: dict[tuple[str, datetime], Ended] = field(default_factory=dict)
    """Ends of containers by name and moment, as far as seen."""
    kills: dict[tuple[str, str], int] = field(default_factory=dict)
    """Kills by (container, `liveness` or `startup`)."""
    killed_at: datetime | None = None
    """When the last of them was."""
    hook: str = ""
    """What a failed lifecycle hook said."""
    pull: str = ""
    """Why the last pull of an image failed."""
    pull_failed: bool = False
    """Whether any did, however it went on."""
    config: str = ""
    """Why a container could not be configured."""
    mount: str = ""
    """Why a volume could not be mounted; noise left out."""
    probe: str = ""
    """What the last failed readiness or startup probe met, in words of ours: what a probe's
    command prints may be a secret."""
    sandbox: str = ""
    """Why the pod sandbox could not be created."""
    stuck: str = ""
    """Why the pod could not be taken down."""
    evicted: str = ""
    """Why the kubelet evicted it."""
    sandboxes_lost: int = 0
    losses: list[datetime] = field(default_factory=list)
    """When its containers stopped being ready without one of them ending."""
    pulling_since: datetime | None = None
    pulled: timedelta = timedelta()
    """Time spent pulling images before `pulling_since`."""
    up: bool | None = None
    up_since: datetime | None = None
    ready_at: datetime | None = None
    """When it was seen to become Ready: finer than the whole seconds of the condition."""
    ready: bool | None = None
    restarts: int = 0
    heard_at: datetime | None = None
    """When its kubelet last had something to tell of it: then the node was alive."""
    version: int = -1
    disrupted: bool = False
    """Whether something else than the revision took it away (`DisruptionTarget`)."""


@dataclass(frozen=True, slots=True)
class Gone:
    """A pod that failed as a whole, kept after its object went."""

    pod: Pod
    message: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Refusal:
    """One time that the API server would not create a pod."""

    message: str
    at: datetime
    """When we heard of it, or when it happened if that is longer ago."""
    stamp: datetime | None
    """The Event's own time, whole seconds."""


def is_telling(event: Event) -> bool:
    """Whether a chronicle reads anything out of such an Event; most tell of an ordinary life."""
    if event.kind == "DaemonSet":
        return event.reason == "FailedCreate"
    return event.kind == "Pod" and event.reason in _POD_EVENTS and bool(event.uid)


class Chronicle:
    """The story of the pods of one DaemonSet.  Bounded; deterministic; not thread-safe."""

    __slots__ = ("_gone", "_losses", "_refusals", "_stories", "away", "heard")

    def __init__(self) -> None:
        self._stories: OrderedDict[str, Story] = OrderedDict()
        self._gone: OrderedDict[str, Gone] = OrderedDict()
        self._losses: OrderedDict[str, deque[datetime]] = OrderedDict()
        self._refusals: OrderedDict[str, deque[Refusal]] = OrderedDict()
        self.away: deque[tuple[str, datetime]] = deque(maxlen=_AWAY_MAX)
        """Nodes that were seen NotReady, and since when."""
        self.heard = False
        """Whether any Event was ever told."""

    # ------------------------------------------------------------------ asked by health

    @property
    def stories(self) -> Mapping[str, Story]:
        """Stories by uid of the pod."""
        return self._stories

    @property
    def gone(self) -> Iterable[Gone]:
        """Pods that failed as a whole, oldest first, at most some hundreds."""
        return self._gone.values()

    def refusals(self, uid: str) -> Iterable[Refusal]:
        """Return what the DaemonSet with this uid was refused, oldest first."""
        return self._refusals.get(uid, ())

    def shared(self, hash_: str, at: datetime, window: timedelta) -> bool:
        """Whether pods of another revision than `hash_` stopped being ready at the same time."""
        return any(
            abs(each - at) <= window
            for other, times in self._losses.items()
            if other != hash_
            for each in times
        )

    def last_loss_elsewhere(self, hash_: str) -> datetime | None:
        """Return when pods of another revision last stopped being ready by themselves."""
        times = [max(each) for other, each in self._losses.items() if other != hash_ and each]
        return max(times, default=None)

    # ------------------------------------------------------------------ told by whoever watches

    def pod(self, pod: Pod, now: datetime) -> None:
        """Take in a pod as it is now (ADDED, MODIFIED, or from a list)."""
        story = self._story(pod.uid)
        story.hash, story.node = pod.hash or story.hash, pod.node or story.node
        self._ends(story, pod)
        self._failed(story, pod, now)
        version = int(pod.resource_version) if pod.resource_version.isdecimal() else story.version
        if version < story.version:
            return
        story.version = version
        if story.pulling_since is not None and _is_past_pulling(pod):
            _stop_pulling(story, now)
        self._readiness(story, pod, now)
        if pod.is_ready and story.ready is False:
            story.ready_at = now
        story.ready = pod.is_ready

    def pod_gone(self, pod: Pod, now: datetime) -> None:
        """Take in a pod's last state (DELETED)."""
        self.pod(pod, now)
        story = self._stories[pod.uid]
        if not story.notable:
            del self._stories[pod.uid]

    def node(self, node: Node, now: datetime) -> None:
        """Take in a node as it is now."""
        if node.is_ready:
            return
        fact = (node.name, min(node.ready_since or now, now))
        if fact not in self.away:
            self.away.append(fact)

    def event(self, event: Event, now: datetime) -> None:
        """Take in an Event about a pod or about the DaemonSet; others are passed over."""
        self.heard = True
        if not is_telling(event):
            return
        if event.kind == "Pod":
            self._pod_event(self._story(event.uid), event, now)
        else:
            self._refused(event, now)

    # ------------------------------------------------------------------ how

    def _story(self, uid: str) -> Story:
        story = self._stories.get(uid)
        if story is None:
            story = self._stories[uid] = Story()
            if len(self._stories) > STORIES_MAX:
                self._stories.popitem(last=False)
        return story

    def _ends(self, story: Story, pod: Pod) -> None:
        for container in (*pod.init_containers, *pod.containers):
            for end in (container.last, container.terminated):
                if end is None or end.finished is None or len(story.ends) >= _ENDS_MAX:
                    continue
                if pod.deleting is None:
                    story.ends.setdefault((container.name, end.finished), end)
                    story.notable = True
            if container.waiting_reason.endswith("HookError"):
                story.hook = container.waiting_message[:_MESSAGE_MAX] or container.waiting_reason
                story.notable = True

    def _failed(self, story: Story, pod: Pod, now: datetime) -> None:
        """Keep a pod whose phase is Failed with a reason: the controller deletes it at once."""
        disruption = pod.conditions.get("DisruptionTarget")
        story.disrupted |= disruption is not None and disruption.status == "True"
        if pod.phase == "Failed" and pod.reason and pod.uid not in self._gone:
            self._gone[pod.uid] = Gone(pod, pod.message or story.evicted, now)
            story.notable = True
            if len(self._gone) > _GONE_MAX:
                self._gone.popitem(last=False)

    def _readiness(self, story: Story, pod: Pod, now: datetime) -> None:
        condition = pod.conditions.get("ContainersReady")
        if condition is None:
            return
        up = condition.status == "True"
        restarts = sum(each.restarts for each in pod.containers)
        restarts += sum(each.restarts for each in pod.init_containers)
        moved = condition.since != story.up_since and condition.since is not None
        lost = (story.up is True and (not up or moved)) or (story.up is False and not up and moved)
        if lost and restarts == story.restarts and _by_itself(pod, up=up):
            at = now if story.up and not up else min(condition.since or now, now)
            self._lost(story, at)
        story.up, story.up_since, story.restarts = up, condition.since, restarts

    def _lost(self, story: Story, at: datetime) -> None:
        story.losses = [*story.losses, at][-_ENDS_MAX:]
        story.notable = True
        if not story.hash:
            return
        times = self._losses.setdefault(story.hash, deque(maxlen=_LOSSES_MAX))
        if not times or at - times[-1] >= timedelta(seconds=1):
            times.append(at)
        if len(self._losses) > _HASHES_MAX:
            self._losses.popitem(last=False)

    def _pod_event(self, story: Story, event: Event, now: datetime) -> None:
        message = event.message[:_MESSAGE_MAX]
        told = min(event.last or now, now)
        story.heard_at = max(story.heard_at or told, told)
        match event.reason:
            case "Pulling":
                story.pulling_since = story.pulling_since or min(event.last or now, now)
            case "Pulled":
                _stop_pulling(story, now)
                story.pull = ""
            case "Killing":
                _note_kill(story, message, event.count, told)
            case "Failed":
                _stop_pulling(story, now)
                _note_failure(story, message)
            case "Unhealthy":
                story.probe = _met(message) or story.probe
            case "SandboxChanged":
                story.sandboxes_lost = max(story.sandboxes_lost, event.count)
            case _:
                _note_message(story, event.reason, message)

    def _refused(self, event: Event, now: datetime) -> None:
        stamp = event.last
        at = now if stamp is None or now - stamp < timedelta(minutes=1) else stamp
        known = self._refusals.setdefault(event.uid, deque(maxlen=_REFUSALS_MAX))
        known.append(Refusal(event.message[:_MESSAGE_MAX], at, stamp))
        if len(self._refusals) > _HASHES_MAX:
            self._refusals.popitem(last=False)


_KEPT_AS = {
    "FailedPostStartHook": "hook",
    "FailedPreStartHook": "hook",
    "FailedMount": "mount",
    "FailedAttachVolume": "mount",
    "FailedCreatePodSandBox": "sandbox",
    "FailedKillPod": "stuck",
    "Evicted": "evicted",
}
_POD_EVENTS = frozenset(
    {"Pulling", "Pulled", "Killing", "Failed", "SandboxChanged", "Unhealthy", *_KEPT_AS}
)
_PROBED = re.compile(r"(Readiness|Startup) probe failed: (.*)", re.DOTALL)
_STATUS = re.compile(r"HTTP probe failed with statuscode: \d{3}")
_MET = (
    ("connection refused", "connection refused"),
    ("no such host", "no such host"),
    ("i/o timeout", "connection timed out"),
    ("context deadline exceeded", "no answer in time"),
    ("timed out after", "its command took too long"),
)


def _met(message: str) -> str:
    """Return what a failed probe met; "" where it was another kind of probe."""
    found = _PROBED.match(message)
    if found is None:
        return ""
    status = _STATUS.search(found[2])
    said = next((words for sign, words in _MET if sign in found[2]), "its command failed")
    return f"{found[1].lower()} probe: {'HTTP ' + status[0][-3:] if status else said}"


def _note_kill(story: Story, message: str, count: int, at: datetime) -> None:
    """Keep a kill by a probe; the other kills are ordinary ends."""
    found = KILLED_BY_PROBE.match(message)
    if found is None:
        return
    key = (found[1], found[2])
    story.kills[key] = max(story.kills.get(key, 0), count)
    story.killed_at = max(story.killed_at or at, at)
    story.notable = True


def _note_message(story: Story, reason: str, message: str) -> None:
    if reason in ("FailedMount", "FailedAttachVolume") and _NOISE.search(message):
        return
    setattr(story, _KEPT_AS[reason], message)
    story.notable = True


def _note_failure(story: Story, message: str) -> None:
    """Sort an Event `Failed`: a pull with its cause, a configuration, or only an echo."""
    if message.startswith("Failed to pull image"):
        story.pull, story.pull_failed = message, True
    elif not _ONE_WORD.match(message) and message.startswith("Error: "):
        story.config = message
    else:
        return
    story.notable = True


def _stop_pulling(story: Story, now: datetime) -> None:
    if story.pulling_since is not None:
        story.pulled += max(now - story.pulling_since, timedelta())
        story.pulling_since = None


def _is_past_pulling(pod: Pod) -> bool:
    """Whether the pod shows what the lost Event would have said: nothing is being pulled."""
    return all(not _is_creating(each) for each in (*pod.init_containers, *pod.containers))


def _is_creating(container: Container) -> bool:
    return container.waiting_reason in ("ContainerCreating", "PodInitializing")


def _by_itself(pod: Pod, *, up: bool) -> bool:
    """Whether readiness went while all containers ran on and nobody took the pod away."""
    if pod.phase in ("Failed", "Succeeded"):
        return False
    if pod.deleting is not None:
        condition = pod.conditions["ContainersReady"]
        asked = pod.deleting - timedelta(seconds=pod.grace)
        if up or condition.since is None or condition.since > asked:
            return False
    return all(
        each.running_since is not None
        for each in (*pod.containers, *pod.init_containers)
        if each.name not in _ended_init(pod)
    )


def _ended_init(pod: Pod) -> frozenset[str]:
    """Return the init containers that are done: they do not run, and need not."""
    return frozenset(each.name for each in pod.init_containers if each.name not in pod.sidecars)
