"""What the API server fills in, and how it writes quantities (`daemonsets.md` 1.1, `cluster.md` 7).

All functions return new values and share what did not change.
"""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Context, Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

from dsgitops.sim.schema import List, Map, Object, Scalar, Struct, Type

TEMPLATE_GENERATION = "deprecated.daemonset.template.generation"

_TEMPLATE_SPEC: Object = {
    "restartPolicy": "Always",
    "terminationGracePeriodSeconds": 30,
    "dnsPolicy": "ClusterFirst",
    "securityContext": {},
    "schedulerName": "default-scheduler",
}
_PROBE: Object = {
    "timeoutSeconds": 1,
    "periodSeconds": 10,
    "successThreshold": 1,
    "failureThreshold": 3,
}
_MODE_0644 = 420
_TOKEN_SECONDS = 3600


def daemon_set(obj: Object) -> Object:
    """Return a DaemonSet with the defaults of apps/v1."""
    spec = dict(obj.get("spec") or {})
    spec["updateStrategy"] = _strategy(spec.get("updateStrategy") or {})
    spec.setdefault("revisionHistoryLimit", 10)
    template = dict(spec.get("template") or {})
    template["metadata"] = template.get("metadata") or {}
    template["spec"] = template_spec(template.get("spec") or {})
    spec["template"] = template
    return {**obj, "spec": spec}


def _strategy(given: Object) -> Object:
    """Return updateStrategy; below OnDelete a missing number shows as 0, not as the default."""
    strategy: Object = {"type": "RollingUpdate"} | given
    rolling = strategy.get("rollingUpdate")
    if strategy["type"] == "RollingUpdate":
        strategy["rollingUpdate"] = {"maxUnavailable": 1, "maxSurge": 0} | (rolling or {})
    elif rolling is not None:
        strategy["rollingUpdate"] = {"maxUnavailable": 0, "maxSurge": 0} | rolling
    return strategy


def pod(obj: Object) -> Object:
    """Return a Pod with the defaults of core/v1, also those that a template does not get."""
    spec = template_spec(obj.get("spec") or {})
    spec.setdefault("enableServiceLinks", True)
    containers = [_requests_from_limits(each) for each in spec.get("containers", [])]
    status = {"phase": "Pending"} | (obj.get("status") or {})
    return {**obj, "spec": {**spec, "containers": containers}, "status": status}


def template_spec(given: Object) -> Object:
    """Return a pod template's spec with the defaults of core/v1."""
    spec = {**_TEMPLATE_SPEC, **given}
    account = spec.get("serviceAccountName") or spec.get("serviceAccount")
    if account:
        spec |= {"serviceAccountName": account, "serviceAccount": account}
    for field in ("containers", "initContainers", "ephemeralContainers"):
        if spec.get(field):
            spec[field] = [_container(each) for each in spec[field]]
    if spec.get("volumes"):
        spec["volumes"] = [_volume(each) for each in spec["volumes"]]
    return spec


def _container(given: Object) -> Object:
    container = {
        "imagePullPolicy": pull_policy(given.get("image") or ""),
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "resources": {},
        **given,
    }
    _change(container, "ports", lambda ports: [{"protocol": "TCP", **each} for each in ports])
    _change(container, "env", lambda env: [_variable(each) for each in env])
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        _change(container, probe, lambda each: _handler({**_PROBE, **each}))
    _change(container, "lifecycle", _lifecycle)
    return container


def pull_policy(image: str) -> str:
    """Return `Always` for no tag or the tag latest (even with a digest), else IfNotPresent."""
    name, at, _ = image.partition("@")
    _, colon, tag = name.rpartition("/")[2].partition(":")
    if not colon:
        return "IfNotPresent" if at else "Always"
    return "Always" if tag == "latest" else "IfNotPresent"


def _variable(given: Object) -> Object:
    variable = dict(given)
    _change(variable, "valueFrom", _references)
    return variable


def _references(given: Object) -> Object:
    source = dict(given)
    _change(source, "fieldRef", lambda each: {"apiVersion": "v1", **each})
    _change(source, "resourceFieldRef", lambda each: {"divisor": "0", **each})
    return source


def _handler(given: Object) -> Object:
    handler = dict(given)
    _change(handler, "httpGet", lambda each: {"path": "/", "scheme": "HTTP", **each})
    _change(handler, "grpc", lambda each: {"service": "", **each})
    return handler


def _lifecycle(given: Object) -> Object:
    return {
        name: _handler(each) if isinstance(each, dict) else each for name, each in given.items()
    }


def _volume(given: Object) -> Object:
    volume = dict(given) if len(given) > 1 else {**given, "emptyDir": {}}
    for source in ("secret", "configMap", "downwardAPI"):
        _change(volume, source, _with_mode)
    _change(volume, "projected", _projected)
    _change(volume, "hostPath", lambda each: {"type": "", **each})
    _change(volume, "ephemeral", _ephemeral)
    return volume


def _with_mode(given: Object) -> Object:
    source = {"defaultMode": _MODE_0644, **given}
    _change(source, "items", lambda items: [_references(each) for each in items])
    return source


def _projected(given: Object) -> Object:
    projected = {"defaultMode": _MODE_0644, **given}
    _change(projected, "sources", lambda sources: [_projection(each) for each in sources])
    return projected


