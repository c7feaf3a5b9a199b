"""Simulated nodes fall silent, come back, join and are tainted as real ones were seen to."""

import pytest
from simulated import (
    NAME,
    NAMESPACE,
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
)

from dsgitops.errors import ClusterUnreachable
from dsgitops.ports import Request
from dsgitops.sim.objects import uid_of
from dsgitops.sim.world import World

BLANKET = {"tolerations": [{"operator": "Exists"}]}


def running(nodes=4, manifest=None):
    """Return a world whose DaemonSet has been available for a minute and a half."""
    world = World(nodes=nodes)
    world.apply(manifest or daemonset())
    settle(world)
    world.advance(90)
    return world


def node(world, name):
    return world.store.get("nodes", "", name)


def taints(world, name):
    return [
        (it["key"].rpartition("/")[2], it["effect"])
        for it in node(world, name)["spec"].get("taints", ())
    ]


def pod_on(world, name):
    return next(it for it in world.pods(NAMESPACE, NAME) if it["spec"].get("nodeName") == name)


# ---------------------------------------------------------------------------- silence


def test_a_dead_kubelet_is_noticed_after_the_grace_period_of_fifty_seconds():
    world = running()
    world.kill_kubelet("node-2")
    world.advance(50)
    before = condition(node(world, "node-2"), "Ready")
    world.advance(8)

    assert before == "True"
    assert condition(node(world, "node-2"), "Ready") == "Unknown"
    assert taints(world, "node-2") == [("unreachable", "NoSchedule"), ("unreachable", "NoExecute")]


def test_only_ready_of_its_pods_turns_false_and_without_a_reason():
    world = running()
    world.kill_kubelet("node-2")
    world.advance(60)
    pod = pod_on(world, "node-2")
    ready = next(it for it in pod["status"]["conditions"] if it["type"] == "Ready")

    assert ready["status"] == "False"
    assert "reason" not in ready
    assert condition(pod, "ContainersReady") == "True"
    assert pod["status"]["containerStatuses"][0]["ready"] is True
    assert "deletionTimestamp" not in pod["metadata"]  # DaemonSet pods are never evicted for it
    told = [it for it in events(world, "NodeNotReady") if it["involvedObject"]["kind"] == "Pod"]
    assert [it["message"] for it in told] == ["Node is not ready"]


def test_a_pod_that_was_not_ready_gets_neither_a_line_nor_an_event():
    world = World(nodes=1)
    world.apply(daemonset("registry.sim/agent:1-never-ready"))
    world.advance(30)
    before = pod_on(world, "node-1")
    world.kill_kubelet("node-1")
    world.advance(60)

    assert pod_on(world, "node-1") is before


def test_the_node_comes_back_and_its_pods_are_ready_again_without_a_restart():
    world = running()
    world.kill_kubelet("node-2")
    world.advance(80)
    world.revive("node-2")
    world.advance(10)
    pod = pod_on(world, "node-2")

    assert taints(world, "node-2") == []
    assert condition(pod, "Ready") == "True"
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 0


def test_a_kubelet_that_restarts_within_the_grace_period_flickers_nothing():
    world = running()
    lines = []
    world.store.subscribe(lambda kind, resource, _: lines.append((kind, resource)))
    world.restart_kubelet("node-2", 8)
    world.advance(60)

    assert {resource for _, resource in lines} == {"events"}


def test_power_loss_ends_containers_with_unknown_255_and_one_restart():
    world = running()
    world.kill_node("node-2")
    world.advance(100)
    world.revive("node-2")
    world.advance(20)
    (container,) = pod_on(world, "node-2")["status"]["containerStatuses"]

    assert container["restartCount"] == 1
    assert container["lastState"]["terminated"]["reason"] == "Unknown"
    assert container["lastState"]["terminated"]["exitCode"] == 255
    assert container["ready"] is True
    assert len(events(world, "SandboxChanged")) == 1


# ---------------------------------------------------------------------------- without the API


def get(world):
    """Ask for the DaemonSet, as a client would."""
    path = f"/apis/apps/v1/namespaces/{NAMESPACE}/daemonsets/{NAME}"
    return world.transport().send(Request(method="GET", path=path))


