"""What the agent does, as numbers for Prometheus.  The only importer of prometheus_client.

`DECLARED` is the list of `interfaces.md`: names, labels and their values are public API.  Labels
are from closed sets, but for a DaemonSet's own names.  Series that say how a DaemonSet stands are
made when they are asked for: a thousand DaemonSets cost a thousand small tuples, and a turn next to
nothing.
"""

from __future__ import annotations

import threading
from collections import Counter as Tally
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Literal

import prometheus_client as prometheus
from prometheus_client.core import GaugeMetricFamily

from dsgitops.core.decide import decide
from dsgitops.core.model import FailureClass, NodeState, Phase, Reason
from dsgitops.core.situation import IN_FLIGHT
from dsgitops.core.standing import health_of, sync_of
from dsgitops.errors import ClusterUnreachable, SourceUnreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
    from datetime import datetime

    from dsgitops.core.actions import Action
    from dsgitops.core.model import Decision, Desired, Observed, Ref, Unreadable
    from dsgitops.core.record import Record
    from dsgitops.core.standing import Health
    from dsgitops.ports import Clock, Polled, Polls, Request, Response, Stream, Transport, Wake

prometheus.disable_created_metrics()  # type: ignore[no-untyped-call]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Fetch = Literal["ok", "unreachable", "refused"]
Delivery = Literal["sent", "failed", "dropped"]

NO_CLASS = "none"
"""Label `reason` of a rollback that no failure led to: Git itself went back."""
RESOURCES = ("daemonsets", "controllerrevisions", "pods", "nodes", "events", "leases")
OTHER = "other"
UNANSWERED = "none"
"""Label `code` where no answer came."""
_PASSING = frozenset({Reason.CLUSTER_UNREACHABLE, Reason.CONTROLLER_STALE})
"""Reasons that say nothing of the rollout itself."""


@dataclass(frozen=True, slots=True)
class Declared:
    """One metric as it is documented and made."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: Mapping[str, str]
    """Name to the closed set of its values, in words or as a list."""
    buckets: tuple[float, ...] = ()
    """Upper bounds in seconds."""


def _words(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


_OF_ONE = {"namespace": "of the DaemonSet", "name": "of the DaemonSet"}
_ROLLOUT_RESULTS = ("finished", "failed", "superseded")
_ROLLBACK_RESULTS = ("done", "failed")
_FETCH_RESULTS: tuple[Fetch, ...] = ("ok", "unreachable", "refused")
_DELIVERIES: tuple[Delivery, ...] = ("sent", "failed", "dropped")

INFO = Declared(
    "dsgitops_daemonset_info",
    "gauge",
    "1 for each managed DaemonSet; its labels say how it stands.",
    {
        **_OF_ONE,
        "sync": _words(("Synced", "OutOfSync", "Held", "Unknown")),
        "health": _words(("Healthy", "Progressing", "Failed", "Degraded", "Suspended", "Unknown")),
        "commit": "full hash of the content that was written last; empty: none was",
    },
)
NODES = Declared(
    "dsgitops_nodes",
    "gauge",
    "Nodes of a DaemonSet, each once, by what it means for the rollout.",
    {**_OF_ONE, "state": _words(NodeState)},
)
ROLLOUTS = Declared(
    "dsgitops_rollouts_total",
    "counter",
    "Rollouts that ended: well, by a failure, or because other content took their place.",
    {"result": _words(_ROLLOUT_RESULTS)},
)
ROLLBACKS = Declared(
    "dsgitops_rollbacks_total",
    "counter",
    "Rollbacks that ended, by the class of what failed.",
    {
        "reason": f"the failure classes, or `{NO_CLASS}`: Git itself went back",
        "result": _words(_ROLLBACK_RESULTS),
    },
)
QUARANTINED = Declared(
    "dsgitops_quarantined", "gauge", "DaemonSets whose content in Git is held back.", {}
)
SUSPENDED = Declared("dsgitops_suspended", "gauge", "DaemonSets that a person suspended.", {})
DECISIONS = Declared(
    "dsgitops_decisions_total",
    "counter",
    "Changes of decision: one for each log line and Event.",
    {"reason": "the reasons of decisions"},
)
DECIDE_SECONDS = Declared(
    "dsgitops_decide_duration_seconds",
    "histogram",
    "Seconds that one decision took.",
    {},
    (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 1.0),
)
FETCHES = Declared(
    "dsgitops_git_fetch_total",
    "counter",
    "Polls of sources that ended.",
    {"result": _words(_FETCH_RESULTS)},
)
FETCH_SECONDS = Declared(
    "dsgitops_git_fetch_duration_seconds",
    "histogram",
    "Seconds that one poll of a source took, well or not.",
    {},
    (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
COMMIT_AGE = Declared(
    "dsgitops_commit_age_seconds",
    "gauge",
    "Seconds since the commit in force was last seen at the tip of its source; of the source for "
    "which this is longest.",
    {},
)
TO_APPLIED = Declared(
    "dsgitops_commit_to_applied_seconds",
    "histogram",
    "Seconds from the end of the poll that brought a commit until every write it asked for was "
    "answered.",
    {},
    (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0),
)
REQUESTS = Declared(
    "dsgitops_api_requests_total",
    "counter",
    "Requests to the API server.",
    {
        "verb": _words(("get", "list", "watch", "create", "update", "patch", "delete")),
        "resource": _words((*RESOURCES, OTHER)),
        "code": f"HTTP status, or `{UNANSWERED}`: no answer came",
    },
)
ALERTS = Declared(
    "dsgitops_alerts_total",
    "counter",
    "Tries to deliver an alert, by what came of them.",
    {"result": _words(_DELIVERIES)},
)
LEADER = Declared(
    "dsgitops_leader", "gauge", "1 while this agent may write, 0 while it stands by.", {}
)
LAST_TURN = Declared(
    "dsgitops_last_turn_timestamp_seconds",
    "gauge",
    "When the last turn was completed, in seconds since 1970.",
    {},
)

DECLARED = (
    INFO,
    NODES,
    ROLLOUTS,
    ROLLBACKS,
    QUARANTINED,
    SUSPENDED,
    DECISIONS,
    DECIDE_SECONDS,
    FETCHES,
    FETCH_SECONDS,
    COMMIT_AGE,
    TO_APPLIED,
    REQUESTS,
    ALERTS,
    LEADER,
    LAST_TURN,
)


@dataclass(frozen=True, slots=True)
class _Row:
    """What is kept of one DaemonSet's last decision."""

    reason: Reason
    record_reason: Reason
    phase: Phase | None
    commit: str
    pending: bool
    """Whether Git has moved on and something holds it back."""
    counts: tuple[int, ...] | None
    """By node state, in the order of `NodeState`; None: at rest, the status says it."""


