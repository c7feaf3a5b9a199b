"""Nodes: how they look, and the controllers that watch over them.

Heartbeats are not written: a lease every 10 s for each of a thousand nodes says nothing.  What
counts is when they stop and when they come back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dsgitops.sim.collector import delete_pod
from dsgitops.sim.objects import (
    Object,
    condition_of,
    dig,
    each,
    is_ready,
    is_terminating,
    name_of,
    namespace_of,
    uid_of,
)
from dsgitops.sim.placement import tolerates
from dsgitops.sim.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Callable

    from dsgitops.sim.roster import Roster
    from dsgitops.sim.site import Site

GRACE_PERIOD = 50.0
"""Seconds without a heartbeat until a node is Unknown (`--node-monitor-grace-period` of 1.36)."""
NOTICED_AFTER = (51.0, 57.0)
"""Seconds from a kubelet's death to `Ready=Unknown`: grace period, and the monitor's own period."""
MONITOR_PERIOD = 5.0
"""Seconds between two looks at all nodes (`--node-monitor-period`)."""
HEARTBEAT_PERIOD = 10.0
"""Seconds between two heartbeats of a kubelet (a quarter of its lease's 40)."""
UNREACHABLE = "node.kubernetes.io/unreachable"
NOT_READY = "node.kubernetes.io/not-ready"
UNSCHEDULABLE = "node.kubernetes.io/unschedulable"

_HEALTHY = {
    "MemoryPressure": ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    "DiskPressure": ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    "PIDPressure": ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
}
_COMEBACK = (
    "NodeHasSufficientMemory",
    "NodeHasNoDiskPressure",
    "NodeHasSufficientPID",
    "NodeReady",
)


def new_node(name: str, *, zone: str, stamp: str, ready: bool, labels: dict[str, str]) -> Object:
    """Return a Node as its kubelet registers it.

    Args:
        name: Also its hostname.
        zone: `topology.kubernetes.io/zone`.
        stamp: Now.
        ready: Whether its network plugin is there already; else it is tainted not-ready.
        labels: Further ones.
    """
    resources = {"cpu": "4", "memory": "16Gi", "pods": "110", "ephemeral-storage": "100Gi"}
    standard = {
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/os": "linux",
        "kubernetes.io/hostname": name,
        "topology.kubernetes.io/zone": zone,
        "topology.kubernetes.io/region": "sim",
    }
    taints = [] if ready else [{"key": NOT_READY, "effect": "NoSchedule"}]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": standard | labels},
        "spec": {"taints": taints} if taints else {},
        "status": {
            "capacity": resources,
            "allocatable": resources,
            "conditions": _conditions(stamp, ready=ready),
            "nodeInfo": {
                "kubeletVersion": "v1.36.1",
                "containerRuntimeVersion": "containerd://1.6.20",
                "osImage": "Debian GNU/Linux 12 (bookworm)",
                "kernelVersion": "6.18.0",
                "operatingSystem": "linux",
                "architecture": "amd64",
            },
        },
    }


def _conditions(stamp: str, *, ready: bool) -> list[Object]:
    conditions = [_condition(kind, "False", *words, stamp) for kind, words in _HEALTHY.items()]
    if ready:
        return [*conditions, _ready_condition(stamp)]
    why = "container runtime network not ready: NetworkReady=false"
    return [*conditions, _condition("Ready", "False", "KubeletNotReady", why, stamp)]


def _ready_condition(stamp: str) -> Object:
    return _condition("Ready", "True", "KubeletReady", "kubelet is posting ready status", stamp)


def _condition(kind: str, status: str, reason: str, message: str, stamp: str) -> Object:
    return {
        "type": kind,
        "status": status,
        "lastHeartbeatTime": stamp,
        "lastTransitionTime": stamp,
        "reason": reason,
        "message": message,
    }


