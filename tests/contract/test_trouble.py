"""Restarts, refusals and admission, on a cluster of one's own (`cluster.md` 2.4, 7.4, 9, 12)."""

from __future__ import annotations

import base64
import json
import re

import pytest
from contract.client import STRATEGIC, manifest, meaning

from dsgitops.errors import ClusterUnreachable, Stale


def idle(name="agent"):
    """Return a DaemonSet that no node runs: nothing happens by itself."""
    body = manifest(name)
    body["spec"]["template"]["spec"]["nodeSelector"] = {"no": "node"}
    return body


def version(cluster):
    return cluster.call("GET", cluster.path()).body["metadata"]["resourceVersion"]


def token(rv, start="/x\0"):
    """Return what a page's `continue` holds."""
    data = json.dumps({"v": "meta.k8s.io/v1", "rv": rv, "start": start}).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def observed(cluster):
    def holds():
        live = cluster.get()
        return live["status"].get("observedGeneration") == live["metadata"]["generation"]

    return holds


# ---------------------------------------------------------------------------- the API server


def test_after_a_restart_a_watch_goes_on_or_says_that_it_cannot(trouble):
    cluster = trouble.cluster
    old = version(cluster)
    cluster.create(idle())
    assert cluster.settle(observed(cluster))
    cluster.rest()
    stream = cluster.open(resourceVersion=old)
    last = cluster.events(stream)[-1]["object"]["metadata"]["resourceVersion"]

    trouble.kill()
    assert cluster.settle(lambda: stream.ended)
    with pytest.raises(ClusterUnreachable):
        cluster.call("GET", cluster.path())
    trouble.start()
    cluster.patch({"metadata": {"labels": {"seen": "after"}}})

    events = cluster.events(cluster.open(resourceVersion=last))
    if events[0]["type"] == "ERROR":  # something else was written in between, of any kind
        assert events[0]["object"]["code"] == 410
        events = [{"object": each} for each in cluster.list("daemonsets")]
    assert [each["object"]["metadata"]["labels"].get("seen") for each in events] == ["after"]


def test_a_forgotten_version_is_410_to_watch_to_list_and_to_page_and_a_list_starts_anew(trouble):
    cluster = trouble.cluster
    old = version(cluster)
    cluster.create(idle())
    assert cluster.settle(observed(cluster))

    trouble.kill()
    trouble.start()
    trouble.forget()

    stream = cluster.open(resourceVersion=old)
    (event,) = cluster.events(stream)
    assert stream.status == 200
    assert stream.ended
    assert event["type"] == "ERROR"
    assert (event["object"]["code"], event["object"]["reason"]) == (410, "Expired")
    message = event["object"]["message"]
    assert re.fullmatch(rf"too old resource version: {old} \(\d+\)", message)
    exact = cluster.call("GET", cluster.path(), resourceVersion=old, resourceVersionMatch="Exact")
    assert (exact.status, exact.body["reason"]) == (410, "Expired")
    page = cluster.call("GET", cluster.path(), **{"limit": 2, "continue": token(int(old))})
    assert (page.status, page.body["reason"]) == (410, "Expired")
    assert isinstance(meaning(page), Stale)
    assert page.body["metadata"]["continue"]  # of an inconsistent rest: not to be used
    names = [each["metadata"]["name"] for each in cluster.list("daemonsets")]
    assert names == ["agent"]


def test_a_write_that_is_not_answered_in_time_may_have_landed_and_is_asked_again(trouble):
    cluster = trouble.cluster
    cluster.create(idle())
    assert cluster.settle(observed(cluster))
    change = {"metadata": {"labels": {"seen": "late"}}}

    with trouble.hanging():
        answer = cluster.patch(change)  # the real one takes 34 s

    assert (answer.status, answer.body["reason"]) == (504, "Timeout")
    assert answer.body["message"] == (
        "Timeout: request did not complete within requested timeout - context deadline exceeded"
    )
    assert cluster.settle(lambda: cluster.patch(change).status == 200)
    assert cluster.get()["metadata"]["labels"]["seen"] == "late"


# ---------------------------------------------------------------------------- who asks


def test_what_an_account_may_not_do_is_forbidden_by_name(trouble):
    reader = trouble.reader()

    assert reader.call("GET", reader.path()).status == 200
    answer = reader.apply(idle())

    assert (answer.status, answer.body["reason"]) == (403, "Forbidden")
    assert answer.body["message"] == (
        f'daemonsets.apps "agent" is forbidden: User "system:serviceaccount:{reader.namespace}:'
        'reader" cannot patch resource "daemonsets" in API group "apps" in the namespace '
        f'"{reader.namespace}"'
    )
    assert answer.body["details"] == {"name": "agent", "group": "apps", "kind": "daemonsets"}


