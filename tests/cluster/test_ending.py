"""A run of this suite that is asked to end leaves nothing: the real thing, with a real cluster."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from adapters.sink import wait_for
from cluster import binaries
from cluster.control_plane import index
from cluster.part import started_in

TESTS = Path(__file__).parents[1]
INDEX = index(0) + 100
"""Of the run within the run."""
FILES = {1: ["cluster/test_agent.py"], 2: ["cluster/test_agent.py", "cluster/test_shapes.py"]}


@pytest.fixture
def run(tmp_path):
    """Return what starts a run of a number of workers, whose every process knows our folder."""
    if os.environ.get("DSGITOPS_CLUSTER") != "real":
        pytest.skip("needs a real control plane: make cluster-test")
    started = []

    def start(workers):
        shared = ["-n", str(workers), "--dist", "loadfile"] if workers > 1 else []
        (tmp_path / "tmp").mkdir()
        ours = ("PYTEST", "PROOF")
        around = {k: v for k, v in os.environ.items() if not any(each in k for each in ours)}
        around |= {"TMPDIR": str(tmp_path / "tmp"), "DSGITOPS_CLUSTER_INDEX": str(INDEX)}
        command = [
            sys.executable,
            "-m",
            "pytest",
            *shared,
            *(TESTS / each for each in FILES[workers]),
        ]
        process = subprocess.Popen(
            command, env=around, cwd=TESTS.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        started.append(process)
        return process

    yield start
    for each in started:
        each.kill()
    for number in (INDEX, INDEX + 4):
        for each in (binaries.cached().folder / "failed").glob(f"*-{number}"):
            shutil.rmtree(each)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("workers", [1, 2], ids=["one process", "two workers"])
def test_a_run_that_is_asked_to_end_leaves_no_process_and_no_folder(run, tmp_path, workers):
    process = run(workers)

    def is_under_way():
        running = " ".join(started_in(tmp_path))
        return running.count("bin/kwok ") == workers and "-m dsgitops run" in running

    assert wait_for(is_under_way, 240), started_in(tmp_path)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=90)

    assert process.returncode == pytest.ExitCode.INTERRUPTED, said.decode()
    assert started_in(tmp_path) == []
    assert list((tmp_path / "tmp").glob("dsgitops-*")) == []
