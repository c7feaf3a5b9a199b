"""What the software in simulated containers does, chosen by image and command as in real life.

Ordinary images of any name start, listen on whatever port they are asked on and answer every
path.  A few names are special, so that every failure of a real rollout can be told:

=====================  ==========================================================================
image                  what happens
=====================  ==========================================================================
`…:2-crash`            exits 1 at once
`…:2-exit0`            exits 0 after 2 s
`…:2-oom`              takes more memory than its limit after 2 s (OOMKilled)
`…:2-late-crash`       is fine for 20 s, then exits 3
`…:2-slow-25s`         listens after 25 s (any number)
`…:2-flaps`            answers for 7 s, does not for 7 s, for ever
`…:2-never-ready`      listens, and answers every path with 404
`…:2-deaf`             listens nowhere
`…:2-stubborn`         ignores SIGTERM: takes its whole grace period to stop
`…:2-root`             runs as root: cannot start with `runAsNonRoot`
`…:2-fills-disk`       writes 16 MiB into its emptyDirs
`…:2-missing`          is not in the registry
`…:2-denied`           is not for us (401)
`x.invalid/…`          the registry's host does not resolve
`down.example/…`       the registry refuses connections (also any registry on port 5998)
`503.example/…`        the registry answers 503 (also a repository named `broken`)
`…/private:1`          as `denied`
`dev.local/…`          busybox, on every node already: `sh -c` scripts are followed (sleep, exit,
                       httpd -p, dd, a loop that makes and removes a page); no command is a web
                       server on 8080 with the page `/` only.  It runs as root and is stubborn.
=====================  ==========================================================================

Probe paths `/never`, `/healthz-missing`, `/404`, … answer 404 everywhere, `/500` answers 500;
nobody listens on port 5997; port 5990, and the path `/backend`, ask a backend that all share.
A file, command or path with `nonesuch` in its name exists on no node.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from dsgitops.sim.objects import Object, dig, each

if TYPE_CHECKING:
    from collections.abc import Sequence

SHELL_IMAGES = "dev.local/"
"""Images of this registry are busybox, and on every node already."""
NONESUCH = "nonesuch"
BACKEND_PORT = 5990
DEAD_PORT = 5997
REFUSING_PORT = 5998
LOST_PAGES = frozenset({"/never", "/healthz-missing", "/404", "/nonesuch", "/missing"})
MEBIBYTE = 2**20

_REFERENCE = re.compile(
    r"(?P<repository>(?:[A-Za-z0-9.-]+(?::\d+)?/)?[a-z0-9]+(?:[._/-]+[a-z0-9]+)*)"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?(?:@sha256:[0-9a-f]{64})?",
    re.ASCII,
)
_UPPER_CASE = re.compile(r"(?:[^/]*[.:][^/]*/)?(?P<name>[^:@]*[A-Z][^:@]*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What the process of one container does; times are seconds since it started."""

    listens_after: float = 0.0
    ports: frozenset[int] | None = None
    """Where it listens; None: wherever it is asked."""
    pages: frozenset[str] | None = None
    """What it answers with 200, the rest is 404; None: every path."""
    flaps: float = 0.0
    """Answers for so long, does not for so long, for ever; 0: steady."""
    exits_after: float | None = None
    exit_code: int = 0
    runs_out_of_memory: bool = False
    heeds_sigterm: bool = True
    runs_as_root: bool = False
    fills: int = 0
    """Bytes it writes into its emptyDirs."""

    def is_up(self, age: float) -> bool:
        """Whether it serves its pages at that age."""
        if age < self.listens_after:
            return False
        return not self.flaps or int((age - self.listens_after) / self.flaps) % 2 == 0

    def next_change(self, age: float) -> float | None:
        """Return the age at which `is_up` may turn next; None: never."""
        if age < self.listens_after:
            return self.listens_after
        if not self.flaps:
            return None
        turns = int((age - self.listens_after) / self.flaps) + 1
        return self.listens_after + turns * self.flaps


ORDINARY = Program(listens_after=0.01)
_NOWHERE: frozenset[int] = frozenset()
_NOTHING: frozenset[str] = frozenset()
GONE = Program(ports=_NOWHERE)
"""A process that has ended: nobody listens."""
_TAGGED = {
    "crash": Program(exits_after=0.05, exit_code=1, ports=_NOWHERE),
    "exit0": Program(exits_after=2.0, exit_code=0, ports=_NOWHERE),
    "oom": Program(exits_after=2.0, exit_code=137, runs_out_of_memory=True, ports=_NOWHERE),
    "late-crash": Program(listens_after=0.01, exits_after=20.0, exit_code=3),
    "flaps": Program(listens_after=0.01, flaps=7.0),
    "never-ready": Program(pages=_NOTHING),
    "deaf": Program(ports=_NOWHERE),
    "stubborn": Program(listens_after=0.01, heeds_sigterm=False),
    "root": Program(listens_after=0.01, runs_as_root=True),
    "fills-disk": Program(listens_after=0.01, fills=16 * MEBIBYTE),
}
_TAG_WORD = re.compile(r"(?:^|[-._])(" + "|".join(_TAGGED) + r")$")
_SLOW = re.compile(r"(?:^|[-._])slow-(\d+)s$")


