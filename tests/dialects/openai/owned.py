"""Gives ids of an account's rows as OpenAI's routes take them, for tests/test_tenancy.py."""

from collections.abc import Mapping
from typing import Any

from apps.evaluations.models import Result
from evalplatform.dialects.openai.ids import (
    COMPLETION_ID,
    EVAL_ID,
    FILE_ID,
    ITEM_ID,
    RESPONSE_ID,
    RUN_ID,
)

FIELDS = {
    "eval_id": (EVAL_ID, "evaluation"),
    "run_id": (RUN_ID, "run"),
    "item_id": (ITEM_ID, "result"),
    "file_id": (FILE_ID, "file"),
    "completion_id": (COMPLETION_ID, "completion"),
    "response_id": (RESPONSE_ID, "response"),
}


def _id_of(row: Any) -> Any:
    return row.shown_id if isinstance(row, Result) else row.pk


def parameters(rows: Mapping[str, Any]) -> dict[str, str]:
    """Return the routes' parameters for an owner's rows, which `rows` has by noun."""
    return {
        name: field.to_representation(_id_of(rows[noun])) for name, (field, noun) in FIELDS.items()
    }
