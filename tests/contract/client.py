"""A small HTTP client over any `ports.Transport`, and the manifest that the contract is held to."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from dsgitops.adapters.kubernetes.answers import fault
from dsgitops.ports import Request, Response

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dsgitops.errors import DsgitopsError
    from dsgitops.ports import Stream, Transport

APPLY = "application/apply-patch+yaml"
STRATEGIC = "application/strategic-merge-patch+json"
MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
JSON = "application/json"
Events = list[dict[str, Any]]
SECRET = "s3cret"
"""Stands in manifests, and never in a text of ours."""


@dataclass(frozen=True)
class Answer:
    """Status and body."""

    status: int
    body: Any
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Cluster:
    """One namespace of one cluster, simulated or real."""

    transport: Transport
    namespace: str
    settle: Callable[[Callable[[], bool]], bool]
    """Let time pass until something holds (at most 2 minutes of the cluster's time)."""
    pass_time: Callable[[float], None]
    """Let so many seconds of the cluster's time pass."""
    fence: Callable[[], None] = lambda: None
    """Let time pass until the controller has got round to all that was changed until now."""
    rest: Callable[[], None] = lambda: None
    """Let time pass until nothing is left to happen by itself (where no controller runs: at once)."""
    join: Callable[[str, dict[str, str]], object] = lambda _name, _labels: None
    """Let a node of a name, with labels, join the cluster."""
    leave: Callable[[str], object] = lambda _name: None
    """Take a node out of the cluster for ever."""
    quota: Callable[[str], object] = lambda _cpu: None
    """Limit the CPU that all pods of the namespace may ask for together."""

    def rest_briefly(self) -> None:
        """Give what should not happen a moment to happen, where nothing comes to rest."""
        self.fence()
        self.pass_time(0.3)

    def call(self, method, path, body=None, *, media=JSON, accept=JSON, agent="other", **query):
        data = (
            body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        )
        request = Request(
            method=method,
            path=path,
            query={key: str(value) for key, value in query.items()},
            headers={"Content-Type": media, "Accept": accept, "User-Agent": agent},
            body=data,
            timeout=60.0,
        )
        response = self.transport.send(request)
        if "json" not in response.headers.get("content-type", ""):
            return Answer(response.status, response.body, response.headers)
        return Answer(response.status, json.loads(response.body), response.headers)

    def path(self, name="", resource="daemonsets") -> str:
        group = {"daemonsets": "/apis/apps/v1", "controllerrevisions": "/apis/apps/v1"}
        root = f"{group.get(resource, '/api/v1')}/namespaces/{self.namespace}/{resource}"
        return f"{root}/{name}" if name else root

    def apply(self, body, *, manager="dsgitops", force="true", name=None, **query):
        """Server-side apply as the agent sends it."""
        name = name or body["metadata"]["name"]
        query = {"fieldManager": manager, "force": force, "fieldValidation": "Strict"} | query
        query = {key: value for key, value in query.items() if value is not None}
        return self.call("PATCH", self.path(name), body, media=APPLY, **query)

    def patch(self, body, *, media=MERGE, name="agent", manager="dsgitops-record", **query):
        return self.call("PATCH", self.path(name), body, media=media, fieldManager=manager, **query)

    def create(self, body, **query):
        return self.call("POST", self.path(), body, **query)

    def get(self, name="agent", resource="daemonsets"):
        return self.call("GET", self.path(name, resource)).body

    def list(self, resource, **query):
        return self.call("GET", self.path(resource=resource), **query).body["items"]

    def nodes(self) -> list[str]:
        """Return the names of the cluster's nodes."""
        items = self.call("GET", "/api/v1/nodes").body["items"]
        return sorted(each["metadata"]["name"] for each in items)

    def pods(self):
        return self.list("pods", labelSelector="app=agent")

    def open(self, resource="daemonsets", accept=JSON, wake=lambda: None, **query) -> Stream:
        given = {"watch": "1"} | {key: str(value) for key, value in query.items()}
        request = Request(
            method="GET",
            path=self.path(resource=resource),
            query=given,
            headers={"Accept": accept},
            timeout=300.0,
        )
        stream = self.transport.open(request, wake)
        assert self.settle(lambda: bool(stream.status) or stream.ended)
        return stream

    def lines(self, stream: Stream) -> list[bytes]:
        """Take what a watch has told; wait until it is something."""
        found: list[bytes] = []

        def told() -> bool:
            found.extend(stream.lines())
            return bool(found)

        assert self.settle(told), "the watch tells nothing"
        return found

    def events(self, stream: Stream, *, until: Callable[[Events], bool] = bool) -> Events:
        """Take what a watch tells until that is enough; anything will do where nothing is said."""
        found: Events = []

        def enough() -> bool:
            found.extend(json.loads(line) for line in stream.lines())
            return until(found)

        assert self.settle(enough), f"the watch told no more than {found}"
        return found


def meaning(answer: Answer) -> DsgitopsError:
    """Return what the agent makes of an answer; no text of ours has a value of the manifest."""
    body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
    response = Response(status=answer.status, headers=answer.headers, body=body)
    error = fault(response, doing="patch DaemonSet x/agent", now=datetime.now(UTC))
    assert SECRET not in f"{error} {getattr(error, 'remedy', '')}"
    return error


def manifest(name="agent", **spec) -> dict[str, Any]:
    """Return a DaemonSet as people write it; keyword arguments replace parts of the spec."""
    container = {
        "name": "agent",
        "image": "registry.example/agent:1",
        "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
        "ports": [{"name": "http", "containerPort": 8080}],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    body = {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": name, "labels": {"team": "nodes"}},
        "spec": {
            "selector": {"matchLabels": {"app": "agent"}},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 2}},
            "template": {
                "metadata": {"labels": {"app": "agent"}},
                "spec": {
                    "terminationGracePeriodSeconds": 1,
                    "containers": [
                        container,
                        {"name": "side", "image": "registry.example/side:1"},
                    ],
                    "volumes": [
                        {"name": "data", "emptyDir": {}},
                        {"name": "extra", "emptyDir": {}},
                    ],
                },
            },
        },
    }
    body["spec"] |= spec
    return copy.deepcopy(body)


def container_of(body, index=0) -> dict[str, Any]:
    return body["spec"]["template"]["spec"]["containers"][index]


def owners(obj) -> set[tuple[str, str]]:
    return {(each["manager"], each["operation"]) for each in obj["metadata"]["managedFields"]}


def entry(obj, manager, operation="Update") -> dict[str, Any]:
    """Return the fieldsV1 of one entry; empty where there is none."""
    for each in obj["metadata"].get("managedFields", []):
        if (each["manager"], each["operation"]) == (manager, operation):
            return each["fieldsV1"]
    return {}


def preconditions(obj) -> dict[str, str]:
    return {
        "uid": obj["metadata"]["uid"],
        "resourceVersion": obj["metadata"]["resourceVersion"],
    }
