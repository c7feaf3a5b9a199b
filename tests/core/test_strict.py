"""YAML and JSON mean one thing, or they are refused with a place; nothing is ever raised."""

from __future__ import annotations

import datetime as dt
import json
import time

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dsgitops.core import strict
from dsgitops.core.nodes import Limits

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.integers(-(10**6), 10**6).map(lambda n: n / 64)
    | st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Cf", "Cn", "Co"))),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text("abc/~ 1-", max_size=4), inner, max_size=4)
    ),
    max_leaves=20,
)


def read(text: str | bytes) -> strict.Reading:
    return strict.read(text if isinstance(text, bytes) else text.encode(), path="f.yaml")


def rules(text: str | bytes) -> list[tuple[str, int, int]]:
    return [(each.rule, each.line, each.column) for each in read(text).problems]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 1", {"a": 1}),
        ("a: -7\nb: +7\nc: 0x1F\nd: 0", {"a": -7, "b": 7, "c": 31, "d": 0}),
        ("a: 1.5\nb: 1.10\nc: 1.0e+3\nd: .5", {"a": 1.5, "b": 1.1, "c": 1000.0, "d": 0.5}),
        ("a: true\nb: False\nc: null\nd: ~\ne:", {"a": True, "b": False, "c": None, "d": None, "e": None}),
        ("a: 2026-11-21\nb: 1.2.3\nc: 10.0.0.1:80", {"a": "2026-11-21", "b": "1.2.3", "c": "10.0.0.1:80"}),
        ("a: \"no\"\nb: 'on'\nc: |\n  22:30\n", {"a": "no", "b": "on", "c": "22:30\n"}),
        ("a: !!str 5", {"a": "5"}),
        ("a: &x {b: 1}\nc: *x", {"a": {"b": 1}, "c": {"b": 1}}),
        ('{"a": [1, "b", null, {"c": 1.5}]}', {"a": [1, "b", None, {"c": 1.5}]}),
        ("a: >-\n  x\n  y\nb: 'it''s'", {"a": "x y", "b": "it's"}),
    ],
)  # fmt: skip
def test_what_every_reader_agrees_on_is_a_value(text, value):
    reading = read(text)

    assert reading.problems == ()
    assert [each.value for each in reading.documents] == [value]


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n", "---\n---\n...\n", "\n\n"])
def test_a_file_without_content_is_fine_and_holds_nothing(text):
    assert read(text) == strict.Reading()


