"""JSON is read strictly and written compactly, so that it comes back as it was."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.strict_json import (
    MAX_DEPTH,
    MAX_DIGITS,
    BadJSON,
    dump_json,
    parse_json,
    parse_stored,
)
from tests.json_values import VALUES

LONG = "1" * 25  # takes the slower of the parser's two ways


@pytest.mark.parametrize(
    "number",
    [0, -1, 2**53 + 1, 2**63 - 1, -(2**63), 2**64 - 1, 2**64, -(2**63) - 1, 10**400, -(10**3000)],
)
def test_integers_of_any_size_stay_exact(number):
    value = parse_json(f'{{"n": [{number}]}}')
    assert value == {"n": [number]}
    assert type(value["n"][0]) is int
    assert parse_json(dump_json(value)) == value


@pytest.mark.parametrize(
    "text",
    [
        "[0.00012345678901234567891, 18446744073709551616]",
        '{"a":18446744073709551616}',
        "[-0.1,\n18446744073709551616 ]",
        "18446744073709551616",
        "[1e5,-18446744073709551616]",
        '["0.18446744073709551616",18446744073709551616]',
    ],
)
def test_a_long_integer_is_found_wherever_it_stands(text):
    assert parse_json(text) == json.loads(text)


def test_an_integer_may_have_4000_digits_and_no_more():
    assert parse_json("9" * MAX_DIGITS) == int("9" * MAX_DIGITS)
    assert parse_json(f"[-{'9' * MAX_DIGITS}]") == [-int("9" * MAX_DIGITS)]
    for digits in (MAX_DIGITS + 1, 100_000):
        with pytest.raises(BadJSON, match="4,000 digits"):
            parse_json("9" * digits)


@pytest.mark.parametrize("text", ["1.5", "-0.0", "1e5", "1E-400", "0.1234567890123456789", "1e308"])
def test_floats_are_the_nearest_doubles(text):
    assert repr(parse_json(text)) == repr(float(text))
    assert repr(parse_json(f"[{text}, {LONG}]")[0]) == repr(float(text))


@pytest.mark.parametrize("padding", ["", f", {LONG}"])
@pytest.mark.parametrize(
    ("element", "reason"),
    [
        ("NaN", ""),
        ("Infinity", ""),
        ("-Infinity", ""),
        ("1e400", ""),
        ("-1e400", ""),
        ("1" * 20 + "e300", ""),
        (r'"\u0000"', "NUL"),
        (r'{"a\u0000b": 1}', "NUL"),
        ('"\0"', "control character"),
        (r'"\ud800"', ""),
        (r'"\udc00\ud800"', ""),
        (r'{"\ud800": 1}', ""),
        ("'a'", ""),
        ("01", ""),
        ("1.", ""),
        ("+1", ""),
        (".5", ""),
        ("0x10", ""),
        ("tru", ""),
        ('"a\nb"', "control character"),
        (r'"\x41"', ""),
        ("{1: 2}", ""),
        ('{"a" 1}', ""),
        ("[1,]", ""),
        (",", ""),
        ("[" * MAX_DEPTH + "]" * MAX_DEPTH, "nested deeper than 100"),
        ('{"a":' * MAX_DEPTH + "1" + "}" * MAX_DEPTH, "nested deeper than 100"),
        ("[" * 200_000, ""),
        ("[" * 5_000 + "]" * 5_000, ""),
    ],
)
def test_what_is_not_strict_json_is_refused(element, reason, padding):
    with pytest.raises(BadJSON) as caught:
        parse_json(f"[{element}{padding}]")
    assert reason in str(caught.value)
    assert 10 <= len(str(caught.value)) < 200


@pytest.mark.parametrize("data", ["", " ", b"", b"\xef\xbb\xbf{}", "1 2", "[", "[]]", "\ufeff1"])
def test_a_document_is_one_value_and_nothing_else(data):
    with pytest.raises(BadJSON):
        parse_json(data)


@pytest.mark.parametrize("data", [b'"\xff"', b'{"a": "\xc3"}', b'"\xed\xa0\x80"', b"\xff\xfe1\x00"])
@pytest.mark.parametrize("padding", [b"", b" " + LONG.encode()])
def test_bytes_that_are_not_utf8_are_named_as_such(data, padding):
    with pytest.raises(BadJSON, match=r"not valid UTF-8 at byte \d+"):
        parse_json(data + padding)


def test_a_str_with_a_lone_surrogate_is_refused():
    with pytest.raises(BadJSON, match="lone surrogate at character 2"):
        parse_json('"\ud800"')


def test_a_fault_is_reported_with_its_line_and_column():
    with pytest.raises(BadJSON, match="at line 3, column 6"):
        parse_json('{\n"a": 1,\n"b": x}')


def test_nesting_up_to_the_limit_is_taken_and_siblings_do_not_add_up():
    deepest = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert dump_json(parse_json(deepest)) == deepest
    assert len(parse_json("[" + "[]," * 5_000 + "{}]")) == 5_001
    assert parse_json(json.dumps("[{" * 500)) == "[{" * 500


def test_keys_keep_their_order_and_the_last_duplicate_wins():
    for padding in ("", LONG):
        value = parse_json(f'{{"z": 1, "a": 2, "m": "{padding}", "z": 3}}')
        assert list(value) == ["z", "a", "m"]
        assert value["z"] == 3


def test_an_escaped_backslash_before_u0000_is_no_nul():
    assert parse_json(r'["\\u0000"]') == [r"\u0000"]


def test_surrogate_pairs_are_characters():
    assert parse_json(rf'["\ud83d\ude00", {LONG}]') == ["😀", int(LONG)]
    assert parse_json(r'"\ud83d\ude00"') == "😀"


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_dumping_never_writes_nan(bad):
    for value in (bad, [bad, None], {"a": {"b": (1, bad)}}, [2**70, bad]):
        with pytest.raises(ValueError, match="JSON"):
            dump_json(value)


@pytest.mark.parametrize("value", [object(), {1, 2}, [2**70, object()], b"bytes"])
def test_dumping_refuses_what_json_has_no_word_for(value):
    with pytest.raises(TypeError):
        dump_json(value)


@pytest.mark.parametrize("value", ["\ud800", ["\ud800", 2**70], {"\ud800": None}])
def test_dumping_refuses_lone_surrogates(value):
    with pytest.raises(ValueError, match="surrogates"):
        dump_json(value)


def test_dumped_json_is_compact_and_keeps_order_and_characters():
    assert (
        dump_json({"z": [1, None], "ä": "ü\n😀", "b": True})
        == '{"z":[1,null],"ä":"ü\\n😀","b":true}'
    )
    assert dump_json({"z": 2**70, "ä": "ü\u2028"}) == f'{{"z":{2**70},"ä":"ü\u2028"}}'


@given(VALUES)
def test_any_value_comes_back_as_it_was(value):
    text = dump_json(value)
    again = parse_json(text)
    assert again == value
    assert dump_json(again) == text
    assert parse_json(text.encode()) == value
    assert json.loads(text) == value


@given(st.text() | st.binary())
def test_the_parser_takes_nothing_that_the_strict_standard_parser_refuses(data):
    try:
        value = parse_json(data)
    except BadJSON:
        return
    assert json.loads(data) == value


@given(st.lists(VALUES, max_size=5))
def test_stored_documents_are_read_together_as_each_is_alone(values):
    texts = [dump_json(value) for value in values]
    assert parse_stored(texts) == [parse_json(text) for text in texts]
    assert parse_stored(text.encode() + b"\r\n \n" for text in texts) == parse_stored(texts)


def test_long_integers_of_stored_documents_stay_exact():
    assert parse_stored(['{"n": 12345678901234567890123}', b"1", "null"]) == [
        {"n": 12345678901234567890123},
        1,
        None,
    ]
