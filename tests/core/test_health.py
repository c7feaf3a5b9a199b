"""The verdict: who may vote, when time decides, when it is finished, what is only a node."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from core.rollouts import (
    LONG_AGO,
    START,
    Rollout,
    at,
    conditions,
    event,
    node,
    old,
    ready,
    refused,
    template,
    unready,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dsgitops.core.health import baseline, eligible_nodes, target_revision
from dsgitops.core.model import (
    Condition,
    Container,
    Ended,
    Event,
    Node,
    NodeState,
    Pod,
    Policy,
    Revision,
    Taint,
    Verdict,
)


def missing_image(on):
    return unready(on, waiting_reason="ErrImagePull", waiting_message="x: not found")


def going(on, hash_="old", **changes):
    pod = old(on) if hash_ == "old" else ready(on)
    return replace(pod, deleting=at(8), grace=2, **changes)


def replace_container(pod, **changes):
    return replace(pod, containers=(replace(pod.containers[0], **changes),))


# ---------------------------------------------------------------------------- finished


def test_finished_when_every_node_has_an_available_pod_of_the_target_and_no_other():
    judgement = Rollout([ready("a"), ready("b", since=12)]).judge(20)

    assert judgement.verdict is Verdict.FINISHED
    assert judgement.states == {"a": "desired", "b": "desired"}
    assert judgement.available_since == at(12)


def test_an_old_pod_that_is_still_there_holds_it_back():
    terminating = Rollout([ready("a"), replace(going("a"), deleting=at(19))])

    assert terminating.judge(20).verdict is Verdict.PROGRESSING
    assert terminating.judge(40).verdict is Verdict.FINISHED


def test_a_node_without_a_pod_holds_it_back():
    fleet = Rollout([ready("a")], nodes=[node("a"), node("b")])

    assert fleet.judge().states["b"] is NodeState.NO_POD
    assert fleet.judge().verdict is Verdict.PROGRESSING


def test_available_means_ready_for_min_ready_seconds():
    fleet = Rollout([ready("a", since=10)], spec={"minReadySeconds": 30})

    early = fleet.judge(39)
    assert early.verdict is Verdict.PROGRESSING
    assert early.look_again == at(40)
    assert fleet.judge(40).verdict is Verdict.FINISHED


def test_old_pods_are_not_taken_for_new_ones_before_the_revision_arrived():
    fleet = Rollout([old("a"), old("b")])

    assert fleet.judge(target=None).verdict is Verdict.PROGRESSING
    stale = replace(fleet.live, observed_generation=1)
    assert Rollout([ready("a")]).judge(live=stale).verdict is Verdict.PROGRESSING


def test_where_no_node_matches_there_is_nothing_to_wait_for():
    assert Rollout([], nodes=[]).judge().verdict is Verdict.FINISHED


def test_a_node_that_the_daemonset_leaves_does_not_count():
    tainted = node("b", taints=(Taint(key="maintenance", effect="NoExecute"),))
    judgement = Rollout([ready("a"), old("b")], nodes=[node("a"), tainted]).judge()

    assert judgement.verdict is Verdict.FINISHED
    assert judgement.states["b"] is NodeState.LEAVING
    assert judgement.total == 1


# ---------------------------------------------------------------------------- who votes


def test_one_certain_signal_fails_whatever_the_threshold():
    fleet = Rollout([missing_image("a"), old("b"), old("c")], policy=Policy(max_failed_nodes=3))
    judgement = fleet.judge()

    assert judgement.verdict is Verdict.FAILED
    assert judgement.failure_class == "ImageNotFound"
    assert judgement.states == {"a": "badRevision", "b": "old", "c": "old"}
    assert judgement.evidence[0].voting
    assert judgement.evidence[0].node == "a"


def crashing(on):
    end = Ended(exit_code=1, reason="Error", started=at(7), finished=at(8))
    return unready(on, restarts=1, waiting_reason="CrashLoopBackOff", last=end)


@pytest.mark.parametrize(
    ("most", "unavailable", "broken", "fails"),
    [(2, 3, 1, False), (2, 3, 2, True), (2, 1, 1, True), ("50%", 4, 1, False), ("50%", 4, 2, True)],
)
def test_other_signals_fail_at_max_failed_nodes_but_never_beyond_the_budget(
    most, unavailable, broken, fails
):
    pods = [crashing(name) if place < broken else old(name) for place, name in enumerate("abcd")]
    spec = {"updateStrategy": {"rollingUpdate": {"maxUnavailable": unavailable}}}
    fleet = Rollout(pods, spec=spec, policy=Policy(max_failed_nodes=most))

    assert (fleet.judge().verdict is Verdict.FAILED) is fails


def test_in_a_canary_one_vote_is_enough():
    spec = {"updateStrategy": {"rollingUpdate": {"maxUnavailable": 3}}}
    fleet = Rollout(
        [crashing("a"), old("b"), old("c")], spec=spec, policy=Policy(max_failed_nodes=2)
    )

    assert fleet.judge().verdict is Verdict.PROGRESSING
    assert fleet.judge(canary=True).verdict is Verdict.FAILED


def test_a_node_that_was_bad_before_never_votes_and_is_listed():
    judgement = Rollout([missing_image("a"), old("b")]).judge(bad_before=frozenset({"a"}))

    assert judgement.verdict is not Verdict.FAILED
    assert judgement.states["a"] is NodeState.BAD_BEFORE


def test_pods_of_other_revisions_and_of_other_owners_say_nothing():
    stranger = replace(missing_image("b"), owner="another", uid="x")
    fleet = Rollout([replace(missing_image("a"), hash="older"), stranger, old("b")])

    assert fleet.judge(500).votes == 0


def test_evidence_from_before_the_write_is_none():
    """A rollback: the good pods have a history of their own."""
    scarred = Container(
        name="agent",
        ready=True,
        started=True,
        restarts=7,
        running_since=at(-50),
        last=Ended(exit_code=1, reason="Error", started=at(-100), finished=at(-60)),
    )
    pods = [ready(name, since=-50, created=LONG_AGO, containers=(scarred,)) for name in "ab"]

    assert Rollout(pods).judge().verdict is Verdict.FINISHED


def test_in_the_bake_a_failure_is_called_so_with_its_cause():
    judgement = Rollout([crashing("a"), ready("b")]).judge(30, baking_since=at(15))

    assert (judgement.failure_class, judgement.cause) == ("BakeFailed", "CrashLoop")


def test_in_the_bake_a_loss_of_ready_counts_after_the_probes_patience():
    dark = ready("a", conditions=conditions(ready=False, since=at(30)))
    fleet = Rollout([dark, ready("b")])

    assert fleet.judge(43, baking_since=at(15)).verdict is Verdict.PROGRESSING
    assert fleet.judge(44, baking_since=at(15)).failure_class == "BakeFailed"


def test_in_the_bake_a_kubelet_whose_clock_is_behind_gets_the_same_patience():
    lost = replace_container(
        ready("a", conditions=conditions(ready=False, since=at(70))), ready=False
    )
    fleet = Rollout([ready("a"), ready("b")])
    fleet.chronicle.pod(lost, at(130))
    fleet.pods = [lost, ready("b")]
    baking = {"baking_since": at(100)}

    assert fleet.judge(143, **baking).verdict is Verdict.PROGRESSING
    assert fleet.judge(144, **baking).failure_class == "BakeFailed"


def test_without_a_rollout_nothing_votes():
    fleet = Rollout([crashing("a"), ready("b")])

    assert fleet.judge(900, started=None).verdict is Verdict.PROGRESSING


# ---------------------------------------------------------------------------- time


def test_the_clock_of_a_pod_stands_still_while_its_image_is_pulled():
    pod = unready("a", waiting_reason="ContainerCreating")
    fleet = Rollout([pod, old("b")]).hear(event(pod, "Pulling", "Pulling image"))

    assert fleet.judge(140).verdict is Verdict.PROGRESSING


def test_where_no_events_can_be_read_a_pod_that_has_all_but_its_image_is_waited_for():
    """Kubelets tell of pulls by Events alone, and whoever installs the agent may deny them."""
    fleet = Rollout([unready("a", waiting_reason="ContainerCreating"), old("b")], policy=Policy())

    assert fleet.judge(500).verdict is Verdict.PROGRESSING
    assert fleet.judge(635).failure_class == "NoProgress"


def test_the_clock_of_a_pod_begins_when_it_runs_where_a_registry_kept_it_waiting():
    pod = unready("a")
    waited = replace_container(pod, running_since=at(306))
    fleet = Rollout([waited, old("b")])
    fleet.hear(event(pod, "Pulling", "x"))
    fleet.hear(event(pod, "Failed", 'Failed to pull image "r.io/agent:2": toomanyrequests'), when=8)
    fleet.hear(event(pod, "Pulling", "x", when=305), event(pod, "Pulled", "x", when=305), when=305)

    assert fleet.judge(380).verdict is Verdict.PROGRESSING
    assert fleet.judge(381).failure_class == "ReadinessProbeFailed"


def test_the_clock_of_a_pod_begins_anew_when_its_node_comes_back():
    nodes = [node("a", ready_since=at(100)), node("b")]
    fleet = Rollout([unready("a"), old("b")], nodes=nodes)

    assert fleet.judge(174).verdict is Verdict.PROGRESSING
    assert fleet.judge(175).failure_class == "ReadinessProbeFailed"


def test_no_deadline_passes_before_the_view_was_live_for_a_minute():
    fleet = Rollout([unready("a"), old("b")])

    assert fleet.judge(100, live_since=at(50)).verdict is Verdict.PROGRESSING
    assert fleet.judge(110, live_since=at(50)).verdict is Verdict.FAILED


def test_blind_nothing_is_declared():
    assert Rollout([missing_image("a")]).judge(live_since=None).verdict is Verdict.PROGRESSING


def test_a_registry_is_waited_for_until_there_was_no_progress_for_too_long():
    down = unready("a", waiting_reason="ErrImagePull", waiting_message="503 Service Unavailable")
    fleet = Rollout([down, old("b")], policy=Policy(progress_deadline=timedelta(seconds=150)))
    end = 5 + 150 + 30  # from the pod's start; and the old pods' grace period

    assert fleet.judge(end - 1).verdict is Verdict.PROGRESSING
    assert fleet.judge(end - 1).look_again == at(end)
    failed = fleet.judge(end)
    assert (failed.verdict, failed.failure_class) == ("Failed", "ImagePullFailed")


def test_a_start_that_its_own_probes_allow_is_no_lack_of_progress():
    """`validate` says so: a deadline below the manifest's own startup budget is raised to it."""
    probe = {
        "httpGet": {"path": "/", "port": 80},
        "initialDelaySeconds": 60,
        "failureThreshold": 120,
    }
    slow = template(startupProbe=probe)
    end = 246 + 60 + 10 * 120 + 4  # it ran once its image was pulled; and the readiness probe's
    pod = unready("a", started=False, running_since=at(246))
    starting = Rollout([pod, old("b")], template=slow, policy=Policy())
    again = Rollout([replace_container(pod, restarts=1), old("b")], template=slow, policy=Policy())

    assert starting.judge(end - 1).verdict is Verdict.PROGRESSING
    assert starting.judge(end).failure_class == "StartupProbeFailed"
    assert again.judge(700).verdict is Verdict.FAILED  # it had that time already


