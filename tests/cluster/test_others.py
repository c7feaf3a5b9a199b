"""How a guarded rollout looks to tools that know nothing of it, and what to ask instead.

`docs/others.md` tells people what these tests show.  The two health checks are written anew from
their projects' descriptions, as far as DaemonSets go.
"""

from __future__ import annotations

import subprocess

import pytest
from cluster.town import ABSENT, NODES, ROLLOUT, SECOND, agent_in, town_on

pytestmark = pytest.mark.timeout(300)
PATIENT = {"dsgitops.io/profile": "patient"}
"""Its canary is watched for so long that there is time to look."""


def kstatus(live: dict) -> str:
    """Say what Flux (and Helm 4) wait for: https://github.com/kubernetes-sigs/cli-utils/tree/master/pkg/kstatus.

    A DaemonSet is Current once its controller has seen the newest generation, and the pods that
    exist, wear the newest template, are available and are ready are as many as are wanted; until
    then InProgress.  The update strategy is not looked at, and a DaemonSet is never Failed.
    """
    if live["metadata"]["generation"] != live["status"].get("observedGeneration"):
        return "InProgress"
    wanted = live["status"]["desiredNumberScheduled"]
    counted = {
        "Current": "currentNumberScheduled", "Updated": "updatedNumberScheduled",
        "Available": "numberAvailable", "Ready": "numberReady",
    }  # fmt: skip
    for word, name in counted.items():
        if (have := live["status"].get(name, 0)) < wanted:
            return f"InProgress ({word}: {have}/{wanted})"
    return "Current"


def argo_health(live: dict) -> str:
    """Say what Argo CD shows: https://argo-cd.readthedocs.io/en/stable/operator-manual/health/.

    Progressing until the controller has seen the newest generation; then Healthy under OnDelete,
    whatever the counts; else Progressing until as many pods are updated and available as wanted.
    A DaemonSet is never Degraded.
    """
    status = live["status"]
    if status.get("observedGeneration", 0) < live["metadata"]["generation"]:
        return "Progressing"
    if live["spec"]["updateStrategy"]["type"] == "OnDelete":
        return "Healthy"
    counts = (status.get("updatedNumberScheduled", 0), status.get("numberAvailable", 0))
    return "Progressing" if min(counts) < status["desiredNumberScheduled"] else "Healthy"


def rollout_status(town, name: str) -> tuple[int, str]:
    """Ask `kubectl rollout status` without waiting; return its exit code and what it says."""
    plane = town.team.plane
    done = subprocess.run(
        [str(plane.binaries["kubectl"]), "--kubeconfig", str(plane.kubeconfig),
         "-n", town.team.namespace, "rollout", "status", f"daemonset/{name}", "--watch=false"],
        capture_output=True, check=False, text=True, timeout=60,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def get_ds(town, name: str) -> dict[str, str]:
    """Return the row of `kubectl get ds` by its heads."""
    heads, row = town.team.kubectl("get", "daemonset", name).splitlines()
    return dict(zip(heads.replace("NODE SELECTOR", "NODES").split(), row.split(), strict=True))


def wait_for(town, name: str, commit: str, *, timeout: str, code: int) -> str:
    config = str(town.team.folder / "dsgitops.yaml")
    return town.verb(
        "wait", name, "--commit", commit, "--timeout", timeout, "--config", config, code=code
    )


@pytest.fixture(scope="module")
def town(control_plane, tmp_path_factory):
    profiles = {"patient": ROLLOUT | {"canary": {"nodes": 1, "bakeTime": "10m"}}}
    folder = tmp_path_factory.mktemp("others")
    with town_on(control_plane, folder, profiles=profiles) as made, agent_in(made):
        yield made


def test_while_it_lasts_each_of_the_others_says_something_else(town, prove):
    def make(image):
        found = town.manifest("lasting", image)
        found["metadata"]["annotations"] = PATIENT
        return found

    town.born(make("registry.example/agent:1"))
    second = town.push(make(SECOND))
    town.wait(
        lambda: town.nodes_with("lasting", SECOND) and town.team.all_ready("lasting"),
        "the canary is ready",
    )
    town.wait(lambda: get_ds(town, "lasting")["UP-TO-DATE"] == "1", "the controller has counted")

    counts = get_ds(town, "lasting")
    assert [counts[head] for head in ("DESIRED", "READY", "UP-TO-DATE", "AVAILABLE")] == [
        str(NODES), str(NODES), "1", str(NODES),
    ]  # fmt: skip
    code, said = rollout_status(town, "lasting")
    assert code == 1
    assert "only available for RollingUpdate" in said
    live = town.team.live("lasting")
    assert kstatus(live) == f"InProgress (Updated: 1/{NODES})"
    assert argo_health(live) == "Healthy", "which is not so"
    wait_for(town, "lasting", second, timeout="2s", code=4)
    prove(
        scenario="a guarded rollout, seen by others while it lasts", nodes=f"{NODES} fake",
        outcome="`dsgitops wait`: 4, not yet",
        beside=f"`kubectl rollout status`: error; kstatus: InProgress (1/{NODES}); Argo CD: Healthy",
    )  # fmt: skip


def test_when_it_is_over_all_agree(town, prove):
    town.born(town.manifest("over"))
    second = town.push(town.manifest("over", SECOND))

    wait_for(town, "over", second, timeout="80s", code=0)

    live = town.team.live("over")
    assert rollout_status(town, "over")[0] == 0
    assert (kstatus(live), argo_health(live)) == ("Current", "Healthy")
    assert get_ds(town, "over")["UP-TO-DATE"] == str(NODES)
    prove(
        scenario="a guarded rollout, seen by others when it is over", nodes=f"{NODES} fake",
        outcome="`dsgitops wait`: 0",
        beside="`kubectl rollout status`: 0; kstatus: Current; Argo CD: Healthy",
    )  # fmt: skip


def test_after_a_rollback_only_ours_knows_that_git_was_not_followed(town, prove):
    town.born(town.manifest("back"))
    bad = town.push(town.manifest("back", ABSENT))

    wait_for(town, "back", bad, timeout="80s", code=3)

    live = town.team.live("back")
    assert rollout_status(town, "back")[0] == 0
    assert (kstatus(live), argo_health(live)) == ("Current", "Healthy")
    prove(
        scenario="a guarded rollout, seen by others after its rollback", nodes=f"{NODES} fake",
        outcome="`dsgitops wait`: 3, rolled back",
        beside="`kubectl rollout status`: 0; kstatus: Current; Argo CD: Healthy",
    )  # fmt: skip
