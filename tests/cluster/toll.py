"""What a rollout takes: every pod of a namespace watched, so that nothing between two looks is missed.

A node is *taken* from the moment its pod is asked to go until a pod that was made since is ready
there.  A pod that is not ready by itself takes nothing: that is not the rollout's hand.

A watch that an outage ended is opened anew; what went meanwhile is taken for lost at one moment, so
that an outage can make the count too high, but not too low.
"""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
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
_BEGINS_SECONDS = 60.0
"""For the first answer of a machine that does much else."""
_AGAIN_SECONDS = 0.1
"""Between two tries to watch in an outage: no pod is made, ready and gone in so short a time."""
_KINDS = frozenset({"ADDED", "MODIFIED", "DELETED"})
_WHOLE_SAID = "k8s.io/initial-events-end"


@dataclass
class Toll:
    """What one DaemonSet's nodes went through."""

    taken: set[str] = field(default_factory=set)
    """Nodes without a ready pod, because theirs was deleted."""
    together: set[frozenset[str]] = field(default_factory=set)
    """The nodes that were taken at the same time, whenever one more was."""
    images: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Nodes that ever had a pod with this image."""
    first: dict[str, datetime] = field(default_factory=dict)
    """When the first pod with each image was made."""
    made: dict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    """The pods that each node has had, in order: hash of the ControllerRevision by UID."""
    whole: datetime | None = None
    """When the last node that was taken had a ready pod again."""
    _ready: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """UIDs of each node's ready pods that nobody asked to go."""

    @property
    def most_taken(self) -> int:
        """Nodes at once."""
        return self.most_taken_beside()

    def most_taken_beside(self, *dead: str) -> int:
        """The same without nodes that were dead: a pod that was asked to go never does there."""
        return max((len(nodes.difference(dead)) for nodes in self.together), default=0)

    @property
    def restarts(self) -> int:
        """Pods made beyond the first of each node."""
        return sum(len(pods) - 1 for pods in self.made.values())

    @property
    def there_and_back(self) -> str:
        """The restarts: `1 + 1` is one to another revision, and one to what the node had first."""
        each_node = (list(pods.values()) for pods in self.made.values())
        back = sum(hashes[1:].count(hashes[0]) for hashes in each_node)
        return f"{self.restarts - back} + {back}"

    def note(self, kind: str, pod: dict) -> None:
        metadata, node = pod["metadata"], _node(pod)
        self.made[node][metadata["uid"]] = metadata["labels"]["controller-revision-hash"]
        image = pod["spec"]["containers"][0]["image"]
        self.images[image].add(node)
        self.first.setdefault(image, datetime.fromisoformat(metadata["creationTimestamp"]))
        going = kind == "DELETED" or "deletionTimestamp" in metadata
        if going or not _is_ready(pod):
            self._ready[node].discard(metadata["uid"])
        else:
            self._ready[node].add(metadata["uid"])
            self._regain(node)
        if going and not self._ready[node]:  # else its successor has come before it was gone
            self._lose(node)

    def _lose(self, node: str) -> None:
        self.taken.add(node)
        self.together.add(frozenset(self.taken))

    def _regain(self, node: str) -> None:
        if self.taken == {node}:
            self.whole = datetime.now(UTC)
        self.taken.discard(node)


class Tolls(dict[str, Toll]):
    """The toll of each DaemonSet of a namespace, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = threading.Event()
        self._pods: dict[str, dict] = {}  # as they were last seen, by UID, until they are gone
        self._found: dict[str, dict] | None = None  # the same, while a watch tells what is there

    def __missing__(self, name: str) -> Toll:
        return self.setdefault(name, Toll())

    def begin(self) -> None:
        """A watch is opened: what is there comes first, until it says that this was all."""
        self._found = {}

    def read(self, line: bytes) -> bool:
        """Note an event; False: the watch cannot go on."""
        event = json.loads(line)
        kind, pod = event.get("type"), event.get("object", {})
        if kind == "BOOKMARK" and _WHOLE_SAID in pod["metadata"].get("annotations", {}):
            self._look_over()
        elif kind in _KINDS and _owner(pod):
            self._note(kind, pod)
        return kind in {*_KINDS, "BOOKMARK"}

    def _look_over(self) -> None:
        """All that is there was told: what is not has gone meanwhile."""
        found, self._found = self._found or {}, None
        for pod in [pod for uid, pod in self._pods.items() if uid not in found]:
            self._note("DELETED", pod)
        for pod in found.values():
            self._note("ADDED", pod)
        self.begun.set()

    def _note(self, kind: str, pod: dict) -> None:
        lives = self._pods if self._found is None else self._found
        lives[pod["metadata"]["uid"]] = pod
        if kind == "DELETED":
            del lives[pod["metadata"]["uid"]]
        if self._found is None:
            self[_owner(pod)].note(kind, pod)


@contextmanager
def watched(
    plane: ControlPlane, namespace: str, *, through_outages: bool = False
) -> Iterator[Tolls]:
    """Watch a namespace's pods for the block; what keeps it from counting all of them fails it."""
    tolls, watch = Tolls(), _Watch(plane, namespace, through_outages=through_outages)
    broke: list[str] = []

    def follow() -> None:
        try:
            watch.follow(tolls)
        except Exception as error:  # noqa: BLE001 - whatever it is, the counts are not whole
            broke.append(f"the watch broke, its counts are not whole: {error!r}")
            tolls.begun.set()

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        tolls.begun.wait(_BEGINS_SECONDS)
        yield tolls
    finally:
        watch.stop()
        thread.join(10)
    assert not broke, broke
    assert not thread.is_alive(), "the watch did not end: its counts are not whole"


class _Watch:
    """A watch of the pods of one namespace, opened anew wherever an outage ends it."""

    def __init__(self, plane: ControlPlane, namespace: str, *, through_outages: bool) -> None:
        self._transport = connect(str(plane.kubeconfig))
        self._through_outages = through_outages
        self._news, self._over = threading.Event(), threading.Event()
        self._request = Request(
            method="GET",
            path=f"/api/v1/namespaces/{namespace}/pods",
            query=_WHOLE,
            headers={"User-Agent": "toll"},
            timeout=_LONGEST_SECONDS,
        )

    def follow(self, tolls: Tolls) -> None:
        while not self._over.is_set():
            self._follow_one(tolls)
            assert self._through_outages or self._over.is_set(), "it ended"
            self._over.wait(_AGAIN_SECONDS)

    def _follow_one(self, tolls: Tolls) -> None:
        tolls.begin()
        stream = self._transport.open(self._request, self._news.set)
        goes_on = True
        while goes_on and not stream.ended and not self._over.is_set():
            self._news.wait(1)
            self._news.clear()
            goes_on = all(tolls.read(line) for line in stream.lines())
        stream.close()

    def stop(self) -> None:
        self._over.set()
        self._news.set()
        self._transport.close()


def _owner(pod: dict) -> str:
    """Return its DaemonSet's name; empty: it has none."""
    owners = pod["metadata"].get("ownerReferences", [])
    return next((each["name"] for each in owners if each["kind"] == "DaemonSet"), "")


def _node(pod: dict) -> str:
    """Return where it is, or is to be: the DaemonSet's controller names one node for each pod."""
    if name := pod["spec"].get("nodeName"):
        return name
    affinity = pod["spec"]["affinity"]["nodeAffinity"]
    (term,) = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    (field,) = (each for each in term["matchFields"] if each["key"] == "metadata.name")
    (node,) = field["values"]
    return node


def _is_ready(pod: dict) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
