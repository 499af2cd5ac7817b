"""Check a grader on its own, and try it on one sample."""

from collections.abc import Iterable, Mapping
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.exceptions import ValidationError as FieldError
from rest_framework.request import Request
from rest_framework.response import Response

from apps.evaluations.models import Criterion
from apps.evaluations.services.grader_trials import Trial, check_grader, try_grader
from apps.grading.graders.base import Mark
from apps.strict_json import BadJSON, parse_json
from evalplatform.dialects.kit.fields import AnyObject, Const, Shape, Text
from evalplatform.dialects.kit.problems import Problem
from evalplatform.dialects.openai.evals.criteria import (
    GRADERS,
    INSTEAD_OF_GRADERS,
    JUDGES,
    Grader,
    in_vendors_words,
    renamed,
)
from evalplatform.dialects.openai.fields import NativeKinds
from evalplatform.dialects.openai.messages import echoed
from evalplatform.dialects.openai.viewset import OpenAIViewSet

MAX_SAMPLE_CHARS = 16 * 1024 * 1024
DEFAULT_NAME = "grader"
# A mark's error code -> the flags it raises, and the flag that tells the details.
FLAGS = {
    "invalid_variable_error": ("invalid_variable_error", ""),
    "python_grader_runtime_error": (
        "python_grader_runtime_error",
        "python_grader_runtime_error_details",
    ),
    "python_grader_server_error": (
        "python_grader_server_error",
        "python_grader_server_error_type",
    ),
    "sandbox_unavailable": ("python_grader_server_error", "python_grader_server_error_type"),
    "model_grader_server_error": (
        "model_grader_server_error",
        "model_grader_server_error_details",
    ),
    "model_grader_refusal_error": ("model_grader_refusal_error", ""),
    "model_grader_parse_error": ("model_grader_parse_error", ""),
    "content_filter": ("model_grader_refusal_error", ""),
    "length": ("model_grader_exceeded_max_tokens_error", ""),
}
BOOLEANS = (
    "formula_parse_error",
    "sample_parse_error",
    "truncated_observation_error",
    "unresponsive_reward_error",
    "invalid_variable_error",
    "other_error",
    "python_grader_server_error",
    "python_grader_runtime_error",
    "model_grader_server_error",
    "model_grader_refusal_error",
    "model_grader_parse_error",
    "model_grader_exceeded_max_tokens_error",
)
DETAILS = (
    "python_grader_server_error_type",
    "python_grader_runtime_error_details",
    "model_grader_server_error_details",
)


class MultiGrader(Grader):
    type = Const("multi")


SHAPES: dict[str, type[Shape]] = {**GRADERS, "multi": MultiGrader}
KINDS = NativeKinds(SHAPES, instead=INSTEAD_OF_GRADERS)


class GraderValidateRequest(Shape):
    grader = AnyObject(help_text="Any grader; name may be left out.")


class GraderRunRequest(Shape):
    grader = AnyObject(help_text="Any grader; name may be left out.")
    model_sample = Text(allow_blank=True, max_length=MAX_SAMPLE_CHARS)
    item = AnyObject(required=False, allow_null=True)


class GraderValidated(serializers.Serializer):
    grader = AnyObject()


class GraderRan(serializers.Serializer):
    reward = serializers.FloatField()
    metadata = AnyObject()
    sub_rewards = AnyObject()
    model_grader_token_usage_per_model = AnyObject()


class GraderViewSet(OpenAIViewSet):
    noun = "grader"
    pagination_class = None
    queryset = Criterion.objects.none()
    # What the core says of a grader is said of the body's `grader`.
    paths = {
        name: ("grader", name)
        for name in (
            "type", "name", "input", "reference", "operation", "evaluation_metric", "model",
            "labels", "passing_labels", "range", "sampling_params", "pass_threshold", "source",
            "image_tag", "graders", "calculate_output", "choices", "prompt", "is_template",
            "params", "actual", "ideal", "prefix", "ignore_case",
        )
    }  # fmt: skip

    def as_written(self, problem: Problem) -> Problem:
        return super().as_written(in_vendors_words(problem))

    @extend_schema(request=GraderValidateRequest, responses={200: GraderValidated})
    def validate(self, request: Request) -> Response:
        """Check a grader, and give it back with its name."""
        sent = _normalised(self.body(GraderValidateRequest)["grader"])
        check_grader(self.actor, _core_settings(sent))
        return Response({"grader": sent})

    @extend_schema(request=GraderRunRequest, responses={200: GraderRan})
    def run(self, request: Request) -> Response:
        """Try a grader on one sample; what goes wrong with the grader is told by flags."""
        body = self.body(GraderRunRequest)
        sent = _normalised(body["grader"])
        trial = try_grader(
            self.actor,
            settings=_core_settings(sent),
            sample=_sample(body["model_sample"]),
            item=body.get("item") or {},
        )
        return Response(_shown(sent, trial))


