"""Requests drawn at random, answered by Kubernetes and by the simulator: the answers are equal.

No controller runs on either side, so all that happens is what the requests ask for.  After each
step the answer and the DaemonSet that is there then are compared: codes, reasons, causes, the
object with its defaults, and who owns which field.  A difference is a defect of the simulator;
`docs/simulator.md` has what was found.
"""

from __future__ import annotations

import itertools
import os

import pytest
from contract.client import Cluster
from contract.scripts import scripts
from contract.twins import Side, differences
from hypothesis import HealthCheck, Phase, given, settings

from dsgitops.adapters.kubernetes.transport import connect
from dsgitops.sim.api import ApiServer
from dsgitops.sim.clock import VirtualClock
from dsgitops.sim.store import Store
from dsgitops.sim.transport import SimTransport

SCRIPTS = int(os.environ.get("DSGITOPS_SCRIPTS", "60"))
"""How many; more than the usual ones are drawn by a hunter, not by each run."""
_numbers = itertools.count(1)
_HURRIED = settings(
    max_examples=SCRIPTS,
    derandomize="DSGITOPS_SCRIPTS" not in os.environ,
    database=None,
    deadline=None,
    phases=[Phase.generate],  # a story is told as it was: to shrink it would take minutes
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def twins(still_plane):
    """A real API server without controllers, and a simulated one; a namespace of each at a time."""
    transport = connect(str(still_plane.kubeconfig))
    clock = VirtualClock()
    api = ApiServer(Store(clock.now), clock)

    def sides():
        namespace = still_plane.make_namespace(f"twins-{next(_numbers)}")
        api.make_namespace(namespace)
        return _side(transport, namespace), _side(SimTransport(api), namespace)

    yield sides
    transport.close()


def _side(transport, namespace):
    return Side(Cluster(transport, namespace, lambda holds: holds(), lambda _: None))


@pytest.mark.timeout(900)
@given(script=scripts())
@_HURRIED
def test_kubernetes_and_the_simulator_answer_every_script_alike(twins, script):
    real, simulated = twins()

    for number, step in enumerate(script, start=1):
        found = differences(real.ask(step), simulated.ask(step))
        found = found or differences(real.live(), simulated.live(), "live")
        assert not found, _story(script[:number], found)


def _story(steps, found):
    asked = "\n".join(f"  {number}. {step}" for number, step in enumerate(steps, start=1))
    told = "\n".join(f"  {line}" for line in found)
    return f"after\n{asked}\nKubernetes has, but the simulator has:\n{told}"
