"""Teams on real control planes: fake nodes for scale, real ones for truth."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime

import pytest
from cluster import binaries, proof, real_node, shipped, shipped_image
from cluster.control_plane import index, running
from cluster.team import NODES, team_on

REAL_NODES = 3
POD_NODES = 2
NODE_GRACE_SECONDS = 24
"""Instead of Kubernetes' 50: a dead node is waited for in some tests."""
_workers = "PYTEST_XDIST_WORKER"
_begun = pytest.StashKey[float]()


def pytest_configure(config):
    proof.begin()
    config.stash[_begun] = time.monotonic()


def pytest_terminal_summary(terminalreporter, exitstatus, config):
    """Print what was seen; the workers of a distributed run leave it to their controller."""
    if _workers in os.environ:
        return
    rows = proof.take()
    if rows:
        terminalreporter.section("what the end-to-end tests saw")
        terminalreporter.write_line(proof.table(rows))
    counts = {name: len(found) for name, found in terminalreporter.stats.items()}
    whole = not exitstatus and not {"skipped", "deselected"} & counts.keys()
    if rows and whole and proof.PAGE in os.environ:
        minutes, seconds = divmod(round(time.monotonic() - config.stash[_begun]), 60)
        proof.write(
            rows,
            f"One run of {counts['passed']} tests on Kubernetes {binaries.cached().minor},"
            f" {os.cpu_count()} cores, {minutes} min {seconds} s, {datetime.now(UTC):%Y-%m-%d}.",
        )


@pytest.fixture
def prove():
    """Say what a scenario showed: `prove(scenario=…, nodes=…, outcome=…, …)`."""
    return lambda **row: proof.add(proof.Row(**row))


@pytest.fixture
def team(control_plane, tmp_path):
    """A team with a namespace and a repository of its own, on five fake nodes."""
    for number in range(NODES):
        control_plane.label_node(f"node-{number:04}", pool="team")
    with team_on(control_plane, tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def own_plane(request):
    """A control plane of the module's own, for what disturbs others: restarts, many nodes."""
    yield from _plane(request, 1)


@pytest.fixture(scope="module")
def real_plane(request):
    """A control plane of the module's own, with three real nodes and no fake ones."""
    if lacking := real_node.missing():
        pytest.skip(lacking)
    for plane in _plane(request, 2, node_grace=NODE_GRACE_SECONDS):
        with real_node.joined(plane, REAL_NODES) as nodes:
            plane.real_nodes = nodes
            yield plane


@pytest.fixture(scope="module")
def pod_plane(request):
    """A control plane of the module's own whose pods have accounts, with two real nodes."""
    if lacking := real_node.missing():
        pytest.skip(lacking)
    for plane in _plane(request, 2, in_pods=True):
        with real_node.joined(plane, POD_NODES) as nodes:
            plane.real_nodes = nodes
            yield plane


@pytest.fixture(scope="module")
def image_plane(pod_plane):
    """The same, with the image on both nodes, and its namespace."""
    if lacking := shipped_image.missing():
        pytest.skip(lacking)
    for node in pod_plane.real_nodes:
        node.take_image(shipped_image.archive())
    namespace = f"{shipped.DEPLOY}/overlays/standalone/namespace.yaml"
    shipped.kubectl(pod_plane, "apply", "-f", namespace)
    return pod_plane


def _plane(request, kind, **options):
    if os.environ.get("DSGITOPS_CLUSTER") != "real":
        pytest.skip("needs a real control plane: make cluster-test")
    before = request.session.testsfailed
    with running(
        binaries.cached(),
        index=index(kind),
        failed=lambda: request.session.testsfailed > before,
        **options,
    ) as plane:
        yield plane


@pytest.fixture
def real_team(real_plane, tmp_path):
    """A team on three real nodes."""
    with team_on(real_plane, tmp_path, pool="real", nodes=REAL_NODES) as made:
        yield made
