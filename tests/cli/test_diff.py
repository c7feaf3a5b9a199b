"""`dsgitops diff`: what Git would change, and whether pods restart for it."""

from __future__ import annotations

import pytest
import yaml
from stage import PATH, Stage, daemonset

from dsgitops.sim.access import Rule


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    stage = Stage(tmp_path_factory.mktemp("calm"))
    stage.first = stage.commit({PATH: daemonset()})
    stage.settle()
    yield stage
    stage.close()


def test_without_differences_stdout_is_empty_and_the_exit_code_0(calm):
    ran = calm.run("diff", "logging/agent", "--commit", calm.first)

    assert (ran.code, ran.out, ran.err) == (0, "", "no differences\n")


def test_a_new_image_says_how_many_nodes_restart(calm):
    calm.commit({PATH: daemonset(tag="v2")})

    ran = calm.run("diff", "logging/agent")

    assert ran.code == 1
    assert "template changed: 3 nodes restart" in ran.out
    assert "-        image: quay.io/acme/agent:v1" in ran.out
    assert "+        image: quay.io/acme/agent:v2" in ran.out


def test_a_label_restarts_nothing(calm):
    text = daemonset().replace("metadata:\n  name", "metadata:\n  labels: {team: logs}\n  name", 1)
    calm.commit({PATH: text})

    ran = calm.run("diff", "logging/agent")

    assert ran.code == 1
    assert "metadata only: no restart" in ran.out


def test_another_strategy_restarts_nothing_either(calm):
    calm.commit({PATH: daemonset(minReadySeconds=5)})

    assert "template unchanged: no restart" in calm.run("diff", "logging/agent").out


def test_under_ondelete_people_decide_when_pods_restart(calm):
    calm.commit({PATH: daemonset(tag="v2", updateStrategy={"type": "OnDelete"})})

    assert "pods restart as people delete them" in calm.run("diff", "logging/agent").out


@pytest.mark.parametrize("output", ["unified", "json", "markdown"])
def test_values_of_env_are_never_shown(calm, output):
    calm.commit({PATH: daemonset(env="swordfish")})

    ran = calm.run("diff", "logging/agent", "-o", output)

    assert ran.code == 1
    assert "PASSWORD" in ran.out
    assert "sha256:" in ran.out
    assert "swordfish" not in ran.out + ran.err
    assert "hunter2" not in ran.out + ran.err


def test_machines_get_fields_and_the_prediction(calm):
    calm.commit({PATH: daemonset(tag="v2")})

    (item,) = calm.run("diff", "-A", "-o", "json").json["items"]

    assert item["prediction"] == "template changed: 3 nodes restart"
    assert (item["restarts"], item["nodes"]) == (True, 3)
    assert item["path"] == PATH
    (change,) = item["changes"]
    assert change["path"] == "/spec/template/spec/containers/agent/image"
    assert (change["before"], change["after"]) == (
        "quay.io/acme/agent:v1",
        "quay.io/acme/agent:v2",
    )


def test_no_exit_code_is_for_pipelines_that_stop_at_any(calm):
    calm.commit({PATH: daemonset(tag="v2")})

    assert calm.run("diff", "-A", "--no-exit-code").code == 0


def test_the_cluster_is_left_as_it_is(calm):
    calm.commit({PATH: daemonset(tag="v2")})
    before = calm.live()

    calm.run("diff", "-A")

    assert calm.live() == before


def test_two_commits_are_compared_without_a_cluster(calm, tmp_path):
    calm.commit({PATH: daemonset(tag="v7")})
    calm.commit({PATH: daemonset(tag="v8"), "b.yaml": daemonset(name="other")})
    before = calm.world.api.store.version

    ran = calm.run("diff", "--from", "HEAD~1", "--kubeconfig", str(tmp_path / "none"))

    assert ran.code == 1
    assert "logging/agent: template changed: every node restarts" in ran.out
    assert "logging/other: new: it is created" in ran.out
    assert calm.world.api.store.version == before
    calm.commit({"b.yaml": None})


def test_an_earlier_revision_is_compared_with_what_is_live(stage):
    stage.commit({PATH: daemonset()})
    stage.settle()
    stage.commit({PATH: daemonset(tag="v2")})
    stage.play(20)
    stage.settle()

    ran = stage.run("diff", "logging/agent", "--revision", "1")

    assert ran.code == 1
    assert "+        image: quay.io/acme/agent:v1" in ran.out
    assert "3 nodes restart" in ran.out


def test_a_daemonset_that_is_not_there_yet_is_new(calm):
    calm.commit({PATH: daemonset(), "new.yaml": daemonset(name="new", namespace="monitoring")})

    ran = calm.run("diff", "-A")

    assert ran.code == 1
    assert "monitoring/new: new: it is created" in ran.out
    assert calm.world.store.get("daemonsets", "monitoring", "new") is None
    calm.commit({"new.yaml": None})


