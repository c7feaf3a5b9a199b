"""The cluster as the agent sees it: watched, not polled; every answer kept at once.

In steady state there are three watches (DaemonSets, ControllerRevisions, nodes) and no pod in
memory.  All of it runs over any `Transport`, so the simulation runs this very code.
"""

from __future__ import annotations

import logging
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

from dsgitops.adapters.kubernetes import kinds, writes
from dsgitops.adapters.kubernetes.answers import fault, read_object
from dsgitops.adapters.kubernetes.following import Following
from dsgitops.adapters.kubernetes.lists import Collection, Inline
from dsgitops.adapters.kubernetes.reflector import Reflector, Surroundings
from dsgitops.adapters.kubernetes.shelf import Shelf
from dsgitops.adapters.kubernetes.spread import Spread
from dsgitops.core.actions import Apply, DeletePod, Prune, Recall, Rehearse, Remember, Restore
from dsgitops.core.model import Node, Observed, Phase, Ref, Refusal
from dsgitops.errors import ActionRefused, Stale
from dsgitops.ports import Request

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from concurrent.futures import Executor
    from datetime import datetime
    from random import Random

    from dsgitops.adapters.kubernetes.following import Followed
    from dsgitops.adapters.kubernetes.kinds import PackedDaemonSet, PackedRevision
    from dsgitops.adapters.kubernetes.shelf import Item
    from dsgitops.core.actions import Action
    from dsgitops.core.model import Live, Rehearsal, Revision
    from dsgitops.errors import DsgitopsError
    from dsgitops.ports import Response, Transport, Wake

log = logging.getLogger(__name__)

RESENDS_MAX = 3
"""Times that a write is sent again because a status was written in between: one in six meets
that during a rollout."""
ASK_AGAIN = timedelta(minutes=5)
"""A refusal that may end without new content (no such namespace, a policy) is forgotten then."""
READ_MAX = 32
"""DaemonSets that stay decoded: those that roll out are looked at again and again."""
ASKED_MAX = 10_000
"""DaemonSets that are remembered as being of interest although they are not there."""
_ROLLING = frozenset({Phase.CANARY, Phase.ROLLING})


def _nobody() -> None:
    """Wake nobody."""


