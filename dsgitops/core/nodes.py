"""From YAML events to plain JSON values with their places, within limits, without recursion."""

from __future__ import annotations

from dataclasses import dataclass
from sys import intern
from typing import Any, NamedTuple

import yaml

from dsgitops.core.model import Problem
from dsgitops.core.scalar import Ambiguous, resolve

Json = Any
"""dict with str keys, list, str, int, float, bool or None."""
_Event = Any
"""An event of PyYAML; its stubs say that marks may be missing, which events never lack."""
Marks = dict[str, tuple[int, int, int, int]]

SHARED_MAX = 128
"""Characters of a text that is kept once for all files that have it."""
MISTAKES_MAX = 1_000
"""Of one document; none is dropped, so the file is not read further."""
_CORE = "tag:yaml.org,2002:"
_OF_SCALARS = {"str": (str,), "int": (int,), "float": (int, float), "bool": (bool,),
               "null": (type(None),)}  # fmt: skip
_NO_KEY = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one file may hold; beyond it is no manifest but a mistake, or an attack."""

    depth: int = 64
    nodes: int = 50_000
    """A document's nodes with aliases expanded, keys not counted."""
    file_nodes: int = 250_000
    """All documents together."""
    aliases: int = 100
    """Of a document."""
    documents: int = 5_000


class Found(NamedTuple):
    """A problem inside a document and the JSON pointer that it is about."""

    pointer: str
    problem: Problem


