"""What nobody owns: after a commit the spec is what a new object of it would have, or it stays."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path

import pytest
import yaml
from scenarios.manifests import NAMESPACE, manifest
from scenarios.scene import DAEMONSETS, STAR, Scene
from scenarios.wire import APPLY

from dsgitops.core.leftovers import leftovers
from dsgitops.ports import Request
from dsgitops.sim.access import Rule
from dsgitops.sim.transport import SimTransport
from dsgitops.sim.writes import AdmissionRefused

RECORD = "dsgitops.io/record"
EXAMPLES = sorted((Path(__file__).parents[2] / "examples" / "repo").rglob("*.yaml"))
AN_ENV = {"name": "INJECTED", "value": "1"}


class Stage:
    """A scene whose commits are whole manifests, and a count of the agent's requests."""

    def __init__(self, **options):
        self.scene = Scene(**options)
        self.asked = []
        handle = self.scene.world.api.handle

        def noted(request, **more):
            if request.path.startswith(f"{DAEMONSETS}/") and not request.query.get("watch"):
                dry = "dry-run " if request.query.get("dryRun") else ""
                kind = {"PATCH": "patch", "GET": "get"}.get(request.method, request.method)
                self.asked.append(f"{dry}{kind} {request.path.rpartition('/')[2]}")
            return handle(request, **more)

        self.scene.world.api.handle = noted

    def commit(self, given):
        """Commit a manifest; the agent sees it at its next poll."""
        self.asked.clear()
        self.scene.commit({STAR: {}}, {f"{STAR}.yaml": yaml.safe_dump(given)})

    def roll_out(self, given):
        """Commit, and let it come to rest."""
        self.commit(given)
        self.scene.run(6)
        assert self.scene.run(300, until=lambda: self.scene.phase() == "Idle"), self.scene.said

    @property
    def container(self):
        return self.scene.live()["spec"]["template"]["spec"]["containers"][0]

    def is_fresh(self, given):
        """Whether the spec is that of an object made anew of this manifest."""
        body = deepcopy(given)
        body["metadata"]["name"] = "anew"
        query = {"fieldManager": "test", "dryRun": "All"}
        way = SimTransport(self.scene.world.api)
        answer = way.send(
            Request(method="PATCH", path=f"{DAEMONSETS}/anew", query=query,
                    headers={"Content-Type": APPLY}, body=json.dumps(body).encode())
        )  # fmt: skip
        assert answer.status == 201, answer.body
        return self.scene.live()["spec"] == json.loads(answer.body)["spec"]

    @property
    def sweeps(self):
        """Applies of the live spec as it was: they changed no generation."""
        return [
            each
            for each in self.scene.writes()
            if each.kind == "apply" and '"swept":' in each.body["metadata"]["annotations"][RECORD]
        ]


def numbered(tag="1", **fields):
    """Content with an image tag, and any other field of the container."""
    given = manifest(image=tag)
    given["spec"]["template"]["spec"]["containers"][0] |= fields
    return given


