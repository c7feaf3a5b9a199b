"""`dsgitops validate`: all problems at once, for people and for machines; 1 only for errors."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from core.manifests import SOUND, named, spoilt

from dsgitops.cli.main import run_command

if TYPE_CHECKING:
    from pathlib import Path

BAD = spoilt(("minReadySeconds: 5", "minReadySecond: 5"), ("value: info", "value: 5"))
CONFIG = """\
namespaces: [logging, monitoring]
sources:
  - name: agents
    url: https://git.example.com/agents.git
    ref: {branch: main}
profiles:
  careful: {progressDeadline: 30m}
"""


@pytest.fixture
def repository(tmp_path, monkeypatch) -> Path:
    """A folder that is the working directory, with two sound files and a bad one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prod" / ".git").mkdir(parents=True)
    (tmp_path / "prod" / "a.yaml").write_text(SOUND)
    (tmp_path / "prod" / "b.yml").write_text(
        named("other") + "---\napiVersion: v1\nkind: Service\n"
    )
    (tmp_path / "prod" / "notes.txt").write_text("not read")
    (tmp_path / "prod" / ".git" / "x.yaml").write_text("not: [read")
    (tmp_path / "bad.yaml").write_text(BAD)
    return tmp_path


def validate(capsys, *arguments: str) -> tuple[int, str, str]:
    code = run_command(["validate", *arguments])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_a_sound_folder_exits_0_and_is_summed_up_on_stderr(repository, capsys):
    code, out, err = validate(capsys, "prod")

    assert code == 0
    assert out == "prod/b.yml:71:7: notice: Service is not managed: left alone [not-managed]\n"
    assert err == "2 files, 3 objects: 0 errors, 0 warnings, 1 notice\n"


def test_a_bad_file_exits_1_and_tells_all_at_once_with_places_and_remedies(repository, capsys):
    code, out, err = validate(capsys, "bad.yaml")

    assert code == 1
    assert out == (
        "bad.yaml:11:3: error: spec has no field minReadySecond [unknown-field]\n"
        "  remedy: did you mean minReadySeconds?\n"
        "bad.yaml:43:22: error: spec.template.spec.containers[0].env[0].value must be text, "
        "not a number [wrong-type]\n"
        "  remedy: quote it\n"
    )
    assert err == "1 file, 1 object: 2 errors, 0 warnings, 0 notices\n"


def test_warnings_alone_exit_0(repository, capsys):
    (repository / "w.yaml").write_text(
        spoilt(("revisionHistoryLimit: 10", "revisionHistoryLimit: 1"))
    )

    code, out, _ = validate(capsys, "w.yaml")

    assert code == 0
    assert "warning: revisionHistoryLimit is 1" in out


def test_json_is_a_validation_report(repository, capsys):
    code, out, err = validate(capsys, "prod", "bad.yaml", "-o", "json")
    report = json.loads(out)

    assert code == 1
    assert err == ""
    assert report["apiVersion"] == "dsgitops.io/v1alpha1"
    assert report["kind"] == "ValidationReport"
    assert (report["files"], report["objects"]) == (3, 4)
    first = next(each for each in report["problems"] if each["rule"] == "unknown-field")
    assert first == {
        "file": "bad.yaml",
        "line": 11,
        "column": 3,
        "severity": "error",
        "rule": "unknown-field",
        "what": "spec has no field minReadySecond",
        "remedy": "did you mean minReadySeconds?",
        "object": "logging/agent",
    }


