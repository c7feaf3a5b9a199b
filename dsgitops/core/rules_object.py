"""What a DaemonSet's own metadata may say: names, labels, annotations, fields of the server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dsgitops.core.control import PREFIX, check_annotations
from dsgitops.core.findings import spoken
from dsgitops.core.names import DNS_LABEL, LABEL_VALUE, UNREPLACED, is_dns_subdomain, is_label_key
from dsgitops.core.strict import pointer_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dsgitops.core.findings import Findings

Json = Any

ANNOTATIONS_MAX = 262_144
"""Bytes of all keys and values together; the API server's limit."""
_OWNED_BY_SERVER = (
    "status",
    "metadata/resourceVersion",
    "metadata/uid",
    "metadata/managedFields",
    "metadata/creationTimestamp",
    "metadata/generation",
    "metadata/selfLink",
    "metadata/deletionTimestamp",
    "metadata/deletionGracePeriodSeconds",
)
_NOT_TAKEN = ("metadata/ownerReferences", "metadata/finalizers")
OF_OTHERS = frozenset({
    "deprecated.daemonset.template.generation",
    "kubectl.kubernetes.io/last-applied-configuration",
    "kubernetes.io/change-cause",
})  # fmt: skip
"""Annotations that the API server, kubectl or we write: Git's are left out."""


def check_object(manifest: Mapping[str, Json], findings: Findings) -> None:
    """Check everything outside of `spec`."""
    metadata = mapping(manifest.get("metadata"))
    _check_name(metadata, findings)
    check_labels(metadata.get("labels"), "/metadata/labels", findings)
    _check_annotations(metadata.get("annotations"), findings)
    _check_server_fields(manifest, metadata, findings)


def mapping(value: Json) -> Mapping[str, Json]:
    """Return a mapping for what should be one; wrong types were noted by `check_shape`."""
    return value if isinstance(value, dict) else {}


def elements(value: Json) -> list[tuple[int, Mapping[str, Json]]]:
    """Return (index, element) of a list's mappings; empty for what is no list."""
    if not isinstance(value, list):
        return []
    return [(index, each) for index, each in enumerate(value) if isinstance(each, dict)]


def check_labels(labels: Json, pointer: str, findings: Findings) -> None:
    """Check the syntax of labels (also of nodeSelector and matchLabels)."""
    for key, value in mapping(labels).items():
        below = pointer + pointer_of(key)
        if unreplaced(key, below, findings):
            continue
        if not is_label_key(key):
            findings.key_error(below, "label", f"{spoken(below)} is no label key",
                               "a name of at most 63 letters, digits, - _ . after an optional "
                               "DNS prefix and /")  # fmt: skip
        if isinstance(value, str):
            _check_label_value(value, below, findings)


def check_annotation_keys(annotations: Json, pointer: str, findings: Findings) -> None:
    """Check the syntax of annotation keys: as label keys, in any case."""
    for key in mapping(annotations):
        if not is_label_key(key.lower()):
            below = pointer + pointer_of(key)
            findings.key_error(below, "annotation", f"{spoken(below)} is no annotation key")


def unreplaced(text: str, pointer: str, findings: Findings) -> bool:
    """Note a `${VAR}` or `{{ … }}` where a cluster would take it literally; whether there is."""
    if not UNREPLACED.search(text):
        return False
    what = f"{spoken(pointer)} has a variable that nobody replaced"
    remedy = "nothing is expanded here: commit the rendered manifest"
    findings.error(pointer, "unreplaced-variable", what, remedy)
    return True


def _check_label_value(value: str, pointer: str, findings: Findings) -> None:
    if unreplaced(value, pointer, findings) or LABEL_VALUE.fullmatch(value):
        return
    long = len(value) > 63
    what = "is longer than 63 characters" if long else "is no label value"
    findings.error(pointer, "label", f"{spoken(pointer)} {what}",
                   "letters, digits, - _ . with a letter or digit at both ends")  # fmt: skip


def _check_name(metadata: Mapping[str, Json], findings: Findings) -> None:
    name = metadata.get("name")
    if metadata.get("generateName") and not name:
        findings.error("/metadata/generateName", "no-name", "generateName makes a new object at "
                       "every sync", "give it a name")  # fmt: skip
    elif name in (None, ""):
        findings.error("/metadata", "no-name", "metadata.name is missing", "add it")
    elif isinstance(name, str):
        _check_subdomain(name, findings)
    namespace = metadata.get("namespace")
    if not isinstance(namespace, str) or unreplaced(namespace, "/metadata/namespace", findings):
        return
    if namespace and not DNS_LABEL.fullmatch(namespace):
        findings.error("/metadata/namespace", "name", "metadata.namespace is no DNS-1123 label",
                       "at most 63 lower case letters, digits and -")  # fmt: skip


def _check_subdomain(name: str, findings: Findings) -> None:
    if unreplaced(name, "/metadata/name", findings) or is_dns_subdomain(name):
        return
    findings.error("/metadata/name", "name", "metadata.name is no DNS-1123 subdomain",
                   "at most 253 lower case letters, digits, - and .")  # fmt: skip


def _check_annotations(annotations: Json, findings: Findings) -> None:
    given = mapping(annotations)
    check_annotation_keys(given, "/metadata/annotations", findings)
    size = 0
    for key, value in given.items():
        below = "/metadata/annotations" + pointer_of(key)
        size += len(key.encode()) + (len(value.encode()) if isinstance(value, str) else 0)
        if key in OF_OTHERS:
            findings.warning(below, "server-field", f"annotation {key} is written by others; "
                             "Git's is left out", "remove it")  # fmt: skip
    if size > ANNOTATIONS_MAX:
        findings.error("/metadata/annotations", "too-large", f"annotations have {size:,} bytes; "
                       f"the API server takes {ANNOTATIONS_MAX:,}")  # fmt: skip
    if any(key.startswith(PREFIX) for key in given):
        check_annotations(given, findings)


def _check_server_fields(
    manifest: Mapping[str, Json], metadata: Mapping[str, Json], findings: Findings
) -> None:
    for path in _OWNED_BY_SERVER:
        head, _, rest = path.partition("/")
        if (metadata.get(rest) if rest else manifest.get(head)) not in (None, {}):
            findings.warning(f"/{path}", "server-field", f"{path.replace('/', '.')} belongs to the "
                             "API server; Git's is left out", "remove it")  # fmt: skip
    for path in _NOT_TAKEN:
        if metadata.get(path.partition("/")[2]):
            findings.warning(f"/{path}", "not-applied", f"{path.replace('/', '.')} is not applied: "
                             "it decides over deletion", "remove it")  # fmt: skip
