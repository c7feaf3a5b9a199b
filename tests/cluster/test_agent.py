"""The agent itself against Kubernetes itself (`dsgitops run` as a process)."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cluster.team import NODES

CANARY_BAKE = timedelta(seconds=2)
TICK = timedelta(seconds=1)
"""Kubernetes writes when a pod became ready in whole seconds, rounded down."""


def start(team, manifest):
    """Commit the first content; return its hash."""
    return team.commit(manifest, message="first")


def images(team):
    return sorted(set(team.pods().values()))


def test_it_creates_what_git_has_and_rolls_a_good_commit_out_canary_first(team):
    first = start(team, team.manifest())
    with team.agent() as agent:
        team.wait_until_good(first)
        assert len(team.pods()) == NODES
        before = set(team.pods())

        second = team.commit(team.manifest(image="registry.example/agent:2"), message="second")
        team.wait_until_good(second)

        assert images(team) == ["registry.example/agent:2"]
        assert before.isdisjoint(team.pods())
        reasons = agent.reasons("agent")
    assert reasons.index("RolloutStarted") < reasons.index("RolloutFinished")
    deleted = [
        each.ended
        for each in team.plane.requests("dsgitops")
        if each.verb == "delete" and f"/{team.namespace}/pods/" in each.path
    ]
    assert len(deleted) == NODES
    assert deleted[1] - deleted[0] >= CANARY_BAKE - TICK


def test_a_second_turn_over_what_is_in_sync_writes_nothing(team):
    first = start(team, team.manifest())
    with team.agent():
        team.wait_until_good(first)
    live, writes = team.live(), team.writes()

    team.turn()

    assert team.writes() == writes
    assert team.live() == live


@pytest.mark.parametrize(
    "born",
    [
        ["apply", "-f", "-"],
        ["create", "-f", "-"],
        ["apply", "--server-side", "--field-manager=other", "-f", "-"],
    ],
    ids=["client-side apply", "create", "another server-side manager"],
)
def test_an_object_of_another_client_is_adopted_without_a_restart_and_then_follows(
    team, born, prove, request
):
    had = team.manifest(env=[{"name": "OLD", "value": "1"}, {"name": "KEPT", "value": "1"}])
    template = had["spec"]["template"]
    template["metadata"]["labels"] = {"app": "agent", "old": "1"}
    template["spec"]["containers"].append({"name": "old", "image": "registry.example/old:1"})
    template["spec"]["volumes"] = [{"name": "old", "emptyDir": {}}]
    team.kubectl(*born, given=had)
    team.wait(lambda: len(team.pods()) == NODES, "the pods are there")
    before, generation = team.pods(), team.live()["metadata"]["generation"]

    first = start(team, had)
    with team.agent():
        team.wait(lambda: team.record().get("reason") == "InSync", "it is adopted")
        team.wait_until_good(first)
        assert team.pods() == before
        assert team.live()["metadata"]["generation"] == generation
        assert len(team.revisions()) == 1

        second = team.commit(team.manifest(env=[{"name": "KEPT", "value": "1"}]))
        team.wait_until_good(second)

    template = team.live()["spec"]["template"]
    (container,) = template["spec"]["containers"]
    assert container["env"] == [{"name": "KEPT", "value": "1"}]
    assert "volumes" not in template["spec"]
    assert template["metadata"]["labels"] == {"app": "agent"}
    prove(
        scenario=f"born by {request.node.callspec.id}, adopted; the next commit lacks an env, a"
        " container, a volume and a label: they go",
        nodes=f"{NODES} kwok",
        outcome=team.record()["reason"],
        writes=len(team.writes()),
        restarted=f"0 by the adoption, {len(set(team.pods()) - set(before))} by the commit",
    )


def test_a_commit_that_no_node_can_hold_is_rolled_back_and_the_others_are_untouched(team):
    first = start(team, team.manifest())
    with team.agent() as agent:
        team.wait_until_good(first)
        before, revisions = team.pods(), team.revisions()
        (good,) = revisions

        greedy = {"requests": {"cpu": "64"}}
        bad = team.commit(team.manifest(image="registry.example/agent:2", resources=greedy))
        team.wait(
            lambda: "RolledBack" in agent.reasons("agent") and len(team.pods()) == NODES,
            "the bad commit is rolled back",
        )

        assert images(team) == ["registry.example/agent:1"]
        assert len(set(before) & set(team.pods())) == NODES - 1
        assert team.revisions()[good] == 3
        assert len(team.revisions()) == 2
        (held,) = team.record()["quarantine"]
        assert held["commit"].endswith(bad)
        assert held["class"] == "Unschedulable"

        third = team.commit(team.manifest(image="registry.example/agent:3"), message="third")
        team.wait_until_good(third)
        assert images(team) == ["registry.example/agent:3"]
