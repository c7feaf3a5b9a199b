"""The command `dsgitops`: which verbs there are, and how every one of them ends.

A verb's module is imported when the verb is called: `dsgitops --help` imports none of them.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from difflib import SequenceMatcher, get_close_matches
from importlib import import_module
from importlib.util import find_spec
from pathlib import PurePath
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from typer.core import TyperGroup

from dsgitops.cli import terminal
from dsgitops.errors import DsgitopsError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

VERBS: Mapping[str, str] = {
    "run": "run the agent",
    "demo": "watch a rollout, a failure and the way back, offline",
    "validate": "check manifests, all problems at once",
    "diff": "what Git would change, and whether pods restart",
    "get": "DaemonSets: in sync or not, healthy or not, and why",
    "history": "revisions with their commits, and how each ended",
    "wait": "until a commit is everywhere, or is known to have failed",
    "rollback": "go back to the last good revision, or to another",
    "suspend": "let nothing be written, with a reason",
    "resume": "end a suspension",
    "quarantine": "content held back because it failed: list, release",
    "version": "print the version",
}
"""Every verb, in the order of `--help`, with what it does."""
_MODULES: Mapping[str, str] = {"resume": "suspend", "version": "main"}
"""Modules whose name is not the verb's."""
INTERRUPTED = 130
BROKEN_PIPE = 141
"""As a shell tells of a program that SIGPIPE ended: whoever read us had enough."""
_USAGE = cast("type[Exception]", typer.BadParameter.__base__)
"""What typer raises for a command line that it cannot read; its own name for it is private."""


class Verbs(TyperGroup):
    """The verbs, imported when called."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401, ARG002 - as typer has it
        """Return their names."""
        return [name for name in VERBS if find_spec(_module_of(name)) is not None]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401, ARG002
        """Import a verb; None: there is none of this name."""
        if cmd_name not in self.list_commands(None):
            return None
        return command_of(cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # noqa: ANN401
        """Find the verb that a command line names.

        Raises:
            UsageError: There is none; the nearest one is named.
        """
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            near = get_close_matches(args[0], VERBS, n=1)
            remedy = f"did you mean {near[0]}?" if near else "see dsgitops --help"
            raise UsageError(f"there is no verb {args[0]!r}", remedy=remedy)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401
        """List the verbs without importing them."""
        names = self.list_commands(ctx)
        with formatter.section("Verbs"):
            formatter.write_dl([(name, VERBS[name]) for name in names])


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - a callback of typer
    if wanted:
        version()
        raise typer.Exit


def version() -> None:
    """Print the version."""
    from importlib import metadata  # noqa: PLC0415 - reads files

    terminal.say(f"dsgitops {metadata.version('dsgitops')}")


app = typer.Typer(
    cls=Verbs,
    subcommand_metavar="VERB [ARGUMENTS]…",
    rich_markup_mode=None,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(epilog="`dsgitops VERB --help` says more about a verb.")
def root(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="print the version"),
    ] = False,
) -> None:
    """Keeps the DaemonSets of a cluster as Git has them, and puts back what worked."""


def command_of(verb: str) -> Any:  # noqa: ANN401 - a command of typer's private kind
    """Import a verb's module and return its command.

    The module has a function named as the verb, or a `typer.Typer` (verbs of verbs).
    """
    found: Callable[..., None] | typer.Typer = getattr(import_module(_module_of(verb)), verb)
    if not isinstance(found, typer.Typer):
        settings = {"help_option_names": ["-h", "--help"]}
        single = typer.Typer(rich_markup_mode=None, add_completion=False)
        single.command(verb, context_settings=settings)(found)
        found = single
    return typer.main.get_command(found)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command line, and end the process with its exit code (`interfaces.md`)."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    code = run_command(given)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = _hush()
    sys.exit(code)


def run_command(arguments: Sequence[str]) -> int:
    """Run a command line; return its exit code.  What went wrong is on stderr."""
    if not arguments:
        arguments = ["--help"]
    command = typer.main.get_command(app)
    try:
        code = command.main(list(arguments), prog_name=_program(), standalone_mode=False)
    except DsgitopsError as error:
        terminal.complain(error)
        return 2 if _is_diff(arguments) else error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except SystemExit as error:  # typer's own way out when nobody reads
        if not isinstance(error.__context__, BrokenPipeError):
            raise
        return _hush()
    except _USAGE as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            terminal.note(str(cast("Any", error).format_message()))
        else:
            terminal.complain(_in_our_words(error))
        return UsageError.exit_code
    return code if isinstance(code, int) else 0


def _module_of(verb: str) -> str:
    return f"dsgitops.cli.{_MODULES.get(verb, verb)}"


def _program() -> str:
    name = PurePath(sys.argv[0]).name
    return "kubectl dsgitops" if name.startswith("kubectl-") else "dsgitops"


def _is_diff(arguments: Sequence[str]) -> bool:
    """Whether any error is 2: kubectl's contract for `diff`, where 1 says "differences"."""
    return next((each for each in arguments if not each.startswith("-")), "") == "diff"


def _hush() -> int:
    """Let nothing more be written to a pipe that nobody reads."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return BROKEN_PIPE


def _in_our_words(error: Exception) -> UsageError:
    """Return what typer says of a command line as we say it, with a hint."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else _program()
    see = f"see {path} --help"
    text = " ".join(str(cast("Any", error).format_message()).split())
    said, _, meant = text.partition(" Did you mean ")
    near = list(getattr(error, "possibilities", None) or ([meant.strip("?'")] if meant else ()))
    wrong = str(getattr(error, "option_name", ""))
    near.sort(key=lambda each: -SequenceMatcher(None, wrong, each).ratio())
    if path == _program() and text.startswith("No such option"):
        see = f"options come after the verb: {path} VERB …"
    said = said.rstrip(".").replace("Value error, ", "").replace("No such ", "there is no ")
    said = said.replace("there is no option:", "there is no option").partition(" (Possible")[0]
    remedy = f"did you mean {near[0]}?" if near else see
    return UsageError(said[:1].lower() + said[1:], remedy=remedy)
