"""One file's DaemonSets, and everything that is wrong with them, each with its place."""

from __future__ import annotations

import json
import textwrap
import time

import pytest
from core.manifests import SOUND, named, spoilt
from hypothesis import given, settings
from hypothesis import strategies as st

from dsgitops.core import manifest


def read(text: str | bytes, path: str = "f.yaml") -> manifest.ManifestFile:
    return manifest.read(text if isinstance(text, bytes) else text.encode(), path=path)


def found(text: str, severity: str = "error") -> list[tuple[str, int]]:
    return [(each.rule, each.line) for each in read(text).problems if each.severity == severity]


def line_of(text: str, part: str) -> int:
    """Return the line of the first place where `part` stands."""
    return text[: text.index(part)].count("\n") + 1


def test_a_sound_manifest_has_no_problems_at_all():
    file = read(SOUND)

    assert file.problems == ()
    assert [str(each.ref()) for each in file.manifests] == ["logging/agent"]
    assert file.manifests[0].digest.startswith("sha256:")


def test_the_values_are_those_of_git():
    assert read(SOUND).manifests[0].value["spec"]["minReadySeconds"] == 5


# (case of safety.md, what is wrong, what is replaced, by what, rule, where: a piece of the line)
SPOILT = [
    ("50", "a file mode without its zero", "defaultMode: 420", "defaultMode: 644", "out-of-range", "644"),
    ("52", "a version as a label", "app: agent\n  annotations", "app: agent\n    version: 1.10\n  annotations", "wrong-type", "1.10"),
    ("66", "extensions/v1beta1", "apps/v1", "extensions/v1beta1", "api-version", "extensions"),
    ("66", "apps/v2", "apps/v1", "apps/v2", "api-version", "apps/v2"),
    ("66", "no apiVersion", "apiVersion: apps/v1\n", "", "api-version", "kind"),
    ("67", "no name", "  name: agent\n  namespace", "  namespace", "no-name", "namespace: logging"),
    ("67", "generateName", "  name: agent\n  namespace", "  generateName: agent-\n  namespace", "no-name", "generateName"),
    ("68", "a name in upper case", "  name: agent\n  namespace", "  name: Agent\n  namespace", "name", "name: Agent"),
    ("68", "a name of 254 characters", "  name: agent\n  namespace", f"  name: {'a' * 254}\n  namespace", "name", "aaa"),
    ("68", "a label value of 64 characters", "app: agent\n  annotations", f"app: agent\n    x: {'a' * 64}\n  annotations", "label", "aaa"),
    ("68", "a label key with a blank", "app: agent\n  annotations", "app: agent\n    a b: c\n  annotations", "label", "a b"),
    ("73", "selector and labels differ", "app: agent\n  updateStrategy", "app: other\n  updateStrategy", "selector-mismatch", "matchLabels"),
    ("73", "no selector", "  selector:\n    matchLabels:\n      app: agent\n", "", "missing-field", "spec:"),
    ("73", "an empty selector", "\n    matchLabels:\n      app: agent\n  updateStrategy", " {}\n  updateStrategy", "empty-selector", "selector"),
    ("75", "an unknown field", "readinessProbe", "readynessProbe", "unknown-field", "readynessProbe"),
    ("75", "a field in the wrong place", "      serviceAccountName: agent\n", "      serviceAccountName: agent\n      readinessProbe: {}\n", "unknown-field", "readinessProbe: {}"),
    ("76", "text for a list", "command: [prepare]", 'command: "prepare"', "wrong-type", 'prepare"'),
    ("76", "text for a number", "containerPort: 8080", 'containerPort: "8080"', "wrong-type", '"8080"'),
    ("76", "a list for a mapping", "      nodeSelector:\n        kubernetes.io/os: linux\n", "      nodeSelector: [linux]\n", "wrong-type", "nodeSelector"),
    ("76", "a fraction for a whole number", "minReadySeconds: 5", "minReadySeconds: 5.5", "wrong-type", "5.5"),
    ("77", "no containers", "      containers:\n", "      ephemeralContainers:\n", "missing-field", "    spec:\n"),
    ("77", "an empty list of containers", "      initContainers:\n        - name: prepare\n          image: registry.example.com/agent:1.4.2\n          command: [prepare]\n      containers:\n", "      containers: []\n      initContainers:\n", "no-containers", "containers: []"),
    ("77", "two containers of a name", "name: prepare", "name: agent", "duplicate-name", "- name: agent"),
    ("77", "a port twice", "containerPort: 8080", "containerPort: 8080\n            - containerPort: 8080", "duplicate-port", "containerPort: 8080\n            -"),
    ("77", "a variable twice", "- name: NODE", "- name: LEVEL", "duplicate-env", "- name: LEVEL"),
    ("77", "a volume twice", "- name: config\n          configMap", "- name: logs\n          configMap", "duplicate-name", "- name: logs\n          hostPath"),
    ("77", "a mount path twice", "mountPath: /etc/agent", "mountPath: /var/log", "duplicate-mount", "mountPath: /var/log"),
    ("78", "a mount without its volume", "- name: config\n              mountPath", "- name: confg\n              mountPath", "no-such-volume", "confg"),
    ("79", "a number as a variable", "value: info", "value: 5", "wrong-type", "value: 5"),
    ("79", "true as a variable", "value: info", "value: true", "wrong-type", "value: true"),
    ("80", "restartPolicy OnFailure", "restartPolicy: Always", "restartPolicy: OnFailure", "restart-policy", "OnFailure"),
    ("81", "an image with a blank", "agent:1.4.2\n          env", "agent 1.4.2\n          env", "image", "agent 1.4.2"),
    ("81", "an image with an empty tag", "agent:1.4.2\n          env", '"x:"\n          env', "image", "x:"),
    ("81", "an image in upper case", "registry.example.com/agent:1.4.2\n          env", "registry.example.com/Agent:1.4.2\n          env", "image", "Agent"),
    ("81", "no image", "          image: registry.example.com/agent:1.4.2\n          env", "          env", "no-image", "- name: agent"),
    ("81", "a variable in the image", "agent:1.4.2\n          env", "agent:${TAG}\n          env", "unreplaced-variable", "${TAG}"),
    ("81", "a template in the image", "registry.example.com/agent:1.4.2\n          env", '"{{ .Values.image }}"\n          env', "unreplaced-variable", "{{"),
    ("83", "both numbers 0", "maxUnavailable: 1", "maxUnavailable: 0", "no-room", "maxUnavailable"),
    ("83", "0 %", "maxUnavailable: 1", 'maxUnavailable: "0%"', "no-room", "maxUnavailable"),
    ("84", "both numbers set", "maxSurge: 0", "maxSurge: 1", "surge-and-unavailable", "maxSurge"),
    ("84", "maxSurge alone", "maxUnavailable: 1\n      maxSurge: 0", "maxSurge: 1", "surge-and-unavailable", "maxSurge"),
    ("85", "150 %", "maxUnavailable: 1", 'maxUnavailable: "150%"', "percentage", "maxUnavailable"),
    ("85", "a count in quotes", "maxUnavailable: 1", 'maxUnavailable: "2"', "percentage", "maxUnavailable"),
    ("85", "a negative count", "maxUnavailable: 1", "maxUnavailable: -1", "out-of-range", "maxUnavailable"),
    ("89", "no history", "revisionHistoryLimit: 10", "revisionHistoryLimit: 0", "no-history", "revisionHistoryLimit"),
    ("89", "a negative history", "revisionHistoryLimit: 10", "revisionHistoryLimit: -1", "out-of-range", "revisionHistoryLimit"),
    ("92", "our record in Git", "example.com/owner: platform", "dsgitops.io/record: '{}'", "reserved-annotation", "dsgitops.io/record"),
    ("92", "a misspelt annotation of ours", "example.com/owner: platform", "dsgitops.io/rolback: disabled", "unknown-annotation", "rolback"),
    ("92", "a bad value for ours", "example.com/owner: platform", "dsgitops.io/rollback: never", "annotation-value", "rollback"),
    ("92", "a deadline without unit", "example.com/owner: platform", 'dsgitops.io/progress-deadline: "600"', "annotation-value", "progress-deadline"),
    ("92", "a suspension that is no JSON", "example.com/owner: platform", "dsgitops.io/suspend: because", "annotation-value", "suspend"),
    ("92", "a pointer that is none", "example.com/owner: platform", "dsgitops.io/ignore-diff: spec.template", "annotation-value", "ignore-diff"),
    ("102", "a variable in the namespace", "namespace: logging", "namespace: ${NAMESPACE}", "unreplaced-variable", "${NAMESPACE}"),
    ("102", "a variable in a label", "app: agent\n  annotations", "app: agent\n    x: ${X}\n  annotations", "unreplaced-variable", "${X}"),
    ("V", "an unknown strategy", "type: RollingUpdate", "type: Recreate", "not-supported", "Recreate"),
    ("V", "activeDeadlineSeconds", "restartPolicy: Always", "activeDeadlineSeconds: 5", "not-in-a-daemonset", "activeDeadlineSeconds"),
    ("V", "a port out of range", "containerPort: 8080", "containerPort: 80800", "out-of-range", "80800"),
    ("V", "a long port name", "- name: http", "- name: http-with-a-long-name", "port-name", "http-with"),
    ("V", "a probe without a question", "            tcpSocket:\n              port: 8080\n", "            periodSeconds: 5\n", "probe", "livenessProbe"),
    ("V", "a probe with two questions", "            tcpSocket:\n", "            exec: {command: [true-or-so]}\n            tcpSocket:\n", "probe", "livenessProbe"),
    ("V", "a probe of an init container", "command: [prepare]", "command: [prepare]\n          livenessProbe: {tcpSocket: {port: 80}}", "init-probe", "livenessProbe: {"),
    ("V", "more requested than allowed", "memory: 64Mi", "memory: 1Gi", "resources", "1Gi"),
    ("V", "a quantity that is none", "memory: 64Mi", "memory: 64MB", "quantity", "64MB"),
    ("V", "an unknown resource", "limits: {memory:", "limits: {mem:", "resource-name", "mem:"),
    ("V", "value and valueFrom", "valueFrom: {fieldRef", "value: x\n              valueFrom: {fieldRef", "env-value", "valueFrom"),
    ("V", "a toleration without key", "- key: node-role.kubernetes.io/control-plane\n          operator: Exists", "- operator: Equal", "toleration", "operator: Equal"),
    ("V", "two sources of a volume", "hostPath: {path: /var/log}", "hostPath: {path: /var/log}\n          emptyDir: {}", "volume-source", "- name: logs\n          hostPath"),
    ("V", "Bidirectional without privilege", "mountPath: /var/log", "mountPath: /var/log\n              mountPropagation: Bidirectional", "privileges", "Bidirectional"),
    ("V", "a list with a key twice", "      nodeSelector:\n", "      hostAliases: [{ip: 10.0.0.1}, {ip: 10.0.0.1}]\n      nodeSelector:\n", "duplicate-element", "hostAliases"),
    ("V", "a missing template spec", "    spec:\n      serviceAccountName", "    spec_:\n      serviceAccountName", "unknown-field", "spec_"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("before", "after", "rule", "place"),
    [pytest.param(*row[2:], id=f"M{row[0]} {row[1]}") for row in SPOILT],
)
def test_one_mistake_is_one_error_at_its_line(before, after, rule, place):
    text = spoilt((before, after))
    file = read(text)
    errors = [each for each in file.problems if each.severity == "error"]

    assert rule in {each.rule for each in errors}
    first = next(each for each in errors if each.rule == rule)
    assert first.line == line_of(text, place)
    assert first.column >= 1
    assert file.manifests == () or file.manifests[0].problem is not None, "it is never applied"


def test_a_surge_with_a_port_of_the_host_can_never_start():
    edits = (
        ("maxUnavailable: 1\n      maxSurge: 0", "maxUnavailable: 0\n      maxSurge: 1"),
        ("containerPort: 8080", "containerPort: 8080\n              hostPort: 8080"),
    )

    assert [each[0] for each in found(spoilt(*edits))] == ["surge-host-port"]


def test_all_mistakes_are_told_at_once():
    text = spoilt(
        ("minReadySeconds: 5", "minReadySecond: 5"),
        ("value: info", "value: 5"),
        ("readinessProbe", "readynessProbe"),
        ("revisionHistoryLimit: 10", "revisionHistoryLimit: 0"),
        ("command: [prepare]", "command: prepare"),
    )

    assert sorted(each[0] for each in found(text)) == [
        "no-history",
        "unknown-field",
        "unknown-field",
        "wrong-type",
        "wrong-type",
    ]


def test_a_near_miss_is_named():
    remedies = [each.remedy for each in read(spoilt(("readinessProbe", "readynessProbe"))).problems]

    assert "did you mean readinessProbe?" in remedies


@pytest.mark.parametrize(
    ("before", "after", "rule"),
    [
        pytest.param("agent:1.4.2\n          env", "agent:latest\n          env", "image-tag", id="M81 latest"),
        pytest.param("agent:1.4.2\n          env", "agent\n          env", "image-tag", id="M81 no tag"),
        pytest.param("maxUnavailable: 1", 'maxUnavailable: "100%"', "all-at-once", id="M85 100 %"),
        pytest.param("          readinessProbe:", "          startupProbe:", "no-readiness-probe", id="M87 no readiness probe"),
        pytest.param("revisionHistoryLimit: 10", "revisionHistoryLimit: 1", "short-history", id="M89 short history"),
        pytest.param("  name: agent\n  namespace", "  uid: 1a\n  name: agent\n  namespace", "server-field", id="M90 uid"),
        pytest.param("example.com/owner: platform", "deprecated.daemonset.template.generation: '3'", "server-field", id="M91 template generation"),
        pytest.param("      labels:\n        app: agent", "      labels:\n        app: agent\n      annotations: {kubectl.kubernetes.io/restartedAt: now}", "stamp-in-template", id="M93 stamp"),
        pytest.param("  name: agent\n  namespace", "  finalizers: [example.com/a]\n  name: agent\n  namespace", "not-applied", id="M97 finalizers"),
        pytest.param("defaultMode: 420", "defaultMode: 0644", "ambiguous-octal", id="M50 an octal file mode, which all readers agree on"),
        pytest.param("port: http", "port: htpp", "probe-port", id="a probe of a port that is not named"),
        pytest.param("limits: {memory: 128Mi}", "limits: {cpu: 200m}", "no-memory-limit", id="no memory limit"),
        pytest.param("- name: LEVEL\n              value: info", "- name: DB_PASSWORD\n              value: hunter2", "inline-secret", id="a secret in clear"),
    ],
)  # fmt: skip
def test_what_works_and_will_be_regretted_is_a_warning(before, after, rule):
    file = read(spoilt((before, after)))

    assert [each.rule for each in file.problems if each.severity == "warning"] == [rule]
    assert file.manifests[0].problem is None


@pytest.mark.parametrize("limit", ["100m", "128", "64Ki"])
def test_a_memory_limit_in_which_nothing_starts_is_a_warning_with_a_way_out(limit):
    text = spoilt(
        ("limits: {memory: 128Mi}", f"limits: {{memory: {limit}}}"), ("memory: 64Mi", "memory: 0")
    )

    (problem,) = read(text).problems
    assert (problem.severity, problem.rule) == ("warning", "tiny-memory-limit")
    assert problem.remedy.endswith("100Mi, not 100 or 100m")


def test_on_delete_is_followed_and_said():
    text = spoilt(
        ("type: RollingUpdate", "type: OnDelete"), ("maxUnavailable: 1", "maxUnavailable: 0")
    )

    assert found(text) == []
    assert [each[0] for each in found(text, "notice")] == ["on-delete"]


@pytest.mark.parametrize(
    "kind",
    [
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec: {replicas: 1}",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData: {a: b}",
        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: a}",
        "apiVersion: apps.kruise.io/v1alpha1\nkind: DaemonSet\nmetadata: {name: a}",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nsops: {mac: x, version: 3.9.0}",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {a: no, b: 0644}",
    ],
)
def test_m65_other_kinds_are_named_and_left_alone(kind):
    file = read(kind)

    assert [(each.severity, each.rule) for each in file.problems] == [("notice", "not-managed")]
    assert file.manifests == ()
    assert file.objects == 1


