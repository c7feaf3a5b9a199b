"""Messengers (Slack, mail, Matrix…) as channels for alerts.  The only importer of apprise.

The package is an extra, `dsgitops[notify]`.  Its addresses are secrets: they are read from a file,
and its own log lines, which may quote them and what services answer, go nowhere.
"""

from __future__ import annotations

import importlib.util
import logging
import re
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from dsgitops.adapters.attempt import in_time
from dsgitops.adapters.git.address import Fault
from dsgitops.core.alerts import Kind
from dsgitops.errors import Undelivered, UsageError

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from dsgitops.core.alerts import Alert

URLS_MAX = 20
"""Addresses in one file."""
URL_FILE_BYTES_MAX = 64 * 1024
MESSAGE_SECONDS = 60.0
"""For all that one address has sent: it may name several rooms, which are told with pauses."""
REMEMBERED_MAX = 64
"""Alerts of which it is remembered which services have them."""
_INSTALL = "pip install 'dsgitops[notify]'"
_KINDS = {Kind.FAILURE: "failures", Kind.RECOVERY: "recoveries"}
_HTTP_CODE = re.compile(r"\berror=(\d{3})\b")
_FINAL = frozenset({400, 413, 422})
"""Answers that will not change: the service does not want this message."""

log = logging.getLogger("dsgitops.alerts")


class _Thread(threading.local):
    """What holds for the thread that sends."""

    sends: bool = False
    code: int = 0
    """The last HTTP code that apprise named; 0: none."""


_here = _Thread()


class _Codes(logging.Handler):
    """Keeps the HTTP codes that apprise's log lines name, and nothing else of them."""

    def emit(self, record: logging.LogRecord) -> None:
        found = _HTTP_CODE.search(record.getMessage())
        if found is not None:
            _here.code = int(found[1])


class _Hush(logging.Filter):
    """Drops what urllib3 says while a message is sent: its lines have addresses in them."""

    def filter(self, record: logging.LogRecord) -> bool:  # noqa: ARG002
        return not _here.sends


_codes, _hush = _Codes(logging.WARNING), _Hush()


def missing() -> Fault | None:
    """Say what is missing to send messages; None: nothing."""
    if importlib.util.find_spec("apprise") is not None:
        return None
    return Fault("needs the package apprise, which is not installed", _INSTALL)


def _apprise() -> Any:  # noqa: ANN401 - its types are not ours
    """Load the package, and silence it.

    Raises:
        UsageError: It is not installed.
    """
    try:
        import apprise  # noqa: PLC0415 - an extra, and slow to load
    except ImportError:
        raise UsageError("alerts.notify needs the package apprise", remedy=_INSTALL) from None
    chatter = logging.getLogger("apprise")
    chatter.handlers[:] = [_codes]
    chatter.propagate = False
    chatter.setLevel(logging.WARNING)
    for name in ("connection", "connectionpool", "util.retry"):
        logging.getLogger(f"urllib3.{name}").addFilter(_hush)
    return apprise


