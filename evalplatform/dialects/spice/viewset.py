"""The viewset of the vendor's resource: two headers for the key, errors in a line of plain text."""

from typing import Any, ClassVar

from django.http import HttpRequest, HttpResponse
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.services.actors import actor_for_key
from evalplatform.dialects.kit.problems import Kind, Problem
from evalplatform.dialects.kit.viewset import DialectViewSet
from evalplatform.dialects.spice.renderings import JSON, TEXT
from evalplatform.sessions import request_id_of

STATUS = {
    Kind.UNFIT: 400,
    Kind.INVALID: 400,
    Kind.STATE: 409,
    Kind.UNAUTHENTICATED: 401,
    Kind.FORBIDDEN: 403,
    Kind.MISSING: 404,
    Kind.METHOD: 405,
    Kind.LIMIT: 413,
    Kind.INTERNAL: 500,
}
KIND = {status: kind for kind, status in STATUS.items()}
UNAUTHORIZED = "Unauthorized"


class Refused(Exception):
    """A refusal that only this dialect makes, with its status and its line."""

    def __init__(self, status: int, line: str, **headers: str) -> None:
        super().__init__(line)
        self.status = status
        self.line = line
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def one_line(text: str, status: int, headers: Any = None) -> Response:
    return Response(" ".join(text.split("\n")), status, headers=headers, content_type=TEXT)


def written(text: str, content_type: str = JSON) -> Response:
    """Answer with a text that is already rendered."""
    return Response(text, content_type=content_type)


def bare_answer(request: HttpRequest, status: int) -> HttpResponse:
    """Answer in a line where no view answered: a bug, or a refusal of Django's."""
    lines = {500: "The server failed to answer; its log has the reason by the request's id."}
    line = lines.get(status, f"The request was refused with status {status}.")
    return HttpResponse(line, TEXT, status)


class SpiceKey(BaseAuthentication):
    """Authenticate by `X-API-Key: <key>` or `Authorization: Bearer <key>`, whichever is valid."""

    def authenticate(self, request: Request) -> tuple[Any, Any]:
        scheme, _, bearer = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
        secrets = [request.META.get("HTTP_X_API_KEY", "")]
        if scheme.lower() == "bearer":
            secrets.append(bearer)
        for secret in filter(None, (secret.strip() for secret in secrets)):
            actor = actor_for_key(secret, request_id_of(request))
            if actor is not None:
                return (actor.user, actor)
        raise AuthenticationFailed(UNAUTHORIZED)

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class SpiceKeyScheme(OpenApiAuthenticationExtension):
    target_class = SpiceKey
    name = ["key", "bearer"]

    def get_security_definition(self, auto_schema: Any) -> list[dict[str, Any]]:
        return [
            {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            {"type": "http", "scheme": "bearer"},
        ]


class TextRenderer(BaseRenderer):
    """A renderer that passes on a rendered text."""

    media_type = "text/plain"
    format = "text"
    charset = "utf-8"

    def render(self, data: Any, media_type: Any = None, context: Any = None) -> bytes:
        return data.encode()


class SpiceSchema(AutoSchema):
    """A schema that adds to every operation the refusals it may answer with."""

    def get_operation(self, *args: Any, **kwargs: Any) -> dict[str, Any] | None:
        operation = super().get_operation(*args, **kwargs)
        if operation is None:
            return None
        view: Any = self.view
        for status, meaning in {**REFUSALS, **view.refusals.get(view.action, {})}.items():
            answer = operation["responses"].setdefault(str(status), {})
            answer["description"] = meaning
            answer.setdefault("content", {})["text/plain"] = {"schema": {"type": "string"}}
        for status in view.shared.get(view.action, ()):
            answer = operation["responses"].setdefault(str(status), {"description": ""})
            answer.setdefault("content", {}).setdefault("application/json", OTHERS_ERROR)
        return operation

    def get_operation_id(self) -> str:
        view: Any = self.view
        return f"{view.action}_eval"

    def get_tags(self) -> list[str]:
        return ["evals"]


# What the dialect that shares the paths says in JSON.
OTHERS_ERROR = {
    "schema": {
        "type": "object",
        "properties": {"error": {"type": "object"}},
        "required": ["error"],
    }
}
REFUSALS = {
    401: "No valid key.",
    403: "The key's role may not do this.",
    500: "Our own fault.",
}


class SpiceViewSet(DialectViewSet):
    """The vendor's resource. refusals: by action, what its errors mean by status.

    shared: by action, the errors that another dialect answers with in JSON on its path.
    """

    authentication_classes = [SpiceKey]
    renderer_classes = [TextRenderer]
    schema = SpiceSchema()
    refusals: ClassVar[dict[str, dict[int, str]]] = {}
    shared: ClassVar[dict[str, tuple[int, ...]]] = {}

    def refusal(self, problem: Problem) -> Response:
        line = UNAUTHORIZED if problem.kind is Kind.UNAUTHENTICATED else problem.message
        return one_line(line, STATUS[problem.kind])

    def get_exception_handler(self) -> Any:
        common = super().get_exception_handler()

        def handle(error: Exception, context: Any) -> Response | None:
            if isinstance(error, Refused):
                return one_line(error.line, error.status, error.headers)
            return common(error, context)

        return handle
