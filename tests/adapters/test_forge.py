"""Commit status: what a forge is told of each commit, and what happens when it cannot be told."""

from __future__ import annotations

import logging
import socket
import time
from dataclasses import replace
from random import Random

import pytest
from adapters.forges import PREFIX, TOKEN, ForgeServer
from adapters.sink import Drip, wait_for
from scenarios.scene import POLICY, Scene

from dsgitops.adapters.forge import Repository, Statuses, dialects, fault, http, statuses
from dsgitops.adapters.forge import board as boards
from dsgitops.adapters.forge.board import Board, Status
from dsgitops.adapters.forge.standing import State
from dsgitops.adapters.forge.statuses import Courier
from dsgitops.adapters.metrics import CountedPolls
from dsgitops.core.decide import decide
from dsgitops.errors import Undelivered

SHA = "3f2a91c".ljust(40, "0")
STATUS = Status(
    commit=f"main@sha1:{SHA}", state=State.SUCCESS, word="Finished", sentence="logging/agent: done."
)
NAMES = {"github": "acme/agents", "gitlab": "acme/platform/agents", "gitea": "acme/agents"}
PENDING = {"github": "pending", "gitlab": "running", "gitea": "pending"}
FAILURE = {"github": "failure", "gitlab": "failed", "gitea": "failure"}
SUPERSEDED = {"github": "error", "gitlab": "canceled", "gitea": "warning"}


class Inline(Courier):
    """A courier without a thread: what is put is tried at once."""

    def put(self, status):
        super().put(status)
        while self._queue and self._not_before <= time.monotonic():
            self._carry(*self._next())

    def _start(self):
        pass


@pytest.fixture(params=list(NAMES))
def forge(request):
    made = ForgeServer(request.param)
    yield made
    made.close()
    assert made.wrong == [], "by the forge's own API"


@pytest.fixture
def github():
    made = ForgeServer("github")
    yield made
    made.close()


@pytest.fixture
def token(tmp_path):
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    return file


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(statuses, "PAUSE_FIRST", 0.05)
    monkeypatch.setattr(statuses, "PAUSE_MAX", 0.2)


def repository(forge, token, **changes):
    given = {"kind": forge.kind, "url": forge.url, "name": NAMES[forge.kind], "token_file": token}
    return Repository(**{**given, **changes})


def courier(forge, token, cls=Courier, **changes):
    return cls(repository(forge, token, **changes), cluster="prod-eu-1", rng=Random(1))


def hear(scene, forge, token):
    """Let a forge be told of all that a scene's agent decides."""
    told = Statuses(
        {scene.repository.name: repository(forge, token)}, cluster="prod-eu-1", rng=Random(1)
    )
    for place in told._couriers:
        told._couriers[place] = courier(forge, token, Inline)
    if scene.drive is None:
        scene.start_agent()
    scene.drive.agent.decide = told.hearing(decide)
    scene.drive.agent.polls = CountedPolls(scene.drive.agent.polls, told.polled)
    return told


def scene_at_rest(forge, token, **options):
    """Return a scene in which the first commit is rolled out and told."""
    scene = Scene(**{"nodes": 3, **options})
    scene.push(image="1")
    scene.statuses = hear(scene, forge, token)
    scene.run(30)
    forge.taken.clear()
    return scene


# ---------------------------------------------------------------- the way of a commit


def test_a_good_commit_is_pending_while_it_rolls_out_and_then_a_success(forge, token):
    scene = scene_at_rest(forge, token)
    commit = scene.push(image="2")
    scene.run(90)

    assert forge.states() == [
        (PENDING[forge.kind], "Git moved logging/agent to c200000: 3 nodes, canary first."),
        ("success", "logging/agent: c200000 is on 3 of 3 nodes and stayed so for 15 s."),
    ]
    assert {sha for sha, _ in forge.taken} == {commit}
    assert {body["context"] for _, body in forge.taken} == {"dsgitops/prod-eu-1"}


