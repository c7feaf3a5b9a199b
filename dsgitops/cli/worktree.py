"""Git as the person has it: the repository around the current directory, read by commit.

Nothing is checked out and nothing is fetched; what is not committed is not seen.
"""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dsgitops.errors import SourceRefused, UsageError

if TYPE_CHECKING:
    from collections.abc import Generator

    from dsgitops.adapters.git.mirror import Mirror
    from dsgitops.core.catalog import Catalog
    from dsgitops.core.model import Desired, Ref

WorkTreePath = Annotated[
    Path,
    typer.Option(
        "--path", metavar="DIR", help="a folder in a Git work tree; only what is below it counts"
    ),
]
SOURCE = "work tree"
"""What stands for a source's name where the person's own repository is read."""
LOG_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class WorkTree:
    """A repository on this machine."""

    mirror: Mirror
    below: str = ""
    """The folder that counts, from the repository's root."""

    def commit(self, revision: str) -> str:
        """Return the full hash of a revision as git understands it: `HEAD~1`, `9f2c3a1`.

        Raises:
            UsageError: There is no such commit here.
        """
        found = None if revision.startswith("-") else self.mirror.tip(revision)
        if found is None:
            raise UsageError(
                f"there is no commit {revision!r} in this work tree",
                remedy="fetch it, or name another work tree with --path",
            )
        return found

    def contains(self, ancestor: str, commit: str) -> bool | None:
        """Whether `ancestor` is `commit` or before it; None: one of them is not here."""
        return self.mirror.contains(ancestor, commit)

    def subject(self, commit: str) -> str:
        """Return the first line of a commit's message; empty where it is not here."""
        from dsgitops.adapters.git import command, environment  # noqa: PLC0415 - heavy

        answer = command.run(
            ["--git-dir", str(self.mirror.directory), "log", "-1", "--format=%s", commit, "--"],
            environment=environment.local(self.mirror.home, os.environ),
            deadline=time.monotonic() + LOG_SECONDS,
        )
        return answer.out.decode("utf-8", "replace").strip() if answer.code == 0 else ""

    def catalog(self, commit: str) -> Catalog:
        """Return the DaemonSets of a commit, and what is wrong with its files.

        Raises:
            SourceRefused: The commit cannot be read.
        """
        from dsgitops.adapters.git import tree  # noqa: PLC0415 - heavy
        from dsgitops.adapters.git.mirror import Damaged  # noqa: PLC0415
        from dsgitops.core import catalog, manifest  # noqa: PLC0415

        try:
            entries = self.mirror.entries(commit, self.below) or []
            files = tree.survey(entries, below=self.below).files
            blobs = self.mirror.blobs({each.blob for each in files}) if files else {}
        except Damaged:
            raise SourceRefused(
                f"commit {commit[:7]} is not whole in this work tree",
                remedy="fetch it (a partial clone has no blobs until they are fetched)",
            ) from None
        terms = catalog.Terms(source=SOURCE, profiles=None)
        parsed = (manifest.read(blobs[each.blob], path=each.path) for each in files)
        return catalog.gather(parsed, f"sha1:{commit}", terms=terms)


@contextmanager
def open_work_tree(path: Path) -> Generator[WorkTree]:
    """Open the repository around a folder.

    Args:
        path: The folder; below it is what counts, unless it is the repository's root or not given.

    Raises:
        UsageError: There is none around it.
    """
    from dsgitops.adapters.git.address import Address  # noqa: PLC0415 - heavy
    from dsgitops.adapters.git.mirror import Mirror  # noqa: PLC0415

    start = path.absolute()
    root = next((each for each in (start, *start.parents) if (each / ".git").exists()), None)
    if root is None:
        raise UsageError(
            "there is no Git work tree here", remedy="run it in the repository, or give --path"
        )
    with tempfile.TemporaryDirectory(prefix="dsgitops-") as home:
        mirror = Mirror(
            directory=_git_dir(root),
            home=Path(home),
            address=Address(url=f"file://{root}", scheme="file", path=str(root)),
            auth=None,
        )
        below = "" if path == Path() else start.relative_to(root).as_posix()
        yield WorkTree(mirror, "" if below == "." else below)


def desired_of(catalog: Catalog, ref: Ref, *, namespace: str) -> Desired | None:
    """Return what a commit has of one DaemonSet; None: nothing.

    Args:
        catalog: Of the commit.
        ref: Which.
        namespace: Where manifests belong that name none.

    Raises:
        UsageError: The commit speaks of it, and cannot be understood.
    """
    wrong = catalog.unreadable.get(ref)
    if wrong is not None:
        raise UsageError(wrong.what, remedy="run dsgitops validate on it")
    found = catalog.desired.get(ref)
    if found is None and ref.namespace == namespace:
        found = catalog.desired.get(replace(ref, namespace=""))
    return found if found is None or found.ref == ref else _placed(found, ref)


def _placed(desired: Desired, ref: Ref) -> Desired:
    """Return a manifest that names no namespace as if it named the one it belongs to."""
    manifest = desired.manifest
    metadata = {**manifest["metadata"], "namespace": ref.namespace}
    return replace(desired, ref=ref, manifest={**manifest, "metadata": metadata})


def _git_dir(root: Path) -> Path:
    """Return the repository of a work tree: `.git`, or where that file points (linked trees).

    Raises:
        UsageError: It points nowhere.
    """
    dot_git = root / ".git"
    if dot_git.is_dir():
        return dot_git
    try:
        pointer = dot_git.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        pointer = ""
    target = root / pointer.removeprefix("gitdir:").strip()
    if not pointer.startswith("gitdir:") or not target.is_dir():
        raise UsageError(f"{dot_git} leads to no repository", remedy="git worktree repair mends it")
    return target
