"""What Git has, as of the last commit of each source that could be read.

Trees come in from the polls; files are read and parsed once per blob; what results is the desired
state of each DaemonSet, or why it cannot be understood.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from dsgitops.core import manifest
from dsgitops.core.model import Desired, Policy, Problem, Ref, Unreadable
from dsgitops.core.narrate import short
from dsgitops.errors import SourceRefused, SourceUnreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from dsgitops.core.actions import Recall
    from dsgitops.core.catalog import Catalog
    from dsgitops.core.manifest import ManifestFile
    from dsgitops.core.record import Record
    from dsgitops.errors import DsgitopsError
    from dsgitops.ports import Polled, Source, Tree, Voice


class Reader(Protocol):
    """What the settings make of the files of one commit."""

    def __call__(
        self,
        files: Iterable[ManifestFile],
        source: str,
        commit: str,
        before: Catalog | None = None,
    ) -> Catalog:
        """Return desired states and problems.

        Args:
            files: All of the commit.
            source: By its name.
            commit: For display.
            before: What it returned for an earlier commit: what is the same need not be made again.
        """
        ...


@dataclass(slots=True)
class _Shelf:
    """What is known of one source."""

    tree: Tree | None = None
    catalog: Catalog | None = None
    """As the reader returned it."""
    desired: Mapping[Ref, Desired] = field(default_factory=dict[Ref, Desired])
    unreadable: Mapping[Ref, Unreadable] = field(default_factory=dict[Ref, Unreadable])
    """DaemonSets that Git names and that cannot be used."""
    bad: Mapping[str, Problem] = field(default_factory=dict[str, Problem])
    """The first error of each file that has one, by path."""
    shared: Mapping[Ref, Problem] = field(default_factory=dict[Ref, Problem])
    """DaemonSets that another source has too."""
    files: dict[tuple[str, str], ManifestFile] = field(
        default_factory=dict[tuple[str, str], "ManifestFile"]
    )
    """Parsed files by (path, blob): problems name the path."""
    asked: set[Ref] = field(default_factory=set["Ref"])
    """DaemonSets that are ours, and of which this source had nothing that could be used."""
    error: str = ""
    """Why the last poll brought nothing; "" if it did."""
    polled: bool = False
    """Whether a poll of it was taken in, well or not."""
    untold: bool = False
    """Whether the commit was taken in and nobody was told yet."""


@dataclass(slots=True)
class Intake:
    """The desired state of every DaemonSet of every source.

    Args:
        sources: By name.
        reader: From files to desired states, as the settings say.
        opens: When the next window opens; None: now.
        policy: Of DaemonSets whose manifest cannot be read.
    """

    sources: Mapping[str, Source]
    reader: Reader
    opens: Callable[[datetime], datetime | None] | None = None
    policy: Policy = field(default_factory=Policy)
    recalled: dict[Ref, Desired] = field(default_factory=dict[Ref, Desired])
    """Content of earlier commits that a decision asked for."""
    _shelves: dict[str, _Shelf] = field(default_factory=dict[str, _Shelf])

    def __post_init__(self) -> None:
        """Know every source by name before its first poll."""
        self._shelves = {name: _Shelf() for name in self.sources}

    def refs(self) -> frozenset[Ref]:
        """Return the DaemonSets that Git has."""
        shelves = self._shelves.values()
        return frozenset(ref for each in shelves for ref in (*each.desired, *each.unreadable))

    def problems(self) -> tuple[Problem, ...]:
        """Return the first error of every file that has one, and what two sources have."""
        shelves = self._shelves.values()
        return tuple(
            each for shelf in shelves for each in (*shelf.bad.values(), *shelf.shared.values())
        )

    def of(self, ref: Ref, record: Record | None, now: datetime) -> Desired | Unreadable | None:
        """Return what Git has of one DaemonSet; None: nothing, for certain."""
        holders = self._holders(ref)
        if not holders:
            return self._unreadable(ref, record)
        if len(holders) > 1:
            return self._claimed_twice(ref, holders, record)
        found = next(iter(holders.values()))
        if isinstance(found, Desired) and self.opens:
            return replace(found, opens=self.opens(now))
        return found

    def take(self, polled: Polled, voice: Voice) -> frozenset[Ref]:
        """Take in one poll; return the DaemonSets of which Git now says something else."""
        shelf = self._shelves[polled.source]
        shelf.polled = True
        if polled.tree is None:
            return self._not_read(polled, shelf, voice)
        if shelf.tree is not None and shelf.tree.commit == polled.tree.commit:
            shelf.error = ""
            return frozenset()
        return self._read_whole(polled.source, polled.tree, shelf, voice)

    @property
    def complete(self) -> bool:
        """Whether a poll of every source was taken in, well or not."""
        return all(shelf.polled for shelf in self._shelves.values())

    @property
    def unread(self) -> bool:
        """Whether the last poll of some source brought nothing."""
        return any(shelf.error for shelf in self._shelves.values())

    def recall(self, action: Recall) -> None:
        """Read what an earlier commit had of one DaemonSet, into `recalled`.

        Raises:
            SourceUnreachable: The mirror cannot be read now.
            SourceRefused: The commit, or the DaemonSet in it, is not there any more.
        """
        source = self.sources.get(action.source)
        commit = action.commit.rpartition(":")[2]
        tree = source.at(commit) if source else None
        if source is None or tree is None:
            raise _gone(action)
        files = tuple(each for each in tree.files if each.path == action.path)
        blobs = source.read(each.blob for each in files)
        parsed = [manifest.read(blobs[each.blob], path=each.path) for each in files]
        found = self.reader(parsed, action.source, tree.display).desired.get(action.ref)
        if found is None:
            raise _gone(action)
        self.recalled[action.ref] = found

    def tell_read(self, voice: Voice, now: datetime, *, settled: bool) -> None:
        """Tell which commits were taken in, once every decision about them was made."""
        if not settled:
            return
        for name, shelf in self._shelves.items():
            if shelf.untold and shelf.tree is not None:
                shelf.untold = False
                partial = bool(shelf.bad or shelf.shared)
                voice.read(name, shelf.tree.commit, now, partial=partial)

    def _not_read(self, polled: Polled, shelf: _Shelf, voice: Voice) -> frozenset[Ref]:
        if not self._tell_unread(polled.source, polled.error, shelf, voice):
            return frozenset()
        if shelf.tree is not None:
            return frozenset()
        kept = self.sources[polled.source].last()  # a restart while Git is away
        if kept is None:
            return frozenset(shelf.asked)
        why = shelf.error
        touched = self._read_whole(polled.source, kept, shelf, voice)
        shelf.error = why
        return touched

    def _tell_unread(
        self, name: str, error: DsgitopsError | None, shelf: _Shelf, voice: Voice
    ) -> bool:
        """Tell once why a source has nothing new; return whether it was news."""
        what = error.what if error else "the poll brought nothing"
        if what == shelf.error:
            return False
        voice.problem(name, what, remedy=error.remedy if error else "")
        shelf.error = what
        return True

    def _read_whole(self, name: str, tree: Tree, shelf: _Shelf, voice: Voice) -> frozenset[Ref]:
        """Read a tree; where the mirror fails meanwhile, what was known stays, and polls go on."""
        try:
            touched = self._read(name, tree, shelf, voice)
        except SourceUnreachable as error:
            self._tell_unread(name, error, shelf, voice)
            return frozenset()
        shelf.error = ""
        return touched

    def _read(self, name: str, tree: Tree, shelf: _Shelf, voice: Voice) -> frozenset[Ref]:
        shelf.files = self._parsed(name, tree, shelf.files)
        catalog = self.reader(shelf.files.values(), name, tree.display, shelf.catalog)
        before, told = shelf.desired, set(shelf.bad.values())
        refused = shelf.unreadable
        shelf.unreadable = catalog.unreadable
        shelf.tree, shelf.catalog = tree, catalog
        shelf.desired = {
            ref: _kept(before.get(ref), desired) for ref, desired in catalog.desired.items()
        }
        shelf.bad = _first_errors(catalog.problems, tree)
        shelf.untold = True
        for problem in shelf.bad.values():
            if problem not in told:
                voice.problem(name, str(problem), remedy=problem.remedy)
        self._tell_shared(voice)
        gone = before.keys() - shelf.desired.keys()
        changed = {ref for ref, each in shelf.desired.items() if before.get(ref) is not each}
        changed |= {ref for ref, each in catalog.unreadable.items() if refused.get(ref) != each}
        asked, shelf.asked = shelf.asked, set()
        return frozenset(gone | changed | asked)

    # ------------------------------------------------------------------------ two sources

    def _holders(self, ref: Ref) -> dict[str, Desired | Unreadable]:
        """Return what each source that speaks of a DaemonSet says of it."""
        said = (
            (name, shelf.desired.get(ref) or shelf.unreadable.get(ref))
            for name, shelf in self._shelves.items()
        )
        return {name: found for name, found in said if found is not None}

    def _claimed_twice(
        self, ref: Ref, holders: Mapping[str, Desired | Unreadable], record: Record | None
    ) -> Unreadable:
        """Two sources have the same object: neither is applied, as with two files of one."""
        ours = record.source if record is not None and record.source in holders else ""
        source = ours or next(iter(holders))
        names = " and ".join(sorted(holders))
        found = self._cannot_read(
            ref, source, f"{ref} is in the sources {names}", manifest_invalid=True
        )
        return replace(found, policy=holders[source].policy)

    def _tell_shared(self, voice: Voice) -> None:
        """Tell each source once what another has too."""
        for name, shelf in self._shelves.items():
            told, shelf.shared = shelf.shared, self._shared(name, shelf)
            for ref, problem in shelf.shared.items():
                if told.get(ref) != problem:
                    voice.problem(name, str(problem), remedy=problem.remedy)

    def _shared(self, name: str, shelf: _Shelf) -> dict[Ref, Problem]:
        others = {key: each for key, each in self._shelves.items() if key != name}
        found: dict[Ref, Problem] = {}
        if not others:
            return found
        for ref, desired in shelf.desired.items():
            names = [
                key for key, each in others.items() if ref in each.desired or ref in each.unreadable
            ]
            if names:
                found[ref] = Problem(
                    path=desired.path,
                    line=desired.line,
                    rule="duplicate-object",
                    what=f"{ref} is in source {' and '.join(names)} too",
                    remedy="keep it in one of them; until then none is applied",
                    object=str(ref),
                )
        return found

    def _parsed(
        self, name: str, tree: Tree, known: Mapping[tuple[str, str], ManifestFile]
    ) -> dict[tuple[str, str], ManifestFile]:
        """Return the parsed files of a tree; only blobs not seen before are read."""
        new = [each for each in tree.files if (each.path, each.blob) not in known]
        blobs = self.sources[name].read({each.blob for each in new}) if new else {}
        fresh = {
            (each.path, each.blob): manifest.read(blobs[each.blob], path=each.path) for each in new
        }
        keys = ((each.path, each.blob) for each in tree.files)
        return {key: fresh[key] if key in fresh else known[key] for key in keys}

    def _unreadable(self, ref: Ref, record: Record | None) -> Unreadable | None:
        """Return why nothing certain is known of a DaemonSet that no catalog has."""
        if record is None:
            return None
        shelf = self._shelves.get(record.source)
        if shelf is None:
            return None
        shelf.asked.add(ref)
        problem = shelf.bad.get(record.path)
        if problem is not None:
            return self._cannot_read(ref, record.source, str(problem), manifest_invalid=True)
        if shelf.tree is None:
            what = shelf.error or f"source {record.source} was not read yet"
            unread = self._cannot_read(ref, record.source, what, manifest_invalid=False)
            return replace(unread, early=not shelf.error)
        return None

    def _cannot_read(
        self, ref: Ref, source: str, what: str, *, manifest_invalid: bool
    ) -> Unreadable:
        return Unreadable(
            ref=ref,
            source=source,
            what=what,
            manifest_invalid=manifest_invalid,
            policy=self.policy,
        )


def _gone(action: Recall) -> SourceRefused:
    return SourceRefused(
        f"{action.ref} is not to be found at {short(action.commit)} any more",
        remedy="push content that works: it is rolled out as it is",
    )


def _kept(before: Desired | None, after: Desired) -> Desired:
    """Return the earlier value where only the commit moved: the content is of the older one."""
    if before is None or before is after:
        return after
    same = replace(after, commit=before.commit, line=before.line)
    return before if same == before else after


def _first_errors(problems: Iterable[Problem], tree: Tree) -> dict[str, Problem]:
    """Return the first error of each file, those that Git itself has wrong included."""
    errors = {
        path: Problem(path=path, rule="unreadable-entry", what=what) for path, what in tree.problems
    }
    for problem in problems:
        if problem.severity == "error":
            errors.setdefault(problem.path, problem)
    return errors
