"""What is watched only while a rollout is followed: pods, Events, and what was seen to happen.

Pods are selected by the DaemonSet's own selector, one watch a DaemonSet: exact, and small.  From
the fifth DaemonSet of a namespace on, they share one watch of all pods that DaemonSets made there
(label `pod-template-generation`, which only those wear).  Events cannot be selected by owner: one
watch a namespace, shared, and read for those that regard a followed DaemonSet or its pods.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from dsgitops.adapters.kubernetes import kinds
from dsgitops.adapters.kubernetes.lists import Collection
from dsgitops.adapters.kubernetes.reflector import Reflector
from dsgitops.adapters.kubernetes.shelf import Shelf
from dsgitops.core.chronicle import Chronicle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from dsgitops.adapters.kubernetes.reflector import Surroundings
    from dsgitops.adapters.kubernetes.shelf import Item
    from dsgitops.core.model import Event, Live, Node, Pod, Ref

OWN_WATCHES_MAX = 4
"""DaemonSets of one namespace that get a watch of their own."""
MADE_BY_DAEMONSETS = "pod-template-generation"
EVENTS_MAX = 1000
"""Events that are kept of one DaemonSet; beyond it the oldest go (the chronicle read them)."""
SUFFIX = 5
"""Characters that the DaemonSet controller adds to a pod's name."""


_NO_GAP = datetime.min.replace(tzinfo=UTC)
"""Live for as long as anybody asked."""


@dataclass(slots=True)
class Watch:
    """A reflector and its copy, used by one DaemonSet or shared by several."""

    reflector: Reflector
    shelf: Shelf
    users: set[Ref] = field(default_factory=set)


@dataclass(slots=True)
class Followed:
    """One DaemonSet whose rollout is followed."""

    ref: Ref
    uid: str
    selector: str
    pods: Watch
    events: Watch
    chronicle: Chronicle = field(default_factory=Chronicle)
    heard: dict[tuple[str, str], Event] = field(default_factory=dict)
    """Events about it and its pods, by their own names, in the order in which they came."""
    own: dict[tuple[str, str], Pod] = field(default_factory=dict)
    """The pods whose controller it is, by name."""
    told: tuple[bool, bool] = (False, False)
    """Whether it was live, and synced, when that last changed."""
    first_live: dict[str, datetime] = field(default_factory=dict)
    """Since when each watch was live for the first time, by what is watched."""

    def again_live(self, reflector: Reflector, now: datetime) -> datetime | None:
        """Return since when a watch is live again after a gap; long ago where there was none."""
        since = reflector.live_at(now)
        if since is None:
            return None
        first = self.first_live.setdefault(reflector.what.path, since)
        return since if since > first else _NO_GAP

    def about(self, event: Event) -> bool:
        """Whether an Event regards this DaemonSet or a pod of its."""
        if event.kind == "DaemonSet":
            return event.uid == self.uid
        stem, _, suffix = event.name.rpartition("-")
        return event.kind == "Pod" and stem == self.ref.name and len(suffix) == SUFFIX

    def synced(self) -> bool:
        """Whether the pods, and the Events if we may see them, were listed."""
        events = self.events.reflector
        return self.pods.reflector.synced and (events.synced or events.forbidden)

    def reflectors(self) -> Iterator[Reflector]:
        """Yield those that must be live for a judgement; Events we may not see are done without."""
        yield self.pods.reflector
        if not self.events.reflector.forbidden:
            yield self.events.reflector


