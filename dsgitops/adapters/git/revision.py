"""Which commit of a repository: a branch, a tag, the highest tag of a semver range, or a hash.

Names are checked by the rules of `git check-ref-format`, so that none can be an option, a refspec
or an expression (`@{-1}`, `a..b`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from dsgitops.adapters.git.address import Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Kind = Literal["branch", "tag", "semver", "commit"]
Triple = tuple[int, int, int]

_FORBIDDEN = re.compile(r"[\x00-\x20\x7f-\x9f~^:?*\[\\\"'<>|]|\.\.|@\{|//")
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_VERSION = re.compile(
    r"v?(?P<major>0|[1-9][0-9]{0,8})\.(?P<minor>0|[1-9][0-9]{0,8})\.(?P<patch>0|[1-9][0-9]{0,8})"
    r"(?:-(?P<pre>[0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?"
)
_TERM = re.compile(
    r"(?P<op>>=|<=|>|<|=|\^|~)?\s*v?(?P<major>[0-9]{1,9}|[xX*])"
    r"(?:\.(?P<minor>[0-9]{1,9}|[xX*])(?:\.(?P<patch>[0-9]{1,9}|[xX*]))?)?(?P<pre>-[0-9A-Za-z.-]+)?"
)


@dataclass(frozen=True, slots=True)
class Revision:
    """What of a repository is followed."""

    kind: Kind
    value: str

    @property
    def name(self) -> str:
        """The ref on the server, where it is known beforehand (`branch`, `tag`)."""
        return f"refs/{'heads' if self.kind == 'branch' else 'tags'}/{self.value}"


def parse(kind: Kind, value: str) -> Revision | Fault:
    """Read the `ref` of a source."""
    if kind == "commit":
        if _COMMIT.fullmatch(value):
            return Revision(kind, value)
        return Fault("a commit is its full hash of 40 (or 64) lower-case hex digits")
    if kind == "semver":
        return range_fault(value) or Revision(kind, value)
    return name_fault(kind, value) or Revision(kind, value)


def fault(kind: Kind, value: str) -> Fault | None:
    """Say what is wrong with the `ref` of a source; None: nothing."""
    parsed = parse(kind, value)
    return parsed if isinstance(parsed, Fault) else None


def name_fault(kind: str, name: str) -> Fault | None:
    """Say what is wrong with a branch's or tag's name; None: nothing."""
    parts = name.split("/")
    if name.startswith("refs/"):
        return Fault(f"write the {kind}'s short name", "leave out refs/heads/ or refs/tags/")
    wrong = (
        not name
        or len(name.encode("utf-8", "replace")) > 255
        or name == "@"
        or name.startswith("-")
        or name.endswith((".", "/"))
        or _FORBIDDEN.search(name) is not None
        or any(not part or part.startswith(".") or part.endswith(".lock") for part in parts)
    )
    return (
        Fault(f"Git allows no {kind} of this name", "see git check-ref-format") if wrong else None
    )


def path_fault(path: str) -> Fault | None:
    """Say what is wrong with a source's `path`; None: nothing.  Empty and `.` are the root."""
    if path in {"", "."}:
        return None
    if path.startswith("/"):
        return Fault("the path is absolute", "write it from the repository's root: clusters/prod")
    parts = path.rstrip("/").split("/")
    if any(part in {"", ".", ".."} or part.lower() == ".git" for part in parts):
        return Fault("the path has an empty part, `.`, `..` or `.git` in it")
    if any(ord(char) < 32 or ord(char) == 127 or char in ":\\" for char in path):
        return Fault("the path has colons, backslashes or control characters in it")
    return None


# ---------------------------------------------------------------------------- semver


@dataclass(frozen=True, slots=True)
class Version:
    """A tag that is a semantic version (semver.org 2.0.0; build metadata is left out)."""

    tag: str
    triple: Triple
    pre: tuple[tuple[int, int, str], ...] | None
    """Pre-release identifiers as comparable keys; None for a release."""

    @property
    def key(self) -> tuple[Triple, bool, tuple[tuple[int, int, str], ...]]:
        """What orders versions: a release comes after its pre-releases."""
        return (self.triple, self.pre is None, self.pre or ())


