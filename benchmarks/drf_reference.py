"""What pages are measured by: a bare project of Django and DRF that gives the same objects.

One model, a ModelSerializer, DRF's cursor pagination, Django's default middleware, no key and no
tenant. Values within an object are JSON columns, which it neither makes nor joins.

    python benchmarks/drf_reference.py fill FILE    # lines of JSON objects, into its table
    granian benchmarks.drf_reference:application --interface wsgi

DATA_DIR or DATABASE_URL say where its table is.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import dj_database_url
import django
from django.conf import settings

# The connection is kept, as ours is.
DATABASE = dj_database_url.parse(
    os.environ.get("DATABASE_URL") or f"sqlite:///{os.environ['DATA_DIR']}/reference.sqlite3",
    conn_max_age=None,
)
if DATABASE["ENGINE"].endswith("sqlite3"):
    pragmas = "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-32000;"
    DATABASE["OPTIONS"] = {"init_command": pragmas}

settings.configure(
    SECRET_KEY="reference",  # it keeps nothing
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    DATABASES={"default": DATABASE},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "django.contrib.messages",
        "rest_framework",
    ],
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
    ],
    USE_TZ=True,
)
django.setup()

# Only now there are settings for them.
from django.core.wsgi import get_wsgi_application  # noqa: E402  settings first
from django.db import connection, models  # noqa: E402  settings first
from django.urls import path  # noqa: E402  settings first
from rest_framework.generics import ListAPIView  # noqa: E402  settings first
from rest_framework.pagination import CursorPagination  # noqa: E402  settings first
from rest_framework.serializers import CharField, ModelSerializer  # noqa: E402  settings first

ROWS_AT_ONCE = 1_000


class OutputItem(models.Model):
    number = models.BigAutoField(primary_key=True)
    object = models.TextField()
    shown_id = models.TextField(unique=True)
    run_id = models.TextField()
    eval_id = models.TextField()
    created_at = models.BigIntegerField()
    status = models.TextField()
    datasource_item_id = models.BigIntegerField()
    datasource_item = models.JSONField()
    results = models.JSONField()
    sample = models.JSONField()

    class Meta:
        app_label = "reference"
        db_table = "reference_output_item"

    def __str__(self) -> str:
        return self.shown_id


class OutputItemSerializer(ModelSerializer):
    id = CharField(source="shown_id")

    class Meta:
        model = OutputItem
        exclude = ("number", "shown_id")


class OutputItemPages(CursorPagination):
    ordering = "number"
    page_size = 100


class OutputItemList(ListAPIView):
    queryset = OutputItem.objects.all()
    serializer_class = OutputItemSerializer
    pagination_class = OutputItemPages


urlpatterns = [path("output_items", OutputItemList.as_view())]
application = get_wsgi_application()


def fill(file: Path) -> None:
    with connection.schema_editor() as editor:
        if OutputItem._meta.db_table in connection.introspection.table_names():
            editor.delete_model(OutputItem)
        editor.create_model(OutputItem)
    with file.open(encoding="utf-8") as lines:
        OutputItem.objects.bulk_create(
            (_row(json.loads(line)) for line in lines), batch_size=ROWS_AT_ONCE
        )


def _row(shown: dict[str, Any]) -> OutputItem:
    return OutputItem(shown_id=shown.pop("id"), **shown)


if __name__ == "__main__":
    fill(Path(sys.argv[2]))
