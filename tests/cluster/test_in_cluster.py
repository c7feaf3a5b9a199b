"""The image itself, run by the shipped manifests on real nodes, with its own account's token."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest
import yaml
from adapters.test_notify import Messenger
from cluster import shipped, shipped_image
from cluster.installation import (
    AGENTS,
    MANAGED,
    PATIENCE,
    ROLLOUT,
    installed,
    pod_of,
    secret,
    telling,
    wait_until_ready,
)  # fmt: skip
from cluster.page import Page
from cluster.team import Team
from cluster.toll import watched
from cluster.usage import cgroup_of
from git_repositories import Web, git_daemon, https_server

pytestmark = pytest.mark.timeout(560)
PASSWORD = "a deploy token, with spaces & $signs"
GOOD = {"command": ["httpd", "-f", "-p", "8080", "-h", "/www"]}
CRASHES = {"command": ["sh", "-c", "sleep 0.2; exit 3"]}
SOURCE = {"name": "agents", "interval": "1s", "ref": {"branch": "main"}}
SHUTDOWN_SECONDS_MAX = 10
SLACK_SECONDS = 4
"""Until a kubelet, twice asked a second, has told that the pod is gone; less than what is left of
the grace period of 15 s, at whose end the agent would be killed."""


@pytest.fixture(scope="module")
def plane(image_plane):
    """Two real nodes that have the image, as if pulled from the registry that the pages name."""
    image = f"{shipped_image.NAME}:{shipped_image.tag()}"
    for node in image_plane.real_nodes:
        for tag in ("0.1.0", "0.2.0"):
            node.name_image(image, f"registry.example.com/dsgitops:{tag}")
    return image_plane


@pytest.fixture
def town(plane, tmp_path):
    """A team whose DaemonSets are in the namespace that the overlays manage."""
    made = Team(plane, MANAGED, tmp_path, pool="real", nodes=len(plane.real_nodes))
    yield made
    made.kubectl("delete", "daemonsets", "--all", "--cascade=foreground", "--timeout=50s")
    gone = ("delete", "secrets", "dsgitops-git", "dsgitops-notify", "--ignore-not-found")
    shipped.kubectl(plane, *gone, "-n", AGENTS)


@pytest.fixture
def messenger(plane):
    """A service that alerts are sent to."""
    made = Messenger(plane.address)
    yield made
    made.close()


def wait_until_good(town, commit):
    """As the team does, with more patience."""

    def good():
        record = town.record()
        last = (record.get("lastGood") or {}).get("commit") or ""
        return last.endswith(commit) and record.get("phase") == "Idle"

    town.wait(good, f"{commit[:7]} is the last good commit", within=PATIENCE)


def break_and_roll_back(town, good):
    """Let the good commit be everywhere, then break it; return the held content, and the toll."""
    wait_until_good(town, good)
    before = {pod.node: pod.uid for pod in town.fleet()}
    with watched(town.plane, town.namespace) as tolls:
        bad = town.commit(town.manifest(**CRASHES), message="bad")
        town.wait(
            lambda: town.record().get("phase") == "Held", "it is rolled back", within=PATIENCE
        )
        town.wait(town.all_ready, "all are ready again", within=PATIENCE)

    (held,) = town.record()["quarantine"]
    assert (held["commit"].rpartition(":")[2], held["class"]) == (bad, "CrashLoop")
    after = {pod.node: pod.uid for pod in town.fleet()}
    assert [node for node in after if after[node] != before[node]] == held["nodes"]
    toll = tolls["agent"]
    assert (toll.there_and_back, toll.most_taken) == ("1 + 1", 1)
    return held, toll


def end_pod(plane):
    """Ask for the end of the agent's pod; return how many seconds that took."""
    pod = pod_of(plane)["metadata"]
    begun = time.monotonic()
    shipped.kubectl(plane, "delete", "pod", pod["name"], "-n", AGENTS, "--timeout=60s")
    return time.monotonic() - begun


