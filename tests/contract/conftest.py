"""The contract of a cluster, held against the simulated one, or against Kubernetes itself.

The tests know `ports.Transport` alone, each has a namespace of its own, and all wait through
`settle`, `rest` and `pass_time`.  `DSGITOPS_CLUSTER=real` chooses the real control plane; where
the two differ the real one is right (`docs/simulator.md`).
"""

from __future__ import annotations

import itertools
import os
import time
from contextlib import contextmanager

import pytest
from contract.calm import Calm
from contract.client import Cluster, manifest
from contract.trouble import Real, simulated

from dsgitops.adapters.kubernetes.transport import connect
from dsgitops.sim.world import World

_numbers = itertools.count(1)
_CONTROLLERS = ("kwok", "scheduler", "controller-manager")
_SETTLE_SECONDS = 100
_GRACE_SECONDS = 0.2
"""What was not written until then is taken for not written at all."""
_STEP_SECONDS = 0.05


@pytest.fixture
def trouble(request, tmp_path):
    """A cluster of its own, whose API server can be taken away, and whose clients differ."""
    if os.environ.get("DSGITOPS_CLUSTER") != "real":
        world = World(nodes=2, seed=next(_numbers))
        yield simulated(world, _simulated(world))
        return
    plane = request.getfixturevalue("own_plane")
    with contextmanager(_real)(plane) as cluster:
        yield Real(plane, cluster, tmp_path)


@pytest.fixture(scope="module")
def own_plane(request):
    """A real control plane for what disturbs others; it has no nodes.

    Of the module alone: those of `tests/cluster` have the same ports in this worker.
    """
    with _plane(request, 1) as plane:
        yield plane


@pytest.fixture(scope="module")
def still_plane(request):
    """A real API server where nothing happens by itself: no controller runs."""
    with _plane(request, 3) as plane:
        for name in _CONTROLLERS:
            plane.parts[name].kill()
        yield plane


@contextmanager
def _plane(request, kind):
    if os.environ.get("DSGITOPS_CLUSTER") != "real":
        pytest.skip("needs a real control plane: make cluster-test")
    from cluster import binaries  # noqa: PLC0415 - nothing of it is needed elsewhere
    from cluster.control_plane import index, running  # noqa: PLC0415

    before = request.session.testsfailed

    def failed():
        return request.session.testsfailed > before

    with running(binaries.cached(), index=index(kind), failed=failed) as plane:
        yield plane


@pytest.fixture(scope="session")
def calm(request):
    """A watch of a namespace where nothing happens, and when its bookmarks came."""
    if os.environ.get("DSGITOPS_CLUSTER") == "real":
        with contextmanager(_real)(request.getfixturevalue("control_plane")) as cluster:
            yield Calm(cluster, time.monotonic)
    else:
        world = World(nodes=2, seed=next(_numbers))
        yield Calm(_simulated(world), lambda: world.clock.seconds)


@pytest.fixture(scope="session", autouse=True)
def _begun_early(request):
    """Begin the minute that the first bookmark takes before the other tests, not after them."""
    if any("calm" in each.fixturenames for each in request.session.items):
        request.getfixturevalue("calm")


@pytest.fixture
def cluster(request):
    """A namespace of its own in a cluster of twelve nodes."""
    if os.environ.get("DSGITOPS_CLUSTER") == "real":
        yield from _real(request.getfixturevalue("control_plane"))
    else:
        yield _simulated(World(nodes=12, seed=next(_numbers)))


def _simulated(world):
    namespace = f"contract-{next(_numbers)}"
    world.make_namespace(namespace)

    def settle(holds):
        return world.advance_until(holds, within=120)

    def rest():
        world.advance(30)

    def join(name, labels):
        world.add_node(name, labels=labels)

    def quota(cpu):
        world.make_quota(namespace, "cpu", cpu)

    return Cluster(
        world.transport(),
        namespace,
        settle,
        world.advance,
        rest=rest,
        join=join,
        leave=world.remove_node,
        quota=quota,
    )


def _real(plane):
    namespace = plane.make_namespace(f"contract-{next(_numbers)}")
    transport = connect(str(plane.kubeconfig))

    def settle(holds):
        ends = time.monotonic() + _SETTLE_SECONDS
        while time.monotonic() < ends:
            if holds():
                return True
            time.sleep(_STEP_SECONDS)
        return False

    def fence():
        """Wait until the controller has seen a DaemonSet that is newer than all it has to do."""
        body = manifest(f"fence-{next(_numbers)}")
        body["spec"]["template"]["spec"]["nodeSelector"] = {"no": "node"}
        path = "/apis/apps/v1/namespaces/default/daemonsets"
        place = f"{path}/{plane.call('POST', path, body)['metadata']['name']}"
        assert settle(lambda: plane.call("GET", place)["status"].get("observedGeneration"))
        plane.call("DELETE", place)

    def rest():
        """Wait until every DaemonSet is where its spec wants it, and nothing is written then."""
        fence()
        seen, since = None, time.monotonic()
        ends = since + _SETTLE_SECONDS
        while time.monotonic() - since < _GRACE_SECONDS:
            assert time.monotonic() < ends, seen
            now = [(each["metadata"]["resourceVersion"], _is_settled(each)) for each in all_of()]
            if now != seen or not all(settled for _, settled in now):
                seen, since = now, time.monotonic()
            time.sleep(_STEP_SECONDS)

    def all_of():
        return cluster.list("daemonsets")

    cluster = Cluster(
        transport,
        namespace,
        settle,
        time.sleep,
        fence,
        rest,
        join=lambda name, labels: plane.call("POST", "/api/v1/nodes", _node(name, labels)),
        leave=lambda name: plane.call("DELETE", f"/api/v1/nodes/{name}"),
        quota=lambda cpu: plane.call("POST", cluster.path(resource="resourcequotas"), _quota(cpu)),
    )
    yield cluster
    transport.close()
    plane.delete_namespace(namespace)


def _node(name, labels):
    """Return a node that kwok plays."""
    size = {"cpu": "32", "memory": "64Gi", "pods": "500"}
    metadata = {
        "name": name,
        "annotations": {"kwok.x-k8s.io/node": "fake"},
        "labels": {"kubernetes.io/hostname": name, **labels},
    }
    status = {"allocatable": size, "capacity": size}
    return {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "status": status}


def _quota(cpu):
    return {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "cpu"},
        "spec": {"hard": {"requests.cpu": cpu}},
    }


def _is_settled(daemonset):
    """Whether the controller has seen all of a DaemonSet, and has nothing left to do for it."""
    metadata, spec, status = daemonset["metadata"], daemonset["spec"], daemonset["status"]
    wanted = status.get("desiredNumberScheduled")
    seen = status.get("observedGeneration") == metadata["generation"]
    rolls = spec["updateStrategy"]["type"] == "RollingUpdate"
    updated = status.get("updatedNumberScheduled", 0) == wanted or not rolls
    return seen and updated and status.get("numberAvailable", 0) == wanted
