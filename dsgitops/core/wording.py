"""What a kubelet, a controller or a program said, in words of ours.

Texts of others may hold secrets: a hook prints its environment, a program writes a password into
its termination message, a registry's address has a token in it.  Logs, Events and alerts go to
places that fewer secrets may reach, so nobody's words but ours leave the core: a known text becomes
one of the phrases below, with names of Kubernetes objects and numbers only; of any other the
failure class is said, and a phrase for that class.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from dsgitops.core.model import FailureClass

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_Table = tuple[tuple[re.Pattern[str], str], ...]

OURS = re.compile(
    r"ended \d+ times, last with exit code -?\d+ \([A-Za-z]{0,40}\)"
    r"|killed by its (?:liveness|startup) probe, \d+ times so far"
    r"|lost Ready \d+ times without a restart"
    r"|(?:readiness|startup) probe: (?:HTTP \d{3}|connection refused|no such host"
    r"|connection timed out|no answer in time|its command took too long|its command failed)"
    r"|running and not ready|no container is running|its kubelet has not taken it up"
    r"|the node's Ready condition is (?:True|False|Unknown)"
)
"""Texts that `signals.py` and `chronicle.py` made themselves."""

_NAME = r"([a-z0-9][a-z0-9.-]{0,252})"


def _table(*pairs: tuple[str, str]) -> _Table:
    return tuple((re.compile(pattern, re.IGNORECASE), words) for pattern, words in pairs)


_OBJECTS = _table(
    (rf'configmap "{_NAME}" not found', "ConfigMap {} is not there"),
    (rf'secret "{_NAME}" not found', "Secret {} is not there"),
    (rf"couldn't find key \S+ in ConfigMap [a-z0-9-]+/{_NAME}", "ConfigMap {} lacks the key"),
    (rf"couldn't find key \S+ in Secret [a-z0-9-]+/{_NAME}", "Secret {} lacks the key"),
    (r"references non-existent config key", "a ConfigMap lacks a key that is mounted"),
    (r"references non-existent secret key", "a Secret lacks a key that is mounted"),
)
_START = _table(
    (r"executable file not found|no such file or directory", "its command is not in the image"),
    (r"permission denied", "its command may not be run"),
    (r"exec format error", "the image is for another architecture"),
    (r"is a directory|not a directory", "a path in it is no file, or no folder"),
    (r"unknown capability", "it asks for a capability that does not exist"),
    (r"no space left", "the node's disk is full"),
)
_PULL = _table(
    (r"no space left", "the node's disk is full"),
    (r"input/output error|read-only file system", "the node's disk has faults"),
    (r"toomanyrequests|rate limit|429 Too Many", "the registry limits pulls"),
    (r"no such host|server misbehaving", "the registry's name cannot be resolved"),
    (r"connection refused", "the registry refuses connections"),
    (r"x509:|TLS handshake", "the registry's certificate is not accepted"),
    (r"i/o timeout|deadline exceeded|Client\.Timeout", "the registry does not answer in time"),
    (r"\b(5\d\d) (?:Internal|Bad|Service|Gateway)", "the registry answers HTTP {}"),
    (r"status(?: code)?:? (?:\[[^\]]*\]:? )?(5\d\d)", "the registry answers HTTP {}"),
)
_TABLES: Mapping[FailureClass, _Table] = {
    FailureClass.IMAGE_PULL_FAILED: _PULL,
    FailureClass.CONFIG_ERROR: (
        *_OBJECTS,
        *_table(
            (r"runAsNonRoot", "it would run as root, which runAsNonRoot forbids"),
            (r"failed to sync|timed out|not registered", "the kubelet has not read it yet"),
            (r"/proc/sys/|forbidden sysctl", "the node refuses a sysctl"),
            (r"hostUsers", "the node's runtime has no user namespaces"),
            (r"selinux options", "its SELinux options cannot be read"),
        ),
    ),
    FailureClass.START_ERROR: _START,
    FailureClass.OOM_KILLED: _table(
        (r"OOM-killed|cannot allocate memory", "nothing starts within its memory limit"),
    ),
    FailureClass.HOOK_FAILED: _table((r"exited with (\d{1,3})\b", "a hook exited with {}")),
    FailureClass.MOUNT_FAILED: (
        *_OBJECTS,
        *_table(
            (r"hostPath type check failed", "a hostPath is not of its type on the node"),
            (r"timed out waiting", "a volume did not come in time"),
        ),
    ),
    FailureClass.UNSCHEDULABLE: _table(
        (r"Insufficient ([a-z0-9./-]{1,63}[a-z0-9])", "the node lacks {}"),
        (r"Too many pods", "the node has as many pods as it may"),
        (r"free ports", "a host port is taken on the node"),
        (r"OutOf([a-z]{1,20})\b", "the node lacks {}"),
    ),
    FailureClass.EVICTED: _table(
        (r"low on resource: ([a-z-]{1,40})", "the node ran low on {}"),
        (r"exceed", "it used more disk than it may"),
    ),
    FailureClass.NO_PROGRESS: _table(
        (r"readiness gate", "a readiness gate is not met"),
        (r"no runtime for|RuntimeHandler", "the node lacks the runtime of its RuntimeClass"),
        (r"sandbox|network", "the node cannot set up the pod's network"),
    ),
    FailureClass.PODS_REFUSED: _table(
        (r"exceeded quota", "a quota refuses the pod"),
        (r"violates PodSecurity", "Pod Security refuses the pod"),
        (r"admission webhook", "an admission webhook refuses the pod"),
    ),
}
_ELSE: Mapping[FailureClass, str] = {
    FailureClass.INVALID_IMAGE_NAME: "the image's name cannot be read",
    FailureClass.IMAGE_NOT_FOUND: "the registry has no such image",
    FailureClass.IMAGE_PULL_DENIED: "the registry denies the image",
    FailureClass.IMAGE_PULL_FAILED: "the image cannot be pulled",
    FailureClass.CONFIG_ERROR: "its configuration cannot be used",
    FailureClass.START_ERROR: "the container cannot be started",
    FailureClass.HOOK_FAILED: "a hook failed",
    FailureClass.MOUNT_FAILED: "a volume cannot be mounted",
    FailureClass.UNSCHEDULABLE: "the pod does not fit on the node",
    FailureClass.EVICTED: "the pod was evicted",
    FailureClass.PODS_REFUSED: "the pod is refused",
}


def in_our_words(failure_class: FailureClass, message: str) -> str:
    """Return a text about a pod without a word of others.

    Args:
        failure_class: What it was taken for.
        message: As it was said; "" where nothing was.

    Returns:
        A phrase; "" where the class alone says it.
    """
    if not message or OURS.fullmatch(message):
        return message
    found = _matched(_TABLES.get(failure_class, ()), message)
    return found or _ELSE.get(failure_class, "")


def _matched(table: Iterable[tuple[re.Pattern[str], str]], message: str) -> str:
    for pattern, words in table:
        match = pattern.search(message)
        if match is not None:
            return words.format(*match.groups())
    return ""
