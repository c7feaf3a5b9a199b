"""Real DaemonSets of public projects, and the example repository, kept in sync by the whole agent.

Each file is a source of its own with a namespace of its own, all in one simulated cluster.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from random import Random

import pytest
import yaml
from scenarios.auditor import Auditor, record_of
from scenarios.repository import Repository
from scenarios.wire import STRATEGIC, Log, Wire

from dsgitops.adapters.kubernetes.cluster import KubernetesCluster
from dsgitops.agent import Agent
from dsgitops.cli.stage import POLICY, examples
from dsgitops.core import manifest
from dsgitops.core.catalog import Terms, gather
from dsgitops.core.model import Ref
from dsgitops.intake import Intake
from dsgitops.ports import Request
from dsgitops.sim.drive import Drive, InlineHands, VirtualPolls
from dsgitops.sim.transport import SimTransport
from dsgitops.sim.world import World

CORPUS = Path(__file__).parents[2] / "shared" / "corpus"
NODES = 3
PATIENCE = timedelta(minutes=20)
IN_CORPUS = 23
"""Of its 26 DaemonSets: two are of `extensions/v1beta1`, one has no selector."""


class Quiet:
    """`ports.Voice` that remembers reasons and faults."""

    def __init__(self):
        self.reasons = {}
        self.faults = []

    def tell(self, ref, decision, now, *, news):
        self.reasons.setdefault(ref, []).append(decision.reason)

    def problem(self, source, what, *, remedy=""):
        pass

    def fault(self, ref, error):
        self.faults.append((ref, error))

    def read(self, source, commit, now, *, partial):
        pass


class Sync:
    """Sources, one agent, one cluster."""

    def __init__(self, sources, namespaces):
        """Take sources by name, and the namespaces that each may use."""
        self.world = World(nodes=NODES, provides=True)
        self.log = Log()
        self.auditor = Auditor(self.world, lambda *_: True, POLICY.progress_deadline)
        self.log.auditors.append(self.auditor)
        self.voice = Quiet()
        for namespace in frozenset().union(*namespaces.values()):
            self.world.make_namespace(namespace)
        self.sources, self.namespaces = sources, namespaces
        self.start()

    def start(self):
        """Start an agent that knows nothing; the one before is gone."""
        terms = {
            name: Terms(source=name, namespaces=each, policy=POLICY)
            for name, each in self.namespaces.items()
        }
        polls = VirtualPolls(self.sources.values(), timedelta(seconds=30), self.world.clock)
        woken = []
        cluster = KubernetesCluster(
            Wire(self.world, self.log),
            namespaces=frozenset().union(*self.namespaces.values()),
            rng=Random(1),
            wake=lambda: [each() for each in woken],
        )
        agent = Agent(
            intake=Intake(
                sources=self.sources,
                reader=lambda files, source, commit, before=None: gather(
                    files, commit, terms=terms[source], before=before
                ),
                policy=POLICY,
            ),
            polls=polls,
            cluster=cluster,
            hands=InlineHands(),
            voice=self.voice,
            clock=self.world.clock,
        )
        self.drive = Drive(world=self.world, agent=agent, polls=polls)
        woken.append(self.drive.wake)

    def run(self, length, until=None):
        done = self.drive.run(length, until=until)
        self.auditor.look()
        return done

    def live(self, ref):
        return self.world.store.get("daemonsets", ref.namespace, ref.name)

    def record(self, ref):
        return record_of(self.live(ref))

    def finished(self, refs):
        """Whether each DaemonSet was rolled out to its end."""
        records = [self.record(ref) for ref in refs]
        return all(record is not None and record.phase == "Idle" for record in records)

    def plant_drift(self, ref):
        """Change what every DaemonSet has, as `kubectl set image` does."""
        container = self.live(ref)["spec"]["template"]["spec"]["containers"][0]["name"]
        change = {"containers": [{"name": container, "image": "registry.sim/drift:1"}]}
        answer = SimTransport(self.world.api, headers={"User-Agent": "kubectl"}).send(
            Request(
                method="PATCH",
                path=f"/apis/apps/v1/namespaces/{ref.namespace}/daemonsets/{ref.name}",
                query={"fieldManager": "kubectl-set"},
                headers={"Content-Type": STRATEGIC},
                body=yaml.safe_dump({"spec": {"template": {"spec": change}}}).encode(),
            )
        )
        assert answer.status == 200, answer.body

    def images(self, ref):
        found = self.live(ref)["spec"]["template"]["spec"]
        return [each["image"] for each in found["containers"]]


def corpus():
    """Return one source and the namespaces for each file of the corpus, and its valid DaemonSets."""
    sources, namespaces, refs = {}, {}, []
    for number, path in enumerate(sorted(CORPUS.glob("*.yaml"))):
        text = path.read_text()
        source, own = Repository(name=f"corpus-{number}"), f"corpus-{number}"
        file = manifest.read(text.encode(), path=path.name)
        text = in_namespace(text, own)
        source.commit({path.name: text})
        sources[source.name] = source
        namespaces[source.name] = frozenset({own})
        refs += [Ref(own, each.name) for each in file.manifests if each.problem is None]
    return sources, namespaces, refs


def in_namespace(text, namespace):
    """Return a file's documents with their DaemonSets moved to a namespace."""
    documents = [each for each in yaml.safe_load_all(text) if each is not None]
    for document in documents:
        if document.get("kind") == "DaemonSet":
            document["metadata"]["namespace"] = namespace
    return yaml.safe_dump_all(documents, sort_keys=False)


