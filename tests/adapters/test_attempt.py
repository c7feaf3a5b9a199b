"""The deadline over all that one attempt opens, whatever library opens it."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from pathlib import Path

import pytest
from adapters.sink import Drip, certificate_of_its_own, wait_for

from dsgitops.adapters.attempt import in_time
from dsgitops.errors import Undelivered


@pytest.fixture
def drip():
    made = Drip(0.02)
    yield made
    made.close()


def connected(drip):
    host, port = drip.address.split(":")
    return socket.create_connection((host, int(port)), timeout=5)


def read_all(connection):
    with connection:
        while connection.recv(100):
            pass


def handles():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_block_that_ends_in_time_is_left_alone_and_leaves_nothing(drip):
    before = handles()
    with in_time(5), connected(drip) as connection:
        assert connection.recv(1)

    assert "attempt" not in {each.name for each in threading.enumerate()}
    assert wait_for(lambda: handles() <= before)


def test_drops_within_tls_come_to_an_end(tmp_path):
    drip = Drip(0.02, certificate_of_its_own(tmp_path))
    trusting = ssl._create_unverified_context()
    begun = time.monotonic()
    with pytest.raises(Undelivered, match="no answer in time"), in_time(0.5):
        read_all(trusting.wrap_socket(connected(drip)))

    assert time.monotonic() - begun < 20
    drip.close()


def test_half_an_answer_is_none_though_its_reader_was_content(drip):
    with pytest.raises(Undelivered, match="no answer in time"), in_time(0.3):
        read_all(connected(drip))


def test_nothing_is_opened_after_the_deadline(drip):
    def late():
        time.sleep(0.4)
        with pytest.raises(TimeoutError):
            connected(drip)

    with pytest.raises(Undelivered, match="no answer in time"), in_time(0.2):
        late()


def test_connections_of_others_and_of_later_go_on(drip):
    before, beside = connected(drip), []

    def attempted():
        thread = threading.Thread(target=lambda: beside.append(connected(drip)))
        thread.start()
        thread.join()
        read_all(connected(drip))

    with pytest.raises(Undelivered), in_time(0.3):
        attempted()
    with before, beside[0], connected(drip) as after:
        before.recv(1000)
        beside[0].recv(1000)

        assert all(each.recv(1) for each in (before, beside[0], after))
