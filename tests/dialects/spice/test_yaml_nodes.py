"""YAML as data and nothing else."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalplatform.dialects.spice.yaml_nodes import MAX_BYTES, MAX_DEPTH, BadYaml, read_yaml


def plain(text: str):
    return read_yaml(text.encode()).plain()


def test_scalars_are_typed_by_the_core_schema_and_kept_as_they_are_written():
    root = read_yaml(
        b"a: 1\nb: 1.50\nc: true\nd: ~\ne:\nf: 'no'\ng: no\nh: 2024-01-01\ni: 12:30\nj: 007\n"
        b"k: .nan\nl: 1e999\nm: -2e3\nn: '7'\n"
    )
    assert root.plain() == {
        "a": 1,
        "b": 1.5,
        "c": True,
        "d": None,
        "e": None,
        "f": "no",
        "g": "no",
        "h": "2024-01-01",
        "i": "12:30",
        "j": 7,
        "k": ".nan",
        "l": "1e999",
        "m": -2000.0,
        "n": "7",
    }
    assert root.value["b"].text == "1.50"
    assert root.value["j"].text == "007"
    assert root.value["b"].line == 2


def test_json_is_read_with_its_escapes_and_tabs():
    assert plain('{\n\t"a": "\\ud83d\\ude00",\n\t"b": [1.5, null, {"c": true}]}') == {
        "a": "😀",
        "b": [1.5, None, {"c": True}],
    }
    assert read_yaml(b'{"a": 7}').value["a"].text == "7"


def test_what_looks_like_json_may_still_be_yaml():
    assert plain("{a: 1, b: [x, y],}") == {"a": 1, "b": ["x", "y"]}


def test_an_alias_stands_for_what_its_anchor_names():
    assert plain("a: &x {k: 1}\nb: *x\n&y c: *y") == {"a": {"k": 1}, "b": {"k": 1}, "c": "c"}


def test_a_byte_order_mark_is_dropped_and_an_empty_file_is_null():
    assert plain("\ufeffa: 1") == {"a": 1}
    assert plain("") is None
    assert plain("# nothing\n") is None


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{to}: &{to} [{','.join([f'*{of}'] * 10)}]\n"
    for of, to in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (BOMB, "too large when its aliases are written out"),
        ("&a [*a]", "stands for nothing before it"),
        ("x: *nobody", "stands for nothing before it"),
        ("[" * 500_000, "nested deeper"),
        ("{a: " * 200_000, "nested deeper"),
        ("- " * 500_000, "nested deeper"),
        ("a: &a [[[[[[[[[[[[[[[[[[[[[x]]]]]]]]]]]]]]]]]]]]]\nb: [[[[" + "[" * 16 + "*a" + "]" * 20,
         "nested deeper"),
        ("a: 1\nb: 2\na: 3", "line 3: 'a' stands there twice"),
        ('{"a": 1, "a": 2}', "'a' stands there twice"),
        ("x: !!python/object/apply:os.system [ls]", "line 1: the tag"),
        ("x: !!binary aGk=", "line 1: the tag"),
        ("x: !secret y", "line 1: the tag"),
        ("--- a\n--- b", "line 2: a second document"),
        ("? [a]\n: b", "a key must be a text"),
        ('x: "\\0"', "a NUL character"),
        ("a: [1,\nb: }", "line 2:"),
        ("a: \x01", "not allowed"),
        ("\ta: 1", "line 1:"),
    ],
)  # fmt: skip
def test_what_is_unsafe_or_broken_is_refused_with_its_line(text, reason):
    with pytest.raises(BadYaml, match=r".*") as refused:
        plain(text)
    assert reason in str(refused.value)


def test_the_file_is_bounded_and_utf8():
    with pytest.raises(BadYaml, match="larger than"):
        read_yaml(b"a" * (MAX_BYTES + 1))
    with pytest.raises(BadYaml, match="not valid UTF-8 at byte 4"):
        read_yaml(b"a: \xff")
    assert MAX_DEPTH < 100


@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8", exclude_characters="\0")),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.text(st.characters(codec="utf-8", exclude_characters="\0")),
            lambda inner: st.lists(inner, max_size=3),
            max_leaves=8,
        ),
    )
)
def test_every_json_object_comes_back(value):
    assert plain(json.dumps(value)) == value
