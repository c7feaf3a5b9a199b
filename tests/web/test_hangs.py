"""The real process while Git, the API server or a part of itself hangs: what its probes say.

The liveness probe is red where a restart may help, and nowhere else
(`docs/decisions/0012-an-api-that-hangs-is-no-reason-to-restart.md`).
"""

from __future__ import annotations

import fcntl
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import pytest
from adapters.sink import wait_for
from web.hanging import EVERYTHING, HangingPlace

pytestmark = pytest.mark.timeout(150)
THREE_INTERVALS = 10.0
"""The sources are polled each second; so long is the least that a turn is waited for."""


@pytest.fixture
def place(tmp_path):
    made = HangingPlace(tmp_path)
    made.open()
    yield made
    made.close()


class Probe:
    """The pages of a running agent."""

    def __init__(self, place):
        assert wait_for(lambda: "on port" in place.logged(), 20), place.logged()
        self.port = re.findall(r"on port (\d+)", place.logged())[-1]

    def ask(self, path):
        """Return status and text."""
        try:
            url = f"http://127.0.0.1:{self.port}{path}"
            with urllib.request.urlopen(url, timeout=30) as answer:
                return answer.status, answer.read().decode().strip()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode().strip()

    def alive(self):
        return self.ask("/healthz")

    def ready(self):
        return self.ask("/readyz")

    def unanswered(self, verb):
        """Return how many requests of a verb got no answer."""
        text = self.ask("/metrics")[1]
        found = re.findall(rf'api_requests_total{{code="none",.*verb="{verb}"}} ([0-9.]+)', text)
        return sum(map(float, found))


def started(place):
    """Return an agent that has rolled out a first commit, and its pages."""
    first = place.push(image="1")
    agent = place.start()
    place.wait_for("Idle", first)
    return agent, Probe(place)


def lines_of(place, text):
    return [line for line in place.logged().splitlines() if text in line]


# ---------------------------------------------------------------------------- the API server


def test_an_api_server_that_hangs_leaves_it_alive_and_not_ready_and_is_told(place):
    agent, probe = started(place)
    place.door.hangs = EVERYTHING
    begun = time.monotonic()
    blind = re.compile(r"The cluster has not been seen for \d+ s: .* is not answered")
    assert wait_for(lambda: blind.match(probe.ready()[1]), 20), probe.ready()
    assert probe.ready()[0] == 503
    place.push(image="2")
    while time.monotonic() < begun + 2 * THREE_INTERVALS:
        status, said = probe.alive()
        assert status == 200, "a restart would not reach the API server either"
        assert float(re.search(r"([0-9.]+) s ago", said)[1]) < 5, "turns go on"
        time.sleep(0.5)
    assert len(lines_of(place, '"ClusterUnreachable"')) == 1
    assert len(lines_of(place, "nodes: the watch of nodes")) == 1
    assert 'sync="Unknown"' in probe.ask("/metrics")[1]
    assert place.log.writes[-1].at < place.world.clock.monotonic() - 15, "nothing is concluded"

    place.door.hangs = frozenset()
    assert wait_for(lambda: probe.ready()[0] == 200, 40), probe.ready()
    place.wait_for("Idle", place.push(image="3"))
    assert agent.poll() is None


def test_an_api_server_that_hangs_from_the_start_is_named_by_the_readiness_probe(place):
    place.push(image="1")
    place.door.hangs = EVERYTHING
    place.start()
    probe = Probe(place)
    assert wait_for(lambda: "did not answer in time" in probe.ready()[1], 40), probe.ready()

    assert probe.ready()[0] == 503
    assert probe.ready()[1].startswith("The cluster was not read yet: ")
    assert probe.alive()[0] == 200
    assert probe.unanswered("list") > 0


def test_a_write_that_hangs_holds_up_no_turn_and_is_told_once_and_sent_again(place):
    _, probe = started(place)
    place.door.hangs = frozenset({"write"})
    commit = place.push(image="2")
    told = "did not answer in time"
    assert wait_for(lambda: [x for x in lines_of(place, told) if "logging/agent" in x], 50)

    assert probe.alive()[0] == 200
    assert probe.ready() == (200, "Leading: the cluster is watched.")
    assert probe.unanswered("patch") == 1
    place.door.hangs = frozenset()
    place.wait_for("Idle", commit)


def test_a_watch_that_hangs_while_lists_are_answered_is_told_once(place):
    _, probe = started(place)
    place.door.hangs = frozenset({"watch"})
    assert wait_for(lambda: probe.ready()[0] == 503, 20)
    time.sleep(5)

    assert probe.alive()[0] == 200
    assert len(lines_of(place, "nodes: the watch of nodes")) == 1
    place.door.hangs = frozenset()
    assert wait_for(lambda: probe.ready()[0] == 200, 40)


