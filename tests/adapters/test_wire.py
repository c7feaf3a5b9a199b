"""The API's JSON as our values: what is needed, whatever else is there or missing."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from dsgitops.adapters.kubernetes import wire
from dsgitops.core.model import Condition, Container, Ended, Ref, Taint

STAMP = "2026-11-21T05:18:51Z"
MOMENT = datetime(2026, 11, 21, 5, 18, 51, tzinfo=UTC)


def a_pod(**changes):
    given = {
        "kind": "Pod",
        "metadata": {
            "name": "agent-1",
            "uid": "u1",
            "resourceVersion": "7",
            "creationTimestamp": STAMP,
            "labels": {"controller-revision-hash": "abc", "app": "agent"},
            "ownerReferences": [
                {"kind": "Other", "uid": "no"},
                {"kind": "DaemonSet", "uid": "ds", "controller": True},
            ],
            "generation": 3,
        },
        "spec": {
            "nodeName": "n1",
            "terminationGracePeriodSeconds": 5,
            "initContainers": [
                {"name": "setup"},
                {"name": "proxy", "restartPolicy": "Always"},
            ],
        },
        "status": {
            "phase": "Running",
            "conditions": [
                {
                    "type": "Ready",
                    "status": "False",
                    "reason": "ContainersNotReady",
                    "message": "m",
                    "lastTransitionTime": STAMP,
                    "lastProbeTime": None,
                }
            ],
            "containerStatuses": [
                {
                    "name": "agent",
                    "ready": False,
                    "started": True,
                    "restartCount": 2,
                    "state": {"running": {"startedAt": STAMP}},
                    "lastState": {
                        "terminated": {
                            "reason": "Error",
                            "exitCode": 3,
                            "startedAt": STAMP,
                            "finishedAt": STAMP,
                        }
                    },
                }
            ],
        },
    }
    return given | changes


@pytest.mark.parametrize(
    "form", [dict, lambda raw: json.dumps(raw).encode()], ids=["dict", "bytes"]
)
def test_a_pod_is_read_from_bytes_and_from_a_dict(form):
    pod = wire.pod(form(a_pod()))

    assert (pod.name, pod.node, pod.bound, pod.hash, pod.owner) == (
        "agent-1",
        "n1",
        True,
        "abc",
        "ds",
    )
    assert (pod.created, pod.grace, pod.sidecars) == (MOMENT, 5, frozenset({"proxy"}))
    assert pod.conditions == {
        "Ready": Condition(status="False", reason="ContainersNotReady", message="m", since=MOMENT)
    }
    end = Ended(reason="Error", exit_code=3, started=MOMENT, finished=MOMENT)
    assert pod.containers == (
        Container(name="agent", started=True, restarts=2, running_since=MOMENT, last=end),
    )


def test_a_pod_that_is_not_bound_has_the_node_it_was_made_for():
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n2"]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    pod = wire.pod(a_pod(spec={"affinity": {"nodeAffinity": required}}))

    assert (pod.node, pod.bound, pod.grace) == ("n2", False, 30)


def test_a_bare_object_has_defaults():
    assert wire.pod({}).name == ""
    assert wire.node({}).ready == "Unknown"
    assert wire.event({}).count == 1
    assert wire.daemonset({}).ref == Ref("", "")
    assert wire.revision({"data": {"spec": {"template": 3}}}).template == {}


def test_an_odd_value_counts_as_missing_and_the_rest_stays():
    odd = a_pod()
    odd["metadata"]["labels"]["tier"] = 3
    odd["metadata"]["creationTimestamp"] = "yesterday"
    odd["status"]["containerStatuses"].append(7)
    odd["status"]["containerStatuses"][0]["restartCount"] = "many"
    odd["status"]["conditions"][0]["lastTransitionTime"] = "2026-11-21T05:18:51"
    before = json.dumps(odd)

    pod = wire.pod(odd)

    assert (pod.name, pod.node, pod.created) == ("agent-1", "n1", None)
    assert [(each.name, each.restarts) for each in pod.containers] == [("agent", 0)]
    assert pod.conditions["Ready"].since is None
    assert json.dumps(odd) == before


@pytest.mark.parametrize("damaged", [b"", b"{", b"[]", b'"x"', b"\xff"])
def test_what_is_no_object_is_an_error(damaged):
    with pytest.raises(ValueError, match="not"):
        wire.pod(damaged)


def test_a_node_has_its_ready_condition_and_taints():
    node = wire.node(
        {
            "metadata": {"name": "n1", "uid": "u", "labels": {"pool": "a"}},
            "spec": {"unschedulable": True, "taints": [{"key": "k", "effect": "NoExecute"}]},
            "status": {
                "conditions": [
                    {"type": "DiskPressure", "status": "False"},
                    {"type": "Ready", "status": "Unknown", "lastTransitionTime": STAMP},
                ]
            },
        }
    )

    assert (node.ready, node.ready_since, node.is_ready) == ("Unknown", MOMENT, False)
    assert (node.unschedulable, node.taints) == (True, (Taint(key="k", effect="NoExecute"),))


def test_events_of_both_api_groups_are_the_same_event():
    core = wire.event(
        {
            "involvedObject": {"kind": "Pod", "name": "p", "uid": "u"},
            "reason": "Killing",
            "message": "m",
            "count": 3,
            "firstTimestamp": STAMP,
            "lastTimestamp": STAMP,
        }
    )
    new = wire.event(
        {
            "regarding": {"kind": "Pod", "name": "p", "uid": "u"},
            "reason": "Killing",
            "note": "m",
            "eventTime": STAMP,
            "series": {"count": 3, "lastObservedTime": STAMP},
        }
    )

    assert core == new
    assert (core.count, core.first, core.last) == (3, MOMENT, MOMENT)


def test_a_revision_has_its_template_without_the_patch_directive():
    revision = wire.revision(
        {
            "metadata": {"name": "agent-abc", "labels": {"controller-revision-hash": "abc"}},
            "revision": 4,
            "data": {"spec": {"template": {"$patch": "replace", "spec": {"x": 1}}}},
        }
    )

    assert (revision.hash, revision.number, revision.template) == ("abc", 4, {"spec": {"x": 1}})


def test_a_daemonset_has_its_generations_and_spec():
    live = wire.daemonset(
        {
            "metadata": {
                "name": "agent",
                "namespace": "ns",
                "generation": 3,
                "deletionTimestamp": STAMP,
                "managedFields": [{"manager": "m"}],
            },
            "spec": {"minReadySeconds": 5},
            "status": {"observedGeneration": 2, "desiredNumberScheduled": 4, "numberAvailable": 3},
        }
    )

    assert (live.ref, live.generation, live.observed_generation) == (Ref("ns", "agent"), 3, 2)
    assert (live.deleting, live.min_ready_seconds, live.available) == (True, 5, 3)
    assert live.managed_fields == ({"manager": "m"},)
