"""What the agent does, as Prometheus sees it."""

from __future__ import annotations

import gc
import shutil
import subprocess
import tracemalloc
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from scenarios.manifests import NAMESPACE
from scenarios.scene import POLICY, Scene

from dsgitops.adapters.metrics import (
    DECLARED,
    CountedPolls,
    CountedTransport,
    Metrics,
    verb_and_resource,
)
from dsgitops.adapters.voices import Voices
from dsgitops.core.model import NodeState, Reason
from dsgitops.errors import ClusterUnreachable, SourceRefused, SourceUnreachable
from dsgitops.ports import Polled, Request, Response, Tree

PROMTOOL = shutil.which("promtool")
NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
AGENT = {"namespace": NAMESPACE, "name": "agent"}


class StandingClock:
    """Time that a test moves."""

    def __init__(self):
        self.at = NOW

    def now(self):
        return self.at

    def monotonic(self):
        return (self.at - NOW).total_seconds()


class Counted:
    """A scene whose agent is counted."""

    def __init__(self, **options):
        self.scene = Scene(**options)
        self.start()

    def start(self):
        """Start an agent, with metrics that begin at zero."""
        self.scene.start_agent()
        agent = self.scene.drive.agent
        self.metrics = Metrics(self.scene.world.clock, [self.scene.repository.name])
        self.metrics.counts = agent.cluster.counts
        agent.voice = Voices(self.scene, self.metrics)
        agent.polls = CountedPolls(agent.polls, self.metrics.polled)
        agent.decide = self.metrics.decide

    def run(self, seconds, until=None):
        end = self.scene.world.now + timedelta(seconds=seconds)
        while self.scene.world.now < end and not (until and until()):
            self.scene.drive.step(end)
            self.metrics.turned(self.scene.drive.agent.decisions.keys(), leading=True)

    def come_to(self, phase, **options):
        """Push, and wait for a phase that was reached with that commit."""
        commit = self.scene.push(**options)
        self.run(600, lambda: self.scene.phase() == phase and commit in str(self.scene.record()))
        assert self.scene.phase() == phase, self.scene.said[-3:]
        self.run(10)
        return commit

    def value(self, name, /, **labels):
        return self.metrics.registry.get_sample_value(name, labels)

    def stands(self):
        """Return sync, health and commit of the DaemonSet, from its one series."""
        families = {each.name: each for each in self.metrics.standings()}
        (sample,) = families["dsgitops_daemonset_info"].samples
        labels = sample.labels
        return labels["sync"], labels["health"], labels["commit"]

    def nodes(self):
        found = {str(each): self.value("dsgitops_nodes", **AGENT, state=each) for each in NodeState}
        return {state: count for state, count in found.items() if count}


def test_a_good_commit_a_bad_one_and_the_rollback_are_counted_once_each():
    here = Counted(nodes=4)

    first = here.come_to("Idle", image="1")
    assert here.stands() == ("Synced", "Healthy", first)
    assert here.nodes() == {"desired": 4}

    here.come_to("Idle", image="2")
    here.come_to("Held", image="3-missing")

    assert here.value("dsgitops_rollouts_total", result="finished") == 2
    assert here.value("dsgitops_rollouts_total", result="failed") == 1
    assert here.value("dsgitops_rollouts_total", result="superseded") == 0
    done = {"reason": "ImageNotFound", "result": "done"}
    assert here.value("dsgitops_rollbacks_total", **done) == 1
    assert here.value("dsgitops_quarantined") == 1
    assert here.stands()[:2] == ("Held", "Healthy")
    assert here.nodes() == {"desired": 4}


def test_every_change_of_decision_is_one_more_under_its_reason():
    here = Counted(nodes=3)
    here.come_to("Idle", image="1")
    here.come_to("Held", image="2", path="/never")

    said = [each.reason for each in here.scene.said]
    for reason in Reason:
        counted = here.value("dsgitops_decisions_total", reason=reason)
        assert counted == said.count(reason), reason
    decided = here.value("dsgitops_decide_duration_seconds_count")
    assert decided >= len(here.scene.decided)


