"""What a pod on a real node takes, by the kernel's own account of its cgroup (v1 or v2)."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from cluster.control_plane import ControlPlane
    from cluster.real_node import RealNode

MIB = 1024 * 1024
_CGROUPS = Path("/sys/fs/cgroup")
_V2 = (_CGROUPS / "cgroup.controllers").exists()
_EVERY_SECONDS = 0.5


@dataclass(frozen=True)
class Taken:
    """What was taken so far."""

    cpu: float
    """Seconds, of all processors together."""
    memory: float
    """MiB of the working set: what cannot be taken back, as kubelets and limits see it."""


@dataclass(frozen=True)
class PodCgroup:
    """The cgroup of a pod; its processes' children are in it too."""

    node: RealNode
    uid: str
    """Of the pod."""

    def taken(self) -> Taken:
        if _V2:
            return Taken(self._counted("cpu", "cpu.stat", "usage_usec") / 1e6, self._memory_v2())
        cpu = int(self._file("cpuacct", "cpuacct.usage").read_text())
        whole = int(self._file("memory", "memory.usage_in_bytes").read_text())
        idle = self._counted("memory", "memory.stat", "total_inactive_file")
        return Taken(cpu / 1e9, (whole - idle) / MIB)

    def pids(self) -> list[int]:
        """Return its processes."""
        top = self._top("memory")
        return [
            int(each) for found in top.rglob("cgroup.procs") for each in found.read_text().split()
        ]

    def _memory_v2(self) -> float:
        whole = int(self._file("memory", "memory.current").read_text())
        return (whole - self._counted("memory", "memory.stat", "inactive_file")) / MIB

    def _counted(self, controller: str, file: str, name: str) -> int:
        lines = self._file(controller, file).read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.split()[0] == name)

    def _file(self, controller: str, name: str) -> Path:
        return self._top(controller) / name

    def _top(self, controller: str) -> Path:
        base = _CGROUPS if _V2 else _CGROUPS / controller
        (found,) = (base / self.node.cgroup).glob(f"kubepods*/**/pod{self.uid}")
        return found


def cgroup_of(plane: ControlPlane, pod: dict) -> PodCgroup:
    """Return the cgroup of a pod, as the API server has it."""
    (node,) = (each for each in plane.real_nodes if each.name == pod["spec"]["nodeName"])
    return PodCgroup(node, pod["metadata"]["uid"])


class Meter:
    """Looks at a pod twice a second, for the block; the memory's peak between looks is missed."""

    def __init__(self, pod: PodCgroup) -> None:
        self._pod = pod
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.begun = pod.taken()
        self.peak = self.begun.memory

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def now(self) -> Taken:
        return self._pod.taken()

    @property
    def cpu(self) -> float:
        """Seconds since it began."""
        return self.now.cpu - self.begun.cpu

    def _look(self) -> None:
        while not self._over.wait(_EVERY_SECONDS):
            self.peak = max(self.peak, self._pod.taken().memory)
