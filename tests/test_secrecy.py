"""Secrets that stand in every input are in no output.

The real process runs a rollout that fails in a dozen ways at once, on a simulated cluster over
HTTP, with everything attached that tells anybody anything.  What a kubelet, a controller, a
registry or an API server says carries a planted secret; so do manifest, files and settings.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
import yaml
from adapters.forges import TOKEN, ForgeServer
from adapters.sink import Sink
from adapters.test_notify import Messenger
from scenarios.manifests import NAMESPACE, manifest
from test_process import SETTINGS, Place

from dsgitops.core import record as records
from dsgitops.ports import Response

pytestmark = pytest.mark.timeout(300)  # a dozen rollouts in real time
PLANTED = {
    "env": "zq-env-5e1f",
    "annotation": "zq-annotation-77aa",
    "argument": "zq-argument-c0de",
    "kubelet": "zq-kubelet-91b3",
    "event": "zq-event-2d44",
    "api": "zq-api-e8e8",
    "git-password": "zq-git-password-13",
    "dsn": "zqdsn0123456789abcdef",
    "notify": "zq-notify-6b6b",
    "forge-token": TOKEN,
    "forge-answer": "zq-forge-answer-4f",
    "webhook": "zq-webhook-0a0a",
    "broken-file": "zq-broken-file-3c",
}
"""By where it stands."""

BAD = {
    "crash": {"image": "2-crash"},
    "missing": {"image": "2-missing"},
    "denied": {"image": "2-denied"},
    "config": {"image": "2", "config": "missing-config"},
    "hook": {"image": "2"},
    "exec": {"image": "2"},
    "liveness": {"image": "2"},
    "start": {"image": "2"},
    "mount": {"image": "2"},
    "quota": {"image": "2", "cpu": "900m"},
    "refused": {"image": "2"},
}
"""DaemonSets by what the second commit breaks."""
CLASSES = {
    "crash": "CrashLoop", "missing": "ImageNotFound", "denied": "ImagePullDenied",
    "config": "ConfigError", "hook": "HookFailed", "exec": "ReadinessProbeFailed",
    "liveness": "LivenessProbeFailed", "start": "StartError", "mount": "MountFailed",
    "quota": "PodsRefused",
}  # fmt: skip


def text(name, bad):
    """Return a manifest with secrets where people put them."""
    made = manifest(
        name, **(BAD[name] if bad else {"image": "1"}), env=f"PASSWORD={PLANTED['env']}"
    )
    made["metadata"]["annotations"] = {"example.com/api-key": PLANTED["annotation"]}
    spec = made["spec"]["template"]["spec"]
    container = spec["containers"][0]
    container["args"] = [f"--token={PLANTED['argument']}"]
    if bad:
        breaking(name, spec, container)
    return yaml.safe_dump(made, sort_keys=False)


def breaking(name, spec, container):
    command = ["sh", "-c", f"nonesuch --token={PLANTED['argument']}"]
    probe = {"exec": {"command": command}, "periodSeconds": 1, "failureThreshold": 2}
    if name == "exec":
        container["readinessProbe"] = probe
    if name == "liveness":
        container["livenessProbe"] = {**probe, "failureThreshold": 1}
    if name == "hook":
        container["lifecycle"] = {"postStart": {"exec": {"command": command}}}
    if name == "start":
        container["command"] = ["/nonesuch", PLANTED["argument"]]
    if name == "mount":
        spec["volumes"] = [{"name": "v", "configMap": {"name": "missing-volume"}}]
        container["volumeMounts"] = [{"name": "v", "mountPath": "/v"}]


class Talkative(Place):
    """A place in which everybody says secrets."""

    def open(self):
        write = self.world.store._record

        def say_more(kind, resource, obj, before):
            return write(kind, resource, talked(resource, obj), before)

        self.world.store._record = say_more
        handle = self.world.api.handle

        def refuse(request, **options):
            body = request.body or b""
            if (
                request.method == "PATCH"
                and b"/refused" in request.path.encode()
                and b"agent:2" in body
            ):
                return invalid()
            return handle(request, **options)

        self.world.api.handle = refuse
        super().open()

    def said(self, *words):
        """Return what a verb prints."""
        command = [sys.executable, "-m", "dsgitops", *words]
        if words[0] != "validate":
            command += ["--kubeconfig", str(self.kubeconfig)]
        ran = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=60, cwd=self.folder
        )
        return f"{ran.stdout}\n{ran.stderr}\nexit code {ran.returncode}"

    def inputs(self):
        """Return what the cluster holds, of which the agent reads most."""
        with self.lock:
            found = [self.world.store.list(each) for each in ("daemonsets", "pods", "events")]
        return json.dumps(found)

    def outputs(self):
        """Return everything that everybody has been told, by what it is."""
        with self.lock:
            events = [event for event in self.world.store.list("events") if is_ours(event)]
            leases = self.world.store.list("leases")
            found = [
                each["metadata"].get("annotations", {}).get(records.ANNOTATION, "")
                for each in self.world.store.list("daemonsets")
            ]
        return {
            "events": json.dumps(events),
            "lease": json.dumps(leases),
            "record": "\n".join(found),
        }


def talked(resource, obj):
    """Return an object as a chatty kubelet writes it."""
    if resource == "events" and not is_ours(obj):
        key = "message" if "message" in obj else "note"
        if PLANTED["event"] in (obj.get(key) or ""):
            return obj
        return {**obj, key: f"{obj.get(key) or ''} {PLANTED['event']}"}
    if resource != "pods" or "status" not in obj:
        return obj
    status = json.loads(json.dumps(obj["status"]))
    status["message"] = PLANTED["kubelet"]
    for each in (*status.get("containerStatuses", ()), *status.get("initContainerStatuses", ())):
        for state in (each.get("state", {}), each.get("lastState", {})):
            for kind in ("waiting", "terminated"):
                if kind in state and PLANTED["kubelet"] not in state[kind].get("message", ""):
                    said = state[kind].get("message", "")
                    state[kind]["message"] = f"{said} {PLANTED['kubelet']}".strip()
    for condition in status.get("conditions", ()):
        if condition.get("message") and PLANTED["kubelet"] not in condition["message"]:
            condition["message"] += f" {PLANTED['kubelet']}"
    return {**obj, "status": status}


def is_ours(event):
    return event.get("reportingController", event.get("reportingComponent")) == "dsgitops.io/agent"


def invalid():
    """Return a refusal that quotes what it refuses, as the API server does."""
    said = f'DaemonSet.apps "refused" is invalid: spec.x: Invalid value: "{PLANTED["api"]}": no'
    cause = {"reason": "FieldValueInvalid", "field": "spec.x",
             "message": f'Invalid value: "{PLANTED["api"]}": no'}  # fmt: skip
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": said,
            "reason": "Invalid", "code": 422,
            "details": {"name": "refused", "group": "apps", "kind": "DaemonSet",
                        "causes": [cause]}}  # fmt: skip
    return Response(status=422, body=json.dumps(body).encode())


def secret_file(folder, name, content):
    file = folder / name
    file.write_text(f"{content}\n")
    file.chmod(0o600)
    return str(file)


def settings(place, forge, sink, messenger):
    """Attach everything."""
    secret = {name: secret_file(place.folder, name, PLANTED[name])
              for name in ("git-password", "webhook", "forge-token")}  # fmt: skip
    dsn = sink.dsn.replace("public-key", PLANTED["dsn"])
    urls = messenger.url.replace("s3cr3t-hook-path", PLANTED["notify"])
    status = {"kind": "github", "url": forge.url, "repository": "acme/agents",
              "tokenFile": secret["forge-token"]}  # fmt: skip
    ours = {"name": "node-agents", "url": f"file://{place.repository.path}", "interval": "1s",
            "path": "clusters/prod", "status": status}  # fmt: skip
    away = {"name": "away", "url": "https://127.0.0.1:1/agents.git", "interval": "1s",
            "auth": {"https": {"passwordFile": secret["git-password"]}}}  # fmt: skip
    place.configure(
        sources=[ours, away],
        http={"listen": "127.0.0.1:0", "webhookSecretFile": secret["webhook"]},
        rollout={**SETTINGS["rollout"], "podDeadline": "8s", "progressDeadline": "60s"},
        alerts={
            "sentry": {"dsnFile": secret_file(place.folder, "dsn", dsn)},
            "notify": [{"urlFile": secret_file(place.folder, "urls", urls)}],
        },
    )


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Everything that was told of the failing rollout, by where."""
    place = Talkative(tmp_path_factory.mktemp("place"))
    forge, sink, messenger = ForgeServer("github"), Sink(), Messenger()
    refusal = json.dumps({"message": f"no: {PLANTED['forge-answer']}"}).encode()
    forge.answers = [(403, {}, refusal)]
    messenger.answers = [500]
    place.open()
    settings(place, forge, sink, messenger)
    try:
        yield play(place, forge, sink, messenger)
    finally:
        place.close()
        for each in (forge, sink, messenger):
            each.close()


