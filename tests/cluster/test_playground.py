"""`make cluster` as a person runs it: it says how to reach it, and nothing of it is left after."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from cluster import binaries, images, real_node
from cluster.control_plane import index
from cluster.part import started_in

PLAYGROUND = Path(__file__).with_name("playground.py")
INDEX = index(0) + 40
"""Of its own: it takes the third kind of it."""
NODES = 23


@pytest.fixture
def folder():
    """A folder of its own; pytest's is too long a path for a socket."""
    with TemporaryDirectory(prefix="play-") as made:
        yield Path(made)


@pytest.fixture
def playground(folder):
    """Start one, whose every process has our folder in its environment."""
    if os.environ.get("DSGITOPS_CLUSTER") != "real":
        pytest.skip("needs a real control plane: make cluster-test")
    if lacking := real_node.missing():
        pytest.skip(lacking)
    around = os.environ | {"TMPDIR": str(folder), "DSGITOPS_CLUSTER_INDEX": str(INDEX)}
    around.pop("PYTEST_XDIST_WORKER", None)
    process = subprocess.Popen(
        [sys.executable, str(PLAYGROUND)], env=around, stdout=subprocess.PIPE, text=True
    )
    yield process
    process.terminate()
    process.wait(60)


def left_of(folder):
    """Return the processes, mounts, devices and cgroups that one made in a folder, and the folder.

    By name and place, whoever made them: what the harness itself looks at proves nothing.
    """
    found = [each.name for each in folder.iterdir()]
    found += [line for line in Path("/proc/mounts").read_text().splitlines() if str(folder) in line]
    found += [each.name for each in Path("/sys/class/net").glob(f"dsg{INDEX + 3}*")]
    found += [str(each) for each in Path("/sys/fs/cgroup").glob(f"**/dsgitops-{INDEX + 3}-*")]
    return found + started_in(folder)


def named_networks():
    """Return the network namespaces that the machine keeps by name."""
    place = Path("/run/netns")
    return {each.name for each in place.iterdir()} if place.exists() else set()


def sleeper():
    """Return a DaemonSet whose pods are real processes in real networks."""
    container = {"name": "agent", "image": images.AGENTS[0], "args": ["-c", "sleep 1000"]}
    pod = {
        "nodeSelector": {"pool": "real"},
        "containers": [container],
        "terminationGracePeriodSeconds": 0,
    }
    labels = {"app": "sleeper"}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "sleeper"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


@pytest.mark.timeout(300)
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGHUP], ids=["Ctrl-C", "closed terminal"])
def test_it_says_how_to_reach_it_and_leaves_nothing(playground, folder, prove, how):
    networks = named_networks()
    said = []
    for line in playground.stdout:
        said.append(line)
        if "stops it" in line:
            break
    (kubeconfig,) = re.findall(r"export KUBECONFIG=(\S+)", "".join(said))
    (seconds,) = re.findall(r"is up after (\d+) s", "".join(said))

    def kubectl(*arguments, stdin=""):
        command = [binaries.cached()["kubectl"], f"--kubeconfig={kubeconfig}", *arguments]
        return subprocess.run(command, input=stdin, check=True, stdout=subprocess.PIPE, text=True)

    assert len(kubectl("get", "nodes", "--output=name").stdout.splitlines()) == NODES
    kubectl("apply", "--filename=-", stdin=json.dumps(sleeper()))
    kubectl("rollout", "status", "daemonset/sleeper", "--timeout=60s")
    assert len(left_of(folder)) > 10, "one can see what is there"
    begun = time.monotonic()
    playground.send_signal(how)
    rest, _ = playground.communicate(timeout=60)

    assert (playground.returncode, rest) == (0, "stopped; nothing is left\n")
    assert left_of(folder) == []
    assert named_networks() <= networks
    prove(
        scenario=f"`make cluster`, ended by {how.name}",
        nodes="3 real, 20 kwok",
        outcome=f"up after {seconds} s; gone after {time.monotonic() - begun:.0f} s without a"
        " process, mount, bridge or cgroup",
    )
