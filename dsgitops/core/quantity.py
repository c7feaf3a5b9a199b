"""Kubernetes quantities: `100m`, `64Mi`, `1.5`, `1e3`."""

from __future__ import annotations

import re
from decimal import Decimal

_SUFFIXES = {
    "": Decimal(1), "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"),
    "k": Decimal(10**3), "M": Decimal(10**6), "G": Decimal(10**9), "T": Decimal(10**12),
    "P": Decimal(10**15), "E": Decimal(10**18),
    "Ki": Decimal(2**10), "Mi": Decimal(2**20), "Gi": Decimal(2**30), "Ti": Decimal(2**40),
    "Pi": Decimal(2**50), "Ei": Decimal(2**60),
}  # fmt: skip
_QUANTITY = re.compile(
    r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))(?:([eE][+-]?[0-9]{1,3})|(n|u|m|k|[KMGTPE]i|[MGTPE]))?",
    re.ASCII,
)


def quantity_of(value: object) -> Decimal | None:
    """Return the number that a quantity stands for; None if it is none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return Decimal(str(value))
    if not isinstance(value, str) or len(value) > 64:
        return None
    found = _QUANTITY.fullmatch(value)
    if found is None:
        return None
    return Decimal(found[1] + (found[2] or "")) * _SUFFIXES[found[3] or ""]
