"""What every dialect stands on: who asks, what came in, and what went wrong in plain words."""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar

import orjson
from django.conf import settings
from django.core.exceptions import ObjectDoesNotExist, PermissionDenied, SuspiciousOperation
from django.core.exceptions import ValidationError as DjangoValidationError
from django.db.models import Q
from django.http import Http404, QueryDict
from django.http.request import UnreadablePostError
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework import exceptions
from rest_framework.authentication import SessionAuthentication
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer, BrowsableAPIRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from apps.accounts.models import Actor
from apps.accounts.services import actor_for_user
from apps.errors import Invalid, LimitError, StateError
from apps.strict_json import BadJSON, parse_json

# Under this name a browser's session keeps the account that is selected in it.
SELECTED_ACCOUNT = "account_id"
SHOWN_PATH_LENGTH = 300


class Kind(StrEnum):
    """The sorts of problem; a dialect has a status for each."""

    INVALID = "invalid"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    MISSING = "missing"
    METHOD = "method"
    STATE = "state"
    LIMIT = "limit"
    INTERNAL = "internal"


@dataclass(frozen=True)
class Problem:
    """Why a request was refused. path: the field, dotted and indexed, "" for none of them."""

    kind: Kind
    message: str
    path: str = ""
    code: str = ""


KINDS: tuple[tuple[tuple[type[Exception], ...], Kind], ...] = (
    ((exceptions.NotAuthenticated, exceptions.AuthenticationFailed), Kind.UNAUTHENTICATED),
    ((PermissionDenied, exceptions.PermissionDenied), Kind.FORBIDDEN),
    ((Http404, ObjectDoesNotExist, exceptions.NotFound), Kind.MISSING),
    ((exceptions.MethodNotAllowed,), Kind.METHOD),
    ((StateError,), Kind.STATE),
    ((LimitError,), Kind.LIMIT),
    (
        (
            exceptions.ValidationError,
            exceptions.ParseError,
            DjangoValidationError,
            SuspiciousOperation,
            UnreadablePostError,
        ),
        Kind.INVALID,
    ),
)
# What Django's and DRF's own checks call things; ours use the right-hand words from the start.
CODES = {
    "required": "missing_required_parameter",
    "null": "invalid_type",
    "invalid": "invalid_type",
    "not_a_list": "invalid_type",
    "not_a_dict": "invalid_type",
    "invalid_choice": "invalid_value",
    "blank": "invalid_value",
    "empty": "invalid_value",
    "null_characters_not_allowed": "invalid_value",
    "max_string_length": "integer_above_max_value",
    "max_value": "integer_above_max_value",
    "min_value": "integer_below_min_value",
    "max_length": "string_above_max_length",
}


def problem_of(error: Exception) -> Problem | None:
    """The problem that an exception stands for; None for one that is our own fault."""
    kind = next((kind for kinds, kind in KINDS if isinstance(error, kinds)), None)
    if kind is None:
        return None
    if isinstance(error, exceptions.ValidationError):
        return _first_of(error.detail)
    if isinstance(error, DjangoValidationError):
        path = error.path if isinstance(error, Invalid) else ""
        return Problem(kind, error.messages[0], path, getattr(error, "code", None) or "")
    if isinstance(error, exceptions.APIException):
        return Problem(kind, str(error.detail))
    return Problem(kind, str(error) or "This does not exist.")


def _first_of(detail: Any, path: str = "") -> Problem:
    """The first fault in DRF's tree of them, with the way that led to it."""
    if isinstance(detail, Mapping):
        key, inner = next((key, inner) for key, inner in detail.items() if inner)
        return _first_of(inner, path if key == "non_field_errors" else joined(path, key))
    if isinstance(detail, Sequence) and not isinstance(detail, str):
        return _first_of(detail[0], path)
    code = getattr(detail, "code", "") or ""
    return Problem(Kind.INVALID, str(detail), path, CODES.get(code, code))


def joined(path: str, step: str | int) -> str:
    """A path and one step more: "a", "a.b", "a.b[0]"."""
    if isinstance(step, int):
        return f"{path}[{step}]"
    return f"{path}.{step}" if path else step


# --- what comes in and what goes out -----------------------------------------------------------


class RawJSON:
    """JSON text that is stored as it came in, and goes out without being read again."""

    __slots__ = ("text",)

    def __init__(self, text: str | bytes) -> None:
        self.text = text


class OrjsonRenderer(JSONRenderer):
    """JSON by orjson, with RawJSON spliced in; NaN becomes null."""

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> bytes:
        indented = orjson.OPT_INDENT_2 if (renderer_context or {}).get("indent") else 0
        try:
            return orjson.dumps(data, default=_spliced, option=indented)
        except orjson.JSONEncodeError:
            # Integers of more than 64 bits, which orjson refuses to write.
            return json.dumps(data, default=_parsed, separators=(",", ":")).encode()


def _spliced(value: Any) -> orjson.Fragment:
    if isinstance(value, RawJSON):
        return orjson.Fragment(value.text)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _parsed(value: Any) -> Any:
    if isinstance(value, RawJSON):
        return parse_json(value.text)
    raise TypeError(f"{type(value).__name__} has no JSON form")


