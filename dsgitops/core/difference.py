"""Desired versus live versus a revision: is it the same, and for people, what differs.

The decision uses `missing` (plain comparison, microseconds).  DeepDiff runs after an inequality
was found, for the report that people read; it never decides (`libraries.md`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from dsgitops.core.model import EMPTY
from dsgitops.core.quantity import quantity_of

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
    "claims": ("name",),
    "schedulingGates": ("name",),
    "ports": ("containerPort", "protocol"),
    "volumeMounts": ("mountPath",),
    "volumeDevices": ("devicePath",),
    "hostAliases": ("ip",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
}
"""Lists that server-side apply merges by key (`daemonsets.md` 1.12); all others are atomic."""

_QUANTITIES = frozenset({"requests", "limits", "sizeLimit", "divisor", "overhead"})
OVERWRITTEN = frozenset({"dsgitops.io/record", "kubernetes.io/change-cause"})
"""Annotations that every forward write sets, whatever Git has there."""

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
    for name, shown in (("labels", live.labels), ("annotations", live.annotations)):
        for key, value in (metadata.get(name) or EMPTY).items():
            path = f"/metadata/{name}/{_escaped(key)}"
            if shown.get(key) != value and key not in OVERWRITTEN and not _left(desired, path):
                return path
    spec = desired.manifest["spec"]
    found = _missing(spec, live.spec, "/spec", quantity=False)
    return next((path for path in found if not _left(desired, path)), "")


def template_missing(desired: Desired, template: Mapping[str, Any]) -> bool:
    """Whether some of Git's pod template is not in `template` (live, or of a revision)."""
    want = desired.manifest["spec"].get("template") or EMPTY
    found = _missing(want, template, "/spec/template", quantity=False)
    return any(not _left(desired, path) for path in found)


def same(want: Any, have: Any, name: str) -> bool:  # noqa: ANN401 - any JSON
    """Whether the API reads two values of one field as equal.

    Args:
        want: Of Git.
        have: Of the live object.
        name: The path they stand at, for what is compared by amount or by key.
    """
    amount = any(step in _QUANTITIES for step in name.split("/"))
    return next(_missing(want, have, name, quantity=amount), None) is None


def explain(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Change, ...]:
    """Return what differs between two manifests (or specs), list items matched by merge key.

    Another order of the same items is a change (`moved`): it restarts every pod.
    """
    if before == after:
        return ()
    from deepdiff import DeepDiff  # noqa: PLC0415 - heavy, and only needed after an inequality

    one, two = _keyed(before), _keyed(after)
    diff = DeepDiff(one, two, view="tree", verbose_level=2)
    changes = [_change(str(kind), item) for kind, items in diff.items() for item in items]
    changes += [
        Change("moved", path, restarts="/template/" in path) for path in _moved(one, two, "")
    ]
    return tuple(sorted(changes, key=lambda change: change.path))


def _left(desired: Desired, path: str) -> bool:
    """Whether `dsgitops.io/ignore-diff` leaves a path to others."""
    return any(path == each or path.startswith(f"{each}/") for each in desired.ignore_diff)


def _escaped(key: object) -> str:
    return str(key).replace("~", "~0").replace("/", "~1")


def _missing(want: Any, have: Any, path: str, *, quantity: bool) -> Iterator[str]:  # noqa: ANN401
    if want == have:
        return
    if _empty(want):
        name = path.rsplit("/", 1)[-1]
        emptied = want == [] and have and name not in MERGE_KEYS
        if emptied or (name == "emptyDir" and have is None):
            yield path
        return
    if isinstance(want, dict):
        if not isinstance(have, dict):
            yield path
            return
        for key, value in want.items():
            amount = quantity or key in _QUANTITIES
            yield from _missing(value, have.get(key), f"{path}/{_escaped(key)}", quantity=amount)
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
    if keys is None:
        if len(have) != len(want):
            yield path
            return
        for index, (item, other) in enumerate(zip(want, have, strict=True)):
            yield from _missing(item, other, f"{path}/{index}", quantity=False)
        return
    places = {_key(each, keys): index for index, each in enumerate(have)}
    found = [places.get(_key(item, keys)) for item in want]
    for index, place in enumerate(found):
        other = None if place is None else have[place]
        yield from _missing(want[index], other, f"{path}/{index}", quantity=False)
    seen = [place for place in found if place is not None]
    if seen != sorted(seen):  # another order restarts every pod
        yield path


def _empty(value: Any) -> bool:  # noqa: ANN401 - any JSON
    """Whether the API reads it as "not set" (0 and "" are values, {} of a volume is kept)."""
    return value is None or value in ({}, [])


def _same_quantity(one: Any, two: Any) -> bool:  # noqa: ANN401 - any JSON
    first = quantity_of(one)
    return first is not None and first == quantity_of(two)


def _key(item: Any, keys: Iterable[str] | None) -> tuple[Any, ...]:  # noqa: ANN401
    if keys is None or not isinstance(item, dict):
        return (str(item),)
    return tuple(str(item.get(key, "TCP" if key == "protocol" else None)) for key in keys)


class _Items(dict[str, Any]):
    """A list by merge key."""


def _keyed(value: Any, name: str = "") -> Any:  # noqa: ANN401 - any JSON
    """Turn lists with merge keys into maps (which keep their order), so that items match."""
    if isinstance(value, dict):
        return {key: _keyed(each, key) for key, each in value.items() if not _empty(each)}
    if not isinstance(value, list):
        return value
    keys = MERGE_KEYS.get(name)
    if keys is None or not all(isinstance(item, dict) for item in value):
        return [_keyed(item) for item in value]
    out = _Items({",".join(_key(item, keys)): _keyed(item) for item in value})
    if len(out) != len(value):  # duplicate keys: compare as a plain list
        return [_keyed(item) for item in value]
    return out


def _moved(one: Any, two: Any, path: str) -> Iterator[str]:  # noqa: ANN401 - any JSON
    """Yield the lists whose common items stand in another order."""
    if not (isinstance(one, dict) and isinstance(two, dict)):
        return
    common = [key for key in one if key in two]
    if isinstance(one, _Items) and common != [key for key in two if key in one]:
        yield path
    for key in common:
        yield from _moved(one[key], two[key], f"{path}/{_escaped(key)}")


def _change(kind: str, item: Any) -> Change:  # noqa: ANN401 - deepdiff's tree nodes
    steps = item.path(output_format="list")
    path = "".join(f"/{_escaped(step)}" for step in steps)
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
