"""What is under way: supersede it, go on with it, bake it, finish it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from dsgitops.core import budget, narrate
from dsgitops.core.actions import DeletePod
from dsgitops.core.failing import added, fail, quarantined
from dsgitops.core.gates import conflict, given_up, native_budget, recent
from dsgitops.core.health import baseline, eligible_nodes
from dsgitops.core.model import Decision, Desired, FailureClass, NodeState, Phase, Reason, Verdict
from dsgitops.core.record import BadBefore, dump, has_room, load
from dsgitops.core.situation import IN_FLIGHT, Situation
from dsgitops.core.steps import (
    apply_content,
    earliest,
    first_difference,
    good_takes_content,
    heals,
    look_closer,
    remember,
    remembering,
    restore_good,
    speaking_of_good,
    suspended,
    take_over,
    template_owner,
)
from dsgitops.core.sweep import clear_the_way, lasting_no

if TYPE_CHECKING:
    from datetime import datetime

    from dsgitops.core.actions import Action
    from dsgitops.core.model import Node, Pod


_BEFORE_THE_FIRST = frozenset({Reason.ROLLOUT_STARTED, Reason.SUSPENDED})
"""Reasons in the record while a baseline can still be taken; deletions themselves write none.

Not `RolloutSuperseded`, nor what follows it: the baseline stays, or a node that died under our hand
would be excused for it."""
_BEFORE_PEOPLE = _BEFORE_THE_FIRST | {
    Reason.ROLLOUT_STALLED,
    Reason.ROLLOUT_SUPERSEDED,
    Reason.DRIFT_HEALED,
}
"""The same by OnDelete: we delete nothing, and they may take their time."""
_BLIP = timedelta(seconds=60)
"""An old pod that is not ready for less may be ready again in a moment."""
_ROOM_BYTES = 1024
"""Of a record that nobody is excused for: a full one drops names, others' too."""
_CLOCKS_DIFFER = timedelta(seconds=30)
"""Ours and the API server's."""


def obey_suspension(s: Situation) -> Decision | None:
    """A person said stop: nothing is written or deleted, no deadline runs; state is still told."""
    if s.suspend is None:
        return None
    if s.record.phase not in IN_FLIGHT:
        return suspended(s, "", pending=_what_waits(s))
    if not s.observed.followed:
        return look_closer(s, "Looking at the pods of the suspended rollout.")
    if s.record.phase is not Phase.BAKING and not s.by_people and _armed(s) and s.has_old_pods:
        record = s.record.next(reason=Reason.SUSPENDED)
        paused = suspended(s, "the native rollout is paused by OnDelete")
        return remembering(paused, record, remember(s, record, pause=True))
    return suspended(s, narrate.progress(s.judgement) if s.target else "")


def _what_waits(s: Situation) -> str:
    """Return what would be done at rest if nobody had suspended it; "" where nothing would."""
    if s.content is not None and s.content.digest != s.record.digest:
        return f"{narrate.short(s.content.commit)} waits"
    path = first_difference(s)
    return f"{path} is not as Git has it" if path else ""


def give_up(s: Situation) -> Decision | None:
    """A rollout that failed is rolled back first; newer content waits for that."""
    if s.record.phase not in IN_FLIGHT or s.template_drifted:
        return None
    if not s.observed.followed or s.target is None:
        return None
    if s.judgement.verdict is not Verdict.FAILED:
        return None
    newer = s.content is not None and s.written_content is None and s.held is None
    if newer and s.policy.rollback == "off":
        return None  # nothing will be rolled back, so nothing is waited for
    return fail(s)


