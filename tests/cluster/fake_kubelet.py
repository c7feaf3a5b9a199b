"""Kubelets that only pretend to run containers, so that a test can say what becomes of each pod.

kwok's pods are Ready at once; these start slowly, never become ready, lose readiness for a moment,
or are on a node that falls silent.  One thread plays all nodes of one control plane, another sends
their heartbeats.  Everything is level-triggered as in the real one: after a silence each pod's
status is written anew wherever it is not what the kubelet knows (`cluster.md` 5.1, 6).
"""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from dsgitops.adapters.kubernetes.transport import connect
from dsgitops.errors import DsgitopsError
from dsgitops.ports import Request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cluster.control_plane import ControlPlane

STEP_SECONDS = 0.2
HEARTBEAT_SECONDS = 2.0
_ROOM = {"cpu": "32", "memory": "64Gi", "pods": "500"}
_MEDIA = {
    "strategic": "application/strategic-merge-patch+json",
    "apply": "application/apply-patch+yaml",
}


@dataclass(frozen=True)
class Start:
    """What becomes of a pod with a certain image."""

    seconds: float = 0.0
    """From the pod's place on the node to its readiness."""
    ready: bool = True
    """Whether it ever becomes ready."""
    waiting: str = ""
    """Reason of a container that cannot start: `ImagePullBackOff`."""
    message: str = ""
    """What the kubelet says beside the reason."""


AT_ONCE = Start()
NEVER_READY = Start(ready=False)
NO_SUCH_IMAGE = Start(
    waiting="ImagePullBackOff",
    message="Back-off pulling image: rpc error: code = NotFound desc = failed to pull and unpack"
    " image: failed to resolve reference: not found",
)  # fmt: skip


@dataclass
class Kubelets:
    """The kubelets of all fake nodes.  What happens is set from outside, at any time."""

    plane: ControlPlane
    starts: dict[str, Start] = field(default_factory=dict)
    """By image; others are Ready at once."""
    silent: set[str] = field(default_factory=set)
    """Nodes that send no heartbeat and do nothing."""
    unready: set[str] = field(default_factory=set)
    """Pods that lost readiness, as DAEMONSET, NAMESPACE/DAEMONSET or NAMESPACE/DAEMONSET/NODE."""
    terminating_seconds: float = 0.0
    """From a pod's deletion to its end."""
    nodes: dict[str, dict[str, str]] = field(default_factory=dict)
    """Labels of each node that joined."""
    errors: list[str] = field(default_factory=list)
    """What the API server refused, for a failed test to show."""

    def __post_init__(self) -> None:
        self._transport = connect(str(self.plane.kubeconfig))
        self._ended = threading.Event()
        self._seen: dict[str, float] = {}  # when each pod came to its node, by UID
        self._going: dict[str, float] = {}  # when each was seen to be deleted
        self._threads = [
            threading.Thread(target=self._forever, args=(what, pause), daemon=True)
            for what, pause in ((self._beat, HEARTBEAT_SECONDS), (self._tend, STEP_SECONDS))
        ]

    # ------------------------------------------------------------------ nodes come and go

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(10)
        for node in list(self.nodes):
            self.leave(node)
        self._transport.close()

    def join(self, *names: str, **labels: str) -> None:
        """Register nodes, and wait until pods may come to them."""
        for name in names:
            self.nodes[name] = {"kubernetes.io/hostname": name, **labels}
            self._call("POST", "/api/v1/nodes", _node(name, self.nodes[name]))
        self._beat()
        self.plane.wait_for_nodes()

    def leave(self, name: str) -> None:
        """Remove a node; its pods are collected."""
        del self.nodes[name]
        self._call("DELETE", f"/api/v1/nodes/{name}")

    def lost(self) -> set[str]:
        """Return the nodes that the control plane has given up hearing from."""
        items = self._call("GET", "/api/v1/nodes")["items"]
        return {
            each["metadata"]["name"]
            for each in items
            if _conditions(each).get("Ready", {}).get("status") == "Unknown"
        } & self.nodes.keys()

    # ------------------------------------------------------------------ heartbeats

    def _beat(self) -> None:
        """Renew each node's lease, and say Ready where the control plane thinks otherwise."""
        for node in self._talking():
            now = _now()
            lease = {
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": {"name": node},
                "spec": {
                    "holderIdentity": node, "leaseDurationSeconds": 40,
                    "renewTime": f"{now[:-1]}.000000Z",
                },
            }  # fmt: skip
            root = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
            self._call("PATCH", f"{root}/{node}", lease, "apply",
                       {"fieldManager": "kubelet", "force": "true"})  # fmt: skip
        for each in self._call("GET", "/api/v1/nodes")["items"]:
            name = each["metadata"]["name"]
            ready = _conditions(each).get("Ready", {}).get("status")
            if name in self._talking() and ready != "True":
                status = {"conditions": [_condition("Ready", on=True) | {"reason": "KubeletReady"}]}
                self._call("PATCH", f"/api/v1/nodes/{name}/status", {"status": status}, "strategic")

    def _talking(self) -> list[str]:
        return [node for node in list(self.nodes) if node not in self.silent]

    # ------------------------------------------------------------------ pods

    def _tend(self) -> None:
        """Look at every pod of ours once, and do what is due."""
        answer = self._call("GET", "/api/v1/pods", query={"resourceVersion": "0"})
        talking = set(self._talking())
        for pod in answer["items"]:
            if pod["spec"].get("nodeName") in talking:
                self._look_after(pod)

    def _look_after(self, pod: dict) -> None:
        metadata = pod["metadata"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
        began = self._seen.setdefault(metadata["uid"], time.monotonic())
        if "deletionTimestamp" in metadata:
            asked = self._going.setdefault(metadata["uid"], time.monotonic())
            if time.monotonic() - asked < self.terminating_seconds:
                return
            gone = {"gracePeriodSeconds": 0, "preconditions": {"uid": metadata["uid"]}}
            self._call("DELETE", path, gone)
            return
        start = self.starts.get(pod["spec"]["containers"][0]["image"], AT_ONCE)
        up = start.ready and time.monotonic() - began >= start.seconds and not self._blinks(pod)
        if not _says(pod, ready=up, waiting=start.waiting):
            self._call("PATCH", f"{path}/status", _status(pod, start, ready=up), "strategic")

    def _blinks(self, pod: dict) -> bool:
        metadata = pod["metadata"]
        owner = metadata["ownerReferences"][0]["name"] if metadata.get("ownerReferences") else ""
        whole = f"{metadata['namespace']}/{owner}"
        return not self.unready.isdisjoint({owner, whole, f"{whole}/{pod['spec']['nodeName']}"})

    # ------------------------------------------------------------------ requests

    def _forever(self, what, pause: float) -> None:
        """Go on whatever happens: a kubelet outlives its API server."""
        while not self._ended.wait(pause):
            try:
                what()
            except (DsgitopsError, ValueError, KeyError) as error:
                self.errors.append(f"{what.__name__}: {error!r}")

    def _call(
        self, method: str, path: str, body: object = None, media: str = "", query: dict | None = None
    ) -> dict:  # fmt: skip
        answer = self._transport.send(
            Request(
                method=method,
                path=path,
                query=query or {},
                headers={
                    "Content-Type": _MEDIA.get(media, "application/json"),
                    "User-Agent": "fake-kubelet",
                },
                body=b"" if body is None else json.dumps(body).encode(),
            )
        )
        if answer.status >= 400 and answer.status not in {404, 409}:  # gone, or overtaken: normal
            self.errors.append(f"{method} {path}: {answer.status} {answer.body[:300]!r}")
        return json.loads(answer.body)


@contextmanager
def kubelets_on(plane: ControlPlane) -> Iterator[Kubelets]:
    """Fake kubelets for the block; their nodes leave with them."""
    made = Kubelets(plane)
    made.start()
    try:
        yield made
    finally:
        made.stop()


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _node(name: str, labels: dict[str, str]) -> dict:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/os": "linux", **labels}},
        "status": {"allocatable": _ROOM, "capacity": _ROOM},
    }


