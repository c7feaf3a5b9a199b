"""Problems of one document, gathered with their places."""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import islice
from typing import TYPE_CHECKING, Literal

from dsgitops.core.model import Problem
from dsgitops.core.nodes import shown

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dsgitops.core.strict import Document

Severity = Literal["error", "warning", "notice"]

PROBLEMS_MAX = 500
"""Of one object and severity.  A broken generator makes thousands; the first ones say it all."""
HINTS_MAX = 50
"""Finding a near word compares it with all known ones; a long list must not take minutes."""
_KNOWN_MAX = 200


@dataclass(slots=True)
class Findings:
    """Where rules put what they find; a place is a JSON pointer into `document`."""

    document: Document
    object: str = ""
    """`namespace/name`, for the problems."""
    problems: list[Problem] = field(default_factory=list)
    _counts: dict[Severity, int] = field(default_factory=dict[Severity, int])

    def error(self, pointer: str, rule: str, what: str, remedy: str = "") -> None:
        """Note what a cluster, or the agent, would refuse; the place is the value's."""
        self._add(pointer, "error", rule, (what, remedy))

    def warning(self, pointer: str, rule: str, what: str, remedy: str = "") -> None:
        """Note what works, and will be regretted."""
        self._add(pointer, "warning", rule, (what, remedy))

    def notice(self, pointer: str, rule: str, what: str, remedy: str = "") -> None:
        """Note what a reader should know."""
        self._add(pointer, "notice", rule, (what, remedy))

    def key_error(self, pointer: str, rule: str, what: str, remedy: str = "") -> None:
        """Note an error about a key: the place is the key's."""
        line, column = self.document.key_mark(pointer)
        self._append(line, column, "error", rule, (what, remedy))

    def hint(self, word: str, known: Iterable[str]) -> str:
        """Return `did you mean X?`; empty if nothing is near, or after many problems."""
        return did_you_mean(word, known) if len(self.problems) < HINTS_MAX else ""

    def _add(self, pointer: str, severity: Severity, rule: str, words: tuple[str, str]) -> None:
        line, column = self.document.value_mark(pointer)
        self._append(line, column, severity, rule, words)

    def _append(
        self, line: int, column: int, severity: Severity, rule: str, words: tuple[str, str]
    ) -> None:
        what, remedy = words
        self._counts[severity] = self._counts.get(severity, 0) + 1
        if self._counts[severity] > PROBLEMS_MAX:
            return
        self.problems.append(
            Problem(path=self.document.path, line=line, column=column, severity=severity,
                    rule=rule, what=what, remedy=remedy, object=self.object)
        )  # fmt: skip


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `did you mean X?` for the nearest known word; empty if none is near."""
    by_lower = {each.lower(): each for each in islice(known, _KNOWN_MAX)}
    near = get_close_matches(word[:80].lower(), by_lower, n=1, cutoff=0.7)
    return f"did you mean {by_lower[near[0]]}?" if near else ""


def spoken(pointer: str) -> str:
    """Return a pointer as people write it: `spec.template.spec.containers[0].env[2].value`."""
    text = ""
    for step in pointer.split("/")[1:]:
        name = shown(step.replace("~1", "/").replace("~0", "~"))
        if step.isdigit():
            text += f"[{step}]"
        elif name.replace("-", "").replace("_", "").isalnum():
            text += f".{name}"
        else:
            text += f"[{name}]"
    return text.removeprefix(".")