def test_other_kinds_beside_a_daemonset_do_not_hinder_it():
    file = read("apiVersion: v1\nkind: Service\nmetadata: {name: a}\n---\n" + SOUND)

    assert [each.name for each in file.manifests] == ["agent"]
    assert file.manifests[0].line == 5
    assert file.objects == 2


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("name: my-app\nreplicas: 3\n", "not-a-manifest"),
        ("version: '3'\nservices: {}\n", "not-a-manifest"),
        ("[1, 2]", "not-a-manifest"),
    ],
)
def test_yaml_that_is_no_manifest_is_left_alone(text, rule):
    assert [(each.severity, each.rule) for each in read(text).problems] == [("notice", rule)]


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("just text", "not-an-object"),
        ("apiVersion: apps/v1\nmetadata: {name: a}\n", "no-kind"),
        ("apiversion: apps/v1\nKind: DaemonSet\n", "no-kind"),
        ("apiVersion: apps/v1\nkind: Daemonset\nmetadata: {name: a}\n", "kind"),
        (spoilt(("kind: DaemonSet\n", "kind: DaemonSet\nsops: {mac: x}\n")), "sops"),
        ("data: ENC[x]\nsops: {mac: x}\n", "sops"),
    ],
)
def test_what_was_meant_to_be_a_manifest_is_an_error(text, rule):
    assert rule in {each[0] for each in found(text)}


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        ("a/kustomization.yaml", "kustomization"),
        ("a/kustomization.yml", "kustomization"),
        ("chart/Chart.yaml", "helm-chart"),
    ],
)
def test_what_others_render_gets_a_notice(path, rule):
    (problem,) = read("resources: [a.yaml]\n", path).problems

    assert (problem.severity, problem.rule) == ("notice", rule)
    assert "not done yet" in problem.what


