"""One Git repository, ref and path, as `ports.Source`.

`fetch` brings the mirror to the remote's tip and accepts it, or says why it cannot be used.  What
was accepted last stays readable all the while: `last`, `read` and `contains` never wait for a
fetch that hangs.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dsgitops.adapters.git import address as addresses
from dsgitops.adapters.git import credentials, diagnosis, tree
from dsgitops.adapters.git import revision as revisions
from dsgitops.adapters.git.command import Answer, Overdue, Oversized
from dsgitops.adapters.git.mirror import ACCEPTED, INCOMING, LOCAL_SECONDS, Damaged, Mirror
from dsgitops.adapters.git.tracked import Tracked
from dsgitops.errors import SourceRefused, SourceUnreachable
from dsgitops.ports import File, Tree

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from dsgitops.adapters.git.mirror import Format

HISTORY_MAX = 50
"""Commits that the Lease names (`interfaces.md`, run)."""

_FOLDER = re.compile(r"[a-z0-9-]+-[0-9a-f]{12}")


@dataclass(slots=True)
class GitSource:
    """See `ports.Source`.  `fetch` by one thread at a time; the rest by any."""

    tracked: Tracked
    cache: Path
    """Folder of all mirrors; this source's own is made in it."""
    name: str = field(init=False)
    """The source's name in the settings."""
    folder: Path = field(init=False)
    """This source's own, in `cache`."""
    _mirror: Mirror = field(init=False)
    _swap: threading.RLock = field(default_factory=threading.RLock, init=False)
    """Held for short local commands, and while a new mirror takes the old one's place."""
    _tree: Tree | None = field(default=None, init=False)
    _damaged: bool = field(default=False, init=False)
    _unusable: tuple[str, SourceRefused] | None = field(default=None, init=False)
    """(what the remote had, why it could not be taken): not tried from scratch every poll."""
    _untidy: bool = field(default=True, init=False)
    """Whether a commit came since git was last asked to pack."""
    _plain: dict[str, bool] = field(default_factory=dict, init=False)
    """Small blobs: whether they are no LFS pointers."""

    def __post_init__(self) -> None:
        """Name the mirror after what is in it: another URL or ref is another mirror."""
        tracked = self.tracked
        self.name = tracked.name
        identity = f"{tracked.address.url}\n{tracked.revision.kind}\n{tracked.revision.value}"
        digest = hashlib.sha256(identity.encode()).hexdigest()[:12]
        self.folder = self.cache / f"{tracked.name}-{digest}"
        self._mirror = self._mirror_in(self.folder / "mirror.git", self.folder / "home")

    # ------------------------------------------------------------------------ the port

    def fetch(self) -> Tree:
        """See `ports.Source.fetch`."""
        deadline = time.monotonic() + self.tracked.timeout
        self._refuse_metadata_host()
        credentials.require(self.tracked.auth)
        try:
            return self._fetch_and_take(deadline)
        except Overdue:
            self._mirror.sweep()
            raise SourceUnreachable(
                f"{self.tracked.where} did not answer within {self.tracked.timeout:g} s"
            ) from None
        except Oversized:
            self._mirror.sweep()
            raise SourceRefused(
                f"{self.tracked.where} sends more than is taken",
                remedy="keep manifests in a repository of their own",
            ) from None

    def last(self) -> Tree | None:
        """See `ports.Source.last`."""
        if self._tree is not None:
            return self._tree
        with self._swap:
            if not self._mirror.exists():
                return None
            try:
                commit = self._mirror.tip(ACCEPTED)
                self._tree = None if commit is None else self._listing(commit)
            except (Damaged, Overdue, Oversized, SourceRefused, SourceUnreachable):
                return None
        return self._tree

    def at(self, commit: str) -> Tree | None:
        """See `ports.Source.at`.  What a force-push left behind is kept for 30 days."""
        try:
            with self._swap:
                known = self._mirror.exists() and self._mirror.has_commit(commit)
                return self._listing(commit) if known else None
        except (Damaged, Overdue, Oversized, SourceRefused):
            return None

    def read(self, blobs: Iterable[str]) -> Mapping[str, bytes]:
        """See `ports.Source.read`."""
        wanted = dict.fromkeys(blobs)
        if not wanted:
            return {}
        try:
            with self._swap:
                return self._mirror.blobs(wanted)
        except (Damaged, Overdue):
            self._damaged = True
            raise SourceUnreachable(
                "the mirror is damaged: it is fetched anew", remedy="check the disk of cacheDir"
            ) from None
        except Oversized:
            raise SourceUnreachable("the manifests are too large to be read at once") from None

    def contains(self, ancestor: str, commit: str) -> bool | None:
        """See `ports.Source.contains`.  Commits older than the first fetch's depth are unknown."""
        try:
            with self._swap:
                return self._mirror.contains(ancestor, commit)
        except Overdue:
            return None

    def history(self, count_max: int = HISTORY_MAX) -> tuple[str, ...]:
        """Return the accepted commit and those before it, newest first; empty: nothing yet."""
        current = self.last()
        if current is None:
            return ()
        try:
            with self._swap:
                return self._mirror.history(current.commit, count_max)
        except Overdue:
            return ()

    def author(self, commit: str) -> str:
        """Return the author's name of a commit (its hash, or `main@sha1:…`); "": not known.

        From any thread.  A name only: an address would be more than an alert needs.
        """
        try:
            with self._swap:
                return self._mirror.author(commit.rpartition(":")[2])
        except (SourceUnreachable, Overdue):
            return ""

    # ------------------------------------------------------------------------ bringing

    def _fetch_and_take(self, deadline: float) -> Tree:
        try:
            return self._take(self._bring(deadline))
        except Damaged:
            pass  # the fetch went well, and still something is missing: the cache is at fault
        try:
            return self._take(self._bring_anew(self._mirror.format(), deadline))
        except Damaged:
            raise SourceUnreachable(
                "the mirror is damaged and could not be mended", remedy="check the disk of cacheDir"
            ) from None

    def _bring(self, deadline: float) -> str:
        """Fetch; return the commit that the remote has."""
        if self._damaged:
            return self._bring_anew(self._mirror.format(), deadline)
        fresh = not self._mirror.exists()
        if fresh:
            self._mirror.create()
        wanted = self._wanted(deadline)
        answer = self._fetch(self._mirror, wanted, deadline)
        if answer.code == 0:
            return self._tip(self._mirror)
        tip = diagnosis.diagnose(self._mirror, self.tracked, wanted, answer, deadline=deadline)
        if self._unusable is not None and self._unusable[0] == tip.id:
            raise self._unusable[1]
        if tip.format == self._mirror.format():
            # The remote is well: was it the way there?  A stale lock?
            self._mirror.sweep()
            answer = self._fetch(self._mirror, wanted, deadline)
            if answer.code == 0:
                return self._tip(self._mirror)
            if fresh:
                raise self._refusal(answer, tip.id)
        return self._bring_anew(tip.format, deadline)

    def _bring_anew(self, object_format: Format, deadline: float) -> str:
        """Fetch into a new mirror beside the old one; swap when it is whole."""
        other = self._mirror_in(self.folder / "mirror.new", self._mirror.home)
        other.create(object_format)
        wanted = self._wanted(deadline)
        answer = self._fetch(other, wanted, deadline)
        if answer.code:
            tip = diagnosis.diagnose(other, self.tracked, wanted, answer, deadline=deadline)
            if tip.format == object_format:
                raise self._refusal(answer, tip.id)
            return self._bring_anew(tip.format, deadline)
        commit = self._tip(other)
        with self._swap:
            self._mirror.replace_with(other)
            self._damaged = False
            if self._tree is not None and self._mirror.has_commit(self._tree.commit):
                self._mirror.accept(self._tree.commit)
        return commit

    def _fetch(self, mirror: Mirror, wanted: str, deadline: float) -> Answer:
        """Fetch one ref; a pinned commit that is here already needs no network."""
        if self.tracked.revision.kind == "commit" and mirror.tip(INCOMING) == wanted:
            return Answer(0, b"", "")
        return mirror.fetch(wanted, deadline=deadline)

    def _wanted(self, deadline: float) -> str:
        """Return the ref (or hash) to ask for; a semver range asks the remote for its tags."""
        revision = self.tracked.revision
        if revision.kind == "commit":
            return revision.value
        if revision.kind != "semver":
            return revision.name
        refs = self._mirror.remote_refs("refs/tags/*", deadline=deadline)
        if isinstance(refs, Answer):
            raise diagnosis.unreachable(self.tracked, refs)
        tag = revisions.highest((name.removeprefix("refs/tags/") for name in refs), revision.value)
        if tag is None:
            raise SourceRefused(
                f"no tag of {self.tracked.where} is in the range {revision.value}",
                remedy="push a tag such as v1.2.3, or widen ref.semver",
            )
        return f"refs/tags/{tag}"

    def _tip(self, mirror: Mirror) -> str:
        commit = mirror.tip(INCOMING)
        if commit is None:
            raise Damaged
        return commit

    def _refusal(self, answer: Answer, tip: str) -> SourceRefused | SourceUnreachable:
        error = diagnosis.not_taken(self.tracked, answer)
        if isinstance(error, SourceRefused):
            self._unusable = (tip, error)
        return error

    # ------------------------------------------------------------------------ accepting

    def _take(self, commit: str) -> Tree:
        """Accept a commit, or say why not; the last one stays in force then."""
        before = self.last()
        if before is not None and before.commit == commit:
            if self._untidy:
                self._tidy()
            return before
        self._require_descent(before, commit)
        self._require_signature(commit)
        found = self._listing(commit)
        self._mirror.accept(commit)
        self._tree = found
        self._untidy = True
        return found

    def _tidy(self) -> None:
        """Pack where needed, at a poll that brought nothing: a new commit waits for nobody."""
        self._untidy = False
        try:
            self._mirror.tidy(deadline=time.monotonic() + LOCAL_SECONDS)
        except (Overdue, SourceUnreachable):
            self._mirror.sweep()

    def _require_descent(self, before: Tree | None, commit: str) -> None:
        if before is None or not self.tracked.require_fast_forward:
            return
        if self._mirror.contains(before.commit, commit) is not True:
            raise SourceRefused(
                f"{self.tracked.where} was rewritten: {commit[:12]} does not follow "
                f"{before.commit[:12]}",
                remedy="push a commit on top of the old one, or set requireFastForward: false",
            )

    def _require_signature(self, commit: str) -> None:
        signers = self.tracked.allowed_signers
        if signers is not None and not self._mirror.is_signed(commit, signers):
            raise SourceRefused(
                f"commit {commit[:12]} is not signed by a key that is allowed",
                remedy="sign it, or add the key to verify.ssh.allowedSignersFile",
            )

    def _listing(self, commit: str) -> Tree:
        below = self.tracked.folder
        entries = self._mirror.entries(commit, below)
        if entries is None:
            entries, below = [self._only_file(commit)], below.rpartition("/")[0]
        if len(entries) > tree.ENTRIES_MAX or tree.too_deep(entries):
            raise Oversized
        listing = tree.survey(entries, below=below)
        if len(listing.files) > tree.FILES_MAX:
            raise Oversized
        return self._as_tree(commit, listing)

    def _only_file(self, commit: str) -> tree.Entry:
        """Return the entry of a path that names one regular file."""
        single = self._mirror.entry(commit, self.tracked.folder)
        if single is None or not single.is_regular:
            raise SourceRefused(
                f"commit {commit[:12]} of {self.tracked.where} has no folder {self.tracked.folder}",
                remedy="check path",
            )
        return single

    def _as_tree(self, commit: str, listing: tree.Listing) -> Tree:
        pointers = self._lfs_pointers(listing.suspects)
        files = tuple(each for each in listing.files if each.path not in pointers)
        said = ((path, "is a Git LFS pointer: LFS is not read") for path in pointers)
        problems = tuple(sorted((*listing.problems, *said)))
        if not files and not problems and not self.tracked.allow_empty:
            raise SourceRefused(
                f"commit {commit[:12]} of {self.tracked.where} has no manifest in "
                f"{self.tracked.folder or 'its root'}",
                remedy="check path, or set allowEmpty: true",
            )
        display = self.tracked.display(commit)
        return Tree(commit=commit, display=display, files=files, problems=problems)

    def _lfs_pointers(self, suspects: tuple[File, ...]) -> frozenset[str]:
        """Return the paths whose files are LFS pointers; each small blob is read once."""
        wanted = {each.blob for each in suspects}
        known = {blob: plain for blob, plain in self._plain.items() if blob in wanted}
        unknown = wanted - known.keys()
        if unknown:
            blobs = self._mirror.blobs(unknown)
            known |= {blob: not text.startswith(tree.LFS_POINTER) for blob, text in blobs.items()}
        self._plain = known
        return frozenset(each.path for each in suspects if not known[each.blob])

    # ------------------------------------------------------------------------ small questions

    def _mirror_in(self, directory: Path, home: Path) -> Mirror:
        tracked = self.tracked
        return Mirror(directory=directory, home=home, address=tracked.address, auth=tracked.auth)

    def _refuse_metadata_host(self) -> None:
        host = self.tracked.address.host
        if host and any(addresses.is_forbidden(each) for each in addresses.resolve(host)):
            raise SourceRefused(
                f"host {host} resolves to a link-local or metadata address",
                remedy="check the URL and the cluster's DNS",
            )


def forget_others(cache: Path, sources: Iterable[GitSource]) -> tuple[str, ...]:
    """Remove the mirrors of sources that are followed no more: a cache must not only grow.

    Args:
        cache: The folder of all mirrors, of one agent alone.
        sources: All that are followed now.

    Returns:
        Names of the folders removed.
    """
    kept = {source.folder for source in sources}
    found = [path for path in cache.glob("*-*") if _FOLDER.fullmatch(path.name)]
    others = [path for path in found if path not in kept and (path / "home").is_dir()]
    for path in others:
        shutil.rmtree(path, ignore_errors=True)
    return tuple(sorted(path.name for path in others))


__all__ = ["GitSource", "Tracked", "forget_others"]
