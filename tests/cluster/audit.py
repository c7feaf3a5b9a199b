"""What the agents of pods asked of the API server: each by the pod that its token is bound to."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cluster.control_plane import ControlPlane

_TOKEN = "authentication.kubernetes.io/credential-id"
_POD = "authentication.kubernetes.io/pod-name"
_WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})


@dataclass(frozen=True)
class Told:
    """One request that was answered."""

    verb: str
    path: str
    resource: str
    pod: str
    """Who asked; empty: its token is bound to no pod."""
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
    def acts(self) -> bool:
        """Whether it was to change a DaemonSet or a pod: two agents must not at the same time."""
        return self.writes and self.resource in {"daemonsets", "pods"}

    @property
    def change(self) -> str:
        """What it changed, without the random names in it."""
        return re.sub(r"(?<=/pods/)[^/?]+", "", f"{self.verb} {self.path}")


def told_by(plane: ControlPlane, account: str, since: datetime | None = None) -> list[Told]:
    """Return the requests of an account (`namespace:name`) in the order in which they began."""
    user, found = f"system:serviceaccount:{account}", []
    for line in (plane.folder / "audit.log").read_text().splitlines(keepends=True):
        if not line.endswith("\n") or f'"{user}"' not in line:
            continue  # still being written, or another's
        event = json.loads(line)
        if _answered(event) and event["user"]["username"] == user:
            found.append(_told(event))
    kept = (each for each in found if since is None or each.ended >= since)
    return sorted(kept, key=lambda each: each.begun)


def refused(plane: ControlPlane, agent: str) -> int:
    """Return how many requests of a user agent came with a token that is worth nothing (401)."""
    lines = (plane.folder / "audit.log").read_text().splitlines(keepends=True)
    events = [json.loads(line) for line in lines if line.endswith("\n") and '"code":401' in line]
    return sum(each["userAgent"].startswith(agent) for each in events)


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
        pod=extra.get(_POD, [""])[0],
        token=extra.get(_TOKEN, [""])[0],
        begun=datetime.fromisoformat(event["requestReceivedTimestamp"]),
        ended=datetime.fromisoformat(event["stageTimestamp"]),
        code=event.get("responseStatus", {}).get("code", 0),
    )
