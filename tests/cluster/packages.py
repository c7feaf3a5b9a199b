"""Install what real nodes need (Debian), or say in one line what is missing and why."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from cluster import real_node


def apt_get(*arguments: str) -> None:
    """Run it; what is missing afterwards is told anyway."""
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", *arguments], env=environment, stdout=subprocess.DEVNULL, check=False)


def main() -> None:
    packages = sorted(real_node.lacking())
    if packages and os.geteuid() == 0 and shutil.which("apt-get"):
        apt_get("update", "-qq")
        apt_get("install", "-y", "-qq", "--no-install-recommends", *packages)
    if missing := real_node.missing():
        sys.stderr.write(f"{missing}; tests on real nodes are skipped\n")


if __name__ == "__main__":
    main()
