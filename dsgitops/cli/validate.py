"""`dsgitops validate`: check manifests offline, all problems at once."""

from __future__ import annotations

import os
import stat
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dsgitops.cli import terminal
from dsgitops.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from dsgitops.cli.report import Report
    from dsgitops.core.catalog import Terms
    from dsgitops.core.manifest import Manifest, ManifestFile
    from dsgitops.core.model import Gates, Problem
    from dsgitops.settings import Settings

SUFFIXES = (".yaml", ".yml", ".json")
"""Of files that are read below a folder, as in a source."""
STDIN = "-"


class Output(StrEnum):
    """How `validate` prints."""

    TEXT = "text"
    JSON = "json"
    SARIF = "sarif"
    GITHUB = "github"


def validate(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH…",
            help="files, or folders read recursively (*.yaml, *.yml, *.json); - is stdin",
        ),
    ],
    *,
    output: Annotated[
        Output, typer.Option("-o", "--output", help="text, json, sarif or github")
    ] = Output.TEXT,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", help="the agent's settings: namespaces, profiles, deadlines, policy"
        ),
    ] = None,
) -> None:
    """Check manifests without a cluster, all problems at once.

    Errors are what a cluster or the agent would refuse; warnings what works and will be regretted;
    notices what is left alone, or depends on the cluster. Exits 1 when there is an error.
    """
    from dsgitops.cli.report import RENDERERS  # noqa: PLC0415 - only when called

    terms, warnings = terms_of(config)
    report = inspect(paths, terms, warnings)
    shown = RENDERERS[output](report)
    if isinstance(shown, dict):
        terminal.say_json(shown)
    elif shown:
        terminal.say(shown)
    if output is Output.TEXT:
        terminal.note(report.summary)
    if report.errors:
        raise typer.Exit(1)


def inspect(paths: Iterable[Path], terms: Terms, also: Iterable[Problem] = ()) -> Report:
    """Read and check files, as one commit of one source would be.

    Args:
        paths: Files and folders; `-` is stdin.
        terms: What the settings say.
        also: Problems of the settings themselves.

    Raises:
        UsageError: A path does not exist.
    """
    from importlib import metadata  # noqa: PLC0415 - reads files

    from dsgitops.cli.report import Report  # noqa: PLC0415
    from dsgitops.core.catalog import gather  # noqa: PLC0415

    files = [each for path in paths for each in _read(path)]
    catalog = gather(files, "", terms=terms)
    problems = (*also, *catalog.problems, *_against_policy(files, terms))
    ordered = sorted(problems, key=lambda each: (each.path, each.line, each.column))
    return Report(
        files=len(files),
        objects=sum(file.objects for file in files),
        problems=tuple(ordered),
        version=metadata.version("dsgitops"),
    )


def _against_policy(files: Iterable[ManifestFile], terms: Terms) -> Iterator[Problem]:
    """Yield what `policy:` refuses, as far as that can be known without the cluster."""
    gates = terms.policy.gates
    for file in files:
        for manifest in file.manifests:
            if manifest.problem is None:
                yield from _of_manifest(manifest, file.path, gates)


def _of_manifest(manifest: Manifest, path: str, gates: Gates) -> Iterator[Problem]:
    from dsgitops.core import privileges  # noqa: PLC0415
    from dsgitops.core.model import Problem  # noqa: PLC0415

    template, about = manifest.value["spec"]["template"], str(manifest.ref()).lstrip("/")
    for field, pointer in privileges.foreign_images(template, gates):
        line, column = manifest.mark(pointer)
        what, remedy = "matches none of policy.images", f"allowed: {', '.join(gates.images)}"
        yield Problem(path=path, line=line, column=column, rule="image-not-allowed",
                      what=f"{field.lstrip('.')} {what}", remedy=remedy, object=about)  # fmt: skip
    asked = list(privileges.asked(template)) if gates.existing_only else []
    if asked:
        more = f" and {len(asked) - 1} more" if len(asked) > 1 else ""
        yield Problem(
            path=path, line=manifest.line, column=1, severity="notice", rule="existing-only",
            what=f"{asked[0].lstrip('.')}{more}: refused where the object in the cluster has no "
            "such privilege (policy.privileged is existing-only)", object=about,
        )  # fmt: skip


def terms_of(config: Path | None) -> tuple[Terms, tuple[Problem, ...]]:
    """Return what the settings say of any source, and what is to be said of themselves.

    Nothing is refused where there are none.

    Raises:
        UsageError: The settings cannot be used.
    """
    from dsgitops.core.catalog import Terms  # noqa: PLC0415

    if config is None:
        return Terms(source="", profiles=None), ()
    settings, warnings = _settings(config)
    terms = Terms(
        source="",
        namespaces=frozenset(settings.namespaces),
        policy=settings.policy(),
        profiles=settings.profile_policies(),
    )
    return terms, warnings


def _settings(config: Path) -> tuple[Settings, tuple[Problem, ...]]:
    """Read the settings; return them and what is to be said of them.

    Raises:
        UsageError: They cannot be used.
    """
    from dsgitops.adapters.git import address, revision  # noqa: PLC0415 - heavy
    from dsgitops.adapters.schedule import window_fault  # noqa: PLC0415
    from dsgitops.settings import Checks, load  # noqa: PLC0415

    checks = Checks(
        url=address.fault, ref=revision.fault, path=revision.path_fault, window=window_fault
    )
    settings, problems = load(config, environ=os.environ, overrides={}, checks=checks)
    if settings is not None:
        return settings, problems
    first = next(each for each in problems if each.severity == "error")
    more = sum(each.severity == "error" for each in problems) - 1
    also = f" (and {more} more)" if more else ""
    raise UsageError(f"{first}{also}", remedy=first.remedy)


def _read(path: Path) -> Iterator[ManifestFile]:
    """Read one file or folder.

    Raises:
        UsageError: There is no such path.
    """
    from dsgitops.core import manifest  # noqa: PLC0415

    if str(path) == STDIN:
        yield manifest.read(sys.stdin.buffer.read(_limit()), path="<stdin>")
    elif path.is_dir():
        for each in _below(path):
            yield _read_file(each)
    elif path.exists():
        yield _read_file(path)
    else:
        raise UsageError(f"{path}: no such file or folder")


def _below(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder that a source would read, in the order of their paths."""
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != ".git")
        yield from (Path(here, name) for name in sorted(names) if name.endswith(SUFFIXES))


def _read_file(path: Path) -> ManifestFile:
    from dsgitops.core import manifest  # noqa: PLC0415

    if path.is_symlink():
        return _unreadable(path, "symlink", "a symbolic link: sources do not follow them")
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return _unreadable(path, "unreadable", "no regular file")
        with path.open("rb") as file:
            return manifest.read(file.read(_limit()), path=path.as_posix())
    except OSError as error:
        return _unreadable(path, "unreadable", f"cannot be read: {error.strerror}")


def _limit() -> int:
    """Return how much of a file is read: a byte more than is taken."""
    from dsgitops.core.encoding import SIZE_MAX  # noqa: PLC0415

    return SIZE_MAX + 1


def _unreadable(path: Path, rule: str, what: str) -> ManifestFile:
    from dsgitops.core.manifest import ManifestFile  # noqa: PLC0415
    from dsgitops.core.model import Problem  # noqa: PLC0415

    problem = Problem(path=path.as_posix(), rule=rule, what=what)
    return ManifestFile(path=path.as_posix(), problems=(problem,), broken=True)
