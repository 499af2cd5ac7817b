"""Responses: the vendor's other API to ask a model, carried out as a chat completion."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.exceptions import ValidationError as FieldError
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.roles import Action
from apps.clients.replies import stopped_by
from apps.errors import Invalid, Unfit
from apps.inference.live_calls import Chunk, LiveCall
from apps.inference.models import StoredCompletion
from apps.inference.stored_completions import Keep, delete_completion
from apps.strict_json import parse_json
from apps.text import quoted
from evalplatform.dialects.kit.fields import (
    AnyObject,
    Array,
    Choice,
    Const,
    Flag,
    Number,
    Shape,
    Text,
    Whole,
)
from evalplatform.dialects.kit.json import RawJSON
from evalplatform.dialects.openai.asking.chat_form import (
    chat_format,
    chat_messages,
    chat_tool_choice,
    chat_tools,
)
from evalplatform.dialects.openai.asking.response_events import response_events
from evalplatform.dialects.openai.asking.response_input import input_items
from evalplatform.dialects.openai.asking.response_output import output_items, usage_shown
from evalplatform.dialects.openai.asking.response_shapes import Input, TextOptions, Tool
from evalplatform.dialects.openai.asking.viewset import FAILURES, AskingViewSet
from evalplatform.dialects.openai.envelope import Error
from evalplatform.dialects.openai.fields import Metadata, UnixTime
from evalplatform.dialects.openai.ids import RESPONSE_ID, PrefixedId
from evalplatform.dialects.openai.pages import Query, listed
from evalplatform.dialects.openai.words import REASONING_EFFORTS

# What a response says of how it was asked, and what it says where that was not said.
ECHOED: dict[str, Any] = {
    "instructions": None,
    "max_output_tokens": None,
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "reasoning": {"effort": None, "summary": None},
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}
# Sent on to the model server under their own names.
SAME_PARAMS = ("temperature", "top_p", "parallel_tool_calls", "user")
# These would change what is asked, and there is nobody here to do it: what to do instead.
UNSUPPORTED = {
    "background": "Responses are not made in the background here: leave it out and wait.",
    "conversation": "Conversations are not kept here: send their messages as input, or name a "
    "response in previous_response_id.",
    "prompt": "Stored prompts are not kept here: put the text of the prompt into instructions or "
    "input.",
}
INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}


class ReasoningOptions(Shape):
    effort = Choice(choices=REASONING_EFFORTS, required=False, allow_null=True)


class ResponseCreate(Shape):
    def run_validation(self, data: Any = serializers.empty) -> Any:
        # Before the model, which a stored prompt may bring along.
        if isinstance(data, dict):
            for name, instead in UNSUPPORTED.items():
                if data.get(name):
                    raise Invalid(instead, path=name, code="unsupported_parameter")
        return super().run_validation(data)

    model = Text(max_length=300)
    input = Input()
    instructions = Text(required=False, allow_null=True, allow_blank=True)
    previous_response_id = Text(required=False, allow_null=True)
    store = Flag(required=False, allow_null=True, help_text="Kept unless this is false.")
    metadata = Metadata(required=False, allow_null=True)
    stream = Flag(required=False, allow_null=True)
    temperature = Number(min_value=0, max_value=2, required=False, allow_null=True)
    top_p = Number(min_value=0, max_value=1, required=False, allow_null=True)
    max_output_tokens = Whole(min_value=1, required=False, allow_null=True)
    reasoning = ReasoningOptions(required=False, allow_null=True)
    text = TextOptions(required=False, allow_null=True)
    tools = Array(child=Tool(), max_length=128, required=False, allow_null=True)
    parallel_tool_calls = Flag(required=False, allow_null=True)
    user = Text(required=False, allow_null=True)


# For the schema alone: response_shown makes the object.
class ResponseSerializer(serializers.Serializer):
    """A response."""

    id = PrefixedId("resp")
    object = Const("response")
    created_at = UnixTime()
    status = serializers.ChoiceField(choices=["in_progress", "completed", "incomplete"])
    model = serializers.CharField()
    output = Array(child=AnyObject())
    usage = AnyObject(allow_null=True)
    error = AnyObject(allow_null=True)
    incomplete_details = AnyObject(allow_null=True)
    metadata = Metadata()
    store = serializers.BooleanField()

    def get_fields(self) -> dict[str, serializers.Field]:
        params = {name: serializers.JSONField(allow_null=True) for name in ECHOED}
        return {**super().get_fields(), **params}


class ResponseDeleted(serializers.Serializer):
    id = PrefixedId("resp")
    object = Const("response")
    deleted = serializers.BooleanField()


# contract: openai, additions: the newest item first, unless asked otherwise
class InputQuery(Query):
    order = serializers.ChoiceField(["asc", "desc"], default="desc")


# For the schema alone.
class InputList(serializers.Serializer):
    object = Const("list")
    data = Array(child=AnyObject())  # type: ignore[assignment]  # a field of ours
    first_id = serializers.CharField(allow_null=True)
    last_id = serializers.CharField(allow_null=True)
    has_more = serializers.BooleanField()


class ResponseViewSet(AskingViewSet):
    noun = "response"
    id_field = RESPONSE_ID
    queryset = StoredCompletion.objects.none()
    serializer_class = ResponseSerializer
    lookup_url_kwarg = "response_id"

    def all_rows(self) -> QuerySet[StoredCompletion]:
        kind = StoredCompletion.Kind.RESPONSES
        return StoredCompletion.objects.visible_to(self.actor).filter(kind=kind)

    @extend_schema(
        request=ResponseCreate,
        responses={
            (200, "application/json"): ResponseSerializer,
            (200, "text/event-stream"): OpenApiTypes.STR,
            **FAILURES,
        },
    )
    def create(self, request: Request) -> Response | StreamingHttpResponse:
        """Ask a model; the answer is kept, to be evaluated later, unless `store` is false."""
        body = self.body(ResponseCreate)
        messages = [*self._said_before(body), *chat_messages(body["input"])]
        params, instructions = _params(body), body.get("instructions") or ""
        opening = [{"role": "system", "content": instructions}] if instructions else []
        is_kept, is_streamed = body.get("store") is not False, body.get("stream")
        spec = {name: body[name] for name in ECHOED if body.get(name) is not None}
        metadata = body.get("metadata") or {}
        keep = Keep(
            StoredCompletion.Kind.RESPONSES,
            messages=messages,
            params=params,
            instructions=instructions,
            metadata=metadata,
            spec=spec,
        )
        call = LiveCall(
            self.actor,
            model=body["model"],
            request={
                "messages": [*opening, *messages],
                **params,
                **({"stream_options": {"include_usage": True}} if is_streamed else {}),
            },
            keep=keep if is_kept else None,
        )
        echo = {**spec, "metadata": metadata, "store": is_kept}
        if is_streamed:
            return self.streamed(call, _events(call, call.begin(), echo))
        completion = call.answer()
        return Response(response_shown(call.id, call.created_at, call.model, echo, completion))

    def retrieve(self, request: Request, **ids: str) -> Response:
        """A response that was kept."""
        kept = self.get_object()
        echo = {**parse_json(kept.spec), "metadata": RawJSON(kept.metadata), "store": True}
        completion = kept.read_completion()
        return Response(response_shown(kept.pk, kept.created_at, kept.model, echo, completion))

    @extend_schema(parameters=[InputQuery], responses={200: InputList})
    def input_items(self, request: Request, **ids: str) -> Response:
        """The messages and calls that a response answers, those of earlier responses included."""
        kept = self.get_object()
        items = input_items(kept.read_messages(), kept.pk.hex)
        return listed(items, InputQuery(data=request.query_params), "input item")

    @extend_schema(request=None, responses={404: Error})
    def count_tokens(self, request: Request) -> Response:
        """Always refused: only a model's server can count its tokens."""
        self.actor.require(Action.READ)
        raise NotFound(
            "Tokens are not counted before a request is made, for each model counts its own way: "
            "`usage` in the answer has them."
        )

    @extend_schema(responses={200: ResponseDeleted})
    def destroy(self, request: Request, **ids: str) -> Response:
        """Delete a response; runs made from it keep its row."""
        kept = self.get_object()
        delete_completion(self.actor, kept)
        response_id = RESPONSE_ID.to_representation(kept.pk)
        return Response({"id": response_id, "object": "response", "deleted": True})

    def _said_before(self, body: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the messages of the previous response, which this one continues, and its answer.

        Raises Unfit where there is no such response.
        """
        name = body.get("previous_response_id")
        if not name:
            return []
        try:
            kept = self.get_queryset().get(pk=RESPONSE_ID.to_internal_value(name))
        except (FieldError, StoredCompletion.DoesNotExist):
            raise Unfit(
                f"There is no response with the id {quoted(name)}.",
                path="previous_response_id",
                code="previous_response_not_found",
            ) from None
        message = kept.read_completion()["choices"][0]["message"]
        said = {n: message[n] for n in ("role", "content", "tool_calls") if message.get(n)}
        return [*kept.read_messages(), {"role": "assistant", "content": None, **said}]


def _params(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters as a chat server names them, without those that are null."""
    params = {
        **{name: body.get(name) for name in SAME_PARAMS},
        "max_completion_tokens": body.get("max_output_tokens"),
        "reasoning_effort": (body.get("reasoning") or {}).get("effort"),
        "response_format": chat_format(body.get("text")),
        "tools": chat_tools(body.get("tools")),
        "tool_choice": chat_tool_choice(body.get("tool_choice")),
    }
    return {name: value for name, value in params.items() if value is not None}


def response_shown(
    pk: UUID,
    created_at: datetime,
    model: str,
    echo: Mapping[str, Any],
    completion: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Show a response. echo: what it says of its request. completion: None while it comes in."""
    cut = INCOMPLETE.get(stopped_by(completion)) if completion else None
    status = "incomplete" if cut else "completed"
    return {
        "id": RESPONSE_ID.to_representation(pk),
        "object": "response",
        "created_at": int(created_at.timestamp()),
        "status": status if completion else "in_progress",
        "model": (completion or {}).get("model") or model,
        "output": output_items(completion, pk.hex) if completion else [],
        "usage": usage_shown(completion) if completion else None,
        "error": None,
        "incomplete_details": {"reason": cut} if cut else None,
        **ECHOED,
        **echo,
    }


def _events(call: LiveCall, chunks: Iterator[Chunk], echo: Mapping[str, Any]) -> Iterator[bytes]:
    def shown(completion: Mapping[str, Any] | None) -> dict[str, Any]:
        return response_shown(call.id, call.created_at, call.model, echo, completion)

    return response_events(chunks, shown, call.id.hex)
