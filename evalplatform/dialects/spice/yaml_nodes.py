"""Read YAML as data only: one bounded document, whose texts are kept as they are written."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

import yaml

from apps.strict_json import BadJSON, dump_json, parse_json

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 40
# What a document may weigh when its aliases are written out: characters, and NODE_WEIGHT a node.
MAX_WEIGHT = 16 * 1024 * 1024
NODE_WEIGHT = 8

# The C parser is ten times as fast; both give the same events.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
# YAML 1.2's core schema, in which `no` and `12:30` are texts and there are no dates.
_NULLS = frozenset(("", "~", "null", "Null", "NULL"))
_BOOLEANS = {"true": True, "True": True, "TRUE": True} | {
    "false": False,
    "False": False,
    "FALSE": False,
}
_INTEGER = re.compile(r"[-+]?[0-9]{1,400}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,4})?")


class BadYaml(ValueError):
    """The document is not YAML that is read here; the message begins with its line if known."""


@dataclass(frozen=True)
class Node:
    """A value and its line.

    value: None, a bool, int, float or str, a list of nodes, or a dict from texts to nodes.
    text: a scalar as it is written. line: from 1; 0 when it is not known. weight: the size with all
    aliases written out, in characters and NODE_WEIGHT for each node. depth: the nesting below it.
    """

    value: Any
    line: int
    text: str = ""
    weight: int = NODE_WEIGHT
    depth: int = 0

    def plain(self) -> Any:
        """Return the value without lines."""
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        return self.value


def read_yaml(document: bytes) -> Node:
    """Read the one document of a file; null for an empty file. Raises BadYaml."""
    if len(document) > MAX_BYTES:
        raise BadYaml(f"larger than {MAX_BYTES:,} bytes")
    try:
        text = document.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadYaml(f"not valid UTF-8 at byte {error.start + 1}") from None
    # JSON writes an emoji as two escapes, which YAML has no word for.
    if text.lstrip().startswith("{"):
        try:
            parse_json(text)
        except BadJSON:
            return _read_events(text)
        return _scalar(json.loads(text, object_pairs_hook=_json_object))
    return _read_events(text)


def _json_object(pairs: list[tuple[str, Any]]) -> Node:
    entries: dict[str, Node] = {}
    for key, value in pairs:
        _put(entries, key, _scalar(value), 0)
    return _closed(entries, 0)


def _scalar(value: Any) -> Node:
    """Make a node of a value out of JSON, whose objects are nodes already."""
    if isinstance(value, Node):
        return value
    if isinstance(value, list):
        return _closed([_scalar(part) for part in value], 0)
    return Node(value, 0, value if isinstance(value, str) else dump_json(value))


def _read_events(text: str) -> Node:
    try:
        return _Builder().build(yaml.parse(text, Loader=_LOADER))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 0
        _refuse(line, error.problem or error.context or "not YAML")
    except yaml.reader.ReaderError as error:
        raise BadYaml(f"{error.reason} at character {error.position + 1}") from None


@dataclass
class _Open:
    """A list or mapping whose end has not been read yet."""

    value: list[Node] | dict[str, Node]
    line: int
    anchor: str | None
    key: Node | None = None

    def take(self, node: Node) -> None:
        if isinstance(self.value, list):
            self.value.append(node)
        elif self.key is not None:
            _put(self.value, self.key.text, node, self.key.line)
            self.key = None
        elif isinstance(node.value, list | dict):
            _refuse(node.line, "a key must be a text")
        else:
            self.key = node


class _Builder:
    """Makes nodes of events. No nesting and no alias costs more than the document shows."""

    def __init__(self) -> None:
        self._anchors: dict[str, Node] = {}
        self._open: list[_Open] = []
        self._root: Node | None = None
        self._documents = 0

    def build(self, events: Iterator[Any]) -> Node:
        for event in events:
            self._take_event(event, event.start_mark.line + 1)
        return self._root or Node(None, 1)

    def _take_event(self, event: Any, line: int) -> None:
        match event:
            case yaml.DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    _refuse(line, "a second document begins: a spicepod is one")
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                is_map = isinstance(event, yaml.MappingStartEvent)
                _check_tag(event.tag, "map" if is_map else "seq", line)
                if len(self._open) >= MAX_DEPTH:
                    _refuse(line, f"nested deeper than {MAX_DEPTH} levels")
                self._open.append(_Open({} if is_map else [], line, event.anchor))
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                ended = self._open.pop()
                self._take(_closed(ended.value, ended.line), ended.anchor)
            case yaml.AliasEvent():
                if event.anchor not in self._anchors:
                    _refuse(line, f"the alias *{event.anchor} stands for nothing before it")
                self._take(self._anchors[event.anchor], None)
            case yaml.ScalarEvent():
                self._take(_node_of(event, line), event.anchor)

    def _take(self, node: Node, anchor: str | None) -> None:
        if anchor is not None:
            self._anchors[anchor] = node
        if self._open:
            self._open[-1].take(node)
        else:
            self._root = node


def _put(entries: dict[str, Node], key: str, node: Node, line: int) -> None:
    if key in entries:
        _refuse(line, f"{key[:60]!r} stands there twice")
    entries[key] = node


def _closed(value: list[Node] | dict[str, Node], line: int) -> Node:
    parts = list(value.values()) if isinstance(value, dict) else value
    weight = NODE_WEIGHT + sum(part.weight for part in parts)
    if isinstance(value, dict):
        weight += sum(map(len, value))
    if weight > MAX_WEIGHT:
        _refuse(line, "too large when its aliases are written out")
    depth = 1 + max((part.depth for part in parts), default=0)
    if depth > MAX_DEPTH:
        _refuse(line, f"nested deeper than {MAX_DEPTH} levels")
    return Node(value, line, "", weight, depth)


def _node_of(event: Any, line: int) -> Node:
    text = event.value
    _check_tag(event.tag, "str", line)
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        _refuse(line, "a NUL character or a lone surrogate in a text")
    # implicit[0]: plain and without a tag, so that the schema decides.
    value = _resolved(text) if event.implicit[0] else text
    return Node(value, line, text, NODE_WEIGHT + len(text))


def _resolved(text: str) -> Any:
    if text in _NULLS:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        number = float(text)
        return number if abs(number) != float("inf") else text
    return text


def _check_tag(tag: str | None, known: str, line: int) -> None:
    if tag not in {None, "!", _TAG + known}:
        _refuse(line, f"the tag {tag[:60] if tag else ''!r} is not understood here")


def _refuse(line: int, message: str) -> NoReturn:
    raise BadYaml(f"line {line}: {message}" if line else message)
