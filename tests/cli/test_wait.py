"""`dsgitops wait`: what CI asks, and the answers that it may rely on."""

from __future__ import annotations

import threading

import pytest
from stage import PATH, daemonset

AGENT = "logging/agent"
FIRST = {PATH: daemonset()}


def wait(stage, *arguments, timeout="20s", **where):
    return stage.run("wait", AGENT, "--timeout", timeout, *arguments, **where)


def test_a_commit_that_finishes_is_0_and_bake_is_included(stage):
    stage.commit(FIRST)
    stage.settle()
    stage.commit({PATH: daemonset(tag="v2")})

    with stage.playing():
        ran = wait(stage)

    assert ran.code == 0
    assert stage.record()["phase"] == "Idle"
    assert stage.record()["reason"] == "RolloutFinished"
    assert "logging/agent: finished: " in ran.out


def test_a_commit_that_was_not_read_is_never_a_success(stage):
    stage.commit(FIRST)
    stage.settle()
    unread = stage.commit({PATH: daemonset(tag="v2")})

    ran = wait(stage, timeout="1s")

    assert ran.code == 4
    assert f"{unread[:7]} was not read by the agent yet" in ran.out
    assert "error: not decided after 1s" in ran.err


def test_nor_is_one_that_was_read_and_is_still_baking(stage):
    stage.commit(FIRST)
    stage.settle()
    stage.commit({PATH: daemonset(tag="v2")})
    stage.play_until_phase("Baking")

    assert wait(stage, timeout="0s").code == 4


def test_a_commit_that_does_not_touch_it_is_fine_once_it_was_read(stage):
    stage.commit(FIRST)
    stage.settle()
    stage.commit({"README.md": "words"})
    unread = wait(stage, timeout="0s")
    stage.play(15)

    assert unread.code == 4
    assert wait(stage, timeout="0s").code == 0


def test_a_failed_commit_is_3_after_the_rollback_was_waited_out(stage):
    stage.commit(FIRST)
    stage.settle()
    stage.commit({PATH: daemonset(tag="2-never-ready")})
    stage.play_until_phase("RollingBack")
    in_flight = wait(stage, timeout="0s")

    with stage.playing():
        ran = wait(stage, "-o", "json")

    assert in_flight.code == 4
    assert ran.code == 3
    assert ran.json["kind"] == "WaitResult"
    assert ran.json["result"] == "failed"
    assert ran.json["items"][0]["phase"] == "Held"
    assert ran.json["items"][0]["class"] == "ReadinessProbeFailed"


def test_a_commit_that_a_newer_one_overtook_is_5(stage):
    stage.commit(FIRST)
    stage.settle()
    overtaken = stage.commit({PATH: daemonset(tag="v2")})
    stage.play_until_phase("Canary")
    newer = stage.commit({PATH: daemonset(tag="v3")})
    stage.play(15)

    ran = wait(stage, "--commit", overtaken)

    assert ran.code == 5
    assert f"superseded: {newer[:7]} came after {overtaken[:7]}" in ran.out


def test_ci_has_often_no_history_and_is_told_all_the_same(stage):
    stage.commit(FIRST)
    stage.settle()
    overtaken = stage.commit({PATH: daemonset(tag="v2")})
    clone = stage.folder / "clone"
    stage.repository.git("clone", "-q", "--depth=1", f"file://{stage.repository.path}", str(clone))
    unread = wait(stage, timeout="0s", cwd=clone)
    stage.play_until_phase("Canary")
    in_flight = wait(stage, timeout="0s", cwd=clone)
    stage.commit({PATH: daemonset(tag="v3")})
    stage.play(15)

    superseded = wait(stage, cwd=clone)
    without_any = wait(stage, "--commit", overtaken, cwd=stage.folder)

    assert (unread.code, in_flight.code) == (4, 4)
    assert superseded.code == 5
    assert without_any.code == 5


def test_content_that_an_earlier_commit_made_fail_is_6(stage):
    stage.commit(FIRST)
    stage.settle()
    stage.commit({PATH: daemonset(tag="2-never-ready")})
    stage.play_until_phase("Held")
    stage.commit({"README.md": "words"})
    stage.play(15)

    ran = wait(stage)

    assert ran.code == 6
    assert "is held (ReadinessProbeFailed)" in ran.out


def test_suspended_is_6_at_once(stage):
    stage.commit(FIRST)
    stage.settle()
    stage.run("suspend", AGENT, "--reason", "night shift")
    stage.commit({PATH: daemonset(tag="v2")})
    stage.play(15)

    ran = wait(stage)

    assert ran.code == 6
    assert "night shift" in ran.out


def test_a_manifest_that_cannot_be_understood_is_3(stage):
    stage.commit(FIRST)
    stage.settle()
    stage.commit({PATH: daemonset(minReadySeconds="soon")})
    stage.play(15)

    ran = wait(stage)

    assert ran.code == 3
    assert f"failed: {PATH}:" in ran.out


def test_a_revert_ends_well_although_what_failed_is_still_held(stage):
    stage.commit(FIRST)
    stage.settle()
    stage.commit({PATH: daemonset(tag="2-never-ready")})
    stage.play_until_phase("Held")
    stage.commit(FIRST)

    with stage.playing():
        ran = wait(stage)

    assert ran.code == 0


