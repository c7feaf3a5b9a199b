"""The cluster adapter over the simulated API server, controllers and kubelets."""

from __future__ import annotations

import json
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from random import Random

import pytest

from dsgitops.adapters.kubernetes import wire
from dsgitops.adapters.kubernetes.cluster import KubernetesCluster
from dsgitops.adapters.kubernetes.dry import DryRun
from dsgitops.adapters.kubernetes.following import OWN_WATCHES_MAX, label_selector
from dsgitops.adapters.kubernetes.transport import connect
from dsgitops.adapters.kubernetes.writes import request_of
from dsgitops.core import bodies
from dsgitops.core.actions import Apply, DeletePod, Prune, Recall, Rehearse, Remember, Restore
from dsgitops.core.model import Desired, Phase, Ref
from dsgitops.core.record import LastGood, Record
from dsgitops.errors import ActionRefused, ClusterUnreachable, Stale
from dsgitops.ports import NONE, Response
from dsgitops.sim.access import from_policy
from dsgitops.sim.faults import Fault, Faults, Kind
from dsgitops.sim.http import HttpServer
from dsgitops.sim.world import World

REF = Ref("logging", "agent")


def manifest(name="agent", tag="v1", namespace="logging", **spec):
    labels = {"app": name}
    container = {"name": "agent", "image": f"quay.io/acme/agent:{tag}"}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
            **spec,
        },
    }


def desired(content, digest="sha256:d1"):
    meta = content["metadata"]
    return Desired(
        ref=Ref(meta["namespace"], meta["name"]),
        source="s",
        path="a.yaml",
        commit="main@sha1:1",
        manifest=content,
        digest=digest,
        template="sha256:t",
    )


RECORD = Record(source="s", commit="main@sha1:1", digest="sha256:d1")


class Dead:
    """A watch that was never answered."""

    status, headers, ended = 0, NONE, True

    def lines(self):
        return []

    def close(self):
        pass


class Tap:
    """A transport that counts, and can be cut, fenced or made to lose answers."""

    def __init__(self, inner):
        self.inner, self.host = inner, inner.host
        self.requests, self.opened, self.streams = [], [], []
        self.down, self.namespaced, self.lose_answers = False, False, False

    def send(self, request):
        if self.down:
            raise ClusterUnreachable("cut", landed=False)
        self.requests.append(request)
        if self.namespaced and "/namespaces/" not in request.path and "nodes" not in request.path:
            return Response(status=403, body=b'{"kind":"Status","code":403}')
        response = self.inner.send(request)
        if self.lose_answers and request.method != "GET":
            raise ClusterUnreachable("lost", landed=None)
        return response

    def open(self, request, wake):
        self.opened.append(request)
        if self.down:
            return Dead()
        stream = self.inner.open(request, wake)
        self.streams.append(stream)
        return stream

    def watched(self, resource):
        return [each for each in self.opened if each.path.endswith(resource)]


class Scene:
    """A world, a cluster adapter on it, and time for both."""

    def __init__(self, namespaces=("logging",), nodes=3):
        self.world = World(nodes=nodes, seed=3)
        for namespace in (*namespaces, "other"):
            self.world.make_namespace(namespace)
        self.faults = Faults(seed=1)
        transport = self.world.transport()
        transport.faults = self.faults
        self.tap = Tap(transport)
        self.cluster = KubernetesCluster(self.tap, namespaces=namespaces, rng=Random(1))

    @property
    def now(self):
        return self.world.now

    def go(self, seconds=0.0, step=0.5):
        """Let both live; return the DaemonSets that it mattered to."""
        touched = set(self.cluster.pump(self.now))
        for _ in range(round(seconds / step)):
            self.world.advance(step)
            touched |= self.cluster.pump(self.now)
        return touched

    def observe(self, ref=REF):
        return self.cluster.observe(ref, self.now)

    def live(self, ref=REF):
        live = self.observe(ref).live
        assert live is not None
        return live

    def perform(self, action):
        self.cluster.perform(action, self.now)

    def apply(self, content=None, digest="sha256:d1", *, hold=False, record=RECORD):
        wanted = desired(content or manifest(), digest)
        live = self.observe(wanted.ref).live
        body = bodies.forward(wanted, live, record, hold=hold)
        self.perform(Apply(ref=wanted.ref, body=body, digest=digest))

    def rehearse(self, content=None, digest="sha256:d1"):
        wanted = desired(content or manifest(), digest)
        body = bodies.forward(wanted, self.observe(wanted.ref).live, RECORD, hold=False)
        self.perform(Rehearse(ref=wanted.ref, body=body, digest=digest))
        return self.observe(wanted.ref).rehearsal

    def writes(self):
        return [each for each in self.tap.requests if each.method != "GET"]

    def stored(self, ref=REF):
        return self.world.store.get("daemonsets", ref.namespace, ref.name)

    def edit(self, ref=REF, **changes):
        """Change the stored object behind our back: `labels=…`, `spec=…`, `status=…`."""
        content = dict(self.stored(ref))
        for key, value in changes.items():
            if key == "labels":
                content["metadata"] = {**content["metadata"], "labels": value}
            else:
                content[key] = {**content.get(key, {}), **value}
        self.world.store.update("daemonsets", content)


