"""docs/operate.md knows what deploy/ has; its commands are run in tests/cluster."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operate.md").read_text()


def test_each_alert_that_is_shipped_says_what_to_do_and_no_other():
    rules = yaml.safe_load((ROOT / "deploy/alerts/dsgitops.rules.yaml").read_text())
    shipped = [rule["alert"] for group in rules["groups"] for rule in group["rules"]]

    told = re.findall(r"^\| `(Dsgitops\w+)` \|", PAGE, re.MULTILINE)

    assert sorted(told) == sorted(shipped)


def test_each_file_that_is_shown_is_yaml_and_says_where_it_goes():
    blocks = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)

    assert len(blocks) == 3
    for block in blocks:
        assert re.match(r"# mine/\S+\.yaml\n", block)
        assert yaml.safe_load(block)
