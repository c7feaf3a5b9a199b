"""What the shipped pod takes: ten idle minutes with a hundred DaemonSets, and a sync of a thousand.

Both pods live side by side, each by an overlay of its own.  The idle one has a token that lasts ten
minutes, so that its kubelet has to renew it under way (at 80 % of its time).
"""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
import yaml
from cluster import audit
from cluster.installation import (
    AGENTS,
    MANAGED,
    PATIENCE,
    installed,
    logs_of,
    pod_of,
    secret,
    telling,
)  # fmt: skip
from cluster.shipped import DEPLOY
from cluster.team import NODES, Team
from cluster.usage import Meter, cgroup_of
from git_repositories import Web, https_server

pytestmark = pytest.mark.timeout(1500)
IDLE_DAEMONSETS, MANY_DAEMONSETS = 100, 1000
IDLE_SECONDS = 600
TOKEN_SECONDS = 600
"""The shortest that the API server gives; kubelets renew it after 480."""
OTHERS = "node-agents"
"""The namespace of the overlay per-namespace."""
PASSWORD = "soak"
SOURCE = {"name": "agents", "ref": {"branch": "main"}, "interval": "30s"}
"""Polled as by default."""
_TOKENS = "/var/run/secrets/kubernetes.io/serviceaccount"


def shipped_resources() -> tuple[dict, dict]:
    """Return the requests and limits of the shipped Deployment."""
    deployment = yaml.safe_load((DEPLOY / "base" / "deployment.yaml").read_text())
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return container["resources"]["requests"], container["resources"]["limits"]


REQUESTS, LIMITS = shipped_resources()


def mib(quantity: str) -> int:
    return int(quantity.removesuffix("Mi"))


@dataclass
class Installed:
    """An agent in a pod, and the team whose DaemonSets it keeps."""

    team: Team
    pod: dict
    meter: Meter
    where: str
    """The agent's own namespace."""

    def answered(self, since: datetime) -> list[audit.Told]:
        """Return the account's requests since a moment."""
        return audit.told_by(self.team.plane, audit.account(self.where, "dsgitops"), since)

    def errors(self) -> list[str]:
        """Return the errors of the agent's log; a starved machine may well bring warnings."""
        (log,) = logs_of(self.team.plane, self.where)
        lines = [line.split(" ", 3)[3] for line in log.read_text().splitlines()]
        said = [json.loads(line) for line in lines if line.startswith("{")]
        return [each["message"] for each in said if each["level"] == "error"]

    def restarts(self) -> int:
        status = pod_of(self.team.plane, self.where)["status"]
        return status["containerStatuses"][0]["restartCount"]


def own_token(seconds):
    """Return a patch: the token of the pod lasts so long, and the pod is on a real node."""
    path = {"serviceAccountToken": {"path": "token", "expirationSeconds": seconds}}
    authority = {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}
    namespace = {"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}
    sources = [path, {"configMap": authority}, {"downwardAPI": {"items": [namespace]}}]
    mount = {"name": "token", "mountPath": _TOKENS, "readOnly": True}
    pod = {
        "automountServiceAccountToken": False,
        "containers": [{"name": "dsgitops", "volumeMounts": [mount]}],
        "volumes": [{"name": "token", "projected": {"sources": sources}}],
    }
    return on_real_nodes(**pod)


def on_real_nodes(**pod):
    body = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "dsgitops"},
        "spec": {"template": {"spec": {"nodeSelector": {"pool": "real"}, **pod}}},
    }
    return [{"target": {"kind": "Deployment"}, "patch": yaml.safe_dump(body)}]


@pytest.fixture(scope="module")
def plane(image_plane):
    """Two real nodes for the agents, and fake ones for pods by the hundred."""
    for name in image_plane.add_nodes(NODES):
        image_plane.label_node(name, pool="team")
    image_plane.make_namespace(OTHERS)
    return image_plane


@pytest.fixture(scope="module")
def idle(plane, tmp_path_factory):
    """A hundred DaemonSets with a pod on each of five nodes; nothing is left to do."""
    with ExitStack() as stack:
        made = install(
            stack, plane, tmp_path_factory.mktemp("idle"), "standalone",
            namespace=MANAGED, where=AGENTS,
            patches=own_token(TOKEN_SECONDS),
        )  # fmt: skip
        team = made.team
        stack.enter_context(telling(plane))
        team.commit(*(team.manifest(name) for name in names(IDLE_DAEMONSETS)))
        team.wait(lambda: all_done(team, IDLE_DAEMONSETS), "all are good", within=PATIENCE)
        yield Rest(made, datetime.now(UTC), made.meter.now.cpu)


@dataclass(frozen=True)
class Rest:
    """An agent that has nothing to do, and since when."""

    agent: Installed
    since: datetime
    cpu: float
    """Seconds of the pod until then."""