class Following:
    """The followed DaemonSets and their watches.

    Args:
        around: For the reflectors.
        touched: Told which DaemonSet something was heard of.
    """

    def __init__(self, around: Surroundings, touched: Callable[[Ref], None]) -> None:
        self.followed: dict[Ref, Followed] = {}
        self._around = around
        self._touched = touched
        self._owners: dict[str, Followed] = {}
        self._watches: dict[tuple[str, str, str], Watch] = {}
        """By resource, namespace, selector."""
        self._now: datetime | None = None

    def begin(self, live: Live, nodes: Iterable[Node], now: datetime) -> None:
        """Follow a DaemonSet that is not followed yet."""
        selector = label_selector(live.spec.get("selector") or {})
        entry = Followed(
            ref=live.ref,
            uid=live.uid,
            selector=selector,
            pods=self._pod_watch(live.ref, selector),
            events=self._event_watch(live.ref),
        )
        self.followed[live.ref] = self._owners[live.uid] = entry
        for node in nodes:
            entry.chronicle.node(node, now)
        for item in entry.pods.shelf.items.values():  # a shared watch may know them already
            self._take_pod(entry, item, now)
        for key, item in entry.events.shelf.items.items():
            self._keep_event(entry, key, cast("Event", item.value), now)

    def end(self, ref: Ref) -> None:
        """Follow a DaemonSet no longer; watches that nobody else needs are closed."""
        entry = self.followed.pop(ref)
        self._owners.pop(entry.uid, None)
        for key, watch in list(self._watches.items()):
            watch.users.discard(ref)
            if not watch.users:
                watch.reflector.close()
                del self._watches[key]

    def pump(self, now: datetime) -> None:
        """Take in what the watches brought."""
        self._now = now
        for watch in tuple(self._watches.values()):
            watch.reflector.pump(now)

    def hear_node(self, node: Node, now: datetime) -> None:
        """Tell every chronicle about a node."""
        for entry in self.followed.values():
            entry.chronicle.node(node, now)

    def note_pod(self, ref: Ref, item: Item, now: datetime) -> None:
        """Take in what a write of ours answered about a pod."""
        entry = self.followed.get(ref)
        if entry is not None and item.key in entry.pods.shelf.items:
            self._now = now
            entry.pods.shelf.put(item)

    def reflectors(self) -> Iterator[Reflector]:
        """Yield all that are open."""
        return (watch.reflector for watch in self._watches.values())

    # -- watches

    def _pod_watch(self, ref: Ref, selector: str) -> Watch:
        own = [key for key in self._watches if key[:2] == ("pods", ref.namespace)]
        crowded = len(own) >= OWN_WATCHES_MAX
        wanted = MADE_BY_DAEMONSETS if crowded else selector
        return self._watch(ref, "pods", wanted, self._hear_pod)

    def _event_watch(self, ref: Ref) -> Watch:
        return self._watch(ref, "events", "", self._hear_event)

    def _watch(self, ref: Ref, resource: str, selector: str, heard: Any) -> Watch:  # noqa: ANN401
        key = (resource, ref.namespace, selector)
        watch = self._watches.get(key)
        if watch is None:
            shelf = Shelf(heard)
            query = {"labelSelector": selector} if selector else {}
            what = Collection(
                kinds.path_of(kinds.CORE, resource, ref.namespace), query, ref.namespace
            )
            decode = kinds.pod if resource == "pods" else kinds.event
            watch = Watch(Reflector(what, shelf, decode, self._around), shelf)
            self._watches[key] = watch
        watch.users.add(ref)
        return watch

    # -- what is heard

    def _hear_pod(self, before: Item | None, after: Item | None, last: Item | None) -> None:
        assert self._now is not None, "nothing is heard before the first pump"
        was, now_of = self._owner(before), self._owner(after)
        if was is not None and was is not now_of and before is not None:
            told = last if last is not None and last.uid == before.uid else before
            was.own.pop(before.key, None)
            was.chronicle.pod_gone(cast("Pod", told.value), self._now)
            self._touched(was.ref)
        if now_of is not None and after is not None:
            self._take_pod(now_of, after, self._now)

    def _owner(self, item: Item | None) -> Followed | None:
        return self._owners.get(cast("Pod", item.value).owner) if item is not None else None

    def _take_pod(self, entry: Followed, item: Item, now: datetime) -> None:
        pod = cast("Pod", item.value)
        if pod.owner != entry.uid:
            return
        entry.own[item.key] = pod
        entry.chronicle.pod(pod, now)
        self._touched(entry.ref)

    def _hear_event(self, _before: Item | None, after: Item | None, last: Item | None) -> None:
        assert self._now is not None, "nothing is heard before the first pump"
        if after is None:  # an Event's life is an hour; what it said stays said
            for entry in self.followed.values():
                entry.heard.pop(last.key if last else ("", ""), None)
            return
        event = cast("Event", after.value)
        for entry in self.followed.values():
            if entry.ref.namespace == after.namespace:
                self._keep_event(entry, after.key, event, self._now)

    def _keep_event(
        self, entry: Followed, key: tuple[str, str], event: Event, now: datetime
    ) -> None:
        if not entry.about(event):
            return
        entry.heard.pop(key, None)
        entry.heard[key] = event
        if len(entry.heard) > EVENTS_MAX:
            del entry.heard[next(iter(entry.heard))]
        entry.chronicle.event(event, now)
        self._touched(entry.ref)


def label_selector(selector: Mapping[str, Any]) -> str:
    """Return a DaemonSet's selector as a list's `labelSelector`: `app=a,tier in (x,y)`.

    Args:
        selector: `spec.selector` with matchLabels and matchExpressions.
    """
    parts = [f"{key}={value}" for key, value in (selector.get("matchLabels") or {}).items()]
    for each in selector.get("matchExpressions") or ():
        key, operator = each.get("key"), each.get("operator")
        values = ",".join(each.get("values") or ())
        if operator in ("In", "NotIn"):
            parts.append(f"{key} {'in' if operator == 'In' else 'notin'} ({values})")
        elif operator in ("Exists", "DoesNotExist"):
            parts.append(key if operator == "Exists" else f"!{key}")
    return ",".join(parts)
