"""What real kubelets said, and the verdict on it: straight, and as a worse world delivers it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from recordings import variations

from dsgitops.cli.judge import Player, compare, load, main

FOLDER = Path(__file__).parents[3] / "shared" / "recordings"
PATHS = sorted(FOLDER.glob("*.jsonl.gz"))
NAMES = [path.name.removesuffix(".jsonl.gz") for path in PATHS]

pytestmark = pytest.mark.skipif(
    not PATHS, reason="../shared/recordings is not there: nothing to play"
)
every_recording = pytest.mark.parametrize("path", PATHS, ids=NAMES)


@cache
def recording(path):
    return load(path)


@cache
def straight(path):
    return Player(recording(path).epoch).play(recording(path).lines)


@every_recording
def test_verdict_class_nodes_and_moment_are_as_labelled(path):
    result = compare(recording(path), straight(path))

    assert result.differs == ()


@pytest.mark.parametrize("seed", [1, 2, 3])
@every_recording
def test_lines_shuffled_within_a_second_change_nothing(path, seed):
    case = recording(path)
    said = Player(case.epoch).play(variations.shuffled(case.lines, seed))

    assert variations.wrong(case, said, early=1.0) == []


@pytest.mark.parametrize("parity", [0, 1])
@every_recording
def test_every_second_line_lost_is_later_or_more_general_never_wrong(path, parity):
    case = recording(path)
    said = variations.play_every_second(case, parity)

    assert variations.wrong(case, said, lost=True) == []


@every_recording
def test_without_events_it_is_later_or_more_general_never_wrong(path):
    case = recording(path)
    said = Player(case.epoch).play(variations.without_events(case.lines))

    if case.expect["class"] == "PodsRefused":  # there is no pod to look at: nothing tells
        assert {each.verdict for each in said if each.t > case.expect["changed_at"]} == {
            "Progressing"
        }
    elif case.expect["verdict"] in ("Failed", "Progressing"):
        assert variations.wrong(case, said, lost=True) == []
    else:
        assert variations.wrong(case, said) == []


@every_recording
def test_an_agent_that_starts_in_the_middle_comes_to_the_same_verdict(path):
    case = recording(path)
    begin = case.expect["changed_at"]
    failed = [each.t for each in straight(path) if each.verdict == "Failed"]
    end = min([*failed, case.lines[-1].t])
    for cut in (begin + (end - begin) * share for share in (0.05, 0.3, 0.55, 0.8, 0.98)):
        player, lines = variations.from_the_middle(case, cut)
        said = player.play(lines)

        assert variations.wrong(case, said, early=1.0, lost=True) == [], f"from {cut:.1f} s on"


def test_the_command_prints_a_line_each_and_says_whether_all_are_as_expected(tmp_path, capsys):
    for path in PATHS[:2]:
        expect = path.with_name(path.name.replace(".jsonl.gz", ".expect.json"))
        (tmp_path / path.name).symlink_to(path)
        (tmp_path / expect.name).symlink_to(expect)

    code = main([str(tmp_path)])

    assert code == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [(row[0], row[-1]) for row in rows] == [(NAMES[0], "ok"), (NAMES[1], "ok")]


def test_the_command_fails_when_a_verdict_differs_from_the_label(tmp_path, capsys):
    healthy = next(path for path, name in zip(PATHS, NAMES, strict=True) if "healthy" in name)
    broken = next(path for path, name in zip(PATHS, NAMES, strict=True) if "readiness-404" in name)
    (tmp_path / healthy.name).symlink_to(healthy)
    wrong = broken.with_name(broken.name.replace(".jsonl.gz", ".expect.json"))
    (tmp_path / healthy.name.replace(".jsonl.gz", ".expect.json")).symlink_to(wrong)

    code = main([str(tmp_path)])

    assert code == 1
    assert capsys.readouterr().out.endswith("Finished instead of Failed\n")
