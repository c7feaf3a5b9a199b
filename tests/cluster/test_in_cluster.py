"""The image itself, run by the shipped manifests on real nodes, with its own account's token."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from cluster import shipped, shipped_image
from cluster.team import SETTINGS, Team
from git_repositories import Web, git_daemon, https_server

pytestmark = pytest.mark.timeout(560)
MANAGED = "kube-system"
AGENTS = "dsgitops-system"
PASSWORD = "a deploy token, with spaces & $signs"
GOOD = {"command": ["httpd", "-f", "-p", "8080", "-h", "/www"]}
CRASHES = {"command": ["sh", "-c", "sleep 0.2; exit 3"]}
SHUTDOWN_SECONDS_MAX = 10
PATIENCE = 240.0
"""Seconds for one step: a busy machine starves kubelets, and then nobody is blamed for a while."""
SLACK_SECONDS = 4
"""Until a kubelet, twice asked a second, has told that the pod is gone; less than what is left of
the grace period of 15 s, at whose end the agent would be killed."""


@pytest.fixture(scope="module")
def plane(pod_plane, tmp_path_factory):
    """Two real nodes that have the image."""
    if lacking := shipped_image.missing():
        pytest.skip(lacking)
    archive = shipped_image.archive()
    mirror = shipped_image.with_mirror(tmp_path_factory.mktemp("mirror"))
    for node in pod_plane.real_nodes:
        for each in (archive, mirror):
            node.take_image(each)
    mirror.unlink()
    shipped.kubectl(
        pod_plane, "apply", "-f", f"{shipped.DEPLOY}/overlays/standalone/namespace.yaml"
    )
    return pod_plane


@pytest.fixture
def town(plane, tmp_path):
    """A team whose DaemonSets are in the namespace that the overlays manage."""
    nodes = len(plane.real_nodes)
    made = Team(plane, MANAGED, tmp_path, pool="real", nodes=nodes)
    yield made
    made.kubectl("delete", "daemonsets", "--all", "--wait=false")
    shipped.kubectl(plane, "delete", "secret", "dsgitops-git", "-n", AGENTS, "--ignore-not-found")


@contextmanager
def installed(town, folder, overlay, source, **kustomization):
    """Install an overlay as docs/operate.md has it, for the block; it is ready when that begins."""
    settings = {"rollout": SETTINGS["rollout"], "namespaces": [MANAGED]}
    source = {"name": "agents", "interval": "1s", "ref": {"branch": "main"}} | source
    folder.mkdir()
    (folder / "dsgitops.yaml").write_text(yaml.safe_dump(settings | {"sources": [source]}))
    generated = {
        "name": "dsgitops-settings",
        "namespace": AGENTS,
        "behavior": "replace",
        "files": ["dsgitops.yaml"],
    }
    images = [{"name": "dsgitops", "newName": shipped_image.NAME, "newTag": shipped_image.tag()}]
    images += kustomization.pop("images", [])
    own = shipped.own(
        folder, f"overlays/{overlay}", configMapGenerator=[generated], images=images,
        **kustomization,
    )  # fmt: skip
    shipped.kubectl(town.plane, "apply", "--server-side", "-k", str(own))
    try:
        with telling(town.plane):
            wait_until_ready(town.plane)
            yield
    finally:
        shipped.kubectl(town.plane, "delete", "deployment/dsgitops", "-n", AGENTS, "--timeout=60s")


@contextmanager
def telling(plane):
    """Where the block fails, say what the pods logged."""
    try:
        yield
    except AssertionError as failed:
        logs = [
            f"{log.parent.name}: {log.read_text()[-3000:]}"
            for node in plane.real_nodes
            for log in node.folder.glob(f"logs/{AGENTS}_*/*/*.log")
        ]
        pods = shipped.kubectl(plane, "describe", "pods", "-n", AGENTS)[-3000:]
        raise AssertionError("\n".join([str(failed), pods, *logs])) from failed


def wait_until_ready(plane):
    status = ("rollout", "status", "deployment/dsgitops", "-n", AGENTS, "--timeout=80s")
    shipped.kubectl(plane, *status)


def pod_of(plane):
    """Return the agent's pod that is not going."""
    pods = plane.call("GET", f"/api/v1/namespaces/{AGENTS}/pods")["items"]
    (found,) = (each for each in pods if "deletionTimestamp" not in each["metadata"])
    return found


