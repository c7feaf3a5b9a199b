"""Request scripts: what several clients may send to one DaemonSet, good and bad, drawn at random.

The vocabulary is small, so that clients meet: two containers, three variables, two volumes, two
labels, and the fields on which Kubernetes' merging, defaulting, owning and refusing depend.
Where a body stands for what only the cluster knows, a word stands in for it (`UID`, `VERSION`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from contract.client import APPLY, JSON, JSON_PATCH, MERGE, STRATEGIC
from hypothesis import strategies as st

NAME = "agent"
UID = "the live uid"
VERSION = "the live version"
OTHER_UID = "11111111-2222-3333-4444-555555555555"


@dataclass(frozen=True)
class Step:
    """One request about the DaemonSet `agent`, or about all there are (POST)."""

    method: str
    body: Any
    media: str = JSON
    query: dict[str, str] = field(default_factory=dict)
    subresource: str = ""

    def __str__(self) -> str:
        media = self.media.partition("/")[2]
        where = f"/{self.subresource}" if self.subresource else ""
        return f"{self.method}{where} {media} {self.query} {json.dumps(self.body)}"


def _some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Return maps that have some of these fields."""
    return st.fixed_dictionaries({}, optional=fields)


def _keyed(elements, *keys, most=3, **given) -> st.SearchStrategy[list[Any]]:
    """Return lists whose elements differ in their keys."""

    def key(element):
        return tuple(element.get(each, given.get(each)) for each in keys)

    return st.lists(elements, max_size=most, unique_by=key)


_pick = st.sampled_from

# ---------------------------------------------------------------------------- the pod template

