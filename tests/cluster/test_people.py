"""People with kubectl in mid-rollout, and other tools that want the same fields."""

from __future__ import annotations

import os
import subprocess

import pytest
from cluster.town import GOOD, NODES, SECOND, agent_in, town_on

pytestmark = pytest.mark.timeout(300)
EDITED = "registry.example/agent:edited"


@pytest.fixture(scope="module")
def town(control_plane, tmp_path_factory):
    with town_on(control_plane, tmp_path_factory.mktemp("people")) as made, agent_in(made):
        yield made


def in_mid_rollout(town, name):
    """Bring a second commit to its canary; return it."""
    town.born(town.manifest(name))
    second = town.push(town.manifest(name, SECOND))
    town.wait(lambda: town.nodes_with(name, SECOND), f"{name}: the canary is there")
    return second


def edit(town, name, script):
    """`kubectl edit` with a person who makes one change and saves."""
    editor = town.team.folder / "editor"
    editor.write_text(f'#!/bin/sh\nexec sed -i "{script}" "$1"\n')
    editor.chmod(0o755)
    plane = town.team.plane
    done = subprocess.run(
        [str(plane.binaries["kubectl"]), "--kubeconfig", str(plane.kubeconfig),
         "-n", town.team.namespace, "edit", "daemonset", name],
        env=os.environ | {"EDITOR": str(editor)}, capture_output=True, check=False, text=True,
        timeout=60, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "edited" in done.stdout


def test_an_edit_in_mid_rollout_is_put_back_and_the_rollout_goes_on(town, prove):
    second = in_mid_rollout(town, "edited")
    edit(town, "edited", f"s#image: {SECOND}#image: {EDITED}#")

    town.good(second, "edited")

    toll = town.tolls["edited"]
    assert len(town.nodes_with("edited", SECOND)) == NODES
    assert len(toll.images[EDITED]) <= 1
    assert toll.most_taken == 1
    assert "DriftHealed" in town.agent.reasons("edited")
    prove(**town.row("edited", "`kubectl edit` of the image in mid-rollout"))


def test_an_undo_in_mid_rollout_is_respected_and_completed(town, prove):
    second = in_mid_rollout(town, "undone")
    town.team.kubectl("rollout", "undo", "daemonset/undone")

    held = town.held("undone")

    toll = town.tolls["undone"]
    town.wait(lambda: len(town.nodes_with("undone", GOOD)) == NODES, "all are back")
    assert held["commit"].endswith(second)
    assert held["class"] == "ByHand"
    assert toll.most_taken <= len(toll.images[SECOND])
    assert toll.restarts == 2 * len(toll.images[SECOND]), "only those that had the second"
    prove(**town.row("undone", "`kubectl rollout undo` in mid-rollout"))


def test_a_pod_that_a_person_deletes_in_mid_rollout_counts_as_one_that_is_out(town, prove):
    second = in_mid_rollout(town, "deleted")
    pod = next(each for each in town.team.fleet("deleted") if each.image == GOOD)
    town.team.kubectl("delete", "pod", pod.name)

    town.good(second, "deleted")

    toll = town.tolls["deleted"]
    assert len(town.nodes_with("deleted", SECOND)) == NODES
    assert toll.most_taken <= 2, "the person's and ours"
    assert toll.restarts == NODES, "none twice"
    assert town.deletes("deleted") == NODES - 1
    assert "RollingBack" not in town.agent.reasons("deleted")
    prove(**town.row("deleted", "`kubectl delete pod` of an old pod in mid-rollout"))


def test_a_daemonset_that_a_person_deletes_in_mid_rollout_is_made_again(town, prove):
    second = in_mid_rollout(town, "removed")
    before = town.team.live("removed")["metadata"]["uid"]
    town.team.kubectl("delete", "daemonset", "removed", "--wait=false")

    town.good(second, "removed")

    assert town.team.live("removed")["metadata"]["uid"] != before
    assert len(town.nodes_with("removed", SECOND)) == NODES
    prove(**town.row("removed", "`kubectl delete ds` in mid-rollout"))


def apply_as(town, manager, name, spec):
    body = {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": name}, "spec": spec}
    town.team.kubectl(
        "apply", "--server-side", "--force-conflicts", f"--field-manager={manager}",
        "--validate=false", "-f", "-", given=body,
    )  # fmt: skip


def test_a_field_that_another_manager_applies_is_named_and_not_forced(town, prove):
    wanted = town.manifest("contested")
    wanted["spec"]["minReadySeconds"] = 1
    town.born(wanted)
    apply_as(town, "other-tool", "contested", {"minReadySeconds": 2})
    town.wait(lambda: "Conflict" in town.agent.reasons("contested"), "the conflict is seen")

    said = next(each for each in reversed(town.agent.lines) if each.get("reason") == "Conflict")
    assert "other-tool" in said["message"]
    assert "minReadySeconds" in said["message"]
    writes = town.team.writes("contested")
    town.born(town.manifest("bystander"))
    assert town.team.writes("contested") == writes
    assert town.team.live("contested")["spec"]["minReadySeconds"] == 2
    prove(**town.row("contested", "another manager applies a field: named, not forced"))

    apply_as(town, "other-tool", "contested", {})
    town.wait(
        lambda: town.team.live("contested")["spec"].get("minReadySeconds") == 1,
        "Git's value is back",
    )