@pytest.fixture
def scene():
    return Scene()


@pytest.fixture
def running(scene):
    """`logging/agent` at v1 on three nodes, written by us, and seen."""
    scene.go()
    scene.apply()
    scene.go(15)
    return scene


# ---------------------------------------------------------------------------- seeing


def test_a_quiet_cluster_is_three_watches_and_no_pods(running):
    observed = running.observe()

    assert [each.path.rpartition("/")[2] for each in running.tap.opened] == [
        "nodes",
        "daemonsets",
        "controllerrevisions",
    ]
    assert (observed.pods, observed.followed) == ((), False)
    assert [each.name for each in observed.nodes] == ["node-1", "node-2", "node-3"]
    assert observed.live_since is not None
    assert running.live().available == 3


def test_nothing_is_asked_while_nothing_happens(running):
    before = len(running.tap.requests), len(running.tap.opened)
    running.go(200)

    assert (len(running.tap.requests), len(running.tap.opened)) == before


def test_the_revision_of_the_live_template_is_seen(running):
    (revision,) = running.observe().revisions

    assert revision.template == running.live().template
    assert revision.owner == running.live().uid
    assert revision.number == 1


def test_only_daemonsets_with_our_record_in_managed_namespaces_are_ours(running):
    running.world.apply(manifest("theirs"))
    running.world.apply(manifest("far", namespace="other"))
    touched = running.go(2)

    assert running.cluster.refs() == {REF}
    assert Ref("logging", "theirs") in touched
    assert running.observe(Ref("logging", "theirs")).live is not None
    assert running.observe(Ref("other", "far")).live is None


def test_other_rollouts_are_counted_by_their_records(running):
    rolling = replace(RECORD, phase=Phase.ROLLING)
    running.apply(manifest("second"), record=rolling)

    assert running.observe().rolling_elsewhere == 1
    assert running.observe(Ref("logging", "second")).rolling_elsewhere == 0


def test_a_deleted_daemonset_and_its_revisions_are_gone(running):
    live = running.live()
    running.perform(Prune(ref=REF, uid=live.uid, resource_version=live.resource_version))
    touched = running.go(20)

    observed = running.observe()
    assert REF in touched
    assert (observed.live, observed.revisions) == (None, ())
    assert running.cluster.refs() == frozenset()


def test_more_namespaces_than_a_few_are_one_watch():
    scene = Scene(namespaces=tuple(f"n{i}" for i in range(6)))
    scene.world.apply(manifest(namespace="n3"))
    scene.go(2)

    assert [each.path for each in scene.tap.watched("daemonsets")] == ["/apis/apps/v1/daemonsets"]
    assert scene.observe(Ref("n3", "agent")).live is not None


def test_without_the_cluster_wide_right_each_namespace_is_watched():
    scene = Scene(namespaces=tuple(f"n{i}" for i in range(6)))
    scene.tap.namespaced = True
    scene.world.apply(manifest(namespace="n3"))
    scene.go(2)

    assert len(scene.tap.watched("daemonsets")) == 6
    assert scene.observe(Ref("n3", "agent")).live_since is not None
    assert scene.observe(Ref("n3", "agent")).live is not None


# ---------------------------------------------------------------------------- nodes


