"""Trouble that both clusters can have: restarts, clients without rights or patience, admission."""

from __future__ import annotations

import itertools
import json
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from contract.minors import ADMISSION_VERSION

from dsgitops.adapters.kubernetes.transport import connect
from dsgitops.sim.access import Account, Rule
from dsgitops.sim.api import ApiServer
from dsgitops.sim.faults import Fault, Faults, Kind
from dsgitops.sim.transport import SimTransport

if TYPE_CHECKING:
    from pathlib import Path

    from cluster.control_plane import ControlPlane
    from contract.client import Answer, Cluster

    from dsgitops.sim.world import World

READS = ("get", "list", "watch")
_AT_ONCE = 12
_numbers = itertools.count(1)
ACCOUNT = "reader"
_ADMISSION = f"/apis/admissionregistration.k8s.io/{ADMISSION_VERSION}"
_RBAC = "/apis/rbac.authorization.k8s.io/v1"
_FLOWS = "/apis/flowcontrol.apiserver.k8s.io/v1"


@dataclass
class Simulated:
    """A world, and the transport of its one client."""

    world: World
    cluster: Cluster
    faults: Faults
    injected: str = ""

    def kill(self) -> None:
        """Take the API server away."""
        self.faults.add(Fault(kind=Kind.DOWN))
        self.world.advance(1)

    def start(self) -> None:
        """Bring it back."""
        self.faults.faults.clear()

    def forget(self) -> None:
        """Forget all versions until now."""
        self.world.store.compact(self.world.store.version)

    @contextmanager
    def hanging(self):
        """Let nothing that is written be answered in time."""
        self.faults.add(Fault(kind=Kind.TIMEOUT, methods=("PATCH",)))
        yield
        self.faults.faults.clear()

    def reader(self) -> Cluster:
        """Return the cluster as an account sees it that may only read DaemonSets."""
        return self.account(*READS)

    def account(self, *verbs: str) -> Cluster:
        """Return the cluster as an account sees it that has these verbs on DaemonSets."""
        where = self.cluster.namespace
        rule = Rule(verbs=verbs, groups=("apps",), resources=("daemonsets",), namespace=where)
        name = f"system:serviceaccount:{where}:{ACCOUNT}"
        return self._other(Account(name=name, rules=[rule]))

    def stranger(self) -> Cluster:
        """Return the cluster as a client with a wrong token sees it."""
        return self._other(Account(token="right"))

    def _other(self, account: Account, faults: Faults | None = None) -> Cluster:
        api = ApiServer(self.world.store, self.world.clock, account)
        return replace(self.cluster, transport=SimTransport(api, faults))

    def throttled(self) -> Answer:
        """Return what a client is answered for whom the server has no time."""
        busy = self._other(Account(), Faults(faults=[Fault(kind=Kind.THROTTLED)]))
        return busy.call("GET", busy.path())

    @contextmanager
    def injecting(self, value: str):
        """Have admission write a subdomain into every DaemonSet's template."""

        def hook(_verb, resource, obj, _old):
            if resource != "daemonsets":
                return obj
            spec, template = obj["spec"], obj["spec"]["template"]
            pod = template["spec"] | {"subdomain": value}
            return obj | {"spec": spec | {"template": template | {"spec": pod}}}

        self.world.api.admission.append(hook)
        yield
        self.world.api.admission.remove(hook)


def simulated(world: World, cluster: Cluster) -> Simulated:
    """Return the trouble of a simulated cluster, whose client then goes through its faults."""
    faults = Faults()
    transport = SimTransport(world.api, faults)
    return Simulated(world, replace(cluster, transport=transport), faults)


