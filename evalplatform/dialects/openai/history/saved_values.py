"""Read single values of saved JSON, any of which may be missing or of another type."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.utils import timezone
from rest_framework.exceptions import ValidationError as FieldError

from apps.datasets.models import NAME_LENGTH
from evalplatform.dialects.openai.ids import KeptId

# Under this key our own export keeps what the vendor's shape has no place for.
EXTRAS = "evalplatform"
CODE_LENGTH = 60
LARGEST_INDEX = 2**53
LARGEST_VALUE = 1e100  # as of scores that are made here


class Unusable(ValueError):
    """A saved object lacks a value that nothing can replace."""


def id_of(sent: Mapping[str, Any], key: str = "id") -> str:
    """Return an object's id. Raises Unusable for one that no path of ours can carry."""
    value = sent.get(key)
    if not isinstance(value, str) or KeptId.KEPT.fullmatch(value) is None:
        raise Unusable(f"its {key} is missing or no id")
    return value


def own_id(field: KeptId, name: str) -> UUID | None:
    """Return the UUID of an id that an installation of ours made; None for any other id."""
    try:
        return field.to_internal_value(name)
    except FieldError:
        return None


def criterion_key(value: Any) -> str:
    """Return a criterion's id, wherever it was found, cut to the length that is stored."""
    return string_of(value)[: NAME_LENGTH + 40]


def count_of(sent: Mapping[str, Any], key: str) -> int:
    """Return a count, 0 where there is none that can be stored."""
    value = sent.get(key)
    return value if type(value) is int and 0 <= value < LARGEST_INDEX else 0


def object_of(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def array_of(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def number_of(value: Any) -> float | None:
    """Return the value as a score that can be summed; None when it is none."""
    if type(value) not in {int, float} or not abs(value) <= LARGEST_VALUE:
        return None
    return float(value)


def string_of(value: Any) -> str:
    return value if isinstance(value, str) else ""


def time_of(sent: Mapping[str, Any]) -> datetime:
    """Return the time of creation, now where it is missing or out of range."""
    seconds = sent.get("created_at")
    if type(seconds) in {int, float}:
        try:
            return datetime.fromtimestamp(seconds, UTC)  # type: ignore[arg-type]  # a number
        except (OverflowError, ValueError, OSError):
            pass
    return timezone.now()
