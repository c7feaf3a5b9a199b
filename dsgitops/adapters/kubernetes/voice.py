"""Decisions told in the cluster: Events on the DaemonSet, and what was read of Git on the Lease."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from dsgitops.core.record import stamp

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from dsgitops.adapters.kubernetes.events import Events
    from dsgitops.adapters.kubernetes.lease import Lease
    from dsgitops.core.model import Decision, Ref

COMMITS_MAX = 50
"""Of each source on the Lease: `wait` finds a commit that a later one overtook."""


class ClusterVoice:
    """`ports.Voice` into the cluster; best effort, and never in the way of a turn.

    Args:
        events: Writes Events.
        lease: Kept also where nobody is elected.
        history: The commits of a source, newest first.
    """

    def __init__(
        self, events: Events, lease: Lease, history: Callable[[str], Sequence[str]]
    ) -> None:
        self._events = events
        self._lease = lease
        self._history = history
        self._sources: dict[str, dict[str, Any]] = {}

    def tell(self, ref: Ref, decision: Decision, now: datetime, *, news: bool) -> None:
        """See `ports.Voice`."""
        if news and decision.record is not None:
            uid = decision.record.uid
            self._events.tell(ref, uid, decision.reason, decision.because, now)

    def problem(self, source: str, what: str, *, remedy: str = "") -> None:
        """Nothing: what belongs to no DaemonSet has no object to write an Event on."""

    def fault(self, ref: Ref, error: Exception) -> None:
        """Nothing: a fault on the way to the cluster is not told by way of the cluster."""

    def read(self, source: str, commit: str, now: datetime, *, partial: bool) -> None:
        """See `ports.Voice`."""
        commits = list(self._history(source))[:COMMITS_MAX] or [commit]
        self._sources[source] = {"commits": commits, "at": stamp(now), "partial": partial}
        self._lease.announce(json.dumps(self._sources, sort_keys=True, separators=(",", ":")))
