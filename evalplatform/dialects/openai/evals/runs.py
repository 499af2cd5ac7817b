"""Runs: an eval applied to the rows of a data source."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet
from django.http import StreamingHttpResponse
from django_filters.rest_framework import ChoiceFilter, DjangoFilterBackend, FilterSet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.datasets.models import NAME_LENGTH
from apps.errors import Unfit
from apps.evaluations.models import Evaluation, Run
from apps.evaluations.reports import Counts, Summary, count_results, runs_of, summarize
from apps.evaluations.services.runs import cancel_run, delete_run, start_run
from apps.inference.served_models import UnknownModel
from evalplatform.dialects.kit.fields import AnyObject, Const, OneOf, Shape, Text
from evalplatform.dialects.kit.json import RawJSON, write_json
from evalplatform.dialects.openai.evals.run_lookup import evaluation_in_path, run_in_path
from evalplatform.dialects.openai.evals.source_echo import (
    Echo,
    bytes_to_read,
    echoes_shown,
    kept_spec,
)
from evalplatform.dialects.openai.evals.source_shapes import DATA_SOURCES, INSTEAD_OF_SOURCES
from evalplatform.dialects.openai.evals.sources import rows_of, target_of
from evalplatform.dialects.openai.fields import Metadata, NativeKinds, UnixTime
from evalplatform.dialects.openai.ids import EVAL_ID, RUN_ID, PrefixedId, any_of, first_of
from evalplatform.dialects.openai.pages import Pages
from evalplatform.dialects.openai.viewset import OpenAIViewSet
from evalplatform.dialects.openai.words import NAME, RUN_STATE, RUN_STATUS

# Of rows in a page of runs; more are read and sent so many runs at a time.
AT_ONCE_BYTES = 4 * 1024 * 1024
RUNS_AT_ONCE = 4


class RunCreate(Shape):
    closed = True

    data_source = NativeKinds(DATA_SOURCES, instead=INSTEAD_OF_SOURCES)
    name = Text(max_length=NAME_LENGTH, required=False)
    metadata = Metadata(required=False, allow_null=True)
    properties = AnyObject(
        required=False, allow_null=True, help_text="Azure's clients send this; it is given back."
    )
    evaluation_level = Text(
        max_length=64, required=False, allow_null=True, help_text="Likewise, as in `turn`."
    )


class ResultCounts(serializers.Serializer):
    total = serializers.IntegerField()
    errored = serializers.IntegerField()
    failed = serializers.IntegerField()
    passed = serializers.IntegerField()


class ModelUsage(serializers.Serializer):
    model_name = serializers.CharField()
    invocation_count = serializers.IntegerField()
    prompt_tokens = serializers.IntegerField()
    completion_tokens = serializers.IntegerField()
    total_tokens = serializers.IntegerField()
    cached_tokens = serializers.IntegerField()


class CriterionResults(serializers.Serializer):
    testing_criteria = serializers.CharField(help_text="The criterion's id.")
    passed = serializers.IntegerField()
    failed = serializers.IntegerField()
    errored = serializers.IntegerField()
    # contract: openai, additions, section 7: a widely used proxy's client wants these
    testing_criteria_index = serializers.IntegerField()
    result_counts = ResultCounts()


class RunError(serializers.Serializer):
    code = serializers.CharField()
    message = serializers.CharField()


# For the schema alone: runs_shown makes the object.
class EvalRunSerializer(serializers.Serializer):
    """A run of an eval."""

    object = Const("eval.run")
    id = PrefixedId("evalrun")
    eval_id = PrefixedId("eval")
    status = serializers.ChoiceField(choices=[*RUN_STATE])
    model = serializers.CharField(help_text="Empty where nothing is asked.")
    name = serializers.CharField()
    created_at = UnixTime()
    report_url = serializers.URLField()
    result_counts = ResultCounts()
    per_model_usage = ModelUsage(many=True, allow_null=True)
    per_testing_criteria_results = CriterionResults(many=True, allow_null=True)
    data_source = OneOf(DATA_SOURCES)
    error = RunError(allow_null=True)
    metadata = Metadata()
    properties = AnyObject(required=False, help_text="As it was sent, where it was.")
    evaluation_level = serializers.CharField(required=False, help_text="Likewise.")
    shared_with_openai = serializers.BooleanField()


class RunDeleted(serializers.Serializer):
    object = Const("eval.run.deleted")
    deleted = serializers.BooleanField()
    run_id = PrefixedId("evalrun")


class RunFilters(FilterSet):  # type: ignore[misc]  # its package has no types
    status = ChoiceFilter(choices=[(word, word) for word in RUN_STATE], method="of_status")

    def of_status(self, runs: QuerySet[Run], name: str, status: str) -> QuerySet[Run]:
        return runs.filter(state=RUN_STATE[status])


class RunViewSet(OpenAIViewSet):
    noun = "run"
    id_field = RUN_ID
    queryset = Run.objects.none()
    serializer_class = EvalRunSerializer
    filter_backends = [DjangoFilterBackend]
    filterset_class = RunFilters
    lookup_url_kwarg = "run_id"
    paths = {
        "source": ("data_source", "source", "content"),
        "messages": ("data_source", "input_messages", "template"),
        "reference": ("data_source", "input_messages", "item_reference"),
    }

    @cached_property
    def of_eval(self) -> Q:
        return any_of(self.conditions_in_path("eval_id", EVAL_ID, "eval", "evaluation__"))

    def evaluation(self) -> Evaluation:
        conditions = self.conditions_in_path("eval_id", EVAL_ID, "eval")
        found = first_of(Evaluation.objects.visible_to(self.actor).present(), conditions)
        if found is None:
            raise self.missing("eval", self.kwargs["eval_id"])
        return found

    def all_rows(self) -> QuerySet[Run]:
        runs = Run.objects.visible_to(self.actor).filter(self.of_eval)
        return runs.select_related("evaluation", "source_file")

    def list(self, request: Request, **ids: str) -> Response | StreamingHttpResponse:
        """The runs of an eval."""
        evaluation = evaluation_in_path(self)
        # Its key, since an index leads from it to the runs in their order.
        self.of_eval = Q(evaluation=evaluation.pk)
        runs = self.runs_of(evaluation)
        if bytes_to_read(runs) > AT_ONCE_BYTES:
            return self.streamed(runs)
        return self.get_paginated_response(runs_shown(runs, request))

    def streamed(self, runs: Sequence[Run]) -> StreamingHttpResponse:
        """Answer with a page of runs a few at a time: their rows may have 100 MiB in all."""

        def pieces() -> Iterator[bytes]:
            yield b'{"object":"list","data":['
            for start in range(0, len(runs), RUNS_AT_ONCE):
                shown = runs_shown(runs[start : start + RUNS_AT_ONCE], self.request)
                yield (b"," if start else b"") + b",".join(map(write_json, shown))
            names = [{"id": RUN_ID.of(run)} for run in runs]
            rest = self.get_paginated_response(names).data
            del rest["object"], rest["data"]
            yield b"]," + write_json(rest).removeprefix(b"{")

        return StreamingHttpResponse(pieces(), content_type="application/json")

    def runs_of(self, evaluation: Evaluation) -> Sequence[Run]:
        """Return the page of an eval's runs that the query string asks for."""
        pages = self.paginator
        if self.is_filtered or not isinstance(pages, Pages):
            return self.page()
        return pages.page_found(
            lambda place, descending, limit: runs_of(
                evaluation, place, descending=descending, limit=limit
            ),
            pages.asked(self.request),
            self,
        )

    @extend_schema(request=RunCreate, responses={201: EvalRunSerializer})
    def create(self, request: Request, **ids: str) -> Response:
        """Start a run; its status tells how far it is."""
        evaluation, body = self.evaluation(), self.body(RunCreate)
        data_source = body["data_source"]
        try:
            run = start_run(
                self.actor,
                evaluation,
                source=rows_of(self.actor, evaluation, data_source),
                target=target_of(data_source),
                name=body.get("name", ""),
                metadata=body.get("metadata"),
                dialect=NAME,
                spec=kept_spec(body),
            )
        except UnknownModel as error:
            # Else it is a criterion's judge, which the message names.
            path = ("data_source", "model") if error.name == data_source.get("model") else ()
            raise Unfit(str(error), path=path, code="model_not_found") from error
        return self.respond(run, 201)

    def retrieve(self, request: Request, **ids: str) -> Response:
        """A run, with its counts so far."""
        return self.respond(run_in_path(self))

    @extend_schema(request=None, responses={200: EvalRunSerializer})
    def cancel(self, request: Request, **ids: str) -> Response:
        """Stop a run now; what is done stays."""
        return self.respond(cancel_run(self.actor, self.get_object()))

    @extend_schema(request=None, responses={200: EvalRunSerializer}, deprecated=True)
    def cancel_by_short_path(self, request: Request, **ids: str) -> Response:
        """Stop a run now: the path that older clients call."""
        return self.cancel(request, **ids)

    @extend_schema(responses={200: RunDeleted})
    def destroy(self, request: Request, **ids: str) -> Response:
        """Delete a run, which is stopped first where it is going."""
        run = self.get_object()
        delete_run(self.actor, run)
        run_id = RUN_ID.of(run)
        return Response({"object": "eval.run.deleted", "deleted": True, "run_id": run_id})

    def respond(self, run: Run, status: int = 200) -> Response:
        return Response(runs_shown([run], self.request)[0], status)


