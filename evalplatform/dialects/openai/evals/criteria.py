"""Testing criteria as the vendor writes them: a shape for each type of grader."""

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rest_framework import serializers

from apps.datasets.models import NAME_LENGTH
from apps.evaluations.models import Criterion
from apps.evaluations.services.evaluations import NewCriterion
from apps.evaluations.services.named_runs import UNKNOWN
from apps.grading.graders.sides import ReferenceGrader
from apps.grading.graders.string_check import HOLDS
from apps.grading.graders.text_similarity import METRICS
from apps.grading.templating import MAX_TEMPLATE_CHARS
from evalplatform.dialects.kit.fields import (
    AnyObject,
    Array,
    Choice,
    Const,
    Flag,
    Number,
    Shape,
    Text,
    Whole,
)
from evalplatform.dialects.kit.problems import Problem
from evalplatform.dialects.openai.messages import Message, echoed
from evalplatform.dialects.openai.words import NAME, REASONING_EFFORTS

NAMELESS = "unknown"  # the kind of an imported criterion that was not saved itself
SOURCE_CHARS = 256 * 1000
CRITERIA = 1_000  # at most in one evaluation


def template(*, required: bool = True) -> Text:
    return Text(allow_blank=True, max_length=MAX_TEMPLATE_CHARS, required=required)


class Grader(Shape):
    """The fields of every grader; the id is made here, and results name their criterion by it."""

    id = serializers.CharField(read_only=True)
    name = Text(max_length=NAME_LENGTH)


class StringCheckGrader(Grader):
    type = Const("string_check")
    input = template()
    reference = template()
    operation = Choice(choices=[*HOLDS])


class TextSimilarityGrader(Grader):
    type = Const("text_similarity")
    input = template()
    reference = template()
    evaluation_metric = Choice(choices=[*METRICS, "cosine"])
    pass_threshold = Number()


class PythonGrader(Grader):
    type = Const("python")
    source = Text(  # type: ignore[assignment]  # a field of ours, not DRF's attribute
        max_length=SOURCE_CHARS
    )
    image_tag = Text(required=False, allow_null=True, max_length=100)
    pass_threshold = Number(required=False, allow_null=True)


class JudgeParams(Shape):
    max_completions_tokens = Whole(min_value=1, required=False, allow_null=True)
    reasoning_effort = Choice(choices=REASONING_EFFORTS, required=False, allow_null=True)
    seed = Whole(required=False, allow_null=True)
    temperature = Number(min_value=0, max_value=2, required=False, allow_null=True)
    top_p = Number(min_value=0, max_value=1, required=False, allow_null=True)


class LabelModelGrader(Grader):
    type = Const("label_model")
    model = Text(max_length=300)
    input = Array(child=Message(), min_length=1)
    labels = Array(child=Text(), min_length=1)
    passing_labels = Array(child=Text(), min_length=1)
    sampling_params = JudgeParams(required=False, allow_null=True)


class ScoreModelGrader(Grader):
    type = Const("score_model")
    model = Text(max_length=300)
    input = Array(child=Message(), min_length=1)
    range = Array(child=Number(), min_length=2, max_length=2, required=False, allow_null=True)
    sampling_params = JudgeParams(required=False, allow_null=True)
    pass_threshold = Number(required=False, allow_null=True)


# The vendor knows none of those below.
class ComparingGrader(Grader):
    input = template(required=False)
    reference = template(required=False)
    choices = Flag(required=False)


class MatchGrader(ComparingGrader):
    type = Const("match")
    prefix = Flag(required=False)


class IncludesGrader(ComparingGrader):
    type = Const("includes")
    ignore_case = Flag(required=False)


class FuzzyMatchGrader(ComparingGrader):
    type = Const("fuzzy_match")


class JsonMatchGrader(ComparingGrader):
    type = Const("json_match")


class LevenshteinGrader(ComparingGrader):
    type = Const("levenshtein")
    pass_threshold = Number(required=False, allow_null=True)


class EmbeddingDistanceGrader(ComparingGrader):
    type = Const("embedding_distance")
    model = Text(max_length=300)
    pass_threshold = Number(required=False, allow_null=True)


class PromptJudgeGrader(Grader):
    type = Const("prompt_judge")
    model = Text(max_length=300)
    prompt = template(required=False)
    is_template = Flag(required=False)
    params = AnyObject(required=False)
    input = template(required=False)
    actual = template(required=False)
    ideal = template(required=False)
    choices = Flag(required=False)
    pass_threshold = Number(required=False, allow_null=True)


GRADERS: dict[str, type[Shape]] = {
    "label_model": LabelModelGrader,
    "string_check": StringCheckGrader,
    "text_similarity": TextSimilarityGrader,
    "python": PythonGrader,
    "score_model": ScoreModelGrader,
    "match": MatchGrader,
    "includes": IncludesGrader,
    "fuzzy_match": FuzzyMatchGrader,
    "json_match": JsonMatchGrader,
    "levenshtein": LevenshteinGrader,
    "embedding_distance": EmbeddingDistanceGrader,
    "prompt_judge": PromptJudgeGrader,
}