class Overrun(Exception):
    """A limit was reached: the file is not read further."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.what)
        self.problem = problem


class _Frame:
    """A mapping or sequence that is being filled."""

    __slots__ = ("anchor", "before", "key", "key_mark", "lines", "odd", "pointer", "value")

    def __init__(self, value: dict[str, Any] | list[Any], pointer: str, anchor: str | None) -> None:
        self.value = value
        self.pointer = pointer
        self.anchor = anchor
        self.before = 0
        """Nodes of the document before it."""
        self.key: Any = _NO_KEY
        """The key whose value comes next; None: a key that is none, its value is dropped."""
        self.key_mark: tuple[int, int] = (0, 0)
        self.odd = False
        """Whether a mapping or list stands where a key belongs; it is dropped, then its value."""
        self.lines: dict[str, int] = {}
        """Key -> the line of its first use."""


class Builder:
    """Takes events one by one; `done` holds (value, marks, found) of each document."""

    def __init__(self, path: str, limits: Limits) -> None:
        self.done: list[tuple[Any, Marks, list[Found]]] = []
        self._path = path
        self._limits = limits
        self._documents = 0
        self._before = 0
        """Nodes of the documents before this one."""
        self._start()

    def _start(self) -> None:
        self._stack: list[_Frame] = []
        self._marks: Marks = {}
        self._found: list[Found] = []
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._open: set[str] = set()
        self._nodes = 0
        self._aliases = 0
        self._root: Any = None
        self._blank = False

    def take(self, event: _Event) -> None:
        """Take the next event of the stream.

        Raises:
            Overrun: A limit was reached.
        """
        kind = type(event)
        if kind is yaml.ScalarEvent:
            self._scalar(event)
        elif kind is yaml.MappingStartEvent:
            self._push(event, {})
        elif kind is yaml.SequenceStartEvent:
            self._push(event, [])
        elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
            self._pop()
        elif kind is yaml.AliasEvent:
            self._alias(event)
        elif kind is yaml.DocumentStartEvent:
            self._start()
        elif kind is yaml.DocumentEndEvent:
            self._finish(event)

    def _finish(self, event: _Event) -> None:
        self._documents += 1
        self._before += self._nodes
        if self._documents > self._limits.documents:
            self._overrun(event, f"more than {self._limits.documents:,} documents")
        if not self._blank:
            self.done.append((self._root, self._marks, self._found))

    # ------------------------------------------------------------------------ nodes

    def _scalar(self, event: _Event) -> None:
        frame = self._stack[-1] if self._stack else None
        if frame is not None and frame.key is _NO_KEY and type(frame.value) is dict:
            self._key(frame, event)
            return
        pointer = self._next_pointer(frame)
        self._count(event, 1)
        value: Json = _shared(event.value)
        if event.tag is not None:
            value = self._tagged(event, pointer)
        elif not event.style:
            value = self._resolved(event, pointer)
        if not self._stack:
            self._blank = value is None and event.value == ""
        self._put(frame, pointer, value, event)
        if event.anchor:
            self._anchors[event.anchor] = (value, 1)

    def _push(self, event: _Event, value: dict[str, Any] | list[Any]) -> None:
        frame = self._stack[-1] if self._stack else None
        if frame is not None and frame.key is _NO_KEY and type(frame.value) is dict:
            self._odd_key(frame, event)
        if len(self._stack) >= self._limits.depth:
            self._overrun(event, f"nested deeper than {self._limits.depth} levels")
        pointer = self._next_pointer(frame)
        self._container_tag(event, pointer, "map" if type(value) is dict else "seq")
        self._put(frame, pointer, value, event)
        new = _Frame(value, pointer, event.anchor)
        new.before = self._nodes
        self._count(event, 1)
        self._stack.append(new)
        if event.anchor:
            self._anchors.pop(event.anchor, None)
            self._open.add(event.anchor)

    def _pop(self) -> None:
        frame = self._stack.pop()
        if frame.anchor:
            self._open.discard(frame.anchor)
            self._anchors[frame.anchor] = (frame.value, self._nodes - frame.before)

    def _alias(self, event: _Event) -> None:
        frame = self._stack[-1] if self._stack else None
        self._aliases += 1
        if self._aliases > self._limits.aliases:
            self._overrun(event, f"more than {self._limits.aliases} aliases")
        if event.anchor in self._open:
            self._overrun(event, "an alias inside of what it stands for: it would never end")
        if event.anchor not in self._anchors:
            self._overrun(event, "an alias without an anchor before it")
        value, size = self._anchors[event.anchor]
        if frame is not None and frame.key is _NO_KEY and type(frame.value) is dict:
            self._aliased_key(frame, event, value)
            return
        pointer = self._next_pointer(frame)
        self._count(event, size)
        self._put(frame, pointer, value, event)

    def _put(self, frame: _Frame | None, pointer: str, value: Json, event: _Event) -> None:
        mark = event.start_mark
        line, column = mark.line + 1, mark.column + 1
        if frame is None:
            self._root = value
            self._marks[""] = (line, column, line, column)
            return
        if type(frame.value) is list:
            frame.value.append(value)
            self._marks[pointer] = (line, column, line, column)
            return
        if frame.odd:
            frame.odd = False
            return
        key, frame.key = frame.key, _NO_KEY
        if key is not None:
            frame.value[key] = value
            self._marks[pointer] = (*frame.key_mark, line, column)

    def _next_pointer(self, frame: _Frame | None) -> str:
        if frame is None:
            return ""
        if type(frame.value) is list:
            return f"{frame.pointer}/{len(frame.value)}"
        key = frame.key
        if key is None:
            return frame.pointer
        if "/" in key or "~" in key:
            key = key.replace("~", "~0").replace("/", "~1")
        return f"{frame.pointer}/{key}"

    # ------------------------------------------------------------------------ keys

    def _key(self, frame: _Frame, event: _Event) -> None:
        mark = event.start_mark
        if event.anchor:
            self._anchors[event.anchor] = (event.value, 1)
        plain = event.tag is None and not event.style
        if plain and event.value == "<<":
            self._note(event, frame.pointer, "merge-key", "merge key <<: readers differ on it, "
                       "and it is no part of JSON", "write the fields out")  # fmt: skip
            frame.key, frame.key_mark = None, (mark.line + 1, mark.column + 1)
            return
        key = self._resolved_key(frame, event) if plain else event.value
        if event.tag not in (None, "!", _CORE + "str"):
            self._note(event, frame.pointer, "tag", "a tag on a key", "remove it")
        self._name(frame, key, event)

    def _resolved_key(self, frame: _Frame, event: _Event) -> str | None:
        try:
            key = resolve(event.value)
        except Ambiguous:
            key = None
        if isinstance(key, str):
            return key
        self._note(event, frame.pointer, "non-string-key", "a key that is not text to every "
                   "reader: a number, boolean or null", "quote the key")  # fmt: skip
        return None

    def _odd_key(self, frame: _Frame, event: _Event) -> None:
        """Take a mapping or list where a key belongs: most often `{{ … }}` without quotes."""
        mark = event.start_mark
        frame.key, frame.odd = None, True
        frame.key_mark = (mark.line + 1, mark.column + 1)
        if isinstance(event, yaml.MappingStartEvent) and event.flow_style:
            self._note(event, frame.pointer, "unrendered-template",
                       "looks like an unrendered template ({{ … }})",
                       "commit the rendered manifest (helm template)")  # fmt: skip
            return
        what = "a mapping or list as a key"
        self._note(event, frame.pointer, "non-string-key", what, "keys are text")

    def _aliased_key(self, frame: _Frame, event: _Event, value: Json) -> None:
        if not isinstance(value, str):
            self._note(event, frame.pointer, "non-string-key", "a key that is not text",
                       "keys are text")  # fmt: skip
            value = None
        self._name(frame, value, event)

    def _name(self, frame: _Frame, key: str | None, event: _Event) -> None:
        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        if key is not None:
            first = frame.lines.setdefault(key, line)
            if key in frame.value or first != line:
                self._note(event, frame.pointer, "duplicate-key",
                           f"key {shown(key)} is there twice: line {first} and line {line}",
                           "keep one of them; readers differ on which one wins")  # fmt: skip
            key = intern(key)  # a thousand manifests share their few hundred words
        frame.key, frame.key_mark = key, (line, column)

    # ------------------------------------------------------------------------ values

    def _resolved(self, event: _Event, pointer: str) -> Json:
        try:
            return resolve(event.value)
        except Ambiguous as no:
            self._note(event, pointer, no.rule, _about(pointer, no.what), no.remedy)
            return no.value

    def _tagged(self, event: _Event, pointer: str) -> Json:
        tag = event.tag
        if tag in ("!", _CORE + "str"):
            return event.value
        types = _OF_SCALARS.get(tag.removeprefix(_CORE)) if tag.startswith(_CORE) else None
        if types is None:
            self._bad_tag(event, pointer)
            return event.value
        value = self._resolved(event, pointer)
        if type(value) not in types:
            what = _about(pointer, "is not of the type that its tag says")
            self._note(event, pointer, "tag", what, "remove the tag")
        return value

    def _container_tag(self, event: _Event, pointer: str, name: str) -> None:
        if event.tag not in (None, "!", _CORE + name):
            self._bad_tag(event, pointer)

    def _bad_tag(self, event: _Event, pointer: str) -> None:
        self._note(event, pointer, "tag", _about(pointer, "has a YAML tag; manifests know JSON's "
                   "types only"), "remove the tag")  # fmt: skip

    # ------------------------------------------------------------------------ limits

    def _count(self, event: _Event, nodes: int) -> None:
        self._nodes += nodes
        if self._nodes > self._limits.nodes:
            self._overrun(event, f"more than {self._limits.nodes:,} nodes in one document, "
                          "aliases expanded")  # fmt: skip
        if self._before + self._nodes > self._limits.file_nodes:
            self._overrun(event, f"more than {self._limits.file_nodes:,} nodes in one file")

    def _overrun(self, event: _Event, what: str) -> None:
        raise Overrun(
            self._problem(
                event, "too-complex", what, "split or simplify it; it is not read further"
            )
        )

    def _note(self, event: _Event, pointer: str, rule: str, *words: str) -> None:
        what, remedy = words
        if len(self._found) >= MISTAKES_MAX:
            self._overrun(event, f"more than {MISTAKES_MAX:,} mistakes")
        self._found.append(Found(pointer, self._problem(event, rule, what, remedy)))

    def _problem(self, event: _Event, rule: str, what: str, remedy: str) -> Problem:
        mark = event.start_mark
        return Problem(path=self._path, line=mark.line + 1, column=mark.column + 1, rule=rule,
                       what=what, remedy=remedy)  # fmt: skip


def _shared(text: str) -> str:
    """Return the one copy of a short text: names, images and paths recur in every manifest."""
    return intern(text) if len(text) <= SHARED_MAX else text


def shown(key: str) -> str:
    """Return a key as it may stand in a message: short, on one line."""
    text = key if len(key) <= 80 else key[:79] + "…"
    return text if text.isprintable() else ascii(text)


def _about(pointer: str, what: str) -> str:
    name = pointer.rpartition("/")[2].replace("~1", "/").replace("~0", "~")
    parent = pointer.rpartition("/")[0].rpartition("/")[2]
    if name.isdigit():
        name = f"{parent}[{name}]"
    return f"{shown(name)} {what}" if name else f"this {what}"
