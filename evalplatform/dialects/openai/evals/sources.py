"""A run's data source as the vendor writes it, as the core takes it, and as it is given back."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from django.core.validators import RegexValidator
from rest_framework.exceptions import ValidationError as FieldError

from apps.accounts.models import Actor
from apps.clients.messages import for_chat
from apps.datasets.models import File, FileChunk
from apps.errors import Unfit
from apps.evaluations.models import Evaluation, Run
from apps.evaluations.services.runs import INLINE_PURPOSE, Chat, Recorded, RunSource, Target
from apps.inference.stored_completions import take_snapshot
from apps.strict_json import parse_json
from apps.text import quoted
from evalplatform.dialects.kit.fields import (
    AnyObject,
    Choice,
    Const,
    Flag,
    Items,
    Number,
    OneOf,
    Shape,
    Text,
    Whole,
)
from evalplatform.dialects.kit.json import RawJSON
from evalplatform.dialects.openai.asking.responses_form import (
    FLAT_TOOLS,
    TextOptions,
    chat_format,
    chat_tools,
)
from evalplatform.dialects.openai.evals.stored_sources import (
    STORED_SOURCES,
    ResponsesSource,
    StoredCompletionsSource,
    selection_of,
)
from evalplatform.dialects.openai.ids import FILE_ID
from evalplatform.dialects.openai.messages import Message, as_text, echoed
from evalplatform.dialects.openai.words import REASONING_EFFORTS

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
# contract: openai section 7: the hosted service adds these to what it gives back
COMPLETIONS_EXTRAS = {"provider_credentials": None, "modalities": None, "sampling_params": None}


class Row(Shape):
    item = AnyObject()
    sample = AnyObject(required=False)


class Rows(Items):
    """Rows by the thousand, so that only one that is wrong meets its shape."""

    def to_internal_value(self, data: Any) -> Any:
        for index, row in enumerate(data):
            if type(row) is dict and type(row.get("item")) is dict and "sample" not in row:
                continue
            try:
                self.child.run_validation(row)
            except FieldError as error:
                raise FieldError({index: error.detail}) from None  # type: ignore[dict-item]
        return data


class FileContent(Shape):
    type = Const("file_content")
    content = Rows(child=Row())


class FileReference(Shape):
    type = Const("file_id")
    id = Text()


class TextFormat(Shape):
    type = Const("text")


class JSONObjectFormat(Shape):
    type = Const("json_object")


class NamedSchema(Shape):
    name = Text(max_length=64)
    description = Text(required=False, allow_null=True, allow_blank=True)
    schema = AnyObject(required=False)
    strict = Flag(required=False, allow_null=True)


class JSONSchemaFormat(Shape):
    type = Const("json_schema")
    json_schema = NamedSchema()


class FunctionDefinition(Shape):
    name = Text(max_length=64)
    description = Text(required=False, allow_null=True, allow_blank=True)
    parameters = AnyObject(required=False, allow_null=True)
    strict = Flag(required=False, allow_null=True)


class FunctionTool(Shape):
    type = Const("function")
    function = FunctionDefinition()


FORMATS: dict[str, type[Shape]] = {
    "text": TextFormat,
    "json_object": JSONObjectFormat,
    "json_schema": JSONSchemaFormat,
}


# No docstring: see Shape. What both ways to spell them have in common.
class CommonParams(Shape):
    reasoning_effort = Choice(choices=REASONING_EFFORTS, required=False, allow_null=True)
    temperature = Number(min_value=0, max_value=2, required=False, allow_null=True)
    top_p = Number(min_value=0, max_value=1, required=False, allow_null=True)
    seed = Whole(required=False, allow_null=True)
    max_completion_tokens = Whole(min_value=1, required=False, allow_null=True)
    max_completions_tokens = Whole(
        min_value=1, required=False, allow_null=True, help_text="The same, as scripts spell it."
    )


class SamplingParams(CommonParams):
    response_format = OneOf(FORMATS, required=False, allow_null=True)
    tools = Items(
        child=OneOf({"function": FunctionTool}), max_length=128, required=False, allow_null=True
    )


class FlatSamplingParams(CommonParams):
    text = TextOptions(required=False, allow_null=True)
    tools = Items(child=OneOf(FLAT_TOOLS), max_length=128, required=False, allow_null=True)


class TemplatePrompt(Shape):
    type = Const("template")
    template = Items(child=Message(), min_length=1)


class ReferencePrompt(Shape):
    type = Const("item_reference")
    item_reference = Text(
        max_length=1_000,
        validators=[
            RegexValidator(
                r"^item(\.[^.\[\]{}]+|\[[0-9]+\])+\Z",
                "Expected a path to messages in the item, like item.input.",
                "invalid_value",
            )
        ],
        help_text="Where in a row its messages are, as in item.input.",
    )


SOURCES: dict[str, type[Shape]] = {"file_content": FileContent, "file_id": FileReference}
PROMPTS: dict[str, type[Shape]] = {"template": TemplatePrompt, "item_reference": ReferencePrompt}


class JsonlSource(Shape):
    type = Const("jsonl")
    source = OneOf(SOURCES)  # type: ignore[assignment]  # a field of ours, not DRF's attribute


# No docstring: see Shape.
class SampledSource(Shape):
    model = Text(max_length=300, required=False)
    input_messages = OneOf(PROMPTS, required=False)

    def to_internal_value(self, data: Any) -> Any:
        data = super().to_internal_value(data)
        missing = [name for name in ("model", "input_messages") if name not in data]
        # What was stored can be graded as it is.
        if missing and (len(missing) == 1 or data["source"]["type"] not in STORED_SOURCES):
            raise FieldError({missing[0]: ["This field is required."]}, code="required")
        return data


class CompletionsSource(SampledSource):
    type = Const("completions")
    source = OneOf(  # type: ignore[assignment]  # as above
        {**SOURCES, "stored_completions": StoredCompletionsSource}
    )
    sampling_params = SamplingParams(required=False, allow_null=True)


class ResponsesRunSource(SampledSource):
    type = Const("responses")
    source = OneOf(  # type: ignore[assignment]  # as above
        {**SOURCES, "responses": ResponsesSource}
    )
    sampling_params = FlatSamplingParams(required=False, allow_null=True)


DATA_SOURCES: dict[str, type[Shape]] = {
    "jsonl": JsonlSource,
    "completions": CompletionsSource,
    "responses": ResponsesRunSource,
}


# --- to the core ---------------------------------------------------------------------------------


def rows_of(actor: Actor, evaluation: Evaluation, data_source: Mapping[str, Any]) -> RunSource:
    """The rows that came along, the file that is named, or what was stored, as a file."""
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
    if sent["type"] == "jsonl" or "model" not in sent:
        return Recorded()
    prompt = sent["input_messages"]
    sampling = sent.get("sampling_params") or {}
    params = chat_params(in_chat_form(sampling) if sent["type"] == "responses" else sampling)
    if prompt["type"] == "item_reference":
        return Chat(sent["model"], reference=prompt["item_reference"], params=params)
    return Chat(sent["model"], messages=for_chat(prompt["template"]), params=params)


def in_chat_form(sent: Mapping[str, Any]) -> dict[str, Any]:
    """The sampling parameters of the Responses API as those of a chat."""
    response_format, tools = chat_format(sent.get("text")), chat_tools(sent.get("tools"))
    return {**sent, "response_format": response_format, "tools": tools}


def chat_params(sent: Mapping[str, Any]) -> dict[str, Any]:
    """What of the sampling parameters goes to the model server; null and nothing say nothing."""
    params = {name: sent[name] for name in CHAT_PARAMS if sent.get(name) not in (None, [])}
    if (limit := sent.get("max_completions_tokens")) is not None:
        params.setdefault("max_completion_tokens", limit)
    return params


# --- and back ------------------------------------------------------------------------------------


def kept_echo(sent: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of a data source to give it back; rows are in their file already."""
    echo = dict(sent)
    if sent["source"]["type"] == "file_content":
        echo["source"] = {**sent["source"], "content": []}
    # Elsewhere input_messages would be a field that nobody knows, of any shape.
    if sent["type"] != "jsonl" and "input_messages" in sent:
        prompt = sent["input_messages"]
        if prompt["type"] == "template":
            echo["input_messages"] = {**prompt, "template": echoed(prompt["template"])}
    if sent["type"] == "completions":
        echo = {**COMPLETIONS_EXTRAS, **echo}
    return echo


