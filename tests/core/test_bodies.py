"""What goes over the wire: preconditions always, the record in every forward write."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from core.builders import NOW, desired, good, live, record, revision
from hypothesis import given
from hypothesis import strategies as st

from dsgitops.core import bodies
from dsgitops.core import record as records
from dsgitops.core.bodies import CHANGE_CAUSE

A = desired("fluentd:1")
B = desired("fluentd:2", labels={"team": "logs"}, annotations={"note": "x"})
KNOWN = record(B, last_good=good(A))
LIVE = live(A, record(A))


def template(body):
    return body["spec"]["template"]


def test_a_forward_write_is_gits_manifest_with_record_cause_and_preconditions():
    body = bodies.forward(B, LIVE, KNOWN, hold=False)

    assert body["metadata"] == {
        "name": "fluentd",
        "namespace": "logging",
        "uid": LIVE.uid,
        "resourceVersion": LIVE.resource_version,
        "labels": {"team": "logs", "app.kubernetes.io/managed-by": "dsgitops"},
        "annotations": {
            "note": "x", CHANGE_CAUSE: B.commit, records.ANNOTATION: records.dump(KNOWN)
        },
    }  # fmt: skip
    assert template(body) == B.manifest["spec"]["template"]


def test_git_may_name_another_manager_in_the_label():
    content = desired(labels={"app.kubernetes.io/managed-by": "helm"})

    body = bodies.forward(content, LIVE, KNOWN, hold=False)

    assert body["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "helm"


def test_only_a_creation_has_no_precondition():
    body = bodies.forward(B, None, KNOWN, hold=False)

    assert "uid" not in body["metadata"]
    assert "resourceVersion" not in body["metadata"]


@pytest.mark.parametrize("seen", [replace(LIVE, uid=""), replace(LIVE, resource_version="0"),
                                  replace(LIVE, resource_version="")])  # fmt: skip
def test_what_would_be_no_precondition_is_not_sent(seen):
    for make in (
        lambda: bodies.forward(B, seen, KNOWN, hold=True),
        lambda: bodies.remember(seen, KNOWN),
        lambda: bodies.rollback(seen, revision(A, 1), good(A), KNOWN, "x"),
    ):
        with pytest.raises(ValueError, match="needs a uid"):
            make()


@pytest.mark.parametrize(
    ("given_strategy", "numbers"),
    [
        (None, {"maxUnavailable": 1, "maxSurge": 0}),
        ({}, {"maxUnavailable": 1, "maxSurge": 0}),
        ({"type": "RollingUpdate"}, {"maxUnavailable": 1, "maxSurge": 0}),
        ({"rollingUpdate": {"maxUnavailable": "10%"}}, {"maxUnavailable": "10%", "maxSurge": 0}),
        (
            {"rollingUpdate": {"maxSurge": 2, "maxUnavailable": 0}},
            {"maxUnavailable": 0, "maxSurge": 2},
        ),
    ],
)
def test_a_strategy_is_always_written_with_both_numbers(given_strategy, numbers):
    content = desired(updateStrategy=given_strategy)

    held = bodies.forward(content, LIVE, KNOWN, hold=True)["spec"]["updateStrategy"]
    let_go = bodies.forward(content, LIVE, KNOWN, hold=False)["spec"]["updateStrategy"]

    assert held == {"type": "OnDelete", "rollingUpdate": numbers}
    assert let_go == {"type": "RollingUpdate", "rollingUpdate": numbers}


def test_ignored_fields_are_left_out_each_by_its_index_in_git():
    env = [{"name": name, "value": name} for name in "ABC"]
    at = "/spec/template/spec/containers/0/env"
    content = replace(desired(env=env), ignore_diff=(f"{at}/0", f"{at}/1", "/metadata/labels"))

    body = bodies.forward(content, LIVE, KNOWN, hold=False)

    assert template(body)["spec"]["containers"][0]["env"] == [{"name": "C", "value": "C"}]
    assert content.manifest["spec"]["template"]["spec"]["containers"][0]["env"] == env


def test_no_pointer_takes_the_record_or_the_hold_away():
    content = replace(
        desired(), ignore_diff=("/metadata/annotations", "/metadata", "/spec/updateStrategy")
    )

    body = bodies.forward(content, LIVE, KNOWN, hold=True)

    assert records.ANNOTATION in body["metadata"]["annotations"]
    assert body["metadata"]["uid"] == LIVE.uid
    assert body["spec"]["updateStrategy"]["type"] == "OnDelete"


@given(st.lists(st.text(alphabet="/~01spectmladan", max_size=30), max_size=4), st.booleans())
def test_any_pointer_leaves_a_body_that_is_ours(pointers, hold):
    content = replace(desired(), ignore_diff=tuple(pointers))

    body = bodies.forward(content, LIVE, KNOWN, hold=hold)

    assert body["metadata"]["uid"] == LIVE.uid
    assert body["metadata"]["annotations"][records.ANNOTATION] == records.dump(KNOWN)


def test_a_rollback_is_the_revisions_template_to_the_byte():
    body = bodies.rollback(LIVE, revision(A, 1), good(A), KNOWN, A.commit)

    assert template(body) == {**revision(A, 1).template, "$patch": "replace"}
    assert body["spec"]["updateStrategy"] == good(A).strategy
    assert body["spec"]["minReadySeconds"] == 0
    assert set(body["spec"]) == {"template", "updateStrategy", "minReadySeconds"}
    assert body["metadata"]["annotations"][CHANGE_CAUSE] == A.commit


def test_a_rollback_without_a_known_strategy_lets_the_controller_go():
    unknown = replace(good(A), strategy={})
    seen = live(A, record(A), hold=True)

    strategy = bodies.rollback(seen, revision(A, 1), unknown, KNOWN, "x")["spec"]["updateStrategy"]

    assert strategy["type"] == "RollingUpdate"


def test_a_write_of_the_record_touches_nothing_else():
    body = bodies.remember(LIVE, KNOWN)

    assert body == {
        "metadata": {
            "uid": LIVE.uid,
            "resourceVersion": LIVE.resource_version,
            "annotations": {records.ANNOTATION: records.dump(KNOWN)},
        }
    }


@pytest.mark.parametrize("empty", [None, []])
def test_ownership_is_never_wiped(empty):
    assert "managedFields" not in bodies.remember(LIVE, KNOWN, managed_fields=empty)["metadata"]


def test_a_pause_travels_with_the_record():
    body = bodies.remember(LIVE, KNOWN, strategy="OnDelete")

    assert body["spec"] == {"updateStrategy": {"type": "OnDelete"}}


def test_nothing_of_ours_is_in_any_pod_template():
    made = [
        bodies.forward(B, LIVE, KNOWN, hold=True),
        bodies.rollback(LIVE, revision(A, 1), good(A), KNOWN, "x"),
    ]

    for body in made:
        assert "dsgitops" not in json.dumps(template(body))
        assert str(NOW.year) not in json.dumps(template(body))