def test_a_heartbeat_matters_to_nobody_and_a_label_to_all(running):
    node = running.world.store.get("nodes", "", "node-1")
    status = {**node["status"], "images": [{"names": ["x"]}]}
    running.world.store.update("nodes", {**node, "status": status})
    assert running.go() == set()

    running.world.label("node-1", pool="a")
    assert running.go() == {REF}
    assert running.observe().nodes[0].labels["pool"] == "a"


def test_a_node_that_turns_not_ready_matters_to_those_that_are_followed(running):
    running.world.apply(manifest("second"))
    running.go(10)
    running.cluster.follow(frozenset({REF}))
    running.go(2)
    running.world.kill_kubelet("node-2")
    running.go(40)
    node = running.world.store.get("nodes", "", "node-2")
    conditions = [
        {**each, "status": "Unknown"} if each["type"] == "Ready" else each
        for each in node["status"]["conditions"]
    ]
    running.world.store.update(
        "nodes", {**node, "status": {**node["status"], "conditions": conditions}}
    )

    assert running.go() == {REF}


# ---------------------------------------------------------------------------- following


def test_pods_and_events_are_there_while_followed_and_only_then(running):
    running.cluster.follow(frozenset({REF}))
    assert not running.observe().followed
    assert running.cluster.next_timer() <= running.now, "there is something to do"
    touched = running.go()

    observed = running.observe()
    assert REF in touched
    assert observed.followed
    assert {pod.node for pod in observed.pods} == {"node-1", "node-2", "node-3"}
    assert {event.reason for event in observed.events} >= {"SuccessfulCreate"}
    assert observed.chronicle is not None

    running.cluster.follow(frozenset())
    running.go()
    quiet = running.observe()
    assert (quiet.pods, quiet.followed, quiet.chronicle) == ((), False, None)


def test_pods_of_others_are_left_out(running):
    running.world.apply(manifest("second"))
    running.go(10)
    running.cluster.follow(frozenset({REF}))
    running.go(1)

    assert {pod.owner for pod in running.observe().pods} == {running.live().uid}
    assert all("second" not in event.name for event in running.observe().events)


def test_many_followed_in_one_namespace_share_a_watch(running):
    refs = {Ref("logging", f"agent-{i}") for i in range(9)}
    for ref in sorted(refs):
        running.world.apply(manifest(ref.name))
    running.go(10)
    running.cluster.follow(frozenset(refs))
    running.go(1)

    assert len(running.tap.watched("pods")) == OWN_WATCHES_MAX + 1
    assert len(running.tap.watched("events")) == 1
    assert all(len(running.observe(ref).pods) == 3 for ref in refs)
    assert all(running.observe(ref).followed for ref in refs)


def test_a_pod_that_is_released_by_its_owner_is_no_longer_its_own(running):
    running.cluster.follow(frozenset({REF}))
    running.go()
    pod = running.world.store.list("pods", "logging")[0]
    metadata = {**pod["metadata"], "ownerReferences": []}
    running.world.store.update("pods", {**pod, "metadata": metadata})

    assert running.go() == {REF}
    assert pod["metadata"]["uid"] not in {each.uid for each in running.observe().pods}


def test_a_daemonset_made_anew_is_followed_afresh(running):
    running.cluster.follow(frozenset({REF}))
    running.go(1)
    before = running.observe().chronicle
    live = running.live()
    running.perform(Prune(ref=REF, uid=live.uid, resource_version=live.resource_version))
    running.go(20)
    running.apply()
    running.go(15)

    observed = running.observe()
    assert observed.live is not None
    assert observed.live.uid != live.uid
    assert {pod.owner for pod in observed.pods} == {observed.live.uid}
    assert observed.chronicle is not before


def test_a_selector_is_written_as_lists_take_it():
    selector = {
        "matchLabels": {"app": "a"},
        "matchExpressions": [
            {"key": "tier", "operator": "In", "values": ["x", "y"]},
            {"key": "env", "operator": "NotIn", "values": ["z"]},
            {"key": "on", "operator": "Exists"},
            {"key": "off", "operator": "DoesNotExist"},
        ],
    }

    assert label_selector(selector) == "app=a,tier in (x,y),env notin (z),on,!off"


# ---------------------------------------------------------------------------- blind times


