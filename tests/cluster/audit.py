"""What was asked of the API server, and by whom: its audit log, and the one reader of that."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cluster.control_plane import ControlPlane

_TOKEN = "authentication.kubernetes.io/credential-id"
_POD = "authentication.kubernetes.io/pod-name"
_WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})


@dataclass(frozen=True)
class Told:
    """One request that was answered."""

    verb: str
    path: str
    """With its query."""
    resource: str
    account: str
    """Who asked, without its namespace."""
    pod: str
    """The same; empty: its token is bound to no pod."""
    token: str
    """The id of its token, never itself."""
    begun: datetime
    ended: datetime
    code: int

    @property
    def writes(self) -> bool:
        """Whether it was to change something, the Lease included."""
        return self.verb in _WRITES and "dryRun=All" not in self.path

    @property
    def changed(self) -> bool:
        """Whether it was a write that took effect: no precondition failed, for one."""
        return self.writes and self.code < 300

    @property
    def cut_off(self) -> bool:
        """Whether it was a write whose client, or whose etcd, went meanwhile: it may have landed."""
        return self.writes and self.code >= 500

    @property
    def acts(self) -> bool:
        """Whether it was to change a DaemonSet or a pod: two agents must not at the same time."""
        return self.writes and self.resource in {"daemonsets", "pods"}

    @property
    def renews(self) -> bool:
        """Whether it took, renewed or released a Lease."""
        return self.changed and self.resource == "leases"

    @property
    def change(self) -> str:
        """What it changed, without the names in it that are random or the test's own."""
        random = r"/namespaces/[^/]+|(?<=/pods/)[^/?]+"
        return re.sub(random, "", f"{self.verb} {self.path}")


def told_by(plane: ControlPlane, who: str, since: datetime | None = None) -> list[Told]:
    """Return answered requests in the order in which they began.

    Args:
        plane: Who was asked.
        who: As `agent` and `account` return it.
        since: Those that ended before are left out.
    """
    found = (_told(event) for event in events(plane, who) if _answered(event))
    kept = (each for each in found if since is None or each.ended >= since)
    return sorted(kept, key=lambda each: each.begun)


def refused(plane: ControlPlane, who: str) -> int:
    """Return how many requests came with a token that is worth nothing (401)."""
    return sum(each.get("responseStatus", {}).get("code") == 401 for each in events(plane, who))


def agent(begins: str) -> str:
    """Return what the log has of all whose user agent begins so."""
    return f'"userAgent":"{begins}'


def account(namespace: str, name: str = "") -> str:
    """Return what the log has of an account, or of all in a namespace."""
    return f'"username":"system:serviceaccount:{namespace}:' + (f'{name}"' if name else "")


def events(plane: ControlPlane, who: str) -> Iterator[dict]:
    """Yield what the log has of somebody, each stage of a request apart."""
    with (plane.folder / "audit.log").open() as log:
        for line in log:
            if who in line and line.endswith("\n"):  # else it is still being written
                yield json.loads(line)


def _answered(event: dict) -> bool:
    """Whether it tells a request's answer: of a watch its beginning, for the end may be far off."""
    code = event.get("responseStatus", {}).get("code", 0)
    begins = event["verb"] == "watch" and code < 300
    return event["stage"] == ("ResponseStarted" if begins else "ResponseComplete")


def _told(event: dict) -> Told:
    extra = event["user"].get("extra", {})
    return Told(
        verb=event["verb"],
        path=event["requestURI"],
        resource=event.get("objectRef", {}).get("resource", ""),
        account=event["user"].get("username", "").rpartition(":")[2],
        pod=extra.get(_POD, [""])[0],
        token=extra.get(_TOKEN, [""])[0],
        begun=datetime.fromisoformat(event["requestReceivedTimestamp"]),
        ended=datetime.fromisoformat(event["stageTimestamp"]),
        code=event.get("responseStatus", {}).get("code", 0),
    )
