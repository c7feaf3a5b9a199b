"""What Git may ask for: images of known registries, no privileges that were not there."""

from __future__ import annotations

import json

import pytest
from core.builders import (
    NOW,
    OURS,
    SECRET,
    desired,
    edited,
    good,
    live,
    nodes,
    observed,
    pod,
    record,
    revision,
)

from dsgitops.core.actions import Remember
from dsgitops.core.decide import decide
from dsgitops.core.model import Gates, Phase, Policy, Reason
from dsgitops.core.privileges import forbidden

EXISTING = Gates(existing_only=True)
LIVE = {
    "spec": {
        "serviceAccountName": "agent",
        "volumes": [{"name": "logs", "hostPath": {"path": "/var/log"}}],
        "initContainers": [{"name": "init", "image": "r.example.com/init:1"}],
        "containers": [
            {"name": "agent", "image": "r.example.com/team/agent:1", "ports": [{"hostPort": 80}]},
            {"name": "root", "image": "r.example.com/r:1", "securityContext": {"privileged": True}},
        ],
    }
}


def changed(change):
    """LIVE with fields of its spec replaced."""
    return {"spec": json.loads(json.dumps(LIVE))["spec"] | change}


def with_container(**fields):
    first, *rest = LIVE["spec"]["containers"]
    return {"containers": [first | fields, *rest]}


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"hostNetwork": True}, "hostNetwork"),
        ({"hostPID": True}, "hostPID"),
        ({"hostIPC": True}, "hostIPC"),
        ({"serviceAccountName": "admin"}, "serviceAccountName"),
        ({"serviceAccountName": None}, "serviceAccountName"),
        (
            {"volumes": [{"name": "root", "hostPath": {"path": "/"}}]},
            "volumes[root].hostPath",
        ),
        (
            {"volumes": [{"name": "logs", "hostPath": {"path": "/var/logs-of-others"}}]},
            "volumes[logs].hostPath",
        ),
        (
            with_container(securityContext={"privileged": True}),
            "containers[agent].securityContext.privileged",
        ),
        (
            with_container(securityContext={"windowsOptions": {"hostProcess": True}}),
            "containers[agent].securityContext.windowsOptions.hostProcess",
        ),
        (with_container(ports=[{"hostPort": 80}, {"hostPort": 81}]), "containers[agent].ports[1]"),
        (
            {"initContainers": [{"name": "new", "securityContext": {"privileged": True}}]},
            "initContainers[new].securityContext.privileged",
        ),
    ],
)
def test_privileges_that_the_live_object_does_not_have_are_refused_by_their_path(change, path):
    found = forbidden(changed(change), LIVE, EXISTING)

    assert found is not None
    assert found[0].startswith(f".spec.template.spec.{path}")


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"volumes": []},
        {"volumes": [{"name": "other", "hostPath": {"path": "/var/log/pods"}}]},
        {"hostNetwork": False},
        with_container(securityContext={"privileged": False}),
        with_container(ports=[{"hostPort": 80, "protocol": "TCP"}]),
        {"containers": LIVE["spec"]["containers"][:1]},
    ],
)
def test_what_is_there_already_or_is_given_up_is_fine(change):
    assert forbidden(changed(change), LIVE, EXISTING) is None


def test_a_new_object_adds_nothing_to_a_live_one():
    assert forbidden(changed({"hostPID": True}), None, EXISTING) is None


def test_without_the_policy_anything_goes():
    assert forbidden(changed({"hostPID": True}), LIVE, Gates()) is None


@pytest.mark.parametrize(
    ("patterns", "path"),
    [
        (("r.example.com/*",), None),
        (("*",), None),
        (("other/*", "r.example.com/team/*", "r.example.com/*:1"), None),
        (("r.example.com/team/*",), "initContainers[init].image"),
        (("r.example.com/*:2",), "initContainers[init].image"),
        (("rxexample.com/*",), "initContainers[init].image"),
        (("r.example.com/init:1", "r.example.com/r:1"), "containers[agent].image"),
    ],
)
def test_each_image_must_match_a_pattern(patterns, path):
    found = forbidden(LIVE, None, Gates(images=patterns))

    assert (found and found[0]) == (path and f".spec.template.spec.{path}")


@pytest.mark.parametrize("odd", [{}, {"spec": None}, {"spec": {"containers": "x", "volumes": [1]}}])
def test_odd_live_objects_never_raise(odd):
    assert forbidden(LIVE, odd, EXISTING) is not None


# ---------------------------------------------------------------------------- in decide

NO_ELSEWHERE = Policy(gates=Gates(images=("fluentd:*",)))


def test_forbidden_content_is_refused_before_any_write_and_no_value_is_told():
    before = desired("fluentd:1", policy=NO_ELSEWHERE)
    content = desired(f"elsewhere/{SECRET}", policy=NO_ELSEWHERE)
    remembered = record(before, last_good=good(before))

    decision = decide(
        content, observed(live(before, remembered), revision(before, 1)), remembered, NOW
    )

    assert decision.reason is Reason.REFUSED
    assert [type(each) for each in decision.actions] == [Remember], "the reason, nothing else"
    assert "spec" not in decision.actions[0].body
    assert ".spec.template.spec.containers[fluentd].image matches none" in decision.because
    assert content.path in decision.because
    assert SECRET not in decision.because


def test_an_object_of_others_is_not_taken_over_for_forbidden_content():
    content = desired("elsewhere:2", policy=NO_ELSEWHERE)

    decision = decide(content, observed(live(desired("fluentd:1"), None)), None, NOW)

    assert (decision.reason, decision.actions) == (Reason.REFUSED, ())


def test_what_a_person_took_away_comes_back_as_drift_does():
    """It was let in when it was written: putting it back adds nothing."""
    content = desired("fluentd:1", policy=Policy(gates=EXISTING), minReadySeconds=3)
    content.manifest["spec"]["template"]["spec"]["hostPID"] = True
    remembered = record(content, last_good=good(content))
    seen = live(content, remembered, managed_fields=(OURS, edited("f:minReadySeconds")))
    seen.spec["minReadySeconds"] = 0
    del seen.spec["template"]["spec"]["hostPID"]

    decision = decide(content, observed(seen, revision(content, 1)), remembered, NOW)

    assert decision.reason is Reason.DRIFT_FOUND


def test_a_rollout_goes_on_while_newer_content_is_forbidden():
    before, content = desired("fluentd:1"), desired("fluentd:2", policy=NO_ELSEWHERE)
    newer = desired("elsewhere:3", policy=NO_ELSEWHERE)
    remembered = record(
        content, phase=Phase.ROLLING, last_good=good(before), started=NOW,
        reason=Reason.ROLLOUT_PROGRESSING,
    )  # fmt: skip
    pods = tuple(pod(each.name, before) for each in nodes(3))
    seen = observed(
        live(content, remembered, hold=True), revision(before, 1), revision(content, 2), pods=pods
    )

    assert decide(newer, seen, remembered, NOW).reason is Reason.ROLLOUT_PROGRESSING
