"""The way to one Sentry project.  The only importer of sentry_sdk.

The SDK's defaults send local variables, argv and log lines (all five planted secrets left the
process), lose events without a word when the server is away, and run `git` to guess a release.
Here nothing is collected, an event is what `event.py` made of it and nothing else, and every
delivery is confirmed by its HTTP status, on the caller's own thread.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import sentry_sdk
import urllib3
from sentry_sdk.transport import HttpTransport
from sentry_sdk.utils import BadDsn

from dsgitops.adapters.attempt import in_time
from dsgitops.errors import Undelivered

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from sentry_sdk.consts import EndpointType
    from sentry_sdk.envelope import Envelope
    from sentry_sdk.types import Event, Hint

DSN_BYTES_MAX = 4096
ANSWER_SECONDS = 10.0
"""To wait for the next bytes; the thread that waits is the channel's own."""
ATTEMPT_SECONDS = 20.0
"""For all of one attempt."""
_RATE_LIMITED = 60.0
"""Seconds, where a server limits us and does not say for how long."""

EVENT_FIELDS = frozenset(
    {
        "contexts",
        "environment",
        "event_id",
        "fingerprint",
        "level",
        "logentry",
        "logger",
        "platform",
        "release",
        "tags",
        "timestamp",
        "transaction",
    }
)
CHECK_IN_FIELDS = frozenset(
    {
        "type",
        "check_in_id",
        "monitor_slug",
        "status",
        "duration",
        "environment",
        "monitor_config",
        "event_id",
        "timestamp",
    }
)
CONTEXTS = frozenset({"rollout", "nodes", "diff", "source"})

_chatter = logging.getLogger("sentry_sdk.errors")
_chatter.addHandler(logging.NullHandler())
_chatter.propagate = False  # it would print bodies of answers to stderr


def only_ours(event: Event, _hint: Hint | None = None) -> Event:
    """Drop everything from an event that is not on the list, whoever put it there."""
    given: dict[str, Any] = dict(event)
    fields = CHECK_IN_FIELDS if given.get("type") == "check_in" else EVENT_FIELDS
    kept = {key: value for key, value in given.items() if key in fields}
    if "contexts" in kept:
        kept["contexts"] = {k: v for k, v in kept["contexts"].items() if k in CONTEXTS}
    return kept  # type: ignore[return-value]


class _Confirming(HttpTransport):
    """Sends at once, on the caller's thread, and keeps what came of it."""

    outcome: Undelivered | None = None

    def met(self, client: sentry_sdk.Client, event: Mapping[str, Any]) -> Undelivered | None:
        """Send an event by the client whose transport this is; return why it did not arrive."""
        self.outcome = Undelivered("the event was dropped", refused=True)
        client.capture_event(dict(event))  # type: ignore[arg-type]
        return self.outcome

    def capture_envelope(self, envelope: Envelope) -> None:
        self.outcome = Undelivered("the alert was not sent")
        limited = self._limited(envelope)
        if limited > 0:
            self.outcome = Undelivered("asked to wait", retry_after=limited)
            return
        try:
            self._send_envelope(envelope)
        except urllib3.exceptions.HTTPError as error:
            self.outcome = Undelivered(_met(error))
        except OSError as error:
            self.outcome = Undelivered(f"no answer: {error.strerror or type(error).__name__}")

    def _limited(self, envelope: Envelope) -> float:
        """Return for how many seconds the server does not want such items."""
        categories = {item.data_category for item in envelope.items} | {None}
        now = datetime.now(UTC)
        waits = [(at - now).total_seconds() for key, at in self._disabled_until.items()
                 if key in categories]  # fmt: skip
        return max(waits, default=0.0)

    def _request(
        self, method: str, endpoint_type: EndpointType, body: bytes, headers: Mapping[str, str]
    ) -> urllib3.BaseHTTPResponse:
        """Send, without following redirects, and without reading what the server says."""
        return self._pool.request(
            method,
            self._auth.get_api_url(endpoint_type),
            body=body,
            headers={**headers, "Connection": "close"},  # each attempt has one of its own
            redirect=False,
            retries=False,
            preload_content=False,
            timeout=urllib3.Timeout(total=ANSWER_SECONDS),
        )

    def _handle_response(
        self, response: urllib3.BaseHTTPResponse, envelope: Envelope | None
    ) -> None:
        self._update_rate_limits(response)
        waits = self._limited(envelope) if envelope is not None else 0.0
        self.outcome = _judged(response.status, waits)