def test_a_list_of_everything_is_forbidden_at_the_cluster_scope(trouble):
    answer = trouble.reader().call("GET", "/apis/apps/v1/daemonsets")

    assert answer.status == 403
    assert answer.body["message"].endswith(
        'cannot list resource "daemonsets" in API group "apps" at the cluster scope'
    )


def test_a_dry_run_needs_the_rights_of_the_real_thing(trouble):
    reader = trouble.reader()

    assert reader.apply(idle(), dryRun="All").status == 403
    dry = {"dryRun": ["All"]}
    assert reader.call("DELETE", reader.path("agent"), dry).status == 403


def test_an_account_is_told_which_rights_it_lacks(trouble):
    reader = trouble.reader()
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"

    def may(verb, namespace):
        wanted = {"namespace": namespace, "verb": verb, "group": "apps", "resource": "daemonsets"}
        answer = reader.call("POST", path, {"spec": {"resourceAttributes": wanted}})
        assert answer.status == 201
        return answer.body["status"]

    allowed = may("list", reader.namespace)
    assert allowed["allowed"] is True
    assert allowed["reason"].startswith("RBAC: allowed by RoleBinding ")
    assert may("patch", reader.namespace) == {"allowed": False}
    assert may("list", "default") == {"allowed": False}


def test_an_account_that_may_only_patch_cannot_make_what_is_not_there(trouble):
    writer = trouble.account("get", "patch")

    missing = writer.apply(idle())
    trouble.cluster.create(idle())

    assert missing.status == 403
    assert 'cannot create resource "daemonsets"' in missing.body["message"]
    assert writer.apply(idle(), dryRun="All").status == 200
    assert writer.apply(idle()).status == 200
    assert writer.call("DELETE", writer.path("agent")).status == 403


def test_a_wrong_token_is_unauthorized(trouble):
    stranger = trouble.stranger()

    answer = stranger.call("GET", stranger.path())

    assert (answer.status, answer.body["reason"]) == (401, "Unauthorized")
    assert answer.body["message"] == "Unauthorized"


def test_who_asks_too_much_is_told_when_to_come_back(trouble):
    answer = trouble.throttled()

    assert answer.status == 429
    assert answer.headers["retry-after"] == "1"
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.body.strip() == b"Too many requests, please try again later."


# ---------------------------------------------------------------------------- admission


def subdomain(obj):
    return obj["spec"]["template"]["spec"].get("subdomain")


def test_what_admission_adds_belongs_to_nobody_and_stays_when_admission_goes(trouble):
    cluster = trouble.cluster
    with trouble.injecting("one"):
        live = cluster.apply(idle()).body

    assert subdomain(live) == "one"
    assert "f:subdomain" not in str(live["metadata"]["managedFields"])
    assert subdomain(cluster.apply(idle()).body) == "one"
    fresh = cluster.apply(idle() | {"metadata": {"name": "fresh"}}, dryRun="All").body
    assert subdomain(fresh) is None


def test_admission_runs_on_every_write_so_a_label_can_start_a_rollout(trouble):
    cluster = trouble.cluster
    with trouble.injecting("one"):
        live = cluster.apply(idle()).body
        assert live["metadata"]["generation"] == 1

    with trouble.injecting("two"):
        after = cluster.patch({"metadata": {"labels": {"x": "y"}}}).body

    assert subdomain(after) == "two"
    assert after["metadata"]["generation"] == 2


def test_a_dry_run_shows_that_admission_would_make_a_rollback_inexact(trouble):
    cluster = trouble.cluster
    cluster.apply(idle())
    assert cluster.settle(lambda: cluster.list("controllerrevisions") != [])
    (revision,) = cluster.list("controllerrevisions")
    data = revision["data"]["spec"]["template"]
    body = {"spec": {"template": data}}

    exact = cluster.patch(body, media=STRATEGIC, manager="dsgitops", dryRun="All").body
    assert {**exact["spec"]["template"], "$patch": "replace"} == data
    with trouble.injecting("two"):
        tried = cluster.patch(body, media=STRATEGIC, manager="dsgitops", dryRun="All").body

    assert {**tried["spec"]["template"], "$patch": "replace"} != data
    assert subdomain(tried) == "two"
