"""The default scheduler, as far as pods that name their node need it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dsgitops.sim.objects import (
    Object,
    each,
    is_finished,
    is_terminating,
    labels_of,
    name_of,
    namespace_of,
    node_of,
    uid_of,
    with_metadata,
)
from dsgitops.sim.placement import Load, lacks, load_of, matches_node, room_of, tolerates
from dsgitops.sim.recorder import event_metadata

if TYPE_CHECKING:
    from dsgitops.sim.site import Site

_PORTS = "node(s) didn't have free ports for the requested pod ports"
_TOPOLOGY = ("topology.kubernetes.io/zone", "topology.kubernetes.io/region")
_COMPONENT = "default-scheduler"


class Scheduler:
    """Binds pods to the node their affinity names, where they fit."""

    name = "scheduler"

    def __init__(self, site: Site) -> None:
        self._site = site
        self._taken: dict[str, Load] = {}
        """By node."""
        self._placed: dict[str, tuple[str, Load]] = {}
        """By uid of the pod: where it is and what it takes."""
        self._waiting: dict[str, dict[str, tuple[str, str]]] = {}
        """By node: pods (uid -> namespace, name) that are for it."""
        self._due: dict[str, None] = {}
        self._events: dict[str, tuple[str, str]] = {}

    # ------------------------------------------------------------------ what happens

    def pod_changed(self, pod: Object) -> None:
        """Take note of a pod: to be placed, placed, or over."""
        uid = uid_of(pod)
        node = pod["spec"].get("nodeName")
        if not node:
            if uid not in self._waiting.setdefault(node_of(pod), {}):
                self._waiting[node_of(pod)][uid] = (namespace_of(pod), name_of(pod))
                self._soon(node_of(pod))
        elif is_finished(pod):
            self._release(uid)
        elif uid not in self._placed:
            self._place(uid, node, pod)

    def pod_gone(self, pod: Object) -> None:
        """Take note of a pod that is no more."""
        uid = uid_of(pod)
        self._waiting.get(node_of(pod), {}).pop(uid, None)
        self._events.pop(uid, None)
        self._release(uid)

    def node_changed(self, node: Object) -> None:
        """Try again what waits for a node."""
        self._soon(name_of(node))

    # ------------------------------------------------------------------ books

    def _place(self, uid: str, node: str, pod: Object) -> None:
        load = load_of(pod)
        self._placed[uid] = (node, load)
        self._taken.setdefault(node, Load()).add(load)

    def _release(self, uid: str) -> None:
        placed = self._placed.pop(uid, None)
        if placed is None:
            return
        node, load = placed
        self._taken[node].add(load, times=-1)
        self._soon(node)

    def _soon(self, node: str) -> None:
        if not self._waiting.get(node):
            return
        if not self._due:
            self._site.after(self._site.between(0.004, 0.012), self._run, self.name)
        self._due[node] = None

    # ------------------------------------------------------------------ binding

    def _run(self) -> None:
        due, self._due = self._due, {}
        for node in due:
            for uid, key in list(self._waiting.get(node, {}).items()):
                pod = self._site.store.get("pods", *key)
                if pod is None or uid_of(pod) != uid or is_terminating(pod):
                    self._waiting[node].pop(uid)
                    continue
                self._try(pod, node)

    def _try(self, pod: Object, name: str) -> None:
        node = self._site.store.get("nodes", "", name)
        problem = "node(s) didn't satisfy plugin(s) [NodeAffinity]"
        if node is not None:
            problem = self._problem(pod, node)
        if problem:
            self._refuse(pod, problem)
            return
        self._waiting[name].pop(uid_of(pod))
        self._bind(pod, name)

    def _problem(self, pod: Object, node: Object) -> str:
        if not matches_node(pod["spec"], node):
            return "node(s) didn't satisfy plugin(s) [NodeAffinity]"
        tolerations = each(pod, "spec", "tolerations")
        for taint in each(node, "spec", "taints"):
            if taint.get("effect") == "PreferNoSchedule":
                continue
            if not any(tolerates(it, taint) for it in tolerations):
                return f"node(s) had untolerated taint(s) {{{taint['key']}: }}"
        taken = self._taken.get(name_of(node), Load())
        return lacks(room_of(node), taken, load_of(pod)) or ""

    def _bind(self, pod: Object, node: str) -> None:
        scheduled = self._condition(pod, "True")
        status = {**(pod.get("status") or {}), "conditions": [scheduled]}
        bound = {**pod, "spec": {**pod["spec"], "nodeName": node}, "status": status}
        bound = with_metadata(bound, labels={**labels_of(pod), **self._topology(node)})
        bound = self._site.store.update("pods", bound)
        where = f"{namespace_of(pod)}/{name_of(pod)}"
        message = f"Successfully assigned {where} to {node}"
        self._tell(bound, "Normal", "Scheduled", "Binding", message)

    def _topology(self, node: str) -> dict[str, str]:
        """Return the labels that binding copies from the node (since 1.36)."""
        labels = labels_of(self._site.store.get("nodes", "", node) or {})
        return {key: labels[key] for key in _TOPOLOGY if key in labels}

    def _refuse(self, pod: Object, problem: str) -> None:
        message = self._unavailable(problem)
        condition = self._condition(pod, "False") | {"reason": "Unschedulable", "message": message}
        status = {**(pod.get("status") or {}), "conditions": [condition]}
        self._tell(pod, "Warning", "FailedScheduling", "Scheduling", message)
        self._site.store.update("pods", {**pod, "status": status})

    def _condition(self, pod: Object, status: str) -> Object:
        for before in each(pod, "status", "conditions"):
            if before["type"] == "PodScheduled" and before["status"] == status:
                return before
        return {
            "type": "PodScheduled",
            "observedGeneration": pod["metadata"].get("generation", 1),
            "status": status,
            "lastProbeTime": None,
            "lastTransitionTime": self._site.clock.stamp(),
        }

    def _unavailable(self, problem: str) -> str:
        nodes = len(self._site.store.list("nodes"))
        others = f", {nodes - 1} node(s) didn't satisfy plugin(s) [NodeAffinity]" * (nodes > 1)
        helpless = f"{nodes} Preemption is not helpful for scheduling."
        if problem == _PORTS:
            victims = "1 No preemption victims found for incoming pod"
            rest = f", {nodes - 1} Preemption is not helpful for scheduling" * (nodes > 1)
            helpless = f"{victims}{rest}."
        return (
            f"0/{nodes} nodes are available: 1 {problem}{others}. no new claims to deallocate, "
            f"preemption: 0/{nodes} nodes are available: {helpless}"
        )

    # ------------------------------------------------------------------ Events

    def _tell(self, pod: Object, kind: str, reason: str, action: str, note: str) -> None:
        """Record an Event in the newer style: no count, repeats as a series."""
        clock, store = self._site.clock, self._site.store
        earlier = self._events.get(uid_of(pod))
        found = earlier and store.get("events", *earlier)
        if found and found["reason"] == reason and found["message"] == note:
            count = (found.get("series") or {}).get("count", 1) + 1
            series = {"count": count, "lastObservedTime": clock.micro_stamp()}
            store.update("events", {**found, "series": series})
            return
        event = _event(pod, kind, reason, note)
        event["metadata"] = event_metadata(store, clock, event["involvedObject"])
        event |= {"eventTime": clock.micro_stamp(), "action": action}
        made = store.create("events", event)
        self._events[uid_of(pod)] = (namespace_of(made), name_of(made))


def _event(pod: Object, kind: str, reason: str, note: str) -> Object:
    metadata = pod["metadata"]
    regarded = {
        "kind": "Pod",
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "uid": metadata["uid"],
        "apiVersion": "v1",
        "resourceVersion": metadata["resourceVersion"],
    }
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "involvedObject": regarded,
        "reason": reason,
        "message": note,
        "source": {},
        "firstTimestamp": None,
        "lastTimestamp": None,
        "type": kind,
        "reportingComponent": _COMPONENT,
        "reportingInstance": f"{_COMPONENT}-0",
    }
