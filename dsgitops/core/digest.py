"""What content *is*: canonical JSON and its sha256; commits are for display only."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from dsgitops.core.control import NOT_CONTENT
from dsgitops.core.model import EMPTY
from dsgitops.core.rules_object import OF_OTHERS

if TYPE_CHECKING:
    from collections.abc import Mapping

Json = Any

_TELLING_WHEN_EMPTY = frozenset({"emptyDir", "labelSelector", "namespaceSelector", "podSelector"})
"""Fields whose empty value says something else than their absence."""


def canonical(value: Json) -> str:
    """Return JSON with sorted keys and no spaces, as UTF-8 text.

    Raises:
        ValueError: A number is not finite.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def digest(manifest: Mapping[str, Json]) -> str:
    """Return `sha256:…` of spec, labels and annotations as Git has them.

    Not of the namespace (it may be filled in), nor of annotations that are requests to the agent
    or that others write.
    """
    metadata: Mapping[str, Json] = manifest.get("metadata") or EMPTY
    return _sha256(
        {
            "annotations": content_annotations(metadata.get("annotations") or EMPTY),
            "labels": dict(metadata.get("labels") or EMPTY),
            "spec": manifest.get("spec"),
        }
    )


def template_digest(manifest: Mapping[str, Json]) -> str:
    """Return `sha256:…` of `spec.template` alone: what restarts pods."""
    spec: Mapping[str, Json] = manifest.get("spec") or EMPTY
    return _sha256(spec.get("template"))


def content_annotations(annotations: Mapping[str, Json]) -> dict[str, Json]:
    """Return the annotations that are content: not requests to the agent, not those of others."""
    left_out = NOT_CONTENT | OF_OTHERS
    return {key: value for key, value in annotations.items() if key not in left_out}


def same_template(one: Json, other: Json) -> bool:
    """Whether two pod templates mean the same: nulls and empty maps or lists are as if absent.

    Control planes write `creationTimestamp: null` or `resources: {}` in one version and not in
    the next; that makes a new revision, and no new content.  Defaults are not filled in.
    """
    return bool(one == other or _pruned(one) == _pruned(other))


def _pruned(value: Json) -> Json:
    """Return a copy without nulls and empty containers; bounded by the depth that was read."""
    if isinstance(value, dict):
        below = {key: _pruned(each) for key, each in value.items()}
        return {
            key: each
            for key, each in below.items()
            if each not in (None, {}, []) or (key in _TELLING_WHEN_EMPTY and value[key] is not None)
        }
    if isinstance(value, list):
        return [_pruned(each) for each in value]
    return value


def _sha256(value: Json) -> str:
    text = canonical(value).encode("utf-8", "surrogatepass")
    return f"sha256:{hashlib.sha256(text).hexdigest()}"