def test_a_rollout_in_mid_flight_shows_each_node_once():
    here = Counted(nodes=4)
    here.come_to("Idle", image="1")
    here.scene.push(image="2")
    here.run(60, lambda: here.scene.phase() == "Rolling")

    sync, health, _ = here.stands()
    assert (sync, health) == ("Synced", "Progressing")
    assert sum(here.nodes().values()) == 4
    assert here.nodes()["old"] >= 1


def test_two_bad_commits_one_after_the_other_are_two_failures():
    here = Counted(nodes=3)
    here.come_to("Idle", image="1")
    here.come_to("Held", image="2-missing")
    here.come_to("Held", image="3-crash")

    assert here.value("dsgitops_rollouts_total", result="failed") == 2
    assert here.value("dsgitops_quarantined") == 1


def test_newer_content_in_mid_rollout_is_superseded_and_no_failure():
    here = Counted(nodes=4)
    here.come_to("Idle", image="1")
    here.scene.push(image="2")
    here.run(60, lambda: here.scene.phase() == "Rolling")
    here.come_to("Idle", image="3")

    assert here.value("dsgitops_rollouts_total", result="superseded") == 1
    assert here.value("dsgitops_rollouts_total", result="finished") == 2
    assert here.value("dsgitops_rollouts_total", result="failed") == 0


def test_a_revert_in_mid_rollout_is_a_rollback_without_a_failure():
    here = Counted(nodes=4)
    here.come_to("Idle", image="1")
    here.scene.push(image="2")
    here.run(60, lambda: here.scene.phase() == "Rolling")
    here.scene.revert()
    here.run(200, lambda: here.scene.phase() == "Idle")

    assert here.value("dsgitops_rollouts_total", result="failed") == 0
    assert here.value("dsgitops_rollouts_total", result="superseded") == 1
    assert here.value("dsgitops_rollbacks_total", reason="none", result="done") == 1


def test_an_agent_that_starts_after_a_failure_does_not_count_it_again():
    here = Counted(nodes=3, policy=replace(POLICY, rollback="manual"))
    here.come_to("Idle", image="1")
    here.come_to("Held", image="2-missing")
    assert here.value("dsgitops_rollouts_total", result="failed") == 1

    here.start()
    here.run(60)

    assert here.value("dsgitops_rollouts_total", result="failed") == 0
    assert here.value("dsgitops_quarantined") == 1
    assert here.stands()[0] == "Held"


def test_suspended_daemonsets_are_counted():
    here = Counted(nodes=3)
    here.come_to("Idle", image="1")
    here.scene.push(image="1", suspend="while we look")
    here.run(60)

    assert here.value("dsgitops_suspended") == 1
    assert here.stands()[1] == "Suspended"


def test_a_daemonset_that_is_forgotten_leaves_no_series():
    here = Counted(nodes=3)
    here.come_to("Idle", image="1")
    assert f'name="{AGENT["name"]}"' in here.metrics.text().decode()

    here.metrics.turned((), leading=True)

    assert f'name="{AGENT["name"]}"' not in here.metrics.text().decode()


def test_an_agent_that_stands_by_says_nothing_of_daemonsets():
    here = Counted(nodes=3)
    here.come_to("Idle", image="1")

    here.metrics.turned(here.scene.drive.agent.decisions.keys(), leading=False)
    text = here.metrics.text().decode()
    assert "dsgitops_leader 0.0" in text
    assert f'name="{AGENT["name"]}"' not in text
    assert "\ndsgitops_commit_age_seconds " not in text

    here.metrics.turned(here.scene.drive.agent.decisions.keys(), leading=True)
    assert f'name="{AGENT["name"]}"' in here.metrics.text().decode()


# ---------------------------------------------------------------------------- Git


