"""The settings: what is read, and every way in which they can be wrong (corpus C 98-103)."""

from __future__ import annotations

import ast
import json
from dataclasses import fields
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dsgitops.adapters import schedule
from dsgitops.adapters.git import address, revision
from dsgitops.core.model import Gates, Policy
from dsgitops.settings import Checks, effective, load, subjects
from dsgitops.settings.overlay import scalars, variable
from dsgitops.settings.reading import key_of, section_class

CHECKS = Checks(
    url=address.fault,
    ref=revision.fault,
    path=revision.path_fault,
    window=schedule.window_fault,
)

GOOD = """\
cluster: prod-eu-1
namespaces: [kube-system, logging]
sources:
  - name: node-agents
    url: https://git.example.com/agents.git
"""


@pytest.fixture
def read(tmp_path):
    """Write the settings to a file and load them; gives (settings, problems)."""

    def write_and_load(text, *, environ=None, overrides=None):
        file = tmp_path / "dsgitops.yaml"
        file.write_text(dedent(text))
        return load(
            file,
            environ={"HOME": "/home/ann"} | (environ or {}),
            overrides=overrides or {},
            checks=CHECKS,
        )

    return write_and_load


def told(problems):
    """Line, column and rule of each problem."""
    return [(problem.line, problem.column, problem.rule) for problem in problems]


def all_text(problems):
    return "\n".join(f"{problem} {problem.remedy}" for problem in problems)


# ---------------------------------------------------------------------------- what is read


def test_a_short_file_is_enough_and_the_rest_are_the_defaults_of_the_design(read):
    settings, problems = read(GOOD)

    assert problems == ()
    assert settings.policy() == Policy()
    (source,) = settings.sources
    assert (source.ref.kind, source.ref.value) == ("branch", "main")
    assert (source.path, source.interval, source.timeout) == (
        "",
        timedelta(seconds=30),
        timedelta(seconds=60),
    )
    assert (source.prune, source.max_prune, source.allow_empty) == (False, 1, False)
    assert settings.leader_election == "auto"
    assert settings.http.listen == "0.0.0.0:8080"
    assert settings.cache_dir == Path("/home/ann/.cache/dsgitops")


def test_the_example_of_the_design_is_read_whole(read, tmp_path):
    for name in ("user", "password", "signers", "dsn", "hook"):
        (tmp_path / name).write_text("something")
        (tmp_path / name).chmod(0o600)
    settings, problems = read(
        """\
        cluster: prod-eu-1
        cacheDir: /var/cache/dsgitops
        leaderElection: auto
        namespaces: [kube-system, monitoring, logging]
        sources:
          - name: node-agents
            url: https://git.example.com/platform/node-agents.git
            ref: {branch: main}
            path: clusters/prod
            interval: 30s
            timeout: 60s
            auth: {https: {usernameFile: user, passwordFile: password}}
            verify: {ssh: {allowedSignersFile: signers}, mode: head}
            prune: true
            maxPrune: 1
            requireFastForward: false
            allowEmpty: false
        rollout:
          mode: guarded
          canary: {nodes: 1, bakeTime: 10s}
          progressDeadline: 10m
          podDeadline: auto
          bakeTime: 2m
          maxFailedNodes: "10%"
          maxConcurrentRollouts: 0
          rollback: auto
        profiles: {careful: {bakeTime: 10m, canary: {nodes: 3}}}
        windows: [{allow: "* 9-17 * * 1-5", timezone: Europe/Berlin}]
        alerts: {sentry: {dsnFile: dsn, environment: prod}}
        http: {listen: "0.0.0.0:8080", webhookSecretFile: hook}
        policy: {privileged: existing-only, images: ["registry.example.com/*"]}
        """
    )

    assert problems == ()
    gates = Gates(existing_only=True, images=("registry.example.com/*",))
    assert settings.policy("node-agents") == Policy(max_failed_nodes="10%", prune=True, gates=gates)
    assert all(each.gates == gates for each in settings.profile_policies().values())
    assert settings.policy("another").prune is False
    careful = settings.profile_policies("node-agents")["careful"]
    assert careful == Policy(
        bake_time=timedelta(minutes=10),
        canary_nodes=3,
        max_failed_nodes="10%",
        prune=True,
        gates=gates,
    )
    assert settings.sources[0].auth.https.password_file == tmp_path / "password"
    assert settings.policy_gates.privileged == "existing-only"


