"""The admin of files: downloads and what is deleted."""

import pytest

from apps.datasets.models import File
from apps.datasets.stored_files import store_file
from tests.datasets.admin.pages import act, page_of

pytestmark = pytest.mark.django_db


def test_a_file_is_downloaded_and_deleted(client, editor):
    file = store_file(editor, filename="ü.bin", purpose="evals", chunks=[b"\x00\xff" * 700_000])
    assert "ü.bin" in client.get(page_of("file_changelist")).content.decode()
    answer = act(client, "file", "download", file)
    assert b"".join(answer.streaming_content) == b"\x00\xff" * 700_000
    assert client.get(page_of("file_change", file.pk)).status_code == 200
    client.post(page_of("file_delete", file.pk), {"post": "yes"})
    assert not File.objects.present().exists()
    assert File.objects.get().chunks.exists()
    assert not client.get(page_of("file_changelist")).context["cl"].result_list