def polled(clock, source="agents", *, commit="", error=None):
    tree = Tree(commit=commit, display=f"main@sha1:{commit}") if commit else None
    return Polled(source=source, tree=tree, error=error, at=clock.now(), seconds=0.02)


def test_polls_are_counted_by_what_came_of_them():
    clock = StandingClock()
    metrics = Metrics(clock, ["agents"])

    metrics.polled(polled(clock, commit="a" * 40))
    metrics.polled(polled(clock, error=SourceUnreachable("away")))
    metrics.polled(polled(clock, error=SourceRefused("no such branch")))
    metrics.polled(polled(clock, commit="a" * 40))

    def count(result):
        return metrics.registry.get_sample_value("dsgitops_git_fetch_total", {"result": result})

    assert (count("ok"), count("unreachable"), count("refused")) == (2, 1, 1)
    assert metrics.registry.get_sample_value("dsgitops_git_fetch_duration_seconds_count") == 4


def test_the_age_of_a_commit_is_that_of_the_source_that_was_not_read_for_longest():
    clock = StandingClock()
    metrics = Metrics(clock, ["agents", "network"])
    for _ in range(10):
        clock.at += timedelta(seconds=30)
        metrics.polled(polled(clock, "agents", commit="a" * 40))
        metrics.polled(polled(clock, "network", error=SourceUnreachable("away")))

    assert metrics.registry.get_sample_value("dsgitops_commit_age_seconds") == 300

    metrics.polled(polled(clock, "network", commit="b" * 40))
    assert metrics.registry.get_sample_value("dsgitops_commit_age_seconds") == 0


def test_the_time_to_applied_is_taken_once_for_each_commit():
    clock = StandingClock()
    metrics = Metrics(clock, ["agents"])
    metrics.polled(polled(clock, commit="a" * 40))
    clock.at += timedelta(seconds=2)
    metrics.polled(polled(clock, commit="a" * 40))  # the same again, before it was applied
    clock.at += timedelta(seconds=1)
    metrics.read("agents", "a" * 40, clock.now(), partial=False)

    total = metrics.registry.get_sample_value("dsgitops_commit_to_applied_seconds_sum")
    assert total == 3
    assert metrics.registry.get_sample_value("dsgitops_commit_to_applied_seconds_count") == 1


# ---------------------------------------------------------------------------- requests


@pytest.mark.parametrize(
    ("method", "path", "query", "told"),
    [
        ("GET", "/apis/apps/v1/namespaces/logging/daemonsets", {}, ("list", "daemonsets")),
        ("GET", "/apis/apps/v1/daemonsets", {"watch": "1"}, ("watch", "daemonsets")),
        ("PATCH", "/apis/apps/v1/namespaces/a/daemonsets/b", {}, ("patch", "daemonsets")),
        ("GET", "/api/v1/nodes", {"watch": "true"}, ("watch", "nodes")),
        ("GET", "/api/v1/namespaces/pods/pods/pods", {}, ("get", "pods")),
        ("DELETE", "/api/v1/namespaces/a/pods/b", {}, ("delete", "pods")),
        ("POST", "/apis/events.k8s.io/v1/namespaces/a/events", {}, ("create", "events")),
        ("PUT", "/apis/coordination.k8s.io/v1/namespaces/a/leases/b", {}, ("update", "leases")),
        ("GET", "/apis/secrets.example/v1/namespaces/a/things/b", {}, ("get", "other")),
        ("GET", "/api/v1/namespaces/a", {}, ("get", "other")),
        ("GET", "/version", {}, ("get", "other")),
        ("GET", "/", {}, ("get", "other")),
    ],
)
def test_a_request_is_called_as_rbac_calls_it(method, path, query, told):
    assert verb_and_resource(Request(method=method, path=path, query=query)) == told


