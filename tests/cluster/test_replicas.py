"""Two replicas by the overlay `ha`, on two real nodes: one leads, the other is warm and goes on."""

from __future__ import annotations

import json
import os
import signal
import urllib.request
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cluster import audit, shipped
from cluster.installation import (
    AGENTS,
    MANAGED,
    PATIENCE,
    installed,
    pods_of,
    secret,
    wait_until_ready,
)  # fmt: skip
from cluster.team import Team
from cluster.usage import PodCgroup
from git_repositories import Web, https_server

from dsgitops.adapters.kubernetes.lease import DURATION
from dsgitops.adapters.kubernetes.transport import connect
from dsgitops.ports import Request

if TYPE_CHECKING:
    from cluster.control_plane import ControlPlane

pytestmark = pytest.mark.timeout(560)
CLEAN_SECONDS = 3.0
"""From the leader's release of the Lease to the other's lead."""
TOO_MANY_REQUESTS = 429
"""What a disruption budget answers with."""
DEATH_SECONDS = DURATION.total_seconds() + 2
GOOD = {"command": ["httpd", "-f", "-p", "8080", "-h", "/www"]}
PASSWORD = "two replicas"
READ = {"daemonsets", "controllerrevisions", "nodes"}
"""What a warm agent has listed, and watches; pods only while a rollout is followed."""


@dataclass
class Replicas:
    """The agents' pods."""

    plane: ControlPlane
    since: datetime = field(default_factory=lambda: datetime.now(UTC))

    def lease(self) -> dict:
        path = f"/apis/coordination.k8s.io/v1/namespaces/{AGENTS}/leases/dsgitops"
        return self.plane.call("GET", path)["spec"]

    def leader(self) -> str:
        """Return the name of its pod; empty: none."""
        return self.lease().get("holderIdentity", "")

    def pod(self, name: str) -> dict:
        return next(each for each in pods_of(self.plane) if each["metadata"]["name"] == name)

    def restarts(self, name: str) -> int:
        (status,) = self.pod(name)["status"]["containerStatuses"]
        return status["restartCount"]

    def standby(self) -> str:
        (found,) = (
            each["metadata"]["name"]
            for each in pods_of(self.plane)
            if each["metadata"]["name"] != self.leader()
        )
        return found

    def node(self, name: str):
        """Return the real node that a pod is on."""
        wanted = self.pod(name)["spec"]["nodeName"]
        return next(each for each in self.plane.real_nodes if each.name == wanted)

    def says(self, name: str, page: str) -> str:
        """Return what an agent's own page says; it answers 200."""
        address = self.pod(name)["status"]["podIP"]
        with urllib.request.urlopen(f"http://{address}:8080/{page}", timeout=10) as answer:
            return answer.read().decode()

    def told(self, since: datetime | None = None) -> list[audit.Told]:
        return audit.told_by(self.plane, audit.account(AGENTS, "dsgitops"), since or self.since)

    def changes(self, since: datetime) -> list[str]:
        """Return what was changed since.

        Notes in the record alone are left out: a correction of a second may end a bake in two.
        """
        return [
            each.change
            for each in self.told(since)
            if each.acts and each.changed and "dsgitops-record" not in each.path
        ]

    def first_lead(self, name: str, since: datetime) -> datetime | None:
        """Return when a pod took the Lease; None: not yet."""
        told = self.told(since)
        return next((each.ended for each in told if each.pod == name and each.renews), None)

    def last_lead(self, name: str) -> datetime:
        """Return when a pod last wrote the Lease: where it ended in order, that was the release."""
        return [each.ended for each in self.told() if each.pod == name and each.renews][-1]

    def saw(self, name: str, moment: datetime) -> datetime:
        """Return when a pod first looked at the Lease after a moment: its count begins there."""
        looks = (
            each.ended
            for each in self.told()
            if each.pod == name and each.resource == "leases" and each.verb == "get"
            and each.begun >= moment and each.code < 300
        )  # fmt: skip
        return next(looks)

    def writers(self, since: datetime) -> list[str]:
        """Return the pods that changed something since, each stretch of one's writes once."""
        return [pod for pod, _ in groupby(each.pod for each in self.told(since) if each.acts)]

    def leaders(self, since: datetime) -> list[str]:
        """Return the pods that wrote the Lease since, in the same way."""
        return [pod for pod, _ in groupby(each.pod for each in self.told(since) if each.renews)]


