"""What one pod's state says: the table of failure signals (`daemonsets.md` 2.2), one rule each.

Words are those of kubelet and containerd as recorded; a word is only looked for beside the reason
that it belongs to, because "not found" stands in a dozen messages that have nothing in common.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import TYPE_CHECKING

from dsgitops.core.chronicle import Story
from dsgitops.core.model import FailureClass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dsgitops.core.deadlines import Manifest
    from dsgitops.core.model import Container, Ended, Node, Pod

MESSAGE_MAX = 256
_CLOCKS_DIFFER = timedelta(seconds=5)
_SETTLED = timedelta(seconds=10)
"""A container that ran for so long was up; its end is a crash, not a hitch of the start."""
_NODE_BACK = timedelta(seconds=5)
"""Ends this soon after a node became Ready belong to its outage."""


class Weight(IntEnum):
    """How much a signal says against the revision; of several the highest counts."""

    LATE = 1
    """Nothing yet: a vote once the pod's deadline has passed."""
    WAIT = 2
    """Somebody else's fault (a registry's): never a vote."""
    NODE = 3
    """The node's fault: never a vote."""
    WEAK = 4
    """Could be the node: a vote on two nodes, or at the pod's deadline."""
    STRONG = 5
    """A vote."""
    CERTAIN = 6
    """A vote, and one is enough whatever `maxFailedNodes` says."""


@dataclass(frozen=True, slots=True)
class Signal:
    """What speaks against one pod, or excuses it."""

    failure_class: FailureClass
    weight: Weight
    container: str = ""
    message: str = ""
    restarts: int = 0
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Scene:
    """What a pod's signals are read against."""

    manifest: Manifest
    started: datetime | None
    """The forward write: older ends and losses are no evidence."""
    first: bool
    """Whether there is no earlier revision to compare with."""
    baking_since: datetime | None
    """Since when all were available; None: not yet."""
    surges: bool
    """Whether new pods start beside the old ones."""
    shared: Callable[[datetime], bool]
    """Whether pods of another revision lost Ready at about that moment too."""

    def blames(self, loss: datetime, node: Node) -> bool:
        """Whether a loss of Ready at this moment is the pod's own."""
        if self.started is not None and loss < self.started:
            return False
        if node.ready_since is not None and loss <= node.ready_since + _NODE_BACK:
            return False
        return not self.shared(loss)


@dataclass(frozen=True, slots=True)
class Seen:
    """One pod of the target revision, not being deleted, on a Ready node."""

    pod: Pod
    node: Node
    story: Story
    scene: Scene


NO_STORY = Story()
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PULL_REASONS = frozenset({"ErrImagePull", "ImagePullBackOff", "RegistryUnavailable"})
_CREATE_ERRORS = frozenset({"RunContainerError", "CreateContainerError"})
_ENDED_WAITS = _CREATE_ERRORS | {"CrashLoopBackOff"}


def read(seen: Seen) -> Signal | None:
    """Return the weightiest signal of a pod; None: it is ready and nothing speaks against it."""
    found = list(_signals(seen))
    if not found:
        return None
    return max(found, key=lambda each: (each.weight, -_ORDER[each.failure_class]))


_ORDER = {each: place for place, each in enumerate(FailureClass)}


def _signals(seen: Seen) -> Iterator[Signal]:
    pod, story = seen.pod, seen.story
    if pod.phase == "Failed":
        yield failed(pod, story.evicted, seen.scene)
        return
    for container in (*pod.init_containers, *pod.containers):
        yield from _container(container, seen)
    yield from _flaps(seen)
    if not pod.is_ready:
        yield from _not_ready(pod, story, seen.scene)


# ---------------------------------------------------------------------------- the pod as a whole

_OWN_OVERUSE = re.compile(
    r"Usage of EmptyDir volume|exceeds the (?:total )?limit"
    r"|exceeded its local ephemeral storage limit"
)

