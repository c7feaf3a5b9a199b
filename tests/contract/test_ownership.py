"""Who owns which field, as the agent relies on it (`cluster.md` 1 to 3)."""

from __future__ import annotations

import copy
import json

import pytest
from contract.client import (
    MERGE,
    STRATEGIC,
    container_of,
    entry,
    manifest,
    owners,
    preconditions,
)

from dsgitops.core.difference import MERGE_KEYS
from dsgitops.core.ownership import takeover

RECORD = "dsgitops.io/record"


def forward(body, live, record, **spec):
    """The agent's apply: the manifest, the record, the preconditions."""
    out = copy.deepcopy(body)
    out["metadata"]["annotations"] = {RECORD: record}
    if live is not None:
        out["metadata"] |= preconditions(live)
    out["spec"] |= spec
    return out


def take_over(cluster, live, record):
    """Move the spec into our entry, as the agent does before a forward write."""
    entries = takeover(live["metadata"]["managedFields"])
    if entries is None:
        return live
    body = {
        "metadata": preconditions(live)
        | {"managedFields": entries, "annotations": {RECORD: record}}
    }
    answer = cluster.patch(body)
    assert answer.status == 200, answer.body
    return answer.body


def hashes(cluster):
    return {
        pod["metadata"]["uid"]: pod["metadata"]["labels"]["controller-revision-hash"]
        for pod in cluster.pods()
    }


def all_ready(cluster, count=12):
    def holds():
        status = cluster.get()["status"]
        return status.get("numberAvailable", 0) == count == len(cluster.pods())

    return holds


def observed(cluster):
    def holds():
        live = cluster.get()
        return live["status"].get("observedGeneration") == live["metadata"]["generation"]

    return holds


def test_takeover_bad_revision_rollback_and_fix_leave_what_git_says(cluster):  # noqa: PLR0915 - one story
    good = manifest()
    assert cluster.create(good).status == 201
    assert cluster.settle(all_ready(cluster))
    before = hashes(cluster)

    # 1. taking over an object born by another client changes nothing but owners
    live = take_over(cluster, cluster.get(), "1")
    assert takeover(live["metadata"]["managedFields"]) is None
    live = cluster.apply(forward(good, live, "2")).body
    assert live["metadata"]["generation"] == 1
    assert hashes(cluster) == before
    assert len(cluster.list("controllerrevisions")) == 1

    # 2. bad content with OnDelete in the same write touches no pod; two deletes bring two bad pods
    bad = manifest()
    container_of(bad)["image"] = "registry.example/agent:missing"
    container_of(bad)["env"] = [{"name": "B", "value": "2"}]
    bad["spec"]["template"]["spec"]["containers"].pop()
    bad["spec"]["template"]["spec"]["volumes"].pop()
    held = {"type": "OnDelete", "rollingUpdate": {"maxUnavailable": 2}}
    answer = cluster.apply(forward(bad, cluster.get(), "3", updateStrategy=held))
    assert answer.status == 200, answer.body
    assert cluster.settle(observed(cluster))
    assert hashes(cluster) == before
    for pod in cluster.pods()[:2]:
        body = {"preconditions": preconditions(pod)}
        assert (
            cluster.call("DELETE", cluster.path(pod["metadata"]["name"], "pods"), body).status
            == 200
        )
    assert cluster.settle(
        lambda: len(set(hashes(cluster)) - set(before)) == 2 and len(cluster.pods()) == 12
    )
    kept = {uid for uid in hashes(cluster) if uid in before}
    assert len(kept) == 10

    # 3. the rollback restores the revision's bytes, first as a dry run
    revisions = cluster.list("controllerrevisions")
    old = next(each for each in revisions if each["revision"] == 1)
    live = cluster.get()
    restore = {
        "metadata": preconditions(live) | {"annotations": {RECORD: "4"}},
        "spec": {
            "template": old["data"]["spec"]["template"],
            "updateStrategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxUnavailable": 2, "maxSurge": 0},
            },
            "minReadySeconds": 0,
        },
    }
    tried = cluster.patch(restore, media=STRATEGIC, manager="dsgitops", dryRun="All").body
    assert {**tried["spec"]["template"], "$patch": "replace"} == old["data"]["spec"]["template"]
    assert cluster.get() == live
    done = cluster.patch(restore, media=STRATEGIC, manager="dsgitops")
    assert done.status == 200, done.body
    assert "$patch" not in done.body["spec"]["template"]
    assert cluster.settle(lambda: set(hashes(cluster).values()) == set(before.values()))
    assert cluster.settle(all_ready(cluster))
    assert kept <= set(hashes(cluster))
    assert set(hashes(cluster).values()) == set(before.values())
    cluster.rest()
    again = next(
        each
        for each in cluster.list("controllerrevisions")
        if each["metadata"]["name"] == old["metadata"]["name"]
    )
    assert again["revision"] == 3

    # 4. after a takeover, a fix that lacks an env var, a container and a volume loses all three
    live = take_over(cluster, cluster.get(), "5")
    fix = copy.deepcopy(bad)
    container_of(fix)["image"] = "registry.example/agent:2"
    live = cluster.apply(forward(fix, live, "6")).body
    fresh = cluster.apply(
        fix | {"metadata": {"name": "agent-fresh"}}, name="agent-fresh", dryRun="All"
    )
    assert fresh.status == 201
    assert live["spec"] == fresh.body["spec"]
    assert [each["name"] for each in live["spec"]["template"]["spec"]["containers"]] == ["agent"]
    spec_owners = {
        (each["manager"], each["operation"])
        for each in live["metadata"]["managedFields"]
        if "f:spec" in each["fieldsV1"]
    }
    assert spec_owners == {("dsgitops", "Apply")}

    # 5. the same again changes nothing
    assert cluster.settle(all_ready(cluster))
    cluster.rest()
    live = cluster.get()
    same = cluster.apply(forward(fix, live, "6"))
    assert same.body["metadata"]["resourceVersion"] == live["metadata"]["resourceVersion"]