def test_an_api_server_away_makes_all_blind_and_tells_so(running):
    running.tap.down = True
    for stream in running.tap.streams:
        stream.close()
    running.go(3)
    assert running.observe().live_since is not None, "too short to matter"

    touched = running.go(10)
    assert REF in touched
    assert running.observe().live_since is None
    assert running.observe().live is not None, "what was seen last is still shown"
    assert running.cluster.faults()

    running.tap.down = False
    touched = running.go(60)
    assert REF in touched
    since = running.observe().live_since
    assert since is not None
    assert since > running.now - timedelta(seconds=61)
    assert not running.cluster.faults()


def test_pods_that_are_followed_from_now_on_were_no_blind_time_but_a_lost_watch_is(running):
    since = running.observe().live_since
    running.cluster.follow(frozenset({REF}))
    running.go(1)
    assert running.observe().live_since == since

    running.faults.add(Fault(kind=Kind.DOWN, path="pods", methods=("GET", "WATCH")))
    next(each for each in running.tap.streams if "pods" in repr(each.terms)).close()
    running.go(120)
    assert running.observe().live_since is None
    running.faults.faults.clear()
    running.go(40)
    back = running.observe().live_since
    assert back is not None
    assert back > since


# ---------------------------------------------------------------------------- writing


def test_a_create_shows_at_once_with_its_record(scene):
    scene.go()
    scene.apply()

    live = scene.live()
    assert "dsgitops.io/record" in live.annotations
    assert live.generation == 1
    assert scene.cluster.refs() == {REF}
    assert scene.go() >= {REF}


def test_requests_are_as_the_api_server_wants_them(running):
    live = running.live()
    running.perform(Remember(ref=REF, body=bodies.remember(live, RECORD.next())))
    apply, remember = running.writes()

    assert apply.headers["Content-Type"] == "application/apply-patch+yaml"
    assert dict(apply.query) == {
        "fieldManager": "dsgitops",
        "force": "true",
        "fieldValidation": "Strict",
    }
    assert remember.headers["Content-Type"] == "application/merge-patch+json"
    assert dict(remember.query) == {"fieldManager": "dsgitops-record"}
    sent = json.loads(remember.body)["metadata"]
    assert (sent["uid"], sent["resourceVersion"]) == (live.uid, live.resource_version)


def test_the_record_alone_restarts_nothing_and_shows_at_once(running):
    live = running.live()
    running.perform(Remember(ref=REF, body=bodies.remember(live, RECORD.next())))

    after = running.live()
    assert after.generation == live.generation
    assert json.loads(after.annotations["dsgitops.io/record"])["n"] == 1


def test_our_answer_is_not_undone_by_older_events_of_the_watch(running):
    running.edit(labels={"a": "1"})
    running.edit(labels={"a": "2"})
    running.cluster.pump(running.now)
    live = running.live()
    running.perform(Remember(ref=REF, body=bodies.remember(live, RECORD.next())))
    version = running.live().resource_version
    running.go()

    assert running.live().resource_version == version


def test_a_status_written_in_between_does_not_stop_a_write(running):
    live = running.live()
    body = bodies.remember(live, RECORD.next())
    running.edit(status={"numberAvailable": 2})
    running.perform(Remember(ref=REF, body=body))

    assert json.loads(running.live().annotations["dsgitops.io/record"])["n"] == 1
    assert running.stored()["status"]["numberAvailable"] == 2


@pytest.mark.parametrize(
    "edit", [{"labels": {"by": "hand"}}, {"spec": {"minReadySeconds": 9}}], ids=["label", "spec"]
)
def test_anything_else_written_in_between_means_decide_anew(running, edit):
    live = running.live()
    running.edit(**edit)

    with pytest.raises(Stale):
        running.perform(Remember(ref=REF, body=bodies.remember(live, RECORD.next())))
    stored = running.stored()["metadata"]["annotations"]["dsgitops.io/record"]
    assert json.loads(stored)["n"] == 0


def test_an_object_made_anew_is_never_written_by_a_decision_about_the_old_one(running):
    live = running.live()
    wanted = desired(manifest(tag="v2"))
    running.world.store.remove("daemonsets", "logging", "agent")
    body = bodies.forward(wanted, live, RECORD, hold=False)

    with pytest.raises(Stale):
        running.perform(Apply(ref=REF, body=body, digest="sha256:d2"))
    assert running.stored() is None


