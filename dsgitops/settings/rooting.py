"""Make the paths in the settings absolute: a relative one is relative to the settings' file."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from dsgitops.settings.subjects import Settings

Section = TypeVar("Section")


def rooted(settings: Settings, base: Path, *, default_cache: Path) -> Settings:
    """Return the settings with absolute paths.

    Args:
        settings: As they were read.
        base: Folder of the settings' file.
        default_cache: For `cacheDir` where it is not given.
    """
    found = _rooted(settings, base.absolute())
    return replace(found, cache_dir=found.cache_dir or default_cache)


def _rooted(section: Section, base: Path) -> Section:
    changed: dict[str, Any] = {}
    for each in fields(cast("Any", section)):
        value = getattr(section, each.name)
        moved = _moved(value, base)
        if moved is not value:
            changed[each.name] = moved
    return replace(cast("Any", section), **changed) if changed else section


def _moved(value: object, base: Path) -> object:
    if isinstance(value, Path):
        return base / value
    if isinstance(value, tuple):
        items = cast("tuple[object, ...]", value)
        return tuple(_moved(item, base) for item in items) if items else value
    if is_dataclass(value) and not isinstance(value, type):
        return _rooted(value, base)
    return value
