"""Serve an OpenAPI schema for each dialect, and a page to read them."""

import json
from typing import Any

from django.urls import include, path
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView

from evalplatform.dialects.kit.dialect import Dialect, dialects


def without_doors(endpoints: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Leave out of a schema what is there under another path already; drf-spectacular's hook."""
    doors = tuple(f"/{door}" for one in dialects() for door in one.doors)
    return [endpoint for endpoint in endpoints if not (doors and endpoint[0].startswith(doors))]


def _schema(dialect: Dialect):
    return SpectacularAPIView.as_view(
        patterns=[path(dialect.prefix, include(dialect.urls))],
        custom_settings={"TITLE": dialect.title},
    )


class Docs(SpectacularSwaggerView):
    """Swagger's page with a choice of the dialects."""

    @extend_schema(exclude=True)
    def get(self, request, *args, **kwargs):
        response = super().get(request, *args, **kwargs)
        urls = [{"url": f"/schema/{one.name}", "name": one.title} for one in dialects()]
        response.data["settings"] = f"""{{
            deepLinking: true, layout: "StandaloneLayout", urls: {json.dumps(urls)},
            presets: [SwaggerUIBundle.presets.apis, SwaggerUIStandalonePreset],
        }}"""
        return response


urlpatterns = [
    *(path(f"schema/{one.name}", _schema(one), name=f"schema-{one.name}") for one in dialects()),
    # The first is the one that the page opens with.
    *(
        path("docs/", Docs.as_view(url_name=f"schema-{one.name}"), name="docs")
        for one in dialects()[:1]
    ),
]
