"""Log lines: one for each change of decision, in the words of every other place."""

from __future__ import annotations

import io
import json
import logging

import pytest
from scenarios.scene import Scene

from dsgitops.adapters import log
from dsgitops.adapters.voices import Voices

FIELDS = ["ts", "level", "daemonset", "commit", "reason", "message", "nodes_ready", "nodes"]
"""Of every decision about a rollout; `class` comes with a failure (`interfaces.md`, run)."""


@pytest.fixture
def told():
    """A stream that gets the lines; our logger is as it was after it."""
    handlers, level = log.LOGGER.handlers[:], log.LOGGER.level
    yield io.StringIO()
    log.LOGGER.handlers[:], log.LOGGER.level, log.LOGGER.propagate = handlers, level, True


def play(stream, form, *, verbose=False):
    """A good commit, a bad one and its rollback; return the scene and what was logged."""
    log.configure(form, verbose=verbose, stream=stream)
    scene = Scene(nodes=3)
    scene.start_agent()
    scene.drive.agent.voice = Voices(scene, log.LogVoice())
    for image, phase in (("1", "Idle"), ("2-missing", "Held")):
        commit = scene.push(image=image)
        scene.run(
            600,
            lambda: scene.phase() == phase and commit in str(scene.record()),  # noqa: B023
        )
    scene.run(30)
    return scene, stream.getvalue().splitlines()


def test_a_json_line_has_the_design_s_fields_and_the_sentence_of_the_event(told):
    scene, lines = play(told, "json")
    decisions = [json.loads(line) for line in lines if "reason" in json.loads(line)]

    said = [(each.reason, each.text) for each in scene.said]
    assert [(each["reason"], each["message"]) for each in decisions] == said
    rolled_back = decisions[-1]
    assert rolled_back["reason"] == "RolledBack"
    assert set(rolled_back) == {*FIELDS, "class"}
    assert rolled_back["class"] == "ImageNotFound"
    assert rolled_back["level"] == "warning"
    assert (rolled_back["nodes_ready"], rolled_back["nodes"]) == (3, 3)
    assert rolled_back["daemonset"] == "logging/agent"
    assert rolled_back["ts"].endswith("Z")


def test_a_text_line_says_when_who_why_and_the_sentence(told):
    scene, lines = play(told, "text")

    last = lines[-1]
    assert last.split(" ", 3)[1:] == ["logging/agent", "RolledBack", scene.said[-1].text]


def test_decisions_that_did_not_change_are_told_at_debug_only(told):
    scene, lines = play(told, "json", verbose=True)
    decisions = [json.loads(line) for line in lines if "reason" in json.loads(line)]

    loud = [each for each in decisions if each["level"] != "debug"]
    assert len(loud) == len(scene.said)
    assert len(decisions) == len(scene.decided)
    assert len(decisions) > len(loud)


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_line_is_one_line_whatever_is_in_it(told, form):
    log.configure(form, stream=told)

    log.LogVoice().problem("agents", "two\nlines \x1b[31mand colour\x00", remedy="none\r\n")

    written = told.getvalue()
    assert written.count("\n") == 1
    assert written.rstrip("\n").isprintable()


def test_an_error_of_others_is_told_by_its_class_and_place_never_by_its_text(told):
    log.configure("json", stream=told)

    log.LogVoice().fault("logging/agent", RuntimeError("password=hunter2"))

    assert "hunter2" not in told.getvalue()
    assert "RuntimeError" in json.loads(told.getvalue())["message"]


def test_nobody_else_s_lines_are_among_ours(told):
    log.configure("json", stream=told)

    logging.getLogger("urllib3").warning("retrying with token abc")

    assert told.getvalue() == ""
