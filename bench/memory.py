"""Memory of the agent's process: 1,000 DaemonSets at rest, and a rollout over 5,000 pods.

The simulated cluster is another process, served over loopback; the floor is a process that lists
the same objects as bytes and keeps them, beside the same imports.

.venv/bin/python bench/memory.py [DAEMONSETS [NODES]]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

from dsgitops.sim.http import HttpServer
from dsgitops.sim.repository import Repository
from dsgitops.sim.world import World

sys.path.insert(0, str(Path(__file__).parent))
from fleet_of_manifests import NAMESPACE, files, manifest

MIB = 1024 * 1024
DSGITOPS = [sys.executable, "-m", "dsgitops"]
FLOOR = """
import sys, time, urllib.request
import kubernetes.client, git, apscheduler.schedulers.background, msgspec
kept = [urllib.request.urlopen(sys.argv[1] + path).read() for path in sys.argv[2:]]
time.sleep(60)
"""
DAEMONSETS = f"/apis/apps/v1/namespaces/{NAMESPACE}/daemonsets"
REVISIONS = f"/apis/apps/v1/namespaces/{NAMESPACE}/controllerrevisions"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
NODES = "/api/v1/nodes"


class Cluster:
    """A simulated cluster in this process, whose time goes on in a thread."""

    def __init__(self, nodes, folder):
        self.world = World(nodes=nodes, provides=True)
        self.world.make_namespace(NAMESPACE)
        self.server = HttpServer(self.world.api, threading.RLock())
        self.server.start()
        self.kubeconfig = folder / "kubeconfig"
        self.server.write_kubeconfig(self.kubeconfig)
        self._stop = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        while not self._stop.wait(0.05):
            with self.server.lock:
                self.world.advance(0.25)

    def close(self):
        """Stop time and server."""
        self._stop.set()
        self.server.stop()


@contextmanager
def process(arguments, **keywords):
    """Run a process; kill it at the end."""
    running = subprocess.Popen(arguments, **keywords)
    try:
        yield running
    finally:
        running.kill()
        running.wait()


def memory(pid, name="VmRSS"):
    """Return what the kernel says of a process, in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024 / MIB
    return 0.0


def wait_for(condition, seconds):
    """Wait until a condition holds.

    Raises:
        RuntimeError: It did not.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.5)
    raise RuntimeError("it did not come to that")


def configuration(folder, repository):
    """Write the settings."""
    file = folder / "dsgitops.json"
    settings = {
        "cacheDir": str(folder / "cache"),
        "namespaces": [NAMESPACE],
        "sources": [{"name": "agents", "url": f"file://{repository.path}", "interval": "2s"}],
        "rollout": {"bakeTime": "5s", "canary": {"nodes": 1, "bakeTime": "1s"}},
    }
    file.write_text(json.dumps(settings))
    return file


def measure(title, repository_files, nodes, settled, act, paths, goals):
    """Run an agent against a cluster until it has settled, act, and print its memory."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        repository = Repository.create(folder / "repository")
        repository.commit(repository_files, "Add the agents")
        cluster = Cluster(nodes, folder)
        file = configuration(folder, repository)
        arguments = [
            *DSGITOPS,
            "run",
            "--config",
            str(file),
            "--kubeconfig",
            str(cluster.kubeconfig),
        ]
        log = (folder / "log").open("w")
        try:
            with process(arguments, stderr=log) as agent:
                wait_for(lambda: settled(cluster.world), 300)
                act(cluster.world, repository)
                time.sleep(5)
                steady, peak = memory(agent.pid), memory(agent.pid, "VmHWM")
            with process([sys.executable, "-c", FLOOR, cluster.server.url, *paths]) as floor:
                time.sleep(8)
                bare = memory(floor.pid, "VmHWM")
        finally:
            cluster.close()
    print(f"{title}: steady {steady:.0f} MiB ({steady / bare:.1f} x floor), "
          f"peak {peak:.0f} MiB ({peak / bare:.1f} x floor), floor {bare:.0f} MiB, {goals}")  # fmt: skip


def idle_records(world):
    """Return how many DaemonSets are at rest."""
    found = world.store.list("daemonsets", NAMESPACE)
    records = (each["metadata"].get("annotations", {}).get("dsgitops.io/record") for each in found)
    return sum(1 for each in records if each and '"phase":"Idle"' in each)


def main():
    """Measure and print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    nodes = int(sys.argv[2]) if len(sys.argv) > 2 else 5000
    measure(
        f"{count} DaemonSets",
        files(count),
        5,
        lambda world: idle_records(world) == count,
        lambda _world, _repository: None,
        [DAEMONSETS, REVISIONS, NODES],
        "goals 64 and 96 MiB",
    )
    first = manifest(0, nodes="linux")
    second = json.loads(json.dumps(first).replace("v1.17", "v1.18"))

    def roll(world, repository):
        repository.commit({"agents/0000.json": json.dumps(second)}, "Update the agent")

        def done():
            found = world.store.list("daemonsets", NAMESPACE)[0]
            updated = found.get("status", {}).get("updatedNumberScheduled", 0)
            return found["metadata"]["generation"] > 1 and updated > nodes * 0.3

        wait_for(done, 500)

    measure(
        f"a rollout over {nodes} pods",
        {"agents/0000.json": json.dumps(first)},
        nodes,
        lambda world: idle_records(world) == 1,
        roll,
        [DAEMONSETS, REVISIONS, NODES, PODS],
        "goal 96 MiB",
    )


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main()
