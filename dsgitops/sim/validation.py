"""What the API server refuses with 422: the causes, in its words (`cluster.md` 7.2).

Only what a DaemonSet can run into is here; values are quoted as the API server quotes them.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dsgitops.sim.defaults import amount

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from dsgitops.sim.schema import Object

INVALID = "FieldValueInvalid"
REQUIRED = "FieldValueRequired"
NOT_SUPPORTED = "FieldValueNotSupported"
NOT_FOUND = "FieldValueNotFound"
DUPLICATE = "FieldValueDuplicate"
FORBIDDEN = "FieldValueForbidden"
TOO_LONG = "FieldValueTooLong"

ANNOTATIONS_MAX_BYTES = 262_144

_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_NAME = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
_SUBDOMAIN_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or "
    "'.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used "
    "for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_LABEL_TEXT = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and "
    "must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used "
    "for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
_VALUE_TEXT = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or "
    "'.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  "
    "or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
_PERCENT_TEXT = (
    "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or "
    "'93%', regex used for validation is '[0-9]+%')"
)
_IMMUTABLE = "field is immutable"
_NEGATIVE = "must be greater than or equal to 0"


@dataclass(frozen=True, slots=True)
class Cause:
    """One thing that is wrong with an object."""

    reason: str
    field: str
    message: str


def _invalid(field: str, value: Any, detail: str) -> Cause:  # noqa: ANN401 - any JSON
    return Cause(INVALID, field, f"Invalid value: {_quoted(value)}: {detail}")


def _required(field: str, detail: str = "") -> Cause:
    return Cause(REQUIRED, field, f"Required value: {detail}" if detail else "Required value")


def _quoted(value: Any) -> str:  # noqa: ANN401 - any JSON
    return "null" if value is None else json.dumps(value, separators=(",", ":"))


def _unsupported(field: str, value: Any, allowed: Sequence[str]) -> Cause:  # noqa: ANN401
    names = ", ".join(f'"{each}"' for each in allowed)
    message = f"Unsupported value: {_quoted(value)}: supported values: {names}"
    return Cause(NOT_SUPPORTED, field, message)


# ---------------------------------------------------------------------------- metadata


def metadata(obj: Object, *, namespaced: bool) -> Iterator[Cause]:
    """Yield what is wrong with any object's metadata."""
    meta = obj.get("metadata") or {}
    name, base = meta.get("name") or "", meta.get("generateName") or ""
    if base and not _SUBDOMAIN.fullmatch(base.removesuffix("-")):
        yield _invalid("metadata.generateName", base, _SUBDOMAIN_TEXT)
    if not name and base:
        pass  # the store makes the name
    elif not name:
        yield _required("metadata.name", "name or generateName is required")
    elif len(name) > 253 or not _SUBDOMAIN.fullmatch(name):
        yield _invalid("metadata.name", name, _SUBDOMAIN_TEXT)
    if namespaced and not meta.get("namespace"):
        yield _required("metadata.namespace")
    yield from _labels(meta.get("labels") or {}, "metadata.labels")
    size = sum(
        len(str(key).encode()) + len(str(value).encode())
        for key, value in (meta.get("annotations") or {}).items()
    )
    if size > ANNOTATIONS_MAX_BYTES:
        text = f"Too long: may not be more than {ANNOTATIONS_MAX_BYTES} bytes"
        yield Cause(TOO_LONG, "metadata.annotations", text)


def metadata_update(old: Object, new: Object) -> Iterator[Cause]:
    """Yield what may not change in metadata; a wrong uid is listed twice, as it really is."""
    before, after = old["metadata"], new["metadata"]
    if after.get("uid") and after["uid"] != before["uid"]:
        cause = _invalid("metadata.uid", after["uid"], _IMMUTABLE)
        yield cause
        yield cause


def _labels(labels: Mapping[str, Any], field: str) -> Iterator[Cause]:
    for key, value in labels.items():
        prefix, slash, name = key.rpartition("/")
        if (slash and not _SUBDOMAIN.fullmatch(prefix)) or not _NAME.fullmatch(name):
            yield _invalid(field, key, "name part must consist of alphanumeric characters")
        if len(str(value)) > 63:
            yield _invalid(field, value, "must be no more than 63 characters")
        elif not _VALUE.fullmatch(str(value)):
            yield _invalid(field, value, _VALUE_TEXT)


# ---------------------------------------------------------------------------- DaemonSet