def test_a_late_answer_does_not_bring_a_deleted_object_back(running):
    tap, inner = running.tap, running.tap.inner
    live = running.live()

    def deleted_before_the_answer_arrives(request):
        response = inner.send(request)
        running.world.store.remove("daemonsets", "logging", "agent")
        running.cluster.pump(running.now)
        return response

    tap.send = deleted_before_the_answer_arrives
    running.perform(Remember(ref=REF, body=bodies.remember(live, RECORD.next())))

    assert running.observe().live is None


def test_a_lost_answer_leaves_it_to_the_watch_to_tell(running):
    live = running.live()
    running.tap.lose_answers = True
    with pytest.raises(ClusterUnreachable) as caught:
        running.perform(Remember(ref=REF, body=bodies.remember(live, RECORD.next())))
    assert caught.value.landed is None

    running.go()
    assert json.loads(running.live().annotations["dsgitops.io/record"])["n"] == 1


def test_a_rollback_restores_the_revision_and_leaves_good_pods_alone(running, caplog):
    before = {each["metadata"]["uid"] for each in running.world.store.list("pods", "logging")}
    good = running.observe().revisions[0]
    running.apply(manifest(tag="v2"), "sha256:d2", hold=True)
    running.go(3)
    assert len(running.observe().revisions) == 2
    last_good = LastGood(
        digest="sha256:d1",
        commit="main@sha1:1",
        revision=good.name,
        hash=good.hash,
        strategy={"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}},
        at=running.now,
    )
    body = bodies.rollback(running.live(), good, last_good, RECORD, "back")
    with caplog.at_level(logging.WARNING):
        running.perform(Restore(ref=REF, body=body))
    running.go(10)

    assert running.live().template == good.template
    assert max(running.observe().revisions, key=lambda each: each.number).name == good.name
    after = {each["metadata"]["uid"] for each in running.world.store.list("pods", "logging")}
    assert after == before
    dry, real = running.writes()[-2:]
    assert (dry.query["dryRun"], "dryRun" in real.query) == ("All", False)
    assert not caplog.records


def test_a_rollback_that_is_not_exact_says_so(running, caplog):
    good = running.observe().revisions[0]
    template = json.loads(json.dumps(dict(good.template)))
    del template["spec"]["schedulerName"]
    last_good = LastGood(
        digest=None, commit=None, revision=good.name, hash=good.hash, at=running.now
    )
    body = bodies.rollback(
        running.live(), replace(good, template=template), last_good, RECORD, "back"
    )
    with caplog.at_level(logging.WARNING):
        running.perform(Restore(ref=REF, body=body))

    assert "not exact" in caplog.text
    assert "spec.template.spec.schedulerName" in caplog.text


# ---------------------------------------------------------------------------- pods


def delete(pod):
    return DeletePod(
        ref=REF, pod=pod.name, uid=pod.uid, resource_version=pod.resource_version, node=pod.node
    )


def test_a_deleted_pod_is_seen_terminating_at_once_and_replaced(running):
    running.cluster.follow(frozenset({REF}))
    running.go()
    pod = running.observe().pods[0]
    running.perform(delete(pod))

    (same,) = [each for each in running.observe().pods if each.uid == pod.uid]
    assert same.deleting is not None
    running.go(50)
    assert pod.uid not in {each.uid for each in running.observe().pods}
    assert len(running.observe().pods) == 3


def test_a_pod_that_changed_since_is_not_deleted(running):
    running.cluster.follow(frozenset({REF}))
    running.go()
    pod = running.observe().pods[0]

    for wrong in (replace(pod, uid="another"), replace(pod, resource_version="1")):
        with pytest.raises(Stale):
            running.perform(delete(wrong))
    with pytest.raises(Stale):
        running.perform(delete(replace(pod, name="gone")))
    assert all(each.deleting is None for each in running.observe().pods)


# ---------------------------------------------------------------------------- rehearsals


def test_a_rehearsal_of_what_is_there_is_equal(running):
    rehearsal = running.rehearse()

    assert rehearsal.equal
    assert not rehearsal.template_changes
    assert rehearsal.generation == running.live().generation


def test_a_rehearsal_names_the_fields_that_would_change_and_writes_nothing(running):
    before = running.stored()
    rehearsal = running.rehearse(manifest(tag="v2", minReadySeconds=5), "sha256:d2")

    assert rehearsal.template_changes
    assert not rehearsal.equal
    assert set(rehearsal.paths) == {
        "spec.minReadySeconds",
        "spec.template.spec.containers[0].image",
    }
    assert running.stored() == before


def test_a_rehearsal_of_metadata_alone_restarts_nothing(running):
    content = manifest()
    content["metadata"]["labels"] = {"team": "x"}
    rehearsal = running.rehearse(content)

    assert (rehearsal.equal, rehearsal.template_changes) == (False, False)
    assert rehearsal.paths == ("metadata.labels.team",)


def test_a_rehearsal_of_what_is_absent_creates_nothing(scene):
    scene.go()
    rehearsal = scene.rehearse()

    assert (rehearsal.equal, rehearsal.generation) == (False, 0)
    assert scene.stored() is None


def test_a_rehearsal_is_forgotten_when_the_content_is_changed_by_others(running):
    running.rehearse()
    running.edit(status={"numberAvailable": 1})
    running.go()
    assert running.observe().rehearsal is not None

    running.edit(labels={"by": "hand"})
    running.go()
    assert running.observe().rehearsal is None


def test_over_a_transport_of_dry_runs_nothing_is_taken_for_done(scene):
    scene.tap.inner = DryRun(scene.tap.inner)
    scene.go()
    scene.apply()
    scene.go(1)

    assert scene.stored() is None
    assert scene.observe().live is None


# ---------------------------------------------------------------------------- refusals


def test_a_refusal_is_remembered_for_its_content_until_something_is_accepted(running):
    broken = manifest(tag="v2")
    broken["spec"]["selector"] = {"matchLabels": {"app": "another"}}

    with pytest.raises(ActionRefused):
        running.apply(broken, "sha256:bad")
    refusal = running.observe().refusal
    assert refusal is not None
    assert (refusal.digest, refusal.code, refusal.at) == ("sha256:bad", 422, running.now)
    assert "spec.selector" in refusal.fields
    running.go(600)
    assert running.observe().refusal == refusal

    running.apply()
    assert running.observe().refusal is None


def test_unknown_fields_are_refused_for_good_although_the_server_says_500(running):
    content = manifest()
    content["spec"]["minReadySecond"] = 5

    with pytest.raises(ActionRefused):
        running.apply(content, "sha256:bad")
    assert running.observe().refusal.fields == ("spec.minReadySecond",)


def test_a_missing_namespace_is_asked_for_again(scene):
    scene = Scene(namespaces=("logging", "later"))
    scene.world.store.remove("namespaces", "", "later")
    ref = Ref("later", "agent")
    scene.go()
    with pytest.raises(ActionRefused, match="namespace does not exist"):
        scene.apply(manifest(namespace="later"))
    assert scene.observe(ref).refusal is not None

    touched = scene.go(301, step=1)
    assert ref in touched
    assert scene.observe(ref).refusal is None


# ---------------------------------------------------------------------------- rights

RIGHTS = (
    {
        "apiGroups": ["apps"],
        "resources": ["daemonsets"],
        "verbs": ["get", "list", "watch", "patch", "create", "delete"],
    },
    {
        "apiGroups": ["apps"],
        "resources": ["controllerrevisions"],
        "verbs": ["get", "list", "watch"],
    },
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch", "delete"]},
    {"apiGroups": [""], "resources": ["events"], "verbs": ["list", "watch"]},
)
NODES = ({"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch"]},)


