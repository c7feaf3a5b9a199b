"""A stage for the verbs: a real repository, a simulated cluster over loopback, the real agent.

Verbs run as people run them (`main.run_command`), through a kubeconfig and HTTP.  Time of the
world moves only when the test moves it, or when it plays in the background.
"""

from __future__ import annotations

import io
import json
import os
import threading
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import yaml

from dsgitops.adapters.git import address, revision
from dsgitops.adapters.git.source import GitSource
from dsgitops.adapters.git.tracked import Tracked
from dsgitops.adapters.kubernetes.cluster import KubernetesCluster
from dsgitops.adapters.kubernetes.events import Events
from dsgitops.adapters.kubernetes.lease import Lease
from dsgitops.adapters.kubernetes.lists import Inline
from dsgitops.adapters.kubernetes.voice import ClusterVoice
from dsgitops.agent import Agent
from dsgitops.cli.main import run_command
from dsgitops.core import record as records
from dsgitops.core.catalog import Terms, gather
from dsgitops.core.model import Policy
from dsgitops.intake import Intake
from dsgitops.ports import Response
from dsgitops.sim.drive import Drive, InlineHands, VirtualPolls
from dsgitops.sim.http import HttpServer
from dsgitops.sim.repository import Repository
from dsgitops.sim.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

POLICY = Policy(
    bake_time=timedelta(seconds=20),
    progress_deadline=timedelta(seconds=150),
    pod_deadline=timedelta(seconds=60),
)


@dataclass(frozen=True)
class Ran:
    """How a verb ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed for machines."""
        return json.loads(self.out)


def daemonset(name="agent", namespace="logging", tag="v1", env="hunter2", **spec):
    """A manifest as a team would keep it, with a value that must never be shown."""
    labels = {"app": name}
    container = {
        "name": "agent",
        "image": f"quay.io/acme/agent:{tag}",
        "env": [{"name": "PASSWORD", "value": env}],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 2},
        "resources": {"limits": {"memory": "64Mi"}, "requests": {"cpu": "10m", "memory": "64Mi"}},
    }
    return yaml.safe_dump(
        {
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
                **spec,
            },
        }
    )


PATH = "clusters/prod/agent.yaml"


class Starting:
    """An API server behind a load balancer, before it serves."""

    def __init__(self, clock):
        self.clock = clock

    def handle(self, request):
        """Answer as it does."""
        return Response(status=503, body=b"upstream connect error")


