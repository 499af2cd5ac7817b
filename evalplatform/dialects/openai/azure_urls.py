"""The same routes where Azure's clients look for them, below /openai."""

from django.urls import include, path

from evalplatform.dialects.openai import urls
from evalplatform.dialects.openai.asking.deployments import (
    DeployedCompletionViewSet,
    DeployedEmbeddingViewSet,
)

DEPLOYMENT = "deployments/<path:deployment>"

urlpatterns = [
    path("v1/", include(urls)),
    path(
        f"{DEPLOYMENT}/chat/completions",
        DeployedCompletionViewSet.as_view({"post": "create"}),
    ),
    path(f"{DEPLOYMENT}/embeddings", DeployedEmbeddingViewSet.as_view({"post": "create"})),
    path("", include(urls)),
]
