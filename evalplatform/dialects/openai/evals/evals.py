"""Evals: the schema of a row, and the criteria that judge its answer."""

from collections.abc import Mapping, Sequence
from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import ValidationError as FieldError
from rest_framework.request import Request
from rest_framework.response import Response

from apps.datasets.models import NAME_LENGTH
from apps.evaluations.models import Evaluation
from apps.evaluations.reports import (
    criteria_at,
    criteria_at_all,
    evaluations_of,
    find_whole_evaluation,
)
from apps.evaluations.services.evaluations import (
    create_evaluation,
    delete_evaluation,
    update_evaluation,
)
from apps.strict_json import parse_json
from evalplatform.dialects.kit.fields import AnyObject, Array, Const, Flag, OneOf, Shape, Text
from evalplatform.dialects.kit.json import RawJSON
from evalplatform.dialects.kit.problems import Problem
from evalplatform.dialects.openai.evals.criteria import (
    CRITERIA,
    GRADERS,
    INSTEAD_OF_GRADERS,
    criterion_shown,
    in_vendors_words,
    new_criterion,
)
from evalplatform.dialects.openai.evals.sample_schema import row_schema, stored_row_schema
from evalplatform.dialects.openai.fields import Metadata, NativeKinds, UnixTime
from evalplatform.dialects.openai.ids import EVAL_ID, PrefixedId
from evalplatform.dialects.openai.pages import Pages, Query
from evalplatform.dialects.openai.viewset import OpenAIViewSet
from evalplatform.dialects.openai.words import NAME


class CustomConfig(Shape):
    type = Const("custom")
    item_schema = AnyObject()
    include_sample_schema = Flag(required=False)


class LogsConfig(Shape):
    type = Const("logs")
    metadata = Metadata(required=False, allow_null=True)


class StoredCompletionsConfig(Shape):
    type = Const("stored_completions")
    metadata = Metadata(required=False, allow_null=True)


CONFIGS: dict[str, type[Shape]] = {
    "custom": CustomConfig,
    "logs": LogsConfig,
    "stored_completions": StoredCompletionsConfig,
}


class EvalCreate(Shape):
    closed = True

    name = Text(max_length=NAME_LENGTH, required=False)
    metadata = Metadata(required=False, allow_null=True)
    data_source_config = NativeKinds(CONFIGS, instead="use custom with the schema of an item")
    testing_criteria = Array(
        child=NativeKinds(GRADERS, instead=INSTEAD_OF_GRADERS), min_length=1, max_length=CRITERIA
    )
    share_with_openai = Flag(required=False, help_text="Sent by old clients; says nothing here.")


class EvalUpdate(Shape):
    closed = True

    name = Text(max_length=NAME_LENGTH, required=False)
    metadata = Metadata(required=False, allow_null=True)


class ShownConfig(serializers.Serializer):
    type = serializers.ChoiceField(choices=[*CONFIGS])
    schema = AnyObject(help_text="JSON Schema of a row: its item and its sample.")
    metadata = Metadata(required=False)


class EvalSerializer(serializers.Serializer):
    object = Const("eval", read_only=True)
    id = serializers.SerializerMethodField()
    name = serializers.CharField(read_only=True)
    created_at = UnixTime(read_only=True)
    updated_at = UnixTime(read_only=True)
    data_source_config = serializers.SerializerMethodField()
    testing_criteria = serializers.SerializerMethodField()
    metadata = Metadata(read_only=True)

    def get_id(self, evaluation: Evaluation) -> str:
        return EVAL_ID.of(evaluation)

    @extend_schema_field(ShownConfig)
    def get_data_source_config(self, evaluation: Evaluation) -> dict[str, Any]:
        config = parse_json(evaluation.spec).get("data_source_config")
        if config is not None:
            return {**config, "schema": stored_row_schema()}
        item = RawJSON(evaluation.item_schema)
        schema = row_schema(item, has_sample=evaluation.has_sample)
        return {"type": "custom", "schema": schema, "max_items": None}

    @extend_schema_field(Array(child=OneOf(GRADERS)))
    def get_testing_criteria(self, evaluation: Evaluation) -> list[dict[str, Any]]:
        key = (evaluation.pk, evaluation.criteria_version)
        # A list has read those of all its evals at once.
        listed = self.context.get("criteria")
        criteria = criteria_at(key) if listed is None else listed[key]
        return [criterion_shown(criterion) for criterion in criteria]


