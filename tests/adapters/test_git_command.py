"""One git command: its deadline, its limits, its words."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from adapters.sink import wait_for

from dsgitops.adapters.git import command, environment
from dsgitops.adapters.git.command import Overdue, Oversized, sanitise
from dsgitops.errors import SourceUnreachable


@pytest.fixture
def surroundings(tmp_path):
    return environment.local(tmp_path, os.environ)


def soon(seconds: float = 10.0) -> float:
    return time.monotonic() + seconds


def alias(script: str) -> list[str]:
    """A git command that runs a shell: what git may start is killed with it."""
    return ["-c", f"alias.x=!{script}", "x"]


def test_the_deadline_kills_grandchildren_that_hold_the_pipes(surroundings, tmp_path):
    started = time.monotonic()

    with pytest.raises(Overdue):
        command.run(
            alias(f"sleep 60 & echo $! > {tmp_path}/pid; wait"),
            environment=surroundings,
            deadline=soon(4),
        )

    assert time.monotonic() - started < 30
    pid = int((tmp_path / "pid").read_text())
    assert wait_for(lambda: not is_alive(pid))


def is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123 - /proc
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_deadline_that_passed_already_is_overdue(surroundings):
    with pytest.raises(Overdue):
        command.run(["version"], environment=surroundings, deadline=soon(-1))


def test_output_without_end_is_stopped(surroundings):
    with pytest.raises(Oversized):
        command.run(
            alias("cat /dev/zero"), environment=surroundings, deadline=soon(), out_max=1 << 20
        )


def test_complaints_without_end_are_not_kept(surroundings):
    script = (
        "head -c 3000000 /dev/zero | tr '\\\\0' 'x' >&2; echo >&2; echo 'fatal: the end' >&2; false"
    )

    answer = command.run(alias(script), environment=surroundings, deadline=soon())

    assert answer.code == 1
    assert answer.said == "the end"


def test_a_guard_can_stop_a_command_that_says_nothing(surroundings, tmp_path):
    guard = command.growth_guard(tmp_path, 1000)
    script = f"head -c 5000 /dev/zero > {tmp_path}/tmp_pack_x; sleep 60"

    with pytest.raises(Oversized):
        command.run(alias(script), environment=surroundings, deadline=soon(), guard=guard)


def test_nothing_of_the_agents_environment_is_inherited(surroundings, monkeypatch):
    monkeypatch.setenv("SENTRY_DSN", "canary")
    monkeypatch.setenv("GIT_TRACE", "/tmp/canary")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example.com:3128")

    answer = command.run(alias("env"), environment=surroundings, deadline=soon())

    names = {line.partition("=")[0] for line in answer.out.decode().splitlines()}
    ours = {name for name in names if not name.startswith("GIT_") and name != "HTTPS_PROXY"}
    assert ours <= {
        "PATH",
        "HOME",
        "XDG_CONFIG_HOME",
        "LANGUAGE",
        "LC_ALL",
        "PWD",
        "OLDPWD",
        "SHLVL",
        "_",
    }
    assert "canary" not in answer.out.decode()


def test_the_version_of_git_is_known(tmp_path):
    assert command.version(tmp_path) >= (2, 30)


def test_when_the_agent_exits_git_does_not_stay_behind(tmp_path):
    """A poll hangs in a daemon thread, the main thread ends."""
    script = f"""
import os, threading, time
from pathlib import Path
from dsgitops.adapters.git import command, environment
surroundings = environment.local(Path({str(tmp_path)!r}), os.environ)
arguments = ["-c", "alias.x=!echo $$ > {tmp_path}/pid; sleep 60", "x"]
run = lambda: command.run(arguments, environment=surroundings, deadline=time.monotonic() + 60)
threading.Thread(target=run, daemon=True).start()
while not Path("{tmp_path}/pid").exists() or not Path("{tmp_path}/pid").read_text():
    time.sleep(0.01)
"""
    root = Path(command.__file__).parents[3]
    subprocess.run([sys.executable, "-c", script], check=True, cwd=root, timeout=20)

    pid = int((tmp_path / "pid").read_text())
    assert wait_for(lambda: not is_alive(pid))


@pytest.mark.parametrize("env_is_there", [True, False])
def test_git_missing_is_said_with_a_way_out(surroundings, monkeypatch, tmp_path, env_is_there):
    if env_is_there:
        (tmp_path / "env").symlink_to("/usr/bin/env")
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(SourceUnreachable) as refused:
        command.run(
            ["version"], environment=surroundings | {"PATH": str(tmp_path)}, deadline=soon()
        )
    assert "install git" in refused.value.remedy


@pytest.mark.parametrize(
    ("err", "said"),
    [
        (b"fatal: unable to access 'https://u:p@h/x?token=t': no route", "unable to access 'https://h/x': no route"),
        (b"remote: \x1b[31mtoken=hunter2\nfatal: remote error: hunter2", "the server refused"),
        (b"warning: x\nerror: a\nfatal: b\x1b]0;t\x07\x1b[2J\r", "b"),
        (b"Host key verification failed.\r\nfatal: Could not read from remote repository.\n\nPlease make sure", "Host key verification failed."),
        (b"fatal: \xff\xfe bad", "�� bad"),
        (b"", ""),
        (b"<html>", ""),
        (b"error: unable to write file ./objects/pack/tmp_pack_a1B2c3: No space left on device\nfatal: index-pack failed", "unable to write file ./objects/pack/tmp_pack: No space left on device"),
    ],
    ids=["url", "remote", "ansi", "ssh", "bytes", "nothing", "html", "disk"],
)  # fmt: skip
def test_only_gits_own_words_are_told(err, said):
    assert sanitise(err) == said


@pytest.mark.parametrize(
    ("first", "later"),
    [
        ("Failed to connect to git.example.com port 443 after 12 ms: Couldn't connect to server",
         "Failed to connect to git.example.com port 443 after 3077 ms: Couldn't connect to server"),
        ("Operation timed out after 10001 milliseconds with 0 bytes received",
         "Operation timed out after 10003 milliseconds with 12 out of 400 bytes received"),
        ("transfer closed with 100 bytes remaining to read",
         "transfer closed with 4711 bytes remaining to read"),
        ("HTTP/2 stream 5 was not closed cleanly", "HTTP/2 stream 7 was not closed cleanly"),
        ("fetch-pack: 12 bytes of body are still expected",
         "fetch-pack: 9 bytes of body are still expected"),
        ("unable to write file ./objects/pack/tmp_pack_a1B2c3: I/O error",
         "unable to write file ./objects/pack/tmp_pack_Zz9Yy8: I/O error"),
    ],
)  # fmt: skip
def test_the_same_fault_is_told_in_the_same_words_each_time(first, later):
    assert sanitise(f"fatal: {first}".encode()) == sanitise(f"fatal: {later}".encode())
    assert "port 443" in sanitise(f"fatal: {first}".encode()) or "443" not in first


def test_another_answer_is_another_fault():
    said = {sanitise(f"fatal: The requested URL returned error: {code}".encode())
            for code in (403, 404, 500)}  # fmt: skip

    assert len(said) == 3


def test_long_words_are_cut():
    assert len(sanitise(b"fatal: " + b"x" * 10_000)) == command.TEXT_MAX