def runs_shown(
    runs: Sequence[Run], request: Request, echoes: Mapping[UUID, Echo] | None = None
) -> list[dict[str, Any]]:
    """Show runs, in as few queries for many as for one.

    echoes: what was sent with them by their ids, where it is not to be shown as ever. The objects
    are made by hand: clients poll this many times a second while a run is going.
    """
    if echoes is None:
        echoes = echoes_shown(runs)
    over = [run for run in runs if run.is_final]
    going = [run for run in runs if not run.is_final]
    summaries = summarize(over) if over else {}
    counts = count_results(going) if going else {}
    return [
        {
            "object": "eval.run",
            "id": RUN_ID.of(run),
            "eval_id": EVAL_ID.of(run.evaluation),
            "status": RUN_STATUS[run.state],
            "model": run.model,
            "name": run.name,
            "created_at": int(run.created_at.timestamp()),
            "report_url": request.build_absolute_uri(f"/app/runs/{run.pk}/"),
            **_results_shown(summaries.get(run.pk), counts.get(run.pk)),
            **echoes[run.pk],
            "error": _error(run),
            "metadata": RawJSON(run.metadata),
            "shared_with_openai": False,
        }
        for run in runs
    ]


def _results_shown(summary: Summary | None, counts: Counts | None) -> dict[str, Any]:
    """Show the results of a run in figures; of an unfinished run only its counts."""
    if summary is None:
        return {
            "result_counts": _counts(counts or Counts()),
            "per_model_usage": None,
            "per_testing_criteria_results": None,
        }
    return {
        "result_counts": _counts(summary.counts),
        "per_model_usage": [
            {
                "model_name": usage.model,
                "invocation_count": usage.calls,
                "prompt_tokens": usage.prompt_tokens,
                "completion_tokens": usage.completion_tokens,
                "total_tokens": usage.total_tokens,
                "cached_tokens": usage.cached_tokens,
            }
            for usage in summary.usage
        ],
        "per_testing_criteria_results": [
            {
                "testing_criteria": line.criterion.key,
                "passed": line.passed,
                "failed": line.failed,
                "errored": line.errored,
                "testing_criteria_index": index,
                "result_counts": {
                    "total": line.passed + line.failed + line.errored,
                    "errored": line.errored,
                    "failed": line.failed,
                    "passed": line.passed,
                },
            }
            for index, line in enumerate(summary.criteria)
        ],
    }


def _counts(counts: Counts) -> dict[str, int]:
    return {
        "total": counts.done,
        "errored": counts.errored,
        "failed": counts.failed + counts.unjudged,  # which are listed as such, too
        "passed": counts.passed,
    }


def _error(run: Run) -> dict[str, str] | None:
    if run.state != Run.State.FAILED:
        return None
    return {"code": run.error_code, "message": run.error_message}