def with_volume(**source):
    given = manifest()
    pod = given["spec"]["template"]["spec"]
    pod["volumes"] = [{"name": "data", **source}]
    pod["containers"][0]["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
    return given


def inject(verb, resource, item, old):
    """A webhook that gives each DaemonSet's container an env var."""
    if resource != "daemonsets":
        return item
    changed = deepcopy(item)
    container = changed["spec"]["template"]["spec"]["containers"][0]
    others = [each for each in container.get("env", ()) if each["name"] != AN_ENV["name"]]
    container["env"] = [*others, AN_ENV]
    return changed if changed != item else item


def test_an_ordinary_image_bump_asks_nothing_more_than_its_writes():
    stage = Stage()
    stage.roll_out(numbered("1"))

    stage.roll_out(numbered("2"))

    assert stage.asked == [f"patch {STAR}"] * 4, "content, canary over, strategy, bake over"
    assert stage.is_fresh(numbered("2"))


def test_no_daemonset_of_the_example_repository_is_suspected_after_its_own_apply():
    documents = [each for path in EXAMPLES for each in yaml.safe_load_all(path.read_text())]
    manifests = [each for each in documents if each and each.get("kind") == "DaemonSet"]
    assert len(manifests) >= 7
    scene = Scene()
    way = SimTransport(scene.world.api)
    for given in manifests:
        name = given["metadata"]["name"]
        body = {**given, "metadata": {"name": name}}
        query = {"fieldManager": "dsgitops", "force": "true"}
        answer = way.send(
            Request(method="PATCH", path=f"{DAEMONSETS}/{name}", query=query,
                    headers={"Content-Type": APPLY}, body=json.dumps(body).encode())
        )  # fmt: skip
        live = json.loads(answer.body)

        assert answer.status == 201, live
        assert leftovers(given["spec"], live["spec"], live["metadata"]["managedFields"]) == ()


def test_an_image_that_becomes_latest_is_pulled_always():
    stage = Stage()
    stage.roll_out(numbered("1"))
    assert stage.container["imagePullPolicy"] == "IfNotPresent"

    stage.roll_out(numbered("latest"))

    assert stage.container["imagePullPolicy"] == "Always"
    assert stage.is_fresh(numbered("latest"))
    assert stage.asked[:4] == [
        f"dry-run patch {STAR}",
        f"dry-run patch {STAR}-dsgitops-fresh",
        f"patch {STAR}",  # all fields ours
        f"patch {STAR}",  # the content, under the hold
    ]


def test_the_sweep_itself_makes_no_revision_and_restarts_nothing():
    stage = Stage()
    stage.roll_out(numbered("1"))
    before = stage.scene.live()

    stage.roll_out(numbered("latest"))

    (swept,) = stage.sweeps
    assert swept.body["spec"] == before["spec"]
    assert len(stage.scene.world.revisions(NAMESPACE, STAR)) == 2
    generations = stage.scene.live()["metadata"]["generation"] - before["metadata"]["generation"]
    assert generations == 2, "the content under the hold, and the strategy afterwards"


def test_our_labels_stay_while_it_is_swept():
    stage = Stage()
    seen = []
    stage.roll_out(numbered("1"))
    stage.scene.world.api.admission.append(
        lambda verb, resource, item, old: (
            seen.append(set(item["metadata"].get("labels", ()))) or item
            if resource == "daemonsets"
            else item
        )
    )

    stage.roll_out(numbered("latest"))

    assert all("app.kubernetes.io/managed-by" in labels for labels in seen)


def test_a_volume_with_an_implied_source_becomes_a_hostpath():
    stage = Stage()
    stage.roll_out(with_volume())

    stage.roll_out(with_volume(hostPath={"path": "/var/log"}))

    (volume,) = stage.scene.live()["spec"]["template"]["spec"]["volumes"]
    assert volume == {"name": "data", "hostPath": {"path": "/var/log", "type": ""}}
    assert stage.is_fresh(with_volume(hostPath={"path": "/var/log"}))
    assert not [each for each in stage.scene.said if each.reason == "Refused"]


def test_an_env_that_was_injected_goes_with_the_next_commit_once_the_webhook_is_gone():
    stage = Stage()
    hooks = stage.scene.world.api.admission
    hooks.append(inject)
    stage.roll_out(numbered("1"))
    assert stage.container["env"] == [AN_ENV]
    hooks.remove(inject)

    stage.roll_out(numbered("2"))

    assert "env" not in stage.container
    assert stage.is_fresh(numbered("2"))


def test_an_env_that_is_still_injected_stays_and_nothing_is_swept():
    stage = Stage()
    stage.scene.world.api.admission.append(inject)
    stage.roll_out(numbered("1"))

    stage.roll_out(numbered("2"))

    assert stage.container["env"] == [AN_ENV]
    assert stage.sweeps == []
    assert stage.asked.count(f"dry-run patch {STAR}-dsgitops-fresh") == 1


def test_a_service_account_that_git_no_longer_names_is_not_kept():
    stage = Stage()
    stage.scene.world.make_service_account(NAMESPACE, "reader")
    given = numbered("1")
    given["spec"]["template"]["spec"]["serviceAccountName"] = "reader"
    stage.roll_out(given)

    stage.roll_out(numbered("1"))

    assert "serviceAccountName" not in stage.scene.live()["spec"]["template"]["spec"]


def test_newer_content_in_mid_rollout_is_swept_too():
    stage = Stage()
    stage.roll_out(numbered("1"))
    stage.commit(numbered("2"))
    stage.scene.run(8)
    assert stage.scene.phase() in ("Canary", "Rolling")

    stage.roll_out(numbered("latest"))

    assert stage.container["imagePullPolicy"] == "Always"
    assert len(stage.sweeps) == 1


def test_bad_content_after_a_sweep_goes_back_exactly():
    stage = Stage()
    stage.roll_out(with_volume())
    before = stage.scene.live()["spec"]["template"]
    bad = with_volume(hostPath={"path": "/var/log"})
    bad["spec"]["template"]["spec"]["containers"][0]["image"] = "registry.sim/agent:2-crash"

    stage.scene.commit({STAR: {"image": "2-crash"}}, {f"{STAR}.yaml": yaml.safe_dump(bad)})

    assert stage.scene.run(300, until=lambda: stage.scene.phase() == "Held")
    assert stage.scene.live()["spec"]["template"] == before
    stage.roll_out(with_volume(hostPath={"path": "/opt"}))
    assert stage.is_fresh(with_volume(hostPath={"path": "/opt"}))


@pytest.mark.parametrize("manager", ["helm", "kubectl-create"])
def test_an_adopted_object_ends_as_a_new_one_would_be(manager):
    stage = Stage()
    hooks = stage.scene.world.api.admission
    hooks.append(inject)
    stage.scene.create(manager=manager)
    stage.scene.run(30)
    hooks.remove(inject)

    stage.roll_out(manifest())

    assert "env" not in stage.container
    assert stage.is_fresh(manifest())


def test_without_the_right_to_create_the_content_is_written_all_the_same():
    stage = Stage()
    stage.roll_out(numbered("1"))
    verbs = ("get", "list", "watch", "patch", "delete", "update")
    stage.scene.world.api.account.rules = [Rule(verbs=verbs, groups=("*",), resources=("*",))]

    stage.roll_out(numbered("latest"))

    assert stage.container["image"].endswith(":latest")
    assert stage.container["imagePullPolicy"] == "IfNotPresent"
    assert stage.sweeps == []


def test_content_that_is_wrong_in_itself_is_refused_after_one_sweep():
    stage = Stage()
    stage.roll_out(with_volume())
    wrong = with_volume(hostPath={"path": "/x"})
    labels = {"app": "another"}  # a selector cannot be changed
    wrong["spec"]["selector"]["matchLabels"] = labels
    wrong["spec"]["template"]["metadata"]["labels"] = labels

    stage.commit(wrong)
    stage.scene.run(60)

    assert stage.scene.said[-1].reason == "Refused"
    assert len(stage.sweeps) == 1
    asked = len(stage.asked)
    stage.scene.run(600)
    assert len(stage.asked) == asked


def test_what_a_policy_forbids_now_does_not_hold_up_its_mending():
    """The sweep writes what runs: a policy that came since refuses that, not the content."""

    def only_numbered(verb, resource, item, old):
        if resource == "daemonsets":
            container = item["spec"]["template"]["spec"]["containers"][0]
            if container["image"].endswith(":latest"):
                raise AdmissionRefused("no latest")
        return item

    stage = Stage()
    stage.roll_out(numbered("latest"))
    stage.scene.world.api.admission.append(only_numbered)

    stage.roll_out(numbered("2"))

    assert stage.container["image"].endswith(":2")
    assert stage.sweeps == []
    assert not [each for each in stage.scene.said if each.reason == "Refused"]
