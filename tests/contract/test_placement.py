"""Which nodes a DaemonSet's pods belong to: what the agent computes is what the controller does.

The agent's own rules (`core/eligible.py`) are held against the pods that come (`daemonsets.md` 1.3).
"""

from __future__ import annotations

from contextlib import contextmanager

from contract.client import manifest
from contract.fleet import patch_node, roll_out, status_is, version

from dsgitops.core.eligible import Eligible
from dsgitops.core.model import Node, Taint

ALL = {"operator": "Exists"}


def template(**spec):
    body = manifest()["spec"]["template"]
    body["spec"] |= spec
    return body


def required(*terms):
    affinity = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [*terms]}}
    return {"affinity": {"nodeAffinity": affinity}}


def label(key, operator, *values):
    return {"matchExpressions": [{"key": key, "operator": operator} | given(values)]}


def given(values):
    return {"values": [*values]} if values else {}


def named(*names):
    return {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [*names]}]}


def tolerating(*tolerations):
    return {"tolerations": [*tolerations]}


PREFERRED = {
    "affinity": {
        "nodeAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": 1, "preference": label("room", "In", "a")}
            ]
        }
    }
}


def asked(nodes):
    """Return what pod templates ask of nodes, by a name for it."""
    first, second = nodes[:2]
    return {
        "nothing": {},
        "node-name": {"nodeName": first},
        "selector": {"nodeSelector": {"room": "a"}},
        "two-selectors": {"nodeSelector": {"room": "a", "size": "9"}},
        "in": required(label("room", "In", "a", "b")),
        "not-in": required(label("room", "NotIn", "a")),
        "exists": required(label("room", "Exists")),
        "does-not-exist": required(label("room", "DoesNotExist")),
        "greater": required(label("size", "Gt", "5")),
        "less": required(label("size", "Lt", "5")),
        "by-name": required(named(second)),
        "either": required(label("room", "In", "b"), named(first)),
        "empty-term": required({}),
        "empty-and-another": required({}, label("room", "In", "b")),
        "both": required(label("room", "In", "a")) | {"nodeSelector": {"size": "9"}},
        "preferred": PREFERRED,
        "tolerates-all": tolerating(ALL),
        "tolerates-key": tolerating({"key": "kept", "operator": "Exists"}),
        "tolerates-value": tolerating({"key": "kept", "value": "for-us"}),
        "tolerates-other-value": tolerating({"key": "kept", "value": "other"}),
        "tolerates-other-effect": tolerating(
            {"key": "kept", "operator": "Exists", "effect": "NoExecute"}
        ),
        "tolerates-for-a-while": tolerating(
            {"key": "gone", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 3600}
        ),
    }


@contextmanager
def marked(cluster, nodes):
    """Give some of the nodes labels and taints, and take them away afterwards."""
    labels = [{"room": "a", "size": "9"}, {"room": "a", "size": "3"}, {"room": "b", "size": "x"}]
    taints = [
        {"key": "kept", "value": "for-us", "effect": "NoSchedule"},
        {"key": "gone", "effect": "NoExecute"},
        {"key": "rather-not", "effect": "PreferNoSchedule"},
    ]
    try:
        for name, given_labels in zip(nodes, labels, strict=False):
            patch_node(cluster, name, {"metadata": {"labels": given_labels}})
        for name, taint in zip(nodes[3:], taints, strict=False):
            patch_node(cluster, name, {"spec": {"taints": [taint]}})
        patch_node(cluster, nodes[6], {"spec": {"unschedulable": True}})
        assert cluster.settle(lambda: "taints" in node(cluster, nodes[6])["spec"])
        yield
    finally:
        for name in nodes[:3]:
            patch_node(cluster, name, {"metadata": {"labels": {"room": None, "size": None}}})
        for name in nodes[3:6]:
            patch_node(cluster, name, {"spec": {"taints": None}})
        patch_node(cluster, nodes[6], {"spec": {"unschedulable": None}})
        assert cluster.settle(lambda: "taints" not in node(cluster, nodes[6])["spec"])


def node(cluster, name):
    return cluster.call("GET", f"/api/v1/nodes/{name}").body


def seen(obj):
    """Return a node as the agent sees it."""
    taints = tuple(
        Taint(key=each["key"], effect=each["effect"], value=each.get("value", ""))
        for each in obj["spec"].get("taints", [])
    )
    metadata = obj["metadata"]
    return Node(name=metadata["name"], labels=metadata["labels"], taints=taints)


def test_the_agent_and_the_controller_agree_on_every_node(cluster):
    nodes = cluster.nodes()
    with marked(cluster, nodes):
        told = [seen(node(cluster, name)) for name in nodes]
        expected = {}
        for name, spec in asked(nodes).items():
            labels = {"app": name}
            body = manifest(name, selector={"matchLabels": labels}, template=template(**spec))
            body["spec"]["template"]["metadata"]["labels"] = labels
            assert cluster.apply(body).status == 201
            eligible = Eligible.of(body["spec"]["template"])
            expected[name] = {each.name for each in told if eligible.should_run(each)}

        assert len({frozenset(each) for each in expected.values()}) > 8, "the cases say little"
        assert cluster.settle(lambda: placed(cluster, expected) == expected), differing(
            placed(cluster, expected), expected
        )
        counts = {
            each["metadata"]["name"]: each["status"]["desiredNumberScheduled"]
            for each in cluster.list("daemonsets")
        }
        assert counts == {name: len(each) for name, each in expected.items()}


def placed(cluster, expected):
    """Return the nodes that the pods are for, by DaemonSet."""
    found = {name: set() for name in expected}
    for pod in cluster.list("pods"):
        terms = pod["spec"]["affinity"]["nodeAffinity"]
        (term,) = terms["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
        found[pod["metadata"]["labels"]["app"]] |= set(term["matchFields"][0]["values"])
    return found


def differing(found, expected):
    return {
        name: (found[name], expected[name]) for name in expected if found[name] != expected[name]
    }


def test_a_node_that_leaves_counts_no_more_at_the_next_sync(cluster):
    cluster.join("node-late", {})
    try:
        roll_out(cluster, version(1), 13)
    finally:
        cluster.leave("node-late")

    cluster.patch({"spec": {"minReadySeconds": 1}})  # any reason to sync will do

    counted = status_is(cluster, observedGeneration=2, desiredNumberScheduled=12)
    assert cluster.settle(counted), cluster.get()["status"]


def test_a_pod_tolerates_what_the_controller_adds(cluster):
    roll_out(cluster, version(1))

    for pod in cluster.pods():
        added = {
            (each["key"].removeprefix("node.kubernetes.io/"), each["effect"])
            for each in pod["spec"]["tolerations"]
            if each["operator"] == "Exists"
        }
        assert added == {
            ("not-ready", "NoExecute"),
            ("unreachable", "NoExecute"),
            ("disk-pressure", "NoSchedule"),
            ("memory-pressure", "NoSchedule"),
            ("pid-pressure", "NoSchedule"),
            ("unschedulable", "NoSchedule"),
        }
