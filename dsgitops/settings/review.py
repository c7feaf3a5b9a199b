"""What no single value shows: names twice, paths that overlap, files that are not there."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, fields, is_dataclass
from datetime import timedelta
from pathlib import Path as File
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

from dsgitops.settings.reading import key_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dsgitops.settings.reading import Path, Reader
    from dsgitops.settings.subjects import Settings, SourceSettings

SECRET_BYTES_MAX = 64 * 1024
NODE_GRACE = timedelta(seconds=60)
"""Kubernetes calls a silent node NotReady after 50 s, and sees that some seconds later."""


class Fault(Protocol):
    """What is wrong with a value, as the adapters say it."""

    @property
    def what(self) -> str:
        """One sentence."""
        ...

    @property
    def remedy(self) -> str:
        """What to write instead; may be empty."""
        ...


def _unchecked(*_given: str) -> None:
    """Nothing is wrong with what nobody looks at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checks:
    """What only the adapters know; each answers None (or "") where nothing is wrong."""

    url: Callable[[str], Fault | None]
    """`adapters.git.address.fault`."""
    ref: Callable[[Literal["branch", "tag", "semver", "commit"], str], Fault | None]
    """`adapters.git.revision.fault`."""
    path: Callable[[str], Fault | None]
    """`adapters.git.revision.path_fault`."""
    window: Callable[[str, str], str]
    """`adapters.schedule.window_fault`: cron fields, timezone."""
    status: Callable[[str, str, str, str], Fault | None] = _unchecked
    """`adapters.forge.fault`: kind, API's URL, repository, target URL."""
    notify: Callable[[], Fault | None] = _unchecked
    """`adapters.notify.missing`: whether messages can be sent at all."""


def review(settings: Settings, reader: Reader, checks: Checks) -> None:
    """Add to the reader's problems what is wrong between values, and on disk."""
    if not reader.problems:  # or the problem may be why nothing is left
        _review_emptiness(settings, reader)
    for at, source in enumerate(settings.sources):
        place = reader.position(("sources",), at)
        _review_source(source, ("sources", place), reader, checks)
    _review_pairs(settings, reader)
    for at, window in enumerate(settings.windows):
        fault = checks.window(window.allow, window.timezone)
        if fault:
            place = reader.position(("windows",), at)
            reader.add(("windows", place, "allow"), "window", f"cannot be used: {fault}")
    _review_deadlines(settings, reader)
    if settings.alerts.notify and (missing := checks.notify()):
        reader.add(("alerts", "notify"), "missing-package", missing.what, missing.remedy)
    _review_files(settings, (), reader)


def _review_deadlines(settings: Settings, reader: Reader) -> None:
    """A pod's deadline below the node grace period may blame a revision for a node that died."""
    profiles = ((("profiles", name), each) for name, each in settings.profiles.items())
    for path, rollout in ((("rollout",), settings.rollout), *profiles):
        given = rollout.pod_deadline
        inherited = path != ("rollout",) and given == settings.rollout.pod_deadline
        if given is None or given >= NODE_GRACE or inherited:
            continue
        reader.add(
            (*path, "podDeadline"),
            "short-deadline",
            "is shorter than the minute it takes to see that a node died: a pod of which its "
            "kubelet says nothing is waited for a minute longer",
            "use auto, or 60s and more",
            warning=True,
        )


def _review_emptiness(settings: Settings, reader: Reader) -> None:
    if not settings.namespaces:
        reader.add(
            ("namespaces",),
            "no-namespaces",
            "is empty: nothing is managed",
            "list the namespaces, such as [kube-system]",
            warning=True,
        )
    if not settings.sources:
        reader.add(("sources",), "no-sources", "is empty: nothing is followed", warning=True)


def _review_source(source: SourceSettings, path: Path, reader: Reader, checks: Checks) -> None:
    names = [name for name in ("branch", "tag", "semver", "commit") if getattr(source.ref, name)]
    if len(names) > 1:
        reader.add((*path, "ref"), "ref", f"has {' and '.join(names)}", "give one of them")
    faults = {
        ("url",): checks.url(source.url),
        ("ref", source.ref.kind): checks.ref(source.ref.kind, source.ref.value),
        ("path",): checks.path(source.path),
    }
    for where, fault in faults.items():
        if fault is not None:
            reader.add(
                (*path, *where), "-".join(where), f"cannot be used: {fault.what}", fault.remedy
            )
    if faults["url",] is None:
        _review_auth(source, path, reader)
    told = source.status
    if told is not None and (
        fault := checks.status(told.kind, told.url, told.repository, told.target_url)
    ):
        reader.add((*path, "status"), "status", f"cannot be used: {fault.what}", fault.remedy)
    if source.verify is not None and (
        source.verify.ssh is None or source.verify.ssh.allowed_signers_file is None
    ):
        reader.add(
            (*path, "verify"), "verify", "names nobody who may sign", "add ssh.allowedSignersFile"
        )