def test_a_template_left_in_a_file_is_an_error_of_that_file():
    file = read(spoilt(("namespace: logging", "namespace: {{ .Release.Namespace }}")))

    assert "unrendered-template" in {each.rule for each in file.problems}
    assert all(each.problem is not None for each in file.manifests)


def test_y59_a_list_is_expanded_and_its_lines_are_kept():
    indented = textwrap.indent(SOUND, "    ")
    text = "apiVersion: v1\nkind: List\nitems:\n  -\n" + indented.replace("value: info", "value: 5")
    file = read(text)

    assert [each.name for each in file.manifests] == ["agent"]
    assert found(text) == [("wrong-type", line_of(text, "value: 5"))]


def test_y60_json_in_a_yaml_file_is_fine():
    value = read(SOUND).manifests[0].value
    file = read(json.dumps(value, indent=2))

    assert file.problems == ()
    assert file.manifests[0].digest == read(SOUND).manifests[0].digest


def test_y39_a_syntax_error_rejects_the_whole_file():
    file = read(named("one") + "---\n" + named("two") + "---\na: [\n")

    assert file.broken
    assert file.manifests == ()
    assert [each.rule for each in file.problems] == ["yaml-syntax"]


def test_a_mistake_in_one_document_leaves_the_others_readable():
    text = named("one") + "---\n" + named("two").replace("minReadySeconds: 5", "minReadySeconds: x")
    one, two = read(text).manifests

    assert one.problem is None
    assert two.problem is not None


