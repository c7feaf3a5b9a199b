"""Kubernetes Events as client-go records them: repeats counted, floods combined."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dsgitops.sim.objects import Object, name_of, namespace_of

if TYPE_CHECKING:
    from dsgitops.sim.clock import VirtualClock
    from dsgitops.sim.store import Store

SIMILAR_MAX = 10
"""Events that differ in their message only, before they are combined into one."""
SIMILAR_WINDOW = 600.0
"""Seconds after which the count of similar ones starts anew."""
BURST = 25
"""Events of one type about one object, before further ones are dropped (seen in the recordings:
no pod has more than 25 Warnings)."""
REFILL = 300.0
"""Seconds until one more is let through."""
COMBINED = "(combined from similar events): "


@dataclass(slots=True)
class _Similar:
    since: float
    messages: dict[str, None] = field(default_factory=dict[str, None])


@dataclass(slots=True)
class _Tokens:
    left: float = BURST
    at: float = 0.0

    def take(self, now: float) -> bool:
        self.left = min(BURST, self.left + (now - self.at) / REFILL)
        self.at = now
        if self.left < 1:
            return False
        self.left -= 1
        return True


@dataclass(slots=True)
class _Told:
    """What was said of one object."""

    names: dict[tuple[str, ...], tuple[str, str]] = field(
        default_factory=dict[tuple[str, ...], tuple[str, str]]
    )
    similar: dict[tuple[str, str], _Similar] = field(
        default_factory=dict[tuple[str, str], _Similar]
    )
    tokens: dict[str, _Tokens] = field(default_factory=dict[str, _Tokens])


class Recorder:
    """Writes the Events of one component.

    Args:
        store: Where they go.
        clock: Their time.
        component: `kubelet`, `daemonset-controller`, …
        host: The node, for kubelets.
    """

    def __init__(self, store: Store, clock: VirtualClock, component: str, host: str = "") -> None:
        self._store = store
        self._clock = clock
        self._component = component
        self._host = host
        self._told: dict[str, _Told] = {}

    def say(self, about: Object, kind: str, reason: str, message: str, *, path: str = "") -> None:
        """Record that something happened to `about`; the same again raises its count.

        Args:
            about: The object it regards.
            kind: `Normal` or `Warning`.
            reason: CamelCase.
            message: For people.
            path: `fieldPath` of what it regards: `spec.containers{agent}`.
        """
        told = self._told.setdefault(about["metadata"]["uid"], _Told())
        now = self._clock.seconds
        if not told.tokens.setdefault(kind, _Tokens(at=now)).take(now):
            return
        text = _combine(told.similar, (kind, reason), message, now)
        key = (kind, reason, path, COMBINED if text.startswith(COMBINED) else text)
        earlier = told.names.get(key)
        found = earlier and self._store.get("events", *earlier)
        if found:
            self._store.update("events", self._again(found, text))
            return
        regarded = _reference(about, path)
        made = self._store.create("events", self._event(regarded, kind, reason, text))
        told.names[key] = (namespace_of(made), name_of(made))

    def forget(self, uid: str) -> None:
        """Drop what is remembered of an object that is gone; its Events stay."""
        self._told.pop(uid, None)

    def _again(self, event: Object, message: str) -> Object:
        return {
            **event,
            "message": message,
            "count": event["count"] + 1,
            "lastTimestamp": self._clock.stamp(),
        }

    def _event(self, regarded: Object, kind: str, reason: str, message: str) -> Object:
        stamp = self._clock.stamp()
        source = {"component": self._component}
        if self._host:
            source["host"] = self._host
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": event_metadata(self._store, self._clock, regarded),
            "involvedObject": regarded,
            "reason": reason,
            "message": message,
            "source": source,
            "firstTimestamp": stamp,
            "lastTimestamp": stamp,
            "count": 1,
            "type": kind,
            "eventTime": None,
            "reportingComponent": self._component,
            "reportingInstance": self._host,
        }


def _combine(
    told: dict[tuple[str, str], _Similar], key: tuple[str, str], message: str, now: float
) -> str:
    similar = told.get(key)
    if similar is None or now - similar.since > SIMILAR_WINDOW:
        similar = told[key] = _Similar(now)
    if len(similar.messages) < SIMILAR_MAX:
        similar.messages[message] = None
    return message if len(similar.messages) < SIMILAR_MAX else COMBINED + message


def event_metadata(store: Store, clock: VirtualClock, regarded: Object) -> Object:
    """Return name and namespace for an Event, as client-go makes them: `<name>.<hex of time>`."""
    namespace = regarded.get("namespace", "default")
    nanoseconds = int(clock.now().timestamp() * 1e6) * 1000
    while store.get("events", namespace, f"{regarded['name']}.{nanoseconds:x}") is not None:
        nanoseconds += 1
    return {"name": f"{regarded['name']}.{nanoseconds:x}", "namespace": namespace}


def _reference(about: Object, path: str) -> Object:
    metadata = about["metadata"]
    reference = {
        "kind": about.get("kind", "Pod"),
        "name": metadata["name"],
        "uid": metadata["uid"],
        "apiVersion": about.get("apiVersion", "v1"),
        "resourceVersion": metadata["resourceVersion"],
    }
    if namespace := metadata.get("namespace"):
        reference["namespace"] = namespace
    if path:
        reference["fieldPath"] = path
    return reference
