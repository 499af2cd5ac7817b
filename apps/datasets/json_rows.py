"""Read rows out of JSON documents: an array, an object that holds one, objects in a row."""

import codecs
import json
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from apps.datasets.tabular import (
    BYTE_ORDER_MARK,
    MAX_LINE_BYTES,
    BadRow,
    Row,
    read_jsonl,
)
from apps.datasets.unpacking import BadFile
from apps.strict_json import BadJSON, parse_json

HEAD_BYTES = 256 * 1024
# What services and libraries call the list of rows; of others only a short object is looked at.
LIST_NAMES = ("data", "rows", "items", "examples", "records", "samples", "questions", "results")

_BLANK = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()

Rows = Iterator[Row | BadRow]


def read_json(chunks: Iterable[bytes]) -> Rows:
    """Read the objects of a JSON array, of the one list in an object, or in a row.

    What is a whole object on its first line, with another after it, is read as JSONL: files of all
    these kinds are called .json. Raises BadFile for what is wrong with more than a row.
    """
    source = iter(chunks)
    head: list[bytes] = []
    size = 0
    while size < HEAD_BYTES and (chunk := next(source, b"")):
        head.append(chunk)
        size += len(chunk)
    shape = shape_of(b"".join(head), is_whole=size < HEAD_BYTES)
    whole = chain(head, source)
    if shape == ARRAY:
        return _read_array(_Window(whole))
    if shape == OBJECTS:
        return _read_objects(_Window(whole))
    return read_jsonl(whole) if shape == LINES else _read_member(_Window(whole), shape)


# The shapes of a JSON text; any other word is the member that holds the rows.
LINES, ARRAY, OBJECTS = "", "[", "{"


def shape_of(head: bytes, *, is_whole: bool) -> str:
    """Tell by its beginning whether a JSON text is lines, an array, objects, or holds a list.

    is_whole: nothing comes after the head.
    """
    text = head.removeprefix(BYTE_ORDER_MARK).decode(errors="replace").lstrip()
    if text.startswith("["):
        return ARRAY
    if not text.startswith("{"):
        return LINES
    first, *others = text.split("\n", 1)
    if others or is_whole:
        try:
            value = parse_json(first)
        except BadJSON:
            pass
        else:
            has_more = not is_whole or any(other.strip() for other in others)
            return LINES if has_more else _list_in(value)
    # The first line ends within an object, or beyond the head.
    if name := _list_ahead(text, any_name=bool(others)):
        return name
    try:
        _, end = _DECODER.raw_decode(text)
    except (ValueError, RecursionError):
        return LINES
    return OBJECTS if end > len(first) else LINES


def _list_in(value: Any) -> str:
    """Return the name of the only list of objects in an object that is no row itself."""
    if not isinstance(value, dict) or "item" in value:
        return LINES
    lists = [
        name
        for name, one in value.items()
        if isinstance(one, list) and one and all(isinstance(row, dict) for row in one)
    ]
    if len(value) == 1:
        [name] = value
        return name if lists or (name in LIST_NAMES and value[name] == []) else LINES
    return next((name for name in LIST_NAMES if name in lists), LINES)


def _list_ahead(text: str, *, any_name: bool) -> str:
    """Return the first member whose value begins as a list of objects, as far as the text goes."""
    at = 1
    while True:
        try:
            name, at = _DECODER.raw_decode(text, _past_blanks(text, at))
            at = _past_blanks(text, at)
            if not isinstance(name, str) or text[at : at + 1] != ":":
                return ""
            at = _past_blanks(text, at + 1)
            if text[at : at + 1] == "[" and text[_past_blanks(text, at + 1) :][:1] == "{":
                return name if any_name or name in LIST_NAMES else ""
            _, at = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            return ""
        at = _past_blanks(text, at)
        if text[at : at + 1] != ",":
            return ""
        at += 1


def _past_blanks(text: str, at: int) -> int:
    blank = _BLANK.match(text, at)
    return blank.end() if blank else at


def _read_member(window: "_Window", wanted: str) -> Rows:
    """Read the list of one member of an object; the other members are passed over."""
    window.take()
    mark = ","
    while mark == ",":
        name = parse_json(window.next_value("a member's name"))
        if window.take() != ":":
            raise BadFile(f"after the member {str(name)[:60]!r} comes no colon")
        if name == wanted and window.peek() == "[":
            yield from _read_elements(window)
        else:
            window.next_value(f"the member {str(name)[:60]!r}")
        mark = window.take()
    if mark != "}":
        raise BadFile("after a member comes neither a comma nor the object's end")
    if window.peek():
        raise BadFile("something comes after the object's end")


def _read_array(window: "_Window") -> Rows:
    yield from _read_elements(window)
    if window.peek():
        raise BadFile("something comes after the array's end")


def _read_elements(window: "_Window") -> Rows:
    window.take()
    number, mark = 0, ","
    if window.peek() == "]":
        mark = window.take()
    while mark == ",":
        number += 1
        yield _element(window, number)
        mark = window.take()
    if mark != "]":
        raise BadFile(f"after row {number:,} comes neither a comma nor the array's end")


def _read_objects(window: "_Window") -> Rows:
    number = 0
    while window.peek():
        number += 1
        yield _element(window, number)


def _element(window: "_Window", number: int) -> Row | BadRow:
    text = window.next_value(f"row {number:,}")
    try:
        value = parse_json(text)
    except ValueError as error:
        return BadRow(number, str(error), "row", text.encode(errors="replace"))
    if isinstance(value, dict):
        return Row(number, value, "row")
    return BadRow(number, "a row must be a JSON object", "row", text.encode())


class _Window:
    """The part of a file's text that has been read and not yet been used."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._text = ""
        self._at = 0
        self._ended = False

    def peek(self) -> str:
        """Return the next character that is no white space; "" at the end."""
        while True:
            self._at = _past_blanks(self._text, self._at)
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._read_on():
                return ""

    def take(self) -> str:
        character = self.peek()
        self._at += len(character)
        return character

    def next_value(self, what: str) -> str:
        """Take the text of the next JSON value, called `what` in a BadFile that there is none."""
        self.peek()
        while True:
            try:
                _, end = _DECODER.raw_decode(self._text, self._at)
            except RecursionError:
                raise BadFile(f"{what}: nested too deep") from None
            except json.JSONDecodeError as error:
                # Perhaps its end was not read yet; a value is bounded like a line of JSONL.
                if len(self._text) - self._at > MAX_LINE_BYTES or not self._read_on():
                    raise BadFile(f"{what}: {error.msg}") from None
            else:
                if end == len(self._text) and self._read_on():
                    continue  # a number may go on
                value, self._at = self._text[self._at : end], end
                return value

    def _read_on(self) -> bool:
        if self._ended:
            return False
        data = next(self._chunks, b"")
        self._ended = not data
        try:
            text = self._decoder.decode(data, final=self._ended)
        except UnicodeDecodeError as error:
            raise BadFile(f"not valid UTF-8: {error.reason}") from None
        self._text = self._text[self._at :] + text
        self._at = 0
        return True