def _review_auth(source: SourceSettings, path: Path, reader: Reader) -> None:
    https, ssh = source.auth.https, source.auth.ssh
    by_ssh = source.url.startswith("ssh://") or not (
        "://" in source.url or source.url.startswith("/")
    )
    if by_ssh and (ssh is None or ssh.key_file is None or ssh.known_hosts_file is None):
        reader.add(
            (*path, "auth"),
            "auth",
            "lacks what an ssh URL needs",
            "add ssh: {keyFile: …, knownHostsFile: …}: host keys are never taken on trust",
        )
    if ssh is not None and not by_ssh:
        reader.add((*path, "auth", "ssh"), "auth", "is for ssh URLs only", "use auth.https")
    if https is not None and not source.url.startswith(("https://", "http://")):
        reader.add((*path, "auth", "https"), "auth", "is for https URLs only", "use auth.ssh")
    if https is not None and https.username_file and not https.password_file:
        reader.add((*path, "auth", "https"), "auth", "has a user and no passwordFile")


def _review_pairs(settings: Settings, reader: Reader) -> None:
    placed = [
        (reader.position(("sources",), at), source) for at, source in enumerate(settings.sources)
    ]
    for nth, (at, source) in enumerate(placed):
        for before, other in placed[:nth]:
            if source.name == other.name:
                reader.add(
                    ("sources", at, "name"), "duplicate-source", f"is that of sources[{before}] too"
                )
            if _overlap(source, other):
                reader.add(
                    ("sources", at, "path"),
                    "overlapping-paths",
                    f"overlaps with that of sources[{before}]: a file would belong to both",
                    "give them folders apart",
                )


def _overlap(one: SourceSettings, other: SourceSettings) -> bool:
    if (_plain(one.url), one.ref) != (_plain(other.url), other.ref):
        return False
    first, second = _folders(one.path), _folders(other.path)
    shorter = min(len(first), len(second))
    return first[:shorter] == second[:shorter]


def _plain(url: str) -> str:
    return url.removeprefix("file://").rstrip("/").removesuffix(".git").lower()


def _folders(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in {"", "."}]


# ---------------------------------------------------------------------------- files

_SECRETS = frozenset(
    {"password_file", "key_file", "dsn_file", "token_file", "url_file", "webhook_secret_file"}
)
_OPTIONAL = frozenset({"dsn_file", "token_file", "url_file"})
"""Alerts that cannot be sent are no reason not to run."""


def _review_files(section: object, path: Path, reader: Reader) -> None:
    """Look at every file that the settings name, wherever it stands."""
    for key, name, value in _members(section):
        here = (*path, key)
        if isinstance(value, File) and name.endswith("_file"):
            _review_file(value, name, here, reader)
        elif isinstance(value, tuple):
            for at, item in enumerate(cast("tuple[object, ...]", value)):
                _review_files(item, (*here, reader.position(here, at)), reader)
        else:
            _review_files(value, here, reader)


def _members(section: object) -> Iterator[tuple[str, str, Any]]:
    if not is_dataclass(section) or isinstance(section, type):
        return
    for each in fields(section):
        if key_of(each):
            yield key_of(each), each.name, getattr(section, each.name)


def _review_file(file: File, name: str, path: Path, reader: Reader) -> None:
    optional = name in _OPTIONAL
    try:
        found = os.stat(file)  # noqa: PTH116 - one look for kind, size and mode
        with file.open("rb") as opened:
            empty = not opened.read(SECRET_BYTES_MAX).strip()
    except OSError as error:
        why = (error.strerror or "it cannot be read").lower()
        reader.add(path, "file", f"cannot be read: {why}", "check the mount", warning=optional)
        return
    if empty:
        reader.add(path, "file", "is an empty file", "check the Secret's key", warning=optional)
    if name in _SECRETS and found.st_mode & stat.S_IROTH:
        reader.add(
            path,
            "world-readable",
            "can be read by every user of this machine",
            "mount the Secret with defaultMode: 0440, or chmod o-r",
            warning=True,
        )