_REFUSED_BY_KUBELET = frozenset(
    {
        "SysctlForbidden",
        "AppArmor",
        "PodFeatureUnsupported",
        "PodLevelResourcesNotSupported",
        "SupplementalGroupsPolicyNotSupported",
        "PodOSNotSupported",
        "PodOSSelectorNodeLabelDoesNotMatch",
    }
)
"""Reasons of a kubelet that will not run such a manifest; a new pod fares no better."""


def failed(pod: Pod, evicted: str, scene: Scene) -> Signal:
    """Read a pod of phase Failed: evicted, not admitted, shut down with its node."""
    message = _cut(pod.message or evicted)
    disruption = pod.conditions.get("DisruptionTarget")
    disrupted = disruption is not None and disruption.status == "True"
    if pod.reason == "Evicted" and not disrupted and _OWN_OVERUSE.search(pod.message or evicted):
        return Signal(FailureClass.EVICTED, Weight.STRONG, message=message)
    if pod.reason.startswith("OutOf"):
        resource = pod.reason.removeprefix("OutOf")
        raised = resource in scene.manifest.raised
        weight = Weight.CERTAIN if raised else Weight.NODE
        return Signal(FailureClass.UNSCHEDULABLE, weight, message=message)
    if pod.reason in _REFUSED_BY_KUBELET:
        return Signal(FailureClass.CONFIG_ERROR, Weight.STRONG, message=message)
    return Signal(FailureClass.EVICTED, Weight.NODE, message=message)


def _not_ready(pod: Pod, story: Story, scene: Scene) -> Iterator[Signal]:
    scheduled = pod.conditions.get("PodScheduled")
    if not pod.bound:
        if scheduled is not None and scheduled.status == "False":
            yield _unschedulable(scheduled.message, scene)
        return
    ready, all_ready = pod.conditions.get("Ready"), pod.conditions.get("ContainersReady")
    if ready is not None and all_ready is not None and all_ready.status == "True":
        # the node controller flips Ready alone; the kubelet does so only for readiness gates
        gated = pod.gated or ready.reason == "ReadinessGatesNotReady"
        weight = Weight.LATE if gated else Weight.NODE
        yield Signal(
            FailureClass.NO_PROGRESS, weight, message=_cut(ready.message), since=ready.since
        )
        return
    yield from _before_start(pod, story, scene)
    yield _late(pod, story.probe)


_FULL = re.compile(r"Insufficient ([\w./-]+)|Too many (pods)")
_IN_VAIN = re.compile(r"preemption: (?!not eligible due to (?:a )?terminating pod)")
"""The scheduler says so where it found nobody to evict; it is silent while the evicted go."""


def _unschedulable(message: str, scene: Scene) -> Signal:
    """Read why the scheduler found no place.

    All other nodes are in the message too, as not matching; only what is about the one node
    counts: something is short, or a port of the host is taken (with surge, by the very pod that
    is to be replaced, for ever).
    """
    short = {(each[1] or each[2]).rstrip(".,") for each in _FULL.finditer(message)}
    manifest = scene.manifest
    weight = Weight.LATE
    if short:
        weight = Weight.NODE
        if short & manifest.raised:
            weight = Weight.CERTAIN if _IN_VAIN.search(message) else Weight.WAIT
        elif scene.first:
            weight = Weight.WEAK
    elif "free ports" in message:
        ours = manifest.new_host_ports or (scene.surges and manifest.host_ports)
        weight = Weight.CERTAIN if ours else Weight.LATE
    return Signal(FailureClass.UNSCHEDULABLE, weight, message=_cut(message))


