"""An OpenAPI schema for each dialect, and a page to read them."""

import json

from django.urls import include, path
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView

# A dialect's name -> its title, where its paths begin, and the module of its routes.
DIALECTS = {
    "openai": ("OpenAI Evals API", "v1/", "evalplatform.dialects.openai.urls"),
    "spice": ("Spice eval API", "v1/", "evalplatform.dialects.spice.urls"),
}


def _schema(title: str, prefix: str, routes: str):
    return SpectacularAPIView.as_view(
        patterns=[path(prefix, include(routes))], custom_settings={"TITLE": title}
    )


class Docs(SpectacularSwaggerView):
    """Swagger with a choice of the dialects."""

    @extend_schema(exclude=True)
    def get(self, request, *args, **kwargs):
        response = super().get(request, *args, **kwargs)
        urls = [{"url": f"/schema/{name}", "name": title} for name, (title, *_) in DIALECTS.items()]
        response.data["settings"] = f"""{{
            deepLinking: true, layout: "StandaloneLayout", urls: {json.dumps(urls)},
            presets: [SwaggerUIBundle.presets.apis, SwaggerUIStandalonePreset],
        }}"""
        return response


urlpatterns = [
    *(
        path(f"schema/{name}", _schema(*dialect), name=f"schema-{name}")
        for name, dialect in DIALECTS.items()
    ),
    path("docs/", Docs.as_view(url_name="schema-openai"), name="docs"),
]
