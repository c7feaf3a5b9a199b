"""Which pods are bound to which node: kept from changes, so that nobody has to scan."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dsgitops.sim.objects import Object, name_of, namespace_of, uid_of

if TYPE_CHECKING:
    from dsgitops.sim.store import Store


class Roster:
    """Bound pods by node."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._keys: dict[str, dict[str, tuple[str, str]]] = {}

    def pod_changed(self, pod: Object) -> None:
        """Take note of a pod."""
        node = pod["spec"].get("nodeName")
        if node:
            self._keys.setdefault(node, {})[uid_of(pod)] = (namespace_of(pod), name_of(pod))

    def pod_gone(self, pod: Object) -> None:
        """Take note of a pod that is no more."""
        self._keys.get(pod["spec"].get("nodeName") or "", {}).pop(uid_of(pod), None)

    def on(self, node: str) -> list[Object]:
        """Return the pods bound to a node, in order of binding."""
        found = [self._store.get("pods", *key) for key in self._keys.get(node, {}).values()]
        return [pod for pod in found if pod is not None]