def test_a_bad_commit_is_a_failure_that_says_what_was_done(forge, token):
    scene = scene_at_rest(forge, token)
    commit = scene.push(image="2-crash")
    scene.run(120)

    why = "logging/agent: c200000 failed on 1 of 3 nodes (CrashLoop)"
    assert forge.states(commit) == [
        (PENDING[forge.kind], "Git moved logging/agent to c200000: 3 nodes, canary first."),
        (FAILURE[forge.kind], f"{why}, going back to c100000"),
        (FAILURE[forge.kind], f"{why}, back on c100000"),
    ]
    assert len(forge.taken) == 3, "the quarantine that follows is no news"


def test_a_commit_overtaken_by_the_next_is_superseded(forge, token):
    scene = scene_at_rest(forge, token)
    first = scene.push(image="2")
    scene.run(14)
    second = scene.push(image="3")
    scene.run(90)

    assert [state for state, _ in forge.states(first)] == [
        PENDING[forge.kind], SUPERSEDED[forge.kind],
    ]  # fmt: skip
    assert forge.states(first)[-1][1] == "logging/agent: Superseded by c300000."
    assert [state for state, _ in forge.states(second)] == [PENDING[forge.kind], "success"]


def test_a_revert_of_a_bad_commit_is_a_success_and_leaves_the_bad_one_failed(forge, token):
    scene = scene_at_rest(forge, token)
    bad = scene.push(image="2-crash")
    scene.run(60)
    revert = scene.revert()
    scene.run(60)

    assert forge.states(bad)[-1][0] == FAILURE[forge.kind]
    assert [state for state, _ in forge.states(revert)] == ["success"]


def test_a_revert_in_mid_rollout_is_pending_until_the_way_back_is_over(forge, token):
    scene = scene_at_rest(forge, token, nodes=6)
    overtaken = scene.push(image="2")
    scene.run(14)
    revert = scene.revert()
    scene.run(60)

    assert [state for state, _ in forge.states(overtaken)] == [
        PENDING[forge.kind], SUPERSEDED[forge.kind],
    ]  # fmt: skip
    assert [state for state, _ in forge.states(revert)] == [PENDING[forge.kind], "success"]


def test_one_commit_for_two_daemonsets_is_a_success_when_both_are_finished(forge, token):
    scene = Scene(nodes=3)
    scene.commit({"agent": {"image": "1"}, "other": {"image": "1"}})
    hear(scene, forge, token)
    scene.run(60)
    forge.taken.clear()
    commit = scene.commit({"agent": {"image": "2"}, "other": {"image": "1", "label": "team=logs"}})
    scene.run(15)

    assert [state for state, _ in forge.states()] == [PENDING[forge.kind]], "a label is written"

    scene.run(90)
    assert forge.states(commit)[1:] == [
        ("success", "2 DaemonSets have it: logging/agent, logging/other."),
    ]


def test_one_of_two_daemonsets_that_fails_makes_the_commit_a_failure(forge, token):
    scene = Scene(nodes=3)
    scene.commit({"agent": {"image": "1"}, "other": {"image": "1"}})
    hear(scene, forge, token)
    scene.run(60)
    scene.commit({"agent": {"image": "2"}, "other": {"image": "2-crash"}})
    forge.taken.clear()
    scene.run(120)

    assert [state for state, _ in forge.states()] == [
        PENDING[forge.kind], FAILURE[forge.kind], FAILURE[forge.kind],
    ]  # fmt: skip
    assert forge.states()[-1][1].startswith("logging/other: c200000 failed on 1 of 3 nodes")


def test_a_commit_that_touches_no_daemonset_is_not_told(forge, token):
    scene = scene_at_rest(forge, token)
    scene.commit({}, files={"README.md": "words"})
    scene.run(30)

    assert forge.taken == []


