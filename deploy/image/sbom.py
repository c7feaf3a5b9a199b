"""Print what is in the image as CycloneDX 1.5: sbom.py PIP_INSPECT_JSON DPKG_STATUS_FOLDER.

Written here because the tools for it know either Python's packages or Debian's. Everything is read
from what was installed; nothing is asked of any server.
"""

from __future__ import annotations

import json
import sys
from email.parser import Parser
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

AGENT = "dsgitops"
Component = dict[str, Any]


def main(inspected: Path, status: Path) -> None:
    """Print the bill of materials."""
    found = json.loads(inspected.read_text())["installed"]
    python = [_python(each["metadata"]) for each in found]
    agent = next(each for each in python if each["name"] == AGENT)
    others = [each for each in python if each is not agent]
    bill = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": agent | {"type": "application"}},
        "components": sorted([*others, *_debian(status)], key=lambda each: each["bom-ref"]),
    }
    json.dump(bill, sys.stdout, indent=1, sort_keys=True)


def _python(metadata: Mapping[str, Any]) -> Component:
    name = metadata["name"].lower().replace("_", "-").replace(".", "-")
    purl = f"pkg:pypi/{name}@{quote(metadata['version'])}"
    said = metadata.get("license_expression") or metadata.get("license") or ""
    return _component(name, metadata["version"], purl) | _license(said)


def _license(said: str) -> Component:
    """Return the licence as its package names it; whole texts are left out."""
    if not said or "\n" in said:
        return {}
    return {"licenses": [{"license": {"name": said}}]}


def _debian(status: Path) -> Iterator[Component]:
    for file in sorted(status.iterdir()):
        fields = Parser().parsestr(file.read_text(), headersonly=True)
        name, version = fields["Package"], fields["Version"]
        purl = f"pkg:deb/debian/{quote(name)}@{quote(version)}?arch={fields['Architecture']}"
        yield _component(name, version, f"{purl}&distro=debian-12")


def _component(name: str, version: str, purl: str) -> Component:
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