def test_apply_removes_what_it_named_and_names_no_more(cluster):
    cluster.apply(manifest())
    less = manifest()
    del container_of(less)["env"]
    del less["metadata"]["labels"]

    live = cluster.apply(less).body

    assert "env" not in container_of(live)
    assert "labels" not in live["metadata"]


def test_apply_keeps_what_somebody_else_owns_too(cluster):
    cluster.create(manifest())
    cluster.apply(manifest())
    less = manifest()
    del container_of(less)["env"]

    live = cluster.apply(less).body

    assert [each["name"] for each in container_of(live)["env"]] == ["A", "B"]


def test_equal_values_are_no_conflict_and_do_not_show_who_else_owns_them(cluster):
    cluster.create(manifest())

    assert cluster.apply(manifest(), force="false").status == 200


def test_a_conflict_names_each_field_and_its_manager(cluster):
    cluster.apply(manifest(minReadySeconds=1))
    change = {"spec": {"minReadySeconds": 5, "revisionHistoryLimit": 3}}
    cluster.patch(change, media=STRATEGIC, manager="kubectl-set")

    answer = cluster.apply(manifest(minReadySeconds=7, revisionHistoryLimit=4), force="false")

    assert answer.status == 409
    assert answer.body["reason"] == "Conflict"
    assert answer.body["message"] == (
        'Apply failed with 2 conflicts: conflicts with "kubectl-set" using apps/v1:\n'
        "- .spec.minReadySeconds\n- .spec.revisionHistoryLimit"
    )
    assert answer.body["details"]["causes"] == [
        {
            "reason": "FieldManagerConflict",
            "message": 'conflict with "kubectl-set" using apps/v1',
            "field": field,
        }
        for field in (".spec.minReadySeconds", ".spec.revisionHistoryLimit")
    ]


def test_force_takes_the_field_from_the_other_manager(cluster):
    cluster.apply(manifest(minReadySeconds=1))
    cluster.patch({"spec": {"minReadySeconds": 5}}, manager="kubectl-set")

    live = cluster.apply(manifest(minReadySeconds=7)).body

    assert live["spec"]["minReadySeconds"] == 7
    assert ("kubectl-set", "Update") not in owners(live)


def test_a_field_that_another_client_adds_survives_our_apply(cluster):
    cluster.apply(manifest())
    cluster.patch({"spec": {"template": {"spec": {"hostPID": True}}}}, manager="kubectl-edit")

    live = cluster.apply(manifest()).body

    assert live["spec"]["template"]["spec"]["hostPID"] is True
    assert entry(live, "kubectl-edit") == {"f:spec": {"f:template": {"f:spec": {"f:hostPID": {}}}}}


