"""What metrics cost: a turn that looks at 300 DaemonSets, with and without; a scrape; memory.

.venv/bin/python bench/metrics.py [MANIFESTS]
"""

from __future__ import annotations

import gc
import statistics
import sys
import tempfile
import tracemalloc
from pathlib import Path
from time import process_time

sys.path.insert(0, str(Path(__file__).parent))
from turn import Silence, first_sync, milliseconds, show, simulated_agent

from dsgitops.adapters.metrics import CountedPolls, Metrics
from dsgitops.adapters.voices import Voices
from dsgitops.core.decide import decide

ROUNDS = 15


def turn(drive, metrics, refs):
    """Return the CPU milliseconds of one turn that looks at `refs`; those of git are not in."""
    agent = drive.agent
    drive.polls.poll_now()
    agent.again |= refs
    start = process_time()
    agent.turn()
    if metrics is not None:
        metrics.turned(agent.decisions.keys(), leading=True)
    return (process_time() - start) * 1000


def both(drive, metrics, refs):
    """Return the median turn without and with metrics, measured by turns: the machine drifts."""
    agent, polls = drive.agent, drive.polls
    bare = (polls, Silence(), decide)
    counted = (CountedPolls(polls, metrics.polled), Voices(Silence(), metrics), metrics.decide)
    took = {bare: [], counted: []}
    gc.collect()
    for _ in range(ROUNDS):
        for ears, times in took.items():
            agent.polls, agent.voice, agent.decide = ears
            times.append(turn(drive, metrics if ears is counted else None, refs))
    return statistics.median(took[bare]), statistics.median(took[counted])


def main():
    """Measure and print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    with tempfile.TemporaryDirectory() as name:
        drive = simulated_agent(count, Path(name))
        first_sync(drive, count)
        agent, clock = drive.agent, drive.world.clock
        metrics = Metrics(clock, ["agents"])
        metrics.counts = agent.cluster.counts
        refs = frozenset(agent.decisions)
        for what, asked in (("unchanged turn", frozenset()), (f"turn looking at {count}", refs)):
            without, with_ = both(drive, metrics, asked)
            show(f"{what}, without", without, "ms CPU")
            show(f"{what}, with metrics", with_, f"ms CPU {with_ / without:5.2f} x without")
        show("scrape", milliseconds(metrics.text), f"ms {len(metrics.text()) / 1e6:5.1f} MB")
        decisions = agent.decisions.items()
        again = Metrics(clock, ["agents"])
        tracemalloc.start()
        for ref, decision in decisions:
            again.tell(ref, decision, clock.now(), news=False)
        show("memory of their last decisions", tracemalloc.get_traced_memory()[0] / 1024, "KiB")


if __name__ == "__main__":
    main()
