"""A pod's status as a kubelet writes it: phase, conditions and containers from their states."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dsgitops.sim.objects import Object, condition_of, dig, each

if TYPE_CHECKING:
    from collections.abc import Sequence

OURS = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
"""Conditions that kubelet and scheduler write; others are kept as they are."""


@dataclass(slots=True)
class ContainerState:
    """One container as its kubelet sees it."""

    name: str
    image: str
    restartable: bool = True
    """False for init containers that run to completion."""
    state: Object = field(default_factory=lambda: {"waiting": {"reason": "ContainerCreating"}})
    last: Object = field(default_factory=dict[str, object])
    ready: bool = False
    started: bool = False
    restarts: int = 0
    container_id: str = ""

    @property
    def is_running(self) -> bool:
        """Whether its process runs."""
        return "running" in self.state

    @property
    def succeeded(self) -> bool:
        """Whether it ended with 0."""
        return bool(dig(self.state, "terminated", "exitCode") == 0)

    def as_status(self) -> Object:
        """Return the entry of `containerStatuses`."""
        status: Object = {
            "name": self.name,
            "state": self.state,
            "lastState": self.last,
            "ready": self.ready,
            "restartCount": self.restarts,
            "image": self.image,
            "imageID": f"sha256:{self.image}" if self.container_id else "",
        }
        if self.container_id:
            status["containerID"] = self.container_id
        status["started"] = self.started
        return status


@dataclass(slots=True)
class PodState:
    """One pod as its kubelet sees it."""

    host_ip: str
    ip: str = ""
    sandbox: bool = False
    """Whether network and volumes are there (PodReadyToStartContainers)."""
    started_at: str = ""
    inits: Sequence[ContainerState] = ()
    mains: Sequence[ContainerState] = ()
    phase: str = ""
    """A terminal phase; "" while it lives."""
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class _Verdict:
    status: str
    reason: str = ""
    message: str = ""


_TRUE = _Verdict("True")


def compose(pod: Object, seen: PodState, stamp: str) -> Object:
    """Return the whole status for `pod`.

    Args:
        pod: As the API has it: its conditions keep their times where they do not change.
        seen: The kubelet's own view.
        stamp: Now.
    """
    generation = pod["metadata"].get("generation", 1)
    old: Object = pod.get("status") or {}
    status: Object = {
        "observedGeneration": generation,
        "phase": seen.phase or _phase(seen),
        "conditions": _conditions(pod, seen, generation, stamp),
        "hostIP": seen.host_ip,
        "hostIPs": [{"ip": seen.host_ip}],
        "startTime": seen.started_at,
        "qosClass": old.get("qosClass", "BestEffort"),
    }
    if seen.reason:
        status |= {"reason": seen.reason, "message": seen.message}
    if seen.ip:
        status |= {"podIP": seen.ip, "podIPs": [{"ip": seen.ip}]}
    if seen.inits:
        status["initContainerStatuses"] = [it.as_status() for it in seen.inits]
    status["containerStatuses"] = [it.as_status() for it in seen.mains]
    return status


def initialized(seen: PodState) -> bool:
    """Whether all init containers are through and all sidecars started."""
    return all(it.started if it.restartable else it.succeeded for it in seen.inits)


def _phase(seen: PodState) -> str:
    once = all("waiting" not in it.state or it.last for it in seen.mains)
    return "Running" if once else "Pending"


def _conditions(pod: Object, seen: PodState, generation: int, stamp: str) -> list[Object]:
    ready = _containers_ready(seen)
    verdicts = {
        "PodReadyToStartContainers": _TRUE if seen.sandbox else _Verdict("False"),
        "Initialized": _initialized(seen),
        "Ready": _ready(pod, ready),
        "ContainersReady": ready,
        "PodScheduled": _TRUE,
    }
    before = {str(it["type"]): it for it in each(pod, "status", "conditions")}
    foreign = [it for kind, it in before.items() if kind not in OURS]
    return foreign + [
        _condition(kind, verdict, before.get(kind), generation, stamp)
        for kind, verdict in verdicts.items()
    ]


def _initialized(seen: PodState) -> _Verdict:
    if seen.phase or initialized(seen) or any(it.last for it in seen.mains):
        return _TRUE
    undone = [it.name for it in seen.inits if not (it.started if it.restartable else it.succeeded)]
    message = f"containers with incomplete status: [{' '.join(undone)}]"
    return _Verdict("False", "ContainersNotInitialized", message)


def _containers_ready(seen: PodState) -> _Verdict:
    if seen.phase:
        return _Verdict("False", "PodFailed" if seen.phase == "Failed" else "PodCompleted")
    serving = [it for it in seen.inits if it.restartable] + list(seen.mains)
    unready = [it.name for it in serving if not it.ready]
    if not unready:
        return _TRUE
    message = f"containers with unready status: [{' '.join(unready)}]"
    return _Verdict("False", "ContainersNotReady", message)


def _ready(pod: Object, containers: _Verdict) -> _Verdict:
    if containers.status != "True":
        return containers
    missing = [
        str(gate["conditionType"])
        for gate in each(pod, "spec", "readinessGates")
        if dig(condition_of(pod, str(gate["conditionType"])), "status") != "True"
    ]
    if not missing:
        return _TRUE
    gate = missing[0]
    word = "does not exist" if condition_of(pod, gate) is None else "is not True"
    message = f'corresponding condition of pod readiness gate "{gate}" {word}.'
    return _Verdict("False", "ReadinessGatesNotReady", message)


def _condition(
    kind: str, verdict: _Verdict, before: Object | None, generation: int, stamp: str
) -> Object:
    since = stamp
    if before is not None and before.get("status") == verdict.status:
        since = before.get("lastTransitionTime") or stamp
    condition: Object = {
        "type": kind,
        "observedGeneration": generation,
        "status": verdict.status,
        "lastProbeTime": None,
        "lastTransitionTime": since,
    }
    if verdict.reason:
        condition["reason"] = verdict.reason
    if verdict.message:
        condition["message"] = verdict.message
    return condition
