"""What the settings' `policy:` forbids: images from elsewhere, privileges that were not there.

A DaemonSet is close to root on every node, and who may push is not always who may become that
(`safety.md` M96).  Only paths are named: values of manifests may be secrets.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from dsgitops.core.model import Gates

_TEMPLATE = ".spec.template.spec"
_HOST = ("hostNetwork", "hostPID", "hostIPC")
_DEFAULT_ACCOUNT = "default"
Found = tuple[str, str]
"""A field path, and what makes it the same privilege elsewhere (of an image: where it stands)."""


def forbidden(
    template: Mapping[str, Any], live: Mapping[str, Any] | None, gates: Gates
) -> tuple[str, str] | None:
    """Return the first field that the policy forbids, and why; None: nothing.

    Args:
        template: Pod template as Git has it.
        live: That of the live object; None: there is none, and nothing is added to it.
        gates: What Git may ask for.
    """
    spec = _mapping(template.get("spec"))
    foreign = next(foreign_images(template, gates), None)
    if foreign is not None:
        return foreign[0], "matches none of policy.images"
    if not gates.existing_only or live is None:
        return None
    path = _added(spec, _mapping(live.get("spec")))
    return (
        (path, "is not so in the cluster, and policy.privileged is existing-only") if path else None
    )


def foreign_images(template: Mapping[str, Any], gates: Gates) -> Iterator[Found]:
    """Yield each image that matches none of `policy.images`: its path, its JSON pointer."""
    if not gates.images:
        return
    patterns = [_pattern(each) for each in gates.images]
    for path, pointer, container in _placed(_mapping(template.get("spec"))):
        if not any(each.fullmatch(str(container.get("image"))) for each in patterns):
            yield f"{path}.image", f"{pointer}/image"


def asked(template: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the paths of all that `existing-only` wants to find in the cluster already."""
    spec = _mapping(template.get("spec"))
    account = () if _account(spec) == _DEFAULT_ACCOUNT else (f"{_TEMPLATE}.serviceAccountName",)
    return (*account, *(path for path, _ in _privileges(spec)))


# ---------------------------------------------------------------------------- images


def _pattern(given: str) -> re.Pattern[str]:
    """Read a pattern: `*` stands for anything, slashes included."""
    return re.compile(".*".join(re.escape(part) for part in given.split("*")))


# ---------------------------------------------------------------------------- privileges


def _added(spec: Mapping[str, Any], live: Mapping[str, Any]) -> str:
    """Return the path of the first privilege that the live object does not have; "": none."""
    account = _account(spec)
    if account != _account(live):
        return f"{_TEMPLATE}.serviceAccountName"
    there = {what for _, what in _privileges(live)}
    paths = {what for what in there if what.startswith("path:")}
    for path, what in _privileges(spec):
        if what not in there and not any(_is_within(what, each) for each in paths):
            return path
    return ""


def _account(spec: Mapping[str, Any]) -> str:
    return str(spec.get("serviceAccountName") or spec.get("serviceAccount") or _DEFAULT_ACCOUNT)


def _is_within(what: str, path: str) -> bool:
    """Whether a host path lies below one that is mounted already."""
    return what.startswith(path.rstrip("/") + "/")


def _privileges(spec: Mapping[str, Any]) -> Iterator[Found]:
    for name in _HOST:
        if spec.get(name) is True:
            yield f"{_TEMPLATE}.{name}", name
    if _host_process(spec):
        yield f"{_TEMPLATE}.securityContext.windowsOptions.hostProcess", "hostProcess"
    for volume in _items(spec, "volumes"):
        mounted = volume.get("hostPath")
        if isinstance(mounted, dict):
            path = f"{_TEMPLATE}.volumes[{volume.get('name')}].hostPath"
            yield path, f"path:{mounted.get('path')}"
    for path, container in _containers(spec):
        yield from _of_container(path, container)


def _of_container(path: str, container: Mapping[str, Any]) -> Iterator[Found]:
    name = container.get("name")
    if _mapping(container.get("securityContext")).get("privileged") is True:
        yield f"{path}.securityContext.privileged", f"privileged:{name}"
    if _host_process(container):
        yield f"{path}.securityContext.windowsOptions.hostProcess", f"hostProcess:{name}"
    for at, port in enumerate(_items(container, "ports")):
        if port.get("hostPort"):
            what = f"port:{port.get('hostPort')}/{port.get('protocol') or 'TCP'}"
            yield f"{path}.ports[{at}].hostPort", what


def _host_process(holder: Mapping[str, Any]) -> bool:
    context = _mapping(holder.get("securityContext"))
    return _mapping(context.get("windowsOptions")).get("hostProcess") is True


def _containers(spec: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    return ((path, container) for path, _, container in _placed(spec))


def _placed(spec: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Yield each container with its path, for people, and its JSON pointer in the manifest."""
    for kind in ("initContainers", "containers"):
        for at, each in enumerate(_items(spec, kind)):
            yield (
                f"{_TEMPLATE}.{kind}[{each.get('name')}]",
                f"/spec/template/spec/{kind}/{at}",
                each,
            )


def _items(holder: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    given = holder.get(key)
    return [each for each in given if isinstance(each, dict)] if isinstance(given, list) else []


def _mapping(value: Any) -> Mapping[str, Any]:  # noqa: ANN401 - any JSON
    return value if isinstance(value, dict) else {}