class NodeController:
    """Marks nodes that fell silent, taints them, and evicts by NoExecute."""

    def __init__(self, site: Site, roster: Roster) -> None:
        self._site = site
        self._roster = roster
        self._recorder = Recorder(site.store, site.clock, "node-controller")
        self._evictions = Recorder(site.store, site.clock, "taint-eviction-controller")
        self._silent: dict[str, int] = {}
        """Nodes whose kubelet is away, each with a number: a later absence is another one."""
        self._absences = 0

    # ------------------------------------------------------------------ silence and return

    def fell_silent(self, node: str, *, noticed_after: float | None = None) -> None:
        """Take note that a kubelet has stopped its heartbeats."""
        self._absences += 1
        absence = self._silent[node] = self._absences
        delay = self._site.between(*NOTICED_AFTER) if noticed_after is None else noticed_after
        self._site.after(delay, lambda: self._notice(node, absence))

    def is_back(self, node: str) -> None:
        """Take note that a kubelet was started again, and posts its status."""
        found = self._site.store.get("nodes", "", node)
        if found is None:
            return
        recorder = Recorder(self._site.store, self._site.clock, "kubelet", node)
        recorder.say(found, "Normal", "Starting", "Starting kubelet.")
        self.is_heard(node)
        for reason in _COMEBACK:
            recorder.say(found, "Normal", reason, f"Node {node} status is now: {reason}")

    def is_heard(self, node: str) -> None:
        """Take note that a kubelet posts its status again."""
        self._silent.pop(node, None)
        self._post_ready(node)

    def join(self, node: str) -> None:
        """Bring a new node's network up, a second after it registered."""
        self._site.after(self._site.between(0.6, 1.0), lambda: self._post_ready(node))

    def _post_ready(self, node: str) -> None:
        found = self._site.store.get("nodes", "", node)
        if found is None or is_ready(found):
            return
        stamp = self._site.clock.stamp()
        status = {**found["status"], "conditions": _conditions(stamp, ready=True)}
        self._site.store.update("nodes", {**found, "status": status})
        self._later(0.01, 0.15, lambda: self._untaint(node, "NoSchedule"))
        self._later(1.0, 5.0, lambda: self._untaint(node, "NoExecute"))

    def _later(self, shortest: float, longest: float, act: Callable[[], None]) -> None:
        self._site.after(self._site.between(shortest, longest), act)

    def _notice(self, node: str, absence: int) -> None:
        found = self._site.store.get("nodes", "", node)
        if found is None or self._silent.get(node) != absence:
            return
        stamp = self._site.clock.stamp()
        message = "Kubelet stopped posting node status."
        conditions = [
            {**it, "status": "Unknown", "lastTransitionTime": stamp}
            | {"reason": "NodeStatusUnknown", "message": message}
            for it in each(found, "status", "conditions")
        ]
        status = {**found["status"], "conditions": conditions}
        found = self._site.store.update("nodes", {**found, "status": status})
        word = "NodeNotReady"
        self._recorder.say(found, "Normal", word, f"Node {node} status is now: {word}")
        self._later(0.003, 0.02, lambda: self._taint_unreachable(node, absence, "NoSchedule"))
        self._later(0.03, 0.08, lambda: self._taint_unreachable(node, absence, "NoExecute"))
        self._mark_pods(node)

    def _mark_pods(self, node: str) -> None:
        """Flip Ready, and only Ready, of the pods that were: their containers may run on."""
        for pod in self._roster.on(node):
            ready = condition_of(pod, "Ready")
            if ready is None or ready["status"] != "True":
                continue
            flipped = {
                "type": "Ready",
                "status": "False",
                "lastProbeTime": None,
                "lastTransitionTime": self._site.clock.stamp(),
            }
            conditions = [flipped if it is ready else it for it in pod["status"]["conditions"]]
            status = {**pod["status"], "conditions": conditions}
            self._recorder.say(pod, "Warning", "NodeNotReady", "Node is not ready")
            self._site.store.update("pods", {**pod, "status": status})

    # ------------------------------------------------------------------ taints

    def node_changed(self, node: Object) -> None:
        """Keep the taint of a cordon, and evict what a NoExecute taint does not suffer."""
        cordoned = bool(node["spec"].get("unschedulable"))
        tainted = any(it.get("key") == UNSCHEDULABLE for it in each(node, "spec", "taints"))
        name = name_of(node)
        if cordoned and not tainted:
            self._later(0.001, 0.01, lambda: self._taint_cordoned(name))
        elif tainted and not cordoned:
            self._later(0.001, 0.01, lambda: self._remove_taint(name, UNSCHEDULABLE, "NoSchedule"))
        if any(it.get("effect") == "NoExecute" for it in each(node, "spec", "taints")):
            self._later(0.01, 0.03, lambda: self._evict_from(name))

    def _taint_unreachable(self, node: str, absence: int, effect: str) -> None:
        if self._silent.get(node) == absence:
            stamp = self._site.clock.stamp()
            self._add_taint(node, {"key": UNREACHABLE, "effect": effect, "timeAdded": stamp})

    def _taint_cordoned(self, node: str) -> None:
        found = self._site.store.get("nodes", "", node)
        if found is not None and found["spec"].get("unschedulable"):
            self._add_taint(node, {"key": UNSCHEDULABLE, "effect": "NoSchedule"})

    def _add_taint(self, node: str, taint: Object) -> None:
        found = self._site.store.get("nodes", "", node)
        if found is None or _has_taint(found, taint["key"], taint["effect"]):
            return
        taints = [*each(found, "spec", "taints"), taint]
        self._site.store.update("nodes", {**found, "spec": {**found["spec"], "taints": taints}})

    def _untaint(self, node: str, effect: str) -> None:
        found = self._site.store.get("nodes", "", node)
        if found is None or not is_ready(found):
            return
        for key in (UNREACHABLE, NOT_READY):
            self._remove_taint(node, key, effect)

    def _remove_taint(self, node: str, key: str, effect: str) -> None:
        found = self._site.store.get("nodes", "", node)
        if found is None or not _has_taint(found, key, effect):
            return
        left = [
            it
            for it in each(found, "spec", "taints")
            if (it.get("key"), it.get("effect")) != (key, effect)
        ]
        spec = {name: it for name, it in found["spec"].items() if name != "taints"}
        spec = {**spec, "taints": left} if left else spec
        self._site.store.update("nodes", {**found, "spec": spec})

    # ------------------------------------------------------------------ eviction

    def _evict_from(self, name: str) -> None:
        node = self._site.store.get("nodes", "", name)
        if node is None:
            return
        taints = [it for it in each(node, "spec", "taints") if it.get("effect") == "NoExecute"]
        for pod in self._roster.on(name):
            stay = _stay(pod, taints)
            if stay is not None and condition_of(pod, "DisruptionTarget") is None:
                self._evict_in(stay, pod)

    def _evict_in(self, delay: float, pod: Object) -> None:
        self._site.after(delay, lambda: self._evict(pod))

    def _evict(self, pod: Object) -> None:
        key = (namespace_of(pod), name_of(pod))
        found = self._site.store.get("pods", *key)
        if found is None or uid_of(found) != uid_of(pod):
            return
        message = "Taint manager: deleting due to NoExecute taint"
        marked = disrupted(found, "DeletionByTaintManager", message, self._site.clock.stamp())
        marked = self._site.store.update("pods", marked)
        said = f"Marking for deletion Pod {key[0]}/{key[1]}"
        self._evictions.say(marked, "Normal", "TaintManagerEviction", said)
        if not is_terminating(marked):
            delete_pod(self._site, marked)


