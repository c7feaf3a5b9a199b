"""What Kubernetes and container registries accept as names."""

from __future__ import annotations

import re
from dataclasses import dataclass

DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
"""DNS-1123 label: namespaces, containers, volumes; at most 63 characters."""
PORT_NAME = re.compile(r"(?=.*[a-z])(?!.*--)[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?")
"""An IANA service name: at most 15 characters, a letter among them."""
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
ENV_NAME = re.compile(r"[ -<>-~]+")
"""Printable ASCII but `=`: what API servers since 1.30 accept."""
UNREPLACED = re.compile(r"\$\{|\{\{")
"""`${VAR}` or `{{ … }}` that nobody filled in."""

_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_QUALIFIED = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")

_DOMAIN = re.compile(
    r"(?:[A-Za-z0-9](?:[-A-Za-z0-9]*[A-Za-z0-9])?"
    r"(?:\.[A-Za-z0-9](?:[-A-Za-z0-9]*[A-Za-z0-9])?)*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
)
_COMPONENT = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}")


@dataclass(frozen=True, slots=True)
class Image:
    """An image reference, taken apart."""

    wrong: str = ""
    """Why it is none: `has an empty tag`; empty for a good one."""
    tag: str = ""
    digest: str = ""


def is_dns_subdomain(text: str) -> bool:
    """Whether it is a DNS-1123 subdomain: most objects' names."""
    return len(text) <= 253 and _SUBDOMAIN.fullmatch(text) is not None


def is_label_key(text: str) -> bool:
    """Whether it is a qualified name: `app`, `app.kubernetes.io/name`."""
    prefix, slash, name = text.rpartition("/")
    if slash and not is_dns_subdomain(prefix):
        return False
    return _QUALIFIED.fullmatch(name) is not None


def image(text: str) -> Image:
    """Take an image reference apart as container runtimes do."""
    name, at, digest = text.partition("@")
    if at and not _is_digest(digest):
        return Image("has a malformed digest")
    head, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:
        head, tag = name, ""
    elif not tag:
        return Image("has an empty tag")
    elif not _TAG.fullmatch(tag):
        return Image("has a malformed tag")
    return Image(_wrong_name(head), tag, digest)


def _is_digest(text: str) -> bool:
    if _DIGEST.fullmatch(text) is None:
        return False
    return not text.startswith("sha256:") or len(text) == len("sha256:") + 64


def _wrong_name(name: str) -> str:
    if not name:
        return "has no name"
    if len(name) > 255:
        return "is longer than 255 characters"
    if any(each.isspace() for each in name):
        return "has a blank in it"
    first, slash, rest = name.partition("/")
    if not slash or not (
        "." in first or ":" in first or first == "localhost" or first != first.lower()
    ):
        rest = name
    elif not _DOMAIN.fullmatch(first):
        return "has a malformed registry host"
    if rest != rest.lower():
        return "has upper case letters in its path"
    if not all(_COMPONENT.fullmatch(part) for part in rest.split("/")):
        return "has a malformed path"
    return ""
