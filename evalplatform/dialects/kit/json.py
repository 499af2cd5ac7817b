"""Read a body of JSON strictly, and write JSON quickly."""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

import orjson
from django.conf import settings
from rest_framework.parsers import BaseParser
from rest_framework.renderers import JSONRenderer

from apps.errors import Invalid, LimitError, Path, Step
from apps.strict_json import BadJSON, parse_json

PATH_LENGTH = 300  # steps, and characters of one


class RawJSON:
    """JSON text that is stored as it came in, and written without being parsed again."""

    __slots__ = ("text",)

    def __init__(self, text: str | bytes) -> None:
        self.text = text


class OrjsonRenderer(JSONRenderer):
    """A renderer of JSON by orjson. RawJSON is inserted as it is; NaN becomes null."""

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> bytes:
        return write_json(data, is_indented=bool((renderer_context or {}).get("indent")))


def write_json(value: Any, *, is_indented: bool = False) -> bytes:
    """Write JSON with its RawJSON inserted as it is; NaN becomes null."""
    try:
        option = orjson.OPT_INDENT_2 if is_indented else 0
        return orjson.dumps(value, default=_spliced, option=option)
    except orjson.JSONEncodeError:
        # Integers of more than 64 bits, which orjson refuses to write.
        return json.dumps(value, default=_parsed, separators=(",", ":")).encode()


def _spliced(value: Any) -> orjson.Fragment:
    if isinstance(value, RawJSON):
        return orjson.Fragment(value.text)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _parsed(value: Any) -> Any:
    if isinstance(value, RawJSON):
        return parse_json(value.text)
    raise TypeError(f"{type(value).__name__} has no JSON form")


class StrictJSONParser(BaseParser):
    """A parser of JSON bodies: bounded in size, and refusing what cannot be stored unchanged."""

    media_type = "application/json"

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> Any:
        if int(stream.META.get("CONTENT_LENGTH") or 0) > settings.MAX_BODY_BYTES:
            raise LimitError(
                f"The body is larger than the limit of {settings.MAX_BODY_BYTES:,} bytes."
            )
        body = stream.read()
        try:
            return parse_json(body)
        except BadJSON as error:
            message = f"The body is not JSON that can be stored: {error}."
            raise Invalid(message, path=path_to_fault(body)) from None


def path_to_fault(body: bytes) -> Path:
    """Find the first text or number in a refused body that cannot be stored; () for none."""
    try:
        waiting: list[tuple[Path, Any]] = [((), json.loads(body))]
    except (ValueError, RecursionError):
        return ()
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, dict):
            waiting += [((*path, key), inner) for key, inner in reversed(value.items())]
        elif isinstance(value, list):
            waiting += [((*path, i), inner) for i, inner in reversed([*enumerate(value)])]
        elif _unstorable(value):
            return tuple(_storable(step) for step in path)
        if len(path) > PATH_LENGTH:
            return ()
    return ()


def _storable(step: Step) -> Step:
    if isinstance(step, int):
        return step
    return step[:PATH_LENGTH].encode(errors="replace").decode().replace("\0", "?")


def _unstorable(value: Any) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    return isinstance(value, str) and re.search("[\0\ud800-\udfff]", value) is not None