def _judged(status: int, waits: float) -> Undelivered | None:
    """Return what an HTTP status means; None: it was taken."""
    if 200 <= status < 300:
        return None
    what = f"HTTP {status}"
    if status == 429:
        return Undelivered(what, retry_after=max(waits, 1.0) if waits else _RATE_LIMITED)
    if status in (400, 413, 422):
        return Undelivered(f"{what}: the event was refused", refused=True)
    if status in (401, 403, 404) or 300 <= status < 400:
        return Undelivered(what, remedy="check the DSN in alerts.sentry.dsnFile")
    return Undelivered(what, retry_after=waits)


def _met(error: urllib3.exceptions.HTTPError) -> str:
    """Return what stood in the way; the texts of these errors have addresses in them."""
    kinds = (
        (urllib3.exceptions.NameResolutionError, "its name cannot be resolved"),
        (urllib3.exceptions.NewConnectionError, "connection refused"),
        (urllib3.exceptions.TimeoutError, "no answer in time"),
        (urllib3.exceptions.SSLError, "its TLS certificate is not accepted"),
    )
    found = (words for kind, words in kinds if isinstance(error, kind))
    return next(found, "the connection broke")


class Uplink:
    """One Sentry project, by a DSN that may change while we run; for one thread.

    Args:
        dsn_file: Holds the DSN; read again before each attempt.
    """

    def __init__(self, dsn_file: Path) -> None:
        self._file = dsn_file
        self._dsn = ""
        self._client: sentry_sdk.Client | None = None

    def send(self, event: Mapping[str, Any]) -> None:
        """Send one event or check-in and see it confirmed.

        Raises:
            Undelivered: It was not; never with the DSN or an address in its text.
        """
        client = self._connected()
        transport = client.transport
        assert isinstance(transport, _Confirming), "made below"
        with in_time(ATTEMPT_SECONDS):
            met = transport.met(client, event)
        if met is not None:
            raise met

    def _connected(self) -> sentry_sdk.Client:
        dsn = self._read()
        if self._client is None or dsn != self._dsn:
            self._client, self._dsn = _client(dsn), dsn
        return self._client

    def _read(self) -> str:
        try:
            with self._file.open("rb") as opened:
                text = opened.read(DSN_BYTES_MAX).decode().strip()
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is no text"
            raise Undelivered(
                f"the DSN cannot be read: {why}", remedy="check alerts.sentry.dsnFile"
            ) from None
        if not text:
            raise Undelivered("the DSN file is empty", remedy="check alerts.sentry.dsnFile")
        return text


def _client(dsn: str) -> sentry_sdk.Client:
    """Return a client that collects nothing.

    Raises:
        Undelivered: The DSN is none.
    """
    try:
        return sentry_sdk.Client(
            dsn=dsn,
            transport=_Confirming,
            before_send=only_ours,
            release="",  # else it runs git
            environment="",
            server_name="",
            default_integrations=False,
            auto_enabling_integrations=False,
            auto_session_tracking=False,
            include_local_variables=False,
            include_source_context=False,
            send_client_reports=False,
            enable_backpressure_handling=False,
            max_breadcrumbs=0,
            spotlight=False,
            debug=False,
        )
    except (BadDsn, ValueError):
        raise Undelivered(
            "the DSN is not one", remedy="copy it from the project's settings, as it is"
        ) from None
