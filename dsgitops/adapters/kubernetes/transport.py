"""HTTP to a real API server: the only module that imports the `kubernetes` package.

Of the package we use what nobody should write again: kubeconfig, exec plugins, the service
account, TLS and proxies.  Its typed models are not used: they refuse fields that are newer than
the package, and take twenty times the memory of raw JSON.  Every request has deadlines: connect,
next byte, whole answer.  Neither headers nor bodies are logged, here or anywhere.

The package takes most of a second to import, so it is imported where a cluster is named.
"""

from __future__ import annotations

import os
import ssl
import threading
import time
from collections import deque
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from dsgitops.errors import ClusterUnreachable, UsageError
from dsgitops.ports import NONE, Response

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    import urllib3

    from dsgitops.ports import Request, Wake

CONNECT_SECONDS = 5.0
"""For TCP, and again for TLS."""
ANSWER_SECONDS_MAX = 90.0
"""For a whole answer, however steadily it drips."""
ANSWER_BYTES_MAX = 256 * 1024 * 1024
"""Decoded.  A page of 500 pods has some 3 MiB."""
CHUNK_BYTES = 256 * 1024
BACKLOG_BYTES_MAX = 2 * 1024 * 1024
"""Watched lines that nobody took yet; beyond it we stop reading and TCP holds the server back."""
LINE_BYTES_MAX = 8 * 1024 * 1024
"""Etcd stores no object larger than some 1.5 MiB."""
RENEWAL_SECONDS = 10.0
"""Credentials that were read so recently are not read again for another 401."""
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
HOME = Path("~/.kube/config")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


# ---------------------------------------------------------------------------- which cluster


@dataclass(frozen=True, slots=True)
class Access:
    """An API server and the means to talk to it, as read from a kubeconfig or the pod."""

    configuration: Any
    """`kubernetes.client.Configuration`: address, credentials (renewed by its own hook), TLS."""
    namespace: str = "default"
    """Where the person works, or the pod lives."""


def connect(
    kubeconfig: str | None = None,
    *,
    context: str | None = None,
    insecure: bool = False,
    home: bool = False,
    environ: Mapping[str, str] | None = None,
) -> HttpTransport:
    """Return a transport to the cluster that the person or the surroundings name.

    No request is made yet.  Looked for in this order: `kubeconfig`, `KUBECONFIG`, the service
    account of the pod we run in, and, where `home` allows it, `~/.kube/config`.

    Args:
        kubeconfig: A path, or several joined by `:`, as `KUBECONFIG` has them.
        context: The context to use; None: the current one.
        insecure: Allow what gives credentials away: `insecure-skip-tls-verify` or plain HTTP to a
            server that is not on loopback.
        home: Whether to look into the home directory last (commands do, the agent does not).
        environ: The environment; None: the process's.

    Raises:
        UsageError: There is no such file, context or cluster, or it may not be used.
    """
    around = os.environ if environ is None else environ
    inside = bool(around.get("KUBERNETES_SERVICE_HOST"))
    files = kubeconfig or around.get("KUBECONFIG", "")
    if not files and not inside and home and HOME.expanduser().exists():
        files = str(HOME.expanduser())
    if files:
        return HttpTransport(lambda: _of_files(files, context, inside=inside), insecure=insecure)
    if inside:
        return HttpTransport(_of_service_account)
    raise UsageError(
        "no cluster is named",
        remedy="give --kubeconfig or set KUBECONFIG; inside a cluster the service account is used",
    )


def _of_files(files: str, context: str | None, *, inside: bool) -> Access:
    from kubernetes.client import Configuration  # noqa: PLC0415 - see the module's docstring

    configuration = Configuration()
    loader, runs_program = _loaded(files, context)
    if inside and runs_program:
        raise UsageError(
            "the kubeconfig starts a program (exec), which is not allowed inside a cluster",
            remedy="use the pod's service account: leave out --kubeconfig and KUBECONFIG",
        )
    with _reading():
        loader.load_and_set(configuration)
        namespace = loader.current_context["context"].get("namespace")
    if runs_program and not (configuration.api_key or configuration.cert_file):
        raise UsageError(
            "the program that the kubeconfig names (exec) gave no credentials",
            remedy="run it by hand to see why",
        )
    return Access(configuration, str(namespace or "default"))


