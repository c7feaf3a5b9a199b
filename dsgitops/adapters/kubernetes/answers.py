"""What an answer of the API server means for us: nothing, look again, never, or later.

The rules are those observed on a real control plane (`cluster.md` 1.1, 7.2, 12).
Messages of the server quote values of manifests, which may be secrets: our texts are made of field
paths and of a closed list of phrases only.
"""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import msgspec

from dsgitops.errors import ActionRefused, ClusterUnreachable, DsgitopsError, Stale

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from dsgitops.ports import Response

RETRY_AFTER_MAX = 300.0
"""Seconds.  A server that asks for more is asked again all the same."""
FIELDS_MAX = 8
"""Fields that are named in one error."""


class Cause(msgspec.Struct):
    """One of `details.causes` of a Status."""

    reason: str = ""
    message: str = ""
    field: str = ""


class Details(msgspec.Struct, rename="camel"):
    """`details` of a Status."""

    name: str = ""
    kind: str = ""
    causes: list[Cause] | None = None
    retry_after_seconds: float = 0


class Status(msgspec.Struct):
    """The body of an answer that is not what was asked for (metav1.Status)."""

    kind: str = ""
    reason: str = ""
    message: str = ""
    code: int = 0
    details: Details | None = None

    @property
    def causes(self) -> list[Cause]:
        """`details.causes`, empty where there are none."""
        return (self.details and self.details.causes) or []


_STATUS = msgspec.json.Decoder(Status)
_OBJECT = msgspec.json.Decoder(dict[str, Any])


def read_status(body: bytes) -> Status:
    """Read a Status; an empty one where the body is something else (HTML, plain text)."""
    try:
        return _STATUS.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Status()


def fault(response: Response, *, doing: str, now: datetime) -> DsgitopsError | None:
    """Return what is wrong with an answer; None: it is what was asked for.

    Args:
        response: The whole answer.
        doing: What was asked for, as it continues "cannot": `patch DaemonSet logging/fluentd`.
        now: To read a `Retry-After` that is a date.

    Returns:
        `Stale`: a precondition failed, nothing was done.  `ActionRefused`: the same request will
        be refused again.  `ClusterUnreachable`: later; `landed` says whether it had an effect.
    """
    status = response.status
    if 200 <= status < 300:
        return None if response.body[:1] == b"{" else _not_an_api(doing)
    if status < 400:
        return _not_an_api(doing)
    known = read_status(response.body)
    meaning = _MEANINGS.get(status)
    if meaning is not None:
        return meaning(known, doing)
    if status == 429:
        return ClusterUnreachable(
            f"cannot {doing}: the API server is busy (429)",
            retry_after=retry_after(response, now),
            landed=False,
        )
    if status >= 500:
        return ClusterUnreachable(
            f"cannot {doing}: the API server answered {status}",
            retry_after=retry_after(response, now),
        )
    return ActionRefused(f"cannot {doing}: the API server answered {status}", code=status)