def allowed(*namespaces, without=""):
    rules = [each for each in RIGHTS if without not in each["resources"]]
    given = from_policy(NODES, None)
    for namespace in namespaces:
        given += from_policy(rules, namespace)
    return given


def test_the_documented_rights_are_enough_for_everything():
    scene = Scene()
    scene.world.api.account.rules = allowed("logging")
    scene.go()
    scene.apply()
    scene.go(15)
    scene.rehearse(manifest(tag="v2"))
    scene.perform(Remember(ref=REF, body=bodies.remember(scene.live(), RECORD.next())))
    scene.cluster.follow(frozenset({REF}))
    scene.go(1)
    scene.perform(delete(scene.observe().pods[0]))
    scene.perform(
        Prune(ref=REF, uid=scene.live().uid, resource_version=scene.live().resource_version)
    )
    scene.go(30)

    assert scene.observe().live is None
    assert scene.cluster.faults() == {}


def test_a_namespace_whose_rights_are_taken_away_freezes_alone_and_thaws():
    scene = Scene(namespaces=("one", "two"))
    scene.world.api.account.rules = allowed("one", "two")
    for namespace in ("one", "two"):
        scene.world.apply(manifest(namespace=namespace))
    scene.go(5)
    scene.world.api.account.rules = allowed("one")
    for stream in scene.tap.streams:
        stream.close()
    scene.go(120)

    one, two = (scene.observe(Ref(each, "agent")) for each in ("one", "two"))
    assert one.live_since is not None
    assert (two.live_since, two.live is None) == (None, False), "frozen, not forgotten"
    assert isinstance(scene.cluster.faults()["daemonsets in two"], ActionRefused)

    scene.world.api.account.rules = allowed("one", "two")
    touched = scene.go(240, step=2)
    assert Ref("two", "agent") in touched
    assert scene.observe(Ref("two", "agent")).live_since is not None


