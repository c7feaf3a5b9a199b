"""Does a manifest have the shape of a DaemonSet: known fields, right types, nothing missing?"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from dsgitops.core.findings import spoken
from dsgitops.core.nodes import shown
from dsgitops.core.quantity import quantity_of
from dsgitops.core.schema import RANGES, ListOf, MapOf, Scalar, Struct, homes

if TYPE_CHECKING:
    from dsgitops.core.findings import Findings
    from dsgitops.core.schema import Type

Json = Any

_NAMES = {dict: "a mapping", list: "a list", str: "text", bool: "true or false",
          int: "a number", float: "a number", type(None): "nothing"}  # fmt: skip
_WANTED = {"string": "text", "bool": "true or false", "quantity": "a quantity such as 100m or 64Mi",
           "intstr": 'a number or a percentage such as "10%"', "portref": "a port's number or name",
           "time": "a time"}  # fmt: skip
_KEYS = {
    "finalizers": (),
    "hostAliases": ("ip",),
    "imagePullSecrets": ("name",),
    "ownerReferences": ("uid",),
    "resourceClaims": ("name",),
    "schedulingGates": ("name",),
    "claims": ("name",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "volumeDevices": ("devicePath",),
}
"""Lists that server-side apply merges by key (none: a set), and refuses with a key twice.
Containers, volumes, env, ports and mounts have rules of their own that say more."""
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
_PORT_NAME = re.compile(r"(?=.*[a-z])[a-z0-9]([a-z0-9]|-(?=[a-z0-9])){0,14}")


def check_shape(value: Json, of: Struct, pointer: str, findings: Findings) -> None:
    """Note every unknown field, wrong type and missing field of `value`.

    Args:
        value: Any JSON.
        of: The type it should have.
        pointer: Where it stands in the document.
        findings: Where problems go.  They name fields, never values.
    """
    if not isinstance(value, dict):
        _wrong(value, of, pointer, findings)
        return
    for key, each in value.items():
        below = f"{pointer}/{_escaped(key)}"
        known = of.fields.get(key)
        if known is None:
            _unknown(key, of, below, findings)
        elif each is not None:
            _check(each, known, below, findings)
        if key in of.newer:
            what = f"{spoken(below)} is newer than Kubernetes 1.36, which would refuse it"
            findings.warning(below, "newer-field", what, "make sure that the cluster knows it")
    for name in of.required:
        if value.get(name) in (None, ""):
            where = spoken(pointer) or of.name
            findings.key_error(
                pointer, "missing-field", f"{where}: {name} is missing", f"add {name}"
            )


def _check(value: Json, of: Type, pointer: str, findings: Findings) -> None:
    if isinstance(of, Scalar):
        _check_scalar(value, of, pointer, findings)
    elif isinstance(of, Struct):
        check_shape(value, of, pointer, findings)
    elif isinstance(of, ListOf):
        _check_list(value, of, pointer, findings)
    else:
        _check_map(value, of, pointer, findings)


def _check_list(value: Json, of: ListOf, pointer: str, findings: Findings) -> None:
    if not isinstance(value, list):
        _wrong(value, of, pointer, findings)
        return
    _check_unique(value, pointer, findings)
    for index, each in enumerate(value):
        below = f"{pointer}/{index}"
        if each is not None:
            _check(each, of.element, below, findings)
        elif isinstance(of.element, Struct):
            _wrong(each, of.element, below, findings)
        else:
            what = f"{spoken(below)} is empty; it reads as empty text"
            findings.warning(below, "empty-element", what, 'write "" if that is meant')


def _check_unique(value: list[Json], pointer: str, findings: Findings) -> None:
    keys = _KEYS.get(pointer.rpartition("/")[2])
    if keys is None:
        return
    found = [
        str([each.get(key) for key in keys]) if isinstance(each, dict) else str(each)
        for each in value
    ]
    if len(set(found)) < len(found):
        same = f" with the same {' and '.join(keys)}" if keys else ""
        what = f"{spoken(pointer)} has an element twice{same}"
        findings.error(pointer, "duplicate-element", what, "keep one")


def _check_map(value: Json, of: MapOf, pointer: str, findings: Findings) -> None:
    if not isinstance(value, dict):
        _wrong(value, of, pointer, findings)
        return
    for key, each in value.items():
        if each is not None:
            _check(each, of.element, f"{pointer}/{_escaped(key)}", findings)


def _check_scalar(value: Json, of: Scalar, pointer: str, findings: Findings) -> None:
    if of.name == "any":
        return
    if not _fits(value, of):
        _wrong(value, of, pointer, findings)
        return
    if of.name in RANGES:
        _check_range(value, of.name, pointer, findings)
    elif of.words and value and value not in of.words:
        _not_a_word(value, of, pointer, findings)
    elif of.name in _TEXTS:
        _TEXTS[of.name](value, pointer, findings)


def _fits(value: Json, of: Scalar) -> bool:
    """Whether the JSON type is right; a float without fraction is no int to the API server."""
    if isinstance(value, bool):
        return of.name == "bool"
    if of.name in RANGES:
        return isinstance(value, int)
    if of.name in ("intstr", "portref"):
        return isinstance(value, int | str)
    if of.name in ("quantity", "number"):
        return isinstance(value, int | float | str)
    return isinstance(value, str) and of.name in ("string", "time")


def _check_range(value: int, name: str, pointer: str, findings: Findings) -> None:
    low, high = RANGES[name]
    if low <= value <= high:
        return
    if name == "mode":
        findings.error(pointer, "out-of-range", f"{spoken(pointer)} is no file mode: at most 511, "
                       "which is 0777", "0644 is written 420, 0755 is 493")  # fmt: skip
        return
    limit = f"at least {low}" if value < low else f"at most {high}"
    findings.error(pointer, "out-of-range", f"{spoken(pointer)} must be {limit}")


def _not_a_word(value: str, of: Scalar, pointer: str, findings: Findings) -> None:
    remedy = findings.hint(value, of.words) or f"write one of {', '.join(of.words)}"
    what = f"{spoken(pointer)} is none of {', '.join(of.words)}"
    findings.error(pointer, "not-supported", what, remedy)


def _check_quantity(value: Json, pointer: str, findings: Findings) -> None:
    if quantity_of(value) is None:
        findings.error(pointer, "quantity", f"{spoken(pointer)} is no quantity",
                       "write a number and a unit: 100m, 0.5, 64Mi, 2Gi")  # fmt: skip


def _check_port_ref(value: int | str, pointer: str, findings: Findings) -> None:
    if isinstance(value, int):
        _check_range(value, "port", pointer, findings)
    elif not _PORT_NAME.fullmatch(value):
        findings.error(pointer, "port-name", f"{spoken(pointer)} is no port name",
                       "write a number without quotes, or a port's name")  # fmt: skip


def _check_time(value: str, pointer: str, findings: Findings) -> None:
    if not _TIME.fullmatch(value):
        findings.error(
            pointer, "wrong-type", f"{spoken(pointer)} must be a time, as RFC 3339 has it"
        )


_TEXTS = {"quantity": _check_quantity, "portref": _check_port_ref, "time": _check_time}


def _unknown(key: str, of: Struct, pointer: str, findings: Findings) -> None:
    remedy = findings.hint(key, of.fields)
    owners = homes().get(key, ())
    if not remedy and owners and len(owners) <= 3:
        remedy = f"{key} is a field of {', '.join(owners)}: check the indentation"
    findings.key_error(
        pointer,
        "unknown-field",
        f"{spoken(pointer.rpartition('/')[0]) or of.name} has no field {shown(key)}",
        remedy or "remove it, or check where it belongs",
    )


def _wrong(value: Json, of: Type, pointer: str, findings: Findings) -> None:
    what = f"{spoken(pointer) or 'the manifest'} must be {_wanted(of)}, not {_NAMES[type(value)]}"
    quote = isinstance(of, Scalar) and of.name in ("string", "time")
    remedy = "quote it" if quote and isinstance(value, int | float) else _other_remedy(value, of)
    findings.error(pointer, "wrong-type", what, remedy)


def _other_remedy(value: Json, of: Type) -> str:
    if isinstance(value, str) and isinstance(of, Scalar) and of.name not in ("string", "time"):
        return "write it without quotes"
    if isinstance(of, ListOf) and not isinstance(value, list):
        return "begin each element with a dash"
    return "check the indentation"


def _wanted(of: Type) -> str:
    if isinstance(of, ListOf):
        return "a list"
    if isinstance(of, Scalar):
        return _WANTED.get(of.name, "a whole number")
    return "a mapping"


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1") if "/" in key or "~" in key else key
