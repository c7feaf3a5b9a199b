"""When the agent was last seen, and what it has read of Git: its Lease tells both."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dsgitops.core import record as records
from dsgitops.errors import ActionRefused

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from dsgitops.cli.connection import Connection

SOURCES = "dsgitops.io/sources"
GRACE = timedelta(seconds=5)
"""Allowed beyond the Lease's duration: clocks differ, and the renewal takes its way."""
USUAL_NAMESPACES = ("dsgitops", "kube-system", "default")
"""Where an agent is looked for by people who may not list Leases everywhere."""

AgentNamespace = Annotated[
    str | None,
    typer.Option("--agent-namespace", metavar="NAME", help="where the agent's Lease is"),
]


@dataclass(frozen=True, slots=True)
class Reading:
    """What an agent has read of one source."""

    commits: tuple[str, ...]
    """Full hashes, newest first."""
    at: datetime | None
    partial: bool
    """Whether some files could not be understood."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """One agent, by its Lease."""

    namespace: str
    holder: str
    seen: datetime | None
    """When it renewed the Lease last."""
    lasts: timedelta
    sources: Mapping[str, Reading]

    def is_stale(self, now: datetime) -> bool:
        """Whether it has not been heard of for longer than its Lease lasts."""
        return self.seen is None or now - self.seen > self.lasts + GRACE


@dataclass(frozen=True, slots=True)
class Agents:
    """All agents that could be found."""

    agents: tuple[Agent, ...]
    refused: bool = False
    """Whether we may not read Leases: then nothing is known of any agent."""

    def reading(self, source: str) -> Reading | None:
        """Return what was read of a source; None: no agent has read it."""
        agent = self.of(source)
        return agent.sources.get(source) if agent is not None else None

    def readings(self) -> tuple[Reading, ...]:
        """Return what was read of all sources."""
        return tuple(each for agent in self.agents for each in agent.sources.values())

    def of(self, source: str) -> Agent | None:
        """Return the agent that reads a source, the one seen last if several say so."""
        return self.latest(each for each in self.agents if source in each.sources)

    def latest(self, among: Iterable[Agent] | None = None) -> Agent | None:
        """Return the agent that was seen last."""
        seen = [each for each in (self.agents if among is None else among) if each.seen]
        return max(seen, key=lambda each: each.seen.timestamp() if each.seen else 0, default=None)

    def is_alive(self, source: str, now: datetime) -> bool | None:
        """Whether the agent that reads a source is there; None: we may not know."""
        if self.refused:
            return None
        agent = self.of(source)
        return agent is not None and not agent.is_stale(now)


def find_agents(connection: Connection, namespace: str | None) -> Agents:
    """Read the Leases of agents.

    Args:
        connection: To the cluster.
        namespace: Where the person says it is; None: everywhere, else in the usual places.

    Raises:
        ClusterUnreachable: No answer.
    """
    client = connection.client
    if namespace is None:
        try:
            return Agents(tuple(_read(each) for each in client.leases()))
        except ActionRefused:
            pass
    places = dict.fromkeys([namespace] if namespace else [connection.namespace, *USUAL_NAMESPACES])
    found: list[Agent] = []
    refused = 0
    for place in places:
        try:
            lease = client.lease(place)
        except ActionRefused:
            refused += 1
            continue
        if lease is not None:
            found.append(_read(lease))
    return Agents(tuple(found), refused=not found and refused > 0)


def _read(lease: dict[str, Any]) -> Agent:
    metadata, spec = lease.get("metadata") or {}, lease.get("spec") or {}
    return Agent(
        namespace=str(metadata.get("namespace") or ""),
        holder=str(spec.get("holderIdentity") or ""),
        seen=_instant(spec.get("renewTime")),
        lasts=timedelta(seconds=float(spec.get("leaseDurationSeconds") or 0)),
        sources=_sources((metadata.get("annotations") or {}).get(SOURCES) or ""),
    )


def _sources(text: str) -> dict[str, Reading]:
    """Read the annotation; what is not as expected counts as not there."""
    try:
        given = json.loads(text) if text else {}
        return {
            str(name): Reading(
                commits=tuple(str(commit) for commit in each.get("commits") or ()),
                at=_instant(each.get("at")),
                partial=bool(each.get("partial")),
            )
            for name, each in given.items()
        }
    except (ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _instant(text: object) -> datetime | None:
    try:
        return records.instant(str(text)) if text else None
    except ValueError:
        return None
