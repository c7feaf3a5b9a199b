"""What deploy/ has, as `kubectl kustomize` renders it, and what its roles allow."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import yaml
from cluster import audit

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cluster.control_plane import ControlPlane
    from cluster.team import Team

DEPLOY = Path(__file__).parents[2] / "deploy"
OVERLAYS = ("standalone", "sidecar", "ha", "per-namespace")
ACCOUNT = "dsgitops"


def own(folder: Path, overlay: str, **content) -> Path:
    """Write a kustomization of one's own over a shipped one, as docs/operate.md says; return it."""
    folder.mkdir(parents=True, exist_ok=True)
    resources = [os.path.relpath(DEPLOY / overlay, folder.resolve())]
    kind = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}
    text = yaml.safe_dump(kind | {"resources": resources} | content)
    (folder / "kustomization.yaml").write_text(text)
    return folder


def kubectl(plane: ControlPlane, *arguments: str) -> str:
    """Run the real kubectl as the administrator, in no namespace of ours."""
    command = [str(plane.binaries["kubectl"]), "--kubeconfig", str(plane.kubeconfig), *arguments]
    done = subprocess.run(command, capture_output=True, check=False, timeout=90, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def rendered(team: Team, folder: Path) -> list[dict]:
    """Return the objects of a kustomization."""
    return list(yaml.safe_load_all(team.kubectl("kustomize", str(folder))))


def own_namespace(team: Team, folder: Path) -> Path:
    """Write a kustomization: the overlay per-namespace, for the team's own namespace."""
    subject = {"op": "replace", "path": "/subjects/0/namespace", "value": team.namespace}
    return own(
        folder,
        "overlays/per-namespace",
        namespace=team.namespace,
        patches=[
            {"target": {"kind": "RoleBinding", "name": "dsgitops"}, "patch": json.dumps([subject])}
        ],
    )


def grant(team: Team, objects: Iterable[dict]) -> None:
    """Give the account and its rights; the agent itself runs as a process then."""
    kinds = {"ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"}
    for each in objects:
        if each["kind"] in kinds:
            team.kubectl("apply", "--server-side", "-f", "-", given=each)


def kubeconfig_of_account(team: Team, path: Path) -> Path:
    """Write a kubeconfig with a token of the account in the team's namespace, for an hour."""
    token = team.kubectl("create", "token", ACCOUNT, "--duration=3600s").strip()
    config = json.loads(team.plane.kubeconfig.read_text())
    config["users"] = [{"name": "admin", "user": {"token": token}}]
    path.write_text(json.dumps(config))
    return path


class Right(NamedTuple):
    """One thing that an account may do, or did."""

    verb: str
    group: str
    resource: str
    """With its subresource: `pods/eviction`."""
    namespace: str = ""
    """Empty: in the cluster as a whole."""


def granted(objects: Iterable[dict]) -> set[Right]:
    """Return what the roles among the objects allow, each in its own namespace."""
    return {
        Right(verb, group, resource, each["metadata"].get("namespace", ""))
        for each in objects
        if each["kind"] in {"Role", "ClusterRole"}
        for rule in each["rules"]
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


@dataclass(frozen=True)
class Use:
    """What an account did, by the API server's audit log."""

    rights: frozenset[Right]
    forbidden: tuple[str, ...]
    """Requests that were answered with 403."""


def used(team: Team, namespace: str) -> Use:
    """Return what the agent's account in a namespace did so far; reviews of itself are free."""
    events = list(audit.events(team.plane, audit.account(namespace, ACCOUNT)))
    rights = {right for each in events if "objectRef" in each for right in _rights(each)}
    forbidden = [
        f"{each['verb']} {each['requestURI']}"
        for each in events
        if each.get("responseStatus", {}).get("code") == 403
    ]
    return Use(frozenset(rights), tuple(forbidden))


def _rights(event: dict) -> set[Right]:
    of = event["objectRef"]
    resource = "/".join(filter(None, [of["resource"], of.get("subresource")]))
    right = Right(event["verb"], of.get("apiGroup", ""), resource, of.get("namespace", ""))
    made = event["responseStatus"].get("code") == 201
    # A server-side apply of what is not there needs the right to create it as well
    return {right, right._replace(verb="create")} if made else {right}
