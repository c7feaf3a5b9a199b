"""`dsgitops rollback`: back to what worked, by hand, agent or no agent."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import yaml
from stage import PATH, POLICY, Stage, daemonset

from dsgitops.core import record as records
from dsgitops.sim.access import Rule

AGENT = "logging/agent"


@pytest.fixture
def twice(stage):
    """Two good revisions, the second one live."""
    stage.first = stage.commit({PATH: daemonset()})
    stage.settle()
    stage.second = stage.commit({PATH: daemonset(tag="v2")})
    stage.play(20)
    stage.settle()
    return stage


def image(stage):
    (container,) = stage.live()["spec"]["template"]["spec"]["containers"]
    return container["image"].rpartition(":")[2]


def test_in_mid_rollout_it_goes_back_to_last_good_and_only_new_pods_restart(twice):
    before = twice.hashes()
    twice.commit({PATH: daemonset(tag="2-never-ready")})
    twice.play_until_phase("Canary")
    twice.play(12)
    touched = {node for node, hash_ in twice.hashes().items() if hash_ != before[node]}

    ran = twice.run("rollback", AGENT, "--reason", "it smells")

    assert ran.code == 0
    assert f"goes back to {twice.second[:7]} (revision 2): {len(touched)} pod restart" in ran.out
    assert image(twice) == "v2"
    assert twice.record()["phase"] == "RollingBack"
    twice.play_until_phase("Held")
    assert twice.hashes() == before
    assert twice.record()["reason"] == "RolledBack"


def test_what_it_leaves_is_held_by_hand_and_by_whom(twice):
    twice.run("rollback", AGENT, "--to", "1", "--reason", "it smells")
    twice.play_until_phase("Held")
    twice.play(60)

    (entry,) = twice.record()["quarantine"]
    assert entry["class"] == "ByHand"
    assert entry["by"] == "system:admin: it smells"
    assert entry["commit"] == f"main@sha1:{twice.second}"
    assert image(twice) == "v1"
    assert set(twice.hashes().values()) == {twice.record()["lastGood"]["hash"]}


def test_the_chosen_revision_is_last_good_from_then_on(twice):
    twice.run("rollback", AGENT, "--to", twice.first[:9])

    assert twice.record()["lastGood"]["commit"] == f"main@sha1:{twice.first}"
    assert twice.record()["commit"] == f"main@sha1:{twice.first}"


def test_the_next_commit_rolls_out_as_ever(twice):
    twice.run("rollback", AGENT, "--to", "1")
    twice.play_until_phase("Held")
    third = twice.commit({PATH: daemonset(tag="v3")})
    twice.play(20)
    twice.settle()

    assert image(twice) == "v3"
    assert twice.record()["lastGood"]["commit"] == f"main@sha1:{third}"


def test_it_works_while_no_agent_runs_and_the_agent_follows_it_later(twice):
    ran = twice.run("rollback", AGENT, "--to", "1")
    with twice.lock:
        twice.world.advance(60)  # the world goes on, the agent does not

    assert ran.code == 0
    assert len(set(twice.hashes().values())) == 1
    assert twice.record()["phase"] == "RollingBack"
    twice.play_until_phase("Held")


def test_the_template_is_the_revision_byte_for_byte(twice):
    (first, second) = twice.world.revisions("logging", "agent")

    twice.run("rollback", AGENT, "--to", "1")
    twice.play_until_phase("Held")

    restored = twice.live()["spec"]["template"]
    wanted = {key: each for key, each in first["data"]["spec"]["template"].items() if key[0] != "$"}
    assert restored == wanted
    assert len(twice.world.revisions("logging", "agent")) == 2
    assert second["metadata"]["name"] in [
        each["metadata"]["name"] for each in twice.world.revisions("logging", "agent")
    ]


def test_record_and_template_travel_in_one_write(twice):
    versions = []
    twice.world.store.subscribe(
        lambda _kind, resource, item: versions.append(item) if resource == "daemonsets" else None
    )

    twice.run("rollback", AGENT, "--to", "1")

    (written,) = [each for each in versions if each["metadata"]["generation"] > 2][:1]
    record = json.loads(written["metadata"]["annotations"][records.ANNOTATION])
    assert record["phase"] == "RollingBack"
    assert written["spec"]["updateStrategy"]["type"] == "RollingUpdate"
    assert written["metadata"]["annotations"]["kubernetes.io/change-cause"].endswith(twice.first)


def test_where_rollback_is_manual_a_person_does_what_the_agent_does_not(tmp_path):
    stage = Stage(tmp_path, policy=replace(POLICY, rollback="manual"))
    try:
        good = stage.commit({PATH: daemonset()})
        stage.settle()
        before = stage.hashes()
        stage.commit({PATH: daemonset(tag="2-never-ready")})
        stage.play_until_phase("Held")
        (failed,) = stage.run("get", "-A", "-o", "json").json["items"]
        held_by = stage.live()["spec"]["updateStrategy"]["type"]

        ran = stage.run("rollback", AGENT, "--reason", "enough")
        stage.play(1)
        stage.play_until_phase("Held")

        assert (failed["health"], failed["reason"]) == ("Failed", "RolloutFailed")
        assert held_by == "OnDelete"
        assert f"goes back to {good[:7]} (revision 1): 1 pod restart" in ran.out
        assert stage.live()["spec"]["updateStrategy"]["type"] == "RollingUpdate"
        assert stage.hashes() == before
        assert stage.record()["reason"] == "RolledBack"
        assert stage.record()["quarantine"][0]["class"] == "ReadinessProbeFailed"
    finally:
        stage.close()


def test_where_it_is_already_it_does_not_go_and_names_where_it_could(twice):
    ran = twice.run("rollback", AGENT)

    assert ran.code == 2
    assert "is on revision 2 already" in ran.err
    assert f"good before: give --to 1 ({twice.first[:7]})" in ran.err


def test_one_that_was_never_good_needs_yes(twice):
    twice.commit({PATH: daemonset(tag="2-never-ready")})
    twice.play_until_phase("Held")
    before = twice.live()

    refused = twice.run("rollback", AGENT, "--to", "3")
    untouched = twice.live() == before
    meant = twice.run("rollback", AGENT, "--to", "3", "--yes")

    assert refused.code == 2
    assert "revision 3 of logging/agent was never good (ReadinessProbeFailed)" in refused.err
    assert untouched
    assert meant.code == 0
    assert image(twice) == "2-never-ready"


def test_a_revision_that_is_not_there_is_answered_with_those_that_are(twice):
    ran = twice.run("rollback", AGENT, "--to", "77")

    assert ran.code == 2
    assert "logging/agent has no revision '77'" in ran.err
    assert "--to 1" in ran.err


def test_what_nobody_manages_is_left_to_kubectl(stage):
    stage.world.apply(yaml.safe_load(daemonset(name="stranger")))
    with stage.lock:
        stage.world.advance(5)

    ran = stage.run("rollback", "logging/stranger")

    assert ran.code == 2
    assert "logging/stranger is not managed by dsgitops" in ran.err
    assert "kubectl rollout undo" in ran.err


def test_a_record_of_a_newer_version_is_respected(twice):
    live = twice.live()
    newer = {**live["metadata"]["annotations"], records.ANNOTATION: '{"v":2,"source":"x"}'}
    metadata = {**live["metadata"], "annotations": newer}
    twice.world.store.update("daemonsets", {**live, "metadata": metadata})

    ran = twice.run("rollback", AGENT, "--to", "1")

    assert ran.code == 2
    assert "managed by a newer dsgitops" in ran.err


def test_without_the_right_to_patch_nothing_happens_and_the_right_is_named(twice):
    account = twice.world.api.account
    account.rules = [Rule(verbs=("get", "list"), groups=("", "apps"), resources=("*",))]
    try:
        ran = twice.run("rollback", AGENT, "--to", "1")
    finally:
        account.rules = None

    assert ran.code == 7
    assert "no right to patch daemonsets.apps in namespace logging" in ran.err
    assert image(twice) == "v2"


def test_where_admission_changes_templates_all_pods_would_restart_and_it_needs_yes(twice):
    def mutate(verb, resource, item, old):
        if resource != "daemonsets" or verb != "UPDATE":
            return item
        template = item["spec"]["template"]
        labels = {**template["metadata"]["labels"], "injected": "yes"}
        changed = {**template, "metadata": {**template["metadata"], "labels": labels}}
        return {**item, "spec": {**item["spec"], "template": changed}}

    twice.world.api.admission.append(mutate)

    refused = twice.run("rollback", AGENT, "--to", "1")
    meant = twice.run("rollback", AGENT, "--to", "1", "--yes")

    assert refused.code == 2
    assert "going back restarts all 3 pods" in refused.err
    assert meant.code == 0
    assert "warning: going back restarts all 3 pods" in meant.err


def test_status_writes_in_between_do_not_stop_it(twice):
    moves = iter(range(2))

    def somebody_writes(verb, resource, item, old):
        if resource == "daemonsets" and next(moves, None) is not None:
            live = twice.live()
            labels = {**live["metadata"]["labels"], "moved": live["metadata"]["resourceVersion"]}
            twice.world.store.update(
                "daemonsets", {**live, "metadata": {**live["metadata"], "labels": labels}}
            )
        return item

    twice.world.api.admission.append(somebody_writes)

    ran = twice.run("rollback", AGENT, "--to", "1")

    assert ran.code == 0
    assert image(twice) == "v1"