def complete_undo(s: Situation) -> Decision | None:
    """Someone put the last good template back in mid-rollout: the rest is a rollback.

    So it is where a failed rollout was left to people: the hold ends, or broken pods would stay.
    """
    left = s.record.phase is Phase.HELD and s.record.reason is Reason.ROLLOUT_FAILED and s.held
    if not (left or s.record.phase in IN_FLIGHT) or not s.template_drifted or not s.at_last_good:
        return None
    if s.good_revision is None:
        return None
    who = template_owner(s)
    entry = quarantined(s, FailureClass.BY_HAND, by=who)
    record = speaking_of_good(s.record).next(
        phase=Phase.ROLLING_BACK,
        reason=Reason.ROLLING_BACK,
        started=s.now,
        quarantine=s.record.quarantine if left else added(s, entry),
    )
    return Decision(
        reason=Reason.ROLLING_BACK,
        because=f"{who} put {narrate.short(s.record.good_commit)} "
        f"back; {narrate.short(s.record.commit)} is held until Git moves on.",
        actions=(restore_good(s, record),),
        record=record,
        follow=True,
        failure_class=FailureClass.BY_HAND,
    )


def pause_native(s: Situation) -> Decision | None:
    """In native mode the first vote stops the controller, in the same turn; none lets it go on.

    A halted rollout that stays armed puts the bad revision on every node that misses its
    heartbeats (`cluster.md` 5.1).
    """
    if s.record.phase not in IN_FLIGHT or s.record.phase is Phase.BAKING:
        return None
    if s.guarded or s.by_people or s.policy.rollback == "off":
        return None
    if not s.observed.followed or s.target is None or not s.has_old_pods:
        return None
    judgement = s.judgement
    doubted = bool(judgement.votes or judgement.suspects)
    if doubted is not _armed(s):
        return None
    record = s.record.next(reason=Reason.ROLLOUT_PROGRESSING, progressed=judgement.progressed)
    commit = narrate.short(s.record.commit)
    what = f"paused by OnDelete at {judgement.votes} of {judgement.votes_needed} votes"
    if not doubted:
        what = "no node speaks against it any more, so it goes on"
    return Decision(
        reason=Reason.ROLLOUT_PROGRESSING,
        because=f"{commit} is on {narrate.progress(judgement)}; {what}.",
        actions=(remember(s, record, pause=doubted, resume=not doubted),),
        record=record,
        judgement=judgement,
        follow=True,
        look_again=judgement.look_again,
    )


def _armed(s: Situation) -> bool:
    """Whether the DaemonSet controller restarts pods by itself."""
    return s.live.strategy.type == "RollingUpdate"


def supersede(s: Situation) -> Decision | None:
    """Newer content in mid-rollout is written at once under the same hold.

    Last good and baseline stay, the canary starts again, the old content is neither good nor
    quarantined.
    """
    content = s.content
    if content is None or s.record.phase not in IN_FLIGHT:
        return None
    if s.held:
        return _back_to_good(s, content) or _hold_here(s, content)
    if content.digest == s.record.digest:
        return None
    if s.wants_last_good and not s.at_last_good and s.good_revision is not None:
        return _back_to_good(s, content)
    if lasting_no(s, content):
        return None  # what is under way goes on; it is told once that is over
    same = content.template == s.record.template
    if not (s.guarded or s.by_people or (same and s.record.phase is Phase.BAKING)):
        if not s.observed.followed:
            return look_closer(s, "Looking at the pods before newer content is written.")
        waiting = native_budget(s)
        if waiting:
            return waiting
    before = clear_the_way(s, content, "newer content", same_template=same)
    if before:
        return before
    first = Phase.CANARY if s.guarded and s.policy.canary_nodes else Phase.ROLLING
    phase = s.record.phase if same else first
    record = s.written(
        phase=phase,
        reason=Reason.ROLLOUT_SUPERSEDED,
        started=s.record.started if same else s.now,
        progressed=None,
    )
    hold = s.guarded and phase is not Phase.BAKING
    return Decision(
        reason=Reason.ROLLOUT_SUPERSEDED,
        because=f"Git moved {content.ref} to {narrate.short(content.commit)} while "
        f"{narrate.short(s.record.commit)} was rolling out; it goes on from there.",
        actions=(apply_content(s, content, record, hold=hold),),
        record=record,
        follow=True,
    )


