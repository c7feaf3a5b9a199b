"""Which pods may go now: `maxUnavailable` as a hard limit, the canary, the order of nodes.

Everything is derived from pods at each look, nothing is counted and stored, so that an agent that
was restarted goes on where the old one stopped (`design.md` 7a).
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from dsgitops.core.model import NodeState

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from dsgitops.core.model import Judgement, Node, Pod, Policy

ZONE = "topology.kubernetes.io/zone"
_NEW_POD_PATIENCE = timedelta(minutes=2)
"""How long a new pod on a node that was bad before takes a place in the limit on replacements.
After that the node is as bad as it was, and blocks nobody."""

_ON_THEIR_WAY = frozenset(
    {NodeState.STARTING, NodeState.TERMINATING, NodeState.NO_POD, NodeState.BAD_REVISION}
)


def resolve(value: int | str, *, nodes: int) -> int:
    """Return how many nodes a count or percentage means.

    Args:
        value: `maxUnavailable`, `maxSurge` or `maxFailedNodes` as written: 2 or "10%".
        nodes: Nodes that should run the pod.

    Returns:
        Nodes; percentages round up, as the DaemonSet controller does.

    Raises:
        ValueError: `value` is neither a count nor a percentage.
    """
    if isinstance(value, int):
        return value
    if not value.endswith("%"):
        raise ValueError("neither a count nor a percentage")
    return math.ceil(int(value[:-1]) * nodes / 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What the budget is computed from."""

    uid: str
    """Of the DaemonSet: it makes the order of nodes differ between DaemonSets."""
    judgement: Judgement
    pods: Sequence[Pod]
    nodes: Sequence[Node]
    target: str
    """Hash of the revision that is rolled out."""
    max_unavailable: int | str
    min_ready_seconds: int
    policy: Policy
    now: datetime


@dataclass(frozen=True, slots=True)
class Canary:
    """How far the first nodes are."""

    wanted: int
    started: int
    """Nodes on the target revision or on their way to it."""
    over: bool
    look_again: datetime | None


def limit(view: View) -> int:
    """Return maxUnavailable in nodes; at least 1, or nothing could ever be replaced."""
    return max(1, resolve(view.max_unavailable, nodes=view.judgement.total))


def order(uid: str, nodes: Iterable[Node]) -> list[str]:
    """Return node names in the order in which they are updated.

    Spread over zones: the first of each zone, then the second of each.  Within a zone by a hash
    of DaemonSet and node, so that a restarted agent picks the same canary and two DaemonSets do
    not.
    """
    ranked: dict[str, list[tuple[str, str]]] = {}
    for node in nodes:
        key = hashlib.sha256(f"{uid}/{node.name}".encode()).hexdigest()
        ranked.setdefault(node.labels.get(ZONE, ""), []).append((key, node.name))
    places = [
        (rank, key, name)
        for zone in ranked.values()
        for rank, (key, name) in enumerate(sorted(zone))
    ]
    return [name for _, _, name in sorted(places)]


def canary(view: View) -> Canary:
    """Return how far the canary is; with `nodes: 0`, or on one node, it is over at once."""
    total = view.judgement.total
    wanted = min(view.policy.canary_nodes, max(total - 1, 0))
    on_target = [
        pod
        for pod in view.pods
        if pod.hash == view.target and pod.deleting is None and pod.node in view.judgement.states
    ]
    states = view.judgement.states
    started = sum(
        1 for state in states.values() if state in _ON_THEIR_WAY or state is NodeState.DESIRED
    )
    ends = sorted(
        end
        for pod in on_target
        if states[pod.node] is NodeState.DESIRED and (end := _bake_end(pod, view)) is not None
    )
    if len(ends) < wanted:
        return Canary(wanted, started, over=False, look_again=None)
    due = ends[wanted - 1] if wanted else view.now
    return Canary(wanted, started, over=due <= view.now, look_again=due)


def next_deletions(view: View, *, canary_only: bool) -> tuple[Pod, ...]:
    """Return the pods that may be deleted now, in order.

    The budget: unavailable nodes (any revision, any cause, terminating included, but not *bad
    before*) and these deletions are at most maxUnavailable.  A pod that is unavailable already
    takes none of it, but the nodes where a pod was replaced and none is available yet are at most
    maxUnavailable too: a shared blip is no licence to replace the fleet.

    Args:
        view: The situation.
        canary_only: Stop at the canary's number of nodes.
    """
    if view.judgement.suspects:
        return ()
    candidates = _candidates(view)
    if not candidates:
        return ()
    most = limit(view)
    places = most - _replaced(view)
    free = most - _unavailable(view)
    if canary_only:
        first = canary(view)
        places = min(places, first.wanted - first.started)
    chosen: list[Pod] = []
    for pod, available in candidates:
        if len(chosen) >= places or (available and free <= 0):
            break
        chosen.append(pod)
        free -= available
    return tuple(chosen)


def _candidates(view: View) -> list[tuple[Pod, bool]]:
    """Return old pods on Ready nodes with whether they are available: unavailable ones first."""
    ready = {node.name for node in view.nodes if node.is_ready}
    old = {
        pod.node: pod
        for pod in view.pods
        if pod.hash != view.target
        and pod.deleting is None
        and pod.node in ready
        and view.judgement.states.get(pod.node) in (NodeState.OLD, NodeState.BAD_BEFORE)
    }
    if not old:
        return []
    place = {name: index for index, name in enumerate(order(view.uid, view.nodes))}
    found = [(pod, pod.is_available(view.now, view.min_ready_seconds)) for pod in old.values()]
    return sorted(found, key=lambda each: (each[1], place[each[0].node]))


def _unavailable(view: View) -> int:
    """Return how many nodes are without an available pod and not bad before."""
    available = {
        pod.node
        for pod in view.pods
        if pod.deleting is None and pod.is_available(view.now, view.min_ready_seconds)
    }
    gone = _long_gone(view)
    return sum(
        1
        for node, state in view.judgement.states.items()
        if state not in (NodeState.LEAVING, NodeState.BAD_BEFORE)
        and (node not in available or state is NodeState.BAD_NODE)
        and node not in gone
    )


def _long_gone(view: View) -> frozenset[str]:
    """Return nodes NotReady for `progressDeadline`: they count as bad before from then on."""
    since = view.now - view.policy.progress_deadline
    return frozenset(
        node.name
        for node in view.nodes
        if not node.is_ready and node.ready_since is not None and node.ready_since <= since
    )


def _replaced(view: View) -> int:
    """Return on how many nodes a pod was replaced and none is available again."""
    patience = view.policy.pod_deadline or _NEW_POD_PATIENCE
    fresh = {
        pod.node
        for pod in view.pods
        if pod.hash == view.target
        and pod.created is not None
        and view.now - pod.created < patience
        and not pod.is_available(view.now, view.min_ready_seconds)
    }
    gone = _long_gone(view)
    return sum(
        1
        for node, state in view.judgement.states.items()
        if (state in _ON_THEIR_WAY and node not in gone)
        or (state is NodeState.BAD_BEFORE and node in fresh)
    )


def _bake_end(pod: Pod, view: View) -> datetime | None:
    """Return when this canary pod will have been available for the canary's bake time."""
    ready = pod.conditions.get("Ready")
    if ready is None or ready.since is None:
        return None
    return ready.since + timedelta(seconds=view.min_ready_seconds) + view.policy.canary_bake
