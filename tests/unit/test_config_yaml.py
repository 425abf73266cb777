"""The YAML that configs are written in."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.config.yaml_text import MAX_DEPTH, YamlProblem, dump_yaml, parse_yaml, shorten

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=10
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("off", "off"),
        ("yes", "yes"),
        ("12:30", "12:30"),
        ("2024-01-01", "2024-01-01"),
        ("1_000", "1_000"),
        ("1e3", 1000.0),
        ("-.5", -0.5),
        ("0x1F", 31),
        ("0o17", 15),
        ("010", 10),
        ("true", True),
        ("False", False),
        ("~", None),
        ("null", None),
        ("", None),
        ("# nothing", None),
        ("'1'", "1"),
        ("<<", "<<"),
        ("=", "="),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("[1, a]", [1, "a"]),
    ],
)
def test_scalars_are_read_by_the_core_schema(text: str, value: Any) -> None:
    found = parse_yaml(text).value
    assert found == value
    assert type(found) is type(value)


def test_nan_is_a_number() -> None:
    assert math.isnan(parse_yaml(".NaN").value)


@given(VALUES)
@example({"\x85": None})
@example({"a": "\u2028", "b": "\n", "c": "x\r\n"})
def test_what_is_written_reads_back_equal(value: Any) -> None:
    assert parse_yaml(dump_yaml(value)).value == value


@given(TEXT)
def test_any_text_gives_a_document_or_a_problem(text: str) -> None:
    try:
        parse_yaml(text)
    except YamlProblem as problem:
        assert problem.text
        assert problem.line is None or 1 <= problem.line <= len(text.splitlines()) + 1


def test_every_key_and_item_knows_its_line() -> None:
    document = parse_yaml("a:\n  b: 1\n  c:\n    - x\n    - y\n'd': {e: 2}\n")
    assert document.lines == {
        ("a",): 1,
        ("a", "b"): 2,
        ("a", "c"): 3,
        ("a", "c", 0): 4,
        ("a", "c", 1): 5,
        ("d",): 6,
        ("d", "e"): 6,
    }


def test_a_key_given_twice_is_noted_and_the_first_one_kept() -> None:
    document = parse_yaml("a: 1\nb:\n  c: 1\n  c: 2\na: 3\n")
    assert document.value == {"a": 1, "b": {"c": 1}}
    assert document.duplicates == ((("b", "c"), 4, 3), (("a",), 5, 1))


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 1\nb: [", 2, "not valid YAML"),
        ("a: 1\n\tb: 2", 2, "not valid YAML"),
        ("a: &x 1\nb: *x", 1, "anchors"),
        ("b: *x", 1, "aliases"),
        ("a: !!python/object:os.system 1", 1, "tags"),
        ("a: !thing {}", 1, "tags"),
        ("a: 1\n---\nb: 2", 2, "not valid YAML"),
        ("? [1]\n: 2", 1, "a key must be a word"),
        ("a: \x07", 1, "not allowed"),
        ('a: "\\ud800"', 1, "surrogate"),
        ("a: " + "[" * (MAX_DEPTH + 1), 1, "nested deeper"),
        ("a: " + "9" * 5000, 1, "not a number"),
        ("a: !!int x", 1, "not a number"),
    ],
)
def test_what_configs_do_not_use_is_a_problem_with_its_line(text: str, line: int, words: str) -> None:
    with pytest.raises(YamlProblem) as caught:
        parse_yaml(text)
    assert caught.value.line == line
    assert words in caught.value.text


def test_a_wrong_value_is_shown_short_and_on_one_line() -> None:
    assert shorten("x" * 1000) == "'" + "x" * 56 + "..."
    assert shorten("a\nb") == r"'a\nb'"
    assert [shorten(value) for value in (None, True, 3, 0.5)] == ["null", "true", "3", "0.5"]
