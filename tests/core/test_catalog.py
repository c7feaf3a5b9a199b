"""From the files of a commit to what is desired: each DaemonSet for itself."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from core.manifests import SOUND, named, spoilt

from dsgitops.core import manifest
from dsgitops.core.catalog import Catalog, Terms, gather
from dsgitops.core.digest import digest
from dsgitops.core.model import Policy, Ref

AGENT = Ref("logging", "agent")
COMMIT = "main@sha1:9f2c"
ALLOWED = frozenset({"logging", "kube-system"})


def catalog(*texts: str, **terms) -> Catalog:
    files = [
        manifest.read(text.encode(), path=f"{number}.yaml") for number, text in enumerate(texts)
    ]
    return gather(files, COMMIT, terms=Terms(source="agents", **{"namespaces": ALLOWED} | terms))


def errors(found: Catalog) -> list[tuple[str, str, int]]:
    return [
        (each.rule, each.path, each.line) for each in found.problems if each.severity == "error"
    ]


def annotated(*lines: str) -> str:
    return spoilt(("example.com/owner: platform", "\n    ".join(lines)))


def test_a_sound_file_is_desired_as_git_has_it():
    found = catalog(SOUND)
    desired = found.desired[AGENT]

    assert found.problems == ()
    assert not found.partial
    assert (desired.source, desired.path, desired.line, desired.commit) == (
        "agents",
        "0.yaml",
        1,
        COMMIT,
    )
    assert desired.manifest["spec"]["minReadySeconds"] == 5
    assert desired.digest == digest(desired.manifest)
    assert desired.template.startswith("sha256:")


def test_what_belongs_to_the_server_or_to_others_is_not_applied():
    text = spoilt(
        ("  name: agent\n  namespace", "  uid: a\n  resourceVersion: '7'\n  finalizers: [a.b/c]\n  name: agent\n  namespace"),
        ("example.com/owner: platform", "example.com/owner: platform\n    deprecated.daemonset.template.generation: '1'"),
    )  # fmt: skip
    (desired,) = catalog(text + "status: {numberReady: 3}\n").desired.values()

    assert desired.manifest.keys() == {"apiVersion", "kind", "metadata", "spec"}
    assert desired.manifest["metadata"] == {
        "name": "agent",
        "namespace": "logging",
        "labels": {"app": "agent"},
        "annotations": {"example.com/owner": "platform"},
    }


def test_a_request_to_the_agent_stays_readable():
    text = annotated('dsgitops.io/suspend: \'{"reason": "night"}\'')
    (desired,) = catalog(text).desired.values()

    assert "dsgitops.io/suspend" in desired.manifest["metadata"]["annotations"]


# ---------------------------------------------------------------------------- namespaces

WITHOUT = spoilt(("  namespace: logging\n", ""))


def test_m69_a_missing_namespace_is_the_only_allowed_one():
    found = catalog(WITHOUT, namespaces=frozenset({"logging"}))

    assert found.desired[AGENT].manifest["metadata"]["namespace"] == "logging"
    assert found.desired[AGENT].digest == catalog(SOUND).desired[AGENT].digest


def test_m69_a_missing_namespace_is_an_error_where_several_are_allowed():
    found = catalog(WITHOUT)

    assert errors(found) == [("no-namespace", "0.yaml", 4)]
    assert found.desired == {}
    assert found.partial


def test_m70_a_namespace_outside_of_the_list_is_an_error():
    found = catalog(named("agent", "default"))

    assert errors(found) == [("namespace-not-allowed", "0.yaml", 5)]
    assert found.desired == {}


def test_an_empty_list_allows_no_namespace():
    found = catalog(SOUND, WITHOUT, namespaces=frozenset())

    assert [each[0] for each in errors(found)] == ["namespace-not-allowed", "no-namespace"]
    assert found.desired == {}


def test_without_settings_a_missing_namespace_is_a_warning():
    found = catalog(WITHOUT, namespaces=None)

    assert errors(found) == []
    assert [each.rule for each in found.problems] == ["no-namespace"]


# ---------------------------------------------------------------------------- isolation


def test_m71_the_same_object_in_two_files_is_an_error_that_names_both():
    found = catalog(SOUND, named("other"), SOUND)

    assert errors(found) == [("duplicate-object", "0.yaml", 4), ("duplicate-object", "2.yaml", 4)]
    assert all("0.yaml:1 and 2.yaml:1" in each.what for each in found.problems)
    assert set(found.desired) == {Ref("logging", "other")}
    assert found.unreadable[AGENT].manifest_invalid


def test_m71_the_same_object_twice_in_one_file_is_an_error_too():
    found = catalog(SOUND + "---\n" + SOUND)

    assert [each[0] for each in errors(found)] == ["duplicate-object"] * 2
    assert found.desired == {}


def test_the_same_name_in_two_namespaces_is_two_objects():
    assert len(catalog(SOUND, named("agent", "kube-system")).desired) == 2


def test_a_wrong_manifest_is_unreadable_and_the_others_go_on():
    found = catalog(spoilt(("minReadySeconds: 5", "minReadySeconds: soon")), named("other"))

    assert set(found.desired) == {Ref("logging", "other")}
    assert found.unreadable[AGENT].what.startswith("0.yaml:11:20: spec.minReadySeconds must be")
    assert found.partial


def test_a_broken_file_makes_the_commit_partial_and_is_named():
    found = catalog("a: [", SOUND)

    assert set(found.desired) == {AGENT}
    assert found.partial
    assert set(found.broken) == {"0.yaml"}


def test_notices_and_warnings_leave_a_commit_whole():
    found = catalog(SOUND, "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\n", "just: values\n")

    assert [each.severity for each in found.problems] == ["notice", "notice"]
    assert not found.partial


def test_the_order_of_files_does_not_matter():
    texts = {"a.yaml": SOUND, "b.yaml": named("other"), "c.yaml": SOUND, "d.yaml": "x: ["}
    files = [manifest.read(text.encode(), path=path) for path, text in texts.items()]
    terms = Terms(source="agents", namespaces=ALLOWED)

    assert gather(files, COMMIT, terms=terms) == gather(files[::-1], COMMIT, terms=terms)


# ---------------------------------------------------------------------------- one commit on another

IMPATIENT = annotated("dsgitops.io/progress-deadline: 2s")


def in_files(known: dict[tuple[str, str], manifest.ManifestFile], texts: dict[str, str]):
    """Read files; those that are the same at the same path are the same objects."""
    for path, text in texts.items():
        if (path, text) not in known:
            known[path, text] = manifest.read(text.encode(), path=path)
    return [known[each] for each in texts.items()]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"a": SOUND, "b": named("other")}, {"a": SOUND, "b": named("other")}),
        ({"a": SOUND, "b": named("other")}, {"a": annotated("a.b/c: d"), "b": named("other")}),
        ({"a": SOUND, "b": named("other")}, {"b": named("other")}),
        ({"a": SOUND}, {"a": SOUND, "b": SOUND}),
        ({"a": SOUND, "b": SOUND}, {"a": SOUND}),
        ({"a": SOUND}, {"b": SOUND}),
        ({"a": SOUND}, {"a": "x: ["}),
        ({"a": IMPATIENT, "b": named("other")}, {"a": IMPATIENT, "b": named("third")}),
    ],
    ids=["same", "changed", "removed", "twice", "once again", "moved", "broken", "warned of"],
)
def test_a_commit_says_the_same_whatever_was_known_before_it(
    before: dict[str, str], after: dict[str, str]
):
    terms = Terms(source="agents", namespaces=ALLOWED)
    known: dict[tuple[str, str], manifest.ManifestFile] = {}
    earlier = gather(in_files(known, before), "main@sha1:1", terms=terms)
    files = in_files(known, after)

    anew = gather(files, COMMIT, terms=terms)
    found = gather(files, COMMIT, terms=terms, before=earlier)

    as_new = {ref: replace(each, commit=COMMIT) for ref, each in found.desired.items()}
    assert replace(found, desired=as_new) == anew


def test_what_stands_unchanged_is_taken_over_and_keeps_the_commit_that_it_came_with():
    terms = Terms(source="agents", namespaces=ALLOWED)
    known: dict[tuple[str, str], manifest.ManifestFile] = {}
    texts = {"a": SOUND, "b": named("other")}
    first = gather(in_files(known, texts), "main@sha1:1", terms=terms)
    second = gather(
        in_files(known, texts | {"b": named("third")}), "main@sha1:2", terms=terms, before=first
    )
    third = gather(in_files(known, texts), "main@sha1:3", terms=terms, before=second)

    assert third.desired[AGENT] is first.desired[AGENT]
    assert third.desired[Ref("logging", "other")].commit == "main@sha1:3"


# ---------------------------------------------------------------------------- policy

CAREFUL = Policy(canary_nodes=3, progress_deadline=timedelta(minutes=30))


def policy(*lines: str, **terms) -> Policy:
    (desired,) = catalog(annotated(*lines), **terms).desired.values()
    return desired.policy


def test_the_settings_are_the_policy_where_nothing_else_is_said():
    base = Policy(bake_time=timedelta(minutes=7), prune=True)

    assert policy("a.b/c: d", policy=base) == base


def test_a_profile_goes_before_the_settings_and_an_annotation_before_both():
    found = policy(
        "dsgitops.io/profile: careful",
        "dsgitops.io/progress-deadline: 45m",
        "dsgitops.io/rollback: disabled",
        "dsgitops.io/prune: disabled",
        policy=Policy(prune=True),
        profiles={"careful": CAREFUL},
    )

    assert found.canary_nodes == 3
    assert found.progress_deadline == timedelta(minutes=45)
    assert found.rollback == "off"
    assert found.prune is False


def test_an_unknown_profile_is_an_error_with_a_hint():
    found = catalog(annotated("dsgitops.io/profile: carefull"), profiles={"careful": CAREFUL})
    (problem,) = found.problems

    assert (problem.rule, problem.line) == ("profile", 9)
    assert problem.remedy == "did you mean careful?"
    assert found.desired == {}
    assert AGENT in found.unreadable


def test_without_settings_every_profile_is_taken():
    assert catalog(annotated("dsgitops.io/profile: x"), profiles=None).problems == ()


@pytest.mark.parametrize(
    "text",
    ['\'["/spec/template/spec/hostNetwork", "/metadata/labels/a~1b"]\'', '"/spec/template/spec/hostNetwork,\\n/metadata/labels/a~1b"'],
)  # fmt: skip
def test_fields_left_to_others_are_json_pointers(text):
    (desired,) = catalog(annotated(f"dsgitops.io/ignore-diff: {text}")).desired.values()

    assert desired.ignore_diff == ("/spec/template/spec/hostNetwork", "/metadata/labels/a~1b")


def test_m88_a_deadline_below_the_manifests_own_budget_is_a_warning():
    found = catalog(spoilt(("minReadySeconds: 5", "minReadySeconds: 900")))

    assert [(each.severity, each.rule) for each in found.problems] == [
        ("warning", "deadline-too-short")
    ]
    assert "progressDeadline is 10m" in found.problems[0].what
    assert AGENT in found.desired
