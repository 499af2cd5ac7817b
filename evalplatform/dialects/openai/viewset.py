"""The viewset of the vendor's resources: headers, missing rows, and the refusals in the schema."""

from time import perf_counter
from typing import Any, ClassVar

from django.db.models import Q, QuerySet
from django.http import HttpRequest
from drf_spectacular.openapi import AutoSchema
from rest_framework.exceptions import NotFound
from rest_framework.exceptions import ValidationError as FieldError
from rest_framework.request import Request
from rest_framework.response import Response

from apps.text import quoted
from evalplatform.dialects.kit.browsers import BrowserSession
from evalplatform.dialects.kit.problems import Problem
from evalplatform.dialects.kit.viewset import DialectViewSet
from evalplatform.dialects.openai.envelope import HEADERS, STATUS, Error, envelope
from evalplatform.dialects.openai.ids import IdField, first_of
from evalplatform.dialects.openai.keys import BearerKey
from evalplatform.dialects.openai.pages import Pages


class OpenAISchema(AutoSchema):
    """A schema that adds to every operation the refusals it may answer with."""

    def get_operation(self, *args: Any, **kwargs: Any) -> dict[str, Any] | None:
        operation = super().get_operation(*args, **kwargs)
        if operation is None:
            return None
        view: Any = self.view
        parameter_kinds = {parameter["in"] for parameter in operation.get("parameters", ())}
        statuses = {
            400: "query" in parameter_kinds or self.method == "POST",
            401: True,
            403: True,
            404: "path" in parameter_kinds,
            413: "requestBody" in operation,
            500: True,
        }
        error = {"application/json": {"schema": self.resolve_serializer(Error, "response").ref}}
        for status in (status for status, possible in statuses.items() if possible):
            operation["responses"][str(status)] = {"content": {**error}, "description": ""}
        for status in view.shared.get(view.action, ()):
            answer = operation["responses"].setdefault(str(status), {"description": ""})
            answer.setdefault("content", {})["text/plain"] = {"schema": {"type": "string"}}
        return operation

    def get_operation_id(self) -> str:
        view: Any = self.view
        return f"{view.action}_{view.noun.replace(' ', '_')}"

    def get_tags(self) -> list[str]:
        view: Any = self.view
        return [f"{view.noun}s"]


class OpenAIViewSet(DialectViewSet):
    """A resource of the vendor's. noun: the name of one of its objects in a sentence.

    shared: by action, the statuses in which another dialect answers in plain text on its path.
    """

    authentication_classes = [BearerKey, BrowserSession]
    pagination_class: type[Pages] | None = Pages
    schema = OpenAISchema()
    noun: ClassVar[str]
    id_field: ClassVar[IdField]
    shared: ClassVar[dict[str, tuple[int, ...]]] = {}

    def all_rows(self) -> Any:
        """Return the queryset of the rows that the account has here, deleted ones included."""
        raise NotImplementedError

    def get_queryset(self) -> QuerySet[Any]:
        return self.all_rows().present()

    def page(self) -> list[Any]:
        """Return the rows of the page that the query string asks for."""
        rows = self.get_queryset()
        if self.is_filtered:
            rows = self.filter_queryset(rows)
        return self.paginate_queryset(rows) or []

    @property
    def is_filtered(self) -> bool:
        """Tell whether the query string narrows the list; the filters take long to be made."""
        filters = getattr(self, "filterset_class", None)
        return filters is not None and any(
            name in self.request.query_params for name in filters.base_filters
        )

    def get_object(self) -> Any:
        name = self.lookup_url_kwarg or ""
        try:
            found = first_of(self.get_queryset(), self.conditions(self.kwargs[name]))
        except FieldError:
            found = None
        if found is None:
            raise self.missing(self.noun, self.kwargs[name])
        return found

    def conditions(self, name: str) -> list[Q]:
        """Make conditions that find the row with this id. Raises DRF's ValidationError."""
        return self.id_field.conditions(name)

    def conditions_in_path(
        self, name: str, id_field: IdField, noun: str, prefix: str = ""
    ) -> list[Q]:
        """Make conditions from an id in the path. Raises NotFound for a text that is no such id."""
        try:
            return id_field.conditions(self.kwargs[name], prefix)
        except FieldError:
            raise self.missing(noun, self.kwargs[name]) from None

    @staticmethod
    def missing(noun: str, name: str) -> NotFound:
        return NotFound(f"There is no {noun} with the id {quoted(name)}.")

    def refusal(self, problem: Problem) -> Response:
        return Response(envelope(problem), STATUS[problem.kind])

    def initialize_request(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Request:
        self.began = perf_counter()
        return super().initialize_request(request, *args, **kwargs)

    def finalize_response(
        self, request: Request, response: Any, *args: Any, **kwargs: Any
    ) -> Response:
        response = super().finalize_response(request, response, *args, **kwargs)
        for name, value in HEADERS.items():
            response[name] = value
        response["openai-processing-ms"] = str(round((perf_counter() - self.began) * 1000))
        if response.status_code == 401:
            response["WWW-Authenticate"] = BearerKey().authenticate_header(request)
        return response
