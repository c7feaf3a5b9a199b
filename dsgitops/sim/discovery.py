"""What clients ask before they ask for objects: groups, resources, version, health, OpenAPI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dsgitops.sim.resources import GROUPS, READ_WRITE, RESOURCES, Resource

if TYPE_CHECKING:
    from dsgitops.sim.schema import Object

MINOR = 36
VERSION: Object = {
    "major": "1",
    "minor": str(MINOR),
    "gitVersion": f"v1.{MINOR}.1",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "2026-01-01T00:00:00Z",
    "goVersion": "go1.26",
    "compiler": "gc",
    "platform": "linux/amd64",
}

_REVIEWS = {
    "authorization.k8s.io": ("SelfSubjectAccessReview", "SelfSubjectRulesReview"),
    "authentication.k8s.io": ("SelfSubjectReview",),
}


def document(path: str) -> Object | None:
    """Return the discovery document at a path; None where there is none."""
    path = path.rstrip("/") or "/"
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/apis":
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(g) for g in GROUPS]}
    if path == "/version":
        return VERSION
    if path == "/openapi/v3":
        return {
            "paths": {
                _prefix(group)[1:]: {"serverRelativeURL": f"/openapi/v3{_prefix(group)}"}
                for group in ("", *GROUPS)
            }
        }
    if path.startswith("/openapi/v3/"):
        return _openapi(path.removeprefix("/openapi/v3"))
    for group in ("", *GROUPS):
        if path == _prefix(group):
            return _resources(group)
        if group and path == f"/apis/{group}":
            return {**_group(group), "kind": "APIGroup", "apiVersion": "v1"}
    return None


def _prefix(group: str) -> str:
    return f"/apis/{group}/v1" if group else "/api/v1"


def _group(group: str) -> Object:
    version = {"groupVersion": f"{group}/v1", "version": "v1"}
    return {"name": group, "versions": [version], "preferredVersion": version}


def _resources(group: str) -> Object:
    listed: list[Object] = []
    for each in RESOURCES:
        if each.group == group:
            listed.append(_resource(each))
            listed += [_subresource(each, name) for name in each.subresources]
    listed += [_review(kind) for kind in _REVIEWS.get(group, ())]
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{group}/v1" if group else "v1",
        "resources": listed,
    }


def _resource(resource: Resource) -> Object:
    return {
        "name": resource.plural,
        "singularName": resource.kind.lower(),
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": list(READ_WRITE),
        **({"shortNames": list(resource.short_names)} if resource.short_names else {}),
    }


def _subresource(resource: Resource, name: str) -> Object:
    eviction = {"group": "policy", "version": "v1", "kind": "Eviction", "verbs": ["create"]}
    status = {"kind": resource.kind, "verbs": ["get", "patch", "update"]}
    return {
        "name": f"{resource.plural}/{name}",
        "singularName": "",
        "namespaced": resource.namespaced,
        **(eviction if name == "eviction" else status),
    }


def _review(kind: str) -> Object:
    return {
        "name": f"{kind.lower()}s",
        "singularName": kind.lower(),
        "namespaced": False,
        "kind": kind,
        "verbs": ["create"],
    }


def _openapi(prefix: str) -> Object | None:
    """Return just what kubectl looks for: that PATCH knows `fieldValidation` and `dryRun`."""
    groups = [group for group in ("", *GROUPS) if _prefix(group) == prefix]
    if not groups:
        return None
    paths: Object = {}
    for each in RESOURCES:
        if each.group == groups[0]:
            where = "/namespaces/{namespace}" if each.namespaced else ""
            paths[f"{prefix}{where}/{each.plural}/{{name}}"] = {"patch": _patch_operation(each)}
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": VERSION["gitVersion"]},
        "paths": paths,
        "components": {"schemas": {}},
    }


def _patch_operation(resource: Resource) -> Object:
    names = ("dryRun", "fieldManager", "fieldValidation", "force")
    parameters: list[Any] = [
        {"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": True}}
        for name in names
    ]
    return {
        "parameters": parameters,
        "responses": {"200": {"description": "OK"}},
        "x-kubernetes-action": "patch",
        "x-kubernetes-group-version-kind": {
            "group": resource.group,
            "kind": resource.kind,
            "version": "v1",
        },
    }
