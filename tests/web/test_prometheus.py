"""The shipped rules and dashboard, before a real Prometheus."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml
from test_process import Place

from dsgitops.adapters.metrics import DECLARED

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = DEPLOY / "alerts" / "dsgitops.rules.yaml"
RULE_TESTS = sorted((DEPLOY / "alerts").glob("*.test.yaml"))
DASHBOARD = DEPLOY / "grafana" / "dsgitops.json"
PROMETHEUS, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool")
MISSING = "prometheus and promtool are not here (Debian: prometheus)"
needs_prometheus = pytest.mark.skipif(PROMETHEUS is None or PROMTOOL is None, reason=MISSING)

SUFFIXES = {"counter": ("",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
EXISTING = {each.name + suffix: each for each in DECLARED for suffix in SUFFIXES[each.kind]}
NAME = re.compile(r"\bdsgitops_[a-z_]+")
SELECTOR = re.compile(r"(dsgitops_[a-z_]+)\{([^}]*)\}")
OF_THE_TARGET = {"job", "instance", "le"}


def alerts():
    """Return the rules by the alert's name."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def dashboard_expressions():
    """Return every expression of the dashboard, those of its variables included."""
    board = json.loads(DASHBOARD.read_text())
    found = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    found += [each["expr"] for each in board["annotations"]["list"]]
    found += [
        each["query"]["query"] for each in board["templating"]["list"] if each["type"] == "query"
    ]
    return found


@pytest.mark.parametrize(
    "expression", [*dashboard_expressions(), *(rule["expr"] for rule in alerts().values())]
)
def test_an_expression_asks_for_metrics_and_labels_that_exist(expression):
    named = NAME.findall(expression)

    assert named
    assert set(named) <= EXISTING.keys()
    for name, labels in SELECTOR.findall(expression):
        asked = set(re.findall(r"(\w+)\s*[=!]~?", labels))
        assert asked <= set(EXISTING[name].labels) | OF_THE_TARGET, expression


def test_a_label_s_value_that_is_asked_for_is_one_of_its_closed_set():
    for expression in [*dashboard_expressions(), *(rule["expr"] for rule in alerts().values())]:
        for name, labels in SELECTOR.findall(expression):
            for label, values in re.findall(r'(\w+)\s*[=!]~?\s*"([A-Za-z|]+)"', labels):
                known = EXISTING[name].labels[label]
                assert all(f"`{value}`" in known for value in values.split("|")), (label, values)


def test_every_panel_has_a_title_a_place_of_its_own_and_says_its_unit():
    panels = json.loads(DASHBOARD.read_text())["panels"]
    taken = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells


def test_every_metric_is_on_the_dashboard():
    shown = {EXISTING[name].name for each in dashboard_expressions() for name in NAME.findall(each)}

    assert shown == {each.name for each in DECLARED}


def test_every_alert_says_what_is_wrong_and_what_to_do():
    tested = [test for file in RULE_TESTS for test in yaml.safe_load(file.read_text())["tests"]]
    fired = {
        each["alertname"] for test in tested for each in test["alert_rule_test"]
        if each["exp_alerts"]
    }  # fmt: skip
    for name, rule in alerts().items():
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"]["summary"]
        assert len(rule["annotations"]["description"]) > 80
        assert name in fired, "every alert fires in a test"


@needs_prometheus
def test_promtool_finds_nothing_wrong_with_the_rules():
    done = subprocess.run(
        [PROMTOOL, "check", "rules", str(RULES)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@needs_prometheus
def test_the_rules_fire_when_they_should_and_only_then():
    done = subprocess.run(
        [PROMTOOL, "test", "rules", *map(str, RULE_TESTS)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


# ---------------------------------------------------------------------------- a real Prometheus


class Prometheus:
    """A Prometheus that scrapes one agent every second, with the shipped rules."""

    def __init__(self, folder, target):
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(RULES)],
            "scrape_configs": [
                {
                    "job_name": "dsgitops",
                    "honor_labels": True,
                    "static_configs": [{"targets": [target]}],
                }
            ],
        }
        path = folder / "prometheus.yml"
        path.write_text(yaml.safe_dump(config))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.log = folder / "prometheus.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [PROMETHEUS, f"--config.file={path}", f"--storage.tsdb.path={folder / 'data'}",
                 f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"],
                stdout=log, stderr=log, cwd=folder,
            )  # fmt: skip

    def ask(self, path):
        with urllib.request.urlopen(self.url + path, timeout=5) as answer:
            return json.load(answer)["data"]

    def firing(self):
        """Return the labels of alerts that fire, by name."""
        found = self.ask("/api/v1/alerts")["alerts"]
        return {each["labels"]["alertname"]: each for each in found if each["state"] == "firing"}

    def value(self, query):
        found = self.ask("/api/v1/query?query=" + urllib.request.quote(query))["result"]
        return float(found[0]["value"][1]) if found else None

    def wait_until(self, holds, what, within=30.0):
        end = time.monotonic() + within
        while time.monotonic() < end:
            try:
                if holds(self):
                    return
            except urllib.error.URLError:
                assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.3)
        raise AssertionError(f"never {what}: {self.log.read_text()[-2000:]}")

    def stop(self):
        self.process.terminate()
        self.process.wait(15)


@needs_prometheus
def test_a_failing_rollout_fires_its_alert_and_a_fix_ends_it(tmp_path):
    place = Place(tmp_path)
    place.open()
    prometheus = None
    try:
        place.push(image="1")
        agent = place.start()
        place.wait_for("Idle", place.push(image="2"))
        port = re.search(r"on port (\d+)", place.logged())[1]
        prometheus = Prometheus(tmp_path, f"127.0.0.1:{port}")
        prometheus.wait_until(
            lambda it: it.value('dsgitops_rollouts_total{result="failed"}') == 0, "scraped"
        )
        assert prometheus.firing() == {}

        place.wait_for("Held", place.push(image="3-missing"))
        prometheus.wait_until(lambda it: "DsgitopsRolloutFailed" in it.firing(), "fired")
        alert = prometheus.firing()["DsgitopsRolloutFailed"]
        assert alert["labels"]["namespace"] == "logging"
        assert alert["labels"]["name"] == "agent"
        assert alert["annotations"]["summary"] == "A rollout of logging/agent failed"
        prometheus.wait_until(lambda it: it.value("dsgitops_quarantined") == 1, "held")
        assert set(prometheus.firing()) == {"DsgitopsRolloutFailed"}

        place.wait_for("Idle", place.push(image="4"))
        prometheus.wait_until(lambda it: it.firing() == {}, "ended")
        for expression in dashboard_expressions():
            _answers(prometheus, expression)
        agent.terminate()
        assert agent.wait(15) == 0
    finally:
        if prometheus is not None:
            prometheus.stop()
        place.close()


def _answers(prometheus, expression):
    """Assert that an expression of the dashboard is one that Prometheus can answer."""
    if expression.startswith("label_values"):
        return
    for variable, value in (("$job", ".*"), ("$namespace", ".*"), ("$__rate_interval", "1m")):
        expression = expression.replace(variable, value)
    prometheus.value(expression)
