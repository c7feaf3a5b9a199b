"""Settings to a running agent: the only module that names concrete adapters.

Client libraries are imported where they are used: a command that only prints help loads none.
"""

from __future__ import annotations

import os
import socket
import threading
from dataclasses import dataclass, field
from functools import partial
from math import inf
from random import Random
from typing import TYPE_CHECKING

from dsgitops.agent import Agent, NoDesk
from dsgitops.core.catalog import Catalog, Terms, gather
from dsgitops.errors import UsageError
from dsgitops.intake import Intake

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from concurrent.futures import Executor
    from datetime import datetime, timedelta
    from pathlib import Path

    from dsgitops.adapters.forge import Statuses
    from dsgitops.adapters.git.environment import Auth
    from dsgitops.adapters.git.source import GitSource
    from dsgitops.adapters.hands import Pool
    from dsgitops.adapters.kubernetes.cluster import KubernetesCluster
    from dsgitops.adapters.kubernetes.events import Events
    from dsgitops.adapters.kubernetes.lease import Lease
    from dsgitops.adapters.metrics import CountedPolls, Delivery, Metrics
    from dsgitops.adapters.outbox import Outbox
    from dsgitops.adapters.schedule import Polls
    from dsgitops.adapters.sentry.channel import CheckIns
    from dsgitops.adapters.source_watch import SourceWatch
    from dsgitops.core.manifest import ManifestFile
    from dsgitops.core.model import Policy, Problem
    from dsgitops.errors import DsgitopsError
    from dsgitops.ports import Channel, Clock, Polled, Source, Transport, Voice, Wake
    from dsgitops.settings import Settings, SourceSettings
    from dsgitops.sim.drive import Drive
    from dsgitops.sim.world import World

CHATTERS = 4
"""Threads for lists, Events and the Lease, which never wait for a write."""
BREATH_SECONDS = 0.02
"""After being woken: what comes in a burst (the pods of a fleet) is looked at once."""
UNSEEN_SECONDS_MAX = 10.0
"""`--once` gives up on a cluster that it cannot list by then."""
LAST_WORDS_SECONDS = 2.0
"""For Events that are not written yet when the agent ends."""
IDLE_SECONDS_MAX = 1.0
"""A turn comes at least so often: clocks that jump, and watches that fell silent, are noticed."""


# ---------------------------------------------------------------------------- settings


def load_settings(
    file: Path | None, overrides: Mapping[str, str]
) -> tuple[Settings | None, tuple[Problem, ...]]:
    """Read the settings with all that adapters know of their values."""
    from dsgitops import settings  # noqa: PLC0415 - only the agent needs them
    from dsgitops.adapters import forge, notify  # noqa: PLC0415
    from dsgitops.adapters.git import address, revision  # noqa: PLC0415
    from dsgitops.adapters.schedule import window_fault  # noqa: PLC0415

    checks = settings.Checks(
        url=address.fault,
        ref=revision.fault,
        path=revision.path_fault,
        window=window_fault,
        status=forge.fault,
        notify=notify.missing,
    )
    return settings.load(file, environ=os.environ, overrides=overrides, checks=checks)


def git_source(source: SourceSettings, cache: Path) -> GitSource:
    """Return a source of the settings over its mirror.

    Raises:
        UsageError: Its URL or ref cannot be used (settings that were checked have none such).
    """
    from dsgitops.adapters.git import address, revision  # noqa: PLC0415
    from dsgitops.adapters.git.source import GitSource, Tracked  # noqa: PLC0415

    where = address.parse(source.url)
    what = revision.parse(source.ref.kind, source.ref.value)
    for fault in (where, what):
        if isinstance(fault, address.Fault):
            raise UsageError(f"source {source.name}: {fault.what}", remedy=fault.remedy)
    assert isinstance(where, address.Address), "faults were raised above"
    assert isinstance(what, revision.Revision), "faults were raised above"
    signers = (
        source.verify.ssh.allowed_signers_file if source.verify and source.verify.ssh else None
    )
    return GitSource(
        Tracked(
            name=source.name,
            address=where,
            revision=what,
            path=source.path,
            auth=_auth(source),
            timeout=source.timeout.total_seconds(),
            require_fast_forward=source.require_fast_forward,
            allow_empty=source.allow_empty,
            allowed_signers=signers,
        ),
        cache,
    )


