"""Which nodes should run a DaemonSet's pods: the controller's own rules (`daemonsets.md` 1.3).

One difference: taints that only say "not ready" or "unreachable" take no node out.  The controller
drops such a node from its counts, and its pod stays: for us it is a node in trouble, not one that
the DaemonSet left.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dsgitops.core.model import Node, Taint

_LIFECYCLE = "node.kubernetes.io/"
_NOT_REPORTING = frozenset({_LIFECYCLE + "not-ready", _LIFECYCLE + "unreachable"})
_ALWAYS_TOLERATED = frozenset(
    {(key, "NoExecute") for key in _NOT_REPORTING}
    | {
        (_LIFECYCLE + key, "NoSchedule")
        for key in ("disk-pressure", "memory-pressure", "pid-pressure", "unschedulable")
    }
)
_NETWORK_UNAVAILABLE = (_LIFECYCLE + "network-unavailable", "NoSchedule")

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Eligible:
    """What a template asks of nodes, read once and asked for each."""

    node_name: str
    node_selector: tuple[tuple[str, str], ...]
    terms: tuple[Json, ...] | None
    """Required node affinity: any one must match; None: not asked."""
    tolerations: tuple[Json, ...]
    host_network: bool

    @classmethod
    def of(cls, template: Json) -> Eligible:
        """Read a pod template; shapes that the API would not accept ask for nothing."""
        spec = _mapping(template.get("spec"))
        affinity = _mapping(_mapping(spec.get("affinity")).get("nodeAffinity"))
        required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
        terms = _mappings(_mapping(required).get("nodeSelectorTerms"))
        return cls(
            node_name=str(spec.get("nodeName") or ""),
            node_selector=tuple(
                (str(key), str(value)) for key, value in _mapping(spec.get("nodeSelector")).items()
            ),
            terms=terms if required is not None else None,
            tolerations=_mappings(spec.get("tolerations")),
            host_network=spec.get("hostNetwork") is True,
        )

    def should_run(self, node: Node) -> bool:
        """Whether the controller makes a pod there (but for nodes that do not report)."""
        return self.selects(node) and not any(
            taint.effect in ("NoSchedule", "NoExecute")
            and taint.key not in _NOT_REPORTING
            and not self.tolerates(taint)
            for taint in node.taints
        )

    def should_stay(self, node: Node) -> bool:
        """Whether the controller leaves a pod there that exists."""
        return self.selects(node) and not any(
            taint.effect == "NoExecute" and not self.tolerates(taint) for taint in node.taints
        )

    def is_scheduled_now(self, node: Node) -> bool:
        """Whether a pod would be made this very moment: all taints count."""
        return self.should_run(node) and not any(
            taint.effect == "NoSchedule" and not self.tolerates(taint) for taint in node.taints
        )

    def selects(self, node: Node) -> bool:
        """Whether name, nodeSelector and required affinity fit; taints aside."""
        if self.node_name and self.node_name != node.name:
            return False
        labels = node.labels
        for key, value in self.node_selector:
            if labels.get(key) != value:
                return False
        return self.terms is None or any(_term_matches(term, node) for term in self.terms)

    def tolerates(self, taint: Taint) -> bool:
        """Whether a pod tolerates a taint, with what the controller adds by itself."""
        pair = (taint.key, taint.effect)
        if pair in _ALWAYS_TOLERATED or (self.host_network and pair == _NETWORK_UNAVAILABLE):
            return True
        return any(_tolerates(each, taint) for each in self.tolerations)


def _tolerates(toleration: Json, taint: Taint) -> bool:
    effect, key = toleration.get("effect"), toleration.get("key")
    if effect and effect != taint.effect:
        return False
    if key and key != taint.key:
        return False
    if toleration.get("operator") == "Exists":
        return True
    return bool(key) and (toleration.get("value") or "") == taint.value


def _term_matches(term: Json, node: Node) -> bool:
    """Whether all requirements hold; a term without any matches no node."""
    labels = _mappings(term.get("matchExpressions"))
    fields = _mappings(term.get("matchFields"))
    if not labels and not fields:
        return False
    return all(_holds(each, node.labels) for each in labels) and all(
        _holds(each, {"metadata.name": node.name}) for each in fields
    )


def _holds(requirement: Json, labels: Mapping[str, str]) -> bool:
    key = str(requirement.get("key") or "")
    given = requirement.get("values")
    values = [str(each) for each in given] if isinstance(given, list | tuple) else []
    value = labels.get(key)
    match requirement.get("operator"):
        case "In":
            return value is not None and value in values
        case "NotIn":
            return value is None or value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt" as operator:
            return _compares(value, values, greater=operator == "Gt")
        case _:
            return False  # the controller takes what it cannot read as no match


def _compares(value: str | None, values: Sequence[str], *, greater: bool) -> bool:
    try:
        left, right = int(value or ""), int(values[0])
    except (ValueError, IndexError):
        return False
    return left > right if greater else left < right


def _mapping(given: object) -> Json:
    return given if isinstance(given, Mapping) else {}


def _mappings(given: object) -> tuple[Json, ...]:
    items: Iterable[object] = given if isinstance(given, list | tuple) else ()
    return tuple(each for each in items if isinstance(each, Mapping))