INSTEAD_OF_GRADERS = "write its question as a score_model or label_model, or its rule as python"

# Their `input` is messages.
JUDGES = ("label_model", "score_model")

# Without a threshold these have no verdict; the vendor's every result has one.
# contract: openai section 4: then passed is a score above zero, that is from the least one on
SCORERS = ("levenshtein", "embedding_distance", "prompt_judge")
ABOVE_ZERO = math.ulp(0.0)

# contract: openai section 4: as what they appear where another face brought them
APPEARANCES = {
    "match": {"type": "string_check", "operation": "eq"},
    "json_match": {"type": "string_check", "operation": "eq"},
    "includes": {"type": "string_check", "operation": "like"},
    "fuzzy_match": {"type": "string_check", "operation": "ilike"},
    "levenshtein": {"type": "text_similarity", "evaluation_metric": "fuzzy_match"},
    "embedding_distance": {"type": "text_similarity", "evaluation_metric": "cosine"},
    "prompt_judge": {"type": "score_model"},
}
# A name that means nothing yet, and what an import knows by its verdicts alone.
STRANGERS = {kind: {"type": "string_check", "operation": "eq"} for kind in (UNKNOWN, NAMELESS)}


# The vendor's names of settings -> the core's, by kind. The core's name may be a key that the
# vendor does not know, so names are swapped: twice gives back what was sent.
NAMES = {"text_similarity": {"evaluation_metric": "metric", "metric": "evaluation_metric"}}


def renamed(kind: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with the vendor's names turned into the core's, or the other way round."""
    names = NAMES.get(kind, {})
    return {names.get(key, key): value for key, value in settings.items()}


def in_vendors_words(problem: Problem) -> Problem:
    """Return a problem with the vendor's name of a setting in place of the core's."""
    *above, last = problem.path or ("",)
    # The parts of a multi grader have names of their own.
    if last != "metric" or above[-1:] == ["graders"]:
        return problem
    message = re.sub(r"^metric\b", "evaluation_metric", problem.message)
    return replace(problem, message=message, path=(*above, "evaluation_metric"))


def new_criterion(sent: Mapping[str, Any]) -> NewCriterion:
    """Make the core's criterion; its settings keep every field that was sent, known or not."""
    settings = {key: value for key, value in sent.items() if key not in {"type", "name", "id"}}
    if sent["type"] in JUDGES:
        settings["input"] = echoed(settings["input"])
    if sent["type"] in SCORERS and settings.get("pass_threshold") is None:
        settings["pass_threshold"] = ABOVE_ZERO
    return NewCriterion(sent["type"], sent["name"], renamed(sent["type"], settings))


def criterion_shown(criterion: Criterion) -> dict[str, Any]:
    """Show a criterion as it was sent, with its id and the fields that the vendor adds.

    A kind that the vendor lacks, in an evaluation that came through another face, or that nobody
    knows, appears as one of the vendor's; otherwise its clients would read it as a label_model.
    """
    settings = criterion.read_settings()
    shown = {"type": criterion.kind, **renamed(criterion.kind, settings)}
    if _appears_as_another(criterion.kind, criterion.evaluation.dialect):
        shown = _appearance(criterion.kind, settings)
    elif settings.get("pass_threshold") == ABOVE_ZERO:
        del shown["pass_threshold"]
    extras: dict[str, Any] = {"grdr_id": None, "inactive_at": None}
    if criterion.kind == "label_model":
        extras["sampling_params"] = None
    first = {"type": shown["type"], "name": criterion.name}
    return {**first, **extras, **shown, "id": criterion.key}


def type_shown(kind: str, dialect: str) -> str:
    """Return the type under which a criterion of this kind is shown. dialect: its evaluation's."""
    if not _appears_as_another(kind, dialect):
        return kind
    return (STRANGERS.get(kind) or APPEARANCES[kind])["type"]


def _appears_as_another(kind: str, dialect: str) -> bool:
    return kind in STRANGERS or (kind in APPEARANCES and dialect != NAME)


def _appearance(kind: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Show a criterion as one of the vendor's, with its true kind and settings beside it.

    Only our own import reads those.
    """
    threshold = settings.get("pass_threshold")
    above = ABOVE_ZERO if threshold is None else threshold
    seen_as = STRANGERS.get(kind) or APPEARANCES[kind]
    shown = {**seen_as, "kind": kind, "settings": settings}
    if shown["type"] == "score_model":
        prompt = {"role": "system", "content": settings.get("prompt", "")}
        judge = {"model": settings["model"], "input": echoed([prompt]), "range": None}
        return {**shown, **judge, "pass_threshold": above}
    sides = {"input": ReferenceGrader.input, "reference": ReferenceGrader.reference}
    shown |= {side: settings.get(side, default) for side, default in sides.items()}
    return shown if shown["type"] == "string_check" else {**shown, "pass_threshold": above}


def own_criterion(shown: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """Return the true kind and settings of a criterion that appears as another, else None."""
    kind, settings = shown.get("kind"), shown.get("settings")
    if not isinstance(kind, str) or not isinstance(settings, dict):
        return None
    if kind not in APPEARANCES and kind not in STRANGERS:
        return None
    return kind, settings
