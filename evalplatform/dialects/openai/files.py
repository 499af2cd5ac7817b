"""Files: bytes that runs read their rows from."""

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db.models import QuerySet
from django.http import StreamingHttpResponse
from django.utils import timezone
from django.utils.http import content_disposition_header
from django_filters.rest_framework import ChoiceFilter, DjangoFilterBackend, FilterSet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from apps.datasets.models import File
from apps.datasets.stored_files import delete_file, read_file, store_file
from apps.errors import LimitError
from evalplatform.dialects.kit.fields import Const
from evalplatform.dialects.openai.fields import UnixTime
from evalplatform.dialects.openai.ids import FILE_ID, FileId
from evalplatform.dialects.openai.pages import Pages, Query
from evalplatform.dialects.openai.viewset import OpenAIViewSet
from evalplatform.dialects.openai.words import PURPOSES

ANCHOR, SECONDS = "expires_after[anchor]", "expires_after[seconds]"
# What a form may take besides the file itself.
FORM_BYTES = 64 * 1024


class UploadParser(MultiPartParser):
    """A parser of forms that refuses, before reading it, one whose file exceeds the limit."""

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> Any:
        size = int(stream.META.get("CONTENT_LENGTH") or 0)
        if size > settings.MAX_UPLOAD_BYTES + FORM_BYTES:
            limit = settings.MAX_UPLOAD_BYTES
            raise LimitError(f"The file is larger than the limit of {limit:,} bytes.")
        return super().parse(stream, media_type, parser_context)


class FileUpload(serializers.Serializer):
    file = serializers.FileField(allow_empty_file=True)
    purpose = serializers.ChoiceField(choices=PURPOSES)

    def get_fields(self) -> dict[str, serializers.Field]:
        expiry: dict[str, serializers.Field] = {
            ANCHOR: serializers.ChoiceField(choices=["created_at"], required=False),
            SECONDS: serializers.IntegerField(min_value=3_600, max_value=2_592_000, required=False),
        }
        return {**super().get_fields(), **expiry}

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        for name, other in ((ANCHOR, SECONDS), (SECONDS, ANCHOR)):
            if name not in attrs and other in attrs:
                message = f"This field is required with {other}."
                raise serializers.ValidationError({name: [message]}, code="required")
        return attrs


class FileSerializer(serializers.Serializer):
    id = serializers.SerializerMethodField()
    object = Const("file", read_only=True)
    bytes = serializers.IntegerField(source="byte_count", read_only=True)
    created_at = UnixTime(read_only=True)
    expires_at = UnixTime(read_only=True, allow_null=True)
    filename = serializers.CharField(read_only=True)
    purpose = serializers.CharField(read_only=True)
    status = Const("processed", read_only=True)
    status_details = serializers.SerializerMethodField()

    def get_id(self, file: File) -> str:
        return FILE_ID.of(file)

    def get_status_details(self, file: File) -> str | None:
        return None


class FileDeleted(serializers.Serializer):
    id = FileId()
    object = Const("file")
    deleted = serializers.BooleanField()


class FileFilters(FilterSet):  # type: ignore[misc]  # its package has no types
    purpose = ChoiceFilter(choices=[(word, word) for word in PURPOSES])


class FileQuery(Query):
    limit = serializers.IntegerField(min_value=1, max_value=10_000, default=10_000)
    order = serializers.ChoiceField(["asc", "desc"], default="desc")


class FilePages(Pages):
    query = FileQuery


class FileViewSet(ListModelMixin, RetrieveModelMixin, OpenAIViewSet):
    noun = "file"
    id_field = FILE_ID
    queryset = File.objects.none()
    serializer_class = FileSerializer
    pagination_class = FilePages
    filter_backends = [DjangoFilterBackend]
    filterset_class = FileFilters
    parser_classes = [UploadParser]
    lookup_url_kwarg = "file_id"

    def all_rows(self) -> QuerySet[File]:
        return File.objects.visible_to(self.actor).filter(is_inline=False)

    @extend_schema(request=FileUpload, responses={200: FileSerializer})
    def create(self, request: Request) -> Response:
        """Keep a file."""
        form = FileUpload(data=request.data)
        form.is_valid(raise_exception=True)
        sent, life = form.validated_data, form.validated_data.get(SECONDS)
        file = store_file(
            self.actor,
            filename=sent["file"].name,
            purpose=sent["purpose"],
            chunks=sent["file"].chunks(),
            expires_at=timezone.now() + timedelta(seconds=life) if life else None,
        )
        return Response(self.get_serializer(file).data)

    @extend_schema(responses={(200, "application/octet-stream"): OpenApiTypes.BINARY})
    def content(self, request: Request, **ids: str) -> StreamingHttpResponse:
        """The bytes as they were sent."""
        file = self.get_object()
        return StreamingHttpResponse(
            read_file(file.pk, 0, file.byte_count),
            content_type="application/octet-stream",
            headers={
                "Content-Length": str(file.byte_count),
                "Content-Disposition": content_disposition_header(True, file.filename) or "",
            },
        )

    @extend_schema(responses={200: FileDeleted})
    def destroy(self, request: Request, **ids: str) -> Response:
        """Delete a file; runs made from it keep its rows."""
        file = self.get_object()
        delete_file(self.actor, file)
        file_id = FILE_ID.of(file)
        return Response({"id": file_id, "object": "file", "deleted": True})
