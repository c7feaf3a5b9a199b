"""The same requests to two clusters, and their answers with what must differ taken out."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from contract.scripts import NAME, UID, VERSION

if TYPE_CHECKING:
    from contract.client import Answer, Cluster
    from contract.scripts import Step

_TIMES = ("creationTimestamp", "deletionTimestamp")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_RECORDED = re.compile(r"in record \(\d+\)")


@dataclass
class Side:
    """One of the two: what it was asked and what it said, in words that both have."""

    cluster: Cluster
    name: str = NAME
    _versions: dict[str, str] = field(default_factory=dict)
    _uids: dict[str, str] = field(default_factory=dict)

    def ask(self, step: Step) -> Any:
        """Send a step; return code and body as they can be compared."""
        live = self._get()
        metadata = live.body["metadata"] if live.status == 200 else {}
        body = _filled(step.body, metadata)
        path = self.cluster.path("" if step.method == "POST" else self.name)
        if step.subresource:
            path = f"{path}/{step.subresource}"
        return self._told(
            self.cluster.call(step.method, path, body, media=step.media, **step.query)
        )

    def live(self) -> Any:
        """Return the DaemonSet as it can be compared."""
        return self._told(self._get())

    def _get(self) -> Answer:
        return self.cluster.call("GET", self.cluster.path(self.name))

    def _told(self, answer: Answer) -> Any:
        if not isinstance(answer.body, dict):
            return {"code": answer.status}
        if answer.body["kind"] == "Status" and answer.status >= 300:
            return {"code": answer.status, "body": self._said(answer.body)}
        if answer.body["kind"] == "Status":
            return {
                "code": answer.status,
                "body": json.loads(_UUID.sub("uid", json.dumps(answer.body))),
            }
        return {"code": answer.status, "body": self._shown(answer.body)}

    def _said(self, status: dict[str, Any]) -> dict[str, Any]:
        status = _without_words_of_go(status)
        text = json.dumps(status).replace(self.cluster.namespace, "the namespace")
        text = _RECORDED.sub("in record (some)", _UUID.sub("some uid", text))
        return json.loads(text)

    def _shown(self, obj: dict[str, Any]) -> dict[str, Any]:
        metadata = dict(obj["metadata"]) | {"namespace": "the namespace"}
        metadata |= {key: "some time" for key in _TIMES if key in metadata}
        metadata["uid"] = self._uids.setdefault(metadata["uid"], f"uid {len(self._uids)}")
        if version := metadata.get("resourceVersion"):
            ordinal = f"version {len(self._versions)}"
            metadata["resourceVersion"] = self._versions.setdefault(version, ordinal)
        if entries := metadata.get("managedFields"):
            metadata["managedFields"] = sorted(map(_timeless, entries), key=_owner)
        return {**obj, "metadata": metadata}


def _without_words_of_go(status: dict[str, Any]) -> dict[str, Any]:
    """Leave out the words of Go's decoders, and quotations of what they made of a body.

    What remains are the words that people and the agent read: of conflicts, of server-side apply,
    and of what is invalid.
    """
    causes = status.get("details", {}).get("causes", [])
    typed = "failed to create typed patch object" in status["message"]
    if any(cause.get("field") == "patch" for cause in causes):
        return status | {"message": "", "details": {"causes": "of the patch"}}
    if status["code"] == 400 or (status["code"] == 500 and not typed):
        return status | {"message": ""}
    return status


def _filled(body: Any, metadata: dict[str, Any]) -> Any:
    """Put what the cluster knows where a word stands for it."""
    if isinstance(body, dict):
        return {key: _filled(each, metadata) for key, each in body.items()}
    if isinstance(body, list):
        return [_filled(each, metadata) for each in body]
    known = {UID: metadata.get("uid"), VERSION: metadata.get("resourceVersion")}
    return (known[body] or "999") if isinstance(body, str) and body in known else body


def _timeless(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: "some time" if key == "time" else each for key, each in entry.items()}


def _owner(entry: dict[str, Any]) -> tuple[str, ...]:
    return tuple(
        entry.get(key, "") for key in ("operation", "manager", "apiVersion", "subresource")
    )


def differences(real: Any, simulated: Any, path: str = "") -> list[str]:
    """Return where two answers differ, a line each."""
    if isinstance(real, dict) and isinstance(simulated, dict):
        keys = sorted(real.keys() | simulated.keys())
        return [
            line
            for key in keys
            for line in differences(
                real.get(key, _ABSENT), simulated.get(key, _ABSENT), f"{path}.{key}"
            )
        ]
    if isinstance(real, list) and isinstance(simulated, list) and len(real) == len(simulated):
        pairs = enumerate(zip(real, simulated, strict=True))
        return [line for index, pair in pairs for line in differences(*pair, f"{path}[{index}]")]
    return [] if _same(real, simulated) else [f"{path}: {_brief(real)}, but {_brief(simulated)}"]


_ABSENT: Any = object()


def _same(one: Any, other: Any) -> bool:
    return one is other or (type(one) is type(other) and one == other)


def _brief(value: Any) -> str:
    return "nothing" if value is _ABSENT else json.dumps(value)
