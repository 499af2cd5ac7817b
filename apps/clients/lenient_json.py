"""Read JSON that is badly packed: what it says is kept, what cannot be stored is replaced."""

import codecs
import json
import math
import zlib
from collections import Counter
from typing import Any

from apps.clients.exchanges import unpack
from apps.clients.streams import END, Assembly, is_chunk
from apps.strict_json import MAX_DEPTH, MAX_DIGITS, BadJSON

GZIP = b"\x1f\x8b"
GZIP_WINDOW_BITS = 31
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
# Longer marks first: UTF-32's begins as UTF-16's does.
MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# The field's value for a token that is all but impossible, where JSON has no minus infinity.
LEAST_LOGPROB = -9999.0

BYTE_ORDER_MARK = "a byte order mark"
NUL = "NUL characters"
SURROGATE = "lone surrogates"
NOT_UTF8 = "bytes that are no UTF-8"
NO_NUMBER = "numbers that JSON has no word for"


def read_leniently(content: bytes, limit: int) -> tuple[Any, str]:
    """Parse one JSON document however it is packed; return it, and in words what was cleaned.

    Forgiven are: gzip that no header tells of, a byte order mark, bytes that are no UTF-8, control
    characters in strings, NUL, lone surrogates, NaN and infinities, and a stream of chunks where
    one piece was asked for. limit: bytes after unpacking. Raises BadJSON for what is still none.
    """
    cleaned: Counter[str] = Counter()
    if content.startswith(GZIP):
        try:
            content, is_whole = unpack(content, GZIP_WINDOW_BITS, limit)
        except zlib.error:
            raise BadJSON("it is compressed, but cannot be unpacked") from None
        if not is_whole:
            raise BadJSON(f"unpacked it is larger than {limit} bytes")
        cleaned["gzip that no header told of"] += 1
    text = _decoded(content, cleaned).strip("\0 \t\r\n")
    if text.startswith(("data:", "event:", ":")):
        value = _assembled(text, cleaned)
    else:
        value = _parsed(text)
    return _Cleaner(cleaned).clean(value), _in_words(cleaned)


def _decoded(content: bytes, cleaned: Counter[str]) -> str:
    encoding = "utf-8"
    for mark, name in MARKS:
        if content.startswith(mark):
            content, encoding = content[len(mark) :], name
            cleaned[BYTE_ORDER_MARK] += 1
            break
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        text = content.decode(encoding, "replace")
        cleaned[NOT_UTF8] += text.count(REPLACEMENT)
        return text


def _parsed(text: str) -> Any:
    try:
        return _LENIENT.decode(text)
    except json.JSONDecodeError as error:
        raise BadJSON(f"{error.msg} at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise BadJSON(f"nested deeper than {MAX_DEPTH} levels") from None


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise BadJSON(f"a number has more than {MAX_DIGITS:,} digits")
    return int(digits)


_LENIENT = json.JSONDecoder(parse_int=_integer, strict=False)


def _assembled(text: str, cleaned: Counter[str]) -> Any:
    """Put the chunks of a stream together that came where one piece was asked for."""
    assembly = Assembly()
    for line in text.split("\n"):
        data = line.removeprefix("data:").strip() if line.startswith("data:") else ""
        if data == END.decode():
            break
        if not data:
            continue
        chunk = _parsed(data)
        if not is_chunk(chunk):
            return chunk  # an error, or a whole completion as an event
        assembly.add(chunk)
    if not assembly.is_complete:
        raise BadJSON("a stream that ends before its answer does")
    cleaned["a stream, although one piece was asked for"] += 1
    return assembly.completion()


class _Cleaner:
    """Replaces in a value what can be neither stored nor sent, and counts it."""

    def __init__(self, cleaned: Counter[str]) -> None:
        self._cleaned = cleaned

    def clean(self, value: Any, name: str = "", depth: int = 0) -> Any:
        if depth > MAX_DEPTH:
            raise BadJSON(f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, float) and not math.isfinite(value):
            self._cleaned[NO_NUMBER] += 1
            return LEAST_LOGPROB if value == -math.inf and name == "logprob" else None
        if isinstance(value, list):
            return [self.clean(one, name, depth + 1) for one in value]
        if isinstance(value, dict):
            return {self._text(key): self.clean(one, key, depth + 1) for key, one in value.items()}
        return value

    def _text(self, text: str) -> str:
        if "\0" in text:
            self._cleaned[NUL] += text.count("\0")
            text = text.replace("\0", REPLACEMENT)
        try:
            text.encode()
        except UnicodeEncodeError:
            lone = [char for char in text if "\ud800" <= char <= "\udfff"]
            self._cleaned[SURROGATE] += len(lone)
            for char in set(lone):
                text = text.replace(char, REPLACEMENT)
        return text


COUNTED = (NUL, SURROGATE, NOT_UTF8, NO_NUMBER)


def _in_words(cleaned: Counter[str]) -> str:
    return ", ".join(
        f"{count} {what}" if what in COUNTED else what for what, count in cleaned.items()
    )
