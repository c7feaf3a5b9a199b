"""What pods lean on: ConfigMaps, Secrets, host paths, the limits of their volumes and accounts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dsgitops.sim.behaviours import NONESUCH, program_of
from dsgitops.sim.objects import Object, dig, each, quantity

if TYPE_CHECKING:
    from collections.abc import Callable

    Finder = Callable[[str, str], Object | None]


def config_error(container: Object, pod: Object, companions: Companions) -> str | None:
    """Return why a container cannot be made (CreateContainerConfigError), else None."""
    for source in each(container, "envFrom"):
        if message := companions.lack_whole(source):
            return message
    for env in each(container, "env"):
        if message := companions.lack_key(dig(env, "valueFrom", default={})):
            return message
    if _root_forbidden(container, pod) and program_of(container).runs_as_root:
        name, namespace, uid = (pod["metadata"][key] for key in ("name", "namespace", "uid"))
        where = f'(pod: "{name}_{namespace}({uid})", container: {container["name"]})'
        return f"container has runAsNonRoot and image will run as root {where}"
    return None


def _root_forbidden(container: Object, pod: Object) -> bool:
    own: Object = container.get("securityContext") or {}
    shared: Object = dig(pod, "spec", "securityContext", default={})
    if own.get("runAsUser", shared.get("runAsUser", 0)):
        return False
    return bool(own.get("runAsNonRoot", shared.get("runAsNonRoot", False)))


@dataclass(frozen=True, slots=True)
class Companions:
    """The ConfigMaps and Secrets of a namespace, as a kubelet asks for them.

    Args:
        find: (resource, name) -> object or None.
        namespace: For messages.
    """

    find: Finder
    namespace: str

    def lack_whole(self, source: Object) -> str | None:
        """Return what is missing of an `envFrom` entry."""
        for field, kind in (("configMapRef", "configmap"), ("secretRef", "secret")):
            reference = source.get(field)
            if reference and not reference.get("optional"):
                return self._lack(kind, str(reference.get("name")))
        return None

    def lack_key(self, source: Object) -> str | None:
        """Return what is missing of an `env[].valueFrom`."""
        for field, kind in (("configMapKeyRef", "configmap"), ("secretKeyRef", "secret")):
            reference = source.get(field)
            if reference and not reference.get("optional"):
                name = str(reference.get("name"))
                return self._lack(kind, name) or self._lack_key(kind, name, reference["key"])
        return None

    def lack_volume(self, volume: Object) -> str | None:
        """Return what is missing of a volume."""
        if (given := volume.get("configMap")) and not given.get("optional"):
            return self._lack("configmap", str(given.get("name")))
        if (given := volume.get("secret")) and not given.get("optional"):
            return self._lack("secret", str(given.get("secretName")))
        for source in each(volume, "projected", "sources"):
            if message := self.lack_volume(_as_volume(source)):
                return message
        return _host_path_failure(volume.get("hostPath") or {})

    def _lack(self, kind: str, name: str) -> str | None:
        if self.find(f"{kind}s", name) is not None or name == "kube-root-ca.crt":
            return None
        return f'{kind} "{name}" not found'

    def _lack_key(self, kind: str, name: str, key: str) -> str | None:
        found = self.find(f"{kind}s", name) or {}
        if key in {**(found.get("data") or {}), **(found.get("stringData") or {})}:
            return None
        word = {"configmap": "ConfigMap", "secret": "Secret"}[kind]
        return f"couldn't find key {key} in {word} {self.namespace}/{name}"


def _as_volume(source: Object) -> Object:
    secret = source.get("secret")
    if secret:
        return {"secret": {**secret, "secretName": secret.get("name")}}
    return {"configMap": source["configMap"]} if source.get("configMap") else {}


_PATH_TYPES = {
    "File": "file",
    "Directory": "directory",
    "Socket": "socket file",
    "CharDevice": "character device",
    "BlockDevice": "block device",
}


def _host_path_failure(host_path: Object) -> str | None:
    word = _PATH_TYPES.get(str(host_path.get("type") or ""))
    path = str(host_path.get("path"))
    if word is None or NONESUCH not in path:
        return None
    return f"hostPath type check failed: {path} is not a {word}"


def overfilled(pod: Object) -> str | None:
    """Return the eviction manager's message where the pod writes beyond an emptyDir's limit."""
    written = sum(program_of(it).fills for it in each(pod, "spec", "containers"))
    for volume in each(pod, "spec", "volumes"):
        limit = dig(volume, "emptyDir", "sizeLimit")
        if limit is not None and written > quantity(limit):
            return f'Usage of EmptyDir volume "{volume["name"]}" exceeds the limit "{limit}". '
    return None
