"""How long a pod may take, from its manifest, and what a change lowered or raised."""

from __future__ import annotations

from datetime import timedelta

import pytest
from core.rollouts import template

from dsgitops.core import deadlines
from dsgitops.core.model import Policy
from dsgitops.core.quantity import quantity_of


def seconds(count):
    return timedelta(seconds=count)


def read(given, previous=None, *, min_ready=0, **policy):
    return deadlines.read(given, previous, min_ready_seconds=min_ready, policy=Policy(**policy))


def test_by_default_a_pod_has_two_minutes():
    assert read(template()).pod_deadline == seconds(120)


def test_a_long_startup_budget_makes_the_deadline_longer():
    probe = {"initialDelaySeconds": 10, "periodSeconds": 10, "failureThreshold": 30}
    given = template(startupProbe=probe)

    # startup 10 + 300, readiness one period of 2, minReadySeconds 20, 60 for the pull
    assert read(given, min_ready=20).pod_deadline == seconds(10 + 300 + 2 + 20 + 60)


def test_a_deadline_of_the_settings_is_raised_to_the_manifests_own_budget():
    probe = {"periodSeconds": 10, "failureThreshold": 30}

    assert read(template(), pod_deadline=seconds(75)).pod_deadline == seconds(75)
    assert read(template(startupProbe=probe), pod_deadline=seconds(75)).pod_deadline >= seconds(300)


def test_probes_left_to_the_api_have_its_defaults():
    found = read(template(readinessProbe={"tcpSocket": {"port": 1}})).containers["agent"]

    assert found.readiness == deadlines.Probe(delay=0, period=10, success=1, failure=3)
    assert found.floor == seconds(30)


def test_sidecars_start_one_after_the_other_before_the_rest():
    given = template(startupProbe={"periodSeconds": 1, "failureThreshold": 10})
    slow = {"periodSeconds": 1, "failureThreshold": 100}
    sidecar = {"restartPolicy": "Always", "startupProbe": slow}
    given["spec"]["initContainers"] = [{"name": "a"} | sidecar, {"name": "b"} | sidecar]

    assert deadlines.startup_budget(given) == seconds(100 + 100 + 10 + 4)


def test_a_loss_of_readiness_counts_after_the_probes_patience_and_ten_seconds():
    assert read(template()).loss_allowance == seconds(2 * 2 + 10)


def limits(memory=None, **requests):
    resources = {"requests": requests}
    if memory:
        resources["limits"] = {"memory": memory}
    return template(resources=resources)


@pytest.mark.parametrize(
    ("now", "before", "lowered"),
    [("32Mi", "64Mi", True), ("32Mi", None, True), ("64Mi", "64Mi", False), (None, "64Mi", False)],
)
def test_a_memory_limit_that_was_lowered_or_set_is_known(now, before, lowered):
    found = read(limits(now), limits(before)).lowered_memory

    assert found == (frozenset({"agent"}) if lowered else frozenset())


def test_requests_that_the_change_raised_are_known_by_resource():
    found = read(limits(cpu="1500m", memory="1Gi"), limits(cpu="1", memory="1024Mi"))

    assert found.raised == {"cpu"}


def test_what_limits_alone_ask_for_counts_as_requested():
    given = template(resources={"limits": {"cpu": "64"}})

    assert read(given, template()).raised == {"cpu"}


def test_a_new_port_of_the_host_is_known():
    given = template(ports=[{"containerPort": 80, "hostPort": 8080}])

    assert read(given, template()).new_host_ports
    assert not read(given, given).new_host_ports
    assert read(given, given).host_ports


@pytest.mark.parametrize(
    ("given", "amount"),
    [("64Mi", 64 * 2**20), ("200m", 0.2), (2, 2), ("1e3", 1000), ("1.5G", 1.5e9), ("many", None)],
)
def test_quantities_are_read_as_the_api_reads_them(given, amount):
    found = quantity_of(given)

    assert (None if found is None else float(found)) == amount


@pytest.mark.parametrize(
    "odd",
    [{}, {"spec": None}, {"spec": {"containers": "x"}}, {"spec": {"containers": [{"name": 3}]}}],
)
def test_an_odd_template_is_read_without_complaint(odd):
    assert read(odd, odd).pod_deadline == seconds(120)
