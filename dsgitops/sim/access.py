"""Who may do what: RBAC rules, their 403, and the reviews by which an account asks about itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dsgitops.sim import answers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dsgitops.sim.resources import Resource, Route
    from dsgitops.sim.schema import Object


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One RBAC rule; `*` stands for all."""

    verbs: tuple[str, ...]
    groups: tuple[str, ...] = ("",)
    resources: tuple[str, ...]
    """Plurals, with subresource where one is meant: `pods/eviction`."""
    names: tuple[str, ...] = ()
    """Empty: all names."""
    namespace: str | None = None
    """Where it holds (a Role); None: everywhere (a ClusterRole)."""

    def allows(self, verb: str, group: str, resource: str, name: str) -> bool:
        """Whether the rule covers a verb on a resource, whatever the namespace."""
        return (
            ("*" in self.verbs or verb in self.verbs)
            and ("*" in self.groups or group in self.groups)
            and ("*" in self.resources or resource in self.resources)
            and (not self.names or name in self.names)
        )


@dataclass(slots=True)
class Account:
    """Whose requests these are.

    Args:
        name: `system:serviceaccount:NS:SA`.
        rules: None allows everything; the list may change while the cluster runs.
        token: If given, requests without it get 401.
    """

    name: str = "system:admin"
    rules: list[Rule] | None = None
    token: str | None = None

    def authenticate(self, headers: Mapping[str, str]) -> None:
        """Check the bearer token.

        Raises:
            Refused: 401.
        """
        if self.token is None:
            return
        if headers.get("authorization", "") != f"Bearer {self.token}":
            raise answers.unauthorized()

    def may(
        self, verb: str, group: str, resource: str, namespace: str | None, name: str = ""
    ) -> bool:
        """Whether the account may do it; namespace None: in all of them."""
        if self.rules is None:
            return True
        return any(
            rule.allows(verb, group, resource, name)
            for rule in self.rules
            if rule.namespace is None or rule.namespace == namespace
        )

    def check(self, verb: str, route: Route) -> None:
        """Check a request.

        Raises:
            Refused: 403 with the API server's words.
        """
        resource = _with_subresource(route.resource, route.subresource)
        group = route.resource.group
        if self.may(verb, group, resource, route.namespace, route.name):
            return
        where = f'in the namespace "{route.namespace}"'
        if route.namespace is None:
            where = "at the cluster scope"
        raise answers.forbidden(
            route.resource,
            route.name,
            f'User "{self.name}" cannot {verb} resource "{resource}" in API group "{group}" '
            f"{where}",
        )

    # ------------------------------------------------------------------ reviews

    def access_review(self, given: Object) -> Object:
        """Answer a SelfSubjectAccessReview: may I do this one thing."""
        spec = given.get("spec") or {}
        wanted: Mapping[str, Any] = spec.get("resourceAttributes") or {}
        resource = str(wanted.get("resource", ""))
        if wanted.get("subresource"):
            resource += f"/{wanted['subresource']}"
        allowed = self.may(
            str(wanted.get("verb", "")),
            str(wanted.get("group", "")),
            resource,
            wanted.get("namespace") or None,
            str(wanted.get("name", "")),
        )
        status: Object = {"allowed": allowed}
        if allowed:
            status["reason"] = f'RBAC: allowed by RoleBinding "dsgitops" of User "{self.name}"'
        return _review("SelfSubjectAccessReview", "authorization.k8s.io/v1", status) | {
            "spec": spec
        }

    def rules_review(self, given: Object) -> Object:
        """Answer a SelfSubjectRulesReview: what may I do in a namespace."""
        namespace = (given.get("spec") or {}).get("namespace")
        everything = [Rule(verbs=("*",), groups=("*",), resources=("*",))]
        rules = everything if self.rules is None else self.rules
        told = [_told(rule) for rule in rules if rule.namespace in (None, namespace)]
        status = {"resourceRules": told, "nonResourceRules": [], "incomplete": False}
        return _review("SelfSubjectRulesReview", "authorization.k8s.io/v1", status) | {"spec": {}}

    def self_review(self) -> Object:
        """Answer a SelfSubjectReview: who am I."""
        user = {"username": self.name, "groups": ["system:authenticated"]}
        return _review("SelfSubjectReview", "authentication.k8s.io/v1", {"userInfo": user})


def _review(kind: str, api_version: str, status: Object) -> Object:
    return {"kind": kind, "apiVersion": api_version, "metadata": {}, "status": status}


def _told(rule: Rule) -> Object:
    told: Object = {
        "verbs": list(rule.verbs),
        "apiGroups": list(rule.groups),
        "resources": list(rule.resources),
    }
    return told | ({"resourceNames": list(rule.names)} if rule.names else {})


def _with_subresource(resource: Resource, subresource: str) -> str:
    return f"{resource.plural}/{subresource}" if subresource else resource.plural


def from_policy(rules: Sequence[Mapping[str, Any]], namespace: str | None) -> list[Rule]:
    """Return rules as RBAC manifests write them (`apiGroups`, `resources`, `verbs`).

    Args:
        rules: Of a Role or ClusterRole.
        namespace: Where they hold; None: everywhere.
    """
    return [
        Rule(
            verbs=tuple(rule["verbs"]),
            groups=tuple(rule.get("apiGroups") or [""]),
            resources=tuple(rule["resources"]),
            names=tuple(rule.get("resourceNames") or ()),
            namespace=namespace,
        )
        for rule in rules
    ]
