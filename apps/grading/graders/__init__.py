"""The table of graders: each kind of criterion is one class, listed here."""

from collections.abc import Mapping
from typing import Any

from apps.grading.graders.base import Grader, InvalidSetting
from apps.grading.graders.cosine import COSINE, CosineSimilarity
from apps.grading.graders.embedding_distance import EmbeddingDistance
from apps.grading.graders.label_model import LabelModel
from apps.grading.graders.levenshtein import Levenshtein
from apps.grading.graders.matching import FuzzyMatch, Includes, JsonMatch, Match
from apps.grading.graders.prompt_judge import PromptJudge
from apps.grading.graders.python_code import PythonCode
from apps.grading.graders.score_model import ScoreModel
from apps.grading.graders.string_check import StringCheck
from apps.grading.graders.text_similarity import TextSimilarity
from apps.text import quoted

GRADERS: dict[str, type[Grader]] = {
    grader.kind: grader
    for grader in (
        EmbeddingDistance,
        FuzzyMatch,
        Includes,
        JsonMatch,
        LabelModel,
        Levenshtein,
        Match,
        PromptJudge,
        PythonCode,
        ScoreModel,
        StringCheck,
        TextSimilarity,
    )
}
# The kinds that a criterion may name without a setting of its own.
BUILT_IN_SCORERS = ("match", "json_match", "includes", "fuzzy_match", "levenshtein")


def build_grader(kind: str, settings: Mapping[str, Any]) -> Grader:
    """Build a grader of this kind from new settings, checking that this machine can run it.

    Raises InvalidSetting; its field is `type` for kinds that are unknown or cannot run here.
    """
    grader = read_grader(kind, settings)
    grader.check_machine()
    return grader


def read_grader(kind: str, settings: Mapping[str, Any]) -> Grader:
    """Build a grader from stored settings, without asking whether this machine can run it.

    Raises InvalidSetting.
    """
    grader = GRADERS.get(kind)
    if grader is None:
        known = ", ".join(GRADERS)
        raise InvalidSetting("type", f"type must be one of {known}, not {quoted(kind)}.")
    if grader is TextSimilarity and settings.get("metric") == COSINE:
        grader = CosineSimilarity
    return grader.from_settings(settings)