def test_after_a_release_the_second_chance_is_waited_for(stage):
    stage.commit(FIRST)
    stage.settle()
    stage.commit({PATH: daemonset(tag="v2")})
    stage.play(20)
    stage.settle()
    stage.run("rollback", AGENT, "--to", "1")
    stage.play_until_phase("Held")
    by_hand = wait(stage, timeout="0s")
    stage.run("quarantine", "release", AGENT)

    with stage.playing():
        ran = wait(stage, "--timeout", "20s")

    assert by_hand.code == 3
    assert ran.code in (0, 3)  # a look before the agent's sees what was held
    stage.settle()
    assert wait(stage, timeout="0s").code == 0


def test_a_daemonset_that_the_commit_makes_is_waited_for(stage):
    stage.commit(FIRST)
    before = wait(stage, timeout="0s")

    with stage.playing():
        ran = wait(stage)

    assert before.code == 4
    assert "logging/agent: not made by the agent yet" in before.out
    assert ran.code == 0


def test_without_names_all_of_the_namespace_must_be_there(stage):
    stage.commit({**FIRST, "b.yaml": daemonset(name="other")})
    stage.settle()
    stage.settle(name="other")
    stage.commit({"b.yaml": daemonset(name="other", tag="2-never-ready")})
    stage.play_until_phase("Held", name="other")

    ran = stage.run("wait", "-n", "logging", "--timeout", "1s")

    assert ran.code == 3
    assert "logging/agent: finished" in ran.out
    assert "logging/other: failed" in ran.out


def test_without_names_what_the_commit_adds_to_the_folder_is_waited_for_too(stage):
    stage.commit(FIRST)
    stage.settle()
    stage.commit(
        {
            "clusters/prod/new.yaml": daemonset(name="new"),
            "clusters/dev/other.yaml": daemonset(name="elsewhere", namespace="nowhere"),
        }
    )
    before = stage.run("wait", "-n", "logging", "--timeout", "0s")

    with stage.playing():
        ran = stage.run("wait", "-n", "logging", "--timeout", "20s")

    assert before.code == 4
    assert "logging/new: not made by the agent yet" in before.out
    assert ran.code == 0
    assert "logging/new: finished" in ran.out
    assert "elsewhere" not in before.out + ran.out


def test_what_neither_cluster_nor_commit_has_is_a_mistake(stage):
    stage.commit(FIRST)
    stage.settle()

    ran = stage.run("wait", "logging/agnet", "--timeout", "5s")

    assert ran.code == 2
    assert "logging/agnet is neither in the cluster nor in commit" in ran.err


def test_a_full_hash_will_do_where_there_is_no_work_tree(stage, tmp_path):
    first = stage.commit(FIRST)
    stage.settle()
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    second = stage.commit({PATH: daemonset(tag="v2")})

    unread = wait(stage, "--commit", second, timeout="0s", cwd=folder)
    done = wait(stage, "--commit", first, timeout="0s", cwd=folder)
    short = wait(stage, "--commit", first[:7], cwd=folder)

    assert (unread.code, done.code) == (4, 0)
    assert short.code == 2
    assert "there is no Git work tree here" in short.err


def test_with_settings_the_commit_is_looked_up_in_their_sources(stage, tmp_path):
    stage.commit(FIRST)
    stage.settle()
    unread = stage.commit({PATH: daemonset(tag="v2")})
    folder = tmp_path / "elsewhere"
    folder.mkdir()

    ran = wait(stage, "--config", stage.settings(), timeout="0s", cwd=folder)
    stage.play(20)
    stage.settle()
    short = wait(
        stage, "--config", stage.settings(), "--commit", unread[:8], "-o", "json", cwd=folder
    )

    assert ran.code == 4
    assert f"{unread[:7]} was not read by the agent yet" in ran.out
    assert short.code == 0
    assert short.json["commit"] == unread


def test_a_commit_that_gates_hold_back_is_not_finished(stage):
    stage.commit(FIRST)
    stage.settle()
    agent = stage.drive.agent
    agent.intake.opens = lambda now: now.replace(year=now.year + 1)  # the window opens in a year
    second = stage.commit({PATH: daemonset(tag="v2")})
    stage.play(15)

    here = wait(stage, timeout="0s")
    elsewhere = wait(stage, "--commit", second, timeout="0s", cwd=stage.folder)

    assert here.code == 4
    assert elsewhere.code == 4


def test_an_api_server_away_for_a_while_is_waited_for(stage):
    stage.commit(FIRST)
    stage.settle()
    stage.commit({PATH: daemonset(tag="v2")})
    down, up = threading.Timer(0.7, stage.api_down), threading.Timer(2.2, stage.api_up)
    down.start()
    up.start()

    ran = wait(stage, timeout="4s")

    assert ran.code == 4  # undecided, but not lost


def test_one_that_stays_away_is_7(stage):
    stage.commit(FIRST)
    stage.settle()
    stage.commit({PATH: daemonset(tag="v2")})
    threading.Timer(0.7, stage.api_down).start()

    ran = wait(stage, timeout="2s")

    assert ran.code == 7
    assert "the API server answered 503" in ran.err


@pytest.mark.parametrize("timeout", ["soon", "10", "-1s"])
def test_a_timeout_is_a_duration(stage, timeout):
    assert wait(stage, timeout=timeout).code == 2
