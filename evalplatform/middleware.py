"""Give every request an id, and its answer the same one in the header `x-request-id`."""

from collections.abc import Callable
from uuid import uuid4

from django.http import HttpRequest, HttpResponse


def request_id(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[..., HttpResponse]:
    def answer(request: HttpRequest) -> HttpResponse:
        request.request_id = f"req_{uuid4().hex}"  # type: ignore[attr-defined]  # ours
        response = get_response(request)
        response["x-request-id"] = request.request_id  # type: ignore[attr-defined]  # ours
        return response

    return answer
