"""What the API server refuses in a DaemonSet's pod template, in its order (`cluster.md` 7.2).

Only what a DaemonSet of ours can run into is here: the first mistake of a kind, not each there is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dsgitops.sim import causes, downward
from dsgitops.sim.causes import Cause
from dsgitops.sim.defaults import amount

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from dsgitops.sim.schema import Object

_PORT_TEXT = "must be between 1 and 65535, inclusive"
_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc", "sleep")
_WITH_PORT = ("httpGet", "tcpSocket", "grpc")
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_PROBE_NUMBERS = (
    "initialDelaySeconds",
    "timeoutSeconds",
    "periodSeconds",
    "successThreshold",
    "failureThreshold",
)
_NOT_IN_INIT = "may not be set for init containers without restartPolicy=Always"
_SOURCES = {"hostPath": "path", "configMap": "name", "secret": "secretName"}
"""Volume sources, and what each must say."""


def template(given: Object, root: str) -> Iterator[Cause]:
    """Yield what is wrong with a pod template.

    Args:
        given: The template with its defaults.
        root: Its path.
    """
    metadata: Object = given.get("metadata") or {}
    yield from causes.labels(metadata.get("labels") or {}, f"{root}.labels")
    yield from causes.of_annotations(metadata.get("annotations") or {}, f"{root}.annotations")
    spec: Object = given.get("spec") or {}
    root = f"{root}.spec"
    sound = yield from _volumes(spec.get("volumes") or [], f"{root}.volumes")
    containers: list[Object] = spec.get("containers") or []
    if not containers:
        yield causes.required(f"{root}.containers")
    yield from _regular(containers, f"{root}.containers", sound)
    yield from _init(spec, f"{root}.initContainers", sound)
    if spec.get("hostNetwork"):
        yield from _host_network(containers, f"{root}.containers")
    yield from causes.labels(spec.get("nodeSelector") or {}, f"{root}.nodeSelector")
    account = spec.get("serviceAccountName") or "default"
    if not causes.SUBDOMAIN.fullmatch(account):
        yield causes.invalid(f"{root}.serviceAccountName", account, causes.SUBDOMAIN_TEXT)


# ---------------------------------------------------------------------------- volumes


def _volumes(volumes: Sequence[Object], field: str) -> Generator[Cause, None, set[str]]:
    """Yield what is wrong with volumes; return the names of the sound ones."""
    sound: set[str] = set()
    for index, each in enumerate(volumes):
        mistakes = [*_volume(each, f"{field}[{index}]", sound)]
        yield from mistakes
        if not mistakes:
            sound.add(each["name"])
    return sound


def _volume(each: Object, here: str, sound: set[str]) -> Iterator[Cause]:
    sources = [key for key in each if key != "name"]
    for extra in sources[1:]:
        yield causes.forbidden(f"{here}.{extra}", "may not specify more than 1 volume type")
    for source, must in _SOURCES.items():
        if each.get(source) is not None and not each[source].get(must):
            yield causes.required(f"{here}.{source}.{must}")
    if each.get("downwardAPI") is not None:
        yield from downward.of_files(each["downwardAPI"].get("items") or [], f"{here}.downwardAPI")
    name = each.get("name") or ""
    yield from causes.label_name(name, f"{here}.name")
    if name in sound:
        yield causes.duplicate(f"{here}.name", name)


# ---------------------------------------------------------------------------- containers


def _regular(containers: Sequence[Object], field: str, volumes: set[str]) -> Iterator[Cause]:
    seen: set[str] = set()
    for index, each in enumerate(containers):
        here = f"{field}[{index}]"
        yield from _any_container(each, here, volumes)
        name = each.get("name") or ""
        if name in seen:
            yield causes.duplicate(f"{here}.name", name)
        seen.add(name)
        for hook, handler in (each.get("lifecycle") or {}).items():
            yield from _handler(handler, f"{here}.lifecycle.{hook}")
        yield from _probes(each, here)
    yield from _host_ports(containers, field)


def _init(spec: Object, field: str, volumes: set[str]) -> Iterator[Cause]:
    seen = {each.get("name") or "" for each in spec.get("containers") or []}
    for index, each in enumerate(spec.get("initContainers") or []):
        here = f"{field}[{index}]"
        yield from _any_container(each, here, volumes)
        name = each.get("name") or ""
        if name in seen:
            yield causes.duplicate(f"{here}.name", name)
        seen.add(name)
        if each.get("restartPolicy") == "Always":
            yield from _probes(each, here)
            continue
        for name in ("lifecycle", *_PROBES):
            if each.get(name) is not None:
                yield causes.forbidden(f"{here}.{name}", _NOT_IN_INIT)


def _any_container(each: Object, here: str, volumes: set[str]) -> Iterator[Cause]:
    yield from causes.label_name(each.get("name") or "", f"{here}.name")
    if not each.get("image"):
        yield causes.required(f"{here}.image")
    yield from _ports(each.get("ports") or [], f"{here}.ports")
    for index, variable in enumerate(each.get("env") or []):
        yield from _variable(variable, f"{here}.env[{index}]")
    yield from _mounts(each.get("volumeMounts") or [], f"{here}.volumeMounts", volumes)
    yield from _resources(each.get("resources") or {}, f"{here}.resources")


def _variable(each: Object, here: str) -> Iterator[Cause]:
    if not each.get("name"):
        yield causes.required(f"{here}.name")
    sources = [key for key, value in (each.get("valueFrom") or {}).items() if value]
    field = f"{here}.valueFrom"
    if each.get("valueFrom") is None:
        return
    yield from downward.of_variable(each["valueFrom"], field)
    if not sources:
        yield causes.invalid(
            field,
            "",
            "must specify one of: `fieldRef`, `resourceFieldRef`, "
            "`configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        )
    elif each.get("value"):
        yield causes.invalid(field, "", "may not be specified when `value` is not empty")
    elif len(sources) > 1:
        yield causes.invalid(field, "", "may not have more than one field specified at a time")


def _mounts(mounts: Sequence[Object], field: str, volumes: set[str]) -> Iterator[Cause]:
    paths: set[str] = set()
    for index, each in enumerate(mounts):
        here = f"{field}[{index}]"
        name, path = each.get("name") or "", each.get("mountPath") or ""
        if not name:
            yield causes.required(f"{here}.name")
        if name not in volumes:
            message = f"Not found: {causes.quoted(name)}"
            yield Cause(causes.NOT_FOUND, f"{here}.name", message)
        if not path:
            yield causes.required(f"{here}.mountPath")
        if path in paths:
            yield causes.invalid(f"{here}.mountPath", path, "must be unique")
        paths.add(path)


def _ports(ports: Sequence[Object], field: str) -> Iterator[Cause]:
    names: set[str] = set()
    for index, each in enumerate(ports):
        here = f"{field}[{index}]"
        name = each.get("name")
        if name in names:
            yield causes.duplicate(f"{here}.name", name)
        names |= {name} if name else set()
        if not each.get("containerPort"):
            yield causes.required(f"{here}.containerPort")
        for number in ("containerPort", "hostPort"):
            yield from _port(each.get(number) or 0, f"{here}.{number}")


def _port(number: int, field: str) -> Iterator[Cause]:
    if number and not 0 < number < 65536:
        yield causes.invalid(field, number, _PORT_TEXT)


def _host_ports(containers: Sequence[Object], field: str) -> Iterator[Cause]:
    """Yield the host ports that two ports of a pod want."""
    taken: set[str] = set()
    for number, container in enumerate(containers):
        for index, port in enumerate(container.get("ports") or []):
            if not port.get("hostPort"):
                continue
            wanted = f"{port.get('protocol')}/{port.get('hostIP', '')}/{port['hostPort']}"
            if wanted in taken:
                yield causes.duplicate(f"{field}[{number}].ports[{index}].hostPort", wanted)
            taken.add(wanted)


def _host_network(containers: Sequence[Object], field: str) -> Iterator[Cause]:
    for number, container in enumerate(containers):
        for index, port in enumerate(container.get("ports") or []):
            host = port.get("hostPort") or 0
            if host not in (0, port.get("containerPort")):
                where = f"{field}[{number}].ports[{index}].hostPort"
                detail = "must match `containerPort` when `hostNetwork` is true"
                yield causes.invalid(where, host, detail)


def _resources(resources: Object, field: str) -> Iterator[Cause]:
    limits = resources.get("limits") or {}
    for name, request in (resources.get("requests") or {}).items():
        if name in limits and amount(request) > amount(limits[name]):
            detail = f"must be less than or equal to {name} limit of {limits[name]}"
            yield causes.invalid(f"{field}.requests", request, detail)


# ---------------------------------------------------------------------------- probes and hooks


def _probes(container: Object, field: str) -> Iterator[Cause]:
    for kind in _PROBES:
        probe = container.get(kind)
        if probe is None:
            continue
        here = f"{field}.{kind}"
        yield from _handler(probe, here)
        for number in _PROBE_NUMBERS:
            yield from causes.not_negative(probe.get(number) or 0, f"{here}.{number}")
        if kind != "readinessProbe" and probe.get("successThreshold", 1) != 1:
            value = probe["successThreshold"]
            yield causes.invalid(f"{here}.successThreshold", value, "must be 1")


def _handler(given: Any, field: str) -> Iterator[Cause]:  # noqa: ANN401 - any JSON
    if not isinstance(given, dict):
        return  # a hook's signal
    handlers = [each for each in _HANDLERS if given.get(each) is not None]
    if not handlers:
        yield causes.required(field, "must specify a handler type")
    for extra in handlers[1:]:
        yield causes.forbidden(f"{field}.{extra}", "may not specify more than 1 handler type")
    for handler in handlers[:1]:
        yield from _action(handler, given[handler], f"{field}.{handler}")


def _action(handler: str, given: Object, field: str) -> Iterator[Cause]:
    if handler == "exec" and not given.get("command"):
        yield causes.required(f"{field}.command")
    port = given.get("port", 0)
    if handler in _WITH_PORT and isinstance(port, int) and not 0 < port < 65536:
        yield causes.invalid(f"{field}.port", port, _PORT_TEXT)