_IMAGES = _pick([f"registry.example/agent:{tag}" for tag in ("1", "2", "latest")])
_REFERENCE = {"fieldRef": {"fieldPath": "spec.nodeName"}}
_LIMIT = {"resourceFieldRef": {"resource": "limits.cpu", "containerName": "agent"}}
_ASKED = _pick(
    [
        "metadata.name",
        "metadata.labels",
        "metadata.labels['app']",
        "metadata.annotations['x/A']",
        "metadata.annotations['not a key']",
        "metadata.name['a']",
        "metadata.nothing",
        "spec.host",
        "spec.schedulerName",
        "status.podIPs",
        "",
    ]
)
_FIELD = st.builds(lambda path: {"fieldRef": {"fieldPath": path}}, _ASKED)
_RESOURCE = st.builds(
    lambda wanted, of: {"resourceFieldRef": {"resource": wanted} | of},
    _pick(["limits.cpu", "requests.memory", "limits.hugepages-2Mi", "limits.gpu", ""]),
    _some(containerName=_pick(["agent"])),
)
_ANY_REFERENCE = st.one_of(_FIELD, _RESOURCE, st.builds(lambda a, b: a | b, _FIELD, _RESOURCE))
_VARIABLES = st.one_of(
    st.fixed_dictionaries({"name": _pick("ABC"), "value": _pick(["1", "2", ""])}),
    st.fixed_dictionaries({"name": _pick("ABC"), "valueFrom": _pick([_REFERENCE, _LIMIT])}),
    st.fixed_dictionaries({"name": _pick("ABC")}),
    st.fixed_dictionaries({"name": _pick("ABC"), "valueFrom": _ANY_REFERENCE}),
)
_PORTS = st.fixed_dictionaries(
    {"containerPort": _pick([80, 81])},
    optional={
        "protocol": _pick(["TCP", "UDP"]),
        "name": _pick(["http", "dns"]),
        "hostPort": _pick([80, 81, 0]),
    },
)
_MOUNTS = st.fixed_dictionaries(
    {"name": _pick(["data", "extra"]), "mountPath": _pick(["/data", "/extra"])},
    optional={"readOnly": st.booleans(), "subPath": _pick(["", "x"])},
)
_PROBES = st.builds(
    lambda handler, rest: handler | rest,
    _pick(
        [
            {"httpGet": {"port": 80}},
            {
                "httpGet": {
                    "port": "http",
                    "path": "/x",
                    "httpHeaders": [{"name": "a", "value": ""}],
                }
            },
            {"tcpSocket": {"port": 80}},
            {"exec": {"command": ["true"]}},
        ]
    ),
    _some(periodSeconds=_pick([3, 10]), failureThreshold=_pick([1, 0]), timeoutSeconds=_pick([1])),
)
_AMOUNTS = _some(cpu=_pick(["1", "1000m", "0.5", 1, 0.25]), memory=_pick(["1024Mi", "1Gi", "1e3k"]))
_RESOURCES = _some(limits=_AMOUNTS, requests=_some(cpu=_pick(["100m", "0.1"])))
_SECURITY = _some(
    runAsUser=_pick([0, 1000]),
    privileged=st.booleans(),
    capabilities=_some(add=_pick([[], ["NET_ADMIN"]]), drop=_pick([["ALL"]])),
)
_CONTAINER: dict[str, st.SearchStrategy] = {
    "image": _IMAGES,
    "imagePullPolicy": _pick(["Always", "IfNotPresent"]),
    "args": _pick([[], ["a"], ["a", "b"]]),
    "env": _keyed(_VARIABLES, "name"),
    "ports": _keyed(_PORTS, "containerPort", "protocol", most=2, protocol="TCP"),
    "volumeMounts": _keyed(_MOUNTS, "mountPath", most=2),
    "readinessProbe": _PROBES,
    "livenessProbe": _PROBES,
    "resources": _RESOURCES,
    "securityContext": _SECURITY,
    "envFrom": _pick([[], [{"configMapRef": {"name": "a"}}], [{"secretRef": {"name": "a"}}]]),
    "lifecycle": _pick(
        [{}, {"preStop": {"exec": {"command": ["x"]}}}, {"preStop": {"httpGet": {"port": 1}}}]
    ),
    "tty": st.booleans(),
}
_FILES = st.builds(
    lambda path, reference: {"downwardAPI": {"items": [path | reference]}},
    _pick([{"path": "p"}, {"path": "p"}, {}]),
    st.one_of(_ANY_REFERENCE, st.just({})),
)
_KNOWN_SOURCES = _pick(
    [
        {},
        {"emptyDir": {}},
        {"emptyDir": {"medium": "Memory", "sizeLimit": "1024Mi"}},
        {"hostPath": {"path": "/x"}},
        {"hostPath": {"path": "/y", "type": "Directory"}},
        {"configMap": {"name": "a"}},
        {"configMap": {"name": "a", "items": [{"key": "k", "path": "p"}], "optional": True}},
        {"secret": {"secretName": "a", "defaultMode": 256}},
        {"projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}},
        {"downwardAPI": {"items": [{"path": "n", "fieldRef": {"fieldPath": "metadata.name"}}]}},
    ]
)
_SOURCES = st.one_of(_KNOWN_SOURCES, _KNOWN_SOURCES, _KNOWN_SOURCES, _FILES)
_VOLUMES = _keyed(
    st.builds(lambda name, source: {"name": name} | source, _pick(["data", "extra"]), _SOURCES),
    "name",
    most=2,
)
_TOLERATIONS = st.lists(
    _pick(
        [
            {"operator": "Exists"},
            {"key": "a", "operator": "Equal", "value": "b", "effect": "NoSchedule"},
            {"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5},
        ]
    ),
    max_size=2,
)
_TERM = {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}
_REQUIRED = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [_TERM]}}
_POD: dict[str, st.SearchStrategy] = {
    "volumes": _VOLUMES,
    "tolerations": _TOLERATIONS,
    "nodeSelector": _pick([{}, {"a": "b"}, {"a": "c", "d": "e"}]),
    "hostPID": st.booleans(),
    "hostNetwork": st.booleans(),
    "terminationGracePeriodSeconds": _pick([0, 1, 30]),
    "serviceAccountName": _pick(["a", ""]),
    "imagePullSecrets": _pick([[], [{"name": "a"}], [{"name": "a"}, {"name": "b"}]]),
    "priorityClassName": _pick(["system-node-critical"]),
    "affinity": _pick([{}, {"nodeAffinity": _REQUIRED}]),
    "securityContext": _pick([{}, {"runAsUser": 0}, {"fsGroup": 1, "supplementalGroups": [1, 2]}]),
    "hostAliases": _pick([[], [{"ip": "127.0.0.1", "hostnames": ["a"]}]]),
    "dnsPolicy": _pick(["ClusterFirst", "Default"]),
}
_LABELS = _some(a=_pick("12"), b=_pick("12"))
_ANNOTATIONS = st.fixed_dictionaries({}, optional={"x/a": _pick("12"), "b": _pick(["", "1"])})


