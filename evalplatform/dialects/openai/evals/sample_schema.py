"""Build the JSON Schema of a row as the vendor returns it, around that of its item."""

from typing import Any

STRING, OBJECT = {"type": "string"}, {"type": "object"}


def _object(
    properties: dict[str, Any], required: list[str], *, null: bool = False
) -> dict[str, Any]:
    kind = ["object", "null"] if null else "object"
    return {"type": kind, "properties": properties, "required": required}


CALL = {"name": STRING, "arguments": STRING}
TOOL_CALL = _object(
    {
        "type": {"type": "string", "enum": ["function"]},
        "function": _object(CALL, ["name", "arguments"]),
        "id": STRING,
    },
    ["type", "function", "id"],
)
MESSAGE = _object(
    {
        "role": {"type": "string", "enum": ["assistant"]},
        "content": {"type": ["string", "array", "null"]},
        "refusal": {"type": ["boolean", "null"]},
        "tool_calls": {"type": ["array", "null"], "items": TOOL_CALL},
        "function_call": _object(CALL, ["name", "arguments"], null=True),
    },
    ["role"],
)
CHOICE = _object(
    {"index": {"type": "integer"}, "message": MESSAGE, "finish_reason": STRING},
    ["index", "message", "finish_reason"],
)
# contract: openai section 5: always this, whatever samples really hold
SAMPLE = _object(
    {
        "model": STRING,
        "choices": {"type": "array", "items": CHOICE},
        "output_text": STRING,
        "output_json": OBJECT,
        "output_tools": {"type": "array", "items": OBJECT},
        "output_reasoning_summary": {"type": ["string", "null"]},
        "output_audio": {"type": ["object", "null"]},
        "input_tools": {"type": "array", "items": OBJECT},
    },
    ["model", "choices"],
)


def row_schema(item: Any, *, has_sample: bool) -> dict[str, Any]:
    """Build the schema of a row around that of its item."""
    if has_sample:
        return _object({"item": item, "sample": SAMPLE}, ["item", "sample"])
    return _object({"item": item}, ["item"])


def stored_row_schema() -> dict[str, Any]:
    """Return the schema of a row made of a stored completion: two objects of any shape."""
    return _object({"item": OBJECT, "sample": OBJECT}, ["item", "sample"])
