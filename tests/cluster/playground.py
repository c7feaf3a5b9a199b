"""A cluster to play with: `make cluster`.  Ctrl-C ends it, and leaves nothing behind."""

from __future__ import annotations

import signal
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from cluster import binaries, real_node
from cluster.control_plane import index, running

FAKE_NODES = 20
REAL_NODES = 3
ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, and a terminal that is closed."""


def main() -> None:
    built = binaries.cached()
    built.build()
    asked = threading.Event()
    for each in ENDS:
        signal.signal(each, lambda *_: asked.set())
    begun = time.monotonic()
    with ExitStack() as stack:
        plane = stack.enter_context(running(built, index=index(3), node_grace=50))
        plane.add_nodes(FAKE_NODES)
        lacking = real_node.missing()
        if lacking:
            say(f"no real nodes: {lacking}")
        else:
            stack.enter_context(real_node.joined(plane, REAL_NODES))
        nodes = f"{0 if lacking else REAL_NODES} real and {FAKE_NODES} fake nodes"
        say(
            f"Kubernetes {built.minor} with {nodes} is up after"
            f" {time.monotonic() - begun:.0f} s. Images that its real nodes have:"
        )
        say("  registry.example/agent:1 to :4 (busybox)")
        say(f"  export KUBECONFIG={plane.kubeconfig}")
        say(f"  alias kubectl={built['kubectl']}")
        say("Ctrl-C stops it.")
        asked.wait()
    say("stopped; nothing is left")


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
