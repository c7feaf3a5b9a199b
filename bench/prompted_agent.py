"""The agent as `dsgitops run` makes it, which polls when it gets SIGUSR1, as a webhook has it poll.

`prompted_agent.py CONFIG KUBECONFIG`
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

from dsgitops import wiring
from dsgitops.adapters import log
from dsgitops.adapters.kubernetes.transport import connect

PROMPT = {signal.SIGUSR1}


def main():
    """Run until SIGTERM."""
    signal.pthread_sigmask(signal.SIG_BLOCK, PROMPT)  # so that the thread below gets it
    settings, problems = wiring.load_settings(Path(sys.argv[1]), {})
    if settings is None:
        sys.exit("\n".join(map(str, problems)))
    log.configure("json", verbose=False)
    runtime = wiring.runtime(settings, connect(sys.argv[2]), voice=log.LogVoice())

    def poll():
        while True:
            signal.sigwait(PROMPT)
            for source in settings.sources:
                runtime.polls.poll_now(source.name)

    def stop(_number, _frame):
        runtime.stopping.set()
        runtime.woken.set()

    threading.Thread(target=poll, daemon=True).start()
    signal.signal(signal.SIGTERM, stop)
    runtime.run()
    os._exit(0)


if __name__ == "__main__":
    main()
