"""What a DaemonSet's pod may be: volumes, tolerations, names, fields that only plain pods have."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from dsgitops.core.findings import spoken
from dsgitops.core.names import DNS_LABEL, LABEL_VALUE, is_dns_subdomain, is_label_key
from dsgitops.core.nodes import shown
from dsgitops.core.rules_container import check_containers
from dsgitops.core.rules_object import check_annotation_keys, check_labels, elements, mapping

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dsgitops.core.findings import Findings

Json = Any

_POD = "/spec/template/spec"
_FORBIDDEN = ("activeDeadlineSeconds", "ephemeralContainers")
_STAMPS = frozenset({"kubectl.kubernetes.io/restartedAt"})


def check_template(template: Mapping[str, Json], findings: Findings) -> None:
    """Check `spec.template`."""
    metadata = mapping(template.get("metadata"))
    check_labels(metadata.get("labels"), "/spec/template/metadata/labels", findings)
    check_annotation_keys(
        metadata.get("annotations"), "/spec/template/metadata/annotations", findings
    )
    for key in mapping(metadata.get("annotations")):
        if key in _STAMPS:
            findings.warning(
                "/spec/template/metadata/annotations",
                "stamp-in-template",
                f"annotation {key} restarts every pod each time it changes",
                "remove it from Git: a rollout follows each change of the template",
            )
    pod = template.get("spec")
    if pod is None:
        findings.key_error("/spec/template", "missing-field", "spec.template: spec is missing",
                           "add the pod's spec")  # fmt: skip
    if not isinstance(pod, dict):
        return
    _check_pod(pod, findings)
    _check_volumes(pod, findings)
    check_containers(pod, _POD, findings)


def _check_pod(pod: Mapping[str, Json], findings: Findings) -> None:
    restart = pod.get("restartPolicy")
    if restart not in (None, "", "Always"):
        findings.error(f"{_POD}/restartPolicy", "restart-policy", "restartPolicy of a DaemonSet's "
                       "pods is Always, and nothing else", "remove the line")  # fmt: skip
    for name in _FORBIDDEN:
        if pod.get(name) not in (None, []):
            findings.key_error(f"{_POD}/{name}", "not-in-a-daemonset", f"{name} is for single pods "
                               "only", "remove it")  # fmt: skip
    if pod.get("hostPID") is True and pod.get("shareProcessNamespace") is True:
        findings.error(f"{_POD}/shareProcessNamespace", "host-pid", "hostPID and "
                       "shareProcessNamespace exclude each other", "remove one")  # fmt: skip
    check_labels(pod.get("nodeSelector"), f"{_POD}/nodeSelector", findings)
    for name in ("serviceAccountName", "priorityClassName", "runtimeClassName"):
        given = pod.get(name)
        if isinstance(given, str) and given and not is_dns_subdomain(given):
            findings.error(f"{_POD}/{name}", "name", f"{name} is no DNS-1123 subdomain")
    for index, toleration in elements(pod.get("tolerations")):
        _check_toleration(toleration, f"{_POD}/tolerations/{index}", findings)


def _check_toleration(given: Mapping[str, Json], pointer: str, findings: Findings) -> None:
    exists = given.get("operator") == "Exists"
    key = given.get("key")
    if not key and not exists:
        findings.error(pointer, "toleration", f"{spoken(pointer)} has no key: operator must be "
                       "Exists", "add a key, or operator: Exists for all taints")  # fmt: skip
    elif isinstance(key, str) and key and not is_label_key(key):
        findings.error(f"{pointer}/key", "toleration", f"{spoken(pointer)}.key is no taint key")
    if exists and given.get("value"):
        findings.error(f"{pointer}/value", "toleration", f"{spoken(pointer)} has operator Exists, "
                       "which takes no value", "remove the value")  # fmt: skip
    value = given.get("value")
    if not exists and isinstance(value, str) and not LABEL_VALUE.fullmatch(value):
        findings.error(
            f"{pointer}/value", "toleration", f"{spoken(pointer)}.value is no taint value"
        )
    if given.get("tolerationSeconds") is not None and given.get("effect") != "NoExecute":
        findings.error(f"{pointer}/tolerationSeconds", "toleration", "tolerationSeconds needs "
                       "effect NoExecute", "add the effect, or remove the seconds")  # fmt: skip


def _check_volumes(pod: Mapping[str, Json], findings: Findings) -> None:
    volumes = elements(pod.get("volumes"))
    names = Counter(str(volume.get("name")) for _, volume in volumes)
    for index, volume in volumes:
        pointer = f"{_POD}/volumes/{index}"
        name = volume.get("name")
        if isinstance(name, str) and not DNS_LABEL.fullmatch(name):
            findings.error(
                f"{pointer}/name", "name", f"{spoken(pointer)}.name is no DNS-1123 label"
            )
        elif isinstance(name, str) and names[name] > 1:
            findings.error(f"{pointer}/name", "duplicate-name", f"volume {shown(name)} is there "
                           f"{names[name]} times", "give each its own name")  # fmt: skip
        _check_source(volume, pointer, findings)
    _check_mounts(pod, set(names), findings)


def _check_source(volume: Mapping[str, Json], pointer: str, findings: Findings) -> None:
    sources = [key for key, value in volume.items() if key != "name" and value is not None]
    if len(sources) > 1:
        findings.error(pointer, "volume-source", f"{spoken(pointer)} has {len(sources)} sources: "
                       f"{', '.join(shown(each) for each in sources[:5])}", "keep one")  # fmt: skip
    path = mapping(volume.get("hostPath")).get("path")
    if isinstance(path, str) and ".." in path.split("/"):
        findings.error(f"{pointer}/hostPath/path", "host-path", "a hostPath may not go up by ..")
    for kind, field in (("secret", "secretName"), ("configMap", "name")):
        source = volume.get(kind)
        if isinstance(source, dict) and not source.get(field):
            findings.error(
                f"{pointer}/{kind}",
                "missing-field",
                f"{spoken(pointer)}.{kind}: {field} is missing",
                f"add {field}",
            )


def _check_mounts(pod: Mapping[str, Json], volumes: set[str], findings: Findings) -> None:
    for kind in ("initContainers", "containers"):
        for index, container in elements(pod.get(kind)):
            mounts = f"{_POD}/{kind}/{index}/volumeMounts"
            paths = Counter(
                str(each.get("mountPath")) for _, each in elements(container.get("volumeMounts"))
            )
            for number, mount in elements(container.get("volumeMounts")):
                pointer = f"{mounts}/{number}"
                _check_mount(mount, pointer, volumes, findings)
                if paths[str(mount.get("mountPath"))] > 1:
                    findings.error(f"{pointer}/mountPath", "duplicate-mount", f"{spoken(mounts)}: "
                                   "two mounts have the same mountPath", "keep one")  # fmt: skip


def _check_mount(
    mount: Mapping[str, Json], pointer: str, volumes: set[str], findings: Findings
) -> None:
    name = mount.get("name")
    if isinstance(name, str) and name not in volumes:
        remedy = findings.hint(name, volumes) or "add it to spec.template.spec.volumes"
        findings.error(
            f"{pointer}/name",
            "no-such-volume",
            f"{spoken(pointer)} names a volume that the pod has not: {shown(name)}",
            remedy,
        )
    for field in ("subPath", "subPathExpr"):
        path = mount.get(field)
        if isinstance(path, str) and (path.startswith("/") or ".." in path.split("/")):
            findings.error(
                f"{pointer}/{field}", "sub-path", f"{field} must be relative, without .."
            )
    if mount.get("subPath") and mount.get("subPathExpr"):
        findings.error(pointer, "sub-path", "subPath and subPathExpr exclude each other")