def daemon_set(obj: Object) -> Iterator[Cause]:
    """Yield what is wrong with a DaemonSet's spec."""
    spec = obj["spec"]
    selector = spec.get("selector") or {}
    wanted = selector.get("matchLabels") or {}
    labels = (spec["template"].get("metadata") or {}).get("labels") or {}
    if not wanted and not selector.get("matchExpressions"):
        field = "spec.selector"
        if spec.get("selector") is None:
            yield _required(field)
        else:
            yield _invalid(field, selector, "empty selector is invalid for daemonset")
    elif any(labels.get(key) != value for key, value in wanted.items()):
        field = "spec.template.metadata.labels"
        yield _invalid(field, labels, "`selector` does not match template `labels`")
    yield from _labels(labels, "spec.template.metadata.labels")
    yield from _template_spec(spec["template"].get("spec") or {})
    for number in ("minReadySeconds", "revisionHistoryLimit"):
        if (spec.get(number) or 0) < 0:
            yield _invalid(f"spec.{number}", spec[number], _NEGATIVE)
    yield from _update_strategy(spec.get("updateStrategy") or {})


def daemon_set_update(old: Object, new: Object) -> Iterator[Cause]:
    """Yield what a DaemonSet's update may not change."""
    if old["spec"].get("selector") != new["spec"].get("selector"):
        yield _invalid("spec.selector", new["spec"].get("selector"), _IMMUTABLE)


def _update_strategy(strategy: Object) -> Iterator[Cause]:
    """Yield the strategy's mistakes; below OnDelete nothing is looked at."""
    kind = strategy.get("type")
    if kind == "OnDelete":
        return
    if kind != "RollingUpdate":
        yield _unsupported("spec.updateStrategy", strategy, ["RollingUpdate", "OnDelete"])
        return
    rolling = strategy.get("rollingUpdate") or {}
    field = "spec.updateStrategy.rollingUpdate"
    unavailable, surge = rolling.get("maxUnavailable", 0), rolling.get("maxSurge", 0)
    mistakes = [
        *_int_or_percent(unavailable, f"{field}.maxUnavailable"),
        *_int_or_percent(surge, f"{field}.maxSurge"),
    ]
    yield from mistakes
    if _is_zero(unavailable) and _is_zero(surge):
        yield _required(f"{field}.maxUnavailable", "cannot be 0 when maxSurge is 0")
    if not _is_zero(unavailable) and not _is_zero(surge):
        detail = "may not be set when maxUnavailable is non-zero"
        yield _invalid(f"{field}.maxSurge", surge, detail)


def _int_or_percent(value: Any, field: str) -> Iterator[Cause]:  # noqa: ANN401 - int or str
    if isinstance(value, str):
        if not re.fullmatch(r"[0-9]+%", value):
            yield _invalid(field, value, _PERCENT_TEXT)
        elif int(value[:-1]) > 100:
            yield _invalid(field, value, "must not be greater than 100%")
    elif value < 0:
        yield _invalid(field, value, _NEGATIVE)


def _is_zero(value: Any) -> bool:  # noqa: ANN401 - int or str
    if isinstance(value, str):
        return bool(re.fullmatch(r"[0-9]+%", value)) and int(value[:-1]) == 0
    return bool(value == 0)


# ---------------------------------------------------------------------------- pod template


def _template_spec(spec: Object) -> Iterator[Cause]:
    root = "spec.template.spec"
    volumes: list[Object] = spec.get("volumes") or []
    yield from _volumes(volumes, f"{root}.volumes")
    names = {each.get("name") for each in volumes}
    if not spec.get("containers"):
        yield _required(f"{root}.containers")
    for field in ("initContainers", "containers"):
        yield from _containers(spec.get(field) or [], f"{root}.{field}", names)
    policy = spec.get("restartPolicy")
    if policy != "Always":
        yield _unsupported(f"{root}.restartPolicy", policy, ["Always"])
    if spec.get("activeDeadlineSeconds") is not None:
        field = f"{root}.activeDeadlineSeconds"
        text = "Forbidden: activeDeadlineSeconds in DaemonSet is not Supported"
        yield Cause(FORBIDDEN, field, text)
    grace = spec.get("terminationGracePeriodSeconds") or 0
    if grace < 0:
        yield _invalid(f"{root}.terminationGracePeriodSeconds", grace, _NEGATIVE)


def _own_name(each: Object, here: str, seen: set[str]) -> Iterator[Cause]:
    """Check the name of a list's element, and add it to those seen."""
    name = each.get("name") or ""
    if not name:
        yield _required(f"{here}.name")
    elif not _LABEL.fullmatch(name):
        yield _invalid(f"{here}.name", name, _LABEL_TEXT)
    elif name in seen:
        yield Cause(DUPLICATE, f"{here}.name", f"Duplicate value: {_quoted(name)}")
    seen.add(name)


