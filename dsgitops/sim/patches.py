"""The three patch formats besides server-side apply: merge, JSON and strategic merge patch.

Pure: documents in, documents out; nothing that came in is changed.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from dsgitops.sim.schema import ANY, List, Object, Scalar, Type, child

if TYPE_CHECKING:
    from collections.abc import Sequence

_DIRECTIVE = "$patch"
_ORDER = "$setElementOrder/"
_DELETE_FROM = "$deleteFromPrimitiveList/"
_RETAIN = "$retainKeys"


class BadPatch(Exception):
    """A patch that cannot be read or whose path does not exist."""


class TestFailed(Exception):
    """A JSON patch's `test` did not hold."""

    __test__ = False


# ---------------------------------------------------------------------------- merge patch


def merge(target: Any, patch: Any) -> Any:  # noqa: ANN401 - any JSON
    """Return the target with a JSON merge patch applied (RFC 7396): null removes."""
    if not isinstance(patch, dict):
        return patch
    out: Object = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            out.pop(key, None)
        else:
            out[key] = merge(out.get(key), value)
    return out


# ---------------------------------------------------------------------------- JSON patch


def json_patch(target: Any, operations: Any) -> Any:  # noqa: ANN401 - any JSON
    """Return the target with a JSON patch applied (RFC 6902).

    Raises:
        BadPatch: No list of operations, an unknown one, or a path that is not there.
        TestFailed: A `test` did not hold.
    """
    if not isinstance(operations, list):
        raise BadPatch("cannot unmarshal object into Go value of type jsonpatch.Patch")
    for operation in operations:
        if not isinstance(operation, dict):
            raise BadPatch("an operation is not an object")
        target = _operated(target, operation)
    return target


def _operated(target: Any, operation: Object) -> Any:  # noqa: ANN401 - any JSON
    name, path = operation.get("op"), _steps(str(operation.get("path", "")))
    if name == "test":
        if not _found(target, path) == operation.get("value"):
            raise TestFailed(str(operation.get("path")))
        return target
    if name in ("add", "replace"):
        return _put(target, path, operation.get("value"), existing=name == "replace")
    if name == "remove":
        return _taken(target, path)
    if name in ("move", "copy"):
        source = _steps(str(operation.get("from", "")))
        value = _found(target, source)
        rest = _taken(target, source) if name == "move" else target
        return _put(rest, path, value, existing=False)
    raise BadPatch(f"Unexpected kind: {name}")


def _steps(pointer: str) -> list[str]:
    if pointer and not pointer.startswith("/"):
        raise BadPatch(f"invalid JSON pointer {pointer!r}")
    return [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:]]


def _found(target: Any, path: Sequence[str]) -> Any:  # noqa: ANN401 - any JSON
    for step in path:
        if isinstance(target, list):
            target = target[_index(target, step, last=len(target) - 1)]
        elif isinstance(target, dict) and step in target:
            target = target[step]
        else:
            raise BadPatch(f"the path has a missing key {step!r}")
    return target


def _index(target: list[Any], step: str, *, last: int) -> int:
    if step == "-":
        return len(target)
    if not step.isdigit() or int(step) > last:
        raise BadPatch(f"the path has an index out of range: {step}")
    return int(step)


def _put(target: Any, path: Sequence[str], value: Any, *, existing: bool) -> Any:  # noqa: ANN401
    if not path:
        return value
    step, rest = path[0], path[1:]
    if isinstance(target, list):
        index = _index(target, step, last=len(target) - (1 if rest or existing else 0))
        if rest:
            changed = _put(target[index], rest, value, existing=existing)
            return [*target[:index], changed, *target[index + 1 :]]
        return [*target[:index], value, *target[index + (1 if existing else 0) :]]
    if not isinstance(target, dict) or ((rest or existing) and step not in target):
        raise BadPatch(f"the path has a missing key {step!r}")
    below = _put(target[step], rest, value, existing=existing) if rest else value
    return {**target, step: below}


def _taken(target: Any, path: Sequence[str]) -> Any:  # noqa: ANN401 - any JSON
    if not path:
        raise BadPatch("the whole document cannot be removed")
    step, rest = path[0], path[1:]
    if isinstance(target, list):
        index = _index(target, step, last=len(target) - 1)
        middle = [_taken(target[index], rest)] if rest else []
        return [*target[:index], *middle, *target[index + 1 :]]
    if not isinstance(target, dict) or step not in target:
        raise BadPatch(f"the path has a missing key {step!r}")
    if rest:
        return {**target, step: _taken(target[step], rest)}
    return {key: value for key, value in target.items() if key != step}


