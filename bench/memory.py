"""Memory of the agent's process: 1,000 DaemonSets at rest, and a rollout over 5,000 pods.

The simulated cluster is another process, served over loopback; the floor is a process that lists
the same objects as bytes and keeps them, beside the same imports.

.venv/bin/python bench/memory.py [DAEMONSETS [NODES]]
"""

from __future__ import annotations

import json
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


@contextmanager
def agent_of(folder, repository, cluster):
    """Run an agent, its log beside its cache."""
    command = [sys.executable, "-m", "dsgitops", "run"]
    command += ["--config", str(configuration(folder, repository))]
    command += ["--kubeconfig", str(cluster.kubeconfig)]
    with (folder / "log").open("w") as log, process(command, stderr=log) as agent:
        yield agent


def floor_of(cluster, paths):
    """Return the memory of a process that holds the same lists as bytes, in MiB."""
    with process([sys.executable, "-c", FLOOR, cluster.server.url, *paths]) as floor:
        time.sleep(8)
        return memory(floor.pid, "VmHWM")


def measure(title, world_of, act, paths, goals):
    """Run an agent until it has settled, act, and print its memory beside the floor's.

    Args:
        title: Of the line.
        world_of: Files of the repository, number of nodes, number of DaemonSets.
        act: Called with world and repository once all DaemonSets are at rest.
        paths: Lists that the floor holds.
        goals: In MiB, for the line.
    """
    manifests, nodes, count = world_of
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        repository = Repository.create(folder / "repository")
        repository.commit(manifests, "Add the agents")
        cluster = Cluster(nodes, folder)
        try:
            with agent_of(folder, repository, cluster) as agent:
                wait_for(lambda: at_rest(cluster.world) == count, 300)
                act(cluster.world, repository)
                time.sleep(5)
                steady, peak = memory(agent.pid), memory(agent.pid, "VmHWM")
            floor = floor_of(cluster, paths)
        finally:
            cluster.close()
    print(
        f"{title:26} floor {floor:4.0f} MiB",
        *(
            f" {word} {each:4.0f} MiB ({each / floor:.1f} x floor)"
            for word, each in (("steady", steady), ("peak", peak))
        ),
        f" {goals}",
        flush=True,
    )


def at_rest(world):
    """Return how many DaemonSets are at rest."""
    found = world.store.list("daemonsets", NAMESPACE)
    records = (each["metadata"].get("annotations", {}).get("dsgitops.io/record") for each in found)
    return sum(1 for each in records if each and '"phase":"Idle"' in each)


def rollout_of(manifest, nodes):
    """Return what rolls a DaemonSet out to a third of the nodes."""
    second = json.dumps(manifest).replace("v1.17", "v1.18")

    def roll(world, repository):
        repository.commit({"agents/0000.json": second}, "Update the agent")

        def done():
            found = world.store.list("daemonsets", NAMESPACE)[0]
            updated = found.get("status", {}).get("updatedNumberScheduled", 0)
            return found["metadata"]["generation"] > 1 and updated > nodes * 0.3

        wait_for(done, 500)

    return roll


def main():
    """Measure and print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    nodes = int(sys.argv[2]) if len(sys.argv) > 2 else 5000
    measure(
        f"{count} DaemonSets",
        (files(count), 5, count),
        lambda _world, _repository: None,
        [DAEMONSETS, REVISIONS, NODES],
        "goals 64 and 96 MiB",
    )
    first = manifest(0, nodes="linux")
    measure(
        f"a rollout over {nodes} pods",
        ({"agents/0000.json": json.dumps(first)}, nodes, 1),
        rollout_of(first, nodes),
        [DAEMONSETS, REVISIONS, NODES, PODS],
        "goal 96 MiB",
    )


if __name__ == "__main__":
    main()
