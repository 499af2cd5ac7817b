"""Decode JSON for graders, and compare two decoded values."""

from typing import Any

import orjson

from apps.strict_json import BadJSON

MAX_LEVELS = 127  # other evaluators' parsers refuse deeper nesting too
NUMBERS = (int, float)


def read_json(text: str) -> Any:
    """Decode a text that is one JSON value. Raises BadJSON. Source: RFC 8259.

    As strict as parse_json, but it accepts NUL in texts and a thousand levels of nesting; integers
    beyond 64 bits become floats.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise BadJSON(str(error)) from None


def same(one: Any, other: Any, levels: int = MAX_LEVELS) -> bool:
    """Compare two decoded values, every number as a 64-bit float.

    The order of members does not count, that of elements does; a boolean is no number, and a null
    member differs from an absent one. Values nested deeper than `levels` are not equal.
    """
    if type(one) in NUMBERS and type(other) in NUMBERS:
        return float(one) == float(other)
    if type(one) is not type(other):
        return False
    if not isinstance(one, dict | list):
        return one == other
    if not levels or len(one) != len(other):
        return False
    if isinstance(one, dict):
        return all(key in other and same(one[key], other[key], levels - 1) for key in one)
    return all(same(mine, its, levels - 1) for mine, its in zip(one, other, strict=True))