def _back_to_good(s: Situation, content: Desired) -> Decision | None:
    """Git went back to last good (or to something held) in mid-rollout: the exact rollback."""
    if s.good_revision is None or s.record.last_good is None or s.at_last_good:
        return None
    record = speaking_of_good(s.record).next(
        phase=Phase.ROLLING_BACK, reason=Reason.ROLLING_BACK, started=s.now, progressed=None
    )
    back = narrate.short(s.record.last_good.commit)
    return Decision(
        reason=Reason.ROLLING_BACK,
        because=f"Git moved {content.ref} to {narrate.short(content.commit)}: back to {back}, "
        f"{narrate.short(s.record.commit)} goes no further.",
        actions=(restore_good(s, record),),
        record=record,
        follow=True,
    )


def _hold_here(s: Situation, content: Desired) -> Decision | None:
    """What rolls out is held itself, and there is no way back: no node more gets it."""
    if s.written_content is None:
        return None
    record = s.record.next(phase=Phase.HELD, reason=Reason.QUARANTINED)
    if s.at_last_good:
        record = speaking_of_good(record)
    return Decision(
        reason=Reason.QUARANTINED,
        because=f"{narrate.short(content.commit)} is held, and goes no further.",
        actions=(remember(s, record, pause=_armed(s)),),
        record=record,
    )


def keep_the_hold(s: Situation) -> Decision | None:
    """In mid-rollout someone changed the template or let the native controller loose."""
    content = s.written_content
    if content is None or s.record.phase not in IN_FLIGHT:
        return None
    baking = s.record.phase is Phase.BAKING
    loose = s.guarded and not baking and _armed(s) and s.has_old_pods
    if not (s.template_drifted or loose or heals(s)):
        return None
    no = conflict(s, content) or given_up(s)
    if no:
        return no
    if s.takeover:
        return take_over(s, "the rollout in flight", pause=loose, heals=True)
    hold = s.guarded and not baking
    record = s.written(writes=(*recent(s), s.now), reason=Reason.DRIFT_HEALED)
    return Decision(
        reason=Reason.DRIFT_HEALED,
        because=f"{_who_moved(s)}; {narrate.short(content.commit)} is written again.",
        actions=(apply_content(s, content, record, hold=hold),),
        record=record,
        follow=True,
    )


def _who_moved(s: Situation) -> str:
    # once it is taken over nothing shows whose it was, and its revision may not be made yet
    if s.template_drifted or s.lacks_template or not s.is_our_revision:
        return f"{template_owner(s)} changed the pod template of {s.live.ref} in mid-rollout"
    return f"The DaemonSet controller is replacing pods of {s.live.ref} by itself"


def follow_rollout(s: Situation) -> Decision | None:
    """Go on with what is rolling out: wait, delete the next pods, bake, finish."""
    if s.record.phase not in IN_FLIGHT:
        return None
    if not s.observed.followed or s.target is None:
        return look_closer(s, "Looking at the pods of the rollout.")
    if s.record.phase is Phase.BAKING:
        return _bake(s)
    if s.guarded or s.by_people:
        begun = _take_baseline(s)
        if begun is not None:
            return begun
    if s.judgement.verdict is Verdict.FINISHED:
        return _everywhere(s)
    if s.guarded and s.live.strategy.type == "OnDelete":
        return _go_on(s)
    return _progress(s)


