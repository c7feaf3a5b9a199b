"""The sentences: one per decision, used unchanged by log, Event, CLI, web and Sentry.

Rules of the voice: present tense, the numbers in it, nodes and causes by name, no adjectives.  A
commit is its first seven digits.  Nothing from a manifest but names and numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dsgitops.core.model import NodeState

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from dsgitops.core.model import Evidence, FailureClass, Judgement, Suspend

NODES_NAMED = 3
"""More nodes than that are counted, not named."""


BYTES_MAX = 1000
"""Of a sentence: an Event's note has 1,024."""


def sentence(text: str) -> str:
    """Return a sentence as it may stand in a log line and an Event: one line, a full stop, cut.

    Names, messages of the kubelet and what people write into annotations are in it.
    """
    if not text.isprintable():
        text = "".join(each if each.isprintable() else " " for each in text)
    raw = text.encode(errors="replace")
    if len(raw) > BYTES_MAX:
        text = raw[: BYTES_MAX - 8].decode(errors="ignore").rstrip() + "…"
    return text if text.endswith(".") else f"{text}."


def short(commit: str | None) -> str:
    """Return a commit as people say it: `main@sha1:9f2c3a1b…` is `9f2c3a1`."""
    if not commit:
        return "the adopted revision"
    return commit.rsplit(":", 1)[-1][:7]


def suspension(suspend: Suspend) -> str:
    """Say who suspended it, until when and why.  What waits meanwhile follows this."""
    by = f" by {suspend.by}" if suspend.by else ""
    until = f" until {suspend.until:%Y-%m-%d %H:%M} UTC" if suspend.until else ""
    why = f": {suspend.reason}" if suspend.reason else ""
    return sentence(f"Suspended{by}{until}{why}")


def span(length: timedelta) -> str:
    """Return a length of time as people say it: `90 s`, `10 min`."""
    seconds = round(length.total_seconds())
    if seconds >= 120 and seconds % 60 == 0:
        return f"{seconds // 60} min"
    return f"{seconds} s"


def nodes(count: int) -> str:
    """Return `1 node` or `n nodes`."""
    return "1 node" if count == 1 else f"{count} nodes"


def named(names: Sequence[str]) -> str:
    """Return node names, the first few of many."""
    if len(names) <= NODES_NAMED:
        return ", ".join(names)
    return f"{', '.join(names[:NODES_NAMED])} and {len(names) - NODES_NAMED} more"


def progress(judgement: Judgement) -> str:
    """Return where a rollout is: `12 of 40 nodes, 1 starting, bad before: node-7`."""
    done = judgement.count(NodeState.DESIRED)
    parts = [f"{done} of {nodes(judgement.total)}"]
    for state, word in (
        (NodeState.STARTING, "starting"),
        (NodeState.TERMINATING, "terminating"),
        (NodeState.NO_POD, "without a pod"),
        (NodeState.BAD_REVISION, "broken"),
    ):
        if count := judgement.count(state):
            parts.append(f"{count} {word}")
    for state, word in ((NodeState.BAD_NODE, "bad node"), (NodeState.BAD_BEFORE, "bad before")):
        if names := _in_state(judgement, state):
            parts.append(f"{word}: {named(names)}")
    return ", ".join(parts)


def failure(judgement: Judgement) -> str:
    """Return why a rollout failed: nodes, class, and what the kubelet said."""
    shown, kind = _shown(judgement), _class(judgement)
    if not shown:
        return f"{kind}: {progress(judgement)}"
    place = named([each.node for each in shown if each.node]) or "the DaemonSet"
    return f"{kind} on {place}{_said(shown[0])}"


def nodes_in_the_way(judgement: Judgement) -> str:
    """Return which nodes, not the revision, keep a rollout from going on."""
    names = [*_in_state(judgement, NodeState.BAD_NODE), *_in_state(judgement, NodeState.BAD_BEFORE)]
    said = next((each for each in judgement.evidence if each.node in names), None)
    return f"{named(names)}{_said(said) if said else ''}"


def blamed(judgement: Judgement) -> tuple[str, ...]:
    """Return the nodes that the failure shows on, in the order of the evidence."""
    return tuple(each.node for each in _shown(judgement) if each.node)


def _shown(judgement: Judgement) -> list[Evidence]:
    """Return the votes; where none was cast (no progress), the pods that never became ready."""
    voting = [each for each in judgement.evidence if each.voting]
    return voting or [each for each in judgement.evidence if each.state is NodeState.STARTING]


def _class(judgement: Judgement) -> str:
    kind: FailureClass | None = judgement.failure_class
    cause = f" ({judgement.cause})" if judgement.cause else ""
    return f"{kind or 'failed'}{cause}"


def _said(evidence: Evidence) -> str:
    parts = [part for part in (evidence.container, evidence.message) if part]
    return f" ({': '.join(parts)})" if parts else ""


def _in_state(judgement: Judgement, state: NodeState) -> list[str]:
    return sorted(name for name, each in judgement.states.items() if each is state)