def test_flags_win_over_environment_over_file_over_defaults(read):
    text = GOOD + "rollout: {bakeTime: 1m, progressDeadline: 1m, podDeadline: 1m}\n"
    environ = {"DSGITOPS_ROLLOUT__BAKE_TIME": "2m", "DSGITOPS_ROLLOUT__PROGRESS_DEADLINE": "2m"}
    settings, problems = read(text, environ=environ, overrides={"rollout.bakeTime": "3m"})

    assert problems == ()
    policy = settings.policy()
    assert (policy.bake_time, policy.progress_deadline, policy.pod_deadline) == (
        timedelta(minutes=3),
        timedelta(minutes=2),
        timedelta(minutes=1),
    )


def test_the_environment_sets_words_numbers_flags_and_lists_too(read):
    settings, problems = read(
        GOOD,
        environ={
            "DSGITOPS_NAMESPACES": "kube-system, storage",
            "DSGITOPS_ROLLOUT__CANARY__NODES": "2",
            "DSGITOPS_ROLLOUT__MAX_FAILED_NODES": "10%",
            "DSGITOPS_ROLLOUT__ROLLBACK": "manual",
            "DSGITOPS_LEADER_ELECTION": "on",
            "DSGITOPS_CACHE_DIR": "/cache",
        },
    )

    assert problems == ()
    assert settings.namespaces == ("kube-system", "storage")
    assert settings.rollout.canary.nodes == 2
    assert settings.rollout.max_failed_nodes == "10%"
    assert settings.rollout.rollback == "manual"
    assert settings.leader_election == "on"
    assert settings.cache_dir == Path("/cache")


def test_variables_that_kubernetes_makes_for_a_service_are_left_alone(read):
    _, problems = read(
        GOOD,
        environ={
            "DSGITOPS_CONFIG": "/etc/dsgitops.yaml",
            "DSGITOPS_SERVICE_HOST": "10.0.0.1",
            "DSGITOPS_SERVICE_PORT_HTTP": "8080",
            "DSGITOPS_PORT": "tcp://10.0.0.1:8080",
            "DSGITOPS_PORT_8080_TCP_ADDR": "10.0.0.1",
        },
    )

    assert problems == ()


def test_in_a_cluster_the_cache_is_a_mounted_folder(read):
    settings, _ = read(GOOD, environ={"KUBERNETES_SERVICE_HOST": "10.0.0.1"})

    assert settings.cache_dir == Path("/var/cache/dsgitops")


def test_without_a_file_there_are_defaults_and_warnings():
    settings, problems = load(None, environ={}, overrides={}, checks=CHECKS)

    assert settings.namespaces == ()
    assert {problem.rule for problem in problems} == {"no-namespaces", "no-sources"}


# ---------------------------------------------------------------------------- what is wrong


def test_all_problems_come_at_once_each_with_its_line(read):
    settings, problems = read(
        """\
        cluster: prod-eu-1
        namespaces: [kube-system]
        sources:
          - name: Node_Agents
            url: https://git.example.com/agents.git
            intervall: 30s
            timeout: 60
        rollout:
          mode: fast
          bakeTime: 1y
          maxFailedNodes: 0
        """
    )

    assert settings is None
    assert told(problems) == [
        (4, 11, "value"),
        (6, 5, "unknown-key"),
        (7, 14, "value"),
        (9, 9, "value"),
        (10, 13, "value"),
        (11, 19, "value"),
    ]
    assert "did you mean interval?" in problems[1].remedy


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("clusters: x", "cluster"),
        ("namespace: [a]", "namespaces"),
        ("roll-out: {}", "rollout"),
        ("cache_dir: /x", "cacheDir"),
    ],
)
def test_an_unknown_key_is_an_error_that_says_what_was_meant(read, wrong, meant):
    settings, problems = read(GOOD + wrong + "\n")

    assert settings is None
    assert told(problems) == [(6, 1, "unknown-key")]
    assert problems[0].remedy == f"did you mean {meant}?"
    assert problems[0].what == f"{wrong.partition(':')[0]} is not known"


