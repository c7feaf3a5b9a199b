"""The agent's time is the cluster's, where the machine's clock is wrong."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsgitops.adapters.clock import ClusterClock, correction

NONE = timedelta()
HOUR = timedelta(hours=1)
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
seconds = st.floats(0, 60).map(lambda each: timedelta(seconds=each))


def said(ahead, answered):
    """Return the `Date` of a server that is ahead by so much, and answered then."""
    return (answered + ahead).replace(microsecond=0)


@given(took=seconds, share=st.floats(0, 1))
def test_a_clock_that_is_right_is_left_alone_however_long_an_answer_takes(took, share):
    answered = NOW + took * share

    assert correction(NONE, said(NONE, answered), NOW, NOW + took) == NONE


@given(ahead=st.integers(-10_000, 10_000), took=seconds, share=st.floats(0, 1))
def test_a_wrong_clock_is_put_right_to_within_the_time_an_answer_took(ahead, took, share):
    ahead = timedelta(seconds=ahead)
    answered = NOW + took * share
    found = correction(NONE, said(ahead, answered), NOW, NOW + took)

    assert abs(found - ahead) <= took + timedelta(seconds=3)


@given(ahead=st.integers(-10_000, 10_000), took=seconds, share=st.floats(0, 1))
def test_what_was_found_is_held_as_long_as_it_can_be_right(ahead, took, share):
    ahead = timedelta(seconds=ahead)

    assert correction(ahead, said(ahead, NOW + took * share), NOW, NOW + took) == ahead


def test_a_clock_that_is_set_in_the_middle_of_a_request_teaches_nothing():
    assert correction(HOUR, NOW, NOW, NOW - HOUR) == HOUR


@pytest.mark.parametrize("date", ["", "yesterday", "Sat, 21 Nov 2026 11:00:00 -0000"])
def test_a_date_that_cannot_be_read_is_passed_over(date):
    clock = ClusterClock()
    clock.heard(date, NOW, NOW)

    assert abs(clock.now() - datetime.now(UTC)) < timedelta(seconds=5)


def test_the_time_follows_the_server_there_and_back():
    clock = ClusterClock()
    now = datetime.now(UTC)

    clock.heard(format_datetime(now + HOUR, usegmt=True), now, now)
    assert timedelta(minutes=59) < clock.now() - datetime.now(UTC) < timedelta(minutes=61)

    clock.heard(format_datetime(now, usegmt=True), now, now)
    assert abs(clock.now() - datetime.now(UTC)) < timedelta(seconds=5)
