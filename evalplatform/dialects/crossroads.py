"""What no dialect owns alone: answers in a dialect's envelope where no view of it answered."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from rest_framework.response import Response

from evalplatform.dialects.openai import wire as openai

# Where a dialect's paths begin -> how it says what went wrong: (request, status) -> response.
ENVELOPES: dict[str, Callable[[HttpRequest, int], HttpResponse]] = {"/v1": openai.bare_answer}


def envelopes(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[..., HttpResponse]:
    """Replace Django's own pages (an unknown path, a bug) below a dialect's path."""

    def answer(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        # What a view of ours refused is in its envelope already.
        if response.status_code < 400 or isinstance(response, Response):
            return response
        for prefix, envelope in ENVELOPES.items():
            if request.path_info == prefix or request.path_info.startswith(f"{prefix}/"):
                return envelope(request, response.status_code)
        return response

    return answer
