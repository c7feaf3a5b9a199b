"""A bridge on this machine: pods and the API server of a test reach one another by it."""

from __future__ import annotations

import subprocess


def make(name: str, address: str) -> None:
    """Make it, with an address (`10.1.2.1/24`) of this machine's; one of a killed run goes."""
    remove(name)
    for command in (
        ["link", "add", name, "type", "bridge"],
        ["addr", "add", address, "dev", name],
        ["link", "set", name, "up"],
    ):
        subprocess.run(["ip", *command], check=True, capture_output=True)


def remove(name: str) -> None:
    """Remove it, if it is there."""
    subprocess.run(["ip", "link", "del", name], check=False, capture_output=True)