def test_documents_are_read_in_their_order():
    reading = read("a: 1\n---\n# nothing\n---\nb: 2\n")

    assert [each.value for each in reading.documents] == [{"a": 1}, {"b": 2}]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("a: 1\n---\nb: [\n", [("yaml-syntax", 4, 1)], id="39 syntax error"),
        pytest.param("a:\n\tb: 1\n", [("tab-indentation", 2, 1)], id="40 tab"),
        pytest.param("a: 1\nb: 2\na: 3\n", [("duplicate-key", 3, 1)], id="41 duplicate key"),
        pytest.param("{a: 1, a: 2}", [("duplicate-key", 1, 8)], id="41 in a flow mapping"),
        pytest.param("a: &x 1\n? *x\n: 2", [("non-string-key", 2, 3)], id="53 alias as a key"),
        pytest.param("a: &x {}\nb:\n  <<: *x\n", [("merge-key", 3, 3)], id="43 merge key"),
        pytest.param("a: &x {b: *x}\n", [("too-complex", 1, 11)], id="44 recursive alias"),
        pytest.param("[" * 30_000, [("too-complex", 1, 65)], id="45 nesting"),
        pytest.param("a: !!python/object/apply:os.system [id]\n", [("tag", 1, 4)], id="46 python tag"),
        pytest.param("a: !Ref b\n", [("tag", 1, 4)], id="47 unknown tag"),
        pytest.param("a: !!binary aGk=\nb: !!set {c}\n", [("tag", 1, 4), ("tag", 2, 4)], id="48 binary, set"),
        pytest.param("a: !!int 'x'", [("tag", 1, 4)], id="48 a type that is not there"),
        pytest.param("a: no\nb: on\nc: y\n", [("ambiguous-scalar", n, 4) for n in (1, 2, 3)], id="49 no, on, y"),
        pytest.param("a: 0644\nb: 08\nc: 0o17\n", [("ambiguous-octal", 1, 4), ("ambiguous-scalar", 2, 4), ("ambiguous-scalar", 3, 4)], id="50 octal"),
        pytest.param("a: [22:30, 1:2:3]\n", [("ambiguous-scalar", 1, 5), ("ambiguous-scalar", 1, 12)], id="51 sexagesimal"),
        pytest.param("a: 1e3\nb: 1_000\nc: 0b11\n", [("ambiguous-scalar", n, 4) for n in (1, 2, 3)], id="52 1e3, 1_000"),
        pytest.param("1: a\ntrue: b\n~: c\n? [d]\n: e\n", [("non-string-key", 1, 1), ("non-string-key", 2, 1), ("non-string-key", 3, 1), ("non-string-key", 4, 3)], id="53 keys"),
        pytest.param("a: .nan\nb: -.inf\nc: 1.0e+999\n", [("not-finite", n, 4) for n in (1, 2, 3)], id="54 NaN, Inf"),
        pytest.param("a: 9223372036854775808\nb: 99999999999999999999999\n", [("number-too-large", 1, 4), ("number-too-large", 2, 4)], id="55 int > 2^63"),
        pytest.param("a: 1".encode("utf-16"), [("encoding", 1, 1)], id="56 UTF-16"),
        pytest.param("a: 1".encode("utf-16-be"), [("encoding", 1, 1)], id="56 UTF-16 without mark"),
        pytest.param(b"\xef\xbb\xbfa: 1", [("byte-order-mark", 1, 1)], id="56 BOM"),
        pytest.param("a: 1\nb: é\n".encode("latin-1"), [("encoding", 2, 4)], id="56 latin-1"),
        pytest.param("a: 1\nb: c\x00\n", [("control-character", 2, 5)], id="56 NUL"),
        pytest.param("a: 1\nb: \u202eevil\n", [("suspicious-unicode", 2, 4)], id="56 bidi override"),
        pytest.param("a: 1\n...\nb: [", [("yaml-syntax", 3, 1)], id="58 garbage after the end"),
        pytest.param("a: {{ .Values.b }}\n", [("unrendered-template", 1, 5)], id="61 template as a value"),
        pytest.param("{{- if .Values.b }}\na: 1\n{{- end }}\n", [("unrendered-template", 1, 3)], id="61 template as a line"),
        pytest.param("a: 1\n<<<<<<< HEAD\nb: 1\n=======\nb: 2\n>>>>>>> topic\n", [("merge-conflict", 2, 1)], id="63 conflict markers"),
        pytest.param(b"a: " + b"x" * 20_000_000, [("file-too-large", 1, 1)], id="64 20 MB on a line"),
        pytest.param("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 1\n", [("lfs-pointer", 1, 1)], id="21 LFS pointer"),
    ],
)  # fmt: skip
def test_what_readers_may_disagree_on_is_refused_with_its_place(text, expected):
    assert rules(text) == expected


def test_a_duplicate_key_names_both_lines():
    (problem,) = read("a: 1\nb: 2\na: 3\n").problems

    assert "line 1 and line 3" in problem.what


def test_all_mistakes_of_a_file_are_told_at_once():
    text = "a: no\nb: 1\nb: 2\n---\nc: !Ref d\n"

    assert [each[:2] for each in rules(text)] == [
        ("ambiguous-scalar", 1),
        ("duplicate-key", 3),
        ("tag", 5),
    ]


def test_values_are_never_quoted():
    texts = (
        "password: 0x_hunter2\n", "a: !Ref hunter2", "a: .nan", "a: 0777", "token: 12:34",
        "hunter2: [", "a: 'hunter2", "a: *hunter2",
    )  # fmt: skip

    said = "".join(each.what + each.remedy for text in texts for each in read(text).problems)

    assert "hunter2" not in said
    assert "0777" not in said
    assert "12:34" not in said