def wait_until_good(town, commit):
    """As the team does, with more patience."""

    def good():
        record = town.record()
        last = (record.get("lastGood") or {}).get("commit") or ""
        return last.endswith(commit) and record.get("phase") == "Idle"

    town.wait(good, f"{commit[:7]} is the last good commit", within=PATIENCE)


def break_and_roll_back(town, good):
    """Let the good commit be everywhere, then break it; return the held content at the end."""
    wait_until_good(town, good)
    before = {pod.node: pod.uid for pod in town.fleet()}
    bad = town.commit(town.manifest(**CRASHES), message="bad")
    town.wait(lambda: town.record().get("phase") == "Held", "it is rolled back", within=PATIENCE)
    town.wait(town.all_ready, "all are ready again", within=PATIENCE)

    (held,) = town.record()["quarantine"]
    assert (held["commit"].rpartition(":")[2], held["class"]) == (bad, "CrashLoop")
    after = {pod.node: pod.uid for pod in town.fleet()}
    assert [node for node in after if after[node] != before[node]] == held["nodes"]
    return held


def end_pod(plane):
    """Ask for the end of the agent's pod; return how many seconds that took."""
    pod = pod_of(plane)["metadata"]
    begun = time.monotonic()
    shipped.kubectl(plane, "delete", "pod", pod["name"], "-n", AGENTS, "--timeout=60s")
    return time.monotonic() - begun


def test_the_image_rolls_a_bad_commit_back_from_a_pod_and_leaves_within_ten_seconds(
    plane, town, tmp_path, prove
):
    web = Web(root=tmp_path, user="git", password=PASSWORD)
    with https_server(web, tmp_path, plane.address) as (url, certificate):
        secret(plane, password=PASSWORD, **{"ca.crt": Path(certificate).read_text()})
        files = {"passwordFile": "/etc/dsgitops/git/password", "caFile": "/etc/dsgitops/git/ca.crt"}
        source = {"url": f"{url}/node-agents.git", "auth": {"https": files}}
        good = town.commit(town.manifest(**GOOD), message="good")
        with installed(town, tmp_path / "mine", "standalone", source):
            break_and_roll_back(town, good)
            ended = end_pod(plane)
            wait_until_ready(plane)
            fixed = town.commit(town.manifest(**GOOD, env=[{"name": "FIXED", "value": "1"}]))
            wait_until_good(town, fixed)

            assert ended < SHUTDOWN_SECONDS_MAX + SLACK_SECONDS
    prove(
        scenario="the image in a pod, by the shipped manifests, Git over https",
        nodes="2 real",
        outcome=f"RolledBack, CrashLoop; its pod left within {ended:.0f} s, the next one went on",
        writes=len(town.writes("agent")),
        restarted="1 + 1",
    )


def test_the_sidecar_overlay_follows_a_mirror_in_its_own_pod(plane, town, tmp_path, prove):
    with git_daemon(tmp_path, plane.address) as url:
        repository = {
            "op": "replace",
            "path": "/spec/template/spec/initContainers/0/env/0/value",
            "value": f"{url}/node-agents.git",
        }
        patch = {"target": {"kind": "Deployment"}, "patch": yaml.safe_dump([repository])}
        mirror = {"name": "alpine/git", "newName": shipped_image.MIRROR, "newTag": "1"}
        source = {"url": "file:///mirror/node-agents.git"}
        good = town.commit(town.manifest(**GOOD), message="good")
        with installed(
            town, tmp_path / "mine", "sidecar", source, images=[mirror], patches=[patch]
        ):
            held = break_and_roll_back(town, good)
    prove(
        scenario="the sidecar overlay: a mirror on a shared volume",
        nodes="2 real",
        outcome=f"RolledBack, {held['class']}",
        writes=len(town.writes("agent")),
        restarted="1 + 1",
    )


