"""A scene: a simulated cluster, a repository, the real agent, and people who do things."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta

from scenarios.auditor import Auditor, record_of
from scenarios.manifests import NAMESPACE, is_bad, manifest, text
from scenarios.post import Post
from scenarios.repository import Repository, commit_name
from scenarios.wire import APPLY, MERGE, STRATEGIC, Log, Wire

from dsgitops import wiring
from dsgitops.adapters.voices import Voices
from dsgitops.core.model import Policy
from dsgitops.errors import DsgitopsError
from dsgitops.ports import Request
from dsgitops.sim.transport import SimTransport
from dsgitops.sim.world import World

INTERVAL = timedelta(seconds=5)
POLICY = Policy(
    canary_nodes=1,
    canary_bake=timedelta(seconds=5),
    pod_deadline=timedelta(seconds=30),
    progress_deadline=timedelta(seconds=60),
    bake_time=timedelta(seconds=15),
)
"""Deadlines that make short transcripts."""
STAR = "agent"
DAEMONSETS = f"/apis/apps/v1/namespaces/{NAMESPACE}/daemonsets"


@dataclass(frozen=True, slots=True)
class Said:
    """One thing that the agent said."""

    at: float
    name: str
    reason: str
    text: str


class _World(World):
    """A world whose `transport` is noted; people come in by another door."""

    def __init__(self, log, **arguments):
        super().__init__(**arguments)
        self.log = log
        self.faults = None

    def transport(self):
        return Wire(self, self.log, self.faults)


class Scene:
    """Everything that a scenario moves; also `ports.Voice` of its agent.

    Args:
        nodes: How many there are.
        seed: Of the world.
        policy: Of every DaemonSet.
        faults: On the agent's way to the API server.
        alerts: Whether somebody is told of failures.
    """

    def __init__(self, nodes=4, seed=1, policy=POLICY, faults=None, *, alerts=False):
        self.log = Log()
        self.world = _World(self.log, nodes=nodes, seed=seed, provides=True)
        self.world.make_namespace(NAMESPACE)
        self.world.faults = faults
        self.repository = Repository()
        self.policy = policy
        self.options = {}
        """What was committed, by (name, commit)."""
        self.said = []
        self.seen = {}
        self.decided = []
        """(virtual time, name, reason) of every decision, news or not."""
        self.auditor = Auditor(self.world, self.is_good, policy.progress_deadline)
        self.log.auditors.append(self.auditor)
        self.drive = None
        self.post = Post(self.world.clock) if alerts else None

    # ---------------------------------------------------------------- ports.Voice

    def tell(self, ref, decision, now, *, news):
        at = self.world.clock.monotonic()
        self.decided.append((at, ref.name, decision.reason))
        if news:
            self.said.append(Said(at, ref.name, str(decision.reason), decision.because))

    def problem(self, source, what, *, remedy=""):
        self.said.append(Said(self.world.clock.monotonic(), source, "Problem", what))

    def fault(self, ref, error):
        at = self.world.clock.monotonic()
        text = f"{type(error).__name__}: {error}"
        self.said.append(Said(at, ref.name, "Fault", text))
        if not isinstance(error, DsgitopsError):
            self.auditor.violations.append(f"{at:.2f}s a defect of ours: {text}")

    def read(self, source, commit, now, *, partial):
        pass

    # ---------------------------------------------------------------- Git

    def push(self, name=STAR, **options):
        """Commit one manifest; return the commit."""
        return self.commit({name: options})

    def commit(self, manifests, files=None):
        """Commit manifests by name (None removes one), and other files as they are."""
        before = self._committed(len(self.repository.commits))
        made = {f"{name}.yaml": text(name, **given) if given is not None else None
                for name, given in manifests.items()}  # fmt: skip
        commit = self.repository.commit({**made, **(files or {})})
        self._note({**before, **manifests})
        return commit

    def revert(self):
        """Commit what was there before the last commit."""
        commit = self.repository.revert()
        self._note(self._committed(len(self.repository.commits) - 2))
        return commit

    def is_good(self, name, commit):
        """Whether a commit's content is known to be good (`main@sha1:…` or the hash)."""
        options = self.options.get((name, commit.rpartition(":")[2]))
        return options is not None and not is_bad(options)

    def _note(self, manifests):
        number = len(self.repository.commits)
        for name, given in manifests.items():
            if given is not None:
                self.options[name, commit_name(number)] = given

    def _committed(self, number):
        name = commit_name(number)
        return {key[0]: given for key, given in self.options.items() if key[1] == name}

    # ---------------------------------------------------------------- time

    def start_agent(self):
        """Start an agent with an empty memory; the one before is dead."""
        if self.drive is not None:
            self.drive.agent.cluster.close()
        self.drive = wiring.simulated(
            self.world,
            {self.repository.name: self.repository},
            namespaces=(NAMESPACE,),
            policy=self.policy,
            voice=self,
            interval=INTERVAL,
        )
        if self.post is not None:
            desk = self.post.open()
            self.drive.agent.desk = desk
            self.drive.agent.voice = Voices(self, desk)

    def run(self, seconds, until=None):
        """Let time go by, looking at the store after each step; return whether `until` held."""
        if self.drive is None:
            self.start_agent()
        end = self.world.now + timedelta(seconds=seconds)
        while self.world.now < end:
            if until is not None and until():
                return True
            self.drive.step(end)
            self.auditor.look()
        return until is None or until()

    def stay(self, seconds):
        """Let time go by without an agent."""
        self.world.advance(seconds)

    # ---------------------------------------------------------------- what is there

    def live(self, name=STAR):
        """Return the DaemonSet."""
        return self.world.daemonset(NAMESPACE, name)

    def record(self, name=STAR):
        """Return its record."""
        return record_of(self.world.store.get("daemonsets", NAMESPACE, name))

    def phase(self, name=STAR):
        """Return its phase; "" where there is none."""
        record = self.record(name)
        return str(record.phase) if record else ""

    def pods(self, name=STAR):
        """Return its pods."""
        return self.world.pods(NAMESPACE, name)

    def writes(self, since=0.0):
        """Return the writes that landed since then."""
        return [each for each in self.log.landed_ones() if each.at >= since]

    # ---------------------------------------------------------------- people

    def send(self, method, path, body, *, content_type="application/json", manager="kubectl"):
        """Send a person's request: what it restarts is no deed of a rollback."""
        self.auditor.spared.clear()
        query = {} if method == "DELETE" else {"fieldManager": manager}
        if content_type == APPLY:
            query["force"] = "true"
        way = SimTransport(self.world.api, headers={"User-Agent": manager})
        headers = {"Content-Type": content_type}
        answer = way.send(
            Request(method=method, path=path, query=query, headers=headers,
                    body=json.dumps(body).encode())
        )  # fmt: skip
        assert answer.status < 300, answer.body
        return json.loads(answer.body)

    def annotate(self, name=STAR, **annotations):
        """Set annotations as `kubectl annotate` does; None removes one."""
        body = {"metadata": {"annotations": annotations}}
        self.send("PATCH", f"{DAEMONSETS}/{name}", body, content_type=MERGE,
                  manager="kubectl-annotate")  # fmt: skip

    def label(self, name=STAR, **labels):
        """Set labels as `kubectl label` does."""
        body = {"metadata": {"labels": labels}}
        self.send("PATCH", f"{DAEMONSETS}/{name}", body, content_type=MERGE,
                  manager="kubectl-label")  # fmt: skip

    def set_container(self, name=STAR, manager="kubectl-set", **fields):
        """Change the container as `kubectl set image` and `kubectl set env` do."""
        pod = {"containers": [{"name": "agent", **fields}]}
        body = {"spec": {"template": {"spec": pod}}}
        self.send("PATCH", f"{DAEMONSETS}/{name}", body, content_type=STRATEGIC, manager=manager)

    def edit(self, body, name=STAR, manager="kubectl-edit"):
        """Change anything, as `kubectl edit` does."""
        self.send("PATCH", f"{DAEMONSETS}/{name}", body, content_type=MERGE, manager=manager)

    def undo(self, name=STAR, to=None):
        """Do what `kubectl rollout undo` does: the second highest revision, or one by number."""
        revisions = self.world.revisions(NAMESPACE, name)
        found = revisions[-2] if to is None else next(r for r in revisions if r["revision"] == to)
        self.send("PATCH", f"{DAEMONSETS}/{name}", found["data"], content_type=STRATEGIC,
                  manager="kubectl-rollout")  # fmt: skip

    def apply_as(self, manager, body, name=STAR):
        """Apply fields server-side, as Flux and Argo CD do."""
        base = {"apiVersion": "apps/v1", "kind": "DaemonSet",
                "metadata": {"name": name, "namespace": NAMESPACE}}  # fmt: skip
        self.send("PATCH", f"{DAEMONSETS}/{name}", base | body, content_type=APPLY, manager=manager)

    def create(self, name=STAR, manager="kubectl-client-side-apply", **options):
        """Create the DaemonSet as another client."""
        self.send("POST", DAEMONSETS, manifest(name, **options), manager=manager)

    def delete(self, name=STAR, *, orphan=False):
        """Delete the DaemonSet; its pods stay where `orphan`."""
        policy = "Orphan" if orphan else "Background"
        body = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": policy}
        self.send("DELETE", f"{DAEMONSETS}/{name}", body)

    def delete_pods(self, name=STAR):
        """Delete all its pods."""
        self.auditor.people_delete = True
        for pod in self.pods(name):
            self.world.delete_pod(NAMESPACE, pod["metadata"]["name"])