def disrupted(pod: Object, reason: str, message: str, stamp: str) -> Object:
    """Return a pod with condition DisruptionTarget: it goes for no fault of its own."""
    condition = {
        "type": "DisruptionTarget",
        "status": "True",
        "lastProbeTime": None,
        "lastTransitionTime": stamp,
        "reason": reason,
        "message": message,
    }
    status: Object = pod.get("status") or {}
    kept = [it for it in each(status, "conditions") if it.get("type") != "DisruptionTarget"]
    return {**pod, "status": {**status, "conditions": [condition, *kept]}}


def _has_taint(node: Object, key: str, effect: str) -> bool:
    taints = each(node, "spec", "taints")
    return any((it.get("key"), it.get("effect")) == (key, effect) for it in taints)


def _stay(pod: Object, taints: list[Object]) -> float | None:
    """Return for how many seconds a pod suffers NoExecute taints; None: for ever."""
    shortest: float | None = None
    for taint in taints:
        covering = [it for it in each(pod, "spec", "tolerations") if tolerates(it, taint)]
        if not covering:
            return 0.0
        limits = [dig(it, "tolerationSeconds") for it in covering]
        bounded = [float(it) for it in limits if it is not None]
        if len(bounded) == len(limits):
            shortest = min([*bounded, *([shortest] if shortest is not None else [])])
    return shortest
