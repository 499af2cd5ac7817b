"""Mount the faces: the dialects under their vendors' paths, the pages, the admin, the schemas."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from evalplatform import health
from evalplatform.dialects.kit.dialect import dialects

urlpatterns = [
    path("healthz", health.alive),
    path("readyz", health.ready),
    path("metrics", health.metrics),
    path("", RedirectView.as_view(pattern_name="web:home")),
    path("app", RedirectView.as_view(pattern_name="web:home")),
    path("app/", include("evalplatform.web.urls")),
    *(path("admin/", include(one.admin_urls)) for one in dialects() if one.admin_urls),
    path("admin/", admin.site.urls),
    path("", include("evalplatform.dialects.shared_routes")),
    path("", include("evalplatform.dialects.kit.schema")),
]
