"""One POST to a forge: no redirects, every answer one of our sentences."""

from __future__ import annotations

import contextlib
import http.client
import math
import ssl
import urllib.error
import urllib.request
from typing import IO, TYPE_CHECKING

from dsgitops.errors import Undelivered

if TYPE_CHECKING:
    from email.message import Message
    from pathlib import Path

    from dsgitops.adapters.forge.dialects import Post

ANSWER_SECONDS = 10.0
"""To wait for the next bytes; the thread that waits is the repository's own."""
ANSWER_BYTES_MAX = 4096
"""Of an answer that are looked at; they are never shown."""
TOKEN_BYTES_MAX = 4096
_LIMITED_SECONDS = 60.0
"""Where a forge limits us and does not say for how long."""
_SAME_STATE = b"Cannot transition status via"
"""GitLab's answer (400) when a commit has the state already."""
_CHECK = "check status.tokenFile, status.repository and what the token may do"


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """The token goes where the settings say, and nowhere else."""

    def redirect_request(  # noqa: PLR0913, PLR0917 - urllib's signature
        self,
        req: urllib.request.Request,  # noqa: ARG002
        fp: IO[bytes],  # noqa: ARG002
        code: int,  # noqa: ARG002
        msg: str,  # noqa: ARG002
        headers: Message,  # noqa: ARG002
        newurl: str,  # noqa: ARG002
    ) -> None:
        """Follow none."""
        return


def read_token(file: Path) -> str:
    """Return the token in a file.

    Raises:
        Undelivered: There is none that could stand in a header.
    """
    remedy = "check status.tokenFile"
    try:
        with file.open("rb") as opened:
            token = opened.read(TOKEN_BYTES_MAX).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no plain text"
        raise Undelivered(f"the token cannot be read: {why}", remedy=remedy) from None
    if not token or not token.isprintable():
        what = "has several lines" if token else "is empty"
        raise Undelivered(f"the token's file {what}", remedy=remedy)
    return token


def send(post: Post, ca_file: Path | None) -> None:
    """Send one request and see it taken.

    Args:
        post: What is sent.
        ca_file: Certificates that are believed instead of the system's.

    Raises:
        Undelivered: It was not taken; never with an address, a token or the answer's text.
    """
    request = urllib.request.Request(  # noqa: S310 - https, or http to loopback: the settings
        post.url, data=post.body, headers=dict(post.headers), method="POST"
    )
    try:
        with _opener(post.url, ca_file).open(request, timeout=ANSWER_SECONDS) as answer:
            status = int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            _refuse(error)
        return
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Undelivered(_met(error)) from None
    if not 200 <= status < 300:
        raise Undelivered(f"HTTP {status}")


def _opener(url: str, ca_file: Path | None) -> urllib.request.OpenerDirector:
    handlers: list[urllib.request.BaseHandler] = [_NoRedirects()]
    if ca_file or url.startswith("https:"):  # reading the system's certificates takes 45 ms
        handlers.append(urllib.request.HTTPSHandler(context=_context(ca_file)))
    return urllib.request.build_opener(*handlers)


def _context(ca_file: Path | None) -> ssl.SSLContext:
    """Read the certificates anew: they may have been renewed."""
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        why = error.strerror or "it holds no certificates"
        raise Undelivered(f"caFile cannot be used: {why}", remedy="check status.caFile") from None


def _refuse(error: urllib.error.HTTPError) -> None:
    """Raise what an HTTP status means; return where the forge has that state already.

    Raises:
        Undelivered: Always else.
    """
    code, waits = error.code, _asked(error.headers)
    what = f"HTTP {code}"
    if code == 400 and _says(error, _SAME_STATE):
        return
    if code == 429 or (code == 403 and waits):
        raise Undelivered(f"{what}: asked to wait", retry_after=waits or _LIMITED_SECONDS)
    if 300 <= code < 400:
        raise Undelivered(f"{what}: a redirect, which is not followed", remedy="check status.url")
    if code == 401:
        raise Undelivered(f"{what}: the token is not accepted", remedy=_CHECK)
    if code in (403, 404):
        raise Undelivered(f"{what}: the token may not tell the status there", remedy=_CHECK)
    if code in (400, 410, 413, 422):
        raise Undelivered(f"{what}: the status was refused", refused=True)
    raise Undelivered(what, retry_after=waits)


def _says(error: urllib.error.HTTPError, words: bytes) -> bool:
    with contextlib.suppress(OSError, http.client.HTTPException):
        return words in error.read(ANSWER_BYTES_MAX)
    return False


def _asked(headers: Message) -> float:
    """Return for how many seconds a forge asked to be left alone; 0: it did not."""
    after = _number(headers.get("Retry-After"))
    if after or headers.get("X-RateLimit-Remaining") != "0":
        return after
    return _LIMITED_SECONDS


def _number(text: str | None) -> float:
    try:
        found = float(text or 0)
    except ValueError:
        return _LIMITED_SECONDS  # a date
    return found if math.isfinite(found) and found > 0 else 0.0


def _met(error: Exception) -> str:
    """Return what stood in the way; the texts of these errors have addresses in them."""
    reason = getattr(error, "reason", error)
    if isinstance(reason, ssl.SSLError):
        return "its TLS certificate is not accepted"
    if isinstance(reason, TimeoutError):
        return "no answer in time"
    if isinstance(reason, ConnectionRefusedError):
        return "connection refused"
    name = type(reason).__name__
    return "its name cannot be resolved" if name == "gaierror" else "the connection broke"
