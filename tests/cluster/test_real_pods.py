"""Real kubelets, containers and images: what is broken is judged by what really happens."""

from __future__ import annotations

import pytest
from cluster.images import empty_registry

GOOD = {"command": ["httpd", "-f", "-p", "8080", "-h", "/www"]}
PROBE = {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 1, "failureThreshold": 2}


def manifest(team, image="registry.example/agent:1", **container):
    return team.manifest(image=image, **(GOOD | {"readinessProbe": PROBE} | container))


def probe(path="/healthz", port=8080):
    return PROBE | {"httpGet": {"path": path, "port": port}}


def with_init(team):
    found = manifest(team)
    found["spec"]["template"]["spec"]["initContainers"] = [
        {"name": "prepare", "image": "registry.example/agent:1", "command": ["false"]}
    ]
    return found


def eats_memory(team):
    """Reads an endless line into 16 MiB of memory."""
    return manifest(
        team,
        command=["sh", "-c", "httpd -p 8080 -h /www; tail -c 99999999 /dev/zero"],
        resources={"limits": {"memory": "16Mi"}},
    )


BROKEN = {
    "a readiness probe to a wrong path": (
        lambda team, _: manifest(team, readinessProbe=probe(path="/nowhere")),
        "ReadinessProbeFailed",
    ),
    "a readiness probe to a wrong port": (
        lambda team, _: manifest(team, readinessProbe=probe(port=8081)),
        "ReadinessProbeFailed",
    ),
    "a crash loop": (
        lambda team, _: manifest(team, command=["sh", "-c", "sleep 0.2; exit 3"]),
        "CrashLoop",
    ),
    "an image tag that does not exist": (
        lambda team, registry: manifest(team, image=f"{registry}/agent:nowhere"),
        "ImageNotFound",
    ),
    "a registry that does not answer": (
        lambda team, _: manifest(team, image="127.0.0.1:1/agent:1"),
        "NoProgress",
    ),
    "a program that is not in the image": (
        lambda team, _: manifest(team, command=["/bin/nothing"]),
        "StartError",
    ),
    "a missing ConfigMap": (
        lambda team, _: manifest(team, envFrom=[{"configMapRef": {"name": "nowhere"}}]),
        "ConfigError",
    ),
    "more memory than its limit": (lambda team, _: eats_memory(team), "OOMKilled"),
    "an init container that fails": (lambda team, _: with_init(team), "InitContainerFailed"),
}


@pytest.fixture(scope="module")
def registry():
    with empty_registry() as address:
        yield address


@pytest.fixture
def running(real_team):
    """A good commit on three real nodes, baked, with the agent beside it."""
    first = real_team.commit(manifest(real_team), message="good")
    with real_team.agent() as agent:
        real_team.wait_until_good(first)
        yield agent


def test_a_good_commit_goes_out_over_real_nodes_one_by_one(real_team, running, prove):
    before = real_team.fleet()
    second = real_team.commit(manifest(real_team, image="registry.example/agent:2"), message="2")
    real_team.wait_until_good(second)

    after = real_team.fleet()
    assert [pod.node for pod in after] == [pod.node for pod in before]
    assert all(pod.ready and pod.image == "registry.example/agent:2" for pod in after)
    prove(
        scenario="a good commit",
        nodes="3 real",
        outcome=running.reasons("agent")[-1],
        writes=len(real_team.writes()),
        restarted="3",
    )


def worn_anew(team, good):
    """Return the pod that is of another revision than the good one."""
    return next((pod for pod in team.fleet() if not good.endswith(pod.revision)), None)


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_commit_is_judged_rolled_back_and_costs_only_its_own_pods(
    real_team, running, registry, prove, broken
):
    make, failure = BROKEN[broken]
    before = {pod.node: pod.uid for pod in real_team.fleet()}
    (good,) = real_team.revisions()
    kept = real_team.revision(good)

    bad = real_team.commit(make(real_team, registry), message="bad")
    worn = real_team.wait(lambda: worn_anew(real_team, good), "a pod wears the bad revision")
    real_team.wait(lambda: real_team.record().get("phase") == "Held", "it is rolled back")
    real_team.wait(real_team.all_ready, "all are ready again")

    (held,) = real_team.record()["quarantine"]
    assert held["commit"].endswith(bad)
    assert held["class"] == failure
    assert held["nodes"] == [worn.node]
    after = {pod.node: pod.uid for pod in real_team.fleet()}
    restarted = [node for node in after if after[node] != before[node]]
    assert restarted == [worn.node]
    assert real_team.revision(good) == kept | {"revision": 3}
    assert len(real_team.revisions()) == 2
    (rollback,) = real_team.rollbacks()
    prove(
        scenario=broken,
        nodes="3 real",
        outcome=f"RolledBack, {failure}",
        detected=(rollback - worn.created).total_seconds(),
        writes=len(real_team.writes()),
        restarted="1 + 1",
    )