def test_an_unknown_key_that_is_no_word_is_not_shown(read):
    _, problems = read(GOOD + '"a\\u001b[31m": x\n')

    assert problems[0].what == "(a key) is not known"


@pytest.mark.parametrize("interval", ["0s", "-5s", "5", "1y", '""', "25h", "[30s]", "30 s"])
def test_an_interval_is_a_duration_with_unit_and_within_reason(read, interval):
    settings, problems = read(GOOD + f"    interval: {interval}\n")

    assert settings is None
    assert [(problem.line, problem.rule) for problem in problems] == [(6, "value")]
    assert problems[0].what.startswith("sources[0].interval ")


def test_a_source_that_cannot_be_read_moves_no_other_problem_from_its_place(read):
    settings, problems = read(
        """\
        namespaces: [kube-system]
        sources:
          - name: without-a-url
          - name: node-agents
            url: ftp://git.example.com/agents.git
          - name: node-agents
            url: https://git.example.com/agents.git
        """
    )

    assert settings is None
    assert told(problems) == [
        (3, 5, "required"),
        (5, 10, "url"),
        (6, 11, "duplicate-source"),
    ]
    assert problems[1].what.startswith("sources[1].url ")
    assert problems[2].what == "sources[2].name is that of sources[1] too"


def test_a_pod_deadline_below_the_node_grace_is_a_warning_once(read):
    settings, problems = read(
        GOOD + "rollout: {podDeadline: 30s}\nprofiles: {a: {bakeTime: 1m}, b: {podDeadline: 10s}}\n"
    )

    assert settings is not None
    assert [(each.line, each.severity, each.rule) for each in problems] == [
        (6, "warning", "short-deadline"),
        (7, "warning", "short-deadline"),
    ]
    assert problems[1].what.startswith("profiles.b.podDeadline is shorter")


def test_two_sources_of_one_name_are_an_error(read):
    settings, problems = read(
        GOOD + "  - name: node-agents\n    url: https://git.example.com/other.git\n"
    )

    assert settings is None
    assert told(problems) == [(6, 11, "duplicate-source")]


@pytest.mark.parametrize(
    ("first", "second", "overlap"),
    [
        ("clusters", "clusters/prod", True),
        ("clusters/prod", "clusters/prod/", True),
        ("", "clusters", True),
        ("clusters/prod", "clusters/prod-2", False),
        ("a", "b", False),
    ],
)
def test_two_sources_of_one_repository_must_not_share_files(read, first, second, overlap):
    settings, problems = read(
        f"""\
        namespaces: [kube-system]
        sources:
          - name: one
            url: https://git.example.com/agents.git
            path: "{first or "."}"
          - name: two
            url: https://git.example.com/agents
            path: "{second}"
        """
    )

    assert [problem.rule for problem in problems] == ["overlapping-paths"] * overlap
    assert (settings is None) is overlap
    assert all(problem.line == 8 for problem in problems)


def test_paths_of_different_branches_do_not_overlap(read):
    settings, _ = read(
        GOOD
        + "  - name: next\n    url: https://git.example.com/agents.git\n    ref: {branch: next}\n"
    )

    assert len(settings.sources) == 2


