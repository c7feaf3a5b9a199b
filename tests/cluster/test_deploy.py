"""What deploy/ ships, on a real control plane: it is admitted, and its rights are what is used."""

from __future__ import annotations

import json
import shutil
import threading
from contextlib import contextmanager

import pytest
import yaml
from cluster import shipped
from cluster.shipped import DEPLOY, OVERLAYS
from cluster.team import NODES

REPLICAS = {"ha": 2}
NAMESPACES = {"per-namespace": "node-agents"}
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}


@pytest.fixture
def overlay(control_plane, request):
    """An overlay, and the namespace that it asks for, as restricted as can be."""
    namespace = NAMESPACES.get(request.param, "dsgitops-system")
    metadata = {"name": namespace, "labels": RESTRICTED}
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
    control_plane.call("POST", "/api/v1/namespaces", body)
    folder = str(DEPLOY / "overlays" / request.param)
    yield request.param, folder, namespace
    remove = ("delete", "--ignore-not-found", "--timeout=60s")
    shipped.kubectl(control_plane, *remove, "-k", folder)
    shipped.kubectl(control_plane, *remove, "namespace", namespace)


@pytest.mark.parametrize("overlay", OVERLAYS, indirect=True)
def test_each_overlay_passes_a_strict_dry_run_and_its_pods_run_as_restricted(
    control_plane, overlay
):
    name, folder, namespace = overlay
    apply = ("apply", "--server-side", "--validate=strict", "-k", folder)
    shipped.kubectl(control_plane, *apply, "--dry-run=server")

    said = shipped.kubectl(control_plane, *apply)
    waits = ("rollout", "status", "deployment/dsgitops", "--timeout=60s", "-n", namespace)
    shipped.kubectl(control_plane, *waits)

    assert "Warning" not in said
    pods = control_plane.call("GET", f"/api/v1/namespaces/{namespace}/pods")["items"]
    nodes = {each["spec"]["nodeName"] for each in pods}
    assert len(pods) == len(nodes) == REPLICAS.get(name, 1)
    assert selected_by_the_policy(control_plane, namespace) == names_of(pods)


def names_of(objects):
    return sorted(each["metadata"]["name"] for each in objects)


def selected_by_the_policy(plane, namespace):
    """Return the names of the pods that the one NetworkPolicy is for."""
    root = f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies"
    (policy,) = plane.call("GET", root)["items"]
    labels = policy["spec"]["podSelector"]["matchLabels"].items()
    chosen = ",".join(f"{name}={value}" for name, value in labels).replace("/", "%2F")
    found = plane.call("GET", f"/api/v1/namespaces/{namespace}/pods?labelSelector={chosen}")
    return names_of(found["items"])


def test_two_teams_with_an_agent_each_have_no_object_in_common(control_plane, tmp_path):
    for namespace in ("blue", "green"):
        copy = tmp_path / "deploy" / "overlays" / namespace
        shutil.copytree(DEPLOY, tmp_path / "deploy", dirs_exist_ok=True)
        shutil.copytree(DEPLOY / "overlays" / "per-namespace", copy)
        for file in copy.iterdir():
            file.write_text(file.read_text().replace("node-agents", namespace))

    blue, green = (
        {identity(each) for each in yaml.safe_load_all(shipped.kubectl(control_plane, *render))}
        for render in (
            ("kustomize", str(tmp_path / "deploy/overlays" / team)) for team in ("blue", "green")
        )
    )

    assert len(blue) == len(green) > 5
    assert not blue & green


def identity(found):
    return found["kind"], found["metadata"].get("namespace"), found["metadata"]["name"]


def test_the_agents_account_uses_every_right_that_is_shipped_and_lacks_none(team, tmp_path, prove):
    objects = shipped.rendered(team, shipped.own_namespace(team, tmp_path / "kustomize"))
    shipped.grant(team, objects)
    team.kubeconfig = shipped.kubeconfig_of_account(team, tmp_path / "kubeconfig.json")

    live_a_full_life(team)

    use = shipped.used(team, team.namespace)
    granted = shipped.granted(objects)
    assert use.forbidden == ()
    assert sorted(granted - use.rights) == []
    assert sorted(use.rights - granted - OF_EVERYBODY) == []
    prove(
        scenario="the shipped roles, and what the agent used of them",
        nodes=f"{NODES} kwok",
        outcome=f"{len(granted)} rights granted, {len(granted)} used, none lacking",
        writes=len(team.writes()),
    )


OF_EVERYBODY = frozenset()
"""What any account may do and the agent does; nothing."""


def live_a_full_life(team):
    """Adopt, create, roll out, heal drift twice, roll back, sweep, amid writes of the status."""
    adopted = team.manifest("adopted")
    team.kubectl("create", "-f", "-", given=adopted)
    first = team.commit(adopted, team.manifest(), message="first")
    with team.agent() as agent, restless(team, "agent"):
        for name in ("adopted", "agent"):
            team.wait_until_good(first, name)
        second = team.commit(team.manifest(image="registry.example/agent:latest"), message="second")
        team.wait_until_good(second)
        heal_twice(team, agent)

        greedy = {"requests": {"cpu": "64"}}
        team.commit(team.manifest(image="registry.example/agent:3", resources=greedy))
        team.wait(lambda: "RolledBack" in agent.reasons("agent"), "the bad commit is rolled back")


def heal_twice(team, agent):
    """The second time says the same again: its Event becomes a series."""
    for times in (1, 2):
        team.kubectl("set", "env", "daemonset/agent", "BY_HAND=1")
        team.wait(
            lambda times=times: (
                agent.reasons("agent").count("DriftHealed") >= times
                and "BY_HAND" not in json.dumps(team.live()["spec"])
            ),
            "the drift is healed",
        )


@contextmanager
def restless(team, name):
    """Write a DaemonSet's status all the time: writes meet a newer version, and ask for it."""
    ending = threading.Event()
    path = f"/apis/apps/v1/namespaces/{team.namespace}/daemonsets/{name}/status"

    def write():
        turn = 0
        while not ending.is_set():
            turn += 1
            condition = {"type": "Restless", "status": "True", "reason": f"Turn{turn}"}
            if team.live(name) is not None:
                body = {"status": {"conditions": [condition]}}
                team.plane.call("PATCH", path, body, media="application/merge-patch+json")

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()
