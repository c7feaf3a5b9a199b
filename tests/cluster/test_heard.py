"""A failing rollout on a real control plane, heard in every place where people listen."""

from __future__ import annotations

import json
import re
import urllib.request

import pytest
from adapters.forges import TOKEN, ForgeServer
from adapters.sink import Sink
from adapters.test_notify import Messenger
from cluster.team import NODES
from cluster.toll import watched


@pytest.fixture
def ears():
    """A Sentry, a messenger and a forge on loopback."""
    made = Sink(), Messenger(), ForgeServer("github")
    yield made
    for each in made:
        each.close()


def listen(team, sink, messenger, forge):
    """Let the team's agent tell them, with its secrets in files."""
    files = {"dsn": sink.dsn, "urls": messenger.url, "token": TOKEN}
    for name, text in files.items():
        (team.folder / name).write_text(text)
        (team.folder / name).chmod(0o600)
    team.settings = {
        "cluster": "prod-eu-1",
        "alerts": {
            "sentry": {"dsnFile": str(team.folder / "dsn"), "environment": "test"},
            "notify": [{"urlFile": str(team.folder / "urls")}],
        },
        "source": {
            "status": {
                "kind": "github",
                "url": forge.url,
                "repository": "acme/agents",
                "tokenFile": str(team.folder / "token"),
            }
        },
    }


def metrics(agent):
    """Return the samples of `/metrics`, by name with labels."""
    port = re.search(r"metrics are on port ([0-9]+)", agent.log.read_text())[1]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))


def test_one_sentence_is_heard_everywhere(team, ears, prove):
    sink, messenger, forge = ears
    listen(team, sink, messenger, forge)
    first = team.commit(team.manifest(), message="first")
    with watched(team.plane, team.namespace) as tolls, team.agent() as agent:
        team.wait_until_good(first)
        greedy = {"requests": {"cpu": "64"}}
        bad = team.commit(team.manifest(resources=greedy), message="ask for 64 processors")
        team.wait(lambda: "RolledBack" in agent.reasons("agent"), "it is rolled back")
        team.wait(lambda: sink.events() and messenger.bodies(), "the alert is out")
        team.wait(lambda: [s for s, _ in forge.states(bad)][-1:] == ["failure"], "the forge knows")
        team.wait(lambda: not team.record().get("alerts"), "the record lets the alert go")

        said = next(line for line in agent.lines if line.get("reason") == "RolledBack")
        sentence = said["message"]
        samples = metrics(agent)
        described = team.kubectl("describe", "daemonset", "agent")
        got = json.loads(team.kubectl("get", "events.events.k8s.io", "-o", "json"))["items"]

    assert said["class"] == "Unschedulable"
    assert (said["nodes_ready"], said["nodes"]) == (NODES, NODES)
    (event,) = (each for each in got if each["reason"] == "RolledBack")
    assert (event["note"], event["type"]) == (sentence, "Warning")
    assert re.search(r"Warning\s+RolledBack\s.*dsgitops\.io/agent", described)
    (alert,) = sink.events()
    assert bad[:7] in alert["logentry"]["formatted"]
    assert sentence in json.dumps(alert)
    assert alert["release"] == bad
    assert alert["fingerprint"][0] == "prod-eu-1"
    assert alert["fingerprint"][-1] == "Unschedulable"
    (message,) = messenger.bodies()
    assert sentence in message["message"]
    state, description = forge.states(bad)[-1]
    assert (state, forge.wrong) == ("failure", [])
    assert bad[:7] in description
    assert forge.states(first)[-1][0] == "success"
    assert samples['dsgitops_decisions_total{reason="RolledBack"}'] == "1.0"
    assert samples['dsgitops_rollbacks_total{reason="Unschedulable",result="done"}'] == "1.0"
    assert samples["dsgitops_quarantined"] == "1.0"
    (info,) = (name for name in samples if name.startswith("dsgitops_daemonset_info"))
    assert 'sync="Held"' in info
    assert f'namespace="{team.namespace}"' in info
    assert tolls["agent"].there_and_back == "1 + 1"
    prove(
        scenario="a failing rollout heard by log, Event, metrics, Sentry, messenger and forge",
        nodes=f"{NODES} kwok",
        outcome="RolledBack, Unschedulable",
        writes=len(team.writes()),
        restarted=tolls["agent"].there_and_back,
    )
