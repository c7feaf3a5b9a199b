"""Whether the agent is alive, and whether it is ready: one sentence each.

Dead means that a restart may help.  So a Git remote or an API server that is away, or takes
connections and never answers, is no death (both are retried, a rollout in flight goes on meanwhile,
and a new process would not reach them either); what does not come back from them although its
deadline has passed is.  An agent that does not see the cluster lives and is not ready.  Why:
`docs/decisions/0012-an-api-that-hangs-is-no-reason-to-restart.md`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import timedelta

    from dsgitops.errors import DsgitopsError
    from dsgitops.runtime import Runtime

TURN_INTERVALS = 3
"""Poll intervals within which a turn must have been completed."""
TURN_SECONDS_LEAST = 10.0
"""However short the interval: the first look at a thousand DaemonSets takes a while."""
WRITE_SECONDS_MAX = 600.0
"""Four requests, each 30 s to an answer and 90 s for a body that comes in drops: an API server that
is as slow as that does not make us look dead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """By what it is judged whether the agent lives."""

    turn: float
    """Seconds since the last turn was completed."""
    turn_max: float
    stuck: tuple[str, ...] = ()
    """Sources whose poll outlived its deadline, or is not made any more."""
    write: float = 0.0
    """Seconds for which the oldest write under way has been."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stand:
    """By what it is judged whether the agent can do its work."""

    synced: bool
    """Whether every list of the cluster was read once."""
    leading: bool
    fault: str = ""
    """Why the Lease could not be kept at the last try."""
    blind: float = 0.0
    """Seconds for which the cluster has not been seen; 0: it is."""
    why: str = ""
    """What stands in the way of the watches."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found, and why, in one sentence."""

    well: bool
    why: str


def vitals(runtime: Runtime, interval: timedelta) -> Vitals:
    """Take the vital signs of an agent; waits for no lock that a turn holds.

    Args:
        runtime: That runs, or should.
        interval: The shortest poll interval of its sources.
    """
    return Vitals(
        turn=runtime.agent.clock.monotonic() - runtime.turned,
        turn_max=max(TURN_INTERVALS * interval.total_seconds(), TURN_SECONDS_LEAST),
        stuck=runtime.polls.stuck(),
        write=runtime.hands.longest(),
    )


def stand(runtime: Runtime) -> Stand:
    """Look at what an agent has of the cluster and of the Lease."""
    fault, since = runtime.lease.fault, runtime.cluster.blind_since
    blind = (runtime.agent.clock.now() - since).total_seconds() if since is not None else 0.0
    return Stand(
        synced=runtime.cluster.synced,
        leading=runtime.lease.leading,
        fault=fault.what if fault is not None else "",
        blind=max(blind, 0.1) if since is not None else 0.0,
        why=next((f"{what}: {each.what}" for what, each in _faults(runtime)), ""),
    )


def _faults(runtime: Runtime) -> Iterable[tuple[str, DsgitopsError]]:
    return sorted(runtime.cluster.faults().items())


def alive(found: Vitals) -> Finding:
    """Return whether the agent works; if not, a restart may help."""
    if found.turn > found.turn_max:
        return Finding(False, f"No turn was completed for {found.turn:.0f} s: the agent hangs.")
    if found.stuck:
        names = ", ".join(found.stuck)
        return Finding(False, f"Polls do not come back although their time is over: {names}.")
    if found.write > WRITE_SECONDS_MAX:
        return Finding(False, f"A write has been under way for {found.write:.0f} s: it hangs.")
    return Finding(True, f"A turn was completed {found.turn:.1f} s ago.")


def ready(found: Stand) -> Finding:
    """Return whether the agent sees the cluster, and leads or stands by to."""
    because = f": {found.why}" if found.why else ""
    if not found.synced:
        return Finding(False, f"The cluster was not read yet{because}.")
    if found.blind:
        return Finding(False, f"The cluster has not been seen for {found.blind:.0f} s{because}.")
    if found.leading:
        return Finding(True, "Leading: the cluster is watched.")
    if found.fault:
        return Finding(False, f"Cannot lead or stand by: {found.fault}.")
    return Finding(True, "Standing by: another agent leads, and the cluster is watched.")