class Metrics:
    """`ports.Voice` into numbers, with ears for what a voice is not told.

    Safe to ask from any thread; everything else is called by the agent's, but for requests and
    alerts.

    Args:
        clock: Time.
        sources: Names of the sources that are polled.
    """

    def __init__(self, clock: Clock, sources: Iterable[str] = ()) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._rows: dict[Ref, _Row] = {}
        self._ended: dict[Ref, tuple[str, str, str]] = {}
        """What was counted last of a DaemonSet: a write that is tried again is no second end."""
        started = clock.now()
        self._at_tip = dict.fromkeys(sources, started)
        self._arrived: dict[str, tuple[str, datetime]] = {}
        """By source: the newest commit, and when the poll that brought it ended."""
        self.counts: Callable[[Ref], tuple[int, int] | None] = _unknown
        """Nodes that should run the pod and have it available, of a DaemonSet at rest."""
        self._known: Collection[Ref] = ()
        self._leading = True
        self._last_turn = started.timestamp()
        self.registry = prometheus.CollectorRegistry(auto_describe=False)
        self._rollouts = self._counter(ROLLOUTS)
        self._rollbacks = self._counter(ROLLBACKS)
        self._decisions = self._counter(DECISIONS)
        self._decide_seconds = self._histogram(DECIDE_SECONDS)
        self._fetches = self._counter(FETCHES)
        self._fetch_seconds = self._histogram(FETCH_SECONDS)
        self._to_applied = self._histogram(TO_APPLIED)
        self._requests = self._counter(REQUESTS)
        self._alerts = self._counter(ALERTS)
        self._begin_at_zero()
        self.registry.register(_Standings(self))

    def text(self) -> bytes:
        """Return all of it as Prometheus reads it (`CONTENT_TYPE`)."""
        return prometheus.generate_latest(self.registry)

    # -------------------------------------------------------------------- ports.Voice

    def tell(self, ref: Ref, decision: Decision, now: datetime, *, news: bool) -> None:
        """See `ports.Voice`."""
        del now
        if news:
            self._decisions.labels(decision.reason).inc()
        before = self._rows.get(ref)
        self._count_end(ref, decision, before)
        with self._lock:
            self._rows[ref] = _row(decision)
            if decision.reason is Reason.MISSING and decision.record is None:
                del self._rows[ref]  # neither here nor in Git: it is nobody's any more

    def problem(self, source: str, what: str, *, remedy: str = "") -> None:
        """Nothing: what came of each poll is counted as it comes."""

    def fault(self, ref: Ref, error: Exception) -> None:
        """Nothing: requests that failed are counted by their code."""

    def read(self, source: str, commit: str, now: datetime, *, partial: bool) -> None:
        """See `ports.Voice`."""
        del now, partial
        arrived, at = self._arrived.get(source, ("", None))
        if at is not None and arrived == commit:
            seconds = (self._clock.now() - at).total_seconds()
            self._to_applied.observe(max(0.0, seconds))

    # -------------------------------------------------------------------- other ears

    def turned(self, known: Collection[Ref], *, leading: bool) -> None:
        """Take note of a completed turn.

        Args:
            known: The DaemonSets there are decisions for; others are forgotten.
            leading: Whether this agent may write.
        """
        self._last_turn = self._clock.now().timestamp()
        self._leading = leading
        self._known = known
        if len(self._rows) <= len(known):
            return  # exact enough for memory; what is served is looked at one by one
        with self._lock:
            for ref in self._rows.keys() - set(known):
                del self._rows[ref]
                self._ended.pop(ref, None)

    def polled(self, polled: Polled) -> None:
        """Take note of a poll that ended."""
        self._fetches.labels(_fetch_result(polled)).inc()
        self._fetch_seconds.observe(polled.seconds)
        if polled.tree is None:
            return
        self._at_tip[polled.source] = polled.at
        commit, _ = self._arrived.get(polled.source, ("", None))
        if commit != polled.tree.commit:
            self._arrived[polled.source] = polled.tree.commit, polled.at

    def requested(self, request: Request, code: int | None) -> None:
        """Take note of a request's answer; None: there was none."""
        verb, resource = verb_and_resource(request)
        answer = str(code) if code and 100 <= code <= 599 else UNANSWERED
        self._requests.labels(verb, resource, answer).inc()

    def alerted(self, result: Delivery) -> None:
        """Take note of a try to deliver an alert.

        Args:
            result: `failed` is tried again; `dropped` is not.
        """
        self._alerts.labels(result).inc()

    def decide(
        self,
        desired: Desired | Unreadable | None,
        observed: Observed,
        record: Record | None,
        now: datetime,
    ) -> Decision:
        """Decide (`core.decide`), and take note of how long it took."""
        begun = perf_counter()
        decision = decide(desired, observed, record, now)
        self._decide_seconds.observe(perf_counter() - begun)
        return decision

    # -------------------------------------------------------------------- how things stand

    def standings(self) -> Iterator[GaugeMetricFamily]:
        """Return the series that say how things are now; called for each scrape.

        An agent that stands by says nothing of DaemonSets and commits: the leader does.
        """
        with self._lock:
            known = (each for each in self._rows.items() if each[0] in self._known)
            rows = sorted(known) if self._leading else []
        seen = [(ref, row, self._numbers(ref, row)) for ref, row in rows]
        stand = [(*_names(ref), *_standing(row, by), row.commit) for ref, row, by in seen]
        yield _family(INFO, ((labels, 1) for labels in stand))
        yield _family(NODES, _by_state(seen))
        yield _single(QUARANTINED, sum(row.phase is Phase.HELD for _, row in rows))
        yield _single(SUSPENDED, sum(row.reason is Reason.SUSPENDED for _, row in rows))
        yield _single(LEADER, self._leading)
        yield _single(LAST_TURN, self._last_turn)
        if self._leading and self._at_tip:
            oldest = min(self._at_tip.values())
            yield _single(COMMIT_AGE, max(0.0, (self._clock.now() - oldest).total_seconds()))

    def _numbers(self, ref: Ref, row: _Row) -> tuple[int, ...]:
        """Return the nodes in each state; at rest the object's status alone says it."""
        if row.counts is not None:
            return row.counts
        scheduled, available = self.counts(ref) or (0, 0)
        available = min(available, scheduled)
        at_rest = {NodeState.DESIRED: available, NodeState.STARTING: scheduled - available}
        return tuple(at_rest.get(state, 0) for state in NodeState)

    # -------------------------------------------------------------------- rollouts that end

    def _count_end(self, ref: Ref, decision: Decision, before: _Row | None) -> None:
        """Count a rollout or rollback that ends by this decision, once."""
        if decision.reason in _PASSING or decision.record is None:
            return
        if decision.reason is Reason.ROLLOUT_STARTED:
            self._ended.pop(ref, None)  # the same content may fail once more
            return
        end = _end(decision, before)
        if end is None or self._ended.get(ref) == end:
            return
        self._ended[ref] = end
        if before is None and not decision.actions:
            return  # found so at the start: it ended in another agent's time
        what, result, _ = end
        if what == "rollout":
            self._rollouts.labels(result).inc()
        else:
            self._rollbacks.labels(decision.failure_class or NO_CLASS, result).inc()

    # -------------------------------------------------------------------- making

    def _counter(self, declared: Declared) -> prometheus.Counter:
        return prometheus.Counter(
            declared.name, declared.help, tuple(declared.labels), registry=self.registry
        )

    def _histogram(self, declared: Declared) -> prometheus.Histogram:
        return prometheus.Histogram(
            declared.name,
            declared.help,
            tuple(declared.labels),
            registry=self.registry,
            buckets=declared.buckets,
        )

    def _begin_at_zero(self) -> None:
        """Make every series of a closed set: `increase()` does not see a first value."""
        for result in _ROLLOUT_RESULTS:
            self._rollouts.labels(result)
        for result in _ROLLBACK_RESULTS:
            for reason in (*FailureClass, NO_CLASS):
                self._rollbacks.labels(reason, result)
        for reason in Reason:
            self._decisions.labels(reason)
        for fetched in _FETCH_RESULTS:
            self._fetches.labels(fetched)
        for delivery in _DELIVERIES:
            self._alerts.labels(delivery)


