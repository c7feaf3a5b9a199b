"""`dsgitops quarantine`: content that failed and is kept out; give it another chance."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dsgitops.cli import terminal
from dsgitops.cli.connection import Context, Kubeconfig  # noqa: TC001 - typer reads them
from dsgitops.cli.target import AllNamespaces, Names, Namespace, Selector  # noqa: TC001
from dsgitops.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dsgitops.core.model import Live, Ref
    from dsgitops.core.record import Quarantined

HEADINGS = ("NAMESPACE", "NAME", "DIGEST", "CLASS", "COMMIT", "AT", "NODES")
DIGEST = "sha256:"
SHOWN_DIGITS = 12
DIGITS_MIN = 6
"""Of a digest that is given short."""

quarantine = typer.Typer(
    rich_markup_mode=None,
    add_completion=False,
    no_args_is_help=True,
    help="Content that failed, or that a person went back from: it is kept out.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Output(StrEnum):
    """How `quarantine list` prints."""

    TABLE = "table"
    JSON = "json"


@quarantine.command("list")
def list_(  # noqa: PLR0913 - each is a flag
    names: Names = None,
    *,
    namespace: Namespace = None,
    all_namespaces: AllNamespaces = False,
    selector: Selector = "",
    output: Annotated[Output, typer.Option("-o", "--output", help="table or json")] = Output.TABLE,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """What is held back, of which commit, since when and why."""
    from dsgitops.cli.connection import connect  # noqa: PLC0415 - heavy
    from dsgitops.cli.target import find, targets  # noqa: PLC0415

    connection = connect(kubeconfig, context)
    wanted = targets(
        names,
        namespace=namespace,
        home=connection.namespace,
        everywhere=all_namespaces,
        selector=selector,
    )
    held = [(live.ref, entry) for live in find(connection, wanted) for entry in _held(live)]
    if output is Output.JSON:
        items = [_item(ref, entry) for ref, entry in held]
        kind = "QuarantineList"
        terminal.say_json({"apiVersion": terminal.API_VERSION, "kind": kind, "items": items})
    elif held:
        _show(held)
    else:
        terminal.note("nothing is held")


@quarantine.command("release")
def release(  # noqa: PLR0913 - each is a flag
    name: Annotated[str, typer.Argument(metavar="NAME", help="a DaemonSet, also NAMESPACE/NAME")],
    digest: Annotated[
        str | None,
        typer.Argument(metavar="DIGEST", help="one content, its first digits will do"),
    ] = None,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="release several at once")] = False,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Give held content another chance: if Git still has it, it is rolled out again."""
    from dsgitops.cli.connection import connect  # noqa: PLC0415 - heavy
    from dsgitops.cli.target import find, targets  # noqa: PLC0415
    from dsgitops.cli.writing import insist  # noqa: PLC0415
    from dsgitops.core.situation import RETRY_AT  # noqa: PLC0415

    connection = connect(kubeconfig, context)
    wanted = targets([name], namespace=namespace, home=connection.namespace)

    def write(live: Live) -> None:
        held = _held(live)
        if not held:
            terminal.note(f"{live.ref} holds nothing")
            return
        chosen = _chosen(live.ref, held, digest)
        if len(chosen) > 1 and not yes:
            raise UsageError(
                f"{live.ref} holds {len(chosen)} contents",
                remedy="name one by its digest, or release all with --yes",
            )
        token = connection.now().isoformat(timespec="milliseconds")  # another one each time
        if digest is not None:
            token = f"{token}/{chosen[0].digest}"
        connection.client.annotate(live, {RETRY_AT: token})
        for entry in chosen:
            terminal.say(f"{live.ref}: {_short(entry.commit)} ({entry.failure_class}) released")

    (live,) = find(connection, wanted)
    insist(write, live, connection)


def _held(live: Live) -> tuple[Quarantined, ...]:
    from dsgitops.cli.view import record_of  # noqa: PLC0415 - heavy

    record = record_of(live)
    return record.quarantine if record is not None else ()


def _chosen(ref: Ref, held: Sequence[Quarantined], digest: str | None) -> Sequence[Quarantined]:
    """Return what is to be released.

    Raises:
        UsageError: The digest names nothing that is held, or more than one.
    """
    if digest is None:
        return held
    digits = digest.removeprefix(DIGEST).lower()
    found = [each for each in held if each.digest.removeprefix(DIGEST).startswith(digits)]
    if len(digits) < DIGITS_MIN or not found:
        there = ", ".join(_digits(each.digest) for each in held)
        raise UsageError(f"{ref} holds nothing of this digest", remedy=f"it holds {there}")
    if len({each.digest for each in found}) > 1:
        raise UsageError("more than one digest begins so", remedy="give more of its digits")
    return found


def _show(held: Sequence[tuple[Ref, Quarantined]]) -> None:
    from dsgitops.cli.table import Table  # noqa: PLC0415 - heavy

    rows = [
        [
            ref.namespace,
            ref.name,
            _digits(entry.digest),
            str(entry.failure_class),
            _short(entry.commit),
            f"{entry.at:%Y-%m-%d %H:%M}",
            ", ".join(entry.nodes) or (f"by {entry.by}" if entry.by else ""),
        ]
        for ref, entry in held
    ]
    Table(HEADINGS, rows, has_text=True).show()


def _item(ref: Ref, entry: Quarantined) -> dict[str, Any]:
    from dsgitops.core.record import stamp  # noqa: PLC0415 - heavy

    return {
        "namespace": ref.namespace,
        "name": ref.name,
        "digest": entry.digest,
        "template": entry.template or None,
        "hash": entry.hash or None,
        "commit": entry.commit or None,
        "class": str(entry.failure_class),
        "at": stamp(entry.at),
        "nodes": list(entry.nodes),
        "by": entry.by or None,
    }


def _digits(digest: str) -> str:
    return digest.removeprefix(DIGEST)[:SHOWN_DIGITS]


def _short(commit: str) -> str:
    return commit.rsplit(":", 1)[-1][:7]
