"""Recordings as a worse world would have delivered them: shuffled, with gaps, from the middle."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

from dsgitops.cli.judge import Line, Memory, Player

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dsgitops.cli.judge import Recording, Said


def shuffled(lines: Sequence[Line], seed: int, span: float = 1.0) -> list[Line]:
    """Return the lines with each second's in another order, the list at the start in its own."""
    chance = random.Random(seed)
    arrivals = sorted(
        ((line.t + chance.uniform(0, span), place) for place, line in enumerate(lines))
    )
    times = sorted(line.t for line in lines)
    return [replace(lines[place], t=t) for (_, place), t in zip(arrivals, times, strict=True)]


def listed(lines: Sequence[Line]) -> int:
    """Return how many lines are the list at the start: ADDED, before anything happened."""
    return next((place for place, each in enumerate(lines) if each.type != "ADDED"), len(lines))


def play_every_second(recording: Recording, parity: int, *, relist: float = 30.0) -> list[Said]:
    """Lose every second watch event; what is lost for good comes with a new list in a while.

    The list at the start is whole, and so is each later one: an API server never lists half.
    """
    lines = recording.lines
    start = listed(lines)
    player = Player(recording.epoch)
    player.take_list(lines[:start], lines[start - 1].t)
    due = lines[start - 1].t + relist
    for place, line in enumerate(lines[start:], start):
        while line.t >= due:
            player.take_list(_list_at(lines[:place], due), due)
            due += relist
        if place % 2 == parity:
            player.take(line)
    player.take_list(_list_at(lines, due), due)
    player.run_on(lines[-1].t + 600)
    return player.said


def without_events(lines: Sequence[Line]) -> list[Line]:
    """Drop all Events."""
    return [each for each in lines if each.kind != "Event"]


def from_the_middle(recording: Recording, t: float) -> tuple[Player, list[Line]]:
    """Return an agent that starts at `t` with what its record holds, and what it sees.

    The record is the one that an agent would have written that saw everything until then.
    """
    before = Player(recording.epoch)
    earlier = [line for line in recording.lines if line.t < t]
    start = listed(earlier)
    before.take_list(earlier[:start], earlier[start - 1].t)
    for line in earlier[start:]:
        before.take(line)
    before.run_on(t)
    memory: Memory = replace(before.memory)
    if memory.started is not None:
        memory.started = memory.started.replace(microsecond=0)  # as the record has it
    after = Player(recording.epoch, memory=memory)
    lines = [*_list_at(earlier, t), *(line for line in recording.lines if line.t >= t)]
    return after, lines


def _list_at(earlier: Sequence[Line], t: float) -> list[Line]:
    latest: dict[str, Line] = {}
    for line in earlier:
        if line.type == "DELETED":
            latest.pop(line.uid, None)
        else:
            latest[line.uid] = replace(line, t=t, type="ADDED")
    return list(latest.values())


GENERAL = {"NoProgress", "CrashLoop", "BakeFailed"}
"""What a failure may be called where only what was lost would name it."""


def wrong(
    recording: Recording, said: Sequence[Said], *, early: float = 0.01, lost: bool = False
) -> list[str]:
    """Return what is wrong with what was said, wherever it was said from.

    Args:
        recording: With its expectation.
        said: From the first line on, or from a later one.
        early: Seconds by which lines came before their time.
        lost: Whether lines were lost: a more general class or a later node is right then.
    """
    expect = recording.expect
    changed = expect["changed_at"] + (0 if lost else early)
    after = [each for each in said if each.t > changed] or said[-1:]
    verdict = expect["verdict"]
    if verdict == "Failed":
        return list(_not_failed(expect, after, early, lost=lost))
    if verdict == "Progressing":
        return list(_not_stalled(recording, said[-1], after))
    return list(_not_finished(expect, said[-1], after, early))


def _not_failed(expect, after, early, *, lost):
    end = after[-1]
    if end.verdict != "Failed":
        yield f"{end.verdict} in the end"
        return
    right = {expect["class"], *expect.get("class_also", ())} | (GENERAL if lost else set())
    if str(end.failure_class) not in right:
        yield f"class {end.failure_class}"
    if end.t < expect["earliest"] - early:
        yield f"Failed at {end.t}"
    states = (expect["node_votes"], expect["node_states_at_end"])
    guilty = {name for each in states for name, state in each.items() if state == "badRevision"}
    if not set(end.nodes) <= guilty or (guilty and not lost and not end.nodes):
        yield f"nodes {end.nodes}"
    # what flaps can look finished for a moment when lines come late or are lost
    passing = lost or "finished_before" in expect
    if not passing and any(each.verdict == "Finished" for each in after):
        yield "Finished in between"


def _not_stalled(recording, end, after):
    if recording.expect.get("needs_deadline"):
        if str(end.failure_class) not in {recording.expect["class"], "NoProgress"}:
            yield f"class {end.failure_class}"
        after = [each for each in after if each.t <= recording.lines[-1].t]
    if any(each.verdict != "Progressing" for each in after):
        yield "not Progressing all the time"


def _not_finished(expect, end, after, early):
    if end.verdict != "Finished":
        yield f"{end.verdict} in the end"
    phases = expect.get("phases", ())
    may_fail = any(each["verdict"] == "Failed" for each in phases)
    if not may_fail and any(each.verdict == "Failed" for each in after):
        yield "Failed in between"
    floor = phases[-1]["from"] if phases else expect["earliest"]
    if expect["new_hashes"] and any(
        each.verdict == "Finished" and each.t < floor - early for each in after
    ):
        yield "Finished before it was"