def test_without_the_right_to_events_a_rollout_is_followed_all_the_same():
    scene = Scene()
    scene.go()
    scene.apply()
    scene.go(15)
    scene.world.api.account.rules = [
        rule for rule in allowed("logging") if rule.resources != ("events",)
    ]
    scene.cluster.follow(frozenset({REF}))
    scene.go(2)

    observed = scene.observe()
    assert observed.followed
    assert len(observed.pods) == 3
    assert observed.live_since is not None
    assert "events in logging" in scene.cluster.faults()


# ---------------------------------------------------------------------------- faults

READS = (Kind.DROPPED, Kind.SILENT, Kind.THROTTLED, Kind.ERROR, Kind.UNAVAILABLE, Kind.TIMEOUT,
         Kind.LOST_BEFORE, Kind.LOST_AFTER, Kind.STALE, Kind.FORBIDDEN)  # fmt: skip


def disturb(scene, dice):
    """Do something to the cluster that the watches have to tell."""
    pick = dice.randrange(6)
    if pick == 0:
        scene.edit(labels={"n": str(dice.randrange(1000))})
    elif pick == 1:
        scene.edit(status={"numberAvailable": dice.randrange(9)})
    elif pick == 2:
        scene.world.label("node-1", n=str(dice.randrange(1000)))
    elif pick == 3 and (pods := scene.world.store.list("pods", "logging")):
        scene.world.delete_pod("logging", dice.choice(pods)["metadata"]["name"])
    elif pick == 4:
        scene.world.store.compact(scene.world.store.version)
    elif pick == 5:
        scene.world.apply(manifest(f"d{dice.randrange(3)}", tag=f"v{dice.randrange(9)}"))


def assert_the_copy_is_true(scene):
    store = scene.world.store
    for stored in store.list("daemonsets", "logging"):
        ref = Ref("logging", stored["metadata"]["name"])
        assert scene.observe(ref).live == wire.daemonset(stored)
    assert {each.name: each for each in scene.observe().nodes} == {
        each["metadata"]["name"]: wire.node(each) for each in store.list("nodes")
    }
    uid = scene.live().uid
    pods = [wire.pod(each) for each in store.list("pods", "logging")]
    theirs = {pod.name: pod for pod in pods if pod.owner == uid}
    assert {pod.name: pod for pod in scene.observe().pods} == theirs
    owned = [wire.revision(each) for each in store.list("controllerrevisions", "logging")]
    assert set(scene.observe().revisions and [r.name for r in scene.observe().revisions]) == {
        each.name for each in owned if each.owner == uid
    }


@pytest.mark.parametrize("seed", range(12))
def test_whatever_goes_wrong_the_copy_ends_true_and_never_goes_back(running, seed):
    dice = Random(seed)
    running.cluster.follow(frozenset({REF}))
    running.go(1)
    kinds = dice.sample(READS, 4)
    for kind in kinds:
        running.faults.add(
            Fault(kind=kind, methods=("GET", "WATCH"), probability=dice.uniform(0.1, 0.6))
        )
    version = 0
    for _ in range(60):
        disturb(running, dice)
        running.go(dice.choice((0.5, 2, 10)), step=0.5)
        seen = int(running.live().resource_version)
        assert seen >= version or Kind.STALE in kinds
        version = seen

    running.faults.faults.clear()
    running.go(400, step=2)

    assert_the_copy_is_true(running)
    assert running.observe().live_since is not None
    assert running.cluster.faults() == {}


