"""Plain YAML scalars: what every reader agrees on is a value; the rest must be quoted.

YAML 1.1 (PyYAML), YAML 1.2 and Go's reader, which kubectl uses, take `no`, `0644`, `22:30`, `1e3`
for different things.  A manifest that says so means something else to each tool, so it is refused.
"""

from __future__ import annotations

import re
from typing import Final

INT_MAX: Final = 2**63 - 1
"""What the API server can keep."""

NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
BOOLS: Final = {
    "true": True, "True": True, "TRUE": True,
    "false": False, "False": False, "FALSE": False,
}  # fmt: skip

_STARTS = frozenset("0123456789+-.")
_WORDS = frozenset(
    spelled
    for word in ("yes", "no", "on", "off", "y", "n")
    for spelled in (word, word.capitalize(), word.upper())
)
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_OCTAL = re.compile(r"0[0-7]+")
_FLOAT = re.compile(r"[-+]?[0-9]+\.[0-9]*(?:[eE][-+][0-9]+)?|\.[0-9]+(?:[eE][-+][0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_NUMBERS_TO_SOME = re.compile(
    r"""[-+]?0[0-9_]+                          # octal to some, decimal to others
    |   [-+]?0[xX][-+0-9a-fA-F_]+
    |   [-+]?0[oO][0-7_]+
    |   [-+]?0[bB][01_]+
    |   [-+]?[0-9][0-9_]*                      # 1_000
    |   [-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?  # 22:30 is 1350 to YAML 1.1
    |   [-+]?(?:[0-9][0-9_]*)?\.?[0-9_]*(?:[eE][-+]?[0-9]+)?
    |   [-+]?(?:[0-9][0-9_]*)?\.[0-9_]*(?:[eE][-+]?[0-9]+)?
    """,
    re.VERBOSE,
)
_DIGITS_AND_MARKS = re.compile(r"[-+0-9_.:eE]+")
_LONG = 64


class Ambiguous(ValueError):
    """Readers disagree about this plain scalar, or it has no place in JSON.

    Args:
        rule: Of the problem.
        what: Without the value itself, which may be a secret.
        remedy: What to write instead.
        value: What to go on with, so that more can be said of the file.
    """

    def __init__(self, rule: str, what: str, remedy: str, value: str | int) -> None:
        super().__init__(what)
        self.rule = rule
        self.what = what
        self.remedy = remedy
        self.value = value


def resolve(text: str) -> str | int | float | bool | None:
    """Return the JSON value of a plain scalar.

    Raises:
        Ambiguous: Readers disagree about it, or JSON cannot hold it.
    """
    if text in NULLS:
        return None
    if text in BOOLS:
        return BOOLS[text]
    if text in _WORDS:
        raise Ambiguous(
            "ambiguous-scalar",
            "is a boolean to some YAML readers and text to others",
            'quote it ("no") if text is meant, else write true or false',
            text,
        )
    if text[0] not in _STARTS:
        return text
    return _number(text)


def _number(text: str) -> str | int | float:
    if _INT.fullmatch(text):
        return _bounded(text, 10)
    if _HEX.fullmatch(text):
        return _bounded(text, 16)
    if _OCTAL.fullmatch(text):
        raise _octal(text)
    if _FLOAT.fullmatch(text) and len(text) < 400:
        return _finite(text)
    if _NOT_FINITE.fullmatch(text):
        raise Ambiguous(
            "not-finite", "is not a finite number: JSON has no such value", "quote it", text
        )
    if any("0" <= each <= "9" for each in text) and _number_to_some(text):
        raise Ambiguous(
            "ambiguous-scalar",
            "is a number to some YAML readers and text, or another number, to others",
            "quote it if text is meant, else write a plain decimal number",
            text,
        )
    return text


def _number_to_some(text: str) -> bool:
    """Whether it is a number to any reader; the long pattern is not linear, so never for long."""
    pattern = _NUMBERS_TO_SOME if len(text) <= _LONG else _DIGITS_AND_MARKS
    return pattern.fullmatch(text) is not None


def _octal(text: str) -> Ambiguous:
    if len(text) > 20:
        return Ambiguous("number-too-large", "does not fit 64 bits", "quote it", text)
    return Ambiguous(
        "ambiguous-octal",
        "begins with 0: an octal number to some YAML readers, decimal or text to others",
        "quote it if text is meant, else write the decimal number (0644 is 420)",
        int(text, 8),
    )


def _bounded(text: str, base: int) -> int:
    if len(text) > 20 or not -INT_MAX - 1 <= int(text, base) <= INT_MAX:
        raise Ambiguous("number-too-large", "does not fit 64 bits", "quote it", text)
    return int(text, base)


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise Ambiguous("not-finite", "is too large for a number", "quote it", text)
    return value
