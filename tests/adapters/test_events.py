"""Events over the simulated API server."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from dsgitops.adapters.kubernetes.events import QUEUE_MAX, SERIES, Events, cut, micros
from dsgitops.adapters.kubernetes.lists import Inline
from dsgitops.core.model import Reason, Ref
from dsgitops.errors import ActionRefused, ClusterUnreachable
from dsgitops.ports import Response
from dsgitops.sim.world import World

REF = Ref("default", "agent")
NOTE = "3f2a91c stopped at 1 of 40 nodes."


class Line:
    """A transport that can answer something else."""

    def __init__(self, inner):
        self.inner, self.host, self.instead, self.sent = inner, inner.host, None, []

    def send(self, request):
        self.sent.append(request)
        if isinstance(self.instead, Exception):
            raise self.instead
        return self.instead or self.inner.send(request)


class Scene:
    """A world and what writes Events into it."""

    def __init__(self):
        self.world = World(nodes=0)
        self.line = Line(self.world.transport())
        self.events = Events(self.line, instance="dsgitops-0", run=Inline(), wake=lambda: None)

    def tell(self, reason=Reason.ROLLED_BACK, note=NOTE, uid="u-1"):
        self.events.tell(REF, uid, reason, note, self.world.now)
        self.events.pump(self.world.now)

    def stored(self):
        return self.world.store.list("events", "default")


@pytest.fixture
def scene():
    return Scene()


def test_a_decision_is_told_on_the_daemonset(scene):
    scene.tell()

    (event,) = scene.stored()
    request = scene.line.sent[0]
    assert request.path == "/apis/events.k8s.io/v1/namespaces/default/events"
    assert event["reason"] == "RolledBack"
    assert event["type"] == "Warning"
    assert NOTE in (event.get("note"), event.get("message"))
    assert scene.events.fault is None


def test_good_news_is_normal(scene):
    scene.tell(Reason.ROLLOUT_FINISHED)

    assert scene.stored()[0]["type"] == "Normal"


def test_the_same_again_is_a_series_of_the_first(scene):
    for _ in range(3):
        scene.tell()
        scene.world.advance(60)

    (event,) = scene.stored()
    assert event["series"]["count"] == 3
    assert [each.method for each in scene.line.sent] == ["POST", "PATCH", "PATCH"]


def test_after_a_while_or_for_another_object_it_is_a_new_one(scene):
    scene.tell()
    scene.tell(uid="u-2")
    scene.world.advance(SERIES.total_seconds() + 1)
    scene.tell()

    assert len(scene.stored()) == 3


def test_a_series_whose_first_is_gone_begins_anew(scene):
    scene.tell()
    scene.world.store.remove("events", "default", scene.stored()[0]["metadata"]["name"])
    scene.tell()

    (event,) = scene.stored()
    assert "series" not in event or not event["series"]


def test_several_at_one_instant_have_names_of_their_own(scene):
    for number in range(5):
        scene.events.tell(REF, "u-1", Reason.DRIFT_FOUND, f"n {number}", scene.world.now)
    scene.events.pump(scene.world.now)

    assert len(scene.stored()) == 5


def test_an_api_server_away_is_tried_again_later_and_then_given_up(scene):
    scene.line.instead = ClusterUnreachable("no", landed=False)
    scene.tell()
    assert scene.events.next_timer(scene.world.now) == scene.world.now + timedelta(seconds=2)
    for _ in range(20):
        scene.world.advance(2)
        scene.events.pump(scene.world.now)

    assert len(scene.line.sent) == 3
    assert scene.events.dropped == 1
    assert scene.events.next_timer(scene.world.now) is None


def test_what_failed_once_is_told_once(scene):
    scene.line.instead = ClusterUnreachable("no", landed=False)
    scene.tell()
    scene.line.instead = None
    scene.world.advance(3)
    scene.events.pump(scene.world.now)

    assert len(scene.stored()) == 1
    assert scene.events.dropped == 0


def test_a_missing_right_is_not_asked_for_with_each_event(scene):
    scene.line.instead = Response(status=403, body=b'{"kind":"Status","code":403}')
    for _ in range(10):
        scene.tell(note=str(len(scene.line.sent)))
        scene.world.advance(1)

    assert len(scene.line.sent) == 1
    assert isinstance(scene.events.fault, ActionRefused)


def test_the_queue_is_short_and_the_oldest_go(scene):
    for number in range(QUEUE_MAX + 10):
        scene.events.tell(REF, "u", Reason.DRIFT_FOUND, str(number), scene.world.now)

    assert scene.events.dropped == 10
    scene.events.pump(scene.world.now)
    assert len(scene.stored()) == QUEUE_MAX


def test_without_an_object_there_is_nothing_to_tell_on(scene):
    scene.tell(uid="")

    assert scene.line.sent == []


def test_a_long_sentence_is_cut_between_characters():
    assert len(cut("ä" * 2000).encode()) <= 1024
    assert cut("ä" * 2000).endswith("…")
    assert cut("short") == "short"


def test_instants_have_six_decimals_in_utc():
    assert micros(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)) == "2026-01-02T03:04:05.000000Z"