def test_a_manifest_that_cannot_be_used_fails_the_commit_that_brought_it(forge, token):
    scene = scene_at_rest(forge, token)
    broken = "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: agent, namespace: logging}\n"
    commit = scene.commit({}, files={"agent.yaml": broken})
    scene.run(30)

    [(state, sentence)] = forge.states(commit)
    assert state == FAILURE[forge.kind]
    assert "agent.yaml:" in sentence


def test_a_daemonset_that_runs_as_git_has_it_is_a_success_at_once(forge, token):
    scene = Scene(nodes=3)
    scene.create(image="1")
    scene.stay(60)
    commit = scene.push(image="1")
    hear(scene, forge, token)
    scene.run(60)

    assert [state for state, _ in forge.states(commit)] == ["success"]


def test_a_daemonset_that_git_drops_in_mid_rollout_leaves_no_commit_pending(forge, token):
    scene = scene_at_rest(forge, token)
    commit = scene.push(image="2")
    scene.run(14)
    scene.commit({"agent": None})
    scene.run(60)

    assert forge.states(commit)[-1] == (
        SUPERSEDED[forge.kind],
        "logging/agent: Git no longer has it.",
    )


def test_content_that_is_suspended_waits(forge, token):
    scene = scene_at_rest(forge, token)
    scene.annotate(**{"dsgitops.io/suspend": '{"reason":"freeze","by":"ann"}'})
    commit = scene.push(image="2")
    scene.run(30)

    assert [state for state, _ in forge.states(commit)] == ["pending"]

    scene.annotate(**{"dsgitops.io/suspend": None})
    scene.run(60)
    assert [state for state, _ in forge.states(commit)] == [
        "pending", PENDING[forge.kind], "success",
    ]  # fmt: skip


def test_rollback_off_fails_the_commit_and_says_that_nothing_was_put_back(forge, token):
    scene = Scene(nodes=3, policy=replace(POLICY, rollback="off"))
    scene.push(image="1")
    hear(scene, forge, token)
    scene.run(30)
    commit = scene.push(image="2-crash")
    scene.run(60)

    assert forge.states(commit)[-1] == (
        FAILURE[forge.kind],
        "logging/agent: c200000 failed on 1 of 3 nodes (CrashLoop), NOT rolled back",
    )


# ---------------------------------------------------------------- restarts


def test_a_restart_tells_each_recent_commit_once_more_at_most_and_as_it_is(forge, token):
    scene = scene_at_rest(forge, token)
    bad = scene.push(image="2-crash")
    scene.run(60)
    before = forge.states(bad)[-1][0]
    forge.taken.clear()
    for _ in range(2):
        scene.start_agent()
        hear(scene, forge, token)
        scene.run(60)

    assert len(forge.states(bad)) == 2, "once for each restart"
    assert {state for state, _ in forge.states(bad)} == {before}
    assert len(forge.taken) == 2


def test_a_restart_is_silent_about_what_ended_days_ago(forge, token):
    scene = scene_at_rest(forge, token)
    scene.push(image="2")
    scene.run(90)
    scene.stay(25 * 3600)
    forge.taken.clear()
    scene.start_agent()
    hear(scene, forge, token)
    scene.run(60)

    assert forge.taken == []


@pytest.mark.parametrize("seconds", [7, 16, 30])
def test_a_restart_in_mid_rollout_goes_on_with_the_same_commit(github, token, seconds):
    scene = scene_at_rest(github, token, nodes=4)
    commit = scene.push(image="2")
    scene.run(seconds)
    scene.start_agent()
    hear(scene, github, token)
    scene.run(120)

    assert github.states(commit)[-1][0] == "success"
    assert {sha for sha, _ in github.taken} == {commit}


@pytest.mark.parametrize("seconds", [6, 8, 12])
def test_a_restart_on_the_way_back_does_not_call_the_failure_anything_else(github, token, seconds):
    scene = scene_at_rest(github, token, nodes=4)
    commit = scene.push(image="2-crash")
    scene.run(seconds)
    scene.start_agent()
    hear(scene, github, token)
    scene.run(120)

    assert github.states(commit)[-1][0] == "failure"
    assert (
        "back on c100000" in github.states(commit)[-1][1]
        or "failed" in github.states(commit)[-1][1]
    )


