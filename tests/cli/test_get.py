"""`dsgitops get`: what a person sees of their DaemonSets."""

from __future__ import annotations

import json
import threading
from datetime import timedelta

import pytest
import yaml
from stage import PATH, Stage, daemonset

from dsgitops.cli import get as verb
from dsgitops.cli.agents import Agents
from dsgitops.cli.get import ago
from dsgitops.core.model import NodeState
from dsgitops.sim.access import Rule

KEYS = {
    "namespace", "name", "source", "path", "commit", "liveCommit", "sync", "health", "reason",
    "message", "phase", "digest", "lastGood", "nodes", "evidence", "quarantine", "record",
}  # fmt: skip


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    """A stage where all is well, with a DaemonSet beside that nobody manages."""
    stage = Stage(tmp_path_factory.mktemp("calm"))
    stage.first = stage.commit({PATH: daemonset()})
    stage.settle()
    stage.world.apply(yaml.safe_load(daemonset(name="stranger", namespace="monitoring")))
    stage.play(15)
    yield stage
    stage.close()


def only(ran):
    """The one item of a list."""
    (item,) = ran.json["items"]
    return item


def test_a_row_says_what_is_so_and_why(calm):
    ran = calm.run("get", "-n", "logging")

    heading, row = ran.out.splitlines()
    assert heading.split() == [
        "NAMESPACE",
        "NAME",
        "SYNC",
        "HEALTH",
        "REVISION",
        "READY",
        "MESSAGE",
    ]
    assert row.split()[:6] == ["logging", "agent", "Synced", "Healthy", calm.first[:7], "3/3"]
    assert ran.code == 0


def test_when_the_agent_was_last_seen_is_told_beside_the_result(calm):
    ran = calm.run("get", "-n", "logging")

    assert "agent last seen" in ran.err
    assert "default/agent-1" in ran.err
    assert "last seen" not in ran.out


def test_machines_get_every_key_of_the_interface(calm):
    ran = calm.run("get", "-n", "logging", "-o", "json")

    assert ran.json["apiVersion"] == "dsgitops.io/v1alpha1"
    assert ran.json["kind"] == "DaemonSetStatusList"
    item = only(ran)
    assert set(item) == KEYS
    assert item["commit"] == item["liveCommit"] == f"main@sha1:{calm.first}"
    assert item["nodes"] == {"total": 3} | dict.fromkeys(NodeState, 0) | {"desired": 3}
    assert item["record"] == calm.record()
    assert item["lastGood"] == calm.record()["lastGood"]


def test_yaml_says_the_same_as_json(calm):
    as_yaml = yaml.safe_load(calm.run("get", "-n", "logging", "-o", "yaml").out)

    assert as_yaml == calm.run("get", "-n", "logging", "-o", "json").json


def test_names_are_as_kubectl_takes_them_and_as_we_do(calm):
    (name,) = calm.run("get", "-n", "logging", "-o", "name").out.split()

    assert name == "daemonset.apps/agent"
    assert only(calm.run("get", name, "-n", "logging", "-o", "json"))["name"] == "agent"


def test_wide_has_phase_reason_and_last_good(calm):
    heading, row = calm.run("get", "-A", "-o", "wide").out.splitlines()

    assert "PHASE" in heading
    assert "LAST-GOOD" in heading
    assert "RolloutFinished" in row


def test_without_names_only_what_is_managed_is_listed(calm):
    ran = calm.run("get", "-A", "-o", "json")

    assert [item["name"] for item in ran.json["items"]] == ["agent"]


def test_an_unmanaged_one_that_is_named_is_told_as_such(calm):
    item = only(calm.run("get", "monitoring/stranger", "-o", "json"))

    assert item["sync"] == item["health"] == "Unknown"
    assert item["message"] == "not managed by dsgitops"
    assert item["record"] is None


def test_an_empty_namespace_is_no_error(calm):
    ran = calm.run("get")

    assert ran.code == 0
    assert ran.out == ""
    assert "no DaemonSet in namespace default is managed by dsgitops" in ran.err


def test_a_name_that_is_not_there_is_answered_with_the_nearest(calm):
    ran = calm.run("get", "logging/agnet")

    assert ran.code == 2
    assert "there is no DaemonSet logging/agnet" in ran.err
    assert "did you mean logging/agent?" in ran.err


def test_labels_select(calm):
    assert calm.run("get", "-A", "-l", "no=such", "-o", "name").out == ""
    assert "agent" in calm.run("get", "-A", "-l", "app.kubernetes.io/managed-by", "-o", "name").out


def test_whoever_may_not_read_leases_and_events_still_sees_the_daemonsets(calm):
    account = calm.world.api.account
    account.rules = [
        Rule(verbs=("get", "list"), groups=("apps",), resources=("*",)),
        Rule(verbs=("get", "list"), resources=("pods", "nodes")),
    ]
    try:
        ran = calm.run("get", "-n", "logging")
    finally:
        account.rules = None

    assert "Synced" in ran.out
    assert "agent last seen: unknown (no right to read its Lease)" in ran.err


