"""The Lease over the simulated API server: alone, in a race, and without the right to it."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from dsgitops.adapters.kubernetes.fence import Fenced
from dsgitops.adapters.kubernetes.lease import DURATION, EVERY, RENEW_DEADLINE, SOURCES, Lease
from dsgitops.adapters.kubernetes.lists import Inline
from dsgitops.errors import ActionRefused, ClusterUnreachable
from dsgitops.ports import Request, Response
from dsgitops.sim.world import World


class Line:
    """A transport that can be cut, or refuse one method."""

    def __init__(self, inner):
        self.inner, self.host, self.down, self.refuse = inner, inner.host, False, ()
        self.methods = []

    def send(self, request):
        self.methods.append(request.method)
        if self.down:
            raise ClusterUnreachable("cut", landed=False)
        if request.method in self.refuse:
            return Response(status=403, body=b'{"kind":"Status","code":403}')
        return self.inner.send(request)


@pytest.fixture
def world():
    world = World(nodes=0)
    world.make_namespace("agent")
    return world


def keeper(world, name, *, election=True):
    lease = Lease(
        Line(world.transport()),
        namespace="agent",
        identity=name,
        election=election,
        run=Inline(),
        monotonic=world.clock.monotonic,
        wake=lambda: None,
    )
    lease.line = lease._transport
    return lease


def go(world, seconds, *leases):
    """Let each pump when it wants to."""
    ends = world.now + timedelta(seconds=seconds)
    while world.now < ends:
        for lease in leases:
            timer = lease.next_timer(world.now)
            if timer is not None and timer <= world.now:
                lease.pump(world.now)
        world.advance(0.25)


def stored(world):
    return world.store.get("leases", "agent", "dsgitops")


def test_it_is_made_and_renewed_every_two_seconds(world):
    lease = keeper(world, "a")
    go(world, 10, lease)

    spec = stored(world)["spec"]
    assert spec["holderIdentity"] == "a"
    assert spec["leaseDurationSeconds"] == 15
    assert len(spec["renewTime"].partition(".")[2]) == len("000000Z")
    assert lease.leading
    writes = [each for each in lease.line.methods if each != "GET"]
    assert len(writes) == pytest.approx(10 / EVERY, abs=1)


def test_the_sources_that_were_read_are_told_at_once_and_kept(world):
    lease = keeper(world, "a", election=False)
    go(world, 3, lease)
    lease.announce('{"node-agents":{"commits":["1"]}}')
    go(world, 0.5, lease)

    assert json.loads(stored(world)["metadata"]["annotations"][SOURCES])["node-agents"]
    go(world, 10, lease)
    assert SOURCES in stored(world)["metadata"]["annotations"]


def test_one_of_two_leads_and_the_other_takes_over_when_it_dies(world):
    first, second = keeper(world, "a"), keeper(world, "b")
    go(world, 5, first, second)
    assert (first.leading, second.leading) == (True, False)

    died = world.now
    while not second.leading:
        go(world, 0.5, second)
        assert not (first.leading and second.leading), "never both"
        assert world.now < died + timedelta(seconds=25)
    assert world.now >= died + timedelta(seconds=RENEW_DEADLINE)
    assert not first.leading
    assert stored(world)["spec"]["leaseTransitions"] == 1


def test_a_leader_that_cannot_renew_stops_before_another_may_start(world):
    first, second = keeper(world, "a"), keeper(world, "b")
    go(world, 5, first, second)
    first.line.down = True
    led = []
    for _ in range(100):
        go(world, 0.25, first, second)
        led.append((first.leading, second.leading))

    assert (True, True) not in led
    assert led[-1] == (False, True)
    assert isinstance(first.fault, ClusterUnreachable)
    gap = sum(1 for each in led if each == (False, False)) * 0.25
    assert gap >= 3, "a margin between the two"


def test_a_released_lease_is_taken_at_once(world):
    first, second = keeper(world, "a"), keeper(world, "b")
    go(world, 5, first, second)
    first.release(world.now)
    assert not first.leading
    assert stored(world)["spec"]["holderIdentity"] == ""

    go(world, 3, second)
    assert second.leading


def test_a_leader_that_slept_finds_out_before_it_writes(world):
    first, second = keeper(world, "a"), keeper(world, "b")
    go(world, 5, first, second)
    go(world, 40, second)

    assert not first.leading
    go(world, 3, first, second)
    assert (first.leading, second.leading) == (False, True)


def test_without_election_everybody_leads_and_nobody_waits(world):
    lease = keeper(world, "a", election=False)
    assert lease.leading
    lease.line.refuse = ("POST", "GET", "PUT")
    go(world, 300, lease)

    assert lease.leading
    assert isinstance(lease.fault, ActionRefused)
    assert len(lease.line.methods) < 20, "a missing right is not asked for all the time"
    lease.line.refuse = ()
    go(world, 90, lease)
    assert lease.fault is None
    assert stored(world)["spec"]["holderIdentity"] == "a"


def test_an_agent_without_election_takes_over_what_another_left(world):
    go(world, 4, keeper(world, "gone"))
    lease = keeper(world, "a", election=False)
    go(world, 3, lease)

    assert stored(world)["spec"]["holderIdentity"] == "a"


def test_a_death_costs_the_leases_duration_and_one_look_whenever_it_comes(world):
    first, second = keeper(world, "a"), keeper(world, "b")
    for tenths in range(0, 20, 3):
        go(world, 5 + tenths / 10, first, second)
        assert first.leading
        died = world.now
        while not second.leading:
            go(world, 0.25, second)
        assert world.now - died <= DURATION + timedelta(seconds=1.5)
        first, second = second, first


@pytest.mark.parametrize("hours", [-24, 24])
def test_a_wall_clock_that_jumps_costs_nobody_the_lead_and_gives_it_to_nobody(world, hours):
    first, second = keeper(world, "a"), keeper(world, "b")
    go(world, 5, first, second)
    jump = timedelta(hours=hours)
    for _ in range(80):
        first.pump(world.now + jump)
        second.pump(world.now - jump)
        assert (first.leading, second.leading) == (True, False)
        assert first.next_timer(world.now + jump) <= world.now + jump + timedelta(seconds=EVERY)
        world.advance(0.25)


def test_a_lease_that_was_renewed_a_moment_ago_is_released_all_the_same(world):
    first, second = keeper(world, "a"), keeper(world, "b")
    go(world, 5, first, second)
    twin = keeper(world, "a")  # what a renewal that is under way comes to
    go(world, 0.5, twin)

    first.release(world.now)

    assert stored(world)["spec"]["holderIdentity"] == ""


def test_an_agent_on_stand_by_ends_without_a_word(world):
    first, second = keeper(world, "a"), keeper(world, "b")
    go(world, 5, first, second)
    before = len(second.line.methods)
    second.release(world.now)

    assert len(second.line.methods) == before
    assert stored(world)["spec"]["holderIdentity"] == "a"


class Noted:
    """A transport that keeps what it is sent."""

    host = "cluster.example"

    def __init__(self):
        self.requests = []

    def send(self, request):
        self.requests.append(request)
        return Response(status=200)


def test_each_write_asks_whether_we_lead_and_ends_before_another_may(world):
    lease = keeper(world, "a")
    noted = Noted()
    fenced = Fenced(noted, lease)
    read, write = Request(method="GET", path="/x"), Request(method="PATCH", path="/x", timeout=30)

    fenced.send(read)
    with pytest.raises(ClusterUnreachable, match="nothing was written") as refused:
        fenced.send(write)
    assert refused.value.landed is False

    go(world, 5, lease)
    fenced.send(write)
    lease.line.down = True
    go(world, RENEW_DEADLINE + 0.5, lease)
    fenced.send(read)
    with pytest.raises(ClusterUnreachable):
        fenced.send(write)

    assert [each.method for each in noted.requests] == ["GET", "PATCH", "GET"]
    assert 5 < noted.requests[1].timeout <= DURATION.total_seconds()


def test_without_election_a_write_may_take_its_time(world):
    noted = Noted()
    write = Request(method="PATCH", path="/x", timeout=30)
    Fenced(noted, keeper(world, "a", election=False)).send(write)

    assert noted.requests == [write]
