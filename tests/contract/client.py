"""A small HTTP client over any `ports.Transport`, and the manifest that the contract is held to."""

from __future__ import annotations

import copy
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dsgitops.ports import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dsgitops.ports import Stream, Transport

APPLY = "application/apply-patch+yaml"
STRATEGIC = "application/strategic-merge-patch+json"
MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
JSON = "application/json"


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
    rest: Callable[[], None] = lambda: None
    """Let time pass until nothing is left to happen by itself (where no controller runs: at once)."""
    quiet: float = 0.0
    """After so many seconds without a line a watch has told all that it had to tell."""
    join: Callable[[str, dict[str, str]], object] = lambda _name, _labels: None
    """Let a node of a name, with labels, join the cluster."""
    leave: Callable[[str], object] = lambda _name: None
    """Take a node out of the cluster for ever."""

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

    def open(self, resource="daemonsets", accept=JSON, **query) -> Stream:
        given = {"watch": "1"} | {key: str(value) for key, value in query.items()}
        request = Request(
            method="GET",
            path=self.path(resource=resource),
            query=given,
            headers={"Accept": accept},
            timeout=300.0,
        )
        stream = self.transport.open(request, lambda: None)
        while self.quiet and not (stream.status or stream.ended):
            time.sleep(0.01)
        return stream

    def lines(self, stream: Stream) -> list[bytes]:
        """Take what a watch has to tell; a real one needs a moment to tell it."""
        found = news = stream.lines()
        until = time.monotonic() + self.quiet
        while time.monotonic() < until:
            time.sleep(0.02)
            if news := stream.lines():
                found = [*found, *news]
                until = time.monotonic() + self.quiet
        return found

    def events(self, stream: Stream) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines(stream)]

    def first_events(self, stream: Stream) -> list[dict[str, Any]]:
        """Wait until a watch tells something, and take it."""
        found: list[dict[str, Any]] = []

        def told() -> bool:
            found.extend(self.events(stream))
            return bool(found)

        self.settle(told)
        return found


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
