"""Check items against the JSON Schema of their evaluation."""

from functools import lru_cache
from typing import Any

import jsonschema_rs

from apps.strict_json import dump_json, parse_json

MAX_SCHEMA_CHARS = 256 * 1024
MESSAGE_CHARS = 300


class BadSchema(ValueError):
    """A text that is no JSON Schema, or a schema that is too long or that no object can satisfy."""


def _refuse_remote(uri: str) -> Any:
    raise ValueError(f"remote references are not fetched: {uri}")


class ItemSchema:
    """A compiled schema."""

    __slots__ = ("_validator",)

    def __init__(self, schema: Any) -> None:
        # Backtracking is bounded, so a hostile pattern costs one item an error, not a worker.
        self._validator = jsonschema_rs.validator_for(
            schema,
            retriever=_refuse_remote,
            pattern_options=jsonschema_rs.FancyRegexOptions(backtrack_limit=100_000),
        )

    def fault(self, item: dict[str, Any]) -> str | None:
        """Describe the first fault of an item, with its path; None for an item that fits."""
        try:
            if self._validator.is_valid(item):
                return None
            error = next(self._validator.iter_errors(item))
        except ValueError as refused:
            return str(refused)[:MESSAGE_CHARS]
        path = "".join(
            f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.instance_path
        )
        return f"item{path}: {error.message}"[:MESSAGE_CHARS]


@lru_cache(maxsize=64)
def compile_schema(text: str) -> ItemSchema:
    """Compile the schema in a JSON text. Raises BadSchema with the reason."""
    if len(text) > MAX_SCHEMA_CHARS:
        raise BadSchema(f"A schema has at most {MAX_SCHEMA_CHARS:,} characters.")
    try:
        return ItemSchema(parse_json(text))
    except (ValueError, jsonschema_rs.ValidationError) as error:
        message = str(error).splitlines()[0][:MESSAGE_CHARS]
        raise BadSchema(f"This is no valid JSON Schema: {message}") from error


def check_item_schema(schema: dict[str, Any]) -> str:
    """Return the schema as the text to be stored. Raises BadSchema with the reason."""
    kinds = schema.get("type", "object")
    if kinds != "object" and not (isinstance(kinds, list) and "object" in kinds):
        raise BadSchema(f"type must allow object, not {dump_json(kinds)[:100]}.")
    text = dump_json(schema)
    compile_schema(text)
    return text
