"""The vendor's manners: the key, the error envelope, ids, times, metadata and headers."""

import re
from collections.abc import Iterable
from functools import reduce
from operator import or_
from time import perf_counter
from typing import Any, ClassVar
from uuid import UUID

import orjson
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from drf_spectacular.extensions import (
    OpenApiAuthenticationExtension,
    OpenApiSerializerFieldExtension,
)
from drf_spectacular.openapi import AutoSchema
from rest_framework import serializers
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed, NotFound
from rest_framework.exceptions import ValidationError as FieldError
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.services import actor_for_key
from apps.text import quoted
from evalplatform.dialects.kit.fields import AnyObject, Text
from evalplatform.dialects.kit.json import RawJSON
from evalplatform.dialects.kit.problems import Kind, Problem
from evalplatform.dialects.kit.viewset import BrowserSession, DialectViewSet
from evalplatform.dialects.openai.pages import Pages
from evalplatform.sessions import request_id_of

HEADERS = {"openai-version": "2020-10-01"}
# contract: openai section 2: never 409, which the vendor's clients send again
STATUS = {
    Kind.INVALID: 400,
    Kind.STATE: 400,
    Kind.UNAUTHENTICATED: 401,
    Kind.FORBIDDEN: 403,
    Kind.MISSING: 404,
    Kind.METHOD: 405,
    Kind.LIMIT: 413,
    Kind.INTERNAL: 500,
}
KIND = {status: kind for kind, status in reversed(STATUS.items())}
TYPES = {Kind.FORBIDDEN: "permission_error", Kind.INTERNAL: "server_error"}
CODES = {
    Kind.UNAUTHENTICATED: "invalid_api_key",
    Kind.FORBIDDEN: "insufficient_permissions",
    Kind.MISSING: "not_found",
    Kind.METHOD: "method_not_allowed",
    Kind.LIMIT: "file_too_large",
    Kind.INTERNAL: "internal_error",
}


def envelope(problem: Problem) -> dict[str, Any]:
    """The body of every answer that is no success; all four keys are always there."""
    return {
        "error": {
            "message": problem.message,
            "type": TYPES.get(problem.kind, "invalid_request_error"),
            "param": problem.path or None,
            "code": problem.code or CODES.get(problem.kind),
        }
    }


def bare_answer(request: HttpRequest, status: int) -> HttpResponse:
    """The envelope where no view of ours answered: an unknown path, a bug."""
    kind = KIND.get(status, Kind.INVALID if status < 500 else Kind.INTERNAL)
    messages = {
        Kind.MISSING: f"Unknown request URL: {request.method} {quoted(request.path)}.",
        Kind.INTERNAL: "The server failed to answer; the request id leads to the reason.",
    }
    message = messages.get(kind, f"The request was refused with status {status}.")
    body = orjson.dumps(envelope(Problem(kind, message)))
    return HttpResponse(body, "application/json", status, headers=HEADERS)


class ErrorBody(serializers.Serializer):
    message = serializers.CharField()
    type = serializers.CharField()
    param = serializers.CharField(
        allow_null=True, help_text="The field at fault, as in testing_criteria[0].operation."
    )
    code = serializers.CharField(allow_null=True)


class Error(serializers.Serializer):
    error = ErrorBody()


# --- the key -------------------------------------------------------------------------------------


class BearerKey(BaseAuthentication):
    """`Authorization: Bearer <key>`."""

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        header = request.META.get("HTTP_AUTHORIZATION")
        if header is None:
            return None
        scheme, _, secret = header.partition(" ")
        if scheme.lower() != "bearer" or not secret.strip():
            raise AuthenticationFailed("Send the key as Authorization: Bearer YOUR_KEY.")
        actor = actor_for_key(secret.strip(), request_id_of(request))
        if actor is None:
            raise AuthenticationFailed("This API key does not exist, or no longer.")
        return (actor.user, actor)

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class BearerKeyScheme(OpenApiAuthenticationExtension):
    target_class = BearerKey
    name = "key"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return {"type": "http", "scheme": "bearer"}


# --- fields --------------------------------------------------------------------------------------


class IdField(serializers.CharField):
    """A UUID in the vendor's dress; what is not in it is malformed."""

    default_error_messages = {"malformed": "Not an id of this kind."}

    def to_representation(self, value: Any) -> str:
        raise NotImplementedError

    def to_internal_value(self, data: Any) -> Any:
        raise NotImplementedError

    def ways(self, name: str, place: str = "") -> list[Q]:
        """Conditions for rows that go by this id, the likeliest first, each with an index.

        place: what leads to them from other rows, as `evaluation__` does. Raises DRF's
        ValidationError when no row can have such an id.
        """
        return [Q(**{f"{place}pk": self.to_internal_value(name)})]


class PrefixedId(IdField):
    """A UUID as a word and its 32 hex digits: eval_0190…."""

    def __init__(self, prefix: str, **kwargs: Any) -> None:
        self.prefix = prefix
        super().__init__(**kwargs)

    def to_representation(self, value: Any) -> str:
        return f"{self.prefix}_{value.hex}"

    def to_internal_value(self, data: Any) -> Any:
        match = re.fullmatch(rf"{self.prefix}_([0-9a-f]{{32}})", str(data))
        if match is None:
            self.fail("malformed")
        return UUID(hex=match[1])


class KeptId(PrefixedId):
    """The id of a row that may have come from elsewhere with an id, by which it then goes."""

    KEPT = re.compile(r"[!-~]{1,100}")

    def of(self, row: Any) -> str:
        return row.imported_id or self.to_representation(row.pk)

    def ways(self, name: str, place: str = "") -> list[Q]:
        if self.KEPT.fullmatch(name) is None:
            self.fail("malformed")
        kept = Q(**{f"{place}imported_id": name})
        try:
            return [*super().ways(name, place), kept]
        except FieldError:
            return [kept]


