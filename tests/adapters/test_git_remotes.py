"""Real servers: git daemon, git http-backend behind TLS and a password, sshd, and hostile ones."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from adapters.sink import wait_for
from git_repositories import (
    DAEMONSET,
    Repository,
    Web,
    git_daemon,
    https_server,
    silent_server,
    source_of,
    ssh_server,
    sshd_path,
)

from dsgitops.adapters.git import address as addresses
from dsgitops.adapters.git.environment import Https, Ssh
from dsgitops.errors import SourceRefused, SourceUnreachable

USER, PASSWORD = "robot-4711", "hunter2-canary"
ODD = """ro'ta"ted $(id) `id` %s \\n é\\"""
"""A password that a shell, or printf, would take apart."""

needs_openssl = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="openssl is not installed"
)
needs_sshd = pytest.mark.skipif(
    sshd_path() is None or shutil.which("ssh") is None, reason="sshd or ssh is not installed"
)


@pytest.fixture
def repository(tmp_path):
    made = Repository.create(tmp_path / "root" / "agents.git")
    made.commit({"prod/a.yaml": DAEMONSET})
    return made


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def web(repository):
    return Web(root=repository.path.parent, user=USER, password=PASSWORD)


@pytest.fixture
def secrets(tmp_path):
    """Files as Kubernetes mounts them; `echo` leaves a newline at the end."""
    user, password = tmp_path / "username", tmp_path / "password"
    user.write_text(USER)
    password.write_text(PASSWORD + "\n")
    return user, password


def credentials(secrets, certificate):
    return Https(username_file=secrets[0], password_file=secrets[1], ca_file=certificate)


@contextmanager
def spying_on_processes():
    """Collect what /proc shows of every process's arguments and environment, again and again."""
    seen: set[bytes] = set()
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            for path in Path("/proc").glob("[0-9]*"):
                for name in ("cmdline", "environ"):
                    try:
                        seen.add((path / name).read_bytes())
                    except OSError:
                        continue
            done.wait(0.003)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


# ---------------------------------------------------------------------------- git://


def test_git_daemon_on_loopback_is_read(repository, cache):
    with git_daemon(repository.path.parent) as url:
        source = source_of(f"{url}/agents.git", cache)
        assert [file.path for file in source.fetch().files] == ["prod/a.yaml"]

        commit = repository.commit({"prod/a.yaml": "new"})

        assert source.fetch().commit == commit
        with pytest.raises(SourceRefused, match="no branch"):
            source_of(f"{url}/agents.git", cache, ref=("branch", "other")).fetch()
        with pytest.raises(SourceUnreachable):
            source_of(f"{url}/nothing.git", cache).fetch()

    with pytest.raises(SourceUnreachable):
        source.fetch()
    assert source.last().commit == commit


# ---------------------------------------------------------------------------- https://


@needs_openssl
def test_https_reads_with_a_password_from_files_and_shows_it_to_nobody(
    web, repository, cache, secrets, tmp_path
):
    with https_server(web, tmp_path) as (url, certificate):
        source = source_of(f"{url}/agents.git", cache, auth=credentials(secrets, certificate))

        with spying_on_processes() as seen:
            tree = source.fetch()

    assert [file.path for file in tree.files] == ["prod/a.yaml"]
    arguments = b"".join(seen)
    assert b"agents.git" in arguments  # the spy saw git at work
    # The server side (http-backend) never gets the password; the client must not show it.
    assert PASSWORD.encode() not in arguments
    kept = b"".join(path.read_bytes() for path in cache.rglob("*") if path.is_file())
    assert PASSWORD.encode() not in kept


@needs_openssl
def test_a_rotated_password_is_read_at_the_next_poll(web, cache, secrets, tmp_path, repository):
    with https_server(web, tmp_path) as (url, certificate):
        source = source_of(f"{url}/agents.git", cache, auth=credentials(secrets, certificate))
        source.fetch()
        web.password = ODD

        with pytest.raises(SourceUnreachable) as revoked:
            source.fetch()
        secrets[1].write_text(ODD)

        assert source.fetch()
    assert PASSWORD not in str(revoked.value) + revoked.value.remedy
    assert USER not in str(revoked.value)