_OF_NAMESPACE = r"(?:kube-root-ca|openshift-service-ca)\.crt"
"""ConfigMaps that the control plane puts into each namespace, soon after it is made."""
_MISSING = re.compile(
    rf'(?:configmap|secret) (?!"{_OF_NAMESPACE}")\S+ not found|non-existent (?:config|secret) key'
)
_MOUNT_PASSES = re.compile(
    r"failed to fetch token|code = (?:Unavailable|DeadlineExceeded|ResourceExhausted|Aborted)"
    r"|registered CSI drivers|connection refused|i/o timeout|deadline exceeded|TLS handshake"
    rf"|etcdserver|too many requests|{_OF_NAMESPACE}",
    re.IGNORECASE,
)
"""Who was asked did not answer: many nodes at once meet that, and the next attempt may go well."""
_NO_RUNTIME = re.compile(r"no runtime for|RuntimeHandler", re.IGNORECASE)
_NOT_TO_BE_SET = re.compile(
    r"container init: (?:open|write) /proc/sys/|spec\.hostUsers|init selinux options"
)
"""Of the pod's security context: a sysctl, user namespaces, SELinux."""
_INIT_KILLED = re.compile(r"container init was OOM-killed")
_NO_MEMORY = re.compile(r"cgroup.*cannot allocate memory")
"""A limit of some bytes, or a node whose kernel has lost its memory for cgroups."""
_SANDBOX = "sandbox: "
"""Begins what is kept of such a message: its own beginning is long, and the same for all causes."""


def _sandbox(message: str, scene: Scene) -> Signal:
    """Read why the pod's sandbox was not created: the node, unless the manifest asks too much.

    The sandbox runs under the pod's memory limit and with its sysctls (seen on Kubernetes 1.36 with
    containerd 1.6, `tests/cluster/test_real_pods.py`).
    """
    name, weight = FailureClass.NO_PROGRESS, Weight.WEAK
    lowered = bool(scene.manifest.lowered_memory)
    if _INIT_KILLED.search(message) or (lowered and _NO_MEMORY.search(message)):
        name = FailureClass.OOM_KILLED
    elif _NOT_TO_BE_SET.search(message):
        name = FailureClass.CONFIG_ERROR
    elif not _NO_RUNTIME.search(message):
        weight = Weight.NODE
    cause = message[len(_SANDBOX) - MESSAGE_MAX :]  # comes last
    return Signal(name, weight, message=f"{_SANDBOX}{cause}")


def _before_start(pod: Pod, story: Story, scene: Scene) -> Iterator[Signal]:
    """Read Events of a pod none of whose containers has run: volumes, then the sandbox."""
    sandbox = pod.conditions.get("PodReadyToStartContainers")
    if (sandbox is not None and sandbox.status == "True") or _has_run(pod):
        return
    if story.mount:
        weight = Weight.CERTAIN if _MISSING.search(story.mount) else Weight.WEAK
        if weight is Weight.WEAK and _MOUNT_PASSES.search(story.mount):
            weight = Weight.LATE
        yield Signal(FailureClass.MOUNT_FAILED, weight, message=_cut(story.mount))
    if story.sandbox:
        yield _sandbox(story.sandbox, scene)


def _has_run(pod: Pod) -> bool:
    return any(
        each.running_since is not None or each.terminated is not None or each.last is not None
        for each in (*pod.init_containers, *pod.containers)
    )


def _late(pod: Pod, probe: str) -> Signal:
    """Name what a pod that is not ready by its deadline will be blamed for.

    Args:
        pod: It runs, or should.
        probe: What its last failed probe met; may be empty.
    """
    sidecars = [each for each in pod.init_containers if each.name in pod.sidecars]
    setup = [each for each in pod.init_containers if each.name not in pod.sidecars]
    unready = [each for each in pod.containers if not each.ready]
    for each in setup:
        if each.running_since is not None or each.last is not None:
            return _blame(FailureClass.INIT_CONTAINER_FAILED, each)
    for each in sidecars:
        if each.running_since is not None and not each.ready and not _any_running(unready):
            return _blame(FailureClass.SIDECAR_FAILED, each)
    for each in unready:
        if each.running_since is not None:
            starting = each.started is False
            name = (
                FailureClass.STARTUP_PROBE_FAILED
                if starting
                else FailureClass.READINESS_PROBE_FAILED
            )
            return _blame(name, each, probe)
    return Signal(FailureClass.NO_PROGRESS, Weight.LATE, message="no container is running")


