"""The real process and its alerts: killed, stopped, and with a Sentry that hangs for ever."""

from __future__ import annotations

import signal
import time

import pytest
from adapters.sink import Sink, wait_for
from test_process import Place


@pytest.fixture(scope="module")
def sink():
    made = Sink()
    yield made
    made.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory, sink):
    made = Place(tmp_path_factory.mktemp("place"))
    made.open()
    dsn = made.folder / "dsn"
    dsn.write_text(sink.dsn)
    dsn.chmod(0o600)
    made.configure(alerts={"sentry": {"dsnFile": str(dsn), "environment": "test"}})
    yield made
    made.close()


def started(place, sink):
    """Start the agent and wait for its first poll."""
    before = len(sink.check_ins())
    process = place.start()
    assert wait_for(lambda: len(sink.check_ins()) > before, 30), place.logged()[-3000:]
    return process


def ended(process, seconds):
    start = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(seconds) == 0
    return time.monotonic() - start


@pytest.mark.timeout(120)
def test_while_sentry_hangs_it_rolls_back_ends_in_time_and_the_next_agent_tells(place, sink):
    sink.answers = [600] * 100
    process = place.start()
    place.wait_for("Idle", place.push(image="1"))
    bad = place.push(image="2-crash")
    place.wait_for("Held", bad)
    assert wait_for(lambda: place.record().alerts and sink.attempts)
    [waiting] = place.record().alerts

    assert ended(process, 10) < 10
    assert sink.events() == []

    sink.answers = []
    process = place.start()
    assert wait_for(lambda: sink.events() and not place.record().alerts, 30)
    process.kill()
    process.wait(10)
    process = started(place, sink)
    time.sleep(1)
    ended(process, 10)

    assert [each["event_id"] for each in sink.events()] == [waiting.id]
    [event] = sink.events()
    assert event["tags"]["author"]
    assert event["release"] == bad
    assert "failed on 1 of 3 nodes (CrashLoop), back on" in event["logentry"]["formatted"]
    assert all("CrashLoop" in said for said in event["contexts"]["nodes"].values())
    assert list(event["contexts"]["diff"]) == ["/spec/containers/agent/image"]
    assert any(each["status"] == "ok" for each in sink.check_ins())
    assert "public-key" not in place.logged()


@pytest.mark.timeout(120)
def test_a_branch_that_is_gone_is_told_once_and_so_is_its_return(place, sink):
    before = len(sink.events())
    process = started(place, sink)
    place.repository.git("branch", "-m", "main", "trunk")
    assert wait_for(lambda: len(sink.events()) > before, 30), place.logged()[-2000:]
    process.kill()
    process.wait(10)
    process = started(place, sink)
    time.sleep(1)
    place.repository.git("branch", "-m", "trunk", "main")
    told = {}

    def back():
        told.update({each["event_id"]: each for each in sink.events()[before:]})
        return len(told) == 2

    assert wait_for(back, 30)
    ended(process, 10)

    failure, recovery = told.values()  # the first may have come twice, by the same id
    assert "has no branch main" in failure["logentry"]["formatted"]
    assert failure["level"] == "error"
    assert failure["tags"]["source"] == "node-agents"
    assert "can be read again" in recovery["logentry"]["formatted"]
    assert recovery["level"] == "info"
