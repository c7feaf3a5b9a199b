"""Strict YAML and JSON: one meaning for every reader, a place for every node, no bombs.

Built on PyYAML's *event* stream, never on its loaders: they end the process on deep nesting,
resolve merge keys in exponential time, let the last of two equal keys win and make dates and
octal numbers of what kubectl takes for text (`safety.md` 2.5).  Here all of that is a `Problem`;
whatever the bytes are, nothing is raised.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from dsgitops.core.encoding import text_of
from dsgitops.core.model import Problem
from dsgitops.core.nodes import Builder, Found, Limits, Overrun

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class Mark(NamedTuple):
    """A place in a file, both from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One document of a file: plain JSON values, and where each of them stands."""

    path: str
    value: Any
    """dict (with str keys), list, str, int, float, bool or None."""
    marks: Mapping[str, tuple[int, int, int, int]] = field(repr=False)
    """JSON pointer -> line and column of its key (or list item), then of its value."""
    found: tuple[Found, ...] = ()
    """What is wrong inside it, with the JSON pointer that it is about."""

    def key_mark(self, pointer: str) -> Mark:
        """Return where the key (or list item) of `pointer` stands, else its nearest parent's."""
        line, column, _, _ = self._nearest(pointer)
        return Mark(line, column)

    def value_mark(self, pointer: str) -> Mark:
        """Return where the value of `pointer` begins, else its nearest parent's."""
        _, _, line, column = self._nearest(pointer)
        return Mark(line, column)

    def _nearest(self, pointer: str) -> tuple[int, int, int, int]:
        while pointer not in self.marks and pointer:
            pointer = pointer.rpartition("/")[0]
        return self.marks.get(pointer, (1, 1, 1, 1))

    def elements(self, key: str) -> list[Document]:
        """Return each element of the list at a top-level key as a document of its own."""
        inside = f"/{key}/"
        marks: dict[str, dict[str, tuple[int, int, int, int]]] = {}
        for pointer, mark in self.marks.items():
            if pointer.startswith(inside):
                index, slash, rest = pointer[len(inside) :].partition("/")
                marks.setdefault(index, {})[slash + rest] = mark
        found: dict[str, list[Found]] = {}
        for each in self.found:
            if each.pointer.startswith(inside):
                index, slash, rest = each.pointer[len(inside) :].partition("/")
                found.setdefault(index, []).append(Found(slash + rest, each.problem))
        whole = {"": self._nearest(inside[:-1])}  # of elements that an alias stands for
        return [
            Document(
                path=self.path,
                value=value,
                marks=marks.get(str(index), whole),
                found=tuple(found.get(str(index), ())),
            )
            for index, value in enumerate(self.value[key])
        ]

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong inside this document, in the order of the file."""
        return tuple(each.problem for each in self.found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a file holds."""

    documents: tuple[Document, ...] = ()
    """Empty documents (`---` alone, only comments) are left out."""
    broken: Problem | None = None
    """Why the file could not be read to its end; then `documents` is empty."""

    @property
    def problems(self) -> tuple[Problem, ...]:
        """All problems of the file, in its order."""
        if self.broken is not None:
            return (self.broken,)
        return tuple(each for document in self.documents for each in document.problems)


def pointer_of(*steps: str | int) -> str:
    """Return the JSON pointer of some steps: `/metadata/labels/app.kubernetes.io~1name`."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in steps)


def read(data: bytes, *, path: str, limits: Limits | None = None) -> Reading:
    """Read all documents of a YAML or JSON file.

    Args:
        data: The file's bytes, any bytes.
        path: For the problems.
        limits: How deep and how large it may be; the defaults of `Limits` fit manifests.
    """
    text = text_of(data, path=path)
    if isinstance(text, Problem):
        return Reading(broken=text)
    builder = Builder(path, limits or Limits())
    try:
        for event in _events(text):
            builder.take(event)
    except Overrun as overrun:
        return Reading(broken=overrun.problem)
    except yaml.MarkedYAMLError as error:
        return Reading(broken=_syntax(error, text, path))
    except (yaml.YAMLError, RecursionError, ValueError, OverflowError):
        return Reading(broken=_unreadable(path))
    documents = tuple(
        Document(path=path, value=value, marks=marks, found=tuple(found))
        for value, marks, found in builder.done
    )
    return Reading(documents=documents)


def _events(text: str) -> Iterator[yaml.Event]:
    """Parse without ever building nodes; the C parser does not recurse on nesting."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
    try:
        event = loader.get_event()
        while not isinstance(event, yaml.StreamEndEvent):
            yield event
            event = loader.get_event()
    finally:
        loader.dispose()


def _syntax(error: yaml.MarkedYAMLError, text: str, path: str) -> Problem:
    """Name a syntax error; the parser's own words hold no values."""
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    lines = text.splitlines()
    here = lines[line - 1] if 0 < line <= len(lines) else ""
    if "{{" in text and any("{{" in each for each in lines[max(0, line - 3) : line]):
        return template_left(path, line, column)
    if "\t" in here[:column] and not here[:column].strip():
        return Problem(path=path, line=line, column=column, rule="tab-indentation",
                       what="a tab indents this line; YAML knows spaces only",
                       remedy="replace it by spaces")  # fmt: skip
    said = ": ".join(part for part in (error.context, error.problem) if part)
    return Problem(path=path, line=line, column=column, rule="yaml-syntax",
                   what=f"is no YAML: {said}",
                   remedy="the mistake is here or on the line before; quotes, colons and "
                   "indentation are the usual causes")  # fmt: skip


def template_left(path: str, line: int, column: int) -> Problem:
    """Return the problem of a template that nobody rendered."""
    return Problem(path=path, line=line, column=column, rule="unrendered-template",
                   what="looks like an unrendered template ({{ … }})",
                   remedy="commit the rendered manifest (helm template); "
                   "rendering is not done here yet")  # fmt: skip


def _unreadable(path: str) -> Problem:
    return Problem(path=path, line=1, column=1, rule="yaml-syntax",
                   what="cannot be read as YAML", remedy="check it with a YAML linter")  # fmt: skip
