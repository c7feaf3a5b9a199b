"""A fleet in a few words: manifests, nodes, pods, revisions and records for stories."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from dsgitops.core import bodies
from dsgitops.core import record as records
from dsgitops.core.model import (
    Condition,
    Container,
    Desired,
    Live,
    Node,
    Observed,
    Phase,
    Pod,
    Policy,
    Reason,
    Ref,
    Revision,
)
from dsgitops.core.record import LastGood, Record

NOW = datetime(2026, 11, 21, 5, 0, tzinfo=UTC)
LONG_AGO = NOW - timedelta(hours=6)
REF = Ref("logging", "fluentd")
UID = "7f0e2a3c"
SECRET = "hunter2-in-env"
ZONE = "topology.kubernetes.io/zone"


def seconds(count: float) -> timedelta:
    return timedelta(seconds=count)


def manifest(image: str = "fluentd:1", **spec: Any) -> dict[str, Any]:
    """A DaemonSet as Git has it.  `spec` overrides; `labels=` and `annotations=` are metadata."""
    labels = spec.pop("labels", {})
    annotations = spec.pop("annotations", {})
    env = spec.pop("env", [{"name": "TOKEN", "value": SECRET}])
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {
            "name": REF.name,
            "namespace": REF.namespace,
            "labels": labels,
            "annotations": annotations,
        },
        "spec": {
            "selector": {"matchLabels": {"app": "fluentd"}},
            "updateStrategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0},
            },
            "template": {
                "metadata": {"labels": {"app": "fluentd"}},
                "spec": {
                    "containers": [
                        {
                            "name": "fluentd",
                            "image": image,
                            "env": env,
                            "readinessProbe": {"httpGet": {"path": "/", "port": 8080}},
                        }
                    ]
                },
            },
        }
        | spec,
    }


def sha(value: Any) -> str:
    return "sha256:" + hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def desired(image: str = "fluentd:1", *, policy: Policy | None = None, **spec: Any) -> Desired:
    """What Git has; the commit follows from the content."""
    given = manifest(image, **spec)
    content = [given["spec"], given["metadata"]["labels"], given["metadata"]["annotations"]]
    digest = sha(content)
    return Desired(
        ref=REF,
        source="node-agents",
        path="clusters/prod/fluentd.yaml",
        commit=f"main@sha1:{digest[7:47]}",
        manifest=given,
        digest=digest,
        template=sha(given["spec"]["template"]),
        policy=policy or Policy(),
    )


def hash_of(content: Desired) -> str:
    return content.template[7:17]


def node(name: str, *, ready: str = "True", zone: str = "", since: datetime = LONG_AGO) -> Node:
    return Node(
        name=name,
        uid=f"uid-{name}",
        ready=ready,  # type: ignore[arg-type]
        ready_since=since,
        labels={ZONE: zone} if zone else {},
    )


def nodes(count: int, *, zones: int = 1) -> tuple[Node, ...]:
    return tuple(node(f"node-{i:02}", zone=f"z{i % zones}") for i in range(count))


def pod(
    on: str,
    content: Desired | str,
    *,
    ready: bool = True,
    since: datetime = LONG_AGO,
    deleting: datetime | None = None,
    **more: Any,
) -> Pod:
    """A pod of a revision on a node, Ready (or not) since an instant."""
    revision = content if isinstance(content, str) else hash_of(content)
    status = Condition(status="True" if ready else "False", since=since)
    fields = {
        "containers": (Container(name="fluentd", ready=ready, started=True, running_since=since),),
        "conditions": {
            "PodScheduled": Condition(status="True", since=since),
            "Initialized": Condition(status="True", since=since),
            "ContainersReady": status,
            "Ready": status,
        },
    }
    return Pod(
        name=f"fluentd-{on}-{revision[:5]}",
        uid=f"{on}-{revision}",
        resource_version="77",
        node=on,
        hash=revision,
        created=since - seconds(5),
        deleting=deleting,
        phase="Running",
        owner=UID,
        **(fields | more),
    )


def broken(on: str, content: Desired, *, since: datetime) -> Pod:
    """A pod that says so itself: its image does not exist."""
    waiting = Container(
        name="fluentd", waiting_reason="ImagePullBackOff", waiting_message="fluentd:9: not found"
    )
    made = pod(on, content, ready=False, since=since, containers=(waiting,))
    return replace(made, phase="Pending", created=since)


def revision(content: Desired, number: int, record: Record | None = None) -> Revision:
    """The ControllerRevision of a content; `record` is the copy it got when it was made."""
    annotations = {records.ANNOTATION: records.dump(record)} if record else {}
    return Revision(
        name=f"fluentd-{hash_of(content)}",
        hash=hash_of(content),
        number=number,
        template=defaulted(content)["template"],
        annotations=annotations,
        created=LONG_AGO + seconds(number),
        owner=UID,
    )


def defaulted(content: Desired) -> dict[str, Any]:
    """The spec as the API server stores it, as far as these stories go."""
    spec: dict[str, Any] = json.loads(json.dumps(content.manifest["spec"]))
    spec.setdefault("revisionHistoryLimit", 10)
    template = spec["template"]["spec"]
    template.setdefault("restartPolicy", "Always")
    template.setdefault("dnsPolicy", "ClusterFirst")
    return spec


def good(content: Desired) -> LastGood:
    return LastGood(
        digest=content.digest,
        template=content.template,
        commit=content.commit,
        revision=f"fluentd-{hash_of(content)}",
        hash=hash_of(content),
        strategy=bodies.strategy_body(content.manifest["spec"]),
        min_ready_seconds=int(content.manifest["spec"].get("minReadySeconds") or 0),
        at=LONG_AGO,
    )


def record(content: Desired, **changes: Any) -> Record:
    """The record after `content` was written."""
    return Record(
        source=content.source,
        path=content.path,
        commit=content.commit,
        digest=content.digest,
        template=content.template,
        uid=UID,
        n=3,
        phase=Phase.IDLE,
        reason=Reason.ROLLOUT_FINISHED,
    ).next(**changes)


OURS = {
    "manager": "dsgitops",
    "operation": "Apply",
    "apiVersion": "apps/v1",
    "fieldsType": "FieldsV1",
    "fieldsV1": {"f:spec": {"f:template": {"f:spec": {"f:containers": {}}}}},
}


def live(content: Desired, remembered: Record | None, *, hold: bool = False, **more: Any) -> Live:
    """The object as it is after `content` was written (held: with OnDelete)."""
    spec = defaulted(content)
    if hold:
        spec["updateStrategy"] = bodies.on_delete(spec)
    metadata = content.manifest["metadata"]
    annotations = dict(metadata["annotations"])
    if remembered is not None:
        annotations[records.ANNOTATION] = records.dump(remembered)
    fields = {
        "labels": dict(metadata["labels"]),
        "annotations": annotations,
        "spec": spec,
        "managed_fields": (OURS,),
        "generation": 4,
        "observed_generation": 4,
        "desired_scheduled": 3,
        "available": 3,
    }
    return Live(ref=REF, uid=UID, resource_version="4711", created=LONG_AGO, **(fields | more))


def observed(seen: Live | None, *revisions: Revision, **more: Any) -> Observed:
    """What the cluster shows; by default three nodes, no pods watched, live since long."""
    fields = {
        "revisions": revisions,
        "nodes": nodes(3),
        "followed": "pods" in more,
        "live_since": LONG_AGO,
    }
    return Observed(live=seen, **(fields | more))


def edited(*path: str, by: str = "kubectl-edit", operation: str = "Update") -> dict[str, Any]:
    """A managedFields entry of someone who wrote one field of the spec."""
    fields: dict[str, Any] = {}
    for segment in reversed(path):
        fields = {segment: fields}
    return {
        "manager": by,
        "operation": operation,
        "apiVersion": "apps/v1",
        "fieldsType": "FieldsV1",
        "fieldsV1": {"f:spec": fields},
    }


IMAGE = ("f:template", "f:spec", "f:containers", 'k:{"name":"fluentd"}', "f:image")
