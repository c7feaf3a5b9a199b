"""How each forge wants to be told a commit's status; pure.

Sources (public documentation, read in 2026):
GitHub: docs.github.com/rest/commits/statuses, "Create a commit status".
GitLab: docs.gitlab.com/api/commits, "Set the pipeline status of a commit".
Gitea: docs.gitea.com/api, "repoCreateStatus"; Forgejo has the same.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - a field's type
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

from dsgitops.adapters.forge.standing import State
from dsgitops.adapters.git import address
from dsgitops.adapters.git.address import Fault

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dsgitops.adapters.forge.board import Status

Forge = Literal["github", "gitlab", "gitea"]

CONTEXT_MAX = 255
"""Characters of `dsgitops/<cluster>`; GitLab keeps names in a column of that width."""
DESCRIPTION_MAX: Mapping[Forge, int] = {"github": 140, "gitlab": 255, "gitea": 1000}
"""Characters.  GitHub answers 422 beyond ("maximum is 140 characters"), GitLab says 255; Gitea has
a TEXT column and no limit: a sentence of ours is no longer than 1,000 bytes."""
_URLS: Mapping[Forge, str] = {
    "github": "https://api.github.com",
    "gitlab": "https://gitlab.com/api/v4",
    "gitea": "",
}
_STATES: Mapping[Forge, Mapping[State, str]] = {
    "github": {
        State.WAITING: "pending",
        State.PENDING: "pending",
        State.SUCCESS: "success",
        State.FAILURE: "failure",
        State.SUPERSEDED: "error",
    },
    "gitlab": {
        State.WAITING: "pending",
        State.PENDING: "running",
        State.SUCCESS: "success",
        State.FAILURE: "failed",
        State.SUPERSEDED: "canceled",
    },
    "gitea": {
        State.WAITING: "pending",
        State.PENDING: "pending",
        State.SUCCESS: "success",
        State.FAILURE: "failure",
        State.SUPERSEDED: "warning",
    },
}

_NAME = r"(?!\.{1,2}(?:/|$))[A-Za-z0-9._-]+"
_TWO_NAMES = re.compile(rf"{_NAME}/{_NAME}")
_PROJECT = re.compile(rf"[0-9]+|{_NAME}(?:/{_NAME})+")
_BLANKS = re.compile(r"\s+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """One repository on one forge, and what may be said there."""

    kind: Forge
    url: str = ""
    """Of the API; "": that of github.com or gitlab.com."""
    name: str
    """`owner/name`, or a GitLab project's path or number."""
    token_file: Path
    ca_file: Path | None = None
    target_url: str = ""

    @property
    def api(self) -> str:
        """The API's address, without a slash at its end."""
        return (self.url or _URLS[self.kind]).rstrip("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """One request; the token is in its headers and nowhere else."""

    url: str
    headers: Mapping[str, str]
    body: bytes


def fault(kind: str, url: str, repository: str, target_url: str) -> Fault | None:
    """Say what is wrong with `status` of a source; None: nothing."""
    if kind == "gitea" and not url:
        return Fault("gitea has no url of its own", "add url: https://git.example.com/api/v1")
    if url and not url.startswith(("https://", "http://")):
        return Fault("the url is none of the web", "write that of the API: https://…")
    wrong = address.fault(url) if url else None
    if wrong is not None:
        return Fault(wrong.what, "write that of the API: https://…; the token goes into tokenFile")
    if not (_PROJECT if kind == "gitlab" else _TWO_NAMES).fullmatch(repository):
        return Fault("the repository is no owner/name", "write it as in the address bar")
    if target_url and not target_url.startswith(("https://", "http://")):
        return Fault("the targetUrl is none of the web", "write https://…")
    return None


def post(repository: Repository, status: Status, *, cluster: str, token: str) -> Post:
    """Return the request that tells a commit's status.

    Args:
        repository: Where.
        status: What.
        cluster: Its name in the settings.
        token: Already read.
    """
    kind = repository.kind
    body = {
        "state": _STATES[kind][status.state],
        "description": cut(status.sentence, DESCRIPTION_MAX[kind]),
        "context": f"dsgitops/{cluster}"[:CONTEXT_MAX],
    }
    if repository.target_url:
        body["target_url"] = repository.target_url
    if kind == "gitlab" and status.ref:
        body["ref"] = status.ref  # else it takes the first branch that has the commit
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    return Post(
        url=repository.api + _path(repository, status.sha),
        headers=headers | {"User-Agent": "dsgitops"} | _credentials(kind, token),
        body=json.dumps(body).encode(),
    )


def cut(sentence: str, most: int) -> str:
    """Return a sentence on one line, in at most so many characters."""
    text = _BLANKS.sub(" ", "".join(each if each.isprintable() else " " for each in sentence))
    text = text.strip()
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def _path(repository: Repository, sha: str) -> str:
    if repository.kind == "gitlab":
        return f"/projects/{quote(repository.name, safe='')}/statuses/{sha}"
    return f"/repos/{quote(repository.name)}/statuses/{sha}"


def _credentials(kind: Forge, token: str) -> dict[str, str]:
    if kind == "gitlab":
        return {"PRIVATE-TOKEN": token}
    if kind == "gitea":
        return {"Authorization": f"token {token}"}
    return {
        "Authorization": f"Bearer {token}",
        "Accept": "application/vnd.github+json",
        "X-GitHub-Api-Version": "2022-11-28",
    }
