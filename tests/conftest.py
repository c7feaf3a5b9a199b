"""Which files begin, and a real control plane for the tests that ask for one."""

from __future__ import annotations

import os

import pytest
from cluster import ending

NODES = 12
_LONGEST_FIRST = (
    "test_soak", "test_real_pods", "test_in_cluster", "test_replicas", "test_scale", "test_outages",
    "test_crashes", "test_traps", "test_rollouts", "test_leaders", "test_watch_and_list",
    "test_hangs", "test_secrecy", "test_recordings", "test_forge", "test_sentry_faults",
    "test_scenarios", "test_full_disk", "test_prometheus", "test_monkey", "test_process",
    "test_sentry_process",
)  # fmt: skip
"""Files that take long: begun first, or they are what all wait for.

Those that wait and those that compute take turns, so that the processors are never idle."""
_is_real = os.environ.get("DSGITOPS_CLUSTER") == "real"


def pytest_configure():
    if _is_real:
        ending.listen()


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session):
    if _is_real:
        ending.finish()
    if session.config.pluginmanager.hasplugin("dsession"):
        ending.pass_on()


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config):
    if hasattr(config, "workerinput"):
        ending.leave()


def pytest_collection_modifyitems(items):
    """Begin with what takes longest: the order of files is theirs with --no-loadscope-reorder.

    The first worker is given its second file at once, and nobody else can take it: a short one.
    """
    rank = {name: at for at, name in enumerate(_LONGEST_FIRST)}
    files = list(dict.fromkeys(item.path for item in items))
    files.sort(key=lambda path: rank.get(path.stem, len(rank)))
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0"))
    if 0 < workers < len(files):
        files.insert(workers, files.pop())
    items.sort(key=lambda item: files.index(item.path))


@pytest.fixture(scope="session")
def control_plane(request):
    """Kubernetes itself on loopback with twelve fake nodes (`make cluster-test`)."""
    if not _is_real:
        pytest.skip("needs a real control plane: make cluster-test")
    from cluster import binaries  # noqa: PLC0415 - nothing of it is needed elsewhere
    from cluster.control_plane import index, running  # noqa: PLC0415

    built = binaries.cached()
    if built.missing:
        pytest.fail(built.missing)
    before = request.session.testsfailed
    with running(
        built, index=index(0), failed=lambda: request.session.testsfailed > before
    ) as plane:
        plane.add_nodes(NODES)
        plane.forget()
        yield plane
