"""Read single values of saved JSON, of which any may be missing or of another type."""

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
    """An object that lacks what nothing can stand in for."""


def id_of(sent: Mapping[str, Any], key: str = "id") -> str:
    """The object's id. Raises Unusable for one that no path of ours can carry."""
    value = sent.get(key)
    if not isinstance(value, str) or KeptId.KEPT.fullmatch(value) is None:
        raise Unusable(f"its {key} is missing or no id")
    return value


def own_id(field: KeptId, name: str) -> UUID | None:
    try:
        return field.to_internal_value(name)
    except FieldError:
        return None


def criterion_key(value: Any) -> str:
    """A criterion's id wherever it stands, as much of it as is stored."""
    return string_of(value)[: NAME_LENGTH + 40]


def count_of(sent: Mapping[str, Any], key: str) -> int:
    value = sent.get(key)
    return value if type(value) is int and 0 <= value < LARGEST_INDEX else 0


def object_of(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def array_of(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def number_of(value: Any) -> float | None:
    """The value as a score that can be counted with; None when it is none."""
    if type(value) not in {int, float} or not abs(value) <= LARGEST_VALUE:
        return None
    return float(value)


def string_of(value: Any) -> str:
    return value if isinstance(value, str) else ""


def time_of(sent: Mapping[str, Any]) -> datetime:
    seconds = sent.get("created_at")
    if type(seconds) in {int, float}:
        try:
            return datetime.fromtimestamp(seconds, UTC)  # type: ignore[arg-type]
        except (OverflowError, ValueError, OSError):
            pass
    return timezone.now()
