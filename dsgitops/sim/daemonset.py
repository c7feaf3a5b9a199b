"""The DaemonSet controller: kubernetes/pkg/controller/daemon, as read and as observed.

One sync is: history, expectations, manage, rolling update, cleanup, status.  Its view comes with a
little delay, as an informer's does, and is never newer than what it was told.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING, Any

from dsgitops.sim.collector import delete_pod
from dsgitops.sim.fields import status_stamped
from dsgitops.sim.fleet import Fleet, Tally, Terms, is_available, is_updated
from dsgitops.sim.mould import pod_of, template_generation
from dsgitops.sim.objects import (
    Object,
    controller_of,
    dig,
    each,
    is_ready,
    is_terminating,
    labels_of,
    name_of,
    namespace_of,
    node_of,
    owned_by,
    selects,
    uid_of,
    with_metadata,
)
from dsgitops.sim.placement import pinned
from dsgitops.sim.recorder import Recorder
from dsgitops.sim.revisions import Collision, Constructed, History

if TYPE_CHECKING:
    from dsgitops.sim.site import Site

MANAGER = "kube-controller-manager"
"""The field manager of what the controller writes."""
BURST = 250
"""Creations, and deletions, of one sync."""
LAG = (0.002, 0.008)
"""Seconds until the controller knows of a change."""
RETRY_FIRST = 0.005
RETRY_MAX = 1000.0
"""Seconds between two tries of a sync that failed: doubling."""
FAILED_PODS_FIRST = 1.0
FAILED_PODS_MAX = 900.0
"""Seconds before a failed pod of the same node is deleted again: doubling."""
EXPECTATIONS_EXPIRE = 300.0
Key = tuple[str, str]
"""Namespace and name."""


@dataclass(slots=True)
class _Expected:
    """Creations and deletions that the controller has not seen come true yet."""

    creations: int = 0
    deletions: set[str] = field(default_factory=set[str])
    since: float = 0.0

    def met(self, now: float) -> bool:
        return (self.creations <= 0 and not self.deletions) or (
            now - self.since > EXPECTATIONS_EXPIRE
        )


@dataclass(slots=True)
class _Kept:
    """What the controller keeps of one DaemonSet."""

    object: Object
    fleet: Fleet = field(default_factory=Fleet)
    expected: _Expected = field(default_factory=_Expected)
    failures: int = 0
    due: float | None = None
    """When it is looked at again although nothing happens."""
    woken: bool = False
    """Whether this sync is such a look."""
    strays: dict[str, Object] = field(default_factory=dict[str, Object])
    """Pods of ours, by uid, whose labels no longer match."""
    mould: tuple[Object, str, Object] | None = None
    """Template, hash and the pod made of them, but for the node."""


class DaemonSetController:
    """Keeps the pods of all DaemonSets.

    Args:
        site: Store, time and chance.
    """

    name = "daemonset-controller"

    def __init__(self, site: Site) -> None:
        self._site = site
        self.counts_replaced = True
        """False counts as before kubernetes PR 123233: old pods that are not available are deleted
        without taking budget."""
        self._recorder = Recorder(site.store, site.clock, self.name)
        self.history = History(site)
        self._kept: dict[Key, _Kept] = {}
        self._by_uid: dict[str, Key] = {}
        self._nodes: dict[str, Object] = {}
        self._orphans: dict[str, dict[str, Object]] = {}
        """Pods without a controller, by namespace and uid."""
        self._inbox: list[tuple[str, str, Object]] = []
        self._queue: dict[Key, None] = {}
        self._failed_pods: dict[tuple[str, int, str], tuple[float, float]] = {}
        """By uid, generation and node: (when last deleted, back-off)."""

    # ------------------------------------------------------------------ notices

    def changed(self, kind: str, resource: str, item: Object) -> None:
        """Take note of a change; it is known a few milliseconds later."""
        if not self._inbox:
            self._site.after(self._site.between(*LAG), self._drain, self.name)
        self._inbox.append((kind, resource, item))

    def resync(self) -> None:
        """Look at every DaemonSet anew, as after a restart of the controller."""
        self._queue |= dict.fromkeys(self._kept)
        self._run()

    @property
    def is_behind(self) -> bool:
        """Whether there are changes that it has not heard of yet."""
        return bool(self._inbox)

    def tally(self, namespace: str, name: str) -> Tally:
        """Return its own counts of a DaemonSet, as of its last sync.

        Raises:
            KeyError: It knows none of that name.
        """
        return Tally(*self._kept[namespace, name].fleet.sums)

    def _drain(self) -> None:
        inbox, self._inbox = self._inbox, []
        for kind, resource, item in inbox:
            if resource == "pods":
                self._take_pod(kind, item)
            elif resource == "nodes":
                self._take_node(kind, item)
            else:
                self._take_daemonset(kind, item)
        self._run()

    def _take_daemonset(self, kind: str, daemonset: Object) -> None:
        key = (namespace_of(daemonset), name_of(daemonset))
        kept = self._kept.get(key)
        if kind == "DELETED" or (kept and uid_of(kept.object) != uid_of(daemonset)):
            self._forget(key)
            kept = None
        if kind == "DELETED":
            return
        if kept is None:
            self._kept[key] = _Kept(daemonset)
            self._by_uid[uid_of(daemonset)] = key
        else:
            kept.object = daemonset
        self._queue[key] = None

    def _forget(self, key: Key) -> None:
        kept = self._kept.pop(key, None)
        if kept is None:
            return
        uid = uid_of(kept.object)
        self._by_uid.pop(uid, None)
        self.history.forget(uid)
        self._recorder.forget(uid)

    def _take_pod(self, kind: str, pod: Object) -> None:
        uid = uid_of(pod)
        orphans = self._orphans.setdefault(namespace_of(pod), {})
        orphans.pop(uid, None)
        owner = controller_of(pod)
        key = self._by_uid.get(owner["uid"]) if owner else None
        if owner is None:
            self._let_go(pod)
            if kind != "DELETED" and not is_terminating(pod):
                orphans[uid] = pod
                self._queue |= dict.fromkeys(it for it in self._kept if it[0] == namespace_of(pod))
        elif key is not None:
            self._take_own_pod(kind, pod, key)

    def _let_go(self, pod: Object) -> None:
        """Take a pod out of the books of whoever had it."""
        for key, kept in self._kept.items():
            if key[0] == namespace_of(pod):
                kept.fleet.pod_gone(pod)

    def _take_own_pod(self, kind: str, pod: Object, key: Key) -> None:
        kept = self._kept[key]
        uid = uid_of(pod)
        if kind == "ADDED":
            kept.expected.creations -= 1
        if kind == "DELETED" or is_terminating(pod):
            kept.expected.deletions.discard(uid)
        if kind == "DELETED":
            kept.fleet.pod_gone(pod)
            kept.strays.pop(uid, None)
        else:
            self._watch_readiness(kept, key, pod)
            kept.fleet.pod_changed(pod, node_of(pod))
            if not selects(kept.object["spec"].get("selector") or {}, labels_of(pod)):
                kept.strays[uid] = pod
        self._queue[key] = None

    def _watch_readiness(self, kept: _Kept, key: Key, pod: Object) -> None:
        seconds = int(kept.object["spec"].get("minReadySeconds") or 0)
        if not seconds or not is_ready(pod):
            return
        before = [it for it in kept.fleet.pods_on(node_of(pod)) if uid_of(it) == uid_of(pod)]
        if before and not is_ready(before[0]):
            self._again_after(key, seconds)

    def _take_node(self, kind: str, node: Object) -> None:
        name = name_of(node)
        before = self._nodes.get(name)
        if kind == "DELETED":
            self._nodes.pop(name, None)
            for kept in self._kept.values():
                kept.fleet.node_changed(name)
            return
        self._nodes[name] = node
        if before is not None and _sort_of(before) == _sort_of(node):
            return
        for key, kept in self._kept.items():
            kept.fleet.node_changed(name)
            # A pod to make or to take away is a reason to sync, and one that may stand where it
            # should not have (since 1.36); another count that changed is none.
            place = kept.fleet.placement(node)
            pods = kept.fleet.pods_on(name)
            misplaced = dig(kept.object, "status", "numberMisscheduled", default=0)
            if (place.runs and not pods) or (pods and (misplaced or not place.keeps)):
                self._queue[key] = None

    # ------------------------------------------------------------------ the queue

    def _run(self) -> None:
        queue, self._queue = self._queue, {}
        for key in queue:
            if key in self._kept:
                self._sync(key, self._kept[key])

    def _again_after(self, key: Key, delay: float) -> None:
        """Look again later; of two such wishes the earlier one stays (a delaying work queue)."""
        kept = self._kept[key]
        at = self._site.clock.seconds + delay
        if kept.due is not None and kept.due <= at:
            return
        kept.due = at
        self._site.after(delay, lambda: self._is_due(key, kept, at), self.name)

    def _is_due(self, key: Key, kept: _Kept, at: float) -> None:
        if kept.due == at and self._kept.get(key) is kept:
            kept.due = None
            kept.woken = True
            self._queue[key] = None
            self._run()
            kept.woken = False

    def _sync(self, key: Key, kept: _Kept) -> None:
        daemonset = kept.object
        if is_terminating(daemonset):
            return
        try:
            history = self.history.construct(daemonset)
        except Collision:
            self._count_collision(key, kept)
            return
        kept.fleet.use_template(daemonset["spec"]["template"])
        self._claim(kept)
        terms = _terms(daemonset, history.hash)
        if not kept.expected.met(self._site.clock.seconds):
            self._write_status(key, kept, terms, observed=False)
            return
        done = self._update(key, kept, history, terms)
        self._write_status(key, kept, terms, observed=True)
        if done:
            kept.failures = 0
        else:
            kept.failures += 1
            delay = min(RETRY_FIRST * 2 ** (kept.failures - 1), RETRY_MAX)
            self._again_after(key, delay)

    def _update(self, key: Key, kept: _Kept, history: Constructed, terms: Terms) -> bool:
        """Manage, roll and clean up; return whether everything asked for was done."""
        now = self._site.clock.now()
        kept.fleet.count(self._nodes, terms, now)
        if not self._manage(key, kept, history, terms):
            return False
        done = True
        if _rolls(kept.object) and kept.expected.met(self._site.clock.seconds):
            done = self._roll(kept, history, terms)
        self.history.clean(kept.object, history.old, _Worn(kept.fleet))
        return done

    def _count_collision(self, key: Key, kept: _Kept) -> None:
        found = self._site.store.get("daemonsets", *key)
        if found is not None:
            status = dict(found.get("status") or {})
            status["collisionCount"] = int(status.get("collisionCount", 0)) + 1
            self._site.store.update("daemonsets", self._stamped(found, status))
        kept.failures += 1
        self._again_after(key, RETRY_FIRST * 2**kept.failures)

    # ------------------------------------------------------------------ claiming

    def _claim(self, kept: _Kept) -> None:
        daemonset = kept.object
        for uid, pod in list(self._orphans.get(namespace_of(daemonset), {}).items()):
            if selects(daemonset["spec"].get("selector") or {}, labels_of(pod)):
                self._orphans[namespace_of(daemonset)].pop(uid)
                reference = owned_by(daemonset, "DaemonSet", "apps/v1")
                kept.fleet.pod_changed(self._own(pod, [reference]), node_of(pod))
        for pod in list(kept.strays.values()):
            kept.fleet.pod_gone(pod)
            self._own(pod, [])
        kept.strays.clear()

    def _own(self, pod: Object, owners: list[Object]) -> Object:
        found = self._site.store.get("pods", namespace_of(pod), name_of(pod))
        if found is None or uid_of(found) != uid_of(pod):
            return pod
        others = [it for it in each(found, "metadata", "ownerReferences") if not it["controller"]]
        owned = with_metadata(found, ownerReferences=[*others, *owners] or None)
        return self._site.store.update("pods", owned)

    # ------------------------------------------------------------------ manage

    def _manage(self, key: Key, kept: _Kept, history: Constructed, terms: Terms) -> bool:
        missing: list[str] = []
        surplus: list[Object] = []
        for name in list(kept.fleet.attention):
            node, pods = self._nodes.get(name), kept.fleet.pods_on(name)
            if node is None:
                surplus += [it for it in pods if not it["spec"].get("nodeName")]
                continue
            place = kept.fleet.placement(node)
            if place.runs and not pods:
                missing.append(name)
            elif place.keeps:
                self._tend(key, kept, terms, name, (missing, surplus))
            else:
                surplus += [it for it in pods if not is_terminating(it)]
        return self._carry_out(kept, history, missing, surplus)

    def _tend(
        self,
        key: Key,
        kept: _Kept,
        terms: Terms,
        name: str,
        plan: tuple[list[str], list[Object]],
    ) -> None:
        """Decide about the pods of one node that may stay."""
        missing, surplus = plan
        running: list[Object] = []
        for pod in kept.fleet.pods_on(name):
            if is_terminating(pod):
                continue
            phase = dig(pod, "status", "phase")
            if phase == "Failed":
                if self._may_kill(key, kept, name, pod):
                    surplus.append(pod)
            elif phase == "Succeeded":
                self._tell_ended(kept, "SucceededDaemonPod", "succeeded", pod, "delete")
                surplus.append(pod)
            else:
                running.append(pod)
        if not terms.surges:
            surplus += running[1:]
        elif running:
            surplus += self._doubles(running, terms)
        elif kept.fleet.placement(self._nodes[name]).runs:
            missing.append(name)

    def _doubles(self, running: list[Object], terms: Terms) -> list[Object]:
        """Return what must go of the pods of a node under surge: at most one old and one new."""
        if len(running) <= 1:
            return []
        new = [it for it in running if is_updated(it, terms)]
        old = [it for it in running if not is_updated(it, terms)]
        surplus = new[1:] + old[1:]
        if new and old:
            served = is_available(new[0], terms.min_ready_seconds, self._site.clock.now())
            if not is_ready(old[0]) or served:
                surplus.append(old[0])
        return surplus

    def _may_kill(self, key: Key, kept: _Kept, node: str, pod: Object) -> bool:
        """Whether the back-off lets a failed pod be deleted now; else look again when it does."""
        now = self._site.clock.seconds
        generation = int(dig(kept.object, "status", "observedGeneration", default=0))
        backoff_key = (uid_of(kept.object), generation, node)
        last, backoff = self._failed_pods.get(backoff_key, (float("-inf"), 0.0))
        if now - last > 2 * FAILED_PODS_MAX:
            backoff = 0.0
        if backoff and now - last < backoff:
            self._again_after(key, backoff)
            return False
        longer = min(backoff * 2, FAILED_PODS_MAX) if backoff else FAILED_PODS_FIRST
        self._failed_pods[backoff_key] = (now, longer)
        self._tell_ended(kept, "FailedDaemonPod", "failed", pod, "kill")
        return True

    def _tell_ended(self, kept: _Kept, reason: str, how: str, pod: Object, verb: str) -> None:
        where = f"{namespace_of(pod)}/{name_of(pod)} on node {node_of(pod)}"
        message = f"Found {how} daemon pod {where}, will try to {verb} it"
        kind = "Warning" if how == "failed" else "Normal"
        self._recorder.say(kept.object, kind, reason, message)

    # ------------------------------------------------------------------ rolling update

    def _roll(self, kept: _Kept, history: Constructed, terms: Terms) -> bool:
        desired = kept.fleet.count(self._nodes, terms, self._site.clock.now()).desired
        unavailable, surge = _budget(kept.object, desired)
        if terms.surges:
            return self._surge(kept, history, surge)
        parts = kept.fleet.parts
        replaced = list(parts["replace"])
        counted = len(parts["blocked"]) + (len(replaced) if self.counts_replaced else 0)
        chosen = self._choose(parts["candidate"], unavailable - counted)
        going = [self._old_pod(kept, node, terms) for node in (*replaced, *chosen)]
        return self._carry_out(kept, history, [], [it for it in going if it is not None])

    def _surge(self, kept: _Kept, history: Constructed, surge: int) -> bool:
        parts = kept.fleet.parts
        chosen = self._choose(parts["candidate"], surge - len(parts["blocked"]))
        terms = _terms(kept.object, history.hash)
        served = [self._old_pod(kept, node, terms) for node in parts["drop"]]
        going = [it for it in served if it is not None]
        missing = [it for it in (*parts["replace"], *chosen) if self._may_run(kept, it)]
        return self._carry_out(kept, history, missing, going)

    def _may_run(self, kept: _Kept, name: str) -> bool:
        node = self._nodes.get(name)
        return node is not None and kept.fleet.placement(node).runs

    def _choose(self, candidates: dict[str, None], room: int) -> list[str]:
        """Pick nodes at random: Go's maps have no order."""
        if room <= 0 or not candidates:
            return []
        names = list(candidates)
        return self._site.random.sample(names, min(room, len(names)))

    def _old_pod(self, kept: _Kept, node: str, terms: Terms) -> Object | None:
        for pod in kept.fleet.pods_on(node):
            if not is_terminating(pod) and not is_updated(pod, terms):
                return pod
        return None

    # ------------------------------------------------------------------ pods

    def _carry_out(
        self, kept: _Kept, history: Constructed, missing: list[str], surplus: list[Object]
    ) -> bool:
        """Create and delete pods, at most a burst of each; return whether no creation failed."""
        missing, surplus = missing[:BURST], surplus[:BURST]
        if not missing and not surplus:
            return True
        kept.expected = _Expected(
            creations=len(missing),
            deletions={uid_of(it) for it in surplus},
            since=self._site.clock.seconds,
        )
        for pod in surplus:
            delete_pod(self._site, pod)
            message = f"Deleted pod: {name_of(pod)}"
            self._recorder.say(kept.object, "Normal", "SuccessfulDelete", message)
        return self._create(kept, history, missing)

    def _create(self, kept: _Kept, history: Constructed, missing: list[str]) -> bool:
        """Create in batches of 1, 2, 4, …; the first batch with a failure is the last."""
        size, done = 1, 0
        while done < len(missing):
            batch = missing[done : done + size]
            failed = sum(not self._create_pod(kept, history, node) for node in batch)
            done += len(batch)
            if failed:
                kept.expected.creations -= failed + len(missing) - done
                return False
            size *= 2
        return True

    def _create_pod(self, kept: _Kept, history: Constructed, node: str) -> bool:
        mould = self._mould(kept, history)
        spec = {**mould["spec"], "affinity": pinned(mould["spec"], node)}
        pod = {**mould, "spec": spec}
        named = with_metadata(pod, name=self._name(kept, namespace_of(pod)))
        admitted, why = self._site.admit(named)
        if why:
            self._recorder.say(kept.object, "Warning", "FailedCreate", f"Error creating: {why}")
            return False
        made = self._site.store.create("pods", admitted)
        message = f"Created pod: {name_of(made)}"
        self._recorder.say(kept.object, "Normal", "SuccessfulCreate", message)
        return True

    def _name(self, kept: _Kept, namespace: str) -> str:
        base = name_of(kept.object)[:57] + "-"
        while True:
            name = base + "".join(self._site.random.choices("bcdfghjklmnpqrstvwxz2456789", k=5))
            if self._site.store.get("pods", namespace, name) is None:
                return name

    def _mould(self, kept: _Kept, history: Constructed) -> Object:
        """Return a pod of the live template, all but name and node."""
        template: Object = kept.object["spec"]["template"]
        if kept.mould is not None and kept.mould[0] is template and kept.mould[1] == history.hash:
            return kept.mould[2]
        token = "".join(self._site.random.choices("bcdfghjklmnpqrstvwxz2456789", k=5))
        pod = pod_of(kept.object, history.hash, f"kube-api-access-{token}")
        kept.mould = (template, history.hash, pod)
        return pod

    # ------------------------------------------------------------------ status

    def _stamped(self, found: Object, status: Object) -> Object:
        return status_stamped(found, status, MANAGER, self._site.clock.stamp())

    def _write_status(self, key: Key, kept: _Kept, terms: Terms, *, observed: bool) -> None:
        tally = kept.fleet.count(self._nodes, terms, self._site.clock.now())
        found = self._site.store.get("daemonsets", *key)
        if found is None or uid_of(found) != uid_of(kept.object):
            return
        before: Object = found.get("status") or {}
        generation = int(before.get("observedGeneration", 0))
        if observed:
            generation = int(kept.object["metadata"].get("generation", 1))
        status = _status(tally, generation, before)
        if status != before:
            self._site.store.update("daemonsets", self._stamped(found, status))
        if terms.min_ready_seconds and tally.ready != tally.available:
            self._await_availability(key, kept, tally, terms.min_ready_seconds)

    def _await_availability(self, key: Key, kept: _Kept, tally: Tally, seconds: int) -> None:
        """Look again a whole minReadySeconds later, however soon a pod may be available.

        So the status lags, as in recording 41: pods available after 30 s were counted after 60.
        """
        if kept.woken or tally.updated == tally.ready == tally.desired:
            self._again_after(key, seconds)


