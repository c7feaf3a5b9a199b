r"""The language of the transcripts: blocks of commands, `----`, and what is seen of them.

nodes 6 [seed=2]            first line: how many nodes; else 4
policy rollback=manual …    first lines: fields of the settings' `rollout:` and `policy:`
alerts                      first lines: people are told; then `ALERT level title` and its text
alerts down | alerts up     whether they can be reached
given image=1 image=2       commits, each rolled out to its end, without a word
push [agent] image=3 …      a commit (see `manifests.manifest`); `push a image=2 b image=2` two
push-file PATH TEXT         a commit of any file; `\n` is a line break
remove [agent]              a commit without it
revert                      a commit of what was there before the last one
git down | git up           whether the Git server answers
run 60                      so many virtual seconds; prints what the agent said
run until Phase             until the DaemonSet is in that phase, at most 900 s
pods [agent]                its pods, and how many are as they were when last asked
show [agent]                phase, strategy, quarantine and last good of the live object
quiet 600                   so many seconds, in which nothing may be written
restart-agent               the process dies; a new one starts with an empty memory
stop-agent 30               it starts after so many seconds
kill-node NODE, kill-kubelet NODE, revive NODE, add-node [k=v], remove-node NODE, cordon NODE,
label-node NODE k=v, silence-kubelets 60, break-backend 5, break-network NODE, quota 0
people and their tools: kubectl undo [--to N] | set-image TAG | set-env K=V | label k=v |
annotate k=v | delete [--orphan] | delete-pods | edit JSON | create image=1 [manager=helm] …
apply MANAGER JSON          another client's server-side apply
suspend WHY, resume, release
"""

from __future__ import annotations

import json
import shlex
from collections import Counter
from dataclasses import replace
from datetime import timedelta

from scenarios.manifests import NAMESPACE
from scenarios.scene import POLICY, STAR, Scene

from dsgitops.core.model import Gates

UNTIL_MOST = 900.0
HASH = "controller-revision-hash"
_SPANS = ("canary_bake", "progress_deadline", "pod_deadline", "bake_time")


