"""Teams on the real control plane."""

from __future__ import annotations

import itertools

import pytest
from cluster.team import NODES, Team

_numbers = itertools.count(1)


@pytest.fixture
def team(control_plane, tmp_path):
    """A team with a namespace and a repository of its own."""
    for number in range(NODES):
        control_plane.label_node(f"node-{number:04}", pool="team")
    namespace = control_plane.make_namespace(f"team-{next(_numbers)}")
    yield Team(control_plane, namespace, tmp_path)
    control_plane.delete_namespace(namespace)
