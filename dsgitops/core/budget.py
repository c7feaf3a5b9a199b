"""Which pods may go now: `maxUnavailable` as a hard limit, the canary, the order of nodes.

Everything is derived from pods at each look, nothing is counted and stored, so that an agent that
was restarted goes on where the old one stopped (`design.md` 7a).
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

from dsgitops.core.model import NodeState

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from dsgitops.core.model import Judgement, Node, Pod, Policy

ZONE = "topology.kubernetes.io/zone"
_NEW_POD_PATIENCE = timedelta(minutes=2)
"""How long a new pod on a node that was bad before takes a place in the limit on replacements.
After that the node is as bad as it was, and blocks nobody."""

_RECOVERS = timedelta(seconds=60)
"""How long after a node came back its pods may take to become ready again: its kubelet tells late,
or the machine was started anew.  Until then they are no broken pods."""

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
    wanted = _canary_nodes(view)
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
    most = limit(view)
    standing = _standing(view)
    places = most - _replaced(view, standing)
    if canary_only:
        first = canary(view)
        places = min(places, first.wanted - first.started)
    if places <= 0:
        return ()
    free = most - _unavailable(view, standing)
    candidates = _candidates(view, standing, only_unavailable=free <= 0)
    if canary_only:  # one that can vote, while there is one
        voters = [each for each in candidates if _state(view, each[0]) is NodeState.OLD]
        candidates = voters or candidates
    down = _down(view, standing)
    chosen: list[Pod] = []
    for pod, available in candidates:
        if len(chosen) >= places or (available and free <= 0):
            break
        if pod.is_ready and not available:  # young under a raised minReadySeconds: it serves
            if down >= most:
                continue
            down += 1
        chosen.append(pod)
        free -= available
    return tuple(chosen)


def _canary_nodes(view: View) -> int:
    """Return on how many nodes the revision is to be proved: on one at least, and never on all.

    Nodes that are silent make the canary smaller, but not needless: they come back.
    """
    spared = (NodeState.LEAVING, NodeState.BAD_BEFORE)
    lasting = [state for state in view.judgement.states.values() if state not in spared]
    provable = max(len(_usable(view)) - 1, 1)
    return min(view.policy.canary_nodes, provable, max(len(lasting) - 1, 0))


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


@dataclass(frozen=True, slots=True)
class _Standing:
    """What each node has, gathered in one pass over the pods."""

    ready: frozenset[str]
    """Nodes that report."""
    gone: frozenset[str]
    """Nodes NotReady for `progressDeadline`: they count as bad before from then on."""
    serving: set[str]
    """Nodes with a Ready pod, however young."""
    available: set[str]
    """Nodes with an available pod."""
    broken: set[str]
    """Nodes with an old pod that is not available."""
    going: set[str]
    """Ready nodes with a pod that goes; on a dead node one may be going for ever."""
    fresh: set[str]
    """Nodes whose new pod is young enough to be waited for; Ready ones with any such pod."""


def _standing(view: View) -> _Standing:
    since = view.now - view.policy.progress_deadline
    found = _Standing(
        ready=frozenset(node.name for node in view.nodes if node.is_ready),
        gone=frozenset(
            node.name
            for node in view.nodes
            if not node.is_ready and node.ready_since is not None and node.ready_since <= since
        ),
        serving=set(),
        available=set(),
        broken=set(),
        going=set(),
        fresh=set(),
    )
    patience = view.policy.pod_deadline or _NEW_POD_PATIENCE
    for pod in view.pods:
        if pod.deleting is not None:
            if pod.node in found.ready:
                found.going.add(pod.node)
            continue
        if pod.is_ready:
            found.serving.add(pod.node)
        if pod.is_available(view.now, view.min_ready_seconds):
            found.available.add(pod.node)
            continue
        ours = pod.hash == view.target
        if not ours:
            found.broken.add(pod.node)
        young = pod.created is not None and view.now - pod.created < patience
        if young and (ours or pod.node in found.ready):  # superseded content had its young pods too
            found.fresh.add(pod.node)
    return found


def _candidates(
    view: View, standing: _Standing, *, only_unavailable: bool
) -> list[tuple[Pod, bool]]:
    """Return old pods on Ready nodes with whether they are available.

    Unavailable ones first; last the available ones of nodes that were bad before (cordoned):
    such a node takes none of the budget once it is without a pod.
    """
    if only_unavailable and not standing.broken:
        return []
    states = view.judgement.states
    back = _back(view)
    old = {
        pod.node: pod
        for pod in view.pods
        if pod.hash != view.target
        and pod.deleting is None
        and pod.node in standing.ready
        and not _is_recovering(pod, back)
        and states.get(pod.node) in (NodeState.OLD, NodeState.BAD_BEFORE)
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


def recovers(view: View) -> datetime | None:
    """Return when the next node that came back is no longer waited for; None: there is none."""
    back = _back(view)
    waited = (
        back[pod.node] for pod in view.pods if pod.hash != view.target and _is_recovering(pod, back)
    )
    return min(waited, default=None)


def _is_recovering(pod: Pod, back: Mapping[str, datetime]) -> bool:
    """Whether a pod was there before its node came back, and is not ready again yet."""
    until = back.get(pod.node)
    if until is None or pod.is_ready or pod.created is None:
        return False
    return pod.created < until - _RECOVERS


def _back(view: View) -> dict[str, datetime]:
    """Return nodes that have been Ready for a moment only, with the moment when that is over."""
    return {
        node.name: node.ready_since + _RECOVERS
        for node in view.nodes
        if node.is_ready
        and node.ready_since is not None
        and node.ready_since + _RECOVERS > view.now
    }


def _unavailable(view: View, standing: _Standing) -> int:
    """Return how many nodes are without an available pod, and not as they were bad before."""
    moving = standing.fresh | standing.going
    return sum(
        1
        for node, state in view.judgement.states.items()
        if (node not in standing.available or state is NodeState.BAD_NODE)
        and state is not NodeState.LEAVING
        and (state is not NodeState.BAD_BEFORE or node in moving)
        and node not in standing.gone
    )


def _down(view: View, standing: _Standing) -> int:
    """Return how many nodes nobody serves: `_unavailable`, whatever minReadySeconds says."""
    return _unavailable(view, replace(standing, available=standing.serving))


def _replaced(view: View, standing: _Standing) -> int:
    """Return on how many nodes a pod was replaced and none is available again."""
    count = 0
    for node, state in view.judgement.states.items():
        if node in standing.available or state is NodeState.LEAVING:
            continue
        if node in standing.broken or node in standing.gone:
            continue
        spared = state is NodeState.BAD_BEFORE
        if not spared or node in standing.fresh or node in standing.going:
            count += 1
    return count


def _bake_end(pod: Pod, view: View) -> datetime | None:
    """Return when this canary pod will have been available for the canary's bake time."""
    ready = pod.conditions.get("Ready")
    if ready is None or ready.since is None:
        return None
    return ready.since + timedelta(seconds=view.min_ready_seconds) + view.policy.canary_bake
