"""The programs of a control plane, built from Go modules into a cache outside the tree.

Run it (`python tests/cluster/binaries.py`) to build what is not there: some 5 to 9 minutes and
520 MB on two cores the first time, nothing afterwards.  `DSGITOPS_KUBERNETES` names the minor
version, one of the folders in `modules`.
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

MODULES = Path(__file__).parent / "modules"
NEWEST = "1.36"
"""What is run by default; its module also has kwok, which serves every version."""
STAGES = ("node/fast/node-initialize", "node/heartbeat-with-lease/node-heartbeat-with-lease",
          "pod/fast/pod-ready", "pod/fast/pod-complete", "pod/fast/pod-delete")  # fmt: skip
"""What fake nodes and their pods do, from kwok's own module: pods are Ready at once."""


@dataclass(frozen=True)
class Binaries:
    """One version's programs, and what fake nodes do."""

    minor: str
    folder: Path
    kwok: Path
    """The folder of the version that kwok is built with."""

    def __getitem__(self, name: str) -> Path:
        """Return a program by its name; etcd's own is `server`."""
        return (self.kwok if name == "kwok" else self.folder) / "bin" / name

    @property
    def stages(self) -> Path:
        return self.kwok / "stages.yaml"

    @property
    def module(self) -> Path:
        return MODULES / self.minor

    @property
    def missing(self) -> str:
        """What must be done first; empty: nothing."""
        if not shutil.which("openssl"):
            return "openssl is not installed"
        if self._stamp.exists() and self._stamp.read_text() == self._digest:
            return ""
        how = "make cluster-test builds them" if shutil.which("go") else "Go is not installed"
        return f"the control plane's programs are not built; {how}"

    @property
    def _stamp(self) -> Path:
        return self.folder / "built"

    @property
    def _digest(self) -> str:
        text = (self.module / "go.mod").read_bytes() + (self.module / "go.sum").read_bytes()
        return hashlib.sha256(text).hexdigest()

    def build(self) -> None:
        """Build all of them, where they are not there or go.mod changed."""
        if self.kwok != self.folder:
            of(NEWEST).build()
        if not self.missing:
            return
        if not shutil.which("go"):
            sys.exit("cannot build a control plane: Go is not installed")
        self._stamp.unlink(missing_ok=True)
        (self.folder / "bin").mkdir(parents=True, exist_ok=True)
        self._go("build", *_QUICKLY, "-ldflags", self._flags(), "-o", f"{self.folder}/bin/", "tool")
        if self.kwok == self.folder:
            kwok = Path(self._go("list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/kwok"))
            texts = [(kwok / "kustomize/stage" / f"{each}.yaml").read_text() for each in STAGES]
            self.stages.write_text("---\n".join(texts))
        self._stamp.write_text(self._digest)

    def _flags(self) -> str:
        """Return the linker's flags: without a version clients see v0.0.0."""
        version = _version(self.minor)
        major, minor, _ = version.removeprefix("v").split(".")
        stamp = "k8s.io/component-base/version.git"
        return f"-s -w -X {stamp}Version={version} -X {stamp}Major={major} -X {stamp}Minor={minor}"

    def _go(self, *arguments: str) -> str:
        done = subprocess.run(
            ["go", *arguments],
            cwd=self.module,
            env=os.environ | {"GOFLAGS": "-buildvcs=false", **_MEMORY_FOR_TIME},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        return done.stdout.strip()


_QUICKLY = ("-p", "2", "-gcflags=all=-l", "-gcflags=std=")
"""What nobody inlines is compiled in two thirds of the time; Go's own library stays as fast."""
_MEMORY_FOR_TIME = {"GOGC": "off", "GOMEMLIMIT": "3GiB"}
"""Of each compiler, or a fifth of the time goes into collecting garbage; both took 3.3 GiB at most."""


def _version(minor: str) -> str:
    """Return the version of Kubernetes that a go.mod asks for, as v1.36.1."""
    text = (MODULES / minor / "go.mod").read_text()
    found = re.search(r"^\s*k8s\.io/kubernetes (v\S+)\b", text, re.MULTILINE)
    assert found, "go.mod names Kubernetes"
    return found[1]


def of(minor: str) -> Binaries:
    """Return the place in the cache of one minor version's programs, built or not."""
    known = sorted(each.name for each in MODULES.iterdir())
    if minor not in known:
        sys.exit(f"there is no Kubernetes {minor} here, only {' and '.join(known)}")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    place = base / "dsgitops" / "cluster"
    return Binaries(minor, place / _version(minor), place / _version(NEWEST))


def cached() -> Binaries:
    """Return the programs of the version that `DSGITOPS_KUBERNETES` names."""
    return of(os.environ.get("DSGITOPS_KUBERNETES", NEWEST))


if __name__ == "__main__":
    cached().build()
