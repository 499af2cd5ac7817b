"""Chat completions: ask the account's models, and read, change and delete the stored answers."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from django.http import QueryDict, StreamingHttpResponse
from django_filters.rest_framework import CharFilter, DjangoFilterBackend, FilterSet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.exceptions import ValidationError as FieldError
from rest_framework.request import Request
from rest_framework.response import Response

from apps.clients import CallFailed
from apps.errors import Invalid
from apps.inference.live_calls import Chunk, LiveCall
from apps.inference.models import StoredCompletion
from apps.inference.stored_completions import Keep, delete_completion, update_completion
from evalplatform.dialects.kit.fields import AnyObject, Array, Const, Flag, Shape, Text
from evalplatform.dialects.kit.json import RawJSON
from evalplatform.dialects.openai.asking.viewset import (
    FAILURES,
    AskingViewSet,
    event,
    failure_shown,
)
from evalplatform.dialects.openai.fields import Metadata, UnixTime
from evalplatform.dialects.openai.ids import COMPLETION_ID, Base62Id
from evalplatform.dialects.openai.pages import Query, listed

# What is ours in a request, or not a parameter; all else goes on to the model server.
OURS = ("store", "metadata")
NOT_PARAMS = (*OURS, "model", "messages", "stream", "stream_options")
# What a stored completion tells of how it was asked.
SHOWN_PARAMS = (
    "temperature",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "response_format",
    "tools",
    "tool_choice",
    "service_tier",
)
METADATA_FILTER = re.compile(r"metadata\[(.*)\]", re.DOTALL)


class ChatMessage(Shape):
    role = Text()


class CompletionCreate(Shape):
    model = Text(max_length=300)
    messages = Array(child=ChatMessage(), min_length=1)
    store = Flag(required=False, allow_null=True, help_text="Keep the question and the answer.")
    metadata = Metadata(required=False, allow_null=True)
    stream = Flag(required=False, allow_null=True)


class CompletionUpdate(Shape):
    closed = True

    metadata = Metadata(allow_null=True)


class ChatCompletion(serializers.Serializer):
    """A model server's answer, all of which is passed on."""

    id = Base62Id("chatcmpl")
    object = Const("chat.completion")
    created = UnixTime()
    model = serializers.CharField()
    choices = Array(child=AnyObject())
    usage = AnyObject(required=False, allow_null=True)


# For the schema alone: completion_shown makes the object.
class KeptCompletion(ChatCompletion):
    """A chat completion that was kept."""

    metadata = Metadata()
    request_id = serializers.CharField(allow_null=True)
    input_user = serializers.CharField(allow_null=True)

    def get_fields(self) -> dict[str, serializers.Field]:
        params = {name: serializers.JSONField(allow_null=True) for name in SHOWN_PARAMS}
        return {**super().get_fields(), **params}


class KeptMessage(serializers.Serializer):
    id = serializers.CharField()
    role = serializers.CharField()
    content = serializers.CharField(allow_null=True)
    content_parts = Array(child=AnyObject(), allow_null=True)


class MessageList(serializers.Serializer):
    object = Const("list")
    data = KeptMessage(many=True)  # type: ignore[assignment]  # a field of ours
    first_id = serializers.CharField(allow_null=True)
    last_id = serializers.CharField(allow_null=True)
    has_more = serializers.BooleanField()


class CompletionDeleted(serializers.Serializer):
    object = Const("chat.completion.deleted")
    id = Base62Id("chatcmpl")
    deleted = serializers.BooleanField()


class CompletionFilters(FilterSet):  # type: ignore[misc]  # its package has no types
    model = CharFilter()