@st.composite
def _containers(draw, *, image: bool) -> list[dict[str, Any]]:
    names = draw(_pick([["agent"], ["agent", "side"], ["side", "agent"]]))
    return [draw(_container(name, image=image)) for name in names]


@st.composite
def _container(draw, name: str, *, image: bool) -> dict[str, Any]:
    chosen = draw(st.lists(_pick(sorted(_CONTAINER)), max_size=3, unique=True))
    if image and "image" not in chosen:
        chosen = ["image", *chosen]
    return {"name": name} | {key: draw(_CONTAINER[key]) for key in chosen}


@st.composite
def _pod(draw, *, image: bool) -> dict[str, Any]:
    chosen = draw(st.lists(_pick(sorted(_POD)), max_size=3, unique=True))
    pod = {key: draw(_POD[key]) for key in chosen}
    if image or draw(st.booleans()):
        pod["containers"] = draw(_containers(image=image))
    if draw(_pick([False, False, False, True])):
        pod["initContainers"] = [draw(_container("first", image=image))]
    return pod


# ---------------------------------------------------------------------------- the DaemonSet

_NUMBERS = _some(maxUnavailable=_pick([0, 1, 2, "10%"]), maxSurge=_pick([0, 1, "5%"]))
_STRATEGIES = _some(type=_pick(["RollingUpdate", "OnDelete"]), rollingUpdate=_NUMBERS)
_SPEC: dict[str, st.SearchStrategy] = {
    "minReadySeconds": _pick([0, 1, 5]),
    "revisionHistoryLimit": _pick([0, 3, 10]),
    "updateStrategy": _STRATEGIES,
}


