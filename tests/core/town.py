"""A very small cluster to step decisions through: one DaemonSet, a few nodes, coarse time.

It knows just enough of the API server, the DaemonSet controller and the kubelets that a sequence of
decisions can be watched for what no single one shows.  The faithful one is `dsgitops.sim`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from core.builders import NOW, REF, ZONE, edited, seconds, sha

from dsgitops.core import record as records
from dsgitops.core.actions import Apply, DeletePod, Recall, Rehearse, Remember, Restore
from dsgitops.core.chronicle import Chronicle
from dsgitops.core.decide import decide
from dsgitops.core.model import (
    Condition,
    Container,
    Decision,
    Desired,
    Ended,
    Live,
    Node,
    Observed,
    Pod,
    Rehearsal,
    Revision,
)

STEP = seconds(5)
STARTS = seconds(3)
GOES = seconds(2)
OURS = {"manager": "dsgitops", "operation": "Apply", "apiVersion": "apps/v1",
        "fieldsV1": {"f:spec": {"f:template": {}}}}  # fmt: skip
TAKEN = {"manager": "dsgitops", "operation": "Update", "apiVersion": "apps/v1",
         "fieldsV1": {"f:spec": {"f:template": {"f:spec": {}}}}}  # fmt: skip


def is_bad(template: dict[str, Any]) -> bool:
    """Whether containers of this template crash."""
    return "bad" in template["spec"]["containers"][0]["image"]


@dataclass
class Town:
    """One cluster and the agent's memory of it, which is nothing but the record."""

    git: Desired | None
    count: int = 5
    now: datetime = NOW
    live: Live | None = None
    revisions: list[Revision] = field(default_factory=list)
    pods: dict[str, Pod] = field(default_factory=dict)
    down: dict[str, datetime] = field(default_factory=dict)
    up_since: dict[str, datetime] = field(default_factory=dict)
    chronicle: Chronicle = field(default_factory=Chronicle)
    commits: dict[str, Desired] = field(default_factory=dict)
    rehearsal: Rehearsal | None = None
    recalled: Desired | None = None
    out: set[str] = field(default_factory=set)
    """Nodes without an available pod because of us: we deleted theirs, or the controller one that
    was available."""
    said: list[Decision] = field(default_factory=list)
    templates: list[str] = field(default_factory=list)
    """Hashes of live templates in the order in which we wrote them."""
    memory: records.Record | None = None
    """The record as last seen: the agent has it while it lives."""
    serial: int = 100

    # ------------------------------------------------------------------ looking

    def nodes(self) -> tuple[Node, ...]:
        return tuple(
            Node(
                name=f"n{i}",
                ready="Unknown" if f"n{i}" in self.down else "True",
                ready_since=self.down.get(f"n{i}", self.up_since.get(f"n{i}", NOW)),
                labels={ZONE: f"z{i % 3}"},
            )
            for i in range(self.count)
        )

    def record(self) -> records.Record | None:
        text = self.live.annotations.get(records.ANNOTATION) if self.live else None
        self.memory = records.load(text) if text else self.memory
        return self.memory

    def observed(self) -> Observed:
        return Observed(
            live=self.live, revisions=tuple(self.revisions), pods=tuple(self.pods.values()),
            nodes=self.nodes(), live_since=NOW - timedelta(hours=1), chronicle=self.chronicle,
            rehearsal=self.rehearsal, recalled=self.recalled,
        )  # fmt: skip

    def current(self) -> Revision:
        return next(each for each in self.revisions if each.template == self.live.template)

    # ------------------------------------------------------------------ time

    def run(self, steps: int = 1) -> None:
        for _ in range(steps):
            self.now += STEP
            self.controller()
            self.kubelets()
            self.controller()
            self.agent()

    def agent(self) -> None:
        for _ in range(12):
            decision = decide(self.git, self.observed(), self.record(), self.now)
            self.said.append(decision)
            for action in decision.actions:
                self.perform(action)
            self.controller()
            if not decision.actions:
                return
        raise AssertionError(f"it does not come to rest: {self.said[-1]}")

    # ------------------------------------------------------------------ the API server

    def perform(self, action: object) -> None:
        match action:
            case Apply(body=body):
                self.apply(body)
            case Restore(body=body):
                template = {k: v for k, v in body["spec"]["template"].items() if k != "$patch"}
                self.patch(body, {**body["spec"], "template": template})
                self.live = replace(self.live, managed_fields=(OURS, TAKEN))
            case Remember(body=body):
                self.patch(body, body.get("spec", {}))
            case DeletePod(node=name, uid=uid):
                assert self.pods[name].uid == uid
                self.delete(name, was_out=self.is_broken_leftover(self.pods[name]))
            case Rehearse(body=body, digest=digest):
                spec = stored(body["spec"])
                same = spec == self.live.spec
                self.rehearsal = Rehearsal(
                    digest=digest, generation=self.live.generation, equal=same,
                    template_changes=spec["template"] != self.live.template,
                )  # fmt: skip
            case Recall(commit=commit):
                self.recalled = self.commits[commit]
            case _:
                raise AssertionError(action)

    def is_broken_leftover(self, pod: Pod) -> bool:
        """Whether a pod is of superseded content and not ready: it served nobody, and may go."""
        good = self.record().last_good
        return not pod.is_ready and good is not None and pod.hash != good.hash

    def apply(self, body: dict[str, Any]) -> None:
        spec, metadata = stored(body["spec"]), body["metadata"]
        if self.live is None:
            assert "uid" not in metadata
            self.live = Live(
                ref=REF, uid=f"uid-{self.serial}", resource_version="1", generation=1,
                observed_generation=1, spec=spec, annotations=metadata["annotations"],
                labels=metadata["labels"], managed_fields=(OURS,),
            )  # fmt: skip
        else:
            self.check(metadata)
            assert not any(each is not OURS for each in self.live.managed_fields), (
                "taken over first"
            )
            people = {k: v for k, v in self.live.annotations.items() if k.startswith("dsgitops")}
            self.change(spec, people | metadata["annotations"])
            self.live = replace(self.live, labels=metadata["labels"])
        self.templates.append(sha(spec["template"]))

    def patch(self, body: dict[str, Any], spec: dict[str, Any]) -> None:
        metadata = body["metadata"]
        self.check(metadata)
        if "template" in spec:
            self.templates.append(sha(spec["template"]))
        strategy = {**self.live.spec["updateStrategy"], **spec.get("updateStrategy", {})}
        merged = {**self.live.spec, **spec, "updateStrategy": strategy}
        self.change(merged, {**self.live.annotations, **metadata["annotations"]})
        if "managedFields" in metadata:
            assert metadata["managedFields"]
            self.live = replace(self.live, managed_fields=(OURS,))

    def check(self, metadata: dict[str, Any]) -> None:
        assert metadata["uid"] == self.live.uid
        assert metadata["resourceVersion"] == self.live.resource_version
        assert records.load(metadata["annotations"][records.ANNOTATION]) is not None

    def change(self, spec: dict[str, Any], annotations: dict[str, str]) -> None:
        self.serial += 1
        bump = spec != self.live.spec
        self.live = replace(
            self.live, spec=spec, annotations=annotations, resource_version=str(self.serial),
            generation=self.live.generation + bump, observed_generation=self.live.generation + bump,
        )  # fmt: skip

    # ------------------------------------------------------------------ the controller

    def controller(self) -> None:
        if self.live is None:
            return
        self.make_revision()
        target = self.current()
        ready = {each.name for each in self.nodes() if each.is_ready}
        for name in sorted(ready):
            pod = self.pods.get(name)
            if pod is not None and pod.deleting is not None and pod.deleting <= self.now:
                self.chronicle.pod_gone(pod, self.now)
                del self.pods[name]
                pod = None
            if pod is None:
                self.make_pod(name, target)
        if self.live.strategy.type == "RollingUpdate":
            self.roll(target, sorted(ready))

    def make_revision(self) -> None:
        template = self.live.template
        top = max((each.number for each in self.revisions), default=0)
        same = [each for each in self.revisions if each.template == template]
        if same:
            if same[0].number < top:
                self.revisions.remove(same[0])
                self.revisions.append(replace(same[0], number=top + 1))
            return
        name = sha(template)[7:17]
        self.revisions.append(
            Revision(name=f"fluentd-{name}", hash=name, number=top + 1, template=template,
                     annotations=self.live.annotations, created=self.now,
                     owner=self.live.uid)
        )  # fmt: skip

    def make_pod(self, name: str, target: Revision) -> None:
        self.serial += 1
        self.pods[name] = Pod(
            name=f"fluentd-{self.serial}", uid=f"pod-{self.serial}", resource_version="1",
            grace=2, node=name, hash=target.hash, created=self.now, phase="Pending", owner=self.live.uid,
            containers=(Container(name="fluentd", waiting_reason="ContainerCreating"),),
        )  # fmt: skip
        self.tell(name)

    def roll(self, target: Revision, ready: list[str]) -> None:
        old = [n for n in ready if self.pods[n].hash != target.hash and not self.pods[n].deleting]
        for name in [each for each in old if not self.pods[each].is_ready]:
            self.delete(name, was_out=True)
            old.remove(name)
        unavailable = sum(
            not pod.is_ready or pod.deleting is not None for pod in self.pods.values()
        )
        for name in old[: max(0, self.most() - unavailable)]:
            self.delete(name)

    def most(self) -> int:
        return int(self.live.strategy.max_unavailable)

    def delete(self, name: str, *, was_out: bool = False) -> None:
        self.pods[name] = replace(self.pods[name], deleting=self.now + GOES)
        if not was_out:
            self.out.add(name)

    # ------------------------------------------------------------------ the kubelets

    def kubelets(self) -> None:
        templates = {each.hash: each.template for each in self.revisions}
        for name, pod in self.pods.items():
            if name in self.down:
                self.set_ready(name, pod.containers, ready=False, all_ready=pod.is_ready)
            elif pod.deleting is None and pod.created + STARTS <= self.now:
                began = max(pod.created, self.up_since.get(name, NOW)) + STARTS
                if is_bad(templates[pod.hash]):
                    self.crash(name, began)
                elif not pod.is_ready:
                    up = Container(name="fluentd", ready=True, started=True, running_since=began)
                    self.set_ready(name, (up,), ready=True)
            if self.pods[name].is_ready and self.pods[name].deleting is None:
                self.out.discard(name)

    def crash(self, name: str, began: datetime) -> None:
        crashes = int((self.now - began) / seconds(10)) + 1
        end = Ended(reason="Error", exit_code=1, started=self.now - seconds(2), finished=self.now)
        waits = Container(
            name="fluentd", restarts=crashes, last=end, waiting_reason="CrashLoopBackOff"
        )
        self.set_ready(name, (waits,), ready=False)

    def set_ready(
        self, name: str, containers: tuple[Container, ...], *, ready: bool, all_ready: bool = False
    ) -> None:
        pod = self.pods[name]
        before = pod.conditions.get("Ready")
        moved = before is None or (before.status == "True") is not ready
        since = self.now if moved else before.since
        conditions = {
            "Ready": Condition(status=str(ready), since=since),
            "ContainersReady": Condition(status=str(ready or all_ready), since=since),
        }
        self.pods[name] = replace(
            pod, containers=containers, conditions=conditions, phase="Running"
        )
        self.tell(name)

    def tell(self, name: str) -> None:
        self.chronicle.pod(self.pods[name], self.now)

    # ------------------------------------------------------------------ people and accidents

    def push(self, content: Desired) -> None:
        self.git = content
        self.commits[content.commit] = content

    def take_down(self, name: str) -> None:
        self.down.setdefault(name, self.now)

    def bring_up(self, name: str) -> None:
        if self.down.pop(name, None):
            self.up_since[name] = self.now

    def annotate(self, key: str, value: str | None) -> None:
        if self.live is not None:
            kept = {k: v for k, v in self.live.annotations.items() if k != key}
            self.change(self.live.spec, kept if value is None else kept | {key: value})

    def edit_image(self, image: str) -> None:
        if self.live is None:
            return
        spec = json.loads(json.dumps(self.live.spec))
        spec["template"]["spec"]["containers"][0]["image"] = image
        self.write_by_hand(spec, "kubectl-edit")

    def undo(self) -> None:
        """`kubectl rollout undo`: the second highest revision."""
        ranked = sorted(self.revisions, key=lambda each: each.number)
        if self.live is not None and len(ranked) > 1:
            self.write_by_hand(
                {**self.live.spec, "template": ranked[-2].template}, "kubectl-rollout"
            )

    def write_by_hand(self, spec: dict[str, Any], who: str) -> None:
        container = ("f:template", "f:spec", "f:containers", 'k:{"name":"fluentd"}', "f:image")
        if spec != self.live.spec:
            self.change(spec, self.live.annotations)
            entries = (*self.live.managed_fields, edited(*container, by=who))
            self.live = replace(self.live, managed_fields=entries)

    def delete_object(self) -> None:
        """Somebody deletes the DaemonSet, pods and all; the agent's memory of it stays."""
        self.record()
        self.live, self.pods, self.revisions, self.out = None, {}, [], set()


def stored(spec: dict[str, Any]) -> dict[str, Any]:
    """Return a spec as the API server keeps it."""
    kept: dict[str, Any] = json.loads(json.dumps(spec))
    kept["template"]["spec"].setdefault("dnsPolicy", "ClusterFirst")
    kept.setdefault("minReadySeconds", 0)
    return kept
