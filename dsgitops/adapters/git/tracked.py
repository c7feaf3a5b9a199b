"""What a source follows, as wiring hands it over: checked values, no settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from dsgitops.adapters.git.address import Address
    from dsgitops.adapters.git.environment import Auth
    from dsgitops.adapters.git.revision import Revision


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracked:
    """One source of the settings, checked."""

    name: str
    address: Address
    revision: Revision
    path: str = ""
    """Folder (or one file) from the repository's root; empty: all of it."""
    auth: Auth = None
    timeout: float = 60.0
    """Seconds for a whole `fetch`, diagnosis and a second try included."""
    require_fast_forward: bool = False
    allow_empty: bool = False
    allowed_signers: Path | None = None
    """Where given, a commit is used only when one of these SSH keys signed it."""

    @property
    def where(self) -> str:
        """The repository in messages; its URL holds no credentials (`address.py`)."""
        return self.address.url

    @property
    def folder(self) -> str:
        """`path` without a slash at its end; empty for the root."""
        return "" if self.path == "." else self.path.rstrip("/")

    def display(self, commit: str) -> str:
        """Return a commit as people see it: `main@sha1:9f2c…`."""
        algorithm = "sha256" if len(commit) == 64 else "sha1"
        ref = "" if self.revision.kind == "commit" else f"{self.revision.value}@"
        return f"{ref}{algorithm}:{commit}"