def _any_running(containers: list[Container]) -> bool:
    return any(each.running_since is not None for each in containers)


def _blame(failure_class: FailureClass, container: Container, probe: str = "") -> Signal:
    return Signal(
        failure_class,
        Weight.LATE,
        container=container.name,
        message=probe or "running and not ready",
        restarts=container.restarts,
        since=container.running_since,
    )


def _flaps(seen: Seen) -> Iterator[Signal]:
    """Read losses of Ready without a restart: one is a blip, two are not."""
    losses = [each for each in seen.story.losses if seen.scene.blames(each, seen.node)]
    if len(losses) >= 2:
        message = f"lost Ready {len(losses)} times without a restart"
        yield Signal(
            FailureClass.READINESS_PROBE_FAILED, Weight.STRONG, message=message, since=losses[-1]
        )


# ---------------------------------------------------------------------------- one container


def _container(container: Container, seen: Seen) -> Iterator[Signal]:
    pod, story = seen.pod, seen.story
    if container.waiting_reason and not pod.is_ready:
        waiting = _waiting(container, story)
        if waiting is not None:
            yield waiting
    if container.restarts or container.terminated or container.last:
        ended = _ended(container, seen)
        if ended is not None:
            yield ended
    for probe in ("liveness", "startup"):
        times = story.kills.get((container.name, probe), 0)
        if times and _is_of_rollout(story.killed_at, seen):
            yield _killed(container, probe, times, sidecar=container.name in pod.sidecars)


def _killed(container: Container, probe: str, times: int, *, sidecar: bool) -> Signal:
    name = FailureClass.STARTUP_PROBE_FAILED
    if sidecar:
        name = FailureClass.SIDECAR_FAILED
    elif probe == "liveness":
        name = FailureClass.LIVENESS_PROBE_FAILED
    message = f"killed by its {probe} probe, {times} times so far"
    return Signal(name, Weight.STRONG, container.name, message, container.restarts)


def _waiting(container: Container, story: Story) -> Signal | None:
    """Read `state.waiting`, with what an Event said before the status does."""
    reason, message = container.waiting_reason, container.waiting_message
    name = container.name
    if reason in _ONE_MEANING:
        failure_class, weight = _ONE_MEANING[reason]
        return Signal(failure_class, weight, name, _cut(message), container.restarts)
    if reason in _PULL_REASONS:
        return _pull(name, message if "ErrImagePull: " in message or not story.pull else story.pull)
    if reason == "CreateContainerConfigError":
        return _config(name, message)
    if reason in _CREATE_ERRORS:
        return _start_error(name, message, container.restarts)
    if reason.endswith("HookError") or story.hook:
        message = _cut(message or story.hook)
        return Signal(FailureClass.HOOK_FAILED, Weight.STRONG, name, message, container.restarts)
    return None if container.last else _announced(name, story)


def _announced(container: str, story: Story) -> Signal | None:
    """Read what Events say while the status still says ContainerCreating."""
    if story.pull:
        return _pull(container, story.pull)
    if _SURELY_CONFIG.search(story.config):
        return _config(container, story.config.removeprefix("Error: "))
    return None


_ONE_MEANING = {
    "InvalidImageName": (FailureClass.INVALID_IMAGE_NAME, Weight.CERTAIN),
    "ErrImageNeverPull": (FailureClass.IMAGE_NOT_FOUND, Weight.WEAK),
    "SignatureValidationFailed": (FailureClass.IMAGE_PULL_DENIED, Weight.CERTAIN),
    "ImageInspectError": (FailureClass.IMAGE_PULL_FAILED, Weight.NODE),
}
_NODE_PULL = re.compile(r"no space left|input/output error|read-only file system", re.IGNORECASE)
_REGISTRY = re.compile(
    r"toomanyrequests|rate limit|429 Too Many|no such host|server misbehaving|connection refused"
    r"|connection reset|i/o timeout|deadline exceeded|TLS handshake|x509:|network is unreachable"
    r"|no route to host|Client\.Timeout|unexpected EOF|\b5\d\d (?:Internal|Bad|Service|Gateway)"
    r"|status(?: code)?:? (?:\[[^\]]*\]:? )?5\d\d",
    re.IGNORECASE,
)
_DENIED = re.compile(
    r"pull access denied|insufficient_scope|authorization failed|unauthorized|401 |403 |denied:"
    r"|no basic auth credentials|authentication required",
    re.IGNORECASE,
)
_NOT_FOUND = re.compile(
    r"code = NotFound|manifest unknown|name unknown|not found|404 "
    r"|no match(?:ing manifest)? for|does not exist",
    re.IGNORECASE,
)
_QUOTED = re.compile(r'"([^"]*)"')
_URL = re.compile(r"https?://\S+")