def install(stack, plane, folder, overlay, *, namespace, where, **kustomization):
    """Install an overlay for a team, whose repository is read over https."""
    team = Team(plane, namespace, folder, pool="team", nodes=NODES)
    web = Web(root=folder, user="git", password=PASSWORD)
    url, certificate = stack.enter_context(https_server(web, folder, plane.address))
    secret(plane, where, password=PASSWORD, **{"ca.crt": certificate.read_text()})
    files = {"passwordFile": "/etc/dsgitops/git/password", "caFile": "/etc/dsgitops/git/ca.crt"}
    source = SOURCE | {"url": f"{url}/node-agents.git", "auth": {"https": files}}
    settings = {"namespaces": [namespace], "sources": [source]}
    team.commit(team.manifest(names(1)[0]))
    stack.enter_context(
        installed(plane, folder / "mine", overlay, settings, where=where, **kustomization)
    )
    pod = pod_of(plane, where)
    meter = stack.enter_context(Meter(cgroup_of(plane, pod)))
    return Installed(team, pod, meter, where)


def names(count):
    return [f"agent-{number:04}" for number in range(count)]


def all_done(team, count):
    """Whether each was written, watched for its time, and is at rest."""
    found = [json.loads(each) for each in records(team)]
    return len(found) == count and all(each.get("phase") == "Idle" for each in found)


def records(team):
    annotated = [
        each["metadata"].get("annotations", {}) for each in team._list("apps/v1", "daemonsets")
    ]
    return [each["dsgitops.io/record"] for each in annotated if "dsgitops.io/record" in each]


def test_a_thousand_daemonsets_are_synced_within_what_the_pod_may_take(
    plane, idle, tmp_path, prove
):
    with ExitStack() as stack:
        many = install(
            stack,
            plane,
            tmp_path,
            "per-namespace",
            namespace=OTHERS,
            where=OTHERS,
            patches=on_real_nodes(),
        )
        stack.enter_context(telling(plane, OTHERS))
        team, before = many.team, many.meter.now
        team.pool = "none"
        team.commit(*(team.manifest(name) for name in names(MANY_DAEMONSETS)))
        begun = time.monotonic()
        team.wait(lambda: len(records(team)) == MANY_DAEMONSETS, "all are made", within=PATIENCE)
        applied = time.monotonic() - begun
        team.wait(lambda: all_done(team, MANY_DAEMONSETS), "all are good", within=PATIENCE)
        took, cpu, after = time.monotonic() - begun, many.meter.cpu, many.meter.now
        peak, restarts, errors = many.meter.peak, many.restarts(), many.errors()

    assert (restarts, errors) == (0, [])
    assert peak < mib(REQUESTS["memory"])
    assert 2 * peak < mib(LIMITS["memory"]), "git has as much again, and more"
    prove(
        scenario=f"the pod of the overlay per-namespace makes {MANY_DAEMONSETS} DaemonSets",
        nodes="2 real",
        outcome=f"made after {applied:.0f} s, good after {took:.0f} s; {cpu:.0f} s of CPU,"
        f" {before.memory:.0f} MiB before it, {after.memory:.0f} after, peak {peak:.0f}",
        writes=len(team.writes("agent")),
    )


def test_ten_idle_minutes_cost_little_and_the_renewed_token_is_used(plane, idle, prove):
    agent, ends = idle.agent, idle.since + timedelta(seconds=IDLE_SECONDS)
    with telling(plane):
        used = agent.team.wait(
            lambda: datetime.now(UTC) >= ends and two_tokens(agent, idle.since),
            "ten minutes are over, and the second token is used",
            within=IDLE_SECONDS + PATIENCE,
        )  # fmt: skip
        seconds = (datetime.now(UTC) - idle.since).total_seconds()
        millicores = 1000 * (agent.meter.now.cpu - idle.cpu) / seconds
        memory, peak = agent.meter.now.memory, agent.meter.peak

        told = agent.answered(idle.since)
        assert {(each.verb, each.resource) for each in told if each.writes} == {
            ("update", "leases")
        }
        assert not {each.code for each in told} & {401, 403}
        assert (agent.restarts(), agent.errors()) == (0, [])
        assert len(used) == 2
        assert millicores < int(REQUESTS["cpu"].removesuffix("m"))
        assert memory < mib(REQUESTS["memory"])
    prove(
        scenario=f"the pod of the overlay standalone at rest for {seconds / 60:.0f} minutes:"
        f" {IDLE_DAEMONSETS} DaemonSets, a token of {TOKEN_SECONDS} s",
        nodes=f"{NODES} kwok, 2 real",
        outcome=f"{millicores:.0f} m CPU, {memory:.0f} MiB, peak with their creation {peak:.0f};"
        " no write but the Lease; the kubelet renewed the token, and the agent used it",
        writes=0,
        restarted="none",
    )


def two_tokens(agent, since):
    """Return the tokens that were used, in their order; nothing while it is only one."""
    found = list(dict.fromkeys(each.token for each in agent.answered(since)))
    return found if len(found) > 1 else []