class Base62Id(IdField):
    """A UUID as a word and 22 letters and digits, its number to the base 62: file-06hVqm…."""

    DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    LENGTH = 22

    def __init__(self, prefix: str, **kwargs: Any) -> None:
        self.prefix = prefix
        super().__init__(**kwargs)

    def to_representation(self, value: Any) -> str:
        number, digits = value.int, []
        for _ in range(self.LENGTH):
            number, digit = divmod(number, 62)
            digits.append(self.DIGITS[digit])
        return f"{self.prefix}-" + "".join(reversed(digits))

    def to_internal_value(self, data: Any) -> Any:
        match = re.fullmatch(rf"{self.prefix}-([0-9A-Za-z]{{{self.LENGTH}}})", str(data))
        number = 0
        for digit in match[1] if match else "":
            number = number * 62 + self.DIGITS.index(digit)
        if match is None or number >= 2**128:
            self.fail("malformed")
        return UUID(int=number)


class FileId(Base62Id):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__("file", **kwargs)


EVAL_ID = KeptId("eval")
RUN_ID = KeptId("evalrun")
ITEM_ID = KeptId("outputitem")
FILE_ID = FileId()
COMPLETION_ID = Base62Id("chatcmpl")
RESPONSE_ID = PrefixedId("resp")


def first_of(rows: QuerySet[Any], ways: Iterable[Q]) -> Any:
    """The first row that one of the ways leads to; None when none does.

    One query after the other: of both conditions at once SQLite makes a scan.
    """
    return next((row for way in ways if (row := rows.filter(way).first()) is not None), None)


def any_of(ways: Iterable[Q]) -> Q:
    """All of the ways in one condition, for rows that another condition finds."""
    return reduce(or_, ways)


class UnixTime(serializers.IntegerField):
    """A time in whole seconds since 1970."""

    def to_representation(self, value: Any) -> int:
        return int(value.timestamp())


class Metadata(AnyObject):
    """At most 16 texts by name; stored and given back as the JSON text of an object."""

    PAIRS, KEY_LENGTH, VALUE_LENGTH = 16, 64, 512
    default_error_messages = {
        "object_above_max_properties": f"At most {PAIRS} pairs fit.",
        "string_above_max_length": f"A key has at most {KEY_LENGTH} characters, unlike {{name}}.",
    }

    def to_internal_value(self, data: Any) -> Any:
        if len(data) > self.PAIRS:
            self.fail("object_above_max_properties")
        text = Text(max_length=self.VALUE_LENGTH, allow_blank=True)
        for key, value in data.items():
            if len(key) > self.KEY_LENGTH:
                self.fail("string_above_max_length", name=quoted(key))
            try:
                text.run_validation(value)
            except FieldError as error:
                raise FieldError({key: error.detail}) from None
        return data

    def to_representation(self, value: str) -> RawJSON:
        return RawJSON(value)


class MetadataSchema(OpenApiSerializerFieldExtension):
    target_class = Metadata
    priority = 1

    def map_serializer_field(self, auto_schema: Any, direction: Any) -> dict[str, Any]:
        return {
            "type": "object",
            "additionalProperties": {"type": "string", "maxLength": Metadata.VALUE_LENGTH},
            "maxProperties": Metadata.PAIRS,
        }


# --- the viewset ---------------------------------------------------------------------------------


class OpenAISchema(AutoSchema):
    """Adds to every operation the refusals it may answer with."""

    def get_operation(self, *args: Any, **kwargs: Any) -> dict[str, Any] | None:
        operation = super().get_operation(*args, **kwargs)
        if operation is None:
            return None
        view: Any = self.view
        places = {parameter["in"] for parameter in operation.get("parameters", ())}
        statuses = {
            400: "query" in places or self.method == "POST",
            401: True,
            403: True,
            404: "path" in places,
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
    """A resource of the vendor's. noun: what one of its objects is called in a sentence.

    shared: by action, the statuses in which another dialect answers in plain text on its path.
    """

    authentication_classes = [BearerKey, BrowserSession]
    pagination_class: type[Pages] | None = Pages
    schema = OpenAISchema()
    noun: ClassVar[str]
    id_field: ClassVar[IdField]
    shared: ClassVar[dict[str, tuple[int, ...]]] = {}

    def all_rows(self) -> Any:
        """The queryset of what the actor's account has of them here, deleted ones included."""
        raise NotImplementedError

    def get_queryset(self) -> QuerySet[Any]:
        return self.all_rows().present()

    def page(self) -> list[Any]:
        """The page of the list that the query string asks for."""
        return self.paginate_queryset(self.filter_queryset(self.get_queryset())) or []

    def get_object(self) -> Any:
        name = self.lookup_url_kwarg or ""
        try:
            found = first_of(self.get_queryset(), self.ways(self.kwargs[name]))
        except FieldError:
            found = None
        if found is None:
            raise self.missing(self.noun, self.kwargs[name])
        return found

    def ways(self, name: str) -> list[Q]:
        """How to find the row with this id. Raises DRF's ValidationError when there is none."""
        return self.id_field.ways(name)

    def ways_in_path(self, name: str, id_field: IdField, noun: str, place: str = "") -> list[Q]:
        try:
            return id_field.ways(self.kwargs[name], place)
        except FieldError:
            raise self.missing(noun, self.kwargs[name]) from None

    @staticmethod
    def missing(noun: str, name: str) -> NotFound:
        return NotFound(f"There is no {noun} with the id {quoted(name)}.")

    def dress(self, problem: Problem) -> Response:
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
