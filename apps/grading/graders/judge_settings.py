"""Read the settings that graders with a judge have alike."""

from collections.abc import Mapping
from typing import Any

from apps.clients.messages import for_chat
from apps.grading.graders.base import InvalidSetting
from apps.text import quoted

ROLES = ("user", "assistant", "system", "developer")
PARAMS = ("seed", "top_p", "temperature", "reasoning_effort")


def read_text(settings: Mapping[str, Any], name: str) -> str:
    """Read a setting that is a text and not empty. Raises InvalidSetting."""
    value = _required(settings, name)
    if not isinstance(value, str) or not value:
        raise InvalidSetting(
            name, f"{name} must be a string that is not empty, not {quoted(value)}.", "invalid_type"
        )
    return value


def read_messages(settings: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    """Read the judge's messages in the form of chat servers; their texts stay templates.

    Raises InvalidSetting.
    """
    messages = _required(settings, "input")
    if not isinstance(messages, list) or not messages:
        raise InvalidSetting(
            "input", f"input must be a list of messages, not {quoted(messages)}.", "invalid_type"
        )
    for index, message in enumerate(messages):
        where = f"input[{index}]"
        if not isinstance(message, dict) or "content" not in message:
            raise InvalidSetting(("input", index), f"{where} must be a message.", "invalid_type")
        if message.get("role") not in ROLES:
            raise InvalidSetting(
                ("input", index, "role"),
                f"{where}.role must be one of {', '.join(ROLES)}, "
                f"not {quoted(message.get('role'))}.",
            )
    return tuple(for_chat(messages))


def read_params(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Read the judge's sampling parameters under a chat server's names, without unset ones.

    Raises InvalidSetting.
    """
    params = settings.get("sampling_params") or {}
    if not isinstance(params, dict):
        raise InvalidSetting(
            "sampling_params",
            f"sampling_params must be an object, not {quoted(params)}.",
            "invalid_type",
        )
    kept = {name: params[name] for name in PARAMS if params.get(name) is not None}
    # contract: openai section 21: both spellings are in use
    for name in ("max_completion_tokens", "max_completions_tokens"):
        if params.get(name) is not None:
            kept["max_completion_tokens"] = params[name]
    return kept


def read_texts(settings: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """Read a setting that is a list of texts and not empty. Raises InvalidSetting."""
    values = _required(settings, name)
    if not isinstance(values, list) or not values:
        raise InvalidSetting(
            name, f"{name} must be a list of strings, not {quoted(values)}.", "invalid_type"
        )
    for index, value in enumerate(values):
        if not isinstance(value, str):
            raise InvalidSetting(
                (name, index),
                f"{name}[{index}] must be a string, not {quoted(value)}.",
                "invalid_type",
            )
    return tuple(values)


def _required(settings: Mapping[str, Any], name: str) -> Any:
    if settings.get(name) is None:
        raise InvalidSetting(name, f"{name} is required.", "missing_required_parameter")
    return settings[name]
