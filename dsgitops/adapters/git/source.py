"""One Git repository, ref and path, as `ports.Source`.

`fetch` brings the mirror to the remote's tip and accepts it, or says why it cannot be used.  What
was accepted last stays readable all the while: `last`, `read` and `contains` never wait for a
fetch that hangs.
"""

from __future__ import annotations

import hashlib
import threading
import time
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING

from dsgitops.adapters.git import address as addresses
from dsgitops.adapters.git import revision as revisions
from dsgitops.adapters.git import tree
from dsgitops.adapters.git.command import Answer, Overdue, Oversized
from dsgitops.adapters.git.environment import Https, Ssh
from dsgitops.adapters.git.mirror import ACCEPTED, INCOMING, LOCAL_SECONDS, Damaged, Mirror
from dsgitops.errors import SourceRefused, SourceUnreachable
from dsgitops.ports import File, Tree

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from dsgitops.adapters.git.address import Address
    from dsgitops.adapters.git.environment import Auth
    from dsgitops.adapters.git.mirror import Format
    from dsgitops.adapters.git.revision import Revision

HISTORY_MAX = 50
"""Commits that the Lease names (`interfaces.md`, run)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracked:
    """What is followed: one source of the settings, checked."""

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


@dataclass(slots=True)
class GitSource:
    """See `ports.Source`.  `fetch` by one thread at a time; the rest by any."""

    tracked: Tracked
    cache: Path
    """Folder of all mirrors; this source's own is made in it."""
    _mirror: Mirror = field(init=False)
    _swap: threading.RLock = field(default_factory=threading.RLock, init=False)
    _tree: Tree | None = field(default=None, init=False)
    _damaged: bool = field(default=False, init=False)
    _unusable: tuple[str, str] = field(default=("", ""), init=False)
    """(what the remote had, why it could not be taken): not downloaded again every poll."""
    _plain: dict[str, bool] = field(default_factory=dict, init=False)
    """Small blobs: whether they are no LFS pointers."""

    def __post_init__(self) -> None:
        """Name the mirror after what is in it: another URL or ref is another mirror."""
        tracked = self.tracked
        identity = f"{tracked.address.url}\n{tracked.revision.kind}\n{tracked.revision.value}"
        digest = hashlib.sha256(identity.encode()).hexdigest()[:12]
        folder = self.cache / f"{tracked.name}-{digest}"
        self._mirror = self._mirror_in(folder / "mirror.git", folder / "home")

    @property
    def name(self) -> str:
        """The source's name in the settings."""
        return self.tracked.name

    # ------------------------------------------------------------------------ the port

    def fetch(self) -> Tree:
        """See `ports.Source.fetch`."""
        deadline = time.monotonic() + self.tracked.timeout
        self._refuse_metadata_host()
        self._require_secrets()
        try:
            try:
                return self._take(self._bring(deadline))
            except Damaged:
                return self._take(self._bring_anew(self._mirror.format(), deadline))
        except Overdue:
            self._mirror.sweep()
            raise SourceUnreachable(
                f"{self._where} did not answer within {self.tracked.timeout:g} s"
            ) from None
        except Oversized:
            self._mirror.sweep()
            raise SourceRefused(
                f"{self._where} sends more than is taken", remedy="keep manifests in a smaller one"
            ) from None
        except Damaged:
            raise SourceUnreachable("the mirror is damaged and could not be mended") from None

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
            except (Damaged, Overdue, Oversized, SourceRefused):
                return None
        return self._tree

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

    # ------------------------------------------------------------------------ bringing

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
        object_format = self._diagnose(wanted, answer, deadline)
        if object_format == self._mirror.format():
            # The remote is well: was it the way there?  A stale lock?
            self._mirror.sweep()
            answer = self._fetch(self._mirror, wanted, deadline)
            if answer.code == 0:
                return self._tip(self._mirror)
            if fresh:
                raise self._not_taken(answer)
        return self._bring_anew(object_format, deadline)

    def _bring_anew(self, object_format: Format, deadline: float) -> str:
        """Fetch into a new mirror beside the old one; swap when it is whole."""
        folder = self._mirror.directory.parent
        other = self._mirror_in(folder / "mirror.new", self._mirror.home)
        other.create(object_format)
        wanted = self._wanted(deadline)
        answer = self._fetch(other, wanted, deadline)
        if answer.code:
            found = self._diagnose(wanted, answer, deadline)
            if found == object_format:
                raise self._not_taken(answer)
            return self._bring_anew(found, deadline)
        commit = self._tip(other)
        with self._swap:
            self._mirror.replace_with(other)
            self._damaged = False
            if self._tree is not None and self._mirror.kind(self._tree.commit) == "commit":
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
            raise self._unreachable(refs)
        tag = revisions.highest((name.removeprefix("refs/tags/") for name in refs), revision.value)
        if tag is None:
            raise SourceRefused(
                f"no tag of {self._where} is in the range {revision.value}",
                remedy="push a tag such as v1.2.3, or widen ref.semver",
            )
        return f"refs/tags/{tag}"

    def _tip(self, mirror: Mirror) -> str:
        commit = mirror.tip(INCOMING)
        if commit is None:
            raise Damaged
        return commit

    # ------------------------------------------------------------------------ diagnosing

    def _diagnose(self, wanted: str, answer: Answer, deadline: float) -> Format:
        """Find out why a fetch failed.  Return the remote's format: it is well, and so is the ref.

        git's words differ between versions and transports; asking for the refs does not.
        """
        tags = wanted.startswith("refs/tags/")
        refs = self._mirror.remote_refs(
            "refs/tags/*" if tags else "refs/heads/*", deadline=deadline
        )
        if isinstance(refs, Answer):
            raise self._unreachable(refs if refs.said else answer)
        if not refs and not tags:
            # A web page with status 200 looks just so: git takes it for a "dumb" server's list.
            raise SourceRefused(
                f"{self._where} is empty: it has no branch",
                remedy="push a commit; over https, check that a Git server answers there",
            )
        if wanted.startswith("refs/") and wanted not in refs:
            raise self._no_such_ref(wanted, refs)
        tip = refs.get(wanted, wanted)
        if self._unusable[0] == tip and self._unusable[1]:
            raise SourceRefused(self._unusable[1], remedy="run git fsck in the repository")
        sample = next(iter(refs.values()), wanted)
        if self.tracked.revision.kind == "commit" and len(sample) == len(wanted):
            raise SourceRefused(
                f"{self._where} does not hand out commit {wanted}",
                remedy="check ref.commit; some servers hand out branches and tags only",
            )
        self._unusable = (tip, "")
        return "sha256" if len(sample) == 64 else "sha1"

    def _no_such_ref(self, wanted: str, refs: Mapping[str, str]) -> SourceRefused:
        kind = "tag" if wanted.startswith("refs/tags/") else "branch"
        short = wanted.split("/", 2)[2]
        names = [name.split("/", 2)[2] for name in refs if name.count("/") >= 2]
        near = [name for name in get_close_matches(short, names, n=1) if name.isprintable()]
        remedy = f"did you mean {near[0]}?" if near else f"check ref.{kind}"
        return SourceRefused(f"{self._where} has no {kind} {short}", remedy=remedy)

    def _not_taken(self, answer: Answer) -> SourceRefused | SourceUnreachable:
        """The remote is well and a new mirror cannot take what it sends."""
        what = f"what {self._where} sends cannot be taken: {answer.said or 'git gave no reason'}"
        if "fsck" not in answer.said:
            self._unusable = ("", "")
            return SourceUnreachable(what)
        self._unusable = (self._unusable[0], what)
        return SourceRefused(what, remedy="run git fsck in the repository")

    def _unreachable(self, answer: Answer) -> SourceUnreachable:
        said = self._redacted(answer.said) or "git gave no reason"
        return SourceUnreachable(f"{self._where} cannot be read: {said}", remedy=_remedy(said))

    # ------------------------------------------------------------------------ accepting

    def _take(self, commit: str) -> Tree:
        """Accept a commit, or say why not; the last one stays in force then."""
        before = self.last()
        if before is not None and before.commit == commit:
            return before
        self._require_descent(before, commit)
        signers = self.tracked.allowed_signers
        if signers is not None and not self._mirror.is_signed(commit, signers):
            raise SourceRefused(
                f"commit {commit[:12]} is not signed by a key that is allowed",
                remedy="sign it, or add the key to verify.ssh.allowedSignersFile",
            )
        found = self._listing(commit)
        self._mirror.accept(commit)
        self._tree = found
        # Without a deadline of the poll: the commit is accepted, packing may take its time.
        self._tidy()
        return found

    def _tidy(self) -> None:
        try:
            self._mirror.tidy(deadline=time.monotonic() + LOCAL_SECONDS)
        except (Overdue, SourceUnreachable):
            self._mirror.sweep()

    def _require_descent(self, before: Tree | None, commit: str) -> None:
        if before is None or not self.tracked.require_fast_forward:
            return
        if self._mirror.contains(before.commit, commit) is not True:
            raise SourceRefused(
                f"{self._where} was rewritten: {commit[:12]} does not follow {before.commit[:12]}",
                remedy="push a commit on top of the old one, or set requireFastForward: false",
            )

    def _listing(self, commit: str) -> Tree:
        entries = self._mirror.entries(commit, self.tracked.path)
        below = self.tracked.path
        if entries is None:
            single = self._mirror.entry(commit, self.tracked.path)
            if single is None or single.mode not in {"100644", "100755"}:
                raise SourceRefused(
                    f"commit {commit[:12]} of {self._where} has no folder {self.tracked.path}",
                    remedy="check path",
                )
            entries, below = [single], below.rpartition("/")[0]
        if len(entries) > tree.FILES_MAX * 5 or tree.too_deep(entries):
            raise Oversized
        listing = tree.survey(entries, below=below)
        if len(listing.files) > tree.FILES_MAX:
            raise Oversized
        return self._as_tree(commit, listing)

    def _as_tree(self, commit: str, listing: tree.Listing) -> Tree:
        pointers = self._lfs_pointers(listing.suspects)
        files = tuple(each for each in listing.files if each.path not in pointers)
        said = ((path, "is a Git LFS pointer: LFS is not read") for path in pointers)
        problems = tuple(sorted((*listing.problems, *said)))
        if not files and not problems and not self.tracked.allow_empty:
            raise SourceRefused(
                f"commit {commit[:12]} of {self._where} has no manifest in "
                f"{self.tracked.path or 'its root'}",
                remedy="check path, or set allowEmpty: true",
            )
        return Tree(commit=commit, display=self._display(commit), files=files, problems=problems)

    def _lfs_pointers(self, suspects: tuple[File, ...]) -> frozenset[str]:
        unknown = {each.blob for each in suspects} - self._plain.keys()
        if unknown:
            blobs = self._mirror.blobs(unknown)
            self._plain = {
                each.blob: not blobs[each.blob].startswith(tree.LFS_POINTER)
                if each.blob in blobs
                else self._plain[each.blob]
                for each in suspects
            }
        return frozenset(each.path for each in suspects if not self._plain[each.blob])

    def _display(self, commit: str) -> str:
        revision = self.tracked.revision
        algorithm = "sha256" if len(commit) == 64 else "sha1"
        ref = "" if revision.kind == "commit" else f"{revision.value}@"
        return f"{ref}{algorithm}:{commit}"

    # ------------------------------------------------------------------------ small questions

    @property
    def _where(self) -> str:
        """The repository in messages: its host and path without credentials."""
        return self.tracked.address.url

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

    def _secret_files(self) -> tuple[Path, ...]:
        auth = self.tracked.auth
        files: tuple[Path | None, ...] = ()
        if isinstance(auth, Https):
            files = (auth.username_file, auth.password_file)
        if isinstance(auth, Ssh):
            files = (auth.key_file, auth.known_hosts_file)
        return tuple(path for path in files if path is not None)

    def _require_secrets(self) -> None:
        """Read secrets' files anew each time: they are rotated under us."""
        for path in self._secret_files():
            try:
                text = path.read_bytes().strip()
            except OSError as error:
                why = error.strerror or "unreadable"
                raise SourceUnreachable(f"secret file {path} cannot be read: {why}") from None
            if not text:
                raise SourceUnreachable(f"secret file {path} is empty")
            if isinstance(self.tracked.auth, Https) and any(byte < 32 for byte in text):
                raise SourceUnreachable(f"secret file {path} has more than one line")

    def _redacted(self, said: str) -> str:
        """Take out what the secret files hold, should git or a server repeat it."""
        if not isinstance(self.tracked.auth, Https):
            return said
        for path in self._secret_files():
            try:
                secret = path.read_text(encoding="utf-8", errors="replace").strip()
            except OSError:
                continue
            said = said.replace(secret, "…") if secret else said
        return said


def _remedy(said: str) -> str:
    """Return what helps against the commonest of git's complaints; empty: nothing known."""
    if said.startswith("Host key"):
        return "the host key is not in auth.ssh.knownHostsFile, or it changed"
    if "Authentication failed" in said or "Permission denied" in said or "could not read" in said:
        return "check the source's auth files"
    if "certificate" in said:
        return "check the server's certificate, or set auth.https.caFile"
    return ""
