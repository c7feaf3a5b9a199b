"""What stands over the file: environment variables, then flags.

`DSGITOPS_ROLLOUT__BAKE_TIME=5m` sets `rollout.bakeTime`.  Lists of objects, and profiles, are for
the file only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, cast

from dsgitops.settings.kinds import Kind
from dsgitops.settings.reading import Path, key_of, section_class
from dsgitops.settings.subjects import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PREFIX = "DSGITOPS_"
OTHERS = frozenset({"DSGITOPS_CONFIG"})
"""Variables of ours that are no settings."""
_SERVICE_LINK = re.compile(r"DSGITOPS_(?:SERVICE_(?:HOST|PORT)(?:_.*)?|PORT(?:_[0-9]+_.*)?)")
"""Kubernetes puts these into every pod beside a Service named `dsgitops`."""
_FILE_ONLY = re.compile(r"(?:DSGITOPS_)?(?:sources|profiles|windows)(?![a-z])", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Overlaid:
    """One value that wins over the file."""

    path: Path
    value: object
    origin: str
    """`environment DSGITOPS_…` or `flag rollout.bakeTime`."""


@dataclass(frozen=True, slots=True)
class Stray:
    """A variable or flag that sets nothing."""

    origin: str
    remedy: str


def scalars(
    cls: type[Any] = Settings, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Kind[Any]]]:
    """Walk all settings that a variable or flag can set."""
    for each in fields(cls):
        key = key_of(each)
        if not key or "each" in each.metadata or "values" in each.metadata:
            continue
        kind = each.metadata.get("kind")
        if isinstance(kind, Kind):
            yield (*path, key), kind
        else:
            yield from scalars(section_class(cls, each), (*path, key))


def variable(path: tuple[str, ...]) -> str:
    """Return the name of the environment variable of a setting."""
    return PREFIX + "__".join(re.sub(r"([A-Z])", r"_\1", part).upper() for part in path)


def from_environment(environ: Mapping[str, str]) -> Iterator[Overlaid | Stray]:
    """Read the variables whose names begin with `DSGITOPS_`."""
    known = {variable(path): (path, kind) for path, kind in scalars()}
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name in OTHERS or _SERVICE_LINK.fullmatch(name):
            continue
        origin = f"environment {name}"
        if name in known:
            path, kind = known[name]
            yield Overlaid(path, kind.from_text(environ[name]), origin)
        else:
            yield Stray(origin, _meant(name, tuple(known)))


def from_flags(overrides: Mapping[str, str]) -> Iterator[Overlaid | Stray]:
    """Read values given by dotted names: `rollout.bakeTime`."""
    known = {".".join(path): (path, kind) for path, kind in scalars()}
    for name, text in overrides.items():
        origin = f"flag {name}"
        if name in known:
            path, kind = known[name]
            yield Overlaid(path, kind.from_text(text), origin)
        else:
            yield Stray(origin, _meant(name, tuple(known)))


def _meant(name: str, known: tuple[str, ...]) -> str:
    in_file = re.match(
        r"(?:DSGITOPS_)?(?:sources|profiles|windows)\b|.*__[0-9]", name, re.IGNORECASE
    )
    near = () if in_file else get_close_matches(name, known, n=1)
    if near:
        return f"did you mean {near[0]}?"
    return "lists of objects and profiles can be set in the file only"


def lay(tree: Mapping[str, object], overlaid: Overlaid) -> dict[str, object]:
    """Return the tree with one value put in; what is in the way and no mapping is replaced."""
    first, *rest = overlaid.path
    key = str(first)
    if not rest:
        return {**tree, key: overlaid.value}
    below = tree.get(key)
    nested = cast("dict[str, object]", below) if isinstance(below, dict) else {}
    return {**tree, key: lay(nested, Overlaid(tuple(rest), overlaid.value, overlaid.origin))}