def test_a_manifest_without_namespace_belongs_to_the_one_asked_about(calm):
    text = daemonset(tag="v2").replace("  namespace: logging\n", "")
    calm.commit({PATH: text})

    assert "template changed: 3 nodes restart" in calm.run("diff", "-n", "logging").out


@pytest.mark.parametrize(
    ("files", "arguments", "error"),
    [
        ({}, ["logging/nope"], "logging/nope is not in commit"),
        ({}, ["-A", "--commit", "nope"], "there is no commit 'nope'"),
        ({}, ["logging/agent", "--revision", "77"], "has no revision 77"),
        ({}, ["-A", "--revision", "1"], "--revision is of one DaemonSet"),
        ({PATH: daemonset(minReadySeconds="x")}, ["-A"], f"{PATH}:"),
        ({PATH: daemonset(namespace="nowhere")}, ["-A"], "the namespace does not exist"),
    ],
)
def test_every_error_is_2_with_nothing_on_stdout(calm, files, arguments, error):
    calm.commit(files or {PATH: daemonset()})

    ran = calm.run("diff", *arguments)

    assert (ran.code, ran.out) == (2, "")
    assert error in ran.err
    assert "hint: " in ran.err


def test_a_folder_of_the_work_tree_can_be_named(calm, tmp_path):
    calm.commit({PATH: daemonset(), "clusters/dev/agent.yaml": daemonset(tag="dev")})

    twice = calm.run("diff", "-A")
    one = calm.run("diff", "-A", "--path", str(calm.repository.path / "clusters/dev"), cwd=tmp_path)

    assert twice.code == 2
    assert "is there 2 times" in twice.err
    assert one.code == 1
    assert "agent:dev" in one.out
    calm.commit({"clusters/dev/agent.yaml": None})


def test_content_that_is_held_is_told_as_such(stage):
    stage.commit({PATH: daemonset()})
    stage.settle()
    stage.commit({PATH: daemonset(tag="2-never-ready")})
    stage.play_until_phase("Held")

    ran = stage.run("diff", "logging/agent")

    assert ran.code == 1
    assert "logging/agent: this content is held (ReadinessProbeFailed)" in ran.err


def test_after_a_rollback_a_probe_of_another_kind_is_shown_in_place_of_the_old(stage):
    stage.commit({PATH: daemonset()})
    stage.settle()
    bad = yaml.safe_load(daemonset(tag="2-crash"))
    (container,) = bad["spec"]["template"]["spec"]["containers"]
    container["readinessProbe"] = {"exec": {"command": ["ready"]}}
    stage.commit({PATH: yaml.safe_dump(bad)})
    stage.play_until_phase("Held")

    ran = stage.run("diff", "logging/agent")

    assert ran.code == 1
    assert "-          httpGet:" in ran.out
    assert "+          exec:" in ran.out


def test_a_manifest_that_the_cluster_refuses_is_an_error_all_the_same(stage):
    stage.commit({PATH: daemonset()})
    stage.settle()
    bad = yaml.safe_load(daemonset())
    bad["spec"]["selector"]["matchLabels"] = {"app": "other"}
    stage.commit({PATH: yaml.safe_dump(bad)})

    ran = stage.run("diff", "logging/agent")

    assert (ran.code, ran.out) == (2, "")


def test_fields_that_others_hold_and_git_does_not_have_are_shown_to_go(stage):
    manifest = yaml.safe_load(daemonset())
    manifest["spec"]["template"]["spec"]["hostNetwork"] = True
    stage.world.apply(manifest)
    with stage.lock:
        stage.world.advance(5)
    stage.commit({PATH: daemonset()})

    ran = stage.run("diff", "logging/agent")
    account = stage.world.api.account
    account.rules = [
        Rule(verbs=("get", "list", "patch"), groups=("apps",), resources=("daemonsets",))
    ]
    without_rights = stage.run("diff", "logging/agent")
    account.rules = None

    assert ran.code == 1
    assert "-      hostNetwork: true" in ran.out
    assert "template changed: 3 nodes restart" in ran.out
    assert "fields that others hold may go too" in without_rights.err


def test_with_settings_git_is_read_from_their_sources(stage, tmp_path):
    stage.commit({PATH: daemonset()})
    stage.settle()
    first = stage.repository.git("rev-parse", "HEAD")
    stage.commit({PATH: daemonset(tag="v2")})
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    ran = stage.run("diff", "-A", "--config", stage.settings(), cwd=elsewhere)
    same = stage.run(
        "diff", "-A", "--config", stage.settings(), "--commit", first[:8], cwd=elsewhere
    )

    assert ran.code == 1
    assert "template changed: 3 nodes restart" in ran.out
    assert (same.code, same.out) == (0, "")
