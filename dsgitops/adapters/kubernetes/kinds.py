"""What we keep of each kind of object, and where the API server has it.

DaemonSets and ControllerRevisions are kept as compressed JSON and read when they are looked at:
a thousand of them with ten revisions each take some 10 MiB so, and hundreds as Python objects.
Pods, nodes and Events are kept as the values that the judgement reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from sys import intern
from typing import TYPE_CHECKING, Any, cast

import msgspec

from dsgitops.adapters.kubernetes import wire
from dsgitops.adapters.kubernetes.packing import pack, unpack
from dsgitops.adapters.kubernetes.shelf import Item
from dsgitops.core import record as records
from dsgitops.core.chronicle import is_telling

if TYPE_CHECKING:
    from collections.abc import Callable

    from dsgitops.adapters.kubernetes.shelf import Decode
    from dsgitops.core.model import Event, Live, Phase, Ref, Revision

Raw = bytes | msgspec.Raw

APPS = "/apis/apps/v1"
CORE = "/api/v1"


def path_of(api: str, resource: str, namespace: str = "", name: str = "") -> str:
    """Return the path of a collection or of one object of it.

    Args:
        api: `APPS` or `CORE`.
        resource: The plural: `daemonsets`.
        namespace: Empty for cluster-wide lists and for kinds without one.
        name: Of the object; empty for the collection.
    """
    inside = f"/namespaces/{namespace}" if namespace else ""
    return f"{api}{inside}/{resource}" + (f"/{name}" if name else "")


def path_of_daemonset(ref: Ref) -> str:
    """Return the path of one DaemonSet."""
    return path_of(APPS, "daemonsets", ref.namespace, ref.name)


# ---------------------------------------------------------------------------- shapes


class _Owner(msgspec.Struct):
    uid: str = ""
    controller: bool | None = None


class _Metadata(msgspec.Struct, rename={"version": "resourceVersion", "owners": "ownerReferences"}):
    name: str
    namespace: str = ""
    uid: str = ""
    version: str = ""
    annotations: dict[str, str] | None = None
    owners: list[_Owner] | None = None


class _Head(msgspec.Struct):
    metadata: _Metadata


class _Status(msgspec.Struct, rename="camel"):
    desired_number_scheduled: int = 0
    number_available: int = 0


class _Counted(msgspec.Struct):
    status: _Status | None = None


_HEAD = msgspec.json.Decoder(_Head)
_COUNTED = msgspec.json.Decoder(_Counted)


@dataclass(frozen=True, slots=True)
class PackedDaemonSet:
    """A DaemonSet, to be read when it is looked at."""

    packed: bytes
    has_record: bool
    phase: Phase | None
    """Of its record; None where it has none that can be read."""
    scheduled: int = 0
    """`status.desiredNumberScheduled`, and the next `status.numberAvailable`: for display only."""
    available: int = 0

    def content(self) -> dict[str, Any]:
        """Return the whole object as the API server gave it."""
        content: dict[str, Any] = msgspec.json.decode(unpack(self.packed))
        return content

    def live(self) -> Live:
        """Return what the decisions see of it."""
        return wire.daemonset(unpack(self.packed))


@dataclass(frozen=True, slots=True)
class PackedRevision:
    """A ControllerRevision, to be read when it is looked at."""

    packed: bytes
    owner: str
    """uid of its controller."""

    def revision(self) -> Revision:
        """Return what the decisions see of it."""
        return wire.revision(unpack(self.packed))


# ---------------------------------------------------------------------------- decoders


def daemonset(raw: Raw) -> Item | None:
    """Keep a DaemonSet packed."""
    body = bytes(raw)
    meta = _metadata(body)
    if meta is None:
        return None
    text = (meta.annotations or {}).get(records.ANNOTATION)
    record = records.load(text) if text is not None else None
    phase = record.phase if record is not None else None
    scheduled, available = _counts(body)
    return _item(meta, PackedDaemonSet(pack(body), text is not None, phase, scheduled, available))


def revision(raw: Raw) -> Item | None:
    """Keep a ControllerRevision packed."""
    body = bytes(raw)
    meta = _metadata(body)
    if meta is None:
        return None
    owner = next((each.uid for each in meta.owners or () if each.controller), "")
    return _item(meta, PackedRevision(pack(body), owner))


def node(raw: Raw) -> Item | None:
    """Keep of a Node what the judgement reads."""
    return _projected(raw, wire.node)


def pod(raw: Raw) -> Item | None:
    """Keep of a Pod what the judgement reads."""
    return _projected(raw, wire.pod)


def event(raw: Raw) -> Item | None:
    """Keep of an Event what the judgement reads; None: of a pod's ordinary life, or of others.

    Every start of a pod makes five, and they live for an hour.
    """
    item = _projected(raw, wire.event)
    if item is None:
        return None
    value = cast("Event", item.value)
    return item if value.kind == "DaemonSet" or is_telling(value) else None


def within(decode: Decode, namespaces: frozenset[str]) -> Decode:
    """Return `decode` for objects of these namespaces alone."""

    def decode_within(raw: Raw) -> Item | None:
        item = decode(raw)
        return item if item is not None and item.namespace in namespaces else None

    return decode_within


def _projected(raw: Raw, read: Callable[[bytes], object]) -> Item | None:
    body = bytes(raw)
    meta = _metadata(body)
    try:
        return None if meta is None else _item(meta, read(body))
    except ValueError:  # one odd object must not hide all others
        return None


def _metadata(body: bytes) -> _Metadata | None:
    try:
        return _HEAD.decode(body).metadata
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _counts(body: bytes) -> tuple[int, int]:
    try:
        status = _COUNTED.decode(body).status
    except (msgspec.DecodeError, UnicodeDecodeError):
        return 0, 0
    return (status.desired_number_scheduled, status.number_available) if status else (0, 0)


def _item(meta: _Metadata, value: object) -> Item:
    return Item(intern(meta.namespace), meta.name, meta.uid, meta.version, value)
