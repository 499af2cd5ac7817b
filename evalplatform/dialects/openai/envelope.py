"""The vendor's error envelope, and a status for each kind of problem."""

from typing import Any

import orjson
from django.http import HttpRequest, HttpResponse
from rest_framework import serializers

from apps.errors import dotted
from apps.text import quoted
from evalplatform.dialects.kit.problems import Kind, Problem

HEADERS = {"openai-version": "2020-10-01"}
PARAM_LENGTH = 300
# contract: openai section 2: never 409, which the vendor's clients send again
STATUS = {
    Kind.INVALID: 400,
    Kind.UNFIT: 400,
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
    """Make the body of every answer that is no success; all four keys are always there."""
    return {
        "error": {
            "message": problem.message,
            "type": TYPES.get(problem.kind, "invalid_request_error"),
            "param": dotted(problem.path)[:PARAM_LENGTH] or None,
            "code": problem.code or CODES.get(problem.kind),
        }
    }


def bare_answer(request: HttpRequest, status: int) -> HttpResponse:
    """Answer in the envelope where no view answered: an unknown path, a bug."""
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
