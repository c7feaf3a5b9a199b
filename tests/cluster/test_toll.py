"""The judge of what rollouts take: what it counts, and that it cannot fail unseen."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from cluster.toll import Tolls, watched

WHOLE = {"metadata": {"annotations": {"k8s.io/initial-events-end": "true"}}}


def pod(uid, revision="good", *, ready=True, placed=True, going=False):
    """Return a DaemonSet's pod for the node `one`, which may not have room for it."""
    field = {"key": "metadata.name", "operator": "In", "values": ["one"]}
    terms = {"nodeSelectorTerms": [{"matchFields": [field]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    found = {
        "metadata": {
            "uid": uid,
            "creationTimestamp": "2026-11-21T19:00:00Z",
            "labels": {"controller-revision-hash": revision},
            "ownerReferences": [{"kind": "DaemonSet", "name": "agent"}],
        },
        "spec": {"affinity": affinity, "containers": [{"image": revision}]},
        "status": {"conditions": [{"type": "Ready", "status": "True" if ready else "False"}]},
    }
    found["spec"] |= {"nodeName": "one"} if placed else {}
    found["metadata"] |= {"deletionTimestamp": "2026-11-21T19:01:00Z"} if going else {}
    return found


def tell(tolls, *events):
    for kind, found in events:
        tolls.read(json.dumps({"type": kind, "object": found}).encode())


def looking(*there):
    """A watch that has just told what is there."""
    tolls = Tolls()
    again(tolls, *there)
    return tolls


def again(tolls, *there):
    tolls.begin()
    tell(tolls, *(("ADDED", found) for found in there), ("BOOKMARK", WHOLE))


def test_a_pod_that_no_node_can_hold_counts_there_and_its_successor_back():
    tolls = looking(pod("a"))

    tell(tolls, ("MODIFIED", pod("a", going=True)), ("DELETED", pod("a", going=True)))
    tell(tolls, ("ADDED", pod("b", "bad", ready=False, placed=False)))
    tell(tolls, ("DELETED", pod("b", "bad", ready=False, placed=False, going=True)))
    assert tolls["agent"].taken == {"one"}
    tell(tolls, ("ADDED", pod("c", ready=False)), ("MODIFIED", pod("c")))

    assert tolls["agent"].there_and_back == "1 + 1"
    assert (tolls["agent"].most_taken, tolls["agent"].taken) == (1, set())


def test_what_went_and_came_while_nobody_could_watch_is_counted_when_the_watch_is_back():
    tolls = looking(pod("a"))

    again(tolls, pod("b", "new"))

    assert tolls["agent"].there_and_back == "1 + 0"
    assert (tolls["agent"].most_taken, tolls["agent"].taken) == (1, set())


def test_an_outage_in_which_nothing_went_counts_nothing():
    tolls = looking(pod("a"))

    again(tolls, pod("a"))

    assert (tolls["agent"].restarts, tolls["agent"].most_taken) == (0, 0)


def test_a_watch_that_broke_fails_its_test(tmp_path):
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "away",
        "clusters": [{"name": "away", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "away", "user": {}}],
        "contexts": [{"name": "away", "context": {"cluster": "away", "user": "away"}}],
    }
    (tmp_path / "kubeconfig").write_text(json.dumps(config))

    with (
        pytest.raises(AssertionError, match="not whole"),
        watched(SimpleNamespace(kubeconfig=tmp_path / "kubeconfig"), "team"),
    ):
        pass
