"""The base of chat completions and responses: a model is asked while the caller waits."""

from collections.abc import Iterator, Mapping
from math import ceil
from typing import Any

from django.http import StreamingHttpResponse
from rest_framework.response import Response

from apps.clients import CallFailed
from apps.inference.live_calls import LiveCall
from apps.inference.served_models import UnknownModel
from apps.strict_json import dump_json
from evalplatform.dialects.kit.problems import Kind, Problem
from evalplatform.dialects.openai.envelope import Error
from evalplatform.dialects.openai.viewset import OpenAIViewSet

BAD_GATEWAY, GATEWAY_TIMEOUT, TOO_MANY = 502, 504, 429
# The model server refused us, not the caller, whose key is in order.
NOT_THE_CALLERS = (401, 403, 407)
RETRY_AFTER_SECONDS = 1
FAILURES = {404: Error, TOO_MANY: Error, BAD_GATEWAY: Error, GATEWAY_TIMEOUT: Error}


def status_of(failure: CallFailed) -> int:
    """Return the model server's status where it blames the request, else 504 or 502."""
    unsent = 400 if failure.code == "model_rejected" else 0
    status = failure.status or unsent
    if 400 <= status < 500 and status not in NOT_THE_CALLERS:
        return status
    return GATEWAY_TIMEOUT if failure.code == "model_timeout" else BAD_GATEWAY


def failure_shown(failure: CallFailed) -> dict[str, Any]:
    """Show the failure of a model call in the vendor's error envelope."""
    status = status_of(failure)
    kind, code = "invalid_request_error", failure.code
    if status == TOO_MANY:
        kind, code = "rate_limit_error", "rate_limit_exceeded"
    elif status >= 500:
        kind = "server_error"
    return {"error": {"message": failure.message, "type": kind, "param": None, "code": code}}


def event(data: Mapping[str, Any], name: str = "") -> bytes:
    """Write a server-sent event."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {dump_json(data)}\n\n".encode()


class EventStream:
    """The events of a call that is under way; closing the stream ends the call."""

    def __init__(self, call: LiveCall, events: Iterator[bytes]) -> None:
        self._call = call
        self._events = events

    def __iter__(self) -> Iterator[bytes]:
        return self._events

    def close(self) -> None:
        self._call.close()


class AskingViewSet(OpenAIViewSet):
    """A viewset that answers the failures of model calls, too."""

    def get_exception_handler(self) -> Any:
        usual = super().get_exception_handler()

        def answer(error: Exception, context: Any) -> Response | None:
            if isinstance(error, UnknownModel):
                return self.refusal(
                    Problem(Kind.MISSING, str(error), ("model",), "model_not_found")
                )
            if isinstance(error, CallFailed):
                status = status_of(error)
                seconds = str(ceil(error.retry_after or RETRY_AFTER_SECONDS))
                headers = {"retry-after": seconds} if status == TOO_MANY else {}
                return Response(failure_shown(error), status, headers=headers)
            return usual(error, context)

        return answer

    @staticmethod
    def streamed(call: LiveCall, events: Iterator[bytes]) -> StreamingHttpResponse:
        return StreamingHttpResponse(
            EventStream(call, events),
            content_type="text/event-stream",
            # Else a proxy may hold back what is to be seen at once.
            headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
        )
