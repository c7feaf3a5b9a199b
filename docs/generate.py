"""Writes the parts of the documentation that the code knows better: settings, verbs, the demo.

`python docs/generate.py` writes them; with `--check` it says what is out of date and exits 1.
"""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from dataclasses import MISSING, fields, is_dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from dsgitops.adapters.metrics import DECLARED
from dsgitops.cli.main import VERBS
from dsgitops.core import duration
from dsgitops.core.model import FailureClass, NodeState, Phase, Reason, Verdict, WaitingFor
from dsgitops.core.news import WARNINGS
from dsgitops.core.standing import OUT_OF_SYNC
from dsgitops.settings import subjects
from dsgitops.settings.reading import key_of

ROOT = Path(__file__).parent.parent
LABEL = re.compile(r"\{\{ \$labels\.(\w+) \}\}")
METRICS_HEAD = """# Health, metrics and alerts

The agent serves three pages at `http.listen` (default `0.0.0.0:8080`). The first two answer 200 or
503, and say why in one sentence.

- `/healthz`: a turn was completed within 3 poll intervals. Red: a turn, a poll or a write does not
  come back although its time is over, and a restart may help.
- `/readyz`: the cluster is seen, and the agent leads or stands by. Red: it was not read yet, has
  not been seen for more than 5 s (the sentence says since when and why), or the Lease cannot be
  kept.
- `/metrics`: for Prometheus.

A Git remote or an API server that is away, or that takes connections and never answers, is no
reason to restart: both are retried, a rollout in flight goes on, and a new process would not reach
them either ([decision 12](decisions/0012-an-api-that-hangs-is-no-reason-to-restart.md)).

## Metrics

Scrape with `honor_labels: true`: `namespace` and `name` are those of the DaemonSet. An agent that
stands by serves no series of DaemonSets and commits. A dashboard is in
[deploy/grafana](../deploy/grafana/dsgitops.json).
"""
REASONS_HEAD = """## Reasons

The same word in the record, `get`, log line, Event and in the label `reason` of
`dsgitops_decisions_total`. Where the last column is empty, `sync` follows from the phase.
"""
ALERTS_HEAD = """## Alerts

[deploy/alerts/dsgitops.rules.yaml](../deploy/alerts/dsgitops.rules.yaml), tested by `promtool test
rules` and before a real Prometheus.
"""
ROLES = (
    ("in each managed namespace", "managed/role.yaml", "Role"),
    ("in its own namespace", "base/lease.yaml", "Role"),
    ("in the whole cluster", "base/nodes.yaml", "ClusterRole"),
)
"""Where the shipped rights hold, and which file has them."""
REAL_SECONDS = re.compile(r"in \d+ s\.$", re.MULTILINE)


def docstrings(cls: type) -> dict[str, str]:
    """Return the docstring under each field of a class, on one line."""
    body = ast.parse(inspect.getsource(cls)).body[0]
    assert isinstance(body, ast.ClassDef)
    found: dict[str, str] = {}
    for field, text in zip(body.body, body.body[1:], strict=False):
        target = field.targets[0] if isinstance(field, ast.Assign) else None
        target = field.target if isinstance(field, ast.AnnAssign) else target
        value = text.value if isinstance(text, ast.Expr) else None
        if isinstance(target, ast.Name) and isinstance(value, ast.Constant):
            found[target.id] = " ".join(str(value.value).split())
    return found


