"""Real DaemonSets of public projects: what apps/v1 takes is valid, and the rest says why not."""

from __future__ import annotations

from pathlib import Path

import pytest

from dsgitops.core import manifest
from dsgitops.core.catalog import Terms, gather

CORPUS = Path(__file__).parents[2] / "shared" / "corpus"
FILES = sorted(CORPUS.glob("*.yaml"))

pytestmark = pytest.mark.skipif(not FILES, reason="../shared/corpus is not here")

NOT_VALID = {
    "examples--volumes-flexvolume-ds.yaml": ("api-version", 1),
    "flannel--minikube.yaml": ("api-version", 38),
    "fluentd-kubernetes-daemonset--fluentd-daemonset-logentries.yaml": ("missing-field", 21),
}
"""Two of `extensions/v1beta1`, one without a selector: rule and line of the first error."""


def read(path: Path) -> manifest.ManifestFile:
    return manifest.read(path.read_bytes(), path=path.name)


def test_there_are_26_daemonsets_and_23_of_them_are_valid():
    manifests = [each for path in FILES for each in read(path).manifests]

    assert len(manifests) == 26
    assert sum(each.problem is None for each in manifests) == 23


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_file_is_valid_or_says_where_it_is_not(path):
    errors = [each for each in read(path).problems if each.severity == "error"]

    if path.name not in NOT_VALID:
        assert errors == []
        return
    assert (errors[0].rule, errors[0].line) == NOT_VALID[path.name]
    assert errors[0].column >= 1


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_file_as_a_source_of_its_own_gives_what_is_valid_in_it(path):
    file = read(path)
    valid = [each for each in file.manifests if each.problem is None]
    namespaces = {each.namespace for each in file.manifests} - {""}
    terms = Terms(source="corpus", namespaces=frozenset(namespaces or {"corpus"}))

    found = gather([file], "main@sha1:0", terms=terms)

    assert len(found.desired) == len(valid)
    assert len(found.unreadable) == len(file.manifests) - len(valid)