def test_m95_an_object_that_etcd_would_not_take_is_an_error():
    text = spoilt(("command: [prepare]", f"command: [prepare, {'x' * 1_600_000}]"))

    assert [each[0] for each in found(text)] == ["too-large"]


def test_m95_more_annotations_than_the_api_server_takes_are_an_error():
    text = spoilt(("example.com/owner: platform", f"example.com/owner: {'x' * 262_144}"))

    assert [each[0] for each in found(text)] == ["too-large"]


def test_a_creation_timestamp_of_null_is_what_kubectl_writes():
    text = spoilt(
        ("  name: agent\n  namespace", "  creationTimestamp: null\n  name: agent\n  namespace")
    )

    assert read(text).problems == ()


def test_shell_variables_are_no_templates():
    text = spoilt(
        ("command: [prepare]", 'command: [sh, -c, "echo ${HOME} {{ x }}"]'),
        ("value: info", 'value: "${LEVEL}"'),
    )

    assert read(text).problems == ()


def test_values_are_never_quoted_by_any_rule():
    secret = "hunter2"
    spoils = [
        spoilt(("value: info", f"value: [{secret}]")),
        spoilt(("command: [prepare]", f"command: {secret}")),
        spoilt(("type: RollingUpdate", f"type: {secret}")),
        spoilt(("maxUnavailable: 1", f"maxUnavailable: {secret}")),
        spoilt(("memory: 64Mi", f"memory: {secret}")),
        spoilt(("agent:1.4.2\n          env", f'"{secret} x"\n          env')),
        spoilt(("restartPolicy: Always", f"restartPolicy: {secret}")),
        spoilt(("path: /ready", f"path: {{{secret}: 1}}")),
        spoilt(("apps/v1", secret)),
        spoilt(("namespace: logging", f"namespace: {secret.upper()}")),
        spoilt(("example.com/owner: platform", f"dsgitops.io/suspend: {secret}")),
    ]

    problems = [each for text in spoils for each in read(text).problems]

    assert len(problems) >= len(spoils)
    said = [f"{each.what} {each.remedy}" for each in problems if each.rule != "unknown-field"]
    assert not [each for each in said if secret in each.lower()]


