"""From a file, the environment and flags to `Settings`, or to everything that is wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path as File
from typing import TYPE_CHECKING, cast

from dsgitops.core import strict
from dsgitops.core.model import Problem
from dsgitops.core.strict import Document
from dsgitops.settings.overlay import Stray, from_environment, from_flags, lay
from dsgitops.settings.reading import Path, Place, Reader, dotted
from dsgitops.settings.review import Checks, review
from dsgitops.settings.rooting import rooted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from dsgitops.settings.subjects import Settings

FILE_BYTES_MAX = 1024 * 1024
IN_CLUSTER_CACHE = File("/var/cache/dsgitops")


def load(
    file: File | None,
    *,
    environ: Mapping[str, str],
    overrides: Mapping[str, str],
    checks: Checks,
) -> tuple[Settings | None, tuple[Problem, ...]]:
    """Read the settings.  Flags win over environment over file over defaults.

    Args:
        file: YAML; None: environment, flags and defaults alone.
        environ: The process's environment.
        overrides: Flags by dotted name: `{"rollout.bakeTime": "5m"}`.
        checks: What only the adapters know of URLs, refs and windows.

    Returns:
        The settings, None where any problem is an error; and all problems, in the file's order.
    """
    document, problems = _document(file)
    if document is None:
        return None, problems
    overlaid: dict[Path, Place] = {}
    tree = cast("dict[str, object]", document.value)
    strays: list[Problem] = []
    for each in (*from_environment(environ), *from_flags(overrides)):
        if isinstance(each, Stray):
            strays.append(_stray(each))
        else:
            tree = lay(tree, each)
            overlaid[each.path] = Place(each.origin)
    reader = Reader(document, overlaid)
    settings = reader.settings(tree)
    if settings is not None:
        base = file.parent if file is not None else File()
        settings = rooted(settings, base, default_cache=default_cache(environ))
        settings = replace(settings, origins=_origins(document, overlaid))
        review(settings, reader, checks)
    found = (*problems, *strays, *_unreported(reader.problems, problems))
    wrong = any(problem.severity == "error" for problem in found)
    return None if wrong else settings, tuple(sorted(found, key=_position))


def default_cache(environ: Mapping[str, str]) -> File:
    """Return the folder of the mirrors where the settings name none."""
    if "KUBERNETES_SERVICE_HOST" in environ:
        return IN_CLUSTER_CACHE
    base = environ.get("XDG_CACHE_HOME") or environ.get("HOME", "") + "/.cache"
    return File(base) / "dsgitops" if File(base).is_absolute() else IN_CLUSTER_CACHE


def _document(file: File | None) -> tuple[Document | None, tuple[Problem, ...]]:
    """Read the file; an empty one is all defaults."""
    if file is None:
        return Document(path="settings", value={}, marks={}), ()
    name = str(file)
    try:
        with file.open("rb") as opened:
            data = opened.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        why = (error.strerror or "it cannot be read").lower()
        return None, (_about(name, "config-file", f"cannot be read: {why}", "check --config"),)
    if len(data) > FILE_BYTES_MAX:
        return None, (_about(name, "config-file", f"has more than {FILE_BYTES_MAX} bytes"),)
    reading = strict.read(data, path=name)
    if reading.broken is not None:
        return None, reading.problems
    if len(reading.documents) > 1:
        what = "has several documents"
        return None, (_about(name, "config-file", what, "keep the settings in one"),)
    if not reading.documents:
        return Document(path=name, value={}, marks={}), ()
    document = reading.documents[0]
    if not isinstance(document.value, dict):
        return None, (_about(name, "config-file", "is no mapping", "write keys: cluster, sources"),)
    return document, document.problems


def _about(path: str, rule: str, what: str, remedy: str = "") -> Problem:
    return Problem(path=path, rule=rule, what=what, remedy=remedy)


def _stray(stray: Stray) -> Problem:
    return _about(stray.origin, "unknown-key", "sets nothing that is known", stray.remedy)


def _unreported(problems: list[Problem], before: tuple[Problem, ...]) -> Iterator[Problem]:
    """Leave out what the YAML reader said already of the same place."""
    said = {(each.line, each.column) for each in before}
    return (each for each in problems if not each.line or (each.line, each.column) not in said)


def _origins(document: Document, overlaid: Mapping[Path, Place]) -> dict[str, str]:
    origins = {
        dotted(path): f"{document.path}:{document.key_mark(strict.pointer_of(*path)).line}"
        for path in _paths(document.value, ())
    }
    return origins | {dotted(path): str(place) for path, place in overlaid.items()}


def _paths(value: object, path: Path) -> Iterator[Path]:
    """Walk everything that was written."""
    yield path
    if isinstance(value, dict):
        for key, item in cast("dict[str, object]", value).items():
            yield from _paths(item, (*path, key))
    if isinstance(value, list):
        for at, item in enumerate(cast("list[object]", value)):
            yield from _paths(item, (*path, at))


def _position(problem: Problem) -> tuple[int, int]:
    return problem.line, problem.column
