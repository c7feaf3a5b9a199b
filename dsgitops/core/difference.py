"""Desired versus live versus a revision: is it the same, and for people, what differs.

The decision uses `missing` (plain comparison, microseconds).  DeepDiff runs after an inequality
was found, for the report that people read; it never decides (`libraries.md`).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Literal

from dsgitops.core.model import EMPTY

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from dsgitops.core.model import Desired, Live

MERGE_KEYS: Mapping[str, tuple[str, ...]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "ephemeralContainers": ("name",),
    "volumes": ("name",),
    "env": ("name",),
    "imagePullSecrets": ("name",),
    "resourceClaims": ("name",),
    "ports": ("containerPort", "protocol"),
    "volumeMounts": ("mountPath",),
    "volumeDevices": ("devicePath",),
    "hostAliases": ("ip",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
}
"""Lists that server-side apply merges by key (`daemonsets.md` 1.12); all others are atomic."""

_QUANTITIES = frozenset({"requests", "limits", "sizeLimit", "divisor", "overhead"})
_SUFFIXES = {
    "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "": Decimal(1),
    "k": Decimal(10**3), "M": Decimal(10**6), "G": Decimal(10**9), "T": Decimal(10**12),
    "P": Decimal(10**15), "E": Decimal(10**18),
    "Ki": Decimal(2**10), "Mi": Decimal(2**20), "Gi": Decimal(2**30), "Ti": Decimal(2**40),
    "Pi": Decimal(2**50), "Ei": Decimal(2**60),
}  # fmt: skip
_QUANTITY = re.compile(r"([+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)([numkMGTPE]i?|)")

SECRET_FIELDS = frozenset({"value", "args", "command", "stringData", "data"})
"""Fields whose values are shown as hashes: env values and command lines may be secrets."""


@dataclass(frozen=True, slots=True)
class Change:
    """One field that differs, for people: values that may be secrets are hashes."""

    kind: Literal["added", "removed", "changed", "moved"]
    path: str
    before: str = ""
    after: str = ""
    restarts: bool = False
    """Whether it lies in the pod template."""


def missing(desired: Desired, live: Live) -> str:
    """Return the first path of Git's content that the live object does not show; "" if all do.

    Live fields that Git does not name (defaults) do not count; who else wrote to the spec is told
    by `ownership.foreign`.  Quantities compare by amount.
    """
    metadata = desired.manifest["metadata"]
    for name, live_map in (("labels", live.labels), ("annotations", live.annotations)):
        for key, value in (metadata.get(name) or EMPTY).items():
            if live_map.get(key) != value:
                return f"/metadata/{name}/{key}"
    spec = desired.manifest["spec"]
    found = _missing(spec, live.spec, "/spec", quantity=False)
    for path in found:
        if not any(path.startswith(ignored) for ignored in desired.ignore_diff):
            return path
    return ""


def template_missing(desired: Desired, template: Mapping[str, Any]) -> bool:
    """Whether some of Git's pod template is not in `template` (live, or of a revision)."""
    want = desired.manifest["spec"].get("template") or EMPTY
    ignored = desired.ignore_diff
    return any(
        not any(path.startswith(each) for each in ignored)
        for path in _missing(want, template, "/spec/template", quantity=False)
    )


def explain(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Change, ...]:
    """Return what differs between two manifests (or specs), list items matched by merge key.

    Order in a list is a change (`moved`): it restarts every pod.
    """
    if before == after:
        return ()
    from deepdiff import DeepDiff  # noqa: PLC0415 - heavy, and only needed after an inequality

    one, two = _keyed(before), _keyed(after)
    diff = DeepDiff(one, two, view="tree", verbose_level=2)
    changes = [_change(str(kind), item) for kind, items in diff.items() for item in items]
    return tuple(sorted(changes, key=lambda change: change.path))