class _Standings:
    """The collector of `Metrics.standings`, as prometheus_client wants one."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[GaugeMetricFamily]:
        return self._metrics.standings()


# ---------------------------------------------------------------------------- around ports


class CountedPolls:
    """`ports.Polls` that tells of each poll.

    Args:
        polls: What is asked.
        heard: Called with each poll that ended, in the thread of `take`.
    """

    def __init__(self, polls: Polls, heard: Callable[[Polled], None]) -> None:
        self._polls = polls
        self._heard = heard

    def take(self) -> tuple[Polled, ...]:
        """See `ports.Polls`."""
        taken = self._polls.take()
        for polled in taken:
            self._heard(polled)
        return taken


class CountedTransport:
    """`ports.Transport` that tells of each request.

    Args:
        transport: What is asked.
        heard: Called with each request and the status of its answer (None: no answer), from the
            thread that asked.
    """

    def __init__(self, transport: Transport, heard: Callable[[Request, int | None], None]) -> None:
        self._transport = transport
        self._heard = heard
        self.host = transport.host
        self.namespace = str(getattr(transport, "namespace", ""))
        """Of the kubeconfig; empty: not known."""

    def send(self, request: Request) -> Response:
        """See `ports.Transport`."""
        try:
            response = self._transport.send(request)
        except ClusterUnreachable:
            self._heard(request, None)
            raise
        self._heard(request, response.status)
        return response

    def open(self, request: Request, wake: Wake) -> Stream:
        """See `ports.Transport`."""
        return _CountedStream(self._transport.open(request, wake), request, self._heard)


class _CountedStream:
    """`ports.Stream` that tells how its request was answered, once."""

    def __init__(
        self, stream: Stream, request: Request, heard: Callable[[Request, int | None], None]
    ) -> None:
        self._stream = stream
        self._request = request
        self._heard: Callable[[Request, int | None], None] | None = heard

    @property
    def status(self) -> int:
        status = self._stream.status
        if status:
            self._tell(status)
        return status

    @property
    def headers(self) -> Mapping[str, str]:
        return self._stream.headers

    def lines(self) -> list[bytes]:
        lines = self._stream.lines()
        if lines:
            self._tell(self._stream.status)
        return lines

    @property
    def ended(self) -> bool:
        ended = self._stream.ended
        if ended:
            self._tell(self._stream.status or None)
        return ended

    def close(self) -> None:
        self._stream.close()
        self._tell(self._stream.status or None)

    def _tell(self, status: int | None) -> None:
        heard, self._heard = self._heard, None
        if heard is not None:
            heard(self._request, status)


# ---------------------------------------------------------------------------- small pieces

_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


def verb_and_resource(request: Request) -> tuple[str, str]:
    """Return what RBAC calls a request; resources that are not ours are `other`."""
    parts = request.path.strip("/").split("/")
    parts = parts[2:] if parts[0] == "api" else parts[3:]  # /api/v1/…, /apis/GROUP/v1/…
    if len(parts) > 2 and parts[0] == "namespaces":
        parts = parts[2:]
    resource = parts[0] if parts and parts[0] in RESOURCES else OTHER
    if request.method != "GET":
        return _VERBS[request.method], resource
    if request.query.get("watch") in ("1", "true"):
        return "watch", resource
    return ("get" if len(parts) > 1 or resource == OTHER else "list"), resource


def _fetch_result(polled: Polled) -> Fetch:
    if polled.tree is not None:
        return "ok"
    return "unreachable" if isinstance(polled.error, SourceUnreachable) else "refused"


def _row(decision: Decision) -> _Row:
    record, judgement = decision.record, decision.judgement
    tally = Tally(judgement.states.values()) if judgement is not None else None
    return _Row(
        reason=decision.reason,
        record_reason=record.reason if record else decision.reason,
        phase=record.phase if record else None,
        commit=record.commit.rpartition(":")[2] if record else "",
        pending=bool(decision.pending),
        counts=tuple(tally[state] for state in NodeState) if tally is not None else None,
    )


def _standing(row: _Row, numbers: tuple[int, ...]) -> tuple[str, str]:
    blind = row.reason is Reason.CLUSTER_UNREACHABLE
    sync = sync_of(row.phase, row.reason, unknown=blind, pending=row.pending)
    return sync, "Unknown" if blind else _health(row, numbers)


def _health(row: _Row, numbers: tuple[int, ...]) -> Health:
    if row.phase is None:
        return "Unknown"
    by = dict(zip(NodeState, numbers, strict=True))
    total = sum(numbers) - by[NodeState.LEAVING]
    return health_of(
        row.phase,
        row.record_reason,
        suspended=row.reason is Reason.SUSPENDED,
        complete=by[NodeState.DESIRED] == total,
    )


def _end(decision: Decision, before: _Row | None) -> tuple[str, str, str] | None:
    """Return what ends by a decision: rollout or rollback, its result, the content."""
    record = decision.record
    assert record is not None, "asked of decisions with one only"
    newest = record.quarantine[-1].digest if record.quarantine else record.digest
    match decision.reason:
        case Reason.ROLLOUT_FINISHED:
            return "rollout", "finished", record.digest
        case Reason.ROLLOUT_SUPERSEDED:
            return "rollout", "superseded", record.digest
        case Reason.ROLLOUT_FAILED:
            return "rollout", "failed", newest
        case Reason.ROLLED_BACK:
            return "rollback", "done", newest
        case Reason.ROLLBACK_FAILED:
            return "rollback", "failed", newest
        case Reason.ROLLING_BACK if _enters(decision.actions, before):
            by_itself = decision.failure_class in (None, FailureClass.BY_HAND)
            return "rollout", "superseded" if by_itself else "failed", newest
        case _:
            return None


def _enters(actions: tuple[Action, ...], before: _Row | None) -> bool:
    """Whether a rollback that is written now ends a rollout."""
    return bool(actions) and (before is None or before.phase in IN_FLIGHT)


def _by_state(
    seen: Iterable[tuple[Ref, _Row, tuple[int, ...]]],
) -> Iterator[tuple[tuple[str, ...], float]]:
    for ref, _, numbers in seen:
        for state, count in zip(NodeState, numbers, strict=True):
            yield (*_names(ref), state), count


def _names(ref: Ref) -> tuple[str, str]:
    return ref.namespace, ref.name


def _family(
    declared: Declared, samples: Iterable[tuple[tuple[str, ...], float]]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(declared.name, declared.help, labels=tuple(declared.labels))
    for labels, value in samples:
        family.add_metric(labels, value)
    return family


def _single(declared: Declared, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(declared.name, declared.help, value=value)


def _unknown(_ref: Ref) -> tuple[int, int] | None:
    """Know nothing of the cluster."""
    return None
