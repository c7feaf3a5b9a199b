"""The manifests of the scenarios: one small DaemonSet, and what a commit can change about it."""

from __future__ import annotations

import json

import yaml

NAMESPACE = "logging"
GOOD_PATH = "/healthz"
BAD_WORDS = ("crash", "missing", "never-ready", "oom", "denied", "exit0")
"""Image tags (see `dsgitops.sim.behaviours`) that never become ready, or do not stay so."""


def manifest(name="agent", **options):
    """Return a manifest.

    Args:
        name: Of the DaemonSet.
        options: `image` (a tag), `path` of the readiness probe, `config` (a ConfigMap), `cpu`, `env`
            (K=V), `maxUnavailable`, `maxSurge`, `minReadySeconds`, `strategy`, `label` (K=V, on the
            object), `annotation` (K=V, the same), `rollback`, `suspend`, `hostPID` (any word).
    """
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": name, "namespace": NAMESPACE, **_metadata(options, labels)},
        "spec": {
            "selector": {"matchLabels": labels},
            "updateStrategy": _strategy(options),
            **_seconds(options),
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "terminationGracePeriodSeconds": 2,
                    "containers": [_container(options)],
                    **({"hostPID": True} if "hostPID" in options else {}),
                },
            },
        },
    }


def text(name="agent", **options):
    """Return the manifest as a file has it."""
    return yaml.safe_dump(manifest(name, **options), sort_keys=False)


def is_bad(options):
    """Whether content of these options can never be said to have been rolled out."""
    tag = options.get("image", "1")
    lost = options.get("path", GOOD_PATH) not in (GOOD_PATH, "/backend")
    refused = options.get("cpu") == "900m" or "missing" in options.get("config", "")
    return any(word in tag for word in BAD_WORDS) or lost or refused


def _container(options):
    path = options.get("path", GOOD_PATH)
    container = {
        "name": "agent",
        "image": f"registry.sim/agent:{options.get('image', '1')}",
        "readinessProbe": {
            "httpGet": {"path": path, "port": 8080},
            "periodSeconds": 2,
            "failureThreshold": 2,
        },
    }
    if "cpu" in options:
        container["resources"] = {"requests": {"cpu": options["cpu"]}}
    if "config" in options:
        container["envFrom"] = [{"configMapRef": {"name": options["config"]}}]
    if "env" in options:
        key, _, value = options["env"].partition("=")
        container["env"] = [{"name": key, "value": value}]
    return container


def _strategy(options):
    if options.get("strategy") == "OnDelete":
        return {"type": "OnDelete"}
    if "maxSurge" in options:
        numbers = {"maxSurge": _number(options["maxSurge"]), "maxUnavailable": 0}
    else:
        numbers = {"maxUnavailable": _number(options.get("maxUnavailable", "1"))}
    return {"type": "RollingUpdate", "rollingUpdate": numbers}


def _seconds(options):
    seconds = options.get("minReadySeconds")
    return {} if seconds is None else {"minReadySeconds": int(seconds)}


def _metadata(options, labels):
    annotations = {}
    if "rollback" in options:
        annotations["dsgitops.io/rollback"] = options["rollback"]
    if "suspend" in options:
        annotations["dsgitops.io/suspend"] = json.dumps({"reason": options["suspend"]})
    if "annotation" in options:
        key, _, value = options["annotation"].partition("=")
        annotations[key] = value
    key, _, value = options.get("label", "").partition("=")
    more = {key: value} if key else {}
    return {"labels": labels | more} | ({"annotations": annotations} if annotations else {})


def _number(given):
    return int(given) if given.isdecimal() else given
