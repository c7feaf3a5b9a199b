"""A real control plane on loopback: etcd, API server, controller manager, scheduler, fake nodes.

Everything it writes is in one folder, every process is a child that dies with us (even when we
are killed), and every port derives from an index, so that several can run side by side.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from cluster import audit, bridge
from cluster.part import Part
from pace import looks

from dsgitops.adapters.kubernetes.transport import connect
from dsgitops.ports import Request

if TYPE_CHECKING:
    from cluster.binaries import Binaries

    from dsgitops.adapters.kubernetes.transport import HttpTransport

READY_SECONDS_MAX = 90.0
"""From a start to an answer; 4 s on an idle machine, far more beside a build."""
_FIRST_PORT = 26400
_PORTS_EACH = 10
_KINDS = 4
_BASE = int(os.environ.get("DSGITOPS_CLUSTER_INDEX", "0"))
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))


def index(kind: int) -> int:
    """Return the index of this worker's cluster of a kind: 0 the shared one, else one's own.

    `DSGITOPS_CLUSTER_INDEX` sets apart several runs on one machine.
    """
    return _BASE + _WORKER * _KINDS + kind


@dataclass
class ControlPlane:
    """Kubernetes without kubelets: its nodes are kwok's, whose pods are Ready at once."""

    binaries: Binaries
    folder: Path
    index: int = 0
    node_grace: int = 120
    """Seconds that a node may be silent before it is NotReady.  Fake ones renew their Leases in a
    quarter of it: of a thousand, 33 a second, and late beside three other clusters."""
    in_pods: bool = False
    """Whether pods have accounts, and reach the API server at the Service `kubernetes` (no kube-proxy
    is needed: the address is a bridge's of this machine)."""
    parts: dict[str, Part] = field(default_factory=dict)
    token: str = field(default_factory=lambda: secrets.token_hex(16))

    # ------------------------------------------------------------------ up and down

    def start(self) -> None:
        """Start everything and wait until it serves.

        Raises:
            RuntimeError: A part ended, or did not answer in time; its last words are told.
        """
        if self.in_pods:
            bridge.make(self.bridge, f"{self.address}/32")
        self._write_files()
        self._run("etcd", self._etcd())
        self._run("apiserver", self._api_server())
        self.wait_for_api()
        self._run("controller-manager", self._controller_manager())
        self._run("scheduler", self._scheduler())
        self._run("kwok", self._kwok())
        self._wait("controller-manager", f"{self._url(3)}/healthz")

    def stop(self) -> None:
        """End every process; the folder stays."""
        if "_admin" in self.__dict__:
            self._admin.close()
        for part in reversed(self.parts.values()):
            part.kill()
        if self.in_pods:
            bridge.remove(self.bridge)

    def wait_for_api(self) -> None:
        self._wait("apiserver", f"{self.url}/readyz")

    def _run(self, name: str, arguments: list[str]) -> None:
        part = Part(name, arguments, self.folder / f"{name}.log")
        self.parts[name] = part
        part.start()

    def _wait(self, name: str, url: str) -> None:
        part, ends = self.parts[name], time.monotonic() + READY_SECONDS_MAX
        while time.monotonic() < ends:
            assert part.process is not None, "it was started"
            if part.process.poll() is not None:
                raise RuntimeError(f"{name} ended by itself:\n{part.last_words}")
            if self._answers(url):
                return
            time.sleep(0.1)
        raise RuntimeError(f"{name} is not ready:\n{part.last_words}")

    def _answers(self, url: str) -> bool:
        asked = urllib.request.Request(url, headers={"Authorization": f"Bearer {self.token}"})
        trusting = ssl._create_unverified_context()  # a certificate of its own, on loopback
        try:
            with urllib.request.urlopen(asked, timeout=5, context=trusting) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False

    # ------------------------------------------------------------------ what it is made of

    @property
    def url(self) -> str:
        return f"https://{self.address}:443" if self.in_pods else self._url(2)

    @property
    def address(self) -> str:
        """Where the API server listens; pods reach it (and servers of a test) there."""
        return f"{self._services}.1" if self.in_pods else "127.0.0.1"

    @property
    def bridge(self) -> str:
        return f"dsg{self.index}api"

    @property
    def _services(self) -> str:
        return f"10.99.{self.index % 256}" if self.in_pods else "10.0.0"

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "kubeconfig.yaml"

    def _port(self, number: int) -> int:
        return _FIRST_PORT + self.index * _PORTS_EACH + number

    def _url(self, number: int, scheme: str = "https") -> str:
        return f"{scheme}://127.0.0.1:{self._port(number)}"

    def _write_files(self) -> None:
        key, public = self.folder / "sa.key", self.folder / "sa.pub"
        for command in (
            ["genrsa", "-out", key, "2048"],
            ["rsa", "-in", key, "-pubout", "-out", public],
        ):
            subprocess.run(["openssl", *command], check=True, capture_output=True)
        (self.folder / "tokens.csv").write_text(f'{self.token},admin,admin,"system:masters"\n')
        authority = str(self.folder / "certs-apiserver" / "apiserver.crt")  # its own, made by it
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [
                {
                    "name": "test",
                    "cluster": {"server": self.url, "certificate-authority": authority},
                }
            ],
            "users": [{"name": "admin", "user": {"token": self.token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
        }
        self.kubeconfig.write_text(json.dumps(config))

    def _etcd(self) -> list[str]:
        clients, peers = self._url(0, "http"), self._url(1, "http")
        return [
            str(self.binaries["server"]), "--data-dir=etcd", "--unsafe-no-fsync",
            "--watch-progress-notify-interval=5s",  # as kubeadm sets it: bookmarks depend on it
            f"--listen-client-urls={clients}", f"--advertise-client-urls={clients}",
            f"--listen-peer-urls={peers}", f"--initial-advertise-peer-urls={peers}",
            f"--initial-cluster=default={peers}",
        ]  # fmt: skip

    def _api_server(self) -> list[str]:
        return [
            str(self.binaries["kube-apiserver"]), f"--etcd-servers={self._url(0, 'http')}",
            f"--bind-address={self.address}", f"--advertise-address={self.address}",
            f"--secure-port={self.url.rpartition(':')[2]}", "--cert-dir=certs-apiserver",
            "--token-auth-file=tokens.csv", "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-account-signing-key-file=sa.key", "--service-account-key-file=sa.pub",
            f"--service-cluster-ip-range={self._services}.0/24",
            *([] if self.in_pods else ["--disable-admission-plugins=ServiceAccount"]),
            "--allow-privileged=true", "--endpoint-reconciler-type=none",
            "--kubelet-preferred-address-types=InternalIP",  # nodes have no names in DNS
            "--max-requests-inflight=3000", f"--audit-policy-file={self._audit_policy()}",
            "--audit-log-path=audit.log",
            *(_POLICIES_OF_OLD if self.binaries.minor == "1.34" else []),
        ]  # fmt: skip

    def _audit_policy(self) -> Path:
        """Every request of ours is noted (who, which verb, what), so that tests can count them."""
        path = self.folder / "audit-policy.json"
        rules = [
            {"level": "None", "users": ["system:apiserver", "system:anonymous"]},
            {"level": "Metadata", "omitStages": ["RequestReceived"]},
        ]
        path.write_text(
            json.dumps({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": rules})
        )
        return path

    def _controller_manager(self) -> list[str]:
        off = ("bootstrap-signer", "token-cleaner", "horizontal-pod-autoscaler")
        return [
            str(self.binaries["kube-controller-manager"]), f"--kubeconfig={self.kubeconfig}",
            "--root-ca-file=certs-apiserver/apiserver.crt",
            "--service-account-private-key-file=sa.key",
            "--controllers=*," + ",".join(f"-{each}-controller" for each in off),
            "--leader-elect=false", "--kube-api-qps=500", "--kube-api-burst=1000",
            "--bind-address=127.0.0.1", f"--secure-port={self._port(3)}",
            "--cert-dir=certs-controller-manager",
            f"--node-monitor-grace-period={self.node_grace}s",
        ]  # fmt: skip

    def _scheduler(self) -> list[str]:
        return [
            str(self.binaries["kube-scheduler"]), f"--kubeconfig={self.kubeconfig}",
            "--leader-elect=false", "--kube-api-qps=500", "--kube-api-burst=1000",
            "--bind-address=127.0.0.1", f"--secure-port={self._port(4)}",
            "--cert-dir=certs-scheduler",
        ]  # fmt: skip

    def _kwok(self) -> list[str]:
        return [
            str(self.binaries["kwok"]), f"--kubeconfig={self.kubeconfig}",
            "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
            f"--node-lease-duration-seconds={self.node_grace}",
            "-c", str(self.binaries.stages),
        ]  # fmt: skip

    # ------------------------------------------------------------------ what is in it

    def call(self, method: str, path: str, body: object = None, *, media: str = "application/json"):
        """Send one request as the cluster's admin; return the answer's body, read."""
        answer = self._admin.send(
            Request(
                method=method,
                path=path,
                headers={"Content-Type": media, "User-Agent": "harness"},
                body=b"" if body is None else json.dumps(body).encode(),
            )
        )
        found = json.loads(answer.body)
        assert answer.status < 300, found
        return found

    @cached_property
    def _admin(self) -> HttpTransport:
        return connect(str(self.kubeconfig))

    def make_namespace(self, name: str) -> str:
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        self.call("POST", "/api/v1/namespaces", body)
        return name

    def delete_namespace(self, name: str) -> None:
        """Ask for it; what is in it goes when the controllers get to it."""
        self.call("DELETE", f"/api/v1/namespaces/{name}")

    def add_nodes(self, count: int, *, first: int = 0, cpu: str = "32") -> list[str]:
        """Add fake nodes, and wait until each is Ready and schedulable."""
        names = [f"node-{number:04}" for number in range(first, first + count)]
        for name in names:
            self.call("POST", "/api/v1/nodes", _fake_node(name, cpu))
        self.wait_for_nodes()
        return names

    def wait_for_nodes(self, *names: str) -> None:
        """Wait until these are there, and every node is Ready and schedulable."""
        for _ in looks(READY_SECONDS_MAX):
            nodes = self.call("GET", "/api/v1/nodes")["items"]
            there = {each["metadata"]["name"] for each in nodes}
            if there.issuperset(names) and all(_is_ready(each) for each in nodes):
                return
        raise RuntimeError(f"nodes are not ready:\n{self.parts['kwok'].last_words}")

    def label_node(self, name: str, **labels: str) -> None:
        body = {"metadata": {"labels": labels}}
        media = "application/merge-patch+json"
        self.call("PATCH", f"/api/v1/nodes/{name}", body, media=media)

    def forget(self) -> None:
        """Compact etcd: what was before now can no longer be listed or watched from there."""
        revision = self._etcd_call("range", {"key": "eA=="})["header"]["revision"]
        self._etcd_call("compaction", {"revision": revision, "physical": True})

    def _etcd_call(self, what: str, body: dict[str, object]) -> dict[str, dict]:
        url = f"{self._url(0, 'http')}/v3/kv/{what}"
        asked = urllib.request.Request(url, data=json.dumps(body).encode())
        with urllib.request.urlopen(asked, timeout=10) as answer:
            return json.loads(answer.read())

    def requests(self, agent: str) -> list[audit.Told]:
        """Return every answered request of a user agent in order."""
        return audit.told_by(self, audit.agent(agent))


_POLICIES_OF_OLD = (
    "--feature-gates=MutatingAdmissionPolicy=true",
    "--runtime-config=admissionregistration.k8s.io/v1beta1=true",
)
"""What the newest minor has by default."""


def _fake_node(name: str, cpu: str) -> dict[str, object]:
    size = {"cpu": cpu, "memory": "64Gi", "pods": "500"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {"kwok.x-k8s.io/node": "fake"},
            "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"},
        },
        "status": {"allocatable": size, "capacity": size},
    }


def _is_ready(node: dict[str, dict]) -> bool:
    conditions = {each["type"]: each["status"] for each in node["status"].get("conditions", [])}
    return conditions.get("Ready") == "True" and not node["spec"].get("taints")


@contextmanager
def running(binaries: Binaries, *, index: int = 0, failed=lambda: False, **options):
    """Start a control plane for the block; afterwards nothing of it is left.

    Args:
        binaries: Built ones.
        index: Which of several on this machine.
        failed: Whether the logs are worth keeping; asked at the end.
        options: Fields of `ControlPlane`.
    """
    folder = Path(tempfile.mkdtemp(prefix="dsgitops-cluster-"))
    plane = ControlPlane(binaries, folder, index, **options)
    good = False
    try:
        plane.start()
        yield plane
        good = not failed()
    finally:
        plane.stop()
        if not good:
            _keep_logs(plane, binaries.folder / "failed")
        shutil.rmtree(folder, ignore_errors=True)


def _keep_logs(plane: ControlPlane, kept: Path) -> None:
    place = kept / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{plane.index}"
    place.mkdir(parents=True, exist_ok=True)
    for log in plane.folder.rglob("*.log"):
        if "logs" not in log.relative_to(plane.folder).parts:
            shutil.copy2(log, place / "-".join(log.relative_to(plane.folder).parts))
    print(f"\nlogs of the control plane are in {place}")  # noqa: T201 - for whoever ran it
