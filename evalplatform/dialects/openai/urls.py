"""The vendor's routes, below /v1; none ends in a slash."""

from django.urls import path

from evalplatform.dialects.openai.asking.completions import CompletionViewSet
from evalplatform.dialects.openai.asking.embeddings import EmbeddingViewSet
from evalplatform.dialects.openai.asking.models import ModelViewSet
from evalplatform.dialects.openai.asking.responses import ResponseViewSet
from evalplatform.dialects.openai.evals.evals import EvalViewSet
from evalplatform.dialects.openai.evals.graders import GraderViewSet
from evalplatform.dialects.openai.evals.output_items import OutputItemViewSet
from evalplatform.dialects.openai.evals.runs import RunViewSet
from evalplatform.dialects.openai.files import FileViewSet

EVAL = "evals/<str:eval_id>"
RUN = f"{EVAL}/runs/<str:run_id>"
ITEMS = f"{RUN}/output_items"
FILE = "files/<str:file_id>"
COMPLETION = "chat/completions/<str:completion_id>"
RESPONSE = "responses/<str:response_id>"

urlpatterns = [
    path("evals", EvalViewSet.as_view({"post": "create", "get": "list"})),
    path(EVAL, EvalViewSet.as_view({"get": "retrieve", "post": "update", "delete": "destroy"})),
    path(f"{EVAL}/runs", RunViewSet.as_view({"post": "create", "get": "list"})),
    path(
        RUN,
        RunViewSet.as_view(
            {"get": "retrieve", "post": "cancel_by_short_path", "delete": "destroy"}
        ),
    ),
    path(f"{RUN}/cancel", RunViewSet.as_view({"post": "cancel"})),
    path(ITEMS, OutputItemViewSet.as_view({"get": "list"})),
    path(f"{ITEMS}/<str:item_id>", OutputItemViewSet.as_view({"get": "retrieve"})),
    path("fine_tuning/alpha/graders/run", GraderViewSet.as_view({"post": "run"})),
    path("fine_tuning/alpha/graders/validate", GraderViewSet.as_view({"post": "validate"})),
    path("files", FileViewSet.as_view({"post": "create", "get": "list"})),
    path(FILE, FileViewSet.as_view({"get": "retrieve", "delete": "destroy"})),
    path(f"{FILE}/content", FileViewSet.as_view({"get": "content"})),
    path("chat/completions", CompletionViewSet.as_view({"post": "create", "get": "list"})),
    path(
        COMPLETION,
        CompletionViewSet.as_view({"get": "retrieve", "post": "update", "delete": "destroy"}),
    ),
    path(f"{COMPLETION}/messages", CompletionViewSet.as_view({"get": "messages"})),
    path("embeddings", EmbeddingViewSet.as_view({"post": "create"})),
    path("responses", ResponseViewSet.as_view({"post": "create"})),
    path("responses/input_tokens", ResponseViewSet.as_view({"post": "count_tokens"})),
    path(RESPONSE, ResponseViewSet.as_view({"get": "retrieve", "delete": "destroy"})),
    path(f"{RESPONSE}/input_items", ResponseViewSet.as_view({"get": "input_items"})),
    path("models", ModelViewSet.as_view({"get": "index"})),
    path("models/<path:model>", ModelViewSet.as_view({"get": "retrieve", "delete": "destroy"})),
]
