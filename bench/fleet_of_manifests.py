"""Many small DaemonSets, as files of a repository and as objects."""

from __future__ import annotations

import json

NAMESPACE = "agents"


def manifest(number: int, *, nodes: str = "nowhere") -> dict:
    """Return one DaemonSet; `nodes` is the value of its node selector (`nowhere`: none match)."""
    name = f"agent-{number:04d}"
    labels = {"app": name}
    container = {
        "name": "agent",
        "image": "docker.io/fluent/fluentd:v1.17",
        "env": [{"name": f"SETTING_{each}", "value": str(each)} for each in range(8)],
        "readinessProbe": {"httpGet": {"path": "/", "port": 24231}, "periodSeconds": 5},
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "64Mi"}},
        "volumeMounts": [{"name": "logs", "mountPath": "/var/log"}],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels},
        "spec": {
            "selector": {"matchLabels": labels},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "10%"}},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "nodeSelector": {"kubernetes.io/os": nodes},
                    "terminationGracePeriodSeconds": 2,
                    "containers": [container],
                    "volumes": [{"name": "logs", "hostPath": {"path": "/var/log"}}],
                },
            },
        },
    }


def files(count: int) -> dict[str, str]:
    """Return path and text of a repository of `count` manifests, one a file."""
    return {f"agents/{each:04d}.json": json.dumps(manifest(each)) for each in range(count)}
