"""The agent killed at any moment of a failing rollout, left without Git, and left in peace.

Each rollout fails alike (no node can hold the new pods), so that a run that was disturbed can be
held against one that was not: the same state, made by the same writes.  What takes minutes of
doing nothing goes on beside the kills, for teams of their own.
"""

from __future__ import annotations

import json
import signal
import time
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import TYPE_CHECKING

import pytest
from cluster import audit, shipped
from cluster.team import NODES, WAIT_SECONDS, team_on
from cluster.toll import Tolls, watched
from git_repositories import free_port, git_daemon
from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from pathlib import Path

    from cluster.team import Team

MOMENTS = 20
"""Before it is over: a kill that comes when all is done counts for none of them."""
MOMENTS_EACH = 3
BEGUN = "Git moved"
BEGINS = {"Canary": BEGUN, "RollingBack": '"reason": "RollingBack"'}
"""In each of these phases at least so many fall; what the agent says when it begins."""
SIDE_BY_SIDE = 10
SEED = 20
IDLE_DAEMONSETS = 100
IDLE_SECONDS = 120.0
AWAY_SECONDS = 60.0
BEGINS_WITHIN = 20.0
NEW = "registry.example/agent:2"


@dataclass(frozen=True)
class Ending:
    """All that a failing rollout leaves behind; nothing in it differs from run to run."""

    phase: str
    held: tuple[tuple[str, str], ...]
    """Class and image of what is in quarantine."""
    revisions: tuple[tuple[str, int], ...]
    """Name and number: the good one is numbered anew by the one rollback."""
    images: tuple[str, ...]
    replaced: int
    """Nodes whose pod is another one than before the commit."""
    restarts: str
    """Pods made there and back, by the events of a watch."""
    most_taken: int
    """Nodes at once."""
    writes: tuple[str, ...]
    """Of both agents, from the one that carried the bad commit on, in order."""


