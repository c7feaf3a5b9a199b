"""The reflector against a server that keeps to a script: each fault it must survive, in a story."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import msgspec
import pytest

from dsgitops.adapters.kubernetes.lists import Collection, Inline
from dsgitops.adapters.kubernetes.pool import DaemonPool
from dsgitops.adapters.kubernetes.reflector import (
    BACKOFF_MAX,
    DOUBT,
    FORBIDDEN_MAX,
    LOST,
    SHORT_LIFE,
    SILENCE,
    Reflector,
    Surroundings,
)
from dsgitops.adapters.kubernetes.shelf import Item, Shelf
from dsgitops.errors import ActionRefused, ClusterUnreachable
from dsgitops.ports import NONE, Response

START = datetime(2026, 11, 21, 5, 0, tzinfo=UTC)


def seconds(count):
    return timedelta(seconds=count)


def thing(name, version, uid="u", namespace="ns", **more):
    metadata = {"name": name, "namespace": namespace, "uid": uid, "resourceVersion": str(version)}
    return {"metadata": metadata, **more}


def decode(raw):
    content = msgspec.json.decode(bytes(raw))
    meta = content["metadata"]
    return Item(
        meta.get("namespace", ""),
        meta["name"],
        meta.get("uid", ""),
        meta["resourceVersion"],
        content.get("n"),
    )


class Watch:
    """One watch as the server holds it."""

    def __init__(self, query, status=200, headers=NONE):
        self.query, self.status, self.headers = query, status, headers
        self.pending, self.hung_up, self.over = [], False, False

    def event(self, kind, content):
        self.pending.append(json.dumps({"type": kind, "object": content}).encode())

    def bookmark(self, version):
        self.event("BOOKMARK", {"metadata": {"resourceVersion": str(version)}})

    def lines(self):
        taken, self.pending = self.pending, []
        return taken

    @property
    def ended(self):
        return self.over and not self.pending

    def close(self):
        self.hung_up = True


class Server:
    """Answers lists from a queue of pages (the last one again and again) and records watches."""

    host = "scripted"

    def __init__(self, *pages):
        self.pages, self.lists, self.watches = deque(pages), [], []
        self.watch_as = {}

    def send(self, request):
        self.lists.append(dict(request.query))
        page = self.pages[0] if len(self.pages) == 1 else self.pages.popleft()
        if isinstance(page, Exception):
            raise page
        return page

    def open(self, request, wake):
        watch = Watch(dict(request.query), **self.watch_as)
        self.watches.append(watch)
        return watch


def page(version, *items, more=""):
    metadata = {"resourceVersion": str(version), **({"continue": more} if more else {})}
    body = json.dumps({"kind": "List", "metadata": metadata, "items": list(items)}).encode()
    return Response(status=200, body=body)


def error(code, reason="", headers=NONE, **details):
    body = {"kind": "Status", "code": code, "reason": reason, "details": details}
    return Response(status=code, body=json.dumps(body).encode(), headers=headers)


class Run:
    """A reflector, its server and a clock."""

    def __init__(self, *pages, run=None, namespace=""):
        self.now = START
        self.server = Server(*pages)
        self.changes = []
        self.shelf = Shelf(lambda *change: self.changes.append(change))
        around = Surroundings(self.server, run or Inline(), Random(1), lambda: None)
        what = Collection("/api/v1/things", {"labelSelector": "a=b"}, namespace)
        self.reflector = Reflector(what, self.shelf, decode, around)

    def pump(self, after=0.0):
        self.now += seconds(after)
        self.reflector.pump(self.now)
        return self

    def until(self, true, most=600):
        """Let time pass from timer to timer."""
        ends = self.now + seconds(most)
        while not true():
            timer = self.reflector.next_timer(self.now)
            assert timer is not None
            assert timer <= ends, "it did not happen in time"
            self.now = max(timer, self.now + timedelta(milliseconds=1))
            self.reflector.pump(self.now)
        return self

    @property
    def watch(self):
        return self.server.watches[-1]

    @property
    def live(self):
        return self.reflector.live_at(self.now) is not None

    def names(self):
        return {item.name: item.version for item in self.shelf.items.values()}


# ---------------------------------------------------------------------------- the quiet path


def test_it_lists_all_pages_then_watches_from_the_list_s_version():
    run = Run(page(10, thing("a", 3), more="t1"), page(10, thing("b", 7))).pump()

    assert run.names() == {"a": "3", "b": "7"}
    assert run.server.lists == [
        {"labelSelector": "a=b", "limit": "500"},
        {"labelSelector": "a=b", "limit": "500", "continue": "t1"},
    ]
    query = run.watch.query
    assert query["resourceVersion"] == "10"
    assert query["allowWatchBookmarks"] == "true"
    assert 240 <= int(query["timeoutSeconds"]) <= 300
    assert run.reflector.live_since == START


def test_events_change_the_copy_in_order():
    run = Run(page(10, thing("a", 3, n=1))).pump()
    run.watch.event("MODIFIED", thing("a", 11, n=2))
    run.watch.event("ADDED", thing("b", 12))
    run.watch.event("DELETED", thing("a", 13, n=3))
    run.pump(1)

    assert run.names() == {"b": "12"}
    told = [
        (before and before.value, after and after.value, last and last.value)
        for before, after, last in run.changes
    ]
    assert told == [(None, 1, None), (1, 2, None), (None, None, None), (2, None, 3)]


def test_a_bookmark_moves_the_version_and_is_never_stored():
    run = Run(page(10, thing("a", 3))).pump()
    run.watch.bookmark(50)
    run.pump(60)
    run.watch.over = True
    run.pump(1)
    run.pump()

    assert run.names() == {"a": "3"}
    assert run.watch.query["resourceVersion"] == "50"
    assert len(run.server.lists) == 1


def test_a_watch_that_ends_in_peace_is_resumed_at_once_without_a_gap():
    run = Run(page(10)).pump()
    for minute in range(4):
        run.watch.bookmark(20 + minute)
        run.pump(60)
    run.watch.over = True
    run.pump(2)
    run.pump()

    assert len(run.server.watches) == 2
    assert run.reflector.live_since == START


# ---------------------------------------------------------------------------- lines


def test_duplicates_and_late_events_change_nothing():
    run = Run(page(10, thing("a", 9))).pump()
    run.watch.event("ADDED", thing("a", 9))
    run.watch.event("MODIFIED", thing("a", 8))
    run.watch.event("MODIFIED", thing("a", 11))
    run.watch.event("MODIFIED", thing("a", 11))
    run.pump(1)

    assert run.names() == {"a": "11"}
    assert len(run.changes) == 2


def test_the_deletion_of_an_earlier_object_of_the_name_is_ignored():
    run = Run(page(10, thing("a", 9, uid="new"))).pump()
    run.watch.event("DELETED", thing("a", 8, uid="old"))
    run.pump(1)

    assert run.names() == {"a": "9"}


@pytest.mark.parametrize("line", [b"{half", b"[]", b'{"type":"ADDED"}', b"\xff", b"<html>"])
def test_a_line_that_is_no_event_ends_the_watch_and_it_is_resumed(line):
    run = Run(page(10, thing("a", 9))).pump()
    run.watch.pending.append(line)
    run.pump(1)

    assert run.server.watches[0].hung_up
    run.until(lambda: len(run.server.watches) == 2, most=5)
    assert run.watch.query["resourceVersion"] == "10"


# ---------------------------------------------------------------------------- faults of watches


def test_a_dropped_watch_goes_on_from_the_last_version_seen():
    run = Run(page(10)).pump()
    run.watch.event("ADDED", thing("a", 11))
    run.pump(3)
    run.watch.over = True
    run.pump(1)
    run.until(lambda: len(run.server.watches) == 2, most=5)

    assert run.watch.query["resourceVersion"] == "11"
    assert len(run.server.lists) == 1
    assert run.reflector.live_since == START, "nothing was missed"


def test_a_watch_that_is_asked_for_and_not_answered_is_no_view():
    """The API server takes connections and says nothing: nobody's deadline may pass on that."""
    run = Run(page(10)).pump()
    run.watch.event("ADDED", thing("a", 11))
    run.pump(3)
    run.server.watch_as = {"status": 0}
    run.watch.over = True
    run.pump(1)
    run.until(lambda: len(run.server.watches) == 2, most=5)

    assert run.reflector.live_since == START
    run.pump(LOST.total_seconds() + 0.1).pump(0.1)
    assert run.reflector.live_since is None
    assert "is not answered" in run.reflector.fault.what
    run.watch.status = 200
    run.pump(1)
    assert run.reflector.live_since == run.now, "what was missed comes now"
    run.pump(SHORT_LIFE.total_seconds() + 0.1)
    assert run.reflector.fault is None


