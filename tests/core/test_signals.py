"""What one pod's state says, in the words of real kubelets."""

from __future__ import annotations

from dataclasses import replace

import pytest
from core.rollouts import (
    Rollout,
    at,
    conditions,
    ended,
    event,
    node,
    old,
    ready,
    template,
    unready,
)

from dsgitops.core.model import Condition, Container, FailureClass, Verdict
from dsgitops.core.signals import Weight

PULL = (
    'failed to pull and unpack image "r.io/agent:2": failed to resolve reference "r.io/agent:2": '
)


def said(pod, *events, when=20, previous=None, spec=None, **changes):
    """What one broken pod among healthy old ones comes to."""
    fleet = Rollout([pod, old("b"), old("c")], **changes).hear(*events)
    if spec is not None:
        fleet.template["spec"] |= spec
    judgement = fleet.judge(when, previous_template=previous or template("agent:1"))
    return judgement.verdict, judgement.failure_class


def waiting(reason, message="", **container):
    return unready("a", waiting_reason=reason, waiting_message=message, **container)


@pytest.mark.parametrize("reason", ["ErrImagePull", "ImagePullBackOff"])
@pytest.mark.parametrize(
    ("cause", "verdict", "name"),
    [
        ("r.io/agent:2: not found", "Failed", "ImageNotFound"),
        ("rpc error: code = NotFound desc = x", "Failed", "ImageNotFound"),
        ("no match for platform in manifest: not found", "Failed", "ImageNotFound"),
        (
            (
                "pull access denied, repository does not exist or may require authorization: "
                "server message: insufficient_scope: authorization failed"
            ),
            "Failed",
            "ImagePullDenied",
        ),
        ("unexpected status from HEAD request: 403 Forbidden", "Failed", "ImagePullDenied"),
        (
            "pulling from host r.io failed with status code [manifests 2]: 503 Service Unavailable",
            "Progressing",
            "ImagePullFailed",
        ),
        ("dial tcp: lookup r.io: no such host", "Progressing", "ImagePullFailed"),
        ("dial tcp 10.0.0.1:443: connect: connection refused", "Progressing", "ImagePullFailed"),
        ("toomanyrequests: denied: rate limit", "Progressing", "ImagePullFailed"),
        ("something nobody has seen before", "Progressing", "ImagePullFailed"),
    ],
)
def test_a_failed_pull_is_the_images_fault_or_the_registrys(reason, cause, verdict, name):
    message = PULL + cause
    if reason == "ImagePullBackOff":
        message = f'Back-off pulling image "r.io/agent:2": ErrImagePull: {message}'

    assert said(waiting(reason, message)) == (verdict, name)


@pytest.mark.parametrize("image", ["r.io/unauthorized:1", "r.io/not-found/denied:404"])
def test_the_name_of_an_image_says_nothing_about_its_pull(image):
    message = f'failed to resolve reference "{image}": {image}: 503 Service Unavailable'

    assert said(waiting("ErrImagePull", message)) == ("Progressing", "ImagePullFailed")


def test_the_event_tells_the_cause_of_a_pull_before_the_status_does():
    pod = waiting("ContainerCreating")
    failed = event(pod, "Failed", f'Failed to pull image "r.io/agent:2": {PULL}x: not found')

    assert said(pod, failed) == ("Failed", "ImageNotFound")


def test_a_full_disk_is_the_nodes_fault():
    fleet = Rollout([waiting("ErrImagePull", "write /x: no space left on device"), old("b")])

    judgement = fleet.judge()

    assert judgement.verdict is Verdict.NODE_PROBLEM
    assert judgement.states["a"] == "badNode"


@pytest.mark.parametrize(
    ("reason", "message", "name"),
    [
        ("InvalidImageName", "couldn't parse image name", "InvalidImageName"),
        ("SignatureValidationFailed", "no signature", "ImagePullDenied"),
        ("CreateContainerConfigError", 'configmap "conf" not found', "ConfigError"),
        ("CreateContainerConfigError", "couldn't find key k in Secret ns/s", "ConfigError"),
        ("PostStartHookError", "command exited with 5", "HookFailed"),
        ("RunContainerError", 'exec: "/x": stat /x: no such file or directory', "StartError"),
    ],
)
def test_what_the_manifest_got_wrong_fails_on_one_node(reason, message, name):
    assert said(waiting(reason, message)) == ("Failed", name)