def test_a_slow_healthy_rollout_is_measured_from_its_last_ready_node():
    pods = [ready("a", since=3000), unready("b", created=3005), old("c")]

    assert Rollout(pods).judge(3060).verdict is Verdict.PROGRESSING


def test_no_progress_needs_a_pod_of_the_new_revision_to_show():
    only_old = Rollout([old("a"), going("b")])

    assert only_old.judge(5000).verdict is not Verdict.FAILED


def test_a_node_back_after_a_long_time_gets_its_time():
    """Nothing moved for longer than the deadline, and nobody but a dead node was to blame."""
    nodes = [node("a", ready_since=at(900)), node("b")]
    fleet = Rollout([unready("a", created=901), old("b")], nodes=nodes)

    assert fleet.judge(905).verdict is Verdict.PROGRESSING


def test_where_people_delete_the_pods_no_deadline_runs_but_votes_count():
    spec = {"updateStrategy": {"type": "OnDelete"}}

    slow = Rollout([unready("a"), old("b")], spec=spec)
    assert slow.judge(9000, by_people=True).verdict is Verdict.PROGRESSING
    broken = Rollout([missing_image("a"), old("b")], spec=spec)
    assert broken.judge(20, by_people=True).verdict is Verdict.FAILED


# ---------------------------------------------------------------------------- refusals


