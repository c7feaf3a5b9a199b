"""One pod on its node: volumes, sandbox, containers in order, and the way down."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dsgitops.sim import behaviours, companions
from dsgitops.sim.container import ContainerWorker
from dsgitops.sim.objects import (
    Object,
    dig,
    each,
    is_terminating,
    uid_of,
    with_metadata,
)
from dsgitops.sim.podstatus import PodState, compose

if TYPE_CHECKING:
    from collections.abc import Callable

    from dsgitops.sim.kubelet import Kubelet
    from dsgitops.sim.site import Site

MOUNT_RETRY_FIRST = 0.5
MOUNT_RETRY_MAX = 122.0
"""Seconds between two tries to mount: doubling."""
EVICTION_AFTER = (35.0, 45.0)
"""Seconds until the eviction manager has measured an emptyDir that is too full."""
DEFAULT_GRACE = 30


class PodWorker:
    """What a kubelet does about one pod.

    Args:
        kubelet: On whose node it is.
        pod: As bound.
    """

    def __init__(self, kubelet: Kubelet, pod: Object) -> None:
        self.kubelet = kubelet
        self.site: Site = kubelet.site
        self.pod = pod
        """As last seen; the spec never changes."""
        self.uid = uid_of(pod)
        self.inits = self._containers("initContainers", init=True)
        self.mains = self._containers("containers", init=False)
        self.seen = PodState(
            host_ip=kubelet.host_ip,
            started_at=self.site.clock.stamp(),
            inits=[it.seen for it in self.inits],
            mains=[it.seen for it in self.mains],
        )
        self.leaving = False
        self._stage = 0
        self._mount_wait = MOUNT_RETRY_FIRST
        for container in (*self.inits, *self.mains):
            if self.inits:
                container.seen.state = {"waiting": {"reason": "PodInitializing"}}

    def _containers(self, field: str, *, init: bool) -> list[ContainerWorker]:
        return [ContainerWorker(self, it, init=init) for it in each(self.pod, "spec", field)]

    # ------------------------------------------------------------------ for its containers

    @property
    def grace(self) -> float:
        """Seconds that it has to stop."""
        given = self.pod["metadata"].get("deletionGracePeriodSeconds")
        if given is None:
            given = self.pod["spec"].get("terminationGracePeriodSeconds")
        return float(DEFAULT_GRACE if given is None else given)

    @property
    def full_name(self) -> str:
        """Return `name_namespace(uid)`, as kubelets write it."""
        metadata = self.pod["metadata"]
        return f"{metadata['name']}_{metadata['namespace']}({self.uid})"

    def guarded(self, act: Callable[[], None]) -> Callable[[], None]:
        """Return `act` made void by the pod's going, or by the kubelet's."""
        stage, era = self._stage, self.kubelet.era

        def if_current() -> None:
            if self._stage == stage and self.kubelet.era == era:
                act()

        return if_current

    def later(self, delay: float, act: Callable[[], None]) -> None:
        """Do something later, unless the pod or its kubelet is gone by then."""
        self.site.after(delay, self.guarded(act), self.kubelet.node)

    def has_image(self, image: str) -> bool:
        """Whether the node has an image."""
        return behaviours.is_on_every_node(image) or image in self.kubelet.images

    def keep_image(self, image: str) -> None:
        """Take note that the node has pulled an image."""
        self.kubelet.images.add(image)

    def config_error(self, container: Object) -> str | None:
        """Return why a container cannot be made."""
        return companions.config_error(container, self.pod, self._companions())

    def say(self, kind: str, reason: str, message: str, *, path: str = "") -> None:
        """Record an Event about the pod."""
        self.kubelet.recorder.say(self.pod, kind, reason, message, path=path)

    def write(self) -> None:
        """Bring the API's status to what is seen here."""
        metadata = self.pod["metadata"]
        found = self.site.store.get("pods", metadata["namespace"], metadata["name"])
        if found is None or uid_of(found) != self.uid:
            return
        status = compose(found, self.seen, self.site.clock.stamp())
        self.pod = self.site.store.update("pods", {**found, "status": status})

    def started(self, container: ContainerWorker) -> None:
        """Go on with the next init container, once a sidecar has started."""
        if container.sidecar and container.seen.started:
            self.completed(container)

    def completed(self, container: ContainerWorker) -> None:
        """Go on after an init container: with the next, or with the main ones."""
        after = self.inits.index(container) + 1
        if after < len(self.inits):
            if self.inits[after].seen.container_id:
                return
            self.inits[after].begin()
        elif not any(it.seen.container_id for it in self.mains):
            self._begin_mains()

    # ------------------------------------------------------------------ on the way up

    def start(self) -> None:
        """Begin with the pod."""
        self.write()
        self._mount()

    def _companions(self) -> companions.Companions:
        namespace = self.pod["metadata"]["namespace"]

        def find(resource: str, name: str) -> Object | None:
            return self.site.store.get(resource, namespace, name)

        return companions.Companions(find, namespace)

    def _mount(self) -> None:
        found = self._companions()
        failed = False
        for volume in each(self.pod, "spec", "volumes"):
            if message := found.lack_volume(volume):
                failed = True
                set_up = f'MountVolume.SetUp failed for volume "{volume["name"]}" : {message}'
                self.say("Warning", "FailedMount", set_up)
        if not failed:
            self.later(self.site.between(0.3, 0.8), self._set_up_network)
            return
        self.later(self._mount_wait, self._mount)
        self._mount_wait = min(self._mount_wait * 2, MOUNT_RETRY_MAX)

    def _set_up_network(self) -> None:
        if not self.kubelet.sets_up_network:
            sandbox = f"{self.site.random.getrandbits(256):064x}"
            cause = f'failed to setup network for sandbox "{sandbox}": plugin type="bridge"'
            message = f"rpc error: code = Unknown desc = {cause} failed (add)"
            self.say(
                "Warning", "FailedCreatePodSandBox", f"Failed to create pod sandbox: {message}"
            )
            self.later(self.site.between(11.0, 15.0), self._set_up_network)
            return
        self.seen.sandbox = True
        self.seen.ip = self._address()
        self.write()
        self._watch_volumes()
        if self.inits:
            self.inits[0].begin()
        else:
            self._begin_mains()

    def _address(self) -> str:
        if dig(self.pod, "spec", "hostNetwork"):
            return self.kubelet.host_ip
        return self.kubelet.next_address()

    def _begin_mains(self) -> None:
        for number, container in enumerate(self.mains):
            if number == 0:
                container.begin()
            else:
                container.later(0.03 * number, container.begin)

    # ------------------------------------------------------------------ evicted by its kubelet

    def _watch_volumes(self) -> None:
        message = companions.overfilled(self.pod)
        if message is not None:
            self.later(self.site.between(*EVICTION_AFTER), lambda: self._evict(message))

    def _evict(self, message: str) -> None:
        self.say("Warning", "Evicted", message)
        self._tell_killing()
        self._stage += 1
        self.later(min(self.grace, 2.0) + 0.1, lambda: self._evicted(message))

    def _evicted(self, message: str) -> None:
        self._finish("Failed", "Evicted", message)

    # ------------------------------------------------------------------ on the way down

    def terminate(self) -> None:
        """Stop it: hooks, SIGTERM, and after the grace period SIGKILL."""
        if self.leaving:
            return
        self.leaving = True
        self._stage += 1
        if self.seen.phase:
            self.later(self.site.between(0.005, 0.02), self._remove)
            return
        self._tell_killing()
        self.write()
        self.later(self._time_to_stop(), self._take_down)

    def _tell_killing(self) -> None:
        for container in (*self.inits, *self.mains):
            if container.seen.is_running:
                place = "initContainers" if container.init else "containers"
                path = f"spec.{place}{{{container.seen.name}}}"
                self.say(
                    "Normal", "Killing", f"Stopping container {container.seen.name}", path=path
                )

    def _time_to_stop(self) -> float:
        longest = 0.05
        for container in self.mains:
            if not container.seen.is_running:
                continue
            hook: Object = dig(container.spec, "lifecycle", "preStop", default={})
            heeds = container.program.heeds_sigterm
            own = self.site.between(0.2, 0.9) if heeds else self.grace
            longest = max(longest, behaviours.hook_lasts(hook) + own)
        return min(longest, self.grace) + self.site.between(0.05, 0.3)

    def _take_down(self) -> None:
        if not self.kubelet.takes_down_network:
            self._stuck_in_network()
            return
        self._last_probes()
        states = [it.stop() for it in (*self.inits, *self.mains)]
        good = all(dig(it, "terminated", "exitCode") == 0 for it in states)
        self._finish("Succeeded" if good else "Failed")
        self.later(self.site.between(0.1, 0.9), self._remove)

    def _last_probes(self) -> None:
        """Now and then a probe meets a process that has just gone: noise, as real kubelets make."""
        for container in self.mains:
            probe: Object | None = container.spec.get("readinessProbe")
            if probe is None or not container.seen.is_running or self.site.random.random() > 0.3:
                continue
            asked = behaviours.Asked(
                container=container.spec, program=behaviours.GONE, age=0.0, ip=self.seen.ip
            )
            if failure := behaviours.probe_failure(probe, asked):
                container.unhealthy("readiness", failure)

    def _stuck_in_network(self) -> None:
        """Containers are gone, the sandbox stays: the pod is Terminating far beyond its grace."""
        for container in (*self.inits, *self.mains):
            container.stop()
        self.seen.sandbox = False
        cause = "rpc error: code = Unknown desc = failed to destroy network for sandbox"
        message = f'failed to "KillPodSandbox" for "{self.uid}" with KillPodSandboxError: "{cause}"'
        self.say("Warning", "FailedKillPod", f"error killing pod: {message}")
        self.write()
        self.later(self.site.between(10.0, 14.0), self._take_down)

    def _finish(self, phase: str, reason: str = "", message: str = "") -> None:
        for container in (*self.inits, *self.mains):
            container.stop()
        self.seen.sandbox = False
        self.seen.phase, self.seen.reason, self.seen.message = phase, reason, message
        self.write()

    def _remove(self) -> None:
        metadata = self.pod["metadata"]
        key = (metadata["namespace"], metadata["name"])
        found = self.site.store.get("pods", *key)
        if found is None or uid_of(found) != self.uid:
            return
        stamp = self.site.clock.stamp()
        final = {"deletionTimestamp": stamp, "deletionGracePeriodSeconds": 0}
        self.site.store.update("pods", with_metadata(found, **final))
        self.site.store.remove("pods", *key)

    # ------------------------------------------------------------------ the kubelet comes and goes

    def resume(self, *, lost: bool) -> None:
        """Go on after the kubelet came back.

        Args:
            lost: The node itself had died, and all processes with it.
        """
        if is_terminating(self.pod) or self.seen.phase:
            self.leaving = False
            self._tell_unregistered()
            self.terminate()
            return
        if not self.seen.sandbox:
            self._mount()
            return
        if lost:
            self.seen.sandbox = False
            self.later(self.site.between(0.2, 0.5), self._renew_sandbox)
        self._resume_containers(lost=lost)
        self.write()

    def _renew_sandbox(self) -> None:
        changed = "Pod sandbox changed, it will be killed and re-created."
        self.say("Normal", "SandboxChanged", changed)
        self.seen.sandbox = True
        self.seen.ip = self._address()
        self.write()

    def _resume_containers(self, *, lost: bool) -> None:
        for container in self.inits:
            if container.seen.container_id and (container.sidecar or container.seen.is_running):
                container.resume(lost=lost)
        for container in self.mains:
            if container.seen.container_id or not self.inits:
                container.resume(lost=lost)

    def _tell_unregistered(self) -> None:
        """Make the noise that kubelets make about pods that were leaving as they came back."""
        namespace = self.pod["metadata"]["namespace"]
        missing = f'object "{namespace}"/"kube-root-ca.crt" not registered'
        for volume in each(self.pod, "spec", "volumes"):
            if str(volume["name"]).startswith("kube-api-access-"):
                set_up = f'MountVolume.SetUp failed for volume "{volume["name"]}" : {missing}'
                self.say("Warning", "FailedMount", set_up)
