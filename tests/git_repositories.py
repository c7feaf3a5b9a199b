"""Real Git repositories and servers for tests: nothing here pretends to be git."""

from __future__ import annotations

import base64
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cluster.part import die_with_parent

from dsgitops.adapters.git import address, revision
from dsgitops.adapters.git.source import GitSource, Tracked

DAEMONSET = "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: agent}\n"

_ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Ann",
    "GIT_AUTHOR_EMAIL": "ann@example.com",
    "GIT_COMMITTER_NAME": "Ann",
    "GIT_COMMITTER_EMAIL": "ann@example.com",
}


@dataclass
class Repository:
    """A bare repository that people push to."""

    path: Path

    @classmethod
    def create(cls, path: Path, *, object_format: str = "sha1") -> Repository:
        subprocess.run(
            ["git", "init", "-q", "--bare", "-b", "main", f"--object-format={object_format}", path],
            check=True,
            env=_ENVIRONMENT,
        )
        return cls(path)

    def git(self, *arguments: str, given: bytes = b"", **environment: str) -> str:
        done = subprocess.run(
            ["git", *arguments],
            cwd=self.path,
            input=given,
            capture_output=True,
            check=False,
            env=_ENVIRONMENT | environment,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode().strip()

    def blob(self, text: str | bytes) -> str:
        given = text.encode() if isinstance(text, str) else text
        return self.git("hash-object", "-w", "--stdin", given=given)

    def tree(self, *lines: str) -> str:
        r"""Make a tree of `MODE TYPE ID\tNAME` lines; mktree takes any name."""
        given = b"".join(line.encode("utf-8", "surrogateescape") + b"\0" for line in lines)
        return self.git("mktree", "-z", "--missing", given=given)

    def commit_tree(
        self, tree: str, *, branch: str = "main", parent: str | None = "", message: str = "m"
    ) -> str:
        """Commit a tree; an empty parent is the branch's tip, None is no parent."""
        tip = self.tip(branch) if parent == "" else parent
        parents = ("-p", tip) if tip else ()
        made = self.git("commit-tree", tree, *parents, given=message.encode())
        self.git("update-ref", f"refs/heads/{branch}", made)
        return made

    def commit(self, files: dict[str, str], **options) -> str:
        """Commit exactly these files."""
        index = str(self.path / "test-index")
        Path(index).unlink(missing_ok=True)
        lines = b"".join(
            f"100644 {self.blob(text)}\t{path}\0".encode() for path, text in files.items()
        )
        self.git("update-index", "-z", "--index-info", given=lines, GIT_INDEX_FILE=index)
        return self.commit_tree(self.git("write-tree", GIT_INDEX_FILE=index), **options)

    def tip(self, branch: str = "main") -> str:
        return self.git("for-each-ref", "--format=%(objectname)", f"refs/heads/{branch}")


def source_of(
    repository: Repository | str,
    cache: Path,
    *,
    ref: tuple[str, str] = ("branch", "main"),
    **options,
) -> GitSource:
    """Return a source as wiring would make it."""
    url = repository if isinstance(repository, str) else f"file://{repository.path}"
    parsed, wanted = address.parse(url), revision.parse(*ref)
    assert isinstance(parsed, address.Address), parsed
    assert isinstance(wanted, revision.Revision), wanted
    defaults = {"name": "agents", "timeout": 20.0}
    return GitSource(Tracked(address=parsed, revision=wanted, **defaults | options), cache)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def wait_for_port(port: int, host: str = "127.0.0.1") -> None:
    for _ in range(200):
        try:
            socket.create_connection((host, port), 0.2).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise AssertionError(f"nothing listens on {port}")


@contextmanager
def running(arguments: list[str], *, port: int, host: str = "127.0.0.1"):
    """A server process, until the block ends."""
    process = subprocess.Popen(
        arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=_ENVIRONMENT,
        preexec_fn=die_with_parent,  # noqa: PLW1509 - only sets a signal
    )  # fmt: skip
    try:
        wait_for_port(port, host)
        yield
    finally:
        process.terminate()
        process.wait(10)


@contextmanager
def git_daemon(base: Path, host: str = "127.0.0.1", port: int = 0):
    """`git daemon` on an address of this machine; gives the URL of its base."""
    port = port or free_port()
    programs = subprocess.check_output(["git", "--exec-path"], text=True).strip()
    # Not `git daemon`: that is a parent of it, which when killed leaves it behind.
    arguments = [f"{programs}/git-daemon", "--export-all", "--reuseaddr", f"--base-path={base}"]
    listen = [f"--listen={host}", f"--port={port}"]
    with running([*arguments, *listen, str(base)], port=port, host=host):
        yield f"git://{host}:{port}"


@dataclass
class Web:
    """What the HTTPS server does; changed by tests while it runs."""

    root: Path
    user: str = ""
    password: str = ""
    answer: bytes = b""
    """Where given, every request gets it, as HTML with status 200."""
    redirect: str = ""
    seen: list[str] = field(default_factory=list)


@contextmanager
def https_server(web: Web, folder: Path, host: str = "127.0.0.1"):
    """`git http-backend` behind TLS and basic authentication; gives (URL, CA file)."""
    name = "localhost" if host == "127.0.0.1" else host
    kind = "DNS" if name == "localhost" else "IP"
    certificate, key = folder / "tls.crt", folder / "tls.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "2", "-subj", f"/CN={name}", "-addext", f"subjectAltName={kind}:{name}",
         "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    server = ThreadingHTTPServer((host, 0), _handler(web))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"https://{name}:{server.server_address[1]}", certificate
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def _handler(web: Web) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            self._serve(b"")

        def do_POST(self) -> None:
            self._serve(self.rfile.read(int(self.headers.get("Content-Length", 0))))

        def _plain(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _serve(self, body: bytes) -> None:
            web.seen.append(self.path)
            if web.redirect:
                return self._plain(302, {"Location": web.redirect + self.path})
            if web.answer:
                return self._plain(200, {"Content-Type": "text/html"}, web.answer)
            token = base64.b64encode(f"{web.user}:{web.password}".encode()).decode()
            if web.password and self.headers.get("Authorization") != f"Basic {token}":
                return self._plain(401, {"WWW-Authenticate": 'Basic realm="git"'})
            path, _, query = self.path.partition("?")
            done = subprocess.run(
                ["git", "http-backend"],
                input=body,
                capture_output=True,
                check=False,
                env=_ENVIRONMENT
                | {
                    "GIT_PROJECT_ROOT": str(web.root),
                    "GIT_HTTP_EXPORT_ALL": "1",
                    "PATH_INFO": path,
                    "QUERY_STRING": query,
                    "REQUEST_METHOD": self.command,
                    "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                    "CONTENT_LENGTH": str(len(body)),
                    "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                    "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                    "REMOTE_USER": "ann",
                },
            ).stdout
            head, _, rest = done.partition(b"\r\n\r\n")
            headers = dict(
                line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line
            )
            status = int(headers.pop("Status", "200 OK").split()[0])
            return self._plain(status, headers, rest)

    return Handler


@dataclass
class Ssh:
    """An sshd on loopback with one deploy key."""

    url: str
    key_file: Path
    known_hosts_file: Path


def sshd_path() -> str | None:
    return shutil.which("sshd", path=os.environ["PATH"] + ":/usr/sbin:/usr/local/sbin")


@contextmanager
def ssh_server(folder: Path):
    """Debian's sshd with a host key, a deploy key and nothing else."""
    port, user = (
        free_port(),
        os.environ.get("USER") or subprocess.check_output(["id", "-un"], text=True).strip(),
    )
    for name in ("host", "deploy"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", folder / name],
            check=True,
        )
    (folder / "authorized_keys").write_text((folder / "deploy.pub").read_text())
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {(folder / 'host.pub').read_text()}")
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\nUsePAM no\n"
        f"AuthorizedKeysFile {folder}/authorized_keys\nStrictModes no\nPasswordAuthentication no\n"
    )
    Path("/run/sshd").mkdir(exist_ok=True)
    sshd = sshd_path()
    assert sshd is not None
    with running([sshd, "-D", "-q", "-f", str(folder / "sshd_config")], port=port):
        yield Ssh(f"ssh://{user}@127.0.0.1:{port}", folder / "deploy", folder / "known_hosts")


@contextmanager
def silent_server():
    """Accepts connections and says nothing, for ever; gives its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]