def play(place, forge, sink, messenger):
    files = {f"clusters/prod/{name}.yaml": text(name, bad=False) for name in BAD}
    good = place.repository.commit(files, "Add the agents")
    agent = place.start("--verbose")
    wait(lambda: all(is_at(place, name, "Idle", good) for name in BAD), place)
    with place.lock:
        place.world.make_quota(NAMESPACE, "quota", "1400m")
    files = {f"clusters/prod/{name}.yaml": text(name, bad=True) for name in BAD}
    broken = f"kind: DaemonSet\nmetadata: {{name: x\nsecret: {PLANTED['broken-file']}"
    bad = place.repository.commit({**files, "clusters/prod/z.yaml": broken}, "Break the agents")
    wait(lambda: all(is_at(place, name, "Held", bad) for name in CLASSES), place)
    wait(lambda: names_all(sink.events()) and names_all(messenger.bodies()), place)
    wait(lambda: any(body["state"] == "failure" for _, body in forge.taken), place)
    out = place.outputs() | pages(place)
    folder = f"{place.repository.path}/clusters/prod"
    for form in ("text", "json", "sarif", "github"):
        words = ("validate", "--config", str(place.config), "-o", form)
        out[f"dsgitops validate -o {form}"] = place.said(*words, folder)
    place.repository.commit({"clusters/prod/z.yaml": None}, "Remove what is no YAML")
    out |= verbs(place)
    inputs = place.inputs()
    for where in ("env", "annotation", "argument", "kubelet", "event"):
        assert inputs.count(PLANTED[where]) > 10, f"{where} is planted"
    agent.send_signal(signal.SIGTERM)
    assert agent.wait(10) == 0
    out["log, as JSON"] = place.logged()
    (place.folder / "log.txt").write_text("")
    place.start("--log-format", "text", "--verbose", "--once").wait(30)
    out["log, as text"] = place.logged()
    out["sentry"] = "\n".join(raw.decode() for *_, raw, _headers in sink.envelopes)
    out["notification"] = json.dumps(messenger.bodies())
    out["commit status"] = "\n".join(body + path for path, _, body in forge.seen)
    return out


