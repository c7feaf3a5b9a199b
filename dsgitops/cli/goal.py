"""The commit that `wait` waits for: what it has, and whether an agent has read it."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from dsgitops.cli.outcome import Asked
from dsgitops.cli.sources import HASH_LENGTHS, open_git
from dsgitops.cli.worktree import desired_of
from dsgitops.core.model import Ref
from dsgitops.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import ExitStack
    from pathlib import Path

    from dsgitops.cli.agents import Agents
    from dsgitops.cli.target import Targets
    from dsgitops.core.catalog import Catalog


@dataclass(frozen=True, slots=True)
class Goal:
    """The commit that is waited for, and what it has."""

    commit: str
    catalog: Catalog | None
    """None: no work tree has it."""
    contains: Callable[[str, str], bool | None]

    def asked(self, ref: Ref, source: str, agents: Agents) -> Asked:
        """Return the question about one DaemonSet.

        Args:
            ref: Which.
            source: Of its record; empty: it has none yet, any source will do.
            agents: What was read of Git.
        """
        content, wrong = None, ""
        if self.catalog is not None:
            try:
                content = desired_of(self.catalog, ref, namespace=ref.namespace)
            except UsageError as error:
                wrong = error.what
        return Asked(
            commit=self.commit,
            content=content,
            wrong=wrong,
            known=self.catalog is not None,
            was_read=self._was_read(source, agents),
            contains=partial(self._contains, agents),
        )

    def _contains(self, agents: Agents, ancestor: str, commit: str) -> bool | None:
        """Whether one commit comes after another: CI often has only the newest, agents know more.

        An agent lists commits so that each comes before those that it contains.
        """
        known = self.contains(ancestor, commit)
        if known is not None:
            return known
        for each in agents.readings():
            if ancestor in each.commits and commit in each.commits:
                return each.commits.index(commit) <= each.commits.index(ancestor)
        return None

    def _was_read(self, source: str, agents: Agents) -> bool:
        readings = [agents.reading(source)] if source else agents.readings()
        return any(
            self.commit in each.commits or self.contains(self.commit, each.commits[0]) is True
            for each in readings
            if each is not None and each.commits
        )

    def refs(self, wanted: Targets, home: str, paths: Iterable[str]) -> list[Ref]:
        """Return the DaemonSets that the commit has, as far as the command is about them.

        Args:
            wanted: What the command is about.
            home: The person's own namespace.
            paths: Files of what is managed already: other folders are other clusters'.
        """
        if self.catalog is None or wanted.selector:
            return []
        around = wanted.namespace or home
        folders = [posixpath.dirname(path) for path in paths]
        folder = posixpath.commonpath(folders) if folders else ""
        refs = {
            Ref(ref.namespace or around, ref.name)
            for ref, desired in self.catalog.desired.items()
            if not folder or desired.path.startswith(f"{folder}/")
        }
        return sorted(ref for ref in refs if wanted.covers(ref))


def goal_of(stack: ExitStack, path: Path, config: Path | None, commit: str | None) -> Goal:
    """Find the commit in the work tree around us.

    A full hash will do without one: then only what the agent wrote tells what the commit touched.

    Args:
        stack: Keeps the work tree open.
        path: Where to look for one.
        config: Settings whose sources are read instead.
        commit: As the person wrote it; None: HEAD.

    Raises:
        UsageError: There is no such commit here, and it is no full hash.
    """
    try:
        tree = stack.enter_context(open_git(path, config))
        found = tree.commit(commit or "HEAD")
    except UsageError:
        full = commit is not None and len(commit) in HASH_LENGTHS and _is_hex(commit)
        if commit is None or not full:
            raise
        return Goal(commit, None, lambda ancestor, other: True if ancestor == other else None)
    return Goal(found, tree.catalog(found), tree.contains)


def _is_hex(text: str) -> bool:
    return all(each in "0123456789abcdef" for each in text)