@dataclass
class Stage:
    """Everything there is; made by the fixture `stage`."""

    folder: Path
    nodes: int = 3
    policy: Policy = POLICY
    lock: threading.RLock = field(default_factory=threading.RLock)
    drive: Drive | None = None

    def __post_init__(self):
        self.repository = Repository.create(self.folder / "repo")
        self.world = World(nodes=self.nodes, start=datetime.now(UTC).replace(microsecond=0))
        for namespace in ("logging", "monitoring"):
            self.world.make_namespace(namespace)
        self.server = HttpServer(self.world.api, self.lock)
        self.server.start()
        self.kubeconfig = self.folder / "kubeconfig"
        self.server.write_kubeconfig(self.kubeconfig)
        self.drive = self._drive()

    def _drive(self):
        clock, transport = self.world.clock, self.world.transport()
        source = GitSource(
            Tracked(
                name="node-agents",
                address=address.parse(f"file://{self.repository.path}"),
                revision=revision.parse("branch", "main"),
            ),
            self.folder / "cache",
        )
        terms = Terms(
            source="node-agents",
            namespaces=frozenset({"logging", "monitoring"}),
            policy=self.policy,
        )
        self.lease = Lease(
            transport,
            namespace="default",
            identity="agent-1",
            election=False,
            run=Inline(),
            monotonic=clock.monotonic,
            wake=lambda: None,
        )
        self.events = Events(transport, instance="agent-1", run=Inline(), wake=lambda: None)
        polls = VirtualPolls([source], timedelta(seconds=10), clock)
        agent = Agent(
            intake=Intake(
                sources={"node-agents": source},
                reader=lambda files, _source, commit, before=None: gather(
                    files, commit, terms=terms, before=before
                ),
            ),
            polls=polls,
            cluster=KubernetesCluster(
                transport,
                namespaces=["logging", "monitoring"],
                rng=Random(1),
                wake=self._wake,
            ),
            hands=InlineHands(),
            voice=ClusterVoice(self.events, self.lease, lambda _source: source.history()),
            clock=clock,
        )
        return Drive(self.world, agent, polls)

    def _wake(self):
        """Let the agent look: a watch brought something."""
        if self.drive is not None:
            self.drive.wake()

    # ------------------------------------------------------------------ the world

    def commit(self, files, message="change the agents"):
        """Commit to Git; return the full hash."""
        return self.repository.commit(files, message)

    def play(self, seconds: float, until: Callable[[], bool] | None = None) -> bool:
        """Let the agent and the world go on."""
        end = self.world.now + timedelta(seconds=seconds)
        while self.world.now < end:
            if until is not None and until():
                return True
            with self.lock:
                self.drive.step(min(end, self.world.now + timedelta(seconds=1)))
                self.lease.pump(self.world.now)
                self.events.pump(self.world.now)
        return until is None or until()

    def play_until_phase(self, phase, within=600, name="agent"):
        """Let it go on until a DaemonSet is in a phase."""
        assert self.play(within, lambda: self.record(name).get("phase") == phase), self.record(name)

    def settle(self, within=600, name="agent"):
        """Let it go on until the content that Git has is everywhere, baked."""
        assert self.play(
            within,
            lambda: (
                self.record(name).get("reason") in ("RolloutFinished", "InSync")
                and self.record(name).get("phase") == "Idle"
            ),
        ), self.record(name)

    @contextmanager
    def playing(self, speed=20.0) -> Iterator[None]:
        """Let it go on in the background, so many virtual seconds a second."""
        over = threading.Event()

        def run():
            while not over.wait(0.05):
                self.play(0.05 * speed)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def live(self, name="agent", namespace="logging"):
        """The DaemonSet as the API server has it."""
        return self.world.daemonset(namespace, name)

    def record(self, name="agent", namespace="logging"):
        """Its record as JSON; empty: none."""
        found = self.world.store.get("daemonsets", namespace, name)
        annotations = (found or {}).get("metadata", {}).get("annotations") or {}
        return json.loads(annotations.get(records.ANNOTATION, "{}"))

    def hashes(self, name="agent", namespace="logging"):
        """The revision that each node runs."""
        return {
            pod["spec"]["nodeName"]: pod["metadata"]["labels"]["controller-revision-hash"]
            for pod in self.world.pods(namespace, name)
        }

    def settings(self):
        """A settings file that names the repository; its path."""
        file = self.folder / "dsgitops.yaml"
        source = {"name": "node-agents", "url": f"file://{self.repository.path}"}
        content = {
            "namespaces": ["logging", "monitoring"],
            "sources": [source | {"ref": {"branch": "main"}}],
        }
        file.write_text(yaml.safe_dump(content))
        return str(file)

    # ------------------------------------------------------------------ the verbs

    def run(self, *arguments: str, cwd=None) -> Ran:
        """Run a verb as a person in the repository would, in namespace `logging`."""
        out, err = io.StringIO(), io.StringIO()
        before = Path.cwd()
        os.chdir(cwd or self.repository.path)
        try:
            with redirect_stdout(out), redirect_stderr(err):
                code = run_command([*arguments, "--kubeconfig", str(self.kubeconfig)])
        finally:
            os.chdir(before)
        return Ran(code, out.getvalue(), err.getvalue())

    def api_down(self):
        """Let every request be answered as by an API server that is starting."""
        self.server.api = Starting(self.world.clock)

    def api_up(self):
        """Let requests be answered again."""
        self.server.api = self.world.api

    def close(self):
        self.server.stop()
