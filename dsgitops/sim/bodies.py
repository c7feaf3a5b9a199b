"""Bodies of requests: JSON or YAML in, and where keys are given twice."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

import yaml

from dsgitops.sim import answers

if TYPE_CHECKING:
    from collections.abc import Hashable

    from dsgitops.sim.schema import Object

MAX_BYTES = 3 * 1024 * 1024
"""The API server's limit on request bodies."""


def parsed(body: bytes, duplicates: list[str] | None = None) -> Any:  # noqa: ANN401 - any JSON
    """Return a JSON or YAML body.

    Args:
        body: As sent.
        duplicates: Collects keys that a map has twice, as `line 1: key "a" already set in map`.

    Raises:
        Refused: 400, it cannot be read; 413, it is over 3 MiB.
    """
    if len(body) > MAX_BYTES:
        raise answers.too_large()
    try:
        if body.lstrip()[:1] in (b"{", b"["):
            return json.loads(body, object_pairs_hook=_pairs(duplicates))
        return yaml.load(body, _loader(duplicates))  # noqa: S506 - a subclass of SafeLoader
    except (ValueError, yaml.YAMLError) as error:
        raise answers.bad_request(f"error decoding the body: {type(error).__name__}") from error


def mapping(body: bytes, duplicates: list[str] | None = None) -> Object:
    """Return a body that must be a map.

    Raises:
        Refused: 400, it is none; 413, it is over 3 MiB.
    """
    value = parsed(body, duplicates)
    return shaped(value)


_TEXTS = ("name", "namespace", "generateName", "uid", "resourceVersion")


def shaped(value: Any) -> Object:  # noqa: ANN401 - any JSON
    """Return an object whose metadata can be read, before its type is looked at.

    Raises:
        Refused: 400, it is no object, or its name is no text.
    """
    if not isinstance(value, dict):
        raise answers.bad_request("the body of the request is not an object")
    obj = cast("Object", value)
    metadata = obj.get("metadata")
    if metadata is None:
        return {key: each for key, each in obj.items() if key != "metadata"}
    if not isinstance(metadata, dict):
        raise answers.bad_request("metadata is not an object")
    for name in _TEXTS:
        if not isinstance(metadata.get(name), str | None):
            raise answers.bad_request(f"metadata.{name} is not a string")
    return obj


def _pairs(duplicates: list[str] | None) -> Any:  # noqa: ANN401 - a hook of json
    def pairs(items: list[tuple[str, Any]]) -> Object:
        found = dict(items)
        if duplicates is not None and len(found) < len(items):
            keys = [key for key, _ in items]
            twice = [key for key in found if keys.count(key) > 1]
            duplicates.extend(f'line 1: key "{key}" already set in map' for key in twice)
        return found

    return pairs


def _loader(duplicates: list[str] | None) -> type[yaml.SafeLoader]:
    class Loader(yaml.SafeLoader):
        """Safe YAML whose timestamps stay text and whose double keys are noticed."""

        def construct_mapping(
            self,
            node: yaml.MappingNode,
            deep: bool = False,  # noqa: FBT001, FBT002 - PyYAML's signature
        ) -> dict[Hashable, Any]:
            if duplicates is not None:
                names = [str(key.value) for key, _ in node.value]
                duplicates.extend(
                    f'line {key.start_mark.line + 1}: key "{key.value}" already set in map'
                    for index, (key, _) in enumerate(node.value)
                    if str(key.value) in names[:index]
                )
            return super().construct_mapping(node, deep=deep)

    Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if "timestamp" not in tag]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    return Loader
