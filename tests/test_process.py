"""The real process: `dsgitops run` against a simulated cluster over HTTP, and a real repository."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime

import pytest
import yaml
from scenarios.auditor import record_of
from scenarios.manifests import NAMESPACE, text
from scenarios.wire import Door, Log

from dsgitops.sim.http import HttpServer
from dsgitops.sim.repository import Repository
from dsgitops.sim.world import World

KUBECTL = shutil.which("kubectl")
PATH = "clusters/prod/agent.yaml"
SETTINGS = {
    "cluster": "prod-eu-1",
    "http": {"listen": "127.0.0.1:0"},
    "namespaces": [NAMESPACE],
    "rollout": {"canary": {"nodes": 1, "bakeTime": "1s"}, "bakeTime": "2s"},
}


class Place:
    """A cluster that lives in real time, a repository, and a settings file."""

    def __init__(self, folder):
        self.folder = folder
        self.lock = threading.RLock()
        self.log = Log()
        self.world = World(nodes=3, provides=True, start=datetime.now(UTC).replace(microsecond=0))
        self.world.make_namespace(NAMESPACE)
        self.repository = Repository.create(folder / "repository")
        self.server = HttpServer(Door(self.world, self.log), self.lock)
        self.kubeconfig = folder / "kubeconfig"
        self.config = folder / "dsgitops.yaml"
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._live)
        self.processes = []

    def open(self):
        self.server.start()
        self.server.write_kubeconfig(self.kubeconfig)
        self.configure()
        self._thread.start()

    def close(self):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait(10)
        self._ending.set()
        self._thread.join(10)
        self.server.stop()

    def _live(self):
        while not self._ending.wait(0.02):
            with self.lock:
                self.world.step_to(datetime.now(UTC))

    def configure(self, **changes):
        source = {
            "name": "node-agents", "url": f"file://{self.repository.path}", "interval": "1s",
            "path": "clusters/prod",
        }  # fmt: skip
        given = {**SETTINGS, "cacheDir": str(self.folder / "cache"), "sources": [source], **changes}
        self.config.write_text(yaml.safe_dump(given, sort_keys=False))

    def push(self, **options):
        return self.repository.commit({PATH: text(**options)}, "Change the agent")

    def start(self, *arguments):
        """Start the agent; its log is in `log.txt`."""
        environment = {**os.environ, "KUBECONFIG": str(self.kubeconfig), "NO_COLOR": "1"}
        with (self.folder / "log.txt").open("a") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "dsgitops", "run", "--config", str(self.config),
                 "--log-format", "json", *arguments],
                stdout=log, stderr=log, env=environment, cwd=self.folder,
            )  # fmt: skip
        self.processes.append(process)
        return process

    def run(self, *arguments):
        """Run the agent to its end; return its exit code."""
        return self.start(*arguments).wait(40)

    def logged(self):
        return (self.folder / "log.txt").read_text()

    def reasons(self):
        lines = [json.loads(line) for line in self.logged().splitlines() if line.startswith("{")]
        return [line["reason"] for line in lines if line.get("reason")]

    def record(self):
        with self.lock:
            return record_of(self.world.store.get("daemonsets", NAMESPACE, "agent"))

    def wait_for(self, phase, commit):
        """Wait until the DaemonSet is in a phase, with a commit as the last good or held one."""
        end = time.monotonic() + 40
        while time.monotonic() < end:
            record = self.record()
            if record is not None and str(record.phase) == phase and _is_about(record, commit):
                return record
            time.sleep(0.1)
        raise AssertionError(f"never {phase}: {self.record()}\n{self.logged()[-3000:]}")

    def pods(self):
        with self.lock:
            found = self.world.pods(NAMESPACE, "agent")
        return {pod["spec"]["nodeName"]: pod["metadata"]["uid"] for pod in found}

    def kubectl(self, *arguments):
        command = [KUBECTL, "--kubeconfig", str(self.kubeconfig), "-n", NAMESPACE, *arguments]
        home = {"HOME": str(self.folder), "PATH": os.environ.get("PATH", "")}
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=30, env=home
        ).stdout


def _is_about(record, commit):
    if record.phase == "Held":
        return bool(record.quarantine) and record.quarantine[-1].commit.endswith(commit)
    return record.last_good is not None and (record.last_good.commit or "").endswith(commit)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    made = Place(tmp_path_factory.mktemp("place"))
    made.open()
    yield made
    made.close()


def test_a_dry_run_says_what_it_would_do_and_writes_nothing(place):
    place.push(image="1")

    assert place.run("--dry-run") == 0
    assert place.log.writes == []
    assert "RolloutStarted" in place.reasons()


def test_a_good_commit_a_bad_one_the_rollback_and_an_end_in_order(place):
    agent = place.start()
    place.wait_for("Idle", place.push(image="1"))
    good = place.push(image="2")
    place.wait_for("Idle", good)
    before = place.pods()
    bad = place.push(image="3-missing")
    record = place.wait_for("Held", bad)

    assert record.last_good.commit.endswith(good)
    after = place.pods()
    assert len([node for node in before if after[node] != before[node]]) == 1
    reasons = place.reasons()
    assert reasons[-4:] == ["RolloutFinished", "RolloutStarted", "RollingBack", "RolledBack"]

    agent.send_signal(signal.SIGTERM)
    assert agent.wait(10) == 0
    with place.lock:
        lease = place.world.store.get("leases", "default", "dsgitops")
    assert not lease["spec"].get("holderIdentity")


@pytest.mark.skipif(KUBECTL is None, reason="kubectl is not here")
def test_kubectl_shows_what_the_agent_left(place):
    shown = place.kubectl("get", "ds,pods,controllerrevisions")
    assert shown.count("Running") == 3
    assert shown.count("controllerrevision.apps/") == 3
    assert "daemonset.apps/agent" in shown

    status = place.kubectl("rollout", "status", "ds/agent", "--timeout=20s")
    assert "successfully rolled out" in status

    events = place.kubectl("get", "events.events.k8s.io")
    assert "RolledBack" in events


def test_once_tells_by_its_code_how_it_stands(place):
    assert place.run("--once") == 6  # the bad commit is still held

    place.push(image="2")
    assert place.run("--once") == 0  # Git is back on what was good

    place.repository.commit({PATH: "kind: DaemonSet\n"}, "Break the file")
    assert place.run("--once") == 2, place.logged()[-1500:]

    place.push(image="2")
    assert place.run("--once") == 0


def test_once_says_7_when_git_cannot_be_read(place):
    place.configure(sources=[
        {"name": "node-agents", "url": f"file://{place.folder}/nowhere", "interval": "1s"}
    ])  # fmt: skip
    try:
        assert place.run("--once") == 7
    finally:
        place.configure()


def test_every_mistake_in_the_settings_is_named_with_its_line(place):
    place.configure(rollot={"bakeTime": "1m"}, namespaces="logging", leaderElection="maybe")
    try:
        process = place.start()
        assert process.wait(20) == 2
    finally:
        place.configure()

    last = place.logged().splitlines()[-10:]
    for name in ("rollot", "namespaces", "leaderElection"):
        line = 1 + place_of(place, name)
        assert any(f"dsgitops.yaml:{line}:" in each and name in each for each in last), (name, last)
    assert any("rollout" in each for each in last), "did you mean"


def test_in_a_log_of_json_a_warning_of_the_settings_is_json_too(place):
    place.configure(rollout=SETTINGS["rollout"] | {"podDeadline": "30s"})
    before = len(place.logged())
    try:
        assert place.run("--once") in {0, 3, 4}
    finally:
        place.configure()

    lines = [json.loads(line) for line in place.logged()[before:].splitlines()]
    (warned,) = (each for each in lines if "podDeadline" in each["message"])
    assert warned["level"] == "warning"
    assert "dsgitops.yaml:" in warned["message"]


def place_of(place, name):
    """Return the 0-based line of a key in the settings as they were in that test."""
    given = {**SETTINGS, "cacheDir": "", "sources": [], "rollot": {"bakeTime": "1m"},
             "namespaces": "logging", "leaderElection": "maybe"}  # fmt: skip
    given["sources"] = [dict.fromkeys(("name", "url", "interval", "path"), "x")]
    lines = yaml.safe_dump(given, sort_keys=False).splitlines()
    return next(number for number, line in enumerate(lines) if line.startswith(f"{name}:"))
