"""`dsgitops diff`: what Git would change in the cluster, and whether pods restart for it.

The API server says it: a dry run of the very write that the agent would send is compared with
what is live, so defaults and webhooks are no differences.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dsgitops.cli import terminal
from dsgitops.cli.connection import Context, Kubeconfig  # noqa: TC001 - typer reads them
from dsgitops.cli.sources import Config  # noqa: TC001
from dsgitops.cli.target import AllNamespaces, Names, Namespace  # noqa: TC001
from dsgitops.cli.worktree import WorkTreePath  # noqa: TC001
from dsgitops.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dsgitops.cli.comparison import Comparison
    from dsgitops.cli.connection import Connection
    from dsgitops.cli.sources import Git
    from dsgitops.cli.target import Targets
    from dsgitops.core.catalog import Catalog
    from dsgitops.core.model import Desired, Live, Ref

DIFFERENCES = 1


class Output(StrEnum):
    """How `diff` prints."""

    UNIFIED = "unified"
    JSON = "json"
    MARKDOWN = "markdown"


def diff(  # noqa: PLR0913 - each is a flag
    names: Names = None,
    *,
    namespace: Namespace = None,
    all_namespaces: AllNamespaces = False,
    commit: Annotated[
        str, typer.Option("--commit", metavar="SHA", help="what of Git [default: HEAD]")
    ] = "HEAD",
    from_: Annotated[
        str | None, typer.Option("--from", metavar="SHA", help="compare two commits, no cluster")
    ] = None,
    to: Annotated[
        str | None, typer.Option("--to", metavar="SHA", help="the second one [default: HEAD]")
    ] = None,
    revision: Annotated[
        int | None,
        typer.Option("--revision", metavar="N", help="what going back to revision N would change"),
    ] = None,
    output: Annotated[
        Output, typer.Option("-o", "--output", help="unified, json or markdown")
    ] = Output.UNIFIED,
    exit_code: Annotated[
        bool, typer.Option("--exit-code/--no-exit-code", help="1 where there are differences")
    ] = True,
    path: WorkTreePath = Path(),
    config: Config = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """What Git would change in the cluster, and whether pods restart for it.

    Exits 0 without differences, 1 with some, 2 on any error.  Values of env, args and commands
    are shown as hashes.
    """
    from dsgitops.cli.connection import connect  # noqa: PLC0415 - heavy
    from dsgitops.cli.sources import open_git  # noqa: PLC0415
    from dsgitops.cli.target import targets  # noqa: PLC0415

    if to is not None and from_ is None:
        raise UsageError("--to without --from", remedy="give both, or --commit for live vs Git")
    if from_ is not None and revision is not None:
        raise UsageError("--from and --revision contradict each other", remedy="give one of them")
    if from_ is not None:
        wanted = targets(
            names, namespace=namespace, home="", everywhere=all_namespaces or not names
        )
        with open_git(path, config) as tree:
            found = between(tree, from_, to or "HEAD", wanted)
    else:
        connection = connect(kubeconfig, context)
        home = connection.namespace
        wanted = targets(names, namespace=namespace, home=home, everywhere=all_namespaces)
        if revision is not None:
            found = against_revision(connection, wanted, revision)
        else:
            with open_git(path, config) as tree:
                found = against_live(connection, tree, commit, wanted)
    differing = [each for each in found if each.differs]
    show(differing, output)
    if differing and exit_code:
        raise typer.Exit(DIFFERENCES)


# ---------------------------------------------------------------------------- what is compared


def between(tree: Git, one: str, two: str, wanted: Targets) -> list[Comparison]:
    """Compare two commits; no cluster is asked.

    Raises:
        UsageError: There is no such commit, or one of them cannot be understood.
    """
    from dsgitops.cli.comparison import Comparison, content  # noqa: PLC0415 - heavy

    first, second = tree.commit(one), tree.commit(two)
    before, after = _readable(tree.catalog(first)), _readable(tree.catalog(second))
    refs = sorted(ref for ref in before.desired.keys() | after.desired.keys() if wanted.covers(ref))
    _require(wanted, refs, "in either commit")
    found: list[Comparison] = []
    for ref in refs:
        old, new = before.desired.get(ref), after.desired.get(ref)
        one_side, two_side = (content(each.manifest) if each else None for each in (old, new))
        path = new.path if new else old.path if old else ""
        labels = (first[:7], second[:7])
        found.append(Comparison(ref=ref, before=one_side, after=two_side, labels=labels, path=path))
    return found


def against_live(
    connection: Connection, tree: Git, revision: str, wanted: Targets
) -> list[Comparison]:
    """Compare a commit with the cluster.

    Without names: the DaemonSets that the commit has, within the namespace.

    Raises:
        UsageError: The commit cannot be understood, or does not have what was named.
        DsgitopsError: The API server refuses the manifest, or does not answer.
    """
    commit = tree.commit(revision)
    catalog = _readable(tree.catalog(commit))
    desired = _chosen(catalog, wanted, connection.namespace)
    _require(wanted, [each.ref for each in desired], f"in commit {commit[:7]}")
    return [_against_live(connection, each, commit) for each in desired]


def against_revision(connection: Connection, wanted: Targets, number: int) -> list[Comparison]:
    """Compare what is live with an earlier revision of the same DaemonSet.

    Raises:
        UsageError: It has no such revision, or not exactly one DaemonSet is named.
    """
    from dsgitops.cli.comparison import Comparison, content  # noqa: PLC0415 - heavy
    from dsgitops.cli.target import find  # noqa: PLC0415

    if len(wanted.refs) != 1:
        raise UsageError("--revision is of one DaemonSet", remedy="name it: NAMESPACE/NAME")
    (live,) = find(connection, wanted)
    revisions = connection.client.revisions(live)
    chosen = next((each for each in revisions if each.number == number), None)
    if chosen is None:
        there = ", ".join(str(each.number) for each in revisions) or "none"
        raise UsageError(f"{live.ref} has no revision {number}", remedy=f"it has {there}")
    before = content(live)
    after = {**before, "spec": {**before["spec"], "template": dict(chosen.template)}}
    return [
        Comparison(
            ref=live.ref,
            before=before,
            after=after,
            labels=("live", f"revision-{number}"),
            nodes=live.desired_scheduled,
        )
    ]


def _against_live(connection: Connection, desired: Desired, commit: str) -> Comparison:
    from dsgitops.cli.comparison import Comparison, content  # noqa: PLC0415 - heavy

    live = connection.client.daemonset(desired.ref)
    answer = _rehearsed(connection, desired, live)
    _note_hold(desired, live)
    return Comparison(
        ref=desired.ref,
        before=content(live) if live is not None else None,
        after=content(answer),
        labels=("live", commit[:7]),
        nodes=live.desired_scheduled if live is not None else None,
        path=desired.path,
    )


def _rehearsed(connection: Connection, desired: Desired, live: Live | None) -> Live:
    """Return what the API server would make of the agent's forward write.

    Apply removes only what nobody else owns, and the agent takes over before it applies: where
    there is something to take over, the spec will be as if it were made anew, which a dry run
    under a name that nobody has tells.
    """
    from dataclasses import replace  # noqa: PLC0415 - only here

    from dsgitops.core import bodies  # noqa: PLC0415 - heavy
    from dsgitops.core.ownership import takeover  # noqa: PLC0415
    from dsgitops.errors import ActionRefused  # noqa: PLC0415

    if live is None or desired.ignore_diff or takeover(live.managed_fields) is None:
        return _tried(connection, desired, live)
    refused: ActionRefused | None = None
    try:
        answer = _tried(connection, desired, live)
    except ActionRefused as error:  # a new kind of probe beside the old, for one
        refused, answer = error, live
    fresh = replace(desired, ref=replace(desired.ref, name=f"{desired.ref.name}{bodies.FRESH}"))
    try:
        return replace(answer, spec=_tried(connection, fresh, None).spec)
    except ActionRefused:
        if refused is not None:
            raise refused from None
        terminal.note(f"{desired.ref}: fields that others hold may go too (no right to look)")
        return answer


def _tried(connection: Connection, desired: Desired, live: Live | None) -> Live:
    from dsgitops.cli.view import record_of  # noqa: PLC0415 - heavy
    from dsgitops.core import bodies  # noqa: PLC0415
    from dsgitops.core.actions import Rehearse  # noqa: PLC0415
    from dsgitops.core.record import Record  # noqa: PLC0415

    record = record_of(live) if live is not None else None
    body = bodies.forward(desired, live, record or Record(source=desired.source), hold=False)
    action = Rehearse(ref=desired.ref, body=body, digest=desired.digest)
    return connection.client.write(action, dry_run=True)


def _note_hold(desired: Desired, live: Live | None) -> None:
    """Say why a difference may stay: the content is held."""
    from dsgitops.cli.view import record_of  # noqa: PLC0415 - heavy

    record = record_of(live) if live is not None else None
    held = record.holds(desired.template, desired.digest) if record else None
    if held is not None:
        terminal.note(f"{desired.ref}: this content is held ({held.failure_class})")


def _chosen(catalog: Catalog, wanted: Targets, home: str) -> list[Desired]:
    from dsgitops.cli.worktree import desired_of  # noqa: PLC0415 - heavy

    around = wanted.namespace or home
    if wanted.refs:
        found = [desired_of(catalog, ref, namespace=ref.namespace) for ref in wanted.refs]
        return [each for each in found if each is not None]
    refs = {_with_namespace(ref, around) for ref in catalog.desired}
    covered = sorted(ref for ref in refs if wanted.covers(ref))
    every = [desired_of(catalog, ref, namespace=around) for ref in covered]
    return [each for each in every if each is not None]


def _with_namespace(ref: Ref, namespace: str) -> Ref:
    from dataclasses import replace  # noqa: PLC0415 - cheap, and only here

    return ref if ref.namespace else replace(ref, namespace=namespace)


def _readable(catalog: Catalog) -> Catalog:
    """Return a catalog of which every file could be understood.

    Raises:
        UsageError: One could not.
    """
    errors = [each for each in catalog.problems if each.severity == "error"]
    if errors:
        for each in errors[1:]:
            terminal.note(f"error: {each}")
        raise UsageError(str(errors[0]), remedy=errors[0].remedy or "run dsgitops validate")
    return catalog


def _require(wanted: Targets, found: Sequence[Ref], where: str) -> None:
    absent = [str(ref) for ref in wanted.refs if ref not in found]
    if absent:
        raise UsageError(f"{', '.join(absent)} is not {where}", remedy="check name and namespace")
    if not found:
        raise UsageError(f"there is no DaemonSet {wanted.where} {where}", remedy="give -n or -A")


# ---------------------------------------------------------------------------- printing


def show(differing: Sequence[Comparison], output: Output) -> None:
    """Print differences to stdout, and nothing where there are none."""
    from dsgitops.cli.comparison import markdown  # noqa: PLC0415 - heavy

    if not differing:
        terminal.note("no differences")
        return
    if output is Output.JSON:
        items = [each.as_json() for each in differing]
        terminal.say_json({"apiVersion": terminal.API_VERSION, "kind": "Diff", "items": items})
    elif output is Output.MARKDOWN:
        for line in markdown(differing):
            terminal.say(line)
    else:
        for each in differing:
            _show_unified(each)


def _show_unified(each: Comparison) -> None:
    terminal.say(f"{each.ref}: {each.prediction}")
    colourful = terminal.is_colourful()
    for line in each.unified():
        terminal.say(_coloured(line) if colourful else line)


def _coloured(line: str) -> str:
    code = {"+": "32", "-": "31", "@": "36"}.get(line[:1])
    return f"\x1b[{code}m{line}\x1b[0m" if code else line
