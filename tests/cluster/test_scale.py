"""Many DaemonSets, and one DaemonSet on many nodes: what the agent asks, and what it takes.

The memory is the agent's own (`VmHWM`, its children not counted); requests are the API server's
count of them.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cluster.team import NODES, team_on
from cluster.toll import watched

DAEMONSETS = 500
MANY_NODES = 1000
BATCH = 250
"""Nodes that join at a time: kwok says of each that it is Ready."""
ANNOTATION = "dsgitops.io/record"
CONFLICT = 409
PEAK_MIB_MAX = 96
"""The goal for a fleet of this size (`bench/memory.py` measures it beside a floor)."""
PATIENCE = 400.0
NEW = "registry.example/agent:2"


@pytest.fixture(scope="module")
def plane(own_plane):
    for name in own_plane.add_nodes(NODES):
        own_plane.label_node(name, pool="team")
    return own_plane


def peak_mib(agent):
    text = Path(f"/proc/{agent.process.pid}/status").read_text()
    (line,) = (each for each in text.splitlines() if each.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def requests(team, since=None):
    """Return how many requests of each verb the team's agents sent (since a moment)."""
    found = team.plane.requests("dsgitops")
    return Counter(each.verb for each in found if since is None or each.ended >= since)


def said(verbs):
    return ", ".join(f"{count} {verb}" for verb, count in verbs.most_common())


def records(team):
    """Return the record of every DaemonSet of the team."""
    path = f"/apis/apps/v1/namespaces/{team.namespace}/daemonsets"
    found = [each["metadata"] for each in team.plane.call("GET", path)["items"]]
    return [json.loads(each["annotations"][ANNOTATION]) for each in found]


@pytest.mark.timeout(900)
def test_500_daemonsets_are_made_from_empty_without_a_read(plane, tmp_path, prove):
    with team_on(plane, tmp_path) as team:
        names = [f"agent-{number:03}" for number in range(DAEMONSETS)]
        first = team.commit(*(team.manifest(name) for name in names))
        begun = time.monotonic()
        with team.agent() as agent:
            team.wait(lambda: len(records(team)) == DAEMONSETS, "all are made", within=PATIENCE)
            applied = time.monotonic() - begun
            team.wait(
                lambda: all(is_good(each, first) for each in records(team)),
                "all are good",
                within=PATIENCE,
            )
            took, peak, verbs = time.monotonic() - begun, peak_mib(agent), requests(team)

    changed = Counter(path for path in written(team) if "fieldManager=dsgitops&" in path)
    assert len(changed) == DAEMONSETS
    assert set(changed.values()) == {1}
    assert reads_without_a_conflict(team) == []
    assert peak < PEAK_MIB_MAX
    prove(
        scenario=f"{DAEMONSETS} DaemonSets from empty",
        nodes=f"{NODES} kwok",
        outcome=f"all made after {applied:.0f} s and good after {took:.0f} s,"
        f" peak {peak:.0f} MiB, requests: {said(verbs)}",
        writes=len(written(team)),
        restarted="none",
    )


def is_good(record, commit):
    return record.get("phase") == "Idle" and record["commit"].endswith(commit)


def written(team):
    """Return the paths of the writes to DaemonSets and pods that took effect."""
    places = [f"/{team.namespace}/{kind}/" for kind in ("daemonsets", "pods")]
    return [
        each.path
        for each in team.plane.requests("dsgitops")
        if each.changed and any(place in each.path for place in places)
    ]


def reads_without_a_conflict(team):
    """Return the paths of DaemonSets that were read though no write of them was refused before.

    The controller may change one in the moment in which we write its record: that is read anew.
    """
    refused, found = Counter(), []
    for each in team.plane.requests("dsgitops"):
        if f"/{team.namespace}/daemonsets/" not in each.path:
            continue
        path = each.path.partition("?")[0]
        refused[path] += each.code == CONFLICT
        if each.verb == "get":
            refused[path] -= 1
            found += [path] * (refused[path] < 0)
    return found


@pytest.mark.timeout(900)
def test_a_bad_commit_on_1000_nodes_costs_one_pod(plane, tmp_path, prove):
    for first in range(NODES, MANY_NODES, BATCH):
        plane.add_nodes(min(BATCH, MANY_NODES - first), first=first)
    with team_on(plane, tmp_path, nodes=MANY_NODES) as team:
        good = team.commit(everywhere(team))
        with ExitStack() as stack:
            agent = stack.enter_context(team.agent())
            team.wait(lambda: is_good(team.record(), good), "it is good", within=PATIENCE)
            tolls = stack.enter_context(watched(plane, team.namespace))
            before, since = {pod.node: pod.uid for pod in team.fleet()}, datetime.now(UTC)
            began, made = peak_mib(agent), len(written(team))
            greedy = {"requests": {"cpu": "64"}}
            team.commit(everywhere(team, image=NEW, resources=greedy))
            team.wait(lambda: team.record()["phase"] == "Held", "it is rolled back")
            team.wait(team.all_ready, "every pod is ready again")
            peak, verbs = peak_mib(agent), requests(team, since)
            after = {pod.node: pod.uid for pod in team.fleet()}

    (held,) = team.record()["quarantine"]
    (rollback,) = team.rollbacks("agent")
    toll = tolls["agent"]
    assert (toll.there_and_back, toll.most_taken) == ("1 + 1", 1)
    whole = (toll.whole - rollback).total_seconds()
    assert [node for node in after if after[node] != before[node]] == held["nodes"]
    assert peak < PEAK_MIB_MAX
    prove(
        scenario="a bad commit on a large fleet",
        nodes=f"{MANY_NODES} kwok",
        outcome=f"RolledBack, {held['class']}; every pod ready again {whole:.1f} s after the"
        f" rollback; {began:.0f} MiB before it, peak {peak:.0f} MiB, requests: {said(verbs)}",
        detected=(rollback - toll.first[NEW]).total_seconds(),
        writes=len(written(team)) - made,
        restarted=toll.there_and_back,
    )


def everywhere(team, **container):
    """Return a manifest for all nodes."""
    found = team.manifest(**container)
    del found["spec"]["template"]["spec"]["nodeSelector"]
    return found
