"""Translate the exceptions of Django, DRF and the core into problems, for a dialect to show."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from django.core.exceptions import ObjectDoesNotExist, PermissionDenied, SuspiciousOperation
from django.core.exceptions import ValidationError as DjangoValidationError
from django.http import Http404
from django.http.request import UnreadablePostError
from rest_framework import exceptions

from apps.errors import LimitError, Path, Refusal, StateError, Unfit


class Kind(StrEnum):
    """The kinds of problem; a dialect has a status for each."""

    INVALID = "invalid"
    UNFIT = "unfit"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    MISSING = "missing"
    METHOD = "method"
    STATE = "state"
    LIMIT = "limit"
    INTERNAL = "internal"


@dataclass(frozen=True)
class Problem:
    """A reason for which a request was refused. path: the steps to the field, if it has one."""

    kind: Kind
    message: str
    path: Path = ()
    code: str = ""


KINDS: tuple[tuple[tuple[type[Exception], ...], Kind], ...] = (
    ((exceptions.NotAuthenticated, exceptions.AuthenticationFailed), Kind.UNAUTHENTICATED),
    ((PermissionDenied, exceptions.PermissionDenied), Kind.FORBIDDEN),
    ((Http404, ObjectDoesNotExist, exceptions.NotFound), Kind.MISSING),
    ((exceptions.MethodNotAllowed,), Kind.METHOD),
    ((StateError,), Kind.STATE),
    ((LimitError,), Kind.LIMIT),
    ((Unfit,), Kind.UNFIT),
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


def problems_of(error: Exception) -> list[Problem]:
    """Translate an exception into problems, at least one; into none where the fault is ours."""
    kind = next((kind for kinds, kind in KINDS if isinstance(error, kinds)), None)
    if kind is None:
        return []
    if isinstance(error, exceptions.ValidationError):
        return [*_problems_in(error.detail, ())]
    if isinstance(error, Refusal):
        return [Problem(kind, one.message, one.path, one.code) for one in error.problems]
    if isinstance(error, DjangoValidationError):
        code = getattr(error, "code", None) or ""
        return [Problem(kind, message, code=code) for message in error.messages]
    if isinstance(error, exceptions.APIException):
        return [Problem(kind, str(error.detail))]
    return [Problem(kind, str(error) or "This does not exist.")]


def _problems_in(detail: Any, path: Path) -> Iterator[Problem]:
    """Yield the problems in DRF's tree of them, in its order, each with the path to it."""
    if isinstance(detail, Mapping):
        for step, inner in detail.items():
            yield from _problems_in(inner, path if step == "non_field_errors" else (*path, step))
    elif isinstance(detail, Sequence) and not isinstance(detail, str):
        for inner in detail:
            yield from _problems_in(inner, path)
    else:
        code = getattr(detail, "code", "") or ""
        yield Problem(Kind.INVALID, str(detail), path, CODES.get(code, code))
