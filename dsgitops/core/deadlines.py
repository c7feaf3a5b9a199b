"""What a pod's manifest says about how long it may take, and about what it needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from dsgitops.core.model import EMPTY
from dsgitops.core.quantity import quantity_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dsgitops.core.model import Policy

Json = Mapping[str, Any]

POD_DEADLINE_LEAST = timedelta(seconds=120)
PULL_ALLOWANCE = timedelta(seconds=60)
INIT_ALLOWANCE = timedelta(seconds=30)
"""For each init container that has to end: nothing in a manifest says how long it may take."""
LOSS_ALLOWANCE = timedelta(seconds=10)
_SECONDS_MAX = 10**8


@dataclass(frozen=True, slots=True)
class Probe:
    """One probe with the API's defaults; seconds."""

    delay: int = 0
    period: int = 10
    success: int = 1
    failure: int = 3

    @property
    def patience(self) -> timedelta:
        """How long it may fail: `initialDelaySeconds + periodSeconds x failureThreshold`."""
        return timedelta(seconds=self.delay + self.period * self.failure)

    @property
    def pace(self) -> timedelta:
        """The soonest it can have succeeded often enough."""
        return timedelta(seconds=self.delay + self.period * self.success)


@dataclass(frozen=True, slots=True)
class Demands:
    """What one container asks for."""

    readiness: Probe | None
    startup: Probe | None
    memory_limit: float | None
    sidecar: bool = False

    @property
    def floor(self) -> timedelta:
        """How long it runs before not being ready means anything at all."""
        startup = self.startup.patience if self.startup else timedelta()
        return startup + (self.readiness.patience if self.readiness else timedelta())

    @property
    def pace(self) -> timedelta:
        """How long a start may take by its own probes, if readiness comes at once."""
        startup = self.startup.patience if self.startup else timedelta()
        return startup + (self.readiness.pace if self.readiness else timedelta())


@dataclass(frozen=True, slots=True)
class Manifest:
    """What the judgement needs of a pod template, and of the one before it."""

    containers: Mapping[str, Demands]
    init: int
    """Init containers that have to end."""
    pod_deadline: timedelta
    """From the pod's creation on a Ready node to its being ready."""
    loss_allowance: timedelta
    """How long a ready pod may be not ready before it counts."""
    shared_window: timedelta
    """Losses of readiness this close to one another have one cause: a few probe periods."""
    lowered_memory: frozenset[str] = frozenset()
    """Containers whose memory limit the change lowered, or set."""
    raised: frozenset[str] = frozenset()
    """Resources of which the change requests more."""
    host_ports: bool = False
    """Whether it asks for ports of the host."""
    new_host_ports: bool = False
    """Whether the change asks for a port of the host that it did not ask for before."""
    grace: timedelta = timedelta(seconds=30)
    """Of the pods that go: the termination grace period before the change."""


def read(
    template: Json, previous: Json | None, *, min_ready_seconds: int, policy: Policy
) -> Manifest:
    """Read a pod template.

    Args:
        template: Of the revision to judge.
        previous: Of last good; None where there is none to compare with.
        min_ready_seconds: As the DaemonSet has it.
        policy: Its `pod_deadline` is used where set, but never below the manifest's own budget.
    """
    containers, init = _containers(template)
    probes = [each.readiness for each in containers.values() if each.readiness]
    longest = max((probe.period * probe.failure for probe in probes), default=0)
    period = max((probe.period for probe in probes), default=0)
    before = previous or EMPTY
    return Manifest(
        containers=containers,
        init=init,
        pod_deadline=_pod_deadline(containers.values(), init, min_ready_seconds, policy),
        loss_allowance=timedelta(seconds=longest) + LOSS_ALLOWANCE,
        shared_window=timedelta(seconds=min(max(3 * period, 5), 60)),
        lowered_memory=_lowered_memory(containers, before) if previous else frozenset(),
        raised=_raised(template, before) if previous else frozenset(),
        host_ports=bool(_host_ports(template)),
        new_host_ports=previous is not None and not _host_ports(template) <= _host_ports(before),
        grace=timedelta(
            seconds=_seconds(_spec(before or template), "terminationGracePeriodSeconds", 30)
        ),
    )


def startup_budget(template: Json) -> timedelta:
    """Return how long the manifest's own probes let a start take; deadlines are never shorter."""
    containers, _ = _containers(template)
    return _budget(containers.values(), floor=True)


def _quantity(given: object) -> float | None:
    """Read a resource quantity (`64Mi`, `200m`, 2); None where it is none."""
    found = quantity_of(given)
    return None if found is None else float(found)


