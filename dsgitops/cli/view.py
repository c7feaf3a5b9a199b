"""What a command sees of a DaemonSet at one moment: read once, by small lists, nothing watched."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dsgitops.core import record as records
from dsgitops.core.model import Observed, Phase, Reason
from dsgitops.core.situation import Situation
from dsgitops.errors import ActionRefused

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from dsgitops.adapters.kubernetes.client import Client
    from dsgitops.cli.connection import Connection
    from dsgitops.cli.target import Targets
    from dsgitops.core.model import Event, Live, Node, Pod, Revision
    from dsgitops.core.record import Record

LISTED_AT_ONCE_MIN = 4
"""DaemonSets from which on one list of all revisions is cheaper than a list each."""
_REASONS = frozenset(Reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One DaemonSet, as read."""

    live: Live
    record: Record | None
    """None: not managed, or someone wrote over the record."""
    revisions: tuple[Revision, ...] = ()
    pods: tuple[Pod, ...] | None = None
    """None: not read, as it is at rest and the status says that all are available."""
    nodes: tuple[Node, ...] = ()
    told: Event | None = None
    """What the agent said of it last, if that is still known."""
    now: datetime

    def situation(self) -> Situation:
        """Return what the rules of the agent would look at, Git and its settings aside."""
        started = self.record.started if self.record else None
        return Situation(
            desired=None,
            seen=Observed(
                live=self.live,
                revisions=self.revisions,
                pods=self.pods or (),
                nodes=self.nodes,
                followed=self.pods is not None,
                live_since=started or self.live.created or self.now,
            ),
            given=self.record,
            now=self.now,
        )


def record_of(live: Live) -> Record | None:
    """Return the record of a DaemonSet; None: it has none that can be read."""
    text = live.annotations.get(records.ANNOTATION)
    return records.load(text) if text is not None else None


def views(connection: Connection, lives: Sequence[Live], wanted: Targets) -> tuple[View, ...]:
    """Read all that belongs to some DaemonSets.

    Args:
        connection: To the cluster.
        lives: The DaemonSets.
        wanted: What the command is about: where to list.

    Raises:
        DsgitopsError: The cluster cannot be read.
    """
    client = connection.client
    revisions = _revisions(client, lives, wanted)
    told = _last_told(client, lives)
    moving = [live for live in lives if not _is_at_rest(live)]
    pods = {live.uid: client.pods(live) for live in moving}
    nodes = client.nodes() if moving else ()
    return tuple(
        View(
            live=live,
            record=record_of(live),
            revisions=tuple(revisions[live.uid]),
            pods=pods.get(live.uid),
            nodes=nodes,
            told=told.get(live.uid),
            now=connection.now(),
        )
        for live in lives
    )


def view_whole(connection: Connection, live: Live) -> View:
    """Read all that belongs to one DaemonSet, pods and nodes included."""
    client = connection.client
    return View(
        live=live,
        record=record_of(live),
        revisions=client.revisions(live),
        pods=client.pods(live),
        nodes=client.nodes(),
        now=connection.now(),
    )


def _is_at_rest(live: Live) -> bool:
    """Whether the status alone says how many nodes are fine: all of them are."""
    record = record_of(live)
    return (
        (record is None or record.phase in (Phase.IDLE, Phase.HELD))
        and live.observed_generation >= live.generation
        and live.available >= live.desired_scheduled
    )


def _revisions(
    client: Client, lives: Sequence[Live], wanted: Targets
) -> defaultdict[str, list[Revision]]:
    found: defaultdict[str, list[Revision]] = defaultdict(list)
    if len(lives) < LISTED_AT_ONCE_MIN:
        for live in lives:
            found[live.uid] = list(client.revisions(live))
        return found
    everywhere = len({live.ref.namespace for live in lives}) > 1
    namespace = "" if everywhere else lives[0].ref.namespace
    for revision in _by_number(client.all_revisions(wanted.namespace and namespace)):
        found[revision.owner].append(revision)
    return found


def _by_number(revisions: Iterable[Revision]) -> list[Revision]:
    return sorted(revisions, key=lambda each: each.number)


def _last_told(client: Client, lives: Sequence[Live]) -> dict[str, Event]:
    """Return what the agent said last of each, by uid; nothing where Events may not be read."""
    namespaces = {live.ref.namespace for live in lives}
    around = [""] if len(namespaces) > LISTED_AT_ONCE_MIN else sorted(namespaces)
    last: dict[str, Event] = {}
    for namespace in around:
        try:
            events = client.daemonset_events(namespace)
        except ActionRefused:
            continue
        for event in events:
            before = last.get(event.uid)
            if event.reason in _REASONS and (before is None or _when(before) <= _when(event)):
                last[event.uid] = event
    return last


def _when(event: Event) -> float:
    at = event.last or event.first
    return at.timestamp() if at is not None else 0.0
