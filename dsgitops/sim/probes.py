"""Probes of one container: ticks on a grid, thresholds, and rest where nothing can change."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Literal

from dsgitops.sim.behaviours import Asked, probe_failure, shares_backend

if TYPE_CHECKING:
    from dsgitops.sim.container import ContainerWorker
    from dsgitops.sim.objects import Object

Kind = Literal["startup", "readiness", "liveness"]


class Prober:
    """One probe during one life of a container.

    A steady answer is not asked for again: the prober sleeps until the process may answer
    otherwise.  A thousand healthy pods cost nothing.
    """

    def __init__(self, container: ContainerWorker, kind: Kind, probe: Object) -> None:
        self._container = container
        self._kind: Kind = kind
        self._probe = probe
        self._period = float(probe.get("periodSeconds") or 10)
        self._base = 0.0
        self._in_a_row = 0
        """Successes; negative: failures."""

    def start(self) -> None:
        """Ask for the first time, right away or after the initial delay."""
        site = self._container.site
        # Now and then readiness is asked before the process listens: the usual noise.
        early = site.between(0.0, 0.03) if self._kind == "readiness" else 0.02
        delay = float(self._probe.get("initialDelaySeconds") or 0) + early
        self._base = site.clock.seconds + delay + site.between(0.2, 1.0) * min(1.0, self._period)
        self._container.later(delay, self._tick)

    def _tick(self) -> None:
        failure = probe_failure(self._probe, self._asked())
        lasts = float(self._probe.get("timeoutSeconds") or 1)
        if failure is not None and failure.startswith("command timed out"):
            self._container.later(lasts, lambda: self._take(failure))
            return
        self._take(failure)

    def _take(self, failure: str | None) -> None:
        if failure is None:
            self._in_a_row = max(self._in_a_row, 0) + 1
            if self._in_a_row == int(self._probe.get("successThreshold") or 1):
                self._container.passed(self._kind)
        else:
            self._in_a_row = min(self._in_a_row, 0) - 1
            self._container.unhealthy(self._kind, failure)
            if -self._in_a_row == int(self._probe.get("failureThreshold") or 3):
                self._container.failed(self._kind)
        self._next(failure)

    def _next(self, failure: str | None) -> None:
        if self._kind == "startup" and failure is None and self._is_settled():
            return
        now = self._container.site.clock.seconds
        if failure is not None or not self._is_settled():
            self._at_grid(now)
            return
        change = self._container.program.next_change(self._container.age)
        if change is not None:
            self._at_grid(self._container.born + change)
        elif shares_backend(self._probe):
            self._container.site.backend_watchers.append(self._container.guarded(self._wake))

    def _wake(self) -> None:
        self._at_grid(self._container.site.clock.seconds)

    def _at_grid(self, after: float) -> None:
        """Tick at the first point of the grid after an instant."""
        steps = max(0, ceil((after - self._base) / self._period + 1e-9))
        at = self._base + steps * self._period
        self._container.later(at - self._container.site.clock.seconds, self._tick)

    def _is_settled(self) -> bool:
        return self._in_a_row >= int(self._probe.get("successThreshold") or 1)

    def _asked(self) -> Asked:
        container = self._container
        return Asked(
            container=container.spec,
            program=container.program,
            age=container.age,
            ip=container.pod.seen.ip,
            backend_up=container.site.backend_up,
        )
