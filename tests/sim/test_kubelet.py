"""Simulated kubelets run what the image says, and tell it in the words of real ones."""

from itertools import pairwise

import pytest
from simulated import NAMESPACE, condition, daemonset, events, settle, staying

from dsgitops.sim.behaviours import invalid_name, program_of, pull_error, tag_of
from dsgitops.sim.world import World


def one_node(manifest):
    """Return a world of one node, and let it run the DaemonSet for a while."""
    world = World(nodes=1)
    world.apply(manifest)
    return world


def container(world):
    (pod,) = staying(world)
    return pod["status"]["containerStatuses"][0]


def waiting_of(world):
    return container(world)["state"].get("waiting", {}).get("reason")


# ---------------------------------------------------------------------------- a healthy start


@pytest.mark.parametrize(
    "image",
    [
        "quay.io/prometheus/node-exporter:v1.12.1",
        "fluent/fluentd-kubernetes-daemonset:v1-debian-forward",
        "ghcr.io/k8snetworkplumbingwg/multus-cni:snapshot-thick",
        "sysdig/agent",
        "alpine:3.17",
    ],
)
def test_an_ordinary_image_is_ready_within_two_seconds_whatever_its_probes_ask(image):
    probe = {"httpGet": {"path": "/-/ready", "port": 2020}}
    world = one_node(daemonset(image, readinessProbe=probe, livenessProbe=probe))
    settle(world, within=3)

    warnings = {it["reason"] for it in world.store.list("events") if it["type"] == "Warning"}
    assert warnings <= {"Unhealthy"}  # a probe that came a moment too early


def test_an_image_is_pulled_once_a_node_and_then_present():
    world = one_node(daemonset())
    settle(world)
    world.delete_pod(NAMESPACE, staying(world)[0]["metadata"]["name"])
    world.advance(10)
    pulled = [it["message"] for it in events(world, "Pulled")]

    assert len(events(world, "Pulling")) == 1
    assert any(it.startswith("Successfully pulled image") for it in pulled)
    assert any("already present on machine" in it for it in pulled)


def test_the_status_has_the_shape_that_kubelets_write():
    world = one_node(daemonset())
    settle(world)
    (pod,) = staying(world)

    assert [it["type"] for it in pod["status"]["conditions"]] == [
        "PodReadyToStartContainers",
        "Initialized",
        "Ready",
        "ContainersReady",
        "PodScheduled",
    ]
    assert set(container(world)) == {
        "name",
        "state",
        "lastState",
        "ready",
        "restartCount",
        "image",
        "imageID",
        "containerID",
        "started",
    }
    assert pod["metadata"]["labels"]["topology.kubernetes.io/zone"] == "a"


def test_a_readiness_probe_with_an_initial_delay_is_not_asked_before():
    probe = {"httpGet": {"path": "/", "port": 8080}, "initialDelaySeconds": 15}
    world = one_node(daemonset("registry.sim/agent:1-slow-8s", readinessProbe=probe))
    world.advance(15)
    before = condition(staying(world)[0], "Ready")
    world.advance(5)

    assert before == "False"
    assert condition(staying(world)[0], "Ready") == "True"
    assert events(world, "Unhealthy") == []


def test_a_slow_start_beyond_its_probe_s_threshold_is_healthy_in_the_end():
    world = one_node(daemonset("registry.sim/agent:1-slow-25s"))
    world.advance(20)
    assert condition(staying(world)[0], "Ready") == "False"

    settle(world, within=15)

    assert container(world)["restartCount"] == 0


# ---------------------------------------------------------------------------- behaviours