def test_one_refusal_fails_while_a_node_waits_for_its_pod():
    fleet = Rollout([going("a"), old("b")]).hear(refused('pods "x" is forbidden: exceeded quota'))
    judgement = fleet.judge()

    assert (judgement.verdict, judgement.failure_class) == ("Failed", "PodsRefused")
    assert judgement.votes == 0
    whole = Rollout([ready("a"), old("b")]).hear(refused("forbidden"))
    assert whole.judge().verdict is Verdict.PROGRESSING


@pytest.mark.parametrize(
    "message",
    [
        "Internal error occurred: failed calling webhook: connection refused",
        'Error creating: Post "https://10.96.0.1:443/api/v1/namespaces/a/pods": unexpected EOF',
        'Error creating: pods "agent-" is forbidden: not yet ready to handle request',
        "Error creating: the server is currently unable to handle the request (post pods)",
        "Error creating: the server was unable to return a response in the time allotted",
        "Error creating: apiserver is shutting down",
        "Error creating: Unauthorized",
        (
            'Error creating: pods is forbidden: User "system:serviceaccount:kube-system:daemon-set-'
            'controller" cannot create resource "pods" in API group "" in the namespace "logging"'
        ),
        'Error creating: pods "agent-" is forbidden: status unknown for quota: q, resources: pods',
        'Error creating: pods "agent-" is forbidden: serviceaccount "default" not found',
    ],
    ids=[
        "a webhook",
        "an API server that went away",
        "one that just came back",
        "an overloaded one",
        "a slow one",
        "one that goes away",
        "a key that was changed",
        "roles that are not read yet",
        "a quota that was just made",
        "a namespace that was just made",
    ],
)
def test_what_does_not_answer_refuses_nothing_yet(message):
    fleet = Rollout([old("b")], nodes=[node("a"), node("b")]).hear(refused(message))

    assert fleet.judge().verdict is Verdict.PROGRESSING
    assert fleet.judge(2000).failure_class == "PodsRefused"


