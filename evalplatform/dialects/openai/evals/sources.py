"""Turn a run's data source into the rows and the target that the core starts a run with."""

from collections.abc import Mapping
from typing import Any

from rest_framework.exceptions import ValidationError as FieldError

from apps.accounts.models import Actor
from apps.clients.messages import for_chat
from apps.datasets.models import File
from apps.errors import Unfit
from apps.evaluations.models import Evaluation
from apps.evaluations.services.runs import RunSource
from apps.evaluations.targets import Chat, Recorded, Target
from apps.inference.completion_rows import take_snapshot
from apps.text import quoted
from evalplatform.dialects.openai.asking.chat_form import chat_format, chat_tools
from evalplatform.dialects.openai.evals.stored_sources import (
    STORED_SOURCES,
    selection_of,
)
from evalplatform.dialects.openai.ids import FILE_ID

# Sent on to the model server under their own names.
CHAT_PARAMS = (
    "reasoning_effort",
    "temperature",
    "top_p",
    "seed",
    "max_completion_tokens",
    "response_format",
    "tools",
)


def rows_of(actor: Actor, evaluation: Evaluation, data_source: Mapping[str, Any]) -> RunSource:
    """Return the rows that were sent, the file that is named, or a snapshot of stored answers."""
    sent = data_source["source"]
    if sent["type"] == "file_content":
        return sent["content"]
    if sent["type"] in STORED_SOURCES:
        selection = selection_of(evaluation, sent)
        return take_snapshot(actor, selection, with_answers="model" not in data_source)
    try:
        pk = FILE_ID.to_internal_value(sent["id"])
        return File.objects.visible_to(actor).present().get(pk=pk, is_inline=False)
    except (FieldError, File.DoesNotExist):
        path = ("data_source", "source", "id")
        raise Unfit(f"There is no file {quoted(sent['id'])}.", path=path) from None


def target_of(sent: Mapping[str, Any]) -> Target:
    """Return the target: recorded answers, or a chat with a model."""
    if sent["type"] == "jsonl" or "model" not in sent:
        return Recorded()
    prompt = sent["input_messages"]
    sampling = sent.get("sampling_params") or {}
    params = chat_params(in_chat_form(sampling) if sent["type"] == "responses" else sampling)
    if prompt["type"] == "item_reference":
        return Chat(sent["model"], reference=prompt["item_reference"], params=params)
    return Chat(sent["model"], messages=for_chat(prompt["template"]), params=params)


def in_chat_form(sent: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sampling parameters of the Responses API as those of a chat."""
    response_format, tools = chat_format(sent.get("text")), chat_tools(sent.get("tools"))
    return {**sent, "response_format": response_format, "tools": tools}


def chat_params(sent: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sampling parameters that go to the model server, without those that are null."""
    params = {name: sent[name] for name in CHAT_PARAMS if sent.get(name) not in (None, [])}
    if (limit := sent.get("max_completions_tokens")) is not None:
        params.setdefault("max_completion_tokens", limit)
    return params
