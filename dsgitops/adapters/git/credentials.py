"""The files that secrets are in: read anew for each poll, because they are rotated under us."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dsgitops.adapters.git.environment import Auth, Https, Ssh
from dsgitops.errors import SourceUnreachable

if TYPE_CHECKING:
    from pathlib import Path


def require(auth: Auth) -> None:
    """See that all secret files can be used before git is started.

    Raises:
        SourceUnreachable: One is missing, empty, or has more than one line where git wants one.
    """
    for path in _files(auth):
        try:
            text = path.read_bytes().strip()
        except OSError as error:
            why = error.strerror or "unreadable"
            raise SourceUnreachable(f"secret file {path} cannot be read: {why}") from None
        if not text:
            raise SourceUnreachable(f"secret file {path} is empty")
        # A line break would let a file add lines to git's credential protocol.
        if isinstance(auth, Https) and any(byte < 32 for byte in text):
            raise SourceUnreachable(f"secret file {path} has more than one line")


def redact(auth: Auth, said: str) -> str:
    """Take a password out of a text, should git or a server repeat it."""
    if not isinstance(auth, Https) or auth.password_file is None:
        return said
    try:
        secret = auth.password_file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return said
    return said.replace(secret, "…") if secret else said


def _files(auth: Auth) -> tuple[Path, ...]:
    if isinstance(auth, Https):
        return tuple(path for path in (auth.username_file, auth.password_file) if path is not None)
    if isinstance(auth, Ssh):
        return (auth.key_file, auth.known_hosts_file)
    return ()