@needs_openssl
@pytest.mark.parametrize(
    "content", [None, "", "\n", "two\nlines"], ids=["missing", "empty", "blank", "lines"]
)
def test_a_secret_file_that_cannot_be_used_is_named(web, cache, secrets, tmp_path, content):
    secrets[1].unlink()
    if content is not None:
        secrets[1].write_text(content)
    with https_server(web, tmp_path) as (url, certificate):
        source = source_of(f"{url}/agents.git", cache, auth=credentials(secrets, certificate))

        with pytest.raises(SourceUnreachable, match=r"secret file .*password"):
            source.fetch()


@needs_openssl
def test_a_certificate_that_nobody_vouches_for_is_refused(web, cache, secrets, tmp_path):
    with https_server(web, tmp_path) as (url, _):
        source = source_of(f"{url}/agents.git", cache, auth=credentials(secrets, None))

        with pytest.raises(SourceUnreachable) as refused:
            source.fetch()
    assert "caFile" in refused.value.remedy
    assert web.seen == []


@needs_openssl
def test_a_redirect_is_not_followed(web, cache, secrets, tmp_path, repository):
    (tmp_path / "other").mkdir()
    other = Web(root=repository.path.parent)
    with (
        https_server(web, tmp_path) as (url, certificate),
        https_server(other, tmp_path / "other") as (elsewhere, _),
    ):
        web.redirect = elsewhere
        source = source_of(f"{url}/agents.git", cache, auth=credentials(secrets, certificate))

        with pytest.raises(SourceUnreachable):
            source.fetch()
    assert other.seen == []


@needs_openssl
def test_a_login_page_is_not_a_repository(web, cache, secrets, tmp_path):
    web.answer = b"<html><title>Log in</title><input name=password value=hunter2>" + b"x" * 10_000
    with https_server(web, tmp_path) as (url, certificate):
        source = source_of(f"{url}/agents.git", cache, auth=credentials(secrets, certificate))

        with pytest.raises((SourceUnreachable, SourceRefused)) as refused:
            source.fetch()
    assert "a Git server answers there" in refused.value.remedy
    assert "html" not in str(refused.value).lower()
    assert len(str(refused.value)) < 600


# ---------------------------------------------------------------------------- ssh://


@needs_sshd
def test_ssh_reads_with_a_deploy_key_and_known_host_keys(repository, cache, tmp_path):
    with ssh_server(tmp_path) as server:
        auth = Ssh(key_file=server.key_file, known_hosts_file=server.known_hosts_file)
        source = source_of(server.url + str(repository.path), cache, auth=auth)

        assert [file.path for file in source.fetch().files] == ["prod/a.yaml"]
        commit = repository.commit({"prod/a.yaml": "new"})
        assert source.fetch().commit == commit


@needs_sshd
def test_a_changed_host_key_is_refused_and_named(repository, cache, tmp_path):
    with ssh_server(tmp_path) as server:
        key = (tmp_path / "deploy.pub").read_text()
        place = server.known_hosts_file.read_text().split()[0]
        server.known_hosts_file.write_text(f"{place} {key}")
        auth = Ssh(key_file=server.key_file, known_hosts_file=server.known_hosts_file)
        before = server.known_hosts_file.read_bytes()

        with pytest.raises(SourceUnreachable) as refused:
            source_of(server.url + str(repository.path), cache, auth=auth).fetch()

    assert "host key" in refused.value.remedy
    assert server.known_hosts_file.read_bytes() == before


@needs_sshd
def test_a_key_that_the_server_does_not_know_is_refused(repository, cache, tmp_path):
    with ssh_server(tmp_path) as server:
        (tmp_path / "authorized_keys").write_text("")
        auth = Ssh(key_file=server.key_file, known_hosts_file=server.known_hosts_file)

        with pytest.raises(SourceUnreachable) as refused:
            source_of(server.url + str(repository.path), cache, auth=auth).fetch()

    assert "auth files" in refused.value.remedy


@needs_sshd
def test_without_files_of_ours_nobody_elses_ssh_key_is_used(repository, cache, tmp_path):
    with ssh_server(tmp_path) as server, pytest.raises(SourceUnreachable):
        source_of(server.url + str(repository.path), cache).fetch()


# ---------------------------------------------------------------------------- hostile servers


@pytest.mark.parametrize("scheme", ["git", "http"])
def test_a_server_that_hangs_costs_its_deadline_and_leaves_no_process(cache, scheme):
    with silent_server() as port:
        source = source_of(f"{scheme}://127.0.0.1:{port}/agents.git", cache, timeout=1.0)
        started = time.monotonic()

        with pytest.raises(SourceUnreachable, match="did not answer within 1 s"):
            source.fetch()

    assert time.monotonic() - started < 20
    assert is_gone(f"127.0.0.1:{port}/")
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def is_gone(word: str) -> bool:
    """Whether soon no process has the word in its arguments any more."""
    return wait_for(lambda: not any(word.encode() in arguments for arguments in cmdlines()))


