"""The kubelet of one node: takes up the pods bound to it, and can die and come back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dsgitops.sim.objects import Object, condition_of, is_terminating, uid_of
from dsgitops.sim.podworker import PodWorker
from dsgitops.sim.recorder import Recorder

if TYPE_CHECKING:
    from dsgitops.sim.site import Site


class Kubelet:
    """Runs the pods of one node.

    Args:
        site: Store, time and chance.
        node: Its name.
        number: Counts the nodes of a world: addresses are made of it.
    """

    def __init__(self, site: Site, node: str, number: int) -> None:
        self.site = site
        self.node = node
        self.host_ip = f"192.168.{number // 250 % 250}.{number % 250 + 2}"
        self.recorder = Recorder(site.store, site.clock, "kubelet", node)
        self.images: set[str] = set()
        self.sets_up_network = True
        """Whether sandboxes come up."""
        self.takes_down_network = True
        """Whether sandboxes go away."""
        self.alive = True
        self.era = 0
        """Timers of an earlier era are void: the process that set them is gone."""
        self._number = number
        self._addresses = 0
        self._workers: dict[str, PodWorker] = {}
        self._lost = False

    def next_address(self) -> str:
        """Return an IP for a pod."""
        self._addresses += 1
        second, third = divmod(self._number, 250)
        return f"10.{100 + second}.{third}.{self._addresses % 250 + 2}"

    def pod_changed(self, pod: Object) -> None:
        """Take note of a pod that is bound to this node, or goes from it."""
        worker = self._workers.get(uid_of(pod))
        if worker is None:
            self._take_up(pod)
            return
        worker.pod = pod
        if not self.alive or worker.leaving:
            return
        if is_terminating(pod):
            worker.later(self.site.between(0.01, 0.04), worker.terminate)
        elif pod["spec"].get("readinessGates") and worker.seen.sandbox:
            worker.later(self.site.between(0.05, 0.5), worker.write)
        elif _was_flipped(pod):
            worker.later(self.site.between(0.01, 0.1), worker.write)

    def pod_gone(self, pod: Object) -> None:
        """Take note of a pod that is no more, with or without this kubelet's doing."""
        worker = self._workers.pop(uid_of(pod), None)
        if worker is not None:
            self.recorder.forget(worker.uid)

    def die(self, *, with_node: bool) -> None:
        """Stop at once.

        Args:
            with_node: The containers die too; else they run on, unwatched.
        """
        self.alive = False
        self.era += 1
        self._lost = self._lost or with_node

    def come_back(self, pods: list[Object]) -> None:
        """Start again, and go on with what is bound to this node.

        Args:
            pods: Those that are bound to it now.
        """
        if self.alive:
            return
        self.alive = True
        self.era += 1
        lost, self._lost = self._lost, False
        for worker in list(self._workers.values()):
            delay = self.site.between(0.3, 1.0)
            self._soon(worker, delay, lost=lost)
        for pod in pods:
            if uid_of(pod) not in self._workers:
                self._take_up(pod)

    def _soon(self, worker: PodWorker, delay: float, *, lost: bool) -> None:
        worker.later(delay, lambda: worker.resume(lost=lost))

    def _take_up(self, pod: Object) -> None:
        if not self.alive or not pod["spec"].get("nodeName"):
            return
        worker = self._workers[uid_of(pod)] = PodWorker(self, pod)
        worker.later(self.site.between(0.005, 0.03), worker.start)
        if is_terminating(pod):
            worker.later(0.05, worker.terminate)


def _was_flipped(pod: Object) -> bool:
    """Whether the node controller took Ready away: a kubelet always says why."""
    ready = condition_of(pod, "Ready")
    return ready is not None and ready["status"] == "False" and "reason" not in ready
