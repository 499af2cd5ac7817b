"""Embeddings: turn texts into vectors with the account's embedding models."""

import base64
import struct
from collections.abc import Sequence
from typing import Any

from drf_spectacular.extensions import OpenApiSerializerFieldExtension
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.inference.live_calls import EmbeddingCall
from apps.inference.models import ServedModel
from apps.text import quoted
from evalplatform.dialects.kit.fields import Array, Choice, Const, Shape, Text, Whole
from evalplatform.dialects.openai.asking.viewset import FAILURES, AskingViewSet

# As many as the hosted service takes.
MAX_TEXTS = 2_048
LARGEST_FLOAT = 3.4028234663852886e38  # of 32 bits


class Tokens(Array):
    """A text as the numbers of its tokens."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(child=Whole(min_value=0), min_length=1, **kwargs)


class Texts(serializers.Field):
    """A text or several, each a string or the numbers of its tokens."""

    default_error_messages = {
        "invalid_type": "Expected a string, an array of strings, an array of token numbers or an "
        "array of such arrays, not {given}.",
        "array_below_min_length": "Expected at least one text.",
        "array_above_max_length": f"At most {MAX_TEXTS:,} texts go in one request, not {{given}}.",
    }

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, str):
            return Text().run_validation(data)
        if not isinstance(data, list):
            self.fail("invalid_type", given=quoted(data))
        if not data:
            self.fail("array_below_min_length")
        if type(data[0]) is int:
            return Tokens().run_validation(data)
        if len(data) > MAX_TEXTS:
            self.fail("array_above_max_length", given=f"{len(data):,}")
        child = Tokens() if isinstance(data[0], list) else Text()
        return Array(child=child).run_validation(data)


class TextsSchema(OpenApiSerializerFieldExtension):
    target_class = Texts

    def map_serializer_field(self, auto_schema: Any, direction: Any) -> dict[str, Any]:
        text: dict[str, Any] = {"type": "string", "minLength": 1}
        tokens = auto_schema._map_serializer_field(Tokens(), direction)
        bounds = {"type": "array", "minItems": 1, "maxItems": MAX_TEXTS}
        lists = [{**bounds, "items": one} for one in (text, tokens)]
        return {"oneOf": [text, tokens, *lists]}


class EmbeddingCreate(Shape):
    model = Text(max_length=300)
    input = Texts()
    encoding_format = Choice(choices=["float", "base64"], required=False, allow_null=True)
    dimensions = Whole(min_value=1, required=False, allow_null=True)
    user = Text(required=False, allow_null=True, allow_blank=True)


class EmbeddingSerializer(serializers.Serializer):
    object = Const("embedding")
    index = serializers.IntegerField()
    embedding = serializers.JSONField(help_text="Numbers, or base64 of 32-bit floats.")


class EmbeddingUsage(serializers.Serializer):
    prompt_tokens = serializers.IntegerField()
    total_tokens = serializers.IntegerField()


class EmbeddingList(serializers.Serializer):
    object = Const("list")
    data = EmbeddingSerializer(many=True)  # type: ignore[assignment]  # a field of ours
    model = serializers.CharField()
    usage = EmbeddingUsage()


class EmbeddingViewSet(AskingViewSet):
    noun = "embedding"
    pagination_class = None
    queryset = ServedModel.objects.none()

    @extend_schema(request=EmbeddingCreate, responses={200: EmbeddingList, **FAILURES})
    def create(self, request: Request, **_deployment: str) -> Response:
        """Turn texts into vectors; `model` is an embedding model of the account."""
        body = self.body(EmbeddingCreate)
        asked = {
            name: value
            for name, value in body.items()
            if name not in {"model", "encoding_format"} and value is not None
        }
        asked["input"] = _as_list(asked["input"])
        vectors, usage = EmbeddingCall(self.actor, model=body["model"], request=asked).answer()
        encode = in_base64 if body.get("encoding_format") == "base64" else list
        data = [
            {"object": "embedding", "index": index, "embedding": encode(vector)}
            for index, vector in enumerate(vectors)
        ]
        counts = {"prompt_tokens": usage.prompt_tokens, "total_tokens": usage.total_tokens}
        shown = {"object": "list", "data": data, "model": body["model"], "usage": counts}
        return Response(shown)


def _as_list(texts: str | list[Any]) -> list[Any]:
    return [texts] if isinstance(texts, str) or type(texts[0]) is int else texts


def in_base64(vector: Sequence[float]) -> str:
    """Write numbers as 32-bit floats, the least significant byte first, in base64.

    Of a number that is too large for one the largest is written.
    """
    bounded = (max(-LARGEST_FLOAT, min(number, LARGEST_FLOAT)) for number in vector)
    packed = struct.pack(f"<{len(vector)}f", *bounded)
    return base64.b64encode(packed).decode("ascii")