def test_a_file_found_at_another_path_has_the_same_content():
    file = read(spoilt(("value: info", "value: 5")), "a.yaml")
    moved = file.at("b.yaml")

    assert {each.path for each in moved.problems} == {"b.yaml"}
    assert moved.manifests[0].problem is not None
    assert moved.manifests[0].problem.path == "b.yaml"
    assert file.at("a.yaml") is file


def test_a_field_that_only_newer_clusters_know_is_a_warning():
    text = spoilt(("defaultMode: 420", "defaultMode: 420, defaultUser: 0"))

    assert found(text) == []
    assert [each[0] for each in found(text, "warning")] == ["newer-field"]


def test_empty_text_where_text_is_required_is_missing():
    assert found(spoilt(("mountPath: /etc/agent", 'mountPath: ""')))[0][0] == "missing-field"


@pytest.mark.parametrize("value", ["no", "0755", "22:30", "1e3"])
def test_an_ambiguous_variable_is_told_once(value):
    text = spoilt(("value: info", f"value: {value}"))

    assert [each[0].partition("-")[0] for each in found(text)] == ["ambiguous"]
    assert read(text).manifests[0].problem is not None


def test_an_octal_label_named_mode_is_no_file_mode():
    text = spoilt(("app: agent\n  annotations", "app: agent\n    mode: 0644\n  annotations"))

    assert [each[0] for each in found(text)] == ["wrong-type"]