class Play:
    """One transcript, played line by line."""

    def __init__(self):
        self.arguments = {}
        self.policy = POLICY
        self._scene = None
        self.printed = 0
        self.alerted = 0
        self.uids = {}
        self.tokens = 0

    @property
    def scene(self):
        """The scene, made at the first command that needs it."""
        if self._scene is None:
            self._scene = Scene(policy=self.policy, **self.arguments)
        return self._scene

    def block(self, lines):
        """Carry out one block; return the lines that are seen."""
        seen = []
        for line in lines:
            word, *rest = shlex.split(line)
            command = getattr(self, "do_" + word.replace("-", "_"))
            seen += command(*rest) or ()
        return seen

    # ---------------------------------------------------------------- before it begins

    def do_nodes(self, count, *options):
        self.arguments = {"nodes": int(count)} | {k: int(v) for k, v in _pairs(options).items()}

    def do_policy(self, *options):
        given = _pairs(options)
        only = given.pop("privileged", "any") == "existing-only"
        images = tuple(filter(None, given.pop("images", "").split(",")))
        gates = Gates(existing_only=only, images=images)
        fields = {key: _value(key, text) for key, text in given.items()}
        self.policy = replace(self.policy, gates=gates, **fields)

    def do_alerts(self, how=""):
        if not how:
            self.arguments = {"nodes": 4, **self.arguments, "alerts": True}
        elif how == "up":
            self.scene.post.up()
        else:
            self.scene.post.down = True

    # ---------------------------------------------------------------- Git

    def do_given(self, *options):
        more = [each for each in options if not each.startswith("image=")]
        for each in options:
            if each.startswith("image="):
                self.scene.push(**_pairs([each, *more]))
                self.scene.run(6)
                done = self.scene.run(UNTIL_MOST, until=lambda: self.scene.phase() == "Idle")
                assert done, f"{each} did not roll out: {self.scene.said[-3:]}"
        self.printed = len(self.scene.said)
        self.do_pods()

    def do_push(self, *words):
        self.scene.commit(_manifests(words))

    def do_push_file(self, path, text):
        self.scene.commit({}, {path: text.replace("\\n", "\n")})

    def do_remove(self, name=STAR):
        self.scene.commit({name: None})

    def do_revert(self):
        self.scene.revert()

    def do_git(self, how):
        self.scene.repository.down = how == "down"

    # ---------------------------------------------------------------- time

    def do_run(self, length, phase=""):
        if length == "until":
            done = self.scene.run(UNTIL_MOST, until=lambda: self.scene.phase() == phase)
            return [*self._news(), *(() if done else (f"never came to {phase}",))]
        self.scene.run(float(length))
        return self._news()

    def do_quiet(self, length):
        since = self.scene.world.clock.monotonic()
        self.scene.run(float(length))
        writes = self.scene.writes(since + 1e-6)
        seen = [f"{each.at:5.0f}s  {each.kind} {each.path}" for each in writes]
        return [*self._news(), *seen, f"{len(writes)} writes in {length} s"]

    def do_restart_agent(self):
        self.scene.start_agent()

    def do_stop_agent(self, seconds):
        self.scene.stay(float(seconds))
        self.scene.start_agent()

    def _news(self):
        said = self.scene.said[self.printed :]
        self.printed = len(self.scene.said)
        named = len({each.name for each in self.scene.said}) > 1
        lines = [
            (each.at, f"{each.name + ': ' if named else ''}{each.reason}  {each.text}")
            for each in said
        ]
        lines += self._alerts()
        return [f"{at:5.0f}s  {line}" for at, line in sorted(lines, key=lambda each: each[0])]

    def _alerts(self):
        """Return the alerts that came since the last look, each attempt."""
        told = self.scene.post.told[self.alerted :] if self.scene.post else []
        self.alerted += len(told)
        return [
            (at, f"ALERT {each.level} {each.id[:6]}  {each.title}\n{'':8}{each.sentence}")
            for at, each in told
        ]

    # ---------------------------------------------------------------- what is there

    def do_pods(self, name=STAR):
        pods = self.scene.pods(name)
        uids = {pod["metadata"]["uid"] for pod in pods}
        kept = len(uids & self.uids.get(name, set()))
        self.uids[name] = uids
        counted = Counter(_pod(pod) for pod in pods)
        each = ", ".join(f"{count} of {what}" for what, count in sorted(counted.items()))
        return [f"pods: {each or 'none'}; {kept} kept, {len(uids) - kept} new"]

    def do_show(self, name=STAR):
        live, record = self.scene.live(name), self.scene.record(name)
        strategy = live["spec"]["updateStrategy"]["type"]
        held = ", ".join(f"{e.commit[10:17]} ({e.failure_class})" for e in record.quarantine)
        good = record.last_good
        last = (good.commit or "adopted")[-40:][:7] if good else "none"
        return [
            f"phase {record.phase}, strategy {strategy}, last good {last}, quarantine: {held or 'empty'}"
        ]

    # ---------------------------------------------------------------- nodes

    def do_kill_node(self, node):
        self.scene.world.kill_node(node)

    def do_kill_kubelet(self, node):
        self.scene.world.kill_kubelet(node)

    def do_revive(self, node):
        self.scene.world.revive(node)

    def do_add_node(self, *labels):
        self.scene.world.add_node(labels=_pairs(labels) or None)

    def do_remove_node(self, node):
        self.scene.world.remove_node(node)

    def do_cordon(self, node):
        self.scene.world.cordon(node)

    def do_label_node(self, node, *labels):
        self.scene.world.label(node, **{k: v or None for k, v in _pairs(labels).items()})

    def do_silence_kubelets(self, seconds):
        self.scene.world.silence_all_kubelets(float(seconds))

    def do_break_backend(self, seconds):
        self.scene.world.break_backend(float(seconds))

    def do_break_network(self, node):
        self.scene.world.break_network(node)

    def do_mend_network(self, node):
        self.scene.world.mend_network(node)

    def do_quota(self, cpu):
        self.scene.world.make_quota(NAMESPACE, "quota", cpu)

    # ---------------------------------------------------------------- people

    def do_kubectl(self, verb, *rest):
        getattr(self, "kubectl_" + verb.replace("-", "_"))(*rest)

    def kubectl_undo(self, _to="", number=None):
        self.scene.undo(to=int(number) if number else None)

    def kubectl_set_image(self, tag):
        self.scene.set_container(image=f"registry.sim/agent:{tag}")

    def kubectl_set_env(self, pair):
        key, _, value = pair.partition("=")
        self.scene.set_container(env=[{"name": key, "value": value}])

    def kubectl_label(self, *pairs):
        self.scene.label(**{k: v or None for k, v in _pairs(pairs).items()})

    def kubectl_annotate(self, *pairs):
        self.scene.annotate(**{k: v or None for k, v in _pairs(pairs).items()})

    def kubectl_delete(self, *flags):
        self.scene.delete(orphan="--orphan" in flags)

    def kubectl_delete_pods(self):
        self.scene.delete_pods()

    def kubectl_edit(self, body):
        self.scene.edit(json.loads(body))

    def kubectl_create(self, *options):
        given = _pairs(options)
        self.scene.create(manager=given.pop("manager", "kubectl-client-side-apply"), **given)

    def do_apply(self, manager, body):
        self.scene.apply_as(manager, json.loads(body))

    def do_suspend(self, reason):
        self.scene.annotate(**{"dsgitops.io/suspend": json.dumps({"reason": reason, "by": "ann"})})

    def do_resume(self):
        self.scene.annotate(**{"dsgitops.io/suspend": None})

    def do_release(self):
        self.tokens += 1
        self.scene.annotate(**{"dsgitops.io/retry-at": f"token-{self.tokens}"})


def _pairs(words):
    return {key: value for key, _, value in (each.partition("=") for each in words)}


def _manifests(words):
    """Read `push` arguments: a word without `=` begins the next DaemonSet."""
    found, name = {}, STAR
    for word in words:
        if "=" not in word:
            name = word
            found[name] = {}
            continue
        key, _, value = word.partition("=")
        found.setdefault(name, {})[key] = value
    return found


def _value(key, text):
    if key in _SPANS:
        return timedelta(seconds=float(text))
    return int(text) if text.isdecimal() else text


def _pod(pod):
    """Return `image 2 ready` for a pod."""
    tag = pod["spec"]["containers"][0]["image"].rpartition(":")[2]
    conditions = pod.get("status", {}).get("conditions", ())
    ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
    going = " (terminating)" if "deletionTimestamp" in pod["metadata"] else ""
    return f"image {tag} {'ready' if ready else 'not ready'}{going}"