@st.composite
def _whole(draw) -> dict[str, Any]:
    """Return a manifest that is mostly good."""
    chosen = draw(st.lists(_pick(sorted(_SPEC)), max_size=2, unique=True))
    metadata: dict[str, Any] = {"name": NAME}
    metadata |= draw(_some(labels=_LABELS, annotations=_ANNOTATIONS))
    template = {
        "metadata": {"labels": {"app": "agent"} | draw(_some(v=_pick("12")))},
        "spec": draw(_pod(image=True)),
    }
    spec = {key: draw(_SPEC[key]) for key in chosen}
    spec |= {"selector": {"matchLabels": {"app": "agent"}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": metadata, "spec": spec}


@st.composite
def _part(draw) -> dict[str, Any]:
    """Return some fields of a DaemonSet, as a second manager or a patch has them."""
    chosen = draw(st.lists(_pick(sorted(_SPEC)), max_size=2, unique=True))
    spec: dict[str, Any] = {key: draw(_SPEC[key]) for key in chosen}
    if draw(st.booleans()):
        spec["template"] = {"spec": draw(_pod(image=False))}
    body = {"metadata": draw(_some(labels=_LABELS, annotations=_ANNOTATIONS))}
    return body | ({"spec": spec} if spec else {})


def _at(body: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        if isinstance(body, dict):
            body = body.setdefault(step, {})
        elif isinstance(step, int) and isinstance(body, list) and len(body) > step:
            body = body[step]
        else:
            return None
    return body


_FIRST = ("spec", "template", "spec", "containers", 0)
_FAULTS: list[tuple[tuple[Any, ...], str, Any]] = [
    (("spec",), "minReadySecond", 1),
    (_FIRST, "imagePullpolicy", "Always"),
    (("metadata",), "labls", {}),
    (("spec",), "minReadySeconds", "1"),
    (("spec",), "minReadySeconds", -1),
    (("spec",), "revisionHistoryLimit", -1),
    (_FIRST, "env", [{"name": "A", "value": 1}]),
    (_FIRST, "env", [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]),
    (_FIRST, "env", {"A": "1"}),
    (_FIRST, "env", [{"value": "1"}]),
    (_FIRST, "env", ["A"]),
    (_FIRST, "image", ""),
    (_FIRST, "image", None),
    (_FIRST, "env", None),
    (_FIRST, "name", "Not A Name"),
    (_FIRST, "tty", "yes"),
    (_FIRST, "args", [1]),
    (("spec", "template", "spec"), "containers", []),
    (("spec", "template", "spec"), "containers", None),
    (("spec", "template", "spec"), "restartPolicy", "Never"),
    (("spec", "template", "spec"), "nodeSelector", None),
    (("spec", "template", "spec"), "volumes", "none"),
    (("spec", "template", "metadata"), "labels", {"app": "other"}),
    (("spec", "template", "metadata"), "creationTimestamp", None),
    (("spec",), "selector", {"matchLabels": {"app": "other"}}),
    (("spec",), "selector", {}),
    (("spec",), "template", None),
    (("spec",), "updateStrategy", {"type": "Recreate"}),
    (("spec",), "updateStrategy", {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "x"}}),
    (("spec",), "updateStrategy", None),
    (("metadata",), "labels", {"a": "not a label value!"}),
    (("metadata",), "labels", {"a": 1}),
    (("metadata",), "labels", {"a": None}),
    (("metadata",), "annotations", {"b": None}),
    (("metadata",), "annotations", {"not a key!": "1"}),
    (("metadata",), "finalizers", ["nobody"]),
    (("metadata",), "finalizers", ["x.example/not a name!"]),
    (("spec", "template", "spec"), "nodeSelector", {"a": None}),
    (("spec", "template", "metadata"), "annotations", {"not a key!": "1"}),
    (_FIRST, "resources", {"limits": {"cpu": None}}),
    (("metadata",), "labels", None),
    (("metadata",), "annotations", None),
    (("metadata",), "name", "other"),
    (("metadata",), "namespace", "other"),
    (("metadata",), "generation", 7),
    (("metadata",), "finalizers", ["x.example/a"]),
    (("metadata",), "finalizers", ["x.example/a", "x.example/b"]),
    (("metadata",), "finalizers", None),
    (("metadata",), "managedFields", []),
    (("metadata",), "managedFields", [{}]),
    ((), "kind", "Deployment"),
    ((), "apiVersion", "apps/v2"),
    ((), "status", {"numberReady": 7}),
]  # fmt: skip


@st.composite
def _spoilt(draw, bodies) -> dict[str, Any]:
    """Return a body, now and then with something odd or wrong in it."""
    body = draw(bodies)
    if draw(_pick([True, True, False])):
        return body
    path, key, value = draw(_pick(_FAULTS))
    place = _at(body, path)
    if isinstance(place, dict):
        place[key] = value
    return body


_ASSUMED = _pick(
    [
        {},
        {},
        {},
        {},
        {"uid": UID},
        {"resourceVersion": VERSION},
        {"uid": UID, "resourceVersion": VERSION},
        {"uid": OTHER_UID},
        {"resourceVersion": "1"},
        {"uid": OTHER_UID, "resourceVersion": "1"},
        {"resourceVersion": "0"},
        {"resourceVersion": "abc"},
    ]
)


@st.composite
def _assuming(draw, bodies) -> dict[str, Any]:
    body = draw(bodies)
    if isinstance(body.get("metadata"), dict):
        body["metadata"] |= draw(_ASSUMED)
    return body


_DRY = _pick([{}, {}, {}, {"dryRun": "All"}])
_CHECKED = _pick([{}, {"fieldValidation": "Strict"}, {"fieldValidation": "Ignore"}])


def _queries(managers: str, *more: st.SearchStrategy) -> st.SearchStrategy[dict[str, str]]:
    named = _pick([{"fieldManager": each} for each in managers.split()])

    def union(*parts):
        return {key: each for part in parts for key, each in part.items()}

    return st.builds(union, named, _DRY, _CHECKED, *more)


# ---------------------------------------------------------------------------- requests

_FORCE = _pick([{"force": "true"}, {"force": "true"}, {"force": "false"}, {}])
_AS_APPLY = {"apiVersion": "apps/v1", "kind": "DaemonSet"}


def _applied_part(part: dict[str, Any]) -> dict[str, Any]:
    return _AS_APPLY | part | {"metadata": part.get("metadata", {}) | {"name": NAME}}


_applies = st.builds(
    lambda body, query: Step("PATCH", body, APPLY, query),
    _assuming(_spoilt(st.one_of(_whole(), _whole(), st.builds(_applied_part, _part())))),
    _queries("anna bert", _FORCE),
)
_creates = st.builds(
    lambda body, query: Step("POST", body, JSON, query), _spoilt(_whole()), _queries("carl")
)
_replaces = st.builds(
    lambda body, query: Step("PUT", body, JSON, query),
    _assuming(_spoilt(_whole())),
    _queries("carl"),
)
_merges = st.builds(
    lambda body, query: Step("PATCH", body, MERGE, query),
    _assuming(_spoilt(_part())),
    _queries("carl anna dora"),
)


@st.composite
def _directed(draw) -> dict[str, Any]:
    """Return a part with directives of strategic merge in it."""
    body = draw(_part())
    chosen = draw(_pick(["", "replace", "delete", "order", "retain", "volume", "primitive"]))
    pod = _at(body, ("spec", "template", "spec"))
    if chosen == "replace":
        body["spec"]["template"] = draw(_whole())["spec"]["template"] | {"$patch": "replace"}
    elif chosen == "delete":
        pod["containers"] = [{"name": "side", "$patch": "delete"}]
    elif chosen == "order":
        pod["$setElementOrder/containers"] = [{"name": "side"}, {"name": "agent"}]
    elif chosen == "retain":
        strategy = draw(_STRATEGIES)
        body["spec"]["updateStrategy"] = strategy | {"$retainKeys": sorted(strategy)}
    elif chosen == "volume":
        source = draw(_SOURCES)
        pod["volumes"] = [{"name": "data", "$retainKeys": ["name", *source]} | source]
    elif chosen == "primitive":
        body["metadata"]["$deleteFromPrimitiveList/finalizers"] = ["x.example/a"]
    return body


_strategic = st.builds(
    lambda body, query: Step("PATCH", body, STRATEGIC, query),
    _assuming(_spoilt(_directed())),
    _queries("carl anna dora"),
)
_POINTERS = _pick(
    [
        "/metadata/labels/a",
        "/metadata/annotations",
        "/metadata/annotations/x~1a",
        "/metadata/finalizers",
        "/metadata/managedFields",
        "/spec/minReadySeconds",
        "/spec/updateStrategy/type",
        "/spec/updateStrategy/rollingUpdate",
        "/spec/template/spec/hostPID",
        "/spec/template/spec/containers/0/env",
        "/spec/template/spec/containers/0/env/0",
        "/spec/template/spec/containers/0/env/-",
        "/spec/template/spec/containers/1",
        "/spec/template/spec/nothing/there",
        "spec",
    ]
)
_VALUES = _pick(
    [1, 5, "1", True, None, {}, [], {"name": "C", "value": "9"}, "OnDelete", {"b": "2"}]
)
_OPERATIONS = st.one_of(
    st.fixed_dictionaries(
        {"op": _pick(["add", "replace", "test"]), "path": _POINTERS, "value": _VALUES}
    ),
    st.just({"op": "replace", "path": "/metadata/resourceVersion", "value": VERSION}),
    st.fixed_dictionaries({"op": _pick(["remove"]), "path": _POINTERS}),
    st.fixed_dictionaries({"op": _pick(["move", "copy"]), "path": _POINTERS, "from": _POINTERS}),
)
_operations = st.builds(
    lambda body, query: Step("PATCH", body, JSON_PATCH, query),
    st.lists(_OPERATIONS, min_size=1, max_size=2),
    _queries("carl dora"),
)
_statuses = st.builds(
    lambda count, query: Step("PATCH", {"status": {"numberReady": count}}, MERGE, query, "status"),
    _pick([0, 1, 2]),
    _queries("kubelet"),
)
_deletes = st.builds(
    lambda options, query: Step("DELETE", options, JSON, query),
    _some(
        propagationPolicy=_pick(["Orphan", "Background", "Foreground", "Wrong"]),
        preconditions=_ASSUMED,
        gracePeriodSeconds=_pick([0, 5]),
    ),
    _DRY,
)
_finishes = st.just(
    Step("PATCH", {"metadata": {"finalizers": None}}, MERGE, {"fieldManager": "gc"})
)
_anything = st.one_of(
    _applies, _applies, _applies, _creates, _replaces, _merges, _strategic, _strategic,
    _operations, _statuses, _deletes, _finishes,
)  # fmt: skip


@st.composite
def scripts(draw) -> list[Step]:
    """Return requests in order; the first mostly makes the DaemonSet."""
    first = draw(st.one_of(_applies, _creates))
    return [first, *draw(st.lists(_anything, min_size=1, max_size=9))]
