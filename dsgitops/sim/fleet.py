"""The pods of one DaemonSet, node by node: what the controller counts, kept up to date.

The real controller counts all nodes anew in every sync.  Here only nodes where something changed
are looked at again; the sums are the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Literal, NamedTuple

from dsgitops.sim.objects import (
    Object,
    condition_of,
    dig,
    is_finished,
    is_ready,
    is_terminating,
    labels_of,
    name_of,
    uid_of,
)
from dsgitops.sim.placement import Belongs, belongs, tolerations_of
from dsgitops.sim.revisions import GENERATION_LABEL, HASH_LABEL

if TYPE_CHECKING:
    from collections.abc import Mapping

Part = Literal["fine", "blocked", "replace", "candidate", "drop"]
"""What a rolling update makes of a node: nothing to do; counts as unavailable (surging); its old
pod is not available and goes at once; its old pod may go; its old pod has served (surge)."""


class Tally(NamedTuple):
    """What one node adds to the status, or the sum over all."""

    desired: int = 0
    current: int = 0
    ready: int = 0
    available: int = 0
    updated: int = 0
    misscheduled: int = 0


class Terms(NamedTuple):
    """What the counts depend on besides pods and nodes."""

    hash: str
    generation: str
    """Of the template, as a new pod's label `pod-template-generation` has it."""
    min_ready_seconds: int
    surges: bool


_NOTHING = Tally()


@dataclass(slots=True)
class _Assessed:
    tally: Tally = _NOTHING
    part: Part = "fine"


@dataclass(slots=True)
class Fleet:
    """One DaemonSet's pods by node, and the sums over them."""

    sums: list[int] = field(default_factory=lambda: [0] * len(Tally()))
    parts: dict[Part, dict[str, None]] = field(
        default_factory=lambda: {
            "fine": {},
            "blocked": {},
            "replace": {},
            "candidate": {},
            "drop": {},
        }
    )
    attention: dict[str, None] = field(default_factory=dict[str, None])
    """Nodes where a pod is missing or one must go."""
    _pods: dict[str, dict[str, Object]] = field(default_factory=dict[str, dict[str, Object]])
    _nodes: dict[str, str] = field(default_factory=dict[str, str])
    """Where each pod is, by uid."""
    _assessed: dict[str, _Assessed] = field(default_factory=dict[str, _Assessed])
    _belongs: dict[str, Belongs] = field(default_factory=dict[str, Belongs])
    _unsettled: dict[str, None] = field(default_factory=dict[str, None])
    """Nodes whose answer will change by time alone: ready, but not for long enough."""
    _dirty: dict[str, None] = field(default_factory=dict[str, None])
    _terms: Terms | None = None
    _template: Object | None = None
    _tolerations: list[Object] = field(default_factory=list[Object])

    # ------------------------------------------------------------------ what is there

    def pod_changed(self, pod: Object, node: str) -> None:
        """Take a pod in as it is now.  A terminal one that is being deleted no longer counts."""
        if is_finished(pod) and is_terminating(pod):
            self.pod_gone(pod)
            return
        self._nodes[uid_of(pod)] = node
        self._pods.setdefault(node, {})[uid_of(pod)] = pod
        self._dirty[node] = None

    def pod_gone(self, pod: Object) -> None:
        """Take a pod out."""
        node = self._nodes.pop(uid_of(pod), None)
        if node is None:
            return
        self._pods[node].pop(uid_of(pod), None)
        if not self._pods[node]:
            del self._pods[node]
        self._dirty[node] = None

    def node_changed(self, node: str) -> None:
        """Look at a node anew: labels or taints changed, or it came or went."""
        self._belongs.pop(node, None)
        self._dirty[node] = None

    def pods_on(self, node: str) -> list[Object]:
        """Return the pods on or for a node, the oldest scheduled one first."""
        pods = list(self._pods.get(node, {}).values())
        if len(pods) > 1:
            pods.sort(key=_age)
        return pods

    def worn(self) -> set[str]:
        """Return the hashes that pods wear, terminating ones included."""
        return {
            labels_of(pod).get(HASH_LABEL, "")
            for pods in self._pods.values()
            for pod in pods.values()
        }

    def placement(self, node: Object) -> Belongs:
        """Return whether the live template's pods belong on a node, as it is now."""
        name = name_of(node)
        known = self._belongs.get(name)
        if known is None:
            template = self._template or {}
            known = self._belongs[name] = belongs(template, self._tolerations, node)
        return known

    def use_template(self, template: Object) -> None:
        """Take the live template: where its pods belong follows from it."""
        if self._template is not None and template.get("spec") is self._template.get("spec"):
            return
        self._template, self._tolerations = template, tolerations_of(template)
        self._belongs.clear()
        self._terms = None

    # ------------------------------------------------------------------ counting

    def count(self, nodes: Mapping[str, Object], terms: Terms, now: datetime) -> Tally:
        """Bring all sums up to date and return them."""
        if terms != self._terms:
            self._terms = terms
            self._dirty = dict.fromkeys([*nodes, *self._pods, *self._assessed])
        elif self._unsettled:
            self._dirty |= self._unsettled
        dirty, self._dirty = self._dirty, {}
        for name in dirty:
            self._assess(name, nodes.get(name), terms, now)
        return Tally(*self.sums)

    def _assess(self, name: str, node: Object | None, terms: Terms, now: datetime) -> None:
        place = self.placement(node) if node is not None else None
        pods = self.pods_on(name)
        self._unsettled.pop(name, None)
        tally = self._tally(pods, place, terms, now)
        part: Part = "fine"
        if pods or (place is not None and place.runs):
            part = (
                self._surge_part(pods, terms, now) if terms.surges else self._part(pods, terms, now)
            )
        if terms.min_ready_seconds and any(_is_young(it, terms, now) for it in pods):
            self._unsettled[name] = None
        self._put(name, tally, part)
        if _wants_attention(pods, place, surges=terms.surges):
            self.attention[name] = None
        else:
            self.attention.pop(name, None)

    def _put(self, name: str, tally: Tally, part: Part) -> None:
        before = self._assessed.setdefault(name, _Assessed())
        for number, (old, new) in enumerate(zip(before.tally, tally, strict=True)):
            self.sums[number] += new - old
        if part != before.part or name not in self.parts[part]:
            self.parts[before.part].pop(name, None)
            self.parts[part][name] = None
        before.tally, before.part = tally, part

    def _tally(
        self, pods: list[Object], place: Belongs | None, terms: Terms, now: datetime
    ) -> Tally:
        if place is None:
            return Tally()
        if not place.runs:
            return Tally(misscheduled=1 if pods else 0)
        if not pods:
            return Tally(desired=1)
        oldest = pods[0]
        return Tally(
            desired=1,
            current=1,
            ready=int(is_ready(oldest)),
            available=int(is_available(oldest, terms.min_ready_seconds, now)),
            updated=int(is_updated(oldest, terms)),
        )

    def _part(self, pods: list[Object], terms: Terms, now: datetime) -> Part:
        new, old, sound = by_revision(pods, terms)
        if not sound or (new is None) == (old is None):
            return "blocked"
        if new is not None:
            return "fine" if is_available(new, terms.min_ready_seconds, now) else "blocked"
        assert old is not None
        return "candidate" if is_available(old, terms.min_ready_seconds, now) else "replace"

    def _surge_part(self, pods: list[Object], terms: Terms, now: datetime) -> Part:
        new, old, sound = by_revision(pods, terms)
        if not sound:
            return "blocked"
        if old is None:
            return "fine"
        if new is None:
            return "candidate" if is_available(old, terms.min_ready_seconds, now) else "replace"
        return "drop" if is_available(new, terms.min_ready_seconds, now) else "blocked"