def _loaded(files: str, context: str | None) -> tuple[Any, bool]:
    """Return the package's loader, set to the context, and whether the user has a program run."""
    from kubernetes.config import kube_config  # noqa: PLC0415 - see the module's docstring

    package: Any = kube_config  # it has no types
    with _reading():
        merged = package.KubeConfigMerger(files).config
    if merged is None:
        raise UsageError(f"there is no kubeconfig at {files}", remedy="check the path")
    with _reading():
        loader = package.KubeConfigLoader(
            config_dict=merged, active_context=context, config_base_path=None
        )
        name = loader.current_context["context"].get("user")
        listed = name and merged.safe_get("users")
        entry = merged["users"].get_with_name(name, safe=True) if listed else None
        return loader, entry is not None and "exec" in (entry.safe_get("user") or ())


@contextmanager
def _reading() -> Generator[None]:
    """Turn what the package raises on a file of the wrong shape, which is anything, into words."""
    from kubernetes.config import ConfigException  # noqa: PLC0415 - see the module's docstring

    try:
        yield
    except ConfigException as error:
        raise UsageError(f"cannot use the kubeconfig: {error}", remedy="correct it") from None
    except Exception as error:
        name = type(error).__name__
        raise UsageError(f"cannot read the kubeconfig ({name})", remedy="correct it") from error


def _of_service_account() -> Access:
    from kubernetes.client import Configuration  # noqa: PLC0415 - see the module's docstring
    from kubernetes.config import ConfigException, incluster_config  # noqa: PLC0415

    configuration = Configuration()
    package: Any = incluster_config  # it has no types
    try:
        package.load_incluster_config(client_configuration=configuration)
    except (ConfigException, OSError) as error:
        raise UsageError(
            f"cannot use the service account: {error}",
            remedy="mount it (automountServiceAccountToken), or give --kubeconfig",
        ) from None
    namespace = "default"
    with suppress(OSError):
        namespace = (SERVICE_ACCOUNT / "namespace").read_text().strip() or namespace
    return Access(configuration, namespace)


# ---------------------------------------------------------------------------- the transport


