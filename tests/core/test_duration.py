"""Durations are read and written as Go does."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsgitops.core import duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("1m30s", 90),
        ("1h", 3600),
        ("1.5h", 5400),
        (".5s", 0.5),
        ("100ms", 0.1),
        ("0s", 0),
        ("1h1m1s1ms", 3661.001),
        ("5µs", 0.000005),
        ("5μs", 0.000005),
        ("1500ns", 0.000001),
        ("1s1s", 2),
    ],
)
def test_a_duration_is_read_as_go_reads_it(text, seconds):
    assert duration.parse(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        ("5", "no unit"),
        ("0", "no unit"),
        ("-5s", "sign"),
        ("+5s", "sign"),
        ("1y", "no duration"),
        ("1d", "no duration"),
        ("1m30", "no duration"),
        ("s", "no duration"),
        (" 5s", "no duration"),
        ("5 s", "no duration"),
        ("1e3s", "no duration"),
        ("٣s", "no duration"),
        ("99999999999h", "292 years"),
        ("1" * 80 + "s", "too long"),
    ],
)
def test_what_is_no_duration_says_why(text, why):
    with pytest.raises(ValueError, match=why):
        duration.parse(text)


@pytest.mark.parametrize(
    ("given_", "text"),
    [
        (timedelta(0), "0s"),
        (timedelta(minutes=10), "10m"),
        (timedelta(seconds=90), "1m30s"),
        (timedelta(hours=25), "25h"),
        (timedelta(milliseconds=1500), "1.5s"),
        (timedelta(milliseconds=20), "20ms"),
        (timedelta(microseconds=7), "7us"),
    ],
)
def test_a_duration_is_written_in_the_shortest_way(given_, text):
    assert duration.show(given_) == text


def test_a_negative_duration_cannot_be_written():
    with pytest.raises(ValueError, match="negative"):
        duration.show(timedelta(seconds=-1))


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=3650)))
def test_what_is_written_is_read_back(given_):
    assert duration.parse(duration.show(given_)) == given_


@given(st.text(max_size=20))
def test_any_text_is_a_duration_or_a_value_error(text):
    try:
        found = duration.parse(text)
    except ValueError:
        return

    assert found >= timedelta(0)
