"""JSON of the API server -> values of `core/model.py`.

Only what is needed is decoded; unknown fields are skipped, missing ones have defaults, and a value
of an odd type counts as missing: one odd object must never make a whole list unreadable.
"""

from __future__ import annotations

import re
from datetime import datetime
from sys import intern
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import msgspec

from dsgitops.core import model

if TYPE_CHECKING:
    from collections.abc import Mapping

Time = Annotated[datetime, msgspec.Meta(tz=True)]
Json = bytes | dict[str, Any]
Shape = TypeVar("Shape", bound=msgspec.Struct)

_REPAIRS_MAX = 32
"""Odd values dropped from one object before its whole content counts as odd."""
_PATH = re.compile(r"at `(?:key in )?\$(?P<steps>[^`]*)`")
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")


class _Wire(msgspec.Struct, gc=False, rename="camel"):
    """Base of the shapes below: field names as in the API, `None` where it says null."""


class _Owner(_Wire):
    uid: str | None = None
    controller: bool | None = None


class _Metadata(_Wire):
    name: str | None = None
    namespace: str | None = None
    uid: str | None = None
    resource_version: str | None = None
    generation: int | None = None
    creation_timestamp: Time | None = None
    deletion_timestamp: Time | None = None
    deletion_grace_period_seconds: int | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    owner_references: list[_Owner] | None = None
    managed_fields: list[dict[str, Any]] | None = None


class _BareMetadata(_Wire):
    """Metadata of objects that come by the thousand."""

    name: str | None = None
    uid: str | None = None
    resource_version: str | None = None
    creation_timestamp: Time | None = None
    deletion_timestamp: Time | None = None
    deletion_grace_period_seconds: int | None = None
    labels: dict[str, str] | None = None
    owner_references: list[_Owner] | None = None


class _Condition(_Wire):
    type: str | None = None
    status: str | None = None
    reason: str | None = None
    message: str | None = None
    last_transition_time: Time | None = None


class _Waiting(_Wire):
    reason: str | None = None
    message: str | None = None


class _Running(_Wire):
    started_at: Time | None = None


class _Terminated(_Wire):
    reason: str | None = None
    message: str | None = None
    exit_code: int | None = None
    started_at: Time | None = None
    finished_at: Time | None = None


class _State(_Wire):
    waiting: _Waiting | None = None
    running: _Running | None = None
    terminated: _Terminated | None = None


class _ContainerStatus(_Wire):
    name: str | None = None
    ready: bool | None = None
    started: bool | None = None
    restart_count: int | None = None
    state: _State | None = None
    last_state: _State | None = None


class _PodStatus(_Wire):
    phase: str | None = None
    reason: str | None = None
    message: str | None = None
    conditions: list[_Condition] | None = None
    container_statuses: list[_ContainerStatus] | None = None
    init_container_statuses: list[_ContainerStatus] | None = None


class _InitContainer(_Wire):
    name: str | None = None
    restart_policy: str | None = None


class _MatchField(_Wire):
    key: str | None = None
    values: list[str] | None = None


class _Term(_Wire):
    match_fields: list[_MatchField] | None = None


class _Required(_Wire):
    node_selector_terms: list[_Term] | None = None


class _NodeAffinity(_Wire):
    required_during_scheduling_ignored_during_execution: _Required | None = None


class _Affinity(_Wire):
    node_affinity: _NodeAffinity | None = None


class _PodSpec(_Wire):
    node_name: str | None = None
    termination_grace_period_seconds: int | None = None
    init_containers: list[_InitContainer] | None = None
    readiness_gates: list[Any] | None = None
    affinity: _Affinity | None = None


class _Pod(_Wire):
    metadata: _BareMetadata | None = None
    spec: _PodSpec | None = None
    status: _PodStatus | None = None


class _Taint(_Wire):
    key: str | None = None
    value: str | None = None
    effect: str | None = None


class _NodeSpec(_Wire):
    unschedulable: bool | None = None
    taints: list[_Taint] | None = None


class _NodeStatus(_Wire):
    conditions: list[_Condition] | None = None


class _Node(_Wire):
    metadata: _BareMetadata | None = None
    spec: _NodeSpec | None = None
    status: _NodeStatus | None = None


class _Regarding(_Wire):
    kind: str | None = None
    name: str | None = None
    uid: str | None = None


class _Series(_Wire):
    count: int | None = None
    last_observed_time: Time | None = None


class _Event(_Wire):
    """Both `v1` and `events.k8s.io/v1`: the two differ in names only."""

    metadata: _BareMetadata | None = None
    involved_object: _Regarding | None = None
    regarding: _Regarding | None = None
    reason: str | None = None
    message: str | None = None
    note: str | None = None
    count: int | None = None
    deprecated_count: int | None = None
    first_timestamp: Time | None = None
    deprecated_first_timestamp: Time | None = None
    last_timestamp: Time | None = None
    deprecated_last_timestamp: Time | None = None
    event_time: Time | None = None
    series: _Series | None = None


class _RevisionData(_Wire):
    spec: dict[str, Any] | None = None