class CompletionViewSet(AskingViewSet):
    noun = "chat completion"
    id_field = COMPLETION_ID
    queryset = StoredCompletion.objects.none()
    serializer_class = KeptCompletion
    filter_backends = [DjangoFilterBackend]
    filterset_class = CompletionFilters
    lookup_url_kwarg = "completion_id"

    def all_rows(self) -> Any:
        chat = StoredCompletion.Kind.CHAT
        return StoredCompletion.objects.visible_to(self.actor).filter(kind=chat)

    def get_queryset(self) -> Any:
        wanted = metadata_asked(self.request.query_params) if self.action == "list" else {}
        return self.all_rows().present().with_metadata(wanted.items())

    @extend_schema(
        request=CompletionCreate,
        responses={
            (200, "application/json"): ChatCompletion,
            (200, "text/event-stream"): OpenApiTypes.STR,
            **FAILURES,
        },
    )
    def create(self, request: Request, **_deployment: str) -> Response | StreamingHttpResponse:
        """Ask a model; with `store` the answer is kept, to be evaluated later."""
        body = self.body(CompletionCreate)
        call = LiveCall(
            self.actor,
            model=body["model"],
            request={name: value for name, value in body.items() if name not in OURS},
            keep=_keep(body) if body.get("store") else None,
        )
        if body.get("stream"):
            return self.streamed(call, _events(call, call.begin()))
        return Response({**call.answer(), **_signed(call)})

    @extend_schema(
        parameters=[
            OpenApiParameter(
                "metadata", {"type": "object", "additionalProperties": {"type": "string"}},
                style="deepObject", explode=True,
            )
        ]
    )  # fmt: skip
    def list(self, request: Request) -> Response:
        """The completions that were kept."""
        return self.get_paginated_response([completion_shown(kept) for kept in self.page()])

    def retrieve(self, request: Request, **ids: str) -> Response:
        """A completion that was kept."""
        return Response(completion_shown(self.get_object()))

    @extend_schema(request=CompletionUpdate, responses={200: KeptCompletion})
    def update(self, request: Request, **ids: str) -> Response:
        """Replace a completion's metadata as a whole."""
        kept, body = self.get_object(), self.body(CompletionUpdate)
        update_completion(self.actor, kept, metadata=body["metadata"] or {})
        return Response(completion_shown(kept))

    @extend_schema(responses={200: CompletionDeleted})
    def destroy(self, request: Request, **ids: str) -> Response:
        """Delete a completion; runs made from it keep its row."""
        kept = self.get_object()
        delete_completion(self.actor, kept)
        completion_id = COMPLETION_ID.to_representation(kept.pk)
        return Response({"object": "chat.completion.deleted", "id": completion_id, "deleted": True})

    @extend_schema(parameters=[Query], responses={200: MessageList})
    def messages(self, request: Request, **ids: str) -> Response:
        """The messages that a completion answers."""
        messages = messages_shown(self.get_object())
        return listed(messages, Query(data=request.query_params), "message")


def metadata_asked(query: QueryDict) -> dict[str, str]:
    """Read the pairs of `metadata[key]=value` in a query string.

    Raises Invalid, and DRF's ValidationError for pairs that no metadata can hold.
    """
    wanted = {}
    for name in query:
        if match := METADATA_FILTER.fullmatch(name):
            value = wanted[match[1]] = str(query[name])
            if "\0" in name + value:  # which PostgreSQL refuses to be asked for
                raise Invalid("A NUL character is in no metadata.", path="metadata")
    try:
        return Metadata().run_validation(wanted)
    except FieldError as error:
        raise FieldError({"metadata": error.detail}) from None


def _keep(body: Mapping[str, Any]) -> Keep:
    return Keep(
        StoredCompletion.Kind.CHAT,
        messages=body["messages"],
        params={name: value for name, value in body.items() if name not in NOT_PARAMS},
        metadata=body.get("metadata") or {},
    )


def _signed(call: LiveCall) -> dict[str, Any]:
    """Return the id and time that replace the model server's own."""
    completion_id = COMPLETION_ID.to_representation(call.id)
    return {"id": completion_id, "created": int(call.created_at.timestamp())}


def _events(call: LiveCall, chunks: Iterator[Chunk]) -> Iterator[bytes]:
    signed = _signed(call)
    try:
        for chunk in chunks:
            yield event({**chunk, **signed})
    except CallFailed as failure:
        yield event(failure_shown(failure))
        return
    yield b"data: [DONE]\n\n"


def completion_shown(kept: StoredCompletion) -> dict[str, Any]:
    params = kept.read_params()
    return {
        **kept.read_completion(),
        "id": COMPLETION_ID.to_representation(kept.pk),
        "object": "chat.completion",
        "created": int(kept.created_at.timestamp()),
        "metadata": RawJSON(kept.metadata),
        "request_id": None,
        "input_user": params.get("user"),
        **{name: params.get(name) for name in SHOWN_PARAMS},
    }


def messages_shown(kept: StoredCompletion) -> list[dict[str, Any]]:
    completion_id = COMPLETION_ID.to_representation(kept.pk)
    return [
        {
            **message,
            "id": f"{completion_id}-{number}",
            **_content(message.get("content")),
        }
        for number, message in enumerate(kept.read_messages())
    ]


def _content(content: str | Sequence[Any] | None) -> dict[str, Any]:
    is_text = content is None or isinstance(content, str)
    return {"content": content if is_text else None, "content_parts": None if is_text else content}
