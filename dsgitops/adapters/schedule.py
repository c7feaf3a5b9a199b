"""When to look at Git, and when rollouts may start.  The only importer of APScheduler.

APScheduler's defaults drop a job that is a second late and let a job that hangs stop its schedule
without a word.  Here nothing is dropped, every poll has a thread of its own (a source that hangs
stops only itself), and `Polls.stuck` names those that are late.
"""

from __future__ import annotations

import logging
import queue
import re
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol, cast
from zoneinfo import ZoneInfo

from apscheduler.executors.base import BaseExecutor, run_job  # pyright: ignore[reportMissingTypeStubs]
from apscheduler.jobstores.base import JobLookupError  # pyright: ignore[reportMissingTypeStubs]
from apscheduler.schedulers.background import BackgroundScheduler  # pyright: ignore[reportMissingTypeStubs]
from apscheduler.triggers.cron import CronTrigger  # pyright: ignore[reportMissingTypeStubs]

from dsgitops.errors import DsgitopsError, SourceUnreachable
from dsgitops.ports import Polled

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dsgitops.ports import Clock, Source, Tree, Wake

# APScheduler has no types: from here on it is `Any`, and our own code stays checked.
_Scheduler: Any = BackgroundScheduler
_Cron: Any = CronTrigger
_run_job: Any = run_job

log = logging.getLogger(__name__)
logging.getLogger("apscheduler").setLevel(logging.ERROR)  # it tells of each run, and of each skip

JITTER = 0.1
"""Part of the interval by which a poll is moved at random, so that agents do not poll in step."""

LATE_INTERVALS = 3
"""A source that completed no poll for so many intervals (and its deadline) is late."""


_ENDING_MAX = 1000
"""Threads of one source, of which one polls.  With 1 APScheduler drops a poll that is asked for in
the moment in which the one before ends."""


@dataclass(slots=True)
class _Polling:
    """One source and the state of its polls; changed under the lock of `Polls`."""

    source: Source
    interval: float
    deadline: float
    running_since: float | None = None
    again: bool = False
    """Whether `poll_now` was called while one ran: what it had seen may be older."""
    completed: datetime | None = None
    completed_monotonic: float = field(default=0.0)
    told_as_of: float = float("-inf")
    """When the last poll began whose result can be taken; monotonic."""