def test_what_was_refused_before_a_pod_was_made_is_over():
    """Other nodes go on waiting for theirs: the controller is away, or their old pods go."""
    made = ready("a", since=12, created=at(8))
    fleet = Rollout([made, going("b"), old("c")], nodes=[node(name) for name in "abcd"])
    fleet.hear(refused("forbidden: exceeded quota", when=7), when=9)
    fleet.hear(refused("failed calling webhook", when=8), when=9)

    assert fleet.judge(13).verdict is Verdict.PROGRESSING
    assert fleet.judge(5000).verdict is not Verdict.FAILED
    fleet.hear(refused("forbidden: exceeded quota", when=9), when=9)
    assert fleet.judge(13).failure_class == "PodsRefused"


def test_refusals_of_the_content_before_are_not_held_against_this_one():
    fleet = Rollout([going("a"), old("b")])
    fleet.hear(refused("forbidden", when=-9), when=-8).hear(refused("forbidden", when=0), when=1)

    assert fleet.judge().verdict is Verdict.PROGRESSING
    assert fleet.hear(refused("forbidden", when=3), when=4).judge().verdict is Verdict.FAILED


# ---------------------------------------------------------------------------- nodes


def test_a_deadline_below_the_node_grace_waits_until_a_dead_node_would_show():
    """A node that died counts as Ready for 50 s; where its kubelet spoke since, it lived."""
    quick = {"policy": Policy(pod_deadline=timedelta(seconds=30))}
    silent = Rollout([unready("a"), old("b")], **quick)
    pod = unready("a")
    speaking = Rollout([pod, old("b")], **quick)
    speaking.hear(event(pod, "Unhealthy", "Readiness probe failed: x", when=37), when=37)

    assert silent.judge(60).verdict is Verdict.PROGRESSING
    assert silent.judge(60).look_again == at(95)
    assert silent.judge(95).verdict is Verdict.FAILED
    assert speaking.judge(60).verdict is Verdict.FAILED


