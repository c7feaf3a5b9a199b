"""docs/operate.md and the README know what deploy/ has; tests/cluster runs their commands."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import yaml

from dsgitops.wiring import load_settings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operate.md").read_text()
README = (ROOT / "README.md").read_text()


def fenced(kind, page):
    return re.findall(rf"^```{kind}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


def test_each_alert_that_is_shipped_says_what_to_do_and_no_other():
    rules = yaml.safe_load((ROOT / "deploy/alerts/dsgitops.rules.yaml").read_text())
    shipped = [rule["alert"] for group in rules["groups"] for rule in group["rules"]]

    told = re.findall(r"^\| `(Dsgitops\w+)` \|", PAGE, re.MULTILINE)

    assert sorted(told) == sorted(shipped)


@pytest.mark.parametrize(("page", "files"), [(PAGE, 3), (README, 2)])
def test_each_file_that_is_shown_is_yaml_and_says_where_it_goes(page, files):
    blocks = fenced("yaml", page)

    assert len(blocks) == files
    for block in blocks:
        assert re.match(r"# mine/\S+\.yaml\n", block)
        assert yaml.safe_load(block)


def test_the_readme_installs_by_three_commands_and_looks_by_two():
    install, look = fenced("sh", README)

    assert [len(block.splitlines()) for block in (install, look)] == [3, 2]
    assert "kubectl apply -k mine" in install


@pytest.mark.parametrize("page", [PAGE, README])
def test_the_settings_that_are_shown_are_valid_once_their_secret_is_there(
    page, tmp_path, monkeypatch
):
    for name in [name for name in os.environ if name.startswith("DSGITOPS_")]:
        monkeypatch.delenv(name)  # the suite's own: they are no settings
    for name in ("password", "ca.crt"):
        (tmp_path / name).write_text("x")
        (tmp_path / name).chmod(0o600)
    (text,) = (each for each in fenced("yaml", page) if each.startswith("# mine/dsgitops.yaml"))
    file = tmp_path / "dsgitops.yaml"
    file.write_text(text.replace("/etc/dsgitops/git", str(tmp_path)))

    settings, problems = load_settings(file, {})

    assert [str(each) for each in problems] == []
    assert settings is not None
