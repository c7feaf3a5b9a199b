"""The values that decisions are made of.  All frozen, all times aware and in UTC.

Words are those of `docs/words` in README and of Kubernetes.  Names in `StrEnum`s are public API
(closed lists): they stand in the record, in `get`, logs, Events and metric labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from dsgitops.core.actions import Action
    from dsgitops.core.chronicle import Chronicle
    from dsgitops.core.record import Record


class _Nothing(Mapping[str, Any]):
    """A mapping without keys that may be a default of a dataclass.

    (`MappingProxyType` has no hash before Python 3.12 and is refused there.)
    """

    __slots__ = ()

    def __getitem__(self, key: str) -> Any:  # noqa: ANN401 - as Mapping has it
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0

    def __hash__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return "{}"


EMPTY: Mapping[str, Any] = _Nothing()

# ---------------------------------------------------------------------------- closed lists


class Verdict(StrEnum):
    """What is to be said of a rollout, from pods and nodes."""

    PROGRESSING = "Progressing"
    FINISHED = "Finished"
    FAILED = "Failed"
    NODE_PROBLEM = "NodeProblem"


class NodeState(StrEnum):
    """What one node means for the rollout that is followed."""

    DESIRED = "desired"
    OLD = "old"
    STARTING = "starting"
    BAD_REVISION = "badRevision"
    BAD_NODE = "badNode"
    BAD_BEFORE = "badBefore"
    TERMINATING = "terminating"
    NO_POD = "noPod"
    LEAVING = "leaving"


class FailureClass(StrEnum):
    """Why a rollout failed.  The order breaks ties: the first is the most telling."""

    INVALID_IMAGE_NAME = "InvalidImageName"
    IMAGE_NOT_FOUND = "ImageNotFound"
    IMAGE_PULL_DENIED = "ImagePullDenied"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    CONFIG_ERROR = "ConfigError"
    START_ERROR = "StartError"
    INIT_CONTAINER_FAILED = "InitContainerFailed"
    HOOK_FAILED = "HookFailed"
    OOM_KILLED = "OOMKilled"
    CRASH_LOOP = "CrashLoop"
    LIVENESS_PROBE_FAILED = "LivenessProbeFailed"
    STARTUP_PROBE_FAILED = "StartupProbeFailed"
    READINESS_PROBE_FAILED = "ReadinessProbeFailed"
    SIDECAR_FAILED = "SidecarFailed"
    MOUNT_FAILED = "MountFailed"
    UNSCHEDULABLE = "Unschedulable"
    PODS_REFUSED = "PodsRefused"
    EVICTED = "Evicted"
    NODE_WENT_NOT_READY = "NodeWentNotReady"
    NO_PROGRESS = "NoProgress"
    BAKE_FAILED = "BakeFailed"
    BY_HAND = "ByHand"


class Phase(StrEnum):
    """Where a DaemonSet is between two commits."""

    IDLE = "Idle"
    CANARY = "Canary"
    ROLLING = "Rolling"
    BAKING = "Baking"
    ROLLING_BACK = "RollingBack"
    HELD = "Held"


class Reason(StrEnum):
    """Why `decide` answered as it did."""

    IN_SYNC = "InSync"
    """The cluster has what Git has."""
    CONTROLLER_STALE = "ControllerStale"
    """The DaemonSet controller has not seen the last write yet; nothing is judged."""
    CLUSTER_UNREACHABLE = "ClusterUnreachable"
    """There is no live view of the cluster; clocks stand still."""
    SOURCE_UNREADABLE = "SourceUnreadable"
    """Git was not read since the agent started, and cannot be; what runs stays."""
    MANIFEST_INVALID = "ManifestInvalid"
    """The file in Git cannot be used; what runs stays."""
    REFUSED = "Refused"
    """Policy or the API server says no (403, 422)."""
    CONFLICT = "Conflict"
    """Another manager owns a field by Apply, with another value."""
    MISSING = "Missing"
    """The DaemonSet is not in the cluster, or is on its way out."""
    DRIFT_FOUND = "DriftFound"
    """Others changed it."""
    DRIFT_HEALED = "DriftHealed"
    """What others changed was written over."""
    DRIFT_GIVEN_UP = "DriftGivenUp"
    """What others change keeps coming back; it is left so until Git moves."""
    ROLLOUT_STARTED = "RolloutStarted"
    """New content was written."""
    ROLLOUT_PROGRESSING = "RolloutProgressing"
    """Pods are replaced, or wait for their turn."""
    ROLLOUT_STALLED = "RolloutStalled"
    """Only nodes or people are in the way: nothing moves by itself."""
    ROLLOUT_BAKING = "RolloutBaking"
    """All nodes have it available; it is watched for the bake time."""
    ROLLOUT_FINISHED = "RolloutFinished"
    """The bake is over: this is the last good content now."""
    ROLLOUT_SUPERSEDED = "RolloutSuperseded"
    """Newer content took its place in mid-rollout."""
    ROLLING_BACK = "RollingBack"
    """The last good revision was restored, and its pods come back."""
    ROLLED_BACK = "RolledBack"
    """Every node that counts runs the last good revision again."""
    ROLLBACK_FAILED = "RollbackFailed"
    """The rollback made no progress within its deadline; nothing more is done."""
    ROLLOUT_FAILED = "RolloutFailed"
    """It failed and stays: rollback is off or manual, or nothing was ever good."""
    QUARANTINED = "Quarantined"
    """What Git has failed here, and is held until Git moves or a person releases it."""
    SUSPENDED = "Suspended"
    """A person said that nothing may be done."""
    WAITING = "Waiting"
    """A rollout may not start yet; the sentence says what for."""
    PRUNED = "Pruned"
    """Git no longer has it, and it was deleted."""
    PRUNE_HELD = "PruneHeld"
    """Git no longer has it, and it stays."""


class WaitingFor(StrEnum):
    """What a decision with reason `Waiting` waits for."""

    WINDOW = "Window"
    CONCURRENCY = "Concurrency"
    BUDGET = "Budget"
    PREFLIGHT = "Preflight"


# ---------------------------------------------------------------------------- Git's side


@dataclass(frozen=True, slots=True, order=True)
class Ref:
    """The name of one DaemonSet."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing wrong with one file, for a person to mend."""

    path: str
    """Path inside the repository (or as the person gave it)."""
    line: int = 0
    """1-based; 0 where it is about the file as a whole."""
    column: int = 0
    """1-based; 0 where unknown."""
    severity: Literal["error", "warning", "notice"] = "error"
    rule: str
    """kebab-case, stable: `duplicate-key`."""
    what: str
    """What is wrong; never quotes a value that could be a secret."""
    remedy: str = ""
    object: str = ""
    """`namespace/name` where it is known."""

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.path, self.line, self.column) if part)
        return f"{place}: {self.what}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Strategy:
    """`spec.updateStrategy` with the API's defaults filled in."""

    type: Literal["RollingUpdate", "OnDelete"] = "RollingUpdate"
    max_unavailable: int | str = 1
    max_surge: int | str = 0

    @property
    def surges(self) -> bool:
        """Whether new pods start beside the old ones."""
        return self.max_surge not in (0, "0%")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gates:
    """What Git may ask for: `policy:` of the settings; no annotation changes it."""

    existing_only: bool = False
    """Content that adds privileges to a live object is refused."""
    images: tuple[str, ...] = ()
    """Patterns of which each image must match one; `*` stands for anything.  Empty: any image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How one DaemonSet is rolled out: settings, then profile, then annotations, resolved."""

    mode: Literal["guarded", "native"] = "guarded"
    canary_nodes: int = 1
    canary_bake: timedelta = timedelta(seconds=10)
    progress_deadline: timedelta = timedelta(minutes=10)
    """Longest time without one more ready node."""
    pod_deadline: timedelta | None = None
    """A pod's own deadline from its creation on a Ready node; None: from its manifest."""
    bake_time: timedelta = timedelta(minutes=2)
    max_failed_nodes: int | str = 1
    """That many votes fail a rollout: a count or "10%", rounded up."""
    max_concurrent_rollouts: int = 0
    """0: no limit."""
    rollback: Literal["auto", "manual", "off"] = "auto"
    prune: bool = False
    gates: Gates = Gates()


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspend:
    """A person's word that nothing may be done (`dsgitops.io/suspend`)."""

    reason: str = ""
    by: str = ""
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """The manifest of one DaemonSet at the source's commit."""

    ref: Ref
    source: str
    """Name of the source in the settings."""
    path: str
    line: int = 1
    commit: str
    """For display: `main@sha1:9f2c…` (full hash)."""
    manifest: Mapping[str, Any]
    """As Git has it, plain JSON values; namespace filled in."""
    digest: str
    """`sha256:…` of spec, labels and annotations as Git has them: identity of *content*."""
    template: str
    """`sha256:…` of `spec.template` alone."""
    policy: Policy = Policy()
    ignore_diff: tuple[str, ...] = ()
    """JSON pointers whose fields are left to other managers."""
    opens: datetime | None = None
    """When the next window opens; None: a rollout may start now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """Git speaks of this DaemonSet, or may, and cannot be understood: hold what is there."""

    ref: Ref
    source: str
    what: str
    """The first problem, with file:line; or why the source could not be read."""
    manifest_invalid: bool
    """True: its own file is wrong.  False: the source as a whole could not be read."""
    early: bool = False
    """Whether no poll of the source has ended yet: soon more is known."""
    policy: Policy = Policy()


# ---------------------------------------------------------------------------- the cluster's side


@dataclass(frozen=True, slots=True, kw_only=True)
class Taint:
    """`node.spec.taints[]`."""

    key: str
    value: str = ""
    effect: str


_LEAVING = frozenset(
    {
        "ToBeDeletedByClusterAutoscaler",
        "karpenter.sh/disrupted",
        "node.cloudprovider.kubernetes.io/shutdown",
    }
)
"""Taints of nodes that autoscalers and clouds take away: pods may tolerate them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """What matters of one Node."""

    name: str
    uid: str = ""
    ready: Literal["True", "False", "Unknown"] = "True"
    ready_since: datetime | None = None
    """`lastTransitionTime` of condition Ready (node's clock, whole seconds)."""
    unschedulable: bool = False
    taints: tuple[Taint, ...] = ()
    labels: Mapping[str, str] = EMPTY

    @property
    def is_ready(self) -> bool:
        """Whether its kubelet reports, and reports to be fine."""
        return self.ready == "True"

    @property
    def is_leaving(self) -> bool:
        """Whether somebody is about to stop it: it is cordoned, or marked to be taken away."""
        return self.unschedulable or any(taint.key in _LEAVING for taint in self.taints)


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One of `pod.status.conditions`."""

    status: str
    reason: str = ""
    message: str = ""
    since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """`state.terminated` or `lastState.terminated` of a container."""

    reason: str = ""
    message: str = ""
    exit_code: int = 0
    started: datetime | None = None
    finished: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """One of `containerStatuses` or `initContainerStatuses`."""

    name: str
    ready: bool = False
    started: bool | None = None
    restarts: int = 0
    waiting_reason: str = ""
    waiting_message: str = ""
    running_since: datetime | None = None
    terminated: Ended | None = None
    last: Ended | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """What matters of one Pod of the DaemonSet."""

    name: str
    uid: str
    resource_version: str = ""
    node: str = ""
    """`spec.nodeName`, else the node that its affinity names (a pod not yet bound)."""
    bound: bool = True
    """Whether `spec.nodeName` is set."""
    hash: str = ""
    """Label `controller-revision-hash`."""
    created: datetime | None = None
    deleting: datetime | None = None
    """`deletionTimestamp`: the end of its grace period."""
    grace: int = 30
    """`deletionGracePeriodSeconds`, else `spec.terminationGracePeriodSeconds`."""
    phase: str = ""
    reason: str = ""
    message: str = ""
    conditions: Mapping[str, Condition] = EMPTY
    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()
    sidecars: frozenset[str] = frozenset()
    """Names of the init containers with restartPolicy Always."""
    gated: bool = False
    """Whether it has readiness gates."""
    owner: str = ""
    """uid of its controller."""

    @property
    def is_ready(self) -> bool:
        """Whether condition Ready is True."""
        ready = self.conditions.get("Ready")
        return ready is not None and ready.status == "True"

    def is_available(self, now: datetime, min_ready_seconds: int = 0) -> bool:
        """Whether it has been Ready for `min_ready_seconds`, as the DaemonSet controller counts."""
        ready = self.conditions.get("Ready")
        if ready is None or ready.status != "True":
            return False
        if min_ready_seconds == 0:
            return True
        return ready.since is not None and ready.since + timedelta(seconds=min_ready_seconds) <= now


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A core/v1 or events.k8s.io Event about a pod, the DaemonSet or a node."""

    uid: str
    """uid of what it regards."""
    kind: str
    name: str = ""
    reason: str
    message: str = ""
    count: int = 1
    first: datetime | None = None
    last: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """One ControllerRevision."""

    name: str
    hash: str
    """Label `controller-revision-hash`; cannot be computed outside Go."""
    number: int
    template: Mapping[str, Any]
    """`data.spec.template` without `$patch`."""
    annotations: Mapping[str, str] = EMPTY
    created: datetime | None = None
    owner: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """The DaemonSet as the API server has it."""

    ref: Ref
    uid: str
    resource_version: str
    generation: int
    observed_generation: int
    labels: Mapping[str, str] = EMPTY
    annotations: Mapping[str, str] = EMPTY
    spec: Mapping[str, Any] = EMPTY
    managed_fields: tuple[Mapping[str, Any], ...] = ()
    deleting: bool = False
    created: datetime | None = None
    desired_scheduled: int = 0
    """`status.desiredNumberScheduled`: for display only, never for a verdict."""
    available: int = 0
    """`status.numberAvailable`: likewise."""

    @property
    def template(self) -> Mapping[str, Any]:
        """`spec.template`."""
        template: Mapping[str, Any] = self.spec.get("template", EMPTY)
        return template

    @property
    def min_ready_seconds(self) -> int:
        """Seconds a pod must be Ready to count as available."""
        return int(self.spec.get("minReadySeconds") or 0)

    @property
    def strategy(self) -> Strategy:
        """`spec.updateStrategy`."""
        return strategy_of(self.spec)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """The API server's lasting no to a write, remembered until the content changes."""

    digest: str
    what: str
    remedy: str = ""
    code: int = 0
    fields: tuple[str, ...] = ()
    at: datetime | None = None
    """When; a no by rights or admission is asked again after a while."""
    sweep: bool = False
    """It was the sweep before the write that was refused (`core/sweep.py`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """What a dry run of the forward write answered."""

    digest: str
    generation: int
    """Generation of the live object that it was asked about."""
    equal: bool
    """The answer equals the live object: the write would change nothing."""
    template_changes: bool = False
    spec_differs: bool = False
    """A new object of the content would have another spec; False also where that is not known."""
    paths: tuple[str, ...] = ()
    """Fields that the write would change, for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What the cluster shows of one DaemonSet."""

    live: Live | None
    revisions: tuple[Revision, ...] = ()
    pods: tuple[Pod, ...] = ()
    """Only while something is followed; empty in steady state (`followed` False)."""
    nodes: tuple[Node, ...] = ()
    events: tuple[Event, ...] = ()
    followed: bool = True
    """Whether pods and events are watched: when False, `pods` says nothing."""
    live_since: datetime | None = None
    """Since when the view has been live without a gap; None: blind."""
    chronicle: Chronicle | None = None
    """What was seen to happen, beyond what the objects still show."""
    rolling_elsewhere: int = 0
    """Other DaemonSets in phase Canary or Rolling."""
    refusal: Refusal | None = None
    rehearsal: Rehearsal | None = None
    recalled: Desired | None = None
    """The answer to `Recall`: the content of an earlier commit."""
    delivered: frozenset[str] | None = None
    """Ids of alerts that every channel has confirmed; None: no channel is configured."""


# ---------------------------------------------------------------------------- answers


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Why a node counts as it does."""

    node: str
    pod: str = ""
    state: NodeState
    failure_class: FailureClass | None = None
    container: str = ""
    message: str = ""
    """In words of ours (`core/wording.py`): what others said may hold secrets."""
    restarts: int = 0
    since: datetime | None = None
    voting: bool = False
    """Whether it is a vote against the revision."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What `health.judge` answers."""

    verdict: Verdict
    failure_class: FailureClass | None = None
    """For `Failed`; for `Progressing` what it would be called at the deadline, if known."""
    cause: FailureClass | None = None
    """The class of the votes where `failure_class` is `BakeFailed`."""
    states: Mapping[str, NodeState] = EMPTY
    """Each node that should run the pod, and those that are `leaving`."""
    evidence: tuple[Evidence, ...] = ()
    """Of nodes that are not fine, voting ones first, then by node name."""
    votes: int = 0
    votes_needed: int = 1
    suspects: tuple[str, ...] = ()
    """Nodes that went NotReady soon after the new pod started there."""
    progressed: datetime | None = None
    """When a node last became available on the target."""
    available_since: datetime | None = None
    """For `Finished`: since when every node that counts has been available."""
    look_again: datetime | None = None
    """When time alone may change the answer; None: only an event can."""

    def count(self, state: NodeState) -> int:
        """How many nodes are in `state`."""
        return sum(1 for each in self.states.values() if each is state)

    @property
    def total(self) -> int:
        """Nodes that should run the pod."""
        return len(self.states) - self.count(NodeState.LEAVING)


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedContent:
    """What failed beside what was good: for those who explain it, never to be shown whole."""

    since: datetime | None = None
    """The forward write; in the bake, when all nodes were available."""
    good: Mapping[str, Any] | None = None
    """The last good pod template."""
    bad: Mapping[str, Any] | None = None
    """The one that failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What `decide` returned."""

    reason: Reason
    because: str
    """One sentence for people; the same in log, Event, CLI and Sentry."""
    actions: tuple[Action, ...] = ()
    record: Record | None = None
    """The record as it is, or will be once `actions` are done."""
    look_again: datetime | None = None
    waiting_for: WaitingFor | None = None
    follow: bool = False
    """Whether pods and Events are needed to decide again."""
    aside: bool = False
    """A step on the way to an answer: nobody is told, the next look comes at once."""
    judgement: Judgement | None = None
    failure_class: FailureClass | None = None
    pending: str = ""
    """What a suspension keeps from being done, as its sentence says it; "" where nothing is."""
    failed: FailedContent | None = None
    """In the decision that raises an alert of a failure."""


def strategy_of(spec: Mapping[str, Any]) -> Strategy:
    """Read `spec.updateStrategy`, with the API's defaults where Git says nothing.

    Args:
        spec: A DaemonSet's spec; shape errors were reported before (`core/manifest.py`).
    """
    given = spec.get("updateStrategy") or EMPTY
    rolling = given.get("rollingUpdate") or EMPTY
    surge = rolling.get("maxSurge")
    unavailable = rolling.get("maxUnavailable")
    return Strategy(
        type="OnDelete" if given.get("type") == "OnDelete" else "RollingUpdate",
        max_unavailable=1 if unavailable is None else unavailable,
        max_surge=0 if surge is None else surge,
    )