def errand_of(container: Object) -> Program:
    """Return what an init container's process does: as `program_of`, but it comes to an end."""
    program = program_of(container)
    return program if program.exits_after is not None else replace(program, exits_after=0.4)


def program_of(container: Object) -> Program:
    """Return what a container's process does."""
    image = str(container.get("image", ""))
    command = (*(container.get("command") or ()), *(container.get("args") or ()))
    if image.startswith(SHELL_IMAGES):
        return shell(command)
    return by_tag(tag_of(image))


@lru_cache(maxsize=1024)
def by_tag(tag: str) -> Program:
    """Return what an image's tag says about it."""
    if found := _SLOW.search(tag):
        return Program(listens_after=float(found[1]))
    word = _TAG_WORD.search(tag)
    return _TAGGED[word[1]] if word else ORDINARY


def tag_of(image: str) -> str:
    """Return the tag, `latest` where there is none."""
    bare = image.split("@", maxsplit=1)[0]
    _, colon, tag = bare.rpartition(":")
    return tag if colon and "/" not in tag else "latest"


def repository_of(image: str) -> str:
    """Return the name without tag and digest."""
    bare = image.split("@", maxsplit=1)[0]
    head, colon, tag = bare.rpartition(":")
    return head if colon and "/" not in tag else bare


# ---------------------------------------------------------------------------- busybox


@lru_cache(maxsize=256)
def shell(command: tuple[str, ...]) -> Program:
    """Return what busybox does: its script in a few words, without one a web server on 8080."""
    base = Program(heeds_sigterm=False, runs_as_root=True, listens_after=0.01)
    if not command:
        return replace(base, ports=frozenset({8080}), pages=frozenset({"/"}))
    script = command[2] if command[:2] == ("sh", "-c") and len(command) > 2 else " ".join(command)
    return _followed(base, script)


def _followed(base: Program, script: str) -> Program:
    before, served, _ = script.partition("httpd")
    port = re.search(r"httpd.*?-p (\d+)", script)
    pages = [f"/{page}" for page in re.findall(r"> (?:/\w+)*/([\w.]+)", script)]
    exits = re.search(r"\bexit (\d+)", script)
    grabs = re.search(r"dd if=\S+ of=/dev/null bs=(\d+)M", script)
    writes = re.search(r"of=(/\S+) bs=1M count=(\d+)", script)
    loop = re.search(r"while true; do .*?sleep (\d+); rm", script)
    return replace(
        base,
        listens_after=_slept(before) + 0.01 if served else 0.0,
        ports=frozenset({int(port[1])}) if port else _NOWHERE,
        pages=frozenset(page.replace("/index.html", "/") for page in pages) or frozenset({"/"}),
        flaps=float(loop[1]) if loop else 0.0,
        exits_after=_slept(script) + 0.02 if exits or grabs else None,
        exit_code=137 if grabs else int(exits[1]) if exits else 0,
        runs_out_of_memory=bool(grabs),
        fills=int(writes[2]) * MEBIBYTE if writes and "/dev/" not in writes[1] else 0,
    )


def _slept(script: str) -> float:
    return sum(float(found) for found in re.findall(r"\bsleep (\d+)", script))


def hook_fails(hook: Object) -> str | None:
    """Return how a lifecycle hook's command ends, None where it succeeds."""
    command: Sequence[str] = dig(hook, "exec", "command", default=())
    script = " ".join(command)
    exits = re.search(r"\bexit ([1-9]\d*)", script)
    if exits:
        return f"exited with {exits[1]}: "
    return "exited with 127: " if NONESUCH in script else None


def hook_lasts(hook: Object) -> float:
    """Return how many seconds a lifecycle hook takes."""
    if seconds := dig(hook, "sleep", "seconds"):
        return float(seconds)
    return _slept(" ".join(dig(hook, "exec", "command", default=())))


# ---------------------------------------------------------------------------- images


def is_on_every_node(image: str) -> bool:
    """Whether the image was loaded when the node was made."""
    return image.startswith(SHELL_IMAGES) and tag_of(image) in ("1", "2", "3")


