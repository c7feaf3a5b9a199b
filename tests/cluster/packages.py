"""Install what real nodes need (Debian), or say in one line what is missing and why."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from cluster import real_node

INSTALL = Path(__file__).parents[2] / "deploy" / "image" / "apt-install.sh"


def main() -> None:
    subprocess.run([INSTALL, *sorted(real_node.lacking())], check=False)
    if missing := real_node.missing():
        sys.stderr.write(f"{missing}; tests on real nodes are skipped\n")


if __name__ == "__main__":
    main()
