"""The safety properties of `safety.md` 6.1, checked on the store at every write and every step.

S2 what is held is not written; S3 a rollback is exact and spares healthy pods; S4 a template is
written once; S11 good content never fails; S13 last good is never lost; S15 nobody is fought; S16
no more nodes are out by our hand than maxUnavailable.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from datetime import datetime, timedelta

from dsgitops.core import record as records
from dsgitops.core.model import FailureClass, Ref

HASH = "controller-revision-hash"
SHARED_OUTAGE = timedelta(seconds=60)
"""Nodes that go this close to one another have one cause."""


class Auditor:
    """Looks over the agent's shoulder; an `AssertionError` names the property.

    Args:
        world: The cluster.
        is_good: Whether the content of a commit is known to be good, by (name, commit).
        patience: The progress deadline: a node NotReady for longer is nobody's doing.
    """

    def __init__(self, world, is_good, patience):
        self.world = world
        self.is_good = is_good
        self.patience = patience
        self.out = defaultdict(set)
        """Nodes where we deleted a pod, and none was available since."""
        self.owner = {}
        self.written = Counter()
        self.drift = defaultdict(list)
        self.spared = {}
        self.good = {}
        self.people_delete = False
        """Pods are deleted by people: then S3 cannot be told from outside."""
        self.violations = []
        """What went wrong: kept, as the agent goes on after any exception but a process's end."""
        self._before = None
        self._version = None

    # ---------------------------------------------------------------- at a write

    def before(self, request):
        """Remember what was live when a write was sent."""
        ref = _ref(request.path)
        self._before = self._live(ref) if ref else self._pod(request.path)

    def after(self, write):
        """Check what a write did."""
        if write.status >= 300:
            return
        try:
            if write.kind == "delete":
                self._deleted()
            elif write.kind in ("apply", "restore", "remember"):
                self._wrote(_ref(write.path), write)
        except AssertionError as violation:
            self.violations.append(f"{write.at:.2f}s {violation}")

    def _wrote(self, ref, write):
        live, before = self._live(ref), self._before
        sent = record_of(live)
        assert sent is not None, f"S13: {ref} was written without a record"
        same_object = before is not None and _uid(before) == _uid(live)
        old = record_of(before) if same_object else None
        if old is not None:
            self._keeps_quarantine(ref, old, sent)
        changed = not same_object or _template(before) != _template(live)
        if write.kind == "apply":
            held = sent.holds(sent.template, sent.digest)
            assert held is None, f"S2: {ref} was written although held: {held}"
            self._written_once(ref, live, sent, changed=changed)
            if sent.reason == "RolloutStarted":  # who is NotReady now was bad before this rollout
                self.out[ref] -= {_name(each) for each in self._nodes() if not _ready(each)}
        if write.kind == "restore":
            self._exact(ref, live, sent)
        self._not_fighting(ref, old, sent)

    def _keeps_quarantine(self, ref, old, sent):
        released = sent.retried != old.retried
        kept = {entry.digest for entry in sent.quarantine}
        lost = [entry for entry in old.quarantine if entry.digest not in kept]
        assert not lost or released, f"S2: {ref} forgot what it holds: {lost}"
        new = [entry for entry in sent.quarantine if entry not in old.quarantine]
        for entry in new:
            if entry.failure_class is not FailureClass.BY_HAND:
                good = self.is_good(ref.name, entry.commit) and not self._kills_nodes(ref, entry)
                assert not good, f"S11: {ref}: good content was called failed: {entry}"

    def _kills_nodes(self, ref, entry):
        """Whether it looks as if content killed nodes: two that wear it died, others did not.

        Chaos that kills just these two cannot be told from content that does.
        """
        if entry.failure_class is not FailureClass.NODE_WENT_NOT_READY:
            return False
        wear = {pod["spec"].get("nodeName") for pod in self.world.pods(*_pair(ref))
                if _hash(pod) == entry.hash}  # fmt: skip
        dead = {_name(each) for each in self._nodes() if self._away(each) >= SHARED_OUTAGE}
        return len(dead & wear) >= 2 and dead <= wear

    def _away(self, node):
        condition = _condition(node, "Ready")
        since = datetime.fromisoformat(condition["lastTransitionTime"])
        return timedelta() if condition["status"] == "True" else self.world.now - since

    def _written_once(self, ref, live, sent, *, changed):
        if not changed:
            return
        key = (ref, _uid(live), sent.commit, sent.template, sent.retried, sent.writes)
        self.written[key] += 1
        assert self.written[key] == 1, f"S4: {ref}: {sent.commit} was written twice"

    def _exact(self, ref, live, sent):
        good = sent.last_good
        revision = next(
            each
            for each in self.world.revisions(*_pair(ref))
            if each["metadata"]["labels"][HASH] == good.hash
        )
        data = dict(revision["data"]["spec"]["template"])
        data.pop("$patch", None)
        assert _template(live) == data, f"S3: {ref}: the rollback is not exact"
        self.spared[ref] = {
            pod["metadata"]["uid"]
            for pod in self.world.pods(*_pair(ref))
            if _hash(pod) == good.hash and "deletionTimestamp" not in pod["metadata"]
        }

    def _not_fighting(self, ref, old, sent):
        known = set(old.writes) if old else set()
        self.drift[ref] += [at for at in sent.writes if at not in known]
        now = self.world.now
        recent = [at for at in self.drift[ref] if now - at < timedelta(hours=1)]
        assert len(recent) <= 5, f"S15: {ref}: {len(recent)} drift writes within an hour"

    def _deleted(self):
        """S16, at the moment of the deletion."""
        pod = self._before
        if pod is None:
            return
        owner = pod["metadata"]["ownerReferences"][0]
        ref = Ref(pod["metadata"]["namespace"], owner["name"])
        self._forgive(ref)
        if self.owner.get(ref) != owner["uid"]:
            self.out[ref] = set()  # the object was made anew: its pods are no deed of ours
        self.owner[ref] = owner["uid"]
        good = record_of(self._live(ref)).last_good
        if not _ready(pod) and good is not None and _hash(pod) != good.hash:
            return  # a broken pod of superseded content: nobody was served there
        self.out[ref].add(pod["spec"]["nodeName"])
        most = self._most(ref)
        assert len(self.out[ref]) <= most, (
            f"S16: {ref}: {sorted(self.out[ref])} are out by our hand, maxUnavailable is {most}"
        )

    def _most(self, ref):
        rolling = self._live(ref)["spec"]["updateStrategy"].get("rollingUpdate") or {}
        given = rolling.get("maxUnavailable", 1)
        if isinstance(given, int):
            return max(1, given)
        nodes = len(self.world.store.list("nodes"))
        return max(1, math.ceil(int(given.rstrip("%")) * nodes / 100))

    # ---------------------------------------------------------------- at every step

    def look(self):
        """Check the store as it is now.

        Raises:
            AssertionError: A property does not hold, now or at a write since the last look.
        """
        assert not self.violations, self.violations
        version = self.world.store.version
        if version == self._version:
            return
        self._version = version
        for item in self.world.store.list("daemonsets"):
            ref = Ref(item["metadata"]["namespace"], item["metadata"]["name"])
            record = record_of(item)
            if record is None:
                continue
            self._forgive(ref)
            self._last_good(ref, item, record)
            self._spares(ref, record)

    def _last_good(self, ref, live, record):
        """S13."""
        good, before = record.last_good, self.good.get(ref)
        if before is not None and before[0] == _uid(live):
            assert good is not None, f"S13: {ref} forgot its last good revision"
        if good is None:
            return
        known = {each["metadata"]["labels"][HASH] for each in self.world.revisions(*_pair(ref))}
        assert good.hash in known or good.commit, f"S13: {ref}: {good.revision} is lost"
        if before is None or before[1] != good.hash:
            assert good.commit is None or self.is_good(ref.name, good.commit), (
                f"S13: {ref}: bad content became the last good one: {good.commit}"
            )
        self.good[ref] = (_uid(live), good.hash)

    def _spares(self, ref, record):
        """S3: pods of the last good revision live through a rollback."""
        spared = self.spared.get(ref)
        if not spared or self.people_delete:
            return
        if record.phase not in ("RollingBack", "Held"):
            self.spared.pop(ref)
            return
        nodes = {each["metadata"]["name"] for each in self.world.store.list("nodes")}
        pods = self.world.pods(*_pair(ref))
        there = {each["metadata"]["uid"]: each for each in pods}
        for uid in sorted(spared):
            pod = there.get(uid)
            if pod is not None and pod["spec"]["nodeName"] not in nodes:
                spared.discard(uid)
                continue
            gone = pod is None or "deletionTimestamp" in pod["metadata"]
            assert not gone, f"S3: {ref}: a rollback restarted a healthy pod"

    def _forgive(self, ref):
        """Take nodes off the list that are served again, are gone, or have been NotReady long."""
        ready = {each["metadata"]["name"]: self._counts(each) for each in self._nodes()}
        served = {
            pod["spec"].get("nodeName")
            for pod in self.world.pods(*_pair(ref))
            if _ready(pod) and "deletionTimestamp" not in pod["metadata"]
        }
        self.out[ref] = {node for node in self.out[ref] - served if ready.get(node)}

    def _counts(self, node):
        return self._away(node) < self.patience

    def _nodes(self):
        return self.world.store.list("nodes")

    def _live(self, ref):
        return self.world.store.get("daemonsets", *_pair(ref))

    def _pod(self, path):
        parts = path.split("/")
        return self.world.store.get("pods", parts[-3], parts[-1])


def record_of(daemonset):
    """Return the record of a DaemonSet as the store has it."""
    if daemonset is None:
        return None
    text = daemonset["metadata"].get("annotations", {}).get(records.ANNOTATION)
    return records.load(text) if text else None


def _ref(path):
    parts = path.split("/")
    return Ref(parts[-3], parts[-1]) if "/daemonsets/" in path else None


def _pair(ref):
    return ref.namespace, ref.name


def _uid(item):
    return item["metadata"]["uid"]


def _name(item):
    return item["metadata"]["name"]


def _template(item):
    return item["spec"]["template"]


def _hash(pod):
    return pod["metadata"]["labels"].get(HASH)


def _condition(item, kind):
    found = (each for each in item.get("status", {}).get("conditions", ()) if each["type"] == kind)
    return next(found, None)


def _ready(pod):
    condition = _condition(pod, "Ready")
    return condition is not None and condition["status"] == "True"
