"""Red where a restart may help, green where waiting is right."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
import urllib.error
import urllib.request
from dataclasses import replace

import pytest
from test_process import Place

from dsgitops import wiring
from dsgitops.adapters.kubernetes.transport import connect
from dsgitops.adapters.log import LogVoice
from dsgitops.web.health import WRITE_SECONDS_MAX, Stand, Vitals, alive, ready
from dsgitops.web.pages import serve

WELL = Vitals(turn=0.4, turn_max=90)


def test_an_agent_that_turns_is_alive():
    found = alive(WELL)

    assert found.well
    assert found.why == "A turn was completed 0.4 s ago."


@pytest.mark.parametrize(
    ("vitals", "says"),
    [
        (replace(WELL, turn=90.5), "No turn was completed for 90 s: the agent hangs."),
        (replace(WELL, stuck=("agents", "network")), "agents, network"),
        (replace(WELL, write=WRITE_SECONDS_MAX + 1), "A write has been under way for 601 s"),
    ],
)
def test_an_agent_of_which_a_part_does_not_come_back_is_not_alive(vitals, says):
    found = alive(vitals)

    assert not found.well
    assert says in found.why


@pytest.mark.parametrize(
    ("stand", "well", "says"),
    [
        (Stand(synced=True, leading=True), True, "Leading"),
        (Stand(synced=True, leading=False), True, "Standing by"),
        (
            Stand(synced=True, leading=True, blind=42.2, why="nodes: no answer"),
            False,
            "has not been seen for 42 s: nodes: no answer.",
        ),
        (Stand(synced=False, leading=True), False, "not read yet"),
        (Stand(synced=True, leading=False, fault="may not get leases"), False, "may not get"),
        (Stand(synced=True, leading=True, fault="may not get leases"), True, "Leading"),
    ],
)
def test_an_agent_is_ready_when_it_sees_the_cluster_and_leads_or_stands_by(stand, well, says):
    found = ready(stand)

    assert found.well is well
    assert says in found.why


# ---------------------------------------------------------------------------- a running agent


class Running:
    """An agent in this process, on a served simulation, with its pages."""

    def __init__(self, place):
        place.push(image="1")
        settings, problems = wiring.load_settings(place.config, {})
        assert settings is not None, problems
        self.runtime = wiring.runtime(settings, connect(str(place.kubeconfig)), voice=LogVoice())
        self.server = serve(self.runtime, settings)
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        self.runtime.run()

    def start(self):
        self.thread.start()

    def ask(self, path):
        """Return status and sentence."""
        url = f"http://127.0.0.1:{self.server.port}{path}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return answer.status, answer.read().decode().strip()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode().strip()

    def wait_for(self, path, status, within=30.0):
        end = time.monotonic() + within
        while self.ask(path)[0] != status:
            assert time.monotonic() < end, self.ask(path)
            time.sleep(0.1)
        return self.ask(path)[1]

    def stop(self):
        self.runtime.stopping.set()
        self.runtime.woken.set()
        if self.thread.is_alive():
            self.thread.join(15)
        self.runtime.polls.stop(timeout=1)  # where the thread died, nobody else stopped them
        self.server.stop()


@pytest.fixture
def place(tmp_path):
    made = Place(tmp_path)
    made.open()
    yield made
    made.close()


@pytest.fixture
def running(place):
    made = Running(place)
    yield made
    made.stop()


def test_an_agent_is_ready_once_it_has_read_the_cluster(running):
    assert running.ask("/readyz") == (503, "The cluster was not read yet.")

    running.start()

    assert running.wait_for("/readyz", 200) == "Leading: the cluster is watched."
    assert running.ask("/healthz")[0] == 200


def test_a_turn_that_hangs_turns_health_red_and_says_so(running, monkeypatch):
    monkeypatch.setattr("dsgitops.web.health.TURN_SECONDS_LEAST", 1.0)
    running.start()
    running.wait_for("/readyz", 200)
    hang, entered = threading.Event(), threading.Event()

    def never_ends(*_):
        entered.set()
        hang.wait(60)
        return ()

    running.runtime.polls.take = never_ends
    assert entered.wait(10)
    begun = time.monotonic()
    said = running.wait_for("/healthz", 503, within=30)

    assert time.monotonic() - begun > 1, "three intervals of a second, less the rest before"
    assert "No turn was completed" in said
    hang.set()
    assert "A turn was completed" in running.wait_for("/healthz", 200)


def test_an_agent_whose_thread_died_turns_red(running, monkeypatch):
    monkeypatch.setattr("dsgitops.web.health.TURN_SECONDS_LEAST", 1.0)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    running.start()
    running.wait_for("/healthz", 200)

    def breaks(*_):
        raise RuntimeError("a defect of ours")

    running.runtime.agent.polls = type("Broken", (), {"take": breaks})()
    said = running.wait_for("/healthz", 503, within=30)

    assert "the agent hangs" in said
    assert not running.thread.is_alive()


def test_git_that_never_comes_back_turns_health_red_and_names_the_source(place, monkeypatch):
    place.configure(sources=[{
        "name": "node-agents", "url": f"file://{place.repository.path}",
        "interval": "1s", "timeout": "1s",
    }])  # fmt: skip
    running = Running(place)
    hang = threading.Event()
    source = running.runtime.agent.intake.sources["node-agents"]
    monkeypatch.setattr(type(source), "fetch", lambda _: hang.wait(30))
    try:
        running.start()
        said = running.wait_for("/healthz", 503)
        assert said == "Polls do not come back although their time is over: node-agents."
        assert running.ask("/readyz")[0] == 200, "the cluster is still watched"
    finally:
        hang.set()
        running.stop()


def test_a_git_remote_and_an_api_server_that_are_away_are_no_reason_to_restart(place):
    running = Running(place)
    try:
        running.start()
        running.wait_for("/readyz", 200)
        place.repository.path.rename(place.repository.path.with_suffix(".away"))
        place.server.stop()
        metric = 'dsgitops_git_fetch_total{result="unreachable"} 0.0'
        end = time.monotonic() + 30
        while metric in running.ask("/metrics")[1] or _answered(running):
            assert time.monotonic() < end
            time.sleep(0.2)

        assert running.ask("/healthz")[0] == 200
        assert "The cluster has not been seen for" in running.wait_for("/readyz", 503)
    finally:
        running.stop()


def _answered(running):
    return 'code="none"' not in running.ask("/metrics")[1]


# ---------------------------------------------------------------------------- the process


def test_the_process_serves_its_pages_and_a_second_one_is_told_that_the_port_is_taken(place):
    place.push(image="1")
    agent = place.start()
    port = _port_of(place)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        assert b"dsgitops_leader 1.0" in answer.read()

    place.configure(http={"listen": f"127.0.0.1:{port}"})
    assert place.run() == 2
    assert f"cannot listen on 127.0.0.1:{port}" in place.logged()
    assert "http.listen" in place.logged()

    agent.send_signal(signal.SIGTERM)
    assert agent.wait(10) == 0


def test_a_process_that_is_stopped_does_not_answer_its_probe(place):
    place.push(image="1")
    agent = place.start()
    port = _port_of(place)
    os.kill(agent.pid, signal.SIGSTOP)
    try:
        with pytest.raises(TimeoutError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=1)
    finally:
        os.kill(agent.pid, signal.SIGCONT)


def _port_of(place, within=30.0):
    end = time.monotonic() + within
    while (found := re.search(r"on port (\d+)", place.logged())) is None:
        assert time.monotonic() < end, place.logged()
        time.sleep(0.1)
    return int(found[1])
