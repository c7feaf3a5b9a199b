"""Real nodes: a containerd and a kubelet each, with pods in network namespaces of their own.

Everything of a node is in one folder, one bridge and one cgroup; `stop` leaves none of them.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import subprocess
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from cluster import bridge, images
from cluster.part import Part

if TYPE_CHECKING:
    from cluster.control_plane import ControlPlane

NEEDS = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "ip": "iproute2",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
    "/bin/busybox": "busybox-static",
}
"""Program and the Debian package that brings it."""
STOP_SECONDS_MAX = 20.0
_CGROUPS = Path("/sys/fs/cgroup")
_PARTS = "parts"
"""The cgroup of its kubelet and containerd, beside that of its pods."""
_WEIGHTS = {"cpu.shares": 16 * 1024, "cpu.weight": 16 * 100}
"""Sixteen times what one process has beside it: all of a node is in it, on a machine with four
clusters, and an agent that gets a thirtieth of a core loses its Lease."""
_FIRST_KUBELET_PORT = 29000


def lacking() -> set[str]:
    """Return the Debian packages that are to be installed first."""
    return {package for what, package in NEEDS.items() if not shutil.which(what)}


def missing() -> str:
    """Return why no real node can run here; empty: one can."""
    if os.geteuid() != 0:
        return "real nodes need root"
    if packages := sorted(lacking()):
        return f"real nodes need: apt-get install --no-install-recommends {' '.join(packages)}"
    if not os.access(_CGROUPS, os.W_OK):
        return "real nodes need cgroups that can be written"
    return ""


@contextmanager
def joined(plane: ControlPlane, count: int):
    """Let real nodes join for the block; they are Ready when it begins, and gone afterwards."""
    nodes = [RealNode(plane, number) for number in range(1, count + 1)]
    with ExitStack() as stack:
        for each in nodes:
            stack.callback(each.stop)
            each.start()
        plane.wait_for_nodes(*(each.name for each in nodes))
        yield nodes


@dataclass
class RealNode:
    """One node.

    Args:
        plane: The cluster it joins.
        number: From 1; also the third byte of its pods' addresses.
    """

    plane: ControlPlane
    number: int
    parts: dict[str, Part] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"real-{self.number}"

    @property
    def folder(self) -> Path:
        return self.plane.folder / self.name

    @property
    def bridge(self) -> str:
        return f"dsg{self.plane.index}n{self.number}"

    @property
    def cgroup(self) -> str:
        return f"dsgitops-{self.plane.index}-{self.number}"

    @property
    def _network(self) -> str:
        return f"10.{100 + self.plane.index % 100}.{self.number}"

    @property
    def _socket(self) -> Path:
        return self.folder / "containerd.sock"

    # ------------------------------------------------------------------ up and down

    def start(self) -> None:
        """Start containerd, bring it the images, and start the kubelet; returns at once then."""
        self.folder.mkdir()
        bridge.make(self.bridge, f"{self._network}.1/24")
        self._make_cgroups()
        self._write_files()
        self._run("containerd", [shutil.which("containerd"), "--config", "containerd.toml"])
        self._wait_for_containerd()
        for archive in images.archives(self.plane.folder):
            self.take_image(archive)
        self.start_kubelet()

    def take_image(self, archive: Path) -> None:
        """Let the node have the images of a docker archive."""
        self._ctr("images", "import", "--snapshotter", _snapshotter(), str(archive))

    def name_image(self, image: str, also: str) -> None:
        """Let an image that the node has bear another name too, as if pulled under it."""
        self._ctr("images", "tag", "--force", image, also)

    def start_kubelet(self) -> None:
        self._run("kubelet", self._kubelet())

    def kill_kubelet(self) -> None:
        """Take the node's kubelet away; its containers run on."""
        self.parts["kubelet"].kill()

    def stop(self) -> None:
        """Leave no process, mount, bridge or cgroup behind.

        Raises:
            RuntimeError: Something is left all the same; it is named.
        """
        for name in ("kubelet", "containerd"):
            if name in self.parts:
                self.parts[name].kill()
        self._kill_shims()
        self._kill_cgroups()
        for mount in self._mounts():
            subprocess.run(["umount", "-l", mount], check=False, capture_output=True)
        bridge.remove(self.bridge)
        if left := [*_shims_of(self.folder), *self._cgroups(), *self._mounts()]:
            raise RuntimeError(f"{self.name} left behind: {', '.join(map(str, left))}")

    def _run(self, name: str, arguments: list[str]) -> None:
        part = Part(name, arguments, self.folder / f"{name}.log")
        self.parts[name] = part
        part.start()
        self._take_in(part)

    def _take_in(self, part: Part) -> None:
        """Let a part have the node's share of the processor, as its pods do."""
        assert part.process is not None, "it was started"
        for hierarchy in _hierarchies():
            node = hierarchy / self.cgroup
            if any((node / weight).exists() for weight in _WEIGHTS):
                (node / _PARTS).mkdir(exist_ok=True)
                (node / _PARTS / "cgroup.procs").write_text(str(part.process.pid))

    def _ctr(self, *arguments: str) -> str:
        command = ["ctr", "--address", str(self._socket), "--namespace", "k8s.io", *arguments]
        done = subprocess.run(command, capture_output=True, check=False, text=True, timeout=60)
        if done.returncode:
            raise RuntimeError(f"ctr {arguments[0]}: {done.stderr}")
        return done.stdout

    def _wait_for_containerd(self) -> None:
        ends = time.monotonic() + 30
        while time.monotonic() < ends:
            try:
                self._ctr("version")
            except RuntimeError:
                time.sleep(0.1)
            else:
                return
        raise RuntimeError(f"containerd is not ready:\n{self.parts['containerd'].last_words}")

    def _make_cgroups(self) -> None:
        for hierarchy in _hierarchies():
            made = hierarchy / self.cgroup
            made.mkdir(exist_ok=True)
            for name in ("cpuset.cpus", "cpuset.mems"):  # empty in a new cpuset: nothing may run
                if (made / name).exists():
                    (made / name).write_text((hierarchy / name).read_text())
            for name, weight in _WEIGHTS.items():
                if (made / name).exists():
                    (made / name).write_text(str(weight))

    def _kill_shims(self) -> None:
        """End the shims, each of which would keep its container alive without containerd."""
        ends = time.monotonic() + STOP_SECONDS_MAX
        while (pids := _shims_of(self.folder)) and time.monotonic() < ends:
            for pid in pids:
                _kill(pid)
            time.sleep(0.05)

    def _kill_cgroups(self) -> None:
        ends = time.monotonic() + STOP_SECONDS_MAX
        while time.monotonic() < ends:
            left = self._cgroups()
            for each in left:
                for pid in (each / "cgroup.procs").read_text().split():
                    _kill(int(pid))
                _remove(each)
            if not left:
                return
            time.sleep(0.1)

    def _cgroups(self) -> list[Path]:
        return [each for top in _hierarchies() for each in _below(top / self.cgroup)]

    def _mounts(self) -> list[str]:
        """Return what is mounted in the node's folder, the innermost first."""
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        return sorted((m for m in mounts if m.startswith(f"{self.folder}/")), reverse=True)

    # ------------------------------------------------------------------ what it is made of

    def _write_files(self) -> None:
        (self.folder / "containerd.toml").write_text(self._containerd())
        (self.folder / "kubelet.json").write_text(json.dumps(self._kubelet_configuration()))
        network = {
            "cniVersion": "0.4.0",
            "name": "pods",
            "plugins": [
                {
                    "type": "bridge",
                    "bridge": self.bridge,
                    "isGateway": True,
                    "ipam": {
                        "type": "host-local",
                        "dataDir": str(self.folder / "addresses"),
                        "ranges": [[{"subnet": f"{self._network}.0/24"}]],
                        "routes": [{"dst": "0.0.0.0/0"}],
                    },
                },
                {"type": "loopback"},
            ],
        }
        (self.folder / "cni").mkdir()
        (self.folder / "cni" / "10-pods.conflist").write_text(json.dumps(network))

    def _containerd(self) -> str:
        return f"""\
version = 2
root = "{self.folder}/containerd"
state = "{self.folder}/state"
[grpc]
  address = "{self._socket}"
[ttrpc]
  address = "{self._socket}.ttrpc"
[plugins."io.containerd.internal.v1.opt"]
  path = "{self.folder}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{images.PAUSE}"
  restrict_oom_score_adj = true
  stream_server_port = "0"
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{self.folder}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{_snapshotter()}"
"""

    def _kubelet_configuration(self) -> dict[str, object]:
        endpoint = f"unix://{self._socket}"
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": f"{self._network}.1",  # where the API server asks it for logs
            "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"},
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self.cgroup}",
            "failCgroupV1": False,
            "failSwapOn": False,
            "containerRuntimeEndpoint": endpoint,
            "imageServiceEndpoint": endpoint,
            "enableControllerAttachDetach": False,
            "evictionHard": {},
            "nodeStatusUpdateFrequency": "4s",
            "nodeLeaseDurationSeconds": 12,  # renewed every 3 s
            "port": _FIRST_KUBELET_PORT + self.plane.index * 10 + self.number,
            "readOnlyPort": 0,
            "healthzPort": 0,
            "podLogsDir": str(self.folder / "logs"),
            "resolvConf": "",
            "volumePluginDir": str(self.folder / "volume-plugins"),
        }

    def _kubelet(self) -> list[str]:
        return [
            str(self.plane.binaries["kubelet"]),
            "--config=kubelet.json",
            f"--kubeconfig={self.plane.kubeconfig}",
            f"--hostname-override={self.name}",
            f"--node-ip={self._network}.1",
            f"--root-dir={self.folder}/kubelet",
            "--cert-dir=certs",
            "--node-labels=pool=real",
        ]