def test_the_three_commands_of_the_readme_bring_an_agent_that_rolls_a_bad_commit_back(
    plane, town, messenger, tmp_path, prove
):
    before = run_by_hand(town)
    good = town.commit(town.manifest(**GOOD), message="as it runs already")
    web = Web(root=tmp_path, user="git", password=PASSWORD)
    with https_server(web, tmp_path, plane.address) as (url, certificate):
        page = Page(plane, tmp_path / "clone", "README.md")
        page.write_files(
            ("https://git.example.com/platform", url),
            ("path: clusters/prod", "interval: 1s"),
            ("git/password}", "git/password, caFile: /etc/dsgitops/git/ca.crt}"),
        )
        shorten(page, alerts={"notify": [{"urlFile": "/etc/dsgitops/notify/urls"}]})
        given = page.folder / "mine" / "git"
        given.mkdir()
        (given / "password").write_text(PASSWORD)
        shutil.copy(certificate, given / "ca.crt")
        secret(plane, name="dsgitops-notify", urls=messenger.url)

        (install, _) = page.blocks("On your cluster")
        assert len(install.splitlines()) == 3
        page.run("On your cluster", 0)
        with telling(plane):
            page.run("On your cluster", 1)
            wait_until_good(town, good)
            assert {pod.node: pod.uid for pod in town.fleet()} == before
            said = page.run("On your cluster", 1)
            assert good[:7] in said
            _, toll = break_and_roll_back(town, good)
            ended = end_pod(plane)
            wait_until_ready(plane)
            fixed = town.commit(town.manifest(**GOOD, env=[{"name": "FIXED", "value": "1"}]))
            wait_until_good(town, fixed)
            town.wait(lambda: "success" in kinds(messenger), "the messenger is told")
            takes = cgroup_of(plane, pod_of(plane)).taken()
        shipped.kubectl(plane, "delete", "deployment/dsgitops", "-n", AGENTS, "--timeout=60s")

    assert ended < SHUTDOWN_SECONDS_MAX + SLACK_SECONDS
    assert set(kinds(messenger)[:-1]) == {"warning"}, (
        "a bad commit that was rolled back, once or more"
    )
    prove(
        scenario="three commands of the README: the image in a pod, Git over https, a bad commit",
        nodes="2 real",
        outcome=f"RolledBack, CrashLoop, told to a messenger; its pod left within {ended:.0f} s,"
        f" the next one went on; with its messengers loaded it takes {takes.memory:.0f} MiB",
        writes=len(town.writes("agent")),
        restarted=toll.there_and_back,
    )


def kinds(messenger):
    """Return of which kind each message was, in their order."""
    return [body["type"] for body in messenger.bodies()]


def shorten(page, **settings):
    """Add the suite's short times to the page's settings, and what else a test needs."""
    with (page.folder / "mine" / "dsgitops.yaml").open("a") as file:
        file.write(yaml.safe_dump({"rollout": ROLLOUT} | settings))


def test_the_sidecar_overlay_follows_a_mirror_in_its_own_pod(plane, town, tmp_path, prove):
    archive = shipped_image.with_mirror(tmp_path)
    for node in plane.real_nodes:
        node.take_image(archive)
    archive.unlink()  # pytest would keep it
    with git_daemon(tmp_path, plane.address) as url:
        repository = {
            "op": "replace",
            "path": "/spec/template/spec/initContainers/0/env/0/value",
            "value": f"{url}/node-agents.git",
        }
        patch = {"target": {"kind": "Deployment"}, "patch": yaml.safe_dump([repository])}
        mirror = {"name": "alpine/git", "newName": shipped_image.MIRROR, "newTag": "1"}
        source = SOURCE | {"url": "file:///mirror/node-agents.git"}
        settings = {"namespaces": [MANAGED], "sources": [source]}
        good = town.commit(town.manifest(**GOOD), message="good")
        with installed(
            plane, tmp_path / "mine", "sidecar", settings, images=[mirror], patches=[patch]
        ):
            held, toll = break_and_roll_back(town, good)
    prove(
        scenario="the sidecar overlay: a mirror on a shared volume",
        nodes="2 real",
        outcome=f"RolledBack, {held['class']}",
        writes=len(town.writes("agent")),
        restarted=toll.there_and_back,
    )


def test_every_command_of_the_operators_page_works_in_its_order(plane, town, tmp_path, prove):
    before = run_by_hand(town)
    good = town.commit(town.manifest(**GOOD), message="as it runs already")
    web = Web(root=tmp_path, user="git", password=PASSWORD)
    with https_server(web, tmp_path, plane.address) as (url, certificate):
        page = Page(plane, tmp_path / "operator", "docs/operate.md")
        page.write_files(
            ("https://git.example.com/platform", url), ("interval: 5s", "interval: 1s")
        )
        shorten(page)
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
