"""Read JSON strictly and write it compactly, so that what comes in is given back unchanged."""

import json
import math
import re
from collections.abc import Iterable
from typing import Any

import orjson

MAX_DEPTH = 100
MAX_DIGITS = 4_000
# Every integer of 18 digits fits 64 bits; orjson makes floats of those that do not. The first
# search is five times as fast as the second, which leaves out the long fractions of floats.
_DIGITS_TO_ZERO = bytes(ord("0") if chr(byte) in "0123456789" else ord(" ") for byte in range(256))
_LONG_DIGITS = b"0" * 19
_LONG_INTEGER = re.compile(rb"(?<![0-9.])[0-9]{19}")


class BadJSON(ValueError):
    """A text is not JSON that can be stored and given back unchanged."""


def parse_json(data: bytes | str) -> Any:
    """Parse one JSON document, strictly.

    Integers stay exact at any size up to MAX_DIGITS, keys keep their order, the last of two equal
    keys wins. Raises BadJSON, with the position where it is known, for text that is not UTF-8 or
    not JSON, NaN, Infinity, numbers beyond a double, NUL characters, lone surrogates, and nesting
    deeper than MAX_DEPTH.
    """
    try:
        document = data.encode() if isinstance(data, str) else data
    except UnicodeEncodeError as error:
        raise BadJSON(f"lone surrogate at character {error.start + 1}") from None
    long_digits = _LONG_DIGITS in document.translate(_DIGITS_TO_ZERO)
    if long_digits and _LONG_INTEGER.search(document):
        return _parse_exactly(document)
    try:
        value = orjson.loads(document)
    except orjson.JSONDecodeError as error:
        raise _bad_json(document, error) from None
    if document.count(b"[") + document.count(b"{") > MAX_DEPTH:
        _refuse_depth(value)
    if b"\\u0000" in document:
        _refuse_bad_text(value)
    return value


def parse_stored(documents: Iterable[bytes | str]) -> list[Any]:
    """Parse documents that `parse_json` has taken or `dump_json` has written: all of them at once.

    Integers stay exact, as they do there; nothing else is looked at again.
    """
    texts = [one.encode() if isinstance(one, str) else one for one in documents]
    array = b"[%b]" % b",".join(texts)
    if _LONG_DIGITS in array.translate(_DIGITS_TO_ZERO) and _LONG_INTEGER.search(array):
        return [parse_json(one) for one in texts]
    return orjson.loads(array)


def dump_json(value: Any) -> str:
    """Write a value as compact JSON: key order kept, non-ASCII kept.

    Raises ValueError for NaN, infinities and lone surrogates, TypeError for what JSON has no word
    for.
    """
    try:
        text = orjson.dumps(value)
    except orjson.JSONEncodeError:
        # The integers that orjson refuses; whatever else it refuses is refused again here.
        exact = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        exact.encode()
        return exact
    # orjson writes NaN as null.
    if b"null" in text and not _is_finite(value):
        raise ValueError("NaN and infinities have no JSON form")
    return text.decode()


def _parse_exactly(document: bytes) -> Any:
    """Parse with the slower parser, which lets us keep long integers."""
    try:
        value = _EXACT.decode(document.decode())
    except UnicodeDecodeError as error:
        raise _bad_utf8(error) from None
    except json.JSONDecodeError as error:
        raise _bad_json(document, error) from None
    except RecursionError:
        raise _too_deep() from None
    _refuse_depth(value)
    _refuse_bad_text(value)
    return value


def _exact_integer(digits: str) -> int:
    if len(digits.removeprefix("-")) > MAX_DIGITS:
        raise BadJSON(f"a number has more than {MAX_DIGITS:,} digits")
    return int(digits)


def _finite_float(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise BadJSON(f"the number {digits[:20]} is too large")
    return number


def _refuse_constant(name: str) -> Any:
    raise BadJSON(f"{name} is not JSON")


_EXACT = json.JSONDecoder(
    parse_int=_exact_integer, parse_float=_finite_float, parse_constant=_refuse_constant
)


def _bad_json(document: bytes, error: json.JSONDecodeError) -> BadJSON:
    try:
        document.decode()
    except UnicodeDecodeError as encoding_error:
        return _bad_utf8(encoding_error)
    return BadJSON(f"{error.msg} at line {error.lineno}, column {error.colno}")


def _bad_utf8(error: UnicodeDecodeError) -> BadJSON:
    return BadJSON(f"not valid UTF-8 at byte {error.start + 1}")


def _too_deep() -> BadJSON:
    return BadJSON(f"nested deeper than {MAX_DEPTH} levels")


def _refuse_depth(value: Any) -> None:
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(MAX_DEPTH):
        level = [
            child
            for node in level
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, (dict, list))
        ]
    if level:
        raise _too_deep()


def _refuse_bad_text(value: Any) -> None:
    waiting = [value]
    while waiting:
        node = waiting.pop()
        if isinstance(node, str):
            if "\0" in node:
                raise BadJSON("a NUL character in a string")
            if not _is_encodable(node):
                raise BadJSON("a lone surrogate in a string")
        elif isinstance(node, dict):
            waiting.extend(node)
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_finite(value: Any) -> bool:
    waiting = [value]
    while waiting:
        node = waiting.pop()
        if node is None or type(node) is str:  # most are, and this is asked of every answer
            continue
        if isinstance(node, float):
            if not math.isfinite(node):
                return False
        elif isinstance(node, dict):
            waiting.extend(node.values())
        elif isinstance(node, (list, tuple)):
            waiting.extend(node)
    return True
