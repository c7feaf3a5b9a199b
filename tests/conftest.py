"""A real control plane for the tests that ask for one; it runs where it is wanted only."""

from __future__ import annotations

import os

import pytest

NODES = 12


@pytest.fixture(scope="session")
def control_plane(request):
    """Kubernetes itself on loopback with twelve fake nodes (`make cluster-test`)."""
    if os.environ.get("DSGITOPS_CLUSTER") != "real":
        pytest.skip("needs a real control plane: make cluster-test")
    from cluster import binaries  # noqa: PLC0415 - nothing of it is needed elsewhere
    from cluster.control_plane import index, running  # noqa: PLC0415

    built = binaries.cached()
    if built.missing:
        pytest.fail(built.missing)
    before = request.session.testsfailed
    with running(
        built, index=index(0), failed=lambda: request.session.testsfailed > before
    ) as plane:
        plane.add_nodes(NODES)
        plane.forget()
        yield plane