class _Revision(_Wire):
    metadata: _Metadata | None = None
    revision: int | None = None
    data: _RevisionData | None = None


class _DaemonSetStatus(_Wire):
    observed_generation: int | None = None
    desired_number_scheduled: int | None = None
    number_available: int | None = None


class _DaemonSet(_Wire):
    metadata: _Metadata | None = None
    spec: dict[str, Any] | None = None
    status: _DaemonSetStatus | None = None


_PODS = msgspec.json.Decoder(_Pod)
_NODES = msgspec.json.Decoder(_Node)
_EVENTS = msgspec.json.Decoder(_Event)
_REVISIONS = msgspec.json.Decoder(_Revision)
_DAEMONSETS = msgspec.json.Decoder(_DaemonSet)
_NO_SPEC = _PodSpec()
_NO_STATUS = _PodStatus()
_NO_META = _BareMetadata()
_NO_STATE = _State()


def daemonset(raw: Json) -> model.Live:
    """Read a DaemonSet.

    Args:
        raw: The object's JSON, as bytes or decoded.

    Raises:
        ValueError: Not a JSON object at all.
    """
    got = _read(raw, _DAEMONSETS)
    meta = got.metadata or _Metadata()
    status = got.status or _DaemonSetStatus()
    return model.Live(
        ref=model.Ref(meta.namespace or "", meta.name or ""),
        uid=meta.uid or "",
        resource_version=meta.resource_version or "",
        generation=meta.generation or 0,
        observed_generation=status.observed_generation or 0,
        labels=meta.labels or model.EMPTY,
        annotations=meta.annotations or model.EMPTY,
        spec=got.spec or model.EMPTY,
        managed_fields=tuple(meta.managed_fields or ()),
        deleting=meta.deletion_timestamp is not None,
        created=meta.creation_timestamp,
        desired_scheduled=status.desired_number_scheduled or 0,
        available=status.number_available or 0,
    )


def revision(raw: Json) -> model.Revision:
    """Read a ControllerRevision.  Raises as `daemonset`."""
    got = _read(raw, _REVISIONS)
    meta = got.metadata or _Metadata()
    spec = (got.data.spec if got.data else None) or {}
    template = spec.get("template")
    if not isinstance(template, dict):
        template = {}
    return model.Revision(
        name=meta.name or "",
        hash=(meta.labels or {}).get("controller-revision-hash", ""),
        number=got.revision or 0,
        template={key: value for key, value in template.items() if key != "$patch"},
        annotations=meta.annotations or model.EMPTY,
        created=meta.creation_timestamp,
        owner=_controller(meta.owner_references),
    )


def pod(raw: Json) -> model.Pod:
    """Read a Pod.  Raises as `daemonset`."""
    got = _read(raw, _PODS)
    meta = got.metadata or _NO_META
    spec = got.spec or _NO_SPEC
    status = got.status or _NO_STATUS
    grace = meta.deletion_grace_period_seconds
    if grace is None:
        grace = spec.termination_grace_period_seconds
    return model.Pod(
        name=meta.name or "",
        uid=meta.uid or "",
        resource_version=meta.resource_version or "",
        node=_word(spec.node_name) or _aimed_at(spec.affinity),
        bound=bool(spec.node_name),
        hash=_word((meta.labels or {}).get("controller-revision-hash")),
        created=meta.creation_timestamp,
        deleting=meta.deletion_timestamp,
        grace=30 if grace is None else grace,
        phase=_word(status.phase),
        reason=_word(status.reason),
        message=status.message or "",
        conditions=_conditions(status.conditions),
        containers=_containers(status.container_statuses),
        init_containers=_containers(status.init_container_statuses),
        sidecars=_sidecars(spec.init_containers),
        gated=bool(spec.readiness_gates),
        owner=_word(_controller(meta.owner_references)),
    )


def node(raw: Json) -> model.Node:
    """Read a Node.  Raises as `daemonset`."""
    got = _read(raw, _NODES)
    meta = got.metadata or _NO_META
    spec = got.spec or _NodeSpec()
    conditions = (got.status.conditions if got.status else None) or ()
    ready = next((each for each in conditions if each.type == "Ready"), None)
    taints = tuple(
        model.Taint(key=_word(each.key), value=_word(each.value), effect=_word(each.effect))
        for each in spec.taints or ()
    )
    return model.Node(
        name=_word(meta.name),
        uid=meta.uid or "",
        ready=_tristate(ready.status if ready else None),
        ready_since=ready.last_transition_time if ready else None,
        unschedulable=bool(spec.unschedulable),
        taints=taints,
        labels={_word(key): _word(value) for key, value in meta.labels.items()}
        if meta.labels
        else model.EMPTY,
    )


