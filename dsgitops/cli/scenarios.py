"""What happens in a demo: commits and people's acts, each waited for until it is settled."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from dsgitops.cli.stage import STAR
from dsgitops.core.model import Reason
from dsgitops.ports import Request

if TYPE_CHECKING:
    from collections.abc import Callable

    from dsgitops.cli.stage import Stage

PATIENCE = timedelta(minutes=20)
"""Virtual time after which a step counts as failed: a demo ends by itself."""


@dataclass(frozen=True, slots=True)
class Step:
    """One act, and what is waited for."""

    title: str
    act: Callable[[Stage], None]
    until: Callable[[Stage], bool]


def _image(tag: str) -> Callable[[str], str]:
    return lambda text: re.sub(
        r"(image: \S*fluentd-kubernetes-daemonset):\S+", rf"\1:{tag}", text, count=1
    )


def _readiness(path: str) -> Callable[[str], str]:
    return lambda text: re.sub(r"path: /\S+", f"path: {path}", text, count=1)


def _on_delete(text: str) -> str:
    return re.sub(r"type: RollingUpdate\n\s+rollingUpdate:\n\s+maxUnavailable: \S+",
                  "type: OnDelete", text)  # fmt: skip


def _begin(_stage: Stage) -> None:
    """The first commit is there already."""


def _good(stage: Stage) -> None:
    stage.commit(_image("v1.19.0-debian-forward-1.0"), "Update fluentd to v1.19")


def _bad(stage: Stage) -> None:
    stage.undoing = None
    stage.commit(_readiness("/healthz-missing"), "Probe fluentd on another path")


def _fix(stage: Stage) -> None:
    stage.commit(_readiness("/api/plugins.json"), "Probe fluentd where it answers")


def _slow(stage: Stage) -> None:
    stage.commit(_image("v1.19.0-slow-8s"), "Update fluentd to a version that starts slowly")


def _by_people(stage: Stage) -> None:
    image = _image("v1.19.0-debian-forward-1.0")
    stage.commit(lambda text: _on_delete(image(text)), "Update fluentd, people restart it")


def _delete_all(stage: Stage) -> None:
    """A person deletes the pods, four at a time."""
    names = [pod["metadata"]["name"] for pod in stage.world.pods(STAR.namespace, STAR.name)]
    for start in range(0, len(names), 4):
        for name in names[start : start + 4]:
            stage.world.delete_pod(STAR.namespace, name)
        stage.drive.wake()
        stage.drive.run(timedelta(seconds=12))


def _edit(stage: Stage) -> None:
    """A person edits the live object, as `kubectl set image` would."""
    found = stage.world.daemonset(STAR.namespace, STAR.name)
    container = found["spec"]["template"]["spec"]["containers"][0]["name"]
    change = {"name": container, "image": "docker.io/fluent/fluentd:debug"}
    answer = stage.world.transport().send(
        Request(
            method="PATCH",
            path=f"/apis/apps/v1/namespaces/{STAR.namespace}/daemonsets/{STAR.name}",
            query={"fieldManager": "kubectl-set"},
            headers={"Content-Type": "application/strategic-merge-patch+json"},
            body=json.dumps({"spec": {"template": {"spec": {"containers": [change]}}}}).encode(),
        )
    )
    assert answer.status == 200, answer.body


def _stalled(stage: Stage) -> bool:
    return stage.star is not None and stage.star.reason is Reason.ROLLOUT_STALLED


def _healed(stage: Stage) -> bool:
    healed = any(line.reason == Reason.DRIFT_HEALED for line in stage.lines)
    return healed and stage.rests()


def _rests(stage: Stage) -> bool:
    return stage.rests()


def _holds(stage: Stage) -> bool:
    return stage.holds()


START = Step("the first commit creates every DaemonSet", _begin, _rests)
GOOD = Step("a good commit: fluentd gets a new image", _good, _rests)
SCENARIOS: dict[str, tuple[Step, ...]] = {
    "good": (START, GOOD),
    "bad": (
        START,
        GOOD,
        Step("a bad commit: its readiness probe never passes", _bad, _holds),
        Step("the fix", _fix, _rests),
    ),
    "drift": (START, Step("a person changes the image by hand", _edit, _healed)),
    "ondelete": (
        START,
        Step("Git says OnDelete, and gets a new image", _by_people, _stalled),
        Step("a person deletes the pods", _delete_all, _rests),
    ),
    "slow": (START, Step("a good commit whose pods need 8 s to start", _slow, _rests)),
}