@pytest.mark.parametrize(
    ("reason", "message", "name"),
    [
        ("ErrImageNeverPull", "not present with pull policy of Never", "ImageNotFound"),
        ("RunContainerError", "failed to write cgroup: device busy", "StartError"),
    ],
)
def test_what_could_be_the_node_needs_two_nodes_or_the_deadline(reason, message, name):
    one = waiting(reason, message)
    two = replace(one, name="new-b", uid="new-b", node="b")

    assert Rollout([one, old("b"), old("c")]).judge(20).verdict is Verdict.PROGRESSING
    assert Rollout([one, two, old("c")]).judge(20).failure_class == name
    assert Rollout([one, old("b"), old("c")]).judge(81).failure_class == name


@pytest.mark.parametrize(
    ("message", "verdict"),
    [
        ('configmap "conf" not found', "Failed"),
        ("container has runAsNonRoot and image will run as root (pod: x)", "Failed"),
        ('failed to reserve container name "a_0": name "a_0" is reserved', "Progressing"),
        ("failed to create containerd container: no space left on device", "Progressing"),
    ],
)
def test_an_event_tells_of_a_bad_configuration_and_not_of_a_runtime(message, verdict):
    pod = waiting("ContainerCreating")

    assert said(pod, event(pod, "Failed", f"Error: {message}"))[0] == verdict


@pytest.mark.parametrize("reason", ["RunContainerError", "CreateContainerError"])
def test_a_node_without_space_to_start_a_container_is_the_nodes_matter(reason):
    one = waiting(reason, "failed to create shim task: mkdir /run/x: no space left on device")
    two = replace(one, name="new-b", uid="new-b", node="b")

    assert Rollout([one, old("b"), old("c")]).judge(500).verdict is Verdict.NODE_PROBLEM
    assert Rollout([one, two, old("c")]).judge(20).verdict is Verdict.NODE_PROBLEM


@pytest.mark.parametrize(
    "message",
    ["context deadline exceeded", 'failed to reserve container name "a_0": name "a_0" is reserved'],
)
def test_a_runtime_that_is_slow_is_waited_for(message):
    one = waiting("CreateContainerError", message)
    two = replace(one, name="new-b", uid="new-b", node="b")
    fleet = Rollout([one, two, old("c")])

    assert fleet.judge(500).verdict is Verdict.PROGRESSING
    assert fleet.judge(5000).failure_class == "StartError"


@pytest.mark.parametrize(
    "message",
    [
        "failed to sync configmap cache: timed out waiting for the condition",
        "host IP unknown; known addresses: []",
        'cannot find volume "kube-api-access-ln85q" to mount into container "agent"',
    ],
)
def test_what_the_kubelet_does_not_know_yet_is_waited_for(message):
    assert said(waiting("CreateContainerConfigError", message))[0] == "Progressing"


# ---------------------------------------------------------------------------- ends


def test_the_second_end_of_a_container_is_a_crash_loop_whatever_the_waiting_reason_says():
    once = unready("a", terminated=ended(finished=7))
    again = unready("a", restarts=1, last=ended(finished=7))
    twice = unready("a", restarts=1, terminated=ended(finished=9), last=ended(finished=7))
    backing_off = unready(
        "a", restarts=1, waiting_reason="CrashLoopBackOff", last=ended(finished=9)
    )

    assert said(once)[0] == "Progressing"
    assert said(again)[0] == "Progressing"
    assert said(twice) == ("Failed", "CrashLoop")
    assert said(backing_off) == ("Failed", "CrashLoop")


def test_exit_code_0_is_no_success_for_a_daemonset():
    end = ended(0, reason="Completed", finished=9)

    assert said(unready("a", restarts=1, terminated=end)) == ("Failed", "CrashLoop")


def test_one_hitch_at_the_start_of_every_pod_is_no_failure():
    hitch = Container(
        name="agent",
        ready=True,
        started=True,
        restarts=1,
        running_since=at(9),
        last=ended(finished=8),
    )
    pods = [ready(name, containers=(hitch,)) for name in "abc"]

    assert Rollout(pods).judge().verdict is Verdict.FINISHED
    assert Rollout(pods).judge(baking_since=at(12)).verdict is Verdict.FINISHED


def test_containers_that_were_up_and_broke_on_two_nodes_are_a_failure():
    broken = Container(
        name="agent",
        ready=True,
        started=True,
        restarts=1,
        running_since=at(41),
        last=ended(finished=40, lasted=30),
    )

    one = Rollout([ready("a", containers=(broken,)), ready("b")]).judge(50)
    two = Rollout([ready(name, containers=(broken,)) for name in "ab"]).judge(50)

    assert one.verdict is Verdict.FINISHED
    assert (two.verdict, two.failure_class) == ("Failed", "CrashLoop")


