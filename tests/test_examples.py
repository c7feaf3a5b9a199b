"""The repository to fork is as good as we ask of others."""

from __future__ import annotations

from pathlib import Path

import pytest

from dsgitops.core import manifest
from dsgitops.core.catalog import Terms, gather

REPOSITORY = Path(__file__).parents[1] / "examples" / "repo"
PATHS = sorted((REPOSITORY / "clusters" / "prod").rglob("*.yaml"))
TERMS = Terms(source="node-agents", namespaces=frozenset({"kube-system", "logging", "monitoring"}))

FILES = [manifest.read(path.read_bytes(), path=path.name) for path in PATHS]
CATALOG = gather(FILES, "main@sha1:0", terms=TERMS)
AGENTS = {str(ref): desired.manifest for ref, desired in CATALOG.desired.items()}


def pod(name: str):
    return AGENTS[name]["spec"]["template"]["spec"]


def test_it_has_the_agents_that_people_run():
    assert set(AGENTS) == {
        "kube-system/fluentd",
        "logging/fluentd-elasticsearch",
        "logging/filebeat",
        "kube-system/calico-node",
        "monitoring/node-exporter",
        "kube-system/kube-flannel",
        "kube-system/csi-nfs-node",
    }


def test_validate_finds_neither_errors_nor_warnings():
    assert [str(each) for each in CATALOG.problems if each.severity != "notice"] == []


@pytest.mark.parametrize("name", sorted(AGENTS))
def test_every_agent_has_probes_limits_and_a_service_account(name):
    containers = pod(name)["containers"]

    assert pod(name)["serviceAccountName"]
    assert any("readinessProbe" in each for each in containers)
    for each in containers:
        assert each["resources"]["limits"]["memory"]
        assert ":" in each["image"].rpartition("/")[2], "a version"


@pytest.mark.parametrize("name", sorted(AGENTS))
def test_every_service_account_and_config_map_is_in_the_same_repository(name):
    text = "".join(path.read_text() for path in PATHS)
    wanted = [("ServiceAccount", pod(name)["serviceAccountName"])]
    wanted += [
        ("ConfigMap", each["configMap"]["name"])
        for each in pod(name).get("volumes", [])
        if "configMap" in each
    ]
    namespace = name.partition("/")[0]

    for kind, each in wanted:
        assert f"kind: {kind}\nmetadata:\n  name: {each}\n  namespace: {namespace}\n" in text


def test_fluentd_runs_on_control_plane_nodes_too():
    keys = {each["key"] for each in pod("kube-system/fluentd")["tolerations"]}

    assert keys == {"node-role.kubernetes.io/control-plane"}
    assert all("hostPath" in each for each in pod("kube-system/fluentd")["volumes"])


def test_filebeat_stands_beside_a_deployment_that_is_left_alone():
    text = (REPOSITORY / "clusters/prod/filebeat.yaml").read_bytes()
    notices = {each.what for each in manifest.read(text, path="f").problems}

    assert "Deployment is not managed: left alone" in notices


def test_node_exporter_shares_the_hosts_network_and_processes():
    exporter = pod("monitoring/node-exporter")

    assert exporter["hostNetwork"] is True
    assert exporter["hostPID"] is True


def test_the_csi_plugin_mounts_for_the_host_and_has_a_registrar():
    names = [each["name"] for each in pod("kube-system/csi-nfs-node")["containers"]]
    mounts = pod("kube-system/csi-nfs-node")["containers"][-1]["volumeMounts"]

    assert "node-driver-registrar" in names
    assert "Bidirectional" in {each.get("mountPropagation") for each in mounts}


def test_the_readme_names_every_file():
    readme = (REPOSITORY / "README.md").read_text()

    assert [path.name for path in PATHS if path.name not in readme] == []
