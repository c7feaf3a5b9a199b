"""The token of the agent's account is replaced while it works, and the old one is worth nothing.

The agent runs in a mount namespace of its own, with the account where a kubelet would put it; the
kubelet's own renewal is in `test_soak.py`.
"""

from __future__ import annotations

import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from adapters.sink import Sink
from cluster import audit, real_node, shipped
from cluster.team import NODES, Team, serving

if TYPE_CHECKING:
    from pathlib import Path

NEW, NEWER = "registry.example/agent:2", "registry.example/agent:3"
ENTER = """\
mount -t tmpfs tmpfs /run
place=/run/secrets/kubernetes.io/serviceaccount
mkdir -p "$place"
mount --bind "$0" "$place"
exec "$@"
"""


@dataclass
class Inside(Team):
    """A team whose agent finds its cluster as in a pod: by variables, and by its account's files."""

    @property
    def account(self) -> Path:
        return self.folder / "account"

    def _command(self):
        command = super()._command()
        named = command.index("--kubeconfig")
        del command[named : named + 2]
        return ["unshare", "--mount", "sh", "-ec", ENTER, str(self.account), *command]

    def _environment(self):
        host, _, port = self.plane.url.removeprefix("https://").rpartition(":")
        return super()._environment() | {
            "KUBERNETES_SERVICE_HOST": host,
            "KUBERNETES_SERVICE_PORT": port,
        }

    def take_token(self, secret: str) -> str:
        """Put a new token, which is worth something as long as a Secret is there; return it."""
        core = f"/api/v1/namespaces/{self.namespace}"
        made = self.plane.call("POST", f"{core}/secrets", {"metadata": {"name": secret}})
        bound = {
            "kind": "Secret",
            "apiVersion": "v1",
            "name": secret,
            "uid": made["metadata"]["uid"],
        }
        asked = {"spec": {"expirationSeconds": 3600, "boundObjectRef": bound}}
        answer = self.plane.call("POST", f"{core}/serviceaccounts/dsgitops/token", asked)
        token = answer["status"]["token"]
        (self.account / "token.new").write_text(token)
        (self.account / "token.new").replace(self.account / "token")
        return token

    def is_refused(self, token: str) -> bool:
        """Whether the API server no longer knows whose it is; it remembers for some seconds."""
        headers = {"Authorization": f"Bearer {token}", "User-Agent": "harness"}
        asked = urllib.request.Request(f"{self.plane.url}/version", headers=headers)
        trusting = ssl._create_unverified_context()
        try:
            urllib.request.urlopen(asked, timeout=10, context=trusting).close()
        except urllib.error.HTTPError as error:
            return error.code == 401
        return False

    def used(self, since: datetime) -> dict[str, set[str]]:
        """Return the verbs that were answered well since, by the token's id."""
        found: dict[str, set[str]] = {}
        for each in audit.told_by(self.plane, audit.account(self.namespace, "dsgitops"), since):
            if each.code < 300 and each.begun >= since:
                found.setdefault(each.token, set()).add(each.verb)
        return found


@pytest.fixture
def team(own_plane, tmp_path):
    """On five fake nodes, with the shipped rights."""
    if lacking := real_node.missing():
        pytest.skip(f"a mount namespace: {lacking}")
    for name in own_plane.add_nodes(NODES):
        own_plane.label_node(name, pool="team")
    made = Inside(own_plane, own_plane.make_namespace("inside"), tmp_path)
    shipped.grant(made, shipped.rendered(made, shipped.own_namespace(made, tmp_path / "mine")))
    made.account.mkdir()
    authority = own_plane.folder / "certs-apiserver" / "apiserver.crt"
    (made.account / "ca.crt").write_text(authority.read_text())
    (made.account / "namespace").write_text(made.namespace)
    with serving(made):
        yield made


@pytest.fixture
def sentry(team):
    made = Sink()
    (team.folder / "dsn").write_text(made.dsn)
    (team.folder / "dsn").chmod(0o600)
    team.settings = {"alerts": {"sentry": {"dsnFile": str(team.folder / "dsn")}}}
    yield made
    made.close()


def test_an_agent_goes_on_with_the_new_token_when_the_old_one_is_refused(team, sentry, prove):
    first = team.take_token("first")
    good = team.commit(team.manifest(), message="good")
    with team.agent() as agent:
        team.wait_until_good(good)

        said = len(agent.lines)
        team.take_token("second")
        team.kubectl("delete", "secret", "first")
        team.wait(lambda: team.is_refused(first), "the first token is refused")
        since = datetime.now(UTC)
        team.wait_until_good(team.commit(team.manifest(image=NEW), message="new"))
        asked_again = audit.refused(team.plane, audit.agent("dsgitops"))
        (second,) = team.used(since)
        loud = [each for each in agent.lines[said:] if each["level"] not in {"info", "debug"}]

        since = datetime.now(UTC)
        team.plane.parts["apiserver"].kill()  # no watch outlives it
        team.plane.parts["apiserver"].start()
        team.plane.wait_for_api()
        team.wait_until_good(team.commit(team.manifest(image=NEWER), message="newer"))

    assert asked_again, "the old one was tried once more"
    assert loud == []
    assert sentry.events() == []
    assert {"watch", "patch", "delete", "update"} <= team.used(since)[second]
    assert list(team.used(since)) == [second]
    prove(
        scenario="the account's token is replaced and the old one is refused at once",
        nodes=f"{NODES} kwok",
        outcome=f"RolloutFinished, twice; {asked_again} requests were refused and asked again,"
        " watches included; no alert",
        writes=len(team.writes("agent")),
        restarted=f"{2 * NODES}",
    )
