"""The programs of a control plane, built from Go modules into a cache outside the tree.

Run it (`python tests/cluster/binaries.py`) to build what is not there: some 5 minutes and 520 MB
on two cores the first time, nothing afterwards.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
NAMES = (
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kubectl",
    "kwok",
    "server",  # etcd's own name
)
STAGES = ("node/fast/node-initialize", "node/heartbeat-with-lease/node-heartbeat-with-lease",
          "pod/fast/pod-ready", "pod/fast/pod-complete", "pod/fast/pod-delete")  # fmt: skip
"""What fake nodes and their pods do, from kwok's own module: pods are Ready at once."""


@dataclass(frozen=True)
class Binaries:
    """One version's programs, and what fake nodes do."""

    folder: Path

    def __getitem__(self, name: str) -> Path:
        return self.folder / "bin" / name

    @property
    def stages(self) -> Path:
        return self.folder / "stages.yaml"

    @property
    def missing(self) -> str:
        """What must be done first; empty: nothing."""
        if not shutil.which("openssl"):
            return "openssl is not installed"
        if self._stamp.exists() and self._stamp.read_text() == _digest():
            return ""
        how = "make cluster-test builds them" if shutil.which("go") else "Go is not installed"
        return f"the control plane's programs are not built; {how}"

    @property
    def _stamp(self) -> Path:
        return self.folder / "built"

    def build(self) -> None:
        """Build all of them, where they are not there or go.mod changed."""
        if not self.missing:
            return
        if not shutil.which("go"):
            sys.exit("cannot build a control plane: Go is not installed")
        self._stamp.unlink(missing_ok=True)
        (self.folder / "bin").mkdir(parents=True, exist_ok=True)
        _build(self.folder / "bin")
        kwok = Path(_go("list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/kwok"))
        texts = [(kwok / "kustomize/stage" / f"{each}.yaml").read_text() for each in STAGES]
        self.stages.write_text("---\n".join(texts))
        self._stamp.write_text(_digest())


def _build(to: Path) -> None:
    major, minor, _ = version().removeprefix("v").split(".")
    stamp = "k8s.io/component-base/version.git"  # without it clients see v0.0.0
    flags = f"-s -w -X {stamp}Version={version()} -X {stamp}Major={major} -X {stamp}Minor={minor}"
    _go("build", "-p", "2", "-ldflags", flags, "-o", f"{to}/", "tool")


def _go(*arguments: str) -> str:
    environment = os.environ | {"GOFLAGS": "-buildvcs=false"}
    done = subprocess.run(
        ["go", *arguments], cwd=HERE, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout.strip()


def _digest() -> str:
    text = (HERE / "go.mod").read_bytes() + (HERE / "go.sum").read_bytes()
    return hashlib.sha256(text).hexdigest()


def version() -> str:
    """Return the version of Kubernetes that go.mod asks for, as v1.36.1."""
    found = re.search(
        r"^\s*k8s\.io/kubernetes (v\S+)\b", (HERE / "go.mod").read_text(), re.MULTILINE
    )
    assert found, "go.mod names Kubernetes"
    return found[1]


def cached() -> Binaries:
    """Return the place in the cache of this go.mod's version, built or not."""
    base = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Binaries(Path(base) / "dsgitops" / "cluster" / version())


if __name__ == "__main__":
    cached().build()