CASES = {
    "crash": (daemonset("registry.sim/agent:1-crash"), "CrashLoopBackOff", 1, "BackOff"),
    "no such tag": (
        daemonset("registry.sim/agent:1-missing"),
        ("ErrImagePull", "ImagePullBackOff"),
        0,
        "Failed",
    ),
    "registry down": (
        daemonset("down.example/agent:1"),
        ("ErrImagePull", "ImagePullBackOff"),
        0,
        "Failed",
    ),
    "bad name": (daemonset("registry.sim/Agent:1"), "InvalidImageName", 0, "InspectFailed"),
    "never pull": (
        daemonset("dev.local/agent:9", imagePullPolicy="Never"),
        "ErrImageNeverPull",
        0,
        "ErrImageNeverPull",
    ),
    "no ConfigMap": (
        daemonset(envFrom=[{"configMapRef": {"name": "settings"}}]),
        "CreateContainerConfigError",
        0,
        "Failed",
    ),
    "root": (
        daemonset("registry.sim/agent:1-root", securityContext={"runAsNonRoot": True}),
        "CreateContainerConfigError",
        0,
        "Failed",
    ),
    "no such command": (
        daemonset(command=["/bin/nonesuch"]),
        ("RunContainerError", "CrashLoopBackOff"),
        1,
        "BackOff",
    ),
    "hook": (
        daemonset(lifecycle={"postStart": {"exec": {"command": ["sh", "-c", "exit 5"]}}}),
        ("PostStartHookError", "CrashLoopBackOff"),
        1,
        "FailedPostStartHook",
    ),
    "no volume": (
        daemonset(pod={"volumes": [{"name": "conf", "configMap": {"name": "settings"}}]}),
        "ContainerCreating",
        0,
        "FailedMount",
    ),
    "host path": (
        daemonset(
            pod={
                "volumes": [
                    {"name": "log", "hostPath": {"path": "/var/log/nonesuch", "type": "File"}}
                ]
            }
        ),
        "ContainerCreating",
        0,
        "FailedMount",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_cannot_start_says_why(case):
    manifest, reasons, restarts, event = CASES[case]
    world = one_node(manifest)
    reasons = (reasons,) if isinstance(reasons, str) else reasons
    seen = set()
    for _ in range(60):
        world.advance(0.5)
        seen.add(waiting_of(world))

    assert seen & set(reasons)
    assert container(world)["restartCount"] >= restarts
    assert condition(staying(world)[0], "Ready") == "False"
    assert events(world, event)


def test_a_missing_config_map_is_found_once_somebody_makes_it():
    world = one_node(daemonset(envFrom=[{"configMapRef": {"name": "settings"}}]))
    world.advance(30)
    world.make_config_map(NAMESPACE, "settings", {})

    settle(world, within=30)


def test_a_missing_key_of_a_config_map_is_named():
    reference = {"configMapKeyRef": {"name": "settings", "key": "level"}}
    world = World(nodes=1)
    world.make_config_map(NAMESPACE, "settings", {"other": "x"})
    world.apply(daemonset(env=[{"name": "LEVEL", "valueFrom": reference}]))
    world.advance(5)
    message = container(world)["state"]["waiting"]["message"]

    assert message == "couldn't find key level in ConfigMap default/settings"


def test_restarts_are_immediate_once_and_then_ever_later():
    world = one_node(daemonset("registry.sim/agent:1-crash"))
    born = []
    world.store.subscribe(
        lambda _, resource, item: (
            born.append(world.clock.seconds)
            if resource == "events" and item["reason"] == "Started"
            else None
        )
    )
    world.advance(200)
    gaps = [later - earlier for earlier, later in pairwise(born)]

    assert gaps[0] < 1
    assert 10 <= gaps[1] <= 15
    assert 20 <= gaps[2] <= 25
    assert 40 <= gaps[3] <= 45


def test_crash_loop_back_off_is_shown_during_the_back_off_or_only_just_before_its_end():
    def seconds_shown(seed):
        world = World(nodes=1, seed=seed)
        world.apply(daemonset("registry.sim/agent:1-exit0"))
        world.advance(5)
        shown = 0.0
        for _ in range(200):
            world.advance(0.05)
            shown += 0.05 if waiting_of(world) == "CrashLoopBackOff" else 0
        return shown

    shown = [seconds_shown(seed) for seed in range(1, 9)]

    assert min(shown) < 1
    assert max(shown) > 5


def test_an_oom_kill_is_told_in_the_last_state():
    limits = {"limits": {"memory": "32Mi"}}
    world = one_node(daemonset("registry.sim/agent:1-oom", resources=limits))
    world.advance(40)
    last = container(world)["lastState"]["terminated"]

    assert (last["reason"], last["exitCode"]) == ("OOMKilled", 137)


def test_a_liveness_kill_leaves_its_name_in_an_event_only():
    live = {"httpGet": {"path": "/never", "port": 8080}, "periodSeconds": 2}
    world = one_node(daemonset("registry.sim/agent:1-stubborn", livenessProbe=live))
    world.advance(20)
    (killing,) = events(world, "Killing")
    last = container(world)["lastState"]["terminated"]

    assert killing["message"] == "Container agent failed liveness probe, will be restarted"
    assert (last["reason"], last["exitCode"]) == ("Error", 137)


def test_a_startup_probe_bounds_the_start():
    start = {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 2, "failureThreshold": 5}
    world = one_node(daemonset("registry.sim/agent:1-slow-25s", startupProbe=start))
    world.advance(9)
    assert container(world)["started"] is False
    world.advance(60)

    assert container(world)["restartCount"] >= 2
    assert events(world, "Killing")[0]["message"].endswith(
        "failed startup probe, will be restarted"
    )


def test_a_failing_init_container_keeps_the_pod_pending():
    setup = {"name": "setup", "image": "registry.sim/setup:1-crash"}
    world = one_node(daemonset(pod={"initContainers": [setup]}))
    world.advance(20)
    (pod,) = staying(world)

    assert pod["status"]["phase"] == "Pending"
    assert condition(pod, "Initialized") == "False"
    assert waiting_of(world) == "PodInitializing"
    assert pod["status"]["initContainerStatuses"][0]["restartCount"] >= 1


@pytest.mark.parametrize("tag", ["1", "1-exit0"])
def test_an_init_container_that_succeeds_lets_the_others_start(tag):
    setup = {"name": "setup", "image": f"registry.sim/setup:{tag}"}
    world = one_node(daemonset(pod={"initContainers": [setup]}))

    settle(world, within=10)


def test_a_sidecar_that_is_not_ready_is_named_in_the_message():
    proxy = {
        "name": "proxy",
        "image": "registry.sim/proxy:1",
        "restartPolicy": "Always",
        "readinessProbe": {"httpGet": {"path": "/never", "port": 9090}},
    }
    world = one_node(daemonset(pod={"initContainers": [proxy]}))
    world.advance(20)
    (pod,) = staying(world)
    ready = next(it for it in pod["status"]["conditions"] if it["type"] == "Ready")

    assert container(world)["ready"] is True
    assert ready["message"] == "containers with unready status: [proxy]"


def test_a_readiness_gate_that_nobody_sets_keeps_the_pod_from_ready_until_somebody_does():
    world = one_node(daemonset(pod={"readinessGates": [{"conditionType": "example.com/in"}]}))
    world.advance(10)
    (pod,) = staying(world)
    assert condition(pod, "ContainersReady") == "True"
    assert condition(pod, "Ready") == "False"

    gate = {"type": "example.com/in", "status": "True"}
    conditions = [*pod["status"]["conditions"], gate]
    world.store.update("pods", {**pod, "status": {**pod["status"], "conditions": conditions}})
    world.advance(5)

    assert condition(staying(world)[0], "Ready") == "True"


def test_a_pod_that_asks_for_more_than_the_node_has_stays_unbound():
    world = one_node(daemonset(resources={"requests": {"cpu": "64"}}))
    world.advance(10)
    (pod,) = staying(world)
    (scheduled,) = pod["status"]["conditions"]

    assert "nodeName" not in pod["spec"]
    assert scheduled["reason"] == "Unschedulable"
    assert "Insufficient cpu" in scheduled["message"]


def test_a_host_port_is_free_again_when_the_pod_that_had_it_is_over():
    ports = [{"containerPort": 8080, "hostPort": 8080}]
    world = one_node(daemonset(ports=ports))
    settle(world)
    world.apply(daemonset("registry.sim/agent:2", ports=ports))

    settle(world)


def test_an_overfilled_empty_dir_has_the_pod_evicted_again_and_again():
    volumes = [{"name": "cache", "emptyDir": {"sizeLimit": "4Mi"}}]
    world = one_node(daemonset("registry.sim/agent:1-fills-disk", pod={"volumes": volumes}))
    phases = []
    world.store.subscribe(
        lambda _, resource, item: (
            phases.append((item["status"]["phase"], item["status"].get("reason")))
            if resource == "pods"
            else None
        )
    )
    world.advance(120)

    assert ("Failed", "Evicted") in phases
    assert "exceeds the limit" in events(world, "Evicted")[0]["message"]
    assert events(world, "FailedDaemonPod")
    assert condition(staying(world)[0], "DisruptionTarget") is None


# ---------------------------------------------------------------------------- leaving


@pytest.mark.parametrize(
    ("image", "phase", "code", "longest"),
    [
        ("registry.sim/agent:1", "Succeeded", 0, 2),
        ("registry.sim/agent:1-stubborn", "Failed", 137, 12),
    ],
)
def test_software_that_heeds_sigterm_leaves_early_and_the_rest_at_its_grace(
    image, phase, code, longest
):
    world = one_node(daemonset(image, pod={"terminationGracePeriodSeconds": 10}))
    settle(world)
    (pod,) = staying(world)
    last = []
    world.store.subscribe(
        lambda kind, _, item: (
            last.append((world.clock.seconds, item))
            if kind == "DELETED" and item["metadata"]["name"] == pod["metadata"]["name"]
            else None
        )
    )
    start = world.clock.seconds
    world.delete_pod(NAMESPACE, pod["metadata"]["name"])
    world.advance(20)
    ((at, gone),) = last

    assert gone["status"]["phase"] == phase
    state = gone["status"]["containerStatuses"][0]["state"]["terminated"]
    assert state["exitCode"] == code
    assert at - start < longest


def test_a_pre_stop_hook_takes_its_time_within_the_grace():
    hook = {"preStop": {"sleep": {"seconds": 20}}}
    world = one_node(daemonset(lifecycle=hook, pod={"terminationGracePeriodSeconds": 60}))
    settle(world)
    (pod,) = staying(world)
    world.delete_pod(NAMESPACE, pod["metadata"]["name"])
    world.advance(19)
    still = world.store.get("pods", NAMESPACE, pod["metadata"]["name"])
    world.advance(5)

    assert still["status"]["phase"] == "Running"
    assert world.store.get("pods", NAMESPACE, pod["metadata"]["name"]) is None


def test_no_pod_is_told_more_than_twenty_five_warnings_in_a_row():
    world = one_node(daemonset("registry.sim/agent:1-never-ready"))
    world.advance(120)

    assert sum(it["count"] for it in events(world, "Unhealthy")) == 25


# ---------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("image", "tag"),
    [
        ("alpine", "latest"),
        ("alpine:3.17", "3.17"),
        ("registry.example:5003/agent", "latest"),
        ("registry.example:5003/agent:2", "2"),
        ("agent:2@sha256:" + "0" * 64, "2"),
    ],
)
def test_tags_are_told_from_ports_and_digests(image, tag):
    assert tag_of(image) == tag


@pytest.mark.parametrize(
    ("image", "valid"),
    [
        ("alpine", True),
        ("registry.example:5003/team/agent:2", True),
        ("agent@sha256:" + "0" * 64, True),
        ("registry.example:5003/Agent:2", False),
        ("a b", False),
        ("x:", False),
        ("::::", False),
    ],
)
def test_names_that_are_none_are_refused_by_the_kubelet(image, valid):
    assert (invalid_name(image) is None) == valid


def test_denied_says_does_not_exist_too_and_only_an_unknown_tag_has_the_rpc_prefix():
    denied = pull_error("registry.sim/agent:1-denied")
    unknown = pull_error("registry.sim/agent:1-missing")

    assert "repository does not exist or may require authorization" in denied
    assert unknown.startswith("rpc error: code = NotFound")
    assert not denied.startswith("rpc error")
    assert "no such host" in pull_error("registry.invalid/agent:1")
    assert "503 Service Unavailable" in pull_error("503.example/agent:1")


def test_busybox_follows_its_script():
    script = "sleep 4; echo ok > /index.html; exec httpd -f -p 9100 -h /"
    program = program_of({"image": "dev.local/agent:1", "command": ["sh", "-c", script]})

    assert program.ports == frozenset({9100})
    assert not program.is_up(3.9)
    assert program.is_up(4.1)
    assert program.pages == frozenset({"/"})