def test_a_node_that_does_not_report_is_in_the_way_and_votes_for_nothing():
    nodes = [node("a", ready="Unknown", ready_since=at(60)), node("b")]
    judgement = Rollout([unready("a"), old("b")], nodes=nodes).judge(200)

    assert judgement.verdict is Verdict.NODE_PROBLEM
    assert judgement.states["a"] is NodeState.BAD_NODE
    assert judgement.look_again == at(60 + 600)


def test_a_node_away_for_the_progress_deadline_counts_as_bad_before():
    nodes = [node("a", ready="Unknown", ready_since=at(60)), node("b")]
    judgement = Rollout([ready("a"), ready("b")], nodes=nodes).judge(661)

    assert judgement.states["a"] is NodeState.BAD_BEFORE
    assert judgement.verdict is Verdict.FINISHED


def dead(name, since, **changes):
    return node(name, ready="Unknown", ready_since=at(since), **changes)


def test_one_node_that_goes_away_with_our_pod_is_a_suspect_and_two_fail_it():
    pods = [ready(name) for name in "ab"] + [old("c")]

    one = Rollout(pods, nodes=[dead("a", 60), node("b"), node("c")]).judge(90)
    assert (one.verdict, one.suspects) == ("NodeProblem", ("a",))
    two = Rollout(pods, nodes=[dead("a", 60), dead("b", 80), node("c")]).judge(140)
    assert (two.verdict, two.failure_class) == ("Failed", "NodeWentNotReady")


def test_two_suspects_are_not_blamed_before_others_had_the_time_to_go_away_too():
    """Lost heartbeats are noticed node by node: the first two may both wear our pod."""
    pods = [ready(name) for name in "ab"] + [old("c")]
    early = Rollout(pods, nodes=[dead("a", 60), dead("b", 62), node("c")]).judge(63)

    assert (early.verdict, early.suspects) == ("NodeProblem", ("a", "b"))
    assert early.look_again == at(122)


def test_nor_while_the_others_are_coming_back():
    pods = [ready(name) for name in "abcd"]
    back = [node(name, ready_since=at(200)) for name in "cd"]
    none_back = [dead(name, 100) for name in "abcd"]
    two = Rollout(pods, nodes=[dead("a", 100), dead("b", 101), *back])

    assert Rollout(pods, nodes=none_back).judge(300).verdict is Verdict.NODE_PROBLEM
    assert two.judge(201).verdict is Verdict.NODE_PROBLEM
    assert two.judge(260).failure_class == "NodeWentNotReady"


@pytest.mark.parametrize(
    "leaving",
    [
        {"unschedulable": True},
        {"taints": (Taint(key="ToBeDeletedByClusterAutoscaler", effect="NoSchedule"),)},
    ],
    ids=["cordoned", "by the autoscaler"],
)
def test_nodes_that_somebody_takes_away_are_paused_for_and_fail_nothing(leaving):
    everywhere = template()
    everywhere["spec"]["tolerations"] = [{"operator": "Exists"}]
    pods = [ready(name) for name in "ab"] + [old("c")]
    gone = [dead(name, 60, **leaving) for name in "ab"]

    judgement = Rollout(pods, nodes=[*gone, node("c")], template=everywhere).judge(140)

    assert (judgement.verdict, judgement.suspects) == ("NodeProblem", ("a", "b"))


