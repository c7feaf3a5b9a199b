"""What keeps a write from being made: windows, limits, a lasting no, another manager."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from dsgitops.core import budget, narrate
from dsgitops.core.difference import same
from dsgitops.core.health import eligible_nodes
from dsgitops.core.model import Decision, Desired, Reason, WaitingFor
from dsgitops.core.ownership import field_path, leaves, lookup
from dsgitops.core.privileges import forbidden
from dsgitops.core.steps import first_difference, in_flight, owners

if TYPE_CHECKING:
    from datetime import datetime

    from dsgitops.core.model import Refusal
    from dsgitops.core.situation import Situation

DRIFT_WRITES_MAX = 5
"""Writes an hour without a new commit; more would be fighting somebody (S15)."""
_AN_HOUR = timedelta(hours=1)
_ASK_AGAIN = timedelta(minutes=5)
"""After a no that other people can turn into a yes (rights, an admission webhook)."""


def closed_gate(s: Situation, content: Desired) -> Decision | None:
    """Return what a start waits for: a window, or the limit on rollouts at the same time."""
    commit = narrate.short(content.commit)
    if content.opens is not None and content.opens > s.now:
        return Decision(
            reason=Reason.WAITING,
            waiting_for=WaitingFor.WINDOW,
            because=f"{commit} waits for the window that opens at {content.opens:%a %H:%M} UTC.",
            record=s.record,
            look_again=content.opens,
        )
    most = s.policy.max_concurrent_rollouts
    if most and s.observed.rolling_elsewhere >= most:
        return Decision(
            reason=Reason.WAITING,
            waiting_for=WaitingFor.CONCURRENCY,
            because=f"{commit} waits: {s.observed.rolling_elsewhere} of {most} rollouts at the "
            "same time are under way.",
            record=s.record,
        )
    return None


def native_budget(s: Situation) -> Decision | None:
    """In native mode the controller replaces every pod that is not available at once.

    So a template is written only while at most maxUnavailable pods are not Ready, or Ready for
    less than the *new* minReadySeconds (`cluster.md` 5).
    """
    content = s.content
    assert content is not None, "only forward writes ask"
    spec = content.manifest["spec"]
    seconds = int(spec.get("minReadySeconds") or 0)
    nodes = eligible_nodes(s.live, s.observed.nodes)
    fine = {
        pod.node
        for pod in s.observed.pods
        if pod.deleting is None and pod.is_available(s.now, seconds)
    }
    out = len(set(nodes) - fine)
    strategy = s.live.strategy
    given = strategy.max_surge if strategy.surges else strategy.max_unavailable
    try:
        most = max(1, budget.resolve(given, nodes=len(nodes)))
    except ValueError:  # beside OnDelete the API server lets any text stand there
        most = 1
    if out <= most:
        return None
    return Decision(
        reason=Reason.WAITING,
        waiting_for=WaitingFor.BUDGET,
        because=f"{narrate.short(content.commit)} waits: {out} pods are not available for "
        f"{seconds} s, and the controller would replace them all at once (limit {most}).",
        record=s.record,
        follow=True,
        look_again=s.now + timedelta(seconds=max(5, seconds)),
    )


def given_up(s: Situation) -> Decision | None:
    """Drift that comes back again and again is somebody: stop, and name them (S15)."""
    writes = recent(s)
    if len(writes) < DRIFT_WRITES_MAX:
        return None
    return Decision(
        reason=Reason.DRIFT_GIVEN_UP,
        because=f"{first_difference(s) or 'The spec'} was put back {len(writes)} times within an "
        f"hour and changed again by {owners(s)}; left alone until Git moves or an hour passed.",
        record=s.record,
        look_again=writes[0] + _AN_HOUR,
        follow=in_flight(s),
    )


def recent(s: Situation) -> tuple[datetime, ...]:
    """Return the drift writes of the last hour."""
    return tuple(at for at in s.record.writes if s.now - at < _AN_HOUR)


def barred(s: Situation, content: Desired) -> Decision | None:
    """Return the settings' no to this content (`policy:`), before anything is written for it."""
    live = s.observed.live
    found = forbidden(
        content.manifest["spec"]["template"], live.template if live else None, s.policy.gates
    )
    if found is None:
        return None
    path, why = found
    return Decision(
        reason=Reason.REFUSED,
        because=f"{narrate.short(content.commit)} ({content.path}:{content.line}): {path} {why}.",
        record=s.given,
        follow=in_flight(s),
    )


def refused(s: Situation, content: Desired) -> Decision | None:
    """Return a lasting no to this content: the settings', or the API server's while it lasts."""
    return barred(s, content) or refused_by_server(s, content)


def refused_by_server(s: Situation, content: Desired) -> Decision | None:
    """Return the API server's lasting no to this content, until it is time to ask again."""
    refusal = s.observed.refusal
    if refusal is None or refusal.digest != content.digest:
        return None
    again = _asked_again(refusal)
    if again is not None and again <= s.now:
        return None
    remedy = f" {refusal.remedy}." if refusal.remedy else ""
    return Decision(
        reason=Reason.REFUSED,
        because=f"{narrate.short(content.commit)} ({content.path}:{content.line}): "
        f"{refusal.what}.{remedy}",
        record=s.given,
        look_again=again,
        follow=in_flight(s),
    )


def _asked_again(refusal: Refusal) -> datetime | None:
    """Rights and webhooks change without Git: ask again.  Other refusals end with the content."""
    asks = refusal.code == 403 and refusal.at is not None
    return refusal.at + _ASK_AGAIN if asks and refusal.at else None


def conflict(s: Situation, content: Desired) -> Decision | None:
    """A field that another manager holds by Apply with another value: theirs until they let go."""
    for manager, operation, share in s.foreign:
        if operation != "Apply":
            continue
        for path in leaves(share, ("f:spec",)):
            theirs = lookup(s.live.spec, path[1:])
            ours = lookup(content.manifest["spec"], path[1:])
            name = field_path(path)
            if ours is not None and not same(ours, theirs, name.replace(".", "/")):
                return Decision(
                    reason=Reason.CONFLICT,
                    because=f"{name} is held by {manager} with another value; it is "
                    "left until they let go or dsgitops.io/ignore-diff names it.",
                    record=s.record,
                )
    return None
