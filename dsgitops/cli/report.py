"""Problems of manifests as people and CI systems read them: text, JSON, SARIF, GitHub."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from dsgitops.cli import terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from dsgitops.core.model import Problem

SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_SARIF_LEVELS = {"error": "error", "warning": "warning", "notice": "note"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What `validate` found."""

    files: int
    objects: int
    """Kubernetes objects of any kind."""
    problems: tuple[Problem, ...]
    version: str = ""
    """Of dsgitops, for SARIF."""

    @property
    def errors(self) -> int:
        """How many of the problems are errors."""
        return sum(each.severity == "error" for each in self.problems)

    @property
    def summary(self) -> str:
        """One line: `12 files, 9 objects: 1 error, 2 warnings, 3 notices`."""
        counts = Counter(each.severity for each in self.problems)
        found = ", ".join(_counted(counts[word], word) for word in ("error", "warning", "notice"))
        return f"{_counted(self.files, 'file')}, {_counted(self.objects, 'object')}: {found}"


def text(report: Report) -> str:
    """Return a line a problem, `file:line:column: severity: what [rule]`, and its remedy below."""
    return "\n".join(_text_lines(report))


def as_json(report: Report) -> dict[str, Any]:
    """Return a `ValidationReport` (`interfaces.md`)."""
    return {
        "apiVersion": terminal.API_VERSION,
        "kind": "ValidationReport",
        "files": report.files,
        "objects": report.objects,
        "problems": [_fields(each) for each in report.problems],
    }


def sarif(report: Report) -> dict[str, Any]:
    """Return a SARIF 2.1.0 log, as code scanning services read it."""
    rules = sorted({each.rule for each in report.problems})
    driver = {
        "name": "dsgitops",
        "version": report.version,
        "rules": [{"id": rule} for rule in rules],
    }
    return {
        "$schema": SARIF_SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": driver},
                "columnKind": "unicodeCodePoints",
                "results": [_result(each, rules.index(each.rule)) for each in report.problems],
            }
        ],
    }


def github(report: Report) -> str:
    """Return workflow commands, which GitHub shows beside the lines of a change."""
    return "\n".join(_command(each) for each in report.problems)


def _counted(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


def _text_lines(report: Report) -> Iterator[str]:
    for each in report.problems:
        place, what = str(each).removesuffix(each.what), each.what
        yield terminal.plain(f"{place}{each.severity}: {what} [{each.rule}]")
        if each.remedy:
            yield terminal.plain(f"  remedy: {each.remedy}")


def _fields(problem: Problem) -> Mapping[str, Any]:
    return {
        "file": problem.path,
        "line": problem.line,
        "column": problem.column,
        "severity": problem.severity,
        "rule": problem.rule,
        "what": problem.what,
        "remedy": problem.remedy,
        "object": problem.object,
    }


def _result(problem: Problem, index: int) -> Mapping[str, Any]:
    location: dict[str, Any] = {"artifactLocation": {"uri": quote(problem.path)}}
    if problem.line:
        location["region"] = {"startLine": problem.line, "startColumn": max(problem.column, 1)}
    return {
        "ruleId": problem.rule,
        "ruleIndex": index,
        "level": _SARIF_LEVELS[problem.severity],
        "message": {"text": _sentence(problem)},
        "locations": [{"physicalLocation": location}],
    }


def _command(problem: Problem) -> str:
    places = {"file": problem.path, "line": problem.line, "col": problem.column}
    given = ",".join(f"{key}={_property(str(value))}" for key, value in places.items() if value)
    title = _property(problem.rule)
    return f"::{problem.severity} {given},title={title}::{_data(_sentence(problem))}"


def _sentence(problem: Problem) -> str:
    return f"{problem.what}; {problem.remedy}" if problem.remedy else problem.what


def _data(value: str) -> str:
    """Escape as GitHub's runner does: `%`, line breaks."""
    return value.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(value: str) -> str:
    return _data(value).replace(":", "%3A").replace(",", "%2C")


RENDERERS: Mapping[str, Callable[[Report], str | dict[str, Any]]] = {
    "text": text,
    "json": as_json,
    "sarif": sarif,
    "github": github,
}
"""By the value of `-o`."""