def _auth(source: SourceSettings) -> Auth:
    from dsgitops.adapters.git.environment import Https, Ssh  # noqa: PLC0415

    https, ssh = source.auth.https, source.auth.ssh
    if ssh is not None and ssh.key_file and ssh.known_hosts_file:
        return Ssh(key_file=ssh.key_file, known_hosts_file=ssh.known_hosts_file)
    if https is not None:
        return Https(
            username_file=https.username_file,
            password_file=https.password_file,
            ca_file=https.ca_file,
        )
    return None


def terms_of(settings: Settings) -> dict[str, Terms]:
    """Return what the settings say of each source's manifests."""
    return {
        source.name: Terms(
            source=source.name,
            namespaces=frozenset(settings.namespaces),
            policy=settings.policy(source.name),
            profiles=settings.profile_policies(source.name),
        )
        for source in settings.sources
    }


def _read_with(
    terms: Mapping[str, Terms], files: Iterable[ManifestFile], source: str, commit: str
) -> Catalog:
    return gather(files, commit, terms=terms[source])


# ---------------------------------------------------------------------------- on a cluster


@dataclass(slots=True)
class Alerting:
    """What tells people, beside the log and the cluster."""

    outbox: Outbox
    watch: SourceWatch
    check_ins: tuple[CheckIns, ...] = ()

    def polled(self, polled: Polled) -> None:
        """Take in one poll."""
        self.watch.polled(polled)
        for each in self.check_ins:
            each.polled(polled)

    def pump(self, lease: Lease) -> None:
        """Go on with what the Lease keeps, and send what is due; never blocks."""
        if lease.leading and lease.kept_alerts is not None:
            self.watch.restore(lease.kept_alerts)
        self.watch.pump()


@dataclass(slots=True)
class Runtime:
    """An agent on a cluster, with everything that must be stopped again."""

    agent: Agent
    cluster: KubernetesCluster
    polls: Polls
    lease: Lease
    events: Events
    woken: threading.Event
    stopping: threading.Event
    close: Callable[[], None]
    hands: Pool
    metrics: Metrics
    dry_run: bool = False
    alerting: Alerting | None = None
    statuses: Statuses | None = None
    turned: float = 0.0
    """Monotonic time at which the last turn was completed, or the agent was built."""
    leads_since: float | None = None
    """Monotonic time since when we lead; None: we do not."""
    faults: dict[str, str] = field(default_factory=dict[str, str])
    """What was told of the watches and the Lease last."""

    def run(self) -> None:
        """Turn until `stopping` is set; then finish what is in flight."""
        self.polls.start()
        while not self.stopping.is_set():
            self.woken.clear()
            now = self.agent.clock.now()
            self._chat(now)
            self._tell_faults()
            look = self.agent.turn() if self._decides() else self._stand_by(now)
            self._complete()
            if self.woken.wait(self._pause(look)):
                self.stopping.wait(BREATH_SECONDS)
        self._stop()

    def _decides(self) -> bool:
        """Whether we lead and have asked Git since: who led before may know a newer commit.

        Without that we would go back to ours.  A poll that failed is an answer as well.
        """
        if not self.lease.leading:
            self.leads_since = None
            return False
        if self.lease.term_left == inf:  # nobody is elected
            return True
        told = self.polls.told_as_of()
        if self.leads_since is None:
            self.leads_since = self.agent.clock.monotonic()
            for name in told:
                self.polls.poll_now(name)
        return all(at >= self.leads_since for at in told.values())

    def settle(self, patience: timedelta) -> bool:
        """Turn until every source was read and nothing is left to do at this moment.

        Returns:
            Whether it came to that within `patience`.
        """
        self.polls.start()
        clock = self.agent.clock
        begun = clock.monotonic()
        end = begun + patience.total_seconds()
        while clock.monotonic() < end and not self.stopping.is_set():
            self.woken.clear()
            self.agent.turn()
            self._chat(clock.now())
            self._tell_faults()
            if self._quiet():
                self._stop()
                return True
            if not self.cluster.synced and clock.monotonic() > begun + UNSEEN_SECONDS_MAX:
                break
            self.woken.wait(0.2)
        self._stop()
        return False

    def _complete(self) -> None:
        """Let others see that a turn was completed."""
        self.turned = self.agent.clock.monotonic()
        self.metrics.turned(self.agent.decisions.keys(), leading=self.lease.leading)

    def _say_the_last(self) -> None:
        """Write the Events that were told and not written yet; bounded."""
        clock = self.agent.clock
        end = clock.monotonic() + LAST_WORDS_SECONDS
        while self._speaking() and clock.monotonic() < end:
            self.woken.clear()
            self.events.pump(clock.now())
            self.woken.wait(0.05)

    def _speaking(self) -> bool:
        alerts = self.alerting is not None and self.alerting.outbox.busy
        statuses = self.statuses is not None and self.statuses.busy
        return self.events.pending or alerts or statuses

    def _stand_by(self, now: datetime) -> datetime | None:
        """Another agent leads: keep the view warm, and decide nothing."""
        self.agent.look(now)
        return self.cluster.next_timer()

    def _quiet(self) -> bool:
        polled = self.agent.intake.complete
        idle = not (self.agent.again or self.agent.busy)
        waits = any(each.aside for each in self.agent.decisions.values())
        if self.dry_run:
            return polled and self.cluster.synced and not self.agent.again
        return polled and idle and not waits and self.cluster.synced

    def _tell_faults(self) -> None:
        """Tell what stands in the way of the watches and the Lease, once: rights above all."""
        found = {what: error.what for what, error in self.cluster.faults().items()}
        if self.lease.fault is not None:
            found["lease"] = self.lease.fault.what
        if self.alerting is not None:
            faults = self.alerting.outbox.faults().items()
            found |= {f"alerts by {name}": _with_remedy(error) for name, error in faults}
        if self.statuses is not None:
            faults = self.statuses.faults().items()
            found |= {f"commit status of {name}": _with_remedy(error) for name, error in faults}
        for what, said in found.items():
            if self.faults.get(what) != said:
                self.agent.voice.problem("cluster", f"{what}: {said}")
        self.faults = found

    def _chat(self, now: datetime) -> None:
        if self.dry_run:
            return
        self.events.pump(now)
        self.lease.pump(now)
        if self.alerting is not None:
            self.alerting.pump(self.lease)

    def _pause(self, look: datetime | None) -> float:
        """Return for how long to wait, in seconds, if nothing wakes us."""
        now = self.agent.clock.now()
        renewal = None if self.dry_run else self.lease.next_timer(now)
        seconds = [(at - now).total_seconds() for at in (look, renewal) if at is not None]
        return max(0.0, min([IDLE_SECONDS_MAX, *seconds]))

    def _stop(self) -> None:
        self.polls.stop(timeout=2.0)
        self._say_the_last()
        self.close()
        if not self.dry_run:
            self.lease.release(self.agent.clock.now())