def read_object(response: Response) -> dict[str, Any]:
    """Return the object of an answer.

    Raises:
        ClusterUnreachable: It is none: something stands between us and the API server.
    """
    try:
        content = _OBJECT.decode(response.body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        content = {}
    if not isinstance(content.get("metadata"), dict):
        raise ClusterUnreachable("the API server answered with something that is no object")
    return content


def retry_after(response: Response, now: datetime) -> float:
    """Return the seconds that an answer asks to wait: header `Retry-After` or the Status; 0: none.

    Args:
        response: Any answer.
        now: For a header that holds a date.
    """
    given = response.headers.get("retry-after", "").strip()
    seconds = _seconds(given, now) if given else 0.0
    if not seconds:
        details = read_status(response.body).details
        seconds = details.retry_after_seconds if details is not None else 0.0
    return min(max(seconds, 0.0), RETRY_AFTER_MAX)


def _seconds(given: str, now: datetime) -> float:
    if given.isdecimal():
        return float(given[:6])
    try:
        return (parsedate_to_datetime(given) - now).total_seconds()
    except (ValueError, TypeError):  # no date, or one without a zone
        return 0.0


def _not_an_api(doing: str) -> ClusterUnreachable:
    return ClusterUnreachable(
        f"cannot {doing}: the answer is not from a Kubernetes API server",
        remedy="a proxy or a login page may stand in between: check the server's address",
    )


# ---------------------------------------------------------------------------- by status code


def _bad_request(known: Status, doing: str) -> DsgitopsError:
    names = dict.fromkeys(_NAMED_IN_STRICT.findall(known.message))
    fields = tuple(name for name in names if name)[:FIELDS_MAX]
    if fields:
        return ActionRefused(
            f"cannot {doing}: unknown or repeated fields: {', '.join(fields)}",
            remedy="remove or correct these fields in Git",
            code=400,
            fields=fields,
        )
    return ActionRefused(
        f"cannot {doing}: the API server cannot read the request (400)",
        remedy="check the manifest's apiVersion, kind, name and namespace",
        code=400,
    )


def _unauthorized(_known: Status, doing: str) -> DsgitopsError:
    return ClusterUnreachable(
        f"cannot {doing}: the API server does not accept the credentials (401)",
        remedy="renew the token or the kubeconfig; it is read again before each new try",
        landed=False,
    )


def _forbidden(known: Status, doing: str) -> DsgitopsError:
    if any(cause.reason == "NamespaceTerminating" for cause in known.causes):
        return ActionRefused(f"cannot {doing}: the namespace is being deleted", code=403)
    missing = _RIGHT.search(known.message)
    if missing is not None:
        verb, resource, group = missing["verb"], missing["resource"], missing["group"]
        where = f"in namespace {missing['ns']}" if missing["ns"] else "in the whole cluster"
        what = f"{resource}.{group}" if group else resource
        return ActionRefused(
            f"cannot {doing}: no right to {verb} {what} {where}",
            remedy=f"grant '{verb}' on {what} {where} to this account",
            code=403,
        )
    hook = _WEBHOOK.search(known.message)
    by = f"admission webhook {hook[1]}" if hook is not None else "the cluster's admission control"
    return ActionRefused(
        f"cannot {doing}: refused by {by}",
        remedy="see its policy (quota, Pod Security, webhook); it is tried again from time to time",
        code=403,
    )


def _not_found(known: Status, doing: str) -> DsgitopsError:
    if known.kind != "Status":
        return _not_an_api(doing)
    about = known.details.kind if known.details is not None else ""
    if about == "namespaces" or known.message.startswith('namespaces "'):
        return ActionRefused(
            f"cannot {doing}: the namespace does not exist",
            remedy="create the namespace; it is tried again from time to time",
            code=404,
        )
    if not about and "the requested resource" in known.message:
        return ActionRefused(
            f"cannot {doing}: the API server does not know this resource",
            remedy="a Kubernetes API server with apps/v1 is needed",
            code=404,
        )
    return Stale(f"cannot {doing}: it does not exist any more")


def _conflict(known: Status, doing: str) -> DsgitopsError:
    owned = [cause for cause in known.causes if cause.reason == "FieldManagerConflict"]
    if not owned:
        return Stale(f"cannot {doing}: it was changed or replaced meanwhile")
    fields = _unique(cause.field.lstrip(".") for cause in owned)
    managers = _unique(found[1] for cause in owned if (found := _MANAGER.search(cause.message)))
    return ActionRefused(
        f"cannot {doing}: {', '.join(managers) or 'another manager'} owns {', '.join(fields)}",
        remedy="let the other manager go, or leave the fields to it with dsgitops.io/ignore-diff",
        code=409,
        fields=fields,
    )


def _gone(_known: Status, doing: str) -> DsgitopsError:
    return Stale(f"cannot {doing}: the API server no longer has that version (410)")


def _too_large(_known: Status, doing: str) -> DsgitopsError:
    return _oversized(doing, 413)


def _invalid(known: Status, doing: str) -> DsgitopsError:
    if any(cause.field == "metadata.uid" for cause in known.causes):
        return Stale(f"cannot {doing}: it was deleted and made anew meanwhile")
    told = _unique(f"{cause.field} {_phrase(cause)}" for cause in known.causes if cause.field)
    fields = _unique(cause.field for cause in known.causes if cause.field)
    if not fields:
        return ActionRefused(f"cannot {doing}: the content is not valid (422)", code=422)
    immutable = any("field is immutable" in cause.message for cause in known.causes)
    return ActionRefused(
        f"cannot {doing}: {'; '.join(told)}",
        remedy="go back to the old value in Git, or delete the DaemonSet by hand"
        if immutable
        else "correct these fields in Git",
        code=422,
        fields=fields,
    )


def _internal(known: Status, doing: str) -> DsgitopsError:
    if "request is too large" in known.message:
        return _oversized(doing, 500)
    if not known.message.startswith("failed to create typed patch object"):
        return ClusterUnreachable(f"cannot {doing}: the API server answered 500")
    found = _TYPED.findall(known.message)
    told = _unique(f"{path.lstrip('.')} {_typed_phrase(tail)}" for path, tail in found)
    return ActionRefused(
        f"cannot {doing}: {'; '.join(told) or 'a field is unknown or has the wrong type'}",
        remedy="correct these fields in Git",
        code=500,
        fields=_unique(path.lstrip(".") for path, _ in found),
    )


_MEANINGS = {
    400: _bad_request,
    401: _unauthorized,
    403: _forbidden,
    404: _not_found,
    409: _conflict,
    410: _gone,
    413: _too_large,
    422: _invalid,
    500: _internal,
}


# ---------------------------------------------------------------------------- words

_RIGHT = re.compile(
    r'cannot (?P<verb>[a-z]+) resource "(?P<resource>[a-z./]+)"'
    r' in API group "(?P<group>[a-z0-9.]*)"'
    r'(?: in the namespace "(?P<ns>[a-z0-9-]+)")?'
)
_WEBHOOK = re.compile(r'admission webhook "([A-Za-z0-9.-]{1,253})" denied')
_MANAGER = re.compile(r'conflict with "([^"\n]{1,128})"')
_NAMED_IN_STRICT = re.compile(
    r'(?:unknown field|duplicate field|key) "([A-Za-z0-9_.\[\]/-]{1,256})"'
)
_TYPED = re.compile(r"(?:^|\s)(\.[A-Za-z](?:\[[^\]\n]*\]|[^\s:\[])*): ([^\n]*)")

_PHRASES = (
    "field is immutable",
    "may not be set when maxUnavailable is non-zero",
    "cannot be 0 when maxSurge is 0",
    "`selector` does not match template `labels`",
    "must not be greater than 100%",
    "must be greater than or equal to 0",
    "a valid percent string must be",
    "may not specify more than 1 volume type",
    "must be no more than 63 characters",
    "must match the name of",
)
"""Tails of the server's messages that hold no value of the manifest."""
_WORDS = {
    "FieldValueDuplicate": "is given twice",
    "FieldValueForbidden": "is not allowed here",
    "FieldValueInvalid": "is not valid",
    "FieldValueNotFound": "names something that is not there",
    "FieldValueNotSupported": "has a value that is not supported",
    "FieldValueRequired": "is required",
    "FieldValueTooLong": "is too long",
    "FieldValueTooMany": "has too many items",
    "FieldValueTypeInvalid": "has the wrong type",
}


def _phrase(cause: Cause) -> str:
    for phrase in _PHRASES:
        if phrase in cause.message:
            wanted = phrase.removesuffix(" must be")
            return f"(must be {wanted})" if wanted != phrase else f"({phrase})"
    return _WORDS.get(cause.reason, "is not accepted")


def _typed_phrase(tail: str) -> str:
    if tail.startswith("field not declared in schema"):
        return "is not a known field"
    if tail.startswith("duplicate entries"):
        return "holds the same key twice"
    wanted = re.match(r"expected (string|number|numeric|boolean|map|list|scalar)\b", tail)
    return f"has the wrong type (expected {wanted[1]})" if wanted else "does not fit"


def _unique(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts))[:FIELDS_MAX]


def _oversized(doing: str, code: int) -> ActionRefused:
    return ActionRefused(
        f"cannot {doing}: the object is too large for the API server",
        remedy="make the manifest smaller: about 1.5 MB is the limit, annotations 256 KiB",
        code=code,
    )
