"""The route of the vendor's page in the admin."""

from django.contrib import admin
from django.urls import path

from evalplatform.dialects.spice import upload

urlpatterns = [
    path("spicepod/", admin.site.admin_view(upload.load), name="load_spicepod"),
]
