"""The settings as the agent runs with them, each with where it came from (`config show`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, cast

from dsgitops.core import duration
from dsgitops.settings.reading import dotted, key_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dsgitops.settings.subjects import Settings


@dataclass(frozen=True, slots=True)
class Shown:
    """One setting."""

    name: str
    """`sources[0].interval`."""
    value: str
    """As it would be written; secrets are files here, so only their paths can be seen."""
    origin: str
    """`dsgitops.yaml:12`, `environment DSGITOPS_…`, `flag …` or `default`."""


def effective(settings: Settings) -> tuple[Shown, ...]:
    """Return all settings in the order of the documentation."""
    return tuple(
        Shown(dotted(path), _written(value), settings.origins.get(dotted(path), "default"))
        for path, value in _leaves(settings, ())
    )


def _leaves(
    value: object, path: tuple[str | int, ...]
) -> Iterator[tuple[tuple[str | int, ...], object]]:
    if is_dataclass(value) and not isinstance(value, type):
        for each in fields(value):
            if key_of(each):
                yield from _leaves(getattr(value, each.name), (*path, key_of(each)))
    elif isinstance(value, Mapping):
        for key, item in cast("Mapping[str, object]", value).items():
            yield from _leaves(item, (*path, key))
    elif isinstance(value, tuple) and any(
        is_dataclass(item) for item in cast("tuple[object, ...]", value)
    ):
        for at, item in enumerate(cast("tuple[object, ...]", value)):
            yield from _leaves(item, (*path, at))
    elif (value is not None or path[-1] == "podDeadline") and not (value == "" and "ref" in path):
        yield path, value


def _written(value: object) -> str:
    if value is None:
        return "auto"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, timedelta):
        return duration.show(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple):
        return "[" + ", ".join(_written(item) for item in cast("tuple[object, ...]", value)) + "]"
    return str(value) or '""'