def names_all(sent):
    return all(each in json.dumps(sent) for each in (*CLASSES, *CLASSES.values()))


def is_at(place, name, phase, commit):
    with place.lock:
        found = place.world.store.get("daemonsets", NAMESPACE, name)
        text_ = (found or {}).get("metadata", {}).get("annotations", {}).get(records.ANNOTATION)
    record = records.load(text_) if text_ else None
    if record is None or str(record.phase) != phase:
        return False
    if phase == "Held":
        return record.quarantine[-1].commit.endswith(commit)
    return record.last_good is not None and (record.last_good.commit or "").endswith(commit)


def wait(condition, place, seconds=90):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.1)
    with place.lock:
        phases = {
            each["metadata"]["name"]: each["metadata"]["annotations"].get(records.ANNOTATION, "")[
                -300:
            ]
            for each in place.world.store.list("daemonsets")
        }
    raise AssertionError(f"never: {json.dumps(phases, indent=1)}\n{place.logged()[-3000:]}")


def pages(place):
    """Return what the agent serves over HTTP."""
    port = re.search(r"on port (\d+)", place.logged())[1]
    found = {}
    for path in ("/metrics", "/healthz", "/readyz", "/nowhere"):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
                found[f"GET {path}"] = answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                found[f"GET {path}"] = error.read().decode() + str(error.headers)
    return found


def verbs(place):
    """Return what the verbs print about it, on stdout and stderr."""
    found = {}
    work = ("--path", f"{place.repository.path}/clusters/prod")
    for words in (
        ("get", "-n", NAMESPACE), ("get", "-n", NAMESPACE, "-o", "wide"),
        ("get", "-n", NAMESPACE, "-o", "json"), ("get", "-n", NAMESPACE, "-o", "yaml"),
        ("history", "-n", NAMESPACE, "hook"),
        ("history", "-n", NAMESPACE, "hook", "-o", "json"),
        ("diff", "-n", NAMESPACE, "hook", "crash", *work), ("diff", "-n", NAMESPACE, "hook", "crash", "-o", "json", *work),
        ("diff", "-n", NAMESPACE, "hook", "-o", "markdown", *work),
        ("wait", "-n", NAMESPACE, "hook", "--timeout", "1s", *work),
        ("quarantine", "list", "-n", NAMESPACE),
    ):  # fmt: skip
        found["dsgitops " + " ".join(each for each in words if each not in work)] = place.said(
            *words
        )
    return found


@pytest.mark.parametrize("where", list(PLANTED))
def test_what_is_secret_is_told_nowhere(told, where):
    leaks = [name for name, output in told.items() if PLANTED[where] in output]

    assert leaks == [], "\n".join(told[name][-2000:] for name in leaks)


def test_each_output_really_tells_of_the_failures(told):
    for name in ("log, as JSON", "events", "sentry", "notification", "dsgitops get -n logging"):
        silent = [each for each in CLASSES if each not in told[name]]
        assert silent == [], name
    for name in ("log, as JSON", "sentry", "dsgitops get -n logging -o json", "record"):
        unnamed = [each for each in CLASSES.values() if each not in told[name]]
        assert unnamed == [], name
    assert "failed on 1 of 3 nodes" in told["commit status"]
    assert "dsgitops_daemonset_info" in told["GET /metrics"]
    assert "Refused" in told["log, as JSON"]
    assert "HTTP 403" in told["log, as JSON"], "the forge's refusal"
    assert "away" in told["log, as JSON"], "the source that cannot be read"
    assert "sha256:" in told["dsgitops diff -n logging hook crash -o json"]
    assert all(output.strip() for output in told.values())