# ---------------------------------------------------------------- what is sent


def test_the_token_is_in_a_header_and_nowhere_else(forge, token):
    courier(forge, token, Inline, target_url="https://grafana.example.com/d/1").put(STATUS)

    [(path, headers, body)] = forge.seen
    assert TOKEN not in path
    assert TOKEN not in body
    assert sum(TOKEN in value for value in headers.values()) == 1
    [(sha, told)] = forge.taken
    assert sha == SHA
    assert told["target_url"] == "https://grafana.example.com/d/1"
    assert told.get("ref") == ("main" if forge.kind == "gitlab" else None)


def test_a_new_token_is_used_as_soon_as_the_file_has_it(forge, token):
    token.write_text("old")
    forge.answers = [(401, {}, b"")]
    sender = courier(forge, token, Inline)
    sender.put(STATUS)
    token.write_text(TOKEN)
    time.sleep(0.06)
    sender.put(replace(STATUS, word="again"))

    assert len(forge.taken) == 1


@pytest.mark.parametrize(("kind", "most"), [("github", 140), ("gitlab", 255), ("gitea", 1000)])
def test_a_long_sentence_is_cut_to_what_the_forge_takes(kind, most):
    cut = dialects.cut("word " * 400, most)

    assert len(cut) <= most
    assert cut.endswith("word…" if most != 1000 else "…")
    assert dialects.DESCRIPTION_MAX[kind] == most


def test_a_sentence_of_several_lines_and_control_characters_becomes_one_line():
    assert dialects.cut("one\ntwo\x1b[31m\tthree", 140) == "one two [31m three"


def test_equal_states_are_sent_once(forge, token):
    sender = courier(forge, token, Inline)
    for sentence in ("1 of 3 nodes", "2 of 3 nodes", "3 of 3 nodes"):
        sender.put(replace(STATUS, state=State.PENDING, word="UnderWay", sentence=sentence))

    assert len(forge.taken) == 1


# ---------------------------------------------------------------- when it cannot be told


@pytest.mark.parametrize(
    ("answer", "said", "again"),
    [
        ((401, {}), "HTTP 401: the token is not accepted", True),
        ((403, {}), "HTTP 403: the token may not tell the status there", True),
        ((404, {}), "HTTP 404: the token may not tell the status there", True),
        ((422, {}), "HTTP 422: the status was refused", False),
        ((400, {}), "HTTP 400: the status was refused", False),
        ((429, {"Retry-After": "0.1"}), "HTTP 429: asked to wait", True),
        ((403, {"Retry-After": "0.1"}), "HTTP 403: asked to wait", True),
        ((500, {}), "HTTP 500", True),
        ((503, {"Retry-After": "0.1"}), "HTTP 503", True),
    ],
)
def test_a_refusal_is_told_in_our_words_and_tried_again_where_that_can_help(
    github, token, answer, said, again
):
    quoted = f'{{"message": "bad {TOKEN} hunter2"}}'.encode()
    github.answers = [(*answer, quoted)]
    sender = courier(github, token)
    sender.put(STATUS)
    assert wait_for(lambda: sender.fault is not None)
    fault_ = sender.fault or Undelivered("gone by now")

    assert fault_.what in (said, "gone by now")
    assert TOKEN not in str(fault_) + fault_.remedy
    assert "hunter2" not in str(fault_)
    assert wait_for(lambda: sender.waiting == 0)
    assert len(github.taken) == (1 if again else 0)
    if again:
        assert sender.fault is None


