"""How much faster than life the simulation is: a rollout over many nodes, real and virtual time.

    python bench/simulation.py [NODES...]

Prints one line a run: nodes, maxUnavailable, virtual seconds, real seconds, their ratio, and how
many objects were written meanwhile.
"""

import sys
import time

from dsgitops.sim.world import World

NODES = (40, 1000)
BUDGETS = (1, "10%")


def manifest(tag: str, max_unavailable: int | str) -> dict:
    """Return an ordinary node agent: a probe, requests, ten seconds of grace."""
    probe = {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 5}
    container = {
        "name": "agent",
        "image": f"registry.sim/agent:{tag}",
        "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": probe,
        "livenessProbe": {**probe, "initialDelaySeconds": 10},
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
    }
    spec = {
        "selector": {"matchLabels": {"app": "agent"}},
        "updateStrategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxUnavailable": max_unavailable},
        },
        "template": {
            "metadata": {"labels": {"app": "agent"}},
            "spec": {"containers": [container], "terminationGracePeriodSeconds": 10},
        },
    }
    metadata = {"name": "agent", "namespace": "default"}
    return {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": metadata, "spec": spec}


def roll_out(nodes: int, max_unavailable: int | str) -> tuple[float, float, int]:
    """Return virtual seconds, real seconds and writes of one rollout.

    Raises:
        RuntimeError: It did not come to an end.
    """
    world = World(nodes=nodes)

    def finished() -> bool:
        daemonset = world.daemonset("default", "agent")
        status = daemonset.get("status", {})
        return (
            status.get("observedGeneration") == daemonset["metadata"]["generation"]
            and status.get("updatedNumberScheduled") == nodes
            and status.get("numberAvailable") == nodes
        )

    world.apply(manifest("1", max_unavailable))
    if not world.advance_until(finished, within=600):
        raise RuntimeError("the first revision did not become available")
    virtual, writes = world.clock.seconds, world.store.version
    started = time.perf_counter()
    world.apply(manifest("2", max_unavailable))
    if not world.advance_until(finished, within=86400):
        raise RuntimeError("the rollout did not come to an end")
    real = time.perf_counter() - started
    return world.clock.seconds - virtual, real, world.store.version - writes


def main() -> None:
    """Run all sizes and budgets, and print a line each."""
    sizes = [int(argument) for argument in sys.argv[1:]] or NODES
    print("nodes  maxUnavailable  virtual s   real s  virtual/real   writes")
    for nodes in sizes:
        for budget in BUDGETS:
            virtual, real, writes = roll_out(nodes, budget)
            ratio = virtual / real
            print(
                f"{nodes:5}  {budget!s:>14}  {virtual:9.1f}  {real:7.2f}  {ratio:12.0f}  {writes:7}"
            )


if __name__ == "__main__":
    main()