class HttpTransport:
    """`ports.Transport` over urllib3, with the credentials of an `Access`.

    Safe to use from several threads.

    Args:
        load: Reads the access; called now, and again when the server no longer accepts the
            credentials (a rotated token or certificate).
        insecure: See `connect`.

    Raises:
        UsageError: The access may not be used.
    """

    def __init__(self, load: Callable[[], Access], *, insecure: bool = False) -> None:
        self._load = load
        self._insecure = insecure
        self._lock = threading.Lock()
        self._renewed = 0.0
        self._access = self._checked(load())
        self._pool = _pool_of(self._access)
        split = urlsplit(self._access.configuration.host)
        self.host = split.netloc.rpartition("@")[2]
        self.namespace = self._access.namespace

    def send(self, request: Request) -> Response:
        """Send and read the whole answer, whatever its status.

        A read whose connection dies before the answer is sent once more: the server may have
        closed it while idle.  A write is not: nobody knows whether it was carried out.

        Raises:
            ClusterUnreachable: No answer; `landed` is False where nothing was sent.
        """
        tries = 2 if request.method == "GET" else 1
        for left in reversed(range(tries)):
            try:
                return self._exchange(request)
            except _Broken as broken:
                if not left:
                    raise self._unreachable(broken.__cause__) from None
        raise AssertionError

    def open(self, request: Request, wake: Wake) -> HttpStream:
        """Open a watch; a thread reads it.  See `ports.Transport.open`."""
        stream = HttpStream(wake)
        threading.Thread(
            target=self._follow, args=(request, stream), name="watch", daemon=True
        ).start()
        return stream

    def close(self) -> None:
        """Close the idle connections."""
        self._pool.clear()

    # -- one exchange

    def _exchange(self, request: Request) -> Response:
        import urllib3  # noqa: PLC0415 - comes with the kubernetes package

        try:
            raw = self._ask(request)
            body = _whole(raw)
        except urllib3.exceptions.ProtocolError as error:
            raise _Broken from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._unreachable(error) from None
        headers = {name.lower(): value for name, value in raw.headers.items()}
        return Response(status=raw.status, body=body, headers=headers)

    def _ask(self, request: Request) -> urllib3.BaseHTTPResponse:
        """Return the answer with its body unread; on 401 with credentials read anew, once."""
        used = self._pool
        raw = self._ask_once(request)
        if raw.status == 401 and self._renew(used):
            raw.close()
            raw = self._ask_once(request)
        return raw

    def _ask_once(self, request: Request) -> urllib3.BaseHTTPResponse:
        import urllib3  # noqa: PLC0415 - comes with the kubernetes package

        with self._lock:
            configuration, pool = self._access.configuration, self._pool
            headers = {"user-agent": "dsgitops", "accept": "application/json"}
            headers |= {name.lower(): value for name, value in request.headers.items()}
            headers |= {"accept-encoding": "gzip", **_authorization(configuration)}
        url = configuration.host + request.path
        if request.query:
            url += "?" + urlencode(request.query)
        return pool.urlopen(
            request.method,
            url,
            body=request.body or None,
            headers=headers,
            timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=request.timeout),
            retries=False,
            redirect=False,
            preload_content=False,
        )

    # -- watches

    def _follow(self, request: Request, stream: HttpStream) -> None:
        import urllib3  # noqa: PLC0415 - comes with the kubernetes package

        # A dead connection is told by `ended`: a watch that ends is resumed, whatever the cause.
        # ValueError and AttributeError are what urllib3 and ssl raise when hung up on meanwhile.
        with suppress(urllib3.exceptions.HTTPError, OSError, ValueError, AttributeError):
            raw = self._ask(request)
            try:
                if stream.answered(raw.status, raw.headers, raw.shutdown):
                    while chunk := raw.read1(CHUNK_BYTES):
                        if not stream.take(chunk):
                            break
            finally:
                raw.close()
        stream.finish()

    # -- credentials

    def _checked(self, access: Access) -> Access:
        split = urlsplit(access.configuration.host)
        open_to_all = split.scheme != "https" or not access.configuration.verify_ssl
        if open_to_all and split.hostname not in _LOOPBACK and not self._insecure:
            raise UsageError(
                f"the API server {split.hostname} would not be verified"
                " (insecure-skip-tls-verify, or plain HTTP)",
                remedy="give its CA as certificate-authority-data",
            )
        return access

    def _renew(self, used: urllib3.PoolManager) -> bool:
        """Read the credentials anew; False where those just refused are the newest there are."""
        with self._lock:
            if self._pool is not used:
                return True  # another thread was faster
            if time.monotonic() - self._renewed < RENEWAL_SECONDS and self._renewed:
                return False
            self._renewed = time.monotonic()
            try:
                self._access = self._checked(self._load())
            except UsageError:
                return False  # told by the 401 itself
            self._pool = _pool_of(self._access)
            return True

    # -- words

    def _unreachable(self, error: BaseException | None) -> ClusterUnreachable:
        import urllib3  # noqa: PLC0415 - comes with the kubernetes package

        names = urllib3.exceptions
        landed = None
        what, remedy = "does not answer", ""
        if isinstance(error, names.NameResolutionError):
            landed, what, remedy = False, "has no address (name resolution)", "check DNS"
        elif isinstance(error, names.ProxyError):
            landed, what, remedy = False, "cannot be reached by the proxy", "check the proxy"
        elif isinstance(error, (names.NewConnectionError, names.ConnectTimeoutError)):
            landed, what = False, "cannot be reached (no connection)"
        elif isinstance(error, names.SSLError):
            untrusted = isinstance(error.args and error.args[0], ssl.SSLCertVerificationError)
            landed = False if untrusted else None
            what = "shows a certificate that is not trusted" if untrusted else "broke TLS off"
            remedy = "check certificate-authority-data in the kubeconfig" if untrusted else ""
        elif isinstance(error, (names.TimeoutError, TimeoutError)):
            what = "did not answer in time"
        elif isinstance(error, names.ProtocolError):
            what = "closed the connection"
        return ClusterUnreachable(
            f"the API server {self.host} {what}", remedy=remedy, landed=landed
        )