def test_a_pod_that_its_kubelet_never_took_up_is_the_nodes_matter():
    bound = {"PodScheduled": Condition(status="True", since=at(5))}
    silent = replace(unready("a"), phase="Pending", containers=(), conditions=bound)
    fleet = Rollout([silent, old("b")])

    assert fleet.judge(79).states["a"] is NodeState.STARTING
    assert fleet.judge(80).verdict is Verdict.NODE_PROBLEM
    assert fleet.judge(5000).states["a"] is NodeState.BAD_NODE


def test_nodes_without_our_pod_that_go_away_too_clear_the_suspects():
    pods = [ready(name) for name in "ab"] + [old("c")]
    judgement = Rollout(pods, nodes=[dead("a", 60), dead("b", 61), dead("c", 62)]).judge(90)

    assert judgement.suspects == ()
    assert judgement.verdict is Verdict.NODE_PROBLEM


def test_nor_does_an_outage_of_nodes_that_have_had_our_pod_for_long_blame_the_last_ones():
    """A rack goes dark late in a rollout: most of its nodes were updated long before."""
    rack = [ready("a"), ready("b"), ready("c", since=2000), ready("d", since=2010)]
    nodes = [dead(name, 2100) for name in "abcd"]
    judgement = Rollout([*rack, old("e")], nodes=[*nodes, node("e")]).judge(2200)

    assert judgement.suspects == ()
    assert judgement.verdict is Verdict.NODE_PROBLEM


def test_nor_does_an_outage_that_takes_nodes_of_other_pools_as_well():
    gpu = template()
    gpu["spec"]["nodeSelector"] = {"pool": "gpu"}
    nodes = [dead(name, 60, labels={"pool": "gpu"}) for name in "ab"] + [
        node("c", labels={"pool": "gpu"}),
        dead("web", 65),
    ]
    fleet = Rollout([ready("a"), ready("b"), old("c")], nodes=nodes, template=gpu)

    assert fleet.judge(200).verdict is Verdict.NODE_PROBLEM
    fleet.nodes[-1] = node("web")
    assert fleet.judge(200).failure_class == "NodeWentNotReady"


def test_a_node_that_goes_away_long_after_our_pod_started_is_no_suspect():
    nodes = [dead("a", 600), node("b")]

    assert Rollout([ready("a"), old("b")], nodes=nodes).judge(610).suspects == ()


def test_a_pod_that_cannot_be_taken_down_is_the_nodes_matter():
    pod = going("a")
    fleet = Rollout([pod, old("b")])

    assert fleet.judge(20).states["a"] is NodeState.TERMINATING
    assert fleet.judge(38).states["a"] is NodeState.BAD_NODE
    fleet.hear(event(pod, "FailedKillPod", "KillPodSandboxError"))
    assert fleet.judge(20).verdict is Verdict.NODE_PROBLEM


def test_a_dead_node_from_before_blocks_the_native_update_and_not_our_own_deletes():
    nodes = [dead("a", -500), node("b")]
    fleet = Rollout([going("a"), old("b")], nodes=nodes)
    bad = frozenset({"a"})

    assert fleet.judge(bad_before=bad).verdict is Verdict.NODE_PROBLEM
    fleet.spec = {"updateStrategy": {"type": "OnDelete"}}
    assert fleet.judge(bad_before=bad).verdict is Verdict.PROGRESSING
    done = Rollout([going("a"), ready("b")], nodes=nodes)
    assert done.judge(bad_before=bad).verdict is Verdict.FINISHED