@pytest.mark.parametrize("reason", ["Unknown", "ContainerStatusUnknown"])
def test_an_end_that_came_with_the_node_is_nobodys_crash(reason):
    lost = unready("a", restarts=2, last=ended(255, reason=reason, finished=9))

    assert said(lost)[0] == "Progressing"


def test_ends_before_the_node_came_back_belong_to_its_outage():
    pod = unready("a", restarts=2, last=ended(137, finished=30))
    nodes = [node("a", ready_since=at(32)), node("b")]

    assert Rollout([pod, old("b")], nodes=nodes).judge(40).verdict is Verdict.PROGRESSING


def test_out_of_memory_needs_two_nodes_unless_the_change_lowered_the_limit():
    pod = unready("a", restarts=1, last=ended(137, reason="OOMKilled", finished=9))
    small = template(resources={"limits": {"memory": "32Mi"}})
    large = template(resources={"limits": {"memory": "64Mi"}})

    assert said(pod, template=small, previous=small)[0] == "Progressing"
    assert said(pod, template=small, previous=large) == ("Failed", "OOMKilled")
    both = [pod, replace(pod, name="new-b", uid="new-b", node="b")]
    assert Rollout(both, template=small).judge(previous_template=small).failure_class == "OOMKilled"


def test_137_alone_is_not_out_of_memory():
    pod = unready("a", restarts=1, terminated=ended(137, finished=9))

    assert said(pod) == ("Failed", "CrashLoop")


@pytest.mark.parametrize(
    ("probe", "name"), [("liveness", "LivenessProbeFailed"), ("startup", "StartupProbeFailed")]
)
def test_a_kill_by_a_probe_is_told_by_its_event_alone(probe, name):
    pod = ready("a")
    message = f"Container agent failed {probe} probe, will be restarted"

    assert said(pod, event(pod, "Killing", message)) == ("Failed", name)
    assert said(pod, event(pod, "Killing", "Stopping container agent"))[0] == "Progressing"


def test_a_kill_from_before_the_rollout_speaks_against_nobody():
    """A revision that ran before the agent came is watched, and Events last an hour."""
    pod = ready("a", since=-7200)
    killed = event(
        pod, "Killing", "Container agent failed liveness probe, will be restarted", when=-60
    )
    again = replace(killed, count=2, last=at(8))

    assert said(pod, killed)[0] == "Progressing"
    assert said(pod, killed, again) == ("Failed", "LivenessProbeFailed")


def test_an_init_container_that_ends_badly_twice_is_named_so():
    setup = Container(name="setup", restarts=1, terminated=ended(4, finished=9))
    pod = replace(waiting("PodInitializing"), init_containers=(setup,))

    assert said(pod) == ("Failed", "InitContainerFailed")


def test_an_init_container_that_is_done_is_no_end():
    done = Container(name="setup", terminated=ended(0, reason="Completed", finished=8), ready=True)
    pods = [ready("a", init_containers=(done,))]

    assert Rollout(pods).judge().verdict is Verdict.FINISHED


# ---------------------------------------------------------------------------- by the deadline


def test_a_pod_that_is_never_ready_fails_by_its_deadline_and_not_before():
    pod = unready("a", created=5)

    assert said(pod, when=79)[0] == "Progressing"
    assert said(pod, when=80) == ("Failed", "ReadinessProbeFailed")


def test_a_container_still_starting_is_the_startup_probes_case():
    assert said(unready("a", started=False), when=80)[1] == "StartupProbeFailed"


def test_a_sidecar_that_is_not_ready_is_named_although_the_containers_are():
    proxy = Container(name="proxy", started=True, running_since=at(6))
    pod = replace(unready("a", ready=True), init_containers=(proxy,), sidecars=frozenset({"proxy"}))

    assert said(pod, when=81) == ("Failed", "SidecarFailed")


def test_a_readiness_gate_that_nobody_sets_is_no_progress():
    gates = {
        "Ready": Condition(status="False", reason="ReadinessGatesNotReady", since=at(5)),
        "ContainersReady": Condition(status="True", since=at(5)),
    }
    pod = ready("a", since=10, conditions=gates, gated=True)

    assert said(pod, when=40)[0] == "Progressing"
    assert said(pod, when=90) == ("Failed", "NoProgress")


def test_ready_false_while_the_containers_are_ready_is_the_node():
    flipped = conditions(ready=True, since=at(5)) | {"Ready": Condition(status="False")}
    fleet = Rollout([ready("a", conditions=flipped), old("b")])

    judgement = fleet.judge(500)

    assert judgement.verdict is Verdict.NODE_PROBLEM
    assert judgement.votes == 0


