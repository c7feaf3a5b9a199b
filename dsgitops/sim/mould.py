"""Pods of a DaemonSet as its controller makes them and the API server completes them."""

from __future__ import annotations

from dsgitops.sim.objects import Object, dig, each, name_of, namespace_of, owned_by
from dsgitops.sim.placement import tolerations_of
from dsgitops.sim.revisions import GENERATION_LABEL, HASH_LABEL

GENERATION = "deprecated.daemonset.template.generation"


def pod_of(daemonset: Object, digest: str, token_volume: str) -> Object:
    """Return a pod as the controller makes it and the API server completes it, but for its node.

    Args:
        daemonset: With the live template.
        digest: Of its revision.
        token_volume: Name of the volume with the ServiceAccount's token.
    """
    template: Object = daemonset["spec"]["template"]
    given: Object = template.get("metadata") or {}
    metadata: Object = {
        "generateName": f"{name_of(daemonset)}-",
        "namespace": namespace_of(daemonset),
        "generation": 1,
        "labels": {
            **(given.get("labels") or {}),
            HASH_LABEL: digest,
            GENERATION_LABEL: template_generation(daemonset),
        },
        "ownerReferences": [owned_by(daemonset, "DaemonSet", "apps/v1")],
    }
    if given.get("annotations"):
        metadata["annotations"] = given["annotations"]
    spec = _pod_spec(template, token_volume)
    status = {"phase": "Pending", "qosClass": _quality(spec)}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status}


def template_generation(daemonset: Object) -> str:
    """Return how many templates a DaemonSet has had, as its pods are labelled with it."""
    return str(dig(daemonset, "metadata", "annotations", GENERATION, default="1"))


def _pod_spec(template: Object, token_volume: str) -> Object:
    spec: Object = template.get("spec") or {}
    account = spec.get("serviceAccountName") or "default"
    made: Object = {
        **spec,
        "serviceAccountName": account,
        "serviceAccount": account,
        "tolerations": tolerations_of(template),
        "priority": 0,
        "enableServiceLinks": spec.get("enableServiceLinks", True),
        "preemptionPolicy": "PreemptLowerPriority",
    }
    if spec.get("automountServiceAccountToken") is not False:
        made["volumes"] = [*(spec.get("volumes") or ()), _token(token_volume)]
        for kind in ("initContainers", "containers"):
            if spec.get(kind):
                made[kind] = [_with_token(it, token_volume) for it in spec[kind]]
    return made


def _token(volume: str) -> Object:
    namespace = {"path": "namespace", "fieldRef": _field("metadata.namespace")}
    certificate = {"key": "ca.crt", "path": "ca.crt"}
    sources: list[Object] = [
        {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [certificate]}},
        {"downwardAPI": {"items": [namespace]}},
    ]
    return {"name": volume, "projected": {"sources": sources, "defaultMode": 420}}


def _field(path: str) -> Object:
    return {"apiVersion": "v1", "fieldPath": path}


def _with_token(container: Object, volume: str) -> Object:
    mount = {
        "name": volume,
        "readOnly": True,
        "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
    }
    return {**container, "volumeMounts": [*(container.get("volumeMounts") or ()), mount]}


def _quality(spec: Object) -> str:
    resources = [dig(it, "resources", default={}) for it in each(spec, "containers")]
    if not any(it.get("requests") or it.get("limits") for it in resources):
        return "BestEffort"
    both = ("cpu", "memory")
    limits = [it.get("limits") or {} for it in resources]
    requests = [it.get("requests") or it.get("limits") or {} for it in resources]
    pairs = zip(limits, requests, strict=True)
    exact = all(
        limit.get(it) and limit[it] == asked.get(it) for limit, asked in pairs for it in both
    )
    return "Guaranteed" if exact else "Burstable"
