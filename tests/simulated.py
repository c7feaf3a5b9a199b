"""DaemonSets for simulated clusters, and questions that tests ask about them."""

NAMESPACE = "default"
NAME = "agent"
HASH = "controller-revision-hash"


def daemonset(image="registry.sim/agent:1", *, name=NAME, spec=None, pod=None, **container):
    """Return a manifest.

    Args:
        image: Chooses what the software does, see `dsgitops.sim.behaviours`.
        name: Also its label `app`.
        spec: Fields of the DaemonSet's spec.
        pod: Fields of the template's spec.
        container: Fields of its one container.
    """
    probe = {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 2, "failureThreshold": 2}
    agent = {"name": "agent", "image": image, "readinessProbe": probe, **container}
    agent = {key: value for key, value in agent.items() if value is not None}
    template = {
        "metadata": {"labels": {"app": name}},
        "spec": {"containers": [agent], "terminationGracePeriodSeconds": 2, **(pod or {})},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"app": name}},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": template,
            **(spec or {}),
        },
    }


def rolling(max_unavailable=1, max_surge=0):
    """Return an updateStrategy."""
    numbers = {"maxUnavailable": max_unavailable, "maxSurge": max_surge}
    return {"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": numbers}}


ON_DELETE = {"updateStrategy": {"type": "OnDelete"}}


def status(world, name=NAME):
    """Return the DaemonSet's status."""
    return world.daemonset(NAMESPACE, name).get("status", {})


def is_finished(world, name=NAME):
    """Whether every node runs the newest revision, available."""
    live, counts = world.daemonset(NAMESPACE, name), status(world, name)
    wanted = counts.get("desiredNumberScheduled")
    return (
        counts.get("observedGeneration") == live["metadata"]["generation"]
        and bool(wanted)
        and counts.get("updatedNumberScheduled", 0) == wanted
        and counts.get("numberAvailable", 0) == wanted
    )


def settle(world, name=NAME, within=600):
    """Let time go by until the rollout is finished."""
    assert world.advance_until(lambda: is_finished(world, name), within=within), status(world)


def newest_hash(world, name=NAME):
    """Return the hash of the newest revision."""
    return world.revisions(NAMESPACE, name)[-1]["metadata"]["labels"][HASH]


def hashes(world, name=NAME):
    """Return how many pods wear each hash, terminating ones left out."""
    found = {}
    for pod in staying(world, name):
        worn = pod["metadata"]["labels"][HASH]
        found[worn] = found.get(worn, 0) + 1
    return found


def staying(world, name=NAME):
    """Return the pods that are not terminating."""
    pods = world.pods(NAMESPACE, name)
    return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]


def uids(world, name=NAME):
    """Return the uids of the pods that are not terminating."""
    return {pod["metadata"]["uid"] for pod in staying(world, name)}


def condition(item, kind):
    """Return the status of one condition."""
    for found in item["status"].get("conditions", ()):
        if found["type"] == kind:
            return found["status"]
    return None


def events(world, reason, namespace=None):
    """Return the Events of a reason."""
    return [it for it in world.store.list("events", namespace) if it["reason"] == reason]
