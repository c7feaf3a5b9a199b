"""One container on its way: pull, create, start, probes, the end, and back-off before the next.

The order of statuses and Events, the words, and the times between them are those of the real
kubelets in the recordings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dsgitops.sim import behaviours
from dsgitops.sim.objects import Object, dig
from dsgitops.sim.podstatus import ContainerState
from dsgitops.sim.probes import Kind, Prober

if TYPE_CHECKING:
    from collections.abc import Callable

    from dsgitops.sim.podworker import PodWorker
    from dsgitops.sim.site import Site

BACKOFF_FIRST = 10.0
"""Seconds before the second restart; the first is immediate."""
BACKOFF_MAX = 300.0
BACKOFF_FORGOTTEN = 600.0
"""A container that lived so long starts anew without back-off."""
RESYNC = (11.0, 15.0)
"""Seconds between two tries of a container that cannot be made."""

_TITLES: dict[Kind, str] = {
    "startup": "Startup",
    "readiness": "Readiness",
    "liveness": "Liveness",
}


class ContainerWorker:
    """Drives one container of a pod.

    Args:
        pod: Whose it is; tells when it may start and takes note of what becomes of it.
        spec: The entry of `containers` or `initContainers`.
        init: Whether it is an init container (a sidecar has restartPolicy Always).
    """

    def __init__(self, pod: PodWorker, spec: Object, *, init: bool) -> None:
        self.pod = pod
        self.spec = spec
        self.init = init
        self.sidecar = init and spec.get("restartPolicy") == "Always"
        self.site: Site = pod.site
        runs_out = init and not self.sidecar
        self.program = (behaviours.errand_of if runs_out else behaviours.program_of)(spec)
        self.born = 0.0
        self.seen = ContainerState(
            name=str(spec["name"]),
            image=str(spec.get("image", "")),
            restartable=self.sidecar or not init,
        )
        self._life = 0
        """Timers of an earlier life are void."""
        self._ran = False
        self._term: Object = {}
        """How the life before this one ended."""
        self._previous_end: float | None = None
        self._backoff = 0.0
        self._backoff_at = 0.0
        self._pulls = 0

    # ------------------------------------------------------------------ what the pod asks

    @property
    def age(self) -> float:
        """Seconds since the process started."""
        return self.site.clock.seconds - self.born

    def later(self, delay: float, act: Callable[[], None]) -> None:
        """Do something later, unless this life, the pod or the kubelet has ended by then."""
        self.site.after(delay, self.guarded(act), self.pod.kubelet.node)

    def guarded(self, act: Callable[[], None]) -> Callable[[], None]:
        """Return `act` made void by the end of this life."""
        life = self._life

        def if_alive() -> None:
            if life == self._life:
                act()

        return self.pod.guarded(if_alive)

    def void(self) -> None:
        """Forget all timers: the pod is going, or the kubelet lost track."""
        self._life += 1

    def resume(self, *, lost: bool) -> None:
        """Go on after the kubelet came back.

        Args:
            lost: The process died with the node.
        """
        if not self.seen.is_running:
            self.begin()
        elif lost:
            self._lose()
        else:
            self._watch()

    def stop(self) -> Object:
        """Return the last state of a container that is taken down with its pod."""
        self.void()
        if "terminated" in self.seen.state:
            return self.seen.state
        if self.seen.last and not self.seen.is_running:
            self.seen.state = self.seen.last
            return self.seen.state
        heeded = self.seen.is_running and self.program.heeds_sigterm
        code, reason = (0, "Completed") if heeded else (137, "Error")
        if not self._ran:
            reason = "ContainerStatusUnknown"
        self.seen.state = {"terminated": self._terminated(code, reason)}
        self.seen.ready = self.seen.started = False
        return self.seen.state

    # ------------------------------------------------------------------ on the way to start

    def begin(self) -> None:
        """Try to get it running: the image first."""
        image = self.seen.image
        if bad := behaviours.invalid_name(image):
            self._stuck("InvalidImageName", bad, self._tell_invalid_name)
        elif self.pod.has_image(image) and self._pull_policy() != "Always":
            present = f'Container image "{image}" already present on machine'
            self._say("Normal", "Pulled", f"{present} and can be accessed by the pod")
            self._configure()
        elif self._pull_policy() == "Never":
            why = f'Container image "{image}" is not present with pull policy of Never'
            self._stuck("ErrImageNeverPull", why, self._tell_never_pull)
        else:
            self._pull()

    def _pull_policy(self) -> str:
        given = self.spec.get("imagePullPolicy")
        if given:
            return str(given)
        return "Always" if behaviours.tag_of(self.seen.image) == "latest" else "IfNotPresent"

    def _pull(self) -> None:
        self._say("Normal", "Pulling", f'Pulling image "{self.seen.image}"')
        error = behaviours.pull_error(self.seen.image)
        if error is not None:
            self.later(self.site.between(0.01, 0.1), lambda: self._pull_failed(error))
            return
        took = self.site.between(0.2, 0.9)
        self.later(took, lambda: self._pulled(took))

    def _pulled(self, took: float) -> None:
        self._pulls = 0
        self.pod.keep_image(self.seen.image)
        waited = f"{took:.3f}s ({took:.3f}s including waiting)"
        message = f'Successfully pulled image "{self.seen.image}" in {waited}.'
        self._say("Normal", "Pulled", f"{message} Image size: 31457280 bytes.")
        self._configure()

    def _pull_failed(self, error: str) -> None:
        image = self.seen.image
        self._say("Warning", "Failed", f'Failed to pull image "{image}": {error}')
        self._say("Warning", "Failed", "Error: ErrImagePull")
        self._pulls += 1
        backoff = min(BACKOFF_FIRST * 2 ** (self._pulls - 1), BACKOFF_MAX)
        shown = self.site.between(0.4, 0.8) if self._pulls == 1 else self.site.between(*RESYNC)
        self.later(shown, lambda: self._show_pull_failed(error))
        # The status lags by one sync: ImagePullBackOff is written as the next try begins.
        self.later(backoff + self.site.between(0.5, 6.0), lambda: self._pull_again(error))

    def _show_pull_failed(self, error: str) -> None:
        self._say("Normal", "BackOff", f'Back-off pulling image "{self.seen.image}"')
        self._say("Warning", "Failed", "Error: ImagePullBackOff")
        self._wait("ErrImagePull", error)

    def _pull_again(self, error: str) -> None:
        message = f'Back-off pulling image "{self.seen.image}": ErrImagePull: {error}'
        self._wait("ImagePullBackOff", message)
        self._pull()

    def _configure(self) -> None:
        error = self.pod.config_error(self.spec)
        if error is not None:
            self._stuck("CreateContainerConfigError", error, lambda: self._tell_config(error))
            return
        self.later(self.site.between(0.01, 0.06), self._create)

    def _create(self) -> None:
        self._say("Normal", "Created", "Container created")
        command = str(next(iter(self.spec.get("command") or ()), ""))
        if behaviours.NONESUCH in command:
            self.later(self.site.between(0.06, 0.15), lambda: self._not_found(command))
        else:
            self.later(self.site.between(0.06, 0.15), self._start)

    # ------------------------------------------------------------------ cannot be made

    def _stuck(self, reason: str, message: str, tell: Callable[[], None]) -> None:
        """Try again and again; the status comes with the second try."""
        tell()
        if dig(self.seen.state, "waiting", "reason") == reason:
            self.later(self.site.between(*RESYNC), self.begin)
            return

        def show() -> None:
            tell()
            self._wait(reason, message)
            self.later(self.site.between(*RESYNC), self.begin)

        self.later(self.site.between(0.05, 0.75), show)

    def _tell_invalid_name(self) -> None:
        bad = behaviours.invalid_name(self.seen.image) or ""
        self._say("Warning", "InspectFailed", bad)
        self._say("Warning", "Failed", "Error: InvalidImageName")

    def _tell_never_pull(self) -> None:
        why = f'Container image "{self.seen.image}" is not present with pull policy of Never'
        self._say("Warning", "ErrImageNeverPull", why)
        self._say("Warning", "Failed", "Error: ErrImageNeverPull")

    def _tell_config(self, error: str) -> None:
        self._say("Warning", "Failed", f"Error: {error}")

    def _not_found(self, command: str) -> None:
        cause = f'exec: "{command}": stat {command}: no such file or directory: unknown'
        message = (
            "failed to create containerd task: failed to create shim task: OCI runtime create "
            f"failed: runc create failed: unable to start container process: {cause}"
        )
        self._say("Warning", "Failed", f"Error: {message}")
        term = self._terminated(128, "StartError") | {"message": message}
        self._failed_start("RunContainerError", message, term)

    # ------------------------------------------------------------------ running

    def _start(self) -> None:
        self._say("Normal", "Started", "Container started")
        self._begin_life()
        hook: Object = dig(self.spec, "lifecycle", "postStart", default={})
        if failure := behaviours.hook_fails(hook):
            self._say("Warning", "FailedPostStartHook", "PostStartHook failed")
            self._say("Normal", "Killing", "FailedPostStartHook")
            self.later(self._time_to_stop() + 0.1, lambda: self._hook_failed(hook, failure))
            return
        self.seen.state = {"running": {"startedAt": self.site.clock.stamp()}}
        self.seen.started = "startupProbe" not in self.spec
        self.seen.ready = self.seen.started and "readinessProbe" not in self.spec
        # The status follows the Event; a node that dies in between leaves no trace of the start.
        self.later(self.site.between(0.005, 0.03), self.pod.write)
        self.pod.started(self)
        self._watch()

    def _begin_life(self) -> None:
        self.void()
        self.born = self.site.clock.seconds
        if self._term:
            self.seen.restarts += 1
            self.seen.last = {"terminated": self._term}
        self._ran = True
        token = self.site.random.getrandbits(128)
        self.seen.container_id = f"containerd://{token:032x}"

    def _watch(self) -> None:
        """Ask the probes, and wait for the process's own end."""
        if self.program.exits_after is not None:
            self.later(self.program.exits_after - self.age, self._exit)
        if "startupProbe" in self.spec and not self.seen.started:
            Prober(self, "startup", self.spec["startupProbe"]).start()
        else:
            self._probe()

    def _probe(self) -> None:
        if "readinessProbe" in self.spec:
            Prober(self, "readiness", self.spec["readinessProbe"]).start()
        if "livenessProbe" in self.spec:
            Prober(self, "liveness", self.spec["livenessProbe"]).start()

    def passed(self, kind: Kind) -> None:
        """Take note that a probe reached its successThreshold."""
        if kind == "startup":
            self.seen.started = True
            self.seen.ready = "readinessProbe" not in self.spec
            self.pod.write()
            self.pod.started(self)
            self._probe()
        elif kind == "readiness" and not self.seen.ready:
            self.seen.ready = True
            self.pod.write()

    def unhealthy(self, kind: Kind, failure: str) -> None:
        """Tell of one failed probe."""
        self._say("Warning", "Unhealthy", f"{_TITLES[kind]} probe failed: {failure}")

    def failed(self, kind: Kind) -> None:
        """Take note that a probe reached its failureThreshold: not ready, or killed."""
        if kind == "readiness":
            if self.seen.ready:
                self.seen.ready = False
                self.pod.write()
            return
        message = f"Container {self.seen.name} failed {kind} probe, will be restarted"
        self._say("Normal", "Killing", message)
        self.void()
        self.later(self._time_to_stop(), self._killed)

    def _time_to_stop(self) -> float:
        if self.program.heeds_sigterm:
            return self.site.between(0.1, 0.4)
        return self.pod.grace + 0.05

    # ------------------------------------------------------------------ the end of a life

    def _exit(self) -> None:
        reason = "OOMKilled" if self.program.runs_out_of_memory else "Error"
        code = self.program.exit_code
        self._ended(self._terminated(code, reason if code else "Completed"), by_probe=False)

    def _killed(self) -> None:
        code, reason = (0, "Completed") if self.program.heeds_sigterm else (137, "Error")
        self._ended(self._terminated(code, reason), by_probe=True)

    def _terminated(self, code: int, reason: str) -> Object:
        clock = self.site.clock
        return {
            "exitCode": code,
            "reason": reason,
            "startedAt": clock.stamp_at(self.born) if self._ran else None,
            "finishedAt": clock.stamp() if self._ran else None,
            "containerID": self.seen.container_id,
        }

    def _ended(self, term: Object, *, by_probe: bool) -> None:
        self.void()
        self.seen.started = False
        if self.init and not self.sidecar and term["exitCode"] == 0:
            self.seen.state = {"terminated": term}
            self.seen.ready = True
            self.pod.write()
            self.pod.completed(self)
            return
        self.seen.started = self.seen.ready = False
        self._term = term
        wait = self._wait_before_restart(by_probe=by_probe)
        if wait is None:
            # The first end is often invisible: the next life begins before the status is written.
            if not by_probe and self.site.random.random() < 0.4:
                self.seen.state = {"terminated": term}
                self.pod.write()
            self.later(self.site.between(0.05, 0.3), self.begin)
            return
        self._back_off(wait)

    def _wait_before_restart(self, *, by_probe: bool) -> float | None:
        """Return seconds of back-off, None for a restart at once.

        The kubelet counts from the last life that it *knows* has ended: for a process that it
        killed itself that is the one before, which is why long lives restart at once more often.
        """
        now = self.site.clock.seconds
        since = self._previous_end if by_probe else now
        self._previous_end = now
        if since is None:
            return None
        if self._backoff and since - self._backoff_at > BACKOFF_FORGOTTEN:
            self._backoff = 0.0
        if not self._backoff:
            self._backoff, self._backoff_at = BACKOFF_FIRST, since
            return None
        if now - since >= self._backoff:
            self._lengthen_backoff()
            return None
        return self._backoff + self.site.between(0.5, 4.0)

    def _lengthen_backoff(self) -> None:
        self._backoff = min(self._backoff * 2, BACKOFF_MAX)
        self._backoff_at = self.site.clock.seconds

    def _back_off(self, wait: float) -> None:
        self._tell_backoff()
        self.seen.state = {"terminated": self._term}
        self.pod.write()
        shown = self.site.between(0.5, 1.8)
        if self.site.random.random() < 0.5:
            # The status stays `terminated`: CrashLoopBackOff shows only just before the restart.
            shown = wait - self.site.between(0.05, 0.2)
        self.later(shown, self._show_backoff)
        self.later(wait, self._begin_after_backoff)

    def _show_backoff(self) -> None:
        self._tell_backoff()
        pod = self.pod.full_name
        name = self.seen.name
        message = f"back-off {_go_duration(self._backoff)} restarting failed"
        self.seen.last = {"terminated": self._term}
        self._wait("CrashLoopBackOff", f"{message} container={name} pod={pod}")

    def _begin_after_backoff(self) -> None:
        self._lengthen_backoff()
        self.begin()

    def _tell_backoff(self) -> None:
        message = f"Back-off restarting failed container {self.seen.name} in pod"
        self._say("Warning", "BackOff", f"{message} {self.pod.full_name}")

    # ------------------------------------------------------------------ failed starts

    def _hook_failed(self, hook: Object, failure: str) -> None:
        command = " ".join(dig(hook, "exec", "command", default=()))
        where = f'Container "{self.seen.name}" in Pod "{self.pod.full_name}"'
        message = (
            f"Exec lifecycle hook ([{command}]) for {where} failed - error: command "
            f"'{command}' {failure}, message: \"\""
        )
        self._failed_start("PostStartHookError", message, self._terminated(137, "Error"))

    def _failed_start(self, reason: str, message: str, term: Object) -> None:
        """Show a start that failed; the second one is followed by CrashLoopBackOff."""
        if reason == "RunContainerError":
            self._begin_life()
        self.void()
        self._term = term
        wait = self._wait_before_restart(by_probe=False)
        self.seen.last = {"terminated": term}
        self._wait(reason, message)
        if wait is None:
            self.later(self.site.between(0.1, 0.3), self.begin)
            return
        self._tell_backoff()
        self.later(self.site.between(0.9, 1.3), self._show_backoff)
        self.later(wait, self._begin_after_backoff)

    def _lose(self) -> None:
        """Take note that the process died with its node: no crash of its own."""
        self.void()
        self._term = self._terminated(255, "Unknown")
        self.seen.state = {"terminated": self._term}
        self.seen.ready = self.seen.started = False
        self.pod.write()
        self.later(self.site.between(0.3, 0.8), self.begin)

    # ------------------------------------------------------------------ telling

    def _wait(self, reason: str, message: str) -> None:
        self.seen.state = {"waiting": {"reason": reason, "message": message}}
        self.pod.write()

    def _say(self, kind: str, reason: str, message: str) -> None:
        place = "initContainers" if self.init else "containers"
        self.pod.say(kind, reason, message, path=f"spec.{place}{{{self.seen.name}}}")


def _go_duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