class NotifyChannel:
    """`ports.Channel` to the services that one file names.

    Args:
        url_file: Addresses as apprise writes them, one a line; read again for each alert.
        cluster: Its name in the settings.
        on: Which alerts are told: `failures`, `recoveries`.
        name: For people and logs.

    Raises:
        UsageError: The package is not installed.
    """

    def __init__(
        self, url_file: Path, *, cluster: str, on: Collection[str], name: str = "notify"
    ) -> None:
        self.name = name
        self._file = url_file
        self._cluster = cluster
        self._on = frozenset(on)
        self._apprise = _apprise()
        self._taken: OrderedDict[str, set[str]] = OrderedDict()
        """Addresses that have an alert already, by its id."""

    def deliver(self, alert: Alert) -> None:
        """See `ports.Channel`: each service is told once by this process, whatever others do."""
        if _KINDS[alert.kind] not in self._on:
            return
        urls = self._read()
        taken = self._taken.setdefault(alert.id, set())
        while len(self._taken) > REMEMBERED_MAX:
            self._taken.popitem(last=False)
        wrong = [fault for at, url in urls if url not in taken
                 if (fault := self._tell(at, url, alert, taken)) is not None]  # fmt: skip
        lasting = [each for each in wrong if not each.refused]
        if lasting:
            raise lasting[0]
        self._taken.pop(alert.id, None)
        if wrong:
            raise wrong[0]

    def _tell(self, at: int, url: str, alert: Alert, taken: set[str]) -> Undelivered | None:
        """Tell one service; return what stood in the way.

        Args:
            at: Line of the file.
            url: The address.
            alert: What is told.
            taken: The addresses that have it; this one joins them.
        """
        service = self._service(url)
        if service is None:
            remedy = f"mend line {at} of the file; apprise's documentation has the forms"
            return Undelivered(f"line {at} is no address that apprise knows", remedy=remedy)
        if self._sent(service, alert):
            taken.add(url)
            return None
        code = _here.code
        if code in _FINAL:
            taken.add(url)
        return _refusal(str(service.service_name), at, code)

    def _service(self, url: str) -> Any:  # noqa: ANN401 - as above
        asset = self._apprise.AppriseAsset(
            app_id="dsgitops",
            app_desc="dsgitops",
            http_redirects=False,  # addresses hold tokens
            allow_templates=False,
        )
        return self._apprise.Apprise.instantiate(url, asset=asset, suppress_exceptions=True)

    def _sent(self, service: Any, alert: Alert) -> bool:  # noqa: ANN401 - as above
        _here.sends, _here.code = True, 0
        try:
            with in_time(MESSAGE_SECONDS):
                done = service.notify(
                    title=f"[{self._cluster}] {alert.title}",
                    body=body_of(alert),
                    notify_type=_urgency(alert),
                    body_format="text",
                )
        except Exception as error:  # noqa: BLE001 - plugins raise what they like, with addresses
            log.debug("channel %s: %s", self.name, type(error).__name__)
            return False
        finally:
            _here.sends = False
        return bool(done)

    def _read(self) -> list[tuple[int, str]]:
        """Return the addresses with their lines.

        Raises:
            Undelivered: There are none.
        """
        remedy = "check alerts.notify and its urlFile"
        try:
            with self._file.open("rb") as opened:
                text = opened.read(URL_FILE_BYTES_MAX).decode()
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is no text"
            raise Undelivered(f"the addresses cannot be read: {why}", remedy=remedy) from None
        lines = enumerate((line.strip() for line in text.splitlines()), start=1)
        urls = [(at, line) for at, line in lines if line and not line.startswith("#")]
        if not urls:
            raise Undelivered("the file has no address", remedy=remedy)
        return urls[:URLS_MAX]


def body_of(alert: Alert) -> str:
    """Return the text of a message: the sentence, and where it comes from."""
    origin = " ".join(part for part in (alert.source, alert.path, alert.commit) if part)
    return f"{alert.sentence}\n{origin}" if origin else alert.sentence


def _urgency(alert: Alert) -> str:
    if alert.kind is Kind.RECOVERY:
        return "success"
    return "failure" if alert.level == "fatal" else "warning"


def _refusal(service: str, at: int, code: int) -> Undelivered:
    """Return what a service's answer means; `code` 0: it gave none that is known."""
    name = "".join(each for each in service if each.isprintable())[:40]
    if code in _FINAL:
        return Undelivered(f"{name} refused the message: HTTP {code}", refused=True)
    if code in (401, 403, 404):
        remedy = f"check the address in line {at} of the file"
        return Undelivered(f"{name} answered HTTP {code}", remedy=remedy)
    if code:
        return Undelivered(f"{name} answered HTTP {code}")
    return Undelivered(f"{name} did not take the message", remedy=f"check line {at} of the file")