def test_a_watch_that_fails_after_each_list_is_one_fault_and_not_one_a_list():
    run = Run(page(10)).pump()
    run.server.watch_as = {"status": 0}
    run.watch.over = True
    said = []
    ends = run.now + seconds(600)
    while run.now < ends:
        run.pump(1)
        run.watch.over = True
        said += [run.reflector.fault.what] if run.reflector.fault else [""]

    assert len(run.server.lists) > 2
    first = said.index("the watch of things is not answered")
    assert set(said[first:]) == {"the watch of things is not answered"}


def test_a_watch_that_ends_at_once_each_time_is_not_opened_in_a_hot_loop():
    run = Run(page(10)).pump()
    ends = run.now + seconds(300)
    while run.now < ends:
        run.watch.over = True
        run.now = max(run.reflector.next_timer(run.now), run.now + timedelta(milliseconds=1))
        run.reflector.pump(run.now)

    assert len(run.server.watches) < 40
    assert isinstance(run.reflector.fault, ClusterUnreachable)


def test_a_silent_watch_that_missed_something_was_blind():
    """A half-open connection, or a version from the future of a restored etcd."""
    run = Run(page(10, thing("a", 9)), page(90, thing("a", 80))).pump()

    run.pump(DOUBT.total_seconds())
    assert len(run.server.lists) == 1
    run.pump(0.1)

    assert run.server.watches[0].hung_up
    assert len(run.server.lists) == 2
    assert run.names() == {"a": "80"}
    assert run.reflector.live_since == run.now, "what happened meanwhile was not seen"


