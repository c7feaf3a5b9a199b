"""The types of the API: which fields there are, what they hold, and how lists are merged.

The table is `schema.txt`.  Paths are written as in `metadata.managedFields` (`f:name`,
`k:{"name":"a"}`, `v:"a"`), and for people as the API server's messages have them.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

Object = dict[str, Any]
Path = tuple[str, ...]

KEY_DEFAULTS: dict[str, str | int] = {
    "protocol": "TCP",
    **dict.fromkeys(("name", "mountPath", "devicePath", "topologyKey", "whenUnsatisfiable"), ""),
    **dict.fromkeys(("type", "ip", "uid"), ""),
    "containerPort": 0,
}
"""Key fields of list elements that have a default in the schema; required ones are empty."""


@dataclass(frozen=True, slots=True)
class Scalar:
    """A value without parts: string, int, bool, number, quantity, intstr, time, microtime, any."""

    name: str


@dataclass(frozen=True, slots=True)
class Map:
    """Free keys, all values of one type: labels, limits."""

    element: Type
    atomic: bool


@dataclass(frozen=True, slots=True)
class List:
    """A list: keyed by fields of its elements, a set, or (neither) atomic."""

    element: Type
    keys: tuple[str, ...]
    unique: bool
    """A set of scalars."""
    replaced: bool
    """Replaced as a whole by a strategic merge patch."""

    @property
    def atomic(self) -> bool:
        """Whether it is owned and replaced as a whole."""
        return not self.keys and not self.unique


@dataclass(slots=True)
class Struct:
    """Named fields.  Mutable only while the table is read, for types that contain themselves."""

    name: str
    atomic: bool
    fields: dict[str, Type] = field(default_factory=dict)
    kept: set[str] = field(default_factory=set)
    """Fields that are written even when zero."""


Type = Scalar | Map | List | Struct

ANY = Scalar("any")
_ZERO = {Scalar("string"): "", Scalar("quantity"): "0"}
"""What null in a map is read as."""

_MICROTIME = re.compile(r".*\.\d{6}(Z|[+-]\d\d:\d\d)")


@cache
def types() -> dict[str, Struct]:
    """Return all structs by name, read from the table once."""
    text = files("dsgitops.sim").joinpath("schema.txt").read_text(encoding="utf-8")
    rows = [paragraph.split() for paragraph in text.split("\n\n") if not paragraph.startswith("#")]
    known = {row[0].rstrip("!"): Struct(row[0].rstrip("!"), row[0].endswith("!")) for row in rows}
    for row in rows:
        struct = known[row[0].rstrip("!")]
        for word in row[1:]:
            name, _, notation = word.partition(":")
            struct.fields[name.rstrip("*")] = _parsed(notation, known)
            if name.endswith("*"):
                struct.kept.add(name.rstrip("*"))
    return known


def kind(name: str) -> Struct:
    """Return the type of a kind: `DaemonSet`, `Pod` and so on."""
    return types()[name]


def child(of: Type, segment: str) -> Type:
    """Return the type below a path segment; `any` where nothing is declared."""
    if isinstance(of, Struct):
        return of.fields.get(segment[2:], ANY)
    return of.element if isinstance(of, Map | List) else ANY


def key_of(of: List, element: Any) -> str | None:  # noqa: ANN401 - any JSON
    """Return the path segment of a list's element; None where a key field is missing."""
    if of.unique:
        return "v:" + json.dumps(element)
    if not isinstance(element, dict):
        return None
    values: Object = {}
    for key in of.keys:
        value = element.get(key, KEY_DEFAULTS.get(key))
        if value is None:
            return None
        values[key] = value
    return "k:" + json.dumps(dict(sorted(values.items())), separators=(",", ":"))


def shown(path: Path) -> str:
    """Return a path as the API server's messages write it: `.spec.containers[name="a"].image`."""
    return "".join(_shown(segment) for segment in path)


def _shown(segment: str) -> str:
    mark, rest = segment[0], segment[2:]
    if mark == "f":
        return f".{rest}"
    if mark == "i":
        return f"[{rest}]"
    if mark == "v":
        return f"[={rest}]"
    keys: Object = json.loads(rest)
    return "[" + ",".join(f"{key}={json.dumps(value)}" for key, value in keys.items()) + "]"


