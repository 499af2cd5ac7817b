"""Output items: the result of each row of a run."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from django.db.models import Q, QuerySet
from django_filters.rest_framework import ChoiceFilter, DjangoFilterBackend, FilterSet
from rest_framework import serializers
from rest_framework.exceptions import ValidationError as FieldError
from rest_framework.request import Request
from rest_framework.response import Response

from apps.evaluations.models import Criterion, Result, Run
from apps.evaluations.reports import (
    Item,
    Judgement,
    read_criteria,
    read_items,
    read_results,
    read_target,
)
from apps.strict_json import parse_json
from evalplatform.dialects.kit.fields import AnyObject, Const
from evalplatform.dialects.openai.evals.criteria import type_shown
from evalplatform.dialects.openai.evals.run_lookup import run_in_path
from evalplatform.dialects.openai.fields import UnixTime
from evalplatform.dialects.openai.ids import EVAL_ID, ITEM_ID, RUN_ID, PrefixedId
from evalplatform.dialects.openai.messages import as_text
from evalplatform.dialects.openai.pages import Pages
from evalplatform.dialects.openai.viewset import OpenAIViewSet
from evalplatform.dialects.openai.words import ITEM_STATE, ITEM_STATUS

NO_USAGE = {"total_tokens": 0, "completion_tokens": 0, "prompt_tokens": 0, "cached_tokens": 0}


class Fault(serializers.Serializer):
    code = serializers.CharField()
    message = serializers.CharField()


class SampleMessage(serializers.Serializer):
    role = serializers.CharField()
    content = serializers.CharField(allow_null=True)


class Usage(serializers.Serializer):
    total_tokens = serializers.IntegerField()
    completion_tokens = serializers.IntegerField()
    prompt_tokens = serializers.IntegerField()
    cached_tokens = serializers.IntegerField()


class Sample(serializers.Serializer):
    input = SampleMessage(many=True)
    output = SampleMessage(many=True)
    finish_reason = serializers.CharField()
    model = serializers.CharField()
    usage = Usage()
    error = Fault(allow_null=True)
    temperature = serializers.FloatField()
    top_p = serializers.FloatField()
    seed = serializers.IntegerField(allow_null=True)
    max_completion_tokens = serializers.IntegerField(allow_null=True)
    warning = serializers.CharField(
        required=False, help_text="Where the request or the answer is not as it was meant."
    )


class CriterionResult(serializers.Serializer):
    name = serializers.CharField(help_text="The criterion's id.")
    type = serializers.CharField(help_text="The criterion's type.")
    score = serializers.FloatField()
    passed = serializers.BooleanField()
    sample = Sample(allow_null=True, help_text="What a judge was asked and said.")
    error = Fault(required=False, help_text="Why there is no verdict, or no score of its own.")
    clamped_from = serializers.FloatField(
        required=False, help_text="What the judge said, where that is out of range."
    )
    warning = serializers.CharField(required=False, help_text="What makes the score worthless.")


# For the schema alone: items_shown makes the object.
class OutputItemSerializer(serializers.Serializer):
    """The result of a row of a run."""

    object = Const("eval.run.output_item")
    id = PrefixedId("outputitem")
    run_id = PrefixedId("evalrun")
    eval_id = PrefixedId("eval")
    created_at = UnixTime()
    status = serializers.ChoiceField(choices=["pass", "fail", "error"])
    datasource_item_id = serializers.IntegerField(help_text="The row's index, from 0.")
    datasource_item = AnyObject()
    results = CriterionResult(many=True)
    sample = Sample()


class OutputItemFilters(FilterSet):  # type: ignore[misc]  # its package has no types
    status = ChoiceFilter(choices=[(word, word) for word in ITEM_STATE], method="of_status")

    def of_status(self, results: QuerySet[Result], name: str, status: str) -> QuerySet[Result]:
        unjudged = results.filter(state=Result.State.UNJUDGED)
        # They are shown as failed. Where there is one no item of the run has failed otherwise:
        # none of its criteria gives verdicts.
        if status == ITEM_STATUS[Result.State.UNJUDGED] and unjudged.exists():
            return unjudged
        return results.filter(state=ITEM_STATE[status])


class OutputItemPages(Pages):
    def fields(self, query: Mapping[str, Any]) -> tuple[str, ...]:
        # contract: openai section 3: in the order of the rows, not in that of completion
        return ("id",)

    def page_of(self, run: Run, request: Request, view: Any) -> list[Result]:
        """Return a page of all results of a run whose ids are made of their keys."""
        query = self.asked(request)
        after, limit, descending = query.get("after"), query["limit"], query["order"] == "desc"
        if not after:
            return self.cut(read_results(run, None, limit + 1, descending=descending), limit)
        try:
            key = ITEM_ID.to_internal_value(after)
        except FieldError:
            raise self.unfit_place(after, view) from None
        # From the item that is named on, which tells as well whether it is in this list.
        rows = read_results(run, key, limit + 2, descending=descending)
        if not rows or rows[0].pk != key:
            raise self.unfit_place(after, view)
        return self.cut(rows[1:], limit)


class OutputItemViewSet(OpenAIViewSet):
    noun = "output item"
    id_field = ITEM_ID
    queryset = Result.objects.none()
    serializer_class = OutputItemSerializer
    pagination_class = OutputItemPages
    filter_backends = [DjangoFilterBackend]
    filterset_class = OutputItemFilters
    lookup_url_kwarg = "item_id"

    @cached_property
    def run(self) -> Run:
        return run_in_path(self)

    def all_rows(self) -> QuerySet[Result]:
        return Result.objects.of_run(self.run)

    def get_queryset(self) -> QuerySet[Result]:
        return self.all_rows()

    def conditions(self, name: str) -> list[Q]:
        # Only items that were imported are looked up by an imported id.
        if self.run.imported_id is None:
            return [Q(pk=ITEM_ID.to_internal_value(name))]
        return super().conditions(name)

    def list(self, request: Request, **ids: str) -> Response:
        """List the output items of a run in the order of its rows."""
        paginator = self.paginator
        assert isinstance(paginator, OutputItemPages)
        if self.is_filtered or self.run.imported_id is not None:
            results = self.page()
        else:
            results = paginator.page_of(self.run, request, self)
        return paginator.get_paginated_response(items_shown(self.run, results))

    def retrieve(self, request: Request, **ids: str) -> Response:
        """Return the output item of one row."""
        return Response(items_shown(self.run, [self.get_object()])[0])


def items_shown(run: Run, results: Sequence[Result]) -> list[dict[str, Any]]:
    """Show results. The objects are made by hand, since a page of 100 must be quick."""
    criteria = read_criteria(run)
    dialect = run.evaluation.dialect
    heads = [
        (criterion, {"name": criterion.key, "type": type_shown(criterion.kind, dialect)})
        for criterion in criteria
    ]
    prompt = read_target(run).prompt
    run_params = prompt.params if prompt else {}
    run_id, eval_id = RUN_ID.of(run), EVAL_ID.of(run.evaluation)
    return [
        {
            "object": "eval.run.output_item",
            "id": ITEM_ID.of(item.result),
            "run_id": run_id,
            "eval_id": eval_id,
            "created_at": item.result.stored_at,
            "status": ITEM_STATUS[item.result.state],
            "datasource_item_id": item.result.row_index,
            "datasource_item": item.item,
            "results": _verdicts(item, heads),
            "sample": sample_shown(
                item.sample or {},
                item.exchange,
                run.model,
                # An imported answer brings along how it was asked for.
                item.exchange.get("params") or run_params,
                _fault(item.result),
            ),
        }
        for item in read_items(run, results, criteria)
    ]


def _verdicts(
    item: Item, heads: Sequence[tuple[Criterion, Mapping[str, str]]]
) -> list[dict[str, Any]]:
    """Show a result for each criterion, in order; all of them errored where no answer came.

    heads: what every result of a criterion begins with.
    """
    scores = iter(item.scores)  # in the order of the criteria, those without a verdict left out
    score = next(scores, None)
    shown = []
    for criterion, head in heads:
        if score is not None and score.criterion is criterion:
            shown.append(_verdict(head, score, item.result))
            score = next(scores, None)
        else:
            shown.append(_verdict(head, None, item.result))
    return shown


def _verdict(head: Mapping[str, str], score: Judgement | None, result: Result) -> dict[str, Any]:
    judged = {**head, "sample": _judgement(score) if score else None}
    if score is None or score.value is None:
        fault = score if score is not None and score.error_code else result
        error = _fault(fault) or {"code": "not_judged", "message": "There is no verdict."}
        return {**judged, "score": 0.0, "passed": False, "error": error}
    # A criterion without a threshold has no verdict of its own; the vendor's every result has one.
    passed = score.value > 0 if score.passed is None else score.passed
    shown = {**judged, "score": score.value, "passed": passed, **(score.notes or {})}
    # contract: openai section 13.3: a program that gave no score fails with 0, and with the reason
    return {**shown, "error": _fault(score)} if score.error_code else shown


def _judgement(score: Judgement) -> dict[str, Any] | None:
    """Show a judge's prompt and reply."""
    if not score.exchange:
        return None
    exchange = parse_json(score.exchange)
    fault = exchange.get("error") or _fault(score)
    return sample_shown(exchange, exchange, "", exchange.get("params") or {}, fault)