def test_an_item_goes_although_another_manager_set_a_field_in_it(cluster):
    cluster.apply(manifest())
    image = [{"name": "side", "image": "registry.example/side:2"}]
    cluster.patch(
        {"spec": {"template": {"spec": {"containers": image}}}},
        media=STRATEGIC,
        manager="kubectl-set",
    )
    less = manifest()
    less["spec"]["template"]["spec"]["containers"].pop()

    live = cluster.apply(less).body

    assert len(live["spec"]["template"]["spec"]["containers"]) == 1
    assert ("kubectl-set", "Update") not in owners(live)


def test_a_created_object_belongs_to_the_first_word_of_the_user_agent(cluster):
    live = cluster.create(manifest(), agent="helm/3.19 (linux)").body

    assert owners(live) == {("helm", "Update")}
    fields = entry(live, "helm")
    assert fields["f:metadata"]["f:labels"] == {".": {}, "f:team": {}}
    assert fields["f:spec"]["f:updateStrategy"] == {
        "f:rollingUpdate": {".": {}, "f:maxSurge": {}, "f:maxUnavailable": {}},
        "f:type": {},
    }
    containers = fields["f:spec"]["f:template"]["f:spec"]["f:containers"]
    assert "." not in containers
    assert containers['k:{"name":"agent"}']["f:ports"] == {
        ".": {},
        'k:{"containerPort":8080,"protocol":"TCP"}': {
            ".": {},
            "f:containerPort": {},
            "f:name": {},
            "f:protocol": {},
        },
    }


def test_an_applied_object_owns_what_the_body_names_and_no_defaults(cluster):
    live = cluster.apply(manifest()).body

    fields = entry(live, "dsgitops", "Apply")
    assert fields["f:metadata"] == {"f:labels": {"f:team": {}}}
    assert fields["f:spec"]["f:selector"] == {}
    assert "f:revisionHistoryLimit" not in fields["f:spec"]
    side = fields["f:spec"]["f:template"]["f:spec"]["f:containers"]['k:{"name":"side"}']
    assert side == {".": {}, "f:image": {}, "f:name": {}}


def every_list():
    """Return a manifest that has each list by which the server may tell elements apart."""
    body = manifest()
    container_of(body).update(
        args=["a"],
        command=["b"],
        envFrom=[{"configMapRef": {"name": "a"}}],
        volumeDevices=[{"name": "disk", "devicePath": "/dev/x"}],
        securityContext={"capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]}},
        resources={"claims": [{"name": "device"}]},
    )
    required = {"nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "Exists"}]}]}
    spread = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
    token = {"serviceAccountToken": {"path": "t"}}
    pod = body["spec"]["template"]["spec"]
    pod |= {
        "initContainers": [{"name": "first", "image": "registry.example/first:1"}],
        "imagePullSecrets": [{"name": "a"}],
        "hostAliases": [{"ip": "127.0.0.1", "hostnames": ["a", "b"]}],
        "topologySpreadConstraints": [spread],
        "resourceClaims": [{"name": "device", "resourceClaimName": "device"}],
        "tolerations": [{"operator": "Exists"}],
        "readinessGates": [{"conditionType": "example.io/a"}],
        "schedulingGates": [{"name": "example.io/b"}],
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}},
        "securityContext": {"supplementalGroups": [1, 2]},
        "dnsConfig": {"nameservers": ["127.0.0.1"], "options": [{"name": "ndots"}]},
    }
    pod["volumes"] += [
        {"name": "disk", "persistentVolumeClaim": {"claimName": "disk"}},
        {"name": "map", "configMap": {"name": "a", "items": [{"key": "k", "path": "p"}]}},
        {"name": "token", "projected": {"sources": [token]}},
    ]
    return body


def lists_of(value, fields, name=""):
    """Yield each list's name and what the entry has of its elements."""
    if isinstance(value, list):
        yield name, {key for key in fields if key != "."}
        for element in value:
            key = next((each for each in fields if each[:2] == "k:" and fits(each, element)), None)
            if key is not None:
                yield from lists_of(element, fields[key], name)
    elif isinstance(value, dict):
        for key, each in value.items():
            if f"f:{key}" in fields:
                yield from lists_of(each, fields[f"f:{key}"], key)


