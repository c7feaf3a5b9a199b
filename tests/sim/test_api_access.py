"""Accounts, admission and namespaces of the simulated API server."""

from __future__ import annotations

import pytest
from contract.client import APPLY, Cluster, container_of, manifest

from dsgitops.sim.access import Account, Rule, from_policy
from dsgitops.sim.api import ApiServer
from dsgitops.sim.clock import VirtualClock
from dsgitops.sim.store import Store
from dsgitops.sim.transport import SimTransport
from dsgitops.sim.writes import AdmissionRefused

NAME = "system:serviceaccount:dsgitops:dsgitops"
POLICY = [
    {
        "apiGroups": ["apps"],
        "resources": ["daemonsets"],
        "verbs": ["get", "list", "watch", "patch"],
    },
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch", "delete"]},
    {
        "apiGroups": ["coordination.k8s.io"],
        "resources": ["leases"],
        "resourceNames": ["dsgitops"],
        "verbs": ["get", "update"],
    },
]


@pytest.fixture
def clock():
    return VirtualClock()


@pytest.fixture
def api(clock):
    return ApiServer(Store(clock.now), clock, Account(NAME))


@pytest.fixture
def cluster(api):
    return Cluster(SimTransport(api), "default", lambda holds: holds(), lambda _: None)


def restricted(api):
    api.account.rules = from_policy(POLICY, "default")


def test_a_verb_without_a_rule_is_forbidden_in_the_api_server_s_words(api, cluster):
    restricted(api)

    answer = cluster.create(manifest())

    assert (answer.status, answer.body["reason"]) == (403, "Forbidden")
    assert answer.body["message"] == (
        f'daemonsets.apps is forbidden: User "{NAME}" cannot create resource "daemonsets" in API '
        'group "apps" in the namespace "default"'
    )


def test_an_apply_of_an_absent_object_needs_create_as_well_even_as_a_dry_run(api, cluster):
    restricted(api)

    answer = cluster.apply(manifest(), dryRun="All")

    assert answer.status == 403
    assert "cannot create" in answer.body["message"]
    api.account.rules = None
    cluster.apply(manifest())
    restricted(api)
    assert cluster.apply(manifest(minReadySeconds=1)).status == 200


def test_another_namespace_and_the_whole_cluster_are_forbidden(api, cluster):
    restricted(api)

    elsewhere = cluster.call("GET", "/apis/apps/v1/namespaces/kube-system/daemonsets")
    everywhere = cluster.call("GET", "/apis/apps/v1/daemonsets")

    assert elsewhere.status == everywhere.status == 403
    assert everywhere.body["message"].endswith("at the cluster scope")
    assert cluster.call("GET", cluster.path()).status == 200


def test_rights_can_be_taken_away_midway_and_a_watch_is_refused_then(api, cluster):
    assert cluster.open().status == 200
    api.account.rules = []

    stream = cluster.open()

    assert stream.status == 403
    assert b"cannot watch" in stream.lines()[0]


def test_a_rule_for_a_name_is_for_that_name(api, cluster):
    restricted(api)
    root = "/apis/coordination.k8s.io/v1/namespaces/default/leases"

    assert cluster.call("GET", f"{root}/dsgitops").status == 404
    assert cluster.call("GET", f"{root}/other").status == 403


def test_a_subresource_needs_a_rule_of_its_own():
    rule = Rule(verbs=("create",), resources=("pods",))

    assert not rule.allows("create", "", "pods/eviction", "a")


def test_the_review_says_what_the_rules_say(api, cluster):
    restricted(api)

    def allowed(verb, resource, namespace="default"):
        attributes = {"namespace": namespace, "verb": verb, "group": "apps", "resource": resource}
        return cluster.call(
            "POST",
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            {"spec": {"resourceAttributes": attributes}},
        ).body["status"]

    assert allowed("patch", "daemonsets")["allowed"] is True
    assert allowed("delete", "daemonsets") == {"allowed": False}
    assert allowed("patch", "daemonsets", "kube-system") == {"allowed": False}


def test_a_wrong_token_is_unauthorized(api, cluster):
    api.account.token = "right"
    path = cluster.path()

    assert cluster.call("GET", path).status == 401
    assert cluster.open().status == 401
    transport = SimTransport(api, headers={"Authorization": "Bearer right"})
    entitled = Cluster(transport, "default", lambda holds: holds(), lambda _: None)
    assert entitled.call("GET", path).status == 200


# ---------------------------------------------------------------------------- admission


def sidecar(verb, resource, obj, old):
    """A webhook that adds a variable to every template."""
    if resource != "daemonsets":
        return obj
    spec = obj["spec"]["template"]["spec"]
    containers = [
        {**each, "env": [*each.get("env", []), {"name": "INJECTED", "value": sidecar.value}]}
        if not any(env["name"] == "INJECTED" for env in each.get("env", []))
        else each
        for each in spec["containers"]
    ]
    template = {**obj["spec"]["template"], "spec": {**spec, "containers": containers}}
    return {**obj, "spec": {**obj["spec"], "template": template}}


sidecar.value = "1"


def test_what_admission_adds_belongs_to_nobody_and_stays(api, cluster):
    api.admission.append(sidecar)
    live = cluster.apply(manifest()).body
    assert container_of(live)["env"][-1]["name"] == "INJECTED"
    assert "INJECTED" not in str(live["metadata"]["managedFields"])

    api.admission.clear()
    assert container_of(cluster.apply(manifest()).body)["env"][-1]["name"] == "INJECTED"


def test_a_metadata_write_restarts_the_fleet_when_admission_changes_the_template(api, cluster):
    cluster.apply(manifest())
    api.admission.append(sidecar)

    live = cluster.patch({"metadata": {"annotations": {"dsgitops.io/record": "1"}}}).body

    assert live["metadata"]["generation"] == 2
    assert live["metadata"]["annotations"]["deprecated.daemonset.template.generation"] == "2"


def test_admission_can_refuse(api, cluster):
    def refuse(verb, resource, obj, old):
        raise AdmissionRefused('admission webhook "policy.example" denied the request: no')

    api.admission.append(refuse)

    answer = cluster.apply(manifest())

    assert (answer.status, answer.body["reason"]) == (403, "Forbidden")
    assert answer.body["message"].endswith("denied the request: no")
    with pytest.raises(AdmissionRefused):
        api.admit("CREATE", "pods", {})


# ---------------------------------------------------------------------------- namespaces


def test_a_terminating_namespace_takes_nothing_new_and_goes_when_empty(api, cluster, clock):
    api.make_namespace("team")
    path = "/apis/apps/v1/namespaces/team/daemonsets"
    cluster.call("POST", path, manifest())

    assert cluster.call("DELETE", "/api/v1/namespaces/team").status == 200
    assert cluster.call("GET", "/api/v1/namespaces/team").body["status"]["phase"] == "Terminating"
    answer = cluster.call(
        "PATCH", f"{path}/other", manifest("other"), media=APPLY, fieldManager="x"
    )
    assert answer.status == 403
    assert "because it is being terminated" in answer.body["message"]

    api.tick(clock.now())
    api.tick(clock.now())
    assert cluster.call("GET", "/api/v1/namespaces/team").status == 404
    assert cluster.call("GET", f"{path}/agent").status == 404
