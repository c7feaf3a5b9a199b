"""Two agents, one Lease: who may write, and how long nobody does (`safety.md`, S1).

Each pair of agents is two processes with an account each, so that the API server's audit log tells
them apart: it is the judge.  All pairs are disturbed at once, each in a namespace of its own.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pytest
from cluster import audit
from cluster.team import NODES, SETTINGS, Team, team_on

from dsgitops.adapters.kubernetes.lease import DURATION, RENEW_DEADLINE

if TYPE_CHECKING:
    from cluster.team import Agent

pytestmark = pytest.mark.timeout(400)

CLEAN_SECONDS = 3.0
DEATH_SECONDS = DURATION.total_seconds() + 2
ON_THE_WAY = timedelta(seconds=1)
"""From the agent's look at its clock to the API server's note of the request, on a slow machine."""
END_SECONDS = 10.0
ASLEEP_SECONDS = DURATION.total_seconds() + 5
AWAY_SECONDS = 12.0
SKEW_SECONDS = 600
JUMP_SECONDS = 3000
"""Where the wrong clocks jump to, the other way."""
SLOW = SETTINGS["rollout"] | {"canary": {"nodes": 1, "bakeTime": "14s"}}
"""Longer than a leader leads that can no longer renew."""
SIGTERMS = 20
SIDE_BY_SIDE = 5
UP_SECONDS = 180.0
"""Five starts at a time on a machine that does much else."""
SEED = 6
NEW, NEWER = "registry.example/agent:2", "registry.example/agent:3"
WORK = "leaders-work"
LEASE = "leaders-lease"


# ---------------------------------------------------------------------------- set the world


@dataclass
class Seat(Team):
    """One of two agents of a team: a folder, a cache and an account of its own."""

    name: str = ""
    surroundings: dict[str, str] = field(default_factory=dict)

    def _environment(self) -> dict[str, str]:
        return super()._environment() | {"POD_NAME": self.name} | self.surroundings

    @property
    def agent_now(self) -> Agent:
        return self.agents[-1]

    def signal(self, number: int) -> datetime:
        self.agent_now.process.send_signal(number)
        return datetime.now(UTC)

    def is_up(self) -> bool:
        return any("health and metrics" in each["message"] for each in self.agent_now.lines)

    def ends(self, *, within: float = END_SECONDS) -> int:
        """Return its exit code; it has been asked to end."""
        return self.agent_now.process.wait(within)

    def has_read(self, commit: str) -> bool:
        """Whether its own mirror has a commit."""
        mirrors = [each.parent for each in (self.folder / "cache").rglob("HEAD")]
        return any(_has(mirror, commit) for mirror in mirrors)


def _has(mirror: Path, commit: str) -> bool:
    asked = ["git", "--git-dir", str(mirror), "cat-file", "-e", commit]
    return subprocess.run(asked, check=False, capture_output=True).returncode == 0


@dataclass
class Pair:
    """Two agents of one team; `first` leads when the story begins."""

    team: Team
    first: Seat
    second: Seat
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    """When it was disturbed."""
    commit: str = ""
    """The last one that was pushed, and when."""
    pushed: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def seats(self) -> tuple[Seat, Seat]:
        return self.first, self.second

    def holder(self) -> str:
        found = self.team._list("coordination.k8s.io/v1", "leases")
        held = [each for each in found if each["metadata"]["name"] == "dsgitops"]
        return held[0]["spec"].get("holderIdentity", "") if held else ""

    def begin(self) -> None:
        """Let the first lead and bring a good commit out, and the second stand by."""
        self.team.commit(self.team.manifest(), message="good")
        self.first.start_agent()
        self.first.wait(lambda: self.holder() == self.first.name, "the first leads")
        self.second.start_agent()

    def wait_until_ready(self) -> None:
        self.first.wait(
            lambda: self.team.record().get("phase") == "Idle" and self.team.record()["lastGood"],
            "the good commit is baked",
        )
        self.second.wait(lambda: self.asked("list", by=self.second), "the second looks on")

    def push(self, image: str) -> None:
        self.pushed = datetime.now(UTC)
        self.commit = self.team.commit(self.team.manifest(image=image), message="new")

    def roll(self, image: str = "registry.example/agent:2") -> None:
        """Push a commit and wait until its canary is watched."""
        self.push(image)
        self.first.wait(lambda: self.team.record()["phase"] == "Canary", "the canary is out")

    def wait_until_out(self) -> None:
        self.team.wait_until_good(self.commit)

    def told(self) -> list[audit.Told]:
        """Return every answered request of both; nobody else has an account there."""
        return audit.told_by(self.team.plane, audit.account(self.team.namespace))

    def asked(self, verb: str, *, by: Seat) -> list[audit.Told]:
        return [each for each in self.told() if each.verb == verb and each.account == by.name]

    def taken_over(self) -> datetime | None:
        """Return when the second became the holder; None: not yet."""
        won = [each for each in self.told() if each.renews and each.account == self.second.name]
        return won[0].ended if won else None

    def renewed(self) -> datetime:
        """Return when the Lease was last written."""
        return [each.ended for each in self.told() if each.renews][-1]

    def wait_for_take_over(self) -> float:
        """Return how many seconds after the disturbance the second led."""
        self.second.wait(self.taken_over, "the second took over")
        return (self.taken_over() - self.at).total_seconds()

    def looks(self, seat: Seat) -> list[audit.Told]:
        """Return its looks at the Lease."""
        return [each for each in self.asked("get", by=seat) if each.resource == "leases"]

    def changes(self) -> list[str]:
        """Return the last rollout's writes that took effect, without the random names in them."""
        return [
            each.change
            for each in self.told()
            if each.acts and each.changed and each.begun >= self.pushed
        ]


