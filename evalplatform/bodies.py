"""Give a request body that comes without its length a bound, so that Django reads it."""

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
    """Tell Django the longest allowed length where a body comes in chunks without one.

    Django and DRF take a body without a length for none. This works only with servers that say
    where a body ends, as granian and gunicorn do.
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
    """Answer 411 to a body without a length where the server does not say where a body ends."""

    def answer(request: HttpRequest) -> HttpResponse:
        if is_unmeasured(request.META):
            return HttpResponse("A body needs a Content-Length.", status=LENGTH_REQUIRED)
        return get_response(request)

    return answer


def is_unmeasured(environ: dict[str, Any]) -> bool:
    """Tell whether a request has a body but no length.

    HTTP/2 has no header for chunks, so there every body without a length counts as one.
    """
    if environ.get("CONTENT_LENGTH") or environ["REQUEST_METHOD"] in {"GET", "HEAD", "OPTIONS"}:
        return False
    is_chunked = "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "").lower()
    return is_chunked or environ.get("SERVER_PROTOCOL", "").startswith("HTTP/2")


def _limit(environ: dict[str, Any]) -> int:
    is_form = environ.get("CONTENT_TYPE", "").lower().startswith("multipart/")
    return settings.MAX_UPLOAD_BYTES if is_form else settings.MAX_BODY_BYTES


class BodyTooLong(RequestDataTooBig, LimitError):
    """A body above the limit, in Django's terms and in those of the dialects."""


class Body(io.RawIOBase):
    """A stream that raises BodyTooLong as soon as `limit` bytes of it have come.

    It refuses at the limit, not beyond it: Django reads no more than the length it was told.
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
