"""The image that `make image` built, and one with a mirror's programs on top of it."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

NAME = "localhost/dsgitops"
MIRROR = "registry.example/mirror"
_BUILD = Path(__file__).parents[2] / "deploy" / "image" / "build.py"
_BUSYBOX = Path("/bin/busybox")
_PROGRAMS = ("sleep", "rm", "mv")
"""What the sidecar overlay's example calls besides git and sh."""


def archive() -> Path:
    """Return where `make image` leaves it."""
    base = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Path(base) / "dsgitops" / "image" / "dsgitops.tar"


def missing() -> str:
    """Return why there is none of these sources; empty: there is one."""
    done = subprocess.run(
        [sys.executable, str(_BUILD), "--check"], capture_output=True, check=False, text=True
    )
    return done.stderr.strip()


def tag() -> str:
    """Return the tag that it was built with."""
    with tarfile.open(archive()) as image:
        (described,) = _json(image, "manifest.json")
    return described["RepoTags"][0].rpartition(":")[2]


def with_mirror(folder: Path) -> Path:
    """Write an image that can be the sidecar overlay's mirror; return its archive."""
    path, layer = folder / "mirror.tar", _layer()
    with tarfile.open(archive()) as image, tarfile.open(path, "w") as made:
        (described,) = _json(image, "manifest.json")
        config = _json(image, described["Config"])
        config["rootfs"]["diff_ids"].append(f"sha256:{hashlib.sha256(layer).hexdigest()}")
        config["history"] = []
        for each in described["Layers"]:
            _add(made, each, _content(image, each))
        _add(made, "mirror-layer.tar", layer)
        _add(made, "config.json", json.dumps(config).encode())
        layers = [*described["Layers"], "mirror-layer.tar"]
        manifest = [{"Config": "config.json", "RepoTags": [f"{MIRROR}:1"], "Layers": layers}]
        _add(made, "manifest.json", json.dumps(manifest).encode())
    return path


def _layer() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as layer:
        _add(layer, "usr/bin/busybox", _BUSYBOX.read_bytes(), mode=0o755)
        for program in _PROGRAMS:
            entry = tarfile.TarInfo(f"usr/bin/{program}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            layer.addfile(entry)
    return out.getvalue()


def _json(image: tarfile.TarFile, name: str) -> Any:
    return json.loads(_content(image, name))


def _content(image: tarfile.TarFile, name: str) -> bytes:
    found = image.extractfile(name)
    assert found is not None, name
    return found.read()


def _add(archive: tarfile.TarFile, name: str, content: bytes, *, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))
