"""Bodies that come without their length: read to their end, as far as they may be long."""

import io
from collections.abc import Callable, Iterable
from typing import Any

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse

from apps.errors import LimitError

Application = Callable[[dict[str, Any], Any], Iterable[bytes]]
LENGTH_REQUIRED = 411


def measured(application: Application) -> Application:
    """Let Django see a length, the longest allowed, where a body comes in chunks without one.

    Django and DRF take a body without a length for none. Only for servers that say where a body
    ends, as granian and gunicorn do.
    """

    def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ.get("wsgi.input_terminated") and is_unmeasured(environ):
            limit = _limit(environ)
            body = io.BufferedReader(Body(environ["wsgi.input"], limit), buffer_size=1)
            # An empty body is none, not one of the longest length.
            environ["CONTENT_LENGTH"] = str(limit) if body.peek(1) else "0"
            environ["wsgi.input"] = body
        return application(environ, start_response)

    return answer


def refuse_unmeasured(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[..., Any]:
    """Ask for the length where the server does not say where a body ends."""

    def answer(request: HttpRequest) -> HttpResponse:
        if is_unmeasured(request.META):
            return HttpResponse("A body needs a Content-Length.", status=LENGTH_REQUIRED)
        return get_response(request)

    return answer


def is_unmeasured(environ: dict[str, Any]) -> bool:
    """Is there a body without a length? HTTP/2 has no word for it; there one may come unsaid."""
    if environ.get("CONTENT_LENGTH") or environ["REQUEST_METHOD"] in {"GET", "HEAD", "OPTIONS"}:
        return False
    is_chunked = "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "").lower()
    return is_chunked or environ.get("SERVER_PROTOCOL", "").startswith("HTTP/2")


def _limit(environ: dict[str, Any]) -> int:
    is_form = environ.get("CONTENT_TYPE", "").lower().startswith("multipart/")
    return settings.MAX_UPLOAD_BYTES if is_form else settings.MAX_BODY_BYTES


class BodyTooLong(RequestDataTooBig, LimitError):
    """A refusal to Django as well as to the dialects."""


class Body(io.RawIOBase):
    """A stream that raises BodyTooLong as soon as `limit` bytes of it have come.

    At the limit, not beyond it: Django reads no more than the length it was told.
    """

    def __init__(self, stream: Any, limit: int) -> None:
        self._stream = stream
        self._limit = limit
        self._taken = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        found = self._stream.read(len(buffer))
        self._taken += len(found)
        if self._taken >= self._limit:
            raise BodyTooLong(f"The body is larger than the limit of {self._limit - 1:,} bytes.")
        buffer[: len(found)] = found
        return len(found)
