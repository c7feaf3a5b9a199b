"""Who owns which field: reading and taking over `metadata.managedFields`.

Server-side apply removes a field only if nobody else owns it.  A rollback (strategic merge) and
every other client leave entries of their own behind, so before a forward write their share of the
spec is moved into ours.  Scheme and traps: `cluster.md` 3.2, observed on a real API server.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from dsgitops.core.difference import MERGE_KEYS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

MANAGER = "dsgitops"
RECORD_MANAGER = "dsgitops-record"
CLI_MANAGER = "dsgitops-cli"
OURS = frozenset({MANAGER, RECORD_MANAGER, CLI_MANAGER})

_CLIENT_SIDE = "kubectl-client-side-apply"
"""Taken over whole at adoption, with `last-applied-configuration`: or the next `kubectl apply` of
an old file would take our labels away.  Later its metadata is people's, as anybody's is."""

Entry = dict[str, Any]
Fields = dict[str, Any]
Path = tuple[str, ...]


def takeover(
    managed_fields: Sequence[Mapping[str, Any]], *, leave: frozenset[Path] = frozenset()
) -> list[Entry] | None:
    """Return the list in which every field of the spec is ours, or None if it already is so.

    Args:
        managed_fields: `metadata.managedFields` as read.
        leave: Paths (`f:…`, `k:…` segments from the root) that stay with their owner.

    Returns:
        The whole new list for a merge patch of `metadata.managedFields`; never empty.
    """
    mine: Entry | None = next((dict(each) for each in managed_fields if is_ours(each)), None)
    whole = {MANAGER} if mine else {MANAGER, _CLIENT_SIDE}
    others: list[Entry] = []
    taken: Fields = {}
    for entry in managed_fields:
        if is_ours(entry):
            continue
        if entry.get("subresource"):
            others.append(dict(entry))
            continue
        fields = entry.get("fieldsV1") or {}
        share, rest = _share(fields, leave, whole=entry.get("manager") in whole)
        taken = _union(taken, share)
        if rest:
            others.append(dict(entry) | {"fieldsV1": rest})
    if not taken:
        return None
    mine = mine or {
        "manager": MANAGER,
        "operation": "Apply",
        "apiVersion": "apps/v1",
        "fieldsType": "FieldsV1",
    }
    mine["fieldsV1"] = _union(mine.get("fieldsV1") or {}, taken)
    return [mine, *others]


def foreign(
    managed_fields: Sequence[Mapping[str, Any]], *, leave: frozenset[Path] = frozenset()
) -> tuple[tuple[str, str, Fields], ...]:
    """Return (manager, operation, its `f:spec` subtree) of everyone else who wrote the spec."""
    found: list[tuple[str, str, Fields]] = []
    for entry in managed_fields:
        manager = str(entry.get("manager", ""))
        if manager in OURS or entry.get("subresource"):
            continue
        spec = (entry.get("fieldsV1") or {}).get("f:spec")
        share = _without(spec, leave, ("f:spec",)) if spec else None
        if share:
            found.append((manager, str(entry.get("operation", "")), share))
    return tuple(found)


def spec_fields(managed_fields: Sequence[Mapping[str, Any]]) -> Fields:
    """Return the fields of the spec that anybody owns, as one `f:spec` subtree."""
    fields: Fields = {}
    for entry in managed_fields:
        if not entry.get("subresource"):
            fields = _union(fields, (entry.get("fieldsV1") or {}).get("f:spec") or {})
    return fields


def our_metadata(managed_fields: Sequence[Mapping[str, Any]], name: str) -> frozenset[str]:
    """Return the keys of `metadata.labels` or `metadata.annotations` that our applies own."""
    mine = next((each for each in managed_fields if is_ours(each)), {})
    metadata = (mine.get("fieldsV1") or {}).get("f:metadata") or {}
    return frozenset(
        key.removeprefix("f:") for key in metadata.get(f"f:{name}") or () if key != "."
    )


def owns_template(share: Fields) -> bool:
    """Whether a `f:spec` subtree reaches into the pod template."""
    return "f:template" in share


def leaves(fields: Fields, prefix: Path = ()) -> Iterator[Path]:
    """Yield the paths of a fieldsV1 tree's leaves."""
    for key, below in fields.items():
        if key == ".":
            continue
        if below and set(below) != {"."}:
            yield from leaves(below, (*prefix, key))
        else:
            yield (*prefix, key)


