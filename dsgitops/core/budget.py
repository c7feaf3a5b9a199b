"""Which pods may go now: `maxUnavailable` as a hard limit, the canary, the order of nodes.

Everything is derived from pods at each look, nothing is counted and stored, so that an agent that
was restarted goes on where the old one stopped (`design.md` 7a).
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
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
    """Return maxUnavailable in nodes; at least 1, or nothing could ever be replaced.

    Beside OnDelete the API server lets any text stand there: what cannot be read is 1.
    """
    try:
        return max(1, resolve(view.max_unavailable, nodes=view.judgement.total))
    except ValueError:
        return 1


def order(uid: str, nodes: Iterable[Node]) -> list[str]:
    """Return node names in the order in which they are updated.

    Spread over zones: the first of each zone, then the second of each.  Within a zone by a hash
    of DaemonSet and node, so that a restarted agent picks the same canary and two DaemonSets do
    not.
    """
    ranked: dict[str, list[tuple[bytes, str]]] = {}
    for node in nodes:
        ranked.setdefault(node.labels.get(ZONE, ""), []).append((_key(uid, node.name), node.name))
    places = [
        (rank, key, name)
        for zone in ranked.values()
        for rank, (key, name) in enumerate(sorted(zone))
    ]
    return [name for _, _, name in sorted(places)]


@lru_cache(maxsize=1 << 14)  # asked at each look, for the same nodes
def _key(uid: str, node: str) -> bytes:
    return hashlib.sha256(f"{uid}/{node}".encode()).digest()


def canary(view: View) -> Canary:
    """Return how far the canary is; with `nodes: 0`, or on one node, it is over at once."""
    wanted = min(view.policy.canary_nodes, max(len(_usable(view)) - 1, 0))
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
    if canary_only:  # one that can vote, while there is one
        voters = [each for each in candidates if _state(view, each[0]) is NodeState.OLD]
        candidates = voters or candidates
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


def _usable(view: View) -> frozenset[str]:
    """Return the nodes that can show whether the revision works: the others block no canary."""
    ready = {node.name for node in view.nodes if node.is_ready}
    spared = (NodeState.LEAVING, NodeState.BAD_BEFORE, NodeState.BAD_NODE)
    return frozenset(
        name
        for name, state in view.judgement.states.items()
        if name in ready and state not in spared
    )


def _state(view: View, pod: Pod) -> NodeState | None:
    return view.judgement.states.get(pod.node)


def _candidates(view: View) -> list[tuple[Pod, bool]]:
    """Return old pods on Ready nodes with whether they are available.

    Unavailable ones first; last the available ones of nodes that were bad before (cordoned):
    such a node takes none of the budget once it is without a pod.
    """
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

    def rank(each: tuple[Pod, bool]) -> tuple[bool, bool, int]:
        pod, available = each
        spared = available and _state(view, pod) is NodeState.BAD_BEFORE
        return spared, available, place[pod.node]

    return sorted(found, key=rank)


def _unavailable(view: View) -> int:
    """Return how many nodes are without an available pod and not bad before."""
    available, _, _ = _by_node(view)
    gone = _long_gone(view)
    return sum(
        1
        for node, state in view.judgement.states.items()
        if (node not in available or state is NodeState.BAD_NODE)
        and state not in (NodeState.LEAVING, NodeState.BAD_BEFORE)
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
    available, old, leaving = _by_node(view)
    fresh = _fresh(view)
    gone = _long_gone(view)
    count = 0
    for node, state in view.judgement.states.items():
        if state is NodeState.LEAVING or node in available or node in old or node in gone:
            continue
        if state is not NodeState.BAD_BEFORE or node in fresh or node in leaving:
            count += 1
    return count


def _by_node(view: View) -> tuple[set[str], set[str], set[str]]:
    """Return the nodes with an available pod, with an old one, and with one that is going."""
    available: set[str] = set()
    old: set[str] = set()
    going: set[str] = set()
    ready = {node.name for node in view.nodes if node.is_ready}
    for pod in view.pods:
        if pod.deleting is not None:
            if pod.node in ready:  # on a dead node it may be going for ever
                going.add(pod.node)
        elif pod.is_available(view.now, view.min_ready_seconds):
            available.add(pod.node)
        elif pod.hash != view.target:
            old.add(pod.node)
    return available, old, going


def _fresh(view: View) -> frozenset[str]:
    """Return the nodes whose new pod is young enough to be waited for."""
    patience = view.policy.pod_deadline or _NEW_POD_PATIENCE
    return frozenset(
        pod.node
        for pod in view.pods
        if pod.hash == view.target
        and pod.deleting is None
        and pod.created is not None
        and view.now - pod.created < patience
    )


def _bake_end(pod: Pod, view: View) -> datetime | None:
    """Return when this canary pod will have been available for the canary's bake time."""
    ready = pod.conditions.get("Ready")
    if ready is None or ready.since is None:
        return None
    return ready.since + timedelta(seconds=view.min_ready_seconds) + view.policy.canary_bake
