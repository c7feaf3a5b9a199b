"""Server-side apply over many manifests: what must hold whatever they say."""

from __future__ import annotations

import copy

import pytest
from contract.client import STRATEGIC, Cluster, manifest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from dsgitops.core.ownership import takeover
from dsgitops.sim import fields
from dsgitops.sim.api import ApiServer
from dsgitops.sim.clock import VirtualClock
from dsgitops.sim.schema import Mismatch, check_typed, kind, shown
from dsgitops.sim.store import Store
from dsgitops.sim.transport import SimTransport

DAEMON_SET = kind("DaemonSet")

QUICK = (Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink)
"""All but `explain`, which traces every line and makes these tests ten times slower."""

PROBES = st.sampled_from(
    [
        {"httpGet": {"port": 80}},
        {"httpGet": {"port": "http", "path": "/x"}, "periodSeconds": 3},
        {"exec": {"command": ["true"]}},
        {"tcpSocket": {"port": 80}, "initialDelaySeconds": 5},
    ]
)
VARIABLES = st.sampled_from(
    [
        {"value": "1"},
        {"value": "2"},
        {},
        {"valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}},
    ]
)
SOURCES = st.sampled_from(
    [{"emptyDir": {}}, {"hostPath": {"path": "/x"}}, {"configMap": {"name": "c"}}]
)


@st.composite
def containers(draw, name):
    env = draw(st.lists(st.sampled_from("ABCD"), unique=True, max_size=4))
    ports = draw(st.lists(st.sampled_from([53, 80, 443]), unique=True))
    body = {
        "name": name,
        "image": draw(st.sampled_from(["x:1", "x:2"])),
        "env": [{"name": each, **draw(VARIABLES)} for each in env],
        "ports": [{"containerPort": each} for each in ports],
        "args": draw(st.lists(st.sampled_from(["-a", "-b"]))),
        "resources": draw(
            st.sampled_from([{}, {"limits": {"cpu": "1000m"}}, {"requests": {"memory": "1Gi"}}])
        ),
    }
    if draw(st.booleans()):
        body["readinessProbe"] = draw(PROBES)
    return {key: each for key, each in body.items() if each or key == "image"}


@st.composite
def manifests(draw):
    body = manifest()
    spec = body["spec"]["template"]["spec"]
    others = draw(st.lists(st.sampled_from(["side", "third"]), unique=True))
    names = draw(st.permutations(["agent", *others]))
    spec["containers"] = [draw(containers(name)) for name in names]
    volumes = draw(st.lists(st.sampled_from(["data", "extra"]), unique=True))
    spec["volumes"] = [{"name": name, **draw(SOURCES)} for name in volumes]
    spec["tolerations"] = draw(st.sampled_from([[], [{"operator": "Exists"}]]))
    spec["nodeSelector"] = draw(st.sampled_from([{}, {"pool": "a"}, {"pool": "b", "x": "y"}]))
    if draw(st.booleans()):
        body["spec"]["minReadySeconds"] = draw(st.integers(min_value=1, max_value=9))
    body["metadata"]["labels"] = draw(st.sampled_from([{}, {"a": "b"}, {"a": "c", "d": "e"}]))
    return body


def fresh_cluster():
    clock = VirtualClock()
    api = ApiServer(Store(clock.now), clock)
    return Cluster(SimTransport(api), "default", lambda holds: holds(), lambda _: None)


def fresh(cluster, body):
    """What a new object of this manifest would be."""
    body = copy.deepcopy(body)
    body["metadata"]["name"] = "fresh"
    answer = cluster.apply(body, dryRun="All")
    assert answer.status == 201, answer.body
    return answer.body


def take_over(cluster):
    entries = takeover(cluster.get()["metadata"]["managedFields"])
    if entries:
        assert cluster.patch({"metadata": {"managedFields": entries}}).status == 200


@given(manifests(), manifests())
@settings(max_examples=60, deadline=None, phases=QUICK)
def test_applying_one_manifest_after_another_leaves_just_the_second(first, second):
    cluster = fresh_cluster()
    assert cluster.apply(first).status == 201

    live = cluster.apply(second)

    assert live.status == 200, live.body
    assert live.body["spec"] == fresh(cluster, second)["spec"]
    assert live.body["metadata"].get("labels", {}) == second["metadata"]["labels"]
    assert cluster.apply(second).body == live.body


@given(manifests(), manifests())
@settings(max_examples=60, deadline=None, phases=QUICK)
def test_after_a_takeover_it_does_not_matter_who_wrote_before(first, second):
    cluster = fresh_cluster()
    assert cluster.create(first).status == 201
    take_over(cluster)

    live = cluster.apply(second).body

    assert live["spec"] == fresh(cluster, second)["spec"]
    assert takeover(live["metadata"]["managedFields"]) is None


@given(manifests(), manifests(), manifests())
@settings(max_examples=60, deadline=None, phases=QUICK)
def test_a_rollback_is_exact_and_the_next_forward_too(good, bad, fix):
    cluster = fresh_cluster()
    template = cluster.apply(good).body["spec"]["template"]
    cluster.apply(bad)

    restore = {"spec": {"template": {"$patch": "replace", **template}}}
    back = cluster.patch(restore, media=STRATEGIC, manager="dsgitops").body
    assert back["spec"]["template"] == template

    take_over(cluster)
    live = cluster.apply(fix).body
    assert live["spec"] == fresh(cluster, fix)["spec"]


@given(manifests(), manifests())
@settings(max_examples=40, deadline=None, phases=QUICK)
def test_what_a_person_added_survives_every_apply(first, second):
    cluster = fresh_cluster()
    cluster.apply(first)
    added = [{"name": "agent", "env": [{"name": "PERSON", "value": "x"}]}]
    cluster.patch(
        {"spec": {"template": {"spec": {"containers": added}}}},
        media=STRATEGIC,
        manager="kubectl-set",
    )

    live = cluster.apply(second).body

    (agent,) = (
        each for each in live["spec"]["template"]["spec"]["containers"] if each["name"] == "agent"
    )
    assert {"name": "PERSON", "value": "x"} in agent["env"]


# ---------------------------------------------------------------------------- the parts


@given(manifests())
@settings(max_examples=30, deadline=None, phases=QUICK)
def test_entries_are_read_as_they_were_written(body):
    owner = fields.Owner("a", "Apply", "apps/v1")
    paths = fields.field_set(DAEMON_SET, body)
    managed = fields.Managed({owner: paths}, {owner: "2026-01-05T09:00:00Z"})

    again = fields.read(fields.written(managed))

    assert again.sets == managed.sets
    assert again.times == managed.times


@given(manifests(), manifests())
@settings(max_examples=30, deadline=None, phases=QUICK)
def test_a_comparison_is_empty_exactly_between_equals(one, two):
    found = fields.compare(DAEMON_SET, one, two)
    back = fields.compare(DAEMON_SET, two, one)

    assert (found.added, found.modified, found.removed) == (
        back.removed,
        back.modified,
        back.added,
    )
    assert not any(fields.compare(DAEMON_SET, one, copy.deepcopy(one)).written)


def test_the_oldest_updaters_are_united_when_there_are_too_many():
    cluster = fresh_cluster()
    cluster.apply(manifest())
    for number in range(15):
        label = {"metadata": {"labels": {f"label-{number}": "x"}}}
        cluster.patch(label, manager=f"writer-{number:02}")

    entries = cluster.get()["metadata"]["managedFields"]
    updaters = [each["manager"] for each in entries if each["operation"] == "Update"]
    assert len(updaters) == fields.MAX_UPDATERS
    assert "ancient-changes" in updaters
    assert "writer-14" in updaters


def test_a_controller_s_status_has_an_entry_of_its_own():
    live = {"apiVersion": "apps/v1", "metadata": {"name": "a"}, "status": {}}

    stamped = fields.status_stamped(live, {"numberReady": 1}, "controller", "2026-01-05T09:00:00Z")

    (entry,) = stamped["metadata"]["managedFields"]
    assert entry["subresource"] == "status"
    assert entry["fieldsV1"] == {"f:status": {"f:numberReady": {}}}
    assert fields.status_stamped(stamped, {"numberReady": 1}, "controller", "later") is stamped


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (("f:spec", "f:minReadySeconds"), ".spec.minReadySeconds"),
        (
            ("f:ports", 'k:{"containerPort":80,"protocol":"TCP"}'),
            '.ports[containerPort=80,protocol="TCP"]',
        ),
        (("f:finalizers", 'v:"orphan"'), '.finalizers[="orphan"]'),
        (("f:args", "i:0"), ".args[0]"),
    ],
)
def test_paths_are_shown_as_the_api_server_shows_them(path, text):
    assert shown(path) == text


def test_an_element_without_its_key_has_the_empty_key_and_only_one_may():
    body = {"spec": {"template": {"spec": {"containers": [{"image": "x"}]}}}}
    check_typed(DAEMON_SET, body)
    body["spec"]["template"]["spec"]["containers"].append({"image": "y"})

    with pytest.raises(Mismatch, match=r'containers: duplicate entries for key \[name=""\]'):
        check_typed(DAEMON_SET, body)