def test_a_malformed_annotation_key_of_the_template_is_an_error():
    edit = (
        "      labels:\n        app: agent",
        "      annotations: {a b: c}\n      labels:\n        app: agent",
    )

    assert [each[0] for each in found(spoilt(edit))] == ["annotation"]


def test_hundreds_of_warnings_hide_no_error():
    containers = "".join(f"        - {{name: c{n}, image: a.b/c:1}}\n" for n in range(700))
    text = spoilt(
        ("      containers:\n", "      containers:\n" + containers),
        ("- name: config\n          configMap", "- name: Config\n          configMap"),
    )

    assert "name" in {each[0] for each in found(text)}


def test_thousands_of_mistakes_take_no_minutes():
    fields = "".join(f"      fieldname{n}: 1\n" for n in range(20_000))
    mounts = "".join(f"            - {{name: volume{n}, mountPath: /m{n}}}\n" for n in range(3000))
    volumes = "".join(f"        - {{name: vol{n}}}\n" for n in range(3000))
    text = spoilt(
        ("      serviceAccountName: agent\n", fields),
        ("          volumeMounts:\n", "          volumeMounts:\n" + mounts),
        ("      volumes:\n", "      volumes:\n" + volumes),
    )
    began = time.process_time()

    assert len(found(text)) == 500
    assert time.process_time() - began < 10


@pytest.mark.parametrize("field", ["  name: agent\n  namespace", "app: agent\n  annotations"])
def test_a_megabyte_of_opened_variables_takes_no_minutes(field):
    name, _, rest = field.partition("agent")
    text = spoilt((field, f"{name}{'a' + '${' * 500_000}{rest}"))
    began = time.process_time()

    assert "unreplaced-variable" in {each[0] for each in found(text)}
    assert time.process_time() - began < 10


LINES = SOUND.splitlines()


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, len(LINES) - 1),
            st.sampled_from(
                ["", "  - 1", "x: [1]", "    name: null", "    - {a: b}", "spec: 5", "  {}"]
            ),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_no_mangled_manifest_makes_it_raise(edits):
    lines = list(LINES)
    for at, text in edits:
        lines[at] = text

    file = read("\n".join(lines))

    assert all(each.line >= 1 for each in file.problems)


@settings(max_examples=100, deadline=None)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["containers", "name", "spec", "ports", "env", "image", "metadata", "labels", "x"]), inner, max_size=3), max_leaves=15))  # fmt: skip
def test_no_json_in_any_field_makes_it_raise(value):
    for field in ("metadata", "spec"):
        document = {"apiVersion": "apps/v1", "kind": "DaemonSet", field: value}
        read(json.dumps(document))
    for field in ("selector", "template", "updateStrategy"):
        document = {"apiVersion": "apps/v1", "kind": "DaemonSet", "spec": {field: value}}
        read(json.dumps(document))
    for field in ("containers", "initContainers", "volumes", "tolerations", "nodeSelector"):
        pod = {"template": {"spec": {field: value}}, "selector": {"matchLabels": value}}
        read(json.dumps({"apiVersion": "apps/v1", "kind": "DaemonSet", "spec": pod}))
    container = dict.fromkeys(
        ("env", "ports", "resources", "volumeMounts", "readinessProbe", "lifecycle", "image"), value
    )
    pod = {"template": {"spec": {"containers": [container]}}}
    read(json.dumps({"apiVersion": "apps/v1", "kind": "DaemonSet", "spec": pod}))
