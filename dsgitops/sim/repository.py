"""A real Git repository in a folder of its own, for demos and tests to commit to."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_ENVIRONMENT = {
    "HOME": "/nonexistent",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Ann",
    "GIT_AUTHOR_EMAIL": "ann@example.com",
    "GIT_COMMITTER_NAME": "Ann",
    "GIT_COMMITTER_EMAIL": "ann@example.com",
    "GIT_AUTHOR_DATE": "2026-01-05T09:00:00+00:00",
    "GIT_COMMITTER_DATE": "2026-01-05T09:00:00+00:00",
}
"""Nobody's configuration, and no clock, decides what a demo shows: equal content, equal hashes."""


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository with a work tree and the branch `main`."""

    path: Path

    @classmethod
    def create(cls, path: Path) -> Repository:
        """Make an empty one in `path` (made if absent)."""
        path.mkdir(parents=True, exist_ok=True)
        made = cls(path)
        made.git("init", "--quiet", "--initial-branch=main")
        return made

    def commit(self, files: Mapping[str, str | None], message: str) -> str:
        """Write files (None removes one), commit all, return the full hash."""
        for name, text in files.items():
            file = self.path / name
            if text is None:
                file.unlink()
                continue
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", f"--message={message}")
        return self.git("rev-parse", "HEAD")

    def read(self, name: str) -> str:
        """Return a file's text."""
        return (self.path / name).read_text()

    def git(self, *arguments: str) -> str:
        """Run git here; return what it printed.

        Raises:
            subprocess.CalledProcessError: It failed.
        """
        done = subprocess.run(  # noqa: S603 - our own arguments, no shell
            ["git", *arguments],  # noqa: S607 - the git that the agent uses too
            cwd=self.path,
            env=_ENVIRONMENT | {"PATH": os.environ.get("PATH", "")},
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()
