"""Rows for people: aligned columns, and on a terminal nothing wider than it.

Piped, a row is a line, whole, however long.  On a terminal the last column is text that may be
long: it stands beside the others where there is room, else below its row.
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from dsgitops.cli import terminal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Colour = Literal["green", "yellow", "red", "blue"]

GAP = "   "
TEXT_WIDTH_MIN = 30
"""Columns below which a text is not put beside its row."""
_COLOURS = re.compile(r"\x1b\[[0-9]*m")
_CODES: Mapping[Colour, str] = {"red": "31", "green": "32", "yellow": "33", "blue": "34"}


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under headings.

    Args:
        headings: In capitals, as kubectl has them.
        rows: Of as many cells each.
        colours: Of whole cells by their text: `{"Failed": "red"}`.
        has_text: Whether the last column is text for people, which may be long.
    """

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    colours: Mapping[str, Colour] | None = None
    has_text: bool = False

    def lines(self, *, width: int | None, colourful: bool, heading: bool = True) -> list[str]:
        """Return the lines.

        Args:
            width: Of the terminal; None: there is none, and nothing is wrapped.
            colourful: Whether colours may be used.
            heading: Whether the first line is the headings.
        """
        rows = [[terminal.plain(cell) or "-" for cell in row] for row in self.rows]
        given = [list(self.headings), *rows] if heading else rows
        columns = len(self.headings) - self.has_text
        widths = [max(len(row[at]) for row in [self.headings, *rows]) for at in range(columns)]
        gap = GAP if width is None or sum(widths) + len(GAP) * (columns - 1) <= width else " "
        room = None if width is None else width - sum(widths) - len(gap) * columns
        lines: list[str] = []
        for at, row in enumerate(given):
            is_heading = heading and at == 0
            cells = [cell.ljust(widths[i]) for i, cell in enumerate(row[:columns])]
            if colourful and not is_heading:
                cells = [self._coloured(cell) for cell in cells]
            line, text = gap.join(cells), row[-1] if self.has_text else ""
            if room is None or room >= TEXT_WIDTH_MIN:
                lines += _beside(line + gap, text, room)
            else:
                lines += [line.rstrip(), *_below("" if is_heading else text, width or 0)]
        return lines

    def show(self, *, heading: bool = True) -> None:
        """Print it to stdout."""
        shown = self.lines(
            width=terminal.width(), colourful=terminal.is_colourful(), heading=heading
        )
        for line in shown:
            terminal.say(line)

    def _coloured(self, cell: str) -> str:
        colour = (self.colours or {}).get(cell.strip())
        return f"\x1b[{_CODES[colour]}m{cell}\x1b[0m" if colour else cell


def _below(text: str, width: int) -> list[str]:
    """Return a text under its row."""
    return textwrap.wrap(text, width, initial_indent="  ", subsequent_indent="  ")


def _beside(line: str, text: str, room: int | None) -> list[str]:
    """Return a row with its text at its right, wrapped to `room`."""
    if room is None:
        return [f"{line}{text}".rstrip()]
    first, *more = textwrap.wrap(text, room) or [""]
    return [f"{line}{first}".rstrip(), *(" " * _shown_length(line) + each for each in more)]


def _shown_length(line: str) -> int:
    """Return the columns a line takes: colours take none."""
    return len(_COLOURS.sub("", line))
