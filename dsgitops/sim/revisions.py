"""ControllerRevisions of DaemonSets: matched by bytes, renumbered on reuse, cleaned up."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, NamedTuple

from dsgitops.sim.objects import (
    Object,
    canonical,
    controller_of,
    dig,
    each,
    labels_of,
    name_of,
    namespace_of,
    owned_by,
    selects,
    uid_of,
    with_metadata,
)
from dsgitops.sim.store import AlreadyExists

if TYPE_CHECKING:
    from collections.abc import Container

    from dsgitops.sim.site import Site

HASH_LABEL = "controller-revision-hash"
GENERATION_LABEL = "pod-template-generation"
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_LIMIT_DEFAULT = 10


class Collision(Exception):
    """The hash names a revision with other content: counted, and tried again."""


class Constructed(NamedTuple):
    """The history of one DaemonSet."""

    current: Object
    old: list[Object]

    @property
    def hash(self) -> str:
        """The hash that updated pods wear."""
        return labels_of(self.current)[HASH_LABEL]


def revision_hash(text: str, collisions: int) -> str:
    """Return a hash as Kubernetes spells them; stable, of 32 bits, unlike Go's in value."""
    salted = text.encode() + (collisions.to_bytes(8, "little") if collisions else b"")
    return "".join(_ALPHABET[ord(digit) % len(_ALPHABET)] for digit in str(zlib.crc32(salted)))


class History:
    """Keeps the revisions of all DaemonSets."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._texts: dict[str, tuple[Object, str]] = {}
        """By uid of revision or DaemonSet: what was encoded, and its canonical JSON."""
        self.null_times = False
        """Encode as a control plane of before 1.34 did, with `creationTimestamp: null`: the bytes
        of the same template differ."""

    def construct(self, daemonset: Object) -> Constructed:
        """Find or make the revision of the live template, and number it as the newest.

        Raises:
            Collision: The name is taken by other content.
        """
        data = self._encode(daemonset)
        text = self._text(uid_of(daemonset), data)
        current: list[Object] = []
        old: list[Object] = []
        for revision in self._claimed(daemonset):
            same = self._text(uid_of(revision), revision["data"]) == text
            (current if same else old).append(revision)
        number = 1 + max((int(it["revision"]) for it in old), default=0)
        if not current:
            return Constructed(self._make(daemonset, data, text, number), old)
        kept = self._deduplicated(daemonset, current)
        if int(kept["revision"]) < number:
            kept = self._site.store.update("controllerrevisions", {**kept, "revision": number})
        return Constructed(kept, old)

    def clean(self, daemonset: Object, old: list[Object], worn: Container[str]) -> None:
        """Delete the oldest revisions beyond the limit, but none that a pod wears."""
        limit = dig(daemonset, "spec", "revisionHistoryLimit", default=_LIMIT_DEFAULT)
        surplus = len(old) - int(limit)
        for revision in sorted(old, key=lambda it: int(it["revision"])):
            if surplus <= 0:
                return
            if labels_of(revision).get(HASH_LABEL, "") not in worn:
                self._remove(revision)
                surplus -= 1

    def forget(self, uid: str) -> None:
        """Drop what is remembered of a DaemonSet that is gone."""
        self._texts.pop(uid, None)

    def _encode(self, daemonset: Object) -> Object:
        template: Object = daemonset["spec"]["template"]
        if self.null_times:
            metadata = {"creationTimestamp": None, **(template.get("metadata") or {})}
            template = {**template, "metadata": metadata}
        elif (known := self._texts.get(uid_of(daemonset))) is not None:
            before: Object = known[0]["spec"]["template"]
            if all(before.get(key) is template.get(key) for key in ("metadata", "spec")):
                return known[0]
        return {"spec": {"template": {"$patch": "replace", **template}}}

    def _text(self, uid: str, data: Object) -> str:
        known = self._texts.get(uid)
        if known is None or known[0] is not data:
            known = self._texts[uid] = (data, canonical(data))
        return known[1]

    def _claimed(self, daemonset: Object) -> list[Object]:
        """Return the revisions it controls; adopt orphans that match, release what does not."""
        claimed: list[Object] = []
        selector: Object = daemonset["spec"].get("selector") or {}
        for revision in self._site.store.list("controllerrevisions", namespace_of(daemonset)):
            owner = controller_of(revision)
            matches = selects(selector, labels_of(revision))
            if owner is None and matches:
                claimed.append(self._own(daemonset, revision))
            elif owner is not None and owner.get("uid") == uid_of(daemonset):
                if matches:
                    claimed.append(revision)
                else:
                    self._release(revision, uid_of(daemonset))
        return claimed

    def _own(self, daemonset: Object, revision: Object) -> Object:
        reference = owned_by(daemonset, "DaemonSet", "apps/v1")
        references = [*each(revision, "metadata", "ownerReferences"), reference]
        owned = with_metadata(revision, ownerReferences=references)
        return self._site.store.update("controllerrevisions", owned)

    def _release(self, revision: Object, uid: str) -> None:
        references = each(revision, "metadata", "ownerReferences")
        left = [it for it in references if it.get("uid") != uid]
        released = with_metadata(revision, ownerReferences=left or None)
        self._site.store.update("controllerrevisions", released)

    def _make(self, daemonset: Object, data: Object, text: str, number: int) -> Object:
        collisions = int(dig(daemonset, "status", "collisionCount", default=0))
        digest = revision_hash(text, collisions)
        labels = dig(daemonset, "spec", "template", "metadata", "labels", default={})
        metadata: Object = {
            "name": f"{name_of(daemonset)}-{digest}",
            "namespace": namespace_of(daemonset),
            "labels": {**labels, HASH_LABEL: digest},
            "annotations": dig(daemonset, "metadata", "annotations", default={}),
            "ownerReferences": [owned_by(daemonset, "DaemonSet", "apps/v1")],
        }
        revision: Object = {
            "apiVersion": "apps/v1",
            "kind": "ControllerRevision",
            "metadata": metadata,
            "data": data,
            "revision": number,
        }
        try:
            made = self._site.store.create("controllerrevisions", revision)
        except AlreadyExists:
            return self._met(daemonset, metadata["name"], text)
        self._texts[uid_of(made)] = (made["data"], text)
        return made

    def _met(self, daemonset: Object, name: str, text: str) -> Object:
        found = self._site.store.get("controllerrevisions", namespace_of(daemonset), name)
        if found is not None and self._text(uid_of(found), found["data"]) == text:
            return found
        raise Collision(name)

    def _deduplicated(self, daemonset: Object, current: list[Object]) -> Object:
        """Keep the newest of equal revisions; give its hash to the pods of the others."""
        kept = max(current, key=lambda it: int(it["revision"]))
        for double in current:
            if double is not kept:
                self._relabel(daemonset, labels_of(double), labels_of(kept)[HASH_LABEL])
                self._remove(double)
        return kept

    def _relabel(self, daemonset: Object, old: dict[str, str], digest: str) -> None:
        for pod in self._site.store.list("pods", namespace_of(daemonset)):
            labels = labels_of(pod)
            if labels.get(HASH_LABEL) == old.get(HASH_LABEL):
                relabelled = with_metadata(pod, labels={**labels, HASH_LABEL: digest})
                self._site.store.update("pods", relabelled)

    def _remove(self, revision: Object) -> None:
        self._texts.pop(uid_of(revision), None)
        self._site.store.remove("controllerrevisions", namespace_of(revision), name_of(revision))