class _Broken(Exception):
    """The connection died before the answer was whole; the cause says how."""


class HttpStream:
    """`ports.Stream` that a thread fills.  Bounded: a slow reader holds the server back.

    Args:
        wake: Called after each change, from the reading thread.
    """

    def __init__(self, wake: Wake) -> None:
        self.status = 0
        self.headers: Mapping[str, str] = NONE
        self._wake = wake
        self._changed = threading.Condition()
        self._lines: deque[bytes] = deque()
        self._backlog = 0
        self._rest = b""
        self._finished = False
        self._closed = False
        self._hang_up: Callable[[], None] | None = None

    def lines(self) -> list[bytes]:
        """Return the whole lines that arrived since the last call; never blocks."""
        with self._changed:
            taken = list(self._lines)
            self._lines.clear()
            self._backlog = 0
            self._changed.notify_all()
        return taken

    @property
    def ended(self) -> bool:
        """Whether no more lines will come, those that were not taken yet included."""
        with self._changed:
            return self._closed or (self._finished and not self._lines)

    def close(self) -> None:
        """Hang up.  Returns at once; the thread ends by itself.  Safe to call twice."""
        with self._changed:
            self._closed = True
            self._lines.clear()
            self._changed.notify_all()
            hang_up, self._hang_up = self._hang_up, None
        if hang_up is not None:
            with suppress(OSError, ValueError, RuntimeError):
                hang_up()

    # -- the reading thread's side

    def answered(
        self, status: int, headers: Mapping[str, str], hang_up: Callable[[], None]
    ) -> bool:
        """Note the answer's head; False: nobody listens any more."""
        with self._changed:
            self.status = status
            self.headers = {name.lower(): value for name, value in headers.items()}
            self._hang_up = hang_up
            listening = not self._closed
        self._wake()
        return listening

    def take(self, chunk: bytes) -> bool:
        """Take bytes as they come; waits while the backlog is full.  False: stop reading."""
        *whole, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > LINE_BYTES_MAX:
            return False
        lines = [line for line in whole if line]
        if not lines:
            return not self._closed
        with self._changed:
            self._lines.extend(lines)
            self._backlog += sum(map(len, lines))
        self._wake()
        with self._changed:
            while self._backlog > BACKLOG_BYTES_MAX and not self._closed:
                self._changed.wait()
            return not self._closed

    def finish(self) -> None:
        """No more will come.  Half a line is dropped, but an error's body needs no newline."""
        with self._changed:
            if self._rest and self.status != 200:
                self._lines.append(self._rest)
            self._rest = b""
            self._finished = True
            self._hang_up = None
        self._wake()


# ---------------------------------------------------------------------------- small pieces


def _pool_of(access: Access) -> urllib3.PoolManager:
    from kubernetes.client.rest import RESTClientObject  # noqa: PLC0415 - see the docstring

    access.configuration.keep_alive = True  # so that the kernel notices a dead peer
    access.configuration.connection_pool_maxsize = 8
    # Settled here: else the package looks through the whole environment for each request.
    access.configuration.proxy = access.configuration.proxy
    pool: urllib3.PoolManager = RESTClientObject(access.configuration).pool_manager
    return pool


def _authorization(configuration: Any) -> dict[str, str]:  # noqa: ANN401 - the package's
    """Return the header; the configuration renews what is about to expire by itself."""
    given: dict[str, Any] = configuration.auth_settings().get("BearerToken") or {}
    value = str(given.get("value") or "").strip()
    return {"authorization": value} if value else {}


def _whole(raw: urllib3.BaseHTTPResponse) -> bytes:
    """Read a body, within `ANSWER_SECONDS_MAX` and `ANSWER_BYTES_MAX`."""
    ends = time.monotonic() + ANSWER_SECONDS_MAX
    chunks: list[bytes] = []
    left = ANSWER_BYTES_MAX
    try:
        while left > 0 and time.monotonic() < ends:
            chunk = raw.read1(CHUNK_BYTES)
            if not chunk:
                raw.release_conn()
                return b"".join(chunks)
            chunks.append(chunk)
            left -= len(chunk)
    finally:
        raw.close()  # no more than a formality where the connection was released
    raise TimeoutError("the answer does not end")
