"""What can go wrong on the way to the API server, and that it is told honestly."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from contract.client import Cluster, manifest

from dsgitops.errors import ClusterUnreachable
from dsgitops.sim.api import ApiServer
from dsgitops.sim.clock import VirtualClock
from dsgitops.sim.faults import Fault, Faults, Kind
from dsgitops.sim.store import Store
from dsgitops.sim.transport import SimTransport


class Setting:
    """A cluster without controllers, with faults on the way."""

    def __init__(self):
        self.clock = VirtualClock()
        self.api = ApiServer(Store(self.clock.now), self.clock)
        self.faults = Faults(seed=1)
        self.cluster = Cluster(
            SimTransport(self.api, self.faults), "default", lambda holds: holds(), self.advance
        )

    def advance(self, seconds):
        self.clock.run_until(self.clock.seconds + seconds)
        self.api.tick(self.clock.now())

    def stored(self, name="agent"):
        return self.api.store.get("daemonsets", "default", name)


@pytest.fixture
def setting():
    return Setting()


def test_a_connection_that_dies_before_leaves_nothing_and_nobody_knows(setting):
    setting.faults.add(Fault(kind=Kind.LOST_BEFORE, times=1))

    with pytest.raises(ClusterUnreachable) as lost:
        setting.cluster.create(manifest())

    assert lost.value.landed is None
    assert setting.stored() is None
    assert setting.cluster.create(manifest()).status == 201


def test_a_lost_answer_leaves_the_write_and_nobody_knows(setting):
    setting.faults.add(Fault(kind=Kind.LOST_AFTER, methods=("POST",), times=1))

    with pytest.raises(ClusterUnreachable) as lost:
        setting.cluster.create(manifest())

    assert lost.value.landed is None
    assert setting.stored() is not None


def test_a_timeout_may_have_landed(setting):
    setting.faults.add(Fault(kind=Kind.TIMEOUT, methods=("POST",)))

    answer = setting.cluster.create(manifest())

    assert (answer.status, answer.body["reason"]) == (504, "Timeout")
    assert setting.stored() is not None


@pytest.mark.parametrize(
    ("kind", "code", "reason"),
    [
        (Kind.CONFLICT, 409, "Conflict"),
        (Kind.THROTTLED, 429, None),
        (Kind.ERROR, 500, None),
        (Kind.UNAVAILABLE, 503, "ServiceUnavailable"),
        (Kind.FORBIDDEN, 403, "Forbidden"),
    ],
)
def test_a_refusal_has_no_effect(setting, kind, code, reason):
    setting.faults.add(Fault(kind=kind, retry_after=7))

    answer = setting.cluster.apply(manifest())

    assert answer.status == code
    assert reason is None or answer.body["reason"] == reason
    assert setting.stored() is None
    if kind is Kind.THROTTLED:
        assert answer.headers["retry-after"] == "7"


def test_a_fault_strikes_the_requests_it_is_for_after_those_it_spares(setting):
    fault = Fault(kind=Kind.CONFLICT, methods=("PATCH",), path="daemonsets/agent$", skip=1, times=1)
    setting.faults.add(fault)

    codes = [setting.cluster.apply(manifest()).status for _ in range(3)]

    assert codes == [201, 409, 200]
    assert setting.cluster.apply(manifest("other")).status == 201
    assert [each[0] for each in setting.faults.struck] == [Kind.CONFLICT]


def test_equal_seeds_throw_equal_dice():
    def story():
        setting = Setting()
        setting.faults.add(Fault(kind=Kind.ERROR, probability=0.5))
        return [setting.cluster.call("GET", "/version").status for _ in range(20)]

    assert story() == story()
    assert set(story()) == {200, 500}


def test_a_server_that_is_down_refuses_and_its_watches_end_until_it_is_back(setting):
    stream = setting.cluster.open()
    now = setting.clock.now()
    setting.faults.add(
        Fault(kind=Kind.DOWN, since=now + timedelta(seconds=10), until=now + timedelta(seconds=40))
    )
    assert not stream.ended

    setting.advance(11)
    assert stream.ended
    with pytest.raises(ClusterUnreachable) as refused:
        setting.cluster.get()
    assert refused.value.landed is False
    opened = setting.cluster.open()
    assert (opened.status, opened.ended) == (0, True)

    setting.advance(30)
    assert setting.cluster.create(manifest()).status == 201
    assert not setting.cluster.open().ended


def test_a_read_from_a_lagging_cache_shows_the_past(setting):
    setting.cluster.create(manifest())
    setting.cluster.patch({"metadata": {"labels": {"x": "y"}}})
    setting.faults.add(Fault(kind=Kind.STALE, methods=("GET",), behind=1, times=2))

    assert "x" not in setting.cluster.get()["metadata"]["labels"]
    assert "x" not in setting.cluster.list("daemonsets")[0]["metadata"]["labels"]
    assert setting.cluster.get()["metadata"]["labels"]["x"] == "y"


def test_a_silent_watch_looks_alive_and_brings_nothing(setting):
    stream = setting.cluster.open(allowWatchBookmarks="true")
    setting.faults.add(Fault(kind=Kind.SILENT))
    setting.advance(1)
    setting.cluster.create(manifest())
    setting.advance(120)

    assert stream.lines() == []
    assert not stream.ended


def test_a_dropped_watch_ends_and_the_next_one_goes_on(setting):
    stream = setting.cluster.open()
    setting.faults.add(Fault(kind=Kind.DROPPED, times=1))
    setting.advance(1)
    assert stream.ended

    again = setting.cluster.open(resourceVersion=setting.api.store.version)
    setting.advance(1)
    setting.cluster.create(manifest())
    assert len(again.lines()) == 1


def test_a_duplicating_watch_brings_every_event_twice(setting):
    setting.faults.add(Fault(kind=Kind.DUPLICATED))
    stream = setting.cluster.open()
    setting.cluster.create(manifest())

    first, second = (json.loads(line) for line in stream.lines())

    assert first == second


def test_a_watch_can_be_refused(setting):
    setting.faults.add(Fault(kind=Kind.FORBIDDEN, methods=("WATCH",)))

    stream = setting.cluster.open()

    assert stream.status == 403
    assert json.loads(stream.lines()[0])["reason"] == "Forbidden"
    assert setting.cluster.call("GET", setting.cluster.path()).status == 200
