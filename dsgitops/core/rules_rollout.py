"""How a DaemonSet replaces its pods: selector, strategy, history."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from dsgitops.core.rules_object import check_labels, elements, mapping

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dsgitops.core.findings import Findings

Json = Any

_PERCENT = re.compile(r"[0-9]+%", re.ASCII)
_ROLLING = "/spec/updateStrategy/rollingUpdate"
_UNAVAILABLE = f"{_ROLLING}/maxUnavailable"
_SURGE = f"{_ROLLING}/maxSurge"


def check_rollout(spec: Mapping[str, Json], findings: Findings) -> None:
    """Check the fields of `spec` beside the template."""
    _check_selector(spec, findings)
    _check_history(spec, findings)
    strategy = mapping(spec.get("updateStrategy"))
    if strategy.get("type") == "OnDelete":
        findings.notice("/spec/updateStrategy/type", "on-delete", "OnDelete is followed, never "
                        "driven: a rollout stalls until people delete pods")  # fmt: skip
    elif strategy.get("type") in (None, "", "RollingUpdate"):
        _check_numbers(mapping(strategy.get("rollingUpdate")), spec, findings)


def selects(selector: Mapping[str, Json], labels: Mapping[str, Json]) -> bool:
    """Whether a label selector matches labels, as the API server evaluates it."""
    wanted = mapping(selector.get("matchLabels"))
    if any(labels.get(key) != value for key, value in wanted.items()):
        return False
    return all(_expression(each, labels) for _, each in elements(selector.get("matchExpressions")))


def _expression(term: Mapping[str, Json], labels: Mapping[str, Json]) -> bool:
    key, values = str(term.get("key")), term.get("values")
    values = values if isinstance(values, list) else []
    match term.get("operator"):
        case "In":
            return key in labels and labels[key] in values
        case "NotIn":
            return key not in labels or labels[key] not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
        case _:
            return True  # noted by check_shape


def _check_selector(spec: Mapping[str, Json], findings: Findings) -> None:
    selector = spec.get("selector")
    if not isinstance(selector, dict):
        return
    check_labels(selector.get("matchLabels"), "/spec/selector/matchLabels", findings)
    if not selector.get("matchLabels") and not selector.get("matchExpressions"):
        findings.error("/spec/selector", "empty-selector", "spec.selector selects every pod",
                       "name the labels of the template in matchLabels")  # fmt: skip
        return
    for index, term in elements(selector.get("matchExpressions")):
        _check_term(term, f"/spec/selector/matchExpressions/{index}", findings)
    metadata = mapping(mapping(spec.get("template")).get("metadata"))
    if not selects(selector, mapping(metadata.get("labels"))):
        findings.error("/spec/selector", "selector-mismatch", "spec.selector does not match "
                       "spec.template.metadata.labels", "put each selected label on the template; "
                       "the selector of a live DaemonSet can never change")  # fmt: skip


def _check_term(term: Mapping[str, Json], pointer: str, findings: Findings) -> None:
    valued = bool(term.get("values"))
    if term.get("operator") in ("In", "NotIn") and not valued:
        findings.error(pointer, "selector-values", "In and NotIn need values", "add them")
    if term.get("operator") in ("Exists", "DoesNotExist") and valued:
        findings.error(pointer, "selector-values", "Exists and DoesNotExist take no values",
                       "remove them")  # fmt: skip


def _check_history(spec: Mapping[str, Json], findings: Findings) -> None:
    limit = spec.get("revisionHistoryLimit")
    if isinstance(limit, bool):
        return
    if limit == 0:
        findings.error("/spec/revisionHistoryLimit", "no-history", "revisionHistoryLimit is 0: the "
                       "last good revision would be gone when it is needed",
                       "remove the line (10 is the default)")  # fmt: skip
    elif limit == 1:
        findings.warning(
            "/spec/revisionHistoryLimit",
            "short-history",
            "revisionHistoryLimit is 1: one more commit and the last good revision may be gone",
            "remove the line (10 is the default)",
        )


def _check_numbers(
    rolling: Mapping[str, Json], spec: Mapping[str, Json], findings: Findings
) -> None:
    unavailable = _number(rolling.get("maxUnavailable"), 1, _UNAVAILABLE, findings)
    surge = _number(rolling.get("maxSurge"), 0, _SURGE, findings)
    if unavailable is None or surge is None:
        return
    if unavailable and surge:
        said = rolling.get("maxUnavailable") is not None
        what = "maxSurge and maxUnavailable are both set" if said else (
            "maxSurge is set, and maxUnavailable is 1 where nothing is said")  # fmt: skip
        findings.error(
            _SURGE, "surge-and-unavailable", what, "set maxUnavailable: 0 beside maxSurge"
        )
    if not unavailable and not surge:
        findings.error(_UNAVAILABLE, "no-room", "maxUnavailable and maxSurge are both 0: no pod "
                       "could ever be replaced", "set one of them to 1 or more")  # fmt: skip
    if rolling.get("maxUnavailable") == "100%":
        findings.warning(_UNAVAILABLE, "all-at-once", "maxUnavailable of 100 % lets every node be "
                         "without its pod at once", "allow 1 or 10%")  # fmt: skip
    if surge:
        _check_surge(spec, findings)


def _number(value: Json, default: int, pointer: str, findings: Findings) -> int | None:
    """Return a count or the number of a percentage; None for what is neither (noted)."""
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None  # noted by check_shape
    name = pointer.rpartition("/")[2]
    if isinstance(value, int):
        if value < 0:
            findings.error(pointer, "out-of-range", f"{name} must be at least 0")
        return value if value >= 0 else None
    if not _PERCENT.fullmatch(value):
        findings.error(pointer, "percentage", f"{name} is neither a count nor a percentage",
                       'write 1 without quotes, or "10%"')  # fmt: skip
        return None
    if len(value) > 4 or int(value[:-1]) > 100:
        findings.error(pointer, "percentage", f"{name} is more than 100 %")
        return None
    return int(value[:-1])


def _check_surge(spec: Mapping[str, Json], findings: Findings) -> None:
    """A surge pod starts beside the old one: on the same node, so never with the same host port."""
    pod = mapping(mapping(spec.get("template")).get("spec"))
    host = pod.get("hostNetwork") is True
    for index, container in elements(pod.get("containers")):
        for number, port in elements(container.get("ports")):
            if host or port.get("hostPort"):
                findings.error(
                    f"/spec/template/spec/containers/{index}/ports/{number}",
                    "surge-host-port",
                    "maxSurge with a port of the host: the new pod can never start beside the old",
                    "use maxUnavailable, or do without the host's port",
                )