@pytest.fixture
def town(image_plane, tmp_path):
    made = Team(image_plane, MANAGED, tmp_path, pool="real", nodes=len(image_plane.real_nodes))
    yield made
    made.kubectl("delete", "daemonsets", "--all", "--wait=false")


def wait_until_good(town, commit):
    def good():
        record = town.record()
        last = (record.get("lastGood") or {}).get("commit") or ""
        return last.endswith(commit) and record.get("phase") == "Idle"

    town.wait(good, f"{commit[:7]} is the last good commit", within=PATIENCE)


def push(town, number):
    """Push new content; return its commit and when that was."""
    env = [{"name": "NUMBER", "value": str(number)}]
    at = datetime.now(UTC)
    return town.commit(town.manifest(**GOOD, env=env), message=f"number {number}"), at


def roll_to_the_canary(town, number):
    """Push new content, and wait until its first pod is out."""
    commit, at = push(town, number)
    town.wait(lambda: town.record()["phase"] == "Canary", "the canary is out", within=PATIENCE)
    return commit, at


def kill(pod_uid, node, *, all_of_it):
    """Take the agent's processes away at once (and its sandbox); return when that was."""
    at = datetime.now(UTC)
    for pid in PodCgroup(node, pod_uid).pids():
        with suppress(OSError):  # a git that ended meanwhile
            if all_of_it or b"dsgitops" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
    return at


def test_two_replicas_lead_one_after_the_other_and_no_rollout_notices(
    image_plane, town, tmp_path, prove
):
    plane, replicas = image_plane, Replicas(image_plane)
    web = Web(root=tmp_path, user="git", password=PASSWORD)
    with https_server(web, tmp_path, plane.address) as (url, certificate):
        secret(plane, password=PASSWORD, **{"ca.crt": certificate.read_text()})
        files = {"passwordFile": "/etc/dsgitops/git/password", "caFile": "/etc/dsgitops/git/ca.crt"}
        source = {
            "name": "agents", "url": f"{url}/node-agents.git", "ref": {"branch": "main"},
            "interval": "1s", "auth": {"https": files},
        }  # fmt: skip
        first, _ = push(town, 0)
        settings = {"namespaces": [MANAGED], "sources": [source]}
        with installed(plane, tmp_path / "mine", "ha", settings):
            wait_until_good(town, first)
            assert_one_leads_and_the_other_is_warm(replicas)
            commit, at = push(town, 1)
            wait_until_good(town, commit)
            undisturbed = replicas.changes(at)

            clean, asked = the_leaders_pod_is_deleted(replicas, town, undisturbed)
            who, restarted = the_leader_crashes(replicas, town, undisturbed)
            dead = the_leaders_node_dies(replicas, town, undisturbed)
            the_leaders_node_is_drained(replicas, town)

    same = "undisturbed: the same writes"
    as_undisturbed = {"nodes": "2 real", "writes": len(undisturbed), "beside": same}
    prove(
        scenario="the overlay ha: the leader's pod is deleted in mid-rollout",
        outcome=f"the other leads {clean:.1f} s after the release, {asked:.1f} s after the deletion,"
        " from caches that it had; the rollout goes on",
        **as_undisturbed,
    )
    prove(
        scenario="the overlay ha: the leader's process dies in mid-rollout (SIGKILL)",
        outcome=f"its kubelet starts it again, and {who} leads after {restarted:.1f} s; the rollout goes on",
        **as_undisturbed,
    )
    prove(
        scenario="the overlay ha: the leader's node is drained",
        nodes="2 real",
        outcome="the other leads; its own eviction is refused while it is the only one",
    )
    prove(
        scenario="the overlay ha: the leader's node dies in mid-rollout (SIGKILL, no kubelet)",
        outcome=f"the other leads after {dead:.1f} s; the rollout goes on",
        **as_undisturbed,
    )


def assert_one_leads_and_the_other_is_warm(replicas):
    leader, standby = replicas.leader(), replicas.standby()
    assert replicas.node(leader) is not replicas.node(standby)
    assert replicas.says(leader, "readyz").startswith("Leading")
    assert replicas.says(standby, "readyz").startswith("Standing by")
    assert "dsgitops_leader 1.0" in replicas.says(leader, "metrics")
    assert "dsgitops_leader 0.0" in replicas.says(standby, "metrics")
    watched = {
        each.resource
        for each in replicas.told()
        if each.pod == standby and each.verb in {"list", "watch"}
    }
    assert watched >= READ
    assert {each.pod for each in replicas.told() if each.acts} == {leader}


