"""An OpenAPI schema for each dialect, and pages to read it."""

from django.urls import include, path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView

# A dialect's name -> its title, where its paths begin, and the module of its routes.
DIALECTS = {"openai": ("OpenAI Evals API", "v1/", "evalplatform.dialects.openai.urls")}


def _schema(title: str, prefix: str, routes: str):
    return SpectacularAPIView.as_view(
        patterns=[path(prefix, include(routes))], custom_settings={"TITLE": title}
    )


urlpatterns = [
    *(
        path(f"schema/{name}", _schema(*dialect), name=f"schema-{name}")
        for name, dialect in DIALECTS.items()
    ),
    path("docs/", SpectacularSwaggerView.as_view(url_name="schema-openai"), name="docs"),
]
