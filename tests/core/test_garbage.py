"""A decision is forgotten at once: what it looked at must not wait for the garbage collector."""

from __future__ import annotations

import gc

from core.builders import NOW, desired, good, live, nodes, observed, pod, record, revision, seconds

from dsgitops.core.decide import decide
from dsgitops.core.model import Phase, Reason


def test_nothing_keeps_the_pods_of_a_decision_that_was_made():
    old, new = desired("fluentd:1"), desired("fluentd:2")
    known = record(
        new,
        phase=Phase.ROLLING,
        reason=Reason.ROLLOUT_PROGRESSING,
        last_good=good(old),
        started=NOW - seconds(600),
    )
    seen = observed(
        live(new, known, hold=True),
        revision(old, 1),
        revision(new, 2, known),
        nodes=nodes(2),
        pods=(pod("node-00", old), pod("node-01", new, ready=False, since=NOW - seconds(4))),
    )
    decide(new, seen, known, NOW)  # what is computed once a template is cached from here on
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        decide(new, seen, known, NOW)
        gc.collect()
        kept = [each for each in gc.garbage if type(each).__module__.startswith("dsgitops.core")]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert kept == [], "threads of other tests may leave garbage of their own"