def _pod_deadline(
    containers: Iterable[Demands], init: int, min_ready_seconds: int, policy: Policy
) -> timedelta:
    known = list(containers)
    if policy.pod_deadline is not None:
        return max(policy.pod_deadline, _budget(known, floor=True))
    budget = _budget(known, floor=False) + init * INIT_ALLOWANCE + PULL_ALLOWANCE
    ready = timedelta(seconds=min(max(min_ready_seconds, 0), _SECONDS_MAX))
    return max(POD_DEADLINE_LEAST, budget + ready, _budget(known, floor=True))


def _budget(containers: Iterable[Demands], *, floor: bool) -> timedelta:
    """Sidecars start one after the other, then the containers side by side."""
    known = list(containers)
    sidecars = sum((each.pace for each in known if each.sidecar), timedelta())
    spans = [each.floor if floor else each.pace for each in known if not each.sidecar]
    return sidecars + max(spans, default=timedelta())


def _containers(template: Json) -> tuple[Mapping[str, Demands], int]:
    """Return the containers that stay up, sidecars included, and the number of those that end."""
    spec = _spec(template)
    init = _mappings(spec.get("initContainers"))
    sidecars = [each for each in init if each.get("restartPolicy") == "Always"]
    found = {str(each.get("name")): _demands(each, sidecar=True) for each in sidecars}
    for each in _mappings(spec.get("containers")):
        found[str(each.get("name"))] = _demands(each, sidecar=False)
    return found, len(init) - len(sidecars)


def _demands(container: Json, *, sidecar: bool) -> Demands:
    resources = _mapping(container.get("resources"))
    return Demands(
        readiness=_probe(container.get("readinessProbe")),
        startup=_probe(container.get("startupProbe")),
        memory_limit=_quantity(_mapping(resources.get("limits")).get("memory")),
        sidecar=sidecar,
    )


def _probe(given: object) -> Probe | None:
    if not isinstance(given, Mapping):
        return None
    return Probe(
        delay=_seconds(given, "initialDelaySeconds", 0),
        period=_seconds(given, "periodSeconds", 10),
        success=_seconds(given, "successThreshold", 1),
        failure=_seconds(given, "failureThreshold", 3),
    )


def _lowered_memory(containers: Mapping[str, Demands], before: Json) -> frozenset[str]:
    earlier, _ = _containers(before)
    return frozenset(
        name
        for name, demands in containers.items()
        if demands.memory_limit is not None
        and name in earlier
        and demands.memory_limit < (earlier[name].memory_limit or float("inf"))
    )


def _raised(template: Json, before: Json) -> frozenset[str]:
    now, then = _requests(template), _requests(before)
    return frozenset(name for name, amount in now.items() if amount > then.get(name, 0.0))


def _requests(template: Json) -> Mapping[str, float]:
    """Return what the scheduler adds up: all that stay up, or the largest that runs before them."""
    spec = _spec(template)
    together: dict[str, float] = {}
    alone: dict[str, float] = {}
    for each in _mappings(spec.get("containers")):
        _add(together, each)
    for each in _mappings(spec.get("initContainers")):
        if each.get("restartPolicy") == "Always":
            _add(together, each)
            continue
        single: dict[str, float] = {}
        _add(single, each)
        alone = {key: max(alone.get(key, 0), single.get(key, 0)) for key in alone | single}
    return {key: max(together.get(key, 0), alone.get(key, 0)) for key in together | alone}


def _add(total: dict[str, float], container: Json) -> None:
    resources = _mapping(container.get("resources"))
    limits, requests = _mapping(resources.get("limits")), _mapping(resources.get("requests"))
    for name, given in {**limits, **requests}.items():
        total[str(name)] = total.get(str(name), 0.0) + (_quantity(given) or 0.0)


def _host_ports(template: Json) -> frozenset[tuple[str, int]]:
    spec = _spec(template)
    host = spec.get("hostNetwork") is True
    return frozenset(
        (str(port.get("protocol") or "TCP"), number)
        for container in _mappings(spec.get("containers"))
        for port in _mappings(container.get("ports"))
        if (
            number := _seconds(port, "hostPort", 0) or (host and _seconds(port, "containerPort", 0))
        )
    )


def _spec(template: Json) -> Json:
    return _mapping(template.get("spec"))


def _mapping(given: object) -> Json:
    return given if isinstance(given, Mapping) else EMPTY


def _mappings(given: object) -> tuple[Json, ...]:
    items: Iterable[object] = given if isinstance(given, list | tuple) else ()
    return tuple(each for each in items if isinstance(each, Mapping))


def _seconds(given: Json, key: str, default: int) -> int:
    """Return a number that the API would accept; anything else is the default."""
    value = given.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        return default
    return min(value, _SECONDS_MAX)
