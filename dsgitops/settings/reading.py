"""From plain values to settings: every problem at once, each at its place."""

from __future__ import annotations

import re
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, cast, get_args, get_type_hints

from dsgitops.core.model import Problem
from dsgitops.core.strict import pointer_of
from dsgitops.settings.kinds import Kind, Wrong
from dsgitops.settings.subjects import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from dataclasses import Field

    from dsgitops.core.strict import Document

Path = tuple[str | int, ...]
"""Keys and positions from the root: `("sources", 0, "url")`."""

_VARIABLE = re.compile(r"\$\{")
_SECRET_WORDS = ("password", "token", "secret", "key", "dsn")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value was written."""

    file: str
    """Path of the file, or the name of the variable or flag."""
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(slots=True)
class Reader:
    """Reads one tree of values."""

    document: Document
    """The file, which knows its places."""
    overlaid: Mapping[Path, Place]
    """What stands over the file."""
    problems: list[Problem] = field(default_factory=list)
    kept: dict[Path, tuple[int, ...]] = field(default_factory=dict[Path, tuple[int, ...]])
    """Of each list, the positions of the items that could be read."""

    def settings(self, tree: object) -> Settings | None:
        """Read the root.  What is wrong is in `problems`."""
        return cast("Settings | None", self._section(Settings, tree, (), None))

    def position(self, path: Path, at: int) -> int:
        """Return where in the file the item `at` of a list of the settings stands.

        Items that could not be read are missing from the settings, not from the file.
        """
        return self.kept[path][at] if path in self.kept else at

    def add(
        self, path: Path, rule: str, what: str, remedy: str = "", *, warning: bool = False
    ) -> None:
        """Report a problem with what is written at `path`, or nearest above it."""
        place = self._place(path, key=rule == "unknown-key")
        name = dotted(path)
        self.problems.append(
            Problem(
                path=place.file,
                line=place.line,
                column=place.column,
                severity="warning" if warning else "error",
                rule=rule,
                what=f"{name} {what}" if name else what,
                remedy=remedy,
            )
        )

    def _place(self, path: Path, *, key: bool) -> Place:
        for length in range(len(path), 0, -1):
            place = self.overlaid.get(path[:length])
            if place is not None:
                return place
        pointer = pointer_of(*path)
        mark = self.document.key_mark(pointer) if key else self.document.value_mark(pointer)
        return Place(self.document.path, *mark)

    # ------------------------------------------------------------------------ sections

    def _section(self, cls: type[Any], value: object, path: Path, base: object) -> object | None:
        """Read a mapping into `cls`; fields that are not given come from `base`, or its defaults.

        Returns:
            The settings, with defaults where a value was wrong; None where that is not possible.
        """
        if value is None:
            value = {}
        if not isinstance(value, dict):
            self.add(path, "type", "is no mapping", "write keys with values below it")
            return None
        given = cast("dict[str, object]", value)
        known = {key_of(each): each for each in fields(cls) if key_of(each)}
        for key in given:
            if key not in known:
                self._unknown(key, path, tuple(known))
        built: dict[str, Any] = {}
        for key, each in known.items():
            fallback = getattr(base, each.name) if base is not None else default_of(each)
            if key in given:
                # Profiles are read over what `rollout:` says, which stands before them.
                base_of = built.get("rollout") if "values" in each.metadata else fallback
                found = self._field(cls, each, given[key], (*path, key), base_of)
                built[each.name] = fallback if found is MISSING else found
            elif fallback is MISSING:
                self.add(path, "required", f"has no {key}", f"add {key}:")
                built[each.name] = MISSING
            else:
                built[each.name] = fallback
        if any(found is MISSING for found in built.values()):
            return None
        made: object = cls(**built)
        return made

    def _unknown(self, key: str, path: Path, known: tuple[str, ...]) -> None:
        near = get_close_matches(key, known, n=1)
        near = near or [each for each in known if each.lower() == key.lower().replace("_", "")]
        remedy = f"did you mean {near[0]}?" if near else f"it can be {', '.join(known)}"
        if not near and key.lower() in _SECRET_WORDS:
            remedy = "secrets are read from files only"
        self.add((*path, key), "unknown-key", "is not known", remedy)

    def _field(
        self, cls: type[Any], each: Field[Any], value: object, path: Path, base: object
    ) -> object:
        """Read one field; MISSING where it was wrong (and reported)."""
        if _expands(value) and not _is_nested(each):
            self.add(path, "variable", "has ${…} in it: nothing is expanded", "write the value")
            return MISSING
        kind = each.metadata.get("kind")
        if isinstance(kind, Kind):
            return self._scalar(kind, value, path)
        if "each" in each.metadata:
            return self._list(each.metadata["each"], value, path)
        if "values" in each.metadata:
            return self._values(each.metadata["values"], value, path, base)
        found = self._section(section_class(cls, each), value, path, base)
        return MISSING if found is None else found

    def _scalar(self, kind: Kind[Any], value: object, path: Path) -> object:
        try:
            return kind.read(value)
        except Wrong as wrong:
            self.add(path, "value", wrong.what, wrong.remedy)
            return MISSING

    def _list(self, cls: type[Any], value: object, path: Path) -> object:
        if value is None:
            return ()
        if not isinstance(value, list):
            self.add(path, "type", "is no list", "begin each item with a dash")
            return MISSING
        items = cast("list[object]", value)
        read = [self._section(cls, item, (*path, at), None) for at, item in enumerate(items)]
        found = {at: item for at, item in enumerate(read) if item is not None}
        self.kept[path] = tuple(found)
        return tuple(found.values())

    def _values(self, cls: type[Any], value: object, path: Path, base: object) -> object:
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.add(path, "type", "is no mapping", "write names with keys below them")
            return MISSING
        given = cast("dict[str, object]", value)
        found = {
            name: self._section(cls, each, (*path, name), base) for name, each in given.items()
        }
        return {name: each for name, each in found.items() if each is not None}


# ---------------------------------------------------------------------------- the classes, asked


def key_of(each: Field[Any]) -> str:
    """Return a field's key in the file: camelCase; empty: it is not in the file."""
    if "key" in each.metadata:
        return str(each.metadata["key"])
    first, *rest = each.name.split("_")
    return first + "".join(part.title() for part in rest)


def default_of(each: Field[Any]) -> object:
    """Return a field's default; MISSING: it has none."""
    return each.default


def section_class(cls: type[Any], each: Field[Any]) -> type[Any]:
    """Return the settings class of a field that is a section."""
    hint = get_type_hints(cls)[each.name]
    for candidate in (hint, *get_args(hint)):
        if isinstance(candidate, type) and is_dataclass(candidate):
            return candidate
    raise TypeError(f"{cls.__name__}.{each.name} is no section")


def _is_nested(each: Field[Any]) -> bool:
    return "kind" not in each.metadata


def _expands(value: object) -> bool:
    return any(_VARIABLE.search(text) for text in _strings(value))


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    if isinstance(value, list):
        for item in cast("list[object]", value):
            yield from _strings(item)


def dotted(path: Path) -> str:
    """Write a path as people do: `sources[0].url`; a key that is no word is `(a key)`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{_shown(part)}" for part in path)
    return text.removeprefix(".")


def _shown(key: str) -> str:
    return key if key.isprintable() and len(key) <= 64 else "(a key)"
