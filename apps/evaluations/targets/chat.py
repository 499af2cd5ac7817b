"""A chat model is asked, by a template or by messages that are in the row."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from apps.clients import CallFailed, Client, Preset, Stopped
from apps.clients.messages import messages_of
from apps.errors import Unfit
from apps.evaluations.models import Evaluation
from apps.evaluations.targets.base import (
    Answer,
    Prepared,
    Prompt,
    Row,
    Spent,
    Target,
    Unfinished,
    exchange_of,
)
from apps.grading.graders.base import Fault
from apps.grading.samples import complete_sample
from apps.grading.templating import (
    MissingVariable,
    RenderedTooLong,
    message_templates,
    render_messages,
    resolve,
    unknown_variables,
)
from apps.inference.attached_models import Address, Models
from apps.inference.served_models import find_model
from apps.strict_json import dump_json


@dataclass(frozen=True)
class Chat(Target):
    """Ask a chat model by `messages`, a template, or by the messages at `reference`, in the row.

    takes_text: a text at `reference` will do too, see `messages_of`. params go into every request.
    address: how the model is reached, once the run is stored.
    """

    kind = "chat"
    waits = True

    model: str
    messages: Sequence[Mapping[str, Any]] | None = None
    reference: str | None = None
    takes_text: bool = False
    params: Mapping[str, Any] = field(default_factory=dict)
    address: Address = field(default_factory=dict)

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Self:
        return cls(
            stored["model"],
            stored.get("messages"),
            stored.get("reference"),
            stored.get("takes_text", False),
            stored.get("params") or {},
            stored,
        )

    def prepare(self, evaluation: Evaluation) -> Prepared:
        found = find_model(evaluation.account_id, self.model)
        self._check(evaluation)
        stored = {
            "kind": self.kind,
            **found.address,
            "messages": self.messages,
            "reference": self.reference,
            "takes_text": self.takes_text,
            "params": self.params,
        }
        return Prepared(stored, found.endpoint)

    def _check(self, evaluation: Evaluation) -> None:
        """Raise Unfit for a prompt that names what no item of the evaluation has."""
        schema = evaluation.read_item_schema()
        for template in message_templates(self.messages or ()):
            if unknown := unknown_variables(template, schema, False):
                raise Unfit(
                    f"{{{{ {unknown[0]} }}}} names nothing that an item of this evaluation has.",
                    path="messages",
                )
        if self.reference is not None and unknown_variables(
            f"{{{{ {self.reference} }}}}", schema, False
        ):
            raise Unfit(
                f"{self.reference!r} names nothing that an item of this evaluation has.",
                path="reference",
            )

    @property
    def addresses(self) -> Sequence[Address]:
        return (self.address,)

    @property
    def prompt(self) -> Prompt:
        return Prompt(self.messages, self.reference, self.params)

    def prompt_characters(self, row: Row) -> int:
        try:
            messages = render_messages(self.messages or (), {"item": row.item})
        except (MissingVariable, RenderedTooLong, ValueError):
            messages = []
        preset = Preset.of(self.address).system_prompt
        # By reference the messages are in the row; then the row is what is counted.
        return len(preset) + len(dump_json(messages) if messages else dump_json(row.item))

    @property
    def reply_limit(self) -> int | None:
        given = self.params.get("max_completion_tokens") or self.params.get("max_tokens")
        return given if isinstance(given, int) and given > 0 else None

    def open(self, models: Models) -> "ChatAnswerer":
        return ChatAnswerer(self, models.client(self.address))


class ChatAnswerer:
    """Asks a chat target's model; belongs to one event loop."""

    def __init__(self, target: Chat, client: Client) -> None:
        self._target = target
        self._client = client
        self._upstream = target.address.get("upstream") or target.model
        self._preset = Preset.of(target.address)

    async def answer(self, row: Row, repeat: int) -> Answer:
        try:
            messages = self._messages(row)
        except (MissingVariable, RenderedTooLong, ValueError) as error:
            message = f"The prompt cannot be made: {error}."
            return Answer(None, exchange_of([], {}), Fault("invalid_prompt", message))
        model, params = self._target.model, self._target.params
        request = self._preset.apply({"model": self._upstream, "messages": messages, **params})
        messages = request["messages"]
        began = time.monotonic()
        try:
            reply = await self._client.complete(request)
        except CallFailed as failure:
            body, usage, calls = failure.body, failure.usage, failure.calls
            fault: Fault | None = Fault(failure.code, failure.message)
            notes: tuple[str, ...] = ()
        except Stopped as stopped:
            raise Unfinished([Spent(model, stopped.calls, stopped.usage)]) from None
        else:
            body, usage, calls = reply.body, reply.usage, reply.calls
            told, notes = reply.failure, reply.notes
            fault = Fault(told.code, told.message) if told else None
        took: dict[str, Any] = {"usage": usage.as_dict()} if body else {}
        took |= {"calls": calls, "seconds": round(time.monotonic() - began, 3)}
        if notes:
            took["notes"] = notes
        return Answer(
            self._sample(body) if body else None,
            exchange_of(messages, took),
            fault,
            Spent(model, calls, usage),
        )

    def _sample(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return a completion as graders see it; one that tells a failure is shown all the same."""
        params = self._target.params
        sample = {"model": body.get("model") or self._target.model, "choices": body["choices"]}
        if tools := params.get("tools"):
            sample["input_tools"] = tools
        wants_json = (params.get("response_format") or {}).get("type", "text") != "text"
        return complete_sample(sample, wants_json=wants_json)

    def _messages(self, row: Row) -> list[dict[str, Any]]:
        target, scope = self._target, {"item": row.item}
        if target.reference is None:
            return render_messages(target.messages or (), scope)
        found = resolve(target.reference, scope)
        if target.takes_text and not isinstance(found, list):
            return messages_of(found)
        if not isinstance(found, list) or not found:
            raise ValueError(f"{target.reference} is not a list of messages")
        if not all(isinstance(message, dict) and "role" in message for message in found):
            raise ValueError(f"{target.reference} holds something that is no message")
        return found