def written(value: Any) -> str:
    """Return a default as it would be written."""
    if value is MISSING or value in (None, "", ()):
        return ""
    if isinstance(value, timedelta):
        return duration.show(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def rows(cls: type, prefix: str) -> list[str]:
    """Return a table row for each setting of a class, nested ones included."""
    told = docstrings(cls)
    out: list[str] = []
    for field in fields(cls):
        if "key" in field.metadata and not field.metadata["key"]:
            continue
        name = f"{prefix}{key_of(field)}"
        each = field.metadata.get("each") or field.metadata.get("values")
        inner = each or nested(cls, field.name)
        if inner is not None:
            many = "[]" if field.metadata.get("each") else ".NAME" if each else ""
            out.append(f"| `{name}{many}` | | {told.get(field.name, '')} |")
            if not (each and each is subjects.Rollout):
                out += rows(inner, f"{name}{many}.")
            continue
        default = written(field.default)
        shown = f"`{default}`" if default else ""
        out.append(f"| `{name}` | {shown} | {told.get(field.name, '')} |")
    return out


def nested(cls: type, name: str) -> type | None:
    """Return the settings class of a field, if it is one."""
    hint = get_type_hints(cls)[name]
    for each in (hint, *getattr(hint, "__args__", ())):
        if isinstance(each, type) and is_dataclass(each):
            return each
    return None


def settings_page() -> str:
    """Return docs/settings.md."""
    head = """# Settings

A YAML file (`--config` or `DSGITOPS_CONFIG`), environment variables
(`DSGITOPS_ROLLOUT__BAKE_TIME=5m` sets `rollout.bakeTime`) and flags (`--set rollout.bakeTime=5m`);
flags win over environment over file. Unknown keys are errors. Durations are written as Go does:
`30s`, `1m30s`. Secrets are read from files only.

| setting | default | meaning |
|---|---|---|
"""
    return head + "\n".join(rows(subjects.Settings, "")) + "\n"


def verbs_page() -> str:
    """Return docs/verbs.md: every help page as it is printed."""
    out = ["# Verbs", "", "Also installed as `kubectl dsgitops`.", ""]
    for verb in ("", *VERBS):
        title = f"dsgitops {verb}".strip()
        text = printed([*([verb] if verb else []), "--help"])
        out += [f"## {title}", "", "```", *text.rstrip().splitlines(), "```", ""]
    return "\n".join(out)


def names_page() -> str:
    """Return docs/names.md: the closed lists that are public API."""
    out = ["# Names that are public API", ""]
    for title, words in (
        ("Verdicts", Verdict),
        ("Reasons", Reason),
        ("What `Waiting` waits for", WaitingFor),
        ("Phases", Phase),
        ("Failure classes", FailureClass),
        ("Node states", NodeState),
    ):
        out += [f"**{title}**: " + ", ".join(f"`{word}`" for word in words) + ".", ""]
    return "\n".join(out)


def metrics_page() -> str:
    """Return docs/metrics.md: what is served, what it means, and what alerts of it."""
    out = [METRICS_HEAD, "| metric | kind | labels | meaning |", "|---|---|---|---|"]
    for each in DECLARED:
        labels = "; ".join(f"`{name}`: {values}" for name, values in each.labels.items())
        out.append(f"| `{each.name}` | {each.kind} | {labels} | {each.help} |")
    out += ["", REASONS_HEAD, "| reason | meaning | Event, log | `sync` |", "|---|---|---|---|"]
    told = docstrings(Reason)
    for reason in Reason:
        kind = "Warning" if reason in WARNINGS else "Normal"
        sync = "OutOfSync" if reason in OUT_OF_SYNC else ""
        out.append(f"| `{reason}` | {told[reason.name]} | {kind} | {sync} |")
    out += ["", ALERTS_HEAD, "| alert | severity | holds for | says |", "|---|---|---|---|"]
    groups = yaml.safe_load((ROOT / "deploy/alerts/dsgitops.rules.yaml").read_text())["groups"]
    for rule in (rule for group in groups for rule in group["rules"]):
        says = LABEL.sub(r"\1", rule["annotations"]["summary"])
        severity, wait = rule["labels"]["severity"], rule.get("for", "")
        out.append(f"| `{rule['alert']}` | {severity} | {wait} | {says} |")
    return "\n".join(out) + "\n"


def printed(arguments: list[str]) -> str:
    """Return what a command prints, 80 columns wide."""
    done = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-m", "dsgitops", *arguments],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "COLUMNS": "80", "NO_COLOR": "1"},
        timeout=300,
        cwd=ROOT,
    )
    return done.stdout


def rights() -> str:
    """Return what the shipped roles allow, a line for each place."""
    out = ["The rights of its account, as shipped:", ""]
    for where, file, kind in ROLES:
        shipped = yaml.safe_load_all((ROOT / "deploy" / file).read_text())
        rules = [rule for each in shipped if each["kind"] == kind for rule in each["rules"]]
        out.append(f"- {where}: " + "; ".join(allowed(rule) for rule in rules))
    return "\n".join(out)


def allowed(rule: dict[str, list[str]]) -> str:
    """Return one rule of a role in words."""
    groups = [group for group in rule["apiGroups"] if group == "events.k8s.io"]
    kinds = ", ".join(".".join([kind, *groups]) for kind in rule["resources"])
    names = "".join(f" `{name}`" for name in rule.get("resourceNames", []))
    return f"`{', '.join(rule['verbs'])}` on `{kinds}`{names}"


def readme() -> str:
    """Return README.md with the demo's transcript as it is printed, and the shipped rights."""
    text = (ROOT / "README.md").read_text()
    said = printed(["demo", "--speed", "0"])
    said = said.replace("as fast as it goes", "10 times real time")
    said = REAL_SECONDS.sub("in 20 s.", said).rstrip()
    block = re.compile(r"(<!-- demo -->\n```\n\$ make demo\n).*?(```\n<!-- /demo -->)", re.DOTALL)
    text = block.sub(lambda found: f"{found[1]}{said}\n{found[2]}", text, count=1)
    marked = re.compile(r"(<!-- rights -->\n).*?(<!-- /rights -->)", re.DOTALL)
    return marked.sub(lambda found: f"{found[1]}{rights()}\n{found[2]}", text, count=1)


PAGES = {
    "docs/settings.md": settings_page,
    "docs/verbs.md": verbs_page,
    "docs/names.md": names_page,
    "docs/metrics.md": metrics_page,
    "README.md": readme,
}


def outdated() -> list[str]:
    """Return the pages that differ from what the code says."""
    return [name for name, make in PAGES.items() if (ROOT / name).read_text() != make()]


def main() -> None:
    """Write the pages, or check them."""
    if "--check" in sys.argv:
        old = outdated()
        for name in old:
            print(f"{name} is out of date: make docs")  # noqa: T201
        sys.exit(bool(old))
    for name, make in PAGES.items():
        (ROOT / name).write_text(make())


if __name__ == "__main__":
    main()
