"""What sort of document it is: a DaemonSet of ours, another kind, or no manifest at all."""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import TYPE_CHECKING

from dsgitops.core.findings import Findings, did_you_mean
from dsgitops.core.model import Problem

if TYPE_CHECKING:
    from dsgitops.core.strict import Document

_OURS = re.compile(r"(apps|extensions)(/.*)?|v1|")
"""Groups whose DaemonSet is, or was, Kubernetes's own; other groups have kinds of that name too."""
_KUSTOMIZATION = ("kustomization.yaml", "kustomization.yml", "Kustomization")


class Kind(Enum):
    """What a document holds."""

    DAEMON_SET = auto()
    OTHER = auto()
    """A Kubernetes object that is not ours."""
    NONE = auto()
    """No Kubernetes object."""


def special_file(path: str) -> Problem | None:
    """Return the notice for a file that other tools render manifests from; None for others."""
    name = path.rpartition("/")[2]
    if name in _KUSTOMIZATION:
        return _not_rendered(path, "kustomization", "a kustomization: rendering is not done yet")
    if name == "Chart.yaml":
        return _not_rendered(path, "helm-chart", "a Helm chart: rendering is not done yet")
    return None


def kind_of(document: Document) -> tuple[Kind, list[Problem]]:
    """Return what a document holds, and what is to be said of that."""
    value = document.value
    findings = Findings(document)
    if not isinstance(value, dict):
        if isinstance(value, list):
            findings.notice("", "not-a-manifest", "a list, no Kubernetes object: left alone")
        else:
            findings.error("", "not-an-object", "no mapping: a manifest has apiVersion, kind, "
                           "metadata and spec", "check the indentation")  # fmt: skip
        return Kind.NONE, findings.problems
    kind = _kind(findings)
    return kind, findings.problems


def _kind(findings: Findings) -> Kind:
    value = findings.document.value
    api_version, kind = value.get("apiVersion"), value.get("kind")
    if api_version is None and kind is None and not _looks_like_ours(value):
        return _no_object(findings)
    if not isinstance(kind, str) or not kind:
        return _nameless(findings, "kind", value)
    if kind != "DaemonSet":
        return _other(findings, kind)
    if api_version is not None and not isinstance(api_version, str):
        return Kind.DAEMON_SET  # check_shape says so
    if not _OURS.fullmatch(api_version or ""):
        return _other(findings, "a DaemonSet of another API group")
    if api_version != "apps/v1":
        _wrong_version(findings, api_version)
    _check_sops(findings)
    return Kind.DAEMON_SET


def _looks_like_ours(value: dict[str, object]) -> bool:
    spec = value.get("spec")
    return isinstance(spec, dict) and "template" in spec and "updateStrategy" in spec


def _no_object(findings: Findings) -> Kind:
    if _check_sops(findings):
        return Kind.NONE
    if any(key.lower() in ("apiversion", "kind") for key in findings.document.value):
        findings.error("", "no-kind", "apiVersion and kind are missing", "mind the capitals: "
                       "apiVersion, kind")  # fmt: skip
    else:
        findings.notice("", "not-a-manifest", "no Kubernetes object (neither apiVersion nor kind): "
                        "left alone")  # fmt: skip
    return Kind.NONE


def _nameless(findings: Findings, field: str, value: dict[str, object]) -> Kind:
    if not _check_sops(findings):
        near = did_you_mean(field, [key for key in value if key != "apiVersion"])
        findings.error("", "no-kind", f"{field} is missing, or no text", near or "add it")
    return Kind.NONE


def _other(findings: Findings, kind: str) -> Kind:
    near = did_you_mean(kind, ["DaemonSet"])
    ours = _OURS.fullmatch(str(findings.document.value.get("apiVersion") or ""))
    if near and ours and kind != "DaemonSetList":
        findings.error("/kind", "kind", "kind is not known", near)
        return Kind.OTHER
    shown = kind if kind.isascii() and kind.isprintable() and len(kind) <= 80 else "this kind"
    sops = ", encrypted by SOPS" if _is_sops(findings) else ""
    findings.notice("/kind", "not-managed", f"{shown}{sops} is not managed: left alone")
    return Kind.OTHER


def _wrong_version(findings: Findings, api_version: str | None) -> None:
    if not api_version:
        findings.error("", "api-version", "apiVersion is missing", "write apiVersion: apps/v1")
        return
    findings.error("/apiVersion", "api-version", "no API server has a DaemonSet of this apiVersion",
                   "write apps/v1; it wants spec.selector too")  # fmt: skip


def _is_sops(findings: Findings) -> bool:
    given = findings.document.value.get("sops")
    return isinstance(given, dict) and ("mac" in given or "version" in given)


def _check_sops(findings: Findings) -> bool:
    if not _is_sops(findings):
        return False
    findings.error("/sops", "sops", "encrypted by SOPS: nothing is decrypted here",
                   "keep DaemonSets in clear, and secrets in Secrets")  # fmt: skip
    return True


def _not_rendered(path: str, rule: str, what: str) -> Problem:
    return Problem(
        path=path,
        line=1,
        column=1,
        severity="notice",
        rule=rule,
        what=what,
        remedy="commit the rendered manifests; files beside it are read as they are",
    )
