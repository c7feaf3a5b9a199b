"""Manifests as people have them: the example repository, and those of public projects."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from cluster.team import team_on

pytestmark = pytest.mark.timeout(300)
ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "repo" / "clusters" / "prod"
CORPUS = ROOT.parent / "shared" / "corpus"
IN_CORPUS = 23
"""Of its 26 DaemonSets: two are of `extensions/v1beta1`, one has no selector."""
SETTINGS = {"rollout": {"canary": {"nodes": 1, "bakeTime": "1s"}, "bakeTime": "1s"}}
PLACES = 12
"""Nodes; several agents with one host port cannot share a node, so each corpus file has its own."""


@pytest.fixture
def shapes(control_plane, tmp_path):
    with team_on(control_plane, tmp_path, settings=SETTINGS) as made:
        yield made


def daemonsets(text: str) -> list[dict]:
    """Return those that an API server of today takes."""
    found = [each for each in yaml.safe_load_all(text) if each and each["kind"] == "DaemonSet"]
    return [
        each for each in found if each["apiVersion"] == "apps/v1" and each["spec"].get("selector")
    ]


def example_files() -> dict[str, str]:
    return {str(path.relative_to(EXAMPLES)): path.read_text() for path in EXAMPLES.rglob("*.yaml")}


def corpus(plane, namespace: str) -> list[dict]:
    """Return each with a name, a namespace and a node of its own, else as it is."""
    found = []
    for path in sorted(CORPUS.glob("*.yaml")):
        for each in daemonsets(path.read_text()):
            number = len(found)
            plane.label_node(f"node-{number % PLACES:04}", corpus=str(number % PLACES))
            each["metadata"] |= {"name": f"agent-{number}", "namespace": namespace}
            pod = each["spec"]["template"]["spec"]
            pod["nodeSelector"] = pod.get("nodeSelector", {}) | {"corpus": str(number % PLACES)}
            found.append(each)
    return found


def key(found: dict) -> tuple[str, str]:
    return found["metadata"]["namespace"], found["metadata"]["name"]


def live(team, wanted: list[dict]) -> dict[tuple[str, str], dict]:
    items = team.plane.call("GET", "/apis/apps/v1/daemonsets")["items"]
    places = {key(each) for each in wanted}
    return {key(each): each for each in items if key(each) in places}


def pods(team, wanted: list[dict]) -> dict[str, bool]:
    """Return whether each pod is ready, by UID."""
    places = {key(each) for each in wanted}
    found = {}
    for each in team.plane.call("GET", "/api/v1/pods")["items"]:
        owners = each["metadata"].get("ownerReferences")
        if owners and (each["metadata"]["namespace"], owners[0]["name"]) in places:
            conditions = {
                one["type"]: one["status"] for one in each["status"].get("conditions", [])
            }
            found[each["metadata"]["uid"]] = conditions.get("Ready") == "True"
    return found


def is_synced(agent, wanted: list[dict]) -> bool:
    """Whether the agent says of each that nothing is left to do."""
    said = [agent.reasons(each["metadata"]["name"])[-1:] for each in wanted]
    return all(each in (["InSync"], ["RolloutFinished"]) for each in said)


def is_whole(team, wanted: list[dict]) -> bool:
    """Whether every DaemonSet has all its pods, and those are available."""
    states = [each["status"] for each in live(team, wanted).values()]
    return len(states) == len(wanted) and all(
        each.get("observedGeneration")
        and each.get("numberAvailable", 0) == each["desiredNumberScheduled"]
        for each in states
    )


def sync(team, wanted: list[dict]) -> None:
    with team.agent() as agent:
        team.wait(
            lambda: is_synced(agent, wanted) and is_whole(team, wanted),
            "all are in sync",
            within=180,
        )


def writes(team) -> list[str]:
    """Return what agents wrote so far to DaemonSets and pods; Events are news, not changes."""
    return [
        each.path
        for each in team.plane.requests("dsgitops")
        if each.writes and ("/daemonsets/" in each.path or "/pods/" in each.path)
    ]


def a_second_turn_writes_nothing(team, wanted: list[dict]) -> None:
    before, made = live(team, wanted), writes(team)
    team.turn()
    assert writes(team) == made
    assert live(team, wanted) == before


@pytest.fixture
def example_team(shapes):
    """The example repository as it is, with the namespaces that it names."""
    wanted = [each for text in example_files().values() for each in daemonsets(text)]
    namespaces = sorted({each["metadata"]["namespace"] for each in wanted})
    for namespace in set(namespaces) - {"kube-system"}:
        shapes.plane.make_namespace(namespace)
    shapes.settings = SETTINGS | {"namespaces": namespaces}
    shapes.repository.commit(example_files(), message="the example")
    yield shapes, wanted
    for namespace, name in map(key, wanted):
        shapes.kubectl(
            "delete", "daemonset", name, f"--namespace={namespace}", "--ignore-not-found"
        )
    for namespace in set(namespaces) - {"kube-system"}:
        shapes.plane.delete_namespace(namespace)


def test_the_example_repository_syncs_from_empty_and_a_second_turn_writes_nothing(
    example_team, prove
):
    team, wanted = example_team

    sync(team, wanted)

    assert len(wanted) == 7
    assert all(pods(team, wanted).values())
    a_second_turn_writes_nothing(team, wanted)
    prove(
        scenario="the example repository from empty", nodes="12 kwok",
        outcome=f"{len(wanted)} of {len(wanted)} in sync; a second turn writes nothing",
        restarted="0",
    )  # fmt: skip


@pytest.fixture
def corpus_team(shapes):
    """Each valid DaemonSet of the corpus, in one namespace."""
    if not CORPUS.exists():
        pytest.skip(f"no corpus: {os.path.relpath(CORPUS, ROOT)} is not there")
    wanted = corpus(shapes.plane, shapes.namespace)
    shapes.commit(*wanted)
    return shapes, wanted


def test_each_valid_daemonset_of_the_corpus_syncs_and_a_second_turn_writes_nothing(
    corpus_team, prove
):
    team, wanted = corpus_team

    sync(team, wanted)

    assert len(wanted) == IN_CORPUS
    a_second_turn_writes_nothing(team, wanted)
    prove(
        scenario="DaemonSets of public projects from empty", nodes="12 kwok",
        outcome=f"{len(wanted)} of {len(wanted)} in sync; a second turn writes nothing",
        restarted="0",
    )  # fmt: skip


def test_a_first_start_over_daemonsets_that_equal_git_restarts_no_pod(corpus_team, prove):
    team, wanted = corpus_team
    team.kubectl("apply", "-f", "-", given={"apiVersion": "v1", "kind": "List", "items": wanted})
    team.wait(lambda: is_whole(team, wanted), "they are there")
    before = pods(team, wanted)

    sync(team, wanted)

    assert before
    assert pods(team, wanted) == before
    assert {each["metadata"]["generation"] for each in live(team, wanted).values()} == {1}
    a_second_turn_writes_nothing(team, wanted)
    prove(
        scenario="DaemonSets of public projects that kubectl applied are adopted", nodes="12 kwok",
        outcome=f"{len(wanted)} of {len(wanted)} in sync", restarted=f"0 of {len(before)}",
    )  # fmt: skip