@pytest.mark.parametrize("written", ["namespaces: []", "namespaces:", ""])
def test_no_namespaces_means_none_and_is_told(read, written):
    settings, problems = read(GOOD.replace("namespaces: [kube-system, logging]", written))

    if written == "namespaces:":  # a list that lost its items may have been meant otherwise
        assert settings is None
        return
    assert settings.namespaces == ()
    assert [(problem.rule, problem.severity) for problem in problems] == [
        ("no-namespaces", "warning")
    ]


@pytest.mark.parametrize(
    "line",
    ["cluster: ${CLUSTER}", "namespaces: [kube-system, '${NS}']", "rollout: {bakeTime: '${T}'}"],
)
def test_nothing_is_expanded_and_whoever_expects_it_is_told(read, line):
    kept = [each for each in GOOD.splitlines() if each.partition(":")[0] != line.partition(":")[0]]
    settings, problems = read("\n".join([line, *kept]) + "\n")

    assert settings is None
    assert [problem.rule for problem in problems if problem.severity == "error"] == ["variable"]
    assert problems[0].line == 1


def test_a_variable_in_the_environment_is_not_expanded_either(read):
    _, problems = read(GOOD, environ={"DSGITOPS_CLUSTER": "${NAME}"})

    assert [(problem.path, problem.rule) for problem in problems] == [
        ("environment DSGITOPS_CLUSTER", "variable")
    ]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("DSGITOPS_ROLLOUT__BAKETIME", "did you mean DSGITOPS_ROLLOUT__BAKE_TIME?"),
        ("DSGITOPS_ROLLOUT_BAKE_TIME", "did you mean DSGITOPS_ROLLOUT__BAKE_TIME?"),
        ("DSGITOPS_SOURCES__0__URL", "lists of objects and profiles can be set in the file only"),
    ],
)
def test_an_unknown_variable_is_an_error_that_says_what_was_meant(read, name, meant):
    settings, problems = read(GOOD, environ={name: "hunter2"})

    assert settings is None
    assert [(problem.path, problem.remedy) for problem in problems] == [
        (f"environment {name}", meant)
    ]
    assert "hunter2" not in all_text(problems)


def test_an_unknown_flag_is_an_error(read):
    _, problems = read(GOOD, overrides={"rollout.baketime": "5m"})

    assert problems[0].path == "flag rollout.baketime"
    assert problems[0].remedy == "did you mean rollout.bakeTime?"


@pytest.mark.parametrize(
    "auth",
    [
        "{https: {password: hunter2}}",
        "{https: {token: hunter2}}",
        "{basic: hunter2}",
        "hunter2",
        "{https: hunter2}",
    ],
)
def test_an_inline_secret_is_refused_and_not_repeated(read, auth):
    settings, problems = read(GOOD + f"    auth: {auth}\n")

    assert settings is None
    assert problems[0].line == 6
    assert "hunter2" not in all_text(problems)


def test_a_url_with_a_password_is_refused_and_not_repeated(read):
    settings, problems = read(GOOD.replace("https://", "https://ann:hunter2@"))

    assert settings is None
    assert told(problems) == [(5, 10, "url")]
    assert "hunter2" not in all_text(problems)
    assert "passwordFile" in problems[0].remedy


@pytest.mark.parametrize(
    ("url", "line", "rule"),
    [
        ("ext::sh -c id", 5, "url"),
        ("http://git.example.com/a", 5, "url"),
        ("git@git.example.com:a", 4, "auth"),
    ],
)
def test_what_the_adapters_know_of_urls_is_told_with_the_line(read, url, line, rule):
    settings, problems = read(GOOD.replace("https://git.example.com/agents.git", url))

    assert settings is None
    assert [(problem.line, problem.rule) for problem in problems] == [(line, rule)]


@pytest.mark.parametrize(
    "ref",
    [
        "{branch: --output=x}",
        "{branch: a, tag: b}",
        "{commit: abc}",
        "{semver: latest}",
        "main",
        "{head: x}",
    ],
)
def test_a_ref_that_git_would_misread_is_refused(read, ref):
    settings, problems = read(GOOD + f"    ref: {ref}\n")

    assert settings is None
    assert [problem.line for problem in problems] == [6]