def cmdlines():
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            yield path.read_bytes()


def test_a_server_that_stalls_in_the_middle_leaves_the_mirror_usable(repository, cache):
    source = None
    with (
        git_daemon(repository.path.parent) as url,
        stalling_proxy(int(url.rpartition(":")[2])) as proxy,
    ):
        source = source_of(f"git://127.0.0.1:{proxy.port}/agents.git", cache, timeout=5.0)
        before = source.fetch()
        proxy.bytes_max = 700
        repository.commit({f"prod/f{n}.yaml": os.urandom(600).hex() for n in range(200)})

        with pytest.raises(SourceUnreachable):
            source.fetch()
        assert source.read([before.files[0].blob])
        assert not list(cache.rglob("tmp_pack_*"))
        proxy.bytes_max = None

        assert len(source.fetch().files) == 200


def test_what_a_server_says_is_cut_and_cleaned(cache):
    said = b'\x1b[31mtoken=hunter2\r\n{"level":"error"}' + b"y" * 3000
    with talking_server(b"ERR " + said) as port, pytest.raises(SourceUnreachable) as refused:
        source_of(f"git://127.0.0.1:{port}/agents.git", cache, timeout=30.0).fetch()
    text = str(refused.value)
    assert "hunter2" not in text
    assert text.isprintable()
    assert len(text) < 600


def test_a_host_that_resolves_to_a_metadata_address_is_refused(cache, monkeypatch):
    answer = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("169.254.169.254", 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answer)

    with pytest.raises(SourceRefused, match="metadata"):
        source_of("https://git.example.com/agents.git", cache).fetch()
    assert addresses.resolve("git.example.com")


def test_reading_the_last_tree_does_not_wait_for_a_fetch_that_hangs(repository, cache):
    with (
        git_daemon(repository.path.parent) as url,
        stalling_proxy(int(url.rpartition(":")[2])) as proxy,
    ):
        source = source_of(f"git://127.0.0.1:{proxy.port}/agents.git", cache, timeout=10.0)
        tree = source.fetch()
        proxy.bytes_max = 0
        hanging = threading.Thread(target=fetch_in_vain, args=(source,))
        hanging.start()
        time.sleep(0.3)
        started = time.monotonic()

        assert source.last() == tree
        assert source.read([tree.files[0].blob])
        assert time.monotonic() - started < 8
        assert hanging.is_alive()
        hanging.join()


def fetch_in_vain(source) -> None:
    with contextlib.suppress(SourceUnreachable):
        source.fetch()


class Proxy:
    """Passes bytes on, but no more than `bytes_max` of a server's answer."""

    port = 0
    bytes_max: int | None = None


@contextmanager
def stalling_proxy(target: int):
    proxy = Proxy()
    with socket.create_server(("127.0.0.1", 0)) as server:
        proxy.port = server.getsockname()[1]
        threading.Thread(target=accept, args=(server, target, proxy), daemon=True).start()
        yield proxy


def accept(server, target, proxy) -> None:
    while True:
        try:
            client, _ = server.accept()
            upstream = socket.create_connection(("127.0.0.1", target))
        except OSError:  # the test is over
            return
        threading.Thread(target=copy, args=(client, upstream, lambda: None), daemon=True).start()
        threading.Thread(
            target=copy, args=(upstream, client, lambda: proxy.bytes_max), daemon=True
        ).start()


def copy(source, sink, limit) -> None:
    passed = 0
    try:
        while chunk := source.recv(65536):
            most = limit()
            if most is not None and passed + len(chunk) > most:
                sink.sendall(chunk[: max(0, most - passed)])
                time.sleep(30)
            sink.sendall(chunk)
            passed += len(chunk)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        return


@contextmanager
def talking_server(line: bytes):
    """Says one pkt-line to everyone."""
    packet = f"{len(line) + 4:04x}".encode() + line
    with socket.create_server(("127.0.0.1", 0)) as server:

        def talk() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                with client:
                    client.recv(4096)
                    client.sendall(packet)

        threading.Thread(target=talk, daemon=True).start()
        yield server.getsockname()[1]
