"""What all parts of a simulated cluster share: store, time, chance, and a backend."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from dsgitops.sim.clock import VirtualClock
    from dsgitops.sim.objects import Object
    from dsgitops.sim.store import Store


def _anyone(pod: Object) -> tuple[Object, str]:
    return pod, ""


@dataclass(slots=True)
class Site:
    """The ground that controllers and kubelets stand on."""

    store: Store
    clock: VirtualClock
    random: Random
    """The one source of chance: a world is repeated by its seed."""
    admit: Callable[[Object], tuple[Object, str]] = _anyone
    """Admission of new pods: the pod, changed or not, and the message of a refusal or ""."""
    backend_up: bool = True
    """Whether the backend answers that probes of port 5990 ask."""
    backend_watchers: list[Callable[[], None]] = field(default_factory=list["Callable[[], None]"])
    reached: dict[str, float] = field(default_factory=dict[str, float])
    """When who reaches the API again, in seconds since the start; "": who needs no watch for it."""

    def after(self, delay: float, act: Callable[[], None], who: str = "") -> None:
        """Have a component do something in so many seconds; without the API it waits for it.

        Args:
            delay: In seconds.
            act: What it does.
            who: A controller, or the node of a kubelet: whose watches it needs.
        """
        self.clock.after(delay, partial(self._with_api, act, who))

    def _with_api(self, act: Callable[[], None], who: str) -> None:
        away = self.reached.get(who, 0.0) - self.clock.seconds
        if away > 0:
            self.after(away, act, who)
        else:
            act()

    def between(self, shortest: float, longest: float) -> float:
        """Return a number of seconds by chance."""
        return shortest + (longest - shortest) * self.random.random()

    def turn_backend(self, *, up: bool) -> None:
        """Take the shared backend away or bring it back."""
        self.backend_up = up
        watchers, self.backend_watchers = self.backend_watchers, []
        for wake in watchers:
            wake()