class Polls:
    """Polls every source at its interval, each in a thread of its own (`ports.Polls`).

    Args:
        clock: Time.
        wake: Called (from any thread) whenever `take` has something new.
    """

    def __init__(self, clock: Clock, wake: Wake) -> None:
        self._clock = clock
        self._wake = wake
        self._lock = threading.Lock()
        self._polling: dict[str, _Polling] = {}
        self._results: queue.SimpleQueue[Polled] = queue.SimpleQueue()
        self._scheduler: Any = _Scheduler(
            timezone=UTC,
            daemon=True,
            executors={"default": cast("Any", _OwnThreads)()},
            job_defaults={
                "coalesce": True,
                "misfire_grace_time": None,
                "max_instances": _ENDING_MAX,
            },
        )

    def add(self, source: Source, *, interval: timedelta, deadline: timedelta) -> None:
        """Poll `source` from `start` on (or from now, where it was started).

        Args:
            source: Its `fetch` is called by one thread at a time.
            interval: From one start to the next; 10 % jitter.
            deadline: After so long a poll counts as stuck.  It cannot be killed from here: the
                source's own deadline does that.
        """
        seconds = interval.total_seconds()
        polling = _Polling(source, seconds, deadline.total_seconds())
        polling.completed_monotonic = self._clock.monotonic()
        self._polling[source.name] = polling
        self._scheduler.add_job(
            self._poll,
            "interval",
            args=(polling,),
            id=source.name,
            seconds=seconds,
            jitter=seconds * JITTER,
            next_run_time=datetime.now(UTC),  # APScheduler's own clock, which is not `self._clock`
        )

    def start(self) -> None:
        """Begin; the first poll of every source is at once."""
        self._scheduler.start()

    def poll_now(self, name: str) -> None:
        """Poll one source at once.  While a poll runs, one more follows it, never two."""
        with self._lock:
            polling = self._polling.get(name)
            if polling is None:
                return
            if polling.running_since is not None:
                polling.again = True
                return
        self._advance(name)

    def take(self) -> tuple[Polled, ...]:
        """Return what came since the last call; never blocks."""
        self._mend_schedule()
        taken: list[Polled] = []
        while True:
            try:
                taken.append(self._results.get_nowait())
            except queue.Empty:
                return tuple(taken)

    def stuck(self) -> tuple[str, ...]:
        """Return the sources whose poll runs longer than its deadline, or that are not polled."""
        now = self._clock.monotonic()
        with self._lock:
            return tuple(
                sorted(name for name, each in self._polling.items() if _is_stuck(each, now))
            )

    def completed(self) -> Mapping[str, datetime | None]:
        """Return when each source's last poll ended, well or not; None: none did yet."""
        with self._lock:
            return {name: each.completed for name, each in self._polling.items()}

    def told_as_of(self) -> Mapping[str, float]:
        """Return when each source's last poll began, well or not; monotonic.  `take` has it."""
        with self._lock:
            return {name: each.told_as_of for name, each in self._polling.items()}

    def stop(self, timeout: float = 5.0) -> bool:
        """Start no more polls; wait for running ones at most `timeout` seconds.

        Returns:
            Whether all ended.  Those that did not are daemons and die with the process.
        """
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)
        end = time.monotonic() + timeout
        while self._running() and time.monotonic() < end:
            time.sleep(0.01)
        return not self._running()

    # ------------------------------------------------------------------------ inside

    def _running(self) -> bool:
        with self._lock:
            return any(each.running_since is not None for each in self._polling.values())

    def _poll(self, polling: _Polling) -> None:
        started = self._clock.monotonic()
        with self._lock:
            if polling.running_since is not None:
                return  # it began after whoever asked for this one, or knows of them (`again`)
            polling.running_since = started
            polling.again = False
        tree, error = _fetch(polling.source)
        ended, at = self._clock.monotonic(), self._clock.now()
        name = polling.source.name
        polled = Polled(source=name, tree=tree, error=error, at=at, seconds=ended - started)
        with self._lock:
            self._results.put(polled)  # before the next one may begin, so that none overtakes
            polling.running_since = None
            polling.completed, polling.completed_monotonic = at, ended
            polling.told_as_of = started
            again = polling.again
        self._wake()
        if again:
            self._advance(name)

    def _advance(self, name: str) -> None:
        try:
            self._scheduler.modify_job(name, next_run_time=datetime.now(UTC))
        except JobLookupError:  # removed, or not started and stopped again
            return

    def _mend_schedule(self) -> None:
        """Poll a source that should have been polled long ago: the wall clock was set back."""
        now = self._clock.monotonic()
        with self._lock:
            late = [
                name
                for name, each in self._polling.items()
                if each.running_since is None
                and now - each.completed_monotonic > LATE_INTERVALS * each.interval
            ]
        for name in late:
            if self._scheduler.running:
                self._advance(name)


def _is_stuck(polling: _Polling, now: float) -> bool:
    if polling.running_since is not None:
        return now - polling.running_since > polling.deadline
    return now - polling.completed_monotonic > LATE_INTERVALS * polling.interval + polling.deadline


def _fetch(source: Source) -> tuple[Tree | None, DsgitopsError | None]:
    try:
        return source.fetch(), None
    except DsgitopsError as error:
        return None, error
    except Exception as error:  # noqa: BLE001 - the top of a thread: a fault here must be seen
        # The type only: an unknown error's text may hold anything.
        log.error("poll of %s ended with %s", source.name, type(error).__name__)  # noqa: TRY400
        return None, SourceUnreachable(f"polling failed with {type(error).__name__}")


class _OwnThreads(BaseExecutor):  # type: ignore[misc, unused-ignore]
    """Runs each job in a daemon thread.

    A pool's threads are waited for when the interpreter exits, and a poll that hangs would keep
    one from the other sources.  At most one polls a source: `Polls._poll` sees to that.
    """

    def _do_submit_job(self, job: Any, run_times: Any) -> None:  # noqa: ANN401 - APScheduler's
        name = f"poll-{job.id}"
        threading.Thread(target=self._run, args=(job, run_times), name=name, daemon=True).start()

    def _run(self, job: Any, run_times: Any) -> None:  # noqa: ANN401 - the same
        base: Any = self
        try:
            events = _run_job(job, job._jobstore_alias, run_times, "apscheduler.executors.own")  # noqa: SLF001
        except BaseException as error:  # noqa: BLE001 - as APScheduler's own pools do
            base._run_job_error(job.id, error, error.__traceback__)  # noqa: SLF001
        else:
            base._run_job_success(job.id, events)  # noqa: SLF001