def test_while_the_api_is_away_connections_are_refused_and_nothing_is_written():
    world = running()
    world.apply(daemonset("registry.sim/agent:2"))
    world.stop_api(20)
    version = world.store.version

    with pytest.raises(ClusterUnreachable) as refused:
        get(world)
    assert refused.value.landed is False
    world.advance(19.9)
    assert world.store.version == version
    world.advance(0.2)
    assert get(world).status == 200
    settle(world)
    assert hashes(world) == {newest_hash(world): 4}


def test_a_short_outage_of_the_api_lets_no_node_look_silent():
    world = running()
    lines = []
    world.store.subscribe(lambda kind, resource, _: lines.append((kind, resource)))
    world.stop_api(30)
    world.advance(120)

    assert {resource for _, resource in lines} <= {"events"}


def test_after_a_minute_without_the_api_nodes_look_silent_until_they_are_heard():
    world = running(nodes=12)
    before = {uid_of(pod) for pod in world.pods(NAMESPACE, NAME)}
    world.stop_api(60)
    looked = []
    for _ in range(200):
        world.advance(0.5)
        looked.append({condition(node(world, name), "Ready") for name in world.kubelets})

    seconds = [number / 2 for number, seen in enumerate(looked, 1) if "Unknown" in seen]
    assert 60 <= seconds[0] <= 65
    assert seconds[-1] <= 71
    assert looked[-1] == {"True"}
    pods = world.pods(NAMESPACE, NAME)
    assert {uid_of(pod) for pod in pods} == before
    assert {condition(pod, "Ready") for pod in pods} == {"True"}


# ---------------------------------------------------------------------------- what the status says


def test_desired_is_not_counted_anew_when_a_node_of_a_pod_that_was_not_ready_falls_silent():
    world = World(nodes=3)
    world.apply(daemonset("registry.sim/agent:1-never-ready"))
    world.advance(30)
    world.kill_kubelet("node-2")
    world.advance(120)

    assert status(world)["desiredNumberScheduled"] == 3


@pytest.mark.parametrize(
    ("pod", "expected"),
    [
        (BLANKET, {"desiredNumberScheduled": 4, "numberUnavailable": 2, "numberMisscheduled": 0}),
        ({}, {"desiredNumberScheduled": 2, "numberUnavailable": 0, "numberMisscheduled": 2}),
    ],
)
def test_the_same_outage_has_two_pictures_with_and_without_a_blanket_toleration(pod, expected):
    world = running(manifest=daemonset(pod=pod))
    world.kill_kubelet("node-2")
    world.kill_kubelet("node-3")
    world.advance(70)
    world.controller.resync()
    counts = status(world)

    assert counts["numberReady"] == 2
    assert {key: counts.get(key, 0) for key in expected} == expected


@pytest.mark.parametrize("pod", [BLANKET, {}])
def test_a_dead_node_blocks_a_rollout_with_max_unavailable_one(pod):
    world = running(manifest=daemonset(pod=pod))
    world.kill_kubelet("node-2")
    world.advance(70)
    world.apply(daemonset("registry.sim/agent:2", pod=pod))
    world.advance(300)

    assert "deletionTimestamp" in pod_on(world, "node-2")["metadata"]
    assert newest_hash(world) not in hashes(world)

    world.revive("node-2")
    settle(world)


def test_with_a_larger_budget_all_but_the_dead_node_are_updated():
    world = running(manifest=daemonset(spec=rolling(2)))
    world.kill_kubelet("node-2")
    world.advance(70)
    world.apply(daemonset("registry.sim/agent:2", spec=rolling(2)))
    world.advance(300)

    assert hashes(world) == {newest_hash(world): 3}


# ---------------------------------------------------------------------------- people


def test_a_joining_node_is_not_ready_for_a_second_and_gets_its_pod_when_the_taint_is_gone():
    world = running(nodes=2)
    made = []
    world.store.subscribe(
        lambda kind, resource, item: (
            made.append(taints(world, "node-3")) if (kind, resource) == ("ADDED", "pods") else None
        )
    )
    world.add_node()
    first = taints(world, "node-3")
    world.advance(10)

    assert first == [("not-ready", "NoSchedule")]
    assert made == [[]]
    assert is_finished(world)
    assert status(world)["desiredNumberScheduled"] == 3


