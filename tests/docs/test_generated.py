"""The documentation says what the code says."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def _generator():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "page", ["docs/settings.md", "docs/verbs.md", "docs/names.md", "docs/metrics.md"]
)
def test_a_generated_page_is_up_to_date(page):
    written = (ROOT / page).read_text()

    assert written == _generator().PAGES[page](), "make docs"


def test_the_readme_shows_what_the_demo_prints():
    written = (ROOT / "README.md").read_text()

    assert "RolledBack" in written
    assert written == _generator().readme(), "make docs"


def test_every_link_of_the_documentation_leads_somewhere():
    pages = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *(ROOT / "docs").rglob("*.md")]
    for page in pages:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_module_that_the_architecture_names_exists():
    text = (ROOT / "ARCHITECTURE.md").read_text()
    named = set(re.findall(r"`(?:(?:core|adapters|sim|cli)/)?([a-z_/]+\.py)", text))

    folders = (ROOT / "dsgitops", ROOT / "tests")
    found = {str(path.relative_to(ROOT)) for each in folders for path in each.rglob("*.py")}
    missing = sorted(each for each in named if not any(path.endswith(each) for path in found))
    assert not missing