def _parsed(notation: str, known: dict[str, Struct]) -> Type:
    if notation.startswith("{"):
        return Map(_parsed(notation[1 : notation.rindex("}")], known), notation.endswith("!"))
    if notation.startswith("["):
        inner, _, rest = notation[1:].rpartition("]")
        element = _parsed(inner, known)
        keys = tuple(rest.rstrip("~").split(",")) if rest.rstrip("~") not in ("", "set") else ()
        return List(element, keys, unique=rest == "set", replaced=rest.endswith("~") or not rest)
    return known[notation] if notation in known else Scalar(notation)


# ---------------------------------------------------------------------------- what a body may hold


class Mismatch(Exception):
    """A value does not fit its type; the message is the API server's."""


def check_typed(of: Type, value: Any, path: Path = ()) -> None:  # noqa: ANN401 - any JSON
    """Check a server-side apply body against the schema; the first mistake counts.

    Raises:
        Mismatch: `.spec.x: field not declared in schema`, duplicates, wrong types.
    """
    if value is None:
        return
    if isinstance(of, Scalar):
        _check_scalar(of, value, path)
    elif isinstance(of, List):
        _check_list(of, value, path)
    else:
        _check_map(of, value, path)


def _check_map(of: Struct | Map, value: Any, path: Path) -> None:  # noqa: ANN401
    if not isinstance(value, dict):
        raise Mismatch(f"{shown(path)}: expected map, got {_go_plainly(value)}")
    for name, each in value.items():
        if isinstance(of, Struct) and name not in of.fields:
            raise Mismatch(f"{shown((*path, f'f:{name}'))}: field not declared in schema")
        check_typed(child(of, f"f:{name}"), each, (*path, f"f:{name}"))


def _check_list(of: List, value: Any, path: Path) -> None:  # noqa: ANN401
    if not isinstance(value, list):
        raise Mismatch(f"{shown(path)}: expected list, got {_go_plainly(value)}")
    seen: set[str] = set()
    for index, each in enumerate(value):
        segment: str | None = f"i:{index}"
        if not of.atomic:
            segment = key_of(of, each)
            if segment is None:
                raise Mismatch(_keyless(of, each, path, index))
            if segment in seen:
                raise Mismatch(f"{shown(path)}: duplicate entries for key {shown((segment,))}")
            seen.add(segment)
        check_typed(of.element, each, (*path, str(segment)))


def _keyless(of: List, element: Any, path: Path, index: int) -> str:  # noqa: ANN401
    if not isinstance(element, dict):
        return (
            f"{shown(path)}: element {index}: associative list with keys may not have "
            "non-map elements"
        )
    missing = next(key for key in of.keys if element.get(key, KEY_DEFAULTS.get(key)) is None)
    return (
        f"{shown(path)}: element {index}: associative list with keys has an element that omits "
        f'key field "{missing}" (and doesn\'t have default value)'
    )


_WANTED = {
    "string": "string",
    "time": "string",
    "microtime": "string",
    "int": "numeric (int or float)",
    "number": "numeric (int or float)",
    "bool": "boolean",
}


def _check_scalar(of: Scalar, value: Any, path: Path) -> None:  # noqa: ANN401
    if not fits(of, value):
        wanted = _WANTED.get(of.name, "scalar")
        got = _go(value) if wanted == "string" else _go_plainly(value)
        if of.name in ("int", "number"):
            got = _go_type(value)
        raise Mismatch(f"{shown(path)}: expected {wanted}, got {got}")


def fits(of: Scalar, value: Any) -> bool:  # noqa: ANN401 - any JSON
    """Whether a JSON value may stand where the scalar is declared."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if of.name in ("string", "time", "microtime"):
        return isinstance(value, str)
    if of.name in ("int", "number"):
        return number
    if of.name == "bool":
        return isinstance(value, bool)
    if of.name in ("quantity", "intstr"):
        return number or isinstance(value, str)
    return True


def _go(value: Any) -> str:  # noqa: ANN401 - any JSON
    """Return a value as Go prints it in the API server's messages."""
    return f"&value.valueUnstructured{{Value:{_go_value(value)}}}"


