"""The simulated DaemonSet controller does what a real one was seen to do, soft spots included."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated import (
    HASH,
    NAME,
    NAMESPACE,
    ON_DELETE,
    condition,
    daemonset,
    events,
    hashes,
    is_finished,
    newest_hash,
    rolling,
    settle,
    status,
    staying,
    uids,
)

from dsgitops.ports import Request
from dsgitops.sim.daemonset import scaled
from dsgitops.sim.fleet import Tally, is_available
from dsgitops.sim.objects import is_finished as is_finished_pod
from dsgitops.sim.objects import node_of
from dsgitops.sim.placement import belongs, tolerations_of
from dsgitops.sim.world import World
from dsgitops.sim.writes import AdmissionRefused


def running(nodes=12, manifest=None, seed=1):
    """Return a world whose DaemonSet has been available for a minute and a half."""
    world = World(nodes=nodes, seed=seed)
    world.apply(manifest or daemonset())
    settle(world)
    world.advance(90)
    return world


def delete(world, **options):
    path = f"/apis/apps/v1/namespaces/{NAMESPACE}/daemonsets/{NAME}"
    body = json.dumps({"kind": "DeleteOptions", "apiVersion": "v1", **options}).encode()
    headers = {"Content-Type": "application/json"}
    return world.api.handle(Request(method="DELETE", path=path, body=body, headers=headers))


# ---------------------------------------------------------------------------- pods and status


def test_every_node_gets_one_pod_with_the_revision_s_hash_and_its_own_name_in_the_affinity():
    world = running(nodes=3)
    pods = world.pods(NAMESPACE, NAME)

    assert sorted(pod["spec"]["nodeName"] for pod in pods) == ["node-1", "node-2", "node-3"]
    assert {pod["metadata"]["labels"][HASH] for pod in pods} == {newest_hash(world)}
    assert {pod["metadata"]["generateName"] for pod in pods} == {"agent-"}
    for pod in pods:
        required = pod["spec"]["affinity"]["nodeAffinity"]
        terms = required["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
        assert terms[0]["matchFields"][0]["values"] == [pod["spec"]["nodeName"]]
        assert len(pod["spec"]["tolerations"]) == 6


def test_the_status_counts_nodes_and_lags_behind_the_generation():
    world = running(nodes=3)
    world.apply(daemonset("registry.sim/agent:2"))

    assert world.daemonset(NAMESPACE, NAME)["metadata"]["generation"] == 2
    assert status(world)["observedGeneration"] == 1

    world.advance(0.01)

    assert status(world)["observedGeneration"] == 2
    assert "updatedNumberScheduled" not in status(world)  # zero is left out


def test_a_rollout_goes_node_by_node_in_an_order_of_chance():
    orders = []
    for seed in (1, 2, 3):
        world = running(nodes=6, seed=seed)
        order = []
        world.store.subscribe(
            lambda kind, resource, item, order=order: (
                order.append(
                    item["spec"]["affinity"]["nodeAffinity"][
                        "requiredDuringSchedulingIgnoredDuringExecution"
                    ]["nodeSelectorTerms"][0]["matchFields"][0]["values"][0]
                )
                if (kind, resource) == ("ADDED", "pods")
                else None
            )
        )
        world.apply(daemonset("registry.sim/agent:2"))
        settle(world)
        orders.append(tuple(order))

    assert all(sorted(order) == sorted(orders[0]) for order in orders)
    assert len(set(orders)) == 3


def test_two_worlds_of_one_seed_are_the_same():
    def told(seed):
        world = World(nodes=5, seed=seed)
        lines = []
        world.store.subscribe(
            lambda kind, resource, item: lines.append(
                (world.clock.seconds, kind, resource, item["metadata"]["name"])
            )
        )
        world.apply(daemonset())
        world.advance(30)
        world.apply(daemonset("registry.sim/agent:2-crash"))
        world.advance(120)
        return lines

    assert told(7) == told(7)
    assert told(7) != told(8)


def test_the_replacement_comes_when_the_old_pod_s_phase_is_terminal_before_it_is_gone():
    world = running(nodes=1)
    told = []
    world.store.subscribe(
        lambda kind, resource, item: (
            told.append((kind, item["status"]["phase"], "deletionTimestamp" in item["metadata"]))
            if resource == "pods"
            else None
        )
    )
    world.apply(daemonset("registry.sim/agent:2"))
    settle(world)

    created = told.index(("ADDED", "Pending", False))
    assert told.index(("MODIFIED", "Succeeded", True)) < created
    assert created < next(at for at, line in enumerate(told) if line[0] == "DELETED")


@pytest.mark.parametrize(
    ("value", "nodes", "expected"), [(1, 12, 1), ("10%", 10, 1), ("10%", 11, 2), ("100%", 3, 3)]
)
def test_percentages_round_up(value, nodes, expected):
    assert scaled(value, nodes) == expected


def test_a_large_fleet_is_created_in_bursts():
    world = World(nodes=600)
    world.apply(daemonset())
    world.advance(0.0085)
    first = len(world.pods(NAMESPACE, NAME))
    world.advance(1)

    assert first == 250
    assert len(world.pods(NAMESPACE, NAME)) == 600


# ---------------------------------------------------------------------------- revisions


def test_a_revision_holds_the_template_and_a_copy_of_the_annotations_at_that_moment():
    world = World(nodes=1)
    manifest = daemonset()
    manifest["metadata"]["annotations"] = {"kubernetes.io/change-cause": "the first"}
    world.apply(manifest)
    settle(world)
    revision = world.revisions(NAMESPACE, NAME)[0]
    live = world.daemonset(NAMESPACE, NAME)

    assert revision["data"]["spec"]["template"] == {
        "$patch": "replace",
        **live["spec"]["template"],
    }
    assert revision["metadata"]["annotations"]["kubernetes.io/change-cause"] == "the first"
    assert revision["metadata"]["name"] == f"agent-{newest_hash(world)}"

    manifest["metadata"]["annotations"] = {"kubernetes.io/change-cause": "another word"}
    world.apply(manifest)
    world.advance(1)

    (same,) = world.revisions(NAMESPACE, NAME)
    assert same["metadata"]["annotations"]["kubernetes.io/change-cause"] == "the first"


def test_going_back_reuses_the_revision_under_a_higher_number_and_keeps_untouched_pods():
    world = running(nodes=4)
    good, before = newest_hash(world), uids(world)
    world.apply(daemonset("registry.sim/agent:2-never-ready"))
    world.advance(30)
    kept = uids(world) & before
    world.apply(daemonset())
    settle(world)

    assert [it["revision"] for it in world.revisions(NAMESPACE, NAME)] == [2, 3]
    assert newest_hash(world) == good
    assert len(kept) == 3
    assert kept <= uids(world)


def test_old_revisions_beyond_the_limit_go_but_none_that_a_pod_wears():
    spec = {"revisionHistoryLimit": 2, **ON_DELETE}
    world = running(nodes=1, manifest=daemonset(spec=spec))
    first = newest_hash(world)
    for number in range(2, 7):
        world.apply(daemonset(f"registry.sim/agent:{number}", spec=spec))
        world.advance(1)

    numbers = [it["revision"] for it in world.revisions(NAMESPACE, NAME)]
    assert numbers == [1, 5, 6]
    assert first in {it["metadata"]["labels"][HASH] for it in world.revisions(NAMESPACE, NAME)}


def test_a_hash_that_names_other_content_is_a_collision_that_is_counted():
    world = running(nodes=1)
    world.apply(daemonset("registry.sim/agent:2"))
    settle(world)
    taken = world.revisions(NAMESPACE, NAME)[-1]
    world.apply(daemonset())
    settle(world)
    stolen = {**taken, "data": {"spec": {"template": {"$patch": "replace", "spec": {}}}}}
    stolen["metadata"] = {**taken["metadata"], "uid": "another"}
    world.store.remove("controllerrevisions", NAMESPACE, taken["metadata"]["name"])
    world.store.create("controllerrevisions", stolen)
    world.apply(daemonset("registry.sim/agent:2"))
    settle(world)

    assert status(world)["collisionCount"] == 1
    assert newest_hash(world) != taken["metadata"]["labels"][HASH]


def test_a_control_plane_that_writes_other_bytes_makes_a_revision_and_restarts_no_pod():
    world = running(nodes=3)
    before = uids(world)
    world.controller.history.null_times = True
    world.controller.resync()
    settle(world)

    assert len(world.revisions(NAMESPACE, NAME)) == 2
    assert uids(world) == before  # of the template's generation, though of another hash
    assert status(world)["updatedNumberScheduled"] == 3
    assert newest_hash(world) not in {
        pod["metadata"]["labels"][HASH] for pod in world.pods(NAMESPACE, NAME)
    }


# ---------------------------------------------------------------------------- soft maxUnavailable


def test_a_bad_revision_stops_at_max_unavailable_broken_nodes():
    world = running()
    world.apply(daemonset("registry.sim/agent:2-never-ready", spec=rolling(2)))
    world.advance(300)

    assert hashes(world)[newest_hash(world)] == 2
    assert status(world)["numberUnavailable"] == 2


def test_three_bad_templates_in_a_row_break_one_node():
    world = running()
    good = newest_hash(world)
    for number in (2, 3, 4):
        world.apply(daemonset(f"registry.sim/agent:{number}-never-ready"))
        world.advance(30)

    assert hashes(world)[good] == 11


def test_before_pr_123233_each_bad_template_took_another_node():
    world = running()
    world.controller.counts_replaced = False
    good = newest_hash(world)
    for number in (2, 3, 4):
        world.apply(daemonset(f"registry.sim/agent:{number}-never-ready"))
        world.advance(30)

    assert hashes(world)[good] == 9


def test_a_shared_blip_during_a_halted_rollout_replaces_the_whole_fleet():
    backend = {"httpGet": {"path": "/backend", "port": 8080}, "periodSeconds": 1}
    world = running(manifest=daemonset(readinessProbe={**backend, "failureThreshold": 1}))
    world.apply(daemonset("registry.sim/agent:2-never-ready"))
    world.advance(30)
    assert hashes(world)[newest_hash(world)] == 1

    world.break_backend(2)
    world.advance(30)

    assert hashes(world) == {newest_hash(world): 12}


def test_raising_min_ready_seconds_with_the_template_replaces_young_pods_all_at_once():
    world = World(nodes=12)
    world.apply(daemonset())
    settle(world)
    world.apply(daemonset("registry.sim/agent:2", spec={"minReadySeconds": 30}))
    world.advance(0.1)

    assert not staying(world)


def test_available_is_counted_late_because_the_controller_looks_only_every_min_ready_seconds():
    world = World(nodes=12)
    world.apply(daemonset(spec={"minReadySeconds": 30}))
    world.advance(32)
    ready = [condition(pod, "Ready") for pod in world.pods(NAMESPACE, NAME)]
    counted = status(world).get("numberAvailable", 0)
    world.advance(35)

    assert ready == ["True"] * 12
    assert counted < 12
    assert status(world)["numberAvailable"] == 12


def test_lost_heartbeats_put_a_halted_bad_revision_on_every_node():
    world = running()
    world.apply(daemonset("registry.sim/agent:2-never-ready"))
    world.advance(30)
    assert hashes(world)[newest_hash(world)] == 1

    world.silence_all_kubelets(70)
    world.advance(65)
    assert all("deletionTimestamp" in it["metadata"] for it in world.pods(NAMESPACE, NAME)[1:2])
    world.advance(60)

    assert hashes(world) == {newest_hash(world): 12}


def test_on_delete_survives_lost_heartbeats():
    world = running()
    world.apply(daemonset("registry.sim/agent:2-never-ready"))
    world.advance(30)
    world.apply(daemonset("registry.sim/agent:2-never-ready", spec=ON_DELETE))
    world.silence_all_kubelets(70)
    world.advance(150)

    assert hashes(world)[newest_hash(world)] == 1
    assert sum(condition(pod, "Ready") == "True" for pod in staying(world)) == 11


# ---------------------------------------------------------------------------- other strategies


def test_on_delete_moves_nothing_but_makes_missing_pods_of_the_newest_template():
    world = running(nodes=3)
    world.apply(daemonset("registry.sim/agent:2", spec=ON_DELETE))
    world.advance(30)
    assert newest_hash(world) not in hashes(world)

    world.delete_pod(NAMESPACE, staying(world)[0]["metadata"]["name"])
    world.add_node()
    world.advance(30)

    assert hashes(world)[newest_hash(world)] == 2


def test_surge_makes_the_new_pod_first_and_never_leaves_a_node_without():
    world = running(nodes=3)
    served = []
    world.store.subscribe(
        lambda _, resource, __: (
            served.append(
                len(
                    {
                        pod["spec"]["nodeName"]
                        for pod in staying(world)
                        if condition(pod, "Ready") == "True"
                    }
                )
            )
            if resource == "pods"
            else None
        )
    )
    world.apply(daemonset("registry.sim/agent:2", spec=rolling(0, 1)))
    settle(world)

    assert min(served) == 3
    assert hashes(world) == {newest_hash(world): 3}


def test_a_bad_surge_hurts_nobody_and_counts_as_not_updated():
    world = running(nodes=3)
    good = newest_hash(world)
    world.apply(daemonset("registry.sim/agent:2-never-ready", spec=rolling(0, 1)))
    world.advance(120)

    assert hashes(world) == {good: 3, newest_hash(world): 1}
    assert "updatedNumberScheduled" not in status(world)


# ---------------------------------------------------------------------------- failures


def test_failed_pods_are_deleted_with_a_back_off_and_an_event():
    world = running(nodes=1)

    def fail():
        (pod,) = staying(world)
        failed = {**pod["status"], "phase": "Failed", "reason": "OutOfcpu"}
        world.store.update("pods", {**pod, "status": failed})

    before = uids(world)
    fail()
    world.advance(0.15)
    fail()  # its replacement fails as well, well within a second
    world.advance(0.1)
    (told,) = events(world, "FailedDaemonPod")

    assert not uids(world) & before
    assert "will try to kill it" in told["message"]
    assert staying(world)[0]["status"]["phase"] == "Failed"

    world.advance(5)
    fail()
    world.advance(0.1)

    assert len(events(world, "FailedDaemonPod")) == 2


def test_refused_pods_are_told_with_their_reason_and_tried_again_ever_more_rarely():
    world = running(nodes=1)
    world.make_quota(NAMESPACE, "team", "100m")
    asking = {"requests": {"cpu": "200m"}}
    world.apply(daemonset("registry.sim/agent:2", resources=asking))
    world.advance(60)
    told = events(world, "FailedCreate")
    messages = [it["message"] for it in told]

    assert not world.pods(NAMESPACE, NAME)
    assert "exceeded quota: team, requested: requests.cpu=200m" in messages[0]
    assert sum(it.startswith("(combined from similar events): ") for it in messages) == 1
    assert sum(it["count"] for it in told) <= 20


def test_a_missing_service_account_refuses_pods_until_somebody_makes_it():
    world = World(nodes=1)
    world.apply(daemonset(pod={"serviceAccountName": "agent"}))
    world.advance(20)
    (told,) = events(world, "FailedCreate")

    assert told["message"] == (
        'Error creating: pods "agent-" is forbidden: error looking up service account '
        'default/agent: serviceaccount "agent" not found'
    )

    world.make_service_account(NAMESPACE, "agent")
    settle(world)


def test_a_webhook_of_the_api_server_refuses_pods_too():
    world = running(nodes=1)

    def webhook(verb, resource, item, _):
        if (verb, resource) == ("create", "pods"):
            raise AdmissionRefused('admission webhook "pods.example.com" denied the request')
        return item

    world.api.admission.append(webhook)
    world.apply(daemonset("registry.sim/agent:2"))
    world.advance(20)

    assert "denied the request" in events(world, "FailedCreate")[0]["message"]


# ---------------------------------------------------------------------------- owners


def test_deleting_the_daemonset_takes_pods_and_revisions_along():
    world = running(nodes=3)
    delete(world)
    world.advance(30)

    assert world.store.list("pods", NAMESPACE) == []
    assert world.store.list("controllerrevisions", NAMESPACE) == []


def test_orphans_are_adopted_by_the_same_content_without_a_restart():
    world = running(nodes=3)
    pods, revision = uids(world), world.revisions(NAMESPACE, NAME)[0]
    old = world.daemonset(NAMESPACE, NAME)["metadata"]["uid"]
    delete(world, propagationPolicy="Orphan")
    world.advance(5)
    orphaned = world.store.list("pods", NAMESPACE)

    assert len(orphaned) == 3
    assert all("ownerReferences" not in pod["metadata"] for pod in orphaned)

    world.apply(daemonset())
    world.advance(5)
    new = world.daemonset(NAMESPACE, NAME)["metadata"]["uid"]
    (adopted,) = world.revisions(NAMESPACE, NAME)

    assert new != old
    assert uids(world) == pods
    assert adopted["metadata"]["name"] == revision["metadata"]["name"]
    assert is_finished(world)


def test_orphans_of_other_content_pass_for_new_until_the_generations_differ():
    world = running(nodes=3)
    pods = uids(world)
    delete(world, propagationPolicy="Orphan")
    world.advance(5)
    world.apply(daemonset("registry.sim/agent:2"))
    settle(world)

    assert uids(world) == pods  # template generation 1, as the pods' label says

    world.apply(daemonset("registry.sim/agent:3"))
    settle(world)

    assert not uids(world) & pods
    assert len(world.store.list("pods", NAMESPACE)) == 3


def test_a_pod_that_loses_its_label_is_let_go_and_replaced():
    world = running(nodes=2)
    pod = staying(world)[0]
    labels = {**pod["metadata"]["labels"], "app": "quarantined"}
    world.store.update("pods", {**pod, "metadata": {**pod["metadata"], "labels": labels}})
    world.advance(10)
    kept = world.store.get("pods", NAMESPACE, pod["metadata"]["name"])

    assert "ownerReferences" not in kept["metadata"]
    assert len(world.pods(NAMESPACE, NAME)) == 2


# ---------------------------------------------------------------------------- the sums


ACTS = (
    lambda world: world.apply(daemonset("registry.sim/agent:2")),
    lambda world: world.apply(daemonset("registry.sim/agent:3-never-ready")),
    lambda world: world.apply(daemonset("registry.sim/agent:4", spec=rolling(0, 2))),
    lambda world: world.apply(daemonset("registry.sim/agent:5-crash", spec=ON_DELETE)),
    lambda world: world.apply(daemonset(spec={"minReadySeconds": 4, **rolling("50%")})),
    lambda world: world.apply(daemonset(pod={"tolerations": [{"operator": "Exists"}]})),
    lambda world: world.taint("node-1", "drain", "NoExecute"),
    lambda world: world.untaint("node-1", "drain"),
    lambda world: world.taint("node-2", "dedicated", "NoSchedule"),
    lambda world: world.kill_kubelet("node-3"),
    lambda world: world.revive("node-3"),
    lambda world: world.kill_node("node-4"),
    lambda world: world.revive("node-4"),
    lambda world: world.add_node(),
    lambda world: [world.delete_pod(NAMESPACE, it["metadata"]["name"]) for it in staying(world)],
    lambda world: world.advance(60),
)


def counted_anew(world):
    """Count as the real controller does in each sync: all nodes, all pods."""
    live = world.daemonset(NAMESPACE, NAME)
    template, digest = live["spec"]["template"], newest_hash(world)
    tally = dict.fromkeys(Tally._fields, 0)
    for node in world.store.list("nodes"):
        pods = [
            pod
            for pod in world.pods(NAMESPACE, NAME)
            if node_of(pod) == node["metadata"]["name"]
            and not (is_finished_pod(pod) and "deletionTimestamp" in pod["metadata"])
        ]
        if not belongs(template, tolerations_of(template), node).runs:
            tally["misscheduled"] += bool(pods)
            continue
        tally["desired"] += 1
        if not pods:
            continue
        oldest = min(
            pods,
            key=lambda pod: (
                not pod["spec"].get("nodeName"),
                pod["metadata"]["creationTimestamp"],
                pod["metadata"]["name"],
            ),
        )
        seconds = live["spec"].get("minReadySeconds", 0)
        tally["current"] += 1
        tally["ready"] += condition(oldest, "Ready") == "True"
        tally["available"] += is_available(oldest, seconds, world.now)
        tally["updated"] += oldest["metadata"]["labels"][HASH] == digest
    return Tally(**tally)


@settings(max_examples=25, deadline=None)
@given(
    acts=st.lists(
        st.tuples(st.sampled_from(ACTS), st.floats(min_value=0.0, max_value=9.0)), max_size=12
    ),
    seed=st.integers(min_value=0, max_value=99),
)
def test_sums_kept_from_changes_are_those_of_counting_everything(acts, seed):
    world = World(nodes=5, seed=seed)
    world.apply(daemonset())
    for act, wait in acts:
        act(world)
        world.advance(wait)
    world.advance(0.05)  # what the controller has not heard of yet
    while world.controller.is_behind:
        world.advance(0.01)
    world.controller.resync()

    expected = counted_anew(world)
    assert world.controller.tally(NAMESPACE, NAME) == expected