def _go_on(s: Situation) -> Decision:
    """Delete the next pods under the hard budget; first those of the canary."""
    view = s.view
    in_canary = s.record.phase is Phase.CANARY
    first = budget.canary(view) if in_canary else None
    if first is not None and first.over:
        record = s.record.next(
            phase=Phase.ROLLING, reason=Reason.ROLLOUT_PROGRESSING, progressed=s.now
        )
        return remembering(_progress(s), record, remember(s, record))
    pods = budget.next_deletions(view, canary_only=in_canary)
    marked = _in_service_again(s, pods) or _broke_by_itself(s, pods)
    if marked is not None:
        return marked
    deletions = tuple(
        DeletePod(
            ref=s.live.ref,
            pod=pod.name,
            uid=pod.uid,
            resource_version=pod.resource_version,
            node=pod.node,
        )
        for pod in pods
    )
    again = earliest(first.look_again if first else None, budget.recovers(view))
    return _progress(s, deletions, look_again=again)


def _in_service_again(s: Situation, pods: tuple[Pod, ...]) -> Decision | None:
    """Take nodes off the baseline that serve again, before their pods are deleted like others'.

    They would be out by our hand, so they take budget, vote, and are waited for on the way back.
    Cordoned ones stay: something else is about to happen to them.
    """
    bad = s.record.bad_before
    steady = {node.name for node in s.observed.nodes if not node.unschedulable}
    seconds = _seconds_before(s)
    serving = s.bad_before & steady & {pod.node for pod in pods if pod.is_available(s.now, seconds)}
    if bad is None or not serving:
        return None
    left = tuple(name for name in bad.nodes if name not in serving)
    count = bad.count - len(serving)
    return _marked(s, replace(bad, count=count, nodes=left) if count else None)


def _broke_by_itself(s: Situation, pods: tuple[Pod, ...]) -> Decision | None:
    """Put nodes on the baseline whose pod of last good broke in mid-rollout, before it is deleted.

    What its successor meets there says nothing of the revision.  Fewer than half of the nodes are
    ever excused, and nobody while half of them do not serve: what many share is no node's own.
    """
    good = s.record.last_good
    if good is None:
        return None
    broken = {
        pod.node
        for pod in pods
        if pod.hash == good.hash and (lost := _unready_since(pod)) and lost + _BLIP <= s.now
    }
    known = baseline_now(s) if broken - s.bad_before else None
    if known is None:
        return None
    broken = broken.intersection(known.nodes) - s.bad_before
    states = s.judgement.states.items()
    counted = {node for node, state in states if state is not NodeState.LEAVING}
    seconds = s.live.min_ready_seconds
    serving = {pod.node for pod in s.observed.pods if pod.is_available(s.now, seconds)} & counted
    excused = (s.bad_before | broken) & counted
    if not broken or 2 * len(serving) <= len(counted) or 2 * len(excused) >= len(counted):
        return None
    before = s.record.bad_before or BadBefore(count=0)
    nodes = tuple(sorted(s.bad_before | broken))
    bad = BadBefore(count=before.count + len(broken), nodes=nodes)
    if bad.count > len(nodes) or not has_room(s.record.next(bad_before=bad), _ROOM_BYTES):
        return None
    return _marked(s, bad)


def _marked(s: Situation, bad: BadBefore | None) -> Decision | None:
    """Write a new baseline, and judge by the old one until it is known; None: it is as it was.

    As far as a record has room: one that is full keeps the names that it has.
    """
    record = s.record.next(bad_before=bad)
    kept = load(dump(record))
    if kept is not None and kept.bad_before == s.record.bad_before:
        return None
    step = replace(_progress(s), aside=True)
    return remembering(step, record, remember(s, record))


def _take_baseline(s: Situation) -> Decision | None:
    """Remember who is bad before anything is touched; None: nobody new, or it is too late."""
    reasons = _BEFORE_PEOPLE if s.by_people else _BEFORE_THE_FIRST
    if s.record.reason not in reasons:
        return None
    touched = _touched(s)
    if touched and (s.record.bad_before or s.record.reason is not Reason.ROLLOUT_STARTED):
        return None
    bad = _bad_since_before(s) if touched else baseline_now(s)
    if bad == s.record.bad_before:
        return None
    return _marked(s, bad)


