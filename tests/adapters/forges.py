"""A forge on loopback: takes commit statuses as GitHub, GitLab and Gitea do, by their public API.

The schemas are written by hand from the public documentation:
GitHub, docs.github.com/rest/commits/statuses ("Create a commit status");
GitLab, docs.gitlab.com/api/commits ("Set the pipeline status of a commit");
Gitea, docs.gitea.com/api (repoCreateStatus, CreateStatusOption, CommitStatusState).
"""

from __future__ import annotations

import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "forge-token-7f3a"
URL = {"type": "string", "pattern": r"https?://\S+"}
SHA = "[0-9a-f]{40}(?:[0-9a-f]{24})?"

SCHEMAS = {
    "github": {
        "path": rf"/repos/[\w.-]+/[\w.-]+/statuses/{SHA}",
        "headers": {
            "authorization": rf"Bearer {TOKEN}",
            "accept": r"application/vnd\.github\+json",
            "x-github-api-version": "2022-11-28",
            "user-agent": ".+",
            "content-type": "application/json",
        },
        "body": {
            "required": ["state"],
            "properties": {
                "state": {"type": "string", "enum": ["error", "failure", "pending", "success"]},
                "target_url": URL,
                "description": {"type": "string", "maxLength": 140},
                "context": {"type": "string", "maxLength": 255},
            },
        },
    },
    "gitlab": {
        "path": rf"/api/v4/projects/(?:[0-9]+|[\w.-]+(?:%2F[\w.-]+)+)/statuses/{SHA}",
        "headers": {"private-token": TOKEN, "content-type": "application/json"},
        "body": {
            "required": ["state"],
            "properties": {
                "state": {
                    "type": "string",
                    "enum": ["pending", "running", "success", "failed", "canceled", "skipped"],
                },
                "ref": {"type": "string", "maxLength": 255},
                "context": {"type": "string", "maxLength": 255},
                "target_url": {**URL, "maxLength": 255},
                "description": {"type": "string", "maxLength": 255},
            },
        },
    },
    "gitea": {
        "path": rf"/api/v1/repos/[\w.-]+/[\w.-]+/statuses/{SHA}",
        "headers": {"authorization": rf"token {TOKEN}", "content-type": "application/json"},
        "body": {
            "required": ["state"],
            "properties": {
                "state": {
                    "type": "string",
                    "enum": ["pending", "success", "error", "failure", "warning"],
                },
                "target_url": URL,
                "description": {"type": "string"},
                "context": {"type": "string"},
            },
        },
    },
}
PREFIX = {"github": "", "gitlab": "/api/v4", "gitea": "/api/v1"}


def faults(schema, body):
    """Return what is wrong with a body, by the few words of JSON Schema that are used here."""
    wrong = [f"{key} is missing" for key in schema["required"] if key not in body]
    for key, value in body.items():
        rule = schema["properties"].get(key)
        if rule is None:
            wrong.append(f"{key} is not in the schema")
            continue
        if not isinstance(value, str):
            wrong.append(f"{key} is no string")
            continue
        if len(value) > rule.get("maxLength", len(value)):
            wrong.append(f"{key} has {len(value)} characters")
        if value not in rule.get("enum", [value]):
            wrong.append(f"{key} is {value}")
        if not re.fullmatch(rule.get("pattern", r"(?s).*"), value):
            wrong.append(f"{key} has another form")
    return wrong


class ForgeServer:
    """Listens on loopback.  `answers` are used up first: (status, headers, body), or seconds."""

    def __init__(self, kind):
        self.kind = kind
        self.answers = []
        self.attempts = []
        """Monotonic times."""
        self.taken = []
        """(sha, body) of what was accepted."""
        self.seen = []
        """(path, headers, body as text) of every request."""
        self.wrong = []
        forge = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                forge.take(self)

            def do_GET(self):
                forge.wrong.append(f"GET {self.path}")
                self.send_error(405)

            def log_message(self, *arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.server_port}{PREFIX[self.kind]}"

    def take(self, request):
        raw = request.rfile.read(int(request.headers["Content-Length"])).decode()
        headers = {key.lower(): value for key, value in request.headers.items()}
        self.attempts.append(time.monotonic())
        self.seen.append((request.path, headers, raw))
        answer = self.answers.pop(0) if self.answers else (201, {}, b"{}")
        if not isinstance(answer, tuple):
            time.sleep(answer)
            return
        status, extra, body = answer
        if status == 201:
            self.check(request.path, headers, json.loads(raw))
            self.taken.append((request.path.rpartition("/")[2], json.loads(raw)))
        request.send_response(status)
        for name, value in extra.items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def check(self, path, headers, body):
        schema = SCHEMAS[self.kind]
        if not re.fullmatch(schema["path"], path):
            self.wrong.append(f"path {path}")
        for name, pattern in schema["headers"].items():
            if not re.fullmatch(pattern, headers.get(name, "")):
                self.wrong.append(f"header {name}")
        self.wrong += faults(schema["body"], body)

    def states(self, sha=None):
        """Return (state, description) of what was taken, of one commit or all."""
        return [(body["state"], body["description"]) for at, body in self.taken
                if sha is None or at == sha]  # fmt: skip

    def close(self):
        self.server.shutdown()
        self.server.server_close()