@dataclass
class Real:
    """A real control plane that nobody else uses."""

    plane: ControlPlane
    cluster: Cluster
    folder: Path

    def kill(self) -> None:
        """Kill the API server's process."""
        self.plane.parts["apiserver"].kill()

    def start(self) -> None:
        """Start it again, and wait until it is ready."""
        self.plane.parts["apiserver"].start()
        self.plane.wait_for_api()

    def forget(self) -> None:
        """Compact etcd; a server that started just now has no older cache either."""
        self.plane.forget()

    @contextmanager
    def hanging(self):
        """Stop etcd for the block: no write is answered in time."""
        process = self.plane.parts["etcd"].process
        process.send_signal(signal.SIGSTOP)
        yield
        process.send_signal(signal.SIGCONT)

    def reader(self) -> Cluster:
        """Return the cluster as a ServiceAccount sees it that may only read DaemonSets."""
        return self.account(*READS)

    def account(self, *verbs: str) -> Cluster:
        """Return the cluster as a ServiceAccount sees it that has these verbs on DaemonSets."""
        namespace = self.cluster.namespace
        rule = {"apiGroups": ["apps"], "resources": ["daemonsets"], "verbs": list(verbs)}
        role = {"name": ACCOUNT, "namespace": namespace}
        self._post(f"{_RBAC}/namespaces/{namespace}/roles", "Role", role, rules=[rule])
        self._post(
            f"{_RBAC}/namespaces/{namespace}/rolebindings",
            "RoleBinding",
            role,
            roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": ACCOUNT},
            subjects=[{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": namespace}],
        )
        seen = self._with_token(self._token(ACCOUNT))
        assert self.cluster.settle(lambda: seen.call("GET", seen.path("any")).status == 404)
        return seen

    def stranger(self) -> Cluster:
        """Return the cluster as a client with a wrong token sees it."""
        return self._with_token("wrong")

    def throttled(self) -> Answer:
        """Return what a ServiceAccount is answered whose level of priority has one seat alone.

        It asks many things at once, until one of them finds the seat taken.
        """
        namespace = self.cluster.namespace
        limited = {
            "nominalConcurrencyShares": 0,
            "borrowingLimitPercent": 0,
            "limitResponse": {"type": "Reject"},
        }
        name = {"name": namespace}
        level = {"type": "Limited", "limited": limited}
        self._post(
            f"{_FLOWS}/prioritylevelconfigurations",
            "PriorityLevelConfiguration",
            name,
            spec=level,
        )
        account = {"name": "busy", "namespace": namespace}
        rule = {
            "subjects": [{"kind": "ServiceAccount", "serviceAccount": account}],
            "resourceRules": [
                {
                    "verbs": ["*"],
                    "apiGroups": ["*"],
                    "resources": ["*"],
                    "namespaces": ["*"],
                    "clusterScope": True,
                }
            ],
        }
        schema = {
            "priorityLevelConfiguration": name,
            "matchingPrecedence": 2,
            "rules": [rule],
        }
        self._post(f"{_FLOWS}/flowschemas", "FlowSchema", name, spec=schema)
        token, refused = self._token("busy"), []

        def ask(_number: int) -> None:
            client = self._with_token(token)
            for _ in range(20):
                if not refused and (answer := client.call("GET", client.path())).status == 429:
                    refused.append(answer)
            client.transport.close()

        with ThreadPoolExecutor(_AT_ONCE) as crowd:
            assert self.cluster.settle(lambda: bool([*crowd.map(ask, range(_AT_ONCE))] and refused))
        return refused[0]

    @contextmanager
    def injecting(self, value: str):
        """Have a policy write a subdomain into every DaemonSet's template of the namespace."""
        namespace = self.cluster.namespace
        name = f"inject-{namespace}-{value}"
        self._post(f"{_ADMISSION}/mutatingadmissionpolicies", "MutatingAdmissionPolicy",
                   {"name": name}, spec=_policy(value))  # fmt: skip
        selected = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
        spec = {"policyName": name, "matchResources": {"namespaceSelector": selected}}
        path = f"{_ADMISSION}/mutatingadmissionpolicybindings"
        self._post(path, "MutatingAdmissionPolicyBinding", {"name": name}, spec=spec)
        assert self.cluster.settle(lambda: self._injects(value))
        yield
        self.plane.call("DELETE", f"{path}/{name}")
        self.plane.call("DELETE", f"{_ADMISSION}/mutatingadmissionpolicies/{name}")
        assert self.cluster.settle(lambda: not self._injects(value))

    def _injects(self, value: str) -> bool:
        from contract.client import manifest  # noqa: PLC0415

        probe = self.cluster.create(manifest("probe"), dryRun="All").body
        return probe["spec"]["template"]["spec"].get("subdomain") == value

    def _post(self, path: str, kind: str, metadata: dict[str, str], **content: object):
        group = path.removeprefix("/apis/").split("/")
        version = "/".join(group[:2]) if path.startswith("/apis/") else "v1"
        body = {"apiVersion": version, "kind": kind, "metadata": metadata, **content}
        return self.plane.call("POST", path, body)

    def _token(self, name: str) -> str:
        namespace = self.cluster.namespace
        accounts = f"/api/v1/namespaces/{namespace}/serviceaccounts"
        self._post(accounts, "ServiceAccount", {"name": name})
        asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        answer = self.plane.call("POST", f"{accounts}/{name}/token", asked)
        return answer["status"]["token"]

    def _with_token(self, token: str) -> Cluster:
        config = json.loads(self.plane.kubeconfig.read_text())
        config["users"][0]["user"] = {"token": token}
        path = self.folder / f"kubeconfig-{next(_numbers)}.yaml"
        path.write_text(json.dumps(config))
        return replace(self.cluster, transport=connect(str(path)))


def _policy(value: str) -> dict[str, object]:
    rule = {
        "apiGroups": ["apps"],
        "apiVersions": ["v1"],
        "operations": ["CREATE", "UPDATE"],
        "resources": ["daemonsets"],
    }
    pod = f'Object.spec.template.spec{{subdomain: "{value}"}}'
    template = f"Object.spec.template{{spec: {pod}}}"
    expression = f"Object{{spec: Object.spec{{template: {template}}}}}"
    return {
        "matchConstraints": {"resourceRules": [rule]},
        "failurePolicy": "Fail",
        "reinvocationPolicy": "Never",
        "mutations": [
            {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}
        ],
    }
