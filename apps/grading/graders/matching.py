"""The graders that compare a reply with its ideal and pass or fail it."""

import re
import string
import unicodedata
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from apps.grading.graders.base import Mark, PlainGrader
from apps.grading.graders.same_json import read_json, same
from apps.grading.graders.sides import (
    ReferenceGrader,
    Side,
    contents,
    describe,
    describe_all,
    first_content,
)
from apps.grading.samples import Sample
from apps.strict_json import BadJSON

_PUNCTUATION = dict.fromkeys(map(ord, string.punctuation))
_ARTICLES = frozenset({"a", "an", "the"})
_ARTICLE = re.compile(r"\b(?:an?|the)\b")
# These graders read every character in Python: longer texts would hold up all other work.
LARGEST_TEXTS = 1_000_000


def match(actual: Side, ideal: Side) -> bool:
    if isinstance(actual, str) or isinstance(ideal, str):
        return first_content(actual) == first_content(ideal)
    return same(_without_nulls(actual), _without_nulls(ideal))


def includes(actual: Side, ideal: Side) -> bool:
    return _every_pair(actual, ideal, lambda text, part: part in text)


def fuzzy_match(actual: Side, ideal: Side) -> bool:
    return _every_pair(actual, ideal, _is_near)


def json_match(actual: Side, ideal: Side) -> bool:
    return _every_pair(actual, ideal, _says_the_same)


@dataclass(frozen=True)
class Matching(ReferenceGrader, PlainGrader):
    """The base of graders that score 1.0 or 0.0 by a condition on reply and ideal.

    Of several ideals, see `ReferenceGrader.accepted`, one that passes is enough. is_slow: more than
    LARGEST_TEXTS characters in all texts together are errored.
    """

    is_slow: ClassVar[bool] = False

    @staticmethod
    @abstractmethod
    def holds(actual: Side, ideal: Side) -> bool: ...

    def passes(self, actual: Side, ideal: Side) -> bool:
        """Tell whether the condition holds, by the grader's own settings."""
        return self.holds(actual, ideal)

    def mark(self, sample: Sample) -> Mark:
        actual, ideals = self.accepted(sample)
        size = sum(len(text) for side in (actual, *ideals) for text in contents(side))
        if self.is_slow and size > LARGEST_TEXTS:
            return Mark.errored_by(
                "text_too_long",
                f"{self.kind} compares at most {LARGEST_TEXTS:,} characters, not {size:,}.",
            )
        passed = any(self.passes(actual, ideal) for ideal in ideals)
        evidence = f"{describe(actual)} {self.kind} {describe_all(ideals)}"
        return Mark(float(passed), passed, evidence)


@dataclass(frozen=True)
class Match(Matching):
    """Pass when `input` and `reference` are the same sequence of code points; 1.0 or 0.0.

    Choices against choices: equal as JSON, where a member that is null counts as absent. A text
    against choices: against the first one's content. prefix: it is enough that the reply begins
    with the ideal; of choices the first one's content counts.
    Source: docs/contracts/spice.md, section 11.1.
    """

    kind = "match"
    holds = staticmethod(match)

    prefix: bool = False

    def passes(self, actual: Side, ideal: Side) -> bool:
        if self.prefix:
            return first_content(actual).startswith(first_content(ideal))
        return match(actual, ideal)


@dataclass(frozen=True)
class Includes(Matching):
    """Pass when `input` contains `reference`, code point by code point; 1.0 or 0.0.

    Every text contains the empty text. Of choices every pair of contents must pass; lists of
    unequal length score 0. ignore_case: both are lower-cased first.
    Source: docs/contracts/spice.md, section 11.2.
    """

    kind = "includes"
    holds = staticmethod(includes)

    ignore_case: bool = False

    def passes(self, actual: Side, ideal: Side) -> bool:
        if self.ignore_case:
            return _every_pair(actual, ideal, lambda text, part: part.lower() in text.lower())
        return includes(actual, ideal)


@dataclass(frozen=True)
class FuzzyMatch(Matching):
    """Pass when one of `input` and `reference`, once normalised, contains the other; 1.0 or 0.0.

    See `normalised`. A text that is empty once normalised passes only beside another empty one. Of
    choices every pair of contents must pass; lists of unequal length score 0.
    Source: docs/contracts/spice.md, section 11.3.
    """

    kind = "fuzzy_match"
    is_slow = True
    holds = staticmethod(fuzzy_match)


@dataclass(frozen=True)
class JsonMatch(Matching):
    """Pass when `input` and `reference` are equal as JSON; 1.0 or 0.0.

    See `same_json.same`. A text that is no JSON, or is nested deeper than MAX_LEVELS, equals
    nothing, not even itself; of repeated keys the last counts. Of choices every pair of
    contents must pass; lists of unequal length score 0. A list of texts is one JSON array here.
    Source: docs/contracts/spice.md, sections 11.4 and 20.
    """

    kind = "json_match"
    is_slow = True
    holds = staticmethod(json_match)

    def accepted(self, sample: Sample) -> tuple[Side, list[Side]]:
        reply, ideal = self.sides(sample)
        return reply, [ideal]


def normalised(text: str) -> str:
    """Lower-case the text, drop ASCII punctuation and the words a, an, the, and collapse blanks.

    Source: docs/contracts/spice.md, section 11.3.
    """
    words: list[str] = []
    for word in text.lower().translate(_PUNCTUATION).split():
        # Other signs may separate words, and combining marks may belong to one.
        if not word.isalnum():
            words += _ARTICLE.sub(_dropped, word).split()
        elif word not in _ARTICLES:
            words.append(word)
    return " ".join(words)


def _dropped(article: re.Match[str]) -> str:
    """Replace an article by a blank, unless a combining mark makes it part of another word.

    Python's \\b sees a boundary at such a mark; the contract does not.
    """
    text, beside = article.string, (article.start() - 1, article.end())
    marked = any(
        0 <= position < len(text) and unicodedata.category(text[position])[0] == "M"
        for position in beside
    )
    return article[0] if marked else " "


def _is_near(text: str, ideal: str) -> bool:
    one, other = normalised(text), normalised(ideal)
    if not one or not other:
        return one == other
    return one in other or other in one


def _says_the_same(text: str, ideal: str) -> bool:
    try:
        return same(read_json(text), read_json(ideal))
    except BadJSON:
        return False


def _every_pair(actual: Side, ideal: Side, passes: Callable[[str, str], bool]) -> bool:
    texts, ideals = contents(actual), contents(ideal)
    return len(texts) == len(ideals) and all(map(passes, texts, ideals))


def _without_nulls(value: Any) -> Any:
    """Drop members that are null: some chat servers write them, others leave them out."""
    if isinstance(value, list):
        return [_without_nulls(one) for one in value]
    if isinstance(value, dict):
        return {key: _without_nulls(one) for key, one in value.items() if one is not None}
    return value