def example_repository():
    """Return the example repository as one source."""
    root = examples()
    source = Repository(name="examples")
    files = {
        str(path.relative_to(root)): path.read_text()
        for path in sorted((root / "clusters" / "prod").rglob("*.yaml"))
    }
    source.commit(files)
    parsed = [manifest.read(text.encode(), path=path) for path, text in files.items()]
    refs = [Ref(each.namespace, each.name) for file in parsed for each in file.manifests]
    return {source.name: source}, {source.name: frozenset(ref.namespace for ref in refs)}, refs


@pytest.fixture(scope="module", params=["corpus", "examples"])
def synced(request):
    """A cluster to which everything was rolled out."""
    if request.param == "corpus" and not CORPUS.is_dir():
        pytest.skip("../shared/corpus is not here")
    sources, namespaces, refs = corpus() if request.param == "corpus" else example_repository()
    sync = Sync(sources, namespaces)
    done = sync.run(PATIENCE, until=lambda: sync.finished(refs))
    late = [f"{ref}: {sync.voice.reasons.get(ref)}" for ref in refs if not sync.finished([ref])]

    assert done, late
    assert request.param != "corpus" or len(refs) == IN_CORPUS
    return sync, refs


def test_every_valid_daemonset_comes_to_rollout_finished(synced):
    sync, refs = synced

    assert not sync.voice.faults
    for ref in refs:
        assert sync.record(ref).reason == "RolloutFinished", ref
        runs = bool(sync.world.pods(ref.namespace, ref.name))
        assert runs is (sync.record(ref).last_good is not None), ref


def test_drift_on_each_is_healed_and_then_nobody_writes_any_more(synced):
    sync, refs = synced
    before = {ref: sync.images(ref) for ref in refs}
    for ref in refs:
        sync.plant_drift(ref)
    sync.run(timedelta(minutes=3))

    assert {ref: sync.images(ref) for ref in refs} == before
    assert all("DriftHealed" in sync.voice.reasons[ref] for ref in refs)

    written = len(sync.log.writes)
    sync.run(timedelta(minutes=30))

    assert sync.log.writes[written:] == []


def test_a_new_agent_that_knows_nothing_writes_nothing(synced):
    sync, refs = synced
    written = len(sync.log.writes)
    sync.drive.agent.cluster.close()
    sync.start()
    sync.run(timedelta(minutes=2))

    assert set(sync.drive.agent.decisions) >= set(refs)
    assert sync.log.writes[written:] == []
