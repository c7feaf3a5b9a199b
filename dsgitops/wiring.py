"""Settings to a running agent: the only module that names concrete adapters.

Client libraries are imported where they are used: a command that only prints help loads none.
"""

from __future__ import annotations

import os
import socket
import threading
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from dsgitops.agent import Agent, NoDesk
from dsgitops.core.catalog import Catalog, Terms, gather
from dsgitops.errors import UsageError
from dsgitops.intake import Intake
from dsgitops.runtime import Alerting, Runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from concurrent.futures import Executor
    from datetime import timedelta
    from pathlib import Path

    from dsgitops.adapters.forge import Statuses
    from dsgitops.adapters.git.environment import Auth
    from dsgitops.adapters.git.source import GitSource
    from dsgitops.adapters.kubernetes.events import Events
    from dsgitops.adapters.kubernetes.lease import Lease
    from dsgitops.adapters.metrics import CountedPolls, Delivery
    from dsgitops.adapters.schedule import Polls
    from dsgitops.adapters.sentry.channel import CheckIns
    from dsgitops.core.manifest import ManifestFile
    from dsgitops.core.model import Policy, Problem
    from dsgitops.ports import Channel, Clock, Source, Transport, Voice, Wake
    from dsgitops.settings import Settings, SourceSettings
    from dsgitops.sim.drive import Drive
    from dsgitops.sim.world import World

CHATTERS = 4
"""Threads for lists, Events and the Lease, which never wait for a write."""


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
    terms: Mapping[str, Terms],
    files: Iterable[ManifestFile],
    source: str,
    commit: str,
    before: Catalog | None = None,
) -> Catalog:
    return gather(files, commit, terms=terms[source], before=before)


# ---------------------------------------------------------------------------- on a cluster


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