def read_version(tag: str) -> Version | None:
    """Read `1.2.3`, `v1.2.3` or `v1.2.3-rc.1`; None for any other tag."""
    match = _VERSION.fullmatch(tag)
    if match is None:
        return None
    triple = (int(match["major"]), int(match["minor"]), int(match["patch"]))
    return Version(tag, triple, _identifiers(match["pre"]) if match["pre"] else None)


def _identifiers(text: str) -> tuple[tuple[int, int, str], ...]:
    """Numbers come before words and are compared as numbers (semver.org, 11.4)."""
    return tuple(
        (0, int(part), "") if part.isdecimal() else (1, 0, part) for part in text.split(".")
    )


def range_fault(text: str) -> Fault | None:
    """Say what is wrong with a semver range; None: nothing."""
    if _bounds(text) is not None:
        return None
    return Fault(
        "the semver range cannot be read", 'write ">=1.2.0 <2.0.0", "1.x", "^1.2" or "~1.2"'
    )


def highest(tags: Iterable[str], wanted: str) -> str | None:
    """Return the tag of the highest version within a range; None: none is.

    Pre-releases count only where the range names one, as in Masterminds/semver.
    """
    tests = _bounds(wanted)
    if tests is None:
        return None
    versions = (read_version(tag) for tag in tags)
    fitting = [
        version
        for version in versions
        if version is not None
        and (version.pre is None or "-" in wanted)
        and all(test(version) for test in tests)
    ]
    return max(fitting, key=lambda version: (version.key, version.tag)).tag if fitting else None


def _bounds(text: str) -> list[Callable[[Version], bool]] | None:
    terms = re.sub(r"(>=|<=|>|<|=|\^|~)\s+", r"\1", text.strip()).replace(",", " ").split()
    matches = [_TERM.fullmatch(term) for term in terms]
    if not terms or not all(matches):
        return None
    return [test for match in matches if match for test in _tests(match)]


def _tests(match: re.Match[str]) -> list[Callable[[Version], bool]]:
    given = [part for part in (match["major"], match["minor"], match["patch"]) if part]
    numbers = [int(part) for part in _until_wildcard(given)]
    triple = _padded(numbers)
    low = Version("", triple, _identifiers(match["pre"][1:]) if match["pre"] else None)
    operator = match["op"] or ""
    if operator in {">=", ">", "<", "<="}:
        return [_comparison(operator, low, numbers)]
    if operator in {"", "="} and len(numbers) == 3:
        return [lambda version: version.key == low.key]
    ceiling = _ceiling(operator, numbers)
    at_least: Callable[[Version], bool] = lambda version: version.key >= low.key  # noqa: E731
    if ceiling is None:
        return [at_least]
    return [at_least, lambda version: version.triple < ceiling]


def _comparison(operator: str, bound: Version, numbers: list[int]) -> Callable[[Version], bool]:
    # ">1.2" leaves all of 1.2 out, "<=1.2" takes all of 1.2 in.
    partial = len(numbers) < 3
    above = _padded(_raised(numbers)) if numbers else bound.triple
    if operator == ">=":
        return lambda version: version.key >= bound.key
    if operator == "<":
        return lambda version: version.key < bound.key
    if operator == ">":
        return lambda version: version.triple >= above if partial else version.key > bound.key
    return lambda version: version.triple < above if partial else version.key <= bound.key


def _until_wildcard(parts: list[str]) -> list[str]:
    for at, part in enumerate(parts):
        if part in {"x", "X", "*"}:
            return parts[:at]
    return parts


def _padded(numbers: list[int]) -> Triple:
    major, minor, patch = [*numbers, 0, 0, 0][:3]
    return (major, minor, patch)


def _raised(numbers: list[int]) -> list[int]:
    return [*numbers[:-1], numbers[-1] + 1]


def _ceiling(operator: str, numbers: list[int]) -> Triple | None:
    """Return the first version above a `^`, `~` or wildcard range; None: there is none."""
    if not numbers:
        return None
    if operator == "~":
        return _padded(_raised(numbers[:2]))
    if operator == "^":
        kept = next((at for at, number in enumerate(numbers) if number), len(numbers) - 1)
        return _padded(_raised(numbers[: kept + 1]))
    return _padded(_raised(numbers))
