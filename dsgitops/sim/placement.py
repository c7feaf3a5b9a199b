"""Which nodes a DaemonSet's pods belong to, and what a pod takes of a node.

Written apart from the agent's own rules on purpose: the simulation must not be right or wrong
together with them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from dsgitops.sim.objects import Object, dig, each, holds, labels_of, name_of, quantity

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_AUTOMATIC = (
    ("not-ready", "NoExecute"),
    ("unreachable", "NoExecute"),
    ("disk-pressure", "NoSchedule"),
    ("memory-pressure", "NoSchedule"),
    ("pid-pressure", "NoSchedule"),
    ("unschedulable", "NoSchedule"),
)


class Belongs(NamedTuple):
    """What the DaemonSet controller thinks of a node for one DaemonSet."""

    runs: bool
    """A pod is created where there is none."""
    keeps: bool
    """A pod that is there may stay."""


_NOWHERE = Belongs(runs=False, keeps=False)


def tolerations_of(template: Object) -> list[Object]:
    """Return the tolerations of a DaemonSet's pod: those of the template and the automatic ones."""
    given = each(template, "spec", "tolerations")
    automatic = [_toleration(key, effect) for key, effect in _AUTOMATIC]
    if dig(template, "spec", "hostNetwork"):
        automatic.append(_toleration("network-unavailable", "NoSchedule"))
    return given + [it for it in automatic if it not in given]


def _toleration(key: str, effect: str) -> Object:
    return {"key": f"node.kubernetes.io/{key}", "operator": "Exists", "effect": effect}


def belongs(template: Object, tolerations: list[Object], node: Object) -> Belongs:
    """Return whether a DaemonSet's pod should run on a node, and whether it may stay."""
    spec: Object = template.get("spec") or {}
    if spec.get("nodeName") and spec["nodeName"] != name_of(node):
        return _NOWHERE
    if not matches_node(spec, node):
        return _NOWHERE
    untolerated = [
        str(taint.get("effect"))
        for taint in each(node, "spec", "taints")
        if taint.get("effect") in ("NoSchedule", "NoExecute")
        and not any(tolerates(it, taint) for it in tolerations)
    ]
    return Belongs(runs=not untolerated, keeps="NoExecute" not in untolerated)


def matches_node(spec: Object, node: Object) -> bool:
    """Whether nodeSelector and required node affinity let a pod onto a node."""
    labels = labels_of(node)
    wanted: dict[str, str] = spec.get("nodeSelector") or {}
    if any(labels.get(key) != value for key, value in wanted.items()):
        return False
    required: Object | None = dig(spec, "affinity", "nodeAffinity", _REQUIRED)
    if required is None:
        return True
    fields = {"metadata.name": name_of(node)}
    return any(_term_holds(it, labels, fields) for it in each(required, "nodeSelectorTerms"))


def _term_holds(term: Object, labels: dict[str, str], fields: dict[str, str]) -> bool:
    expressions, names = each(term, "matchExpressions"), each(term, "matchFields")
    if not expressions and not names:
        return False
    return all(holds(it, labels) for it in expressions) and all(holds(it, fields) for it in names)


def tolerates(toleration: Object, taint: Object) -> bool:
    """Whether one toleration covers one taint."""
    effect, key = toleration.get("effect"), toleration.get("key")
    if effect and effect != taint.get("effect"):
        return False
    if key and key != taint.get("key"):
        return False
    if toleration.get("operator") == "Exists":
        return True
    return bool(key) and (toleration.get("value") or "") == (taint.get("value") or "")


def pinned(spec: Object, node: str) -> Object:
    """Return the affinity of a DaemonSet's pod: required terms replaced by the node's name."""
    name = {"key": "metadata.name", "operator": "In", "values": [node]}
    affinity: Object = dict(spec.get("affinity") or {})
    node_affinity: Object = dict(affinity.get("nodeAffinity") or {})
    node_affinity[_REQUIRED] = {"nodeSelectorTerms": [{"matchFields": [name]}]}
    return {**affinity, "nodeAffinity": node_affinity}


@dataclass(slots=True)
class Load:
    """What pods take of a node, or what a node has to give."""

    cpu: float = 0.0
    """Cores."""
    memory: float = 0.0
    """Bytes."""
    pods: int = 0
    ports: dict[tuple[str, int], int] = field(default_factory=dict[tuple[str, int], int])
    """Taken host ports, by protocol and number: how often."""

    def add(self, other: Load, times: int = 1) -> None:
        """Take `other` in; with `times` -1 give it back."""
        self.cpu += times * other.cpu
        self.memory += times * other.memory
        self.pods += times * other.pods
        for port in other.ports:
            self.ports[port] = self.ports.get(port, 0) + times


def load_of(pod: Object) -> Load:
    """Return what one pod takes: its requests and host ports."""
    spec = pod["spec"]
    load = Load(pods=1)
    for container in _lasting(spec):
        load.cpu += _request(container, "cpu")
        load.memory += _request(container, "memory")
        for port in each(container, "ports"):
            number = port.get("hostPort") or (
                port.get("containerPort") if spec.get("hostNetwork") else 0
            )
            if number:
                load.ports[str(port.get("protocol") or "TCP"), int(number)] = 1
    for container in each(spec, "initContainers"):
        load.cpu = max(load.cpu, _request(container, "cpu"))
        load.memory = max(load.memory, _request(container, "memory"))
    return load


def _lasting(spec: Object) -> list[Object]:
    sidecars = [it for it in each(spec, "initContainers") if it.get("restartPolicy") == "Always"]
    return sidecars + each(spec, "containers")


def _request(container: Object, resource: str) -> float:
    asked = dig(container, "resources", "requests", resource)
    if asked is None:
        asked = dig(container, "resources", "limits", resource, default=0)
    return quantity(asked)


def room_of(node: Object) -> Load:
    """Return what a node has to give."""
    given: Object = dig(node, "status", "allocatable", default={})
    return Load(
        cpu=quantity(given.get("cpu", 0)),
        memory=quantity(given.get("memory", 0)),
        pods=int(quantity(given.get("pods", 0))),
    )


def lacks(room: Load, taken: Load, wanted: Load) -> str | None:
    """Return the scheduler's word for why a pod does not fit, None where it does."""
    if taken.pods + wanted.pods > room.pods:
        return "Too many pods"
    if wanted.cpu and taken.cpu + wanted.cpu > room.cpu + 1e-9:
        return "Insufficient cpu"
    if wanted.memory and taken.memory + wanted.memory > room.memory:
        return "Insufficient memory"
    if any(taken.ports.get(port) for port in wanted.ports):
        return "node(s) didn't have free ports for the requested pod ports"
    return None
