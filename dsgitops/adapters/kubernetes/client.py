"""Small synchronous reads and writes, for commands: no watch, no memory.

Each call makes one request (a list: one a page) and raises the errors of `errors.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from dsgitops.adapters.kubernetes import kinds, lease, wire, writes
from dsgitops.adapters.kubernetes.answers import fault, read_object
from dsgitops.adapters.kubernetes.following import label_selector
from dsgitops.adapters.kubernetes.lists import read_list
from dsgitops.adapters.kubernetes.shelf import Item
from dsgitops.core.model import Event, Live, Node, Pod, Ref, Revision
from dsgitops.errors import Stale
from dsgitops.ports import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from dsgitops.core.actions import Rehearse, Remember, Restore
    from dsgitops.ports import Response, Transport

T = TypeVar("T", Live, Revision, Pod, Node, Event, dict[str, Any])


class Client:
    """Reads and writes one cluster for a person.

    Args:
        transport: With the person's own rights.
        now: The time, for `Retry-After` dates.
    """

    def __init__(self, transport: Transport, now: Callable[[], datetime]) -> None:
        self._transport = transport
        self._now = now

    # -- reading

    def daemonset(self, ref: Ref) -> Live | None:
        """Return one DaemonSet; None: there is none of this name.

        Raises:
            ActionRefused: No right to.
            ClusterUnreachable: No answer.
        """
        request = Request(method="GET", path=kinds.path_of_daemonset(ref))
        try:
            return wire.daemonset(self._send(request, f"read DaemonSet {ref}").body)
        except Stale:
            return None

    def daemonsets(self, namespace: str = "", selector: str = "") -> tuple[Live, ...]:
        """Return DaemonSets by name.  Raises as `daemonset`.

        Args:
            namespace: Empty: of all namespaces.
            selector: A label selector: `app=a,tier in (x,y)`.
        """
        path = kinds.path_of(kinds.APPS, "daemonsets", namespace)
        return self._list(path, wire.daemonset, {"labelSelector": selector} if selector else {})

    def revisions(self, live: Live) -> tuple[Revision, ...]:
        """Return the ControllerRevisions of a DaemonSet, oldest first.  Raises as `daemonset`."""
        path = kinds.path_of(kinds.APPS, "controllerrevisions", live.ref.namespace)
        found = self._list(path, wire.revision, _selecting(live))
        return tuple(sorted(_of(found, live), key=lambda each: each.number))

    def all_revisions(self, namespace: str = "") -> tuple[Revision, ...]:
        """Return all ControllerRevisions, whosoever; empty: of all namespaces.

        One list instead of one a DaemonSet.  Raises as `daemonset`.
        """
        path = kinds.path_of(kinds.APPS, "controllerrevisions", namespace)
        return self._list(path, wire.revision, {})

    def pods(self, live: Live) -> tuple[Pod, ...]:
        """Return the pods of a DaemonSet.  Raises as `daemonset`."""
        path = kinds.path_of(kinds.CORE, "pods", live.ref.namespace)
        return _of(self._list(path, wire.pod, _selecting(live)), live)

    def nodes(self) -> tuple[Node, ...]:
        """Return the nodes by name.  Raises as `daemonset`."""
        return self._list(kinds.path_of(kinds.CORE, "nodes"), wire.node, {})

    def events(self, live: Live) -> tuple[Event, ...]:
        """Return the Events about a DaemonSet itself.  Raises as `daemonset`."""
        path = kinds.path_of(kinds.CORE, "events", live.ref.namespace)
        return self._list(path, wire.event, {"fieldSelector": f"involvedObject.uid={live.uid}"})

    def daemonset_events(self, namespace: str = "") -> tuple[Event, ...]:
        """Return the Events about DaemonSets; empty: of all namespaces.  Raises as `daemonset`."""
        path = kinds.path_of(kinds.CORE, "events", namespace)
        return self._list(path, wire.event, {"fieldSelector": "involvedObject.kind=DaemonSet"})

    def leases(self, namespace: str = "") -> tuple[dict[str, Any], ...]:
        """Return the agents' Leases; empty: of all namespaces.  Raises as `daemonset`."""
        inside = f"/namespaces/{namespace}" if namespace else ""
        path = f"/apis/coordination.k8s.io/v1{inside}/leases"
        found = self._list(path, _plain, {"fieldSelector": f"metadata.name={lease.NAME}"})
        return tuple(each for each in found if each["metadata"].get("name") == lease.NAME)

    def lease(self, namespace: str) -> dict[str, Any] | None:
        """Return the agent's Lease as it is; None: no agent has ever run there.

        Raises as `daemonset`.
        """
        path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{lease.NAME}"
        request = Request(method="GET", path=path)
        try:
            return read_object(self._send(request, f"read Lease {namespace}/{lease.NAME}"))
        except Stale:
            return None

    def user(self) -> str:
        """Return who we are to the API server; empty: it does not say.  Raises as `daemonset`."""
        request = Request(
            method="POST",
            path="/apis/authentication.k8s.io/v1/selfsubjectreviews",
            headers={"Content-Type": "application/json"},
            body=b'{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}',
        )
        review = read_object(self._send(request, "ask who we are"))
        return str(((review.get("status") or {}).get("userInfo") or {}).get("username") or "")

    # -- writing

    def annotate(self, live: Live, annotations: Mapping[str, str | None]) -> Live:
        """Set annotations (None removes one) on the very object that was read.

        Raises:
            Stale: It was changed or replaced since.
            ActionRefused: No right to.
            ClusterUnreachable: No answer; it may have landed.
        """
        metadata = {
            "uid": live.uid,
            "resourceVersion": live.resource_version,
            "annotations": dict(annotations),
        }
        request = writes.patch(
            live.ref, {"metadata": metadata}, writes.MERGE, {"fieldManager": writes.CLI_MANAGER}
        )
        return wire.daemonset(self._send(request, f"annotate DaemonSet {live.ref}").body)

    def write(self, action: Restore | Remember | Rehearse, *, dry_run: bool = False) -> Live:
        """Write what the agent would write, for a rollback by hand, or ask what it would do.

        Raises as `annotate`.

        Args:
            action: With a complete body (`core/bodies.py`).
            dry_run: Ask what would come of it, and change nothing.
        """
        request = writes.request_of(action, dry_run=dry_run)
        return wire.daemonset(self._send(request, writes.doing(action)).body)

    # -- one request

    def _list(
        self, path: str, read: Callable[[bytes], T], query: Mapping[str, str]
    ) -> tuple[T, ...]:
        def decode(raw: bytes | msgspec.Raw) -> Item | None:
            try:
                return Item("", "", "", "", read(bytes(raw)))
            except ValueError:  # one odd object must not hide all others
                return None

        listing = read_list(self._transport, path, query, decode, self._now())
        values: list[Any] = [item.value for item in listing.items]
        return tuple(values)

    def _send(self, request: Request, doing: str) -> Response:
        response = self._transport.send(request)
        error = fault(response, doing=doing, now=self._now())
        if error is not None:
            raise error
        return response


def _plain(raw: bytes) -> dict[str, Any]:
    content: dict[str, Any] = msgspec.json.decode(raw)
    return content


def _selecting(live: Live) -> dict[str, str]:
    return {"labelSelector": label_selector(live.spec.get("selector") or {})}


def _of(found: tuple[T, ...], live: Live) -> tuple[T, ...]:
    return tuple(each for each in found if getattr(each, "owner", "") == live.uid)
