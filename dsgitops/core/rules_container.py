"""What a container may be: image, ports, environment, probes, resources, privileges."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from dsgitops.core.findings import spoken
from dsgitops.core.names import DNS_LABEL, ENV_NAME, PORT_NAME, image, is_label_key
from dsgitops.core.nodes import shown
from dsgitops.core.quantity import quantity_of
from dsgitops.core.rules_object import elements, mapping, unreplaced
from dsgitops.core.rules_probe import check_probes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dsgitops.core.findings import Findings

Json = Any

_STANDARD = ("cpu", "memory", "ephemeral-storage")
_STARTS_BYTES = 2**20
"""In 1 MiB the runtime itself is killed before the container begins (`tests/cluster`)."""
_FIELDS = re.compile(
    r"metadata\.(name|namespace|uid)|metadata\.(labels|annotations)\['[^']+'\]"
    r"|spec\.(nodeName|serviceAccountName)|status\.(hostIPs?|podIPs?)"
)
"""What `fieldRef` may name in an environment variable (API reference, EnvVarSource)."""
_SECRET_NAME = re.compile(
    r"(^|_)(PASSWORD|PASSWD|SECRET|TOKEN|API_?KEY|PRIVATE_?KEY|SECRET_?KEY|CREDENTIALS)$",
    re.IGNORECASE,
)


def check_containers(pod: Mapping[str, Json], at: str, findings: Findings) -> None:
    """Check all containers of a pod.

    Args:
        pod: The pod's spec.
        at: Its JSON pointer.
        findings: Where problems go.
    """
    if isinstance(pod.get("containers"), list) and not pod["containers"]:
        findings.error(f"{at}/containers", "no-containers", "the pod has no containers",
                       "add one")  # fmt: skip
    names: Counter[str] = Counter()
    for kind in ("initContainers", "containers"):
        names.update(str(each.get("name")) for _, each in elements(pod.get(kind)))
    for kind in ("initContainers", "containers"):
        for index, container in elements(pod.get(kind)):
            pointer = f"{at}/{kind}/{index}"
            _check_name(container, names, pointer, findings)
            _check_container(container, pod, pointer, findings)
            check_probes(container, pointer, findings, init=kind == "initContainers")
    ready = any(each.get("readinessProbe") for _, each in elements(pod.get("containers")))
    if pod.get("containers") and not ready:
        findings.warning(f"{at}/containers", "no-readiness-probe", "no container has a "
                         "readinessProbe: a pod that runs counts as healthy, whatever it does",
                         "add one, or minReadySeconds at least")  # fmt: skip


def _check_name(
    container: Mapping[str, Json], names: Counter[str], pointer: str, findings: Findings
) -> None:
    name = container.get("name")
    if not isinstance(name, str):
        return
    if not DNS_LABEL.fullmatch(name):
        findings.error(f"{pointer}/name", "name", f"{spoken(pointer)}.name is no DNS-1123 label",
                       "at most 63 lower case letters, digits and -")  # fmt: skip
    elif names[name] > 1:
        findings.error(f"{pointer}/name", "duplicate-name", f"container {shown(name)} is there "
                       f"{names[name]} times", "give each its own name")  # fmt: skip


def _check_container(
    container: Mapping[str, Json], pod: Mapping[str, Json], pointer: str, findings: Findings
) -> None:
    _check_image(container, pointer, findings)
    _check_ports(container, pointer, findings, host=pod.get("hostNetwork") is True)
    _check_env(container, pointer, findings)
    _check_resources(container, pointer, findings)
    _check_memory(container, pointer, findings)
    _check_privileges(container, pointer, findings)


def _check_image(container: Mapping[str, Json], pointer: str, findings: Findings) -> None:
    given = container.get("image")
    at = f"{pointer}/image"
    if given in (None, ""):
        findings.error(at if "image" in container else pointer, "no-image",
                       f"{spoken(pointer)}: image is missing", "add it")  # fmt: skip
    if not isinstance(given, str) or not given or unreplaced(given, at, findings):
        return
    parts = image(given)
    if parts.wrong:
        findings.error(at, "image", f"{spoken(at)} {parts.wrong}; the kubelet would say "
                       "InvalidImageName", "write registry/path:tag in lower case")  # fmt: skip
    elif not parts.digest and parts.tag in ("", "latest"):
        said = "has no tag" if not parts.tag else "has the tag latest"
        findings.warning(
            at,
            "image-tag",
            f"{spoken(at)} {said}: what runs changes without a "
            "commit, and a rollback does not bring it back",
            "name a version",
        )


def _check_ports(
    container: Mapping[str, Json], pointer: str, findings: Findings, *, host: bool
) -> None:
    ports = elements(container.get("ports"))
    keys = Counter(_port_key(port) for _, port in ports)
    names = Counter(str(port.get("name")) for _, port in ports)
    for index, port in ports:
        at = f"{pointer}/ports/{index}"
        name = port.get("name")
        if isinstance(name, str) and name and not PORT_NAME.fullmatch(name):
            findings.error(f"{at}/name", "port-name", f"{spoken(at)}.name is no port name",
                           "at most 15 lower case letters, digits and single dashes")  # fmt: skip
        elif isinstance(name, str) and names[name] > 1:
            findings.error(f"{at}/name", "duplicate-name", f"port name {name} is there twice")
        if port.get("containerPort") is not None and keys[_port_key(port)] > 1:
            findings.error(f"{at}/containerPort", "duplicate-port", f"{spoken(at)}: the same port "
                           "and protocol twice", "keep one")  # fmt: skip
        if host and port.get("hostPort") not in (None, 0, port.get("containerPort")):
            findings.error(f"{at}/hostPort", "host-port", "with hostNetwork, hostPort must equal "
                           "containerPort", "remove hostPort")  # fmt: skip


def _port_key(port: Mapping[str, Json]) -> str:
    return f"{port.get('containerPort')}/{port.get('protocol') or 'TCP'}"


def _check_env(container: Mapping[str, Json], pointer: str, findings: Findings) -> None:
    variables = elements(container.get("env"))
    names = Counter(str(each.get("name")) for _, each in variables)
    for index, each in variables:
        at = f"{pointer}/env/{index}"
        name = each.get("name")
        if not isinstance(name, str):
            continue
        if not ENV_NAME.fullmatch(name):
            findings.error(f"{at}/name", "env-name", f"{spoken(at)}.name is no name of an "
                           "environment variable", "letters, digits and _")  # fmt: skip
        elif names[name] > 1:
            findings.error(f"{at}/name", "duplicate-env", f"{spoken(pointer)}: variable "
                           f"{shown(name)} is there {names[name]} times", "keep one")  # fmt: skip
        _check_env_value(each, name, at, findings)


def _check_env_value(
    given: Mapping[str, Json], name: str, pointer: str, findings: Findings
) -> None:
    value, source = given.get("value"), given.get("valueFrom")
    if value not in (None, "") and source is not None:
        findings.error(f"{pointer}/valueFrom", "env-value", f"{spoken(pointer)} has both value and "
                       "valueFrom", "keep one")  # fmt: skip
    if isinstance(source, dict) and sum(each is not None for each in source.values()) != 1:
        findings.error(
            f"{pointer}/valueFrom",
            "env-value",
            f"{spoken(pointer)}.valueFrom must name exactly one source",
        )
    if isinstance(source, dict) and isinstance(reference := source.get("fieldRef"), dict):
        _check_field(reference, f"{pointer}/valueFrom/fieldRef", findings)
    if isinstance(value, str) and value and _SECRET_NAME.search(name) and "$(" not in value:
        findings.warning(
            pointer,
            "inline-secret",
            f"variable {shown(name)} looks like a secret, and stands in Git in clear",
            "use valueFrom.secretKeyRef",
        )


def _check_field(reference: Mapping[str, Json], pointer: str, findings: Findings) -> None:
    path = reference.get("fieldPath")
    if isinstance(path, str) and not _FIELDS.fullmatch(path):
        findings.error(
            f"{pointer}/fieldPath",
            "field-path",
            f"{spoken(pointer)}.fieldPath is no field that an environment variable can take",
            "metadata.name, spec.nodeName, status.podIP and their like",
        )


def _check_resources(container: Mapping[str, Json], pointer: str, findings: Findings) -> None:
    resources = mapping(container.get("resources"))
    limits, requests = mapping(resources.get("limits")), mapping(resources.get("requests"))
    for kind, given in (("limits", limits), ("requests", requests)):
        for name, value in given.items():
            _check_amount(name, value, f"{pointer}/resources/{kind}", findings)
    for name in limits.keys() & requests.keys():
        limit, request = _amount(limits[name]), _amount(requests[name])
        if limit is not None and request is not None and request > limit:
            findings.error(f"{pointer}/resources/requests/{name.replace('/', '~1')}", "resources",
                           f"{spoken(pointer)}: more {shown(name)} is requested than the limit "
                           "allows")  # fmt: skip


def _check_memory(container: Mapping[str, Json], pointer: str, findings: Findings) -> None:
    init = "/initContainers/" in pointer and container.get("restartPolicy") != "Always"
    limits = mapping(mapping(container.get("resources")).get("limits"))
    if not init and "memory" not in limits:
        what = f"{spoken(pointer)} has no memory limit: a leak takes the node and all on it"
        findings.warning(pointer, "no-memory-limit", what, "set resources.limits.memory")
    amount = _amount(limits.get("memory"))
    if amount is not None and 0 < amount < _STARTS_BYTES:
        at = f"{pointer}/resources/limits/memory"
        what = f"{spoken(at)} is {amount.normalize():f} bytes: no container starts in that"
        findings.warning(at, "tiny-memory-limit", what, "a unit is missing: 100Mi, not 100 or 100m")


def _check_amount(name: str, value: Json, pointer: str, findings: Findings) -> None:
    at = f"{pointer}/{name.replace('/', '~1')}"
    if name not in _STANDARD and "/" not in name and not name.startswith("hugepages-"):
        findings.key_error(
            at,
            "resource-name",
            f"{spoken(pointer)}: there is no resource {shown(name)}",
            findings.hint(name, _STANDARD)
            or "others than cpu and memory have a prefix: example.com/gpu",
        )
    elif "/" in name and not is_label_key(name):
        findings.key_error(at, "resource-name", f"{spoken(at)} is no resource name")
    amount = _amount(value)
    if amount is not None and amount < 0:
        findings.error(at, "quantity", f"{spoken(at)} must be at least 0")


def _amount(value: Json) -> Any:  # noqa: ANN401 - Decimal or None
    return quantity_of(value) if isinstance(value, int | float | str) else None


def _check_privileges(container: Mapping[str, Json], pointer: str, findings: Findings) -> None:
    security = mapping(container.get("securityContext"))
    privileged = security.get("privileged") is True
    if privileged and security.get("allowPrivilegeEscalation") is False:
        findings.error(f"{pointer}/securityContext/allowPrivilegeEscalation", "privileges",
                       f"{spoken(pointer)} is privileged: allowPrivilegeEscalation cannot be false",
                       "remove one of them")  # fmt: skip
    for index, mount in elements(container.get("volumeMounts")):
        if mount.get("mountPropagation") == "Bidirectional" and not privileged:
            findings.error(f"{pointer}/volumeMounts/{index}/mountPropagation", "privileges",
                           "Bidirectional mounts are for privileged containers only",
                           "use HostToContainer, or privileged: true")  # fmt: skip