class KubernetesCluster:
    """`ports.Cluster` over any `Transport`.

    `pump`, `follow` and `observe` never make a request themselves; `perform` does, and may be
    called from other threads at the same time.

    Args:
        transport: To the API server.
        namespaces: The managed ones; nothing outside them is read or written.
        rng: For the jitter of the watches.
        run: Where lists are read: a small thread pool, or `Inline` (which makes `pump` block
            for the lists, and everything deterministic).
        wake: Called when `pump` has something to do.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        namespaces: Iterable[str],
        rng: Random,
        run: Executor | None = None,
        wake: Wake = _nobody,
    ) -> None:
        self._transport = transport
        self._namespaces = frozenset(namespaces)
        self._wake = wake
        self._lock = threading.RLock()
        self._touched: set[Ref] = set()
        self._asked: dict[Ref, None] = {}
        self._wanted: frozenset[Ref] = frozenset()
        self._unfollowed = False
        """Whether something may be to be followed that is not, or the other way round."""
        self._now: datetime | None = None
        self._refusals: dict[Ref, Refusal] = {}
        self._rehearsals: dict[Ref, Rehearsal] = {}
        self._rolling: set[Ref] = set()
        self._revisions_of: dict[str, dict[tuple[str, str], Item]] = {}
        self._read: dict[str, tuple[Revision, ...]] = {}
        """Revisions by owner's uid, those asked for last at the end."""
        self._lives: dict[Ref, tuple[Item, Live]] = {}
        """DaemonSets as read, those asked for last at the end."""
        self._refs_of: dict[str, Ref] = {}
        """By uid."""
        self._node_values: tuple[Node, ...] | None = None
        self._was_live: dict[str, bool] = {}
        self.blind_since: datetime | None = None
        """Since when a managed namespace is not seen live; None: all are, or none was yet."""
        around = Surroundings(transport, run or Inline(), rng, wake)
        self._daemonsets = Shelf(self._hear_daemonset)
        self._revisions = Shelf(self._hear_revision)
        self._nodes = Shelf(self._hear_node)
        self._spreads = tuple(
            Spread(
                kinds.APPS,
                resource,
                namespaces=self._namespaces,
                shelf=shelf,
                decode=decode,
                around=around,
            )
            for resource, shelf, decode in (
                ("daemonsets", self._daemonsets, kinds.daemonset),
                ("controllerrevisions", self._revisions, kinds.revision),
            )
        )
        what = Collection(kinds.path_of(kinds.CORE, "nodes"))
        self._node_watch = Reflector(what, self._nodes, kinds.node, around)
        self._following = Following(around, self._touched.add)

    # ------------------------------------------------------------------ the port

    def pump(self, now: datetime) -> frozenset[Ref]:
        """Take in what the watches brought; return the DaemonSets it may matter to."""
        with self._lock:
            self._now = now
            self._node_watch.pump(now)
            for spread in self._spreads:
                spread.pump(now)
            self._follow_wanted(now)
            self._following.pump(now)
            self._forget_refusals(now)
            self._tell_liveness(now)
            touched = frozenset(self._touched)
            self._touched.clear()
            return touched

    def refs(self) -> frozenset[Ref]:
        """Return the DaemonSets in the managed namespaces that carry our record."""
        with self._lock:
            items = self._daemonsets.items.items()
            return frozenset(Ref(*key) for key, item in items if _packed(item).has_record)

    def observe(self, ref: Ref, now: datetime) -> Observed:
        """Return what is known of one DaemonSet; no request is made."""
        with self._lock:
            self._asked[ref] = None
            if len(self._asked) > ASKED_MAX:
                del self._asked[next(iter(self._asked))]
            item = self._daemonsets.items.get((ref.namespace, ref.name))
            live = self._live_of(ref, item) if item is not None else None
            entry = self._following.followed.get(ref)
            if entry is not None and (live is None or entry.uid != live.uid):
                entry = None
            watched = entry is not None and entry.synced()
            return Observed(
                live=live,
                revisions=self._revisions_for(item.uid) if item is not None else (),
                pods=tuple(entry.own.values()) if entry is not None and watched else (),
                nodes=self._all_nodes(),
                events=tuple(entry.heard.values()) if entry is not None else (),
                followed=watched,
                live_since=self._live_since(ref, entry if watched else None, now),
                chronicle=entry.chronicle if entry is not None else None,
                rolling_elsewhere=len(self._rolling) - (ref in self._rolling),
                refusal=self._refusals.get(ref),
                rehearsal=self._rehearsals.get(ref),
            )

    def follow(self, refs: frozenset[Ref]) -> None:
        """Say of which DaemonSets pods and Events are needed from now on."""
        with self._lock:
            if refs == self._wanted:
                return
            self._wanted, self._unfollowed = refs, True
        self._wake()

    def perform(self, action: Action, now: datetime) -> None:
        """Carry out one action.  Its answer shows in the next `observe`.

        Raises:
            Stale: A precondition failed; nothing was done.
            ActionRefused: The server will never accept it; kept as `Observed.refusal`.
            ClusterUnreachable: No answer; it may have landed.
            ValueError: The action is not for this cluster: outside the managed namespaces, or
                without preconditions.
        """
        if action.ref.namespace not in self._namespaces:
            raise ValueError(f"{action.ref} is outside the managed namespaces")
        match action:
            case Apply():
                self._apply(action, now)
            case Rehearse():
                self._rehearse(action, now)
            case Restore():
                self._restore(action, now)
            case Remember():
                self._write(action, now)
            case DeletePod():
                self._delete_pod(action, now)
            case Prune():
                self._send(writes.request_of(action), writes.doing(action), now)
            case Recall():
                raise ValueError("what a commit held is recalled from its source")
        self._wake()

    def next_timer(self) -> datetime | None:
        """Return when `pump` wants to be called again although nothing arrives."""
        with self._lock:
            now = self._now
            if now is None:
                return None
            times = [each.next_timer(now) for each in self._reflectors()]
            times += [
                refusal.at + ASK_AGAIN
                for refusal in self._refusals.values()
                if refusal.at is not None and _ends_by_itself(refusal)
            ]
            if self._touched or self._unfollowed:
                times.append(now)
            return min((each for each in times if each is not None), default=None)

    # ------------------------------------------------------------------ beyond the port

    @property
    def synced(self) -> bool:
        """Whether every list of the steady state was read at least once."""
        with self._lock:
            return self._node_watch.synced and all(each.synced for each in self._spreads)

    def faults(self) -> dict[str, DsgitopsError]:
        """Return what stands in the way of the watches now, by what is watched."""
        with self._lock:
            found: dict[str, DsgitopsError] = {}
            for spread in self._spreads:
                found |= spread.faults()
            if self._node_watch.fault is not None:
                found["nodes"] = self._node_watch.fault
            for each in self._following.reflectors():
                if each.fault is not None:
                    resource = each.what.path.rpartition("/")[2]
                    found[f"{resource} in {each.what.namespace}"] = each.fault
            return found

    def counts(self, ref: Ref) -> tuple[int, int] | None:
        """Return nodes that should run the pod, and that have it available; None: not there.

        By the object's status, which is for display: a verdict is never made of it.
        """
        with self._lock:
            item = self._daemonsets.items.get((ref.namespace, ref.name))
            packed = _packed(item) if item is not None else None
            return (packed.scheduled, packed.available) if packed is not None else None

    def close(self) -> None:
        """Stop all watches; returns at once."""
        with self._lock:
            for each in self._reflectors():
                each.close()

    # ------------------------------------------------------------------ what is heard

    def _hear_daemonset(self, before: Item | None, after: Item | None, _last: Item | None) -> None:
        item = after or before
        assert item is not None, "a change is of something"
        ref = Ref(item.namespace, item.name)
        self._touched.add(ref)
        self._rolling.discard(ref)
        if before is not None:
            self._refs_of.pop(before.uid, None)
        if after is not None:
            self._refs_of[after.uid] = ref
            if _packed(after).phase in _ROLLING:
                self._rolling.add(ref)
        if before is None or after is None or before.uid != after.uid:
            self._unfollowed = True
            if ref in self._following.followed:  # the one that it was is no more
                self._following.end(ref)
            self._refusals.pop(ref, None)
            self._rehearsals.pop(ref, None)
        elif ref in self._rehearsals and _differ(before, after):
            del self._rehearsals[ref]

    def _hear_revision(self, before: Item | None, after: Item | None, _last: Item | None) -> None:
        for item, gone in ((before, True), (after, False)):
            if item is None:
                continue
            owner = cast("PackedRevision", item.value).owner
            self._read.pop(owner, None)
            siblings = self._revisions_of.setdefault(owner, {})
            if gone:
                siblings.pop(item.key, None)
            else:
                siblings[item.key] = item
            if not siblings:
                del self._revisions_of[owner]
            if owner in self._refs_of:
                self._touched.add(self._refs_of[owner])

    def _hear_node(self, before: Item | None, after: Item | None, _last: Item | None) -> None:
        if before is not None and after is not None and before.value == after.value:
            return  # a heartbeat
        self._node_values = None
        assert self._now is not None, "nothing is heard before the first pump"
        if after is not None:
            self._following.hear_node(cast("Node", after.value), self._now)
        if _eligibility(before) != _eligibility(after):
            self._touch_all()
        else:
            self._touched.update(self._following.followed)

    def _touch_all(self) -> None:
        self._touched.update(Ref(*key) for key in self._daemonsets.items)
        self._touched.update(self._asked)

    # ------------------------------------------------------------------ time

    def _follow_wanted(self, now: datetime) -> None:
        if not self._unfollowed:
            return
        self._unfollowed = False
        followed = self._following.followed
        for ref in followed.keys() - self._wanted:
            self._following.end(ref)
        for ref in sorted(self._wanted.difference(followed)):
            item = self._daemonsets.items.get((ref.namespace, ref.name))
            if item is not None:
                self._following.begin(_packed(item).live(), self._all_nodes(), now)

    def _forget_refusals(self, now: datetime) -> None:
        for ref, refusal in list(self._refusals.items()):
            if not _ends_by_itself(refusal) or refusal.at is None:
                continue
            if refusal.at + ASK_AGAIN <= now:
                del self._refusals[ref]
                self._touched.add(ref)

    def _live_since(self, ref: Ref, entry: Followed | None, now: datetime) -> datetime | None:
        """Return since when all that one DaemonSet's decision reads has been live.

        Pods that are followed from now on were not unseen before: their first list tells all that
        there is, and it is the nodes that need the time (`design.md` 4).  A watch of theirs that
        was lost and is back counts.
        """
        parts = [spread.of(ref.namespace) for spread in self._spreads]
        times = [each.live_at(now) if each is not None else None for each in parts]
        times.append(self._node_watch.live_at(now))
        if entry is not None:
            times += [entry.again_live(each, now) for each in entry.reflectors()]
        known = [each for each in times if each is not None]
        return max(known) if len(known) == len(times) else None

    def _tell_liveness(self, now: datetime) -> None:
        """Going blind, and seeing again, matter to every DaemonSet concerned."""
        live = {namespace: self._live_since(Ref(namespace, ""), None, now) is not None
                for namespace in self._namespaces}  # fmt: skip
        for namespace, sees in live.items():
            if self._was_live.get(namespace, False) != sees:
                self._touched.update(ref for ref in self._known() if ref.namespace == namespace)
        self._was_live = live
        blind = self.synced and not all(live.values())
        self.blind_since = (self.blind_since or now) if blind else None
        # Many share a watch, and all of a namespace the rest: each is asked once a turn.
        asked = {each: each.live_at(now) is not None for each in self._following.reflectors()}
        for ref, entry in self._following.followed.items():
            sees = live.get(ref.namespace, False) and all(map(asked.get, entry.reflectors()))
            synced = entry.synced()
            if entry.told != (sees, synced):
                entry.told = (sees, synced)
                self._live_since(ref, entry, now)  # notes since when, for the first time
                self._touched.add(ref)

    def _known(self) -> Iterator[Ref]:
        yield from (Ref(*key) for key in self._daemonsets.items)
        yield from self._asked

    def _reflectors(self) -> Iterator[Reflector]:
        yield self._node_watch
        for spread in self._spreads:
            yield from spread.reflectors.values()
        yield from self._following.reflectors()

    # ------------------------------------------------------------------ what is known

    def _live_of(self, ref: Ref, item: Item) -> Live:
        """Return a DaemonSet; the last few that were asked for stay read."""
        known = self._lives.pop(ref, None)
        live = known[1] if known is not None and known[0] is item else _packed(item).live()
        self._lives[ref] = item, live
        if len(self._lives) > READ_MAX:
            del self._lives[next(iter(self._lives))]
        return live

    def _revisions_for(self, uid: str) -> tuple[Revision, ...]:
        """Return a DaemonSet's revisions by number; those of the last few asked for stay read."""
        read = self._read.pop(uid, None)
        if read is None:
            items = self._revisions_of.get(uid, {}).values()
            values = (cast("PackedRevision", item.value).revision() for item in items)
            read = tuple(sorted(values, key=lambda each: (each.number, each.name)))
        self._read[uid] = read
        if len(self._read) > READ_MAX:
            del self._read[next(iter(self._read))]
        return read

    def _all_nodes(self) -> tuple[Node, ...]:
        if self._node_values is None:
            items = sorted(self._nodes.items.items())
            self._node_values = tuple(cast("Node", item.value) for _, item in items)
        return self._node_values

    # ------------------------------------------------------------------ writes

    def _apply(self, action: Apply, now: datetime) -> None:
        try:
            self._write(action, now)
        except ActionRefused as refused:
            self._refuse(action, refused, now)
            raise
        with self._lock:
            self._refusals.pop(action.ref, None)

    def _rehearse(self, action: Rehearse, now: datetime) -> None:
        try:
            answer = self._write(action, now, dry_run=True)
        except ActionRefused as refused:
            self._refuse(action, refused, now)
            raise
        fresh = self._fresh(action, now) if action.fresh else None
        live = self._as_asked(action, answer, now)
        with self._lock:
            self._rehearsals[action.ref] = writes.rehearsal(action.digest, live, answer, fresh)
            self._touched.add(action.ref)

    def _fresh(self, action: Rehearse, now: datetime) -> dict[str, Any] | None:
        """Return what a new object of the content would be; None: that cannot be told."""
        doing = f"dry-run a new DaemonSet like {action.ref}"
        try:
            made = read_object(self._send(writes.fresh_request(action), doing, now))
        except ActionRefused as refused:
            log.info("%s; fields that nobody owns are not looked for", refused.what)
            return None
        stored = made["metadata"].get("resourceVersion")
        return None if stored else made  # somebody has that name: it is not a new one

    def _as_asked(
        self, action: Rehearse, answer: Mapping[str, Any], now: datetime
    ) -> dict[str, Any] | None:
        """Return the object that a dry run started from; None: there is none."""
        version = answer["metadata"].get("resourceVersion")
        if not version:
            return None
        known = self._content(action.ref)
        if known is not None and known["metadata"].get("resourceVersion") == version:
            return known
        fresh = self._get(action.ref, now)
        if fresh["metadata"].get("resourceVersion") != version:
            raise Stale(f"cannot {writes.doing(action)}: it is changing")
        return fresh

    def _restore(self, action: Restore, now: datetime) -> None:
        answer = self._write(action, now, dry_run=True)
        wanted = writes.template_of(action.body)
        if writes.template_of(answer) != wanted:
            paths = writes.differing(wanted, writes.template_of(answer), "spec.template")
            log.warning(
                "the rollback of %s is not exact: the API server would change %s; every pod of it"
                " restarts",
                action.ref,
                ", ".join(list(paths)[:5]) or "how the template is written",
            )
        self._write(action, now)

    def _delete_pod(self, action: DeletePod, now: datetime) -> None:
        response = self._send(writes.request_of(action), writes.doing(action), now)
        item = kinds.pod(response.body)
        if item is None or item.uid != action.uid:
            return  # gone at once: the answer is a Status
        with self._lock:
            self._following.note_pod(action.ref, item, now)

    def _write(
        self, action: Apply | Rehearse | Restore | Remember, now: datetime, *, dry_run: bool = False
    ) -> dict[str, Any]:
        """Send a PATCH and keep its answer.

        Where only the status moved since the decision, it is sent again with the new version.
        """
        body = dict(action.body)
        decided_on = self._content(action.ref)
        for left in reversed(range(RESENDS_MAX + 1)):
            request = _with_body(writes.request_of(action, dry_run=dry_run), body)
            try:
                answer = self._send(request, writes.doing(action), now)
            except Stale:
                version = self._newer_version(action.ref, body, decided_on, now) if left else ""
                if not version:
                    raise
                body["metadata"] = {**body["metadata"], "resourceVersion": version}
                continue
            if not dry_run:
                self._note(action.ref, answer.body)
            return read_object(answer)
        raise AssertionError("the last try raises")

    def _newer_version(
        self,
        ref: Ref,
        body: Mapping[str, Any],
        decided_on: dict[str, Any] | None,
        now: datetime,
    ) -> str:
        """Return the version to send a refused write with; empty: decide anew."""
        asked = body["metadata"].get("resourceVersion")
        if decided_on is None or decided_on["metadata"].get("resourceVersion") != asked:
            return ""
        fresh = self._get(ref, now)
        version: str = fresh["metadata"].get("resourceVersion", "")
        return version if writes.only_status_moved(decided_on, fresh) else ""

    def _get(self, ref: Ref, now: datetime) -> dict[str, Any]:
        request = Request(method="GET", path=kinds.path_of_daemonset(ref))
        response = self._send(request, f"read DaemonSet {ref}", now)
        self._note(ref, response.body)
        return read_object(response)

    def _send(self, request: Request, doing: str, now: datetime) -> Response:
        response = self._transport.send(request)
        error = fault(response, doing=doing, now=now)
        if error is not None:
            raise error
        return response

    def _note(self, ref: Ref, body: bytes) -> None:
        """Keep what the API server answered, unless the watch knows better already."""
        item = kinds.daemonset(body)
        if item is None or item.key != (ref.namespace, ref.name) or not item.version:
            return  # what has no version was not stored: the answer to a dry run
        with self._lock:
            known = self._daemonsets.items.get(item.key)
            watch = self._spreads[0].of(ref.namespace)
            if known is None and watch is not None and watch.seen(item.version):
                return  # deleted again meanwhile
            self._daemonsets.put(item)

    def _content(self, ref: Ref) -> dict[str, Any] | None:
        with self._lock:
            item = self._daemonsets.items.get((ref.namespace, ref.name))
        return _packed(item).content() if item is not None else None

    def _refuse(self, action: Apply | Rehearse, refused: ActionRefused, now: datetime) -> None:
        refusal = Refusal(
            digest=action.digest,
            what=refused.what,
            remedy=refused.remedy,
            code=refused.code,
            fields=refused.fields,
            at=now,
            sweep=isinstance(action, Apply) and action.sweep,
        )
        with self._lock:
            self._refusals[action.ref] = refusal
            self._touched.add(action.ref)


# ---------------------------------------------------------------------------- small pieces


def _packed(item: Item) -> PackedDaemonSet:
    return cast("PackedDaemonSet", item.value)


def _with_body(request: Request, body: Mapping[str, Any]) -> Request:
    return Request(
        method=request.method,
        path=request.path,
        query=request.query,
        headers=request.headers,
        body=writes.encoded(body),
        timeout=request.timeout,
    )


def _differ(before: Item, after: Item) -> bool:
    """Whether content was changed: what was rehearsed before says nothing about it."""
    contents = [writes.content(_packed(item).content()) for item in (before, after)]
    return contents[0] != contents[1]


def _eligibility(item: Item | None) -> object:
    """Return what decides which DaemonSets run on a node."""
    if item is None:
        return None
    node = cast("Node", item.value)
    return node.labels, node.taints


def _ends_by_itself(refusal: Refusal) -> bool:
    """Whether a refusal may end without new content and without `decide` asking again (403)."""
    return refusal.code == 404 or (refusal.code == 422 and not refusal.fields)
