"""What failed: quarantine it, go back, and see the way back through."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from dsgitops.core import narrate
from dsgitops.core.actions import Recall
from dsgitops.core.deadlines import PULL_ALLOWANCE, startup_budget
from dsgitops.core.gates import given_up, recent
from dsgitops.core.model import Decision, FailureClass, NodeState, Phase, Reason
from dsgitops.core.record import Quarantined, Record
from dsgitops.core.steps import (
    apply_content,
    earliest,
    look_closer,
    remember,
    restore_good,
    speaking_of_good,
    template_owner,
)

if TYPE_CHECKING:
    from datetime import datetime

    from dsgitops.core.actions import Action
    from dsgitops.core.situation import Situation

_SETTLE = timedelta(seconds=60)
"""A view must be live so long before a deadline passes; the node grace period is 50 s."""


def follow_rollback(s: Situation) -> Decision | None:
    """A rollback goes on whatever else happens, and never flips back."""
    if s.record.phase is not Phase.ROLLING_BACK:
        return None
    if not s.observed.followed or s.target is None:
        return look_closer(s, "Looking at the pods of the rollback.")
    if s.good_revision is not None and not s.at_last_good:
        return given_up(s) or _restore_again(s)
    back = narrate.short(s.record.good_commit)
    judgement = s.judgement
    if _restored_everywhere(s):
        return _rolled_back(s, back)
    due = _no_progress(s)
    if due is not None and due <= s.now:
        record = s.record.next(phase=Phase.HELD, reason=Reason.ROLLBACK_FAILED)
        return Decision(
            reason=Reason.ROLLBACK_FAILED,
            because=f"Going back to {back} stopped for {narrate.span(s.policy.progress_deadline)}: "
            f"{narrate.progress(judgement)}. Nothing more is done; look at the nodes.",
            actions=(remember(s, record),),
            record=record,
            judgement=judgement,
            failure_class=_class_of_last(s),
        )
    return Decision(
        reason=Reason.ROLLING_BACK,
        because=f"Back on {back}: {narrate.progress(judgement)}.",
        record=s.record,
        judgement=judgement,
        failure_class=_class_of_last(s),
        follow=True,
        look_again=earliest(due, judgement.look_again),
    )


def _restore_again(s: Situation) -> Decision:
    """Someone changed the template while it went back."""
    record = s.record.next(writes=(*recent(s), s.now))
    back = narrate.short(record.good_commit)
    return Decision(
        reason=Reason.ROLLING_BACK,
        because=f"{template_owner(s)} changed the pod template on the way back; {back} is put "
        "back again.",
        actions=(restore_good(s, record),),
        record=record,
        follow=True,
    )


def _rolled_back(s: Situation, back: str) -> Decision:
    """Say that it is done: held if Git still has what failed, else at rest."""
    phase = Phase.IDLE if s.wants_last_good and s.held is None else Phase.HELD
    record = speaking_of_good(_found_again(s, s.record)).next(
        phase=phase, reason=Reason.ROLLED_BACK, started=None, bad_before=None
    )
    held = s.held if s.content is not None else _last(s)
    hold = f"; {narrate.short(held.commit)} is held until Git moves on" if held else ""
    return Decision(
        reason=Reason.ROLLED_BACK,
        because=f"Back on {back}: {narrate.progress(s.judgement)}{hold}.",
        actions=(remember(s, record),),
        record=record,
        judgement=s.judgement,
        failure_class=held.failure_class if held else None,
    )


def _found_again(s: Situation, record: Record) -> Record:
    """Where the revision was gone, last good's content has one of another name now."""
    good, target = record.last_good, s.target
    if good is None or target is None or s.good_revision is not None:
        return record
    return replace(record, last_good=replace(good, revision=target.name, hash=target.hash))


def fail(s: Situation) -> Decision:
    """Quarantine what failed and go back, as far as policy and history allow."""
    judgement = s.judgement
    commit = narrate.short(s.record.commit)
    why = f"{commit} failed: {narrate.failure(judgement)}"
    if s.policy.rollback == "off":
        return Decision(
            reason=Reason.ROLLOUT_FAILED,
            because=f"{why}. rollback is off: nothing is written.",
            record=s.record,
            judgement=judgement,
            failure_class=judgement.failure_class,
            follow=True,
            look_again=judgement.look_again,
        )
    if s.at_last_good:
        return Decision(
            reason=Reason.ROLLOUT_FAILED,
            because=f"{why}. It is the last good content itself: there is nothing to go back to.",
            record=s.record,
            judgement=judgement,
            failure_class=judgement.failure_class,
            follow=True,
            look_again=judgement.look_again,
        )
    nothing_better = _nothing_better(s)
    if s.policy.rollback == "manual" or nothing_better:
        return _stay(s, why, nothing_better or "rollback is manual: `dsgitops rollback` goes back")
    return _roll_back(s, why)


