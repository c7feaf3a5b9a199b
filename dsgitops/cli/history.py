"""`dsgitops history`: revisions with the commits that made them, and how each ended."""

from __future__ import annotations

from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dsgitops.cli import terminal
from dsgitops.cli.connection import Context, Kubeconfig  # noqa: TC001 - typer reads them
from dsgitops.cli.target import AllNamespaces, Names, Namespace, Selector  # noqa: TC001
from dsgitops.cli.worktree import WorkTreePath  # noqa: TC001

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dsgitops.cli.ending import Ending
    from dsgitops.cli.table import Colour
    from dsgitops.core.model import Ref

HEADINGS = ("REVISION", "COMMIT", "OUTCOME", "CLASS", "CREATED", "NAME", "SUBJECT")
COLOURS: Mapping[str, Colour] = {"current": "blue", "good": "green", "rolledBack": "red"}


class Output(StrEnum):
    """How `history` prints."""

    TABLE = "table"
    JSON = "json"


def history(  # noqa: PLR0913 - each is a flag
    names: Names = None,
    *,
    namespace: Namespace = None,
    all_namespaces: AllNamespaces = False,
    selector: Selector = "",
    output: Annotated[Output, typer.Option("-o", "--output", help="table or json")] = Output.TABLE,
    path: WorkTreePath = Path(),
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Revisions with the commits that made them, and how each ended.

    current: it is live. good: it was everywhere, and stayed healthy for the bake time.
    rolledBack: it failed, and is held. superseded: something newer came before it was proved.
    """
    from dsgitops.cli.connection import connect  # noqa: PLC0415 - heavy
    from dsgitops.cli.ending import endings  # noqa: PLC0415
    from dsgitops.cli.target import find, targets  # noqa: PLC0415
    from dsgitops.cli.view import views  # noqa: PLC0415

    connection = connect(kubeconfig, context)
    wanted = targets(
        names,
        namespace=namespace,
        home=connection.namespace,
        everywhere=all_namespaces,
        selector=selector,
    )
    lives = find(connection, wanted)
    seen = views(connection, lives, wanted)
    found = {
        view.live.ref: endings(view.situation())
        for view in seen
        if wanted.refs or view.record is not None
    }
    if output is Output.JSON:
        terminal.say_json(listed(found))
    elif found:
        _show(found, _subjects(found, path))
    else:
        terminal.note(f"no DaemonSet {wanted.where} is managed by dsgitops")


def listed(found: Mapping[Ref, Sequence[Ending]]) -> dict[str, Any]:
    """Return the `RevisionList` (`interfaces.md`)."""
    items = [_item(ref, each) for ref, endings in found.items() for each in endings]
    return {"apiVersion": terminal.API_VERSION, "kind": "RevisionList", "items": items}


def _item(ref: Ref, each: Ending) -> dict[str, Any]:
    from dsgitops.core.record import stamp  # noqa: PLC0415 - see `history`

    created = each.revision.created
    item: dict[str, Any] = {
        "namespace": ref.namespace,
        "daemonset": ref.name,
        "revision": each.revision.number,
        "name": each.revision.name,
        "hash": each.revision.hash,
        "commit": each.commit or None,
        "digest": each.digest or None,
        "outcome": each.outcome,
        "created": stamp(created) if created else None,
    }
    if each.failure_class is not None:
        item["class"] = str(each.failure_class)
    return item


def _show(found: Mapping[Ref, Sequence[Ending]], subjects: Mapping[str, str]) -> None:
    from dsgitops.cli.table import Table  # noqa: PLC0415 - see `history`

    for at, (ref, each) in enumerate(found.items()):
        if len(found) > 1:
            terminal.say(("\n" if at else "") + f"{ref}:")
        rows = [_row(ending, subjects.get(ending.commit, "")) for ending in each]
        Table(HEADINGS, rows, COLOURS, has_text=True).show()


def _row(each: Ending, subject: str) -> list[str]:
    created = each.revision.created
    return [
        str(each.revision.number),
        each.commit.rsplit(":", 1)[-1][:7],
        each.outcome,
        str(each.failure_class or ""),
        f"{created:%Y-%m-%d %H:%M}" if created else "",
        each.revision.name,
        subject,
    ]


def _subjects(found: Mapping[Ref, Sequence[Ending]], path: Path) -> dict[str, str]:
    """Return commit messages' first lines, where the work tree around us has the commits."""
    from dsgitops.cli.worktree import open_work_tree  # noqa: PLC0415 - see `history`
    from dsgitops.errors import DsgitopsError  # noqa: PLC0415

    commits = {each.commit for endings in found.values() for each in endings if each.commit}
    subjects: dict[str, str] = {}
    with suppress(DsgitopsError), open_work_tree(path) as tree:
        for commit in commits:
            subjects[commit] = tree.subject(commit.rsplit(":", 1)[-1])
    return subjects
