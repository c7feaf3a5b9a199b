"""From the files of one commit to what is desired: namespaces, duplicates, policies."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from dsgitops.core import deadlines, duration
from dsgitops.core.control import NOT_CONTENT, PROFILE, RECORD, ignored, policy_of
from dsgitops.core.digest import content_annotations
from dsgitops.core.findings import did_you_mean
from dsgitops.core.model import EMPTY, Desired, Policy, Problem, Ref, Unreadable
from dsgitops.core.strict import pointer_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dsgitops.core.findings import Severity
    from dsgitops.core.manifest import Manifest, ManifestFile

_REQUESTS = NOT_CONTENT - {RECORD}
_PLACES_SHOWN = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What the settings say of one source."""

    source: str
    namespaces: frozenset[str] | None = None
    """The allow-list; empty allows none.  None: no settings are known (`validate` alone)."""
    policy: Policy = field(default_factory=Policy)
    """From `rollout:` and the source's `prune`."""
    profiles: Mapping[str, Policy] | None = EMPTY
    """Each resolved against `rollout:`.  None: no settings are known."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of one manifest; it holds for as long as the manifest is the same, where it was."""

    manifest: Manifest
    desired: Desired
    warnings: tuple[Problem, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """What one commit of one source says."""

    commit: str = ""
    desired: Mapping[Ref, Desired] = field(default_factory=dict)
    unreadable: Mapping[Ref, Unreadable] = field(default_factory=dict)
    """DaemonSets that Git speaks of and that cannot be applied: what runs stays."""
    problems: tuple[Problem, ...] = ()
    """Of all files, and those that only all files together show."""
    partial: bool = False
    """Something in it could not be understood: nothing may be pruned on its word."""
    broken: Mapping[str, str] = EMPTY
    """Path -> why, of files of which nobody knows what they define: the DaemonSets whose record
    names the path keep what they run."""
    taken: Mapping[Ref, Taken] = field(default_factory=dict, compare=False, repr=False)
    """How `desired` came about, for the next commit's `gather`."""


@dataclass(slots=True)
class _Gathering:
    terms: Terms
    commit: str
    before: Mapping[Ref, Taken]
    taken: dict[Ref, Taken] = field(default_factory=dict)
    unreadable: dict[Ref, Unreadable] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Written:
    """A manifest and the file it is in."""

    manifest: Manifest
    path: str

    @property
    def place(self) -> str:
        return f"{self.path}:{self.manifest.line}"


def gather(
    files: Iterable[ManifestFile], commit: str, *, terms: Terms, before: Catalog | None = None
) -> Catalog:
    """Return what the files of one commit ask for.

    Args:
        files: All of the source's path, in any order.
        commit: For display: `main@sha1:…`.
        terms: What the settings say of the source.
        before: Of an earlier commit, by the same terms.  What became of a manifest that is the very
            same object there is taken over as it is, its commit included: a commit to one of 1,000
            files must not cost as much as the first one.
    """
    every = sorted(files, key=lambda file: file.path)
    g = _Gathering(terms, commit, before.taken if before else {})
    by_ref: dict[Ref, list[_Written]] = defaultdict(list)
    for file in every:
        g.problems += file.problems
        for manifest in file.manifests:
            written = _Written(manifest, file.path)
            ref = _placed(g, written)
            if ref is not None:
                by_ref[ref].append(written)
    for ref, places in by_ref.items():
        _take(g, ref, places)
    return Catalog(
        commit=commit,
        desired={ref: each.desired for ref, each in g.taken.items()},
        unreadable=g.unreadable,
        problems=tuple(g.problems),
        partial=any(each.severity == "error" for each in g.problems),
        broken={file.path: str(file.problems[0]) for file in every if file.broken},
        taken=g.taken,
    )


def _take(g: _Gathering, ref: Ref, places: list[_Written]) -> None:
    """Take one object: exactly one manifest without an error is desired."""
    first = places[0]
    known = g.before.get(ref)
    if known and len(places) == 1 and _is_still(known, first):
        g.taken[ref] = known
        g.problems += known.warnings
        return
    policy, unknown = _policy(g, first)
    problem = _twice(g, ref, places) if len(places) > 1 else first.manifest.problem or unknown
    if problem is None:
        warnings = _warn_of_deadlines(g, first, policy)
        g.taken[ref] = Taken(first.manifest, _desired(g, ref, first, policy), warnings)
        return
    g.unreadable[ref] = Unreadable(
        ref=ref, source=g.terms.source, what=str(problem), manifest_invalid=True, policy=policy
    )


def _is_still(known: Taken, written: _Written) -> bool:
    return known.manifest is written.manifest and known.desired.path == written.path


def _desired(g: _Gathering, ref: Ref, written: _Written, policy: Policy) -> Desired:
    manifest = written.manifest
    return Desired(
        ref=ref,
        source=g.terms.source,
        path=written.path,
        line=manifest.line,
        commit=g.commit,
        manifest=_content(manifest.value, ref),
        digest=manifest.digest,
        template=manifest.template,
        policy=policy,
        ignore_diff=ignored(_annotations(manifest)),
    )


def _content(value: Mapping[str, Any], ref: Ref) -> Mapping[str, Any]:
    """Return what is applied: namespace filled in, nothing that belongs to the server or others.

    Requests to the agent (`suspend`, `retry-at`) stay: the agent reads them here.
    """
    given = value["metadata"]
    annotations = given.get("annotations") or {}
    kept = content_annotations(annotations) | {
        key: each for key, each in annotations.items() if key in _REQUESTS
    }
    metadata: dict[str, Any] = {"name": ref.name, "namespace": ref.namespace}
    if given.get("labels"):
        metadata["labels"] = given["labels"]
    if kept:
        metadata["annotations"] = kept
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": metadata,
        "spec": value["spec"],
    }


