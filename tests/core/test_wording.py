"""What others said of a pod leaves the core in words of ours alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsgitops.core.model import FailureClass
from dsgitops.core.wording import OURS, in_our_words

CLASSES = st.sampled_from(list(FailureClass))


@pytest.mark.parametrize(
    "quoted",
    [
        "panic: password=hunter2",
        "ended 2 times, last with exit code 1 (Error)\nhunter2",
        "readiness probe: HTTP 500 hunter2",
        'failed to pull image "registry/x": token hunter2, 503 Service Unavailable',
        "Exec lifecycle hook ([sh -c hunter2]) exited with 137",
        'configmap "settings" not found; secret hunter2',
    ],
)
@pytest.mark.parametrize("kind", FailureClass)
def test_what_a_program_printed_is_never_repeated(kind, quoted):
    assert "hunter2" not in in_our_words(kind, quoted)


@given(CLASSES, st.text(max_size=80))
def test_a_text_is_passed_on_only_where_it_is_wholly_ours(kind, text):
    found = in_our_words(kind, text)

    assert found != text or not text or OURS.fullmatch(text)


@pytest.mark.parametrize(
    ("kind", "said", "told"),
    [
        (FailureClass.CONFIG_ERROR, 'configmap "nowhere" not found', "ConfigMap nowhere is not there"),
        (FailureClass.IMAGE_PULL_FAILED, "dial tcp: connection refused", "the registry refuses connections"),
        (FailureClass.UNSCHEDULABLE, "0/5 nodes: Insufficient cpu.", "the node lacks cpu"),
        (FailureClass.START_ERROR, 'exec: "x": executable file not found in $PATH', "its command is not in the image"),
        (FailureClass.IMAGE_NOT_FOUND, "anything", "the registry has no such image"),
        (FailureClass.CRASH_LOOP, "ended 2 times, last with exit code 1 (Error)", "ended 2 times, last with exit code 1 (Error)"),
    ],
)  # fmt: skip
def test_the_cause_is_told_as_a_phrase(kind, said, told):
    assert in_our_words(kind, said) == told
