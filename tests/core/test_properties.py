"""What holds for every decision, over situations that may be as odd as they like."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import timedelta

from core.builders import (
    IMAGE,
    LONG_AGO,
    NOW,
    OURS,
    REF,
    SECRET,
    UID,
    broken,
    defaulted,
    desired,
    edited,
    good,
    hash_of,
    live,
    node,
    pod,
    record,
    revision,
    seconds,
)
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from dsgitops.core import budget
from dsgitops.core import record as records
from dsgitops.core.actions import Apply, DeletePod, Rehearse, Remember, Restore
from dsgitops.core.decide import decide
from dsgitops.core.model import (
    FailureClass,
    Observed,
    Phase,
    Policy,
    Reason,
    Refusal,
    Rehearsal,
    Unreadable,
    WaitingFor,
)
from dsgitops.core.record import BadBefore, Quarantined, Record

SURGE = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
CONTENTS = [
    desired("fluentd:1"),
    desired("fluentd:2"),
    desired("fluentd:3"),
    desired("fluentd:1", labels={"team": "logs"}),
    desired("fluentd:2", minReadySeconds=600),
    desired("fluentd:2", updateStrategy={"type": "OnDelete"}),
    desired("fluentd:3", updateStrategy=SURGE),
    desired("fluentd:1", env=[]),
]
NAMES = [f"node-{i}" for i in range(4)]
WRITES = (Apply, Restore, Remember)
contents = st.sampled_from(CONTENTS)
moments = st.sampled_from([NOW - seconds(s) for s in (1, 5, 15, 130, 700, 4000)])
maybe_moments = st.none() | moments


@st.composite
def policies(draw):
    return Policy(
        mode=draw(st.sampled_from(["guarded", "guarded", "native"])),
        canary_nodes=draw(st.integers(0, 2)),
        rollback=draw(st.sampled_from(["auto", "auto", "manual", "off"])),
        max_failed_nodes=draw(st.sampled_from([1, 2, "50%"])),
        max_concurrent_rollouts=draw(st.sampled_from([0, 0, 1])),
        pod_deadline=draw(st.sampled_from([None, seconds(30)])),
    )


@st.composite
def gits(draw):
    kind = draw(st.sampled_from(["content"] * 6 + ["none", "unreadable", "other source"]))
    if kind == "none":
        return None
    policy = draw(policies())
    if kind == "unreadable":
        return Unreadable(ref=REF, source="node-agents", what="a.yaml:1: bad",
                          manifest_invalid=draw(st.booleans()), policy=policy)  # fmt: skip
    content = draw(contents)
    return replace(
        content,
        policy=policy,
        source="platform" if kind == "other source" else content.source,
        opens=draw(st.sampled_from([None, None, NOW + timedelta(hours=1)])),
        ignore_diff=draw(st.sampled_from([(), (), ("/spec/minReadySeconds",)])),
    )


@st.composite
def quarantines(draw):
    return tuple(
        Quarantined(
            digest=each.digest, template=draw(st.sampled_from([each.template, each.template, ""])),
            hash=hash_of(each), commit=each.commit, failure_class=FailureClass.CRASH_LOOP,
            at=LONG_AGO, nodes=("node-0",),
        )
        for each in draw(st.lists(contents, max_size=2, unique_by=lambda each: each.digest))
    )  # fmt: skip


@st.composite
def known(draw):
    content = draw(contents)
    last = draw(st.none() | contents)
    last_good = good(last) if last else None
    if last_good and draw(st.integers(0, 4)) == 0:
        last_good = replace(last_good, digest=None, commit=None, template=None)
    written = draw(st.booleans()) or last is None
    return replace(
        record(content) if written else Record(source=content.source, path=content.path),
        uid=draw(st.sampled_from([UID, UID, UID, "", "another"])),
        phase=draw(st.sampled_from(Phase)),
        reason=draw(st.sampled_from(Reason)),
        waiting_for=draw(st.none() | st.sampled_from(WaitingFor)),
        started=draw(maybe_moments),
        last_good=last_good,
        bad_before=draw(st.sampled_from([None, BadBefore(count=1, nodes=("node-1",)),
                                         BadBefore(count=4)])),
        quarantine=draw(quarantines()),
        writes=tuple(sorted(draw(st.lists(moments, max_size=6)))),
        v=draw(st.sampled_from([1, 1, 1, 1, 2])),
    )  # fmt: skip


ENTRIES = [
    OURS,
    edited(*IMAGE),
    edited(*IMAGE, by="kustomize-controller", operation="Apply"),
    edited("f:minReadySeconds"),
    edited("f:updateStrategy", "f:type", by="dsgitops-record"),
    edited(*IMAGE, by="kubectl-rollout"),
]


@st.composite
def lives(draw, remembered):
    content = draw(contents)
    annotations = {}
    if remembered is not None and draw(st.integers(0, 5)):
        annotations[records.ANNOTATION] = records.dump(remembered)
    if draw(st.integers(0, 7)) == 0:
        annotations["dsgitops.io/suspend"] = draw(
            st.sampled_from(["{}", "now\nand", '{"until":"2026-11-21T04:00:00Z"}'])
        )
    if draw(st.integers(0, 7)) == 0:
        annotations["dsgitops.io/retry-at"] = draw(
            st.sampled_from(["1", f"1/{CONTENTS[1].digest}", "x" * 5000])
        )
    spec = defaulted(content)
    if draw(st.booleans()):
        spec["updateStrategy"] = {
            "type": "OnDelete",
            "rollingUpdate": {
                "maxUnavailable": draw(st.sampled_from([1, 2, "abc"])),
                "maxSurge": 0,
            },
        }
    return live(
        content,
        None,
        annotations=annotations,
        spec=spec,
        deleting=draw(st.integers(0, 9)) == 0,
        observed_generation=draw(st.sampled_from([4, 4, 4, 4, 3])),
        managed_fields=tuple(draw(st.lists(st.sampled_from(ENTRIES), max_size=3))),
    )


@st.composite
def pods_and_nodes(draw):
    fleet, pods = [], []
    for name in NAMES[: draw(st.integers(0, 4))]:
        ready = draw(st.sampled_from(["True", "True", "True", "Unknown"]))
        fleet.append(node(name, ready=ready, since=draw(moments)))
        content = draw(contents)
        since = draw(moments)
        kind = draw(st.sampled_from(["up", "up", "down", "broken", "going", "none"]))
        pods += {
            "up": [pod(name, content, since=since)],
            "down": [pod(name, content, ready=False, since=since)],
            "broken": [broken(name, content, since=since)],
            "going": [pod(name, content, deleting=NOW + seconds(9))],
            "none": [],
        }[kind]
    return tuple(pods), tuple(fleet)


@st.composite
def situations(draw):
    git = draw(gits())
    remembered = draw(st.none() | known()) if draw(st.integers(0, 5)) == 0 else draw(known())
    seen = draw(lives(remembered)) if draw(st.integers(0, 9)) else None
    pods, fleet = draw(pods_and_nodes())
    made = draw(st.lists(contents, max_size=4, unique_by=hash_of))
    if seen is not None and draw(st.integers(0, 5)):
        made = [*made, next(c for c in CONTENTS if defaulted(c)["template"] == seen.template)]
        made = list({hash_of(each): each for each in made}.values())
    copies = st.none() | known()
    asked = draw(contents)
    followed = draw(st.integers(0, 4)) > 0
    return git, Observed(
        live=seen,
        revisions=tuple(revision(c, i + 1, draw(copies)) for i, c in enumerate(made)),
        pods=pods if followed else (),
        nodes=fleet,
        followed=followed,
        live_since=draw(st.sampled_from([LONG_AGO, LONG_AGO, LONG_AGO, NOW - seconds(30), None])),
        rolling_elsewhere=draw(st.integers(0, 1)),
        refusal=draw(st.sampled_from(
            [None, None, None, Refusal(digest=asked.digest, what="no", code=422)])),
        rehearsal=draw(st.sampled_from([None, None, *(
            Rehearsal(digest=asked.digest, generation=4, equal=equal, template_changes=not equal)
            for equal in (True, False))])),
        recalled=draw(st.none() | contents),
    ), remembered  # fmt: skip


RULES = []


def rule(holds):
    """Have a rule checked on every situation that is drawn."""
    RULES.append(holds)
    return holds


@settings(
    max_examples=int(os.environ.get("DSGITOPS_EXAMPLES", "400")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(situations())
def test_every_rule_below_holds_in_every_situation(situation):
    decision = decide(*situation, NOW)
    event(f"{decision.reason}")

    for holds in RULES:
        holds(situation, decision)


def writes_of(decision):
    return [each for each in decision.actions if isinstance(each, WRITES)]


def record_in(action):
    return records.load(action.body["metadata"]["annotations"][records.ANNOTATION])


def is_suspended(git, observed):
    text = observed.live.annotations.get("dsgitops.io/suspend") if observed.live else None
    return text is not None and "until" not in text


@rule
def every_situation_has_one_answer_and_always_the_same(situation, decision):
    git, observed, remembered = situation

    assert decide(git, observed, remembered, NOW) == decision
    assert len(writes_of(decision)) <= 1


@rule
def its_sentence_fits_an_event_and_tells_no_value(situation, decision):
    assert decision.because.endswith(".")
    assert decision.because.isprintable()
    assert len(decision.because.encode()) <= 1024
    assert SECRET not in decision.because


@rule
def nothing_is_done_blind_or_on_stale_status(situation, decision):
    _git, observed, _remembered = situation
    seen = observed.live
    stale = seen is not None and seen.observed_generation < seen.generation
    if not (observed.live_since is None or stale):
        return

    assert not decision.actions


@rule
def what_failed_here_is_never_written_again(situation, decision):
    _git, _observed, remembered = situation
    if not (remembered is not None and remembered.quarantine):
        return

    for action in decision.actions:
        if isinstance(action, Apply):
            written = next(c for c in CONTENTS if c.digest == action.digest)
            assert remembered.holds(written.template, written.digest) is None


@rule
def nothing_is_written_while_suspended_but_a_pause_and_the_end_of_a_rollback(situation, decision):
    git, observed, remembered = situation
    if not (is_suspended(git, observed)):
        return
    if not (remembered is None or remembered.phase is not Phase.ROLLING_BACK):
        return

    for action in decision.actions:
        assert isinstance(action, Remember)
        assert action.body["spec"] == {"updateStrategy": {"type": "OnDelete"}}


@rule
def every_write_names_the_very_object_that_was_seen_and_carries_the_record(situation, decision):
    _git, observed, remembered = situation

    for action in writes_of(decision):
        metadata = action.body["metadata"]
        if observed.live is not None:
            assert metadata["uid"] == observed.live.uid
            assert metadata["resourceVersion"] == observed.live.resource_version
        else:
            assert isinstance(action, Apply)
        text = metadata["annotations"][records.ANNOTATION]
        assert len(text.encode()) <= records.SIZE_MAX
        assert records.load(text) == decision.record
        assert decision.record.n > (remembered.n if remembered else -1)
    for action in decision.actions:
        if isinstance(action, Apply | Restore | Rehearse):
            assert "dsgitops" not in json.dumps(action.body["spec"]["template"])


@rule
def last_good_is_never_lost_and_moves_only_as_the_design_says(situation, decision):
    _git, observed, remembered = situation
    if not (remembered is not None and remembered.last_good is not None):
        return

    if writes_of(decision):
        before, after = remembered.last_good, decision.record.last_good
        hashes = {each.hash for each in observed.revisions}
        copied = observed.live is not None and remembered.uid not in ("", observed.live.uid)
        if after is None:
            assert copied
            assert before.hash not in hashes
        elif after.hash != before.hash:
            by_hand = decision.failure_class is FailureClass.BY_HAND
            finished = remembered.phase is Phase.BAKING and (
                decision.reason is Reason.ROLLOUT_FINISHED
            )
            gone = before.hash not in hashes and decision.reason is Reason.ROLLED_BACK
            assert by_hand or finished or gone


@rule
def quarantine_shrinks_only_by_release(situation, decision):
    _git, _observed, remembered = situation
    if not (remembered is not None and remembered.quarantine):
        return

    if writes_of(decision):
        kept = {each.digest for each in decision.record.quarantine}
        released = decision.record.retried != remembered.retried
        assert released or kept >= {each.digest for each in remembered.quarantine}


@rule
def a_rollback_writes_last_goods_template_to_the_byte(situation, decision):
    _git, observed, remembered = situation

    for action in decision.actions:
        if isinstance(action, Restore):
            wanted = next(
                each for each in observed.revisions if each.hash == remembered.last_good.hash
            )
            template = dict(action.body["spec"]["template"])
            assert template.pop("$patch") == "replace"
            assert template == wanted.template


@rule
def pods_are_deleted_only_by_us_where_git_lets_us_and_within_the_budget(situation, decision):
    git, observed, remembered = situation
    deletions = [
        each for each in decision.actions
        if isinstance(each, DeletePod)
    ]  # fmt: skip
    if not deletions:
        return
    by_uid = {each.uid: each for each in observed.pods}
    ready = {each.name for each in observed.nodes if each.is_ready}
    target = next(each for each in observed.revisions if each.template == observed.live.template)
    strategy = observed.live.strategy

    assert remembered.phase in (Phase.CANARY, Phase.ROLLING)
    assert strategy.type == "OnDelete"
    assert not isinstance(git, Unreadable) or remembered.last_good is not None
    for each in deletions:
        victim = by_uid[each.uid]
        assert victim.hash != target.hash
        assert victim.node in ready
        assert (each.pod, each.resource_version) == (victim.name, victim.resource_version)
    most = strategy.max_unavailable
    if hasattr(git, "manifest") and git.digest == remembered.digest:
        most = 1
    assert len(deletions) <= (1 if most == "abc" else budget.resolve(most, nodes=4))


@rule
def nothing_is_done_to_what_is_another_sources_or_a_newer_agents(situation, decision):
    git, observed, remembered = situation
    if not (observed.live is not None and remembered is not None):
        return
    if not (remembered.v > 1 or (git is not None and git.source != remembered.source)):
        return

    assert not decision.actions


@rule
def an_object_that_was_adopted_by_nobody_is_only_taken_over_if_git_has_it(situation, decision):
    git, observed, _ = situation
    if not (git is None or isinstance(git, Unreadable)):
        return

    assert not decide(git, observed, None, NOW).actions
