"""What alerting costs a turn while Sentry hangs: twenty rollouts fail, with and without it.

.venv/bin/python bench/alerts.py [DAEMONSETS]
"""

from __future__ import annotations

import json
import socket
import statistics
import sys
import tempfile
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from random import Random
from time import thread_time

from dsgitops import wiring
from dsgitops.adapters.git import address, revision
from dsgitops.adapters.git.source import GitSource, Tracked
from dsgitops.adapters.outbox import Outbox
from dsgitops.adapters.sentry.channel import SentryChannel
from dsgitops.adapters.voices import Voices
from dsgitops.core.model import Phase, Policy
from dsgitops.sim.repository import Repository
from dsgitops.sim.world import World

sys.path.insert(0, str(Path(__file__).parent))
from fleet_of_manifests import NAMESPACE, manifest
from turn import Silence, show

POLICY = Policy(
    bake_time=timedelta(seconds=2),
    canary_bake=timedelta(seconds=1),
    pod_deadline=timedelta(seconds=30),
)
LOOKS = 200


def files(count, tag):
    """Return a repository whose software does what the image's tag says."""
    made = {}
    for number in range(count):
        found = manifest(number, nodes="linux")
        container = found["spec"]["template"]["spec"]["containers"][0]
        container["image"] = f"registry.sim/agent:{tag}"
        container["readinessProbe"]["httpGet"]["port"] = 8080
        made[f"agents/{number:04d}.json"] = json.dumps(found)
    return made


def failing(count, folder, outbox):
    """Roll out a bad commit to all of them; return the times of the turns, and the drive."""
    repository = Repository.create(folder / "repository")
    repository.commit(files(count, "1"), "Add the agents")
    where, what = address.parse(str(repository.path)), revision.parse("branch", "main")
    source = GitSource(Tracked(name="agents", address=where, revision=what), folder / "cache")
    world = World(nodes=3, provides=True)
    world.make_namespace(NAMESPACE)
    drive = wiring.simulated(
        world, {source.name: source}, namespaces=[NAMESPACE], policy=POLICY, voice=Silence(),
        interval=timedelta(seconds=5),
    )  # fmt: skip
    if outbox is not None:
        drive.agent.desk = outbox
        drive.agent.voice = Voices(Silence(), outbox)
    until(drive, count, Phase.IDLE)
    repository.commit(files(count, "2-crash"), "Break them")
    times = timed(drive)
    until(drive, count, Phase.HELD)
    drive.run(timedelta(seconds=30))
    return times, drive


def until(drive, count, phase):
    """Run until all are in a phase.

    Raises:
        RuntimeError: They never were.
    """

    def there():
        found = [each.record for each in drive.agent.decisions.values()]
        return len(found) == count and all(each and each.phase is phase for each in found)

    if not drive.run(timedelta(minutes=30), until=there):
        raise RuntimeError(f"they never came to {phase}")


def timed(drive):
    """Note how long each turn takes from now on, in ms."""
    times, agent, turn = [], drive.agent, drive.agent.turn

    def measured():
        start = thread_time()  # other work on the machine does not count
        look = turn()
        times.append((thread_time() - start) * 1000)
        return look

    drive.agent = Timed(agent, measured)
    return times


class Timed:
    """An agent whose turns are timed."""

    def __init__(self, agent, turn):
        self.agent = agent
        self.turn = turn

    def __getattr__(self, name):
        return getattr(self.agent, name)


def look_at_all(drive):
    """Return the median CPU time, in ms, of a turn that looks at every DaemonSet."""
    agent = drive.agent.agent
    refs = set(agent.decisions)
    times = []
    for _ in range(LOOKS):
        agent.again |= refs
        start = thread_time()
        agent.turn()
        times.append((thread_time() - start) * 1000)
    return statistics.median(times)


def hanging():
    """Return a listener that takes connections and never answers."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(64)
    return listener


def main():
    """Measure and print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    with tempfile.TemporaryDirectory() as name, closing(hanging()) as away:
        folder = Path(name)
        for each in ("without", "with"):
            (folder / each).mkdir()
        dsn = folder / "dsn"
        dsn.write_text(f"http://key@127.0.0.1:{away.getsockname()[1]}/1")
        sentry = SentryChannel(dsn, cluster="bench", environment="", author=lambda *_: "")
        outbox = Outbox([sentry], wake=lambda: None, rng=Random(1))
        without, calm = failing(count, folder / "without", None)
        told, drive = failing(count, folder / "with", outbox)
        waiting = sum(len(each.record.alerts) for each in drive.agent.decisions.values())
        print(f"{count} rollouts fail; Sentry takes connections and never answers")
        report("turn, median", statistics.median(without), statistics.median(told))
        report("turn, mean", statistics.mean(without), statistics.mean(told))
        report("turn, longest", max(without), max(told))
        show("alerts that wait in records", waiting, f"of {count}")
        calm_looks, told_looks = look_at_all(calm), look_at_all(drive)
        report(f"look at all {count}", calm_looks, told_looks)
        show("  a DaemonSet whose alert waits", (told_looks - calm_looks) / count, "ms a look")


def report(name, floor, took):
    """Print one pair."""
    show(f"{name}: without alerting", floor, "ms")
    rest = f"ms {took / floor:5.2f} x  costs {took - floor:6.3f} ms  goal 1 ms"
    show(f"{name}: with Sentry hanging", took, rest)


if __name__ == "__main__":
    main()
