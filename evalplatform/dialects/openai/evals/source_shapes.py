"""The shapes of a run's data source."""

from typing import Any

from django.core.validators import RegexValidator
from rest_framework.exceptions import ValidationError as FieldError

from evalplatform.dialects.kit.fields import (
    AnyObject,
    Array,
    Choice,
    Const,
    Flag,
    Number,
    OneOf,
    Shape,
    Text,
    Whole,
)
from evalplatform.dialects.openai.asking.response_shapes import TextOptions, Tool
from evalplatform.dialects.openai.evals.stored_sources import (
    STORED_SOURCES,
    ResponsesSource,
    StoredCompletionsSource,
)
from evalplatform.dialects.openai.fields import NativeKinds
from evalplatform.dialects.openai.messages import Message
from evalplatform.dialects.openai.words import REASONING_EFFORTS


class Row(Shape):
    item = AnyObject()
    sample = AnyObject(required=False)


class Rows(Array):
    """An array of rows. Only a row that looks wrong is validated by its shape: there are many."""

    def to_internal_value(self, data: Any) -> Any:
        for index, row in enumerate(data):
            if type(row) is dict and type(row.get("item")) is dict and "sample" not in row:
                continue
            try:
                self.child.run_validation(row)
            except FieldError as error:
                at = {index: error.detail}  # an index is no text, which DRF does not mind
                raise FieldError(at) from None  # type: ignore[arg-type]  # as above
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
    tools = Array(
        child=OneOf({"function": FunctionTool}), max_length=128, required=False, allow_null=True
    )


class FlatSamplingParams(CommonParams):
    text = TextOptions(required=False, allow_null=True)
    tools = Array(child=Tool(), max_length=128, required=False, allow_null=True)


class TemplatePrompt(Shape):
    type = Const("template")
    template = Array(child=Message(), min_length=1)


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


INSTEAD_OF_SOURCES = (
    "use completions or responses with a model of this account, or jsonl with answers you have"
)
INSTEAD_OF_ROWS = "send the rows as file_content, or upload them and use file_id"

SOURCES: dict[str, type[Shape]] = {"file_content": FileContent, "file_id": FileReference}
PROMPTS: dict[str, type[Shape]] = {"template": TemplatePrompt, "item_reference": ReferencePrompt}


class JsonlSource(Shape):
    type = Const("jsonl")
    source = NativeKinds(  # type: ignore[assignment]  # a field of ours, not DRF's attribute
        SOURCES, instead=INSTEAD_OF_ROWS
    )


# No docstring: see Shape.
class SampledSource(Shape):
    model = Text(max_length=300, required=False)
    input_messages = OneOf(PROMPTS, required=False)
    modalities = Array(
        child=Choice(choices=["text", "audio"]), min_length=1, required=False, allow_null=True
    )
    audio = AnyObject(required=False, allow_null=True, help_text="The voice and the format.")

    def to_internal_value(self, data: Any) -> Any:
        data = super().to_internal_value(data)
        missing = [name for name in ("model", "input_messages") if name not in data]
        # What was stored can be graded as it is.
        if missing and (len(missing) == 1 or data["source"]["type"] not in STORED_SOURCES):
            raise FieldError({missing[0]: ["This field is required."]}, code="required")
        return data


class CompletionsSource(SampledSource):
    type = Const("completions")
    source = NativeKinds(  # type: ignore[assignment]  # as above
        {**SOURCES, "stored_completions": StoredCompletionsSource}, instead=INSTEAD_OF_ROWS
    )
    sampling_params = SamplingParams(required=False, allow_null=True)


class ResponsesRunSource(SampledSource):
    type = Const("responses")
    source = NativeKinds(  # type: ignore[assignment]  # as above
        {**SOURCES, "responses": ResponsesSource}, instead=INSTEAD_OF_ROWS
    )
    sampling_params = FlatSamplingParams(required=False, allow_null=True)


DATA_SOURCES: dict[str, type[Shape]] = {
    "jsonl": JsonlSource,
    "completions": CompletionsSource,
    "responses": ResponsesRunSource,
}
