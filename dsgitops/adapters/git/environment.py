"""The environment that git runs in: from scratch, nothing inherited but PATH and proxies.

Settings travel as `GIT_CONFIG_…` variables: they win over any file and reach git's own children.
Secrets stay in their files: git's credential helper reads them with shell built-ins, so they are
in no argument and no variable.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from dsgitops.adapters.git.address import Address

PASSED_ON = (
    "PATH",
    "HTTPS_PROXY",
    "https_proxy",
    "http_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
)
"""The operator's own; `HTTP_PROXY` in capitals is left out as curl does."""

CONNECT_SECONDS = 15
"""For ssh; below the deadline of a poll, so that the error says what was slow."""

_CREDENTIAL_HELPER = (
    '!f() { test "$1" = get || exit 0; '
    'u=git; test -z "$DSGITOPS_USERNAME_FILE" || u=$(cat "$DSGITOPS_USERNAME_FILE"); '
    'p=$(cat "$DSGITOPS_PASSWORD_FILE") || exit 1; '
    'printf \'username=%s\\npassword=%s\\n\' "$u" "$p"; }; f'
)

_ODD_NAMES_AND_DATES = (
    "hasDot",
    "hasDotdot",
    "hasDotgit",
    "emptyName",
    "fullPathname",
    "zeroPaddedFilemode",
    "badFilemode",
    "badTimezone",
    "missingSpaceBeforeDate",
    "zeroPaddedDate",
    "badDateOverflow",
    "gitmodulesMissing",
    "gitmodulesBlob",
    "gitmodulesLarge",
    "gitmodulesName",
    "gitmodulesParse",
    "gitmodulesPath",
    "gitmodulesSymlink",
    "gitmodulesUpdate",
    "gitmodulesUrl",
)
"""Findings of fsck that must not stop a transfer.  Nothing is ever checked out, so a bad name harms
nobody: it is a problem of its own entry (`tree.py`), not of the repository."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Https:
    """Credentials and trust for `https` (and `http` on loopback)."""

    username_file: Path | None = None
    """None: the user name is `git`, as token logins want any."""
    password_file: Path | None = None
    ca_file: Path | None = None
    """PEM; None: the system's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ssh:
    """A deploy key, and the host keys that are believed."""

    key_file: Path
    known_hosts_file: Path


Auth = Https | Ssh | None


def local(home: Path, inherited: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of commands that stay on this machine: no transport is allowed.

    Args:
        home: An empty folder.
        inherited: The agent's own environment, of which PATH is taken.
    """
    return _assemble(home, inherited, {"GIT_ALLOW_PROTOCOL": ""}, {})


def remote(
    address: Address, auth: Auth, home: Path, inherited: Mapping[str, str]
) -> dict[str, str]:
    """Return the environment of commands that talk to a repository: its own scheme only."""
    variables: dict[str, str] = {"GIT_ALLOW_PROTOCOL": address.scheme}
    settings: dict[str, str] = {}
    if isinstance(auth, Ssh):
        variables |= {"GIT_SSH_COMMAND": ssh_command(auth), "GIT_SSH_VARIANT": "ssh"}
    elif address.scheme == "ssh":
        # Without files of ours nobody's key and nobody's known_hosts is used.
        variables |= {"GIT_SSH_COMMAND": "false", "GIT_SSH_VARIANT": "ssh"}
    if isinstance(auth, Https) and address.scheme in {"https", "http"}:
        variables |= _https_variables(auth)
        if auth.password_file is not None:
            settings["credential.helper"] = _CREDENTIAL_HELPER
    if address.scheme == "file":
        # Read by upload-pack, which starts without our GIT_CONFIG_… variables: a mounted
        # repository belongs to another user.
        variables["GIT_CONFIG_GLOBAL"] = str(home / "gitconfig")
    return _assemble(home, inherited, variables, settings)


def safe_directory(address: Address) -> str:
    """Return the text of `home/gitconfig` for a repository on disk that another user owns."""
    quoted = address.path.replace("\\", "\\\\").replace('"', '\\"')
    return f'[safe]\n\tdirectory = "{quoted}"\n\tdirectory = "{quoted}/.git"\n'


def ssh_command(auth: Ssh) -> str:
    """Return the ssh command line: strict host keys, one key, no configuration files, no agent."""
    options = (
        "BatchMode=yes",
        "StrictHostKeyChecking=yes",
        f'UserKnownHostsFile="{auth.known_hosts_file}"',
        "GlobalKnownHostsFile=/dev/null",
        "IdentitiesOnly=yes",
        "IdentityAgent=none",
        f'IdentityFile="{auth.key_file}"',
        "PreferredAuthentications=publickey",
        "ForwardAgent=no",
        "ControlMaster=no",
        "ControlPath=none",
        "PermitLocalCommand=no",
        "UpdateHostKeys=no",
        "LogLevel=ERROR",
        f"ConnectTimeout={CONNECT_SECONDS}",
    )
    return " ".join(["ssh", "-F", "/dev/null", *(f"-o {shlex.quote(each)}" for each in options)])


def _https_variables(auth: Https) -> dict[str, str]:
    files = {
        "DSGITOPS_USERNAME_FILE": auth.username_file,
        "DSGITOPS_PASSWORD_FILE": auth.password_file,
        "GIT_SSL_CAINFO": auth.ca_file,
    }
    return {name: str(path) for name, path in files.items() if path is not None}


def _assemble(
    home: Path,
    inherited: Mapping[str, str],
    variables: dict[str, str],
    settings: dict[str, str],
) -> dict[str, str]:
    environment = {name: inherited[name] for name in PASSED_ON if name in inherited}
    environment |= {
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home),
        "GIT_CEILING_DIRECTORIES": str(home.parent),  # looks for no repository above HOME
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_PROTOCOL_FROM_USER": "0",
        "GIT_COMMITTER_NAME": "dsgitops",  # for the reflog: uid 65532 has no name of its own
        "GIT_COMMITTER_EMAIL": "dsgitops@localhost",
    }
    environment |= variables
    return environment | _as_variables(_SETTINGS | settings)


_SETTINGS: dict[str, str] = {
    "safe.bareRepository": "explicit",
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.logAllRefUpdates": "always",  # keeps what a force-push left behind from gc
    "core.packedGitLimit": "256m",
    "core.bigFileThreshold": "8m",  # larger blobs are streamed, not held in memory
    "pack.windowMemory": "64m",
    "pack.threads": "1",
    "transfer.fsckObjects": "true",
    "transfer.bundleURI": "false",
    "transfer.credentialsInUrl": "die",
    "fetch.recurseSubmodules": "false",
    "fetch.unpackLimit": "1",  # always a pack: what a transfer adds is seen in one folder
    "gc.bigPackThreshold": "256m",
    "http.followRedirects": "false",
    "http.lowSpeedLimit": "1000",
    "http.lowSpeedTime": "20",
    "gc.autoDetach": "false",
    "maintenance.auto": "false",
    "credential.helper": "",
    "gpg.program": "false",
    "gpg.x509.program": "false",
} | {f"fetch.fsck.{name}": "ignore" for name in _ODD_NAMES_AND_DATES}


def _as_variables(settings: Mapping[str, str]) -> dict[str, str]:
    variables = {"GIT_CONFIG_COUNT": str(len(settings))}
    for at, (key, value) in enumerate(settings.items()):
        variables |= {f"GIT_CONFIG_KEY_{at}": key, f"GIT_CONFIG_VALUE_{at}": value}
    return variables
