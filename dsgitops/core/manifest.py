"""From the bytes of one file to the DaemonSets in it, and everything that is wrong with it.

Never raises, whatever the bytes are.  What depends on the settings (namespaces, profiles) or on
other files is `core/catalog.py`'s.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dsgitops.core import strict
from dsgitops.core.digest import canonical, digest, template_digest
from dsgitops.core.findings import Findings
from dsgitops.core.kinds import Kind, kind_of, special_file
from dsgitops.core.model import EMPTY, Problem, Ref
from dsgitops.core.rules_object import check_object, elements, mapping
from dsgitops.core.rules_pod import check_template
from dsgitops.core.rules_rollout import check_rollout
from dsgitops.core.schema import daemonset
from dsgitops.core.shape import check_shape

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from dsgitops.core.nodes import Found
    from dsgitops.core.strict import Document, Mark

Json = Any

SIZE_MAX = 1_572_864
"""Bytes of one object as JSON: what etcd takes by default."""
_LIST_DEPTH_MAX = 4
_KEPT_MARKS = ("/metadata", "/metadata/name", "/metadata/namespace", "/metadata/annotations")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One DaemonSet of a file."""

    name: str
    """Empty where it has none."""
    namespace: str
    """As written; empty where Git leaves it out."""
    line: int
    """Where the object begins."""
    value: Mapping[str, Json]
    """Plain JSON, as Git has it."""
    digest: str = ""
    template: str = ""
    """Both digests are empty where `problem` is set."""
    problem: Problem | None = None
    """Its first error; None: it can be applied."""
    marks: Mapping[str, Mark] = EMPTY
    """Where its name, namespace, annotations and images stand, for later problems."""

    def ref(self, namespace: str = "") -> Ref:
        """Return its name in the cluster; `namespace` is for manifests that have none."""
        return Ref(self.namespace or namespace, self.name)

    def mark(self, pointer: str) -> tuple[int, int]:
        """Return line and column of a metadata field or an image, else of the object."""
        return self.marks.get(pointer) or self.marks.get("/metadata") or (self.line, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestFile:
    """What one file holds."""

    path: str
    manifests: tuple[Manifest, ...] = ()
    """DaemonSets, also those with errors."""
    problems: tuple[Problem, ...] = ()
    """Everything found, in the order of the file; errors, warnings and notices."""
    objects: int = 0
    """Kubernetes objects of any kind."""
    broken: bool = False
    """It could not be read at all: nobody knows what it defines."""

    def at(self, path: str) -> ManifestFile:
        """Return the same content found at another path (equal blobs are read once)."""
        if path == self.path:
            return self
        return replace(
            self,
            path=path,
            problems=tuple(replace(each, path=path) for each in self.problems),
            manifests=tuple(_moved(each, path) for each in self.manifests),
        )


def read(data: bytes, *, path: str) -> ManifestFile:
    """Read and check one file.

    Args:
        data: Its bytes, any bytes.
        path: From the repository's root; for problems, and for files known by their name.
    """
    special = special_file(path)
    if special is not None:
        return ManifestFile(path=path, problems=(special,))
    reading = strict.read(data, path=path)
    if reading.broken is not None:
        return ManifestFile(path=path, problems=(reading.broken,), broken=True)
    manifests: list[Manifest] = []
    problems: list[Problem] = []
    objects = 0
    for document in reading.documents:
        for each in _expanded(document, _LIST_DEPTH_MAX):
            manifest, found, is_object = _judged(each)
            objects += is_object
            problems += found
            manifests += [manifest] if manifest else []
    ordered = sorted(problems, key=lambda problem: (problem.line, problem.column))
    return ManifestFile(
        path=path, manifests=tuple(manifests), problems=tuple(ordered), objects=objects
    )


def _moved(manifest: Manifest, path: str) -> Manifest:
    if manifest.problem is None:
        return manifest
    return replace(manifest, problem=replace(manifest.problem, path=path))


def _expanded(document: Document, depth: int) -> Iterator[Document]:
    """Yield the items of `kind: List`, else the document itself."""
    value = document.value
    is_list = isinstance(value, dict) and value.get("kind") in ("List", "DaemonSetList")
    if not is_list or not isinstance(value.get("items"), list) or depth == 0:
        yield document
        return
    for each in document.elements("items"):
        yield from _expanded(each, depth - 1)


def _judged(document: Document) -> tuple[Manifest | None, list[Problem], bool]:
    """Return the DaemonSet of a document (None: it holds none), its problems, is it an object."""
    kind, said = kind_of(document)
    if kind is Kind.DAEMON_SET:
        manifest, problems = _daemonset(document, said)
        return manifest, problems, True
    return None, said + _of_others(document), kind is Kind.OTHER


def _of_others(document: Document) -> list[Problem]:
    """Return what concerns us of a document that is not ours: templates, and what confuses all."""
    kept = [each.problem for each in document.found]
    return [
        each if each.rule == "unrendered-template" else replace(each, severity="warning")
        for each in kept
        if each.rule in ("unrendered-template", "duplicate-key")
    ]


def _daemonset(document: Document, said: list[Problem]) -> tuple[Manifest, list[Problem]]:
    value = document.value
    metadata = mapping(value.get("metadata"))
    namespace, name = _text(metadata.get("namespace")), _text(metadata.get("name"))
    findings = Findings(document, object=f"{namespace}/{name}" if namespace else name)
    findings.problems += [replace(each, object=findings.object) for each in said]
    findings.problems += [_typed(each, findings.object) for each in document.found]
    _check(value, findings)
    findings.problems = _said_once(findings.problems)
    first = next((each for each in findings.problems if each.severity == "error"), None)
    manifest = Manifest(
        name=name,
        namespace=namespace,
        line=document.key_mark("").line,
        value=value,
        digest="" if first else digest(value),
        template="" if first else template_digest(value),
        problem=first,
        marks=_marks(document, value),
    )
    return manifest, findings.problems


def _check(value: Mapping[str, Json], findings: Findings) -> None:
    check_shape(value, daemonset(), "", findings)
    check_object(value, findings)
    spec = value.get("spec")
    if isinstance(spec, dict):
        check_rollout(spec, findings)
        check_template(mapping(spec.get("template")), findings)
    if len(canonical(value)) > SIZE_MAX // 4:
        _check_size(value, findings)


def _check_size(value: Mapping[str, Json], findings: Findings) -> None:
    size = len(canonical(value).encode("utf-8", "surrogatepass"))
    if size > SIZE_MAX:
        findings.error(
            "",
            "too-large",
            f"the object has {size:,} bytes; the API server takes about {SIZE_MAX:,}",
            "keep data in ConfigMaps of their own",
        )


def _typed(found: Found, ref: str) -> Problem:
    """Return a problem of the reader; where a file mode belongs, all readers agree on 0644."""
    problem = replace(found.problem, object=ref)
    if problem.rule != "ambiguous-octal" or not found.pointer.endswith(("/defaultMode", "/mode")):
        return problem
    return replace(
        problem,
        severity="warning",
        what=f"{found.pointer.rpartition('/')[2]} is written as an octal number",
        remedy="JSON and newer YAML know decimal numbers only: 0644 is 420, 0755 is 493",
    )


def _said_once(problems: list[Problem]) -> list[Problem]:
    """Leave out that 0755 is no text, or 1e3 no number, where it was said to be ambiguous."""
    ambiguous = {
        (each.line, each.column)
        for each in problems
        if each.severity == "error" and each.rule.startswith("ambiguous-")
    }
    if not ambiguous:
        return problems
    return [
        each
        for each in problems
        if each.rule != "wrong-type" or (each.line, each.column) not in ambiguous
    ]


def _marks(document: Document, value: Mapping[str, Json]) -> Mapping[str, Mark]:
    ours = [
        "/metadata/annotations" + strict.pointer_of(key)
        for key in mapping(mapping(value.get("metadata")).get("annotations"))
        if key.startswith("dsgitops.io/")
    ]
    pod = mapping(mapping(mapping(value.get("spec")).get("template")).get("spec"))
    images = [
        f"/spec/template/spec/{kind}/{at}/image"
        for kind in ("initContainers", "containers")
        for at, _ in elements(pod.get(kind))
    ]
    return {each: document.value_mark(each) for each in (*_KEPT_MARKS, *ours, *images)}


def _text(value: Json) -> str:
    return value if isinstance(value, str) else ""