class StrictJSONParser(BaseParser):
    """A body of JSON, bounded in size, that can be stored and given back unchanged."""

    media_type = "application/json"

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> Any:
        if int(stream.META.get("CONTENT_LENGTH") or 0) > settings.MAX_BODY_BYTES:
            raise LimitError(
                f"The body is larger than the limit of {settings.MAX_BODY_BYTES:,} bytes."
            )
        body = stream.read()
        try:
            return parse_json(body)
        except BadJSON as error:
            message = f"The body is not JSON that can be stored: {error}."
            raise Invalid(message, path=place_of_fault(body)) from None


def place_of_fault(body: bytes) -> str:
    """The path of the first text or number in a refused body that cannot be stored, if any."""
    try:
        waiting = [("", json.loads(body))]
    except (ValueError, RecursionError):
        return ""
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, dict):
            waiting += [(joined(path, key), inner) for key, inner in reversed(value.items())]
        elif isinstance(value, list):
            waiting += [(joined(path, i), inner) for i, inner in reversed([*enumerate(value)])]
        elif _unstorable(value):
            return path.encode(errors="replace").decode().replace("\0", "?")[:SHOWN_PATH_LENGTH]
        if len(path) > SHOWN_PATH_LENGTH:
            return ""
    return ""


def _unstorable(value: Any) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    return isinstance(value, str) and re.search("[\0\ud800-\udfff]", value) is not None


class Negotiation(BaseContentNegotiation):
    """The view's one parser, and JSON whatever a program accepts; a page for a signed-in browser.

    A browser shows itself by accepting HTML, sending no key and having a session.
    """

    def select_parser(self, request: Request, parsers: Iterable[BaseParser]) -> BaseParser:
        return next(iter(parsers))

    def select_renderer(
        self,
        request: Request,
        renderers: Iterable[BaseRenderer],
        format_suffix: str | None = None,
    ) -> tuple[BaseRenderer, str]:
        wants_page = "text/html" in request.META.get("HTTP_ACCEPT", "")
        is_browser = (
            wants_page
            and "HTTP_AUTHORIZATION" not in request.META
            and request._request.user.is_authenticated
        )
        renderer = [*renderers][-1 if is_browser else 0]
        return renderer, renderer.media_type


def beyond(fields: tuple[str, str], place: tuple[Any, Any], *, descending: bool) -> Q:
    """Rows after a place in the order of two fields, which are unique together.

    The bound on the first field alone says nothing new, but lets an index find the place.
    """
    first, second = fields
    word = "lt" if descending else "gt"
    return Q(**{f"{first}__{word}e": place[0]}) & (
        Q(**{f"{first}__{word}": place[0]}) | Q(**{first: place[0], f"{second}__{word}": place[1]})
    )


# --- who asks ------------------------------------------------------------------------------------


class BrowserSession(SessionAuthentication):
    """The actor of a signed-in browser that sent no key; what changes things needs CSRF's token."""

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        found = super().authenticate(request)
        if found is None:
            return None
        selected = request.session.get(SELECTED_ACCOUNT)
        actor = actor_for_user(found[0], selected, request_id_of(request))
        return (found[0], actor) if actor else None


class BrowserSessionScheme(OpenApiAuthenticationExtension):
    target_class = BrowserSession
    name = "session"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return {"type": "apiKey", "in": "cookie", "name": settings.SESSION_COOKIE_NAME}


def request_id_of(request: Any) -> str:
    return getattr(request, "request_id", "")


# --- the viewset ---------------------------------------------------------------------------------


class DialectViewSet(GenericViewSet):
    """A vendor's resource: reads with its shapes, calls a service, dresses what comes back.

    paths: the first word of a core path -> where the caller wrote that.
    """

    parser_classes = [StrictJSONParser]
    renderer_classes = [OrjsonRenderer, BrowsableAPIRenderer]
    content_negotiation_class = Negotiation
    # No OPTIONS: its answer would speak DRF's language, not the vendor's.
    http_method_names = ["get", "post", "put", "patch", "delete", "head"]
    paths: ClassVar[Mapping[str, str]] = {}

    @property
    def actor(self) -> Actor:
        actor = self.request.auth
        assert isinstance(actor, Actor)
        return actor

    def body(self, shape: type[Any]) -> dict[str, Any]:
        """The request's body as it was sent, once the shape has found nothing wrong with it."""
        sent = self.request.data
        # DRF's form of an empty body, where its type says that it is a form.
        checked = shape(data={} if isinstance(sent, QueryDict) else sent)
        checked.is_valid(raise_exception=True)
        return checked.validated_data

    def dress(self, problem: Problem) -> Response:
        """The problem in the vendor's envelope."""
        raise NotImplementedError

    def get_exception_handler(self) -> Any:
        return self._answer_problem

    def _answer_problem(self, error: Exception, context: Any) -> Response | None:
        problem = problem_of(error)
        if problem is None:
            return None
        word = re.match(r"\w*", problem.path)[0]  # type: ignore[index]  # matches the empty text
        path = self.paths.get(word, word) + problem.path[len(word) :]
        return self.dress(
            Problem(problem.kind, problem.message, path[:SHOWN_PATH_LENGTH], problem.code)
        )
