"""A rollout in a few words: a fleet on revision `old`, being moved to `new`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from dsgitops.core import health
from dsgitops.core.chronicle import Chronicle
from dsgitops.core.model import (
    Condition,
    Container,
    Ended,
    Event,
    Live,
    Node,
    Pod,
    Policy,
    Ref,
    Revision,
)

START = datetime(2026, 11, 21, 5, 0, tzinfo=UTC)
"""The forward write."""
LONG_AGO = START - timedelta(hours=6)
UID = "ds-uid"
POLICY = Policy(pod_deadline=timedelta(seconds=75))


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def template(image: str = "agent:2", **container: Any) -> dict[str, Any]:
    probe = {"httpGet": {"path": "/", "port": 80}, "periodSeconds": 2, "failureThreshold": 2}
    agent = {"name": "agent", "image": image, "readinessProbe": probe} | container
    return {"metadata": {"labels": {"app": "agent"}}, "spec": {"containers": [agent]}}


def node(name: str, **changes: Any) -> Node:
    return replace(Node(name=name, uid=name, ready_since=LONG_AGO), **changes)


def conditions(*, ready: bool, since: datetime, **more: Condition) -> dict[str, Condition]:
    status = "True" if ready else "False"
    return {
        "Ready": Condition(status=status, since=since),
        "ContainersReady": Condition(status=status, since=since),
        "PodReadyToStartContainers": Condition(status="True"),
    } | more


def ready(on: str, hash_: str = "new", *, since: float = 10, **changes: Any) -> Pod:
    """A pod that became ready `since` seconds after the start."""
    created = at(since - 5)
    agent = Container(name="agent", ready=True, started=True, running_since=at(since - 1))
    pod = Pod(
        name=f"{hash_}-{on}",
        uid=f"{hash_}-{on}",
        node=on,
        hash=hash_,
        created=created,
        phase="Running",
        conditions=conditions(ready=True, since=at(since)),
        containers=(agent,),
    )
    return replace(pod, **changes)


def old(on: str, **changes: Any) -> Pod:
    return ready(on, "old", since=-3600, **changes)


def unready(on: str, hash_: str = "new", *, created: float = 5, **container: Any) -> Pod:
    """A pod whose container runs and is not ready, unless `container` says else."""
    agent = Container(name="agent", started=True, running_since=at(created + 1))
    if container.get("waiting_reason") or container.get("terminated"):
        agent = replace(agent, running_since=None, started=False)
    return ready(
        on,
        hash_,
        since=created,
        created=at(created),
        conditions=conditions(ready=False, since=at(created)),
        containers=(replace(agent, **container),),
    )


def ended(code: int = 1, *, finished: float, lasted: float = 1, reason: str = "Error") -> Ended:
    return Ended(
        exit_code=code, reason=reason, started=at(finished - lasted), finished=at(finished)
    )


def event(pod: Pod, reason: str, message: str, *, when: float = 6, count: int = 1) -> Event:
    return Event(
        uid=pod.uid,
        kind="Pod",
        name=pod.name,
        reason=reason,
        message=message,
        count=count,
        first=at(when),
        last=at(when),
    )


def refused(message: str, *, when: float = 5) -> Event:
    return Event(uid=UID, kind="DaemonSet", reason="FailedCreate", message=message, last=at(when))


@dataclass
class Rollout:
    """What is judged; `judge` asks about it at some moment."""

    pods: list[Pod]
    nodes: list[Node] = field(default_factory=list)
    template: dict[str, Any] = field(default_factory=template)
    spec: dict[str, Any] = field(default_factory=dict)
    chronicle: Chronicle = field(default_factory=Chronicle)
    policy: Policy = POLICY

    def __post_init__(self):
        if not self.nodes:
            self.nodes = [node(name) for name in dict.fromkeys(pod.node for pod in self.pods)]
        for pod in self.pods:
            self.chronicle.pod(pod, at(0))

    @property
    def live(self) -> Live:
        spec = {"template": self.template} | self.spec
        return Live(
            ref=Ref("logging", "agent"),
            uid=UID,
            resource_version="1",
            generation=2,
            observed_generation=2,
            spec=spec,
        )

    def hear(self, *events: Event, when: float = 6) -> Rollout:
        for each in events:
            self.chronicle.event(each, at(when))
        return self

    def question(self, when: float, **changes: Any) -> health.Question:
        given = health.Question(
            live=self.live,
            target=Revision(name="agent-new", hash="new", number=2, template=self.template),
            pods=self.pods,
            nodes=self.nodes,
            chronicle=self.chronicle,
            live_since=LONG_AGO,
            policy=self.policy,
            started=START,
            previous_template=template("agent:1"),
            now=at(when),
        )
        return replace(given, **changes)

    def judge(self, when: float = 20, **changes: Any):
        return health.judge(self.question(when, **changes))
