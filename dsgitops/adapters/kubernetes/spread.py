"""One resource over the managed namespaces: one watch for all of them, or one watch each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dsgitops.adapters.kubernetes.kinds import path_of, within
from dsgitops.adapters.kubernetes.lists import Collection
from dsgitops.adapters.kubernetes.reflector import Reflector

if TYPE_CHECKING:
    from datetime import datetime

    from dsgitops.adapters.kubernetes.reflector import Surroundings
    from dsgitops.adapters.kubernetes.shelf import Decode, Shelf
    from dsgitops.errors import DsgitopsError

EACH_MAX = 4
"""Up to so many namespaces get a watch each: it needs no cluster-wide right and brings nothing
that is not ours.  For more, one watch of all namespaces is tried first: one connection and one
thread instead of hundreds."""
EVERYWHERE = ""


class Spread:
    """Reflectors of one resource that share a shelf.

    Where the cluster-wide list is forbidden, each namespace gets a reflector of its own: one that
    is forbidden later freezes its namespace alone.

    Args:
        api: `APPS` or `CORE`.
        resource: The plural.
        namespaces: The managed ones.
        shelf: Where the objects go.
        decode: What is kept of them.
        around: For the reflectors.
    """

    def __init__(  # noqa: PLR0913 - what a list is, and what becomes of it
        self,
        api: str,
        resource: str,
        *,
        namespaces: frozenset[str],
        shelf: Shelf,
        decode: Decode,
        around: Surroundings,
    ) -> None:
        self._api, self._resource = api, resource
        self._namespaces = namespaces
        self._shelf = shelf
        self._decode = within(decode, namespaces)
        self._around = around
        wide = len(namespaces) > EACH_MAX
        scopes = [EVERYWHERE] if wide else sorted(namespaces)
        self.reflectors = {scope: self._reflector(scope) for scope in scopes}

    def pump(self, now: datetime) -> None:
        """Pump each reflector; go over to one a namespace where the whole is forbidden."""
        for reflector in self.reflectors.values():
            reflector.pump(now)
        everywhere = self.reflectors.get(EVERYWHERE)
        if everywhere is None or not everywhere.forbidden:
            return
        everywhere.close()
        self.reflectors = {scope: self._reflector(scope) for scope in sorted(self._namespaces)}
        for reflector in self.reflectors.values():
            reflector.pump(now)

    def of(self, namespace: str) -> Reflector | None:
        """Return the reflector that a namespace's objects come from; None: it is not managed."""
        return self.reflectors.get(EVERYWHERE) or self.reflectors.get(namespace)

    @property
    def synced(self) -> bool:
        """Whether every list was read at least once."""
        return all(each.synced for each in self.reflectors.values())

    def faults(self) -> dict[str, DsgitopsError]:
        """Return what stands in the way, by `resource` or `resource in namespace`."""
        return {
            f"{self._resource} in {scope}" if scope else self._resource: each.fault
            for scope, each in self.reflectors.items()
            if each.fault is not None
        }

    def next_timer(self, now: datetime) -> datetime | None:
        """Return when `pump` wants to be called although nothing arrives."""
        times = [each.next_timer(now) for each in self.reflectors.values()]
        return min((each for each in times if each is not None), default=None)

    def close(self) -> None:
        """Stop all watches."""
        for reflector in self.reflectors.values():
            reflector.close()

    def _reflector(self, scope: str) -> Reflector:
        what = Collection(path_of(self._api, self._resource, scope), namespace=scope)
        return Reflector(what, self._shelf, self._decode, self._around)
