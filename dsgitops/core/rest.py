"""At rest: start what is new, hold what failed, heal what drifted."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from dsgitops.core import bodies, difference, narrate
from dsgitops.core.failing import added, quarantined
from dsgitops.core.gates import (
    closed_gate,
    conflict,
    given_up,
    native_budget,
    recent,
    refused_by_server,
)
from dsgitops.core.health import eligible_nodes
from dsgitops.core.model import Decision, Desired, FailureClass, Phase, Reason, WaitingFor
from dsgitops.core.record import BadBefore, LastGood, Quarantined
from dsgitops.core.rollout import baseline_now
from dsgitops.core.steps import (
    apply_content,
    first_difference,
    good_takes_content,
    heals,
    look_closer,
    owners,
    rehearse,
    remember,
    remembering,
    restore_good,
    speaking_of_good,
    take_over,
    template_owner,
    unreadable,
)
from dsgitops.core.sweep import clear_the_way, lasting_no

if TYPE_CHECKING:
    from dsgitops.core.situation import Situation


def hold_unreadable(s: Situation) -> Decision | None:
    """Git cannot be understood: what runs keeps running."""
    return unreadable(s)


def keep_removed(s: Situation) -> Decision | None:
    """Git no longer has it: it stays, and is told (pruning comes with a later release)."""
    if s.desired is not None:
        return None
    return Decision(
        reason=Reason.PRUNE_HELD,
        because="No longer in Git; prune is off, so it is left as it is.",
        record=s.record,
    )


def release(s: Situation) -> Decision | None:
    """A person released the quarantine (`dsgitops.io/retry-at`): all of it, or one digest."""
    if not s.retry or not s.record.quarantine:
        return None
    digest = s.retry.partition("/")[2]
    kept = tuple(entry for entry in s.record.quarantine if digest and entry.digest != digest)
    still = s.content is not None and any(
        entry.template == s.content.template or entry.digest == s.content.digest for entry in kept
    )
    record = s.record.next(
        phase=Phase.HELD if s.record.phase is Phase.HELD and still else Phase.IDLE,
        reason=Reason.IN_SYNC,
        quarantine=kept,
        retried=s.retry,
    )
    return Decision(
        reason=Reason.WAITING,
        waiting_for=WaitingFor.PREFLIGHT,
        because=f"Released from quarantine: {len(s.record.quarantine) - len(kept)} held content.",
        actions=(remember(s, record),),
        record=record,
    )


def hold(s: Situation) -> Decision | None:
    """Content that failed here stays out until Git moves on; drift heals towards last good."""
    entry = s.held
    if entry is None or s.content is None:
        return None
    if s.record.phase is not Phase.HELD:
        record = s.record.next(phase=Phase.HELD, reason=Reason.QUARANTINED)
        return remembering(_quarantine_told(s, entry), record, remember(s, record))
    if _wanders_from_good(s):
        return _heal_by_restore(s)
    return _quarantine_told(s, entry)


def _wanders_from_good(s: Situation) -> bool:
    """Whether someone changed what was put back.  Content held by `manual` was never put back."""
    good = s.record.last_good
    if good is None or s.good_revision is None or s.record.reason is Reason.ROLLOUT_FAILED:
        return False
    if not any(operation != "Apply" for _, operation, _ in s.foreign):
        return False
    return (
        not s.at_last_good
        or s.live.min_ready_seconds != good.min_ready_seconds
        or bodies.strategy_body(s.live.spec) != good.strategy
    )


def respect_undo(s: Situation) -> Decision | None:
    """A person put back an earlier revision that was good: it is theirs to choose."""
    if s.content is None or not s.template_drifted or s.target is None or s.at_last_good:
        return None
    if not s.was_good(s.target):
        return None
    who = template_owner(s)
    entry = quarantined(s, FailureClass.BY_HAND, by=who)
    good = s.record.last_good
    held = s.held or entry
    record = s.record.next(
        phase=Phase.ROLLING_BACK,
        reason=Reason.ROLLING_BACK,
        started=s.now,
        quarantine=s.record.quarantine if s.held else added(s, entry),
        last_good=_chosen(s),
    )
    record = speaking_of_good(record)
    return Decision(
        reason=Reason.ROLLING_BACK,
        because=f"{who} went back from {narrate.short(good.commit if good else None)} to revision "
        f"{s.target.number}; {narrate.short(held.commit)} is held until Git moves on.",
        actions=(remember(s, record, take=True),),
        record=record,
        follow=True,
        failure_class=FailureClass.BY_HAND,
    )


def start_rollout(s: Situation) -> Decision | None:
    """Git has new content: write it, under the hold if pods would restart."""
    content = s.content
    if content is None:
        return None
    if content.digest == s.record.digest:
        return _rest(s) if s.record.phase is Phase.HELD else None
    no = lasting_no(s, content)
    if no:
        return no
    in_place = _restarts_nothing(s, content)
    if not in_place and s.record.digest:
        closed = closed_gate(s, content)  # before anything is taken from anybody
        if closed:
            return closed
    first = clear_the_way(s, content, "new content", same_template=in_place)
    if first:
        return first
    if not s.record.digest:
        compared = _compare_adopted(s, content)
        if compared is not None:
            return compared
    if in_place:
        return _write_in_place(s, content)
    return closed_gate(s, content) or _start(s, content)


def _rest(s: Situation) -> Decision:
    """Git went back to what is live: no rollout, and nothing is held any more."""
    record = s.record.next(phase=Phase.IDLE, reason=Reason.IN_SYNC)
    return remembering(in_sync(s), record, remember(s, record))


def _compare_adopted(s: Situation, content: Desired) -> Decision | None:
    """An adopted object: ask what the write would change before it is made; None: pods restart."""
    asked = s.rehearsed
    if asked is None:
        return rehearse(s, content, "Comparing the adopted object with Git.")
    if asked.spec_differs:
        return None  # it was asked before the sweep, and what was swept goes with the write
    if asked.equal:
        record = good_takes_content(s, s.written(phase=Phase.IDLE, reason=Reason.IN_SYNC))
        return Decision(
            reason=Reason.IN_SYNC,
            because=f"{content.ref} is as {narrate.short(content.commit)} has it.",
            actions=(remember(s, record),),
            record=record,
        )
    return None if asked.template_changes else _write_in_place(s, content)


def _write_in_place(s: Situation, content: Desired) -> Decision:
    """One write that restarts nothing: labels, annotations, strategy, minReadySeconds."""
    record = s.written(phase=Phase.IDLE, reason=Reason.IN_SYNC, started=None, bad_before=None)
    if s.at_last_good:
        record = good_takes_content(s, record)
    return Decision(
        reason=Reason.IN_SYNC,
        because=f"{content.ref} is at {narrate.short(content.commit)}; nothing restarts.",
        actions=(apply_content(s, content, record, hold=False),),
        record=record,
    )


def _start(s: Situation, content: Desired) -> Decision:
    nodes = narrate.nodes(s.live.desired_scheduled)
    how = ""
    phase = Phase.ROLLING
    bad = None
    if s.guarded:
        if s.policy.canary_nodes:
            phase = Phase.CANARY
            how = ", canary first"
    elif not s.by_people:
        if not s.observed.followed:
            return look_closer(s, "Looking at the pods before the native rollout.")
        waiting = native_budget(s)
        if waiting:
            return waiting
        bad = baseline_now(s)
        how = ", by the DaemonSet controller"
    record = s.written(
        phase=phase,
        reason=Reason.ROLLOUT_STARTED,
        started=s.now,
        progressed=None,
        bad_before=bad,
        writes=(),
    )
    return Decision(
        reason=Reason.ROLLOUT_STARTED,
        because=f"Git moved {content.ref} to {narrate.short(content.commit)}: {nodes}{how}.",
        actions=(apply_content(s, content, record, hold=s.guarded),),
        record=record,
        follow=True,
    )


def watch_unrequested(s: Situation) -> Decision | None:
    """A revision that nobody asked for, or that was never proved, is followed, not fought.

    A control plane upgrade makes such, and an admission policy.
    """
    content = s.content
    if content is None or s.record.phase is not Phase.IDLE or s.target is None:
        return None
    if s.at_last_good or s.template_drifted or not eligible_nodes(s.live, s.observed.nodes):
        return None
    if difference.template_missing(content, s.live.template):
        return None
    bad = None
    if s.record.last_good is None and s.copy_of_record(s.target) is None:
        if not s.observed.followed:
            return look_closer(s, "Looking at the pods of what ran before.")
        bad = _bad_before_us(s)
    record = s.record.next(
        phase=Phase.ROLLING,
        reason=Reason.ROLLOUT_PROGRESSING,
        started=s.now,
        progressed=None,
        bad_before=bad,
    )
    return Decision(
        reason=Reason.ROLLOUT_PROGRESSING,
        because=f"{content.ref} has revision {s.target.name}, which is not proved yet; watching.",
        actions=(remember(s, record),),
        record=record,
        follow=True,
    )


def _bad_before_us(s: Situation) -> BadBefore | None:
    """Return who is not fine under what others rolled out; None where nobody is: that is judged."""
    bad = baseline_now(s)
    total = len(eligible_nodes(s.live, s.observed.nodes))
    return bad if bad is not None and bad.count < total else None


def heal_drift(s: Situation) -> Decision | None:
    """Someone changed what Git has: put it back, name them, and do not fight for ever."""
    content = s.content
    if content is None:
        return None
    path = first_difference(s) or ("The spec" if heals(s) else "")
    if not path:
        return None
    no = conflict(s, content)
    if no:
        return no
    if not s.changed_by_others and not heals(s):
        asked = s.rehearsed
        if asked is None:
            return rehearse(s, content, f"Comparing {path} with Git.")
        if asked.equal:
            return None
    no = given_up(s) or refused_by_server(s, content)  # it was let in before: nothing is added
    if no:
        return no
    if s.template_drifted and not s.at_last_good and s.good_revision is not None:
        return _heal_by_restore(s)
    if s.takeover:
        return _found_drift(s, path)
    record = s.written(writes=(*recent(s), s.now), reason=Reason.DRIFT_HEALED)
    what = "What was changed" if heals(s) else f"{path}, changed by {owners(s)},"
    return Decision(
        reason=Reason.DRIFT_HEALED,
        because=f"{what} is as {narrate.short(content.commit)} has it again.",
        actions=(apply_content(s, content, record, hold=False),),
        record=record,
    )


def _found_drift(s: Situation, path: str) -> Decision:
    """Take the fields over, and say now who changed what: afterwards the fields are ours."""
    step = take_over(s, path, heals=True)
    because = f"{path} was changed by {owners(s)}; it is put back."
    return replace(step, reason=Reason.DRIFT_FOUND, because=because, waiting_for=None, aside=False)


def in_sync(s: Situation) -> Decision:
    """Nothing to do."""
    commit = narrate.short(s.record.commit)
    where = narrate.nodes(s.live.desired_scheduled)
    return Decision(
        reason=Reason.IN_SYNC,
        because=f"{s.live.ref} is at {commit}, available on {s.live.available} of {where}.",
        record=s.record,
    )


def _chosen(s: Situation) -> LastGood | None:
    """Return the live revision as the last good one, by a person's choice."""
    revision, good = s.target, s.record.last_good
    if revision is None:
        return good
    copy = s.copy_of_record(revision)
    return LastGood(
        digest=(copy.digest if copy else "") or None,  # a copy from before the first write has none
        template=(copy.template if copy else "") or None,
        commit=(copy.commit if copy else "") or None,
        revision=revision.name,
        hash=revision.hash,
        strategy=good.strategy if good else bodies.strategy_body(s.live.spec),
        min_ready_seconds=s.live.min_ready_seconds,
        at=s.now,
    )