def fits(key, element):
    return {"protocol": "TCP"} | element | json.loads(key[2:]) == {"protocol": "TCP"} | element


def test_the_lists_that_the_agent_matches_by_key_are_those_that_the_server_merges(cluster):
    body = every_list()
    live = cluster.apply(body).body

    assert live["kind"] == "DaemonSet", live
    fields = entry(live, "dsgitops", "Apply")["f:spec"]
    found = dict(lists_of(body["spec"], fields))

    merged = {name for name, elements in found.items() if elements}
    template_has_none = {"ephemeralContainers"}
    assert merged == set(MERGE_KEYS) - template_has_none
    for name in merged:
        for element in found[name]:
            assert set(json.loads(element[2:])) == set(MERGE_KEYS[name])
    assert len(found) - len(merged) > 10, "the atomic ones"


# ---------------------------------------------------------------------------- the record


def test_the_record_by_merge_patch_bumps_nothing_and_is_owned_by_its_manager(cluster):
    live = cluster.apply(forward(manifest(), None, "1")).body

    after = cluster.patch({"metadata": preconditions(live) | {"annotations": {RECORD: "2"}}}).body

    assert after["metadata"]["generation"] == live["metadata"]["generation"]
    assert entry(after, "dsgitops-record") == {"f:metadata": {"f:annotations": {f"f:{RECORD}": {}}}}


def test_the_next_apply_with_the_record_owns_it_again(cluster):
    live = cluster.apply(forward(manifest(), None, "1")).body
    live = cluster.patch({"metadata": {"annotations": {RECORD: "2"}}}).body

    live = cluster.apply(forward(manifest(), live, "3")).body

    assert live["metadata"]["annotations"][RECORD] == "3"
    assert ("dsgitops-record", "Update") not in owners(live)


def test_an_apply_without_the_record_removes_it_only_if_apply_owned_it(cluster):
    cluster.apply(forward(manifest(), None, "1"))
    gone = cluster.apply(manifest()).body
    assert RECORD not in gone["metadata"]["annotations"]

    cluster.patch({"metadata": {"annotations": {RECORD: "2"}}})
    kept = cluster.apply(manifest()).body
    assert kept["metadata"]["annotations"][RECORD] == "2"


def test_the_same_content_again_keeps_version_and_times(cluster):
    live = cluster.apply(forward(manifest(), None, "1")).body
    cluster.rest()
    live = cluster.get()
    cluster.pass_time(1.1)  # time stamps are of whole seconds

    again = cluster.apply(forward(manifest(), None, "1")).body
    by_merge = cluster.patch({"metadata": {"annotations": {RECORD: "1"}}}).body

    assert again == by_merge == cluster.get()
    assert again["metadata"]["managedFields"] == live["metadata"]["managedFields"]


def test_a_partial_apply_means_remove_all_else(cluster):
    cluster.apply(manifest())
    body = {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "agent"}}

    answer = cluster.apply(body)

    assert answer.status == 422
    named = {cause["field"] for cause in answer.body["details"]["causes"]}
    assert {"spec.selector", "spec.template.spec.containers"} <= named


def test_a_second_manager_may_apply_metadata_alone(cluster):
    cluster.apply(manifest())
    body = {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "agent"}}
    body["metadata"]["annotations"] = {RECORD: "1"}

    live = cluster.apply(body, manager="dsgitops-record").body
    assert live["metadata"]["annotations"][RECORD] == "1"

    del body["metadata"]["annotations"]
    live = cluster.apply(body, manager="dsgitops-record").body
    assert RECORD not in live["metadata"]["annotations"]


# ---------------------------------------------------------------------------- managedFields as data


def test_takeover_is_stored_as_given_and_changes_nothing_else(cluster):
    live = cluster.create(manifest()).body
    taken = take_over(cluster, live, "1")

    assert taken["metadata"]["generation"] == 1
    assert taken["spec"] == live["spec"]
    assert ("dsgitops", "Apply") in owners(taken)
    assert "f:spec" not in entry(taken, "other")

    stale = cluster.patch(
        {"metadata": preconditions(live) | {"managedFields": takeover([]) or [{"manager": "x"}]}}
    )
    assert stale.status == 409