def event(raw: Json) -> model.Event:
    """Read an Event, of either API group.  Raises as `daemonset`."""
    got = _read(raw, _EVENTS)
    about = got.involved_object or got.regarding or _Regarding()
    series = got.series or _Series()
    created = got.metadata.creation_timestamp if got.metadata else None
    first = got.first_timestamp or got.deprecated_first_timestamp or got.event_time or created
    last = got.last_timestamp or got.deprecated_last_timestamp or series.last_observed_time
    return model.Event(
        uid=about.uid or "",
        kind=_word(about.kind),
        name=about.name or "",
        reason=_word(got.reason),
        message=got.message or got.note or "",
        count=series.count or got.count or got.deprecated_count or 1,
        first=first,
        last=last or first,
    )


def _tristate(status: str | None) -> Literal["True", "False", "Unknown"]:
    """Return a condition's status; a node that never reported is not ready."""
    if status == "True":
        return "True"
    if status == "False":
        return "False"
    return "Unknown"


def _controller(owners: list[_Owner] | None) -> str:
    for owner in owners or ():
        if owner.controller:
            return owner.uid or ""
    return ""


def _aimed_at(affinity: _Affinity | None) -> str:
    """Return the node that the DaemonSet controller made the pod for."""
    affinity_of_node = affinity.node_affinity if affinity else None
    if affinity_of_node is None:
        return ""
    required = affinity_of_node.required_during_scheduling_ignored_during_execution
    for term in (required.node_selector_terms if required else None) or ():
        for match in term.match_fields or ():
            if match.key == "metadata.name" and match.values:
                return _word(match.values[0])
    return ""


def _sidecars(given: list[_InitContainer] | None) -> frozenset[str]:
    if not given:
        return frozenset()
    return frozenset(each.name or "" for each in given if each.restart_policy == "Always")


def _conditions(given: list[_Condition] | None) -> Mapping[str, model.Condition]:
    if not given:
        return model.EMPTY
    return {
        _word(each.type): model.Condition(
            status=_word(each.status),
            reason=_word(each.reason),
            message=each.message or "",
            since=each.last_transition_time,
        )
        for each in given
    }


def _containers(given: list[_ContainerStatus] | None) -> tuple[model.Container, ...]:
    if not given:
        return ()
    return tuple([_container(each) for each in given])


def _container(given: _ContainerStatus) -> model.Container:
    state = given.state or _NO_STATE
    waiting, running = state.waiting, state.running
    last = given.last_state.terminated if given.last_state else None
    return model.Container(
        name=_word(given.name),
        ready=bool(given.ready),
        started=given.started,
        restarts=given.restart_count or 0,
        waiting_reason=_word(waiting.reason) if waiting else "",
        waiting_message=(waiting.message or "") if waiting else "",
        running_since=running.started_at if running else None,
        terminated=_ended(state.terminated) if state.terminated else None,
        last=_ended(last) if last else None,
    )


def _ended(given: _Terminated) -> model.Ended:
    return model.Ended(
        reason=_word(given.reason),
        message=given.message or "",
        exit_code=given.exit_code or 0,
        started=given.started_at,
        finished=given.finished_at,
    )


def _word(text: str | None) -> str:
    """Return the one copy of a text that thousands of pods and nodes share: names, reasons.

    Messages, uids and names of pods are not such: they are of one object alone.
    """
    return intern(text) if text else ""


def _read(raw: Json, decoder: msgspec.json.Decoder[Shape]) -> Shape:
    """Decode or convert; what does not fit is dropped value by value."""
    shape: type[Shape] = decoder.type
    try:
        return decoder.decode(raw) if isinstance(raw, bytes) else msgspec.convert(raw, shape)
    except msgspec.ValidationError as odd:
        return _without_odd_values(raw, shape, odd)
    except msgspec.DecodeError as damaged:
        raise ValueError("not JSON") from damaged


def _without_odd_values(raw: Json, shape: type[Shape], odd: msgspec.ValidationError) -> Shape:
    """Convert after dropping each value that msgspec objects to.

    A copy is changed, never the caller's.
    """
    content = msgspec.json.decode(raw if isinstance(raw, bytes) else msgspec.json.encode(raw))
    if not isinstance(content, dict):
        raise ValueError("not a JSON object") from odd  # noqa: TRY004 - as `json.loads` has it
    for _ in range(_REPAIRS_MAX):
        if not _drop(content, str(odd)):
            break
        try:
            return msgspec.convert(content, shape)
        except msgspec.ValidationError as next_odd:
            odd = next_odd
    bare = {key: content[key] for key in ("metadata", "spec") if key in content}
    try:
        return msgspec.convert(bare, shape)
    except msgspec.ValidationError:
        return msgspec.convert({}, shape)


def _drop(content: dict[str, Any], complaint: str) -> bool:
    """Remove the value that a message like "… - at `$.status.phase`" points at."""
    found = _PATH.search(complaint)
    steps = [name or index for name, index in _STEP.findall(found["steps"])] if found else []
    if not steps:
        return False
    place: Any = content
    if "..." in steps:  # some value of a mapping: the path does not say which
        steps = steps[: steps.index("...")]
    for step in steps[:-1]:
        place = place[int(step)] if isinstance(place, list) else place[step]
    if isinstance(place, list):
        del place[int(steps[-1])]
    else:
        del place[steps[-1]]
    return True