def test_a_joining_node_is_not_part_of_it_before_its_taint_is_gone():
    taint = Taint(key="node.kubernetes.io/not-ready", effect="NoSchedule")
    joining = node("b", ready="False", taints=(taint,))

    assert "b" not in Rollout([ready("a")], nodes=[node("a"), joining]).judge().states


# ---------------------------------------------------------------------------- beginnings


def test_the_baseline_holds_nodes_that_are_not_fine_before_anything_is_touched():
    nodes = [
        node("fine"),
        node("dead", ready="Unknown"),
        node("cordoned", unschedulable=True),
        node("broken"),
        node("empty"),
        node("elsewhere", labels={"pool": "x"}, taints=(Taint(key="t", effect="NoSchedule"),)),
    ]
    broken = replace(old("broken"), conditions=conditions(ready=False, since=at(-9)))
    pods = [old("fine"), old("dead"), old("cordoned"), broken]
    live = Rollout(pods, nodes=nodes).live

    found = baseline(live, pods, nodes, min_ready_seconds=0, now=START)

    assert found == {"dead", "cordoned", "broken"}


def test_where_all_that_serve_are_cordoned_they_vote():
    nodes = [node("dead", ready="Unknown"), node("a", unschedulable=True)]
    pods = [old("dead"), old("a")]
    live = Rollout(pods, nodes=nodes).live

    assert baseline(live, pods, nodes, min_ready_seconds=0, now=START) == {"dead"}


def test_a_pod_that_is_just_starting_makes_no_node_bad_before():
    starting = unready("a", "old", created=-20)
    crashing_ = replace(crashing("b"), hash="old", created=at(-20))
    stale = unready("c", "old", created=-500)
    pods = [starting, crashing_, stale]
    nodes = [node(name) for name in "abc"]

    found = baseline(Rollout(pods).live, pods, nodes, min_ready_seconds=0, now=START)

    assert found == {"b", "c"}


def test_a_young_pod_that_was_ready_and_lost_it_makes_its_node_bad_before():
    lost = replace(
        unready("a", "old", created=-60), conditions=conditions(ready=False, since=at(-9))
    )
    waiting = unready("b", "old", created=-60)
    pods = [lost, waiting]

    found = baseline(
        Rollout(pods).live, pods, [node("a"), node("b")], min_ready_seconds=0, now=START
    )

    assert found == {"a"}


def test_eligible_nodes_are_named_with_those_in_trouble():
    taint = Taint(key="node.kubernetes.io/unreachable", effect="NoSchedule")
    nodes = [node("a"), node("b", ready="Unknown", taints=(taint,))]

    assert eligible_nodes(Rollout([]).live, nodes) == ["a", "b"]


def test_the_target_is_the_revision_with_the_live_template_never_the_newest():
    live = Rollout([]).live
    stamped = template() | {"metadata": {"labels": {"app": "agent"}, "creationTimestamp": None}}
    mine = Revision(name="mine", hash="m", number=1, template=stamped)
    newest = Revision(name="newest", hash="n", number=9, template=template("agent:9"))

    assert target_revision(live, [newest, mine]) is mine
    assert target_revision(live, [newest]) is None


# ---------------------------------------------------------------------------- whatever is seen

