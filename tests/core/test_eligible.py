"""Which nodes should run the pod: the controller's own rules."""

from __future__ import annotations

from dataclasses import replace

import pytest
from core.rollouts import node, template

from dsgitops.core.eligible import Eligible
from dsgitops.core.model import Taint


def asking(**spec):
    given = template()
    return Eligible.of({**given, "spec": {**given["spec"], **spec}})


def required(*terms):
    key = "requiredDuringSchedulingIgnoredDuringExecution"
    return {"nodeAffinity": {key: {"nodeSelectorTerms": list(terms)}}}


def expression(key, operator, *values):
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


def test_a_template_that_asks_for_nothing_runs_everywhere():
    assert asking().should_run(node("a"))


def test_all_labels_of_the_node_selector_must_match():
    eligible = asking(nodeSelector={"pool": "a", "disk": "ssd"})

    assert eligible.should_run(node("a", labels={"pool": "a", "disk": "ssd", "x": "y"}))
    assert not eligible.should_run(node("b", labels={"pool": "a"}))


@pytest.mark.parametrize(
    ("operator", "values", "runs"),
    [
        ("In", ["4", "5"], True),
        ("In", ["5"], False),
        ("NotIn", ["5"], True),
        ("NotIn", ["4"], False),
        ("Exists", [], True),
        ("DoesNotExist", [], False),
        ("Gt", ["3"], True),
        ("Gt", ["4"], False),
        ("Lt", ["5"], True),
        ("Lt", ["many"], False),
        ("Like", ["4"], False),
    ],
)
def test_required_affinity_is_read_as_the_scheduler_reads_it(operator, values, runs):
    eligible = asking(affinity=required(expression("cores", operator, *values)))

    assert eligible.should_run(node("a", labels={"cores": "4"})) is runs


def test_any_one_term_is_enough_and_an_empty_term_matches_nothing():
    either = asking(affinity=required(expression("a", "Exists"), expression("b", "Exists")))

    assert either.should_run(node("n", labels={"b": ""}))
    assert not asking(affinity=required({})).should_run(node("n", labels={"b": ""}))
    assert not asking(affinity=required()).should_run(node("n"))


def test_a_term_can_name_the_node_itself():
    fields = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["a"]}]}
    eligible = asking(affinity=required(fields))

    assert eligible.should_run(node("a"))
    assert not eligible.should_run(node("b"))


def test_preferred_affinity_takes_no_node_out():
    key = "preferredDuringSchedulingIgnoredDuringExecution"
    preferred = {key: [{"preference": expression("a", "Exists"), "weight": 1}]}

    assert asking(affinity={"nodeAffinity": preferred}).should_run(node("n"))


def test_an_untolerated_taint_keeps_pods_out_and_only_no_execute_drives_them_off():
    schedule = node("a", taints=(Taint(key="gpu", effect="NoSchedule"),))
    execute = node("b", taints=(Taint(key="gpu", effect="NoExecute"),))
    prefer = node("c", taints=(Taint(key="gpu", effect="PreferNoSchedule"),))

    assert (asking().should_run(schedule), asking().should_stay(schedule)) == (False, True)
    assert (asking().should_run(execute), asking().should_stay(execute)) == (False, False)
    assert asking().should_run(prefer)


@pytest.mark.parametrize(
    ("toleration", "runs"),
    [
        ({"operator": "Exists"}, True),
        ({"key": "gpu", "operator": "Exists"}, True),
        ({"key": "gpu", "operator": "Exists", "effect": "NoExecute"}, False),
        ({"key": "gpu", "value": "old"}, True),
        ({"key": "gpu", "operator": "Equal", "value": "new"}, False),
        ({"key": "gpu"}, False),
        ({}, False),
    ],
)
def test_tolerations_match_as_in_the_api(toleration, runs):
    tainted = node("a", taints=(Taint(key="gpu", value="old", effect="NoSchedule"),))

    assert asking(tolerations=[toleration]).should_run(tainted) is runs


def test_a_cordoned_node_runs_it_all_the_same():
    taint = Taint(key="node.kubernetes.io/unschedulable", effect="NoSchedule")

    assert asking().should_run(node("a", unschedulable=True, taints=(taint,)))


def test_a_node_that_does_not_report_stays_in_though_no_pod_is_made_there_now():
    taint = Taint(key="node.kubernetes.io/unreachable", effect="NoSchedule")
    dead = node("a", ready="Unknown", taints=(taint, replace(taint, effect="NoExecute")))

    assert asking().should_run(dead)
    assert asking().should_stay(dead)
    assert not asking().is_scheduled_now(dead)
    assert asking(tolerations=[{"operator": "Exists"}]).is_scheduled_now(dead)


def test_only_host_network_tolerates_a_node_without_network():
    taint = Taint(key="node.kubernetes.io/network-unavailable", effect="NoSchedule")

    assert not asking().should_run(node("a", taints=(taint,)))
    assert asking(hostNetwork=True).should_run(node("a", taints=(taint,)))


@pytest.mark.parametrize("odd", [None, 3, "x", [], {"nodeSelector": 3}, {"tolerations": {"a": 1}}])
def test_an_odd_template_asks_for_nothing(odd):
    assert Eligible.of({"spec": odd}).should_run(node("a"))
