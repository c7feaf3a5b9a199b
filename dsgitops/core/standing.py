"""How a DaemonSet stands, in two words: `sync` and `health` (`interfaces.md`, `get -o json`).

The CLI says them of what it reads, metrics of what the agent decided: the rules are here.
"""

from __future__ import annotations

from typing import Literal

from dsgitops.core.model import Phase, Reason
from dsgitops.core.situation import IN_FLIGHT

Sync = Literal["Synced", "OutOfSync", "Held", "Unknown"]
Health = Literal["Healthy", "Progressing", "Failed", "Degraded", "Suspended", "Unknown"]

OUT_OF_SYNC = frozenset(
    {
        Reason.MANIFEST_INVALID,
        Reason.REFUSED,
        Reason.CONFLICT,
        Reason.MISSING,
        Reason.DRIFT_FOUND,
        Reason.DRIFT_GIVEN_UP,
        Reason.WAITING,
        Reason.PRUNE_HELD,
    }
)
"""Reasons by which the cluster has something else than Git."""
_NOT_BACK = frozenset({Reason.ROLLOUT_FAILED, Reason.ROLLBACK_FAILED})


def sync_of(
    phase: Phase | None, reason: str, *, unknown: bool = False, pending: bool = False
) -> Sync:
    """Return how the cluster's content relates to Git's.

    Args:
        phase: Of the record; None: there is none.
        reason: Of the last decision.
        unknown: Whether what Git or the cluster has is not known now.
        pending: Whether a suspension keeps something from being written (`Decision.pending`).
    """
    if phase is Phase.HELD:
        return "Held"
    if unknown or reason == Reason.SOURCE_UNREADABLE:
        return "Unknown"
    if pending or phase is Phase.ROLLING_BACK or reason in OUT_OF_SYNC:
        return "OutOfSync"
    return "Synced" if phase is not None else "Unknown"


def health_of(phase: Phase, reason: str, *, suspended: bool, complete: bool) -> Health:
    """Return how its pods and its rollout are.

    Args:
        phase: Of the record.
        reason: Of the record: how it came to that phase.
        suspended: Whether a person said that nothing may be done.
        complete: Whether every node that should run the pod has it available.
    """
    if phase is Phase.ROLLING_BACK:
        return "Failed"
    if phase is Phase.HELD and reason in _NOT_BACK:
        return "Failed"
    if suspended:
        return "Suspended"
    if phase in IN_FLIGHT:
        return "Progressing"
    return "Healthy" if complete else "Degraded"
