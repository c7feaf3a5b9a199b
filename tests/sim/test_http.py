"""The simulated API server over real HTTP, and under the real kubectl where there is one."""

from __future__ import annotations

import gzip
import http.client
import json
import shutil
import subprocess
import threading
import time

import pytest
import yaml
from contract.client import manifest

from dsgitops.sim.http import HttpServer
from dsgitops.sim.world import World

DAEMONSETS = "/apis/apps/v1/namespaces/default/daemonsets"
KUBECTL = shutil.which("kubectl")


@pytest.fixture
def server():
    world = World(nodes=3, seed=5)
    server = HttpServer(world.api)
    server.start()
    moving = threading.Event()

    def drive():
        while not moving.wait(0.02):
            with server.lock:
                world.advance(0.5)

    thread = threading.Thread(target=drive)
    thread.start()
    yield server
    moving.set()
    thread.join()
    server.stop()


def ask(server, method, path, body=None, **headers):
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=10)
    data = None if body is None else json.dumps(body)
    connection.request(method, path, data, {"Content-Type": "application/json", **headers})
    response = connection.getresponse()
    return response, response.read()


def test_requests_are_answered_with_status_and_body(server):
    response, body = ask(server, "POST", DAEMONSETS, manifest())
    assert response.status == 201
    assert json.loads(body)["metadata"]["name"] == "agent"

    response, body = ask(server, "GET", f"{DAEMONSETS}/nothing")
    assert (response.status, json.loads(body)["reason"]) == (404, "NotFound")


def test_a_watch_streams_lines_and_ends_cleanly(server):
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=10)
    connection.request("GET", f"{DAEMONSETS}?watch=1&timeoutSeconds=20")
    response = connection.getresponse()
    ask(server, "POST", DAEMONSETS, manifest())

    lines = [json.loads(line) for line in response]

    assert response.getheader("Transfer-Encoding") == "chunked"
    assert lines[0]["type"] == "ADDED"
    assert {line["type"] for line in lines[1:]} <= {"MODIFIED"}


def test_a_refused_watch_is_a_status(server):
    response, body = ask(server, "GET", f"{DAEMONSETS}?watch=1&fieldSelector=spec.x%3D1")

    assert response.status == 400
    assert b"is not a known field selector" in body


def test_only_large_answers_are_compressed(server):
    accept = {"Accept-Encoding": "gzip"}
    small, _ = ask(server, "GET", DAEMONSETS, **accept)
    for index in range(8):
        big = manifest(f"agent-{index}")
        big["metadata"]["annotations"] = {"big": "x" * 20_000}
        ask(server, "POST", DAEMONSETS, big)

    large, body = ask(server, "GET", DAEMONSETS, **accept)

    assert small.getheader("Content-Encoding") is None
    assert large.getheader("Content-Encoding") == "gzip"
    assert len(json.loads(gzip.decompress(body))["items"]) == 8
    assert ask(server, "GET", DAEMONSETS)[0].getheader("Content-Encoding") is None


def test_stopping_ends_open_watches(server):
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=10)
    connection.request("GET", f"{DAEMONSETS}?watch=1&timeoutSeconds=100000")
    response = connection.getresponse()

    server.stop()
    started = time.monotonic()

    assert response.read() == b""
    assert time.monotonic() - started < 5


@pytest.mark.skipif(KUBECTL is None, reason="kubectl is not installed")
def test_kubectl_applies_watches_rolls_out_and_undoes(server, tmp_path):
    config = tmp_path / "kubeconfig"
    server.write_kubeconfig(config)
    (tmp_path / "agent.yaml").write_text(yaml.safe_dump(manifest()))

    def kubectl(*words):
        done = subprocess.run(
            [KUBECTL, f"--kubeconfig={config}", f"--cache-dir={tmp_path}", *words],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "serverside-applied" in kubectl(
        "apply", "--server-side", "-f", str(tmp_path / "agent.yaml")
    )
    assert "successfully rolled out" in kubectl("rollout", "status", "ds/agent")
    kubectl("set", "env", "ds/agent", "C=3")
    assert "successfully rolled out" in kubectl("rollout", "status", "ds/agent")
    assert len(kubectl("rollout", "history", "ds/agent").strip().splitlines()) == 4
    kubectl("rollout", "undo", "ds/agent")
    kubectl("rollout", "status", "ds/agent")
    assert "C" not in kubectl("get", "ds", "agent", "-o", "jsonpath={..env[*].name}")

    table = kubectl("get", "ds,pods,controllerrevisions")
    assert "daemonset.apps/agent   3         3         3" in table
    assert "2/2     Running" in table
    assert "Pods Status:  3 Running" in kubectl("describe", "ds", "agent")
    pod = kubectl("get", "pods", "-o", "name").split()[0]
    assert "deleted" in kubectl("delete", pod)
    kubectl("annotate", "ds", "agent", "note=x")
    assert "deleted" in kubectl("delete", "ds", "agent")
