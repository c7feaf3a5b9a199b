"""Build the image with buildah, as root on Debian 12, and start it as it is shipped.

`make image`: the base is made by debootstrap (`BASE=debian:12.12-slim` takes that one from a
registry instead). What is made lies in the cache: `dsgitops.tar` (a docker archive),
`dsgitops.cdx.json` (what is in it), and the base, which is kept for a week.

`--changed` builds only where the image is not of these sources; `--check` builds nothing, and ends
with 1 where it would.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import time
import tomllib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
NAME = "localhost/dsgitops"
OWN_BASE = "localhost/dsgitops-base"
SUITE = "bookworm"
MADE_OF = "dsgitops.sources"
"""File that says of which sources the image is."""
BASE_DAYS_MAX = 7
"""Older bases lack security updates; the build updates nothing but what it ships."""
GOAL_MB = 120
SOURCES = ("Dockerfile", "dsgitops", "deploy/image", "pyproject.toml")
"""What the image is made of."""
NEEDS = {"buildah": "buildah", "debootstrap": "debootstrap"}
INSTALL = Path(__file__).with_name("apt-install.sh")
APT = Path("/etc/apt")
PYTHON = "/opt/dsgitops/bin/python"
ASK_GIT = (
    "from pathlib import Path; from dsgitops.adapters.git import command; "
    "print(command.version(Path('/tmp')))"
)
"""As the agent starts it: in an environment of its own."""
ASK_MESSENGERS = (
    "from pathlib import Path; from dsgitops.adapters.notify import NotifyChannel; "
    "channel = NotifyChannel(Path('/tmp/urls'), cluster='', on=['failures']); "
    "print([str(channel._service(url).service_name) for url in ("
    "'slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ', 'mailto://me:secret@example.com', "
    "'matrix://me:secret@example.com/#room', 'json://example.com')])"
)
"""Some of the services that alerts can go to: none is asked for anything."""
BILL = "usr/share/sbom/dsgitops.cdx.json"


def cache() -> Path:
    """Return the folder of all that is made here."""
    base = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Path(base) / "dsgitops" / "image"


def missing() -> str:
    """Return why no image can be built here; empty: one can."""
    if os.geteuid() != 0:
        return "buildah and debootstrap need root here"
    if lacking := _lacking():
        return f"apt-get install --no-install-recommends {' '.join(lacking)}"
    return ""


def _lacking() -> list[str]:
    return sorted(package for what, package in NEEDS.items() if not shutil.which(what))


def digest() -> str:
    """Return what the sources are now, those not committed included."""
    listed = ("ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *SOURCES)
    found = hashlib.sha256()
    for name in sorted(filter(None, _git(*listed).split("\0"))):
        if (ROOT / name).is_file():
            found.update(f"{name}\0".encode() + (ROOT / name).read_bytes())
    return found.hexdigest()


def is_current() -> bool:
    """Whether the image is there, and of these sources."""
    made = cache() / MADE_OF
    return made.is_file() and made.read_text() == digest()


def main() -> None:
    """Build, save, measure, start."""
    if "--check" in sys.argv[1:]:
        sys.exit(None if is_current() else "the image is not built of these sources: make image")
    if "--changed" in sys.argv[1:] and is_current():
        return
    subprocess.run([INSTALL, *_lacking()], check=False)
    if lacking := missing():
        sys.exit(f"cannot build the image: {lacking}")
    cache().mkdir(parents=True, exist_ok=True)
    (cache() / MADE_OF).unlink(missing_ok=True)
    made_of, begun = digest(), time.monotonic()
    base = os.environ.get("BASE") or own_base()
    archive = build(base)
    say(f"built in {time.monotonic() - begun:.0f} s: {archive}")
    measure(archive)
    with started() as image:
        try_out(image)
    (cache() / MADE_OF).write_text(made_of)


def say(text: str) -> None:
    """Print one line at once."""
    print(text, flush=True)


# ---------------------------------------------------------------------------- building


def own_base() -> str:
    """Return the name of a base made of Debian's packages; it is made where it is too old."""
    folder = cache() / SUITE
    if not _is_fresh(folder):
        say("debootstrap: one minute or two")
        shutil.rmtree(folder, ignore_errors=True)
        _run("debootstrap", "--variant=minbase", SUITE, str(folder))
        _with_updates(folder)
        (folder / "made").touch()
    container = _buildah("from", "scratch").strip()
    try:
        _buildah("add", "--quiet", container, str(folder), "/")
        _buildah("commit", "--quiet", "--rm", container, OWN_BASE)
    except subprocess.CalledProcessError:
        _buildah("rm", container)
        raise
    return OWN_BASE


def _is_fresh(folder: Path) -> bool:
    made = folder / "made"
    return made.exists() and time.time() - made.stat().st_mtime < BASE_DAYS_MAX * 86400


def _with_updates(folder: Path) -> None:
    """Take this machine's own list of Debian's suites, which has the security updates."""
    for name in ("sources.list.d/debian.sources", "sources.list"):
        if (APT / name).is_file():
            (folder / "etc/apt/sources.list").unlink()
            shutil.copy(APT / name, folder / "etc/apt" / name)
            return


