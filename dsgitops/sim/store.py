"""What etcd is to a cluster: objects, one version counter, and the changes in order.

Objects are plain dicts as JSON has them.  What comes out is shared, never copied: whoever changes
one builds a new dict around the parts that stay (structural sharing), which also makes the
comparison of a no-op write cheap.
"""

from __future__ import annotations

import random
import uuid
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

Object = dict[str, Any]
Kind = Literal["ADDED", "MODIFIED", "DELETED"]
Key = tuple[str, str]
"""(namespace or "", name)."""

FIRST_VERSION = 1000
"""Versions below it were compacted long ago, as in a cluster that is not new."""

_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"
_SUFFIX_LENGTH = 5
_LONGEST_BASE = 63 - _SUFFIX_LENGTH
_HISTORY = 100_000
"""Changes kept for watches from an older version; the older half goes when there are more."""


class AlreadyExists(Exception):
    """`create` of a name that is taken."""


class Gone(Exception):
    """The version asked for was compacted."""


class Change(NamedTuple):
    """One write: what happened, and what was there before."""

    version: int
    kind: Kind
    resource: str
    object: Object
    """As written; for DELETED the last state with the version of the deletion."""
    before: Object | None


@dataclass(frozen=True, slots=True)
class View:
    """The objects of one resource as they were at a version."""

    version: int
    objects: dict[Key, Object]

    def list(self, namespace: str | None = None) -> list[Object]:
        """Return the objects in order of namespace and name."""
        return _sorted(self.objects, namespace)


class Store:
    """Objects by resource (plural), namespace and name.

    Args:
        now: The virtual clock, for `creationTimestamp`.
        seed: Of uids and generated names.
    """

    def __init__(self, now: Callable[[], datetime], seed: int = 0) -> None:
        self._now = now
        self._random = random.Random(f"store {seed}")
        self._objects: dict[str, dict[Key, Object]] = {}
        self._version = FIRST_VERSION
        self._compacted = FIRST_VERSION
        self._changes: list[Change] = []
        self._listeners: list[Callable[[Change], None]] = []
        self._subscribers: list[Callable[[str, str, Object], None]] = []

    # ------------------------------------------------------------------ reading

    @property
    def version(self) -> int:
        """Return the version of the last write."""
        return self._version

    @property
    def compacted(self) -> int:
        """Return the oldest version that watches and stale reads can start from."""
        return self._compacted

    def get(self, resource: str, namespace: str, name: str) -> Object | None:
        """Return one object, shared and read-only."""
        return self._objects.get(resource, {}).get((namespace, name))

    def list(self, resource: str, namespace: str | None = None) -> list[Object]:
        """Return the objects of a namespace (None: of all) in order of namespace and name."""
        return _sorted(self._objects.get(resource, {}), namespace)

    def since(self, version: int) -> Iterable[Change]:
        """Return the changes after a version, oldest first.

        Raises:
            Gone: The version was compacted.
        """
        if version < self._compacted:
            raise Gone(f"too old resource version: {version} ({self._compacted})")
        start = bisect_right(self._changes, version, key=lambda change: change.version)
        return self._changes[start:]

    def at(self, version: int, resource: str) -> View:
        """Return a resource as it was at a version, by taking later changes back.

        Raises:
            Gone: The version was compacted.
        """
        objects = dict(self._objects.get(resource, {}))
        for change in reversed(list(self.since(version))):
            if change.resource != resource:
                continue
            key = key_of(change.object)
            if change.before is None:
                objects.pop(key, None)
            else:
                objects[key] = change.before
        return View(version, objects)

    # ------------------------------------------------------------------ writing

    def create(self, resource: str, obj: Object) -> Object:
        """Store a new object; give it a uid, a version, a time and, by `generateName`, a name.

        Raises:
            AlreadyExists: The name is taken.
        """
        objects = self._objects.setdefault(resource, {})
        metadata = dict(obj.get("metadata") or {})
        if not metadata.get("name"):
            metadata["name"] = self._generated(objects, metadata)
        metadata.setdefault("uid", self.new_uid())
        metadata.setdefault("creationTimestamp", self._now().strftime("%Y-%m-%dT%H:%M:%SZ"))
        key = (metadata.get("namespace") or "", metadata["name"])
        if key in objects:
            raise AlreadyExists(f'{resource} "{key[1]}" already exists')
        return self._record("ADDED", resource, {**obj, "metadata": metadata}, None)

    def update(self, resource: str, obj: Object) -> Object:
        """Store an object anew under the next version; an equal one changes nothing.

        Raises:
            KeyError: It is not there.
        """
        before = self._objects.get(resource, {})[key_of(obj)]
        given = obj["metadata"]
        stamped = {
            **given,
            "uid": given.get("uid") or before["metadata"]["uid"],
            "creationTimestamp": before["metadata"].get("creationTimestamp"),
            "resourceVersion": before["metadata"]["resourceVersion"],
        }
        after = {**obj, "metadata": stamped}
        if after == before:
            return before
        return self._record("MODIFIED", resource, after, before)

    def remove(self, resource: str, namespace: str, name: str) -> Object | None:
        """Take an object away; return its last state, or None where there was none."""
        before = self._objects.get(resource, {}).pop((namespace, name), None)
        if before is None:
            return None
        return self._record("DELETED", resource, before, before)

    def subscribe(self, callback: Callable[[str, str, Object], None]) -> None:
        """Call back with (ADDED | MODIFIED | DELETED, resource, object) right after each change."""
        self._subscribers.append(callback)

    def listen(self, callback: Callable[[Change], None]) -> None:
        """Call back with each change in order of versions, before any subscriber acts on it."""
        self._listeners.append(callback)

    def compact(self, version: int) -> None:
        """Forget the changes up to a version: older watches and reads get 410."""
        self._compacted = max(self._compacted, min(version, self._version))
        start = bisect_right(self._changes, self._compacted, key=lambda change: change.version)
        del self._changes[:start]

    def new_uid(self) -> str:
        """Return the next uid of the seed."""
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))

    def _record(self, kind: Kind, resource: str, obj: Object, before: Object | None) -> Object:
        self._version += 1
        metadata = {**obj["metadata"], "resourceVersion": str(self._version)}
        written = {**obj, "metadata": metadata}
        if kind != "DELETED":
            self._objects[resource][(metadata.get("namespace") or "", metadata["name"])] = written
        change = Change(self._version, kind, resource, written, before)
        self._changes.append(change)
        if len(self._changes) > _HISTORY:
            self.compact(self._changes[_HISTORY // 2].version)
        for listener in self._listeners:
            listener(change)
        for tell in self._subscribers:
            tell(kind, resource, written)
        return written

    def _generated(self, objects: dict[Key, Object], metadata: Object) -> str:
        base = str(metadata.get("generateName") or "")[:_LONGEST_BASE]
        namespace = metadata.get("namespace") or ""
        while True:
            name = base + "".join(self._random.choices(_SUFFIX, k=_SUFFIX_LENGTH))
            if (namespace, name) not in objects:
                return name


def key_of(obj: Object) -> Key:
    """Return the key of an object: its namespace ("" where it has none) and name."""
    metadata = obj["metadata"]
    return metadata.get("namespace") or "", metadata["name"]


def _sorted(objects: dict[Key, Object], namespace: str | None) -> list[Object]:
    keys = objects if namespace is None else [key for key in objects if key[0] == namespace]
    return [objects[key] for key in sorted(keys)]
