"""What nobody owns: what is suspected, what is asked, and that a sweep is made once."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
from core.builders import LONG_AGO, NOW, desired, good, live, observed, pod, record, revision
from hypothesis import given as given_by
from hypothesis import strategies as st

from dsgitops.core import bodies
from dsgitops.core import record as records
from dsgitops.core.actions import Apply, Rehearse, Remember
from dsgitops.core.decide import decide
from dsgitops.core.leftovers import leftovers
from dsgitops.core.model import Phase, Reason, Refusal, Rehearsal
from dsgitops.core.ownership import field_path

A = desired("fluentd:1")
B = desired("fluentd:2")
LATEST = desired("fluentd:latest")
CONTAINER = 'k:{"name":"fluentd"}'


# ---------------------------------------------------------------------------- who owns what

OWNED = {
    "f:selector": {},
    "f:template": {
        "f:metadata": {"f:labels": {"f:app": {}}},
        "f:spec": {
            "f:containers": {
                CONTAINER: {
                    ".": {},
                    "f:name": {},
                    "f:image": {},
                    "f:env": {'k:{"name":"TOKEN"}': {".": {}, "f:name": {}, "f:value": {}}},
                    "f:readinessProbe": {"f:httpGet": {"f:path": {}, "f:port": {}}},
                }
            }
        },
    },
    "f:updateStrategy": {},
}


def entry(fields, manager="dsgitops", operation="Apply"):
    return {
        "manager": manager,
        "operation": operation,
        "apiVersion": "apps/v1",
        "fieldsV1": {"f:spec": fields, "f:metadata": {"f:labels": {"f:team": {}, ".": {}}}},
    }


def stored(content=A, **container):
    """The spec as the API server keeps it, with what admission put into the container."""
    spec = deepcopy(dict(content.manifest["spec"]))
    spec["revisionHistoryLimit"] = 10
    template = spec["template"]
    template["metadata"]["creationTimestamp"] = None
    template["spec"] |= {"dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler",
                         "securityContext": {}, "terminationGracePeriodSeconds": 30}  # fmt: skip
    made = template["spec"]["containers"][0]
    made |= {"imagePullPolicy": "IfNotPresent", "resources": {}}
    made["readinessProbe"] = {**made["readinessProbe"], "periodSeconds": 10}
    made["readinessProbe"]["httpGet"] = {**made["readinessProbe"]["httpGet"], "scheme": "HTTP"}
    made |= container
    return spec


def suspects(want, have, *more, owned=OWNED):
    found = leftovers(want.manifest["spec"], have, (entry(owned), *more))
    return [field_path(path).partition(".template.spec")[2] or field_path(path) for path in found]


def test_defaults_that_a_new_object_would_get_too_are_no_suspects():
    assert suspects(A, stored()) == []
    assert suspects(B, stored()) == []


def test_the_pull_policy_of_a_number_under_latest_is_one():
    assert suspects(LATEST, stored()) == [".containers[fluentd].imagePullPolicy"]


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("fluentd", "Always"),
        ("fluentd:latest", "Always"),
        ("reg:5000/fluentd", "Always"),
        ("reg:5000/fluentd:1", "IfNotPresent"),
        ("fluentd@sha256:ab", "IfNotPresent"),
        ("fluentd:latest@sha256:ab", "Always"),
    ],
)
def test_the_pull_policy_follows_the_tag(image, policy):
    other = {"Always": "IfNotPresent", "IfNotPresent": "Always"}[policy]

    assert suspects(desired(image), stored(imagePullPolicy=policy)) == []
    assert len(suspects(desired(image), stored(imagePullPolicy=other))) == 1


def test_what_admission_put_in_is_one_and_what_others_own_is_theirs():
    env = [*A.manifest["spec"]["template"]["spec"]["containers"][0]["env"], {"name": "X"}]
    in_env = {"f:env": {'k:{"name":"X"}': {".": {}, "f:name": {}}}}
    theirs = {"f:template": {"f:spec": {"f:containers": {CONTAINER: in_env}}}}

    assert suspects(A, stored(env=env)) == [".containers[fluentd].env[X]"]
    assert suspects(A, stored(env=env), entry(theirs, "tool", "Update")) == []


def test_a_whole_container_that_was_put_in_is_one_and_one_of_ours_goes_with_all_it_has():
    spec = stored()
    spec["template"]["spec"]["containers"].append({"name": "mesh", "image": "mesh:1"})
    ours = deepcopy(OWNED)
    ours["f:template"]["f:spec"]["f:containers"]['k:{"name":"mesh"}'] = {".": {}, "f:name": {}}

    assert suspects(A, spec) == [".containers[mesh]"]
    assert suspects(A, spec, owned=ours) == []


def test_an_init_container_that_was_made_a_sidecar_is_one():
    def with_init(**fields):
        content = deepcopy(dict(A.manifest))
        pod_spec = content["spec"]["template"]["spec"]
        pod_spec["initContainers"] = [{"name": "init", "image": "init:1", **fields}]
        return replace(A, manifest=content)

    owned = deepcopy(OWNED)
    init = {'k:{"name":"init"}': {".": {}, "f:name": {}, "f:image": {}}}
    owned["f:template"]["f:spec"]["f:initContainers"] = init
    have = stored(with_init(restartPolicy="Always"))
    have["template"]["spec"]["restartPolicy"] = "Always"

    assert suspects(with_init(), have, owned=owned) == [".initContainers[init].restartPolicy"]


def with_volume(**source):
    content = deepcopy(dict(A.manifest))
    content["spec"]["template"]["spec"]["volumes"] = [{"name": "data", **source}]
    return replace(A, manifest=content)


def test_an_implied_source_is_one_only_where_git_names_another():
    have = stored(with_volume(emptyDir={}))
    owned = deepcopy(OWNED)
    owned["f:template"]["f:spec"]["f:volumes"] = {'k:{"name":"data"}': {".": {}, "f:name": {}}}

    assert suspects(with_volume(), have, owned=owned) == []
    assert suspects(A, have, owned=owned) == [], "the volume goes, and its source with it"
    retyped = with_volume(hostPath={"path": "/x"})
    assert suspects(retyped, have, owned=owned) == [".volumes[data].emptyDir"]


def test_what_was_put_into_an_empty_field_of_git_is_one():
    content = deepcopy(dict(A.manifest))
    content["spec"]["template"]["spec"]["containers"][0]["resources"] = {}
    want = replace(A, manifest=content)
    owned = deepcopy(OWNED)
    owned["f:template"]["f:spec"]["f:containers"][CONTAINER]["f:resources"] = {}
    have = stored(resources={"limits": {"cpu": "1"}})

    assert suspects(want, have, owned=owned) == [".containers[fluentd].resources.limits"]
    assert suspects(want, stored(), owned=owned) == []


def test_without_an_entry_of_ours_nothing_can_be_told():
    assert leftovers(A.manifest["spec"], stored(LATEST), ()) == ()
    assert leftovers(A.manifest["spec"], stored(), (entry({}, "helm", "Update"),)) == ()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda below: (
        st.lists(below, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["env", "name", "volumes", "emptyDir", "image", "imagePullPolicy", "x"]
            ),
            below,
            max_size=4,
        )
    ),
    max_leaves=12,
)
SPECS = st.dictionaries(st.sampled_from(["template", "volumes", "env", "x"]), JSON, max_size=3)
FIELDS = st.recursive(
    st.just({}),
    lambda below: st.dictionaries(
        st.sampled_from(["f:template", "f:env", "f:x", 'k:{"name":"a"}', "."]), below, max_size=3
    ),
    max_leaves=8,
)


@given_by(SPECS, SPECS, FIELDS)
def test_it_answers_whatever_stands_there(want, have, owned):
    assert leftovers(want, have, (entry(owned),)) == leftovers(want, have, (entry(owned),))


def owned_by_naming(value, keys=("name",)):
    """The fieldsV1 of a body that names all of `value`."""
    if isinstance(value, dict):
        return {f"f:{key}": owned_by_naming(each) for key, each in value.items()}
    if (
        isinstance(value, list)
        and value
        and all(isinstance(i, dict) and "name" in i for i in value)
    ):
        return {f'k:{{"name":"{i["name"]}"}}': owned_by_naming(i) for i in value}
    return {}


def test_after_a_sweep_nothing_is_left_over():
    have = stored(env=[{"name": "X", "value": "1"}], resources={"limits": {"cpu": "1"}})

    assert suspects(LATEST, have, owned=owned_by_naming(have)) == []


# ---------------------------------------------------------------------------- the steps

SWEPT = owned_by_naming(stored())


def asked_for(content, *, owned=OWNED, swept="", spec=None, **more):
    """What is decided at rest on A, when Git has `content`."""
    remembered = record(A, last_good=good(A), swept=swept)
    there = live(
        A,
        remembered,
        spec=spec or stored(),
        managed_fields=(entry(owned),),
        labels={"team": "logs"},
    )
    return decide(content, observed(there, revision(A, 1), **more), remembered, NOW)


def answer(content, *, differs):
    return Rehearsal(
        digest=content.digest, generation=4, equal=False, template_changes=True,
        spec_differs=differs,
    )  # fmt: skip


def no(content, code=422, *, sweep=False):
    return Refusal(digest=content.digest, what="cannot apply it", code=code, at=NOW, sweep=sweep)


def the(decision, kind):
    (action,) = decision.actions
    assert isinstance(action, kind)
    return action


def is_sweep(action):
    return isinstance(action, Apply) and action.sweep


def test_an_image_bump_is_written_without_a_question():
    decision = asked_for(B)

    assert decision.reason is Reason.ROLLOUT_STARTED
    assert not the(decision, Apply).sweep


def test_where_something_may_stay_two_dry_runs_are_asked_for():
    decision = asked_for(LATEST)

    action = the(decision, Rehearse)
    assert decision.aside
    assert "imagePullPolicy" in decision.because
    assert action.fresh["metadata"]["name"] == "fluentd-dsgitops-fresh"
    assert "uid" not in action.fresh["metadata"]
    assert action.fresh["spec"] == action.body["spec"]


def test_where_a_new_object_would_be_the_same_it_is_written():
    decision = asked_for(LATEST, rehearsal=answer(LATEST, differs=False))

    assert decision.reason is Reason.ROLLOUT_STARTED


def test_the_sweep_writes_what_is_there_with_preconditions_and_remembers_it():
    decision = asked_for(LATEST, rehearsal=answer(LATEST, differs=True))

    action = the(decision, Apply)
    assert action.sweep
    assert decision.aside
    assert action.body["spec"] == stored()
    metadata = action.body["metadata"]
    assert (metadata["uid"], metadata["resourceVersion"]) == ("7f0e2a3c", "4711")
    assert metadata["labels"] == {"team": "logs"}, "what is ours, or apply would take it away"
    sent = records.load(metadata["annotations"][records.ANNOTATION])
    assert sent.swept == LATEST.digest
    assert (sent.phase, sent.digest) == (Phase.IDLE, A.digest)


def test_after_the_sweep_it_is_written_and_the_memory_of_it_goes():
    decision = asked_for(LATEST, owned=SWEPT, swept=LATEST.digest,
                         rehearsal=answer(LATEST, differs=True))  # fmt: skip

    assert decision.reason is Reason.ROLLOUT_STARTED
    assert decision.record.swept == ""


def test_a_sweep_that_left_something_is_not_made_again():
    decision = asked_for(LATEST, swept=LATEST.digest, rehearsal=answer(LATEST, differs=True))

    assert not the(decision, Apply).sweep


def test_a_no_that_may_come_from_an_implied_source_is_answered_by_a_sweep():
    decision = asked_for(LATEST, refusal=no(LATEST))

    assert is_sweep(the(decision, Apply))


@pytest.mark.parametrize(
    "more",
    [
        {"refusal": no(B)},
        {"refusal": no(LATEST, 403)},
        {"refusal": no(LATEST), "swept": LATEST.digest},
        {"refusal": no(LATEST), "owned": SWEPT},
        {"refusal": no(LATEST), "rehearsal": answer(LATEST, differs=True)},
        {"refusal": no(LATEST, sweep=True)},
    ],
    ids=[
        "nothing left over",
        "no right",
        "swept",
        "all owned",
        "dry run was fine",
        "sweep refused",
    ],
)
def test_any_other_no_is_told(more):
    content = B if more["refusal"].digest == B.digest else LATEST

    decision = asked_for(content, **more)

    assert decision.reason is Reason.REFUSED
    assert not any(is_sweep(each) for each in decision.actions)


def test_where_only_the_sweep_is_refused_the_content_is_written():
    decision = asked_for(
        LATEST, refusal=no(LATEST, 403, sweep=True), rehearsal=answer(LATEST, differs=True)
    )

    assert decision.reason is Reason.ROLLOUT_STARTED


def test_what_ignore_diff_leaves_to_others_is_never_swept():
    content = replace(LATEST, ignore_diff=("/spec/template/spec/hostPID",))

    assert asked_for(content).reason is Reason.ROLLOUT_STARTED


def test_a_label_around_the_same_template_sweeps_nothing():
    around = desired("fluentd:1", labels={"team": "x"})
    injected = stored(env=[{"name": "X", "value": "1"}])

    decision = asked_for(around, spec=injected)

    assert decision.reason is Reason.IN_SYNC
    assert not the(decision, Apply).sweep


def test_newer_content_in_mid_rollout_is_looked_at_too():
    remembered = record(B, phase=Phase.ROLLING, last_good=good(A), started=LONG_AGO)
    there = live(B, remembered, hold=True, spec=stored(B), managed_fields=(entry(OWNED),))
    seen = observed(there, revision(A, 1), revision(B, 2), pods=(pod("node-00", A),))

    assert the(decide(LATEST, seen, remembered, NOW), Rehearse).fresh
    asked = replace(seen, rehearsal=answer(LATEST, differs=True))
    assert is_sweep(the(decide(LATEST, asked, remembered, NOW), Apply))


def test_an_adopted_object_that_seems_equal_is_swept_where_a_new_one_would_not_be():
    injected = stored(env=[{"name": "X", "value": "1"}])
    remembered = replace(record(A, last_good=good(A)), digest="", template="", commit="")
    there = live(A, remembered, spec=injected, managed_fields=(entry(OWNED),))
    seen = observed(there, revision(A, 1))
    told = Rehearsal(digest=A.digest, generation=4, equal=True, spec_differs=True)

    assert the(decide(A, seen, remembered, NOW), Rehearse).fresh
    asked = replace(seen, rehearsal=told)
    assert is_sweep(the(decide(A, asked, remembered, NOW), Apply))
    swept = replace(there, managed_fields=(entry(owned_by_naming(injected)),))
    decision = decide(A, replace(asked, live=swept), remembered, NOW)
    assert decision.reason is Reason.ROLLOUT_STARTED


def test_a_takeover_comes_before_the_sweep():
    in_env = {"f:template": {"f:spec": {"f:hostPID": {}}}}
    remembered = record(A, last_good=good(A))
    there = live(A, remembered, spec=stored(),
                 managed_fields=(entry(OWNED), entry(in_env, "kubectl-edit", "Update")))  # fmt: skip

    assert the(decide(LATEST, observed(there, revision(A, 1)), remembered, NOW), Remember)


def test_a_long_name_still_has_one_that_nobody_has():
    long = replace(A, ref=replace(A.ref, name="x" * 240 + ".a"))

    name = bodies.fresh(long, record(A))["metadata"]["name"]

    assert len(name) <= 253
    assert name.endswith("x-dsgitops-fresh")
