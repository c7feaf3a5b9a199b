"""A real self-hosted server that speaks Sentry's protocol: Bugsink, from PyPI, in its own venv.

`python tests/adapters/bugsink.py` installs it into the cache folder; tests start it on loopback.
"""

from __future__ import annotations

import http.cookiejar
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from contextlib import contextmanager
from pathlib import Path

WANTED = "bugsink>=2,<3"
START_SECONDS = 60.0


def folder():
    """Return where it is installed, outside the tree."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "dsgitops" / "bugsink" / "2"


def missing():
    """Return what has to be done first; "" where nothing has."""
    ready = folder() / "ready"
    return "" if ready.exists() else f"{ready.parent} has no Bugsink: make alert-test"


def install():
    """Make the venv, and databases that every start begins with a copy of."""
    if not missing():
        return
    home = folder()
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    subprocess.run([sys.executable, "-m", "venv", home / "venv"], check=True)
    pip = [home / "venv/bin/python", "-m", "pip", "install", "--quiet", "--no-compile", WANTED]
    subprocess.run([*pip, "--disable-pip-version-check"], check=True)
    fresh = home / "fresh"
    fresh.mkdir()
    _configure(fresh, 8000)
    for database in ("default", "snappea"):
        _manage(fresh, "migrate", "--database", database)
    (home / "ready").touch()


def _configure(place, port):
    make = folder() / "venv/bin/bugsink-create-conf"
    (place / "bugsink_conf.py").unlink(missing_ok=True)
    subprocess.run(
        [make, "--template", "local", "--host", "127.0.0.1", "--port", str(port)],
        cwd=place, check=True, capture_output=True,
    )  # fmt: skip


def _manage(place, *arguments, **environment):
    done = subprocess.run(
        [folder() / "venv/bin/bugsink-manage", *arguments],
        cwd=place, check=True, capture_output=True, text=True,
        env={**os.environ, **environment},
    )  # fmt: skip
    return done.stdout.strip()


class Server:
    """One running server with one project.

    Args:
        url: On loopback.
        token: For its API.
        password: Of the user `ann`.
    """

    def __init__(self, url, token, password):
        self.url = url
        self.token = token
        self.password = password
        team = self.ask("teams/", {"name": "Node agents"})
        project = self.ask("projects/", {"name": "dsgitops", "team": team["id"]})
        self.project = project["id"]
        self.dsn = self.ask(f"projects/{self.project}/")["dsn"]

    def ask(self, path, body=None):
        """Ask the API; a body is posted."""
        request = urllib.request.Request(
            f"{self.url}/api/canonical/0/{path}",
            data=json.dumps(body).encode() if body else None,
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)

    def issues(self):
        return self.ask(f"issues/?project={self.project}")["results"]

    def events(self, issue):
        """Return the events of an issue, whole."""
        found = self.ask(f"events/?issue={issue['id']}")["results"]
        return [self.ask(f"events/{each['id']}/") for each in found]

    def page(self, path):
        """Return what a person sees on a page, as text."""
        jar = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        browser = urllib.request.build_opener(jar)
        with browser.open(f"{self.url}/accounts/login/", timeout=20) as answer:
            token = re.search(r'csrfmiddlewaretoken" value="([^"]+)"', answer.read().decode())[1]
        given = {"username": "ann", "password": self.password, "csrfmiddlewaretoken": token}
        form = urllib.parse.urlencode(given).encode()
        browser.open(f"{self.url}/accounts/login/", form, timeout=20).close()
        with browser.open(f"{self.url}{path}", timeout=20) as answer:
            return _text(answer.read().decode())


def _text(page):
    page = re.sub(r"(?s)<(script|style|svg)\b.*?</\1>", " ", page)
    page = re.sub(r"<[^>]+>", "\n", page)
    lines = (" ".join(line.split()) for line in page.splitlines())
    return "\n".join(line for line in lines if line)


@contextmanager
def running(place):
    """Run a server in an empty folder until the block ends."""
    place = Path(place)
    shutil.copytree(folder() / "fresh", place, dirs_exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    _configure(place, port)
    token = _manage(place, "create_auth_token").split()[-1]
    password = secrets.token_hex(8)
    _manage(
        place, "createsuperuser", "--noinput", "--username", "ann", "--email", "ann@example.com",
        DJANGO_SUPERUSER_PASSWORD=password,
    )  # fmt: skip
    with (place / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [folder() / "venv/bin/gunicorn", "--bind", f"127.0.0.1:{port}", "--workers", "1",
             "--threads", "2", "bugsink.wsgi"],
            cwd=place, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        url = f"http://127.0.0.1:{port}"
        _await(url, process, place)
        yield Server(url, token, password)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)


def _await(url, process, place):
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            urllib.request.urlopen(f"{url}/health/ready", timeout=5).close()
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise AssertionError((place / "server.log").read_text()[-2000:])


if __name__ == "__main__":
    install()