def _pull(container: str, message: str) -> Signal:
    """Sort a failed pull: the node, then the registry or the way to it, then the image.

    Names of images and hosts are taken out first: an image may be called `unauthorized`.
    """
    words = _QUOTED.sub("", message)
    for name in set(_QUOTED.findall(message)):
        words = words.replace(name, "") if name else words
    words = _URL.sub("", words)
    text = _cut(message)
    if _NODE_PULL.search(words):
        return Signal(FailureClass.IMAGE_PULL_FAILED, Weight.NODE, container, text)
    if _REGISTRY.search(words):
        return Signal(FailureClass.IMAGE_PULL_FAILED, Weight.WAIT, container, text)
    if _DENIED.search(words):
        return Signal(FailureClass.IMAGE_PULL_DENIED, Weight.CERTAIN, container, text)
    if _NOT_FOUND.search(words):
        return Signal(FailureClass.IMAGE_NOT_FOUND, Weight.CERTAIN, container, text)
    return Signal(FailureClass.IMAGE_PULL_FAILED, Weight.WAIT, container, text)


_PASSING = re.compile(
    r"failed to sync|timed out|not registered|services have not yet been read|deadline exceeded"
    r"|host IP unknown|cannot find volume"
)
_SURELY_CONFIG = re.compile(
    r'(?:configmap|secret) "\S+" not found|couldn\'t find key|runAsNonRoot|run as root|non-numeric'
)
"""The Event says `Error: …` of runtimes as well; the status tells them apart a moment later."""


def _config(container: str, message: str) -> Signal:
    """Read why a container could not be configured; caches that are not filled yet pass."""
    weight = Weight.LATE if _PASSING.search(message) else Weight.CERTAIN
    return Signal(FailureClass.CONFIG_ERROR, weight, container, _cut(message))


_OUR_START = re.compile(
    r"exec:|executable file not found|no such file or directory|permission denied|not a directory"
    r"|is a directory|exec format error|unknown capability|invalid mount|chdir to cwd"
)
_NODE_START = re.compile(r"cgroup|temporarily unavailable|failed to start shim|device")
_FULL_DISK = re.compile(r"no space left on device|input/output error")
_SLOW_RUNTIME = re.compile(r"failed to reserve container name|context deadline exceeded")


def _start_error(container: str, message: str, restarts: int) -> Signal:
    """Read why a container did not start: a command that is not there, or the node's runtime."""
    if "cgroup" not in message and _FULL_DISK.search(message):
        return Signal(FailureClass.START_ERROR, Weight.NODE, container, _cut(message), restarts)
    if _SLOW_RUNTIME.search(message):
        return Signal(FailureClass.START_ERROR, Weight.WAIT, container, _cut(message), restarts)
    ours = _OUR_START.search(message) and not _NODE_START.search(message)
    weight = Weight.STRONG if ours else Weight.WEAK
    return Signal(FailureClass.START_ERROR, weight, container, _cut(message), restarts)


# ---------------------------------------------------------------------------- ends


