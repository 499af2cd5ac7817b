"""Messages as the vendor writes them, in graders and prompts."""

from collections.abc import Mapping, Sequence
from typing import Any

from drf_spectacular.extensions import OpenApiSerializerFieldExtension
from rest_framework import serializers

from apps.grading.templating import MAX_TEMPLATE_CHARS
from apps.text import quoted
from evalplatform.dialects.kit.fields import Choice, Const, OneOf, Shape, Text
from evalplatform.dialects.openai.words import ROLES


class InputText(Shape):
    type = Const("input_text")
    text = Text(allow_blank=True, max_length=MAX_TEMPLATE_CHARS)


class OutputText(Shape):
    type = Const("output_text")
    text = Text(allow_blank=True, max_length=MAX_TEMPLATE_CHARS)


class InputImage(Shape):
    type = Const("input_image")
    image_url = Text(help_text="A URL, a data URL, or a template that makes one.")
    detail = Choice(choices=["low", "high", "auto"], required=False, allow_null=True)


class AudioData(Shape):
    data = Text(  # type: ignore[assignment]  # a field of ours, not DRF's attribute
        help_text="Base64, or a template that makes it."
    )
    format = Choice(choices=["mp3", "wav"])


class InputAudio(Shape):
    type = Const("input_audio")
    input_audio = AudioData()


PARTS = {
    "input_text": InputText,
    "output_text": OutputText,
    "input_image": InputImage,
    "input_audio": InputAudio,
}


class Content(serializers.Field):
    """The content of a message: a text, a part, or an array of texts and parts."""

    default_error_messages = {
        "invalid_type": "Expected a string, a content part or an array of them, not {given}.",
        "string_above_max_length": f"A text has at most {MAX_TEMPLATE_CHARS:,} characters.",
    }
    part = OneOf(PARTS)

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, list):
            for index, element in enumerate(data):
                try:
                    self._check(element)
                except serializers.ValidationError as error:
                    raise serializers.ValidationError(
                        {index: error.detail}  # type: ignore[dict-item]  # as ListField does
                    ) from None
        else:
            self._check(data)
        return data

    def _check(self, data: Any) -> None:
        if isinstance(data, str):
            if len(data) > MAX_TEMPLATE_CHARS:
                self.fail("string_above_max_length")
        elif isinstance(data, dict):
            self.part.run_validation(data)
        else:
            self.fail("invalid_type", given=quoted(data))


class ContentSchema(OpenApiSerializerFieldExtension):
    target_class = Content

    def map_serializer_field(self, auto_schema: Any, direction: Any) -> dict[str, Any]:
        parts = auto_schema._map_serializer_field(self.target.part, direction)
        text = {"type": "string", "maxLength": MAX_TEMPLATE_CHARS}
        array = {"type": "array", "items": {"oneOf": [text, parts]}}
        return {"oneOf": [text, parts, array]}


class Message(Shape):
    role = Choice(choices=ROLES)
    content = Content()
    type = Const("message", required=False)


def echoed(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return messages as the vendor returns them: as sent, and always with their type."""
    return [{**message, "type": "message"} for message in messages]


def as_text(content: Any) -> str:
    """Return a content as one text, for where the vendor shows no parts. An image is its tag."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    return "".join(_part_text(part) for part in parts)


def _part_text(part: Any) -> str:
    if not isinstance(part, dict):
        return part if isinstance(part, str) else ""
    if isinstance(part.get("text"), str):
        return part["text"]
    image = part.get("image_url")
    url = image.get("url") if isinstance(image, dict) else image
    return f"<image>{url}</image>" if isinstance(url, str) else ""
