"""Delete and evict: preconditions, grace, finalizers."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from dsgitops.sim import answers, bodies
from dsgitops.sim.resources import NAMESPACES, PODS, served, stored
from dsgitops.sim.writes import Written

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from dsgitops.sim.resources import Resource, Route
    from dsgitops.sim.schema import Object
    from dsgitops.sim.store import Store


class Deleter:
    """Deletes objects as an API server does; what hangs on them is the collector's to take.

    Args:
        store: Where they are.
        now: The virtual clock.
    """

    def __init__(self, store: Store, now: Callable[[], datetime]) -> None:
        self._store = store
        self._now = now

    def delete(self, route: Route, options: Mapping[str, Any], *, dry_run: bool) -> Written:
        """Answer DELETE of one object.

        Args:
            route: What the path names.
            options: DeleteOptions, of the body and the query.
            dry_run: Change nothing.

        Raises:
            Refused: 404, or 409 of a precondition.
        """
        live = self._live(route)
        _check_preconditions(route.resource, live, options.get("preconditions") or {})
        if route.resource is PODS:
            return self._delete_pod(live, options, dry_run=dry_run)
        finalizers = _deletion_finalizers(live, options)
        if finalizers or live["metadata"].get("finalizers"):
            return self._delete_finally(route, live, finalizers, dry_run=dry_run)
        if not dry_run:
            self._gone(route, live)
        return Written(200, _deleted(route.resource, live))

    def _gone(self, route: Route, live: Object) -> None:
        if route.resource is not NAMESPACES:
            self._store.remove(route.resource.plural, route.namespace or "", route.name)
            return
        metadata = {**live["metadata"], "deletionTimestamp": self._stamp()}
        new = {**live, "metadata": metadata, "status": {"phase": "Terminating"}}
        self._store.update("namespaces", new)

    def _delete_finally(
        self, route: Route, live: Object, finalizers: list[str], *, dry_run: bool
    ) -> Written:
        metadata = dict(live["metadata"])
        if not metadata.get("deletionTimestamp"):
            metadata |= {"deletionTimestamp": self._stamp(), "deletionGracePeriodSeconds": 0}
            if metadata.get("generation"):
                metadata["generation"] += 1
        old = metadata.get("finalizers") or []
        metadata["finalizers"] = old + [each for each in finalizers if each not in old]
        new = {**live, "metadata": metadata}
        if not dry_run:
            saved = self._store.update(route.resource.plural, stored(route.resource, new))
            new = served(route.resource, saved)
        return Written(200, new)

    def _delete_pod(self, live: Object, options: Mapping[str, Any], *, dry_run: bool) -> Written:
        metadata = live["metadata"]
        grace = _grace(live, options)
        if grace == 0 and not metadata.get("finalizers"):
            if not dry_run:
                self._store.remove("pods", metadata["namespace"], metadata["name"])
            return Written(200, live)
        left = metadata.get("deletionGracePeriodSeconds")
        if metadata.get("deletionTimestamp") and left is not None and grace >= left:
            return Written(200, live)
        until = self._now() + timedelta(seconds=grace)
        stamped = {
            **metadata,
            "generation": metadata.get("generation", 1) + 1,
            "deletionTimestamp": until.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "deletionGracePeriodSeconds": grace,
        }
        new = {**live, "metadata": stamped}
        return Written(200, new if dry_run else self._store.update("pods", new))

    def evict(self, route: Route, body: bytes, *, dry_run: bool) -> Written:
        """Answer POST of an Eviction: a delete with a condition that says so.

        Raises:
            Refused: 404, or 409 of a precondition.
        """
        given = bodies.mapping(body)
        live = self._live(route)
        wanted = given.get("deleteOptions") or {}
        _check_preconditions(PODS, live, wanted.get("preconditions") or {})
        if not dry_run:
            condition = {
                "type": "DisruptionTarget",
                "status": "True",
                "lastProbeTime": None,
                "lastTransitionTime": self._stamp(),
                "reason": "EvictionByEvictionAPI",
                "message": "Eviction API: evicting",
            }
            status = dict(live.get("status") or {})
            others = [
                each for each in status.get("conditions") or [] if each["type"] != condition["type"]
            ]
            status["conditions"] = [*others, condition]
            live = self._store.update("pods", {**live, "status": status})
        self._delete_pod(live, wanted, dry_run=dry_run)
        return Written(201, answers.success(code=201))

    def _live(self, route: Route) -> Object:
        found = self._store.get(route.resource.plural, route.namespace or "", route.name)
        if found is None:
            raise answers.not_found(route.resource, route.name)
        return served(route.resource, found)

    def _stamp(self) -> str:
        return self._now().strftime("%Y-%m-%dT%H:%M:%SZ")


def _check_preconditions(resource: Resource, live: Object, wanted: Mapping[str, Any]) -> None:
    metadata = live["metadata"]
    uid, version = wanted.get("uid"), wanted.get("resourceVersion")
    if uid is not None and uid != metadata["uid"]:
        why = (
            f"the UID in the precondition ({uid}) does not match the UID in record "
            f"({metadata['uid']}). The object might have been deleted and then recreated"
        )
        raise answers.conflict(resource, metadata["name"], why, of_kind=True)
    if version is not None and version != metadata["resourceVersion"]:
        why = (
            f"the ResourceVersion in the precondition ({version}) does not match the "
            f"ResourceVersion in record ({metadata['resourceVersion']}). The object might have "
            "been modified"
        )
        raise answers.conflict(resource, metadata["name"], why, of_kind=True)


def _grace(live: Object, options: Mapping[str, Any]) -> int:
    """Return the seconds a pod has; none when it never ran or has ended."""
    spec, status = live.get("spec") or {}, live.get("status") or {}
    if not spec.get("nodeName") or status.get("phase") in ("Succeeded", "Failed"):
        return 0
    given = options.get("gracePeriodSeconds")
    wanted = spec.get("terminationGracePeriodSeconds", 30) if given is None else given
    return max(int(wanted), 0)


def _deletion_finalizers(live: Object, options: Mapping[str, Any]) -> list[str]:
    policy = options.get("propagationPolicy")
    if options.get("orphanDependents"):
        policy = "Orphan"
    if live["kind"] not in ("DaemonSet", "ControllerRevision", "Namespace"):
        return []
    return {"Orphan": ["orphan"], "Foreground": ["foregroundDeletion"]}.get(str(policy), [])


def _deleted(resource: Resource, live: Object) -> Object:
    if resource is NAMESPACES:
        return live
    details = {"name": live["metadata"]["name"]}
    if resource.group:
        details["group"] = resource.group
    details |= {"kind": resource.plural, "uid": live["metadata"]["uid"]}
    return answers.success(details)
