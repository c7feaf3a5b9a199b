"""The real process on a disk that is full: mirrors and temporary files on a tmpfs without space."""

from __future__ import annotations

import os
import re
import subprocess
import urllib.request

import pytest
from adapters.sink import Sink, wait_for
from test_process import Place

SIZE = "4m"


@pytest.fixture
def disk(tmp_path):
    """A file system of its own, small enough to fill."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a tmpfs needs root")
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {done.stderr.strip()}")
    (folder / "tmp").mkdir()
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def sink():
    made = Sink()
    yield made
    made.close()


@pytest.fixture
def place(tmp_path, disk, sink, monkeypatch):
    made = Place(tmp_path)
    made.open()
    (tmp_path / "dsn").write_text(sink.dsn)
    made.configure(
        cacheDir=str(disk / "cache"), alerts={"sentry": {"dsnFile": str(tmp_path / "dsn")}}
    )
    monkeypatch.setenv("TMPDIR", str(disk / "tmp"))
    yield made
    made.close()


def fill(disk):
    """Leave not a byte."""
    with (disk / "ballast").open("ab", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue


def free(disk):
    (disk / "ballast").unlink()


def since_turn(place):
    """Return how long ago the last turn was completed, in seconds, as `/healthz` says."""
    port = re.findall(r"on port (\d+)", place.logged())[-1]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
        return float(re.search(r"completed ([0-9.]+) s ago", answer.read().decode())[1])


def told_of_the_disk(place):
    return [line for line in place.logged().splitlines() if "cannot be written" in line]


@pytest.mark.timeout(150)
def test_a_full_disk_and_no_sentry_lose_and_delay_neither_a_turn_nor_the_rollback(
    place, disk, sink
):
    sink.answers = [600] * 200  # connections are taken, and nothing is ever said
    agent = place.start()
    place.wait_for("Idle", place.push(image="1"))
    bad = place.push(image="2-crash")
    assert wait_for(lambda: place.record().commit.endswith(bad), 20)
    fill(disk)

    lags = []
    assert wait_for(
        lambda: lags.append(since_turn(place)) or str(place.record().phase) == "Held", 30
    )
    assert max(lags) < 5, "a turn comes at least once a second"
    fix = place.push(image="3")
    assert wait_for(lambda: told_of_the_disk(place), 20), place.logged()[-2000:]
    before = place.record()
    assert not wait_for(lambda: len(told_of_the_disk(place)) > 1, 4), "one line, whatever polls"
    [line] = told_of_the_disk(place)
    assert "No space left on device" in line
    assert "check cacheDir, its owner and its space" in line

    agent.kill()
    agent.wait(10)
    place.start()  # with the disk as full as it was
    assert wait_for(lambda: len(told_of_the_disk(place)) == 2, 20), place.logged()[-2000:]
    assert place.record() == before
    sink.answers = []
    assert wait_for(lambda: sink.events() and not place.record().alerts, 40)
    [failure] = sink.events()
    assert failure["event_id"] == before.alerts[0].id
    assert failure["tags"]["author"], "known from the mirror, which can still be read"

    free(disk)
    place.wait_for("Idle", fix)
    assert wait_for(lambda: len(sink.events()) == 2, 20)
    assert "recovered" in sink.events()[1]["logentry"]["formatted"]
