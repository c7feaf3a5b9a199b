"""Before anything: is it there, is it ours, can it be seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dsgitops.core import bodies, narrate
from dsgitops.core import record as records
from dsgitops.core.actions import Apply, Recall
from dsgitops.core.gates import barred, refused
from dsgitops.core.health import eligible_nodes
from dsgitops.core.model import Decision, Desired, Phase, Reason, Verdict, WaitingFor
from dsgitops.core.record import VERSION, Record
from dsgitops.core.situation import Situation
from dsgitops.core.steps import in_flight, look_closer, owners, remember, suspended, unreadable

if TYPE_CHECKING:
    from datetime import datetime

    from dsgitops.core.model import Live


def wait_while_blind(s: Situation) -> Decision | None:
    """Without a live view nothing is known, not even that the object is gone; clocks stop."""
    if s.observed.live_since is not None:
        return None
    return Decision(
        reason=Reason.CLUSTER_UNREACHABLE,
        because="The cluster cannot be seen at the moment; nothing is concluded from that.",
        record=s.given,
        follow=in_flight(s),
    )


def leave_to_others(s: Situation) -> Decision | None:
    """What is not ours stays as it is: no record and not in Git, another source's, a newer v."""
    if s.given is None:
        if isinstance(s.desired, Desired):
            return None
        return unreadable(s) or Decision(
            reason=Reason.MISSING, because="Neither in Git nor managed by dsgitops."
        )
    if s.given.v > VERSION:
        return Decision(
            reason=Reason.REFUSED,
            because=f"A newer dsgitops keeps the record (v{s.given.v}); this one only reads it.",
            record=s.given,
        )
    moved = s.desired is not None and s.given.source != s.desired.source
    if s.desired is not None and moved and s.observed.live is not None:
        return Decision(
            reason=Reason.REFUSED,
            because=f"Managed from source {s.given.source}; {s.desired.source} has it too.",
            record=s.given,
        )
    return None


def recreate(s: Situation) -> Decision | None:
    """An absent object is made from Git; from last good's commit if Git's was not proved yet."""
    if s.observed.live is not None:
        if not s.observed.live.deleting:
            return None
        return Decision(
            reason=Reason.MISSING, because="Being deleted; waiting for it to be gone.",
            record=s.given,
        )  # fmt: skip
    if not isinstance(s.desired, Desired):
        return unreadable(s) or Decision(
            reason=Reason.MISSING, because="Gone from the cluster and from Git."
        )
    if s.suspend:
        return suspended(s, "", pending="absent from the cluster")
    return _recall(s, s.desired) or _hold_absent(s, s.desired) or _made(s, s.desired)


def _hold_absent(s: Situation, desired: Desired) -> Decision | None:
    """What failed here is not made again, even if nothing else is known."""
    entry = s.given.holds(desired.template, desired.digest) if s.given else None
    if entry is None:
        return None
    return Decision(
        reason=Reason.QUARANTINED,
        because=f"Deleted, and {narrate.short(desired.commit)} is held ({entry.failure_class}): "
        "not made again until Git moves on or the quarantine is released.",
        record=s.given,
        failure_class=entry.failure_class,
    )


def _made(s: Situation, content: Desired) -> Decision:
    return refused(s, content) or _create(s, content)


def _recall(s: Situation, desired: Desired) -> Decision | None:
    """Ask for last good's content where what Git has was not proved; None: create Git's."""
    good = s.given.last_good if s.given else None
    if good is None or good.commit is None or s.given is None or good.digest == desired.digest:
        return None
    if s.given.holds(good.template or "", good.digest or ""):
        return None
    recalled = s.observed.recalled
    if recalled is not None and recalled.digest == good.digest:
        return _made(s, recalled)
    return Decision(
        reason=Reason.MISSING,
        because=f"Deleted; made again from {narrate.short(good.commit)}, the last good content.",
        actions=(Recall(ref=desired.ref, source=s.given.source, commit=good.commit,
                        path=s.given.path),),
        record=s.given,
    )  # fmt: skip


def _create(s: Situation, content: Desired) -> Decision:
    kept = s.given or Record(source=content.source)
    record = kept.next(
        source=content.source,
        path=content.path,
        commit=content.commit,
        digest=content.digest,
        template=content.template,
        uid="",
        phase=Phase.ROLLING,
        reason=Reason.ROLLOUT_STARTED,
        started=s.now,
        progressed=None,
        bad_before=None,
    )
    return Decision(
        reason=Reason.ROLLOUT_STARTED,
        because=f"{content.ref} is created from {narrate.short(content.commit)}.",
        actions=(Apply(ref=content.ref, body=bodies.forward(content, None, record, hold=False),
                       digest=content.digest),),
        record=record,
        follow=True,
    )  # fmt: skip


def keep_record(s: Situation) -> Decision | None:
    """A record that was taken off, or that came along in a copy, is written (again)."""
    if s.given is None or (s.given.uid in ("", s.live.uid) and _carries(s.live, s.given)):
        return None
    record = s.record.next()
    return Decision(
        reason=Reason.WAITING,
        waiting_for=WaitingFor.PREFLIGHT,
        because="The record is written to the object again.",
        actions=(remember(s, record),),
        record=record,
        follow=in_flight(s),
        aside=True,
    )


def _carries(live: Live, given: Record) -> bool:
    text = live.annotations.get(records.ANNOTATION)
    if text is None:
        return False
    return f'"n":{given.n},' in text or records.load(text) is not None


def adopt(s: Situation) -> Decision | None:
    """Being in Git is consent: the first write takes the spec over, whoever made the object.

    The live revision is last good at once if every eligible node has run it available for the
    bake time.
    """
    if s.given is not None:
        return None
    content = s.content
    assert content is not None, "leave_to_others answers where Git has nothing"
    if s.suspend:
        return suspended(s, "")
    no = barred(s, content)
    if no:
        return no
    record = Record(source=content.source, path=content.path, uid=s.live.uid)
    seen = Situation(desired=content, seen=s.seen, given=record, now=s.now)
    if eligible_nodes(s.live, s.observed.nodes):
        if not s.observed.followed:
            return look_closer(s, "Looking at its pods before taking it over.")
        vouched = _vouch(seen)
        if vouched is not None and vouched > s.now:
            return look_closer(
                s,
                f"Taken over once it has been available for {narrate.span(s.policy.bake_time)}.",
                look_again=vouched,
            )
        if vouched is not None:
            record = record.next(last_good=seen.good_now())
    record = record.next()
    return Decision(
        reason=Reason.WAITING,
        waiting_for=WaitingFor.PREFLIGHT,
        because=f"{content.ref} is taken over from {owners(seen)}; its content comes next.",
        actions=(remember(seen, record, take=True),),
        record=record,
        follow=False,
        aside=True,
    )


def _vouch(s: Situation) -> datetime | None:
    """Return when what runs has (or will have) been available for the bake time; None: not fine."""
    judgement = s.judgement
    if judgement.verdict is not Verdict.FINISHED or judgement.available_since is None:
        return None
    return judgement.available_since + s.policy.bake_time


def wait_for_controller(s: Situation) -> Decision | None:
    """Until the controller has seen the spec, every count is about another one."""
    if s.live.observed_generation >= s.live.generation:
        return None
    return Decision(
        reason=Reason.CONTROLLER_STALE,
        because=f"The DaemonSet controller saw generation {s.live.observed_generation} of "
        f"{s.live.generation}.",
        record=s.given,
        follow=in_flight(s),
        aside=in_flight(s),
    )