def is_updated(pod: Object, terms: Terms) -> bool:
    """Whether the controller takes a pod for one of the newest template.

    A pod that an earlier DaemonSet of the name left behind as an orphan is taken for one if only
    the generations are equal, whatever it runs.
    """
    labels = labels_of(pod)
    return labels.get(HASH_LABEL) == terms.hash or labels.get(GENERATION_LABEL) == terms.generation


def by_revision(pods: list[Object], terms: Terms) -> tuple[Object | None, Object | None, bool]:
    """Return (updated, old, whether there is at most one of each) of the pods that stay."""
    new: Object | None = None
    old: Object | None = None
    for pod in pods:
        if is_terminating(pod):
            continue
        if is_updated(pod, terms):
            if new is not None:
                return None, None, False
            new = pod
        else:
            if old is not None:
                return None, None, False
            old = pod
    return new, old, True


def is_available(pod: Object, min_ready_seconds: int, now: datetime) -> bool:
    """Whether a pod has been Ready for so long, as the controllers count: whole seconds."""
    if not is_ready(pod):
        return False
    if min_ready_seconds == 0:
        return True
    since = _ready_since(pod)
    return since is not None and (now - since).total_seconds() >= min_ready_seconds


def _ready_since(pod: Object) -> datetime | None:
    stamp = dig(condition_of(pod, "Ready"), "lastTransitionTime")
    return datetime.fromisoformat(stamp) if stamp else None


def _is_young(pod: Object, terms: Terms, now: datetime) -> bool:
    return is_ready(pod) and not is_available(pod, terms.min_ready_seconds, now)


def _age(pod: Object) -> tuple[bool, str, str]:
    metadata = pod["metadata"]
    unscheduled = not pod["spec"].get("nodeName")
    return unscheduled, str(metadata.get("creationTimestamp")), str(metadata["name"])


def _wants_attention(pods: list[Object], place: Belongs | None, *, surges: bool) -> bool:
    if place is None:
        return any(not pod["spec"].get("nodeName") for pod in pods)
    if not pods:
        return place.runs
    staying = [pod for pod in pods if not is_terminating(pod)]
    if not place.keeps:
        return bool(staying)
    if len(staying) > 1 or any(is_finished(pod) for pod in staying):
        return True
    return surges and place.runs and not staying
