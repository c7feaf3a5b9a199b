"""Real kubelets, containers and images: what is broken is judged by what really happens.

One agent keeps a DaemonSet for each way to break; all are good for a minute, and then one commit
breaks them all at once.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import pytest
from cluster.images import empty_registry
from cluster.team import team_on
from cluster.toll import watched

if TYPE_CHECKING:
    from cluster.team import Team
    from cluster.toll import Toll

pytestmark = pytest.mark.timeout(400)  # one story of two minutes is told before the first test

NODES = 3
IMAGE, NEXT = "registry.example/agent:1", "registry.example/agent:2"
GOOD = {"command": ["httpd", "-f", "-p", "8080", "-h", "/www"]}
PROBE = {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 1, "failureThreshold": 2}
VIEW_SETTLES_SECONDS = 60
"""An agent blames nobody by the clock before it has watched for so long."""
ROLLOUT = {
    # A liveness probe needs a few seconds to fail, and a starved kubelet some to say so.
    "canary": {"nodes": 1, "bakeTime": "12s"},
    "bakeTime": "3s",
    "podDeadline": "15s",
    "progressDeadline": "45s",
}


def manifest(team, name, image=IMAGE, **container):
    return team.manifest(name, image=image, **(GOOD | {"readinessProbe": PROBE} | container))


def probe(**differs):
    return {"readinessProbe": PROBE | {"httpGet": PROBE["httpGet"] | differs}}


EATS_MEMORY = {
    "command": ["tail", "-c", "99999999", "/dev/zero"],
    "resources": {"limits": {"memory": "16Mi"}},
}
PING = {"name": "net.ipv4.ping_group_range", "value": "everybody"}
BREAKS = {
    "wrong-path": ("a readiness probe to a wrong path", "ReadinessProbeFailed"),
    "wrong-port": ("a readiness probe to a wrong port", "ReadinessProbeFailed"),
    "crash": ("a crash loop", "CrashLoop"),
    "no-tag": ("an image tag that does not exist", "ImageNotFound"),
    "no-registry": ("a registry that does not answer", "ImagePullFailed"),
    "no-program": ("a program that is not in the image", "StartError"),
    "no-configmap": ("a missing ConfigMap", "ConfigError"),
    "memory": ("more memory than its limit", "OOMKilled"),
    "no-memory": ("a memory limit in which nothing starts", "OOMKilled"),
    "sysctl": ("a sysctl with a value that the kernel refuses", "ConfigError"),
    "init": ("an init container that fails", "InitContainerFailed"),
    "liveness": ("a liveness probe to a wrong port", "LivenessProbeFailed"),
}


def broken(team, name, registry):
    live = {"tcpSocket": {"port": 8081}, "periodSeconds": 1, "failureThreshold": 2}
    made = {
        "wrong-path": probe(path="/nowhere"),
        "wrong-port": probe(port=8081),
        "crash": {"command": ["sh", "-c", "sleep 0.2; exit 3"]},
        "no-tag": {"image": f"{registry}/agent:nowhere"},
        "no-registry": {"image": "127.0.0.1:1/agent:1"},
        "no-program": {"command": ["/bin/nothing"]},
        "no-configmap": {"envFrom": [{"configMapRef": {"name": "nowhere"}}]},
        "memory": EATS_MEMORY,
        "no-memory": {"resources": {"limits": {"memory": "1Mi"}}},
        "sysctl": {},
        "init": {},
        "liveness": {"livenessProbe": live},
    }
    found = manifest(team, name, **({"image": NEXT} | made[name]))
    pod = found["spec"]["template"]["spec"]
    if name == "init":
        pod["initContainers"] = [{"name": "prepare", "image": NEXT, "command": ["false"]}]
    if name == "sysctl":
        pod["securityContext"] = {"sysctls": [PING]}
    return found


@dataclass
class Outcome:
    """One DaemonSet before and after the commit that broke it."""

    before: dict[str, str]
    """UID of the pod on each node."""
    good: str
    """The good ControllerRevision."""
    kept: dict
    toll: Toll
    """What its nodes went through."""

    @property
    def bad_nodes(self) -> list[str]:
        """Where a pod of the bad revision ever was."""
        return sorted(set().union(*(self.toll.images[each] for each in self._bad)))

    @property
    def first_bad(self) -> datetime:
        """When the first such pod was made."""
        return min(self.toll.first[each] for each in self._bad)

    @property
    def _bad(self) -> list[str]:
        return [each for each in self.toll.images if each != IMAGE]


@dataclass
class Story:
    """One team, and what the bad commit met."""

    team: Team
    bad: str
    outcomes: dict[str, Outcome]


@pytest.fixture(scope="module")
def story(real_plane, tmp_path_factory):
    """Good commits for all on three real nodes; after a minute one commit breaks them all."""
    folder = tmp_path_factory.mktemp("real")
    with (
        empty_registry() as registry,
        team_on(
            real_plane, folder, pool="real", nodes=NODES, settings={"rollout": ROLLOUT}
        ) as team,
    ):
        first = team.commit(*(manifest(team, name) for name in BREAKS), message="good")
        with watched(real_plane, team.namespace) as tolls, team.agent():
            begun = time.monotonic()
            for name in BREAKS:
                team.wait_until_good(first, name)
            team.wait(
                lambda: time.monotonic() > begun + VIEW_SETTLES_SECONDS, "the view is settled"
            )
            before = {name: observed(team, name) for name in BREAKS}
            bad = team.commit(*(broken(team, name, registry) for name in BREAKS), message="bad")
            outcomes = {name: Outcome(*before[name], tolls[name]) for name in BREAKS}
            yield Story(team, bad, outcomes)


def observed(team, name):
    (good,) = (each for each in team.revisions() if each.startswith(f"{name}-"))
    return {pod.node: pod.uid for pod in team.fleet(name)}, good, team.revision(good)


def test_a_good_commit_goes_out_over_real_nodes_one_by_one(real_team, prove):
    first = real_team.commit(manifest(real_team, "agent"), message="good")
    with watched(real_team.plane, real_team.namespace) as tolls, real_team.agent() as agent:
        real_team.wait_until_good(first)
        before = real_team.fleet()
        second = real_team.commit(manifest(real_team, "agent", NEXT), message="second")
        real_team.wait_until_good(second)

        after = real_team.fleet()
        reasons = agent.reasons("agent")
    assert [pod.node for pod in after] == [pod.node for pod in before]
    assert all(pod.ready and pod.image == NEXT for pod in after)
    toll = tolls["agent"]
    assert (toll.most_taken, toll.restarts) == (1, NODES)
    prove(
        scenario="a good commit",
        nodes="3 real",
        outcome=f"{reasons[-1]}; at most {toll.most_taken} taken at once",
        writes=len(real_team.writes()),
        restarted=str(toll.restarts),
    )


def test_a_kubelet_that_dies_in_mid_rollout_is_not_the_revisions_fault(
    real_plane, real_team, prove
):
    real_team.settings = {"rollout": ROLLOUT | {"progressDeadline": "20s"}}
    first = real_team.commit(manifest(real_team, "agent"), message="good")
    with watched(real_plane, real_team.namespace) as tolls, real_team.agent() as agent:
        real_team.wait_until_good(first)
        second = real_team.commit(manifest(real_team, "agent", NEXT), message="second")
        updated = lambda: [pod for pod in real_team.fleet() if pod.ready and pod.image == NEXT]  # noqa: E731
        (canary,) = real_team.wait(updated, "the canary is ready")
        dead = next(node for node in real_plane.real_nodes if node.name != canary.node)
        dead.kill_kubelet()
        real_team.wait(lambda: len(updated()) == NODES - 1, "the living nodes are updated")
        given_up = ready_since(real_plane, dead.name)

        dead.start_kubelet()
        real_team.wait_until_good(second)
        reasons = agent.reasons("agent")
    assert real_team.all_ready()
    assert {pod.image for pod in real_team.fleet()} == {NEXT}
    assert "RollingBack" not in reasons
    assert not real_team.record().get("quarantine")
    toll = tolls["agent"]
    assert (toll.most_taken_beside(dead.name), toll.restarts) == (1, NODES)
    if toll.most_taken > 1:  # the dead one's pod was asked to go before anybody knew
        assert deletions(real_team)[-1] >= given_up
    prove(
        scenario="a kubelet dies in mid-rollout and comes back",
        nodes="3 real",
        outcome=f"{'RolloutStalled, ' * ('RolloutStalled' in reasons)}{reasons[-1]};"
        f" at most {toll.most_taken_beside(dead.name)} taken at once beside the dead one",
        writes=len(real_team.writes()),
        restarted=str(toll.restarts),
    )


def ready_since(plane, name):
    """Return when a node's condition Ready changed."""
    conditions = plane.call("GET", f"/api/v1/nodes/{name}")["status"]["conditions"]
    (ready,) = (each for each in conditions if each["type"] == "Ready")
    return datetime.fromisoformat(ready["lastTransitionTime"])


