"""The agent as a cluster runs it: the image, installed by a kustomization over what is shipped."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import yaml
from cluster import shipped, shipped_image
from cluster.team import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cluster.control_plane import ControlPlane

MANAGED = "kube-system"
"""The namespace that the overlays manage."""
AGENTS = "dsgitops-system"
"""The namespace that they install the agent into, but for per-namespace."""
ROLLOUT = SETTINGS["rollout"] | {"canary": {"nodes": 1, "bakeTime": "6s"}}
"""A busy kubelet tells late that a program ended, and without a probe it was ready until then."""
PATIENCE = 240.0
"""Seconds for one step: a busy machine starves kubelets, and then nobody is blamed for a while."""


@contextmanager
def installed(
    plane: ControlPlane, folder: Path, overlay: str, settings: dict, *, where: str = AGENTS,
    **kustomization,
) -> Iterator[None]:  # fmt: skip
    """Install an overlay as docs/operate.md has it, for the block; it is ready when that begins.

    Args:
        plane: With real nodes that have the image.
        folder: Where one's own kustomization is written.
        overlay: Its name.
        settings: The file of settings; the suite's short times are added.
        where: The namespace that the overlay installs the agent into.
        kustomization: What one's own adds.
    """
    folder.mkdir()
    settings = {"rollout": ROLLOUT} | settings
    (folder / "dsgitops.yaml").write_text(yaml.safe_dump(settings))
    generated = {
        "name": "dsgitops-settings",
        "namespace": where,
        "behavior": "replace",
        "files": ["dsgitops.yaml"],
    }
    images = [{"name": "dsgitops", "newName": shipped_image.NAME, "newTag": shipped_image.tag()}]
    images += kustomization.pop("images", [])
    own = shipped.own(
        folder, f"overlays/{overlay}", configMapGenerator=[generated], images=images,
        **kustomization,
    )  # fmt: skip
    shipped.kubectl(plane, "apply", "--server-side", "-k", str(own))
    try:
        with telling(plane, where):
            wait_until_ready(plane, where)
            yield
    finally:
        shipped.kubectl(plane, "delete", "deployment/dsgitops", "-n", where, "--timeout=60s")


@contextmanager
def telling(plane: ControlPlane, where: str = AGENTS) -> Iterator[None]:
    """Where the block fails, say what the pods logged."""
    try:
        yield
    except AssertionError as failed:
        logs = [f"{log.parent.name}: {log.read_text()[-3000:]}" for log in logs_of(plane, where)]
        pods = shipped.kubectl(plane, "describe", "pods", "-n", where)[-3000:]
        raise AssertionError("\n".join([str(failed), pods, *logs])) from failed


def logs_of(plane: ControlPlane, where: str = AGENTS, pod: str = "") -> list[Path]:
    """Return the kubelets' files of what the agents' containers wrote, (one pod's) oldest first."""
    found = [
        log
        for node in plane.real_nodes
        for log in node.folder.glob(f"logs/{where}_{pod}*/dsgitops/*.log")
    ]
    return sorted(found, key=lambda log: log.stat().st_mtime)


def wait_until_ready(plane: ControlPlane, where: str = AGENTS) -> None:
    status = ("rollout", "status", "deployment/dsgitops", "-n", where, "--timeout=80s")
    shipped.kubectl(plane, *status)


def pods_of(plane: ControlPlane, where: str = AGENTS) -> list[dict]:
    """Return the agents' pods that are not going."""
    chosen = f"/api/v1/namespaces/{where}/pods?labelSelector=app.kubernetes.io%2Fname%3Ddsgitops"
    pods = plane.call("GET", chosen)["items"]
    return [each for each in pods if "deletionTimestamp" not in each["metadata"]]


def pod_of(plane: ControlPlane, where: str = AGENTS) -> dict:
    """Return the only one."""
    (found,) = pods_of(plane, where)
    return found


def secret(plane: ControlPlane, where: str = AGENTS, name: str = "dsgitops-git", **files) -> None:
    """Make the Secret that the overlays mount, with these files."""
    body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": where},
        "stringData": files,
    }
    plane.call("POST", f"/api/v1/namespaces/{where}/secrets", body)