# ---------------------------------------------------------------------------- Git


def test_a_git_server_that_hangs_costs_its_deadline_and_leaves_it_alive(place):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"git://127.0.0.1:{silent.getsockname()[1]}/agents.git"
        place.configure(sources=[
            {"name": "node-agents", "url": url, "interval": "1s", "timeout": "2s"}
        ])  # fmt: skip
        agent = place.start()
        probe = Probe(place)
        end = time.monotonic() + THREE_INTERVALS + 4
        while time.monotonic() < end:
            assert probe.alive()[0] == 200, probe.alive()
            time.sleep(0.5)

    assert len(lines_of(place, "did not answer within 2 s")) == 1, "one line, whatever polls"
    assert 'git_fetch_total{result="unreachable"} 0.0' not in probe.ask("/metrics")[1]
    assert probe.ready()[0] == 200, "the cluster is still watched"
    agent.terminate()
    assert agent.wait(10) == 0


def test_a_poll_that_outlives_its_deadline_turns_health_red_and_names_the_source(place):
    """A secret on a mount that hangs: no deadline of ours ends that read."""
    secret = place.folder / "password"
    os.mkfifo(secret)
    place.configure(sources=[{
        "name": "node-agents", "url": "https://127.0.0.1:1/agents.git", "interval": "1s",
        "timeout": "2s", "auth": {"https": {"passwordFile": str(place.folder / "link")}},
    }])  # fmt: skip
    (place.folder / "link").write_text("hunter2")
    (place.folder / "link").chmod(0o600)
    place.start()
    probe = Probe(place)
    assert probe.alive()[0] == 200
    (place.folder / "link").unlink()
    secret.rename(place.folder / "link")

    assert wait_for(lambda: probe.alive()[0] == 503, THREE_INTERVALS + 5), probe.alive()
    assert probe.alive()[1] == "Polls do not come back although their time is over: node-agents."


# ---------------------------------------------------------------------------- a part of itself


def test_a_log_that_nobody_reads_hangs_the_turn_and_turns_health_red(place):
    """The container runtime stops reading: the turn hangs in its own line."""
    first = place.push(image="1")
    environment = {**os.environ, "KUBECONFIG": str(place.kubeconfig)}
    agent = subprocess.Popen(
        [sys.executable, "-m", "dsgitops", "run", "--config", str(place.config),
         "--log-format", "json", "--verbose"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, cwd=place.folder,
    )  # fmt: skip
    place.processes.append(agent)
    fcntl.fcntl(agent.stdout.fileno(), fcntl.F_SETPIPE_SZ, 4096)
    log = place.folder / "log.txt"
    reads = threading.Event()
    reads.set()

    def read():
        while chunk := agent.stdout.read1(1 << 12):
            with log.open("ab") as file:
                file.write(chunk)
            reads.wait()

    threading.Thread(target=read, daemon=True).start()
    log.touch()
    probe = Probe(place)
    place.wait_for("Idle", first)
    assert probe.alive()[0] == 200
    reads.clear()
    for image in range(2, 12):  # each is some lines
        place.push(image=str(image))
        if wait_for(lambda: probe.alive()[0] == 503, 8):
            break

    assert re.match(r"No turn was completed for \d+ s: the agent hangs", probe.alive()[1])
    reads.set()
    assert wait_for(lambda: probe.alive()[0] == 200, 20)


KILLER = """
import ctypes, signal, threading

def kill(*_):
    found = [each for each in threading.enumerate() if each.name == {name!r}]
    for each in found:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(each.ident), ctypes.py_object(RuntimeError)
        )

signal.signal(signal.SIGUSR1, kill)
"""
"""`sitecustomize`: SIGUSR1 ends a thread of the process, as a defect in it would."""


def with_killer(place, monkeypatch, name):
    folder = place.folder / "site"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(KILLER.format(name=name))
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))


def test_a_process_whose_turns_end_ends_too_so_that_it_is_started_again(place, monkeypatch):
    with_killer(place, monkeypatch, "MainThread")
    agent, _ = started(place)
    agent.send_signal(signal.SIGUSR1)

    assert agent.wait(20) != 0, "no half-dead process stays behind"


def test_a_schedule_whose_thread_died_turns_health_red_and_names_its_sources(place, monkeypatch):
    with_killer(place, monkeypatch, "APScheduler")
    place.configure(sources=[{
        "name": "node-agents", "url": f"file://{place.repository.path}", "interval": "1s",
        "timeout": "2s", "path": "clusters/prod",
    }])  # fmt: skip
    agent, probe = started(place)
    assert probe.alive()[0] == 200
    agent.send_signal(signal.SIGUSR1)

    assert wait_for(lambda: probe.alive()[0] == 503, 3 * 1 + 2 + 10), probe.alive()
    assert "node-agents" in probe.alive()[1]
