"""The causes of a 422, in the API server's words, and what names may be (`cluster.md` 7.2)."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

INVALID = "FieldValueInvalid"
REQUIRED = "FieldValueRequired"
NOT_SUPPORTED = "FieldValueNotSupported"
NOT_FOUND = "FieldValueNotFound"
DUPLICATE = "FieldValueDuplicate"
FORBIDDEN = "FieldValueForbidden"
TOO_LONG = "FieldValueTooLong"

IMMUTABLE = "field is immutable"
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
SUBDOMAIN_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or "
    "'.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used "
    "for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_LABEL_TEXT = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and "
    "must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used "
    "for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
_NAME = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_NAME_TEXT = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end "
    "with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for "
    "validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
_VALUE_TEXT = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or "
    "'.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  "
    "or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
_PERCENT_TEXT = (
    "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or "
    "'93%', regex used for validation is '[0-9]+%')"
)
_ANNOTATIONS_MAX_BYTES = 262_144
_NEGATIVE = "must be greater than or equal to 0"


@dataclass(frozen=True, slots=True)
class Cause:
    """One thing that is wrong with an object."""

    reason: str
    field: str
    message: str


def invalid(field: str, value: Any, detail: str) -> Cause:  # noqa: ANN401 - any JSON
    """Return the cause of a value that will not do."""
    return Cause(INVALID, field, f"Invalid value: {quoted(value)}: {detail}")


def required(field: str, detail: str = "") -> Cause:
    """Return the cause of a value that is not there."""
    return Cause(REQUIRED, field, f"Required value: {detail}" if detail else "Required value")


def forbidden(field: str, detail: str) -> Cause:
    """Return the cause of a value that must not be there."""
    return Cause(FORBIDDEN, field, f"Forbidden: {detail}")


def duplicate(field: str, value: str) -> Cause:
    """Return the cause of a value that another has already."""
    return Cause(DUPLICATE, field, f"Duplicate value: {quoted(value)}")


def unsupported(field: str, value: Any, allowed: Sequence[str]) -> Cause:  # noqa: ANN401
    """Return the cause of a value that is none of those there are."""
    names = ", ".join(f'"{each}"' for each in allowed)
    message = f"Unsupported value: {quoted(value)}: supported values: {names}"
    return Cause(NOT_SUPPORTED, field, message)


def quoted(value: Any) -> str:  # noqa: ANN401 - any JSON
    """Return a value as messages quote it."""
    return "null" if value is None else json.dumps(value, separators=(",", ":"))


def not_negative(value: int, field: str) -> Iterator[Cause]:
    """Yield the cause of a number below zero."""
    if value < 0:
        yield invalid(field, value, _NEGATIVE)


def int_or_percent(value: Any, field: str) -> Iterator[Cause]:  # noqa: ANN401 - int or str
    """Yield the cause of what is neither a number from 0 on nor a percentage."""
    if not isinstance(value, str):
        yield from not_negative(value, field)
    elif not re.fullmatch(r"[0-9]+%", value):
        yield invalid(field, value, _PERCENT_TEXT)


def label_name(name: str, field: str) -> Iterator[Cause]:
    """Yield what is wrong with the name of a container or volume."""
    if not name:
        yield required(field)
    elif not _LABEL.fullmatch(name):
        yield invalid(field, name, _LABEL_TEXT)


def is_qualified(key: str) -> bool:
    """Whether the key of a label or annotation may be: a name, behind a domain or not."""
    prefix, slash, name = key.rpartition("/")
    return bool(_NAME.fullmatch(name)) and (not slash or bool(SUBDOMAIN.fullmatch(prefix)))


def unqualified(key: str, field: str) -> Cause:
    """Return the cause of such a key that may not be."""
    return invalid(field, key, _NAME_TEXT)


def of_annotations(given: Mapping[str, Any], field: str) -> Iterator[Cause]:
    """Yield what is wrong with annotations; the case of their keys does not matter."""
    for key in given:
        if not is_qualified(key.lower()):
            yield unqualified(key, field)
    size = sum(len(str(key).encode()) + len(str(value).encode()) for key, value in given.items())
    if size > _ANNOTATIONS_MAX_BYTES:
        text = f"Too long: may not be more than {_ANNOTATIONS_MAX_BYTES} bytes"
        yield Cause(TOO_LONG, field, text)


def labels(given: Mapping[str, Any], field: str) -> Iterator[Cause]:
    """Yield what is wrong with labels; a node selector's are held to the same."""
    for key, value in given.items():
        if not is_qualified(key):
            yield unqualified(key, field)
        if len(str(value)) > 63:
            yield invalid(field, value, "must be no more than 63 characters")
        elif not _VALUE.fullmatch(str(value)):
            yield invalid(field, value, _VALUE_TEXT)