def _roll_back(s: Situation, why: str) -> Decision:
    good = s.record.last_good
    assert good is not None, "_nothing_better answers where there is none"
    record = speaking_of_good(s.record).next(
        phase=Phase.ROLLING_BACK,
        reason=Reason.ROLLING_BACK,
        started=s.now,
        progressed=None,
        quarantine=added(s, quarantined(s, s.judgement.failure_class)),
    )
    back = narrate.short(good.commit)
    action = restore_good(s, record) if s.good_revision else _apply_recalled(s, record)
    if action is None:
        return Decision(
            reason=Reason.ROLLING_BACK,
            because=f"{why}. Revision {good.revision} is gone; reading {back} from Git.",
            actions=(Recall(ref=s.live.ref, source=s.record.source, commit=good.commit or "",
                            path=s.record.path),),
            record=s.record,
            judgement=s.judgement,
            follow=True,
        )  # fmt: skip
    lost = "" if s.good_revision else " Its revision is gone, so every pod restarts."
    return Decision(
        reason=Reason.ROLLING_BACK,
        because=f"{why}. Going back to {back}.{lost}",
        actions=(action,),
        record=record,
        judgement=s.judgement,
        failure_class=s.judgement.failure_class,
        follow=True,
    )


def _apply_recalled(s: Situation, record: Record) -> Action | None:
    """Return the write of last good's content from Git; None until it was read."""
    recalled = s.observed.recalled
    good = s.record.last_good
    if recalled is None or good is None or recalled.digest != good.digest:
        return None
    return apply_content(s, recalled, record, hold=False)


def _nothing_better(s: Situation) -> str:
    """Return why there is nothing to go back to; "" where there is."""
    good = s.record.last_good
    if good is None:
        return "No revision was good before: nothing to go back to"
    if s.good_revision is None and good.commit is None:
        return "The last good revision is gone, and no commit had it"
    if s.good_revision is None and s.record.holds(good.template or "", good.digest or ""):
        return "The last good revision is gone, and its content is held"
    bad = s.record.bad_before
    total = s.judgement.total
    states = s.judgement.states
    gone = sum(states.get(each, NodeState.LEAVING) is NodeState.LEAVING for each in s.bad_before)
    if bad is not None and total and bad.count - gone >= total:
        return "No node was available before it either: nothing is better"
    return ""


def _stay(s: Situation, why: str, what: str) -> Decision:
    """Quarantine and hold by OnDelete: people do the rest."""
    record = s.record.next(
        phase=Phase.HELD,
        reason=Reason.ROLLOUT_FAILED,
        quarantine=added(s, quarantined(s, s.judgement.failure_class)),
    )
    pause = s.live.strategy.type != "OnDelete"
    return Decision(
        reason=Reason.ROLLOUT_FAILED,
        because=f"{why}. {what}.",
        actions=(remember(s, record, pause=pause),),
        record=record,
        judgement=s.judgement,
        failure_class=s.judgement.failure_class,
    )


def quarantined(s: Situation, kind: FailureClass | None, *, by: str = "") -> Quarantined:
    """Return the entry for the content that is (or was last) written.

    By hand in mid-rest, the content that Git has; the record's is the same there.
    """
    return Quarantined(
        digest=s.record.digest,
        template=s.record.template,
        hash="" if by or s.target is None else s.target.hash,
        commit=s.record.commit,
        failure_class=kind or FailureClass.NO_PROGRESS,
        at=s.now,
        nodes=() if by else narrate.blamed(s.judgement),
        by=by,
    )


def added(s: Situation, entry: Quarantined) -> tuple[Quarantined, ...]:
    """Return the quarantine with `entry`, in place of an earlier one of the same content."""
    others = tuple(each for each in s.record.quarantine if each.digest != entry.digest)
    return (*others, entry)


def _no_progress(s: Situation) -> datetime | None:
    """Return when a rollback that does not move has failed; None: never (nothing to wait for).

    Not before what goes had its grace period, and what comes the start that its probes allow.
    """
    since = [at for at in (s.record.started, s.judgement.progressed) if at is not None]
    if s.by_people or s.observed.live_since is None or not since:
        return None
    start = startup_budget(s.live.template) + PULL_ALLOWANCE
    deadline = max(*since, s.observed.live_since) + max(s.policy.progress_deadline, start)
    going = [pod.deleting + start for pod in s.observed.pods if pod.deleting is not None]
    return max(deadline, s.observed.live_since + _SETTLE, *going)


def _restored_everywhere(s: Situation) -> bool:
    """Whether every Ready node but those bad before is available on the live revision."""
    ready = {node.name for node in s.observed.nodes if node.is_ready}
    counted = {
        node: state
        for node, state in s.judgement.states.items()
        if state not in (NodeState.BAD_BEFORE, NodeState.LEAVING) and node not in s.bad_before
    }
    if any(state is not NodeState.DESIRED for node, state in counted.items() if node in ready):
        return False
    return not counted or not ready.isdisjoint(counted)  # all NotReady shows nothing


def _last(s: Situation) -> Quarantined | None:
    return s.record.quarantine[-1] if s.record.quarantine else None


def _class_of_last(s: Situation) -> FailureClass | None:
    last = _last(s)
    return last.failure_class if last else None