# ---------------------------------------------------------------------------- volumes, sandbox, place


def creating(**condition):
    pod = waiting("ContainerCreating")
    return replace(
        pod,
        conditions=pod.conditions
        | {"PodReadyToStartContainers": Condition(status="False")}
        | condition,
    )


def test_a_missing_config_map_volume_fails_at_once_and_a_host_path_by_the_deadline():
    missing = 'MountVolume.SetUp failed for volume "conf" : configmap "agent-conf" not found'
    path = (
        'MountVolume.SetUp failed for volume "log" : hostPath type check failed: /x is not a file'
    )
    pod = creating()

    assert said(pod, event(pod, "FailedMount", missing)) == ("Failed", "MountFailed")
    assert said(pod, event(pod, "FailedMount", path))[0] == "Progressing"
    assert said(pod, event(pod, "FailedMount", path), when=81) == ("Failed", "MountFailed")


@pytest.mark.parametrize(
    "cause",
    [
        'failed to fetch token: Post "https://10.0.0.1:6443/api": connect: connection refused',
        "failed to fetch token: etcdserver: request timed out",
        "rpc error: code = Unavailable desc = connection error",
        "driver name csi.x not found in the list of registered CSI drivers",
        'configmap "kube-root-ca.crt" not found',
    ],
)
def test_volumes_whose_server_does_not_answer_on_many_nodes_fail_by_the_deadline_only(cause):
    one = creating()
    two = replace(one, name="new-b", uid="new-b", node="b")
    message = f'MountVolume.SetUp failed for volume "v" : {cause}'
    fleet = Rollout([one, two, old("c")])
    fleet.hear(*(event(each, "FailedMount", message) for each in (one, two)))

    assert fleet.judge(20).verdict is Verdict.PROGRESSING
    assert fleet.judge(81).failure_class == "MountFailed"


def test_not_registered_is_noise_of_a_restarted_kubelet():
    pod = creating()
    noise = (
        'MountVolume.SetUp failed for volume "t" : object "ns"/"kube-root-ca.crt" not registered'
    )

    assert said(pod, event(pod, "FailedMount", noise))[0] == "Progressing"
    assert said(pod, event(pod, "FailedMount", noise), when=81) == ("Failed", "NoProgress")


def test_a_sandbox_that_cannot_be_created_is_the_node_until_it_is_created():
    pod = creating()
    failed = event(pod, "FailedCreatePodSandBox", "failed to setup network for sandbox")

    assert said(pod, failed, when=500)[0] == "NodeProblem"
    up = replace(
        pod, conditions=pod.conditions | {"PodReadyToStartContainers": Condition(status="True")}
    )
    assert said(up, failed)[0] == "Progressing"


RUNC = (
    "Failed to create pod sandbox: rpc error: code = Unknown desc = failed to create containerd task: "
    "failed to create shim task: OCI runtime create failed: runc create failed: unable to start "
    "container process: "
)
KILLED = RUNC + "container init was OOM-killed (memory limit too low?): unknown"
NO_MEMORY = RUNC + (
    "unable to apply cgroup configuration: mkdir /sys/fs/cgroup/memory/kubepods/burstable/pod1/2: "
    "cannot allocate memory: unknown"
)
SYSCTL = RUNC + (
    "error during container init: write /proc/sys/net/ipv4/ping_group_range: invalid argument: unknown"
)
USERNS = (
    "Failed to create pod sandbox: can't set `spec.hostUsers: false`, runtime does not support user "
    "namespaces"
)
SELINUX = RUNC.partition("failed to create")[0] + (
    "failed to generate sandbox container spec: failed to init selinux options &SELinuxOption{User:,"
    "Role:,Type:,Level:bogus,}: the format of 'level' \"bogus\" is not correct"
)


@pytest.mark.parametrize(
    ("message", "name"),
    [(KILLED, "OOMKilled"), (SYSCTL, "ConfigError"), (USERNS, "ConfigError"),
     (SELINUX, "ConfigError")],
    ids=["memory", "sysctl", "user namespaces", "SELinux"],
)  # fmt: skip
def test_a_sandbox_that_the_manifest_keeps_from_starting_is_a_vote_at_its_deadline(message, name):
    pod = creating()
    failed = event(pod, "FailedCreatePodSandBox", message)

    assert said(pod, failed)[0] == "Progressing"
    assert said(pod, failed, when=81) == ("Failed", name)


