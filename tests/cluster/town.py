"""A team on fake nodes, and its agent, which keeps a DaemonSet for each story that is told."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cluster.fake_kubelet import NEVER_READY, NO_SUCH_IMAGE, Start, kubelets_on
from cluster.team import team_on
from cluster.toll import watched

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cluster.control_plane import ControlPlane
    from cluster.fake_kubelet import Kubelets
    from cluster.team import Agent, Team
    from cluster.toll import Tolls

NODES = 4
SLOW_SECONDS = 8
IMAGE = "registry.example/agent"
GOOD, SECOND, THIRD, SLOW = f"{IMAGE}:1", f"{IMAGE}:2", f"{IMAGE}:3", f"{IMAGE}:slow"
BAD, WORSE, ABSENT = f"{IMAGE}:bad", f"{IMAGE}:worse", f"{IMAGE}:absent"
STARTS = {
    BAD: NEVER_READY,
    WORSE: NEVER_READY,
    ABSENT: NO_SUCH_IMAGE,
    SLOW: Start(seconds=SLOW_SECONDS),
    SECOND: Start(seconds=1),
}
"""What becomes of pods by their image; others are Ready at once."""
ROLLOUT = {
    "canary": {"nodes": 1, "bakeTime": "1s"},
    "bakeTime": "2s",
    "podDeadline": "12s",
    "progressDeadline": "2m",
}
WAIT_SECONDS = 240


@dataclass
class Town:
    """Nodes, a namespace that is watched, Git, and what it has."""

    team: Team
    kubelets: Kubelets
    tolls: Tolls
    tree: dict[str, dict] = field(default_factory=dict)
    """The manifests that Git has, by name."""
    agent: Agent | None = None

    # ------------------------------------------------------------------ Git

    def manifest(self, name: str, image: str = GOOD, *, pool: str = "town", **container) -> dict:
        found = self.team.manifest(name, image=image, **container)
        found["spec"]["template"]["spec"]["nodeSelector"] = {"pool": pool}
        return found

    def push(self, *changed: dict) -> str:
        """Commit new content of some DaemonSets beside that of the others; return the commit."""
        self.tree |= {each["metadata"]["name"]: each for each in changed}
        return self.team.commit(*self.tree.values())

    # ------------------------------------------------------------------ waiting

    def born(self, *manifests: dict) -> str:
        """Create them, and wait until they are good."""
        commit = self.push(*manifests)
        for each in manifests:
            self.good(commit, each["metadata"]["name"])
        return commit

    def good(self, commit: str, name: str) -> None:
        """Wait until the commit is what runs, baked."""

        def good() -> bool:
            record = self.team.record(name)
            last = (record.get("lastGood") or {}).get("commit") or ""
            return last.endswith(commit) and record.get("phase") == "Idle"

        self.wait(good, f"{name}: {commit[:7]} is good")

    def held(self, name: str) -> dict:
        """Wait until a rollback is over; return the last that is quarantined."""
        self.wait(lambda: self.team.record(name).get("reason") == "RolledBack", f"{name} is back")
        return self.team.record(name)["quarantine"][-1]

    def wait(self, holds, what: str) -> None:
        self.team.wait(holds, f"{what} {self.kubelets.errors[-3:]}", within=WAIT_SECONDS)

    # ------------------------------------------------------------------ what is seen

    def nodes_with(self, name: str, image: str) -> set[str]:
        """Return the nodes whose pod wears the image, and is not going."""
        return {pod.node for pod in self.team.fleet(name) if pod.image == image}

    def deletes(self, name: str) -> int:
        """Return how many pods the agent deleted."""
        return len([verb for verb, _ in self.team.writes(name) if verb == "delete"])

    def verb(self, *arguments: str, code: int = 0) -> str:
        """Run a verb of the CLI as a person does."""
        done = subprocess.run(
            [sys.executable, "-m", "dsgitops", *arguments, "-n", self.team.namespace,
             "--kubeconfig", str(self.team.plane.kubeconfig)],
            capture_output=True, check=False, text=True, timeout=90, env=_without_settings(),
        )  # fmt: skip
        assert done.returncode == code, f"{done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout

    def detected(self, name: str, bad: str) -> float:
        """Return the seconds from the first pod with a bad image to the rollback's PATCH."""
        first = self.tolls[name].first[bad]
        return next((at - first).total_seconds() for at in self.team.rollbacks(name) if at >= first)

    def row(self, name: str, scenario: str, *, bad: str = "", nodes: int = NODES) -> dict:
        """Return what the table of scenarios says of one DaemonSet."""
        toll = self.tolls[name]
        held = self.team.record(name).get("quarantine")
        said = self.agent.reasons(name)[-1]
        if held and said == "RolledBack":
            said += f", {held[-1]['class']}"
        return {
            "detected": self.detected(name, bad) if bad else None,
            "scenario": scenario,
            "nodes": f"{nodes} fake",
            "outcome": f"{said}; at most {toll.most_taken} taken at once",
            "writes": len(self.team.writes(name)),
            "restarted": str(toll.restarts),
        }


def _without_settings() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("DSGITOPS_")}


@contextmanager
def town_on(plane: ControlPlane, folder: Path, **settings) -> Iterator[Town]:
    """A town for the block; its agent is started by whoever wants one."""
    with kubelets_on(plane) as kubelets:
        kubelets.starts |= STARTS
        kubelets.join(*(f"town-{number}" for number in range(NODES)), pool="town")
        with (
            team_on(plane, folder, nodes=NODES, settings={"rollout": ROLLOUT} | settings) as team,
            watched(plane, team.namespace) as tolls,
        ):
            yield Town(team, kubelets, tolls)


@contextmanager
def agent_in(town: Town) -> Iterator[None]:
    """Run the agent for the block."""
    with town.team.agent() as agent:
        town.agent = agent
        yield