def _normalised(sent: Mapping[str, Any]) -> dict[str, Any]:
    """Return the grader with a name, and its messages as the vendor returns them."""
    # contract: openai section 14: the guide's own example leaves the name out
    name = DEFAULT_NAME if sent.get("name") in (None, "") else sent["name"]
    checked: dict[str, Any] = _at("grader", {**sent, "name": name})
    return checked


def _at(step: str | int, sent: Any) -> Any:
    """Check a grader at this step of the path; the core refuses a value that is no object."""
    if type(sent) is not dict:
        return sent
    try:
        return _checked(sent)
    except FieldError as error:
        raise FieldError({step: error.detail}) from None  # type: ignore[dict-item]  # as lists do


def _checked(sent: dict[str, Any]) -> dict[str, Any]:
    """Return a grader whose fields have the right types; the core says which are missing.

    Raises DRF's ValidationError.
    """
    kind = KINDS.kind_of(sent)
    said = {name: value for name, value in sent.items() if value is not None}
    SHAPES[kind](partial=True).run_validation(said)
    if kind in JUDGES and "input" in said:
        return {**sent, "input": echoed(sent["input"])}
    if kind == "multi" and "graders" in said:
        try:
            return {**sent, "graders": _parts(sent["graders"])}
        except FieldError as error:
            raise FieldError({"graders": error.detail}) from None
    return sent


def _parts(sent: Any) -> Any:
    if isinstance(sent, list):
        return [_at(index, part) for index, part in enumerate(sent)]
    # A single grader instead of a map is for the core to refuse, too.
    if isinstance(sent, dict) and not isinstance(sent.get("type"), str):
        return {name: _at(name, part) for name, part in sent.items()}
    return sent


def _core_settings(sent: Any) -> Any:
    """Return a grader, and its parts, with settings under the core's names."""
    if type(sent) is not dict:
        return sent
    kind, parts = sent.get("type"), sent.get("graders")
    if kind != "multi":
        return renamed(kind if isinstance(kind, str) else "", sent)
    if isinstance(parts, list):
        return {**sent, "graders": [_core_settings(part) for part in parts]}
    if isinstance(parts, dict):
        return {**sent, "graders": {name: _core_settings(parts[name]) for name in parts}}
    return sent


def _sample(text: str) -> dict[str, Any]:
    sample: dict[str, Any] = {"output_text": text}
    try:
        sample["output_json"] = parse_json(text)
    except BadJSON:
        return sample
    return sample


def _shown(grader: Mapping[str, Any], trial: Trial) -> dict[str, Any]:
    is_multi = grader["type"] == "multi"
    scores = {name: mark.value or 0.0 for name, mark in trial.parts.items()}
    usage = _usage(trial)
    models = list(usage)
    return {
        "reward": trial.reward,
        "metadata": {
            "name": grader["name"],
            "type": grader["type"],
            "errors": _flags(trial.parts.values(), trial.fault),
            "execution_time": round(trial.seconds, 6),
            "scores": scores if is_multi else {},
            "token_usage": _summed(usage.values()) if usage else None,
            "sampled_model_name": models[0] if models else None,
        },
        "sub_rewards": scores if is_multi else {},
        "model_grader_token_usage_per_model": usage,
    }


def _flags(marks: Iterable[Mark], fault: str) -> dict[str, Any]:
    flags: dict[str, Any] = {**dict.fromkeys(BOOLEANS, False), **dict.fromkeys(DETAILS)}
    flags["formula_parse_error"] = bool(fault)
    for mark in marks:
        if mark.error is None:
            continue
        flag, details = FLAGS.get(mark.error.code, ("other_error", ""))
        flags[flag] = True
        if details:
            flags[details] = mark.error.message
    return flags


def _usage(trial: Trial) -> dict[str, dict[str, int]]:
    usage: dict[str, dict[str, int]] = {}
    for spent in trial.spent:
        held = usage.setdefault(spent.model, dict.fromkeys(spent.usage.as_dict(), 0))
        for name, count in spent.usage.as_dict().items():
            held[name] += count
    return usage


def _summed(usages: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for usage in usages:
        for name, count in usage.items():
            total[name] = total.get(name, 0) + count
    return total