moments = st.none() | st.integers(-7200, 7200).map(at)
words = st.sampled_from(
    [
        "",
        "True",
        "False",
        "Unknown",
        "Failed",
        "Running",
        "Evicted",
        "ErrImagePull",
        "not found",
        "CrashLoopBackOff",
        "PostStartHookError",
        "OutOfcpu",
        "x: 503",
        "InvalidImageName",
    ]
)
ends = st.none() | st.builds(
    Ended, reason=words, exit_code=st.integers(0, 255), started=moments, finished=moments
)
containers = st.builds(
    Container,
    name=st.sampled_from(["agent", "proxy"]),
    ready=st.booleans(),
    started=st.none() | st.booleans(),
    restarts=st.integers(0, 5),
    waiting_reason=words,
    waiting_message=words,
    running_since=moments,
    terminated=ends,
    last=ends,
)
kinds = st.sampled_from(
    ["Ready", "ContainersReady", "PodScheduled", "PodReadyToStartContainers", "DisruptionTarget"]
)
pods_ = st.builds(
    Pod,
    name=words,
    uid=st.sampled_from("uvw"),
    node=st.sampled_from(["", "a", "b", "z"]),
    bound=st.booleans(),
    hash=st.sampled_from(["new", "old", ""]),
    created=moments,
    deleting=moments,
    phase=words,
    reason=words,
    message=words,
    conditions=st.dictionaries(
        kinds, st.builds(Condition, status=words, reason=words, message=words, since=moments)
    ),
    containers=st.lists(containers, max_size=2).map(tuple),
    init_containers=st.lists(containers, max_size=1).map(tuple),
    sidecars=st.sampled_from([frozenset(), frozenset({"proxy"})]),
    gated=st.booleans(),
)
nodes_ = st.builds(
    Node,
    name=st.sampled_from("ab"),
    ready=st.sampled_from(["True", "False", "Unknown"]),
    ready_since=moments,
    unschedulable=st.booleans(),
)
events_ = st.builds(
    Event,
    uid=st.sampled_from(["u", "v", "ds-uid", ""]),
    kind=st.sampled_from(["Pod", "DaemonSet"]),
    reason=st.sampled_from(
        [
            "Failed",
            "Killing",
            "Pulling",
            "Pulled",
            "FailedMount",
            "FailedCreate",
            "FailedKillPod",
            "Evicted",
            "SandboxChanged",
        ]
    ),
    message=words,
    count=st.integers(0, 9),
    first=moments,
    last=moments,
)
worlds = st.tuples(
    st.lists(pods_, max_size=4), st.lists(nodes_, max_size=3), st.lists(events_, max_size=5)
)
quick = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


def world(seen):
    pods, nodes, events = seen
    return Rollout(pods, nodes=nodes or [node("a")]).hear(*events)


@quick
@given(worlds, st.integers(0, 9000), moments, moments, moments)
def test_it_answers_whatever_it_sees(seen, when, started, baking, live_since):
    fleet = world(seen)
    judgement = fleet.judge(when, started=started, baking_since=baking, live_since=live_since)

    assert judgement.verdict is not Verdict.FAILED or judgement.failure_class is not None
    assert judgement.look_again is None or judgement.look_again > at(when)
    if started is None or live_since is None:
        assert judgement.verdict is not Verdict.FAILED


@quick
@given(worlds, st.integers(0, 9000))
def test_equal_questions_have_equal_answers(seen, when):
    assert world(seen).judge(when) == world(seen).judge(when)


@quick
@given(worlds, st.integers(0, 9000))
def test_nodes_that_were_bad_before_never_vote(seen, when):
    judgement = world(seen).judge(when, bad_before=frozenset("ab"))

    assert judgement.votes == 0
    assert NodeState.BAD_REVISION not in judgement.states.values()


@quick
@given(worlds, st.integers(30, 9000))
def test_one_more_vote_never_makes_a_failed_rollout_finished(seen, when):
    fleet = world(seen)
    before = fleet.judge(when)
    fleet.nodes = [*fleet.nodes, node("c")]
    fleet.pods = [*fleet.pods, missing_image("c")]
    after = fleet.judge(when)

    assert after.votes >= before.votes + 1
    assert after.verdict is Verdict.FAILED


@quick
@given(worlds, st.integers(0, 9000), st.integers(0, 59))
def test_time_alone_fails_nothing_in_the_first_minute_of_a_view(seen, when, live_for):
    fleet = world(seen)
    young = fleet.judge(when, live_since=at(when - live_for))
    patient = Policy(
        pod_deadline=timedelta(days=9), progress_deadline=timedelta(days=9), bake_time=timedelta()
    )
    timeless = fleet.judge(when, live_since=at(when - live_for), policy=patient)

    if young.verdict is Verdict.FAILED:
        assert timeless.verdict is Verdict.FAILED
