"""The command line as a whole: quick, lower case, quiet where it should be."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time

import pytest
from stage import PATH, Stage, daemonset

from dsgitops.cli.main import VERBS, run_command

HEAVY = ("kubernetes", "git", "rich", "apscheduler", "deepdiff", "sentry_sdk", "msgspec", "yaml")
DSGITOPS = [sys.executable, "-m", "dsgitops"]


def cpu_seconds(*arguments):
    """What a command takes of one core."""
    process = subprocess.Popen(
        [*DSGITOPS, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, _, usage = os.wait4(process.pid, 0)
    return usage.ru_utime + usage.ru_stime


def on_a_terminal(*arguments, **environ):
    """Run a command on a terminal of 80 columns; return what it showed."""
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", **environ}
    environment.pop("NO_COLOR", None) if "NO_COLOR" not in environ else None
    parent, child = pty.openpty()
    process = subprocess.Popen([*DSGITOPS, *arguments], stdout=child, stderr=child, env=environment)
    os.close(child)
    shown = b""
    while select.select([parent], [], [], 20)[0]:
        try:
            chunk = os.read(parent, 65536)
        except OSError:  # the other end is closed: Linux says EIO
            break
        if not chunk:
            break
        shown += chunk
    process.wait(10)
    os.close(parent)
    return shown.decode()


@pytest.fixture(scope="module")
def settled(tmp_path_factory):
    stage = Stage(tmp_path_factory.mktemp("stage"))
    stage.commit({PATH: daemonset()})
    stage.settle()
    yield stage
    stage.close()


def test_help_imports_nothing_that_is_slow():
    code = (
        "import sys\nfrom dsgitops.cli.main import run_command\nrun_command(['--help'])\n"
        f"print(sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stderr.strip() == "[]"
    assert "Verbs:" in done.stdout


def test_help_takes_less_than_three_tenths_of_a_second_of_one_core():
    cpu_seconds("--help")  # bytecode is compiled once

    assert min(cpu_seconds("--help") for _ in range(5)) < 0.3


def test_the_first_words_of_help_are_what_it_is_for(capsys):
    assert run_command(["--help"]) == 0

    shown = capsys.readouterr()
    assert "Keeps the DaemonSets of a cluster as Git has them" in shown.out
    assert shown.err == ""


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself_in_eighty_columns(verb, capsys):
    assert run_command([verb, "--help"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Usage: dsgitops ")
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    ("given", "error", "hint"),
    [
        ("gett", "there is no verb 'gett'", "did you mean get?"),
        ("rolback x", "there is no verb 'rolback'", "did you mean rollback?"),
        ("frobnicate", "there is no verb 'frobnicate'", "see dsgitops --help"),
        ("--versio", "there is no option --versio", "did you mean --version?"),
        ("get --kubeconfg x", "there is no option --kubeconfg", "did you mean --kubeconfig?"),
        ("-n logging get", "there is no option -n", "options come after the verb"),
        ("quarantine relase x", "there is no command 'relase'", "did you mean release?"),
        ("suspend agent", "missing option '--reason'", "see dsgitops suspend --help"),
        ("rollback", "missing argument 'NAME'", "see dsgitops rollback --help"),
        ("get -o jsn", "'jsn' is not one of 'table'", "see dsgitops get --help"),
        ("wait --timeout soon", "--timeout", "write 90s, 15m or 1h"),
        ("diff --to HEAD", "--to without --from", "give both"),
        ("get -n x -A", "-n and -A contradict each other", "give one of them"),
        ("get a/b/c", "'a/b/c' is no name of a DaemonSet", "write NAME or NAMESPACE/NAME"),
        ("get -A agent", "could be in any namespace", "write NAMESPACE/agent"),
    ],
)
def test_a_mistyped_command_line_is_told_with_a_way_out(given, error, hint, capsys, settled):
    flags = [] if given.startswith(("-", "gett", "rolb", "frob")) else settled_flags(settled)

    code = run_command([*given.split(), *flags])

    shown = capsys.readouterr()
    first, second = shown.err.splitlines()[:2]
    assert code == 2
    assert shown.out == ""
    assert first.startswith("error: ")
    assert error in first
    assert second.startswith("hint: ")
    assert hint in second
    assert not first.endswith(".")


def settled_flags(stage):
    return ["--kubeconfig", str(stage.kubeconfig)]


def test_without_a_verb_it_shows_its_help(capsys):
    assert run_command([]) == 0
    assert "Verbs:" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--version"], ["version"]])
def test_it_tells_its_version(arguments, capsys):
    assert run_command(arguments) == 0
    assert capsys.readouterr().out.startswith("dsgitops 0.")


def test_as_a_plugin_of_kubectl_it_calls_itself_so(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["/usr/local/bin/kubectl-dsgitops"])

    run_command(["get", "--help"])

    assert capsys.readouterr().out.startswith("Usage: kubectl dsgitops get ")


def test_a_cluster_that_does_not_answer_is_exit_code_7(tmp_path, capsys):
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: a\n"
        "clusters: [{name: a, cluster: {server: 'http://127.0.0.1:9'}}]\n"
        "users: [{name: a, user: {}}]\ncontexts: [{name: a, context: {cluster: a, user: a}}]\n"
    )

    code = run_command(["get", "--kubeconfig", str(kubeconfig)])

    assert code == 7
    assert "error: the API server 127.0.0.1:9 cannot be reached" in capsys.readouterr().err


def test_any_error_of_diff_is_exit_code_2_as_kubectl_has_it(settled, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    code = run_command(["diff", "-A", *settled_flags(settled)])

    shown = capsys.readouterr()
    assert code == 2
    assert shown.out == ""
    assert "there is no Git work tree here" in shown.err


def _hear_interrupts():
    """A shell has its background jobs ignore Ctrl-C, and so their children do: this suite."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_interrupted_it_ends_with_130_and_says_nothing(settled):
    process = subprocess.Popen(
        [*DSGITOPS, "get", "-A", "-w", *settled_flags(settled)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_hear_interrupts,  # noqa: PLW1509 - only sets a signal
    )
    assert process.stdout.readline().startswith("NAMESPACE")
    assert "agent" in process.stdout.readline()
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)

    assert process.returncode == 130
    assert "Traceback" not in err
    assert "rror" not in err


def test_a_reader_that_had_enough_is_no_error(settled):
    process = subprocess.Popen(
        [*DSGITOPS, "get", "-A", "-o", "json", *settled_flags(settled)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()
    err = process.stderr.read()
    process.wait(10)

    assert err == b""
    assert process.returncode == 141


def test_on_a_terminal_rows_fit_it_and_have_colours(settled):
    shown = on_a_terminal("get", "-A", *settled_flags(settled))

    assert "\x1b[32mSynced" in shown
    assert "nodes and stayed so" in shown
    assert max(len(line) for line in plain(shown).splitlines()) <= 80


def test_with_no_color_nothing_but_text_is_shown(settled):
    assert "\x1b" not in on_a_terminal("get", "-A", *settled_flags(settled), NO_COLOR="1")


def test_piped_there_are_no_colours(settled):
    done = subprocess.run(
        [*DSGITOPS, "get", "-A", *settled_flags(settled)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "TERM": "xterm-256color"},
    )

    assert "\x1b" not in done.stdout + done.stderr


def plain(text):
    return text.replace("\x1b[32m", "").replace("\x1b[0m", "").replace("\r", "")
