"""Everything that can be wrong with a Sentry, met by the real process in mid-rollout.

One agent, six bad commits, each with another fault; its DSN is read anew for every attempt.  No
fault may delay a turn or a rollback, and all alerts arrive once Sentry is well.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from adapters.sink import Drip, Sink, wait_for, with_certificate_of_its_own
from test_process import Place

RESOLVER = "127.66.66.66"
"""An address of loopback that nobody else listens on."""
FAULTS = ("down", "hanging", "slow", "429", "TLS", "DNS")


class Resolver:
    """Takes queries and never answers: what a name server behind a broken network does."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((RESOLVER, 53))

    def close(self):
        self.socket.close()


class Ground(Place):
    """A place whose agent asks a name server of ours."""

    def start(self, *arguments):
        (self.folder / "resolv.conf").write_text(f"nameserver {RESOLVER}\n")
        script = (
            f"mount --bind {self.folder}/resolv.conf /etc/resolv.conf && "
            f'exec "{sys.executable}" -m dsgitops run --config "{self.config}" --log-format json'
        )
        environment = {**os.environ, "KUBECONFIG": str(self.kubeconfig)}
        with (self.folder / "log.txt").open("a") as log:
            process = subprocess.Popen(
                ["unshare", "--mount", "sh", "-c", script],
                stdout=log, stderr=log, env=environment, cwd=self.folder,
            )  # fmt: skip
        self.processes.append(process)
        return process

    def since_turn(self):
        port = re.findall(r"on port (\d+)", self.logged())[-1]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
            return float(re.search(r"completed ([0-9.]+) s", answer.read().decode())[1])

    def fail(self, image):
        """Push what fails; return how long the way to `Held` took, and the longest gap in turns."""
        commit, begun, lags = self.push(image=image), time.monotonic(), []

        def held():
            lags.append(self.since_turn())
            record = self.record()
            return record.quarantine and record.quarantine[-1].commit.endswith(commit) and (
                record.phase == "Held"
            )  # fmt: skip

        assert wait_for(held, 80), self.logged()[-3000:]
        return time.monotonic() - begun, max(lags)


@pytest.fixture
def servers(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("a name server of its own needs root")
    tried = subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True)
    if tried.returncode:
        pytest.skip("a process cannot have mounts of its own here")
    made = {"well": Sink(), "hanging": Sink(), "429": Sink(), "slow": Drip(), "DNS": Resolver()}
    made["TLS"] = with_certificate_of_its_own(tmp_path)
    made["hanging"].answers = [600] * 100
    made["429"].answers = [(429, {"Retry-After": "1"})] * 100
    yield made
    for each in made.values():
        each.close()


@pytest.fixture
def place(tmp_path):
    made = Ground(tmp_path)
    made.open()
    made.configure(alerts={"sentry": {"dsnFile": str(tmp_path / "dsn")}})
    yield made
    made.close()


def addresses(servers):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    return {
        "down": f"http://key@127.0.0.1:{port}/7",
        "hanging": servers["hanging"].dsn,
        "slow": servers["slow"].dsn,
        "429": servers["429"].dsn,
        "TLS": servers["TLS"].dsn.replace("http://", "https://"),
        "DNS": "http://key@sentry.example.test/7",
    }


@pytest.mark.timeout(240)
def test_no_fault_of_sentry_delays_a_turn_or_a_rollback_and_every_alert_arrives_in_the_end(
    place, servers
):
    where = addresses(servers)
    dsn = place.folder / "dsn"
    dsn.write_text(servers["well"].dsn)
    agent = place.start()
    place.wait_for("Idle", place.push(image="1"))
    usual, _ = place.fail("2-crash")
    assert wait_for(lambda: servers["well"].events() and not place.record().alerts, 20)

    seen = {}
    for number, fault in enumerate(FAULTS, start=3):
        dsn.write_text(where[fault])
        seen[fault] = place.fail(f"{number}-crash")
    slowest = max(took for took, _ in seen.values())
    assert slowest < 2 * usual + 5, seen
    assert max(lag for _, lag in seen.values()) < 9, "a turn comes once a second; Sentry has 10 s"
    waiting = [each.id for each in place.record().alerts]
    assert len(waiting) == len(FAULTS)

    agent.kill()
    agent.wait(10)
    dsn.write_text(servers["well"].dsn)
    place.start()
    assert wait_for(lambda: not place.record().alerts, 40), place.logged()[-2000:]
    told = [each["event_id"] for each in servers["well"].events()]
    assert sorted(told[1:]) == sorted(waiting)
    assert all("CrashLoop" in each["logentry"]["formatted"] for each in servers["well"].events())


@pytest.mark.timeout(120)
@pytest.mark.parametrize("fault", ["slow", "DNS"])  # the others: test_sentry.py, in this process
def test_what_stands_in_the_way_is_one_line_of_the_log_and_the_next_try_arrives(
    place, servers, fault
):
    said = {
        "slow": "no answer in time",
        "DNS": "its name cannot be resolved",
    }
    dsn = place.folder / "dsn"
    dsn.write_text(addresses(servers)[fault])
    agent = place.start()
    assert wait_for(lambda: (place.folder / "log.txt").read_text().count("on port"), 20)
    place.wait_for("Idle", place.push(image="1"))
    place.fail("2-crash")
    assert wait_for(lambda: f"alerts by sentry: {said[fault]}" in place.logged(), 45), (
        place.logged()[-1500:]
    )
    dsn.write_text(servers["well"].dsn)

    assert wait_for(lambda: servers["well"].events() and not place.record().alerts, 45)
    assert place.logged().count(f"alerts by sentry: {said[fault]}") == 1
    agent.terminate()
    assert agent.wait(10) == 0