def test_after_takeover_apply_removes_what_it_lacks_and_defaults_come_back(cluster):
    take_over(cluster, cluster.create(manifest(revisionHistoryLimit=3)).body, "1")
    less = manifest()
    container_of(less)["env"].pop()

    live = cluster.apply(less).body

    assert live["spec"]["revisionHistoryLimit"] == 10
    assert container_of(live)["env"] == [{"name": "A", "value": "1"}]
    assert live["metadata"]["labels"] == {"team": "nodes"}


@pytest.mark.parametrize("nothing", [[], [{}]])
def test_wiping_the_entries_makes_the_next_apply_share_everything(cluster, nothing):
    cluster.apply(manifest())
    wiped = cluster.patch({"metadata": {"managedFields": nothing}}).body
    assert "managedFields" not in wiped["metadata"]
    less = manifest()
    del container_of(less)["env"]

    live = cluster.apply(less).body

    assert ("before-first-apply", "Update") in owners(live)
    assert [each["name"] for each in container_of(live)["env"]] == ["A", "B"]


def test_an_apply_body_with_entries_is_refused(cluster):
    body = manifest()
    body["metadata"]["managedFields"] = [{"manager": "x", "operation": "Apply"}]

    answer = cluster.apply(body)

    assert answer.status == 400
    assert "metadata.managedFields must be nil" in answer.body["message"]


def test_status_belongs_to_its_writer_and_an_apply_cannot_touch_it(cluster):
    cluster.apply(manifest() | {"status": {"numberReady": 99}})
    cluster.settle(observed(cluster))

    live = cluster.apply(manifest() | {"status": {"numberReady": 99}}).body

    assert live["status"]["numberReady"] != 99
    assert "f:status" not in entry(live, "dsgitops", "Apply")


# ---------------------------------------------------------------------------- sticky fields


def transitions(cluster, old, new):
    """Apply one manifest after the other; return the live spec and a fresh one."""
    first = cluster.apply(old)
    assert first.status == 201, first.body
    live = cluster.apply(new)
    fresh = cluster.apply(new | {"metadata": {"name": "fresh"}}, name="fresh", dryRun="All")
    assert fresh.status == 201, fresh.body
    return live, fresh.body


def with_container(**fields):
    body = manifest()
    container_of(body).update(fields)
    return body


def with_volume(**source):
    body = manifest()
    body["spec"]["template"]["spec"]["volumes"][0] = {"name": "data", **source}
    return body


