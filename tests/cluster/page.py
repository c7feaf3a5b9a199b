"""A page of the documentation as a person works through it: its files written, its commands run."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.shipped import DEPLOY

if TYPE_CHECKING:
    from cluster.control_plane import ControlPlane

ROOT = DEPLOY.parent
_SECTIONS = re.compile(r"^## (.*)\n((?:(?!^## ).*\n)*)", re.MULTILINE)


class Page:
    """One page, in a folder that has a copy of deploy/ beside what the page makes.

    Args:
        plane: Where the commands work.
        folder: Made here.
        page: Its path in this repository.
    """

    def __init__(self, plane: ControlPlane, folder: Path, page: str) -> None:
        self.folder = folder
        self.commands = 0
        self._plane = plane
        self._sections = dict(_SECTIONS.findall((ROOT / page).read_text()))
        shutil.copytree(DEPLOY, folder / "deploy")

    def blocks(self, heading: str, kind: str = "sh") -> list[str]:
        """Return the fenced blocks of a section."""
        fenced = rf"^```{kind}\n(.*?)^```"
        return re.findall(fenced, self._sections[heading], re.MULTILINE | re.DOTALL)

    def write_files(self, *replaced: tuple[str, str]) -> None:
        """Write the files that the page shows, where their first line says.

        Args:
            replaced: What stands there, and what a test has instead; each must be there.
        """
        shown = [text for heading in self._sections for text in self.blocks(heading, "yaml")]
        for old, _ in replaced:
            assert any(old in text for text in shown), old
        for text in shown:
            path = self.folder / text.splitlines()[0].removeprefix("# ")
            path.parent.mkdir(parents=True, exist_ok=True)
            for old, new in replaced:
                text = text.replace(old, new)  # noqa: PLW2901 - step by step
            path.write_text(text)

    def run(self, heading: str, *numbers: int) -> str:
        """Run shell blocks of a section; return what they said."""
        blocks = self.blocks(heading)
        path = (
            f"{Path(sys.executable).parent}:{self._plane.binaries['kubectl'].parent}:/usr/bin:/bin"
        )
        around = {"PATH": path, "KUBECONFIG": str(self._plane.kubeconfig), "HOME": str(self.folder)}
        said = ""
        for number in numbers:
            done = subprocess.run(
                ["bash", "-exuo", "pipefail", "-c", blocks[number]],
                cwd=self.folder, env=around, check=False, timeout=200, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
            said += done.stdout
            assert done.returncode == 0, f"{heading}:\n{done.stdout[-3000:]}"
            self.commands += len(blocks[number].splitlines())
        return said
