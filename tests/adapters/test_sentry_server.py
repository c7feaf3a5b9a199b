"""A failed rollout, as a real self-hosted server has it: read back through its API and its page."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

import pytest
from adapters import bugsink
from adapters.sink import wait_for
from scenarios.scene import Scene

from dsgitops.adapters.outbox import Outbox
from dsgitops.adapters.sentry.channel import SentryChannel
from dsgitops.adapters.voices import Voices


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    if os.environ.get("DSGITOPS_ALERTS") != "real":
        pytest.skip("needs a Sentry server: make alert-test")
    if bugsink.missing():
        pytest.fail(bugsink.missing())
    with bugsink.running(tmp_path_factory.mktemp("bugsink")) as running:
        yield running


@pytest.fixture(scope="module")
def told(server, tmp_path_factory):
    """A good commit, a bad one, and a good one again, told to the server."""
    dsn = tmp_path_factory.mktemp("dsn") / "dsn"
    dsn.write_text(server.dsn)
    scene = Scene()
    scene.start_agent()
    sentry = SentryChannel(
        dsn, cluster="prod-eu-1", environment="prod", author=lambda _source, _commit: "Ann Example"
    )
    outbox = Outbox([sentry], wake=lambda: None, rng=Random(1))
    scene.drive.agent.desk = outbox
    scene.drive.agent.voice = Voices(scene, outbox)
    for options in ({"image": "1"}, {"image": "2-crash"}, {"image": "3"}):
        scene.push(**options)
        scene.run(90)
        assert wait_for(lambda: not any(line.waiting for line in outbox.lines), 30)
    scene.run(30)
    return scene


@pytest.mark.timeout(180)
def test_the_failure_and_the_recovery_are_an_issue_each(server, told):
    titles = {each["calculated_value"] or each["calculated_type"] for each in server.issues()}

    assert {line.partition("\n")[0] for line in titles} == {
        "[prod-eu-1] logging/agent: c200000 failed on 1 of 4 nodes (CrashLoop), back on c100000",
        "[prod-eu-1] logging/agent: recovered, c300000 is rolled out",
    }
    assert told.record().alerts == ()
    assert told.record().failed == ""


@pytest.mark.timeout(180)
def test_the_event_is_there_with_its_fingerprint_tags_and_evidence(server, told):
    [issue] = [each for each in server.issues() if "failed" in each["calculated_value"]]
    [event] = server.events(issue)

    data = event["data"]
    digest = data["contexts"]["rollout"]["digest"]
    assert data["fingerprint"] == ["prod-eu-1", "logging", "agent", digest, "CrashLoop"]
    assert data["tags"]["class"] == "CrashLoop"
    assert data["tags"]["author"] == "Ann Example"
    assert data["tags"]["nodes_failed"] == "1"
    assert data["release"] == "c2".ljust(40, "0")
    assert data["environment"] == "prod"
    assert data["contexts"]["nodes"]["node-2"].startswith("CrashLoop, badRevision, pod agent-")
    assert list(data["contexts"]["diff"]) == ["/spec/containers/agent/image"]


@pytest.mark.timeout(180)
def test_sending_it_again_makes_no_second_event(server, told, tmp_path):
    [issue] = [each for each in server.issues() if "failed" in each["calculated_value"]]
    [before] = server.events(issue)
    dsn = tmp_path / "dsn"
    dsn.write_text(server.dsn)
    sentry = SentryChannel(dsn, cluster="prod-eu-1", environment="prod", author=lambda *_: "")
    again = {**before["data"], "event_id": before["event_id"].replace("-", "")}
    sentry._uplink.send(again)
    wait_for(lambda: len(server.events(issue)) > 1, 2)

    assert [each["event_id"] for each in server.events(issue)] == [before["event_id"]]


@pytest.mark.timeout(180)
def test_a_person_sees_on_the_page_what_to_do(server, told):
    [issue] = [each for each in server.issues() if "failed" in each["calculated_value"]]
    page = server.page(f"/issues/issue/{issue['id']}/event/last/details/")
    if os.environ.get("SHOW"):
        Path(os.environ["SHOW"]).write_text(page)

    assert "[prod-eu-1] logging/agent: c200000 failed on 1 of 4 nodes (CrashLoop)" in page
    assert "Ann Example" in page
    assert "node-2" in page