def quantity(value: Any) -> Decimal | None:  # noqa: ANN401 - any JSON
    """Return a Kubernetes quantity as a number; None where it is none."""
    match = _QUANTITY.fullmatch(str(value))
    if match is None:
        return None
    try:
        return Decimal(match[1]) * _SUFFIXES[match[2]]
    except (InvalidOperation, KeyError):
        return None


def _missing(want: Any, have: Any, path: str, *, quantity: bool) -> Iterator[str]:  # noqa: ANN401
    if want == have or (_empty(want) and not path.endswith("/emptyDir")):
        return
    if isinstance(want, dict):
        if not isinstance(have, dict):
            yield path
            return
        for key, value in want.items():
            below = f"{path}/{key.replace('~', '~0').replace('/', '~1')}"
            yield from _missing(
                value, have.get(key), below, quantity=quantity or key in _QUANTITIES
            )
        return
    if isinstance(want, list):
        yield from _missing_items(want, have, path)
        return
    if not (quantity and _same_quantity(want, have)):
        yield path


def _missing_items(want: list[Any], have: Any, path: str) -> Iterator[str]:  # noqa: ANN401
    if not isinstance(have, list) or len(have) < len(want):
        yield path
        return
    keys = MERGE_KEYS.get(path.rsplit("/", 1)[-1])
    if keys is None and len(have) != len(want):
        yield path
        return
    by_key = {_key(each, keys): each for each in have} if keys else {}
    for index, item in enumerate(want):
        other = by_key.get(_key(item, keys)) if keys else have[index]
        yield from _missing(item, other, f"{path}/{index}", quantity=False)


def _empty(value: Any) -> bool:  # noqa: ANN401 - any JSON
    """Whether the API reads it as "not set" (0 and "" are values, {} of a volume is kept)."""
    return value is None or value in ({}, [])


def _same_quantity(one: Any, two: Any) -> bool:  # noqa: ANN401 - any JSON
    first, second = quantity(one), quantity(two)
    return first is not None and first == second


def _key(item: Any, keys: Iterable[str] | None) -> tuple[Any, ...]:  # noqa: ANN401
    if keys is None or not isinstance(item, dict):
        return (str(item),)
    return tuple(item.get(key, "TCP" if key == "protocol" else None) for key in keys)


def _keyed(value: Any, name: str = "") -> Any:  # noqa: ANN401 - any JSON
    """Turn lists with merge keys into maps, with the position beside, so that items match."""
    if isinstance(value, dict):
        return {key: _keyed(each, key) for key, each in value.items() if not _empty(each)}
    if not isinstance(value, list):
        return value
    keys = MERGE_KEYS.get(name)
    if keys is None or not all(isinstance(item, dict) for item in value):
        return [_keyed(item) for item in value]
    out: dict[str, Any] = {
        ",".join(str(part) for part in _key(item, keys)): _keyed(item) for item in value
    }
    if len(out) != len(value):  # duplicate keys: compare as a plain list
        return [_keyed(item) for item in value]
    return out | {"(order)": list(out)}


def _change(kind: str, item: Any) -> Change:  # noqa: ANN401 - deepdiff's tree nodes
    steps = item.path(output_format="list")
    path = "".join(f"/{step}" for step in steps)
    if "(order)" in steps:
        path = "".join(f"/{step}" for step in steps[: steps.index("(order)")])
        return Change("moved", path, restarts="/template/" in path)
    secret = bool(SECRET_FIELDS.intersection(str(step) for step in steps))
    added, removed = "added" in kind, "removed" in kind
    return Change(
        "added" if added else "removed" if removed else "changed",
        path,
        before="" if added else _shown(item.t1, secret=secret),
        after="" if removed else _shown(item.t2, secret=secret),
        restarts="/template/" in path or path.endswith("/template"),
    )


def _shown(value: Any, *, secret: bool) -> str:  # noqa: ANN401 - any JSON
    if isinstance(value, dict | list):
        secret = True
    if secret:
        return "sha256:" + hashlib.sha256(repr(value).encode()).hexdigest()[:12]
    return str(value)
