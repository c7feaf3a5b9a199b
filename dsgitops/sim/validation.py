"""What the API server refuses with 422: the causes, in its words and its order (`cluster.md` 7.2).

Only what a DaemonSet can run into is here; values are quoted as the API server quotes them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from dsgitops.sim import causes, podrules

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dsgitops.sim.causes import Cause
    from dsgitops.sim.schema import Object

_FINALIZERS = ("kubernetes", "orphan", "foregroundDeletion")


# ---------------------------------------------------------------------------- metadata


def metadata(obj: Object, *, namespaced: bool) -> Iterator[Cause]:
    """Yield what is wrong with any object's metadata."""
    meta = obj.get("metadata") or {}
    name, base = meta.get("name") or "", meta.get("generateName") or ""
    if base and not causes.SUBDOMAIN.fullmatch(base.removesuffix("-")):
        yield causes.invalid("metadata.generateName", base, causes.SUBDOMAIN_TEXT)
    if not name and base:
        pass  # the store makes the name
    elif not name:
        yield causes.required("metadata.name", "name or generateName is required")
    elif len(name) > 253 or not causes.SUBDOMAIN.fullmatch(name):
        yield causes.invalid("metadata.name", name, causes.SUBDOMAIN_TEXT)
    if namespaced and not meta.get("namespace"):
        yield causes.required("metadata.namespace")
    yield from _marks(meta)
    yield from _finalizers(meta)
    yield from _own_finalizers(meta)


def metadata_update(old: Object, new: Object) -> Iterator[Cause]:
    """Yield what is wrong with metadata after a change.

    It is looked at three times, and its uid twice: so often each cause is listed.
    """
    before, after = old["metadata"], new["metadata"]
    yield from _marks(after)
    yield from _finalizers(after)
    for _ in range(2):
        if after.get("uid") and after["uid"] != before["uid"]:
            yield causes.invalid("metadata.uid", after["uid"], causes.IMMUTABLE)
        yield from _marks(after)
    yield from _own_finalizers(after)


def _marks(meta: Object) -> Iterator[Cause]:
    """Yield what is wrong with labels and annotations."""
    yield from causes.labels(meta.get("labels") or {}, "metadata.labels")
    yield from causes.of_annotations(meta.get("annotations") or {}, "metadata.annotations")


def _finalizers(meta: Object) -> Iterator[Cause]:
    for each in meta.get("finalizers") or []:
        if not causes.is_qualified(each):
            yield causes.unqualified(each, "metadata.finalizers")


def _own_finalizers(meta: Object) -> Iterator[Cause]:
    for index, each in enumerate(meta.get("finalizers") or []):
        if "/" not in each and each not in _FINALIZERS:
            detail = "name is neither a standard finalizer name nor is it fully qualified"
            yield causes.invalid(f"metadata.finalizers[{index}]", each, detail)


# ---------------------------------------------------------------------------- DaemonSet


def daemon_set(obj: Object) -> Iterator[Cause]:
    """Yield what is wrong with a DaemonSet's spec."""
    spec = obj["spec"]
    selector = spec.get("selector")
    wanted = (selector or {}).get("matchLabels") or {}
    rules = (selector or {}).get("matchExpressions") or []
    labels = (spec["template"].get("metadata") or {}).get("labels")
    yield from causes.labels(wanted, "spec.selector.matchLabels")
    if selector is None or any((labels or {}).get(key) != each for key, each in wanted.items()):
        field = "spec.template.metadata.labels"
        yield causes.invalid(field, labels, "`selector` does not match template `labels`")
    if selector is not None and not wanted and not rules:
        yield causes.invalid("spec.selector", selector, "empty selector is invalid for daemonset")
    yield from podrules.template(spec["template"], "spec.template")
    pod: Object = spec["template"].get("spec") or {}
    if pod.get("restartPolicy") != "Always":
        policy = pod.get("restartPolicy")
        yield causes.unsupported("spec.template.spec.restartPolicy", policy, ["Always"])
    if pod.get("activeDeadlineSeconds") is not None:
        field = "spec.template.spec.activeDeadlineSeconds"
        yield causes.forbidden(field, "activeDeadlineSeconds in DaemonSet is not Supported")
    yield from causes.not_negative(spec.get("minReadySeconds") or 0, "spec.minReadySeconds")
    yield from _update_strategy(spec.get("updateStrategy") or {})
    limit = spec.get("revisionHistoryLimit") or 0
    yield from causes.not_negative(limit, "spec.revisionHistoryLimit")