@pytest.mark.parametrize("path", ["../..", "/etc", "a//b"])
def test_a_path_outside_the_repository_is_refused(read, path):
    _, problems = read(GOOD + f"    path: {path}\n")

    assert told(problems) == [(6, 11, "path")]


@pytest.mark.parametrize(
    "window",
    ["{allow: '* * *'}", "{allow: '0 0 30 2 *'}", "{allow: '* * * * *', timezone: Mars/Base}"],
)
def test_a_window_that_never_opens_or_cannot_be_read_is_refused(read, window):
    settings, problems = read(GOOD + f"windows: [{window}]\n")

    assert settings is None
    assert [(problem.line, problem.rule) for problem in problems] == [(6, "window")]


# ---------------------------------------------------------------------------- secrets' files


def with_password(content: str | None, tmp_path, *, mode=0o600):
    file = tmp_path / "password"
    if content is not None:
        file.write_text(content)
        file.chmod(mode)
    return GOOD + "    auth: {https: {passwordFile: password}}\n"


@pytest.mark.parametrize("content", [None, "", "\n"], ids=["missing", "empty", "blank"])
def test_a_secret_file_that_is_missing_or_empty_is_an_error(read, tmp_path, content):
    settings, problems = read(with_password(content, tmp_path))

    assert settings is None
    assert [(problem.line, problem.rule) for problem in problems] == [(6, "file")]


def test_a_secret_file_may_end_with_a_newline(read, tmp_path):
    settings, problems = read(with_password("hunter2\n", tmp_path))

    assert settings is not None
    assert problems == ()


def test_a_secret_file_that_everyone_can_read_is_a_warning(read, tmp_path):
    settings, problems = read(with_password("hunter2", tmp_path, mode=0o644))

    assert settings is not None
    assert [(problem.rule, problem.severity) for problem in problems] == [
        ("world-readable", "warning")
    ]


def test_ssh_without_known_host_keys_is_refused(read, tmp_path):
    (tmp_path / "key").write_text("x")
    (tmp_path / "key").chmod(0o600)
    text = GOOD.replace("https://", "ssh://git@") + "    auth: {ssh: {keyFile: key}}\n"
    settings, problems = read(text)

    assert settings is None
    assert [(problem.line, problem.rule) for problem in problems] == [(6, "auth")]
    assert "knownHostsFile" in problems[0].remedy


def test_a_sentry_that_cannot_be_reached_is_no_reason_not_to_run(read):
    settings, problems = read(GOOD + "alerts: {sentry: {dsnFile: nowhere}}\n")

    assert settings is not None
    assert [(problem.rule, problem.severity) for problem in problems] == [("file", "warning")]


# ---------------------------------------------------------------------------- the file as such


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("- a\n", "config-file"),
        ("a: 1\n---\nb: 2\n", "config-file"),
        ("hello\n", "config-file"),
        ("sources: [\n", "yaml-syntax"),
        ("cluster:\n\tx: 1\n", "tab-indentation"),
    ],
)
def test_a_file_that_holds_no_settings_is_named(read, text, rule):
    settings, problems = read(text)

    assert settings is None
    assert [problem.rule for problem in problems] == [rule]


def test_a_file_that_is_not_there_is_named(tmp_path):
    settings, problems = load(tmp_path / "no.yaml", environ={}, overrides={}, checks=CHECKS)

    assert settings is None
    assert "no such file" in problems[0].what


def test_a_key_given_twice_is_an_error(read):
    settings, problems = read(GOOD + "cluster: other\n")

    assert settings is None
    assert "duplicate-key" in {problem.rule for problem in problems}


def test_a_word_that_yaml_readers_disagree_on_wants_quotes(read):
    settings, problems = read(GOOD + "leaderElection: on\n")

    assert settings is None
    assert [problem.line for problem in problems] == [6]
    assert read(GOOD + 'leaderElection: "on"\n')[0].leader_election == "on"


