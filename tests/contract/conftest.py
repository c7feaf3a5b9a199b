"""The contract of a cluster, held against the simulated one.

The tests know `ports.Transport` alone, each has a namespace of its own, and all wait through
`settle`: so that the same tests can be run on a real control plane.
"""

from __future__ import annotations

import itertools

import pytest
from contract.client import Cluster

from dsgitops.sim.world import World

_numbers = itertools.count(1)


@pytest.fixture
def cluster():
    """A namespace of its own in a cluster of twelve nodes."""
    world = World(nodes=12, seed=next(_numbers))
    namespace = f"contract-{next(_numbers)}"
    world.make_namespace(namespace)

    def settle(holds):
        return world.advance_until(holds, within=120)

    return Cluster(world.transport(), namespace, settle, world.advance)
