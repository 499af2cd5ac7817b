"""Refusals of model servers in their own words, for requests of forms that they do not take.

The words are those of public bug reports and of the servers' sources.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import orjson

Request = dict[str, Any]
Refusal = tuple[int, Any]


def refusal_like(
    name: str, request: Request, headers: dict[bytes, bytes], query: str
) -> tuple[int, bytes] | None:
    """Return the status and body by which the server of that name refuses; None where it does not.

    headers, query: as they came with the request.
    """
    refused = SERVERS[name](request, headers, query)
    return (refused[0], orjson.dumps(refused[1])) if refused else None


def roles_of(request: Request) -> list[str]:
    return [message.get("role", "") for message in request["messages"]]


def format_of(request: Request) -> str:
    return (request.get("response_format") or {}).get("type", "")


def has_late_system(request: Request) -> bool:
    return "system" in roles_of(request)[1:]


def vllm(request: Request, headers: Any, query: str) -> Refusal | None:
    def told(message: str) -> Refusal:
        body = {"object": "error", "message": message, "type": "BadRequestError", "param": None}
        return 400, {**body, "code": 400}

    for name in ("max_completion_tokens", "reasoning_effort"):
        if name in request:
            place = f"'loc': ('body', '{name}'), 'msg': 'Extra inputs are not permitted'"
            return told(f"[{{'type': 'extra_forbidden', {place}, 'input': {request[name]!r}}}]")
    if "developer" in roles_of(request):
        return told("Unexpected message role.")
    if has_late_system(request):
        return told("System message must be at the beginning.")
    return None


def ollama(request: Request, headers: Any, query: str) -> Refusal | None:
    if "reasoning_effort" in request:
        message = '"llama3.2" does not support thinking'
        return 400, {"error": {"message": message, "type": "api_error", "param": None}}
    return None


def llama_cpp(request: Request, headers: Any, query: str) -> Refusal | None:
    def told(status: int, message: str) -> Refusal:
        return status, {"error": {"code": status, "message": message, "type": "server_error"}}

    if format_of(request) == "json_schema":
        words = 'response_format type must be one of "text" or "json_object", but got: json_schema'
        return told(400, words)
    if "developer" in roles_of(request):
        return told(500, "\n----\nError: Jinja Exception: Unexpected message role.")
    if has_late_system(request):
        place = "\n----\nWhile executing CallExpression at line 85, column 32 in source:\n...\n"
        return told(500, place + "Error: Jinja Exception: System message must be at the beginning.")
    return None


def lm_studio(request: Request, headers: Any, query: str) -> Refusal | None:
    if format_of(request) == "json_object":
        return 400, {"error": "'response_format.type' must be 'json_schema' or 'text'"}
    roles = [role for role in roles_of(request) if role != "system"]
    if any(one == following for one, following in pairwise(roles)):
        words = "Conversation roles must alternate user/assistant/user/assistant/..."
        return 400, {"error": f'Error rendering prompt with jinja template: "{words}"'}
    return None


def azure(request: Request, headers: dict[bytes, bytes], query: str) -> Refusal | None:
    def told(message: str, param: str | None = None, code: str | None = None) -> Refusal:
        fault = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
        return 400, {"error": fault}

    if headers.get(b"api-key") != b"azure-secret":
        words = "Access denied due to invalid subscription key or wrong API endpoint."
        return 401, {"error": {"code": "401", "message": words}}
    if "api-version=" not in query:
        return 404, {"error": {"code": "404", "message": "Resource not found"}}
    if format_of(request) == "json_schema":
        versions = "is enabled only for api versions 2024-08-01-preview and later"
        return told(f"response_format value as json_schema {versions}", "response_format")
    if "max_tokens" in request:
        words = "'max_tokens' is not supported with this model. Use 'max_completion_tokens'."
        return told(f"Unsupported parameter: {words}", "max_tokens", "unsupported_parameter")
    if request.get("temperature", 1) != 1:
        words = f"'temperature' does not support {request['temperature']} with this model. Only the"
        return told(
            f"Unsupported value: {words} default (1) value is supported.",
            *("temperature", "unsupported_value"),
        )
    if "reasoning_effort" in request:
        return told("Unrecognized request argument supplied: reasoning_effort")
    return None


def mistral(request: Request, headers: Any, query: str) -> Refusal | None:
    def told(kind: str, place: list[str | int], message: str) -> Refusal:
        detail = {"type": kind, "loc": ["body", *place], "msg": message, "input": "the seed"}
        body = {"object": "error", "message": {"detail": [detail]}, "param": None, "code": None}
        return 422, {**body, "type": "invalid_request_error"}

    for name in ("max_completion_tokens", "seed"):
        if name in request:
            return told("extra_forbidden", [name], "Extra inputs are not permitted")
    roles = roles_of(request)
    if "developer" in roles:
        tags = "does not match any of the expected tags: 'system', 'user', 'assistant', 'tool'"
        words = f"Input tag 'developer' found using 'role' {tags}"
        return told("union_tag_invalid", ["messages", roles.index("developer")], words)
    if has_late_system(request):
        words = "Unexpected role 'system' after role 'user'"
        return 400, {"object": "error", "message": words, "type": "invalid_request_message_order"}
    return None


def gemini(request: Request, headers: Any, query: str) -> Refusal | None:
    def told(message: str) -> Refusal:
        fault = {"code": 400, "message": message, "status": "INVALID_ARGUMENT"}
        return 400, [{"error": fault}]

    unknown = [name for name in ("seed", "frequency_penalty") if name in request]
    if unknown:
        lines = [f'Unknown name "{name}": Cannot find field.' for name in unknown]
        return told("\n".join(f"Invalid JSON payload received. {line}" for line in lines))
    if {"system", "developer"} & {*roles_of(request)}:
        return told("Developer instruction is not enabled for models/gemma-3-27b-it")
    return None


def openrouter(request: Request, headers: Any, query: str) -> Refusal | None:
    if "seed" in request:
        words = "Unsupported parameter: 'seed' is not supported with this model."
        raw = orjson.dumps({"error": {"message": words, "param": "seed"}}).decode()
        about = {"raw": raw, "provider_name": "OpenAI"}
        return 400, {
            "error": {"message": "Provider returned error", "code": 400, "metadata": about}
        }
    return None


def litellm(request: Request, headers: Any, query: str) -> Refusal | None:
    for name in ("seed", "reasoning_effort"):
        if name in request:
            words = f"anthropic does not support parameters: ['{name}'], for model=claude-3-haiku."
            advice = "To drop these, set `litellm.drop_params=True` or for proxy: ..."
            fault = {"message": f"litellm.UnsupportedParamsError: {words} {advice}", "type": "None"}
            return 400, {"error": {**fault, "param": "None", "code": "400"}}
    return None


SERVERS: dict[str, Callable[[Request, dict[bytes, bytes], str], Refusal | None]] = {
    "vllm": vllm,
    "ollama": ollama,
    "llama.cpp": llama_cpp,
    "lm-studio": lm_studio,
    "azure": azure,
    "mistral": mistral,
    "gemini": gemini,
    "openrouter": openrouter,
    "litellm": litellm,
}

# What is learned of each by a request that has it all, as its notes say it. Azure has another path,
# and a test of its own.
LEARNED = {
    "vllm": ["developer", "Only the first message", "max_completion_tokens", "reasoning_effort"],
    "ollama": ["reasoning_effort"],
    "llama.cpp": ["developer", "Only the first message"],
    "lm-studio": ["Roles have to alternate"],
    "mistral": ["developer", "Only the first message", "max_completion_tokens", "seed"],
    "gemini": ["seed", "The role system is refused"],
    "openrouter": ["seed"],
    "litellm": ["seed", "reasoning_effort"],
}