def test_a_silent_watch_that_missed_nothing_was_calm_and_stays_live():
    """Etcd without progress notifications: no bookmark where nothing happens."""
    run = Run(page(10, thing("a", 9)), page(90, thing("a", 9))).pump()

    run.until(lambda: len(run.server.watches) == 2)

    assert len(run.server.lists) == 2
    assert run.watch.query["resourceVersion"] == "90"
    assert run.reflector.live_since == START
    assert len(run.changes) == 1


def test_a_silent_watch_whose_list_hangs_makes_it_blind():
    run = Run(page(10), ClusterUnreachable("no answer")).pump()

    run.pump(DOUBT.total_seconds() + 0.1)
    assert run.live
    run.pump(6)

    assert not run.live


def test_it_says_itself_when_silence_is_due():
    run = Run(page(10)).pump()
    timer = run.reflector.next_timer(run.now)

    assert timer == START + DOUBT
    run.watch.bookmark(11)
    run.pump(60)
    assert run.reflector.next_timer(run.now) == START + seconds(60) + DOUBT


def test_nobody_is_live_without_being_pumped():
    run = Run(page(10)).pump()

    assert run.reflector.live_at(START + SILENCE) == START
    assert run.reflector.live_at(START + SILENCE + seconds(1)) is None


def test_410_as_an_event_reads_the_list_anew_and_tells_what_is_gone():
    run = Run(page(10, thing("a", 3), thing("b", 4)), page(99, thing("b", 50))).pump()
    gone = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
    run.watch.event("ERROR", gone)
    run.pump(5)
    run.pump()

    assert run.names() == {"b": "50"}
    assert [(b and b.name, a and a.name) for b, a, _ in run.changes[2:]] == [
        ("a", None),
        ("b", "b"),
    ]
    assert run.watch.query["resourceVersion"] == "99"
    assert run.reflector.live_since == START + seconds(5)