class _Worn:
    """The hashes that pods wear, looked up only if a revision is about to go."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._found: set[str] | None = None

    def __contains__(self, digest: object) -> bool:
        if self._found is None:
            self._found = self._fleet.worn()
        return digest in self._found


def _sort_of(node: Object) -> tuple[Any, Any]:
    return labels_of(node), each(node, "spec", "taints")


def _terms(daemonset: Object, digest: str) -> Terms:
    spec = daemonset["spec"]
    surge = dig(spec, "updateStrategy", "rollingUpdate", "maxSurge", default=0)
    return Terms(
        hash=digest,
        generation=template_generation(daemonset),
        min_ready_seconds=int(spec.get("minReadySeconds") or 0),
        surges=_rolls(daemonset) and surge not in (0, "0", "0%"),
    )


def _rolls(daemonset: Object) -> bool:
    kind = dig(daemonset, "spec", "updateStrategy", "type", default="RollingUpdate")
    return bool(kind == "RollingUpdate")


def _budget(daemonset: Object, desired: int) -> tuple[int, int]:
    """Return (maxUnavailable, maxSurge) in nodes; percentages round up."""
    rolling: Object = dig(daemonset, "spec", "updateStrategy", "rollingUpdate", default={})
    unavailable = scaled(rolling.get("maxUnavailable", 1), desired)
    surge = scaled(rolling.get("maxSurge", 0), desired)
    if desired > 0 and unavailable == 0 and surge == 0:
        return 1, 0
    return unavailable, surge


def scaled(value: int | str, total: int) -> int:
    """Return a count, or a percentage of `total` rounded up."""
    if isinstance(value, int):
        return value
    return ceil(int(value.rstrip("%")) * total / 100)


def _status(tally: Tally, generation: int, before: Object) -> Object:
    status: Object = {
        "currentNumberScheduled": tally.current,
        "numberMisscheduled": tally.misscheduled,
        "desiredNumberScheduled": tally.desired,
        "numberReady": tally.ready,
    }
    optional = {
        "observedGeneration": generation,
        "updatedNumberScheduled": tally.updated,
        "numberAvailable": tally.available,
        "numberUnavailable": tally.desired - tally.available,
        "collisionCount": before.get("collisionCount", 0),
    }
    return status | {name: value for name, value in optional.items() if value}
