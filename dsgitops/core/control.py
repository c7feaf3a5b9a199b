"""The annotations by which people steer one DaemonSet (`design.md` 5), and the policy they make."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from dsgitops.core import duration
from dsgitops.core.findings import did_you_mean
from dsgitops.core.strict import pointer_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dsgitops.core.findings import Findings
    from dsgitops.core.model import Policy

PREFIX = "dsgitops.io/"
PROFILE = PREFIX + "profile"
PROGRESS_DEADLINE = PREFIX + "progress-deadline"
ROLLBACK = PREFIX + "rollback"
PRUNE = PREFIX + "prune"
IGNORE_DIFF = PREFIX + "ignore-diff"
SUSPEND = PREFIX + "suspend"
RETRY_AT = PREFIX + "retry-at"
SYNC_AT = PREFIX + "sync-at"
RECORD = PREFIX + "record"

NOT_CONTENT = frozenset({SUSPEND, RETRY_AT, SYNC_AT, RECORD})
"""Requests to the agent: setting or clearing one is no new content."""
_KNOWN = (PROFILE, PROGRESS_DEADLINE, ROLLBACK, PRUNE, IGNORE_DIFF, SUSPEND, RETRY_AT, SYNC_AT)
_POINTERS_MAX = 64


def check_annotations(annotations: Mapping[str, Any], findings: Findings) -> None:
    """Check the syntax of our annotations in a manifest; profiles are known to settings only."""
    for key, value in annotations.items():
        if not key.startswith(PREFIX):
            continue
        pointer = "/metadata/annotations" + pointer_of(key)
        if key == RECORD:
            findings.error(pointer, "reserved-annotation", f"{key} is the agent's own memory",
                           "remove it from Git")  # fmt: skip
        elif key not in _KNOWN:
            remedy = findings.hint(key, _KNOWN) or f"known are {', '.join(_KNOWN)}"
            findings.key_error(
                pointer, "unknown-annotation", f"there is no annotation {key}", remedy
            )
        elif isinstance(value, str):
            wrong = wrong_value(key, value)
            if wrong:
                findings.error(pointer, "annotation-value", f"{key} {wrong}")


def wrong_value(key: str, value: str) -> str:
    """Return what is wrong with one annotation's value; empty for nothing."""
    if key == PROGRESS_DEADLINE:
        return _wrong_deadline(value)
    if key in (ROLLBACK, PRUNE):
        return "" if value == "disabled" else "knows one value: disabled"
    if key == PROFILE:
        return "" if value else "is empty: name a profile of the settings"
    if key == IGNORE_DIFF:
        return _read_pointers(value)[1]
    if key == SUSPEND:
        return _wrong_suspend(value)
    return ""


def ignored(annotations: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the JSON pointers of `dsgitops.io/ignore-diff`; none where they cannot be read."""
    value = annotations.get(IGNORE_DIFF)
    return _read_pointers(value)[0] if isinstance(value, str) else ()


def policy_of(
    annotations: Mapping[str, Any], base: Policy, profiles: Mapping[str, Policy]
) -> tuple[Policy, str]:
    """Resolve the policy of one DaemonSet: annotation, then profile, then settings.

    Args:
        annotations: Of its metadata; values that are wrong were noted by `check_annotations`.
        base: From `rollout:` and the source.
        profiles: Each resolved against `rollout:`.

    Returns:
        The policy, and what is wrong with the profile (empty for nothing).
    """
    name = annotations.get(PROFILE)
    wrong = ""
    policy = base
    if isinstance(name, str) and name in profiles:
        policy = replace(profiles[name], prune=base.prune)
    elif name is not None:
        wrong = "names no profile of the settings"
        hint = (
            did_you_mean(str(name), profiles)
            or f"known are {', '.join(sorted(profiles)) or 'none'}"
        )
        wrong = f"{wrong}; {hint}"
    deadline = annotations.get(PROGRESS_DEADLINE)
    if isinstance(deadline, str) and not _wrong_deadline(deadline):
        policy = replace(policy, progress_deadline=duration.parse(deadline))
    if annotations.get(ROLLBACK) == "disabled":
        policy = replace(policy, rollback="off")
    if annotations.get(PRUNE) == "disabled":
        policy = replace(policy, prune=False)
    return policy, wrong


def _wrong_deadline(value: str) -> str:
    try:
        found = duration.parse(value)
    except ValueError as error:
        return str(error)
    return "" if found.total_seconds() >= 1 else "is less than a second"


def _read_pointers(value: str) -> tuple[tuple[str, ...], str]:
    """Read JSON pointers, as a JSON list or separated by commas or line breaks."""
    found: Any = value.replace(",", "\n").split("\n")
    if value.lstrip().startswith("["):
        try:
            found = json.loads(value)
        except (ValueError, RecursionError):
            return (), "is no JSON list"
    if not all(isinstance(each, str) for each in found):
        return (), "must hold JSON pointers only"
    pointers = tuple(each.strip() for each in found if each.strip())
    if len(pointers) > _POINTERS_MAX:
        return (), f"names more than {_POINTERS_MAX} fields"
    wrong = next((said for each in pointers if (said := _wrong_pointer(each))), "")
    return ((), wrong) if wrong else (pointers, "")


def _wrong_pointer(pointer: str) -> str:
    if not pointer.startswith("/"):
        return "holds what is no JSON pointer: they begin with /, as /spec/minReadySeconds"
    if not pointer.startswith(("/spec/", "/metadata/labels/", "/metadata/annotations/")):
        return "may name fields below /spec, /metadata/labels and /metadata/annotations"
    return ""


def _wrong_suspend(value: str) -> str:
    try:
        given = json.loads(value)
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict):
        return 'must be JSON such as {"reason": "…", "by": "…", "until": "2026-11-21T12:00:00Z"}'
    if not isinstance(given.get("reason", ""), str) or not isinstance(given.get("by", ""), str):
        return "must have text as reason and by"
    until = given.get("until")
    if until is None:
        return ""
    try:
        end = datetime.fromisoformat(until)
    except (TypeError, ValueError):
        return "must have a time as until: 2026-11-21T12:00:00Z"
    return "" if end.tzinfo else "must have a time zone in until: 2026-11-21T12:00:00Z"
