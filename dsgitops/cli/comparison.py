"""What differs between two states of a DaemonSet, and what it does to pods.

Values that may be secrets are hashes before anything is compared for people.
"""

from __future__ import annotations

import difflib
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dsgitops.cli import terminal
from dsgitops.core.difference import SECRET_FIELDS, explain
from dsgitops.core.digest import content_annotations, same_template

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dsgitops.core.difference import Change
    from dsgitops.core.model import Live, Ref

OURS = ("dsgitops.io/record", "kubernetes.io/change-cause")
"""Annotations that say something about the content and are none of it."""
SHOWN_DIGITS = 12
"""Of a hash, as `core/difference.py` shows them."""
CONTEXT_LINES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One DaemonSet before and after."""

    ref: Ref
    before: Mapping[str, Any] | None
    """None: it is created."""
    after: Mapping[str, Any] | None
    """None: it is removed."""
    labels: tuple[str, str]
    """What the two sides are: `live`, `main@sha1:9f2c3a1`."""
    nodes: int | None = None
    """Nodes that run it; None: no cluster was asked."""
    path: str = ""
    """The file in Git."""

    @property
    def differs(self) -> bool:
        """Whether there is any difference."""
        return self.before != self.after

    @property
    def restarts(self) -> bool:
        """Whether the pod template differs, so that pods are replaced."""
        if self.before is None or self.after is None:
            return False
        return not same_template(_template(self.before), _template(self.after))

    @property
    def changes(self) -> tuple[Change, ...]:
        """Field by field."""
        return explain(self.before or {}, self.after or {})

    @property
    def prediction(self) -> str:
        """What it does to pods, in words."""
        if not self.differs:
            return "no differences"
        if self.before is None:
            return "new: it is created"
        if self.after is None:
            return "not in Git: it stays until it is pruned"
        if not self.restarts:
            same_spec = self.before.get("spec") == self.after.get("spec")
            return f"{'metadata only' if same_spec else 'template unchanged'}: no restart"
        strategy = (self.after["spec"].get("updateStrategy") or {}).get("type")
        if strategy == "OnDelete":
            return "template changed: pods restart as people delete them (OnDelete)"
        if self.nodes is None:
            return "template changed: every node restarts"
        return f"template changed: {self.nodes} {'node' if self.nodes == 1 else 'nodes'} " + (
            "restarts" if self.nodes == 1 else "restart"
        )

    def unified(self) -> list[str]:
        """Return the lines of a unified diff; none where nothing differs."""
        one, two = self.labels
        lines = difflib.unified_diff(
            _text(self.before),
            _text(self.after),
            f"{one}/{self.ref}",
            f"{two}/{self.ref}",
            n=CONTEXT_LINES,
            lineterm="",
        )
        return [terminal.plain(line) for line in lines]

    def as_json(self) -> dict[str, Any]:
        """Return the item of `diff -o json`."""
        return {
            "namespace": self.ref.namespace,
            "name": self.ref.name,
            "path": self.path or None,
            "from": self.labels[0],
            "to": self.labels[1],
            "differs": self.differs,
            "restarts": self.restarts,
            "nodes": self.nodes,
            "prediction": self.prediction,
            "changes": [_change(each) for each in self.changes],
        }


def content(daemonset: Live | Mapping[str, Any]) -> dict[str, Any]:
    """Return what of an object is content, as a manifest: nothing of the server's, no record."""
    if isinstance(daemonset, dict):
        metadata, spec = daemonset.get("metadata") or {}, daemonset.get("spec") or {}
        name, namespace = metadata.get("name", ""), metadata.get("namespace", "")
        labels, given = metadata.get("labels") or {}, metadata.get("annotations") or {}
        return _manifest((namespace, name), labels, given, spec)
    live: Any = daemonset
    names = (live.ref.namespace, live.ref.name)
    return _manifest(names, live.labels, live.annotations, live.spec)


def masked(value: Any, *, secret: bool = False) -> Any:  # noqa: ANN401 - any JSON
    """Return a copy in which values that may be secrets are hashes: equal ones stay equal."""
    if isinstance(value, dict):
        return {
            key: masked(each, secret=secret or key in SECRET_FIELDS) for key, each in value.items()
        }
    if isinstance(value, list):
        return [masked(each, secret=secret) for each in value]
    return _hash(value) if secret and value not in (None, "") else value


def markdown(found: Iterable[Comparison]) -> list[str]:
    """Return what a comment on a merge request shows."""
    lines: list[str] = []
    for each in found:
        lines += [f"### {each.ref}", "", f"**{each.prediction}**", ""]
        lines += ["| | field | before | after |", "|---|---|---|---|"]
        lines += [
            f"| {change.kind} | `{_cell(change.path)}` | {_code(change.before)} "
            f"| {_code(change.after)} |"
            for change in each.changes
        ]
        lines.append("")
    return lines[:-1]


def _manifest(
    names: tuple[str, str],
    labels: Mapping[str, Any],
    annotations: Mapping[str, Any],
    spec: Mapping[str, Any],
) -> dict[str, Any]:
    kept = {key: each for key, each in content_annotations(annotations).items() if key not in OURS}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {
            "name": names[1],
            "namespace": names[0],
            "labels": dict(sorted(labels.items())),
            "annotations": dict(sorted(kept.items())),
        },
        "spec": dict(spec),
    }


def _template(manifest: Mapping[str, Any]) -> Any:  # noqa: ANN401 - any JSON
    return (manifest.get("spec") or {}).get("template")


def _text(manifest: Mapping[str, Any] | None) -> list[str]:
    import yaml  # noqa: PLC0415 - only where there is something to show

    if manifest is None:
        return []
    return yaml.safe_dump(masked(manifest), sort_keys=True, width=1000).splitlines()


def _hash(value: Any) -> str:  # noqa: ANN401 - any JSON
    return f"sha256:{hashlib.sha256(repr(value).encode()).hexdigest()[:SHOWN_DIGITS]}"


def _change(change: Change) -> dict[str, Any]:
    return {
        "kind": change.kind,
        "path": change.path,
        "before": change.before or None,
        "after": change.after or None,
        "restarts": change.restarts,
    }


def _code(text: str) -> str:
    return f"`{_cell(text)}`" if text else ""


def _cell(text: str) -> str:
    """Return text that cannot leave its cell."""
    return terminal.plain(text).replace("`", "'").replace("|", "\\|")
