"""Messengers through apprise: what is sent, to whom, and what happens when it cannot be."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random

import pytest
from adapters.sink import Drip, wait_for
from adapters.test_sentry import ALERT
from scenarios.scene import Scene

from dsgitops.adapters import notify
from dsgitops.adapters import outbox as outboxes
from dsgitops.adapters.notify import NotifyChannel
from dsgitops.adapters.outbox import Outbox
from dsgitops.adapters.voices import Voices
from dsgitops.core.alerts import Kind
from dsgitops.core.model import Reason
from dsgitops.errors import Undelivered, UsageError

pytest.importorskip("apprise", reason="the extra `dsgitops[notify]` is not installed")

SECRET = "s3cr3t-hook-path"
RECOVERY = replace(
    ALERT, id="f" * 32, kind=Kind.RECOVERY, reason=Reason.ROLLOUT_FINISHED, level="info",
    title="logging/agent: recovered, 5d11c02 is rolled out", sentence="5d11c02 is on 40 nodes.",
)  # fmt: skip


class Messenger:
    """A service that takes apprise's `json://` messages.  `answers` are used up first."""

    def __init__(self, host="127.0.0.1"):
        self.answers = []
        self.seen = []
        """(path, body) of each request."""
        messenger = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                messenger.seen.append((self.path, json.loads(body)))
                answer = messenger.answers.pop(0) if messenger.answers else 200
                if isinstance(answer, float):
                    time.sleep(answer)
                    return
                status, headers = answer if isinstance(answer, tuple) else (answer, {})
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                said = f"no, not with {SECRET}".encode()
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            def log_message(self, *arguments):
                pass

        self.server = ThreadingHTTPServer((host, 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self):
        host, port = self.server.server_address
        return f"json://user:{SECRET}@{host}:{port}/{SECRET}"

    def bodies(self):
        return [body for _, body in self.seen]

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def messenger():
    made = Messenger()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(outboxes, "PAUSE_FIRST", 0.05)


@pytest.fixture
def to(tmp_path):
    """Return a channel to the services whose addresses are given."""

    def made(*urls, on=("failures", "recoveries"), name="notify[0]"):
        file = tmp_path / "urls"
        file.write_text("\n".join(urls))
        return NotifyChannel(file, cluster="prod-eu-1", on=on, name=name)

    return made


def box(*channels):
    return Outbox(channels, wake=lambda: None, rng=Random(1))


# ---------------------------------------------------------------- what is sent


def test_a_failure_is_told_by_the_title_and_the_sentence_of_every_other_place(messenger, to):
    to(messenger.url).deliver(ALERT)

    [body] = messenger.bodies()
    assert body["title"] == f"[prod-eu-1] {ALERT.title}"
    assert body["message"] == f"{ALERT.sentence}\nnode-agents agent.yaml {ALERT.commit}"
    assert body["type"] == "warning"


@pytest.mark.parametrize(
    ("alert", "kind"),
    [(ALERT, "warning"), (replace(ALERT, level="fatal"), "failure"), (RECOVERY, "success")],
)
def test_the_colour_says_whether_to_get_up(messenger, to, alert, kind):
    to(messenger.url).deliver(alert)

    assert [body["type"] for body in messenger.bodies()] == [kind]


def test_what_is_not_asked_for_is_not_sent_and_counts_as_delivered(messenger, to):
    failures = to(messenger.url, on=("failures",))
    failures.deliver(RECOVERY)
    assert messenger.seen == []

    failures.deliver(ALERT)
    assert len(messenger.seen) == 1


def test_templates_and_markup_in_what_people_named_stay_as_they_are(messenger, to):
    named = replace(ALERT, title="{{ 7*7 }} <b>*x*</b> :smile: \\n", sentence="{app_id} `a`.")
    to(messenger.url).deliver(named)

    [body] = messenger.bodies()
    assert body["title"] == "[prod-eu-1] {{ 7*7 }} <b>*x*</b> :smile: \\n"
    assert body["message"].startswith("{app_id} `a`.")


def test_comments_and_empty_lines_in_the_file_are_no_addresses(messenger, to):
    to("# the team's room", "", messenger.url).deliver(ALERT)

    assert len(messenger.seen) == 1


def test_a_new_address_is_used_as_soon_as_the_file_has_it(messenger, to, tmp_path):
    channel = to("json://127.0.0.1:1/old")
    (tmp_path / "urls").write_text(messenger.url)
    channel.deliver(ALERT)

    assert len(messenger.seen) == 1


# ---------------------------------------------------------------- when it cannot be sent


def test_of_two_services_the_one_that_took_it_is_not_told_again(messenger, to):
    other = Messenger()
    other.answers = [500]
    channel = to(messenger.url, other.url)
    with pytest.raises(Undelivered) as told:
        channel.deliver(ALERT)
    channel.deliver(ALERT)
    other.close()

    assert told.value.what == "JSON answered HTTP 500"
    assert len(messenger.seen) == 1
    assert len(other.seen) == 2


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (401, "JSON answered HTTP 401"),
        (404, "JSON answered HTTP 404"),
        (400, "JSON refused the message: HTTP 400"),
        (429, "JSON answered HTTP 429"),
        (503, "JSON answered HTTP 503"),
        ((302, {"Location": "/elsewhere"}), "JSON answered HTTP 302"),
    ],
)
def test_an_answer_is_told_by_its_number_without_the_address(messenger, to, caplog, answer, what):
    messenger.answers = [answer]
    with caplog.at_level(logging.DEBUG), pytest.raises(Undelivered) as told:
        to(messenger.url).deliver(ALERT)

    assert told.value.what == what
    assert told.value.refused is (answer == 400)
    assert SECRET not in told.value.what + told.value.remedy + caplog.text
    assert len(messenger.seen) == 1, "a redirect is not followed"


