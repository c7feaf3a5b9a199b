"""`dsgitops history`: revisions, the commits that made them, and how each ended."""

from __future__ import annotations

import pytest
import yaml
from stage import PATH, Stage, daemonset

from dsgitops.ports import Request


@pytest.fixture(scope="module")
def lived(tmp_path_factory):
    """A DaemonSet with a past: two good commits, one that was overtaken, one that failed."""
    stage = Stage(tmp_path_factory.mktemp("lived"))
    stage.first = stage.commit({PATH: daemonset()}, "first try")
    stage.settle()
    stage.second = stage.commit({PATH: daemonset(tag="v2")}, "second try\n\nat length")
    stage.play(20)
    stage.settle()
    stage.overtaken = stage.commit({PATH: daemonset(tag="v3")}, "overtaken")
    stage.play_until_phase("Canary")
    stage.third = stage.commit({PATH: daemonset(tag="v4")}, "\x1b[31mthird")
    stage.play(30)
    stage.settle()
    stage.bad = stage.commit({PATH: daemonset(tag="2-never-ready")}, "bad")
    stage.play_until_phase("Held")
    yield stage
    stage.close()


@pytest.fixture
def upgraded(tmp_path):
    """A DaemonSet whose template a newer control plane wrote once more, in other bytes."""
    stage = Stage(tmp_path)
    history = stage.world.controller.history
    history.null_times = True
    stage.first = stage.commit({PATH: daemonset()})
    stage.settle()
    history.null_times = False
    stage.world.api.handle(
        Request(
            method="PATCH",
            path="/apis/apps/v1/namespaces/logging/daemonsets/agent",
            headers={"content-type": "application/merge-patch+json"},
            body=b'{"metadata": {"labels": {"seen": "newer"}}}',
        )
    )
    stage.play(10)
    assert len(stage.world.revisions("logging", "agent")) == 2
    yield stage
    stage.close()


def outcomes(stage):
    items = stage.run("history", "logging/agent", "-o", "json").json["items"]
    return {item["commit"].rpartition(":")[2]: item["outcome"] for item in items if item["commit"]}


def test_each_revision_has_its_commit_and_how_it_ended(lived):
    assert outcomes(lived) == {
        lived.first: "good",
        lived.second: "good",
        lived.overtaken: "superseded",
        lived.third: "current",
        lived.bad: "rolledBack",
    }


def test_machines_get_every_key_of_the_interface(lived):
    ran = lived.run("history", "logging/agent", "-o", "json")

    assert ran.json["kind"] == "RevisionList"
    keys = {"revision", "name", "hash", "commit", "digest", "outcome", "created"}
    assert all(keys <= set(item) for item in ran.json["items"])
    failed = next(item for item in ran.json["items"] if item["outcome"] == "rolledBack")
    assert failed["class"] == "ReadinessProbeFailed"
    numbers = [item["revision"] for item in ran.json["items"]]
    assert numbers == sorted(numbers)


def test_in_the_work_tree_commit_messages_stand_beside_harmless_and_short(lived):
    out = lived.run("history", "logging/agent").out

    assert "second try" in out
    assert "at length" not in out
    assert "third" in out
    assert "\x1b" not in out


def test_elsewhere_it_does_without_commit_messages(lived, tmp_path):
    ran = lived.run("history", "logging/agent", cwd=tmp_path)

    assert ran.code == 0
    assert lived.second[:7] in ran.out
    assert "second try" not in ran.out


def test_a_revision_that_kubectl_made_is_of_no_commit(stage):
    first = stage.commit({PATH: daemonset()})
    stage.settle()
    drifted = yaml.safe_load(daemonset(tag="by-hand"))
    drifted["metadata"]["annotations"] = stage.live()["metadata"]["annotations"]
    with stage.lock:
        stage.world.apply(drifted)
        stage.world.advance(0.5)

    items = stage.run("history", "logging/agent", "-o", "json").json["items"]

    assert [item["commit"] for item in items] == [f"main@sha1:{first}", None]
    assert [item["outcome"] for item in items] == ["good", "current"]


def test_without_names_every_managed_daemonset_has_its_own_list(lived):
    ran = lived.run("history", "-A")

    assert ran.code == 0
    assert ran.out.startswith("REVISION")


def test_revisions_that_differ_in_their_bytes_alone_are_one_and_it_is_no_way_back(upgraded):
    (item,) = upgraded.run("history", "logging/agent", "-o", "json").json["items"]
    back = upgraded.run("rollback", "logging/agent", "--yes")

    assert (item["revision"], item["outcome"]) == (1, "current")
    assert item["commit"].endswith(upgraded.first)
    assert back.code == 2
    assert "is on revision 1 already" in back.err
