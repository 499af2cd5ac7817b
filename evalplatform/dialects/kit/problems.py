"""Name what went wrong with a request in plain words, whichever library said so."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from django.core.exceptions import ObjectDoesNotExist, PermissionDenied, SuspiciousOperation
from django.core.exceptions import ValidationError as DjangoValidationError
from django.http import Http404
from django.http.request import UnreadablePostError
from rest_framework import exceptions

from apps.errors import Invalid, LimitError, StateError


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
