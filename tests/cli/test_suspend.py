"""`dsgitops suspend` and `resume`: stop, with a name and a reason on it."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from stage import PATH, daemonset

from dsgitops.core.record import instant
from dsgitops.sim.access import Rule

AGENT = "logging/agent"


@pytest.fixture
def settled(stage):
    stage.commit({PATH: daemonset()})
    stage.settle()
    return stage


def suspension(stage):
    return json.loads(stage.live()["metadata"]["annotations"].get("dsgitops.io/suspend", "{}"))


def image(stage):
    return stage.live()["spec"]["template"]["spec"]["containers"][0]["image"].rpartition(":")[2]


def test_nothing_is_written_while_it_lasts_and_it_goes_on_after(settled):
    ran = settled.run("suspend", AGENT, "--reason", "night shift")
    settled.commit({PATH: daemonset(tag="v2")})
    settled.play(60)
    held_back = image(settled)
    resumed = settled.run("resume", AGENT)
    settled.play(20)
    settled.settle()

    assert (ran.code, ran.out) == (0, "logging/agent suspended\n")
    assert held_back == "v1"
    assert resumed.out == "logging/agent resumed\n"
    assert image(settled) == "v2"


def test_get_says_that_git_has_moved_past_what_is_suspended(settled):
    settled.run("suspend", AGENT, "--reason", "night shift")
    settled.play(20)
    still = settled.run("get", AGENT, "-o", "json").json["items"][0]
    pushed = settled.commit({PATH: daemonset(tag="v2")})
    settled.play(60)
    moved = settled.run("get", AGENT, "-o", "json").json["items"][0]

    assert (still["sync"], still["health"]) == ("Synced", "Suspended")
    assert (moved["sync"], moved["health"]) == ("OutOfSync", "Suspended")
    assert moved["message"] == (f"Suspended by system:admin: night shift. Now: {pushed[:7]} waits.")


def test_who_why_and_until_when_stand_on_the_object(settled):
    settled.run("suspend", AGENT, "--reason", "night shift", "--for", "2h")

    found = suspension(settled)
    assert found["reason"] == "night shift"
    assert found["by"] == "system:admin"
    left = instant(found["until"]) - settled.world.now
    assert timedelta(minutes=119) < left <= timedelta(hours=2)


def test_it_ends_by_itself(settled):
    settled.run("suspend", AGENT, "--reason", "a moment", "--for", "2m")
    settled.commit({PATH: daemonset(tag="v2")})
    settled.play(100)
    before = image(settled)
    settled.play(120)
    settled.settle()

    assert before == "v1"
    assert image(settled) == "v2"


def test_get_shows_it(settled):
    settled.run("suspend", AGENT, "--reason", "night shift", "--for", "2h")

    (item,) = settled.run("get", "-A", "-o", "json").json["items"]

    assert item["health"] == "Suspended"
    assert item["reason"] == "Suspended"
    assert item["suspend"]["reason"] == "night shift"
    assert item["message"].startswith("Suspended by system:admin until 20")


def test_a_rollout_in_flight_stands_still(settled):
    settled.commit({PATH: daemonset(tag="v2")})
    settled.play_until_phase("Canary")
    settled.run("suspend", AGENT, "--reason", "wait a moment")
    settled.play(30)
    before = settled.hashes()
    settled.play(300)

    assert settled.hashes() == before
    assert len(set(before.values())) == 2 or settled.record()["phase"] == "Canary"


def test_nothing_but_the_annotation_changes(settled):
    before = settled.live()

    settled.run("suspend", AGENT, "--reason", "night shift")

    after = settled.live()
    assert after["spec"] == before["spec"]
    assert after["metadata"]["generation"] == before["metadata"]["generation"]
    managers = {entry["manager"] for entry in after["metadata"]["managedFields"]}
    assert "dsgitops-cli" in managers


def test_a_reason_is_needed(settled):
    assert settled.run("suspend", AGENT).code == 2
    assert settled.run("suspend", AGENT, "--reason", " ").code == 2
    assert suspension(settled) == {}


@pytest.mark.parametrize("length", ["2", "soon", "0s", "-1h"])
def test_for_is_a_duration(settled, length):
    ran = settled.run("suspend", AGENT, "--reason", "x", "--for", length)

    assert ran.code == 2
    assert "hint: write 30m, 2h or 24h" in ran.err


def test_a_reason_is_one_harmless_line(settled):
    settled.run("suspend", AGENT, "--reason", "night\x1b[31m\nshift")

    assert suspension(settled)["reason"] == "night\\x1b[31m shift"


def test_what_is_not_suspended_is_resumed_already(settled):
    ran = settled.run("resume", AGENT)

    assert ran.code == 0
    assert ran.err == "logging/agent is not suspended (what Git suspends, Git resumes)\n"


def test_several_are_done_each_for_itself(stage):
    stage.commit({PATH: daemonset(), "b.yaml": daemonset(name="b")})
    stage.settle()
    stage.settle(name="b")

    ran = stage.run("suspend", AGENT, "b", "-n", "logging", "--reason", "both")

    assert ran.out.splitlines() == ["logging/agent suspended", "logging/b suspended"]


def test_without_the_right_it_says_which_is_missing(settled):
    account = settled.world.api.account
    account.rules = [Rule(verbs=("get", "list"), groups=("", "apps"), resources=("*",))]
    try:
        ran = settled.run("suspend", AGENT, "--reason", "x")
    finally:
        account.rules = None

    assert ran.code == 7
    assert "no right to patch daemonsets.apps in namespace logging" in ran.err
