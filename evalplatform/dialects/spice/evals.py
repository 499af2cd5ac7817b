"""List evals, or run one by its name and wait for its end."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import BoundedSemaphore
from typing import Any

from django.conf import settings
from django.urls import reverse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.roles import Action
from apps.errors import Refusal
from apps.evaluations.models import Evaluation, Run
from apps.evaluations.reports import Summary, summary
from apps.evaluations.services.named_runs import (
    UnknownDataset,
    find_by_name,
    scorer_names,
    start_run_by_name,
)
from apps.evaluations.services.waiting import await_end
from apps.inference.served_models import UnknownModel
from apps.text import quoted
from evalplatform.dialects.spice.renderings import (
    CONTENT_TYPES,
    CSV,
    JSON,
    RENDER,
    TABLE,
    as_json,
    negotiate,
)
from evalplatform.dialects.spice.viewset import Refused, SpiceViewSet, written
from evalplatform.dialects.spice.words import STATUSES

ERROR_CHARS = 4_000
RETRY_SECONDS = 5

_waiting_slots = BoundedSemaphore(settings.WAITING_PLACES)


class EvalSerializer(serializers.Serializer):
    name = serializers.CharField()
    description = serializers.CharField(required=False, help_text="Left out where there is none.")
    dataset = serializers.CharField()
    scorers = serializers.ListField(child=serializers.CharField())


class RunEval(serializers.Serializer):
    model = serializers.CharField(help_text="The model to ask; other members are ignored.")


class RunSerializer(serializers.Serializer):
    primary_key = serializers.CharField(help_text="The run: 32 hex digits.")
    time_column = serializers.CharField(help_text="When it was created, in UTC.")
    dataset = serializers.CharField()
    model = serializers.CharField()
    status = serializers.ChoiceField(["completed", "failed"])
    error_message = serializers.CharField(allow_null=True)
    scorers = serializers.ListField(child=serializers.CharField())
    metrics = serializers.DictField(
        child=serializers.FloatField(), help_text="`<scorer>/mean` of each; empty when failed."
    )


class EvalViewSet(SpiceViewSet):
    queryset = Evaluation.objects.none()
    shared = {"index": (400, 401, 403, 500), "run": (400, 401, 403, 404, 413, 500)}
    refusals = {
        "run": {
            400: "The body is not JSON.",
            404: "There is no such eval, model or dataset.",
            413: "The body is too large.",
            415: "The body is not declared as JSON.",
            422: "The body has no `model`, or it is no text.",
            503: "Too many requests wait for runs already; see Retry-After.",
            504: "The run takes longer than a request may wait. It goes on.",
        }
    }

    @extend_schema(responses={(200, JSON): EvalSerializer(many=True)})
    def index(self, request: Request) -> Response:
        """Every eval of the account that has a name to be run by."""
        account = self.actor.require(Action.READ)
        named = Evaluation.objects.present().filter(account=account, call_name__isnull=False)
        evals = named.prefetch_related("criteria").order_by("created_at", "id")
        return written(as_json([_shown(one) for one in evals]))

    @extend_schema(
        parameters=[
            OpenApiParameter("name", OpenApiTypes.STR, OpenApiParameter.PATH),
            OpenApiParameter(
                "X-Spice-Row-Format",
                OpenApiTypes.STR,
                OpenApiParameter.HEADER,
                enum=["runtime"],
                description="`runtime`: JSON as the vendor's program sent it.",
            ),
        ],
        request=RunEval,
        responses={(200, JSON): RunSerializer, (200, CSV): str, (200, TABLE): str},
    )
    def run(self, request: Request, name: str) -> Response:
        """Run an eval against a model and wait for the end; Accept chooses the rendering."""
        model = _read_model(request)
        with _waiting_slot():
            run = self._start(name, model)
            if not await_end(run.pk, settings.WAITING_SECONDS):
                page = request.build_absolute_uri(reverse("web:run", args=[run.pk]))
                raise Refused(504, f"run {run.pk.hex} takes longer and goes on: see {page}")
        related = ("evaluation", "source_version__dataset")
        report = summary(Run.objects.select_related(*related).get(pk=run.pk))
        if request.META.get("HTTP_X_SPICE_ROW_FORMAT") == "runtime":
            return written(as_json([runtime_row(report)]))
        kind = negotiate(request.META.get("HTTP_ACCEPT"))
        return written(RENDER[kind](record_of(report)), CONTENT_TYPES[kind])

    def _start(self, name: str, model: str) -> Run:
        # No name holds a NUL, and PostgreSQL refuses to be asked for one.
        found = None if "\0" in name else find_by_name(self.actor, name)
        if found is None:
            raise Refused(404, f"eval '{name}' not found")
        try:
            return start_run_by_name(self.actor, found, model=model)
        except UnknownModel:
            raise Refused(404, f"model '{model}' not found") from None
        except UnknownDataset:
            raise Refused(404, f"dataset '{found.dataset_name}' not found") from None


@contextmanager
def _waiting_slot() -> Iterator[None]:
    """Hold one of this process's slots for requests that wait for a run. Raises Refused (503).

    The limit leaves the other requests their threads.
    """
    if not _waiting_slots.acquire(blocking=False):
        raise Refused(
            503,
            f"{settings.WAITING_PLACES} requests wait for their runs already: try again later",
            Retry_After=str(RETRY_SECONDS),
        )
    try:
        yield
    finally:
        _waiting_slots.release()


def _read_model(request: Request) -> str:
    """Read the body's `model`. Raises Refused. Source: docs/contracts/spice.md, section 7."""
    kind = request.META.get("CONTENT_TYPE", "").partition(";")[0].strip().lower()
    if re.fullmatch(r"application/(json|\S+\+json)", kind) is None:
        raise Refused(415, f"expected the content type application/json, not '{kind}'")
    try:
        body = request.data
    except Refusal as error:
        raise Refused(400, f"the body could not be parsed: {error.messages[0]}") from None
    # DRF takes an empty body for an empty object.
    if not body and not int(request.META.get("CONTENT_LENGTH") or 0):
        raise Refused(400, "the body could not be parsed: it is empty")
    if not isinstance(body, dict):
        raise Refused(422, "the body must be a JSON object with the field `model`")
    if "model" not in body:
        raise Refused(422, "the field `model` is missing")
    if not isinstance(body["model"], str):
        raise Refused(422, f"the field `model` must be a string, not {quoted(body['model'])}")
    return body["model"]


