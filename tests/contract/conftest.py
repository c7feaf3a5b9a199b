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
from contract.client import Cluster

from dsgitops.adapters.kubernetes.transport import connect
from dsgitops.sim.world import World

_numbers = itertools.count(1)
_CONTROLLERS = ("kwok", "scheduler", "controller-manager")
_SETTLE_SECONDS = 40
_QUIET_SECONDS = 0.5
_STEP_SECONDS = 0.05


@pytest.fixture(scope="session")
def own_plane(request):
    """A real control plane for what disturbs others, with two fake nodes."""
    with _plane(request, 1) as plane:
        plane.add_nodes(2)
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


@pytest.fixture
def cluster(request):
    """A namespace of its own in a cluster of twelve nodes."""
    if os.environ.get("DSGITOPS_CLUSTER") == "real":
        yield from _real(request.getfixturevalue("control_plane"))
    else:
        yield _simulated()


def _simulated():
    world = World(nodes=12, seed=next(_numbers))
    namespace = f"contract-{next(_numbers)}"
    world.make_namespace(namespace)

    def settle(holds):
        return world.advance_until(holds, within=120)

    def rest():
        world.advance(30)

    return Cluster(world.transport(), namespace, settle, world.advance, rest)


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

    def rest():
        """Wait until everything is observed, and for a while nothing is written any more."""
        seen, since = None, time.monotonic()
        while time.monotonic() - since < 2 * _QUIET_SECONDS:
            now = _state(cluster)
            if now != seen or not all(observed for _, observed in now):
                seen, since = now, time.monotonic()
            time.sleep(_STEP_SECONDS)

    cluster = Cluster(transport, namespace, settle, time.sleep, rest, _QUIET_SECONDS)
    yield cluster
    transport.close()
    plane.delete_namespace(namespace)


def _state(cluster):
    """Return each DaemonSet's version, and whether its controller has seen it and has its pods."""
    found = []
    for each in cluster.list("daemonsets"):
        metadata, status = each["metadata"], each["status"]
        seen = status.get("observedGeneration") == metadata["generation"]
        complete = status.get("numberAvailable", 0) == status.get("desiredNumberScheduled")
        found.append((metadata["resourceVersion"], seen and complete))
    return found