def _with_remedy(error: DsgitopsError) -> str:
    return f"{error.what}; {error.remedy}" if error.remedy else error.what


def _alerting(  # noqa: PLR0913, PLR0917 - each is one part of the agent
    settings: Settings,
    sources: Mapping[str, GitSource],
    cluster: str,
    lease: Lease,
    wake: Wake,
    counted: Callable[[Delivery], None],
) -> Alerting | None:
    """Return what the settings say of telling people; None: nobody is told."""
    from dsgitops.adapters.outbox import Outbox  # noqa: PLC0415
    from dsgitops.adapters.source_watch import SourceWatch  # noqa: PLC0415

    channels: list[Channel] = []
    check_ins: list[CheckIns] = []
    sentry = settings.alerts.sentry
    if sentry is not None and sentry.dsn_file is not None:
        from dsgitops.adapters.sentry import channel  # noqa: PLC0415 - loads sentry_sdk

        where = {"cluster": cluster, "environment": sentry.environment}
        channels.append(
            channel.SentryChannel(sentry.dsn_file, author=partial(_author, sources), **where)
        )
        intervals = {each.name: each.interval for each in settings.sources}
        check_ins.append(channel.CheckIns(sentry.dsn_file, intervals=intervals, **where))
    channels += _messengers(settings, cluster)
    if not channels:
        return None
    rng = Random()  # noqa: S311 - jitter
    outbox = Outbox(channels, wake=wake, rng=rng, counted=counted)
    watch = SourceWatch(outbox, cluster=cluster, keep=lease.keep_alerts)
    return Alerting(outbox, watch, tuple(check_ins))


def _messengers(settings: Settings, cluster: str) -> list[Channel]:
    if not settings.alerts.notify:
        return []
    from dsgitops.adapters.notify import NotifyChannel  # noqa: PLC0415 - loads apprise

    return [
        NotifyChannel(each.url_file, cluster=cluster, on=each.on, name=f"notify[{at}]")
        for at, each in enumerate(settings.alerts.notify)
        if each.url_file is not None
    ]