def test_a_failed_commit_shows_while_it_fails_and_is_held_after_it(stage):
    good = stage.commit({PATH: daemonset()})
    stage.settle()
    bad = stage.commit({PATH: daemonset(tag="2-never-ready")})
    stage.play_until_phase("Canary")
    stage.play(15)
    rolling = only(stage.run("get", "-n", "logging", "-o", "json"))
    stage.play_until_phase("RollingBack")
    back = only(stage.run("get", "-n", "logging", "-o", "json"))
    stage.play_until_phase("Held")
    held = only(stage.run("get", "-n", "logging", "-o", "json"))

    assert (rolling["sync"], rolling["health"]) == ("Synced", "Progressing")
    assert rolling["nodes"]["old"] == 2
    assert rolling["liveCommit"] == f"main@sha1:{bad}"
    assert rolling["message"].startswith(f"{bad[:7]} is on ")
    assert (back["sync"], back["health"]) == ("OutOfSync", "Failed")
    assert back["class"] == "ReadinessProbeFailed"
    assert (held["sync"], held["health"]) == ("Held", "Healthy")
    assert held["class"] == "ReadinessProbeFailed"
    assert held["commit"] == f"main@sha1:{bad}"
    assert held["liveCommit"] == f"main@sha1:{good}"
    assert [entry["class"] for entry in held["quarantine"]] == ["ReadinessProbeFailed"]
    assert f"{bad[:7]} is held" in held["message"]


def test_evidence_names_the_node_the_pod_and_what_the_kubelet_said(stage):
    stage.commit({PATH: daemonset()})
    stage.settle()
    stage.commit({PATH: daemonset(tag="2-crash")})
    stage.play_until_phase("Canary")

    def crashed():
        item = only(stage.run("get", "-n", "logging", "-o", "json"))
        return item["nodes"]["badRevision"] == 1

    assert stage.play(60, crashed)
    item = only(stage.run("get", "-n", "logging", "-o", "json"))
    first = next(each for each in item["evidence"] if each["state"] == "badRevision")
    assert first["node"].startswith("node-")
    assert first["pod"].startswith("agent-")
    assert (first["class"], first["container"]) == ("CrashLoop", "agent")
    assert "exit code 1" in first["message"]
    assert "hunter2" not in json.dumps(item)


def test_a_dead_agent_makes_sync_unknown_and_health_stays(stage):
    stage.commit({PATH: daemonset()})
    stage.settle()
    age_the_lease(stage, timedelta(minutes=12))

    ran = stage.run("get", "-n", "logging")

    assert ran.out.splitlines()[1].split()[2:4] == ["Unknown", "Healthy"]
    assert "warning: the agent was last seen 12m ago: SYNC is not known" in ran.err


def age_the_lease(stage, age):
    lease = stage.world.store.get("leases", "default", "dsgitops")
    seen = (stage.world.now - age).strftime("%Y-%m-%dT%H:%M:%S.000000Z")
    stage.world.store.update("leases", {**lease, "spec": {**lease["spec"], "renewTime": seen}})


def test_a_node_that_dies_at_rest_is_degraded_and_not_failed(stage):
    stage.commit({PATH: daemonset()})
    stage.settle()
    stage.world.kill_node("node-2")
    stage.play(120)

    item = only(stage.run("get", "-n", "logging", "-o", "json"))

    assert item["health"] == "Degraded"
    assert item["sync"] == "Synced"
    assert item["nodes"]["desired"] == 2


def test_what_the_agent_waits_for_is_told_although_no_record_says_it(stage):
    stage.commit({PATH: daemonset()})
    stage.settle()
    stage.commit({PATH: daemonset(minReadySeconds="soon")})
    stage.play(20)

    item = only(stage.run("get", "-n", "logging", "-o", "json"))

    assert item["sync"] == "OutOfSync"
    assert item["reason"] == "ManifestInvalid"
    assert f"{PATH}:" in item["message"]


def test_what_somebody_changed_is_out_of_sync_and_of_no_commit(stage):
    stage.commit({PATH: daemonset()})
    stage.settle()
    changed = yaml.safe_load(daemonset(tag="by-hand"))
    changed["metadata"]["annotations"] = stage.live()["metadata"]["annotations"]
    with stage.lock:
        stage.world.apply(changed)
        stage.world.advance(0.5)

    item = only(stage.run("get", "-n", "logging", "-o", "json"))

    assert item["sync"] == "OutOfSync"
    assert item["liveCommit"] is None


def test_watching_prints_a_row_a_change(stage, monkeypatch):
    stage.commit({PATH: daemonset()})
    stage.settle()
    monkeypatch.setattr(verb, "WATCH_SECONDS", 0.05)
    changes = []

    def go_on():
        stage.commit({PATH: daemonset(tag="v2")})
        stage.play(20)
        stage.settle()
        changes.append("over")

    def watched(_seconds, real=verb.time.sleep):
        if changes:
            raise KeyboardInterrupt
        if thread.ident is None:  # the first row is printed
            thread.start()
        real(0.05)

    monkeypatch.setattr(verb.time, "sleep", watched)
    thread = threading.Thread(target=go_on)
    ran = stage.run("get", "-n", "logging", "-w")
    thread.join()

    rows = [line.split()[3] for line in ran.out.splitlines()[1:]]
    assert ran.code == 130
    assert rows[0] == "Healthy"
    assert "Progressing" in rows


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0s ago"), (119, "119s ago"), (120, "2m ago"), (7200, "2h ago"),
                          (200_000, "2d ago"), (-5, "0s ago")],
)  # fmt: skip
def test_ages_are_told_in_one_unit(seconds, said):
    assert ago(timedelta(seconds=seconds)) == said


def test_without_any_agent_nobody_is_alive():
    assert Agents(()).is_alive("node-agents", None) is False
    assert Agents((), refused=True).is_alive("node-agents", None) is None
