"""How commands speak, and the only ways they do.

Results go to stdout, everything said about them to stderr, so that a pipe gets results alone.
Errors and hints are lower case, one line each, without a full stop; where a person can do
something, a hint says what.  Text of others (kubelets, commit messages) is printed with its
control characters escaped.  Colours are for terminals, and never with `NO_COLOR`.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dsgitops.errors import DsgitopsError

API_VERSION = "dsgitops.io/v1alpha1"
"""Of everything that machines read."""
WIDTH_WITHOUT_TERMINAL = 80


def say(text: str = "") -> None:
    """Print a line of the result."""
    print(text)  # noqa: T201 - this is the place


def note(text: str) -> None:
    """Print a line about the result."""
    print(text, file=sys.stderr)  # noqa: T201


def warn(text: str) -> None:
    """Print what the reader should know although it went on."""
    note(f"warning: {text}")


def complain(error: DsgitopsError) -> None:
    """Print an error and its way out."""
    note(f"error: {plain(error.what)}")
    if error.remedy:
        note(f"hint: {plain(error.remedy)}")


def say_json(content: dict[str, Any], *, compact: bool = False) -> None:
    """Print an object for machines; only ASCII, so that nothing in it can play with a terminal."""
    say(json.dumps(content, indent=None if compact else 2))


def say_yaml(content: dict[str, Any]) -> None:
    """Print an object as YAML."""
    import yaml  # noqa: PLC0415 - only where it is asked for

    as_json = json.loads(json.dumps(content))  # the very same: no classes of ours
    say(yaml.safe_dump(as_json, sort_keys=False).rstrip("\n"))


def plain(text: str) -> str:
    """Return text as one line that does nothing to a terminal."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else _escaped(each) for each in text)


def is_colourful() -> bool:
    """Whether stdout shows colours: a terminal, and nobody said no."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return sys.stdout.isatty()


def width() -> int | None:
    """Return the columns of the terminal that stdout is; None: it is none."""
    if not sys.stdout.isatty():
        return None
    return shutil.get_terminal_size((WIDTH_WITHOUT_TERMINAL, 24)).columns


def _escaped(character: str) -> str:
    return " " if character in "\n\t" else character.encode("unicode_escape").decode("ascii")