def test_410_as_a_status_reads_the_list_anew_too():
    run = Run(page(10, thing("a", 3)), page(99)).pump()
    run.watch.bookmark(12)
    run.pump(30)
    run.server.watch_as = {"status": 410}
    run.watch.over = True
    run.pump(1).pump()
    run.watch.pending.append(b'{"kind":"Status","code":410,"reason":"Expired"}')
    run.watch.over = True
    run.server.watch_as = {}
    run.pump().pump()

    assert len(run.server.lists) == 2
    assert run.names() == {}


def test_410_again_and_again_is_no_hot_loop():
    run = Run(page(10)).pump()
    ends = run.now + seconds(120)
    while run.now < ends:
        run.watch.event("ERROR", {"kind": "Status", "code": 410})
        run.now = max(run.reflector.next_timer(run.now), run.now + timedelta(milliseconds=1))
        run.reflector.pump(run.now)

    assert len(run.server.lists) < 20


def test_retry_after_of_a_refused_watch_is_honoured():
    run = Run(page(10)).pump()
    run.watch.bookmark(11)
    run.pump(10)
    run.server.watch_as = {"status": 429, "headers": {"retry-after": "9"}}
    run.watch.over = True
    run.pump().pump()
    run.watch.over = True
    run.pump()

    wait = run.reflector.next_timer(run.now) - run.now
    assert seconds(9) < wait < seconds(10)


def test_an_error_event_that_is_no_410_goes_on_from_the_same_version():
    run = Run(page(10)).pump()
    run.watch.event("ERROR", {"kind": "Status", "code": 500, "message": "etcd"})
    run.pump(1)
    run.until(lambda: len(run.server.watches) == 2, most=5)

    assert run.watch.query["resourceVersion"] == "10"
    assert len(run.server.lists) == 1


# ---------------------------------------------------------------------------- faults of lists


def test_half_a_list_is_no_list():
    run = Run(
        page(10, thing("a", 3), more="t"),
        error(504, "Timeout"),
        page(12, thing("a", 3), thing("b", 4)),
    ).pump()

    assert run.names() == {}
    assert (run.reflector.synced, run.live) == (False, False)
    run.until(lambda: run.reflector.synced, most=5)
    assert run.names() == {"a": "3", "b": "4"}


def test_a_list_whose_continuation_expired_starts_again_from_the_first_page():
    run = Run(page(10, thing("a", 3), more="t"), error(410, "Expired"), page(20)).pump()
    run.until(lambda: run.reflector.synced, most=1)

    assert run.server.lists[-1] == {"labelSelector": "a=b", "limit": "500"}


@pytest.mark.parametrize(
    "body",
    [b"<html>", b"{}", b'{"metadata":{}}', b'{"metadata":{"resourceVersion":"1"},"items":3}'],
)
def test_what_is_no_list_empties_nothing(body):
    run = Run(page(10, thing("a", 3)), Response(status=200, body=body)).pump()
    run.watch.event("ERROR", {"kind": "Status", "code": 410})
    run.pump(1).pump()

    assert run.names() == {"a": "3"}
    assert not run.live


def test_the_pauses_grow_to_a_bound_and_are_jittered():
    run = Run(ClusterUnreachable("no")).pump()
    waits = []
    for _ in range(12):
        timer = run.reflector.next_timer(run.now)
        waits.append((timer - run.now).total_seconds())
        run.now = timer
        run.pump()

    assert 0.25 <= waits[0] <= 0.5
    assert all(BACKOFF_MAX / 2 <= wait <= BACKOFF_MAX for wait in waits[-4:])
    assert len(set(waits)) == len(waits)


def test_a_missing_right_is_told_and_asked_for_seldom_and_taken_up_again():
    refused = error(403, "Forbidden")
    run = Run(refused).pump()
    run.until(lambda: len(run.server.lists) > 12, most=4000)

    assert run.reflector.forbidden
    assert isinstance(run.reflector.fault, ActionRefused)
    wait = run.reflector.next_timer(run.now) - run.now
    assert FORBIDDEN_MAX / 2 <= wait.total_seconds() <= FORBIDDEN_MAX

    run.server.pages = deque([page(5, thing("a", 1))])
    run.until(lambda: run.reflector.synced)
    assert not run.reflector.forbidden
    assert run.reflector.fault is None


