"""A DaemonSet through its versions, and how to see how far one has come."""

from __future__ import annotations

from contract.client import MERGE, container_of, manifest

HASH = "controller-revision-hash"
RECORD = "dsgitops.io/record"
HELD = {"type": "OnDelete", "rollingUpdate": {"maxUnavailable": 12, "maxSurge": 0}}
ROLLING = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 12, "maxSurge": 0}}


def version(number, record="", **spec):
    """Return the manifest of one version of the software."""
    body = manifest(**{"updateStrategy": ROLLING} | spec)
    container_of(body)["env"] = [{"name": "VERSION", "value": str(number)}]
    if record:
        body["metadata"]["annotations"] = {RECORD: record}
    return body


def rolled_out(cluster, count=12):
    """Whether the controller has seen the newest spec, and so many nodes run it."""

    def holds():
        live = cluster.get()
        status = live["status"]
        return (
            status.get("observedGeneration") == live["metadata"]["generation"]
            and status.get("desiredNumberScheduled") == count
            and status.get("updatedNumberScheduled", 0) == count
            and status.get("numberAvailable", 0) == count
        )

    return holds


def roll_out(cluster, body, count=12):
    answer = cluster.apply(body)
    assert answer.status in (200, 201), answer.body
    assert cluster.settle(rolled_out(cluster, count)), cluster.get()["status"]
    return cluster.get()


def revisions(cluster):
    return sorted(cluster.list("controllerrevisions"), key=lambda each: each["revision"])


def hash_of(pod):
    return pod["metadata"]["labels"][HASH]


def uids(pods):
    return {pod["metadata"]["uid"] for pod in pods}


def by_node(cluster):
    return {pod["spec"].get("nodeName"): pod for pod in cluster.pods()}


def patch_node(cluster, name, change, media=MERGE):
    answer = cluster.call("PATCH", f"/api/v1/nodes/{name}", change, media=media)
    assert answer.status == 200, answer.body


def status_is(cluster, **numbers):
    def holds():
        status = cluster.get()["status"]
        return all(status.get(key, 0) == number for key, number in numbers.items())

    return holds