def lookup(value: Any, path: Path) -> Any:  # noqa: ANN401 - any JSON
    """Return what a fieldsV1 path names in an object; None where it is absent."""
    for segment in path:
        value = _child(value, segment)
        if value is None:
            return None
    return value


def field_path(path: Path) -> str:
    """Return a fieldsV1 path as people write it: `.spec.template…containers[agent].image`."""
    out = ""
    for segment in path:
        kind, _, rest = segment.partition(":")
        if kind == "f":
            out += f".{rest}"
        elif kind == "k":
            keys = _parsed(rest) or {}
            out += f"[{keys.get('name') or ','.join(str(each) for each in keys.values())}]"
        else:
            out += f"[{rest}]"
    return out


def from_pointer(manifest: Mapping[str, Any], pointer: str) -> Path:
    """Return the fieldsV1 path of a JSON pointer into a manifest (`dsgitops.io/ignore-diff`).

    A list index becomes the merge key of the element that Git has there; where Git has none, or
    the list is replaced as a whole, the path ends at the list: it is left to its owner.
    """
    path: list[str] = []
    value: Any = manifest
    name = ""
    for raw in pointer.lstrip("/").split("/"):
        step = raw.replace("~1", "/").replace("~0", "~")
        if not isinstance(value, list):
            path.append(f"f:{step}")
            name, value = step, value.get(step) if isinstance(value, dict) else None
            continue
        elements: list[Any] = value
        index = int(step) if step.isascii() and step.isdigit() else len(elements)
        value = elements[index] if index < len(elements) else None
        keys = MERGE_KEYS.get(name)
        if keys is None or not isinstance(value, dict):
            break
        path.append(element(value, keys))
    return tuple(path)


def element(item: Mapping[str, Any], keys: Sequence[str]) -> str:
    """Return the segment that names an element of a list: `k:{"name":"agent"}`."""
    named = {key: item.get(key, "TCP" if key == "protocol" else None) for key in sorted(keys)}
    return "k:" + json.dumps(named, separators=(",", ":"))


def is_ours(entry: Mapping[str, Any]) -> bool:
    """Whether it is the entry of our forward writes."""
    return (
        entry.get("manager") == MANAGER
        and entry.get("operation") == "Apply"
        and entry.get("apiVersion") == "apps/v1"
        and not entry.get("subresource")
    )


def _share(fields: Fields, leave: frozenset[Path], *, whole: bool) -> tuple[Fields, Fields]:
    """Split an entry's fields into what we take and what stays with its manager."""
    wanted = fields if whole else {key: each for key, each in fields.items() if key == "f:spec"}
    share = _without(wanted, leave, ())
    kept = _only(wanted, leave, ())
    rest = {key: each for key, each in fields.items() if key not in wanted}
    return share, rest | kept


def _without(fields: Fields, leave: frozenset[Path], prefix: Path) -> Fields:
    """Return `fields` without the subtrees that are left to their owner."""
    if not leave:
        return fields
    out: Fields = {}
    for key, below in fields.items():
        path = (*prefix, key)
        if path in leave:
            continue
        rest = _without(below, leave, path) if below else below
        if rest or not below:
            out[key] = rest
    return {} if set(out) <= {"."} else out


def _only(fields: Fields, leave: frozenset[Path], prefix: Path) -> Fields:
    """Return just the subtrees that are left to their owner."""
    out: Fields = {}
    for key, below in fields.items():
        path = (*prefix, key)
        kept = below if path in leave else _only(below, leave, path) if below else {}
        if kept or path in leave:
            out[key] = kept
    return out


def _union(one: Fields, two: Fields) -> Fields:
    out = dict(one)
    for key, below in two.items():
        out[key] = _union(out[key], below) if key in out else below
    return out


def _child(value: Any, segment: str) -> Any:  # noqa: ANN401 - any JSON
    kind, _, rest = segment.partition(":")
    if kind == "f":
        return value.get(rest) if isinstance(value, dict) else None
    if not isinstance(value, list):
        return None
    elements: list[Any] = value
    if kind == "v":
        return next((each for each in elements if json.dumps(each) == rest), None)
    wanted = _parsed(rest)
    if wanted is None:
        return None
    for element in elements:
        if isinstance(element, dict) and all(
            element.get(key, "TCP") == each for key, each in wanted.items()
        ):
            return element
    return None


def _parsed(key: str) -> dict[str, Any] | None:
    """Read what follows `k:`; None where it is nonsense, which the API server lets pass."""
    try:
        read = json.loads(key)
    except ValueError:
        return None
    return read if isinstance(read, dict) else None
