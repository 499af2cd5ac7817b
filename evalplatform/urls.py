"""Mounts the faces: the dialects under their vendors' paths, the pages, the admin, the schemas."""

from django.contrib import admin
from django.urls import path

from evalplatform import health

urlpatterns = [
    path("healthz", health.alive),
    path("readyz", health.ready),
    path("metrics", health.metrics),
    path("admin/", admin.site.urls),
]