# ---------------------------------------------------------------------------- windows


class Window(Protocol):
    """A time in which rollouts may start."""

    @property
    def allow(self) -> str:
        """Five cron fields; every minute that matches is open."""
        ...

    @property
    def timezone(self) -> str:
        """IANA name: `Europe/Berlin`."""
        ...


_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_DAY_ITEM = re.compile(r"(?:\*|(?P<first>\w+)(?:-(?P<last>\w+))?)(?:/(?P<step>[1-9][0-9]?))?")
_SEARCH_YEARS = 9
"""29 February is at most 8 years away."""


def opens(windows: Iterable[Window], now: datetime) -> datetime | None:
    """Return when the next window opens; None: one is open, or there are no windows.

    Args:
        windows: As the settings have them; checked before by `window_fault`.
        now: Aware.
    """
    minute = now.astimezone(UTC).replace(second=0, microsecond=0)
    found = [_next_minute(window.allow, window.timezone, minute) for window in windows]
    if not found:
        return None
    first = min(
        (each for each in found if each is not None), default=datetime.max.replace(tzinfo=UTC)
    )
    return None if first == minute else first


def window_fault(allow: str, timezone: str) -> str:
    """Say what is wrong with a window; empty: nothing."""
    try:
        ZoneInfo(timezone)
    except (OSError, ValueError, KeyError):
        return "the timezone is not known: write an IANA name such as Europe/Berlin"
    try:
        first = _next_minute(allow, timezone, datetime(2024, 1, 1, tzinfo=UTC))
    except (ValueError, TypeError):
        return 'cron has five fields: minute hour day month weekday, such as "* 9-17 * * 1-5"'
    return "" if first is not None else "no minute ever matches the cron fields"


def _next_minute(allow: str, timezone: str, since: datetime) -> datetime | None:
    """Return the first matching minute from `since` on, in UTC; None: none in nine years."""
    end = since + timedelta(days=366 * _SEARCH_YEARS)
    triggers = _triggers(allow, timezone, end)
    fires = [
        trigger.get_next_fire_time(None, since.astimezone(trigger.timezone)) for trigger in triggers
    ]
    return min((each.astimezone(UTC) for each in fires if each is not None), default=None)


def _triggers(allow: str, timezone: str, end: datetime) -> list[Any]:
    fields = allow.split()
    if len(fields) != 5:
        raise ValueError("not five fields")
    minute, hour, day, month, weekday = (each.lower() for each in fields)
    days = _weekdays(weekday)
    common = {"minute": minute, "hour": hour, "month": month, "timezone": ZoneInfo(timezone)}
    if day.startswith("*") or weekday.startswith("*"):
        return [_Cron(day=day, day_of_week=days, end_date=end, **common)]
    # cron(5): with both restricted, a day that matches either will do.
    return [
        _Cron(day=day, end_date=end, **common),
        _Cron(day_of_week=days, end_date=end, **common),
    ]


def _weekdays(text: str) -> str:
    """Return cron's weekdays (0 and 7 are Sunday) by name: APScheduler counts from Monday.

    Raises:
        ValueError: It is no weekday field.
    """
    chosen: set[int] = set()
    for item in text.split(","):
        match = _DAY_ITEM.fullmatch(item)
        if match is None:
            raise ValueError("no weekday")
        first = _weekday(match["first"]) if match["first"] else 0
        last = _weekday(match["last"]) if match["last"] else first
        if item.startswith("*") or (match["step"] and not match["last"]):
            last = 6
        if last < first:
            raise ValueError("weekdays backwards")
        chosen |= {day % 7 for day in range(first, last + 1, int(match["step"] or 1))}
    return ",".join(_DAYS[day] for day in sorted(chosen))


def _weekday(text: str) -> int:
    if text in _DAYS:
        return _DAYS.index(text)
    if text.isdecimal() and int(text) <= 7:
        return int(text)
    raise ValueError("no weekday")