def _allow(plane):
    """Make the roles that every account is bound to, in its namespace or for nodes."""
    every = {"verbs": ["*"]}
    rules = {
        WORK: [
            every | {"apiGroups": ["apps"], "resources": ["daemonsets", "controllerrevisions"]},
            every | {"apiGroups": ["", "events.k8s.io"], "resources": ["pods", "events", "nodes"]},
        ],
        LEASE: [every | {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"]}],
    }
    root = "/apis/rbac.authorization.k8s.io/v1"
    for name, allowed in rules.items():
        plane.call("POST", f"{root}/clusterroles", {"metadata": {"name": name}, "rules": allowed})
    everybody = {"kind": "Group", "name": "system:serviceaccounts"}
    plane.call("POST", f"{root}/clusterrolebindings", _binding(WORK, WORK, everybody))


def _binding(name, role, subject):
    group = "rbac.authorization.k8s.io"
    return {
        "metadata": {"name": name},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": group} | subject],
    }


def _account(team, name):
    """Make an account that may keep Leases; return a kubeconfig of its own."""
    plane, core = team.plane, f"/api/v1/namespaces/{team.namespace}"
    plane.call("POST", f"{core}/serviceaccounts", {"metadata": {"name": name}})
    subject = {"kind": "ServiceAccount", "name": name, "namespace": team.namespace, "apiGroup": ""}
    plane.call("POST", _bindings(team), _binding(name, LEASE, subject))
    asked = {"spec": {"expirationSeconds": 3600}}
    answer = plane.call("POST", f"{core}/serviceaccounts/{name}/token", asked)
    config = json.loads(plane.kubeconfig.read_text())
    config["users"] = [{"name": "admin", "user": {"token": answer["status"]["token"]}}]
    path = team.folder / f"{name}.kubeconfig"
    path.write_text(json.dumps(config))
    return path


def _bindings(team):
    return f"/apis/rbac.authorization.k8s.io/v1/namespaces/{team.namespace}/rolebindings"


def _seat(team, name, *, account=True, surroundings=None, **settings):
    """A place for an agent; without an account of its own it is the administrator."""
    folder = team.folder / name
    folder.mkdir()
    seat = Seat(
        team.plane, team.namespace, folder, name=name, surroundings=surroundings or {},
        kubeconfig=_account(team, name) if account else None,
        settings={"leaderElection": "on", **settings},
    )  # fmt: skip
    seat.repository, seat.url = team.repository, team.url
    return seat


def _pair(stack, plane, folder, surroundings=None, **settings):
    """A team with two agents; `surroundings` are the environments of `first` and `second`."""
    folder.mkdir(parents=True)
    team = stack.enter_context(team_on(plane, folder))
    first, second = (
        _seat(team, name, surroundings=(surroundings or {}).get(name), **settings)
        for name in ("first", "second")
    )
    stack.callback(lambda: [each.kill() for seat in (first, second) for each in seat.agents])
    return Pair(team, first, second)


@dataclass(frozen=True)
class WrongClock:
    """A wall clock that a process can be given."""

    library: Path
    file: Path
    """How many seconds it is wrong, read at each look."""

    def set(self, seconds: int) -> None:
        new = self.file.with_suffix(".new")
        new.write_text(str(seconds))
        new.replace(self.file)

    @property
    def surroundings(self) -> dict[str, str]:
        return {"LD_PRELOAD": str(self.library), "WRONG_CLOCK": str(self.file)}


def _wrong_clocks(folder):
    """Return a clock for each of two agents; none where there is no C compiler."""
    if not shutil.which("cc"):
        return {}
    library = folder / "wrong_clock.so"
    source = Path(__file__).with_name("wrong_clock.c")
    command = ["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    clocks = {name: WrongClock(library, folder / name) for name in ("first", "second")}
    clocks["first"].set(SKEW_SECONDS)
    clocks["second"].set(-SKEW_SECONDS)
    return clocks


@pytest.fixture(scope="module")
def plane(own_plane):
    for name in own_plane.add_nodes(NODES):
        own_plane.label_node(name, pool="team")
    _allow(own_plane)
    return own_plane


@dataclass(frozen=True)
class Pairs:
    """A pair for each story, all of them ready."""

    calm: Pair
    clean: Pair
    death: Pair
    sleep: Pair
    rights: Pair
    skew: Pair
    clocks: dict[str, WrongClock]
    """Those of the pair `skew`."""

    @property
    def everyone(self) -> list[Pair]:
        return [self.calm, self.clean, self.death, self.sleep, self.rights, self.skew]


@pytest.fixture(scope="module")
def pairs(plane, tmp_path_factory):
    """All stories have begun: what takes long goes on in each while others are looked at."""
    folder = tmp_path_factory.mktemp("pairs")
    clocks = _wrong_clocks(folder)
    skewed = {name: clock.surroundings for name, clock in clocks.items()}
    with ExitStack() as stack:
        made = Pairs(
            calm=_pair(stack, plane, folder / "calm"),
            clean=_pair(stack, plane, folder / "clean"),
            death=_pair(stack, plane, folder / "death"),
            sleep=_pair(stack, plane, folder / "sleep"),
            rights=_pair(stack, plane, folder / "rights", rollout=SLOW),
            skew=_pair(stack, plane, folder / "skew", skewed),
            clocks=clocks,
        )
        for pair in made.everyone:
            pair.begin()
        for pair in made.everyone:
            pair.wait_until_ready()
        _disturb(made)
        yield made


def _disturb(pairs):
    pairs.skew.at = datetime.now(UTC)
    for name, clock in pairs.clocks.items():
        clock.set(-JUMP_SECONDS if name == "first" else JUMP_SECONDS)
    pairs.death.at = pairs.death.first.signal(signal.SIGKILL)
    pairs.death.push(NEW)
    for pair in (pairs.calm, pairs.clean, pairs.sleep, pairs.rights):
        pair.roll()
    pairs.sleep.at = pairs.sleep.first.signal(signal.SIGSTOP)
    pairs.clean.at = pairs.clean.first.signal(signal.SIGTERM)
    pairs.rights.team.plane.call("DELETE", f"{_bindings(pairs.rights.team)}/first")
    pairs.rights.at = datetime.now(UTC)
    death = pairs.death
    death.second.wait(lambda: death.second.has_read(death.commit), "what nobody leads is read")
    death.team.repository.path.rename(death.team.folder / "away.git")


# ---------------------------------------------------------------------------- the judge


def assert_one_writer(pair):
    """No two agents write at the same time, each does in its term, and none after its deadline.

    A process that is stopped in the middle of a request ends it when it goes on: it is refused then.
    """
    asked = pair.told()
    writes = [each for each in asked if each.acts]
    renewals = [each for each in asked if each.renews]
    assert writes
    for before, after in pairwise(writes):
        apart = before.account == after.account or before.ended <= after.begun
        assert apart or before.code == HTTPStatus.CONFLICT, (before, after)
    for write in writes:
        terms = [each for each in renewals if each.begun <= write.begun]
        assert terms, write
        assert terms[-1].account == write.account, f"in the term of another: {write}"
        late = write.begun - terms[-1].begun - timedelta(seconds=RENEW_DEADLINE)
        assert late < ON_THE_WAY, f"after its deadline: {write}"


def assert_warm(pair):
    """What it looks at all the time it has; pods are looked at while a rollout goes on."""
    since = pair.taken_over()
    late = [each for each in pair.asked("list", by=pair.second) if each.begun > since]
    assert {each.resource for each in late} <= {"pods", "events"}, late


def expected(pairs):
    """Return the writes of the rollout that nobody disturbed."""
    pairs.calm.wait_until_out()
    assert {each.account for each in pairs.calm.told() if each.acts} == {"first"}
    return pairs.calm.changes()


def as_undisturbed(pair):
    """Return what the table says of a rollout with the writes of the one nobody disturbed."""
    same = "undisturbed: the same writes"
    return {"nodes": f"{NODES} kwok", "writes": len(pair.changes()), "beside": same}


# ---------------------------------------------------------------------------- the stories


def test_after_a_clean_stop_in_mid_rollout_the_other_goes_on_at_once_with_the_same_writes(
    pairs, prove
):
    pair = pairs.clean
    assert pair.first.ends() == 0
    seconds = pair.wait_for_take_over()
    released = [each for each in pair.told() if each.renews and each.account == "first"][-1]
    pair.wait_until_out()

    assert (pair.taken_over() - released.ended).total_seconds() < CLEAN_SECONDS
    assert pair.changes() == expected(pairs)
    assert {each.account for each in pair.told() if each.acts} == {"first", "second"}
    assert_warm(pair)
    assert_one_writer(pair)
    prove(
        scenario="two agents: the leader is stopped (SIGTERM) in mid-rollout",
        outcome=f"the other leads {seconds:.1f} s after the signal and goes on; lists nothing anew",
        **as_undisturbed(pair),
    )


def test_agents_end_within_ten_seconds_of_sigterm_whenever_it_comes(plane, tmp_path, prove):
    rng, took, codes = Random(SEED), [], Counter()
    with ExitStack() as stack:
        team = stack.enter_context(team_on(plane, tmp_path))
        team.commit(team.manifest())
        for batch in range(SIGTERMS // SIDE_BY_SIDE):
            seats = [_extra(stack, team, f"{batch}-{each}") for each in range(SIDE_BY_SIDE)]
            early, *others = seats
            _terminate(early, after=rng.uniform(0, 1))
            codes[early.ends()] += 1
            for seat in others:
                seat.wait(seat.is_up, "it is up", within=UP_SECONDS)
            asked = [(seat, _terminate(seat, after=rng.uniform(0, 0.3))) for seat in others]
            for seat, moment in asked:
                codes[seat.ends(within=moment + END_SECONDS - time.monotonic())] += 1
                took.append(time.monotonic() - moment)

    assert codes[0] >= SIGTERMS - SIGTERMS // SIDE_BY_SIDE
    assert set(codes) <= {0, -signal.SIGTERM}, "before it listens it ends as any process does"
    prove(
        scenario=f"{SIGTERMS} agents are asked to end (SIGTERM) at random moments",
        nodes=f"{NODES} kwok",
        outcome=f"{codes[0]} end in order, the others were only starting; the last after"
        f" {max(took):.1f} s",
    )


def _extra(stack, team, name):
    seat = _seat(team, name, account=False)
    seat.start_agent()
    stack.callback(seat.agents[-1].kill)
    return seat


def _terminate(seat, *, after):
    time.sleep(after)
    seat.signal(signal.SIGTERM)
    return time.monotonic()


def test_after_a_leaders_death_the_other_leads_soon_with_what_it_has_read_meanwhile(pairs, prove):
    pair = pairs.death
    seconds = pair.wait_for_take_over()
    pair.wait_until_out()

    assert seconds < DEATH_SECONDS
    assert pair.changes() == expected(pairs)
    assert_warm(pair)
    assert_one_writer(pair)
    prove(
        scenario="two agents: the leader is killed (SIGKILL), then Git goes away",
        outcome=f"the other leads {seconds:.1f} s after the kill and rolls out what it had read",
        **as_undisturbed(pair),
    )


def test_a_leader_that_was_stopped_for_longer_than_its_term_writes_nothing_when_it_goes_on(
    pairs, prove
):
    pair = pairs.sleep
    seconds = pair.wait_for_take_over()
    time.sleep(max(0.0, ASLEEP_SECONDS - (datetime.now(UTC) - pair.at).total_seconds()))
    woke = pair.first.signal(signal.SIGCONT)
    pair.wait_until_out()
    pair.first.wait(
        lambda: any(each.begun > woke and each.code < 300 for each in pair.looks(pair.first)),
        "the first has seen who leads",
    )

    assert seconds < DEATH_SECONDS
    assert not [
        each for each in pair.told() if each.acts and each.account == "first" and each.begun > woke
    ]
    assert pair.holder() == "second"
    assert pair.changes() == expected(pairs)
    assert_one_writer(pair)
    prove(
        scenario=f"two agents: the leader is stopped for {ASLEEP_SECONDS:.0f} s in mid-rollout and goes on",
        outcome=f"the other leads after {seconds:.1f} s; the first writes nothing when it wakes",
        **as_undisturbed(pair),
    )


def test_a_leader_that_may_not_renew_stops_in_time_and_the_other_goes_on(pairs, prove):
    pair = pairs.rights
    seconds = pair.wait_for_take_over()
    pair.wait_until_out()

    assert seconds < DEATH_SECONDS
    assert {each.code for each in pair.told() if each.resource == "leases"} >= {200, 403}
    told = [each["message"] for each in pair.first.agent_now.lines if "message" in each]
    assert any("no right to update leases" in each for each in told)
    assert pair.changes() == expected(pairs)
    assert_one_writer(pair)
    prove(
        scenario="two agents: the leader loses its right to the Lease in mid-rollout",
        outcome=f"the other leads after {seconds:.1f} s and goes on",
        **as_undisturbed(pair),
    )


def test_wrong_clocks_that_jump_move_no_lead_and_disturb_no_rollout(pairs, prove):
    if not pairs.clocks:
        pytest.skip("wrong clocks need a C compiler (cc)")
    pair = pairs.skew
    pair.first.wait(
        lambda: pair.renewed() > pair.at + DURATION, "the first leads for long after the jump"
    )
    assert pair.taken_over() is None
    pair.roll()
    pair.at = pair.first.signal(signal.SIGTERM)
    assert pair.first.ends() == 0
    seconds = pair.wait_for_take_over()
    pair.wait_until_out()

    assert _content(pair.changes()) == _content(expected(pairs))
    assert "RollingBack" not in pair.second.agent_now.reasons("agent")
    assert_one_writer(pair)
    prove(
        scenario="two agents, one clock goes back by an hour and one ahead, and the leader is"
        " stopped in mid-rollout",
        nodes=f"{NODES} kwok",
        outcome=f"the lead stays; the other leads {seconds:.1f} s after the signal and goes on",
        writes=len(pair.changes()),
        beside="undisturbed: the same writes but for the record",
    )


def _content(changes):
    """Leave records out: a correction of a second may end a bake in two writes instead of one."""
    return [each for each in changes if "dsgitops-record" not in each]


def test_an_api_server_that_is_away_for_a_while_leaves_one_leader_and_both_can_end_without_it(
    pairs, plane, prove
):
    pair, server = pairs.calm, plane.parts["apiserver"]
    expected(pairs)
    pair.roll(NEWER)
    server.kill()
    time.sleep(AWAY_SECONDS)
    server.start()
    plane.wait_for_api()
    pair.wait_until_out()
    assert_one_writer(pair)
    assert pair.holder() in {"first", "second"}

    server.kill()
    asked = min([seat.signal(signal.SIGTERM) for seat in pair.seats])
    codes = [seat.ends() for seat in pair.seats]
    took = (datetime.now(UTC) - asked).total_seconds()
    server.start()
    plane.wait_for_api()
    assert codes == [0, 0]
    assert took < END_SECONDS
    prove(
        scenario=f"two agents: the API server is away for {AWAY_SECONDS:.0f} s in mid-rollout",
        nodes=f"{NODES} kwok",
        outcome=f"never two writers, the rollout ends; with it away again both end in {took:.1f} s",
    )
