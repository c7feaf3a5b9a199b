"""Fixtures of the tests of commands."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for `stage`


@pytest.fixture
def stage(tmp_path):
    from stage import Stage  # noqa: PLC0415 - the path to it was set above

    made = Stage(tmp_path)
    yield made
    made.close()
