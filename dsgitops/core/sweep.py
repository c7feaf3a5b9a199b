"""Before a new template is written: would anything stay that a fresh object would not have?

`cluster.md` 3.4, as steps of one request each, taken only where `leftovers` suspects something:
two dry runs, then (if they differ) an apply of the live spec as it is, which makes every field
ours.  The forward write then removes what Git does not have.  Nothing restarts before that write.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dsgitops.core import bodies
from dsgitops.core.actions import Apply
from dsgitops.core.gates import barred, refused
from dsgitops.core.model import Decision, Reason, WaitingFor
from dsgitops.core.ownership import field_path
from dsgitops.core.steps import in_flight, rehearse, take_over

if TYPE_CHECKING:
    from dsgitops.core.model import Desired
    from dsgitops.core.situation import Situation

_INVALID = 422


def clear_the_way(
    s: Situation, content: Desired, what: str, *, same_template: bool
) -> Decision | None:
    """Return the step that comes before a forward write; None: write it.

    Args:
        s: The situation.
        content: What is to be written.
        what: The same for people.
        same_template: No pod would restart: then what is left over stays until one does.
    """
    if s.takeover:
        return take_over(s, what)
    return None if same_template else _sweep(s, content)


def lasting_no(s: Situation, content: Desired) -> Decision | None:
    """Return a lasting no to this content, unless a sweep may turn it into a yes."""
    return barred(s, content) if _may_help(s, content) else refused(s, content)


def _sweep(s: Situation, content: Desired) -> Decision | None:
    """Ask, then sweep.

    Bounded: a sweep is made once for one content (`Record.swept`), and after it no field is
    without an owner.  One that is refused is not tried again.
    """
    if not s.leftovers or s.record.swept == content.digest:
        return None
    refusal = s.observed.refusal
    if refusal is not None and refusal.digest == content.digest:
        if refusal.sweep:
            return None
        if refusal.code == _INVALID:
            return _own_everything(s, content)
    asked = s.rehearsed
    if asked is None:
        what = field_path(s.leftovers[0]).lstrip(".")
        because = f"Looking whether {what}, which nobody owns, would stay."
        return rehearse(s, content, because, fresh=True)
    return _own_everything(s, content) if asked.spec_differs else None


def _may_help(s: Situation, content: Desired) -> bool:
    """Whether the API server's no to this content may come from what nobody owns.

    A retyped volume is refused for ever for the source that was implied before.  Where a dry run
    of the write was accepted, the no has another cause; and where only the sweep was refused (a
    policy may forbid what runs now), the write itself is still to be made.
    """
    refusal = s.observed.refusal
    if refusal is None or refusal.digest != content.digest:
        return False
    if not s.leftovers or s.record.swept == content.digest:
        return False
    if refusal.sweep:
        return s.rehearsed is not None
    return refusal.code == _INVALID and s.rehearsed is None


def _own_everything(s: Situation, content: Desired) -> Decision:
    record = s.record.next(swept=content.digest)
    what = field_path(s.leftovers[0]).lstrip(".")
    body = bodies.sweep(s.live, record)
    return Decision(
        reason=Reason.WAITING,
        waiting_for=WaitingFor.PREFLIGHT,
        because=f"{what} belongs to nobody and would stay: taking all fields before the write.",
        actions=(Apply(ref=content.ref, body=body, digest=content.digest, sweep=True),),
        record=record,
        follow=in_flight(s),
        aside=True,
    )
