"""Git as the agent has it: the sources of a settings file, fetched into mirrors of our own."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from dsgitops.cli import terminal
from dsgitops.cli.worktree import open_work_tree
from dsgitops.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from dsgitops.adapters.git.source import GitSource
    from dsgitops.core.catalog import Catalog, Terms
    from dsgitops.ports import Tree

Config = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="read Git from the sources of these settings"),
]
HEAD = "HEAD"
HASH_DIGITS_MIN = 7
HASH_LENGTHS = (40, 64)


class Git(Protocol):
    """Where commits are read from: a work tree, or the sources of the settings."""

    def commit(self, revision: str) -> str:
        """Return the full hash of a revision.

        Raises:
            UsageError: There is no such commit.
        """
        ...

    def contains(self, ancestor: str, commit: str) -> bool | None:
        """Whether `ancestor` is `commit` or before it; None: unknown."""
        ...

    def catalog(self, commit: str) -> Catalog:
        """Return the DaemonSets of a commit.

        Raises:
            DsgitopsError: It cannot be read.
        """
        ...

    def subject(self, commit: str) -> str:
        """Return the first line of a commit's message; empty: not known."""
        ...


@dataclass(frozen=True, slots=True)
class Sources:
    """The sources of a settings file, as just fetched."""

    sources: tuple[GitSource, ...]
    tips: Mapping[str, Tree]
    terms: Mapping[str, Terms]

    def commit(self, revision: str) -> str:
        """See `Git.commit`.  `HEAD` is what the one source follows."""
        if revision == HEAD:
            if len(self.tips) == 1:
                return next(iter(self.tips.values())).commit
            raise UsageError("several sources have a commit each", remedy="give --commit")
        digits = revision.lower()
        if len(digits) >= HASH_DIGITS_MIN:
            for source in self.sources:
                if len(digits) in HASH_LENGTHS and source.at(digits) is not None:
                    return digits
                for known in source.history():
                    if known.startswith(digits):
                        return known
        raise UsageError(
            f"no source has a commit {revision!r}", remedy="give more of its hash, or push it"
        )

    def contains(self, ancestor: str, commit: str) -> bool | None:
        """See `Git.contains`."""
        answers = {source.contains(ancestor, commit) for source in self.sources}
        return True if True in answers else False if False in answers else None

    def catalog(self, commit: str) -> Catalog:
        """See `Git.catalog`."""
        from dsgitops.core import catalog, manifest  # noqa: PLC0415 - heavy

        for source in self.sources:
            tree = source.at(commit)
            if tree is None:
                continue
            blobs = source.read({each.blob for each in tree.files})
            files = (manifest.read(blobs[each.blob], path=each.path) for each in tree.files)
            return catalog.gather(files, tree.display, terms=self.terms[source.name])
        raise UsageError(f"no source has commit {commit[:7]}", remedy="push it")

    def subject(self, commit: str) -> str:
        """See `Git.subject`: mirrors are not asked."""
        del commit
        return ""


@contextmanager
def open_git(path: Path, config: Path | None) -> Generator[Git]:
    """Open the work tree around a folder or, with settings, what their sources have now.

    Raises:
        UsageError: There is none, or the settings cannot be used.
        DsgitopsError: A source cannot be fetched.
    """
    if config is None:
        with open_work_tree(path) as tree:
            yield tree
        return
    with tempfile.TemporaryDirectory(prefix="dsgitops-") as cache:
        yield _fetched(config, Path(cache))


def _fetched(config: Path, cache: Path) -> Sources:
    from dsgitops.wiring import git_source, load_settings, terms_of  # noqa: PLC0415 - heavy

    settings, problems = load_settings(config, {})
    if settings is None:
        for each in problems:
            terminal.note(f"{each.severity}: {terminal.plain(str(each))}")
        raise UsageError("the settings cannot be used", remedy="correct them")
    sources = tuple(git_source(each, cache) for each in settings.sources)
    tips = {source.name: source.fetch() for source in sources}
    return Sources(sources, tips, terms_of(settings))
