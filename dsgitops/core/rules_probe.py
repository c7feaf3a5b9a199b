"""Probes and lifecycle hooks of a container."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dsgitops.core.findings import spoken
from dsgitops.core.nodes import shown
from dsgitops.core.rules_object import elements, mapping

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dsgitops.core.findings import Findings

Json = Any

_PROBES = ("readinessProbe", "livenessProbe", "startupProbe")
_PROBE_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc")
_HOOK_HANDLERS = ("exec", "httpGet", "tcpSocket", "sleep")


def check_probes(
    container: Mapping[str, Json], pointer: str, findings: Findings, *, init: bool
) -> None:
    """Check probes and hooks.

    Args:
        container: One container.
        pointer: Its JSON pointer.
        findings: Where problems go.
        init: Whether it is an init container: those run to their end and have no probes, unless
            `restartPolicy: Always` makes them sidecars.
    """
    sidecar = container.get("restartPolicy") == "Always"
    for name in (*_PROBES, "lifecycle"):
        if init and not sidecar and container.get(name) is not None:
            findings.key_error(
                f"{pointer}/{name}",
                "init-probe",
                f"{spoken(pointer)}: init containers have no {name}",
                "remove it, or make it a sidecar by restartPolicy: Always",
            )
    ports = {str(port.get("name")) for _, port in elements(container.get("ports"))}
    for name in _PROBES:
        probe = container.get(name)
        if isinstance(probe, dict):
            _check_probe(name, probe, f"{pointer}/{name}", findings)
            _check_named_port(probe, ports, f"{pointer}/{name}", findings)
    hooks = mapping(container.get("lifecycle"))
    for name in ("postStart", "preStop"):
        if isinstance(hooks.get(name), dict):
            _check_handler(hooks[name], _HOOK_HANDLERS, f"{pointer}/lifecycle/{name}", findings)


def _check_probe(name: str, probe: Mapping[str, Json], pointer: str, findings: Findings) -> None:
    _check_handler(probe, _PROBE_HANDLERS, pointer, findings)
    if name != "readinessProbe" and probe.get("successThreshold") not in (None, 0, 1):
        findings.error(f"{pointer}/successThreshold", "probe", f"successThreshold of a {name} must "
                       "be 1")  # fmt: skip
    if name == "readinessProbe" and probe.get("terminationGracePeriodSeconds") is not None:
        findings.key_error(f"{pointer}/terminationGracePeriodSeconds", "probe", "a readinessProbe "
                           "has no terminationGracePeriodSeconds: it ends nothing")  # fmt: skip


def _check_handler(
    given: Mapping[str, Json], handlers: tuple[str, ...], pointer: str, findings: Findings
) -> None:
    found = [each for each in handlers if given.get(each) is not None]
    if not found:
        findings.key_error(pointer, "probe", f"{spoken(pointer)} has none of {', '.join(handlers)}",
                           "say how it asks")  # fmt: skip
    elif len(found) > 1:
        findings.key_error(pointer, "probe", f"{spoken(pointer)} has {' and '.join(found)}",
                           "keep one")  # fmt: skip
    command = mapping(given.get("exec")).get("command")
    if "exec" in found and not command:
        findings.error(f"{pointer}/exec", "probe", f"{spoken(pointer)}.exec: command is missing")


def _check_named_port(
    probe: Mapping[str, Json], ports: set[str], pointer: str, findings: Findings
) -> None:
    for handler in ("httpGet", "tcpSocket"):
        port = mapping(probe.get(handler)).get("port")
        if isinstance(port, str) and port not in ports:
            findings.warning(
                f"{pointer}/{handler}/port",
                "probe-port",
                f"{spoken(pointer)} asks port "
                f"{shown(port)}, which this container does not name: it can never "
                "pass",
                "add it to ports",
            )
