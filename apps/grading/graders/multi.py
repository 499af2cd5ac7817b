"""Read several graders and a formula that computes one score from theirs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from apps.grading.graders.base import Grader, InvalidSetting
from apps.grading.graders.formula import BadFormula, Formula, parse_formula
from apps.text import quoted

KIND = "multi"
BAD_FORMULA = "formula_parse_error"
MAX_GRADERS = 50

Build = Callable[[str, Mapping[str, Any]], Grader]


@dataclass(frozen=True)
class Multi:
    """Named graders and the formula over their scores; no criterion of an evaluation by itself.

    Source: docs/contracts/openai.md, section 13.6.
    """

    graders: Mapping[str, Grader]
    formula: Formula


def read_multi(settings: Mapping[str, Any], build: Build) -> Multi:
    """Build the graders and the formula from decoded JSON.

    settings: `graders`, a map by name or an array of graders with a `name`; `calculate_output`,
    the formula. build: builds one grader. Raises InvalidSetting; for a bad formula its code is
    formula_parse_error.
    Source: docs/contracts/openai.md, section 13.6.
    """
    named = _named(settings.get("graders"))
    if not named:
        raise InvalidSetting(
            "graders",
            "graders must be a map of names to graders.",
            "missing_required_parameter" if "graders" not in settings else "invalid_type",
        )
    if len(named) > MAX_GRADERS:
        raise InvalidSetting("graders", f"graders holds at most {MAX_GRADERS}.")
    built = {}
    for name, sent in named.items():
        path = ("graders", name)
        if not isinstance(sent, Mapping):
            raise InvalidSetting(path, f"graders.{name} must be a grader.", "invalid_type")
        if sent.get("type") == KIND:
            raise InvalidSetting((*path, "type"), "A multi grader holds no other multi grader.")
        try:
            built[name] = build(sent.get("type", ""), sent)
        except InvalidSetting as error:
            raise InvalidSetting((*path, *error.path), error.message, error.code) from error
    return Multi(built, _formula(settings.get("calculate_output"), built))


def _named(graders: Any) -> dict[str, Any]:
    if isinstance(graders, dict):
        # contract: openai section 13.6: the types of one release have a single grader here
        return {} if isinstance(graders.get("type"), str) else graders
    if isinstance(graders, list):
        return {
            str(one.get("name") or f"grader_{index}"): one
            for index, one in enumerate(graders)
            if isinstance(one, dict)
        }
    return {}


def _formula(text: Any, graders: Mapping[str, Grader]) -> Formula:
    if not isinstance(text, str) or not text.strip():
        code = "missing_required_parameter" if text is None else "invalid_type"
        raise InvalidSetting("calculate_output", "calculate_output must be a formula.", code)
    try:
        formula = parse_formula(text)
    except BadFormula as error:
        raise InvalidSetting("calculate_output", str(error), BAD_FORMULA) from error
    if unknown := sorted(formula.names - graders.keys()):
        raise InvalidSetting(
            "calculate_output",
            f"calculate_output names {quoted(unknown[0])}, which is none of the graders.",
            BAD_FORMULA,
        )
    return formula
