"""Answers that say no: the API server's Status bodies, word for word (`cluster.md` 1 to 9)."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dsgitops.ports import Response

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dsgitops.sim.causes import Cause
    from dsgitops.sim.resources import Resource
    from dsgitops.sim.schema import Object


class Refused(Exception):
    """The request is answered with a Status."""

    def __init__(self, status: Object, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status.get("message", ""))
        self.status = status
        self.headers = dict(headers or {})

    @property
    def code(self) -> int:
        """Return the HTTP status code."""
        return int(self.status["code"])

    def response(self) -> Response:
        """Return the answer as sent."""
        return answer(self.code, self.status, self.headers)


def answer(code: int, body: Any, headers: Mapping[str, str] | None = None) -> Response:  # noqa: ANN401
    """Return a JSON answer."""
    data = json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
    return Response(
        status=code, body=data, headers={"content-type": "application/json", **(headers or {})}
    )


def text(code: int, body: str) -> Response:
    """Return an answer in plain text."""
    return Response(
        status=code, body=body.encode(), headers={"content-type": "text/plain; charset=utf-8"}
    )


def status(code: int, reason: str, message: str, details: Object | None = None) -> Object:
    """Return a Status of failure; an empty reason is left out."""
    body: Object = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
    }
    if reason:
        body["reason"] = reason
    if details is not None:
        body["details"] = details
    body["code"] = code
    return body


def too_large() -> Refused:
    """Return 413 of a body over 3 MiB."""
    message = "Request entity too large: limit is 3145728"
    return Refused(status(413, "RequestEntityTooLarge", message))


def quoted(text: str) -> str:
    """Return text as a quoted string of an HTTP header."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def success(details: Object | None = None, code: int = 200) -> Object:
    """Return a Status of success."""
    body: Object = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
    if details is not None:
        return body | {"details": details}
    return body | {"code": code}


def _details(resource: Resource, name: str, **more: Any) -> Object:  # noqa: ANN401 - any JSON
    group = {"group": resource.group} if resource.group else {}
    return {"name": name, **group, "kind": resource.plural, **more}


def bad_request(message: str) -> Refused:
    """Return 400."""
    return Refused(status(400, "BadRequest", message))


def internal(message: str) -> Refused:
    """Return 500 without a reason, as structured merge and etcd errors come."""
    return Refused(status(500, "", message))


def not_found(resource: Resource, name: str) -> Refused:
    """Return 404 of an object."""
    message = f'{resource.qualified} "{name}" not found'
    return Refused(status(404, "NotFound", message, _details(resource, name)))


def no_such_path() -> Refused:
    """Return 404 of a path that nothing serves."""
    message = "the server could not find the requested resource"
    return Refused(status(404, "NotFound", message, {}))


def already_exists(resource: Resource, name: str, *, leaving: bool = False) -> Refused:
    """Return 409 of a name that is taken, perhaps by an object that is being deleted."""
    message = f'{resource.qualified} "{name}" already exists'
    message = f"object is being deleted: {message}" if leaving else message
    return Refused(status(409, "AlreadyExists", message, _details(resource, name)))


def conflict(resource: Resource, name: str, why: str, *, of_kind: bool = False) -> Refused:
    """Return 409 of a precondition.

    Args:
        resource: Of what.
        name: Of which.
        why: The end of the message.
        of_kind: Name the kind where others name the resource, as deletes do.
    """
    details = _details(resource, name)
    qualified = resource.qualified
    if of_kind:
        details |= {"kind": resource.kind}
        qualified = f"{resource.kind}.{resource.group}" if resource.group else resource.kind
    message = f'Operation cannot be fulfilled on {qualified} "{name}": {why}'
    return Refused(status(409, "Conflict", message, details))


MODIFIED = (
    "the object has been modified; please apply your changes to the latest version and try again"
)


def apply_conflict(message: str, causes: Sequence[Object]) -> Refused:
    """Return 409 of fields that others own."""
    return Refused(status(409, "Conflict", message, {"causes": list(causes)}))


def invalid(resource: Resource, name: str, causes: Sequence[Cause]) -> Refused:
    """Return 422 with its causes; they repeat where the API server repeats them."""
    listed = [f"{each.field}: {each.message}" for each in dict.fromkeys(causes)]
    joined = listed[0] if len(listed) == 1 else "[" + ", ".join(listed) + "]"
    kind = f"{resource.kind}.{resource.group}" if resource.group else resource.kind
    details: Object = {"name": name} if name else {}
    if resource.group:
        details["group"] = resource.group
    details |= {
        "kind": resource.kind,
        "causes": [
            {"reason": each.reason, "message": each.message, "field": each.field} for each in causes
        ],
    }
    return Refused(status(422, "Invalid", f'{kind} "{name}" is invalid: {joined}', details))


def invalid_options(kind: str, cause: Cause) -> Refused:
    """Return 422 of the query's options."""
    message = f'{kind}.meta.k8s.io "" is invalid: {cause.field}: {cause.message}'
    details = {
        "group": "meta.k8s.io",
        "kind": kind,
        "causes": [{"reason": cause.reason, "message": cause.message, "field": cause.field}],
    }
    return Refused(status(422, "Invalid", message, details))


def rejected_patch() -> Refused:
    """Return 422 of a JSON patch whose `test` failed."""
    message = "the server rejected our request due to an error in our request"
    return Refused(status(422, "Invalid", message, {}))


def unsupported_media(allowed: Sequence[str]) -> Refused:
    """Return 415."""
    message = (
        "the body of the request was in an unknown format - accepted media types include: "
        + ", ".join(allowed)
    )
    return Refused(status(415, "UnsupportedMediaType", message, {}))


def not_acceptable() -> Refused:
    """Return 406."""
    message = "only the following media types are accepted: application/json"
    return Refused(status(406, "NotAcceptable", message))


def method_not_allowed() -> Refused:
    """Return 405."""
    message = "the server does not allow this method on the requested resource"
    return Refused(status(405, "MethodNotAllowed", message, {}))


def unauthorized() -> Refused:
    """Return 401."""
    return Refused(status(401, "Unauthorized", "Unauthorized"))


def forbidden(resource: Resource, name: str, why: str, causes: Sequence[Object] = ()) -> Refused:
    """Return 403 of authorization or admission."""
    quoted = f'{resource.qualified} "{name}"' if name else resource.qualified
    details: Object = {"name": name} if name else {}
    if resource.group:
        details["group"] = resource.group
    details["kind"] = resource.plural
    if causes:
        details["causes"] = list(causes)
    return Refused(status(403, "Forbidden", f"{quoted} is forbidden: {why}", details))


def expired(message: str) -> Refused:
    """Return 410."""
    return Refused(status(410, "Expired", message))


def too_large_version(wanted: int, current: int) -> Refused:
    """Return 504 of a list at a version that has not come yet."""
    message = f"Timeout: Too large resource version: {wanted}, current: {current}"
    cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
    details = {"causes": [cause], "retryAfterSeconds": 1}
    return Refused(status(504, "Timeout", message, details), {"retry-after": "1"})


def too_many_requests(seconds: int) -> Response:
    """Return 429 of priority and fairness: plain text, no Status."""
    answered = text(429, "Too many requests, please try again later.\n")
    return replace(answered, headers={**answered.headers, "retry-after": str(seconds)})


def unavailable(message: str) -> Refused:
    """Return 503."""
    return Refused(status(503, "ServiceUnavailable", message))