def test_no_fault_makes_a_storm_of_requests(running):
    running.faults.add(Fault(kind=Kind.ERROR, methods=("GET", "WATCH")))
    for stream in running.tap.streams:
        stream.close()
    before = len(running.tap.requests) + len(running.tap.opened)
    running.go(600, step=1)

    assert len(running.tap.requests) + len(running.tap.opened) - before < 3 * 60


# ---------------------------------------------------------------------------- never


def test_versions_that_are_no_precondition_are_never_sent(running):
    for version in ("", "0", "abc"):
        body = {"metadata": {"uid": "u", "resourceVersion": version}}
        with pytest.raises(ValueError, match="precondition"):
            request_of(Remember(ref=REF, body=body))


def test_nothing_outside_the_managed_namespaces_is_ever_written(running):
    with pytest.raises(ValueError, match="outside"):
        running.perform(Remember(ref=Ref("other", "agent"), body={"metadata": {}}))
    with pytest.raises(ValueError, match="recalled"):
        running.perform(Recall(ref=REF, source="s", commit="c", path="p"))


def test_closing_ends_every_watch(running):
    running.cluster.follow(frozenset({REF}))
    running.go()
    running.cluster.close()
    before = len(running.tap.requests), len(running.tap.opened)
    running.go(200, step=5)

    assert (len(running.tap.requests), len(running.tap.opened)) == before


# ---------------------------------------------------------------------------- over HTTP


@pytest.fixture
def served(tmp_path):
    """The simulated API server on loopback, and the adapter with threads, as in production."""
    world = World(nodes=3, seed=3)
    world.make_namespace("logging")
    lock, woken = threading.RLock(), threading.Event()
    server = HttpServer(world.api, lock)
    server.start()
    server.write_kubeconfig(tmp_path / "kubeconfig")
    transport = connect(str(tmp_path / "kubeconfig"), environ={})
    with ThreadPoolExecutor(4) as pool:
        cluster = KubernetesCluster(
            transport, namespaces=["logging"], rng=Random(1), run=pool, wake=woken.set
        )
        yield Served(world, lock, woken, cluster, server)
        cluster.close()
        server.stop()
    transport.close()


@dataclass
class Served:
    """What `served` gives."""

    world: World
    lock: threading.RLock
    woken: threading.Event
    cluster: KubernetesCluster
    server: HttpServer

    def advance(self, seconds):
        with self.lock:
            self.world.advance(seconds)

    def until(self, true, within=30.0):
        """Pump whenever woken, as the agent does."""
        ends = time.monotonic() + within
        while not true(self.cluster.observe(REF, self.world.now)):
            assert time.monotonic() < ends, "it did not happen in time"
            self.woken.wait(0.2)
            self.woken.clear()
            self.cluster.pump(self.world.now)


def test_a_rollout_is_seen_over_real_http_with_real_threads(served):
    served.until(lambda seen: seen.live_since is not None)
    wanted = desired(manifest())
    body = bodies.forward(wanted, None, RECORD, hold=False)
    served.cluster.perform(Apply(ref=REF, body=body, digest="sha256:d1"), served.world.now)
    assert served.cluster.refs() == {REF}

    served.cluster.follow(frozenset({REF}))
    served.advance(15)
    served.until(lambda seen: seen.live.available == 3 and len(seen.pods) == 3)
    served.until(lambda seen: len(seen.revisions) == 1 and len(seen.events) >= 3)

    with served.lock:
        served.world.delete_pod("logging", served.world.store.list("pods")[0]["metadata"]["name"])
    served.until(lambda seen: any(pod.deleting for pod in seen.pods))
    live = served.cluster.observe(REF, served.world.now).live
    served.cluster.perform(
        Remember(ref=REF, body=bodies.remember(live, RECORD.next())), served.world.now
    )


def test_a_server_that_goes_away_for_good_does_not_hold_up_anything(served):
    served.until(lambda seen: seen.live_since is not None)
    served.server.stop()
    begun = time.monotonic()
    for _ in range(20):
        served.cluster.pump(served.world.now)
    served.cluster.close()

    assert time.monotonic() - begun < 10