# ---------------------------------------------------------------------------- namespaces


def _placed(g: _Gathering, written: _Written) -> Ref | None:
    """Return the object's name in the cluster; None where it has none or may not be there."""
    manifest, allowed = written.manifest, g.terms.namespaces
    if not manifest.name:
        return None  # noted by its own rules
    if not manifest.namespace:
        return _without_namespace(g, written)
    if allowed is None or manifest.namespace in allowed:
        return manifest.ref()
    known = ", ".join(sorted(allowed)) or "none"
    what = "its namespace is not in the settings' list"
    remedy = did_you_mean(manifest.namespace, allowed) or f"allowed: {known}"
    _note(g, written, "/metadata/namespace", ("namespace-not-allowed", what, remedy))
    return None


def _without_namespace(g: _Gathering, written: _Written) -> Ref | None:
    allowed = g.terms.namespaces
    what = "metadata.namespace is missing"
    if allowed is None:
        remedy = "name it; it may be left out only where the settings allow a single namespace"
        _note(g, written, "/metadata", ("no-namespace", what, remedy), severity="warning")
        return written.manifest.ref()
    if len(allowed) == 1:
        return written.manifest.ref(next(iter(allowed)))
    remedy = f"name one of: {', '.join(sorted(allowed))}" if allowed else "none is allowed"
    _note(g, written, "/metadata", ("no-namespace", what, remedy))
    return None


# ---------------------------------------------------------------------------- duplicates


def _twice(g: _Gathering, ref: Ref, places: list[_Written]) -> Problem:
    """Two files, or two documents, have the same object: neither is applied."""
    shown = " and ".join(each.place for each in places[:_PLACES_SHOWN])
    more = f" and {len(places) - _PLACES_SHOWN} more" if len(places) > _PLACES_SHOWN else ""
    name = str(ref) if ref.namespace else ref.name
    what = f"{name} is there {len(places)} times: {shown}{more}"
    words = ("duplicate-object", what, "keep one of them; until then none is applied")
    notes = [_note(g, each, "/metadata/name", words) for each in places]
    return notes[0]


# ---------------------------------------------------------------------------- policy


def _policy(g: _Gathering, written: _Written) -> tuple[Policy, Problem | None]:
    """Resolve the policy; a profile that nobody knows is a problem."""
    annotations = _annotations(written.manifest)
    profiles = g.terms.profiles
    if profiles is None:
        profiles = {str(annotations.get(PROFILE)): g.terms.policy}
    policy, wrong = policy_of(annotations, g.terms.policy, profiles)
    if not wrong:
        return policy, None
    what, _, remedy = f"{PROFILE} {wrong}".partition("; ")
    pointer = "/metadata/annotations" + pointer_of(PROFILE)
    return policy, _note(g, written, pointer, ("profile", what, remedy))


def _warn_of_deadlines(g: _Gathering, written: _Written, policy: Policy) -> tuple[Problem, ...]:
    """Deadlines below what the manifest itself asks for are raised; say so."""
    spec = written.manifest.value["spec"]
    ready = timedelta(seconds=spec.get("minReadySeconds") or 0)
    needed = deadlines.startup_budget(spec["template"]) + ready
    warnings: list[Problem] = []
    for name, given in (
        ("progressDeadline", policy.progress_deadline),
        ("podDeadline", policy.pod_deadline),
    ):
        if given is None or given > needed:
            continue
        what = (f"{name} is {duration.show(given)}, and its own probes and minReadySeconds let a "
                f"start take {duration.show(needed)}")  # fmt: skip
        words = ("deadline-too-short", what, "it is raised to that")
        warnings.append(_note(g, written, "/metadata", words, severity="warning"))
    return tuple(warnings)


def _annotations(manifest: Manifest) -> Mapping[str, Any]:
    metadata = manifest.value.get("metadata")
    given = metadata.get("annotations") if isinstance(metadata, dict) else None
    return given if isinstance(given, dict) else EMPTY


def _note(
    g: _Gathering,
    written: _Written,
    pointer: str,
    words: tuple[str, str, str],
    severity: Severity = "error",
) -> Problem:
    manifest = written.manifest
    line, column = manifest.mark(pointer)
    ref = f"{manifest.namespace}/{manifest.name}" if manifest.namespace else manifest.name
    rule, what, remedy = words
    problem = Problem(path=written.path, line=line, column=column, severity=severity, rule=rule,
                      what=what, remedy=remedy, object=ref)  # fmt: skip
    g.problems.append(problem)
    return problem