def inline_bytes(runs: Iterable[Run]) -> int:
    """How many bytes of rows came along with these runs."""
    return sum(file.byte_count for file in _came_along(runs))


def _came_along(runs: Iterable[Run]) -> Iterator[File]:
    for run in runs:
        file = run.source_file
        if file is not None and file.is_inline and file.purpose == INLINE_PURPOSE:
            yield file


def inline_rows(runs: Sequence[Run]) -> dict[UUID, bytes]:
    """The rows that came along, as JSON arrays by file id; one query however many runs."""
    chunks: dict[UUID, list[bytes]] = {file.pk: [] for file in _came_along(runs)}
    if chunks:
        found = FileChunk.objects.filter(file__in=chunks).order_by("file", "number")
        for file_id, data in found.values_list("file_id", "data"):
            chunks[file_id].append(bytes(data))
    # Each line is one compact JSON object, in which a line end cannot stand.
    return {
        file_id: b"[%b]" % b"".join(pieces).rstrip(b"\n").replace(b"\n", b",")
        for file_id, pieces in chunks.items()
    }


def data_source_shown(run: Run, rows: Mapping[UUID, bytes]) -> dict[str, Any]:
    """The data source as it was sent, with its rows where `rows` has them."""
    echo = parse_json(run.spec).get("data_source") or _told_in_vendors_words(run)
    # The rows of an imported run lie in a file of ours, wherever they came from.
    shows_rows = echo["source"]["type"] == "file_content"
    if shows_rows and run.source_file_id is not None and run.source_file_id in rows:
        echo["source"]["content"] = RawJSON(rows[run.source_file_id])
    return echo


def _told_in_vendors_words(run: Run) -> dict[str, Any]:
    """The data source of a run that came in through another face."""
    source: dict[str, Any] = {"type": "file_content", "content": []}
    if run.source_file is not None and not run.source_file.is_inline:
        source = {"type": "file_id", "id": FILE_ID.to_representation(run.source_file.pk)}
    target = run.read_target()
    if target["kind"] == "recorded":
        return {"type": "jsonl", "source": source}
    if target.get("reference"):
        prompt = {"type": "item_reference", "item_reference": target["reference"]}
    else:
        texts = [
            {"role": message.get("role"), "content": as_text(message.get("content"))}
            for message in target.get("messages") or ()
        ]
        prompt = {"type": "template", "template": echoed(texts)}
    params = target.get("params") or None
    echo = {"type": "completions", "source": source, "model": run.model, "input_messages": prompt}
    return {**COMPLETIONS_EXTRAS, **echo, "sampling_params": params}