def test_every_command_of_the_operators_page_works_in_its_order(plane, town, tmp_path, prove):
    for node in plane.real_nodes:
        for tag in ("0.1.0", "0.2.0"):
            image = f"{shipped_image.NAME}:{shipped_image.tag()}"
            node.name_image(image, f"registry.example.com/dsgitops:{tag}")
    before = run_by_hand(town)
    good = town.commit(town.manifest(**GOOD), message="as it runs already")
    web = Web(root=tmp_path, user="git", password=PASSWORD)
    with https_server(web, tmp_path, plane.address) as (url, certificate):
        page = Page(plane, tmp_path / "operator")
        page.write_files(("https://git.example.com/platform", url))
        with (page.folder / "mine" / "dsgitops.yaml").open("a") as settings:
            settings.write(yaml.safe_dump({"rollout": SETTINGS["rollout"]}))
        (page.folder / "password").write_text(PASSWORD)
        (page.folder / "ca.crt").write_text(Path(certificate).read_text())
        with telling(plane):
            page.run("Install", 0)
            town.wait(
                lambda: (town.record().get("lastGood") or {}).get("commit"),
                "adopted",
                within=PATIENCE,
            )
            said = page.run("Install", 1)
            assert "kube-system" in said
            assert good[:7] in said
            assert {pod.node: pod.uid for pod in town.fleet()} == before
            assert page.run("Upgrade, and back again", 0, 1)
            assert image_of(plane) == "registry.example.com/dsgitops:0.1.0"
            page.run("Stop it for a while", 0)
            page.run("When an alert fires", 0)
            town.commit(town.manifest(**CRASHES), message="bad")
            town.wait(
                lambda: town.record().get("phase") == "Held", "it is rolled back", within=PATIENCE
            )
            page.run("When an alert fires", 1, 2)
            town.commit(town.manifest(**GOOD), message="the revert")
            town.wait(
                lambda: town.record().get("phase") == "Idle", "it is at rest", within=PATIENCE
            )
            town.wait(town.all_ready, "all are ready", within=PATIENCE)
        before = {pod.node: pod.uid for pod in town.fleet()}
        page.run("Remove it", 0, 1)

    metadata = town.live()["metadata"]
    ours = [each for each in metadata["annotations"] if not each.startswith("deprecated.")]
    assert (ours, metadata.get("labels", {})) == ([], {})
    assert {pod.node: pod.uid for pod in town.fleet()} == before
    prove(
        scenario="install, upgrade, undo, restart, remove: the operator's page by its own commands",
        nodes="2 real",
        outcome=f"{page.commands} commands; what runs is untouched",
    )


def run_by_hand(town):
    """Let the DaemonSet be there before the agent is; return its pods."""
    town.kubectl("create", "-f", "-", given=town.manifest(**GOOD))
    town.wait(town.all_ready, "its pods are ready", within=PATIENCE)
    return {pod.node: pod.uid for pod in town.fleet()}


def image_of(plane):
    return pod_of(plane)["spec"]["containers"][0]["image"]


class Page:
    """docs/operate.md as a person works through it, in a folder with a copy of deploy/."""

    def __init__(self, plane, folder):
        self.folder = folder
        self.commands = 0
        self._plane = plane
        text = (shipped.DEPLOY.parent / "docs" / "operate.md").read_text()
        self._sections = dict(re.findall(r"^## (.*)\n((?:(?!^## ).*\n)*)", text, re.MULTILINE))
        shutil.copytree(shipped.DEPLOY, folder / "deploy")

    def write_files(self, *replaced):
        """Write the files that the page shows, where their first line says."""
        for section in self._sections.values():
            for text in re.findall(r"^```yaml\n(.*?)^```", section, re.MULTILINE | re.DOTALL):
                path = self.folder / text.splitlines()[0].removeprefix("# ")
                path.parent.mkdir(parents=True, exist_ok=True)
                for old, new in replaced:
                    text = text.replace(old, new)  # noqa: PLW2901 - step by step
                path.write_text(text)

    def run(self, heading, *numbers):
        """Run the shell blocks of a section; return what they said."""
        blocks = re.findall(r"^```sh\n(.*?)^```", self._sections[heading], re.MULTILINE | re.DOTALL)
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


def secret(plane, **files):
    body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "dsgitops-git", "namespace": AGENTS},
        "stringData": files,
    }
    plane.call("POST", f"/api/v1/namespaces/{AGENTS}/secrets", body)