def _shown(evaluation: Evaluation) -> dict[str, Any]:
    described = {"description": evaluation.description} if evaluation.description else {}
    return {
        "name": evaluation.call_name,
        **described,
        "dataset": evaluation.dataset_name,
        "scorers": scorer_names(evaluation),
    }


def seconds(moment: datetime) -> str:
    """Write a time in UTC without zone or fraction, as the vendor's program wrote it."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S}"


def record_of(report: Summary) -> dict[str, Any]:
    """Make a run's eight fields; of a run that is still going, those known so far.

    Source: docs/contracts/spice.md, section 6.1.
    """
    run = report.run
    completed = run.state == Run.State.COMPLETED
    source = run.source_version
    means = {
        f"{line.criterion.name}/mean": line.total / line.scored if line.scored else 0.0
        for line in report.criteria
    }
    return {
        "primary_key": run.pk.hex,
        "time_column": f"{seconds(run.created_at)}Z",
        "dataset": source.dataset.name if source else "",
        "model": run.model,
        "status": STATUSES[run.state],
        "error_message": None if completed or not run.is_final else _reason(run),
        "scorers": [line.criterion.name for line in report.criteria],
        "metrics": means if completed else {},
    }


def _reason(run: Run) -> str:
    name = run.evaluation.call_name or run.evaluation.name
    reason = run.error_message or f"the run was {run.state}"
    return f"eval '{name}': {reason}"[:ERROR_CHARS]


def runtime_row(report: Summary) -> dict[str, Any]:
    """Make a run's row as the vendor's program wrote it.

    Source: docs/contracts/spice.md, section 6.5.
    """
    run, record = report.run, record_of(report)
    completed_at = run.finished_at if run.state == Run.State.COMPLETED else None
    row = {
        "id": record["primary_key"],
        "created_at": record["time_column"].removesuffix("Z"),
        "completed_at": seconds(completed_at) if completed_at else None,
        "dataset": record["dataset"],
        "model": record["model"],
        "status": record["status"].capitalize(),
        "error_message": record["error_message"],
        "scorers": record["scorers"],
        "metrics": record["metrics"],
    }
    return {field: value for field, value in row.items() if value is not None}