@dataclass
class Story:
    """One team whose bad commit is pushed."""

    team: Team
    tolls: Tolls = field(default_factory=Tolls)
    before: frozenset[str] = frozenset()
    """UIDs of the good pods."""
    killed_in: str = ""
    sent: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Requests of its agent until then."""

    def begin(self) -> None:
        self.team.commit(self.team.manifest(), message="good")
        self.team.start_agent()

    def push(self) -> None:
        greedy = {"requests": {"cpu": "64"}}
        self.team.commit(self.team.manifest(image=NEW, resources=greedy), message="bad")

    def kill(self, begins: str, seconds: float) -> int:
        """Kill its agent so long after it said that; return its exit code."""
        agent = self.team.agents[-1]
        for said, within in ((BEGUN, BEGINS_WITHIN), (begins, WAIT_SECONDS)):
            ends = time.monotonic() + within
            while said not in agent.log.read_text():
                assert time.monotonic() < ends, f"it does not say {said}"
                time.sleep(0.005)
        time.sleep(seconds)
        agent.kill()
        return agent.process.returncode

    def took(self, begins: str) -> float:
        """Return how many seconds after it said that its agent had rolled back."""
        lines = self.team.agents[-1].log.read_text().splitlines()
        said = (begins, '"reason": "RolledBack"')
        first, last = (next(line for line in lines if each in line) for each in said)
        began, over = (datetime.fromisoformat(json.loads(line)["ts"]) for line in (first, last))
        return (over - began).total_seconds()

    def start_again(self) -> None:
        """See how far the agent came that was killed, and start another."""
        self.killed_in = self.team.record()["phase"]
        self.team.start_agent()

    def wait_until_over(self) -> None:
        self.team.wait(lambda: self.team.record().get("phase") == "Held", "it is rolled back")
        self.team.wait(self.team.all_ready, "all pods are ready again")
        self.team.wait(self.team.numbered_anew, "what they wear is the newest revision")

    def end(self) -> None:
        """Let the agent end in order: then nothing is in flight any more."""
        self.team.agents[-1].process.terminate()
        self.team.agents[-1].process.wait(15)

    def ending(self) -> Ending:
        """Return what is left of it."""
        team, record, writes = self.team, self.team.record(), self.team.changes()
        _created, forward, *_ = (at for at, each in enumerate(writes) if "force=true" in each)
        fleet = team.fleet()
        return Ending(
            phase=record["phase"],
            held=tuple((each["class"], each["hash"]) for each in record["quarantine"]),
            revisions=tuple(sorted(team.revisions().items())),
            images=tuple(pod.image for pod in fleet),
            replaced=len(self.before - {pod.uid for pod in fleet}),
            restarts=self.tolls["agent"].there_and_back,
            most_taken=self.tolls["agent"].most_taken,
            writes=tuple(writes[forward:]),
        )


def _stories(stack, plane, folder, count, **options):
    """Teams with a good commit that is baked, and an agent each."""
    made = []
    for number in range(count):
        place = folder / str(number)
        place.mkdir(parents=True, exist_ok=True)
        team = stack.enter_context(team_on(plane, place, **options))
        story = Story(team, stack.enter_context(watched(plane, team.namespace)))
        stack.callback(lambda story=story: story.team.agents[-1].kill())
        story.begin()
        made.append(story)
    for story in made:
        story.team.wait(lambda story=story: _is_good(story.team), "the good commit is baked")
        story.before = frozenset(story.team.pods())
    return made


def _is_good(team):
    return team.record().get("phase") == "Idle" and bool(team.record().get("lastGood"))


# ---------------------------------------------------------------------------- set the world


@pytest.fixture(scope="module")
def plane(control_plane):
    for number in range(NODES):
        control_plane.label_node(f"node-{number:04}", pool="team")
    return control_plane


@pytest.fixture(scope="module")
def expected(plane, tmp_path_factory):
    """How it ends where nobody disturbs, and how many seconds each of `BEGINS` is before that."""
    with ExitStack() as stack:
        calm = _stories(stack, plane, tmp_path_factory.mktemp("calm"), SIDE_BY_SIDE)
        for story in calm:
            story.push()
        for story in calm:
            story.wait_until_over()
            story.end()
        (found,) = {story.ending() for story in calm}
        took = {each: min(story.took(each) for story in calm) for each in BEGINS.values()}
    assert (found.phase, found.replaced) == ("Held", 1)
    assert (found.restarts, found.most_taken) == ("1 + 1", 1)
    return found, took


@dataclass
class GitServer:
    """`git daemon` on loopback, which comes and goes at one address."""

    folder: Path
    port: int = field(default_factory=free_port)
    _up: ExitStack = field(default_factory=ExitStack)

    @property
    def url(self) -> str:
        return f"git://127.0.0.1:{self.port}/node-agents.git"

    def start(self) -> None:
        self._up.enter_context(git_daemon(self.folder, port=self.port))

    def stop(self) -> None:
        self._up.close()


@dataclass
class Since:
    """What began a while ago and goes on by itself."""

    story: Story
    moment: float = field(default_factory=time.monotonic)
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    server: GitServer | None = None

    def wait(self, seconds: float) -> None:
        """Wait until it has gone on for so long."""
        time.sleep(max(0.0, self.moment + seconds - time.monotonic()))


@pytest.fixture(scope="module")
def without_git(plane, tmp_path_factory):
    """A team whose Git server goes away when the bad commit has just arrived."""
    folder = tmp_path_factory.mktemp("without-git")
    server = GitServer(folder / "0")
    with ExitStack() as stack:
        server.folder.mkdir()
        server.start()
        stack.callback(server.stop)
        (story,) = _stories(stack, plane, folder, 1, settings={"source": {"url": server.url}})
        story.push()
        story.team.wait(lambda: story.team.record()["phase"] != "Idle", "the bad commit is here")
        server.stop()
        yield Since(story, server=server)


@pytest.fixture(scope="module")
def idle(plane, tmp_path_factory):
    """A team of a hundred DaemonSets that are as Git has them; its agent has an account."""
    names = [f"agent-{number:03}" for number in range(IDLE_DAEMONSETS)]
    folder = tmp_path_factory.mktemp("idle")
    with team_on(plane, folder, settings={"leaderElection": "on"}) as team:
        shipped.grant(team, shipped.rendered(team, shipped.own_namespace(team, folder / "mine")))
        team.kubeconfig = shipped.kubeconfig_of_account(team, folder / "kubeconfig.json")
        team.commit(*(team.manifest(name) for name in names))
        with team.agent() as agent:
            team.wait(lambda: _all_good(team, names), "all are good", within=300)
            _wait_until_silent(team, agent)
            yield Since(Story(team, sent=_sent(agent)))


def _all_good(team, names):
    path = f"/apis/apps/v1/namespaces/{team.namespace}/daemonsets"
    found = [each["metadata"]["annotations"] for each in team.plane.call("GET", path)["items"]]
    phases = [json.loads(each["dsgitops.io/record"])["phase"] for each in found]
    return phases == ["Idle"] * len(names)


def _wait_until_silent(team, agent):
    """Wait until what was said of the last change is said: for three seconds only the lease."""

    def silent():
        before = _sent(agent)
        time.sleep(3)
        return {resource for _, resource in _sent(agent) - before} <= {"leases"}

    team.wait(silent, "nothing is left to say")


def _sent(agent):
    """Return how many requests an agent has sent, by verb and resource, as it counts them."""
    (port,) = (
        each["message"].rpartition(" ")[2]
        for each in agent.lines
        if each["message"].startswith("health and metrics are on port")
    )
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    return Counter({
        (sample.labels["verb"], sample.labels["resource"]): int(sample.value)
        for family in families
        for sample in family.samples
        if sample.name == "dsgitops_api_requests_total"
    })  # fmt: skip


# ---------------------------------------------------------------------------- the stories


@pytest.mark.usefixtures("without_git", "idle")
@pytest.mark.timeout(1200)
def test_a_kill_at_any_moment_of_a_failing_rollout_changes_neither_its_end_nor_its_writes(
    plane, tmp_path, prove, expected
):
    ending, took = expected
    rng, met = Random(SEED), Counter()

    def next_ones():
        """Return what each of the next kills waits for."""
        if (lacking := MOMENTS - met.total() + met["Held"]) > 0:
            return [BEGUN] * min(lacking, SIDE_BY_SIDE)
        return [
            begins for phase, begins in BEGINS.items() for _ in range(MOMENTS_EACH - met[phase])
        ]

    while after := next_ones():
        assert met.total() < 2 * MOMENTS, f"too many came too late: {met}"
        with ExitStack() as stack:
            stories = _stories(stack, plane, tmp_path / str(met.total()), len(after))
            moments = [rng.uniform(0, took[begins]) for begins in after]
            with ThreadPoolExecutor(SIDE_BY_SIDE) as crowd:
                kills = []
                for story, begins, moment in zip(stories, after, moments, strict=True):
                    story.push()
                    kills.append(crowd.submit(story.kill, begins, moment))
            assert {kill.result() for kill in kills} == {-signal.SIGKILL}
            for story in stories:
                story.start_again()
            for story in stories:
                story.wait_until_over()
                story.end()
                met[story.killed_in] += 1
                assert story.ending() == ending, f"killed in {story.killed_in}"

    phases = ", ".join(f"{count} in {phase}" for phase, count in sorted(met.items()))
    prove(
        scenario=f"the agent is killed at {met.total()} random moments of a failing rollout",
        nodes=f"{NODES} kwok",
        outcome=f"RolledBack, {ending.held[0][0]}, each time ({phases})",
        writes=len(ending.writes),
        restarted=ending.restarts,
        beside="undisturbed: the same writes, revisions, pods and quarantine",
    )


@pytest.mark.timeout(600)
def test_a_rollout_fails_and_goes_back_as_well_while_git_is_away_and_then_git_is_followed_again(
    without_git, expected, prove
):
    story = without_git.story
    story.wait_until_over()
    without_git.wait(AWAY_SECONDS)

    ending, _ = expected
    assert story.ending() == ending
    team = story.team
    told = [each["message"] for each in team.agents[-1].lines]
    assert sum("cannot be read" in each for each in told) == 1
    without_git.server.start()
    third = team.commit(team.manifest(image="registry.example/agent:3"))
    team.wait_until_good(third)
    prove(
        scenario=f"the Git server is away for {AWAY_SECONDS:.0f} s in mid-rollout",
        nodes=f"{NODES} kwok",
        outcome=f"RolledBack, {ending.held[0][0]}; said once: the source cannot be read",
        writes=len(ending.writes),
        restarted=ending.restarts,
        beside="undisturbed: the same writes, revisions, pods and quarantine",
    )


@pytest.mark.timeout(1200)
def test_where_nothing_happens_nothing_is_listed_and_nothing_but_the_lease_is_written(idle, prove):
    team = idle.story.team
    idle.wait(IDLE_SECONDS)

    sent = _sent(team.agents[-1]) - idle.story.sent
    seconds = time.monotonic() - idle.moment
    assert sent["update", "leases"] > 0
    assert {verb for verb, resource in sent if resource != "leases"} <= {"watch"}
    asked = audit.told_by(team.plane, audit.account(team.namespace, shipped.ACCOUNT), idle.at)
    assert {each.resource for each in asked if each.writes} == {"leases"}
    assert {each.verb for each in asked if each.resource != "leases"} <= {"watch"}
    assert "list" not in {each.verb for each in asked}, "of nothing, nodes included"
    others = sum(count for (_, resource), count in sent.items() if resource != "leases")
    prove(
        scenario=f"{IDLE_DAEMONSETS} DaemonSets at rest for {seconds:.0f} s",
        nodes=f"{NODES} kwok",
        outcome=f"{sent['update', 'leases']} renewals of the lease, {others} other requests",
        writes=0,
        restarted="none",
    )
