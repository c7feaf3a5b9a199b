"""Defaulting and quantities, held against what a real API server stored."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import yaml
from contract.client import Cluster
from hypothesis import given
from hypothesis import strategies as st

from dsgitops.core.ownership import takeover
from dsgitops.sim.api import ApiServer
from dsgitops.sim.clock import VirtualClock
from dsgitops.sim.defaults import BadQuantity, amount, canonical
from dsgitops.sim.store import Store
from dsgitops.sim.transport import SimTransport

SHARED = Path(__file__).parents[2].parent / "shared"
RECORDINGS = sorted((SHARED / "recordings").glob("*.jsonl.gz"))
CORPUS = sorted((SHARED / "corpus").glob("*.yaml"))

needs_recordings = pytest.mark.skipif(not RECORDINGS, reason="../shared/recordings is missing")
needs_corpus = pytest.mark.skipif(not CORPUS, reason="../shared/corpus is missing")


@pytest.fixture
def cluster():
    clock = VirtualClock()
    api = ApiServer(Store(clock.now), clock)
    return Cluster(SimTransport(api), "default", lambda holds: holds(), lambda _: None)


def recorded():
    """Yield the distinct DaemonSets of all recordings, as a real API server answered them."""
    seen = set()
    for path in RECORDINGS:
        with gzip.open(path, "rt") as lines:
            for line in lines:
                obj = json.loads(line)["object"]
                text = json.dumps(obj.get("spec"), sort_keys=True)
                if obj["kind"] == "DaemonSet" and text not in seen:
                    seen.add(text)
                    yield obj


@needs_recordings
def test_what_a_real_api_server_stored_is_stored_unchanged(cluster):
    count = 0
    for obj in recorded():
        name = f"agent-{count}"
        body = {"metadata": {"name": name, "labels": obj["metadata"].get("labels", {})}}
        answer = cluster.create({"apiVersion": "apps/v1", "kind": "DaemonSet"} | obj | body)
        assert answer.status == 201, answer.body
        assert answer.body["spec"] == obj["spec"]
        assert set(answer.body["status"]) <= set(obj["status"])
        count += 1
    assert count > 60


def bare(value):
    """Take away what the API server fills in by default."""
    defaults = {
        "terminationMessagePath",
        "terminationMessagePolicy",
        "dnsPolicy",
        "restartPolicy",
        "schedulerName",
        "scheme",
        "defaultMode",
        "revisionHistoryLimit",
    }
    if isinstance(value, dict):
        sidecar = "image" in value and "restartPolicy" in value
        defaults -= {"restartPolicy"} if sidecar else set()
        kept = {key: bare(each) for key, each in value.items() if key not in defaults}
        return {key: each for key, each in kept.items() if (key, each) not in EMPTY}
    return [bare(each) for each in value] if isinstance(value, list) else value


EMPTY = [("securityContext", {}), ("resources", {}), ("protocol", "TCP")]


@needs_recordings
def test_the_defaults_of_a_real_api_server_come_back_when_left_out(cluster):
    for count, obj in enumerate(recorded()):
        body = {"apiVersion": "apps/v1", "kind": "DaemonSet", "spec": bare(obj["spec"])}
        body["metadata"] = {"name": f"agent-{count}"}

        answer = cluster.apply(body)

        assert answer.status == 201, answer.body
        assert answer.body["spec"] == obj["spec"]


def daemonsets():
    for path in CORPUS:
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            if isinstance(document, dict) and document.get("kind") == "DaemonSet":
                name = document["metadata"]["name"]
                yield pytest.param(document, id=f"{path.stem}-{name}")


@needs_corpus
@pytest.mark.parametrize("document", list(daemonsets()) or [None])
def test_a_real_manifest_applied_twice_changes_nothing_and_so_does_taking_it_over(
    cluster, document
):
    if document["apiVersion"] != "apps/v1" or not document["spec"].get("selector"):
        pytest.skip("not a DaemonSet of apps/v1")
    body = json.loads(json.dumps(document, default=str))
    body["metadata"] = {**body["metadata"], "name": "applied", "namespace": "default"}
    made = cluster.apply(body).body
    assert cluster.apply(body).body == made

    body["metadata"]["name"] = "posted"
    posted = cluster.create(body).body
    assert posted["spec"] == made["spec"]
    entries = takeover(posted["metadata"]["managedFields"])
    cluster.patch({"metadata": {"managedFields": entries}}, name="posted")
    after = cluster.apply(body).body
    assert after["spec"] == posted["spec"]
    assert after["metadata"]["generation"] == 1


# ---------------------------------------------------------------------------- quantities


@pytest.mark.parametrize(
    ("given_", "written"),
    [
        ("1000m", "1"),
        ("0.1", "100m"),
        (1, "1"),
        (0.5, "500m"),
        ("1024Mi", "1Gi"),
        ("1.5Gi", "1536Mi"),
        ("128974848", "128974848"),
        ("129e6", "129e6"),
        ("1000k", "1M"),
        ("100Ki", "100Ki"),
        ("0", "0"),
        ("0Gi", "0"),
        ("1500m", "1500m"),
        ("2000m", "2"),
        ("1e3", "1e3"),
    ],
)
def test_a_quantity_is_written_as_kubernetes_writes_it(given_, written):
    assert canonical(given_) == written


@pytest.mark.parametrize("text", ["", "1 Gi", "abc", "1KB", "--1", "1.2.3"])
def test_what_is_no_quantity_is_refused(text):
    with pytest.raises(BadQuantity):
        canonical(text)


@given(
    st.integers(min_value=0, max_value=10**12),
    st.sampled_from(["", "m", "k", "M", "G", "Ki", "Mi", "Gi", "Ti"]),
)
def test_writing_a_quantity_keeps_its_amount_and_is_final(number, suffix):
    text = canonical(f"{number}{suffix}")

    assert amount(text) == amount(f"{number}{suffix}")
    assert canonical(text) == text
