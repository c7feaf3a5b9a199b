"""Alerts on their way to Sentry, over real HTTP: what is sent, and what happens when it cannot be."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest
from adapters.sink import Drip, Sink, wait_for, with_certificate_of_its_own
from scenarios.scene import Scene

from dsgitops.adapters import outbox as outboxes
from dsgitops.adapters.outbox import Outbox
from dsgitops.adapters.sentry.channel import CheckIns, SentryChannel
from dsgitops.adapters.sentry.event import event_of, slug
from dsgitops.adapters.sentry.uplink import Uplink, only_ours
from dsgitops.adapters.voices import Voices
from dsgitops.core.alerts import EVIDENCE_MAX, Alert, Kind, Sign
from dsgitops.core.model import FailedContent, FailureClass, Reason, Ref
from dsgitops.errors import SourceUnreachable, Undelivered
from dsgitops.ports import Polled

NOW = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)
REF = Ref("logging", "agent")
ALERT = Alert(
    id="0123456789ab5cdea123456789abcdef",
    kind=Kind.FAILURE,
    reason=Reason.ROLLED_BACK,
    level="error",
    at=NOW,
    title="logging/agent: 3f2a91c failed on 1 of 40 nodes (CrashLoop), back on 9d01b7e",
    sentence="3f2a91c failed: CrashLoop on node-1. Back on 9d01b7e: 40 of 40 nodes.",
    ref=REF,
    source="node-agents",
    path="agent.yaml",
    commit="main@sha1:" + "3f2a91c".ljust(40, "0"),
    digest="sha256:" + "d" * 64,
    good_commit="main@sha1:" + "9d01b7e".ljust(40, "0"),
    revision="7c9f",
    failure_class=FailureClass.CRASH_LOOP,
    nodes=("node-1",),
    total=40,
)


@pytest.fixture
def sink():
    made = Sink()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(outboxes, "PAUSE_FIRST", 0.05)


def channel(folder, dsn, author=lambda _source, _commit: "Ann"):
    file = folder / "dsn"
    file.write_text(f"{dsn}\n")
    return SentryChannel(file, cluster="prod-eu-1", environment="prod", author=author)


def box(*channels, counted=lambda _result: None):
    return Outbox(channels, wake=lambda: None, rng=Random(1), counted=counted)


# ---------------------------------------------------------------- what is sent


def test_an_event_says_what_one_needs_at_night_and_nothing_else(sink, tmp_path):
    channel(tmp_path, sink.dsn).deliver(ALERT)

    [event] = sink.events()
    assert event == {
        "event_id": ALERT.id,
        "timestamp": "2026-11-21T03:00:00Z",
        "platform": "other",
        "logger": "dsgitops",
        "level": "error",
        "logentry": {"formatted": f"[prod-eu-1] {ALERT.title}\n\n{ALERT.sentence}"},
        "transaction": "logging/agent",
        "fingerprint": ["prod-eu-1", "logging", "agent", ALERT.digest, "CrashLoop"],
        "release": "3f2a91c".ljust(40, "0"),
        "environment": "prod",
        "tags": {
            "cluster": "prod-eu-1", "kind": "failure", "reason": "RolledBack",
            "source": "node-agents", "namespace": "logging", "daemonset": "agent",
            "commit": "3f2a91c", "author": "Ann", "revision": "7c9f", "class": "CrashLoop",
            "nodes_failed": "1",
        },
        "contexts": {
            "rollout": {
                "source": "node-agents", "path": "agent.yaml", "commit": ALERT.commit,
                "digest": ALERT.digest, "last good": ALERT.good_commit, "revision": "7c9f",
                "class": "CrashLoop", "told": "2026-11-21T03:00:00Z", "nodes": 40,
            },
            "nodes": {"node-1": "voted against it"},
        },
    }  # fmt: skip


def test_evidence_of_twenty_nodes_is_sent_and_the_rest_is_counted():
    signs = tuple(
        Sign(node=f"node-{n}", pod=f"agent-{n}", failure_class="CrashLoop", container="agent",
             what="ended 2 times, last with exit code 1 (Error)", restarts=2, since=NOW)
        for n in range(EVIDENCE_MAX)
    )  # fmt: skip
    event = event_of(replace(ALERT, evidence=signs, unlisted=5), cluster="c", environment="")

    nodes = event["contexts"]["nodes"]
    assert len(nodes) == EVIDENCE_MAX + 1
    assert nodes["and more"] == "5 nodes"
    assert nodes["node-0"] == (
        "CrashLoop, pod agent-0, container agent, ended 2 times, last with exit code 1 (Error), "
        "2 restarts, since 2026-11-21T03:00:00Z"
    )


def test_the_diff_is_paths_and_hashes(sink, tmp_path):
    def template(tag, secret):
        env = [{"name": "DB_PASS", "value": secret}]
        return {"spec": {"containers": [{"name": "a", "image": f"r/a:{tag}", "env": env}]}}

    failed = FailedContent(good=template(1, "hunter2"), bad=template(2, "hunter3"), since=NOW)
    channel(tmp_path, sink.dsn).deliver(replace(ALERT, failed=failed))

    [event] = sink.events()
    assert sorted(event["contexts"]["diff"]) == [
        "/spec/containers/a/env/DB_PASS/value", "/spec/containers/a/image",
    ]  # fmt: skip
    assert all("sha256:" in each for each in event["contexts"]["diff"].values())
    raw = sink.envelopes[0][3]
    assert b"hunter" not in raw
    assert b"r/a" not in raw


def test_before_send_drops_whatever_is_not_on_the_list():
    event = event_of(ALERT, cluster="c", environment="")
    dirty = {
        **event,
        "extra": {"argv": "secret"}, "user": {"id": 1}, "server_name": "host",
        "breadcrumbs": {"values": [1]}, "exception": {}, "modules": {},
        "contexts": {**event["contexts"], "trace": {"trace_id": "1"}},
    }  # fmt: skip

    assert only_ours(dirty) == event


def test_an_answer_that_redirects_is_not_followed(sink, tmp_path):
    sink.answers = [(307, {"Location": f"http://127.0.0.1:{sink.server.server_port}/elsewhere"})]

    with pytest.raises(Undelivered, match="HTTP 307"):
        channel(tmp_path, sink.dsn).deliver(ALERT)
    assert len(sink.attempts) == 1


# ---------------------------------------------------------------- faults


@pytest.mark.parametrize("status", [500, 502, 503, 401, 404, 301])
def test_an_alert_is_sent_again_until_it_is_taken(sink, tmp_path, status):
    sink.answers = [(status, {}), (status, {})]
    results = []
    outbox = box(channel(tmp_path, sink.dsn), counted=results.append)
    outbox.send(ALERT)

    assert wait_for(lambda: outbox.is_delivered(ALERT.id))
    assert results == ["failed", "failed", "sent"]
    assert [each["event_id"] for each in sink.events()] == [ALERT.id]


@pytest.mark.parametrize("status", [400, 413])
def test_what_the_server_will_never_take_is_given_up_and_told(sink, tmp_path, status):
    sink.answers = [(status, {})]
    results = []
    outbox = box(channel(tmp_path, sink.dsn), counted=results.append)
    outbox.send(ALERT)

    assert wait_for(lambda: outbox.is_delivered(ALERT.id))
    assert results == ["dropped"]
    assert outbox.faults()["sentry"].what == f"HTTP {status}: the event was refused"


@pytest.mark.parametrize(
    "headers",
    [{"Retry-After": "1"}, {"X-Sentry-Rate-Limits": "1:error;default:organization"}],
    ids=["retry-after", "rate-limits"],
)
def test_a_server_that_asks_to_wait_is_left_alone_for_so_long(sink, tmp_path, headers):
    sink.answers = [(429, headers)]
    outbox = box(channel(tmp_path, sink.dsn))
    outbox.send(ALERT)

    assert wait_for(lambda: outbox.is_delivered(ALERT.id))
    (first, limited), (second, taken) = sink.attempts
    assert (limited, taken) == (429, 200)
    assert second - first >= 0.85


def test_a_limit_that_comes_with_a_yes_holds_for_the_next(sink, tmp_path):
    sink.answers = [(200, {"X-Sentry-Rate-Limits": "1:error:organization"})]
    outbox = box(channel(tmp_path, sink.dsn))
    outbox.send(ALERT)
    assert wait_for(lambda: outbox.is_delivered(ALERT.id))
    outbox.send(replace(ALERT, id="f" * 32))

    assert wait_for(lambda: outbox.is_delivered("f" * 32))
    assert sink.attempts[1][0] - sink.attempts[0][0] >= 0.85


def test_a_server_that_is_down_says_so_without_its_address(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    with pytest.raises(Undelivered) as met:
        channel(tmp_path, f"http://key@127.0.0.1:{port}/7").deliver(ALERT)
    assert met.value.what == "connection refused"


def test_a_server_that_hangs_is_given_up(sink, tmp_path, monkeypatch):
    monkeypatch.setattr("dsgitops.adapters.sentry.uplink.ANSWER_SECONDS", 0.3)
    sink.answers = [5]

    with pytest.raises(Undelivered, match="no answer in time"):
        channel(tmp_path, sink.dsn).deliver(ALERT)


@pytest.mark.parametrize("pause", [0.5, 0.02], ids=["in its first line", "in a header, after 200"])
def test_a_server_that_answers_in_drops_is_given_up_and_leaves_no_socket(
    tmp_path, monkeypatch, pause
):
    monkeypatch.setattr("dsgitops.adapters.sentry.uplink.ATTEMPT_SECONDS", 1.0)
    drip = Drip(pause)
    before = len(list(Path("/proc/self/fd").iterdir()))
    start = time.perf_counter()

    with pytest.raises(Undelivered, match="no answer in time"):
        channel(tmp_path, drip.dsn).deliver(ALERT)
    assert time.perf_counter() - start < 20
    assert wait_for(lambda: len(list(Path("/proc/self/fd").iterdir())) <= before)
    drip.close()


def test_a_certificate_that_nobody_vouches_for_is_not_accepted(tmp_path):
    sink = with_certificate_of_its_own(tmp_path)

    with pytest.raises(Undelivered, match="its TLS certificate is not accepted"):
        channel(tmp_path, sink.dsn.replace("http://", "https://")).deliver(ALERT)
    assert sink.attempts == []
    sink.close()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (None, "the DSN cannot be read: No such file or directory"),
        (b"", "the DSN file is empty"),
        (b"\xff\xfe", "the DSN cannot be read: it is no text"),
        (b"https://s3cret-dsn@/", "the DSN is not one"),
        (b"no-dsn-s3cret", "the DSN is not one"),
    ],
)
def test_a_dsn_that_cannot_be_used_is_told_and_never_quoted(tmp_path, content, what):
    file = tmp_path / "dsn"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(Undelivered) as met:
        Uplink(file).send({})
    assert met.value.what == what
    assert "s3cret" not in f"{met.value.what}{met.value.remedy}"


def test_a_disk_that_cannot_be_read_holds_the_alert_back_and_loses_nothing(sink, tmp_path):
    made = channel(tmp_path, sink.dsn)
    file = tmp_path / "dsn"
    file.unlink()
    file.symlink_to("/proc/self/mem")  # reading it is an I/O error
    outbox = box(made)
    outbox.send(ALERT)
    assert wait_for(lambda: "sentry" in outbox.faults())
    file.unlink()
    file.write_text(sink.dsn)

    assert wait_for(lambda: outbox.is_delivered(ALERT.id))


def test_a_new_dsn_is_used_from_the_next_alert_on(sink, tmp_path):
    other = Sink()
    made = channel(tmp_path, sink.dsn)
    made.deliver(ALERT)
    (tmp_path / "dsn").write_text(other.dsn)
    made.deliver(replace(ALERT, id="f" * 32))

    assert [each["event_id"] for each in other.events()] == ["f" * 32]
    assert len(sink.events()) == 1
    other.close()


def test_a_name_that_never_resolves_holds_up_only_its_own_thread(tmp_path, monkeypatch):
    hangs = threading.Event()
    resolve = socket.getaddrinfo

    def hang(host, *arguments, **options):
        if host == "sentry.invalid":
            hangs.wait(20)
        return resolve(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    outbox = box(channel(tmp_path, "http://key@sentry.invalid/7"))
    start = time.perf_counter()
    outbox.send(ALERT)
    outbox.send(replace(ALERT, id="f" * 32))
    took = time.perf_counter() - start

    assert took < 10
    assert not outbox.is_delivered(ALERT.id)
    hangs.set()


# ---------------------------------------------------------------- the poll loop


def test_polls_are_told_to_a_monitor_once_a_minute_and_when_they_turn(sink, tmp_path):
    (tmp_path / "dsn").write_text(sink.dsn)
    check_ins = CheckIns(
        tmp_path / "dsn", cluster="Prod EU", environment="prod",
        intervals={"node-agents": timedelta(minutes=5)},
    )  # fmt: skip
    for seconds in (0, 30, 60):
        check_ins.polled(Polled(source="node-agents", at=NOW + timedelta(seconds=seconds)))
        wait_for(lambda: not check_ins._latest)
        time.sleep(0.1)
    check_ins.polled(
        Polled(source="node-agents", error=SourceUnreachable("x"), at=NOW + timedelta(seconds=65))
    )

    assert wait_for(lambda: len(sink.check_ins()) == 3)
    assert [each["status"] for each in sink.check_ins()] == ["ok", "ok", "error"]
    first = sink.check_ins()[0]
    assert first["monitor_slug"] == "dsgitops-prod-eu-node-agents"
    assert first["monitor_config"]["schedule"] == {"type": "interval", "value": 5, "unit": "minute"}
    assert first["environment"] == "prod"
    assert set(first) <= {
        "type", "check_in_id", "monitor_slug", "status", "duration", "environment",
        "monitor_config", "event_id", "timestamp",
    }  # fmt: skip


def test_a_slug_is_short_and_plain():
    assert slug("Prod/EU", "x" * 80) == "dsgitops-prod-eu-" + "x" * 33


# ---------------------------------------------------------------- killed at any moment


def wired(scene, folder, dsn):
    """Start a new agent in a scene, with the real way to Sentry; the one before is dead."""
    for line in scene.drive.agent.desk.lines if scene.drive else ():
        with line._changed:
            line._queue.clear()  # its threads died with it
    scene.start_agent()
    outbox = box(channel(folder, dsn))
    scene.drive.agent.desk = outbox
    scene.drive.agent.voice = Voices(scene, outbox)
    return outbox


def settle(outbox):
    """Wait in real time for what is on its way."""
    assert wait_for(lambda: not any(line.waiting for line in outbox.lines))


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 8, 13, 21, 34, 55, 89])
def test_an_agent_killed_at_any_moment_tells_one_event_a_failure(sink, tmp_path, steps):
    """A new agent every few steps, with nothing but the cluster to go by."""
    scene = Scene()
    wired(scene, tmp_path, sink.dsn)
    scene.push(image="1")
    scene.run(60)
    scene.push(image="2-crash")
    end = scene.world.now + timedelta(seconds=120)
    outbox = None
    while scene.world.now < end:
        outbox = wired(scene, tmp_path, sink.dsn)
        for _ in range(steps * 8):
            scene.drive.step(end)
    settle(outbox)
    scene.run(30)
    settle(outbox)
    scene.run(30)

    failures = [each for each in sink.events() if each["level"] == "error"]
    assert len({each["event_id"] for each in failures}) == 1
    assert len({tuple(each["fingerprint"]) for each in failures}) == 1
    assert len(sink.events()) == len(failures)
    record = scene.record()
    assert record.alerts == ()
    assert record.failed == failures[0]["event_id"]
    assert record.phase == "Held"


def test_an_alert_of_an_object_at_rest_is_found_again_by_the_next_agent(sink, tmp_path):
    scene = Scene()
    sink.answers = [(503, {})] * 1000
    wired(scene, tmp_path, sink.dsn)
    scene.push(image="1")
    scene.run(60)
    scene.push(image="2-crash")
    scene.run(300)
    [waiting] = scene.record().alerts
    sink.answers = []
    outbox = wired(scene, tmp_path, sink.dsn)
    scene.run(20)
    settle(outbox)
    scene.run(20)

    [event] = {each["event_id"]: each for each in sink.events()}.values()
    assert event["event_id"] == waiting.id
    assert event["tags"]["class"] == "CrashLoop"
    assert event["contexts"]["nodes"]["node-2"].startswith("CrashLoop, badRevision, pod agent-")
    assert "last with exit code 1 (Error)" in event["contexts"]["nodes"]["node-2"]
    assert list(event["contexts"]["diff"]) == ["/spec/containers/agent/image"]
    assert event["contexts"]["rollout"]["nodes"] == 4
    assert event["contexts"]["rollout"]["seconds"] > 0
    assert "failed on 1 of 4 nodes (CrashLoop), back on c100000" in event["logentry"]["formatted"]
    assert event["release"].startswith("c2")
    assert scene.record().alerts == ()


# ---------------------------------------------------------------- the process


def test_nobody_else_imports_the_sdk_and_a_start_without_alerts_does_not_load_it():
    code = "import sys, dsgitops.wiring, dsgitops.cli.main; print('sentry_sdk' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert said.stdout.strip() == "False"
    root = Path(__file__).parents[2] / "dsgitops"
    importers = [path for path in root.rglob("*.py") if "import sentry_sdk" in path.read_text()]
    assert [path.name for path in importers] == ["uplink.py"]


def test_an_envelope_carries_no_more_than_ids_and_the_sdk_s_name(sink, tmp_path):
    channel(tmp_path, sink.dsn).deliver(ALERT)

    head, item, _, _, headers = sink.envelopes[0]
    assert set(head) <= {"event_id", "sent_at", "trace", "sdk"}
    assert item["type"] == "event"
    assert "sentry_key=public-key" in headers["X-Sentry-Auth"]
    assert socket.gethostname() not in json.dumps(head)