@functools.cache
def _snapshotter() -> str:
    """Return how containers get their files: by overlayfs, or (native) each by a whole copy."""
    with TemporaryDirectory() as folder:
        lower, upper, work, merged = (Path(folder, name) for name in ("l", "u", "w", "m"))
        for each in (lower, upper, work, merged):
            each.mkdir()
        options = f"lowerdir={lower},upperdir={upper},workdir={work}"
        command = ["mount", "-t", "overlay", "overlay", "-o", options, str(merged)]
        if subprocess.run(command, check=False, capture_output=True).returncode:
            return "native"
        subprocess.run(["umount", str(merged)], check=True)
    return "overlayfs"


def _hierarchies() -> list[Path]:
    """Return where cgroups are made: one place (v2), or one for each controller (v1)."""
    if (_CGROUPS / "cgroup.controllers").exists():
        return [_CGROUPS]
    return [each for each in sorted(_CGROUPS.iterdir()) if (each / "cgroup.procs").exists()]


def _below(top: Path) -> list[Path]:
    """Return a cgroup and all in it, the innermost first."""
    if not top.exists():
        return []
    return [Path(folder) for folder, _, _ in os.walk(top, topdown=False)]


def _shims_of(folder: Path) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):  # it ended meanwhile
                command = (entry / "cmdline").read_bytes()
                if b"containerd-shim" in command and f"{folder}/".encode() in command:
                    found.append(int(entry.name))
    return found


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _remove(cgroup: Path) -> None:
    with suppress(OSError):  # a process in it has not ended yet; asked again
        cgroup.rmdir()