def _go_plainly(value: Any) -> str:  # noqa: ANN401 - any JSON
    """Return a value as Go prints it where the message does not ask for its syntax."""
    return "&{" + _go_value(value).replace('"', "") + "}"


def _go_type(value: Any) -> str:  # noqa: ANN401 - any JSON
    """Return Go's type of a JSON value."""
    if isinstance(value, dict):
        return "map[string]interface {}"
    if isinstance(value, list):
        return "[]interface {}"
    return "bool" if isinstance(value, bool) else "string"


def _go_value(value: Any) -> str:  # noqa: ANN401 - any JSON
    if value is None:
        return "<nil>"
    if isinstance(value, dict):
        parts = " ".join(f"{key}:{_go_value(each)}" for key, each in sorted(value.items()))
        return f"map[{parts}]"
    if isinstance(value, list):
        return "[" + " ".join(_go_value(each) for each in value) + "]"
    if isinstance(value, str):
        return json.dumps(value)
    return json.dumps(value)


# ---------------------------------------------------------------------------- as Go would keep it


@dataclass(slots=True)
class Strictness:
    """What a decoder found out beside the object."""

    unknown: list[str] = field(default_factory=list)
    """`spec.minReadySecond`: fields that no type declares; dropped."""


def decoded(of: Type, value: Any, found: Strictness, path: str = "") -> Any:  # noqa: ANN401
    """Return a JSON value as Go's structs keep it: unknown, null and omitted-when-empty gone.

    Raises:
        Mismatch: A value of the wrong type.
    """
    if isinstance(of, Scalar):
        if not fits(of, value) or (of.name == "int" and value != int(value)):
            raise Mismatch(
                f"json: cannot unmarshal {_json_name(value)} into Go struct field "
                f"{path} of type {of.name}"
            )
        if of.name == "microtime" and not _MICROTIME.fullmatch(value):
            raise Mismatch(
                f'parsing time "{value}" as "2006-01-02T15:04:05.000000Z07:00": cannot parse '
                'the rest as ".000000"'
            )
        return value
    if isinstance(of, List):
        if not isinstance(value, list):
            raise Mismatch(
                f"json: cannot unmarshal {_json_name(value)} into Go struct field {path}"
            )
        zero = isinstance(of.element, Struct)  # null in a list of structs is an empty one
        return [
            decoded(of.element, {} if each is None and zero else each, found, f"{path}[{index}]")
            for index, each in enumerate(value)
        ]
    if not isinstance(value, dict):
        raise Mismatch(f"json: cannot unmarshal {_json_name(value)} into Go struct field {path}")
    if isinstance(of, Map):
        return {
            key: _ZERO[of.element]
            if each is None and of.element in _ZERO
            else decoded(of.element, each, found, f"{path}.{key}")
            for key, each in value.items()
        }
    return _decoded_struct(of, value, found, path)


def _decoded_struct(of: Struct, value: Object, found: Strictness, path: str) -> Object:
    kept: Object = {}
    for name, each in value.items():
        below = f"{path}.{name}" if path else name
        if name not in of.fields:
            found.unknown.append(below)
            continue
        if each is None:
            continue
        clean = decoded(of.fields[name], each, found, below)
        if name in of.kept or not _omitted(of.fields[name], clean):
            kept[name] = clean
    return kept


def _omitted(of: Type, value: Any) -> bool:  # noqa: ANN401 - any JSON
    """Whether Go's `omitempty` leaves a value out; structs are always written."""
    if isinstance(of, Struct):
        return False
    if isinstance(of, Scalar):
        if of.name in ("quantity", "intstr", "any"):
            return False
        return value in (0, "") or value is False
    return not value


def _json_name(value: Any) -> str:  # noqa: ANN401 - any JSON
    if isinstance(value, dict):
        return "object"
    if isinstance(value, list):
        return "array"
    if isinstance(value, bool):
        return "bool"
    return "string" if isinstance(value, str) else "number"