def the_leaders_pod_is_deleted(replicas, town, undisturbed):
    """Return the seconds from the release, and from the deletion, to the other's lead."""
    leader, standby = replicas.leader(), replicas.standby()
    turns = replicas.lease()["leaseTransitions"]
    commit, at = roll_to_the_canary(town, 2)
    asked = datetime.now(UTC)
    shipped.kubectl(replicas.plane, "delete", "pod", leader, "-n", AGENTS, "--wait=false")
    led = town.wait(lambda: replicas.first_lead(standby, at), "the other leads", within=PATIENCE)
    wait_until_good(town, commit)
    released = replicas.last_lead(leader)

    assert (led - released).total_seconds() < CLEAN_SECONDS
    assert replicas.leaders(at) == [leader, standby]
    assert replicas.lease()["leaseTransitions"] == turns + 1
    assert replicas.changes(at) == undisturbed
    assert replicas.writers(at) == [leader, standby]
    anew = {
        each.resource for each in replicas.told(led) if each.pod == standby and each.verb == "list"
    }
    assert not anew & READ, "it had read everything"
    wait_until_ready(replicas.plane)
    return (led - released).total_seconds(), (led - asked).total_seconds()


def the_leader_crashes(replicas, town, undisturbed):
    """Return who leads then, and the seconds until it does.

    The Lease is its pod's: started again it need not wait, if its kubelet is faster than the Lease.
    """
    leader, standby = replicas.leader(), replicas.standby()
    pod, node = replicas.pod(leader), replicas.node(leader)
    commit, at = roll_to_the_canary(town, 3)
    died = kill(pod["metadata"]["uid"], node, all_of_it=False)

    def leads():
        found = {name: replicas.first_lead(name, died) for name in (leader, standby)}
        return next(((name, led) for name, led in found.items() if led), None)

    name, led = town.wait(leads, "one leads", within=PATIENCE)
    wait_until_good(town, commit)
    town.wait(lambda: replicas.restarts(leader) == 1, "it is started again", within=PATIENCE)

    assert replicas.changes(at) == undisturbed
    assert replicas.writers(at) == list(dict.fromkeys([leader, name]))
    wait_until_ready(replicas.plane)
    return "it" if name == leader else "the other", (led - died).total_seconds()


def the_leaders_node_dies(replicas, town, undisturbed):
    """Return the seconds to the other's lead."""
    leader, standby = replicas.leader(), replicas.standby()
    pod, node = replicas.pod(leader), replicas.node(leader)
    commit, at = roll_to_the_canary(town, 4)
    node.kill_kubelet()
    died = kill(pod["metadata"]["uid"], node, all_of_it=True)
    led = town.wait(lambda: replicas.first_lead(standby, at), "the other leads", within=PATIENCE)
    node.start_kubelet()
    wait_until_good(town, commit)

    counted = max(died, replicas.saw(standby, replicas.last_lead(leader)))
    assert (led - counted).total_seconds() < DEATH_SECONDS, "a starved machine looks late"
    assert replicas.changes(at) == undisturbed
    assert replicas.writers(at) == [leader, standby]
    return (led - died).total_seconds()


def the_leaders_node_is_drained(replicas, town):
    """One that is left alone is not evicted, and leads."""
    wait_until_ready(replicas.plane)
    leader, standby, since = replicas.leader(), replicas.standby(), datetime.now(UTC)
    name = replicas.node(leader).name
    shipped.kubectl(
        replicas.plane, "drain", name, "--ignore-daemonsets", "--delete-emptydir-data",
        "--timeout=60s", "--pod-selector=app.kubernetes.io/name=dsgitops",
    )  # fmt: skip
    town.wait(lambda: replicas.first_lead(standby, since), "the other leads", within=PATIENCE)

    assert eviction(replicas.plane, standby) == TOO_MANY_REQUESTS
    shipped.kubectl(replicas.plane, "uncordon", name)
    wait_until_ready(replicas.plane)


def eviction(plane, name):
    """Ask for the eviction of an agent's pod; return the answer's code."""
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
    transport = connect(str(plane.kubeconfig))
    asked = Request(
        method="POST", path=f"/api/v1/namespaces/{AGENTS}/pods/{name}/eviction",
        headers={"Content-Type": "application/json"}, body=json.dumps(body).encode(),
    )  # fmt: skip
    try:
        return transport.send(asked).status
    finally:
        transport.close()