def build(base: str) -> Path:
    """Build the image; return its docker archive."""
    archive = cache() / "dsgitops.tar"
    archive.unlink(missing_ok=True)
    certificates = os.environ.get("PIP_CERT", "")
    _run(
        *_command("bud"), "--format", "docker", "--isolation", "chroot", "--layers=false",
        "--pull-never" if base == OWN_BASE else "--pull",
        *(["--secret", f"id=ca,src={certificates}"] if certificates else []),
        "--build-arg", f"BASE={base}", "--build-arg", f"VERSION={version()}",
        "--build-arg", f"REVISION={_git('rev-parse', 'HEAD')}",
        "--timestamp", _git("log", "-1", "--format=%ct"), "--tag", tagged(), str(ROOT),
    )  # fmt: skip
    _buildah("rmi", "--prune")  # the build's stages: copies of whole file systems
    _buildah("push", "--quiet", tagged(), f"docker-archive:{archive}:{tagged()}")
    return archive


def version() -> str:
    """Return the version that pyproject.toml names."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def tagged() -> str:
    """Return the image's name and tag."""
    return f"{NAME}:{version()}"


def _git(*arguments: str) -> str:
    return _run("git", "-C", str(ROOT), *arguments, quiet=True).strip()


def _command(verb: str) -> list[str]:
    place = cache() / "storage"
    return [
        "buildah", "--storage-driver", "vfs", "--root", str(place), "--runroot", f"{place}.run",
        verb,
    ]  # fmt: skip


def _buildah(verb: str, *arguments: str) -> str:
    return _run(*_command(verb), *arguments, quiet=True)


def _run(*command: str, quiet: bool = False) -> str:
    out = subprocess.PIPE if quiet else None
    return subprocess.run(command, check=True, stdout=out, text=True).stdout or ""


# ---------------------------------------------------------------------------- looking at it


def measure(archive: Path) -> None:
    """Print its size, unpacked and as a registry would send it; keep its bill of materials."""
    unpacked, packed = 0, 0
    with tarfile.open(archive) as outer:
        for member in outer:
            if member.name.endswith(".tar") and member.isfile():
                content = outer.extractfile(member)
                assert content is not None, "it is a file"
                data = content.read()
                unpacked += len(data)
                packed += len(gzip.compress(data, 6))
    megabyte = 1_000_000
    say(f"size: {unpacked / megabyte:.0f} MB ({packed / megabyte:.0f} MB packed), goal {GOAL_MB}")
    if unpacked > GOAL_MB * megabyte:
        sys.exit("larger than its goal")


@contextmanager
def started() -> Iterator[Path]:
    """Mount the image's files for the block, as a folder."""
    container = _buildah("from", "--pull-never", tagged()).strip()
    try:
        yield Path(_buildah("mount", container).strip())
    finally:
        _buildah("rm", container)


def try_out(image: Path) -> None:
    """Start it as uid 65532 with a read-only root, as a cluster would.

    Raises:
        SystemExit: It does not do what it must.
    """
    shutil.copy(image / BILL, cache() / Path(BILL).name)
    code, said = start(image, "version")
    if code != 0 or version() not in said:
        sys.exit(f"`version` ended with {code}:\n{said}")
    code, said = start(image, "run", "--once")
    if code != 2 or "no configuration is named" not in said:
        sys.exit(f"`run --once` without settings ended with {code}:\n{said}")
    code, said = enter(image, PYTHON, "-I", "-c", ASK_GIT)
    if code != 0 or "(2, 39" not in said:
        sys.exit(f"the agent cannot start its git:\n{said}")
    code, said = enter(image, PYTHON, "-I", "-c", ASK_MESSENGERS)
    if code != 0:
        sys.exit(f"the agent cannot load its messengers:\n{said}")
    code, said = enter(image, "/usr/bin/ssh", "-V")
    if code != 0:
        sys.exit(f"ssh cannot be started:\n{said}")
    say(f"starts as 65532 with a read-only root: {start(image, 'version')[1].strip()}")


def start(image: Path, *arguments: str) -> tuple[int, str]:
    """Start its entry point; return its exit code and what it said."""
    return enter(image, PYTHON, "-I", "-m", "dsgitops", *arguments)


def enter(image: Path, *command: str) -> tuple[int, str]:
    """Run a program of the image as its own uid, with nothing to write but /tmp."""
    inner = (
        f'mount --bind "{image}" "{image}" && mount -o remount,bind,ro "{image}"'
        f' && mount -t tmpfs -o mode=1777 tmpfs "{image}/tmp" && mount --rbind /dev "{image}/dev"'
        f" && exec env -i PATH=/opt/dsgitops/bin:/usr/bin:/bin HOME=/tmp LANG=C.UTF-8"
        f' {shutil.which("chroot")} --userspec=65532:65532 --groups= "{image}" "$@"'
    )
    done = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "sh", "-ec", inner, "enter", *command],
        check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60,
    )  # fmt: skip
    return done.returncode, done.stdout


if __name__ == "__main__":
    main()