def deletions(team):
    """Return when the agent deleted each pod, in order."""
    return [
        each.ended
        for each in team.plane.requests("dsgitops")
        if each.verb == "delete" and each.changed and f"/{team.namespace}/pods/" in each.path
    ]


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_commit_is_judged_rolled_back_and_costs_only_its_own_pods(story, prove, name):
    team, seen = story.team, story.outcomes[name]
    scenario, failure = BREAKS[name]
    team.wait(lambda: team.record(name).get("phase") == "Held", f"{name} is rolled back")
    team.wait(lambda: team.all_ready(name), f"{name} is ready again")

    (held,) = team.record(name)["quarantine"]
    assert held["commit"].endswith(story.bad)
    assert (held["class"], held["nodes"]) == (failure, seen.bad_nodes)
    after = {pod.node: pod.uid for pod in team.fleet(name)}
    assert [node for node in after if after[node] != seen.before[node]] == seen.bad_nodes
    assert len(seen.bad_nodes) == 1
    assert (seen.toll.there_and_back, seen.toll.most_taken) == ("1 + 1", 1)
    assert team.revision(seen.good) == seen.kept | {"revision": 3}
    assert len([each for each in team.revisions() if each.startswith(f"{name}-")]) == 2
    (rollback,) = team.rollbacks(name)
    prove(
        scenario=scenario,
        nodes="3 real",
        outcome=f"RolledBack, {failure}",
        detected=(rollback - seen.first_bad).total_seconds(),
        writes=len(team.writes(name)),
        restarted=seen.toll.there_and_back,
    )
