"""Every measurement of `bench/`, one after another.  `python -m bench [NAME…]` runs some."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ORDER = ("decide", "turn", "alerts", "metrics", "git_poll", "simulation", "memory")


def main() -> None:
    """Run each in a process of its own: one must not warm, or bloat, the next."""
    for name in sys.argv[1:] or ORDER:
        print(f"== {name}", flush=True)
        subprocess.run([sys.executable, str(HERE / f"{name}.py")], check=True)


if __name__ == "__main__":
    main()