def _conditions(found: dict) -> dict[str, dict]:
    return {each["type"]: each for each in found.get("status", {}).get("conditions", [])}


def _condition(kind: str, *, on: bool) -> dict[str, str | None]:
    return {
        "type": kind,
        "status": "True" if on else "False",
        "lastTransitionTime": _now(),
        "reason": None,
        "message": None,
    }


def _says(pod: dict, *, ready: bool, waiting: str) -> bool:
    """Whether the pod's status is already what the kubelet knows."""
    conditions = _conditions(pod)
    if "ContainersReady" not in conditions or bool(waiting) != (
        pod["status"].get("phase") == "Pending"
    ):
        return False
    wanted = "True" if ready and not waiting else "False"
    return all(conditions[each]["status"] == wanted for each in ("Ready", "ContainersReady"))


def _status(pod: dict, start: Start, *, ready: bool) -> dict:
    ready = ready and not start.waiting
    conditions = [
        _changed(pod, "PodReadyToStartContainers", on=True),
        _changed(pod, "Initialized", on=True),
        *(_changed(pod, each, on=ready) for each in ("ContainersReady", "Ready")),
    ]
    containers = [_container(pod, each, start, ready=ready) for each in pod["spec"]["containers"]]
    return {
        "status": {
            "phase": "Pending" if start.waiting else "Running",
            "startTime": pod["status"].get("startTime") or _now(),
            "conditions": conditions,
            "containerStatuses": containers,
        }
    }


def _changed(pod: dict, kind: str, *, on: bool) -> dict:
    """Return the condition; one that does not change keeps the moment when it did."""
    made = _condition(kind, on=on)
    if not on:
        names = [each["name"] for each in pod["spec"]["containers"]]
        unready = f"containers with unready status: [{' '.join(names)}]"
        made |= {"reason": "ContainersNotReady", "message": unready}
    had = _conditions(pod).get(kind)
    if had and had["status"] == made["status"]:
        made["lastTransitionTime"] = had["lastTransitionTime"]
    return made


def _container(pod: dict, container: dict, start: Start, *, ready: bool) -> dict:
    had = pod["status"].get("containerStatuses", [])
    running = next((each["state"]["running"] for each in had if "running" in each["state"]), None)
    state: dict[str, dict] = {"running": running or {"startedAt": _now()}}
    if start.waiting:
        state = {"waiting": {"reason": start.waiting, "message": start.message}}
    return {
        "name": container["name"],
        "image": container["image"],
        "imageID": "" if start.waiting else f"{container['image']}@fake",
        "restartCount": 0,
        "ready": ready,
        "started": not start.waiting,
        "state": state,
    }