def _statuses(settings: Settings, cluster: str) -> Statuses | None:
    """Return what tells commits' statuses; None: no source says where."""
    from dsgitops.adapters.forge import Repository, Statuses  # noqa: PLC0415

    repositories = {
        source.name: Repository(
            kind=told.kind,
            url=told.url,
            name=told.repository,
            token_file=told.token_file,
            ca_file=told.ca_file,
            target_url=told.target_url,
        )
        for source in settings.sources
        if (told := source.status) is not None and told.token_file is not None
    }
    if not repositories:
        return None
    return Statuses(repositories, cluster=cluster, rng=Random())  # noqa: S311 - jitter


def _author(sources: Mapping[str, GitSource], source: str, commit: str) -> str:
    found = sources.get(source)
    return found.author(commit) if found is not None else ""


def runtime(
    settings: Settings, transport: Transport, *, voice: Voice, dry_run: bool = False
) -> Runtime:
    """Return an agent for a real cluster (or a served simulation); nothing runs yet.

    Args:
        settings: Checked ones.
        transport: To the API server.
        voice: Who is told, besides Events and the Lease.
        dry_run: Send dry runs only; nothing is told in the cluster.

    Raises:
        UsageError: The settings name no folder for the mirrors.
    """
    from dsgitops.adapters.clock import ClusterClock, Dated  # noqa: PLC0415
    from dsgitops.adapters.hands import Pool  # noqa: PLC0415
    from dsgitops.adapters.kubernetes.cluster import KubernetesCluster  # noqa: PLC0415
    from dsgitops.adapters.kubernetes.dry import DryRun  # noqa: PLC0415
    from dsgitops.adapters.kubernetes.events import Events  # noqa: PLC0415
    from dsgitops.adapters.kubernetes.fence import Fenced  # noqa: PLC0415
    from dsgitops.adapters.kubernetes.pool import DaemonPool  # noqa: PLC0415
    from dsgitops.adapters.kubernetes.voice import ClusterVoice  # noqa: PLC0415
    from dsgitops.adapters.metrics import CountedPolls, CountedTransport, Metrics  # noqa: PLC0415
    from dsgitops.adapters.schedule import Polls  # noqa: PLC0415
    from dsgitops.adapters.voices import Voices  # noqa: PLC0415

    if dry_run:
        transport = DryRun(transport)
    if settings.cache_dir is None:
        raise UsageError("no folder for the mirrors", remedy="set cacheDir")
    woken = threading.Event()
    wake: Wake = woken.set
    clock = ClusterClock()
    sources = {each.name: git_source(each, settings.cache_dir) for each in settings.sources}
    metrics = Metrics(clock, sources)
    transport = CountedTransport(Dated(transport, clock), metrics.requested)
    chatters = DaemonPool(CHATTERS)
    keeper = DaemonPool(1)  # of the Lease: lists that hang must not cost the leadership
    rng = Random()  # noqa: S311 - jitter: agents must not ask in step
    identity = os.environ.get("POD_NAME") or f"{socket.gethostname()}-{os.getpid()}"
    lease = _lease(
        transport, identity, clock, run=keeper, wake=wake,
        election=elects(settings.leader_election) and not dry_run,  # which changes nothing
    )  # fmt: skip
    cluster = KubernetesCluster(
        Fenced(transport, lease), namespaces=settings.namespaces, rng=rng, run=chatters, wake=wake
    )
    metrics.counts = cluster.counts
    events = Events(transport, instance=identity, run=chatters, wake=wake)
    hands = Pool(wake, ends=not dry_run)
    told = ClusterVoice(events, lease, lambda name: sources[name].history())
    polls = Polls(clock, wake)
    for each in settings.sources:
        polls.add(sources[each.name], interval=each.interval, deadline=each.timeout)
    name = settings.cluster or transport.host
    alerting = None if dry_run else _alerting(
        settings, sources, name, lease, wake, metrics.alerted
    )  # fmt: skip
    statuses = None if dry_run else _statuses(settings, name)
    heard: Polls | CountedPolls = CountedPolls(polls, metrics.polled)
    voices: list[Voice] = [voice, told, metrics]
    if statuses is not None:
        heard = CountedPolls(heard, statuses.polled)
    if alerting is not None:
        heard = CountedPolls(heard, alerting.polled)
        voices.append(alerting.outbox)
    agent = Agent(
        intake=_intake(settings, sources),
        polls=heard,
        cluster=cluster,
        hands=hands,
        voice=voice if dry_run else Voices(*voices),
        clock=clock,
        desk=NoDesk() if alerting is None else alerting.outbox,
        decide=metrics.decide if statuses is None else statuses.hearing(metrics.decide),
    )

    def close() -> None:
        hands.close()
        cluster.close()
        for pool in (chatters, keeper):
            pool.shutdown(wait=False, cancel_futures=True)

    stopping = threading.Event()
    return Runtime(
        agent, cluster, polls, lease, events, woken, stopping, close, hands, metrics, dry_run,
        alerting=alerting, statuses=statuses, turned=clock.monotonic(),
    )  # fmt: skip