def test_a_node_taken_out_leaves_desired_and_its_pod_is_collected():
    world = running(nodes=3)
    world.remove_node("node-3")
    world.advance(60)
    world.controller.resync()

    assert status(world)["desiredNumberScheduled"] == 2
    assert len(world.pods(NAMESPACE, NAME)) == 2


def test_a_cordoned_node_is_tainted_and_rolled_like_any_other():
    world = running(nodes=2)
    world.cordon("node-1")
    world.advance(1)
    assert taints(world, "node-1") == [("unschedulable", "NoSchedule")]

    world.apply(daemonset("registry.sim/agent:2"))
    settle(world)
    world.uncordon("node-1")
    world.advance(1)

    assert taints(world, "node-1") == []


def test_a_no_execute_taint_drops_the_node_and_the_condition_comes_after_the_deletion():
    world = running(nodes=2)
    told = []
    world.store.subscribe(
        lambda _, resource, item: (
            told.append(
                ("deletionTimestamp" in item["metadata"], condition(item, "DisruptionTarget"))
            )
            if resource == "pods"
            else None
        )
    )
    world.taint("node-1", "maintenance", "NoExecute")
    world.advance(10)

    assert told[0] == (True, None)
    assert (True, "True") in told
    assert status(world)["desiredNumberScheduled"] == 1
    assert len(events(world, "TaintManagerEviction")) == 1

    world.untaint("node-1", "maintenance")
    world.advance(10)

    assert len(staying(world)) == 2


def test_a_label_that_stops_matching_takes_the_pod_away_at_once():
    world = World(nodes=3)
    for name in world.kubelets:
        world.label(name, pool="a")
    world.apply(daemonset(pod={"nodeSelector": {"pool": "a"}}))
    settle(world)
    world.label("node-1", pool=None)
    world.label("node-2", pool="b")
    world.advance(5)

    assert [pod["spec"]["nodeName"] for pod in staying(world)] == ["node-3"]
    assert status(world)["desiredNumberScheduled"] == 1


def test_a_no_schedule_taint_keeps_the_pod_but_calls_it_misscheduled():
    world = running(nodes=2)
    world.taint("node-1", "dedicated", "NoSchedule")
    world.advance(1)
    world.controller.resync()

    assert len(staying(world)) == 2
    assert status(world)["desiredNumberScheduled"] == 1
    assert status(world)["numberMisscheduled"] == 1


def test_a_pod_with_toleration_seconds_is_evicted_when_they_are_over():
    world = running(nodes=1)
    pod = pod_on(world, "node-1")
    toleration = {"key": "drain", "operator": "Exists", "effect": "NoExecute"}
    lonely = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "lonely", "namespace": NAMESPACE, "labels": {}},
        "spec": {**pod["spec"], "tolerations": [{**toleration, "tolerationSeconds": 20}]},
        "status": {"phase": "Pending"},
    }
    world.store.create("pods", lonely)
    world.advance(5)
    world.taint("node-1", "drain", "NoExecute")
    world.advance(15)
    before = world.store.get("pods", NAMESPACE, "lonely")
    world.advance(15)

    assert "deletionTimestamp" not in before["metadata"]
    assert world.store.get("pods", NAMESPACE, "lonely") is None


def test_a_broken_network_keeps_the_node_ready_and_its_pod_from_starting():
    world = running(nodes=2)
    world.break_network("node-1")
    world.delete_pod(NAMESPACE, pod_on(world, "node-1")["metadata"]["name"])
    world.advance(60)
    (pod,) = [it for it in staying(world) if it["spec"]["nodeName"] == "node-1"]

    assert condition(node(world, "node-1"), "Ready") == "True"
    assert condition(pod, "PodReadyToStartContainers") == "False"
    assert len(events(world, "FailedCreatePodSandBox")) >= 3

    world.mend_network("node-1")
    world.advance(20)

    assert is_finished(world)


def test_a_pod_that_cannot_be_taken_down_is_terminating_far_beyond_its_grace():
    world = running(nodes=1)
    world.break_network("node-1", teardown=True)
    world.delete_pod(NAMESPACE, pod_on(world, "node-1")["metadata"]["name"])
    world.advance(60)
    (pod,) = world.pods(NAMESPACE, NAME)

    assert pod["status"]["phase"] == "Running"
    assert "terminated" in pod["status"]["containerStatuses"][0]["state"]
    assert "KillPodSandboxError" in events(world, "FailedKillPod")[0]["message"]
