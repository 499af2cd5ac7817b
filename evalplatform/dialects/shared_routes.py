"""What no dialect owns alone: the routes that two share, and answers where no view answered."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from rest_framework.response import Response

from evalplatform.dialects.openai import viewset as openai
from evalplatform.dialects.openai.evals.evals import EvalViewSet as OpenAIEvals
from evalplatform.dialects.spice import wire as spice
from evalplatform.dialects.spice.evals import EvalViewSet as SpiceEvals

View = Callable[..., HttpResponse]
Envelope = Callable[[HttpRequest, int], HttpResponse]

OPENAI_ID = "eval_"


# --- /v1/evals: OpenAI's and Spice's -------------------------------------------------------------


def is_spices(request: HttpRequest, name: str = "") -> bool:
    """Tell whether a request for a shared route is meant for Spice.

    Source: docs/contracts/spice.md, section 3.
    """
    if "HTTP_X_API_KEY" in request.META and "HTTP_AUTHORIZATION" not in request.META:
        return True
    return request.method == "POST" and name != "" and not name.startswith(OPENAI_ID)


def _evals(openai_view: View, spice_view: View) -> View:
    @csrf_exempt  # each view sees to that itself
    def answer(request: HttpRequest) -> HttpResponse:
        return (spice_view if is_spices(request) else openai_view)(request)

    return answer


def _eval(openai_view: View, spice_view: View) -> View:
    @csrf_exempt
    def answer(request: HttpRequest, eval_id: str) -> HttpResponse:
        if is_spices(request, eval_id):
            return spice_view(request, name=eval_id)
        return openai_view(request, eval_id=eval_id)

    return answer


LIST = _evals(
    OpenAIEvals.as_view({"post": "create", "get": "list"}), SpiceEvals.as_view({"get": "index"})
)
ONE = _eval(
    OpenAIEvals.as_view({"get": "retrieve", "post": "update", "delete": "destroy"}),
    SpiceEvals.as_view({"post": "run"}),
)
# They stand before both dialects' own routes, which serve their schemas.
urlpatterns = [path("evals", LIST), path("evals/", LIST), path("evals/<str:eval_id>", ONE)]


# --- where no view answered ----------------------------------------------------------------------


def _v1(request: HttpRequest) -> Envelope:
    name = request.path_info.removeprefix("/v1/evals").strip("/")
    shared = request.path_info.startswith("/v1/evals") and "/" not in name
    return spice.bare_answer if shared and is_spices(request, name) else openai.bare_answer


# Where dialects' paths begin -> who says what went wrong with a request there, and how.
ENVELOPES: dict[str, Callable[[HttpRequest], Envelope]] = {"/v1": _v1}


def envelopes(get_response: Callable[[HttpRequest], HttpResponse]) -> View:
    """Replace Django's own pages (an unknown path, a bug) below a dialect's path."""

    def answer(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        # What a view of ours refused is in its envelope already.
        if response.status_code < 400 or isinstance(response, Response):
            return response
        for prefix, envelope_of in ENVELOPES.items():
            if request.path_info == prefix or request.path_info.startswith(f"{prefix}/"):
                return envelope_of(request)(request, response.status_code)
        return response

    return answer