def test_sarif_has_levels_rules_and_places(repository, capsys):
    _, out, _ = validate(capsys, "prod", "bad.yaml", "-o", "sarif")
    (run,) = json.loads(out)["runs"]
    results = {each["ruleId"]: each for each in run["results"]}

    assert json.loads(out)["version"] == "2.1.0"
    assert results["unknown-field"]["level"] == "error"
    assert results["not-managed"]["level"] == "note"
    for each in run["results"]:
        assert run["tool"]["driver"]["rules"][each["ruleIndex"]]["id"] == each["ruleId"]
    place = results["unknown-field"]["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "bad.yaml"
    assert place["region"] == {"startLine": 11, "startColumn": 3}


def test_github_gets_workflow_commands_with_names_escaped(repository, capsys):
    (repository / "a,b:c%.yaml").write_text(BAD)

    _, out, _ = validate(capsys, "a,b:c%.yaml", "-o", "github")

    assert out.splitlines()[0] == (
        "::error file=a%2Cb%3Ac%25.yaml,line=11,col=3,title=unknown-field::"
        "spec has no field minReadySecond; did you mean minReadySeconds?"
    )


def test_the_same_object_in_two_paths_is_an_error(repository, capsys):
    (repository / "copy.yaml").write_text(SOUND)

    code, out, _ = validate(capsys, "prod", "copy.yaml")

    assert code == 1
    assert out.count("[duplicate-object]") == 2


def test_the_settings_make_it_as_strict_as_the_agent(repository, capsys):
    (repository / "config.yaml").write_text(CONFIG)
    (repository / "n.yaml").write_text(spoilt(("  namespace: logging\n", "")))
    (repository / "d.yaml").write_text(named("a", "default"))
    (repository / "p.yaml").write_text(
        spoilt(("example.com/owner: platform", "dsgitops.io/profile: carefull"))
    )

    lenient, said, _ = validate(capsys, "n.yaml", "d.yaml", "p.yaml")
    strict, out, _ = validate(capsys, "n.yaml", "d.yaml", "p.yaml", "--config", "config.yaml")

    assert lenient == 0
    assert "warning: metadata.namespace is missing" in said
    assert strict == 1
    assert "n.yaml:4:3: error: metadata.namespace is missing" in out
    assert "d.yaml:5:14: error: its namespace is not in the settings' list" in out
    assert "remedy: did you mean careful?" in out


def test_warnings_of_the_settings_are_told_with_their_place(repository, capsys):
    (repository / "config.yaml").write_text(CONFIG + "rollout: {podDeadline: 30s}\n")

    code, out, err = validate(capsys, "prod", "--config", "config.yaml")

    assert code == 0
    assert "config.yaml:8:24: warning: rollout.podDeadline is shorter than the minute" in out
    assert "[short-deadline]" in out
    assert err.startswith("2 files, 3 objects: 0 errors, 3 warnings")


def test_what_the_policy_refuses_is_an_error_at_each_image(repository, capsys):
    (repository / "config.yaml").write_text(
        CONFIG + 'policy: {images: ["registry.example.com/*"]}\n'
    )
    (repository / "w.yaml").write_text(
        spoilt(
            (
                "name: agent\n          image: registry.example.com",
                "name: agent\n          image: elsewhere.example.org/s3cret",
            )
        )
    )

    fine, *_ = validate(capsys, "prod/a.yaml", "--config", "config.yaml")
    code, out, _ = validate(capsys, "w.yaml", "--config", "config.yaml")

    assert (fine, code) == (0, 1)
    line = next(at for at, each in enumerate((repository / "w.yaml").read_text().splitlines(), 1)
                if "elsewhere" in each)  # fmt: skip
    assert f"w.yaml:{line}:" in out
    assert "containers[agent].image matches none of policy.images [image-not-allowed]" in out
    assert "remedy: allowed: registry.example.com/*" in out
    assert "s3cret" not in out


def test_privileges_that_only_the_cluster_can_allow_are_a_notice(repository, capsys):
    (repository / "config.yaml").write_text(CONFIG + "policy: {privileged: existing-only}\n")
    (repository / "h.yaml").write_text(
        spoilt(("      serviceAccountName: agent\n", "      hostPID: true\n"))
    )

    code, out, _ = validate(capsys, "h.yaml", "--config", "config.yaml")

    assert code == 0
    assert "h.yaml:1:1: notice: spec.template.spec.hostPID and 1 more: " in out
    assert "refused where the object in the cluster has no such privilege" in out
    assert "existing-only" not in validate(capsys, "h.yaml")[1]


def test_settings_that_cannot_be_used_are_a_usage_error(repository, capsys):
    (repository / "config.yaml").write_text("namespace: [logging]\n")

    code, out, err = validate(capsys, "prod", "--config", "config.yaml")

    assert code == 2
    assert out == ""
    assert "config.yaml:1:1" in err
    assert "did you mean namespaces" in err


def test_a_path_that_is_not_there_is_a_usage_error(repository, capsys):
    code, out, err = validate(capsys, "nowhere")

    assert (code, out) == (2, "")
    assert err == "error: nowhere: no such file or folder\n"


def test_a_symbolic_link_is_not_followed(repository, capsys):
    (repository / "prod" / "z.yaml").symlink_to(repository / "prod" / "a.yaml")

    code, out, _ = validate(capsys, "prod")

    assert code == 1
    assert "prod/z.yaml: error: a symbolic link: sources do not follow them [symlink]" in out


def test_what_is_no_regular_file_is_not_opened(repository, capsys):
    os.mkfifo(repository / "prod" / "pipe.yaml")

    code, out, _ = validate(capsys, "prod")

    assert code == 1
    assert "prod/pipe.yaml: error: no regular file [unreadable]" in out


def test_a_manifest_can_come_from_a_pipe(repository, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(BAD.encode())))

    code, out, _ = validate(capsys, "-")

    assert code == 1
    assert out.startswith("<stdin>:11:3: error:")


def test_control_characters_of_names_do_nothing_to_a_terminal(repository, capsys):
    (repository / "\x1b[31m.yaml").write_text("a: [")

    _, out, _ = validate(capsys, ".")

    assert "\x1b" not in out


def test_it_starts_without_anything_heavy(repository):
    script = (
        "import sys; from dsgitops.cli.main import run_command;"
        "code = run_command(['validate', 'prod']);"
        "heavy = {'kubernetes', 'git', 'apscheduler', 'sentry_sdk', 'deepdiff', 'rich.live'};"
        "print(sorted(heavy & set(sys.modules)), code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip

    assert done.stdout.splitlines()[-1] == "[] 0"