def daemon_set_update(old: Object, new: Object) -> Iterator[Cause]:
    """Yield what a DaemonSet's update may not change."""
    if old["spec"].get("selector") != new["spec"].get("selector"):
        yield causes.invalid("spec.selector", new["spec"].get("selector"), causes.IMMUTABLE)


def _update_strategy(strategy: Object) -> Iterator[Cause]:
    """Yield the strategy's mistakes; below OnDelete nothing is looked at."""
    kind = strategy.get("type")
    if kind == "OnDelete":
        return
    if kind != "RollingUpdate":
        rolling = strategy.get("rollingUpdate")
        shown = {"Type": kind, "RollingUpdate": rolling and _as_in_go(rolling)}
        yield causes.unsupported("spec.updateStrategy", shown, ["RollingUpdate", "OnDelete"])
        return
    rolling = strategy.get("rollingUpdate") or {}
    field = "spec.updateStrategy.rollingUpdate"
    unavailable, surge = rolling.get("maxUnavailable", 0), rolling.get("maxSurge", 0)
    for check in (causes.int_or_percent, _not_more_than_all):
        yield from check(unavailable, f"{field}.maxUnavailable")
        yield from check(surge, f"{field}.maxSurge")
    if _is_zero(unavailable) and _is_zero(surge):
        yield causes.required(f"{field}.maxUnavailable", "cannot be 0 when maxSurge is 0")
    if not _is_zero(unavailable) and not _is_zero(surge):
        detail = "may not be set when maxUnavailable is non-zero"
        yield causes.invalid(f"{field}.maxSurge", surge, detail)


def _not_more_than_all(value: Any, field: str) -> Iterator[Cause]:  # noqa: ANN401 - int or str
    if isinstance(value, str) and re.fullmatch(r"[0-9]+%", value) and int(value[:-1]) > 100:
        yield causes.invalid(field, value, "must not be greater than 100%")


def _as_in_go(rolling: Object) -> Object:
    return {key: rolling[key[:1].lower() + key[1:]] for key in ("MaxUnavailable", "MaxSurge")}


def _is_zero(value: Any) -> bool:  # noqa: ANN401 - int or str
    if isinstance(value, str):  # what is no percentage counts as none
        return not re.fullmatch(r"[0-9]+%", value) or int(value[:-1]) == 0
    return bool(value == 0)


# ---------------------------------------------------------------------------- Events

_EVENT_LIMITS = {"reason": 128, "action": 128, "reportingInstance": 128, "note": 1024}
_EVENT_REQUIRED = ("reportingController", "reportingInstance", "action", "reason")


def event(obj: Object) -> Iterator[Cause]:
    """Yield what is wrong with an events.k8s.io/v1 Event (`cluster.md` 11)."""
    if not obj.get("eventTime"):
        yield causes.required("eventTime")
    for name in _EVENT_REQUIRED:
        if not obj.get(name):
            yield causes.required(name)
    for name, limit in _EVENT_LIMITS.items():
        if len((obj.get(name) or "").encode()) > limit:
            yield causes.invalid(name, "", f"can have at most {limit} bytes")
    if obj.get("type") not in ("Normal", "Warning"):
        yield causes.invalid("type", obj.get("type") or "", "has invalid value")
    regarding = (obj.get("regarding") or {}).get("namespace") or ""
    namespace = obj["metadata"].get("namespace") or ""
    if regarding != namespace and not (not regarding and namespace == "default"):
        yield causes.invalid(
            "involvedObject.namespace", regarding, "does not match event.namespace"
        )
    series = obj.get("series")
    if series is not None and (series.get("count") or 0) < 2:
        yield causes.invalid("series.count", series.get("count") or 0, "should be at least 2")


def event_update(old: Object, new: Object) -> Iterator[Cause]:
    """Yield fields of an Event that changed although only the series may."""
    fields = ("reason", "note", "type", "regarding", "action", "eventTime", "reportingController")
    for name in (*fields, "reportingInstance", "related"):
        if old.get(name) != new.get(name):
            yield causes.invalid(name, new.get(name), causes.IMMUTABLE)


def controller_revision_update(old: Object, new: Object) -> Iterator[Cause]:
    """Yield the change of a revision's data."""
    if old.get("data") != new.get("data"):
        yield causes.invalid("data", None, causes.IMMUTABLE)
