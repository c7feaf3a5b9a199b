"""Which DaemonSets a command means: names as people and as kubectl write them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated

import typer

from dsgitops.core.model import Ref
from dsgitops.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dsgitops.cli.connection import Connection
    from dsgitops.core.model import Live

KINDS = frozenset({"ds", "daemonset", "daemonsets", "daemonset.apps", "daemonsets.apps"})
"""What stands before a name where kubectl writes it: `daemonset.apps/fluentd`."""
_NAME = re.compile(r"[a-z0-9](?:[-.a-z0-9]{0,251}[a-z0-9])?")

Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="NAME", help="DaemonSets, also NAMESPACE/NAME [default: all of the namespace]"
    ),
]
NamesNeeded = Annotated[list[str], typer.Argument(metavar="[NAMESPACE/]NAME…", help="DaemonSets")]
Namespace = Annotated[
    str | None,
    typer.Option("-n", "--namespace", metavar="NAME", help="namespace [default: the context's]"),
]
AllNamespaces = Annotated[bool, typer.Option("-A", "--all-namespaces", help="all namespaces")]
Selector = Annotated[
    str, typer.Option("-l", "--selector", metavar="LABELS", help="only those with these labels")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """What a command is about."""

    refs: tuple[Ref, ...] = ()
    """Those named; empty: all of `namespace`."""
    namespace: str = ""
    """Empty: all of the cluster."""
    selector: str = ""

    def covers(self, ref: Ref) -> bool:
        """Whether a DaemonSet is meant, labels aside."""
        if self.refs:
            return ref in self.refs
        return self.namespace in ("", ref.namespace)

    @property
    def where(self) -> str:
        """In words: `in namespace logging`."""
        return f"in namespace {self.namespace}" if self.namespace else "in any namespace"


def targets(
    names: Sequence[str] | None,
    *,
    namespace: str | None,
    home: str,
    everywhere: bool = False,
    selector: str = "",
) -> Targets:
    """Read the names and flags of a command line.

    Args:
        names: `NAME`, `NAMESPACE/NAME` or `daemonset.apps/NAME`.
        namespace: As given by `-n`.
        home: The person's own namespace.
        everywhere: As given by `-A`.
        selector: As given by `-l`.

    Raises:
        UsageError: A name is none, or the flags contradict one another.
    """
    if everywhere and namespace:
        raise UsageError("-n and -A contradict each other", remedy="give one of them")
    if namespace and not _NAME.fullmatch(namespace):
        raise UsageError("what -n names cannot be a namespace", remedy="write -n logging")
    if names and selector:
        raise UsageError("names and -l contradict each other", remedy="give one of them")
    refs = dict.fromkeys(_ref(each, namespace, home, everywhere=everywhere) for each in names or ())
    around = "" if everywhere else namespace or home
    return Targets(refs=tuple(refs), namespace=around, selector=selector)


def find(connection: Connection, wanted: Targets) -> tuple[Live, ...]:
    """Return the DaemonSets, by namespace and name.

    Raises:
        UsageError: One that was named is not there.
        DsgitopsError: The cluster cannot be read.
    """
    client = connection.client
    if not wanted.refs:
        found = client.daemonsets(wanted.namespace, wanted.selector)
        return tuple(sorted(found, key=lambda live: live.ref))
    lives = {ref: client.daemonset(ref) for ref in wanted.refs}
    absent = [ref for ref, live in lives.items() if live is None]
    if absent:
        raise _not_found(connection, absent)
    return tuple(live for live in lives.values() if live is not None)


def _ref(text: str, namespace: str | None, home: str, *, everywhere: bool) -> Ref:
    head, slash, tail = text.rpartition("/")
    if head in KINDS:
        head = ""
    if not _NAME.fullmatch(tail) or (head and not _NAME.fullmatch(head)) or (slash and not tail):
        raise UsageError(
            f"{text!r} is no name of a DaemonSet", remedy="write NAME or NAMESPACE/NAME"
        )
    if head and namespace and head != namespace:
        raise UsageError(f"{text} is not in namespace {namespace}", remedy="leave out -n")
    if everywhere and not head:
        raise UsageError(
            f"{tail} could be in any namespace with -A", remedy=f"write NAMESPACE/{tail}"
        )
    return Ref(head or namespace or home, tail)


def _not_found(connection: Connection, absent: Sequence[Ref]) -> UsageError:
    first = absent[0]
    there = [live.ref.name for live in connection.client.daemonsets(first.namespace)]
    near = get_close_matches(first.name, there, n=1)
    remedy = f"did you mean {first.namespace}/{near[0]}?" if near else ""
    if not there:
        remedy = f"namespace {first.namespace} has no DaemonSets; give another with -n"
    names = ", ".join(str(ref) for ref in absent)
    return UsageError(f"there is no DaemonSet {names}", remedy=remedy)
