"""Which decisions raise an alert, what it says, and when it leaves the record."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from scenarios.scene import POLICY, Scene

from dsgitops.core import alerts
from dsgitops.core import record as records
from dsgitops.core.alerts import Kind, Seen, alert_of, event_id, fingerprint, found_again
from dsgitops.core.model import (
    Evidence,
    FailureClass,
    Judgement,
    NodeState,
    Phase,
    Reason,
    Ref,
    Revision,
    Verdict,
)
from dsgitops.core.raising import OUTCOME_WITHIN, ripe
from dsgitops.core.record import LastGood, Pending, Quarantined, Record, Sign

NOW = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)
REF = Ref("logging", "agent")
BAD, GOOD = "main@sha1:" + "3f2a91c".ljust(40, "0"), "main@sha1:" + "9d01b7e".ljust(40, "0")
PENDING = Pending(
    id="a" * 32, reason=Reason.ROLLED_BACK, at=NOW, digest="sha256:bad", commit=BAD,
    failure_class=FailureClass.CRASH_LOOP,
)  # fmt: skip
RECORD = Record(
    source="node-agents",
    path="agent.yaml",
    phase=Phase.HELD,
    last_good=LastGood(digest="sha256:good", commit=GOOD, revision="agent-1", hash="1",
                       at=NOW - timedelta(hours=1)),
    quarantine=(Quarantined(digest="sha256:bad", template="t", hash="2", commit=BAD,
                            failure_class=FailureClass.CRASH_LOOP, at=NOW, nodes=("node-1",)),),
    alerts=(PENDING,),
)  # fmt: skip


def failed_scene(**policy):
    scene = Scene(policy=replace(POLICY, **policy), alerts=True)
    scene.push(image="1")
    scene.run(60)
    scene.push(image="2-crash")
    scene.run(60)
    return scene


def told(scene):
    return [(each.kind, each.reason, each.level) for each in scene.post.alerts()]


# ---------------------------------------------------------------- which decisions


def test_a_failure_that_waits_for_a_person_is_loud_and_the_rollback_by_hand_is_none():
    scene = failed_scene(rollback="manual")

    assert told(scene) == [(Kind.FAILURE, Reason.ROLLOUT_FAILED, "fatal")]
    assert "NOT rolled back" in scene.post.alerts()[0].title
    scene.undo()
    scene.run(60)
    assert len(scene.post.alerts()) == 1
    scene.push(image="3")
    scene.run(90)
    assert told(scene)[1:] == [(Kind.RECOVERY, Reason.ROLLOUT_FINISHED, "info")]


def test_with_rollback_off_it_is_told_once_and_the_template_stays_as_it_is():
    scene = failed_scene(rollback="off")
    template = scene.live()["spec"]["template"]
    scene.run(300)

    assert told(scene) == [(Kind.FAILURE, Reason.ROLLOUT_FAILED, "fatal")]
    assert scene.live()["spec"]["template"] == template
    assert scene.record().quarantine == ()


def test_a_first_revision_that_is_bad_is_told_though_nothing_is_better():
    scene = Scene(alerts=True)
    scene.push(image="1-crash")
    scene.run(120)

    assert told(scene) == [(Kind.FAILURE, Reason.ROLLOUT_FAILED, "fatal")]


def test_a_person_who_takes_a_good_rollout_back_alarms_nobody():
    scene = Scene(alerts=True)
    for image in ("1", "2"):
        scene.push(image=image)
        scene.run(60)
    scene.undo()
    scene.run(60)

    assert scene.record().quarantine[0].failure_class is FailureClass.BY_HAND
    assert scene.post.alerts() == []


def test_a_way_back_that_stops_is_told_louder_in_place_of_the_failure():
    scene = Scene(alerts=True)
    scene.push(image="1", cpu="100m")
    scene.run(60)
    scene.world.make_quota("logging", "quota", "0")  # no pod can be made any more
    scene.push(image="2-crash", cpu="100m")
    scene.run(300)

    assert told(scene) == [(Kind.FAILURE, Reason.ROLLBACK_FAILED, "fatal")]
    assert "the way back to c100000 stopped" in scene.post.alerts()[0].title


def test_an_object_deleted_on_its_way_back_still_tells_that_it_failed():
    scene = Scene(alerts=True)
    scene.push(image="1")
    scene.run(60)
    scene.push(image="2-crash")
    assert scene.run(60, until=lambda: scene.phase() == "RollingBack")
    assert [each.reason for each in scene.record().alerts] == [Reason.ROLLING_BACK]
    scene.delete()
    scene.run(120)

    assert scene.post.alerts()[0].kind is Kind.FAILURE
    assert len([each for each in scene.post.alerts() if each.kind is Kind.FAILURE]) == 1


def test_without_a_channel_nothing_of_alerts_is_in_the_record():
    scene = Scene()
    scene.push(image="1")
    scene.run(60)
    scene.push(image="2-crash")
    scene.run(60)

    text = scene.live()["metadata"]["annotations"][records.ANNOTATION]
    assert "alerts" not in text
    assert '"failed"' not in text


def test_an_alert_comes_with_the_write_that_quarantines():
    scene = Scene(alerts=True)
    scene.post.down = True
    scene.push(image="1")
    scene.run(60)
    scene.push(image="2-crash")
    scene.run(60, until=lambda: bool(scene.record() and scene.record().quarantine))
    record = scene.record()

    assert record.phase is Phase.ROLLING_BACK
    assert [each.digest for each in record.alerts] == [record.quarantine[0].digest]
    assert record.failed == record.alerts[0].id


# ---------------------------------------------------------------- when it is sent


def test_the_outcome_is_awaited_but_not_for_long():
    waits = replace(PENDING, reason=Reason.ROLLING_BACK)
    record = replace(RECORD, phase=Phase.ROLLING_BACK, alerts=(waits,))

    assert ripe(record, NOW + timedelta(seconds=1)) == ()
    assert ripe(record, NOW + OUTCOME_WITHIN) == (waits,)
    assert ripe(replace(record, phase=Phase.ROLLING), NOW) == (waits,)


# ---------------------------------------------------------------- what it says


def test_after_a_restart_the_record_is_enough_to_act_on():
    alert = alert_of(REF, PENDING, RECORD)

    assert alert.title == "logging/agent: 3f2a91c failed on node-1 (CrashLoop), back on 9d01b7e"
    assert alert.sentence == "3f2a91c failed: CrashLoop on node-1. Back on 9d01b7e."
    assert alert.nodes == ("node-1",)
    assert fingerprint(alert, "prod") == ("prod", "logging", "agent", "sha256:bad", "CrashLoop")


def test_the_next_agent_tells_the_same_evidence_and_the_same_diff():
    def told(*, restarted):
        scene = Scene(alerts=True)
        scene.post.down = True
        scene.push(image="1")
        scene.run(60)
        scene.push(image="2-crash")
        scene.run(60)
        if restarted:
            scene.start_agent()
        scene.run(30)
        scene.post.up()
        scene.run(30)
        assert scene.record().alerts == ()
        return scene.post.alerts()[0]

    fresh, late = told(restarted=False), told(restarted=True)

    assert late.evidence == fresh.evidence
    assert late.failed == fresh.failed
    assert (late.title, late.total, late.nodes) == (fresh.title, fresh.total, fresh.nodes)
    assert late.sentence.startswith(fresh.sentence.partition(" Back on")[0])


def test_with_rollback_off_the_next_agent_still_names_the_node():
    scene = Scene(policy=replace(POLICY, rollback="off"), alerts=True)
    scene.post.down = True
    scene.push(image="1")
    scene.run(60)
    scene.push(image="2-crash")
    scene.run(60)
    scene.start_agent()
    scene.run(60)
    scene.post.up()

    assert "c200000 failed on 1 of 4 nodes (CrashLoop), NOT" in scene.post.alerts()[0].title


def test_evidence_gives_way_before_anything_else_where_the_record_is_full():
    signs = tuple(Sign(node=f"node-{n}", pod="p" * 200, what="w" * 100) for n in range(5))
    waiting = replace(PENDING, signs=signs, total=400, more=7)
    names = tuple(f"node-{n:03}.example.internal" for n in range(250))
    entry = replace(RECORD.quarantine[0], nodes=names)
    record = replace(RECORD, alerts=(waiting,), quarantine=(entry,))
    kept = records.load(records.dump(record))

    assert kept.quarantine == (entry,)
    assert kept.alerts == (replace(waiting, signs=(), more=12),)
    alert = alert_of(REF, kept.alerts[0], kept)
    assert "failed on 250 of 400 nodes (CrashLoop), back on 9d01b7e" in alert.title
    assert fingerprint(alert, "prod")[-1] == "CrashLoop"


def test_an_alert_is_told_without_its_diff_where_the_revision_is_gone():
    good = Revision(name="agent-1", hash="1", number=1, template={"spec": {}})
    found = found_again(PENDING, RECORD, [good])

    assert found.good == {"spec": {}}
    assert found.bad is None


def test_the_fingerprint_is_the_same_before_and_after_a_restart():
    evidence = (Evidence(node="node-1", state=NodeState.BAD_REVISION, voting=True),)
    judgement = Judgement(verdict=Verdict.FAILED, evidence=evidence,
                          states={"node-1": NodeState.BAD_REVISION, "node-2": NodeState.OLD})  # fmt: skip
    known = Seen(judgement=judgement, outcome="Back on 9d01b7e: 2 of 2 nodes.")
    fresh, late = alert_of(REF, PENDING, RECORD, known), alert_of(REF, PENDING, RECORD)

    assert fingerprint(fresh, "prod") == fingerprint(late, "prod")
    assert fresh.id == late.id
    assert "on 1 of 2 nodes" in fresh.title


def test_an_id_depends_on_all_of_its_parts_and_on_nothing_else():
    one = event_id(REF, "uid", "digest", "class", 3)

    assert one == event_id(REF, "uid", "digest", "class", 3)
    assert (
        len(
            {
                one,
                event_id(REF, "uid", "digest", "class", 4),
                event_id(REF, "uid", "digestclass", 3),
            }
        )
        == 3
    )
    assert len(one) == 32
    assert one[12] == "5"
    assert one[16] in "89ab"


def test_evidence_is_cut_and_the_rest_counted():
    many = tuple(
        Evidence(node=f"node-{n:02}", state=NodeState.BAD_REVISION, voting=True) for n in range(30)
    )
    known = Seen(judgement=Judgement(verdict=Verdict.FAILED, evidence=many))
    alert = alert_of(REF, PENDING, RECORD, known)

    assert len(alert.evidence) == alerts.EVIDENCE_MAX
    assert alert.unlisted == 10


def test_a_record_with_alerts_is_read_as_it_was_written():
    record = replace(RECORD, failed=PENDING.id)

    assert records.load(records.dump(record)) == record
