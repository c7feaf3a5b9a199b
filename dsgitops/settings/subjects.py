"""The settings, one frozen class per subject; a field's docstring has its unit and its reason.

Keys in the file are the fields' names in camelCase.
"""

# ruff: noqa: RUF009, TC003 - `setting` makes a field as dataclasses.field does, and the hints are
# read when the settings are.

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Literal

from dsgitops.core import model
from dsgitops.core.model import EMPTY, Policy
from dsgitops.settings import kinds
from dsgitops.settings.kinds import required, setting

SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """The first nodes of a guarded rollout."""

    nodes: int = setting(1, kinds.count(least=0))
    """How many nodes go first; 0: no canary.  One node shows most faults and costs least."""
    bake_time: timedelta = setting(timedelta(seconds=10), kinds.duration())
    """How long they must have been available.  Long enough for a crash right after the start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """How a rollout goes, how patient it is and when it is given up."""

    mode: Literal["guarded", "native"] = setting("guarded", kinds.word("guarded", "native"))
    """Who restarts pods: we, within a hard budget, or the DaemonSet controller.  Its budget is
    soft: 50 s without kubelet heartbeats spread a bad revision to every node."""
    canary: Canary = Canary()
    """The nodes that go first."""
    progress_deadline: timedelta = setting(timedelta(minutes=10), kinds.duration(least=SECOND))
    """Longest time without one more ready node.  Must exceed the slowest node's image pull."""
    pod_deadline: timedelta | None = setting(None, kinds.duration_or("auto", least=SECOND))
    """A pod on a Ready node that is not ready by then votes against the revision; `auto`: from
    its probes, minReadySeconds and a minute for the pull."""
    bake_time: timedelta = setting(timedelta(minutes=2), kinds.duration())
    """How long all nodes must stay available before the revision becomes the last good one."""
    max_failed_nodes: int | str = setting(1, kinds.count_or_percent())
    """That many votes fail a rollout; a percentage of nodes rounds up.  One is enough by default:
    in a guarded rollout no more than maxUnavailable can ever vote."""
    max_concurrent_rollouts: int = setting(0, kinds.count(least=0))
    """DaemonSets that may be in Canary or Rolling at once; 0: no limit."""
    rollback: Literal["auto", "manual", "off"] = setting(
        "auto", kinds.word("auto", "manual", "off")
    )
    """What happens to a failed rollout: put back, held for a person, or only told."""

    def policy(self, *, prune: bool = False) -> Policy:
        """Return it as the core has it.

        Args:
            prune: Of the source; it is no setting of a rollout.
        """
        return Policy(
            mode=self.mode,
            canary_nodes=self.canary.nodes,
            canary_bake=self.canary.bake_time,
            progress_deadline=self.progress_deadline,
            pod_deadline=self.pod_deadline,
            bake_time=self.bake_time,
            max_failed_nodes=self.max_failed_nodes,
            max_concurrent_rollouts=self.max_concurrent_rollouts,
            rollback=self.rollback,
            prune=prune,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GitRef:
    """Which commit is followed: exactly one of these; the branch `main` where none is given."""

    branch: str = setting("", kinds.text(length_max=255))
    """Short name."""
    tag: str = setting("", kinds.text(length_max=255))
    """Short name; a tag that is moved is followed."""
    semver: str = setting("", kinds.text(length_max=255))
    """A range; the highest tag in it is followed."""
    commit: str = setting("", kinds.text(length_max=64))
    """Full hash."""

    @property
    def kind(self) -> Literal["branch", "tag", "semver", "commit"]:
        """Which of them it is."""
        if self.tag:
            return "tag"
        if self.semver:
            return "semver"
        return "commit" if self.commit else "branch"

    @property
    def value(self) -> str:
        """The name, range or hash."""
        return self.tag or self.semver or self.commit or self.branch or "main"


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpsAuth:
    """Credentials for https.  Files only: they can be rotated, and are in no listing."""

    username_file: Path | None = setting(None, kinds.path())
    """Holds the user name; none: `git`, as token logins take any."""
    password_file: Path | None = setting(None, kinds.path())
    """Holds the password or token; a newline at its end is left out."""
    ca_file: Path | None = setting(None, kinds.path())
    """Certificates (PEM) that are believed instead of the system's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SshAuth:
    """Credentials for ssh.  Both are needed: a host key is never taken on trust."""

    key_file: Path | None = setting(None, kinds.path())
    """Private key without passphrase (a deploy key, read-only on the server)."""
    known_hosts_file: Path | None = setting(None, kinds.path())
    """Host keys as ssh-keyscan prints them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Auth:
    """How a source's server is convinced; none for open repositories."""

    https: HttpsAuth | None = None
    """For https URLs."""
    ssh: SshAuth | None = None
    """For ssh URLs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifySsh:
    """Who may sign."""

    allowed_signers_file: Path | None = setting(None, kinds.path())
    """As ssh-keygen(1), ALLOWED SIGNERS, has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verify:
    """Commits are used only when signed."""

    ssh: VerifySsh | None = None
    """By SSH keys."""
    mode: Literal["head"] = setting("head", kinds.word("head"))
    """What is verified: the commit that is used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitStatus:
    """Where each commit's rollout is told, beside the commit."""

    kind: Literal["github", "gitlab", "gitea"] = required(kinds.word("github", "gitlab", "gitea"))
    """Which API it speaks; Forgejo speaks Gitea's."""
    url: str = setting("", kinds.text(length_max=2048))
    """Of the API: `https://github.example.com/api/v3`.  Empty: that of github.com or gitlab.com."""
    repository: str = required(kinds.text(length_max=255))
    """`owner/name`; with GitLab also `group/sub/name` or the project's number."""
    token_file: Path | None = required(kinds.path())
    """Holds the token, which may write commit statuses and needs no more; read for each request."""
    ca_file: Path | None = setting(None, kinds.path())
    """Certificates (PEM) that are believed instead of the system's."""
    target_url: str = setting("", kinds.text(length_max=255))
    """Where a click on the status leads, such as a dashboard."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSettings:
    """One Git repository, ref and path."""

    name: str = required(kinds.label())
    """Stands in records, metrics and logs; renaming it makes its DaemonSets another's."""
    url: str = required(kinds.text(length_max=2048))
    """https, ssh, file or an absolute path; http and git to loopback only.  No credentials."""
    ref: GitRef = GitRef()
    """Which commit is followed."""
    path: str = setting("", kinds.text())
    """Folder (or file) that is read, with all folders in it; default: the root."""
    interval: timedelta = setting(timedelta(seconds=30), kinds.duration(least=SECOND, most=DAY))
    """From poll to poll, with 10 % jitter.  A poll without change costs some 20 ms."""
    timeout: timedelta = setting(
        timedelta(seconds=60), kinds.duration(least=SECOND, most=timedelta(hours=1))
    )
    """For one poll as a whole; then git is killed."""
    auth: Auth = Auth()
    """Credentials, by files."""
    verify: Verify | None = None
    """Signatures; none: commits are used unsigned."""
    status: CommitStatus | None = None
    """GitHub, GitLab or Gitea, told how far each commit came; none: nobody."""
    prune: bool = setting(default=False, kind=kinds.flag())
    """Whether DaemonSets that Git no longer has are deleted.  Off: a wrong path must not be an
    outage."""
    max_prune: int = setting(1, kinds.count(least=1, most=1000))
    """How many objects one turn may delete."""
    require_fast_forward: bool = setting(default=False, kind=kinds.flag())
    """Whether rewritten history is an error.  Off: a force-push is how some teams revert."""
    allow_empty: bool = setting(default=False, kind=kinds.flag())
    """Whether a path without manifests is taken as it is.  Off: it is most often a mistake."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A time in which rollouts may start; no window at all: always."""

    allow: str = required(kinds.text())
    """Five cron fields: a minute that matches is open."""
    timezone: str = setting("UTC", kinds.text())
    """IANA name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentry:
    """Where alerts go."""

    dsn_file: Path | None = setting(None, kinds.path())
    """Holds the DSN, which is a secret."""
    environment: str = setting("", kinds.text(length_max=64))
    """Sentry's environment: `prod`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notify:
    """A messenger that is told, through the package apprise (`dsgitops[notify]`)."""

    url_file: Path | None = required(kinds.path())
    """Holds the address as apprise writes it (`slack://…`), one a line; it is a secret."""
    on: tuple[Literal["failures", "recoveries"], ...] = setting(
        ("failures", "recoveries"), kinds.many(kinds.word("failures", "recoveries"))
    )
    """What is told there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alerts:
    """Who is told of failures besides log, Events and metrics."""

    sentry: Sentry | None = None
    """Sentry or what speaks its protocol."""
    notify: tuple[Notify, ...] = field(default=(), metadata={"each": Notify})
    """Messengers: Slack, mail and what else apprise knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Http:
    """The agent's own server: health, metrics, webhooks."""

    listen: str = setting("0.0.0.0:8080", kinds.listen())
    """`host:port`; probes come from the kubelet, so loopback is not enough."""
    webhook_secret_file: Path | None = setting(None, kinds.path())
    """Holds the webhooks' secret; none: webhooks are refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gates:
    """What Git may ask for."""

    privileged: Literal["any", "existing-only"] = setting("any", kinds.word("any", "existing-only"))
    """`existing-only` refuses content that adds privileged, host* or another serviceAccountName to
    a live object: who may push is not always who may become root on every node."""
    images: tuple[str, ...] = setting((), kinds.many(kinds.text()))
    """Patterns (`registry.example.com/*`) of which each image must match one; none: any image."""

    def gates(self) -> model.Gates:
        """Return it as the core has it."""
        return model.Gates(existing_only=self.privileged == "existing-only", images=self.images)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All of it, as the agent runs with it."""

    cluster: str = setting("", kinds.text(length_max=253))
    """The cluster's name in alerts and output; empty: the API server's host."""
    cache_dir: Path | None = setting(None, kinds.path())
    """Folder of the bare mirrors; can be lost at any time.  Default: /var/cache/dsgitops in a
    cluster, else $XDG_CACHE_HOME/dsgitops."""
    leader_election: Literal["auto", "on", "off"] = setting("auto", kinds.word("auto", "on", "off"))
    """`auto`: on in a cluster, where two agents may run for a moment; off on a laptop."""
    namespaces: tuple[str, ...] = setting((), kinds.many(kinds.label()))
    """Where DaemonSets are managed.  Empty means none, never all."""
    sources: tuple[SourceSettings, ...] = field(default=(), metadata={"each": SourceSettings})
    """What is followed."""
    rollout: Rollout = Rollout()
    """How rollouts go unless a profile or an annotation says otherwise."""
    profiles: Mapping[str, Rollout] = field(default=EMPTY, metadata={"values": Rollout})
    """By name: keys of `rollout:`, over those of `rollout:`; chosen by `dsgitops.io/profile`."""
    windows: tuple[Window, ...] = field(default=(), metadata={"each": Window})
    """When rollouts may start; none: always.  Rollbacks and reverts always may."""
    alerts: Alerts = Alerts()
    """Who else is told."""
    http: Http = Http()
    """The agent's own server."""
    policy_gates: Gates = field(default=Gates(), metadata={"key": "policy"})
    """What Git may ask for (`policy:` in the file)."""
    origins: Mapping[str, str] = field(default=EMPTY, compare=False, metadata={"key": ""})
    """Where each value that is no default came from: `rollout.bakeTime` to `file:12`."""

    def policy(self, source: str = "") -> Policy:
        """Return `rollout:` as the core has it, with the source's `prune`."""
        return self._policy(self.rollout, source)

    def profile_policies(self, source: str = "") -> dict[str, Policy]:
        """Return each profile, resolved over `rollout:`, with the source's `prune`."""
        return {name: self._policy(rollout, source) for name, rollout in self.profiles.items()}

    def _policy(self, rollout: Rollout, source: str) -> Policy:
        prunes = any(each.prune for each in self.sources if each.name == source)
        return replace(rollout.policy(prune=prunes), gates=self.policy_gates.gates())
