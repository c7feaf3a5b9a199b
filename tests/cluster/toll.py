"""What a rollout takes: every pod of a namespace watched, so that nothing between two looks is missed.

A node is *taken* from the moment its pod is asked to go until a pod that was made since is ready
there.  A pod that is not ready by itself takes nothing: that is not the rollout's hand.
"""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from dsgitops.adapters.kubernetes.transport import connect
from dsgitops.ports import Request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cluster.control_plane import ControlPlane

_WHOLE = {
    "watch": "1", "sendInitialEvents": "true", "allowWatchBookmarks": "true",
    "resourceVersionMatch": "NotOlderThan",
}  # fmt: skip
_LONGEST_SECONDS = 3600.0


@dataclass
class Toll:
    """What one DaemonSet's nodes went through."""

    taken: set[str] = field(default_factory=set)
    """Nodes without a ready pod, because theirs was deleted."""
    most_taken: int = 0
    images: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Nodes that ever had a pod with this image."""
    first: dict[str, datetime] = field(default_factory=dict)
    """When the first pod with each image was made."""
    made: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """UIDs of the pods that each node has had."""

    @property
    def restarts(self) -> int:
        """Pods made beyond the first of each node."""
        return sum(len(uids) - 1 for uids in self.made.values())

    def note(self, kind: str, pod: dict) -> None:
        node, uid = pod["spec"].get("nodeName"), pod["metadata"]["uid"]
        if not node:
            return  # not on a node yet: another event will say so
        self.made[node].add(uid)
        image = pod["spec"]["containers"][0]["image"]
        self.images[image].add(node)
        self.first.setdefault(image, datetime.fromisoformat(pod["metadata"]["creationTimestamp"]))
        if kind == "DELETED" or "deletionTimestamp" in pod["metadata"]:
            self._lose(node)
        elif _is_ready(pod):
            self.taken.discard(node)

    def _lose(self, node: str) -> None:
        self.taken.add(node)
        self.most_taken = max(self.most_taken, len(self.taken))


class Tolls(dict[str, Toll]):
    """The toll of each DaemonSet of a namespace, by name."""

    def __missing__(self, name: str) -> Toll:
        return self.setdefault(name, Toll())

    def read(self, lines: list[bytes]) -> None:
        for line in lines:
            event = json.loads(line)
            owners = event["object"]["metadata"].get("ownerReferences")
            if event["type"] in {"ADDED", "MODIFIED", "DELETED"} and owners:
                self[owners[0]["name"]].note(event["type"], event["object"])


@contextmanager
def watched(plane: ControlPlane, namespace: str) -> Iterator[Tolls]:
    """Watch a namespace's pods for the block; a watch that ends early fails it."""
    tolls, news, over = Tolls(), threading.Event(), threading.Event()
    transport = connect(str(plane.kubeconfig))
    request = Request(
        method="GET",
        path=f"/api/v1/namespaces/{namespace}/pods",
        query=_WHOLE,
        headers={"User-Agent": "toll"},
        timeout=_LONGEST_SECONDS,
    )
    stream = transport.open(request, news.set)
    broke: list[str] = []

    def follow() -> None:
        while not over.is_set():
            news.wait(1)
            news.clear()
            tolls.read(stream.lines())
            if stream.ended and not over.is_set():
                broke.append("the watch ended: its counts are not whole")
                return

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield tolls
    finally:
        over.set()
        news.set()
        thread.join(10)
        stream.close()
        transport.close()
    assert not broke, broke


def _is_ready(pod: dict) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