def _ended(container: Container, seen: Seen) -> Signal | None:
    """Read how often and how a container has ended.

    The number of ends is `restartCount`, and one more while it is down: CrashLoopBackOff itself
    shows for a moment only, or for the whole back-off, as it happens.
    """
    pod, story = seen.pod, seen.story
    ends = _known_ends(container, story)
    counted = [each for each in ends if _counts(each, container, seen)]
    if not counted:
        return None
    if _is_older(pod, seen.scene):
        times = len(counted)
    else:
        excused = max(len(ends) - len(counted), story.sandboxes_lost)
        times = _times(container) - excused
    if times <= 0:
        return None
    last = max(counted, key=lambda each: each.finished or _EPOCH)
    if last.reason == "StartError":
        return _start_error(container.name, last.message, container.restarts)
    return _crash(container, last, times, seen)


def _crash(container: Container, last: Ended, times: int, seen: Seen) -> Signal:
    name, weight = FailureClass.CRASH_LOOP, Weight.STRONG if times >= 2 else Weight.LATE
    if _is_setup(container, seen.pod):
        name = FailureClass.INIT_CONTAINER_FAILED
    elif container.name in seen.pod.sidecars:
        name = FailureClass.SIDECAR_FAILED
    elif seen.story.hook:
        name, weight = FailureClass.HOOK_FAILED, Weight.STRONG
    elif last.reason == "OOMKilled":
        name = FailureClass.OOM_KILLED
        lowered = container.name in seen.scene.manifest.lowered_memory
        weight = Weight.CERTAIN if lowered else max(weight, Weight.WEAK)
    if weight is Weight.LATE and _was_up(last, seen.scene):
        weight = Weight.WEAK
    message = f"ended {times} times, last with exit code {last.exit_code} ({last.reason})"
    return Signal(name, weight, container.name, message, container.restarts, last.finished)


def _was_up(end: Ended, scene: Scene) -> bool:
    """Whether a container broke that had been up, rather than having had a hitch at its start."""
    if end.started is not None and end.finished is not None:
        return end.finished - end.started >= _SETTLED or _is_in_bake(end.finished, scene)
    return end.finished is not None and _is_in_bake(end.finished, scene)


def _is_in_bake(at: datetime, scene: Scene) -> bool:
    return scene.baking_since is not None and at > scene.baking_since


def _known_ends(container: Container, story: Story) -> list[Ended]:
    """Return the ends that were seen, by the moment they happened, each once."""
    ends = {moment: end for (name, moment), end in story.ends.items() if name == container.name}
    for end in (container.last, container.terminated):
        if end is not None:
            ends.setdefault(end.finished or _EPOCH, end)
    return list(ends.values())


def _counts(end: Ended, container: Container, seen: Seen) -> bool:
    """Whether an end is the container's own doing, and of this rollout."""
    if end.reason in ("Unknown", "ContainerStatusUnknown"):
        return False  # the node died or restarted under it
    if _is_setup(container, seen.pod) and end.exit_code == 0:
        return False
    finished, back = end.finished, seen.node.ready_since
    if finished is not None and back is not None and finished <= back + _NODE_BACK:
        return False
    return _is_of_rollout(finished, seen)


def _is_of_rollout(at: datetime | None, seen: Seen) -> bool:
    """Whether something is of this rollout: all that a pod has done that was made in it."""
    started = seen.scene.started
    if started is None or not _is_older(seen.pod, seen.scene):
        return True
    return at is not None and at >= started


def _times(container: Container) -> int:
    down = container.terminated is not None or (
        container.last is not None
        and (
            container.waiting_reason in _ENDED_WAITS
            or container.waiting_reason.endswith("HookError")
        )
    )
    return container.restarts + down


def _is_older(pod: Pod, scene: Scene) -> bool:
    """Whether the pod was there before the rollout: a rollback does not touch good pods."""
    if scene.started is None or pod.created is None:
        return False
    return pod.created < scene.started - _CLOCKS_DIFFER


def _is_setup(container: Container, pod: Pod) -> bool:
    return container in pod.init_containers and container.name not in pod.sidecars


def _cut(message: str) -> str:
    return message[:MESSAGE_MAX]
