"""Turn a run's data source into the rows and the target that the core starts a run with."""

from collections.abc import Mapping
from typing import Any

from rest_framework.exceptions import ValidationError as FieldError

from apps.accounts.models import Actor
from apps.clients.messages import for_chat
from apps.datasets.models import File
from apps.datasets.stored_files import describe_file
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
from evalplatform.dialects.openai.ids import FILE_ID, first_of

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
    return _file_of(actor, sent["id"])


def _file_of(actor: Actor, name: str) -> File:
    """Return the file with this id. Raises Unfit where there is none, or it is not JSONL."""
    path = ("data_source", "source", "id")
    try:
        conditions = FILE_ID.conditions(name)
    except FieldError:
        conditions = []
    file: File | None = first_of(
        File.objects.visible_to(actor).present().filter(is_inline=False), conditions
    )
    if file is None:
        raise Unfit(f"There is no file {quoted(name)}.", path=path)
    if seems := describe_file(file):
        raise Unfit(
            f"The file {quoted(name)} ({quoted(file.filename)}) must be JSONL in UTF-8, a row a "
            f"line, but seems to be {seems}.",
            path=path,
        )
    return file


def target_of(sent: Mapping[str, Any]) -> Target:
    """Return the target: recorded answers, or a chat with a model."""
    if sent["type"] == "jsonl" or "model" not in sent:
        return Recorded()
    prompt = sent["input_messages"]
    sampling = sent.get("sampling_params") or {}
    params = chat_params(in_chat_form(sampling) if sent["type"] == "responses" else sampling)
    params |= {name: sent[name] for name in ("modalities", "audio") if sent.get(name)}
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