def _projection(given: Object) -> Object:
    projection = dict(given)
    _change(
        projection, "serviceAccountToken", lambda each: {"expirationSeconds": _TOKEN_SECONDS} | each
    )
    _change(projection, "downwardAPI", _downward_items)
    return projection


def _downward_items(given: Object) -> Object:
    source = dict(given)
    _change(source, "items", lambda items: [_references(each) for each in items])
    return source


def _ephemeral(given: Object) -> Object:
    claim = dict(given.get("volumeClaimTemplate") or {})
    claim["spec"] = {"volumeMode": "Filesystem"} | (claim.get("spec") or {})
    return {**given, "volumeClaimTemplate": claim}


def _requests_from_limits(container: Object) -> Object:
    resources: Mapping[str, Any] = container.get("resources") or {}
    limits = resources.get("limits")
    if not limits:
        return container
    requests = {**limits, **(resources.get("requests") or {})}
    return {**container, "resources": {**resources, "requests": requests}}


def _change(of: Object, field: str, change: Callable[[Any], Any]) -> None:
    """Change a field in place if it is there and not null; `of` is a copy of the caller's."""
    if of.get(field) is not None:
        of[field] = change(of[field])


# ---------------------------------------------------------------------------- quantities

_QUANTITY = re.compile(
    r"^(?P<number>[+-]?(?:\d+\.?\d*|\.\d+))(?P<suffix>[KMGTPE]i|[numkMGTPE]|[eE][+-]?\d+|)$"
)
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_NANO = Decimal("1e-9")
_LARGEST = Decimal(2**63 - 1)
"""Larger quantities count as this."""
_CAPPED_EXPONENT = 100
_EXACT = Context(prec=400)
"""More digits than any quantity that can be written has."""


class BadQuantity(ValueError):
    """A quantity that Kubernetes cannot read."""


def amount(quantity: str | float) -> Decimal:
    """Return a quantity as a number, rounded up to nano.

    Raises:
        BadQuantity: It is none.
    """
    number, suffix = _split(quantity)
    if suffix in _BINARY:
        exact = _EXACT.multiply(number, 1 << _BINARY[suffix])
    else:
        exponent = _DECIMAL[suffix] if suffix in _DECIMAL else int(suffix[1:])
        exact = number.scaleb(min(exponent, _CAPPED_EXPONENT), _EXACT)
    if abs(exact) >= _LARGEST:
        return _LARGEST.copy_sign(exact)
    return exact.quantize(_NANO, ROUND_CEILING, _EXACT)


def canonical(quantity: str | float) -> str:
    """Return a quantity as Kubernetes writes it: `1000m` is `1`, `1024Mi` is `1Gi`.

    Raises:
        BadQuantity: It is none.
    """
    _, suffix = _split(quantity)
    value = amount(quantity)
    if value == 0:
        return "0"
    whole = value == value.to_integral_value()
    if suffix in _BINARY and whole and abs(value) >= 1024:
        return _binary(int(value))
    if suffix[:1] in ("e", "E") and suffix not in _DECIMAL:
        return _decimal(value, exponent=True)
    return _decimal(value, exponent=False)


def _split(quantity: str | float) -> tuple[Decimal, str]:
    match = _QUANTITY.match(str(quantity).strip())
    if match is None:
        raise BadQuantity("quantities must match the regular expression")
    try:
        return Decimal(match["number"]), match["suffix"]
    except InvalidOperation:  # pragma: no cover - the expression allows numbers only
        raise BadQuantity("quantities must match the regular expression") from None


def _binary(value: int) -> str:
    suffix = ""
    for name, bits in _BINARY.items():
        if value % 2**bits == 0:
            suffix = name
    return f"{value >> _BINARY[suffix]}{suffix}" if suffix else str(value)


def _decimal(value: Decimal, *, exponent: bool) -> str:
    """Return the shortest whole mantissa: the largest power of 1000 that divides it."""
    for name, power in reversed(_DECIMAL.items()):
        mantissa = value.scaleb(-power, _EXACT)
        if mantissa == mantissa.to_integral_value():
            suffix = f"e{power}" if exponent and power else name
            return f"{int(mantissa)}{suffix}"
    return f"{int(value.scaleb(9, _EXACT).to_integral_value(ROUND_CEILING))}n"


def normalised(of: Type, value: Any) -> Any:  # noqa: ANN401 - any JSON
    """Return a value with its quantities in canonical form; what is no quantity stays.

    Unreadable quantities stay as well: `decoded` bodies with them are refused elsewhere.
    """
    if isinstance(of, Scalar):
        return canonical(value) if of.name == "quantity" else value
    if isinstance(of, Map) and isinstance(of.element, Scalar) and of.element.name != "quantity":
        return value
    if isinstance(value, list) and isinstance(of, List):
        return [normalised(of.element, each) for each in value]
    if isinstance(value, dict) and isinstance(of, Map):
        return {key: normalised(of.element, each) for key, each in value.items()}
    if isinstance(value, dict) and isinstance(of, Struct):
        return {
            name: normalised(of.fields[name], each) if name in of.fields else each
            for name, each in value.items()
        }
    return value
