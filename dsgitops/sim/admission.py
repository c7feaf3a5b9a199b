"""What refuses pods: ServiceAccounts, quota, LimitRange and Pod Security, in their own words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dsgitops.sim.objects import (
    Object,
    dig,
    each,
    is_finished,
    is_terminating,
    labels_of,
    name_of,
    namespace_of,
    quantity,
)
from dsgitops.sim.placement import load_of

if TYPE_CHECKING:
    from dsgitops.sim.store import Store

_LEVELS = ("baseline", "restricted")
_LOOKING_UP = "error looking up service account"
_HOST = ("hostNetwork", "hostPID", "hostIPC")


def refusal(store: Store, pod: Object) -> str | None:
    """Return why a new pod may not come, None where it may.

    Args:
        store: Where ServiceAccounts, ResourceQuotas, LimitRanges and the Namespace lie.
        pod: As sent.
    """
    for check in (_account, _limits, _security, _quota):
        if why := check(store, pod):
            return why
    return None


def forbidden(pod: Object, why: str) -> str:
    """Return the message of the 403 that meets a pod."""
    metadata = pod["metadata"]
    name = metadata.get("name") or metadata.get("generateName", "")
    if why.startswith(_LOOKING_UP):
        # The account is looked up before a name is made of generateName.
        name = metadata.get("generateName", name)
    return f'pods "{name}" is forbidden: {why}'


def _account(store: Store, pod: Object) -> str | None:
    name = str(pod["spec"].get("serviceAccountName") or "default")
    namespace = namespace_of(pod)
    if name == "default" or store.get("serviceaccounts", namespace, name) is not None:
        return None
    missing = f'serviceaccount "{name}" not found'
    return f"{_LOOKING_UP} {namespace}/{name}: {missing}"


def _limits(store: Store, pod: Object) -> str | None:
    for limit_range in store.list("limitranges", namespace_of(pod)):
        for limit in each(limit_range, "spec", "limits"):
            if limit.get("type") != "Container":
                continue
            for resource, longest in (limit.get("max") or {}).items():
                if why := _beyond(pod, resource, longest):
                    return why
    return None


def _beyond(pod: Object, resource: str, longest: str) -> str | None:
    for container in each(pod, "spec", "containers"):
        limit = dig(container, "resources", "limits", resource)
        if limit is not None and quantity(limit) > quantity(longest):
            return f"maximum {resource} usage per Container is {longest}, but limit is {limit}"
    return None


def _security(store: Store, pod: Object) -> str | None:
    namespace = store.get("namespaces", "", namespace_of(pod))
    level = labels_of(namespace or {}).get("pod-security.kubernetes.io/enforce", "")
    if level not in _LEVELS:
        return None
    found = _violations(pod["spec"])
    return f'violates PodSecurity "{level}:latest": {", ".join(found)}' if found else None


def _violations(spec: Object) -> list[str]:
    found = [f"host namespaces ({it}=true)" for it in _HOST if spec.get(it)]
    for container in each(spec, "containers"):
        if dig(container, "securityContext", "privileged"):
            must = "must not set securityContext.privileged=true"
            found.append(f'privileged (container "{container["name"]}" {must})')
    paths = [str(it["name"]) for it in each(spec, "volumes") if it.get("hostPath")]
    if paths:
        names = ", ".join(f'"{it}"' for it in paths)
        found.append(f"hostPath volumes (volumes {names})")
    return found


def _quota(store: Store, pod: Object) -> str | None:
    for quota in store.list("resourcequotas", namespace_of(pod)):
        hard: Object = dig(quota, "spec", "hard", default={})
        limit = hard.get("requests.cpu")
        if limit is None:
            continue
        asked = load_of(pod).cpu
        others = store.list("pods", namespace_of(pod))
        used = sum(load_of(it).cpu for it in others if not _is_over(it))
        if used + asked > quantity(limit) + 1e-9:
            return (
                f"exceeded quota: {name_of(quota)}, requested: requests.cpu={_millis(asked)}, "
                f"used: requests.cpu={_millis(used)}, limited: requests.cpu={limit}"
            )
    return None


def _is_over(pod: Object) -> bool:
    return is_finished(pod) or is_terminating(pod)


def _millis(cores: float) -> str:
    millis = round(cores * 1000)
    return str(millis // 1000) if millis % 1000 == 0 else f"{millis}m"