class EvalDeleted(serializers.Serializer):
    object = Const("eval.deleted")
    deleted = serializers.BooleanField()
    eval_id = PrefixedId("eval")


class EvalQuery(Query):
    order_by = serializers.ChoiceField(["created_at", "updated_at"], default="created_at")


class EvalPages(Pages):
    query = EvalQuery

    def fields(self, query: Mapping[str, Any]) -> tuple[str, str]:
        return (query["order_by"], "id")


class EvalViewSet(OpenAIViewSet):
    noun = "eval"
    id_field = EVAL_ID
    queryset = Evaluation.objects.none()
    serializer_class = EvalSerializer
    pagination_class = EvalPages
    lookup_url_kwarg = "eval_id"
    shared = {
        "list": (401, 403, 500),
        "create": (401, 405),
        "retrieve": (401, 405),
        "update": (200, 400, 401, 403, 404, 413, 415, 422, 500, 503, 504),
        "destroy": (401, 405),
    }
    paths = {
        "criteria": ("testing_criteria",),
        "item_schema": ("data_source_config", "item_schema"),
    }

    def as_written(self, problem: Problem) -> Problem:
        return super().as_written(in_vendors_words(problem))

    def all_rows(self) -> QuerySet[Evaluation]:
        return Evaluation.objects.visible_to(self.actor)

    def list(self, request: Request) -> Response:
        """List evals, the oldest first."""
        evaluations = self.evaluations()
        criteria = criteria_at_all((one.pk, one.criteria_version) for one in evaluations)
        context = {**self.get_serializer_context(), "criteria": criteria}
        shown = EvalSerializer(evaluations, many=True, context=context)
        return self.get_paginated_response(shown.data)

    def evaluations(self) -> Sequence[Evaluation]:
        """Return the page of evals that the query string asks for."""
        pages, account_ids = self.paginator, self.actor.account_ids
        if len(account_ids) != 1 or not isinstance(pages, Pages):
            return self.page()
        query = pages.asked(self.request)
        return pages.page_found(
            lambda place, descending, limit: evaluations_of(
                account_ids[0], query["order_by"], place, descending=descending, limit=limit
            ),
            query,
            self,
        )

    def retrieve(self, request: Request, **ids: str) -> Response:
        """Return an eval."""
        name = self.kwargs["eval_id"]
        try:
            found = find_whole_evaluation(self.actor, EVAL_ID.fields(name))
        except FieldError:
            found = None
        if found is None:
            raise self.missing(self.noun, name)
        return Response(self.get_serializer(found).data)

    @extend_schema(request=EvalCreate, responses={201: EvalSerializer})
    def create(self, request: Request) -> Response:
        """Create an eval: a schema for rows, and the criteria that judge them."""
        evaluation = create_evaluation(self.actor, **new_evaluation(self.body(EvalCreate)))
        return Response(self.get_serializer(evaluation).data, 201)

    @extend_schema(request=EvalUpdate, responses={200: EvalSerializer})
    def update(self, request: Request, **ids: str) -> Response:
        """Rename an eval, or replace its metadata as a whole."""
        evaluation, body = self.get_object(), self.body(EvalUpdate)
        if "metadata" in body:
            body = {**body, "metadata": body["metadata"] or {}}
        update_evaluation(self.actor, evaluation, **body)
        return Response(self.get_serializer(evaluation).data)

    @extend_schema(responses={200: EvalDeleted})
    def destroy(self, request: Request, **ids: str) -> Response:
        """Delete an eval with its runs; those that are going are stopped."""
        evaluation = self.get_object()
        delete_evaluation(self.actor, evaluation)
        return Response(
            {
                "object": "eval.deleted",
                "deleted": True,
                "eval_id": EVAL_ID.of(evaluation),
            }
        )


def new_evaluation(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of create_evaluation; what the core has no field for is in `spec`."""
    config = body["data_source_config"]
    asked = {
        "name": body.get("name", ""),
        "metadata": body.get("metadata"),
        "criteria": [new_criterion(sent) for sent in body["testing_criteria"]],
        "dialect": NAME,
    }
    if config["type"] == "custom":
        has_sample = config.get("include_sample_schema", False)
        return {**asked, "item_schema": config["item_schema"], "has_sample": has_sample}
    kept = {"type": config["type"], "metadata": config.get("metadata") or {}}
    return {**asked, "has_sample": True, "spec": {"data_source_config": kept}}
