"""The annotation: what is written can be read, and what people write over it does no harm."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from core.builders import NOW, desired, good, record
from hypothesis import given
from hypothesis import strategies as st

from dsgitops.core import record as records
from dsgitops.core.model import FailureClass, Phase, Reason, WaitingFor
from dsgitops.core.record import SIZE_MAX, BadBefore, Pending, Quarantined, Record

GIT = desired()


def failed(number: int, nodes: int = 3) -> Quarantined:
    return Quarantined(
        digest=f"sha256:{number:064}",
        template=f"sha256:{number + 1:064}",
        hash="7c9f",
        commit=f"main@sha1:{number:040}",
        failure_class=FailureClass.READINESS_PROBE_FAILED,
        at=NOW,
        nodes=tuple(f"ip-10-0-{number}-{i}.eu-central-1.compute.internal" for i in range(nodes)),
    )


FULL = record(
    GIT,
    phase=Phase.BAKING,
    reason=Reason.WAITING,
    waiting_for=WaitingFor.WINDOW,
    started=NOW,
    progressed=NOW,
    last_good=good(GIT),
    bad_before=BadBefore(count=2, nodes=("node-7", "node-8")),
    quarantine=(failed(1), replace(failed(2), by="kubectl-edit", nodes=())),
    alerts=(Pending(id="a1", reason=Reason.ROLLED_BACK, at=NOW),),
    retried="2026-11-21T05:00:00Z",
    writes=(NOW,),
)


def test_every_field_survives_a_round_trip():
    assert records.load(records.dump(FULL)) == FULL


def test_the_text_is_compact_json_with_sorted_keys():
    text = records.dump(FULL)

    given_back = json.loads(text)
    assert text == json.dumps(given_back, sort_keys=True, separators=(",", ":"))
    assert given_back["started"] == "2026-11-21T05:00:00Z"
    assert given_back["lastGood"]["hash"] == good(GIT).hash


def test_nothing_is_written_where_there_is_nothing():
    bare = json.loads(records.dump(Record(source="node-agents")))

    assert bare == {
        "v": 1, "source": "node-agents", "n": 0, "phase": "Idle", "reason": "InSync"
    }  # fmt: skip


def test_an_adopted_revision_has_null_for_digest_and_commit():
    adopted = replace(good(GIT), digest=None, commit=None, template=None)
    text = records.dump(record(GIT, last_good=adopted))

    assert json.loads(text)["lastGood"]["digest"] is None
    assert json.loads(text)["lastGood"]["commit"] is None
    assert records.load(text) == record(GIT, last_good=adopted)


def test_keys_of_a_newer_agent_are_kept():
    text = json.dumps(json.loads(records.dump(FULL)) | {"colour": {"of": "the day"}})

    found = records.load(text)

    assert found is not None
    assert json.loads(records.dump(found.next()))["colour"] == {"of": "the day"}


def test_a_newer_version_with_unknown_words_is_still_a_record():
    text = '{"v":2,"source":"node-agents","phase":"Pausing","reason":"Eclipsed","lastGood":7}'

    found = records.load(text)

    assert found is not None
    assert (found.v, found.source) == (2, "node-agents")


@pytest.mark.parametrize(
    "text",
    [
        "", "null", "[]", "7", '"v"', "{", "{}", '{"v":1}x', '{"v":"1","source":"a"}',
        '{"v":1,"source":5}', '{"v":1,"source":"a","phase":"Sleeping"}',
        '{"v":Infinity,"source":"a"}', '{"v":1,"source":"a","n":Infinity}',
        '{"v":1,"source":"a","lastGood":{}}', '{"v":1,"source":"a","badBefore":{}}',
        '{"v":1,"source":"a","started":"yesterday"}',
        '{"v":1,"source":"a","started":"2026-11-21T05:00:00"}',
        '{"v":1,"source":"a","started":"0001-01-01T00:00:00+14:00"}',
        '{"v":1,"source":"a","quarantine":{"x":1}}', '{"v":1,"source":"\\ud800"}',
        "[" * 5000,
    ],
)  # fmt: skip
def test_what_is_no_record_is_none_and_no_error(text):
    assert records.load(text) is None


@given(st.text() | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(json.dumps))
def test_any_text_can_be_given_to_load(text):
    found = records.load(text)

    assert found is None or records.load(records.dump(found)) is not None


def test_over_8_kib_names_of_quarantined_nodes_go_first():
    big = replace(FULL, quarantine=tuple(failed(i, nodes=40) for i in range(5)))

    kept = records.load(records.dump(big))

    assert kept is not None
    assert len(records.dump(big).encode()) <= SIZE_MAX
    assert [each.nodes for each in kept.quarantine] == [()] * 5
    assert kept.bad_before == FULL.bad_before


def test_then_as_many_names_of_the_baseline_stay_as_fit_and_the_count_is_whole():
    names = tuple(f"node-{i}-of-a-large-fleet" for i in range(1000))
    big = replace(FULL, bad_before=BadBefore(count=1000, nodes=names))

    kept = records.load(records.dump(big))

    assert kept is not None
    assert kept.bad_before is not None
    assert kept.bad_before.count == 1000
    assert 100 < len(kept.bad_before.nodes) < 1000
    assert len(kept.quarantine) == 2


def test_then_the_oldest_quarantine_entries_go_and_the_newest_stays():
    big = replace(FULL, quarantine=tuple(failed(i) for i in range(60)))

    kept = records.load(records.dump(big))

    assert kept is not None
    assert len(records.dump(big).encode()) <= SIZE_MAX
    assert kept.quarantine[-1].digest == failed(59).digest
    assert kept.quarantine[0].digest != failed(0).digest
    assert kept.last_good == FULL.last_good


def test_the_template_is_held_whatever_stands_around_it():
    held = record(GIT, quarantine=(failed(1),))

    assert held.holds(template=failed(1).template, digest="sha256:other") == failed(1)
    assert held.holds(template="sha256:other", digest=failed(1).digest) == failed(1)
    assert held.holds(template="sha256:other", digest="sha256:another") is None


def test_an_entry_without_a_template_does_not_hold_what_has_none():
    held = record(GIT, quarantine=(replace(failed(1), template=""),))

    assert held.holds(template="", digest="sha256:other") is None


def test_each_write_counts():
    assert FULL.next(phase=Phase.IDLE).n == FULL.n + 1
