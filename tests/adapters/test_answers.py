"""Each row is an answer that a real API server gave (`cluster.md` 1.1, 7.2, 9, 12)."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsgitops.adapters.kubernetes.answers import fault
from dsgitops.errors import ActionRefused, ClusterUnreachable, Stale
from dsgitops.ports import Response

NOW = datetime(2026, 11, 21, 5, 0, tzinfo=UTC)
DOING = "apply DaemonSet logging/fluentd"


def status(code, message="", reason="", **details):
    body = {"kind": "Status", "status": "Failure", "message": message, "code": code}
    if reason:
        body["reason"] = reason
    if details:
        body["details"] = details
    return Response(status=code, body=json.dumps(body).encode())


def cause(field, message="", reason="FieldValueInvalid"):
    return {"reason": reason, "message": message, "field": field}


def read(response):
    return fault(response, doing=DOING, now=NOW)


MODIFIED = (
    'Operation cannot be fulfilled on daemonsets.apps "d": the object has been modified; please '
    "apply your changes to the latest version and try again"
)
TYPED = "failed to create typed patch object (ns/d; apps/v1, Kind=DaemonSet): "
CANNOT = (
    'daemonsets.apps "a" is forbidden: User "system:serviceaccount:NS:SA" cannot patch resource '
    '"daemonsets" in API group "apps" in the namespace "e9"'
)


@pytest.mark.parametrize("code", [200, 201])
def test_an_object_is_what_was_asked_for(code):
    assert read(Response(status=code, body=b'{"kind":"DaemonSet"}')) is None


@pytest.mark.parametrize(
    "response",
    [
        Response(status=200, body=b"<html>Please log in</html>"),
        Response(status=200, body=b""),
        Response(status=302, headers={"location": "https://login.example"}),
        Response(status=404, body=b"404 page not found"),
    ],
    ids=["login page", "nothing", "redirect", "another server"],
)
def test_what_is_no_kubernetes_api_is_told_as_that(response):
    error = read(response)

    assert isinstance(error, ClusterUnreachable)
    assert "not from a Kubernetes API server" in error.what


@pytest.mark.parametrize(
    "response",
    [
        status(409, MODIFIED, "Conflict"),
        status(409, 'daemonsets.apps "d" already exists', "AlreadyExists"),
        status(
            409, "uid mismatch: the provided object specified uid 1, and no existing", "Conflict"
        ),
        status(409, "the UID in the precondition (a) does not match the UID in record (b)"),
        status(404, 'daemonsets.apps "d" not found', "NotFound", name="d", kind="daemonsets"),
        status(410, "too old resource version: 1 (7885)", "Expired"),
        status(
            422,
            'DaemonSet.apps "d" is invalid',
            "Invalid",
            causes=[cause("metadata.uid", "Invalid value: 1: field is immutable")] * 2,
        ),
    ],
    ids=["conflict", "exists", "uid mismatch", "precondition", "gone", "410", "recreated"],
)
def test_a_failed_precondition_means_look_again(response):
    assert isinstance(read(response), Stale)


@pytest.mark.parametrize(
    ("response", "fields", "says"),
    [
        (
            status(422, "…", "Invalid", causes=[cause("spec.selector", "Invalid value: {x}: field is immutable")] * 2),
            ("spec.selector",),
            "spec.selector (field is immutable)",
        ),
        (
            status(422, "…", "Invalid", causes=[
                cause("spec.template.spec.restartPolicy", 'Unsupported value: "secret"', "FieldValueNotSupported"),
                cause("spec.updateStrategy.rollingUpdate.maxUnavailable", "cannot be 0 when maxSurge is 0", "FieldValueRequired"),
            ]),
            ("spec.template.spec.restartPolicy", "spec.updateStrategy.rollingUpdate.maxUnavailable"),
            "has a value that is not supported",
        ),
        (
            status(500, TYPED + ".spec.minReadySecond: field not declared in schema"),
            ("spec.minReadySecond",),
            "spec.minReadySecond is not a known field",
        ),
        (
            status(500, TYPED + '.spec.template.spec.containers[name="a"].env: duplicate entries for key [name="A"]'),
            ('spec.template.spec.containers[name="a"].env',),
            "holds the same key twice",
        ),
        (
            status(500, TYPED + '.spec.template.spec.containers[name="a"].env[name="A"].value: expected string, got &value.valueUnstructured{Value:"secret"}'),
            ('spec.template.spec.containers[name="a"].env[name="A"].value',),
            "has the wrong type (expected string)",
        ),
        (status(500, "etcdserver: request is too large"), (), "too large"),
        (Response(status=413, body=b"request entity too large"), (), "too large"),
        (
            status(400, 'error strict decoding YAML: error strict decoding: yaml: line 1: key "minReadySeconds" already set in map'),
            ("minReadySeconds",),
            "minReadySeconds",
        ),
        (status(400, "invalid object type: apps/v2, Kind=DaemonSet"), (), "cannot read the request"),
        (status(415, "the body of the request was in an unknown format"), (), "415"),
        (status(403, CANNOT, "Forbidden"), (), "no right to patch daemonsets.apps in namespace e9"),
        (
            status(403, 'nodes is forbidden: User "u" cannot list resource "nodes" in API group "" at the cluster scope', "Forbidden"),
            (),
            "no right to list nodes in the whole cluster",
        ),
        (
            status(403, 'admission webhook "policy.example.com" denied the request: secret', "Forbidden"),
            (),
            "refused by admission webhook policy.example.com",
        ),
        (
            status(403, 'pods "x" is forbidden: exceeded quota: secret', "Forbidden"),
            (),
            "admission control",
        ),
        (
            status(403, "unable to create new content", "Forbidden", causes=[cause("metadata.namespace", "", "NamespaceTerminating")]),
            (),
            "being deleted",
        ),
        (
            status(404, 'namespaces "x" not found', "NotFound", name="x", kind="namespaces"),
            (),
            "namespace does not exist",
        ),
        (
            status(404, "the server could not find the requested resource", "NotFound"),
            (),
            "does not know this resource",
        ),
        (
            status(409, "Apply failed with 2 conflicts", "Conflict", causes=[
                cause(".spec.minReadySeconds", 'conflict with "kubectl-set" using apps/v1', "FieldManagerConflict"),
                cause(".spec.template", 'conflict with "helm" using apps/v1', "FieldManagerConflict"),
            ]),
            ("spec.minReadySeconds", "spec.template"),
            "kubectl-set, helm owns spec.minReadySeconds, spec.template",
        ),
    ],
)  # fmt: skip
def test_what_will_be_refused_again_names_fields_and_never_values(response, fields, says):
    error = read(response)

    assert isinstance(error, ActionRefused)
    assert error.code == response.status
    assert error.fields == fields
    assert says in error.what
    assert "secret" not in f"{error.what} {error.remedy} {error.fields}"


@pytest.mark.parametrize(
    ("response", "landed"),
    [
        (status(401, "Unauthorized", "Unauthorized"), False),
        (status(429, "too many requests", "TooManyRequests"), False),
        (status(500, "rpc error: code = Unavailable desc = etcd"), None),
        (status(503, "apiserver is shutting down"), None),
        (status(504, "request did not complete within requested timeout", "Timeout"), None),
        (Response(status=502, body=b"<html>bad gateway</html>"), None),
    ],
)
def test_what_may_work_later_says_whether_it_landed(response, landed):
    error = read(response)

    assert isinstance(error, ClusterUnreachable)
    assert error.landed is landed


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7),
        ("0", 0),
        ("3600", 300),
        ("Sat, 21 Nov 2026 05:00:30 GMT", 30),
        ("Sat, 21 Nov 2026 04:00:00 GMT", 0),
        ("soon", 0),
        ("-5", 0),
        ("", 0),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_is_capped(header, seconds):
    error = read(Response(status=429, headers={"retry-after": header}))

    assert error.retry_after == seconds


def test_a_status_may_ask_for_a_pause_too():
    late = status(504, "Too large resource version", "Timeout", retryAfterSeconds=1)

    assert read(late).retry_after == 1


@given(
    st.integers(200, 599),
    st.one_of(
        st.binary(max_size=200),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=20),
            lambda inner: st.dictionaries(
                st.sampled_from(["kind", "message", "details", "causes", "reason", "field", "x"]),
                inner | st.lists(inner, max_size=3),
                max_size=4,
            ),
            max_leaves=8,
        ).map(lambda value: json.dumps(value).encode()),
    ),
)
def test_no_answer_whatever_makes_it_raise(code, body):
    error = read(Response(status=code, body=body))

    assert error is None or error.what.startswith("cannot apply")


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=300))
def test_the_server_s_words_are_never_passed_on(message):
    canary = f"canary{message}canary"
    for code in (400, 403, 404, 409, 422, 500):
        error = read(status(code, canary, causes=[cause("spec.x", canary)]))

        assert "canary" not in f"{error.what} {error.remedy}"
