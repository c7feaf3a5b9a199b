"""Taking objects away: pods with grace, children of owners, orphans, old Events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dsgitops.sim.objects import (
    Object,
    dig,
    each,
    is_finished,
    is_terminating,
    name_of,
    namespace_of,
    uid_of,
    with_metadata,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dsgitops.sim.site import Site

EVENT_TTL = 3600.0
"""Seconds that an Event is kept after its last occurrence (`--event-ttl`)."""
SWEEP_EVERY = 300.0
FOREGROUND_EVERY = 0.2
"""Seconds between two looks at what an owner deleted in the foreground waits for."""
LOST_NODE_AFTER = 45.0
"""Seconds after which pods of a node that is no more are taken away."""
CHILDREN = ("pods", "controllerrevisions")
DEFAULT_GRACE = 30


def delete_pod(site: Site, pod: Object, *, grace: int | None = None) -> None:
    """Delete a pod as the API does: terminating for its grace period, where it has a kubelet.

    Args:
        site: Store and time.
        pod: As last seen; one that is gone or terminating already is left alone.
        grace: Seconds; None takes the pod's own.
    """
    key = (namespace_of(pod), name_of(pod))
    found = site.store.get("pods", *key)
    if found is None or uid_of(found) != uid_of(pod) or is_terminating(found):
        return
    if not found["spec"].get("nodeName"):
        site.store.remove("pods", *key)
        return
    own = found["spec"].get("terminationGracePeriodSeconds")
    seconds = grace if grace is not None else DEFAULT_GRACE if own is None else int(own)
    if is_finished(found):
        seconds = 0
    site.store.update("pods", _leaving(site, found, seconds))


def _leaving(site: Site, pod: Object, grace: int) -> Object:
    return with_metadata(
        pod,
        generation=pod["metadata"].get("generation", 1) + 1,
        deletionTimestamp=site.clock.stamp_at(site.clock.seconds + grace),
        deletionGracePeriodSeconds=grace,
    )


class Collector:
    """The garbage collector, for DaemonSets and what they own."""

    def __init__(self, site: Site) -> None:
        self._site = site
        site.after(SWEEP_EVERY, self._sweep_events)

    def owner_changed(self, owner: Object) -> None:
        """Carry out the finalizers of an owner that is being deleted."""
        finalizers: list[str] = dig(owner, "metadata", "finalizers", default=[])
        if not is_terminating(owner) or not finalizers:
            return
        key = (namespace_of(owner), name_of(owner))
        self._site.after(0.05, lambda: self._finalize(key, uid_of(owner)))

    def owner_gone(self, owner: Object) -> None:
        """Delete in the background what an owner leaves behind."""
        self._site.after(0.05, lambda: self._delete_children(owner))

    def node_gone(self, node: Object) -> None:
        """Take the pods of a node away that is no more."""
        self._site.after(LOST_NODE_AFTER, lambda: self._sweep_node(name_of(node)))

    def _finalize(self, key: tuple[str, str], uid: str) -> None:
        store = self._site.store
        owner = store.get("daemonsets", *key)
        if owner is None or uid_of(owner) != uid:
            return
        finalizers: list[str] = dig(owner, "metadata", "finalizers", default=[])
        if "orphan" in finalizers:
            for resource, child in self._children(owner):
                store.update(resource, _without_owner(child, uid))
        elif "foregroundDeletion" in finalizers:
            self._delete_children(owner)
            if any(resource == "pods" for resource, _ in self._children(owner)):
                self._site.after(FOREGROUND_EVERY, lambda: self._finalize(key, uid))
                return
        left = [it for it in finalizers if it not in ("orphan", "foregroundDeletion")]
        if left:
            store.update("daemonsets", with_metadata(owner, finalizers=left))
        else:
            store.remove("daemonsets", *key)

    def _children(self, owner: Object) -> Iterable[tuple[str, Object]]:
        uid = uid_of(owner)
        for resource in CHILDREN:
            for child in self._site.store.list(resource, namespace_of(owner)):
                references = each(child, "metadata", "ownerReferences")
                if any(it.get("uid") == uid for it in references):
                    yield resource, child

    def _delete_children(self, owner: Object) -> None:
        for resource, child in self._children(owner):
            if resource == "pods":
                delete_pod(self._site, child)
            else:
                self._site.store.remove(resource, namespace_of(child), name_of(child))

    def _sweep_node(self, node: str) -> None:
        store = self._site.store
        if store.get("nodes", "", node) is not None:
            return
        for pod in store.list("pods"):
            if pod["spec"].get("nodeName") == node:
                store.remove("pods", namespace_of(pod), name_of(pod))

    def _sweep_events(self) -> None:
        clock = self._site.clock
        clock.after(SWEEP_EVERY, self._sweep_events)
        if clock.seconds < EVENT_TTL:
            return
        oldest = clock.stamp_at(clock.seconds - EVENT_TTL)
        for event in self._site.store.list("events"):
            last = event.get("lastTimestamp") or event.get("eventTime") or oldest
            if str(last) < oldest:
                self._site.store.remove("events", namespace_of(event), name_of(event))


def _without_owner(child: Object, uid: str) -> Object:
    references = each(child, "metadata", "ownerReferences")
    left = [it for it in references if it.get("uid") != uid]
    return with_metadata(child, ownerReferences=left or None)
