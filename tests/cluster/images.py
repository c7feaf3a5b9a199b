"""Container images made on the spot from Debian's static busybox, and a registry without any."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PAUSE = "registry.example/pause:1"
AGENTS = tuple(f"registry.example/agent:{number}" for number in range(1, 5))
"""The same programs in each; every other tag is an honest pull failure."""
_PROGRAMS = (
    "sh",
    "sleep",
    "httpd",
    "wget",
    "cat",
    "test",
    "touch",
    "rm",
    "dd",
    "true",
    "false",
    "tail",
)
_BUSYBOX = Path("/bin/busybox")


def archives(folder: Path) -> list[Path]:
    """Return archives (as `docker save` writes them) of all images, made once in the folder."""
    made = {PAUSE: ["/bin/sleep", "2147483647"]} | {each: ["/bin/sh"] for each in AGENTS}
    found = []
    for number, (name, entry) in enumerate(made.items()):
        path = folder / f"image-{number}.tar"
        if not path.exists():
            _write(path, name, entry)
        found.append(path)
    return found


def _write(path: Path, name: str, entrypoint: list[str]) -> None:
    layer = _layer()
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": entrypoint, "Env": ["PATH=/bin"], "Labels": {"name": name}},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        "history": [],
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    with tarfile.open(path, "w") as archive:
        _add(archive, "layer.tar", layer)
        _add(archive, "config.json", json.dumps(config).encode())
        _add(archive, "manifest.json", json.dumps(manifest).encode())


def _layer() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as layer:
        for folder in ("bin", "tmp", "www", "etc"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            layer.addfile(entry)
        _add(layer, "bin/busybox", _BUSYBOX.read_bytes(), mode=0o755)
        _add(layer, "www/healthz", b"ok\n")
        for program in _PROGRAMS:
            entry = tarfile.TarInfo(f"bin/{program}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            layer.addfile(entry)
    return out.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes, *, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))


@contextmanager
def empty_registry():
    """Serve a registry on loopback that has no image at all; yield its `host:port`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Empty)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Empty(BaseHTTPRequestHandler):
    """Answers as the distribution specification has it: the API is there, the manifest is not."""

    def do_GET(self) -> None:
        if self.path == "/v2/":
            self._answer(200, {})
        else:
            self._answer(404, {"errors": [{"code": "MANIFEST_UNKNOWN", "message": "unknown"}]})

    do_HEAD = do_GET  # noqa: N815 - http.server's names

    def _answer(self, status: int, body: dict[str, object]) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        """Nothing."""
