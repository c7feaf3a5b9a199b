"""The shipped NetworkPolicy lets the agent out to what it needs, and nobody in but to its pages.

The network of the cluster harness enforces no policies: here the policy's own text is judged, by the
rules of its API (a rule without peers is for all, without ports for all; what no rule names is shut).
"""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
import yaml

from dsgitops.adapters.git.address import Address, Scheme, parse
from dsgitops.settings.subjects import Http

BASE = Path(__file__).parents[2] / "deploy" / "base"
POLICY = yaml.safe_load((BASE / "network-policy.yaml").read_text())["spec"]
AGENT = yaml.safe_load((BASE / "deployment.yaml").read_text())["spec"]["template"]["spec"]
ANY_PORT = range(1, 65536)
NEEDED = {
    "names, over UDP": ("UDP", 53),
    "long answers of names": ("TCP", 53),
    "the API server, by its Service": ("TCP", 443),
    "the API server, where policies see its own port": ("TCP", 6443),
    "Git over https": ("TCP", 443),
    "Git over ssh": ("TCP", 22),
    "Sentry, messengers and forges": ("TCP", 443),
}


def ports_of(container):
    return {each["name"]: each["containerPort"] for each in container["ports"]}


def lets(direction, protocol, port):
    """Return whether a rule lets everybody through, as the API's reference defines it."""
    peers = "from" if direction == "ingress" else "to"
    names = ports_of(AGENT["containers"][0]) if direction == "ingress" else {}
    return any(
        peers not in rule
        and any(
            each.get("protocol", "TCP") == protocol
            and names.get(each["port"], each["port"])
            <= port
            <= each.get("endPort", names.get(each["port"], each["port"]))
            for each in rule["ports"]
        )
        for rule in POLICY[direction]
    )


@pytest.mark.parametrize("what", NEEDED)
def test_the_agent_is_let_out_to_what_it_needs(what):
    assert lets("egress", *NEEDED[what])


def test_it_is_let_out_to_nothing_else():
    opened = {
        (protocol, port)
        for protocol in ("TCP", "UDP", "SCTP")
        for port in ANY_PORT
        if lets("egress", protocol, port)
    }

    assert opened == set(NEEDED.values())


def test_the_schemes_that_settings_may_name_are_those_that_are_let_out():
    ports = {"https": 443, "ssh": 22}

    allowed = [
        scheme
        for scheme in get_args(Scheme)
        if isinstance(parse(f"{scheme}://git.example.com/a.git"), Address)
    ]

    assert sorted(allowed) == sorted(ports)
    assert all(lets("egress", "TCP", port) for port in ports.values())


def test_nobody_is_let_in_but_to_the_pages_that_are_served():
    served = int(Http().listen.rpartition(":")[2])
    assert ports_of(AGENT["containers"][0]) == {"http": served}

    opened = [port for port in ANY_PORT if lets("ingress", "TCP", port)]

    assert opened == [served]
    assert not any(lets("ingress", "UDP", port) for port in ANY_PORT)


def test_both_directions_are_shut_but_for_the_rules():
    assert sorted(POLICY["policyTypes"]) == ["Egress", "Ingress"]
