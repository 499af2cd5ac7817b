"""Read what a judge said. Each grader tells what counts; the wrappings are common to all judges."""

import json
import math
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from apps.clients.base import LENGTH
from apps.clients.replies import stopped_by, told_failure
from apps.clients.tidying import split_think, text_of
from apps.grading.graders.base import Fault
from apps.strict_json import MAX_DIGITS, dump_json
from apps.text import quoted

T = TypeVar("T")

REPLY_QUOTED = 300
FAULTS = 2_000  # broken objects and arrays of a reply; telling where one is broken takes its time
# A text that is longer than a label by this factor and these characters is none, however wrapped.
WRAPPED, WRAPPING = 4, 200
REFUSED, PARSE = "model_grader_refusal_error", "model_grader_parse_error"

_FENCED = re.compile(r"```\w*\n(.*?)\n?```", re.DOTALL)
# What may begin an object or an array; most braces of prose do not.
_OPENING = re.compile(r'\{(?=\s*(?:["}]|\Z))|\[(?=\s*[\]{\["0-9tfn-])')
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_SIGNED = re.compile(r"[\s*_`\"']*-\d")
_EMPHASIS = " \t\r\n*_`~\"'"
_AROUND = f"{_EMPHASIS}.,;:!?()"


class Unreadable(ValueError):
    """A text in which nothing counts. Its own text says what is wrong: "has no result"."""


def read_reply(completion: Mapping[str, Any], read: Callable[[str], T]) -> T | Fault:
    """Return what the judge said, or the reason why that is nothing.

    read: what counts for the grader; is given the reply's text without a leading think block,
    stripped and not empty, and raises Unreadable.
    """
    message = completion["choices"][0]["message"]
    if refusal := message.get("refusal"):
        return Fault(REFUSED, f"The judge refused: {_cut(str(refusal))}")
    told = told_failure(completion)
    is_cut = stopped_by(completion) == LENGTH
    if told is not None and not is_cut:
        return Fault(told.code, f"The judge said nothing. {told.message}")
    text = split_think(text_of(message.get("content")))[1].strip()
    try:
        if not text:
            raise Unreadable("is empty")
        return read(text)
    except Unreadable as error:
        wrong = _storable(str(error))
    shown = f": {_cut(text)}" if text else "."
    if is_cut:
        return Fault(
            LENGTH, f"The judge's reply was cut at its limit of tokens, and {wrong}{shown}"
        )
    return Fault(PARSE, f"The judge's reply {wrong}{shown}")


def last_object(text: str, member: str) -> dict[str, Any]:
    """Return the last JSON object in a text that has this member, not looking inside of values.

    Words and fences around it do not count. Raises Unreadable, also where the text ends inside
    of an object, for what stands before would be a draft.
    """
    fitting: dict[str, Any] | None = None
    found, at, faults = False, 0, 0
    while faults < FAULTS and (opening := _OPENING.search(text, at)):
        start = opening.start()
        try:
            value, at = _LENIENT.raw_decode(text, start)
        except json.JSONDecodeError as error:
            # On where the fault is: what is inside of a broken object does not count either.
            at, faults = max(error.pos, start + 1), faults + 1
            if text[start] == "{" and (at >= len(text) or error.msg.startswith("Unterminated")):
                raise Unreadable("breaks off inside of its JSON object") from None
        except RecursionError:
            break
        else:
            if isinstance(value, dict):
                found, fitting = True, value if member in value else fitting
    if fitting is not None:
        return fitting
    raise Unreadable(f"has no {member}" if found else "has no JSON object")


def read_label(value: Any, labels: Sequence[str]) -> str | None:
    """Return the label that a value is, whatever its case, punctuation and emphasis.

    None where it is none, or could be several.
    """
    if isinstance(value, bool | int):
        value = dump_json(value)
    if not isinstance(value, str) or len(value) > WRAPPED * max(map(len, labels)) + WRAPPING:
        return None
    value = _unfenced(value)
    is_json = value.lstrip().startswith(("{", "["))
    forms: tuple[Callable[[str], str], ...] = (str,) if is_json else (str, _bare, _words)
    for form in forms:
        wanted = form(value)
        meant = {label for label in labels if wanted and form(label) == wanted}
        if meant:
            return meant.pop() if len(meant) == 1 else None
    return None


def read_number(value: Any) -> float | None:
    """Return a number, also one in quotes or emphasis; None for all that is no finite number."""
    if isinstance(value, str):
        text = _unfenced(value).strip(_EMPHASIS)
        value = float(text) if _NUMBER.fullmatch(text) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def unusable(value: Any, kind: str) -> Unreadable:
    """Return the error of a value that is of another kind: a number, one of the labels."""
    return Unreadable(f"gives {quoted(value)}, which is not {kind}")


def _unfenced(text: str) -> str:
    """Take a text out of the one code block that it is."""
    fenced = _FENCED.fullmatch(text.strip())
    return fenced[1] if fenced else text


def _bare(text: str) -> str:
    return text.strip(_AROUND).casefold()


def _words(text: str) -> str:
    """Return the words of a text without punctuation; a sign stays with its number."""
    sign = "-" if _SIGNED.match(text) else ""
    spaced = (" " if unicodedata.category(char).startswith("P") else char for char in text)
    return sign + " ".join("".join(spaced).casefold().split())


def _cut(text: str) -> str:
    return text if len(text) <= REPLY_QUOTED else f"{text[:REPLY_QUOTED]}…"


def _storable(text: str) -> str:
    """Replace the lone surrogates that escapes in a judge's JSON may spell."""
    return text.encode(errors="replace").decode()


def _whole(digits: str) -> int | float:
    return int(digits) if len(digits) <= MAX_DIGITS else math.inf


# Many models write line ends into their strings as they are. What is no finite number is refused
# as a value.
_LENIENT = json.JSONDecoder(strict=False, parse_int=_whole)