def _quarantine_told(s: Situation, entry: Quarantined) -> Decision:
    record = s.record
    failed = record.reason in (Reason.ROLLOUT_FAILED, Reason.ROLLBACK_FAILED)
    good = record.last_good
    stays = f"{narrate.short(good.commit)} stays" if good else "it stays where it is"
    who = f" by {entry.by}" if entry.by else ""
    return Decision(
        reason=record.reason if failed else Reason.QUARANTINED,
        because=f"{narrate.short(entry.commit)} is held ({entry.failure_class}{who}); {stays} "
        "until Git moves on or the quarantine is released.",
        record=record,
        failure_class=entry.failure_class,
    )


def _restarts_nothing(s: Situation, content: Desired) -> bool:
    """Whether the live template is known to be what Git has."""
    if s.wants_last_good and s.at_last_good:
        return True
    at_rest = s.record.phase is Phase.IDLE and not s.template_drifted
    return at_rest and content.template == s.record.template


def _heal_by_restore(s: Situation) -> Decision:
    """A drifted template: the exact rollback, so that only pods that took it restart."""
    no = given_up(s)
    if no:
        return no
    record = s.record.next(writes=(*recent(s), s.now), reason=Reason.DRIFT_HEALED)
    if s.record.phase is Phase.HELD:
        record = s.record.next(writes=(*recent(s), s.now))
    back = narrate.short(s.record.good_commit)
    return Decision(
        reason=Reason.DRIFT_HEALED,
        because=f"{template_owner(s)} changed the pod template; {back} is put back, and only "
        "pods that took the change restart.",
        actions=(restore_good(s, record),),
        record=record,
    )