def _containers(
    containers: Sequence[Object], field: str, volumes: set[str | None]
) -> Iterator[Cause]:
    seen: set[str] = set()
    for index, each in enumerate(containers):
        here = f"{field}[{index}]"
        yield from _own_name(each, here, seen)
        if not each.get("image"):
            yield _required(f"{here}.image")
        yield from _mounts(each.get("volumeMounts") or [], f"{here}.volumeMounts", volumes)
        yield from _ports(each.get("ports") or [], f"{here}.ports")
        yield from _resources(each.get("resources") or {}, f"{here}.resources")
        yield from _probes(each, here)


def _mounts(mounts: Sequence[Object], field: str, volumes: set[str | None]) -> Iterator[Cause]:
    for index, each in enumerate(mounts):
        name = each.get("name") or ""
        if name not in volumes:
            yield Cause(NOT_FOUND, f"{field}[{index}].name", f"Not found: {_quoted(name)}")
        if not each.get("mountPath"):
            yield _required(f"{field}[{index}].mountPath")


def _ports(ports: Sequence[Object], field: str) -> Iterator[Cause]:
    for index, each in enumerate(ports):
        for name in ("containerPort", "hostPort"):
            port = each.get(name)
            if port is not None and not 0 < port < 65536:
                detail = "must be between 1 and 65535, inclusive"
                yield _invalid(f"{field}[{index}].{name}", port, detail)


def _resources(resources: Object, field: str) -> Iterator[Cause]:
    limits = resources.get("limits") or {}
    for name, request in (resources.get("requests") or {}).items():
        if name in limits and amount(request) > amount(limits[name]):
            detail = f"must be less than or equal to {name} limit of {limits[name]}"
            yield _invalid(f"{field}.requests", request, detail)


def _probes(container: Object, field: str) -> Iterator[Cause]:
    for kind in ("livenessProbe", "readinessProbe", "startupProbe"):
        probe = container.get(kind)
        if probe is None:
            continue
        handlers = [each for each in ("exec", "httpGet", "tcpSocket", "grpc") if probe.get(each)]
        if not handlers:
            yield _required(f"{field}.{kind}", "must specify a handler type")
        for extra in handlers[1:]:
            text = "Forbidden: may not specify more than 1 handler type"
            yield Cause(FORBIDDEN, f"{field}.{kind}.{extra}", text)
        if kind != "readinessProbe" and probe.get("successThreshold", 1) != 1:
            yield _invalid(
                f"{field}.{kind}.successThreshold", probe["successThreshold"], "must be 1"
            )


def _volumes(volumes: Sequence[Object], field: str) -> Iterator[Cause]:
    seen: set[str] = set()
    for index, each in enumerate(volumes):
        here = f"{field}[{index}]"
        yield from _own_name(each, here, seen)
        sources = [key for key in each if key != "name"]
        for extra in sources[1:]:
            text = "Forbidden: may not specify more than 1 volume type"
            yield Cause(FORBIDDEN, f"{here}.{extra}", text)


# ---------------------------------------------------------------------------- Events

_EVENT_LIMITS = {"reason": 128, "action": 128, "reportingInstance": 128, "note": 1024}
_EVENT_REQUIRED = ("reportingController", "reportingInstance", "action", "reason")


def event(obj: Object) -> Iterator[Cause]:
    """Yield what is wrong with an events.k8s.io/v1 Event (`cluster.md` 11)."""
    if not obj.get("eventTime"):
        yield _required("eventTime")
    for name in _EVENT_REQUIRED:
        if not obj.get(name):
            yield _required(name)
    for name, limit in _EVENT_LIMITS.items():
        if len((obj.get(name) or "").encode()) > limit:
            yield _invalid(name, "", f"can have at most {limit} bytes")
    if obj.get("type") not in ("Normal", "Warning"):
        yield _invalid("type", obj.get("type") or "", "has invalid value")
    regarding = (obj.get("regarding") or {}).get("namespace") or ""
    namespace = obj["metadata"].get("namespace") or ""
    if regarding != namespace and not (not regarding and namespace == "default"):
        yield _invalid("involvedObject.namespace", regarding, "does not match event.namespace")
    series = obj.get("series")
    if series is not None and (series.get("count") or 0) < 2:
        yield _invalid("series.count", series.get("count") or 0, "should be at least 2")


def event_update(old: Object, new: Object) -> Iterator[Cause]:
    """Yield fields of an Event that changed although only the series may."""
    fields = ("reason", "note", "type", "regarding", "action", "eventTime", "reportingController")
    for name in (*fields, "reportingInstance", "related"):
        if old.get(name) != new.get(name):
            yield _invalid(name, new.get(name), _IMMUTABLE)


def controller_revision_update(old: Object, new: Object) -> Iterator[Cause]:
    """Yield the change of a revision's data."""
    if old.get("data") != new.get("data"):
        yield _invalid("data", None, _IMMUTABLE)
