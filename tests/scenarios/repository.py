"""Git as the scenarios have it: a row of commits in memory, behind `ports.Source`."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha1

from dsgitops.errors import SourceUnreachable
from dsgitops.ports import File, Tree


def commit_name(number):
    """Return the full hash of a commit: `c2000…`, so that transcripts say `c200000`."""
    return f"c{number}".ljust(40, "0")


@dataclass(slots=True)
class Repository:
    """A branch, the newest commit last."""

    name: str = "node-agents"
    commits: list[dict[str, str]] = field(default_factory=list)
    down: bool = False
    damaged: bool = False
    """Whether the mirror cannot be read."""
    fetched: int = 0
    """How many commits the mirror has: what a restarted agent finds while Git is down."""
    blobs: dict[str, bytes] = field(default_factory=dict)

    def commit(self, files):
        """Commit files over what is there (None removes one); return the full hash."""
        tree = {**(self.commits[-1] if self.commits else {}), **files}
        self.commits.append({path: text for path, text in tree.items() if text is not None})
        return commit_name(len(self.commits))

    def revert(self):
        """Commit what was there before the last commit."""
        self.commits.append(dict(self.commits[-2]))
        return commit_name(len(self.commits))

    # ---------------------------------------------------------------- ports.Source

    def fetch(self):
        """See `ports.Source`."""
        if self.down or not self.commits:
            raise SourceUnreachable("the Git server does not answer")
        self.fetched = len(self.commits)
        return self._tree(self.fetched)

    def last(self):
        """See `ports.Source`."""
        return self._tree(self.fetched) if self.fetched else None

    def at(self, commit):
        """See `ports.Source`."""
        for number in range(1, len(self.commits) + 1):
            if commit_name(number) == commit:
                return self._tree(number)
        return None

    def read(self, blobs):
        """See `ports.Source`."""
        if self.damaged:
            raise SourceUnreachable("the mirror is damaged", remedy="check the disk of cacheDir")
        return {blob: self.blobs[blob] for blob in blobs}

    def contains(self, ancestor, commit):
        """See `ports.Source`."""
        return ancestor <= commit

    def _tree(self, number):
        files = []
        for path, text in sorted(self.commits[number - 1].items()):
            blob = sha1(text.encode()).hexdigest()
            self.blobs[blob] = text.encode()
            files.append(File(path=path, blob=blob))
        name = commit_name(number)
        return Tree(commit=name, display=f"main@sha1:{name}", files=tuple(files))
