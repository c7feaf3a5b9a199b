"""Whatever a client sends, it gets an answer: the server never falls over."""

from __future__ import annotations

import copy
import functools
import json

import pytest
from contract.client import APPLY, JSON_PATCH, MERGE, STRATEGIC, Cluster, manifest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from dsgitops.ports import Request
from dsgitops.sim.api import ApiServer
from dsgitops.sim.clock import VirtualClock
from dsgitops.sim.store import Store
from dsgitops.sim.transport import SimTransport

QUICK = (Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink)
"""All but `explain`, which traces every line and makes these tests ten times slower."""

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(min_value=-(2**40), max_value=2**40),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=6),
    st.lists(st.none() | st.integers() | st.text(max_size=3), max_size=3),
    st.dictionaries(
        st.text(max_size=5), st.none() | st.integers() | st.text(max_size=3), max_size=3
    ),
)


def paths(value, path=()):
    yield path
    children = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, each in children:
        yield from paths(each, (*path, key))


def rich():
    body = manifest()
    spec = body["spec"]["template"]["spec"]
    spec["containers"][0] |= {
        "readinessProbe": {"httpGet": {"port": 80}},
        "lifecycle": {"preStop": {"exec": {"command": ["x"]}}},
        "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}},
        "envFrom": [{"configMapRef": {"name": "c"}}],
        "securityContext": {"capabilities": {"add": ["NET_ADMIN"]}},
    }
    spec["volumes"].append({"name": "p", "projected": {"sources": [{"secret": {"name": "s"}}]}})
    spec["affinity"] = {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [
                    {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}
                ]
            }
        }
    }
    body["metadata"] |= {"finalizers": [], "ownerReferences": [], "annotations": {"a": "b"}}
    return body


PATHS = [path for path in paths(rich()) if path]


def broken(path, value):
    body = rich()
    node = body
    for step in path[:-1]:
        node = node[step]
    node[path[-1]] = value
    return body


@functools.cache
def cluster_with_agent():
    """One cluster for all: nothing here is ever stored."""
    clock = VirtualClock()
    api = ApiServer(Store(clock.now), clock)
    cluster = Cluster(SimTransport(api), "default", lambda holds: holds(), lambda _: None)
    assert cluster.create(manifest()).status == 201
    return cluster


@given(st.sampled_from(PATHS), VALUES)
@settings(max_examples=100, deadline=None, phases=QUICK)
def test_a_manifest_with_any_value_anywhere_is_answered(path, value):
    cluster = cluster_with_agent()
    body = broken(path, value)
    before = copy.deepcopy(cluster.get())

    answers = [
        cluster.apply(body, name="agent", dryRun="All"),
        cluster.call("POST", cluster.path(), body, dryRun="All"),
        cluster.call("PUT", cluster.path("agent"), body, dryRun="All"),
        cluster.patch(body, media=MERGE, dryRun="All"),
        cluster.patch(body, media=STRATEGIC, dryRun="All"),
    ]

    assert {answer.status for answer in answers} <= {200, 201, 400, 409, 422, 500}
    assert cluster.get() == before


@given(VALUES | st.lists(st.dictionaries(st.sampled_from(["op", "path", "value"]), VALUES)))
@settings(max_examples=80, deadline=None, phases=QUICK)
def test_any_json_is_answered_as_a_body(value):
    cluster = cluster_with_agent()

    for media in (APPLY, MERGE, STRATEGIC, JSON_PATCH):
        body = json.dumps(value).encode()
        answer = cluster.call(
            "PATCH", cluster.path("agent"), body, media=media, fieldManager="x", dryRun="All"
        )
        assert answer.status in (200, 400, 422, 500)
    answer = cluster.call("POST", cluster.path(), json.dumps(value).encode(), dryRun="All")
    assert answer.status in (200, 201, 400, 409, 422)
    options = value | {"dryRun": ["All"]} if isinstance(value, dict) else value
    answer = cluster.call("DELETE", cluster.path("agent"), json.dumps(options).encode())
    assert answer.status in (200, 400, 409, 422)


@pytest.mark.parametrize(
    "query",
    [
        {"limit": "x"},
        {"limit": "-1"},
        {"continue": "%%%"},
        {"continue": "e30"},
        {"resourceVersion": "x"},
        {"labelSelector": "a in b"},
        {"fieldSelector": "a"},
    ],
)
def test_a_query_that_makes_no_sense_is_a_bad_request(query):
    cluster = cluster_with_agent()

    assert cluster.call("GET", cluster.path(), **query).status == 400


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/", 404),
        ("GET", "/api/v1/namespaces/default/pods/a/b/c", 404),
        ("GET", "/apis/apps/v2/daemonsets", 404),
        ("POST", "/apis/apps/v1/namespaces/default/daemonsets/agent", 405),
        ("PUT", "/apis/apps/v1/namespaces/default/daemonsets", 405),
        ("PATCH", "/api/v1/nodes", 405),
        ("GET", "/api/v1/namespaces/default/pods/a/exec", 404),
    ],
)
def test_a_path_or_method_that_nothing_serves_is_told_so(method, path, code):
    cluster = cluster_with_agent()

    request = Request(method=method, path=path)

    assert cluster.transport.send(request).status == code