def _lease(  # noqa: PLR0913 - each is one thing of the world
    transport: Transport, identity: str, clock: Clock, *, election: bool, run: Executor, wake: Wake
) -> Lease:
    from dsgitops.adapters.kubernetes.lease import Lease  # noqa: PLC0415

    return Lease(
        transport,
        namespace=lease_namespace(transport),
        identity=identity,
        election=election,
        run=run,
        monotonic=clock.monotonic,
        wake=wake,
    )


def lease_namespace(transport: Transport) -> str:
    """Return where the Lease is: POD_NAMESPACE, else the kubeconfig's namespace, else default."""
    return os.environ.get("POD_NAMESPACE") or getattr(transport, "namespace", "") or "default"


def elects(setting: str) -> bool:
    """Return whether agents take turns: `auto` means in a cluster, where two may run at a time."""
    return setting == "on" or (setting == "auto" and "KUBERNETES_SERVICE_HOST" in os.environ)


def _intake(settings: Settings, sources: Mapping[str, Source]) -> Intake:
    from dsgitops.adapters.schedule import opens  # noqa: PLC0415

    return Intake(
        sources=sources,
        reader=partial(_read_with, terms_of(settings)),
        opens=partial(opens, settings.windows) if settings.windows else None,
        policy=settings.policy(),
    )


# ---------------------------------------------------------------------------- simulated


def simulated(  # noqa: PLR0913 - each is one choice of the demo or the test
    world: World,
    sources: Mapping[str, Source],
    *,
    namespaces: Iterable[str],
    policy: Policy,
    voice: Voice,
    interval: timedelta,
    tells: bool = False,
) -> Drive:
    """Return the same agent in a simulated world: only time and threads differ.

    Args:
        world: The cluster.
        sources: By name; real Git, or what a test has.
        namespaces: The managed ones.
        policy: Of every DaemonSet that does not say otherwise.
        voice: Who is told.
        interval: Between two polls, in virtual time.
        tells: Also keep the Lease and write Events: for those who look in with kubectl.
    """
    from dsgitops.adapters.kubernetes.cluster import KubernetesCluster  # noqa: PLC0415
    from dsgitops.adapters.kubernetes.voice import ClusterVoice  # noqa: PLC0415
    from dsgitops.adapters.voices import Voices  # noqa: PLC0415
    from dsgitops.sim.drive import Drive, InlineHands, VirtualPolls  # noqa: PLC0415

    allowed = frozenset(namespaces)
    terms = {name: Terms(source=name, namespaces=allowed, policy=policy) for name in sources}
    polls = VirtualPolls(sources.values(), interval, world.clock)
    wakes: list[Wake] = []

    def wake() -> None:
        for each in wakes:
            each()

    cluster = KubernetesCluster(
        world.transport(),
        namespaces=allowed,
        rng=Random(1),  # noqa: S311 - jitter; a simulated run repeats exactly
        wake=wake,
    )
    agent = Agent(
        intake=Intake(sources=sources, reader=partial(_read_with, terms), policy=policy),
        polls=polls,
        cluster=cluster,
        hands=InlineHands(),
        voice=voice,
        clock=world.clock,
    )
    drive = Drive(world=world, agent=agent, polls=polls)
    if tells:
        lease, events = _simulated_chat(world, wake)
        told = ClusterVoice(events, lease, lambda name: sources[name].history())
        agent.voice = Voices(voice, told)
        drive.chats = (lease, events)
    wakes.append(drive.wake)
    return drive


def _simulated_chat(world: World, wake: Wake) -> tuple[Lease, Events]:
    from dsgitops.adapters.kubernetes.events import Events  # noqa: PLC0415
    from dsgitops.adapters.kubernetes.lease import Lease  # noqa: PLC0415
    from dsgitops.adapters.kubernetes.lists import Inline  # noqa: PLC0415

    lease = Lease(
        world.transport(),
        namespace="default",
        identity="dsgitops-demo",
        election=False,
        run=Inline(),
        monotonic=world.clock.monotonic,
        wake=wake,
    )
    return lease, Events(world.transport(), instance="dsgitops-demo", run=Inline(), wake=wake)
