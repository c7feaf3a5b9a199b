"""Sentences: short, on one line, with a full stop."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsgitops.core import narrate
from dsgitops.core.model import Evidence, FailureClass, Judgement, NodeState, Verdict

FAILED = Judgement(
    verdict=Verdict.FAILED,
    failure_class=FailureClass.CRASH_LOOP,
    states={
        "a": NodeState.BAD_REVISION, "b": NodeState.OLD, "c": NodeState.DESIRED,
        "d": NodeState.BAD_BEFORE, "e": NodeState.LEAVING,
    },
    evidence=(
        Evidence(node="a", state=NodeState.BAD_REVISION, container="agent", voting=True,
                 message="ended 3 times, last with exit code 1 (Error)"),
        Evidence(node="d", state=NodeState.BAD_BEFORE),
    ),
)  # fmt: skip


@pytest.mark.parametrize(
    ("commit", "said"),
    [
        ("main@sha1:9f2c3a1b44", "9f2c3a1"), ("9f2c3a1b44", "9f2c3a1"),
        (None, "the adopted revision"), ("", "the adopted revision"),
    ],
)  # fmt: skip
def test_a_commit_is_its_first_seven_digits(commit, said):
    assert narrate.short(commit) == said


def test_a_length_of_time_is_in_minutes_where_it_is_some():
    assert narrate.span(timedelta(seconds=90)) == "90 s"
    assert narrate.span(timedelta(minutes=10)) == "10 min"
    assert narrate.span(timedelta(seconds=60)) == "60 s"


def test_progress_counts_nodes_that_should_run_it_and_names_the_bad_ones():
    assert narrate.progress(FAILED) == "1 of 4 nodes, 1 broken, bad before: d"


def test_a_failure_says_where_what_and_what_the_kubelet_said():
    assert narrate.failure(FAILED) == (
        "CrashLoop on a (agent: ended 3 times, last with exit code 1 (Error))"
    )


def test_the_blamed_are_those_that_vote():
    assert narrate.blamed(FAILED) == ("a",)


def test_of_many_nodes_three_are_named():
    assert narrate.named([f"n{i}" for i in range(9)]) == "n0, n1, n2 and 6 more"


@given(st.text(max_size=3000))
def test_any_text_becomes_one_line_that_fits_an_event(text):
    said = narrate.sentence(text)

    assert said.endswith(".")
    assert said.isprintable()
    assert len(said.encode()) <= 1024


def test_a_sentence_that_is_one_is_left_as_it_is():
    assert narrate.sentence("It is 5 of 40 nodes.") == "It is 5 of 40 nodes."
