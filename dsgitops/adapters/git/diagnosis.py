"""Why a fetch failed: found out by asking the remote for its refs, not by reading git's words.

The words differ between versions and transports; what a remote lists does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from dsgitops.adapters.git import credentials
from dsgitops.adapters.git.command import Answer
from dsgitops.errors import SourceRefused, SourceUnreachable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dsgitops.adapters.git.mirror import Format, Mirror
    from dsgitops.adapters.git.tracked import Tracked


@dataclass(frozen=True, slots=True)
class Tip:
    """What a remote that is well has of the wanted ref."""

    id: str
    format: Format


def diagnose(
    mirror: Mirror, tracked: Tracked, wanted: str, answer: Answer, *, deadline: float
) -> Tip:
    """Find out why a fetch failed.

    Args:
        mirror: Knows the remote; its own state does not matter.
        tracked: What is followed.
        wanted: The ref or commit that was asked for.
        answer: Of the fetch.
        deadline: On `time.monotonic()`.

    Returns:
        The remote's tip: the remote is well and has the ref, so the fault is on our side, or in
        the objects.

    Raises:
        SourceUnreachable: The remote does not answer, or not us.
        SourceRefused: It answered, and has no such ref.
        Overdue: The deadline passed.
    """
    tags = wanted.startswith("refs/tags/")
    refs = mirror.remote_refs("refs/tags/*" if tags else "refs/heads/*", deadline=deadline)
    if isinstance(refs, Answer):
        raise unreachable(tracked, refs if refs.said else answer)
    if not refs and not tags:
        # A web page with status 200 looks just so: git takes it for a "dumb" server's list.
        raise SourceRefused(
            f"{tracked.where} is empty: it has no branch",
            remedy="push a commit; over https, check that a Git server answers there",
        )
    if wanted.startswith("refs/") and wanted not in refs:
        raise _no_such_ref(tracked, wanted, refs)
    sample = next(iter(refs.values()), wanted)
    return Tip(refs.get(wanted, wanted), "sha256" if len(sample) == 64 else "sha1")


def unreachable(tracked: Tracked, answer: Answer) -> SourceUnreachable:
    """Build the error for a remote that could not be read."""
    said = credentials.redact(tracked.auth, answer.said) or "git gave no reason"
    return SourceUnreachable(f"{tracked.where} cannot be read: {said}", remedy=_remedy(said))


def not_taken(tracked: Tracked, answer: Answer) -> SourceRefused | SourceUnreachable:
    """Build the error for a remote that is well while a new mirror cannot take what it sends."""
    if tracked.revision.kind == "commit":
        return SourceRefused(
            f"{tracked.where} does not hand out commit {tracked.revision.value}",
            remedy="check ref.commit; some servers hand out branches and tags only",
        )
    what = f"what {tracked.where} sends cannot be taken: {answer.said or 'git gave no reason'}"
    if "fsck" in answer.said:
        return SourceRefused(what, remedy="run git fsck in the repository")
    return SourceUnreachable(what)


def _no_such_ref(tracked: Tracked, wanted: str, refs: Mapping[str, str]) -> SourceRefused:
    kind = "tag" if wanted.startswith("refs/tags/") else "branch"
    short = wanted.split("/", 2)[2]
    names = [name.split("/", 2)[2] for name in refs if name.count("/") >= 2]
    near = [name for name in get_close_matches(short, names, n=1) if name.isprintable()]
    remedy = f"did you mean {near[0]}?" if near else f"check ref.{kind}"
    return SourceRefused(f"{tracked.where} has no {kind} {short}", remedy=remedy)


def _remedy(said: str) -> str:
    """Return what helps against the commonest of git's complaints; empty: nothing known."""
    if said.startswith("Host key"):
        return "the host key is not in auth.ssh.knownHostsFile, or it changed"
    if "Authentication failed" in said or "Permission denied" in said or "could not read" in said:
        return "check the source's auth files"
    if "certificate" in said:
        return "check the server's certificate, or set auth.https.caFile"
    return ""