def test_an_empty_section_is_all_defaults(read):
    settings, problems = read(GOOD + "rollout:\nhttp: {}\nprofiles:\nwindows:\n")

    assert problems == ()
    assert settings.policy() == Policy()


@pytest.mark.parametrize("value", ["7", "text", "[1]", "true"])
@pytest.mark.parametrize(
    "key", ["rollout", "sources", "profiles", "windows", "http", "alerts", "policy"]
)
def test_a_section_of_the_wrong_shape_is_an_error_and_never_a_crash(read, key, value):
    kept = "namespaces: [a]\n" if key == "sources" else GOOD
    settings, problems = read(kept + f"{key}: {value}\n")

    assert settings is None
    assert {problem.rule for problem in problems if problem.severity == "error"} <= {
        "type",
        "required",
    }


def known_keys(cls=subjects.Settings):
    for each in fields(cls):
        yield key_of(each) or "origins"
        nested = each.metadata.get("each") or each.metadata.get("values")
        if nested is None and "kind" not in each.metadata and key_of(each):
            nested = section_class(cls, each)
        if nested is not None:
            yield from known_keys(nested)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.sampled_from(["30s", "main", "https://h/x", "auto", "10%", "/x", "${X}", "* * * * *"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(sorted(set(known_keys()))) | st.text(), inner, max_size=6)
    ),
    max_leaves=30,
)


@settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.dictionaries(
        st.sampled_from([key_of(each) for each in fields(subjects.Settings) if key_of(each)]),
        VALUES,
        max_size=6,
    )
)
def test_whatever_is_written_there_are_settings_or_an_error_and_never_a_crash(tmp_path, values):
    file = tmp_path / "dsgitops.yaml"
    file.write_text(json.dumps(values))

    loaded, problems = load(file, environ={}, overrides={}, checks=CHECKS)

    assert (loaded is None) == any(problem.severity == "error" for problem in problems)
    if loaded is not None:
        assert effective(loaded)


# ---------------------------------------------------------------------------- what is shown


def test_what_is_in_force_is_shown_with_where_it_came_from(read, tmp_path):
    text = with_password("hunter2", tmp_path) + "rollout: {bakeTime: 90s}\n"
    settings, _ = read(
        text, environ={"DSGITOPS_HTTP__LISTEN": "127.0.0.1:1"}, overrides={"cluster": "c"}
    )

    shown = {
        each.name: (each.value, each.origin.rpartition("/")[2]) for each in effective(settings)
    }

    assert shown["rollout.bakeTime"] == ("1m30s", "dsgitops.yaml:7")
    assert shown["http.listen"] == ("127.0.0.1:1", "environment DSGITOPS_HTTP__LISTEN")
    assert shown["cluster"] == ("c", "flag cluster")
    assert shown["rollout.podDeadline"] == ("auto", "default")
    assert shown["sources[0].url"][1] == "dsgitops.yaml:5"
    assert "hunter2" not in str(shown)


def test_every_setting_has_a_docstring():
    module = ast.parse(Path(subjects.__file__).read_text())
    classes = [node for node in module.body if isinstance(node, ast.ClassDef)]

    undocumented = [
        f"{each.name}.{ast.unparse(node.target)}"
        for each in classes
        for node, after in pairwise([*each.body, ast.Pass()])
        if isinstance(node, ast.AnnAssign) and not is_text(after)
    ]

    assert len(classes) > 10
    assert undocumented == []


def is_text(node):
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def test_every_scalar_setting_has_a_variable_of_its_own():
    names = [variable(path) for path, _ in scalars()]

    assert len(names) == len(set(names)) > 15
    assert "DSGITOPS_ROLLOUT__MAX_CONCURRENT_ROLLOUTS" in names
    assert {each.name for each in fields(subjects.Rollout)} >= {"bake_time", "mode"}
