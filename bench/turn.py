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


def main():
    """Measure and print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with tempfile.TemporaryDirectory() as folder:
        measure(count, Path(folder))


def measure(count, folder):
    """Sync `count` manifests once, then look at what nothing costs."""
    repository = Repository.create(folder / "repository")
    repository.commit(files(count), "Add the agents")
    where, what = address.parse(str(repository.path)), revision.parse("branch", "main")
    source = GitSource(Tracked(name="agents", address=where, revision=what), folder / "cache")
    world = World(nodes=5, provides=True)
    world.make_namespace(NAMESPACE)
    drive = wiring.simulated(
        world,
        {source.name: source},
        namespaces=[NAMESPACE],
        policy=Policy(bake_time=timedelta(seconds=1)),
        voice=Silence(),
        interval=timedelta(hours=1),
    )
    agent = drive.agent

    def at_rest():
        found = agent.decisions.values()
        return len(found) == count and all(each.record.phase is Phase.IDLE for each in found)

    start = perf_counter()
    if not drive.run(timedelta(minutes=10), until=at_rest):
        raise RuntimeError("the agents did not come to rest")
    print(
        f"first sync of {count}             {perf_counter() - start:8.1f} s (simulation included)"
    )

    mirror = next((folder / "cache").glob("*/mirror.git"))
    fetch = ["git", "--git-dir", str(mirror), "fetch", "--quiet", str(repository.path),
             "+refs/heads/main:refs/bench"]  # fmt: skip
    floor = milliseconds(lambda: subprocess.run(fetch, check=True))

    def turn():
        drive.polls.poll_now()
        agent.turn()

    took = milliseconds(turn)
    print(f"floor: bare git fetch           {floor:8.1f} ms")
    print(
        f"unchanged turn, {count} manifests  {took:8.1f} ms  {took / floor:5.1f} x floor  goal 30 ms"
    )

    now = world.clock.now()
    pairs = [
        (agent.intake.of(ref, None, now), agent.cluster.observe(ref, now).live)
        for ref in agent.decisions
    ]
    texts = [(json.dumps(a.manifest), json.dumps(a.manifest)) for a, _ in pairs]
    values = [(json.loads(a), json.loads(b)) for a, b in texts]
    equal = milliseconds(lambda: [a == b for a, b in values])
    compared = milliseconds(lambda: [difference.missing(a, b) for a, b in pairs])
    print(f"floor: == of {count} equal objects {equal:8.1f} ms")
    print(f"diff of {count} unchanged          {compared:8.1f} ms  {compared / equal:5.1f} x floor")


if __name__ == "__main__":
    main()
