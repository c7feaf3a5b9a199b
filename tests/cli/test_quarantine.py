"""`dsgitops quarantine`: what is held back, and another chance for it."""

from __future__ import annotations

import pytest
from stage import PATH, daemonset

AGENT = "logging/agent"


@pytest.fixture
def held(stage):
    """Two contents that failed, one after the other."""
    stage.commit({PATH: daemonset()})
    stage.settle()
    stage.bad = stage.commit({PATH: daemonset(tag="2-never-ready")})
    stage.play_until_phase("Held")
    stage.worse = stage.commit({PATH: daemonset(tag="2-crash")})
    stage.play(30)
    stage.play_until_phase("Held")
    return stage


def entries(stage):
    return stage.run("quarantine", "list", "-A", "-o", "json").json["items"]


def test_the_list_says_what_of_which_commit_since_when_and_where(held):
    ran = held.run("quarantine", "list", "-n", "logging")

    heading, first, second = ran.out.splitlines()
    assert heading.split() == ["NAMESPACE", "NAME", "DIGEST", "CLASS", "COMMIT", "AT", "NODES"]
    assert "ReadinessProbeFailed" in first
    assert held.bad[:7] in first
    assert "CrashLoop" in second
    assert held.worse[:7] in second
    assert "node-" in second


def test_machines_get_whole_digests(held):
    items = entries(held)

    assert [item["class"] for item in items] == ["ReadinessProbeFailed", "CrashLoop"]
    assert [item["digest"] for item in items] == [
        entry["digest"] for entry in held.record()["quarantine"]
    ]


def test_several_at_once_need_yes(held):
    ran = held.run("quarantine", "release", AGENT)

    assert ran.code == 2
    assert "logging/agent holds 2 contents" in ran.err
    assert "--yes" in ran.err
    assert "dsgitops.io/retry-at" not in held.live()["metadata"]["annotations"]


def test_all_are_released_with_yes(held):
    ran = held.run("quarantine", "release", AGENT, "--yes")
    held.play(5)

    assert ran.code == 0
    assert len(ran.out.splitlines()) == 2
    assert (
        held.record()["retried"] == held.live()["metadata"]["annotations"]["dsgitops.io/retry-at"]
    )
    # What Git still has is tried at once, and may have failed again by now; the other is free.
    assert held.bad not in {item["commit"].rpartition(":")[2] for item in entries(held)}


def test_one_is_released_by_its_first_digits_and_the_other_stays(held):
    first, second = entries(held)

    ran = held.run("quarantine", "release", AGENT, first["digest"].removeprefix("sha256:")[:12])
    held.play(5)

    assert ran.code == 0
    assert f"{held.bad[:7]} (ReadinessProbeFailed) released" in ran.out
    assert [item["digest"] for item in entries(held)] == [second["digest"]]


def test_what_git_still_has_gets_its_second_chance(held):
    _, second = entries(held)

    held.run("quarantine", "release", AGENT, second["digest"])
    held.play_until_phase("Canary", within=60)
    held.play_until_phase("Held")

    assert entries(held)[-1]["digest"] == second["digest"]


@pytest.mark.parametrize("digest", ["abc", "sha256:0000000", "zzzzzzz"])
def test_a_digest_that_is_not_held_is_answered_with_those_that_are(held, digest):
    ran = held.run("quarantine", "release", AGENT, digest)

    assert ran.code == 2
    assert "holds nothing of this digest" in ran.err
    assert entries(held)[0]["digest"].removeprefix("sha256:")[:12] in ran.err


def test_where_nothing_is_held_there_is_nothing_to_do(stage):
    stage.commit({PATH: daemonset()})
    stage.settle()

    listed = stage.run("quarantine", "list", "-A")
    released = stage.run("quarantine", "release", AGENT)

    assert (listed.code, listed.out, listed.err) == (0, "", "nothing is held\n")
    assert (released.code, released.err) == (0, "logging/agent holds nothing\n")
