"""What one decision costs, in steady state and in mid-rollout, beside a bare pass over the pods.

.venv/bin/python bench/decide.py [NODES]
"""

from __future__ import annotations

import gc
import sys
from dataclasses import replace
from pathlib import Path
from time import perf_counter

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from core.builders import (
    NOW,
    OURS,
    desired,
    good,
    hash_of,
    live,
    nodes,
    observed,
    pod,
    record,
    revision,
    seconds,
)

from dsgitops.core.chronicle import Chronicle
from dsgitops.core.decide import decide
from dsgitops.core.model import Phase, Reason

A, B = desired("fluentd:1"), desired("fluentd:2")
BEST_OF = 15


def microseconds(work, times):
    """Return the best mean of several runs, in µs, with the collector off."""
    gc.collect()
    gc.disable()
    means = []
    for _ in range(BEST_OF):
        start = perf_counter()
        for _ in range(times):
            work()
        means.append((perf_counter() - start) / times * 1e6)
    gc.enable()
    return min(means)


def steady(count):
    """A converged DaemonSet: nodes are known, pods are not watched."""
    known = record(A, last_good=good(A))
    seen = live(A, known, managed_fields=(OURS,), desired_scheduled=count, available=count)
    revisions = [revision(each, i + 1, known) for i, each in enumerate((B, A))]
    return A, observed(seen, *revisions, nodes=nodes(count, zones=3)), known


def rolling(count):
    """Half of the fleet is updated, one pod is starting."""
    names = [each.name for each in nodes(count)]
    known = record(B, phase=Phase.ROLLING, reason=Reason.ROLLOUT_PROGRESSING, last_good=good(A),
                   started=NOW - seconds(600))  # fmt: skip
    half = count // 2
    pods = (
        *(pod(name, B, since=NOW - seconds(60)) for name in names[:half]),
        pod(names[half], B, ready=False, since=NOW - seconds(4)),
        *(pod(name, A) for name in names[half + 1 :]),
    )
    seen = live(B, known, hold=True, managed_fields=(OURS,))
    revisions = [revision(A, 1), revision(B, 2, known)]
    chronicle = Chronicle()  # kept by whoever watches, not made anew for a decision
    for each in pods:
        chronicle.pod(each, NOW)
    more = {"nodes": nodes(count, zones=3), "pods": pods, "chronicle": chronicle}
    return B, observed(seen, *revisions, **more), known


def deleting(count):
    """The same, with room for the next deletion."""
    git, seen, known = rolling(count)
    ready = tuple(each for each in seen.pods if each.is_ready)
    waiting = seen.nodes[count // 2]
    return git, replace(seen, pods=(*ready, pod(waiting.name, B, since=NOW - seconds(9)))), known


def show(name, situation, floor, goal, times):
    """Print one line: µs, the ratio to the floor, the goal."""
    decide(*situation, NOW)
    took = microseconds(lambda: decide(*situation, NOW), times)
    reason = decide(*situation, NOW).reason
    print(f"{name:28} {took:10.1f} µs  {took / floor:7.1f} x floor  goal {goal:6d} µs  {reason}")


def main():
    """Measure and print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    pods = rolling(count)[1].pods
    target = hash_of(B)
    floor = microseconds(lambda: sum(pod.hash == target for pod in pods), 200)
    print(f"{f'floor: read {count} pod hashes':28} {floor:10.1f} µs")
    show(f"steady, {count} nodes", steady(count), floor, 100, 500)
    show(f"rolling, {count} nodes", rolling(count), floor, 5000, 30)
    show(f"rolling, next pod, {count}", deleting(count), floor, 5000, 30)


if __name__ == "__main__":
    main()