def test_gitlab_saying_that_it_has_the_state_already_is_as_good_as_taken(token):
    forge = ForgeServer("gitlab")
    body = b'{"message":"Cannot transition status via :enqueue from :pending (Reason(s): ...)"}'
    forge.answers = [(400, {}, body)]
    sender = courier(forge, token, Inline)
    sender.put(replace(STATUS, state=State.WAITING))
    sender.put(replace(STATUS, state=State.WAITING))
    forge.close()

    assert sender.fault is None
    assert len(forge.seen) == 1


def test_a_redirect_is_not_followed_so_the_token_stays_where_it_belongs(github, token):
    elsewhere = ForgeServer("github")
    github.answers = [(code, {"Location": elsewhere.url}, b"") for code in (301, 302, 307, 308)]
    sender = courier(github, token)
    sender.put(STATUS)
    assert wait_for(lambda: sender.waiting == 0)
    elsewhere.close()

    assert elsewhere.seen == []
    assert len(github.taken) == 1, "tried again, and taken then"


def test_attempts_come_later_and_later(github, token):
    github.answers = [(500, {}, b"")] * 3
    sender = courier(github, token)
    sender.put(STATUS)
    assert wait_for(lambda: github.taken)
    gaps = [b - a for a, b in zip(github.attempts, github.attempts[1:], strict=False)]

    assert len(gaps) == 3
    least = [statuses.PAUSE_FIRST / 2 * 2**n for n in range(3)]
    assert all(gap >= pause for gap, pause in zip(gaps, least, strict=True)), gaps


def test_only_the_newest_status_of_a_commit_is_sent_after_an_outage(github, token):
    github.answers = [(500, {}, b"")]
    sender = courier(github, token)
    sender.put(replace(STATUS, state=State.PENDING, word="UnderWay"))
    assert wait_for(lambda: github.attempts)
    sender.put(replace(STATUS, state=State.FAILURE, word="RollingBack"))
    sender.put(replace(STATUS, state=State.FAILURE, word="RolledBack", sentence="back"))
    assert wait_for(lambda: sender.waiting == 0)

    assert github.states() == [("failure", "back")]


def test_a_commit_that_the_forge_does_not_know_holds_up_no_other(github, token):
    gone, here = ("a" * 40, "b" * 40)
    github.answers = [(404, {}, b"")]
    sender = courier(github, token)
    sender.put(replace(STATUS, commit=f"main@sha1:{gone}"))
    assert wait_for(lambda: sender.fault is not None)
    sender.put(replace(STATUS, commit=f"main@sha1:{here}"))
    assert wait_for(lambda: sender.waiting == 0)

    assert {sha for sha, _ in github.taken} == {gone, here}


def test_what_is_refused_again_and_again_is_given_up(github, token, monkeypatch):
    monkeypatch.setattr(statuses, "TRIES_MAX", 3)
    github.answers = [(404, {}, b"")] * 9
    sender = courier(github, token)
    sender.put(STATUS)
    assert wait_for(lambda: len(github.attempts) == 3 and sender.waiting == 0)
    time.sleep(0.3)

    assert len(github.attempts) == 3


def test_a_forge_that_hangs_delays_no_turn(github, token):
    github.answers = [60.0]
    scene = Scene(nodes=3)
    scene.push(image="1")
    told = Statuses({"node-agents": repository(github, token)}, cluster="c", rng=Random(1))
    scene.start_agent()
    scene.drive.agent.decide = told.hearing(decide)
    begun = time.monotonic()
    scene.run(60)
    took = time.monotonic() - begun

    assert scene.phase() == "Idle"
    assert took < 30
    assert told.busy


@pytest.mark.parametrize("pause", [0.5, 0.02], ids=["in its first line", "in a header, after 200"])
def test_a_forge_that_answers_in_drops_is_given_up(github, token, monkeypatch, pause):
    monkeypatch.setattr(statuses, "ATTEMPT_SECONDS", 1.0)
    drip = Drip(pause)
    sender = courier(github, token, url=f"http://{drip.address}")
    begun = time.monotonic()
    sender.put(STATUS)

    assert wait_for(lambda: sender.fault)
    assert time.monotonic() - begun < 20
    assert sender.fault.what == "no answer in time"
    assert sender.waiting, "it is tried again"
    drip.close()


