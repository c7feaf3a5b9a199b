"""Fields that nobody owns and that a fresh object would not have: no apply ever removes them.

Server-side apply removes only what its manager owned.  What the API server filled in, and what
admission injected, belongs to nobody and stays: the pull policy of a numbered tag under `latest`,
the implied `emptyDir` that forbids a `hostPath`, an env var of a webhook that is gone
(`cluster.md` 3.4).  What is named here is only suspected; two dry runs tell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dsgitops.core.difference import MERGE_KEYS
from dsgitops.core.model import EMPTY
from dsgitops.core.ownership import element, is_ours, spec_fields

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from dsgitops.core.ownership import Fields, Path

_DEFAULTS: Mapping[str, Any] = {
    "apiVersion": "v1",
    "defaultMode": 0o644,
    "divisor": "0",
    "dnsPolicy": "ClusterFirst",
    "expirationSeconds": 3600,
    "failureThreshold": 3,
    "minReadySeconds": 0,
    "path": "/",
    "periodSeconds": 10,
    "protocol": "TCP",
    "resources": {},
    "revisionHistoryLimit": 10,
    "schedulerName": "default-scheduler",
    "scheme": "HTTP",
    "securityContext": {},
    "service": "",
    "successThreshold": 1,
    "terminationGracePeriodSeconds": 30,
    "terminationMessagePath": "/dev/termination-log",
    "terminationMessagePolicy": "File",
    "timeoutSeconds": 1,
    "type": "",
    "volumeMode": "Filesystem",
}
"""What the API fills in wherever a field of that name is missing.  A default that is not listed
costs two dry runs at each new template, nothing else."""


def leftovers(
    want: Mapping[str, Any], have: Mapping[str, Any], managed_fields: Sequence[Mapping[str, Any]]
) -> tuple[Path, ...]:
    """Return the paths (`f:spec`, …) of fields that a write of `want` would leave by mistake.

    Args:
        want: `spec` as Git has it.
        have: `spec` of the live object.
        managed_fields: Of the live object; without an entry of ours nothing can be told, and the
            takeover comes first.
    """
    if not any(is_ours(entry) for entry in managed_fields):
        return ()
    always = {"updateStrategy": have.get("updateStrategy")}  # every forward write names it
    return tuple(_struct({**want, **always}, have, spec_fields(managed_fields), ("f:spec",)))


def _struct(
    want: Mapping[str, Any], have: Mapping[str, Any], owned: Fields, at: Path
) -> Iterator[Path]:
    for name, value in have.items():
        step = f"f:{name}"
        path = (*at, step)
        if name in want or step in owned:
            yield from _field(want.get(name), value, owned.get(step), path)
        elif not _is_default(name, value, want):
            yield path


def _field(want: Any, have: Any, owned: Fields | None, at: Path) -> Iterator[Path]:  # noqa: ANN401
    """Look below a field that is written, or that was ours and goes."""
    grown = want == {} and bool(have)  # `resources: {}` of Git, and a webhook's limits in it
    if owned == {} and not grown:
        return  # a scalar, or replaced as a whole
    if isinstance(have, dict):
        yield from _struct(want if isinstance(want, dict) else EMPTY, have, owned or {}, at)
    elif isinstance(have, list):
        yield from _items(want if isinstance(want, list) else (), have, owned or {}, at)


def _items(want: Sequence[Any], have: Sequence[Any], owned: Fields, at: Path) -> Iterator[Path]:
    keys = MERGE_KEYS.get(at[-1].removeprefix("f:"))
    if keys is None:
        return  # replaced as a whole
    wanted = {element(item, keys): item for item in want if isinstance(item, dict)}
    for item in have:
        if not isinstance(item, dict):
            continue
        step = element(item, keys)
        if step in wanted:
            yield from _struct(wanted[step], item, owned.get(step) or {}, (*at, step))
        elif step not in owned:  # an item of ours goes with all that is in it
            yield (*at, step)


def _is_default(name: str, value: object, beside: Mapping[str, Any]) -> bool:
    """Whether the API would fill in this very value, given what Git has beside it."""
    if value is None:
        return True
    if name == "imagePullPolicy":
        return value == _pull_policy(str(beside.get("image", "")))
    if name == "restartPolicy":  # of the pod; an init container has none by itself
        return value == "Always" and "containers" in beside
    if name == "emptyDir":
        return value == {} and not beside.keys() - {"name"}
    if name == "serviceAccount":  # the old name; what the new one says is copied at every write
        return bool(beside.get("serviceAccountName"))
    return name in _DEFAULTS and bool(value == _DEFAULTS[name])


def _pull_policy(image: str) -> str:
    """Return what an image reference without a policy gets."""
    reference, _, pinned = image.partition("@")
    tag = reference.rsplit("/", 1)[-1].partition(":")[2]
    latest = tag == "latest" or not (tag or pinned)
    return "Always" if latest else "IfNotPresent"
