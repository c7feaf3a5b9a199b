"""What the end-to-end tests saw, as a table: printed after a run, and kept in `docs/proof.md`."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

ROWS = "PROOF_ROWS"
"""Where the workers of one run leave their rows; set by the run itself."""
PAGE = "DSGITOPS_PROOF"
"""The page to write the table into, between its two marks; unset: it is printed only.

Only a whole run in which nothing failed is written: the table is of one run.
"""
BEGIN, END = "<!-- proof: begin -->", "<!-- proof: end -->"
_HEADS = ("scenario", "nodes", "outcome", "detected after", "writes", "pods restarted", "beside it")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One scenario as it went."""

    scenario: str
    nodes: str
    """`5 kwok`, `3 real`."""
    outcome: str
    """Reason and class, as the agent said them."""
    detected: float | None = None
    """Seconds from the first pod of the bad revision to the rollback's PATCH."""
    writes: int | None = None
    """Of the agent to the DaemonSet and its pods."""
    restarted: str = ""
    """Pods, and by whom: `1 + 1` is forward and back."""
    beside: str = ""
    """The same without the agent: what the plain controller did."""

    @property
    def cells(self) -> tuple[str, ...]:
        detected = "" if self.detected is None else f"{self.detected:.1f} s"
        writes = "" if self.writes is None else str(self.writes)
        return (
            self.scenario, self.nodes, self.outcome, detected, writes, self.restarted, self.beside
        )  # fmt: skip


def begin() -> None:
    """Make the place for the rows, once a run."""
    if ROWS not in os.environ:
        _, os.environ[ROWS] = tempfile.mkstemp(prefix="dsgitops-proof-", suffix=".jsonl")


def add(row: Row) -> None:
    with Path(os.environ[ROWS]).open("a") as out:
        out.write(json.dumps(asdict(row)) + "\n")


def take() -> list[Row]:
    """Return the rows of this run in order of their scenario, and forget them."""
    place = Path(os.environ.pop(ROWS))
    rows = [Row(**json.loads(line)) for line in place.read_text().splitlines()]
    place.unlink()
    return sorted(rows, key=lambda row: row.scenario)


def table(rows: list[Row]) -> str:
    """Return it as Markdown."""
    lines = [_HEADS, ("---",) * len(_HEADS), *(row.cells for row in rows)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def write(rows: list[Row], run: str) -> None:
    """Put the table, and a sentence on the run, into the page that `DSGITOPS_PROOF` names."""
    page = Path(os.environ[PAGE])
    head, _, rest = page.read_text().partition(BEGIN)
    _, _, tail = rest.partition(END)
    page.write_text(f"{head}{BEGIN}\n{table(rows)}\n\n{run}\n{END}{tail}")
