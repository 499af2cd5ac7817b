"""Strict JSON for graders, and whether two decoded values say the same."""

from typing import Any

import orjson

from apps.strict_json import BadJSON

MAX_LEVELS = 127  # deeper than that the readers of other evaluators give up too
NUMBERS = (int, float)


def read_json(text: str) -> Any:
    """Decode a text that is JSON by RFC 8259 as a whole. Raises BadJSON.

    Refuses what parse_json refuses, but for NUL and for nesting down to a thousand levels;
    integers beyond 64 bits become floats.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise BadJSON(str(error)) from None


def same(one: Any, other: Any, levels: int = MAX_LEVELS) -> bool:
    """Are two decoded values equal, with every number a 64-bit float? Not if nested deeper.

    Members have no order, elements have one; a boolean is no number, and null is not absent.
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