# ---------------------------------------------------------------------------- strategic merge


def strategic(of: Type, target: Any, patch: Any) -> Any:  # noqa: ANN401 - any JSON
    """Return the target with a strategic merge patch applied: keyed lists merge by their key.

    Args:
        of: The type of target and patch.
        target: The document; None where there is none.
        patch: The patch with its directives (`$patch`, `$setElementOrder/…`, `$retainKeys`).

    Raises:
        BadPatch: An unknown directive, or a list element without its key.
    """
    if not isinstance(patch, dict) or isinstance(of, List | Scalar):
        return patch
    directive = patch.get(_DIRECTIVE)
    if directive == "replace":
        return _undirected({key: value for key, value in patch.items() if key != _DIRECTIVE})
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise BadPatch(f"Unknown patch type: {directive}")
    out: Object = dict(target) if isinstance(target, dict) else {}
    retained = patch.get(_RETAIN)
    if retained is not None:
        out = {key: value for key, value in out.items() if key in retained}
    for key, value in patch.items():
        if key.startswith("$"):
            continue
        _set_field(of, out, key, value)
    _apply_list_directives(of, out, patch)
    return out


def _set_field(of: Type, out: Object, key: str, value: Any) -> None:  # noqa: ANN401 - any JSON
    below = child(of, f"f:{key}")
    if value is None:
        out.pop(key, None)
    elif isinstance(value, list) and isinstance(below, List) and not below.replaced:
        out[key] = _merged_list(below, out.get(key) or [], value)
    elif isinstance(value, dict) and below != ANY:
        out[key] = strategic(below, out.get(key), value)
    else:
        out[key] = value


def _merged_list(of: List, target: list[Any], patch: list[Any]) -> list[Any]:
    if of.unique:
        return target + [each for each in patch if each not in target]
    if any(isinstance(each, dict) and each.get(_DIRECTIVE) == "replace" for each in patch):
        return [each for each in patch if each.get(_DIRECTIVE) != "replace"]
    key = of.keys[0]
    out = list(target)
    for each in patch:
        if not isinstance(each, dict) or key not in each:
            raise BadPatch(f"map: {json.dumps(each)} does not contain declared merge key: {key}")
        where = [index for index, old in enumerate(out) if old.get(key) == each[key]]
        if each.get(_DIRECTIVE) == "delete":
            out = [old for old in out if old.get(key) != each[key]]
        elif where:
            out[where[0]] = strategic(of.element, out[where[0]], each)
        else:
            out.append(strategic(of.element, None, each))
    return out


def _apply_list_directives(of: Type, out: Object, patch: Object) -> None:
    for name, wanted in patch.items():
        if name.startswith(_DELETE_FROM):
            field = name.removeprefix(_DELETE_FROM)
            out[field] = [each for each in out.get(field) or [] if each not in wanted]
        elif name.startswith(_ORDER):
            field = name.removeprefix(_ORDER)
            below = child(of, f"f:{field}")
            if isinstance(below, List) and isinstance(out.get(field), list):
                out[field] = _ordered(below, out[field], wanted)


def _ordered(of: List, values: list[Any], wanted: list[Any]) -> list[Any]:
    """Return the values in the wanted order; those it does not name stay behind their neighbour."""
    keys = [each.get(of.keys[0]) for each in wanted] if of.keys else list(wanted)
    named = {key: index for index, key in enumerate(keys)}

    def key_of(value: Any) -> Any:  # noqa: ANN401 - any JSON
        return value.get(of.keys[0]) if of.keys else value

    listed = sorted(
        (each for each in values if key_of(each) in named), key=lambda v: named[key_of(v)]
    )
    out = list(listed)
    for index, value in enumerate(values):
        if key_of(value) in named:
            continue
        before = values[index - 1] if index else None
        out.insert(out.index(before) + 1 if before is not None else 0, value)
    return out


def _undirected(value: Any) -> Any:  # noqa: ANN401 - any JSON
    """Return a replacing value as it is to be stored: without nulls in maps."""
    if isinstance(value, dict):
        return {key: _undirected(each) for key, each in value.items() if each is not None}
    if isinstance(value, list):
        return [_undirected(each) for each in value]
    return value
