"""The floor of `bench/cluster.py`: the least that any agent must do between Git and the API server.

Told by a line on its standard input it fetches, asks Git what changed, reads that as YAML and sends
each object as a server-side apply over four connections.  It checks, watches and remembers nothing.
"""

from __future__ import annotations

import json
import queue
import ssl
import subprocess
import sys
import threading
from http.client import HTTPException, HTTPSConnection
from urllib.parse import urlsplit

import yaml

CONNECTIONS = 4
EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"


def git(mirror, *arguments, given=b""):
    """Run git in the mirror; return what it says."""
    command = ["git", "--git-dir", mirror, *arguments]
    return subprocess.run(command, input=given, capture_output=True, check=True).stdout


def changed(mirror, before, after):
    """Return the manifests that differ between two trees."""
    lines = git(mirror, "diff-tree", "-r", before, after).decode().splitlines()
    blobs = [each.split()[3] for each in lines]
    answer = git(mirror, "cat-file", "--batch", given="\n".join(blobs).encode())
    found, at = [], 0
    for _ in blobs:
        head, _, _ = answer[at:].partition(b"\n")
        start, size = at + len(head) + 1, int(head.split()[2])
        found.append(yaml.load(answer[start : start + size], yaml.CSafeLoader))
        at = start + size + 1
    return found


class Sender(threading.Thread):
    """One connection, and the objects that are sent over it."""

    def __init__(self, server, token, work):
        super().__init__(daemon=True)
        self.work = work
        split = urlsplit(server)
        trusting = ssl.create_default_context()
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE  # its own, on loopback
        self.connection = HTTPSConnection(split.hostname, split.port, context=trusting)
        self.headers = {
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/apply-patch+yaml",
            "User-Agent": "floor",
        }

    def run(self):
        """Send until the process ends."""
        while True:
            manifest = self.work.get()
            metadata = manifest["metadata"]
            path = f"/apis/apps/v1/namespaces/{metadata['namespace']}/daemonsets/{metadata['name']}"
            query = "?fieldManager=floor&force=true"
            answer = self._patch(path + query, json.dumps(manifest))
            if answer.status >= 300:
                sys.exit(answer.read().decode())
            answer.read()
            self.work.task_done()

    def _patch(self, path, body):
        """Send it; over a new connection where the server closed the idle one."""
        try:
            self.connection.request("PATCH", path, body, self.headers)
            return self.connection.getresponse()
        except (OSError, HTTPException):
            self.connection.close()
            self.connection.request("PATCH", path, body, self.headers)
            return self.connection.getresponse()


def main():
    """Fetch and send whenever told to: `cluster_floor.py URL MIRROR SERVER TOKEN`."""
    url, mirror, server, token = sys.argv[1:]
    subprocess.run(["git", "init", "-q", "--bare", mirror], check=True)
    work, before = queue.Queue(), EMPTY_TREE
    for _ in range(CONNECTIONS):
        Sender(server, token, work).start()
    for _ in sys.stdin:
        git(mirror, "fetch", "-q", "--no-tags", url, "+refs/heads/main:refs/heads/main")
        after = git(mirror, "rev-parse", "main").decode().strip()
        for manifest in changed(mirror, before, after):
            work.put(manifest)
        work.join()
        before = after


if __name__ == "__main__":
    main()
