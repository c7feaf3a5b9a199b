"""Polling: on time, one at a time, a hung source stops only itself; and when windows open."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from adapters.sink import wait_for

from dsgitops.adapters.clock import SystemClock
from dsgitops.adapters.schedule import Polls, opens, window_fault
from dsgitops.errors import SourceUnreachable
from dsgitops.ports import Tree


@dataclass
class Remote:
    """A source whose fetch does what the test says."""

    name: str
    answer: object = None
    gate: threading.Event | None = None
    started: list[float] = field(default_factory=list)
    running: int = 0
    running_max: int = 0

    def fetch(self):
        self.started.append(time.monotonic())
        self.running += 1
        self.running_max = max(self.running, self.running_max)
        try:
            if self.gate is not None:
                assert self.gate.wait(20)
            if isinstance(self.answer, Exception):
                raise self.answer
            return Tree(commit="c" * 40, display=f"main@sha1:{'c' * 40}")
        finally:
            self.running -= 1


@dataclass
class HandClock:
    """Monotonic time that the test moves."""

    seconds: float = 1000.0

    def now(self):
        return datetime(2026, 11, 21, 5, 0, tzinfo=UTC)

    def monotonic(self):
        return self.seconds


@pytest.fixture
def polls():
    made = []

    def make(*remotes, interval=0.1, deadline=5.0, clock=None, wake=lambda: None):
        polls = Polls(clock or SystemClock(), wake)
        made.append(polls)
        for remote in remotes:
            polls.add(
                remote, interval=timedelta(seconds=interval), deadline=timedelta(seconds=deadline)
            )
        polls.start()
        return polls

    yield make
    for each in made:
        each.stop(0.1)


def take(polls, count, seconds=30.0):
    got = []
    assert wait_for(lambda: got.extend(polls.take()) or len(got) >= count, seconds)
    return got


def test_every_source_is_polled_at_once_and_then_at_its_interval(polls):
    remote = Remote("agents")
    running = polls(remote, interval=0.5)

    got = take(running, 4)

    assert {each.source for each in got} == {"agents"}
    assert all(each.tree is not None and each.error is None for each in got)
    assert remote.started[3] - remote.started[0] > 1.5 * 0.5, "three of 0.5, or two and a half"
    assert running.completed()["agents"] is not None


def test_whoever_waits_is_woken(polls):
    woken = threading.Event()
    running = polls(Remote("agents"), interval=60, wake=woken.set)

    assert woken.wait(5)
    assert len(running.take()) == 1


def test_an_error_is_handed_over_and_polling_goes_on(polls):
    running = polls(Remote("agents", answer=SourceUnreachable("no answer")))

    got = take(running, 2)

    assert [str(each.error) for each in got] == ["no answer", "no answer"]
    assert all(each.tree is None for each in got)


def test_a_fault_of_ours_is_told_by_type_and_polling_goes_on(polls):
    running = polls(Remote("agents", answer=KeyError("hunter2")))

    got = take(running, 2)

    assert "KeyError" in str(got[0].error)
    assert "hunter2" not in str(got[0].error)


def test_a_source_that_hangs_is_named_and_stops_only_itself(polls):
    gate = threading.Event()
    hung, well = Remote("hung", gate=gate), Remote("well")
    running = polls(hung, well, deadline=0.3)

    assert wait_for(lambda: running.stuck() == ("hung",))
    before = len(well.started)
    assert wait_for(lambda: len(well.started) > before + 2)
    assert len(hung.started) == 1
    gate.set()
    assert wait_for(lambda: running.stuck() == ())
    assert wait_for(lambda: len(hung.started) > 1)
    assert hung.running_max == 1


def test_poll_now_does_not_wait_for_the_interval(polls):
    remote = Remote("agents")
    running = polls(remote, interval=60)
    take(running, 1)

    running.poll_now("agents")

    take(running, 1)
    assert len(remote.started) == 2


def test_poll_now_in_the_moment_in_which_a_poll_ends_is_not_lost(polls):
    remote, ends = Remote("agents"), threading.Event()
    running = polls(remote, interval=60, wake=lambda: ends.wait(60))
    take(running, 1)

    running.poll_now("agents")

    take(running, 1)
    ends.set()


def test_a_flood_of_poll_now_while_one_runs_is_one_more_poll(polls):
    gate = threading.Event()
    remote = Remote("agents", gate=gate)
    running = polls(remote, interval=60)
    assert wait_for(lambda: remote.running == 1)

    for _ in range(1000):
        running.poll_now("agents")
    gate.set()

    take(running, 2)
    time.sleep(0.2)
    assert len(remote.started) == 2
    assert remote.running_max == 1


def test_a_poll_that_began_before_the_question_is_no_answer_to_it(polls):
    gate = threading.Event()
    remote = Remote("agents", gate=gate)
    running = polls(remote, interval=60)
    assert wait_for(lambda: remote.running == 1)

    asked = time.monotonic()
    running.poll_now("agents")
    assert running.told_as_of()["agents"] < asked
    gate.set()

    assert wait_for(lambda: running.told_as_of()["agents"] >= asked)
    assert len(running.take()) == 2


def test_poll_now_for_an_unknown_source_does_nothing(polls):
    running = polls(Remote("agents"), interval=60)

    running.poll_now("other")

    assert len(take(running, 1)) == 1


def test_a_source_that_was_not_polled_for_long_is_named_and_polled(polls):
    """As after the wall clock was set back: APScheduler waits until it catches up."""
    clock = HandClock()
    remote = Remote("agents")
    running = polls(remote, interval=60, deadline=10, clock=clock)
    take(running, 1)
    clock.seconds += 3 * 60 + 11

    assert running.stuck() == ("agents",)
    take(running, 1)

    assert running.stuck() == ()


def test_stopping_is_bounded_also_while_a_poll_hangs(polls):
    gate = threading.Event()
    remote = Remote("agents", gate=gate)
    running = polls(remote)
    assert wait_for(lambda: remote.running == 1)
    started = time.monotonic()

    ended = running.stop(0.3)

    assert ended is False
    assert time.monotonic() - started < 15
    gate.set()
    assert wait_for(lambda: running.stop(0.0))


def test_after_a_stop_nothing_is_polled(polls):
    remote = Remote("agents")
    running = polls(remote, interval=0.05)
    take(running, 2)

    assert running.stop() is True
    count = len(remote.started)
    running.poll_now("agents")
    time.sleep(0.2)

    assert len(remote.started) == count
    running.take()


# ---------------------------------------------------------------------------- windows


@dataclass(frozen=True)
class Hours:
    """A window, as the settings have it."""

    allow: str
    timezone: str = "UTC"


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


OFFICE = Hours("* 9-17 * * 1-5", "Europe/Berlin")


@pytest.mark.parametrize(
    ("now", "opening"),
    [
        ("2026-11-20T08:00:00", None),  # Friday 9:00 in Berlin
        ("2026-11-20T08:00:59", None),
        ("2026-11-20T16:59:59", None),  # 17:59
        ("2026-11-20T17:00:00", "2026-11-23T08:00:00"),  # 18:00, then Monday
        ("2026-11-21T05:00:00", "2026-11-23T08:00:00"),  # Saturday
        ("2026-11-20T07:59:30", "2026-11-20T08:00:00"),
        ("2026-07-17T07:00:00", None),  # summer time: 9:00
        ("2026-07-17T06:59:00", "2026-07-17T07:00:00"),
    ],
)
def test_office_hours_open_and_close_in_their_own_timezone(now, opening):
    assert opens([OFFICE], at(now)) == (opening and at(opening))


def test_without_windows_it_is_always_open():
    assert opens([], at("2026-11-21T05:00:00")) is None


def test_one_open_window_of_several_is_enough_and_the_next_one_counts():
    night = Hours("* 2-4 * * *")

    assert opens([OFFICE, night], at("2026-11-21T03:30:00")) is None
    assert opens([OFFICE, night], at("2026-11-21T05:00:00")) == at("2026-11-22T02:00:00")


@pytest.mark.parametrize(
    ("weekday", "day"),
    [
        ("0", 22),
        ("7", 22),
        ("sun", 22),
        ("6", 28),
        ("1", 23),
        ("5-7", 22),
        ("2/2", 24),
        ("*/6", 22),
        ("mon-wed", 23),
    ],
)
def test_weekdays_are_counted_as_cron_does(weekday, day):
    """From noon of a Saturday, 21 November 2026."""
    now = at("2026-11-21T12:00:00")
    found = opens([Hours(f"0 0 * * {weekday}")], now)

    assert found == at(f"2026-11-{day}T00:00:00")


def test_a_day_of_the_month_or_of_the_week_will_do_as_in_cron():
    window = [Hours("0 0 13 * fri")]

    assert opens(window, at("2026-11-21T00:00:00")) == at("2026-11-27T00:00:00")
    assert opens(window, at("2026-12-12T00:00:00")) == at("2026-12-13T00:00:00")


@pytest.mark.parametrize(
    "allow", ["* 9-17 * * 1-5", "*/15 * 1,15 * *", "0 0 29 2 *", "* * * jan-mar *"]
)
def test_cron_fields_that_people_write_are_taken(allow):
    assert window_fault(allow, "Europe/Berlin") == ""


@pytest.mark.parametrize(
    "allow",
    [
        "",
        "* * * *",
        "* * * * * *",
        "61 * * * *",
        "* 25 * * *",
        "* * * * 8",
        "* * * * fri-mon",
        "x * * * *",
        "* * * * 1-",
        "0 0 30 2 *",
        "@daily",
        "* * 0 * *",
    ],
)
def test_cron_fields_that_cannot_be_meant_are_refused(allow):
    assert window_fault(allow, "UTC")


@pytest.mark.parametrize("timezone", ["Mars/Base", "", "../etc/passwd", "/etc/localtime", "Europe"])
def test_a_timezone_that_is_none_is_refused(timezone):
    assert "IANA" in window_fault("* * * * *", timezone)