def invalid_name(image: str) -> str | None:
    """Return what the kubelet says of a name that is none, else None."""
    if _REFERENCE.fullmatch(image):
        return None
    why = "invalid reference format"
    upper = _UPPER_CASE.match(repository_of(image))
    if upper and _REFERENCE.fullmatch(image.replace(upper["name"], upper["name"].lower())):
        why += f": repository name ({upper['name']}) must be lowercase"
    parse = f'couldn\'t parse image name "{image}": {why}'
    return f'Failed to apply default image tag "{image}": {parse}'


@lru_cache(maxsize=1024)
def pull_error(image: str) -> str | None:
    """Return why a pull fails, in containerd's words, None where it succeeds."""
    repository, tag = repository_of(image), tag_of(image)
    host, _, path = repository.partition("/")
    failed = f'failed to pull and unpack image "{image}": failed to resolve reference "{image}": '
    head = f'failed to do request: Head "https://{host}/v2/{path}/manifests/{tag}": '
    if host.endswith(".invalid"):
        return failed + head + f"dial tcp: lookup {host} on 10.96.0.10:53: no such host"
    if host == "down.example" or host.endswith(f":{REFUSING_PORT}"):
        address = host if ":" in host else f"{host}:443"
        return failed + head + f"dial tcp {address}: connect: connection refused"
    if host == "503.example" or path == "broken":
        status = f"failed with status code [manifests {tag}]: 503 Service Unavailable"
        return failed + f"pulling from host {host} {status}"
    if path == "private" or re.search(r"(?:^|[-._])denied$", tag):
        return failed + (
            "pull access denied, repository does not exist or may require authorization: "
            "server message: insufficient_scope: authorization failed"
        )
    if _is_unknown(host, tag):
        return f"rpc error: code = NotFound desc = {failed}{image}: not found"
    return None


def _is_unknown(host: str, tag: str) -> bool:
    if re.search(r"(?:^|[-._])missing$", tag):
        return True
    ours = host == "dev.local" or host.partition(":")[0] == "registry.example"
    return ours and tag not in ("1", "2", "3", "latest")


# ---------------------------------------------------------------------------- probes


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A probe as it meets the process: who is asked, when, and what lies around."""

    container: Object
    program: Program
    age: float
    """Seconds since the process started."""
    ip: str
    backend_up: bool = True


def shares_backend(probe: Object) -> bool:
    """Whether a probe's answer hangs on the backend that all pods share."""
    get = probe.get("httpGet") or {}
    return get.get("port") == BACKEND_PORT or get.get("path") == "/backend"


def probe_failure(probe: Object, asked: Asked) -> str | None:
    """Return why a probe fails, in the kubelet's words, None where it succeeds."""
    if "exec" in probe:
        return _exec_failure(probe, asked)
    if "tcpSocket" in probe:
        port = _port(probe["tcpSocket"].get("port"), asked)
        refused = f"dial tcp {asked.ip}:{port}: connect: connection refused"
        return None if _listens(port, asked) else refused
    if "grpc" in probe:
        port = _port(probe["grpc"].get("port"), asked)
        if _listens(port, asked):
            return None
        return f'timeout: failed to connect service "{asked.ip}:{port}" within 1s'
    return _http_failure(probe.get("httpGet") or {}, asked)


def _exec_failure(probe: Object, asked: Asked) -> str | None:
    command = " ".join(dig(probe, "exec", "command", default=()))
    timeout = int(probe.get("timeoutSeconds") or 1)
    if _slept(command) > timeout:
        return f'command timed out: "{command}" timed out after {timeout}s'
    if command == "false" or NONESUCH in command or re.search(r"\bexit [1-9]", command):
        return ""
    return None if asked.program.is_up(asked.age) else ""


def _http_failure(get: Object, asked: Asked) -> str | None:
    port = _port(get.get("port"), asked)
    path = str(get.get("path") or "/")
    host = str(get.get("host") or asked.ip)
    url = f"{str(get.get('scheme') or 'HTTP').lower()}://{host}:{port}{path}"
    refused = f'Get "{url}": dial tcp {host}:{port}: connect: connection refused'
    if shares_backend({"httpGet": get}):
        return None if asked.backend_up else refused
    if not _listens(port, asked):
        return refused
    if path == "/500":
        return "HTTP probe failed with statuscode: 500"
    pages = asked.program.pages
    known = path not in LOST_PAGES and (pages is None or path in pages)
    up = asked.program.is_up(asked.age)
    return None if known and up else "HTTP probe failed with statuscode: 404"


def _listens(port: int, asked: Asked) -> bool:
    if port == DEAD_PORT or asked.age < asked.program.listens_after:
        return False
    return asked.program.ports is None or port in asked.program.ports


def _port(given: int | str | None, asked: Asked) -> int:
    if isinstance(given, int):
        return given
    for port in each(asked.container, "ports"):
        if port.get("name") == given:
            return int(port["containerPort"])
    return int(given) if given and given.isdecimal() else 0
