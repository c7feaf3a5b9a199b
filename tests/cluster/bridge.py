"""A bridge on this machine: pods and the API server of a test reach one another by it."""

from __future__ import annotations

import ipaddress
import subprocess


def make(name: str, address: str) -> None:
    """Make it, with an address (`10.1.2.1/24`) of this machine's; one of a killed run goes.

    Its hardware address is told: else it is the lowest of its ports', changes as pods come and go,
    and those that stay reach nobody for the 15 s in which they believe the old one.
    """
    remove(name)
    octets = ipaddress.ip_interface(address).ip.packed
    hardware = ":".join(f"{each:02x}" for each in (0x0A, 0x58, *octets))
    for command in (
        ["link", "add", name, "address", hardware, "type", "bridge"],
        ["addr", "add", address, "dev", name],
        ["link", "set", name, "up"],
    ):
        subprocess.run(["ip", *command], check=True, capture_output=True)


def remove(name: str) -> None:
    """Remove it, if it is there."""
    subprocess.run(["ip", "link", "del", name], check=False, capture_output=True)