def _progress(
    s: Situation, actions: tuple[Action, ...] = (), *, look_again: datetime | None = None
) -> Decision:
    """Say where the rollout is, and whether it can move by itself."""
    judgement = s.judgement
    stalled = not actions and _stalled(s)
    commit = narrate.short(s.record.commit)
    if stalled and s.by_people:
        because = (
            f"{commit} is on {narrate.progress(judgement)}; updateStrategy is OnDelete, "
            "so it moves when people delete pods."
        )
    elif stalled:
        because = (
            f"{commit} is on {narrate.progress(judgement)}; in the way: "
            f"{narrate.nodes_in_the_way(judgement) or 'nodes that are not ready'}."
        )
    else:
        because = f"{commit} is on {narrate.progress(judgement)}."
    return Decision(
        reason=Reason.ROLLOUT_STALLED if stalled else Reason.ROLLOUT_PROGRESSING,
        because=because,
        actions=actions,
        record=s.record,
        judgement=judgement,
        follow=True,
        look_again=earliest(look_again, judgement.look_again),
    )


def _everywhere(s: Situation) -> Decision:
    """Every node that counts is available: back to Git's strategy, and the bake begins."""
    judgement = s.judgement
    held = s.live.strategy.type == "OnDelete"  # else it was created, or the controller rolls it
    if held and s.at_last_good and s.written_content is not None:
        return _nothing_new(s, s.written_content)
    record = s.record.next(
        phase=Phase.BAKING, reason=Reason.ROLLOUT_BAKING, started=s.now, progressed=s.now
    )
    back_to_strategy = s.live.strategy.type == "OnDelete" and not s.by_people
    if not back_to_strategy:
        action: Action = remember(s, record)
    elif s.written_content is not None:
        action = apply_content(s, s.written_content, record, hold=False)
    else:
        action = remember(s, record, resume=True)
    return Decision(
        reason=Reason.ROLLOUT_BAKING,
        because=f"{narrate.short(s.record.commit)} is on {narrate.progress(judgement)}, "
        f"watched for another {narrate.span(s.policy.bake_time)}.",
        actions=(action,),
        record=record,
        judgement=judgement,
        follow=True,
    )


def _nothing_new(s: Situation, content: Desired) -> Decision:
    """The write left the template as it was (after defaulting): no rollout, no bake."""
    good = s.record.last_good
    assert good is not None, "at_last_good says there is one"
    record = s.written(
        phase=Phase.IDLE,
        reason=Reason.IN_SYNC,
        started=None,
        progressed=None,
        bad_before=None,
    )
    record = good_takes_content(s, record)
    return Decision(
        reason=Reason.IN_SYNC,
        because=f"{narrate.short(content.commit)} leaves the pods as they are; nothing restarts.",
        actions=(apply_content(s, content, record, hold=False),),
        record=record,
        judgement=s.judgement,
    )


def _bake(s: Situation) -> Decision:
    """Watch what is everywhere for the bake time; then it is the last good content."""
    judgement = s.judgement
    commit = narrate.short(s.record.commit)
    due = (s.record.started or s.now) + s.policy.bake_time
    if due > s.now or judgement.verdict is not Verdict.FINISHED:
        return Decision(
            reason=Reason.ROLLOUT_BAKING,
            because=f"{commit} is on {narrate.progress(judgement)}, watched until it has been "
            f"fine for {narrate.span(s.policy.bake_time)}.",
            record=s.record,
            judgement=judgement,
            follow=True,
            look_again=earliest(due if due > s.now else None, judgement.look_again),
        )
    seen = judgement.count(NodeState.DESIRED) > 0
    record = s.record.next(
        phase=Phase.IDLE,
        reason=Reason.ROLLOUT_FINISHED,
        started=None,
        progressed=None,
        bad_before=None,
        last_good=s.good_now() if seen else s.record.last_good,
        writes=(),
    )
    warning = "" if seen else " No node matches, so it does not count as proved."
    return Decision(
        reason=Reason.ROLLOUT_FINISHED,
        because=f"{commit} is on {narrate.progress(judgement)} and stayed so for "
        f"{narrate.span(s.policy.bake_time)}.{warning}",
        actions=(remember(s, record),),
        record=record,
        judgement=judgement,
    )