class Server:
    """A transport that answers as it is told."""

    host = "cluster.example"
    namespace = "dsgitops"

    def __init__(self):
        self.status = 200
        self.lines_to_come = [b"{}"]
        self.is_over = False
        self.headers = {}

    def send(self, request):
        if not self.status:
            raise ClusterUnreachable("away")
        return Response(status=self.status)

    def open(self, request, wake):
        return self

    def lines(self):
        taken, self.lines_to_come = self.lines_to_come, []
        return taken

    @property
    def ended(self):
        return self.is_over

    def close(self):
        self.is_over = True


def test_requests_are_counted_by_their_answer_and_a_watch_once():
    server = Server()
    metrics = Metrics(StandingClock())
    transport = CountedTransport(server, metrics.requested)
    listed = Request(method="GET", path="/api/v1/nodes")
    watched = Request(method="GET", path="/api/v1/nodes", query={"watch": "1"})

    transport.send(listed)
    server.status = 0
    with pytest.raises(ClusterUnreachable):
        transport.send(listed)
    stream = transport.open(watched, lambda: None)
    assert not stream.ended  # nothing came yet: nothing to count
    server.status = 410
    assert stream.lines() == [b"{}"]
    stream.close()
    assert stream.status == 410

    def count(verb, code):
        labels = {"verb": verb, "resource": "nodes", "code": code}
        return metrics.registry.get_sample_value("dsgitops_api_requests_total", labels)

    assert (count("list", "200"), count("list", "none")) == (1, 1)
    assert (count("watch", "410"), count("watch", "none")) == (1, None)
    assert transport.namespace == "dsgitops"


def test_a_watch_that_dies_before_its_answer_is_counted_as_unanswered():
    server = Server()
    metrics = Metrics(StandingClock())
    transport = CountedTransport(server, metrics.requested)
    server.status = 0
    stream = transport.open(Request(method="GET", path="/api/v1/pods", query={"watch": "1"}), id)
    server.is_over = True

    assert stream.ended
    assert stream.ended
    labels = {"verb": "watch", "resource": "pods", "code": "none"}
    assert metrics.registry.get_sample_value("dsgitops_api_requests_total", labels) == 1


# ---------------------------------------------------------------------------- the text


def test_what_is_declared_is_what_is_served_and_nothing_else():
    here = Counted(nodes=3)
    here.come_to("Idle", image="1")
    here.metrics.requested(Request(method="GET", path="/api/v1/nodes"), 200)

    families = {
        line.split()[2]: line.split()[3]
        for line in here.metrics.text().decode().splitlines()
        if line.startswith("# TYPE")
    }
    assert families == {each.name: each.kind for each in DECLARED}
    assert "_created" not in here.metrics.text().decode()


def test_the_design_s_names_and_labels_are_kept_to_the_letter():
    page = Path(__file__).parents[3] / "shared" / "design" / "interfaces.md"
    if not page.exists():
        pytest.skip("../shared/design/interfaces.md is not here")
    section = page.read_text().split("## Metrics")[1].split("##")[0]

    for each in DECLARED:
        labels = f"{{{','.join(each.labels)}}}" if each.labels else ""
        assert f"`{each.name}{labels}`" in section
    assert section.count("`dsgitops_") == len(DECLARED)


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not here (Debian: prometheus)")
def test_promtool_finds_nothing_to_mend():
    here = Counted(nodes=3)
    here.come_to("Idle", image="1")
    here.come_to("Held", image="2-missing")

    done = subprocess.run(
        [PROMTOOL, "check", "metrics"], input=here.metrics.text(), capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_thousand_daemonsets_cost_little_memory():
    here = Counted(nodes=3)
    here.come_to("Idle", image="1")
    agent = here.scene.drive.agent
    (decision,) = agent.decisions.values()
    (ref,) = agent.decisions
    metrics = Metrics(here.scene.world.clock, ["agents"])
    gc.collect()
    tracemalloc.start()
    refs = [type(ref)("agents", f"agent-{each}") for each in range(1000)]
    before, _ = tracemalloc.get_traced_memory()
    for each in refs:
        metrics.tell(each, decision, NOW, news=False)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert after - before < 600_000
