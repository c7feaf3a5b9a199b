"""Where a repository is: a URL, a scp-like address or an absolute path, checked by our own rules.

GitPython's and git's own checks are deny-lists; this is an allow-list.  Nothing that passes here
can be taken for an option, a remote helper (`ext::…`) or a place for credentials.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

if TYPE_CHECKING:
    from collections.abc import Iterable

Scheme = Literal["https", "ssh", "http", "git", "file"]
IP = ipaddress.IPv4Address | ipaddress.IPv6Address

LENGTH_MAX = 2048
"""Characters; longer URLs are refused by servers and proxies anyway."""

_METADATA = frozenset(
    {ipaddress.ip_address("fd00:ec2::254"), ipaddress.ip_address("168.63.129.16")}
)
"""Metadata services of clouds that are not link-local (EC2 over IPv6, Azure)."""

_UNSAFE = re.compile(r"[\x00-\x20\x7f-\x9f\\\"'<>`|]")
_ESCAPED_CONTROL = re.compile(r"%(?:[01][0-9a-f]|7f)", re.IGNORECASE)
_URL = re.compile(
    r"(?P<scheme>[a-z]+)://"
    r"(?:(?P<userinfo>[^/@]*)@)?"
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^/:@\[\]]*)"
    r"(?::(?P<port>[0-9]{0,5}))?"
    r"(?P<path>/[^?#]*)?"
)
_SCP = re.compile(r"(?:(?P<user>[^@:/]+)@)?(?P<host>[^@:/\[\]]+):(?P<path>[^:].*)")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_HOST = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9](?:[A-Za-z0-9_-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9_-]*[A-Za-z0-9])?)*\.?"
)
_NUMERIC_LABEL = re.compile(r"(?:0[xX][0-9A-Fa-f]*|[0-9]+)")


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with something a person wrote, and what to write instead."""

    what: str
    """Never quotes the value: it may hold a password."""
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A repository that may be fetched from."""

    url: str
    """As git is given it; without credentials."""
    scheme: Scheme
    host: str = ""
    """Without brackets; empty for `file`."""
    path: str = ""
    """On disk, for `file`."""


def parse(text: str) -> Address | Fault:
    """Read the `url` of a source.

    Args:
        text: `https://…`, `ssh://…`, `user@host:path`, `file:///…`, `/…`; `http://` and `git://`
            to loopback only.
    """
    wrong = _text_fault(text)
    if wrong is not None:
        return wrong
    if text.startswith("/"):
        return _on_disk(text)
    if "://" not in text and "::" not in text:
        return _scp_like(text)
    return _url(text)


def fault(text: str) -> Fault | None:
    """Say what is wrong with the `url` of a source; None: nothing."""
    parsed = parse(text)
    return parsed if isinstance(parsed, Fault) else None


def _text_fault(text: str) -> Fault | None:
    if not text:
        return Fault("the URL is empty", "name the repository to read")
    if len(text) > LENGTH_MAX:
        return Fault(f"the URL is longer than {LENGTH_MAX} characters")
    if _UNSAFE.search(text) or _ESCAPED_CONTROL.search(text):
        return Fault("the URL holds blanks, quotes, backslashes or control characters")
    if text.startswith("-"):
        return Fault("the URL starts with a dash: git would take it for an option")
    return None


def _on_disk(path: str) -> Address | Fault:
    if path.startswith("//") or any(part in {".", ".."} for part in path.split("/")):
        return Fault("the path has `//`, `.` or `..` in it", "write it out: /srv/git/agents.git")
    if "%" in path or "?" in path or "#" in path:
        return Fault("the path has %, ? or # in it", "rename the folder")
    return Address(url=f"file://{path}", scheme="file", path=path)


def _scp_like(text: str) -> Address | Fault:
    match = _SCP.fullmatch(text)
    if match is None:
        return Fault(
            "the URL is neither a URL nor an absolute path",
            "write https://host/path, ssh://git@host/path, git@host:path or /path",
        )
    user, host, path = match["user"] or "", match["host"], match["path"]
    if path.startswith("-"):
        return Fault("the path starts with a dash: git would take it for an option")
    return _ssh_fault(user) or _host_fault(host) or Address(url=text, scheme="ssh", host=host)


def _url(text: str) -> Address | Fault:
    if "::" in text.partition("://")[0]:
        return Fault("remote helpers (`ext::`, `fd::`) are not allowed", "use https or ssh")
    if "?" in text or "#" in text:
        return Fault(
            "the URL has a query or a fragment",
            "put credentials into files: auth.https.passwordFile",
        )
    match = _URL.fullmatch(text)
    if match is None:
        return Fault("the URL cannot be read", "write https://host/path or ssh://git@host/path")
    scheme, host = match["scheme"], match["host"].strip("[]")
    if scheme == "file":
        if match["userinfo"] or host or match["port"]:
            return Fault("a file URL names a host", "write file:///srv/git/agents.git")
        return _on_disk(match["path"] or "")
    return (
        _scheme_fault(scheme)
        or _userinfo_fault(scheme, match["userinfo"])
        or _host_fault(host)
        or _port_fault(match["port"])
        or _clear_text_fault(scheme, host)
        or Address(url=text, scheme=cast("Scheme", scheme), host=host)
    )


def _scheme_fault(scheme: str) -> Fault | None:
    if scheme in {"https", "ssh", "http", "git"}:
        return None
    return Fault(
        "the URL's scheme is not allowed", "use https or ssh; http and git for loopback only"
    )


def _userinfo_fault(scheme: str, userinfo: str | None) -> Fault | None:
    if userinfo is None:
        return None
    if ":" in userinfo or scheme != "ssh":
        return Fault(
            "the URL holds a user name or a password",
            "put them into files: auth.https.usernameFile and passwordFile",
        )
    return _ssh_fault(userinfo)


def _ssh_fault(user: str) -> Fault | None:
    if user and not _USER.fullmatch(user):
        return Fault("the user name in the URL cannot be used", "git@host is usual")
    return None


def _port_fault(port: str | None) -> Fault | None:
    if port is None or (port and 1 <= int(port) <= 65535):
        return None
    return Fault("the URL's port is not between 1 and 65535")


def _host_fault(host: str) -> Fault | None:
    address = _literal(host)
    if address is not None:
        return Fault(_FORBIDDEN) if is_forbidden(address) else None
    if not _HOST.fullmatch(host):
        return Fault("the URL's host is not a host name")
    # 2852039166, 0xa9fea9fe and 169.254.43518 all mean 169.254.169.254 to a resolver.
    if _NUMERIC_LABEL.fullmatch(host.rstrip(".").rpartition(".")[2]):
        return Fault("the URL's host is an unusual way to write an address", "write a.b.c.d")
    return None


_FORBIDDEN = "the URL's host is a link-local or metadata address"


def _clear_text_fault(scheme: str, host: str) -> Fault | None:
    if scheme not in {"http", "git"}:
        return None
    address = _literal(host)
    loopback = host == "localhost" if address is None else address.is_loopback
    if loopback:
        return None
    return Fault(f"{scheme} has no protection on the way: loopback only", "use https or ssh")


def _literal(host: str) -> IP | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def is_forbidden(address: IP) -> bool:
    """Whether nobody keeps Git there: link-local, metadata services, multicast, `0.0.0.0`."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    real = mapped or address
    return real.is_link_local or real.is_multicast or real.is_unspecified or real in _METADATA


def resolve(host: str) -> tuple[IP, ...]:
    """Ask the resolver for a host's addresses; none where it does not know (a proxy may).

    Blocks as long as the resolver does.
    """
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return ()
    return tuple(_addresses(str(entry[4][0]) for entry in found))


def _addresses(texts: Iterable[str]) -> Iterable[IP]:
    for text in texts:
        address = _literal(text.partition("%")[0])
        if address is not None:
            yield address
