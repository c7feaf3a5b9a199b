"""The closed union of what the agent can do to a cluster.

Bodies are complete and come from `core/bodies.py`: an adapter sends them and adds nothing but its
field manager.  Every action on an existing object carries its uid and resourceVersion.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dsgitops.core.model import EMPTY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dsgitops.core.model import Ref


@dataclass(frozen=True, slots=True, kw_only=True)
class Apply:
    """Server-side apply of the Git manifest as `dsgitops`, forced: the forward write.

    The body has no uid and resourceVersion only when the object is to be created.
    """

    ref: Ref
    body: Mapping[str, Any]
    digest: str
    """Content that a refusal is remembered for."""
    sweep: bool = False
    """It is the live spec as it is, so that every field becomes ours before the content comes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearse:
    """Dry run of the forward write; the answer is in the next `Observed.rehearsal`."""

    ref: Ref
    body: Mapping[str, Any]
    digest: str
    fresh: Mapping[str, Any] = EMPTY
    """Also ask what a new object of that content would be: the body under a name that nobody has.
    Empty: not asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restore:
    """Strategic merge patch with a ControllerRevision's template: the exact rollback.

    Sent as a dry run first; when the answer's template is not the revision's, it says so.
    """

    ref: Ref
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Remember:
    """Merge patch as `dsgitops-record`: the record, and what must change in the same write."""

    ref: Ref
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletePod:
    """Delete one pod with uid and resourceVersion as preconditions."""

    ref: Ref
    pod: str
    uid: str
    resource_version: str
    node: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Prune:
    """Delete a DaemonSet that Git no longer has, with its uid as precondition."""

    ref: Ref
    uid: str
    resource_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Recall:
    """Read the content of an earlier commit from the mirror, into `Observed.recalled`."""

    ref: Ref
    source: str
    commit: str
    path: str


Action = Apply | Rehearse | Restore | Remember | DeletePod | Prune | Recall