def test_the_queue_is_bounded(github, token):
    github.answers = [5.0]
    sender = courier(github, token)
    for n in range(200):
        sender.put(replace(STATUS, commit=f"main@sha1:{n:040x}"))

    assert sender.waiting <= statuses.COMMITS_MAX + 1


def test_commits_of_long_ago_are_forgotten(github, token, monkeypatch):
    monkeypatch.setattr(boards, "COMMITS_MAX", 3)
    scene = scene_at_rest(github, token)
    for n in range(5):
        scene.push(image="1", label=f"build={n}")
        scene.run(10)
    [board] = scene.statuses._boards.values()

    assert len(board.commits) == 3
    assert [state for state, _ in github.states()] == ["success"] * 5


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "the token cannot be read: No such file or directory"),
        (b"", "the token's file is empty"),
        (b"\xff\xfe", "the token cannot be read: it is no plain text"),
        (b"one\r\nX-Evil: two", "the token's file has several lines"),
    ],
)
def test_a_token_that_cannot_be_used_is_a_sentence_without_it(tmp_path, content, said):
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(Undelivered) as told:
        http.read_token(file)

    assert told.value.what == said


def test_no_forge_at_all_is_a_sentence(tmp_path, token):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        sender = Courier(
            Repository(kind="github", url=url, name="a/b", token_file=token),
            cluster="c", rng=Random(1),
        )  # fmt: skip
        sender.put(STATUS)
        assert wait_for(lambda: sender.fault is not None)

    assert sender.fault.what == "connection refused"


def test_a_defect_in_the_telling_stops_no_rollout(github, token, monkeypatch, caplog):
    def broken(*_given, **_named):
        raise RuntimeError(f"a defect with {TOKEN}")

    monkeypatch.setattr(Board, "note", broken)
    with caplog.at_level(logging.DEBUG, logger="dsgitops"):
        scene = scene_at_rest(github, token)

    assert scene.phase() == "Idle"
    assert github.taken == []
    assert TOKEN not in caplog.text


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("kind", "url", "name", "target", "said"),
    [
        ("github", "", "acme/agents", "", None),
        ("gitlab", "", "acme/platform/agents", "https://x.example.com", None),
        ("gitlab", "", "4711", "", None),
        ("gitea", "https://git.example.com/api/v1", "acme/agents", "", None),
        ("github", "http://127.0.0.1:3000", "acme/agents", "", None),
        ("gitea", "", "acme/agents", "", "gitea has no url of its own"),
        ("github", "", "agents", "", "the repository is no owner/name"),
        ("github", "", "acme/../agents", "", "the repository is no owner/name"),
        ("github", "", "acme/..", "", "the repository is no owner/name"),
        ("github", "", "acme/agents?x=1", "", "the repository is no owner/name"),
        ("github", "ssh://git@host/x", "acme/agents", "", "the url is none of the web"),
        ("github", "http://git.example.com", "acme/agents", "",
         "http has no protection on the way: loopback only"),
        ("github", "https://me:pw@git.example.com", "acme/agents", "",
         "the URL holds a user name or a password"),
        ("github", "https://169.254.169.254", "acme/agents", "",
         "the URL's host is a link-local or metadata address"),
        ("github", "", "acme/agents", "javascript:alert(1)", "the targetUrl is none of the web"),
    ],
)  # fmt: skip
def test_settings_that_cannot_work_are_refused_at_the_start(kind, url, name, target, said):
    found = fault(kind, url, name, target)

    assert (found.what if found else None) == said
    assert "pw" not in (found.what + found.remedy if found else "")


def test_every_forge_of_the_settings_is_tested_here():
    assert set(NAMES) == set(dialects.DESCRIPTION_MAX) == set(PREFIX)