def test_a_right_that_is_taken_away_in_mid_watch_keeps_the_copy_and_makes_it_blind():
    run = Run(page(10, thing("a", 3)), error(403, "Forbidden")).pump()
    run.server.watch_as = {"status": 403}
    run.watch.over = True
    for _ in range(20):
        run.watch.over = True
        run.now = max(run.reflector.next_timer(run.now), run.now + timedelta(milliseconds=1))
        run.pump()

    assert run.reflector.forbidden
    assert run.names() == {"a": "3"}
    assert not run.live


def test_an_older_list_is_a_server_that_is_behind_until_it_says_so_three_times():
    run = Run(page(100, thing("a", 90)), page(50, thing("a", 40), thing("b", 2))).pump()
    run.watch.event("ERROR", {"kind": "Status", "code": 410})
    run.pump(1).pump()
    assert run.names() == {"a": "90"}, "no travel back in time"
    assert not run.live

    run.until(lambda: run.live, most=30)
    assert len(run.server.lists) == 4
    assert run.names() == {"a": "40", "b": "2"}, "etcd was restored from a backup"


def test_what_we_wrote_while_the_list_was_read_survives_it():
    run = Run(page(10, thing("a", 3)), page(20, thing("a", 3))).pump()
    run.shelf.put(decode(json.dumps(thing("b", 25)).encode()))
    run.shelf.put(decode(json.dumps(thing("a", 26)).encode()))
    run.watch.event("ERROR", {"kind": "Status", "code": 410})
    run.pump(1).pump()

    assert run.names() == {"a": "26", "b": "25"}
    assert not run.reflector.seen("25")
    run.watch.bookmark(30)
    run.pump(1)
    assert run.reflector.seen("25")


def test_a_list_of_one_namespace_leaves_the_others_alone():
    run = Run(page(10, thing("a", 3, namespace="one")), namespace="one")
    run.shelf.put(decode(json.dumps(thing("x", 1, namespace="two")).encode()))
    run.pump()

    assert run.names() == {"a": "3", "x": "1"}


# ---------------------------------------------------------------------------- stopping, threads


def test_closing_hangs_up_and_nothing_more_is_asked():
    run = Run(page(10)).pump()
    run.reflector.close()
    run.pump(1000)

    assert run.watch.hung_up
    assert run.reflector.next_timer(run.now) is None
    assert len(run.server.lists) == len(run.server.watches) == 1


def test_pump_does_not_wait_for_a_list_that_hangs():
    with ThreadPoolExecutor(1) as pool:
        run = Run(page(10, thing("a", 3)), run=pool)
        pool.submit(lambda: None).result()
        run.pump()
        assert run.reflector.next_timer(run.now) is None, "the list wakes us itself"
        pool.submit(lambda: None).result()
        run.pump()

    assert run.names() == {"a": "3"}


def test_the_pool_runs_calls_at_once_and_tells_their_errors():
    pool = DaemonPool(3)
    barrier = threading.Barrier(3, timeout=5)
    together = [pool.submit(barrier.wait) for _ in range(3)]

    assert sorted(each.result(5) for each in together) == [0, 1, 2]
    with pytest.raises(ZeroDivisionError):
        pool.submit(lambda: 1 / 0).result(5)
    assert [each.result(5) for each in [pool.submit(str, n) for n in range(50)]] == [
        str(n) for n in range(50)
    ]
    pool.shutdown()
    with pytest.raises(RuntimeError):
        pool.submit(str, 1)


def test_a_request_that_hangs_does_not_hold_up_the_end():
    hangs = "import time; pool.submit(time.sleep, 60)"
    source = (
        f"from dsgitops.adapters.kubernetes.pool import DaemonPool; pool = DaemonPool(2); {hangs}"
    )
    root = Path(__file__).parents[2]
    begun = time.monotonic()
    subprocess.run(
        [sys.executable, "-c", f"{source}; pool.shutdown(wait=False, cancel_futures=True)"],
        check=True,
        timeout=20,
        cwd=root,
    )

    assert time.monotonic() - begun < 15
