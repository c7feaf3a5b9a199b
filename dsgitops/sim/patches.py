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


class NoPatch(Exception):
    """A JSON patch that is no list of operations."""


class Unmergeable(Exception):
    """A strategic merge patch that does not go with the type: a 500, as Kubernetes answers it."""


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
    """Return the target with a JSON patch applied: RFC 6902, as Kubernetes' library takes it.

    That is: a missing key of a map is replaced as if it were there, and read as null.

    Raises:
        NoPatch: No list of operations.
        BadPatch: An unknown operation, or a path that is not there.
        TestFailed: A `test` did not hold.
    """
    if not isinstance(operations, list):
        raise NoPatch("cannot unmarshal object into Go value of type jsonpatch.Patch")
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
    for index, step in enumerate(path, start=1):
        if isinstance(target, list):
            target = target[_index(target, step, last=len(target) - 1)]
        elif isinstance(target, dict) and (step in target or index == len(path)):
            target = target.get(step)
        else:
            raise BadPatch(f"the path has a missing key {step!r}")
    return target


def _index(target: list[Any], step: str, *, last: int) -> int:
    """Return a place in a list; negative ones count from behind its last place."""
    if step == "-":
        return len(target)
    number = int(step) if step.removeprefix("-").isdigit() else last + 1
    if not -last - 1 <= number <= last:
        raise BadPatch(f"the path has an index out of range: {step}")
    return number if number >= 0 else number + last + 1


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
    if not isinstance(target, dict) or (rest and step not in target):
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
        Unmergeable: An unknown directive, a list element without its key, an order that is none.
    """
    if not isinstance(patch, dict) or isinstance(of, List | Scalar):
        return patch
    directive = patch.get(_DIRECTIVE)
    if directive == "replace":
        return _undirected({key: value for key, value in patch.items() if key != _DIRECTIVE})
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise Unmergeable(f"Unknown patch type: {directive}")
    out: Object = dict(target) if isinstance(target, dict) else {}
    retained = patch.get(_RETAIN)
    if retained is not None:
        out = {key: value for key, value in out.items() if key in retained}
    for key, value in patch.items():
        if key.startswith("$"):
            continue
        _set_field(of, out, key, value)
    _apply_list_directives(of, out, patch, target if isinstance(target, dict) else {})
    return out


def _set_field(of: Type, out: Object, key: str, value: Any) -> None:  # noqa: ANN401 - any JSON
    below = child(of, f"f:{key}")
    if value is None:
        out.pop(key, None)
    elif isinstance(value, list) and isinstance(below, List) and not below.replaced:
        out[key] = _merged_list(below, out.get(key) or [], value)
    elif isinstance(value, list):
        out[key] = [each for each in value if not _directs(each)]
    elif isinstance(value, dict) and below != ANY and not isinstance(below, List):
        out[key] = strategic(below, out.get(key), value)
    else:
        out[key] = value


def _merged_list(of: List, target: list[Any], patch: list[Any]) -> list[Any]:
    """Merge lists: what the patch names stands in its order, before what it does not know."""
    if of.unique:
        merged = target + [each for each in patch if each not in target]
        return _arranged(of, merged, patch, target)
    named = [each for each in patch if not _directs(each) or each.get(of.keys[0]) is not None]
    _check_keys(of, named)
    if any(_directs(each) and each[_DIRECTIVE] == "replace" for each in patch):
        return [each for each in named if not _directs(each)]
    gone = [_key(of, each) for each in named if each.get(_DIRECTIVE) == "delete"]
    out = [each for each in target if _key(of, each) not in gone]
    named = [each for each in named if not _directs(each)]
    for each in named:
        where = [at for at, old in enumerate(out) if _key(of, old) == _key(of, each)]
        if where:
            out[where[0]] = strategic(of.element, out[where[0]], each)
        else:
            out.append(each)  # as it is, directives and all
    return _arranged(of, out, named, target)


def _directs(element: Any) -> bool:  # noqa: ANN401 - any JSON
    return isinstance(element, dict) and _DIRECTIVE in element


def _check_keys(of: List, elements: list[Any]) -> None:
    key = of.keys[0]
    for each in elements:
        if not isinstance(each, dict) or key not in each:
            raise Unmergeable(f"{json.dumps(each)} does not contain declared merge key: {key}")


def _key(of: List, element: Any) -> Any:  # noqa: ANN401 - any JSON
    return element.get(of.keys[0]) if of.keys else element


def _apply_list_directives(of: Type, out: Object, patch: Object, before: Object) -> None:
    for name, wanted in patch.items():
        if name.startswith(_DELETE_FROM):
            field = name.removeprefix(_DELETE_FROM)
            out[field] = [each for each in out.get(field) or [] if each not in wanted]
        elif name.startswith(_ORDER):
            field = name.removeprefix(_ORDER)
            below = child(of, f"f:{field}")
            if not isinstance(patch.get(field) or [], list):
                raise Unmergeable(f"expected a list at {field}")
            if isinstance(below, List) and isinstance(out.get(field), list):
                _check_order(below, patch.get(field) or [], wanted)
                out[field] = _arranged(below, out[field], wanted, before.get(field) or [])


def _check_order(of: List, patch: list[Any], wanted: list[Any]) -> None:
    """Check that the order names all elements of the patch, in their order."""
    order = iter([_key(of, each) for each in wanted])
    kept = [each for each in patch if not _directs(each)]
    if not all(_key(of, each) in order for each in kept):
        raise Unmergeable("the order in patch list doesn't match $setElementOrder list")


def _arranged(of: List, merged: list[Any], wanted: list[Any], before: list[Any]) -> list[Any]:
    """Return the merged elements in the wanted order, those it does not name put in between.

    An unnamed element goes before a named one only if it stood before it already.
    """
    order = [_key(of, each) for each in wanted]
    stood = [_key(of, each) for each in before]
    first = sorted(
        (it for it in merged if _key(of, it) in order), key=lambda it: order.index(_key(of, it))
    )
    rest = [each for each in merged if _key(of, each) not in order]
    out: list[Any] = []
    for each in first:
        while rest and _stood_before(_key(of, rest[0]), _key(of, each), stood):
            out.append(rest.pop(0))
        out.append(each)
    return out + rest


def _stood_before(one: Any, other: Any, stood: list[Any]) -> bool:  # noqa: ANN401 - any JSON
    return one in stood and other in stood and stood.index(one) < stood.index(other)


def _undirected(value: Any) -> Any:  # noqa: ANN401 - any JSON
    """Return a replacing value as it is to be stored: without nulls in maps."""
    if isinstance(value, dict):
        return {key: _undirected(each) for key, each in value.items() if each is not None}
    if isinstance(value, list):
        return [_undirected(each) for each in value]
    return value
