"""A whole simulated cluster: API server, controllers, nodes, and what people do to it.

Nothing here decides for the agent or looks at it.  The agent comes in through `transport()`, as it
would over HTTP, and time moves only when somebody moves it.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Literal

from dsgitops.ports import Request
from dsgitops.sim.admission import forbidden, refusal
from dsgitops.sim.api import ApiServer
from dsgitops.sim.clock import START, VirtualClock
from dsgitops.sim.collector import Collector, delete_pod
from dsgitops.sim.daemonset import DaemonSetController
from dsgitops.sim.kubelet import Kubelet
from dsgitops.sim.nodes import (
    HEARTBEAT_PERIOD,
    MONITOR_PERIOD,
    NOTICED_AFTER,
    NodeController,
    disrupted,
    new_node,
)
from dsgitops.sim.objects import (
    Object,
    controller_of,
    dig,
    each,
    labels_of,
    name_of,
    namespace_of,
    uid_of,
)
from dsgitops.sim.roster import Roster
from dsgitops.sim.scheduler import Scheduler
from dsgitops.sim.site import Site
from dsgitops.sim.store import Store
from dsgitops.sim.transport import SimTransport
from dsgitops.sim.writes import AdmissionRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
TICK = 1.0
"""Virtual seconds between two ticks of the API server, where no watch is due before."""
TICK_LEAST = 1e-6
WATCH_BACKOFF_MAX = 30.0
"""Seconds between two tries of client-go to open a watch again: doubling up to that."""


class World:
    """A cluster of simulated nodes, with an API server in front of it.

    Two worlds of the same arguments, to which the same is done at the same instants, are the same.

    Args:
        nodes: How many there are at the start, all Ready.
        zones: Dealt out in turn.
        seed: Of all chance in it.
        start: The instant it begins at.
        provides: Make the ServiceAccounts, ConfigMaps and Secrets that a DaemonSet names, as the
            other files of its repository would; but none with `missing` in its name.
    """

    def __init__(
        self,
        nodes: int = 40,
        zones: Sequence[str] = ("a", "b", "c"),
        seed: int = 1,
        *,
        start: datetime = START,
        provides: bool = False,
    ) -> None:
        self.clock = VirtualClock(start)
        self.store = Store(self.clock.now, seed)
        self.site = Site(self.store, self.clock, Random(f"world {seed}"))
        self.zones = tuple(zones)
        self.kubelets: dict[str, Kubelet] = {}
        self._provides = provides
        self._roster = Roster(self.store)
        self._scheduler = Scheduler(self.site)
        self._nodes = NodeController(self.site, self._roster)
        self._collector = Collector(self.site)
        self.controller = DaemonSetController(self.site)
        self.store.subscribe(self._dispatch)
        for namespace in NAMESPACES:
            self.make_namespace(namespace)
        for _ in range(nodes):
            self._register(f"node-{len(self.kubelets) + 1}", {}, ready=True)
        self.api = ApiServer(self.store, self.clock)
        self.api.admission.append(self._admission)
        self.site.admit = self._admitted
        self._ticked = 0.0

    def transport(self) -> SimTransport:
        """Return a new way in, for one client."""
        return SimTransport(self.api)

    # ------------------------------------------------------------------ time

    @property
    def now(self) -> datetime:
        """The virtual time."""
        return self.clock.now()

    def next_event(self) -> datetime | None:
        """Return when something will happen by itself, a watch's bookmark too; None: never."""
        seconds = self.clock.next_at()
        own = None
        if seconds is not None:
            own = self.clock.start + timedelta(microseconds=round(seconds * 1e6))
        due = self.api.due
        return min((it for it in (own, due) if it is not None), default=None)

    def step_to(self, at: datetime) -> None:
        """Run everything due until an instant, and stand there."""
        self._run_until(self.clock.seconds_of(at))

    def advance(self, seconds: float = 0.0, *, until: datetime | None = None) -> None:
        """Let time go by.

        Args:
            seconds: For so long; or
            until: up to an instant.
        """
        if until is not None:
            self.step_to(until)
        else:
            self._run_until(self.clock.seconds + seconds)

    def advance_until(self, holds: Callable[[], bool], *, within: float) -> bool:
        """Let time go by until something holds, looking after each event.

        Args:
            holds: Asked now, and after each event.
            within: Give up after so many virtual seconds.

        Returns:
            Whether it holds.
        """
        end = self.clock.seconds + within
        while not holds():
            due = self.clock.next_at()
            if due is None or due > end:
                self._run_until(end)
                return holds()
            self._run_until(due)
        return True

    def _run_until(self, end: float) -> None:
        while (tick := self._next_tick()) <= end:
            self.clock.run_until(tick)
            self._ticked = tick
            self.api.tick(self.now)
        self.clock.run_until(end)

    def _next_tick(self) -> float:
        """Return when the API server next looks at its watches: when one is due, or soon."""
        due = self.api.due
        soon = self._ticked + TICK
        if due is None:
            return soon
        return min(soon, max(self.clock.seconds_of(due), self._ticked + TICK_LEAST))

    # ------------------------------------------------------------------ what changes reaches whom

    def _dispatch(self, kind: str, resource: str, item: Object) -> None:
        if resource == "pods":
            self._pod(kind, item)
        elif resource == "nodes":
            self._node(kind, item)
        elif resource == "daemonsets":
            self._daemonset(kind, item)

    def _pod(self, kind: str, pod: Object) -> None:
        kubelet = self.kubelets.get(pod["spec"].get("nodeName") or "")
        if kind == "DELETED":
            self._roster.pod_gone(pod)
            self._scheduler.pod_gone(pod)
            if kubelet is not None:
                kubelet.pod_gone(pod)
        else:
            self._roster.pod_changed(pod)
            self._scheduler.pod_changed(pod)
            if kubelet is not None:
                kubelet.pod_changed(pod)
        self.controller.changed(kind, "pods", pod)

    def _node(self, kind: str, node: Object) -> None:
        if kind == "DELETED":
            self._collector.node_gone(node)
        else:
            self._scheduler.node_changed(node)
            self._nodes.node_changed(node)
        self.controller.changed(kind, "nodes", node)

    def _daemonset(self, kind: str, daemonset: Object) -> None:
        if kind == "DELETED":
            self._collector.owner_gone(daemonset)
        else:
            self._collector.owner_changed(daemonset)
            if self._provides:
                self.clock.after(0, lambda: self.provide_for(daemonset))
        self.controller.changed(kind, "daemonsets", daemonset)

    # ------------------------------------------------------------------ nodes

    def add_node(self, name: str = "", *, labels: dict[str, str] | None = None) -> str:
        """Let a node join; it is Ready, and free of its taint, about a second later.

        Returns:
            Its name.
        """
        name = name or f"node-{len(self.kubelets) + 1}"
        self._register(name, labels or {}, ready=False)
        self._nodes.join(name)
        return name

    def _register(self, name: str, labels: dict[str, str], *, ready: bool) -> None:
        number = len(self.kubelets)
        zone = self.zones[number % len(self.zones)]
        stamp = self.clock.stamp()
        self.kubelets[name] = Kubelet(self.site, name, number)
        self.store.create(
            "nodes", new_node(name, zone=zone, stamp=stamp, ready=ready, labels=labels)
        )

    def remove_node(self, name: str) -> None:
        """Take a node out of the cluster for ever, kubelet and Node object."""
        self.kubelets[name].die(with_node=True)
        self._nodes.fell_silent(name)
        self.store.remove("nodes", "", name)

    def kill_kubelet(self, node: str) -> None:
        """Kill a kubelet; its containers run on."""
        self.kubelets[node].die(with_node=False)
        self._nodes.fell_silent(node)

    def kill_node(self, node: str) -> None:
        """Take a node's power away: kubelet and containers."""
        self.kubelets[node].die(with_node=True)
        self._nodes.fell_silent(node)

    def revive(self, node: str) -> None:
        """Bring a kubelet, or a node, back."""
        self.kubelets[node].come_back(self._roster.on(node))
        self.site.after(self.site.between(0.2, 0.5), lambda: self._nodes.is_back(node))

    def restart_kubelet(self, node: str, seconds: float) -> None:
        """Kill a kubelet and bring it back after so many seconds."""
        self.kill_kubelet(node)
        self.site.after(seconds, partial(self.revive, node))

    def silence_all_kubelets(self, seconds: float) -> None:
        """Cut all kubelets off from the API for a while; their containers run on."""
        for name, kubelet in self.kubelets.items():
            if kubelet.alive:
                kubelet.die(with_node=False)
                self._nodes.fell_silent(name, noticed_after=self.site.between(51.0, 53.0))
                back = seconds + self.site.between(0.0, 1.0)
                self.site.after(back, partial(self.revive, name))

    def stop_api(self, seconds: float) -> None:
        """Take the API server away for a while, from everybody.

        Controllers and kubelets stand still; what they would have done meanwhile they do after it.
        Where it lasts as long as the grace period, the nodes look silent for a moment afterwards:
        their monitor counts on without them, and may look before their kubelets are heard again.
        """
        self.api.stop()
        self.site.reached[""] = self.clock.seconds + seconds
        self.site.after(0, self.api.start)
        watched = min(seconds, WATCH_BACKOFF_MAX)
        for who in (DaemonSetController.name, Scheduler.name, *self.kubelets):
            self.site.reached[who] = self.site.reached[""] + self.site.between(0.0, watched)
        for name, kubelet in self.kubelets.items():
            if kubelet.alive:
                monitored = seconds + self.site.between(0.0, MONITOR_PERIOD)
                noticed = max(self.site.between(*NOTICED_AFTER), monitored)
                self._nodes.fell_silent(name, noticed_after=noticed)
                heard = seconds + self.site.between(0.5, HEARTBEAT_PERIOD)
                self.site.after(heard, partial(self._is_heard, name))

    def _is_heard(self, node: str) -> None:
        if self.kubelets[node].alive:
            self._nodes.is_heard(node)

    def cordon(self, node: str) -> None:
        """Mark a node unschedulable, as `kubectl cordon` does."""
        self._change_node(node, lambda spec: {**spec, "unschedulable": True})

    def uncordon(self, node: str) -> None:
        """Take a cordon back."""
        self._change_node(
            node, lambda spec: {key: it for key, it in spec.items() if key != "unschedulable"}
        )

    def taint(self, node: str, key: str, effect: str, value: str = "") -> None:
        """Taint a node, as `kubectl taint` does."""
        taint = {"key": key, "effect": effect} | ({"value": value} if value else {})
        self._change_node(node, lambda spec: {**spec, "taints": [*each(spec, "taints"), taint]})

    def untaint(self, node: str, key: str) -> None:
        """Take all taints of a key away."""
        self._change_node(
            node,
            lambda spec: {
                **spec,
                "taints": [it for it in each(spec, "taints") if it.get("key") != key],
            },
        )

    def label(self, node: str, **labels: str | None) -> None:
        """Set labels of a node; None removes one."""
        found = self._found("nodes", "", node)
        after = {**labels_of(found), **labels}
        metadata = {
            **found["metadata"],
            "labels": {key: it for key, it in after.items() if it is not None},
        }
        self.store.update("nodes", {**found, "metadata": metadata})

    def break_network(self, node: str, *, teardown: bool = False) -> None:
        """Break a node's network plugin: no pod comes up there.

        Args:
            node: Which; it stays Ready.
            teardown: None goes away either.
        """
        self.kubelets[node].sets_up_network = False
        self.kubelets[node].takes_down_network = not teardown

    def mend_network(self, node: str) -> None:
        """Repair it."""
        self.kubelets[node].sets_up_network = self.kubelets[node].takes_down_network = True

    def _change_node(self, node: str, change: Callable[[Object], Object]) -> None:
        found = self._found("nodes", "", node)
        self.store.update("nodes", {**found, "spec": change(found["spec"])})

    # ------------------------------------------------------------------ what pods lean on

    def break_backend(self, seconds: float | None = None) -> None:
        """Take the backend away that readiness probes of port 5990 ask; None: until mended."""
        self.site.turn_backend(up=False)
        if seconds is not None:
            self.clock.after(seconds, self.mend_backend)

    def mend_backend(self) -> None:
        """Bring it back."""
        self.site.turn_backend(up=True)

    def make_namespace(self, name: str, *, labels: dict[str, str] | None = None) -> None:
        """Make a namespace, if it is not there, with its default ServiceAccount."""
        if self.store.get("namespaces", "", name) is not None:
            return
        standard = {"kubernetes.io/metadata.name": name, **(labels or {})}
        namespace: Object = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": standard},
            "spec": {"finalizers": ["kubernetes"]},
            "status": {"phase": "Active"},
        }
        self.store.create("namespaces", namespace)
        self.make_service_account(name, "default")

    def make_service_account(self, namespace: str, name: str) -> None:
        """Make a ServiceAccount, if it is not there."""
        self._make("serviceaccounts", "ServiceAccount", namespace, name, {})

    def make_config_map(self, namespace: str, name: str, data: dict[str, str]) -> None:
        """Make a ConfigMap, if it is not there."""
        self._make("configmaps", "ConfigMap", namespace, name, {"data": data})

    def make_secret(self, namespace: str, name: str, data: dict[str, str]) -> None:
        """Make a Secret, if it is not there; values as in base64."""
        self._make("secrets", "Secret", namespace, name, {"type": "Opaque", "data": data})

    def make_quota(self, namespace: str, name: str, cpu: str) -> None:
        """Limit the CPU that the pods of a namespace may request together."""
        hard = {"requests.cpu": cpu}
        self._make("resourcequotas", "ResourceQuota", namespace, name, {"spec": {"hard": hard}})

    def make_limit_range(self, namespace: str, name: str, memory: str) -> None:
        """Limit the memory limit that a container of a namespace may have."""
        limits = [{"type": "Container", "max": {"memory": memory}}]
        self._make("limitranges", "LimitRange", namespace, name, {"spec": {"limits": limits}})

    def provide_for(self, daemonset: Object) -> None:
        """Make what a DaemonSet names, as the other files of its repository would."""
        namespace = namespace_of(daemonset) or "default"
        spec: Object = dig(daemonset, "spec", "template", "spec", default={})
        self._provide(
            "serviceaccounts", namespace, str(spec.get("serviceAccountName") or "default")
        )
        for container in each(spec, "initContainers") + each(spec, "containers"):
            for source in each(container, "envFrom"):
                self._provide_source(namespace, source, "configMapRef", "secretRef")
            for env in each(container, "env"):
                value: Object = env.get("valueFrom") or {}
                self._provide_source(namespace, value, "configMapKeyRef", "secretKeyRef")
        for volume in each(spec, "volumes"):
            for source in (volume, *each(volume, "projected", "sources")):
                self._provide_source(namespace, source, "configMap", "secret")

    def _provide_source(self, namespace: str, source: Object, maps: str, secrets: str) -> None:
        for field, resource in ((maps, "configmaps"), (secrets, "secrets")):
            reference: Object = source.get(field) or {}
            name = reference.get("name") or reference.get("secretName")
            if name and not reference.get("optional"):
                self._provide(resource, namespace, str(name), str(reference.get("key") or ""))

    def _provide(self, resource: str, namespace: str, name: str, key: str = "") -> None:
        if "missing" in name:
            return
        kinds = {"serviceaccounts": "ServiceAccount", "configmaps": "ConfigMap"}
        self._make(resource, kinds.get(resource, "Secret"), namespace, name, {})
        found = self._found(resource, namespace, name)
        data: Object = found.get("data") or {}
        if key and key not in data:
            self.store.update(resource, {**found, "data": {**data, key: ""}})

    def _make(self, resource: str, kind: str, namespace: str, name: str, content: Object) -> None:
        if self.store.get(resource, namespace, name) is None:
            metadata = {"name": name, "namespace": namespace}
            made = {"apiVersion": "v1", "kind": kind, "metadata": metadata, **content}
            self.store.create(resource, made)

    def _found(self, resource: str, namespace: str, name: str) -> Object:
        found = self.store.get(resource, namespace, name)
        if found is None:
            raise KeyError(f"{resource} {namespace}/{name}")
        return found

    # ------------------------------------------------------------------ people and their clients

    def apply(self, manifest: Object) -> Object:
        """Create a DaemonSet through the API as another client; where it is there, replace it.

        Returns:
            The object as the API answered.

        Raises:
            ValueError: The API refused it.
        """
        namespace = namespace_of(manifest) or "default"
        path = f"/apis/apps/v1/namespaces/{namespace}/daemonsets"
        live = self.store.get("daemonsets", namespace, name_of(manifest))
        if live is None:
            return self._send("POST", path, manifest)
        return self._send("PUT", f"{path}/{name_of(manifest)}", _replacing(live, manifest))

    def _send(self, method: Literal["POST", "PUT"], path: str, body: Object) -> Object:
        headers = {"Content-Type": "application/json", "User-Agent": "person"}
        request = Request(method=method, path=path, body=json.dumps(body).encode(), headers=headers)
        answered = self.api.handle(request)
        answer: Object = json.loads(answered.body)
        if answered.status not in (200, 201):
            raise ValueError(f"the API answered {answered.status}: {answer.get('message')}")
        return answer

    def delete_pod(self, namespace: str, name: str) -> None:
        """Delete a pod, as a person with kubectl does."""
        delete_pod(self.site, self._found("pods", namespace, name))

    def evict_pod(self, namespace: str, name: str) -> None:
        """Remove a pod by the eviction API: the condition comes first, then the deletion."""
        pod = self._found("pods", namespace, name)
        message = "Eviction API: evicting"
        marked = disrupted(pod, "EvictionByEvictionAPI", message, self.clock.stamp())
        self.store.update("pods", marked)
        self.clock.after(0.014, lambda: delete_pod(self.site, pod))

    def daemonset(self, namespace: str, name: str) -> Object:
        """Return a DaemonSet as it is now.

        Raises:
            KeyError: It is not there.
        """
        return self._found("daemonsets", namespace, name)

    def pods(self, namespace: str, name: str) -> list[Object]:
        """Return the pods that a DaemonSet controls, by name."""
        return self._controlled("pods", namespace, name)

    def revisions(self, namespace: str, name: str) -> list[Object]:
        """Return the ControllerRevisions of a DaemonSet, the oldest number first."""
        found = self._controlled("controllerrevisions", namespace, name)
        return sorted(found, key=lambda it: int(it["revision"]))

    def _controlled(self, resource: str, namespace: str, name: str) -> list[Object]:
        owner = self.store.get("daemonsets", namespace, name)
        if owner is None:
            return []
        uid = uid_of(owner)
        return [
            it
            for it in self.store.list(resource, namespace)
            if (controller_of(it) or {}).get("uid") == uid
        ]

    def _admission(self, verb: str, resource: str, item: Object, _old: Object | None) -> Object:
        """Be the API server's own admission plugins, for pods."""
        if verb == "create" and resource == "pods" and (why := refusal(self.store, item)):
            raise AdmissionRefused(why)
        return item

    def _admitted(self, pod: Object) -> tuple[Object, str]:
        try:
            return self.api.admit("create", "pods", pod), ""
        except AdmissionRefused as refused:
            return pod, forbidden(pod, str(refused))


def _replacing(live: Object, manifest: Object) -> Object:
    """Return the body that replaces a live object's spec, and adds to its metadata."""
    given, there = manifest["metadata"], live["metadata"]
    metadata = {
        **there,
        "labels": {**there.get("labels", {}), **given.get("labels", {})},
        "annotations": {**there.get("annotations", {}), **given.get("annotations", {})},
    }
    return {**live, "metadata": metadata, "spec": manifest["spec"]}