def test_an_alias_bomb_is_stopped_before_it_grows():
    levels = [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    bomb = "\n".join(["a0: &a0 [x,x,x,x,x,x,x,x,x]", *levels])
    began = time.process_time()

    (problem,) = read(bomb).problems

    assert problem.rule == "too-complex"
    assert time.process_time() - began < 1


@pytest.mark.parametrize(("levels", "rule"), [(7, "merge-key"), (30, "too-complex")])
def test_a_merge_key_bomb_takes_no_time(levels, rule):
    lines = ["a0: &a0 {k: v}"]
    lines += [
        f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 3)}]}}" for n in range(1, levels + 1)
    ]
    began = time.process_time()

    found = read("\n".join(lines)).problems

    assert {each.rule for each in found} == {rule}
    assert time.process_time() - began < 1


def test_more_than_a_hundred_aliases_are_refused():
    fine = "a: &a 1\nb: [" + ", ".join(["*a"] * 100) + "]"
    many = "a: &a 1\nb: [" + ", ".join(["*a"] * 101) + "]"

    assert read(fine).problems == ()
    assert [each.rule for each in read(many).problems] == ["too-complex"]


def test_more_than_fifty_thousand_nodes_are_refused():
    assert [each.rule for each in read("[" + "1," * 60_000 + "]").problems] == ["too-complex"]


def test_many_documents_share_one_limit():
    assert [each.rule for each in read("---\n[" + "1," * 4_000 + "]\n").problems] == []
    many = ("---\n[" + "1," * 4_000 + "]\n") * 100

    assert [each.rule for each in read(many).problems] == ["too-complex"]


def test_after_a_thousand_mistakes_the_file_is_not_read_further():
    reading = read("".join(f"a{n}: no\n" for n in range(1_001)))

    assert reading.documents == ()
    assert [each.rule for each in reading.problems] == ["too-complex"]


def test_limits_can_be_set():
    reading = strict.read(b"a: {b: {c: 1}}", path="f", limits=Limits(depth=2))

    assert reading.broken is not None
    assert reading.broken.rule == "too-complex"


def test_a_long_number_takes_no_time():
    began = time.process_time()

    read("a: " + "1" * 1_000_000 + "x\nb: " + "1_" * 500_000 + "x\n")

    assert time.process_time() - began < 2


def test_every_node_knows_its_place():
    document = read("a:\n  b:\n    - c: 1\n    - d/e~f: [2, 3]\n").documents[0]

    assert document.key_mark("/a/b/1/d~1e~0f") == (4, 7)
    assert document.value_mark("/a/b/1/d~1e~0f") == (4, 14)
    assert document.value_mark("/a/b/1/d~1e~0f/1") == (4, 18)
    assert document.value_mark("/a/b/0/c") == (3, 10)
    assert document.key_mark("/a/b/7/x") == (2, 3), "the nearest parent's, where it is not there"


def test_pointers_are_escaped_as_rfc_6901_has_it():
    assert strict.pointer_of("metadata", "labels", "a/b~c", 0) == "/metadata/labels/a~1b~0c/0"


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_make_it_raise(data):
    reading = strict.read(data, path="f")

    assert isinstance(reading, strict.Reading)


@settings(max_examples=400, deadline=None)
@given(st.text("ab01:-[]{}&*!|>'\"#%@`,?~<=. \n\t\\é\u202e", max_size=60))
def test_no_text_makes_it_raise(text):
    for problem in read(text).problems:
        assert problem.line >= 1
        assert problem.what


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(JSON_VALUES)
def test_json_is_read_as_it_was_written(value):
    reading = read(json.dumps({"a": value}, ensure_ascii=False))

    assert reading.problems == ()
    assert [each.value for each in reading.documents] == [{"a": value}]


@settings(max_examples=500, deadline=None)
@given(st.text("0123456789+-._:eExXoObaAnNyYsSfFtTrRuUlL~=< ", min_size=1, max_size=10))
def test_an_accepted_plain_scalar_is_the_same_to_pyyaml_and_to_json(scalar):
    text = f"a: {scalar}\n"
    reading = read(text)
    if reading.problems or not reading.documents:
        return
    try:
        theirs = yaml.load(text, Loader=yaml.CSafeLoader)
    except yaml.constructor.ConstructorError:
        assert scalar.strip() in {"=", "<<"}, "text to all others"
        return
    ours = reading.documents[0].value

    if isinstance(theirs["a"], dt.date):
        assert ours["a"] == scalar.strip()
        return
    assert ours == theirs
    assert type(ours["a"]) is type(theirs["a"])
    assert json.loads(json.dumps(ours)) == ours
