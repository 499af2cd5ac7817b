"""The vendor's routes, below /v1; `dialects.shared_routes` tells them from their namesakes."""

from django.urls import path

from evalplatform.dialects.spice.evals import EvalViewSet

urlpatterns = [
    path("evals", EvalViewSet.as_view({"get": "index"})),
    path("evals/<str:name>", EvalViewSet.as_view({"post": "run"})),
]
