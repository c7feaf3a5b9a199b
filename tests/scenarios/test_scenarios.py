"""Every transcript in this folder: what is done, and what the agent says and does about it.

A transcript's name is the behaviour, its text is compared whole.  `UPDATE=1 pytest
tests/scenarios` writes what is seen into the files: read the diff.  The safety properties
(`auditor.py`) are checked at every step of every transcript.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from scenarios.play import Play

FILES = sorted(Path(__file__).parent.glob("*.txt"))
RULE = "----"


def play(text):
    """Return the transcript as it is played now: comments and commands kept, output renewed."""
    stage, out = Play(), []
    for paragraph in text.strip().split("\n\n"):
        given = paragraph.splitlines()
        given = given[: given.index(RULE)] if RULE in given else given
        commands = [line for line in given if line and not line.startswith("#")]
        seen = [line.rstrip() for line in stage.block(commands)]
        out.append("\n".join([*given, *([RULE, *seen] if seen else [])]))
    return "\n\n".join(out) + "\n"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_happens_as_the_transcript_says(path):
    before = path.read_text()
    after = play(before)
    if os.environ.get("UPDATE"):
        path.write_text(after)
        return

    assert after == before


def test_a_transcript_is_the_same_every_time_it_is_played():
    text = "nodes 5\ngiven image=1\npush image=2-crash\nrun 90\npods\nshow"

    assert play(text) == play(text)