@pytest.mark.parametrize(
    ("before", "verdict"),
    [("64Mi", ("Failed", "OOMKilled")), ("64Ki", ("NodeProblem", None))],
    ids=["the change lowered the limit", "a kernel that lost its memory"],
)
def test_no_memory_for_a_sandbox_is_the_manifests_only_if_it_lowered_the_limit(before, verdict):
    def limited(memory):
        return template(resources={"limits": {"memory": memory}})

    pod = creating()
    failed = event(pod, "FailedCreatePodSandBox", NO_MEMORY)
    found = said(pod, failed, when=81, template=limited("64Ki"), previous=limited(before))

    assert found == verdict


def test_a_network_that_cannot_be_set_up_is_the_nodes_whatever_it_wanted_of_the_kernel():
    pod = creating()
    text = 'plugin type="bridge" failed (add): failed to open /proc/sys/net/ipv4/ip_forward: x'
    failed = event(pod, "FailedCreatePodSandBox", f"failed to set up pod network: {text}")

    assert said(pod, failed, when=81)[0] == "NodeProblem"


def unscheduled(message):
    pod = replace(waiting("ContainerCreating"), bound=False, containers=(), phase="Pending")
    scheduled = Condition(status="False", reason="Unschedulable", message=message)
    return replace(pod, conditions={"PodScheduled": scheduled})


FULL = "0/9 nodes are available: 1 Insufficient cpu, 8 node(s) didn't satisfy plugin(s)."
IN_VAIN = FULL + " preemption: 0/9 nodes are available: 9 Preemption is not helpful for scheduling."
PORTS = "0/9 nodes are available: 1 node(s) didn't have free ports for the requested pod ports."


def test_no_room_is_the_changes_fault_only_if_it_asks_for_more():
    more = template(resources={"requests": {"cpu": "64"}})

    assert said(unscheduled(IN_VAIN), template=more) == ("Failed", "Unschedulable")
    assert said(unscheduled(IN_VAIN), template=more, previous=more)[0] == "NodeProblem"


def test_a_pod_for_which_others_are_evicted_is_waited_for():
    """The scheduler has nothing to say of preemption where it found victims, until they are gone."""
    more = template(resources={"requests": {"cpu": "64"}})
    going = FULL + " preemption: not eligible due to terminating pod on the nominated node."

    assert said(unscheduled(FULL), template=more, when=81)[0] == "Progressing"
    assert said(unscheduled(going), template=more, when=81)[0] == "Progressing"
    assert said(unscheduled(FULL), template=more, when=5000) == ("Failed", "Unschedulable")


def test_a_node_that_has_as_many_pods_as_it_may_is_the_nodes_matter():
    message = IN_VAIN.replace("Insufficient cpu", "Too many pods")

    assert said(unscheduled(message), when=500)[0] == "NodeProblem"


def test_a_taken_port_of_the_host_is_the_changes_fault_if_it_is_new_or_the_pods_surge():
    port = template(ports=[{"containerPort": 80, "hostPort": 80}])
    surge = {"updateStrategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}}

    assert said(unscheduled(PORTS), template=port) == ("Failed", "Unschedulable")
    assert said(unscheduled(PORTS), template=port, previous=port)[0] == "Progressing"
    fleet = Rollout([unscheduled(PORTS), old("a")], template=port, spec=surge)
    assert fleet.judge(previous_template=port).failure_class == "Unschedulable"


@pytest.mark.parametrize(
    ("message", "disrupted", "fails"),
    [
        ('Usage of EmptyDir volume "cache" exceeds the limit "4Mi".', False, True),
        ("Container agent exceeded its local ephemeral storage limit", False, True),
        ("The node was low on resource: memory.", False, False),
        ('Usage of EmptyDir volume "cache" exceeds the limit "4Mi".', True, False),
    ],
)
def test_an_eviction_is_the_pods_doing_only_if_it_used_more_than_its_own(message, disrupted, fails):
    status = Condition(status="True" if disrupted else "False", reason="TerminationByKubelet")
    evicted = replace(
        ready("a"),
        phase="Failed",
        reason="Evicted",
        message=message,
        conditions=conditions(ready=False, since=at(9), DisruptionTarget=status),
    )
    fleet = Rollout([evicted, old("b")])
    fleet.chronicle.pod_gone(evicted, at(12))
    fleet.pods = [ready("a", since=14, name="next", uid="next"), old("b")]

    judgement = fleet.judge()

    assert (judgement.failure_class is FailureClass.EVICTED) is fails
    assert (judgement.verdict is Verdict.FAILED) is fails


def test_weights_are_ordered_by_how_much_they_say():
    assert Weight.LATE < Weight.WAIT < Weight.NODE < Weight.WEAK < Weight.STRONG < Weight.CERTAIN