def baseline_now(s: Situation) -> BadBefore | None:
    """Return the nodes that are not fine before anything is touched."""
    seconds = _seconds_before(s)
    nodes = baseline(
        s.live, s.observed.pods, s.observed.nodes, min_ready_seconds=seconds, now=s.now
    )
    return BadBefore(count=len(nodes), nodes=tuple(sorted(nodes))) if nodes else None


def _seconds_before(s: Situation) -> int:
    """Return the minReadySeconds of before: a raised one makes no pod bad."""
    good = s.record.last_good
    return good.min_ready_seconds if good else s.live.min_ready_seconds


def _bad_since_before(s: Situation) -> BadBefore | None:
    """Return the nodes that were not fine before the write by what they say themselves.

    For a first look that came when a pod was missing or new somewhere: one node that joins or that
    cannot keep its pod takes no excuse from the others.  A standing old pod was not touched.
    """
    known = baseline_now(s)
    target = s.target.hash if s.target else ""
    bad = {node.name for node in s.observed.nodes if _away_since_before(s, node)}
    for pod in s.observed.pods:
        lost = _unready_since(pod)
        if pod.hash == target or pod.deleting is not None or lost is None:
            continue
        if _is_before_start(s, lost):
            bad.add(pod.node)
    names = tuple(name for name in (known.nodes if known else ()) if name in bad)
    return BadBefore(count=len(names), nodes=names) if names else None


def _unready_since(pod: Pod) -> datetime | None:
    """Return since when a pod is not ready; None: it is, or does not say."""
    ready = pod.conditions.get("Ready")
    return None if ready is None or pod.is_ready else ready.since


def _touched(s: Situation) -> bool:
    """Whether a node already has the new revision, or is on its way to it.

    What is missing or going on a node that has been away since before was none of ours.
    """
    target = s.target.hash if s.target else ""
    if any(pod.hash == target or _goes_since_start(s, pod) for pod in s.observed.pods):
        return True
    away = {node.name for node in s.observed.nodes if _away_since_before(s, node)}
    if _without_pod(s) - away:
        return True
    if s.record.reason is Reason.ROLLOUT_STARTED:
        return False
    good = s.record.last_good  # superseded content may have touched what the newer has not
    return good is None or any(pod.hash != good.hash for pod in s.observed.pods)


def _goes_since_start(s: Situation, pod: Pod) -> bool:
    """Whether a pod was deleted after the forward write."""
    if pod.deleting is None:
        return False
    return not _is_before_start(s, pod.deleting - timedelta(seconds=pod.grace))


def _away_since_before(s: Situation, node: Node) -> bool:
    """Whether a node has been NotReady since before the forward write: we delete no pod of it."""
    away = not node.is_ready
    return away and (node.ready_since is None or _is_before_start(s, node.ready_since))


def _is_before_start(s: Situation, at: datetime) -> bool:
    """Whether it was before the forward write, as far as two clocks can tell."""
    return s.record.started is not None and at < s.record.started - _CLOCKS_DIFFER


def _without_pod(s: Situation) -> set[str]:
    return set(eligible_nodes(s.live, s.observed.nodes)) - {pod.node for pod in s.observed.pods}


def _stalled(s: Situation) -> bool:
    """Whether only nodes or people are in the way."""
    judgement = s.judgement
    if any(judgement.count(state) for state in (NodeState.STARTING, NodeState.TERMINATING)):
        return False
    if s.by_people:
        return not judgement.count(NodeState.NO_POD)
    return judgement.verdict is Verdict.NODE_PROBLEM