EQUAL = {
    "httpGet to exec": (
        with_container(readinessProbe={"httpGet": {"port": 80}}),
        with_container(readinessProbe={"exec": {"command": ["true"]}}),
    ),
    "httpGet to tcpSocket": (
        with_container(livenessProbe={"httpGet": {"port": 80, "path": "/x"}}),
        with_container(livenessProbe={"tcpSocket": {"port": 80}}),
    ),
    "a probe removed": (with_container(readinessProbe={"httpGet": {"port": 80}}), manifest()),
    "a period removed": (
        with_container(readinessProbe={"httpGet": {"port": 80}, "periodSeconds": 3}),
        with_container(readinessProbe={"httpGet": {"port": 80}}),
    ),
    "configMap to secret": (
        with_volume(configMap={"name": "a"}),
        with_volume(secret={"secretName": "a"}),
    ),
    "emptyDir to hostPath": (with_volume(emptyDir={}), with_volume(hostPath={"path": "/x"})),
    "hostPath to emptyDir": (with_volume(hostPath={"path": "/x"}), with_volume(emptyDir={})),
    "value to valueFrom": (
        with_container(env=[{"name": "A", "value": "1"}]),
        with_container(
            env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}]
        ),
    ),
    "valueFrom to value": (
        with_container(
            env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}]
        ),
        with_container(env=[{"name": "A", "value": "1"}]),
    ),
    "port protocol": (
        with_container(ports=[{"containerPort": 53}]),
        with_container(ports=[{"containerPort": 53, "protocol": "UDP"}]),
    ),
    "port name": (
        with_container(ports=[{"name": "a", "containerPort": 53}]),
        with_container(ports=[{"name": "b", "containerPort": 53}]),
    ),
    "order of env": (
        manifest(),
        with_container(env=[{"name": "B", "value": "2"}, {"name": "A", "value": "1"}]),
    ),
    "maxUnavailable to maxSurge": (
        manifest(updateStrategy={"rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}}),
        manifest(updateStrategy={"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}),
    ),
    "RollingUpdate to OnDelete": (
        manifest(updateStrategy={"rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}}),
        manifest(
            updateStrategy={
                "type": "OnDelete",
                "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0},
            }
        ),
    ),
}


@pytest.mark.parametrize("case", EQUAL)
def test_a_change_by_apply_gives_what_a_fresh_object_would_be(cluster, case):
    live, fresh = transitions(cluster, *EQUAL[case])

    assert live.status == 200, live.body
    assert live.body["spec"] == fresh["spec"]


def test_the_order_of_containers_follows_the_last_apply(cluster):
    turned = manifest()
    turned["spec"]["template"]["spec"]["containers"].reverse()

    live, fresh = transitions(cluster, manifest(), turned)

    assert live.body["spec"] == fresh["spec"]


def test_the_pull_policy_of_a_numbered_tag_sticks_to_latest(cluster):
    latest = with_container(image="registry.example/agent:latest")

    live, fresh = transitions(cluster, manifest(), latest)

    assert container_of(live.body)["imagePullPolicy"] == "IfNotPresent"
    assert container_of(fresh)["imagePullPolicy"] == "Always"


def test_a_volume_that_got_its_source_by_default_can_never_change_it(cluster):
    live, _ = transitions(cluster, with_volume(), with_volume(hostPath={"path": "/x"}))

    assert live.status == 422
    assert "may not specify more than 1 volume type" in live.body["message"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (manifest(), with_container(image="registry.example/agent:latest")),
        (with_volume(), with_volume(hostPath={"path": "/x"})),
    ],
    ids=["pull policy", "volume source"],
)
def test_the_sweep_makes_a_sticky_field_ours_and_then_it_goes(cluster, old, new):
    cluster.apply(old)
    live = cluster.get()
    ours = {"apiVersion": "apps/v1", "kind": "DaemonSet", "spec": live["spec"]}
    ours["metadata"] = {"name": "agent", "annotations": {RECORD: "1"}, **preconditions(live)}

    swept = cluster.apply(ours)
    assert swept.status == 200, swept.body
    assert swept.body["metadata"]["generation"] == live["metadata"]["generation"]
    take_over(cluster, swept.body, "2")
    final = cluster.apply(new)

    fresh = cluster.apply(new | {"metadata": {"name": "fresh"}}, name="fresh", dryRun="All").body
    assert final.status == 200, final.body
    assert final.body["spec"] == fresh["spec"]


# ---------------------------------------------------------------------------- rollback's traces


def test_a_rollback_owns_what_it_brought_back(cluster):
    cluster.apply(manifest())
    template = cluster.get()["spec"]["template"]
    less = manifest()
    container_of(less)["env"].pop()
    cluster.apply(less)

    body = {"spec": {"template": {"$patch": "replace", **template}}}
    live = cluster.patch(body, media=STRATEGIC, manager="dsgitops").body

    assert live["spec"]["template"] == template
    back = entry(live, "dsgitops", "Update")["f:spec"]["f:template"]["f:spec"]["f:containers"]
    assert back['k:{"name":"agent"}']["f:env"] == {
        'k:{"name":"B"}': {".": {}, "f:name": {}, "f:value": {}}
    }

    kept = cluster.apply(less).body
    assert len(container_of(kept)["env"]) == 2  # an apply alone cannot take it away again


def test_entries_keep_their_order_and_time_stamps(cluster):
    cluster.create(manifest())
    cluster.pass_time(1.1)  # time stamps are of whole seconds
    cluster.apply(manifest(minReadySeconds=1))
    cluster.pass_time(1.1)
    live = cluster.patch({"metadata": {"annotations": {"x": "y"}}}, media=MERGE).body

    entries = [each for each in live["metadata"]["managedFields"] if not each.get("subresource")]
    assert [each["operation"] for each in entries] == ["Apply", "Update", "Update"]
    assert all(each["fieldsType"] == "FieldsV1" for each in entries)
    assert sorted(each["time"] for each in entries[1:]) == [each["time"] for each in entries[1:]]
    assert json.loads(json.dumps(entries)) == entries