def test_nobody_there_is_told_without_the_address(to, caplog):
    with caplog.at_level(logging.DEBUG), pytest.raises(Undelivered) as told:
        to(f"json://127.0.0.1:1/{SECRET}").deliver(ALERT)

    assert told.value.what == "JSON did not take the message"
    assert told.value.remedy == "check line 1 of the file"
    assert SECRET not in caplog.text


@pytest.mark.parametrize("url", [f"nonsense {SECRET}", f"nosuchservice://{SECRET}", "slack://x"])
def test_an_address_that_apprise_does_not_know_is_named_by_its_line(messenger, to, caplog, url):
    with caplog.at_level(logging.DEBUG), pytest.raises(Undelivered) as told:
        to(messenger.url, url).deliver(ALERT)

    assert told.value.what == "line 2 is no address that apprise knows"
    assert SECRET not in caplog.text
    assert len(messenger.seen) == 1, "the other one is told all the same"


def test_a_file_that_is_gone_or_empty_is_told(to, tmp_path):
    channel = to("")
    with pytest.raises(Undelivered, match="the file has no address"):
        channel.deliver(ALERT)
    (tmp_path / "urls").unlink()
    with pytest.raises(Undelivered, match="cannot be read: No such file"):
        channel.deliver(ALERT)


def test_apprise_prints_no_address_even_where_nothing_handles_its_log(tmp_path):
    script = """
import sys
from pathlib import Path
from adapters.test_sentry import ALERT
from dsgitops.adapters.notify import NotifyChannel
from dsgitops.errors import Undelivered
try:
    NotifyChannel(Path(sys.argv[1]), cluster="c", on=("failures",)).deliver(ALERT)
except Undelivered as error:
    print(error)
"""
    file = tmp_path / "urls"
    file.write_text(f"json://127.0.0.1:1/{SECRET}\nslack://{SECRET}\nbroken:///{SECRET}\n")
    ran = subprocess.run(
        [sys.executable, "-c", script, str(file)], capture_output=True, text=True, timeout=60,
        cwd=tmp_path, check=True, env={"PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip

    assert ran.stdout == "JSON did not take the message\n"
    assert ran.stderr == ""


def test_a_service_that_hangs_delays_neither_the_turn_nor_the_others(messenger, to):
    slow = Messenger()
    slow.answers = [60.0] * 9
    scene = Scene(nodes=3)
    scene.push(image="1")
    scene.start_agent()
    desk = box(to(slow.url, name="slow"), NotifyChannel_to(messenger, to))
    scene.drive.agent.desk = desk
    scene.drive.agent.voice = Voices(scene, desk)
    begun = time.monotonic()
    scene.run(30)
    scene.push(image="2-crash")
    scene.run(60)
    took = time.monotonic() - begun
    slow.close()

    assert scene.phase() == "Held"
    assert took < 30
    assert wait_for(lambda: messenger.seen)
    assert "back on c100000" in messenger.bodies()[0]["title"]


@pytest.mark.parametrize(
    ("url", "pause"),
    [
        ("json://user:{SECRET}@{address}", 0.5),
        ("json://user:{SECRET}@{address}", 0.02),
        ("mailto://user:{SECRET}@example.com:{port}?smtp=127.0.0.1&mode=insecure", 0.5),
    ],
    ids=["in its first line", "in a header, after 200", "by mail"],
)
def test_a_service_that_answers_in_drops_is_given_up_and_the_next_one_is_told(
    messenger, to, monkeypatch, url, pause
):
    monkeypatch.setattr(notify, "MESSAGE_SECONDS", 1.0)
    drip = Drip(pause)
    slow = url.format(SECRET=SECRET, address=drip.address, port=drip.address.rpartition(":")[2])
    begun = time.monotonic()
    with pytest.raises(Undelivered) as told:
        to(slow, messenger.url).deliver(ALERT)

    assert told.value.what.endswith("did not take the message")
    assert not told.value.refused
    assert time.monotonic() - begun < 20
    assert len(messenger.seen) == 1
    drip.close()


def NotifyChannel_to(messenger, to):  # noqa: N802 - reads as what it makes
    file = to("x")._file.with_name("urls-of-another")
    file.write_text(messenger.url)
    return NotifyChannel(file, cluster="prod-eu-1", on=("failures",), name="fast")


def test_an_alert_is_confirmed_only_when_the_service_took_it(messenger, to):
    messenger.answers = [500, 500]
    desk = box(to(messenger.url))
    desk.send(ALERT)

    assert not desk.is_delivered(ALERT.id)
    assert wait_for(lambda: desk.is_delivered(ALERT.id))
    assert len(messenger.seen) == 3


# ---------------------------------------------------------------- settings


def test_a_missing_package_is_told_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "apprise", None)
    monkeypatch.setattr(notify.importlib.util, "find_spec", lambda _name: None)
    found = notify.missing()

    assert found.what == "needs the package apprise, which is not installed"
    assert found.remedy == "pip install 'dsgitops[notify]'"
    with pytest.raises(UsageError) as told:
        NotifyChannel(None, cluster="c", on=())
    assert told.value.remedy == found.remedy


def test_nothing_is_missing_where_it_is_installed():
    assert notify.missing() is None
