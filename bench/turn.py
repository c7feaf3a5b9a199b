"""What an unchanged turn costs with 1,000 manifests, and the comparison of all of them.

.venv/bin/python bench/turn.py [MANIFESTS]
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from datetime import timedelta
from pathlib import Path
from time import perf_counter

from dsgitops import wiring
from dsgitops.adapters.git import address, revision
from dsgitops.adapters.git.source import GitSource, Tracked
from dsgitops.core import difference
from dsgitops.core.model import Phase, Policy
from dsgitops.sim.repository import Repository
from dsgitops.sim.world import World

sys.path.insert(0, str(Path(__file__).parent))
from fleet_of_manifests import NAMESPACE, files


class Silence:
    """Nobody is told."""

    def tell(self, ref, decision, now, *, news):
        """Nothing."""

    def problem(self, source, what, *, remedy=""):
        """Problems of the set-up are errors here."""
        raise RuntimeError(what)

    def fault(self, ref, error):
        """The same."""
        raise error

    def read(self, source, commit, now, *, partial):
        """Nothing."""


def milliseconds(call, times=11):
    """Return the median time of a call."""
    took = []
    for _ in range(times):
        start = perf_counter()
        call()
        took.append((perf_counter() - start) * 1000)
    return statistics.median(took)


def show(name, figure, rest=""):
    """Print one line."""
    print(f"{name:34} {figure:8.1f} {rest}", flush=True)


def simulated_agent(count, folder):
    """Return an agent in a simulated world, with `count` manifests in Git."""
    repository = Repository.create(folder / "repository")
    repository.commit(files(count), "Add the agents")
    where, what = address.parse(str(repository.path)), revision.parse("branch", "main")
    source = GitSource(Tracked(name="agents", address=where, revision=what), folder / "cache")
    world = World(nodes=5, provides=True)
    world.make_namespace(NAMESPACE)
    return wiring.simulated(
        world,
        {source.name: source},
        namespaces=[NAMESPACE],
        policy=Policy(bake_time=timedelta(seconds=1)),
        voice=Silence(),
        interval=timedelta(hours=1),
    )


def first_sync(drive, count):
    """Sync every manifest, and print how long it took.

    Raises:
        RuntimeError: They did not come to rest.
    """
    agent = drive.agent

    def at_rest():
        found = agent.decisions.values()
        return len(found) == count and all(each.record.phase is Phase.IDLE for each in found)

    start = perf_counter()
    if not drive.run(timedelta(minutes=10), until=at_rest):
        raise RuntimeError("the agents did not come to rest")
    show(f"first sync of {count}", perf_counter() - start, "s  with the simulation")


def unchanged_turn(drive, folder, count):
    """Print what a poll and a turn cost that bring nothing, beside a bare fetch."""
    mirror = next((folder / "cache").glob("*/mirror.git"))
    fetch = ["git", "--git-dir", str(mirror), "fetch", "--quiet"]
    fetch += [str(folder / "repository"), "+refs/heads/main:refs/bench"]
    floor = milliseconds(lambda: subprocess.run(fetch, check=True))

    def turn():
        drive.polls.poll_now()
        drive.agent.turn()

    took = milliseconds(turn)
    show("floor: bare git fetch", floor, "ms")
    show(f"unchanged turn, {count} manifests", took, f"ms {took / floor:5.1f} x floor  goal 30 ms")


def comparison(drive, count):
    """Print what it costs to compare Git with the cluster, beside `==` of equal objects."""
    agent, now = drive.agent, drive.world.clock.now()
    pairs = [
        (agent.intake.of(ref, None, now), agent.cluster.observe(ref, now).live)
        for ref in agent.decisions
    ]
    texts = [json.dumps(desired.manifest) for desired, _ in pairs]
    values = [(json.loads(each), json.loads(each)) for each in texts]
    floor = milliseconds(lambda: [one == other for one, other in values])
    took = milliseconds(lambda: [difference.missing(*each) for each in pairs])
    show(f"floor: == of {count} equal objects", floor, "ms")
    show(f"diff of {count} unchanged", took, f"ms {took / floor:5.1f} x floor")


def main():
    """Measure and print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        drive = simulated_agent(count, folder)
        first_sync(drive, count)
        unchanged_turn(drive, folder, count)
        comparison(drive, count)


if __name__ == "__main__":
    main()