def _fault(row: Judgement | Result) -> dict[str, str] | None:
    return {"code": row.error_code, "message": row.error_message} if row.error_code else None


def sample_shown(
    sample: Mapping[str, Any],
    exchange: Mapping[str, Any],
    model: str,
    params: Mapping[str, Any],
    fault: dict[str, str] | None,
) -> dict[str, Any]:
    """Show an answer and its prompt; without an answer, the same keys with empty values."""
    choices = sample.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else {}
    reason = choice.get("finish_reason") if isinstance(choice, dict) else None
    answered_by = sample.get("model")
    notes = exchange.get("notes")
    return {
        **({"warning": " ".join(notes)} if notes else {}),
        "input": [
            {"role": message.get("role"), "content": as_text(message.get("content"))}
            for message in exchange.get("input") or ()
        ],
        "output": _output(sample),
        "finish_reason": reason if isinstance(reason, str) else "",
        "model": answered_by if isinstance(answered_by, str) else model,
        "usage": _usage(exchange.get("usage") or sample.get("usage")),
        "error": fault,
        "temperature": params.get("temperature", 1.0),
        "top_p": params.get("top_p", 1.0),
        "seed": params.get("seed"),
        "max_completion_tokens": params.get("max_completion_tokens"),
    }


def _output(sample: Mapping[str, Any]) -> list[dict[str, Any]]:
    choices = sample.get("choices")
    messages = [
        choice["message"]
        for choice in (choices if isinstance(choices, list) else ())
        if isinstance(choice, dict) and isinstance(choice.get("message"), dict)
    ]
    if messages:
        # The client's type of a content is a text. What a model sent in parts is joined already; a
        # row's own answer, or an imported one, stands as it was given.
        return [
            {**message, "content": as_text(message["content"])}
            if isinstance(message.get("content"), list)
            else message
            for message in messages
        ]
    text = sample.get("output_text")
    return [{"role": "assistant", "content": text}] if isinstance(text, str) else []


def _usage(usage: Any) -> dict[str, int]:
    if not isinstance(usage, dict):
        return NO_USAGE
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    counts = {"cached_tokens": cached, **usage}
    return {name: counts[name] if type(counts.get(name)) is int else 0 for name in NO_USAGE}
