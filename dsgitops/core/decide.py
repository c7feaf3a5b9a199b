"""What to do about one DaemonSet: `RULES`, read from the top, the first with an opinion answers.

`decide` is pure, total and deterministic.  It asks for at most one write of the DaemonSet at a
time: the answer to that write is looked at before the next.  The intent behind the order is
`design.md` 6; where this table differs, the comment at the rule says why.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from dsgitops.core.arrival import (
    adopt,
    keep_record,
    leave_to_others,
    recreate,
    wait_for_controller,
    wait_while_blind,
)
from dsgitops.core.failing import follow_rollback
from dsgitops.core.narrate import sentence
from dsgitops.core.raising import raising
from dsgitops.core.reasons import remembering_why
from dsgitops.core.rest import (
    heal_drift,
    hold,
    hold_unreadable,
    in_sync,
    keep_removed,
    release,
    respect_undo,
    start_rollout,
    watch_unrequested,
)
from dsgitops.core.rollout import (
    complete_undo,
    follow_rollout,
    give_up,
    keep_the_hold,
    obey_suspension,
    pause_native,
    supersede,
)
from dsgitops.core.situation import Situation

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from dsgitops.core.model import Decision, Desired, Observed, Unreadable
    from dsgitops.core.record import Record

RULES: tuple[Callable[[Situation], Decision | None], ...] = (
    wait_while_blind,  # first, unlike design.md 6: a blind view must not read "absent"
    leave_to_others,  # not ours: never written
    recreate,  # absent: made again, from what was proved
    wait_for_controller,  # or every count below is about another spec
    adopt,  # in Git, and not ours yet
    follow_rollback,  # completes whatever else happens
    obey_suspension,  # a person said stop
    keep_record,  # nobody takes our memory away
    give_up,  # failed: rolled back before anything newer
    complete_undo,  # a person took the rollout back
    pause_native,  # the first vote stops the controller
    supersede,  # newer content, at once
    keep_the_hold,  # nobody else lets the controller loose under us
    follow_rollout,  # one rollout at a time: wait, go on, bake, finish
    hold_unreadable,  # Git cannot be understood: keep what runs
    keep_removed,  # Git no longer has it: keep it too
    release,  # a person gave held content another chance
    respect_undo,  # a person went back to something good
    hold,  # what failed here stays out until Git moves
    start_rollout,  # Git moved
    watch_unrequested,  # a revision that nobody asked for is followed
    heal_drift,  # someone else moved
    in_sync,
)


def decide(
    desired: Desired | Unreadable | None,
    observed: Observed,
    record: Record | None,
    now: datetime,
) -> Decision:
    """Return what to do about one DaemonSet, and the sentence that says why.

    Args:
        desired: What Git has; `Unreadable` where it cannot be understood; None: not in Git.
        observed: What the cluster shows.
        record: What we remember; None before adoption.
        now: The time, aware.
    """
    situation = Situation(desired=desired, seen=observed, given=record, now=now)
    for rule in RULES:
        decision = rule(situation)
        if decision is not None:
            because = sentence(decision.because)
            if because != decision.because:
                decision = replace(decision, because=because)
            return raising(situation, remembering_why(situation, decision))
    raise AssertionError("the last rule always answers")
