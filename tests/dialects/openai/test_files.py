"""Files through the wire: bytes in, the same bytes out."""

from datetime import timedelta

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.http import StreamingHttpResponse
from django.test import override_settings
from django.utils import timezone

from apps.datasets.models import CHUNK_BYTES, File, FileChunk
from evalplatform.dialects.openai.files import FileSerializer
from evalplatform.dialects.openai.words import PURPOSES
from tests.dialects.openai.caller import Caller, run_body
from tests.factories import make_actor

pytestmark = pytest.mark.django_db
CONTENT = b'{"item": {"a": "\xc3\xa9"}}\n'
BOUNDARY = "b0undary"


def a_file(content: bytes = CONTENT, name: str = "rows.jsonl") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, content)


def content_of(caller: Caller, file_id: str, **headers: str) -> bytes:
    response = caller.client.get(f"/v1/files/{file_id}/content", headers=headers)
    assert response.status_code == 200
    assert isinstance(response, StreamingHttpResponse)
    return b"".join(response)


def test_a_file_comes_back_as_it_was_sent():
    caller = Caller()
    status, file = caller.upload(a_file())
    assert status == 200
    assert file.keys() == FileSerializer().fields.keys()
    expected = {
        "object": "file",
        "bytes": len(CONTENT),
        "expires_at": None,
        "filename": "rows.jsonl",
        "purpose": "evals",
        "status": "processed",
        "status_details": None,
    }
    assert {name: file[name] for name in expected} == expected
    assert caller.get(f"/files/{file['id']}") == (200, file)
    assert content_of(caller, file["id"], accept="application/binary") == CONTENT


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, 2 * CHUNK_BYTES + 1])
def test_bytes_of_any_number_come_back(size: int):
    caller = Caller()
    content = bytes(range(256)) * (size // 256) + bytes(size % 256)
    _, file = caller.upload(a_file(content))
    assert file["bytes"] == size
    assert content_of(caller, file["id"]) == content


@pytest.mark.parametrize("file_first", [True, False])
def test_the_fields_of_the_form_come_in_any_order(file_first: bool):
    file = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n{}\r\n"
    )
    purpose = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nevals\r\n'
    parts = [file, purpose] if file_first else [purpose, file]
    response = Caller().client.post(
        "/v1/files",
        ("".join(parts) + f"--{BOUNDARY}--\r\n").encode(),
        content_type=f"multipart/form-data; boundary={BOUNDARY}",
    )
    assert response.status_code == 200, response.content
    assert (response.json()["filename"], response.json()["bytes"]) == ("a.jsonl", 2)


def test_a_file_may_be_given_an_end():
    caller = Caller()
    expiry = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    _, file = caller.upload(a_file(), **expiry)
    assert file["expires_at"] - file["created_at"] in (3_599, 3_600, 3_601)
    File.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert caller.get(f"/files/{file['id']}")[0] == 404
    assert caller.get("/files")[1]["data"] == []


def test_a_file_beyond_the_limit_is_refused_and_nothing_of_it_is_kept():
    caller = Caller()
    for limit, size in ((100, 101), (100, 200_000)):
        with override_settings(MAX_UPLOAD_BYTES=limit):
            status, answer = caller.upload(a_file(b"x" * size))
        assert (status, answer["error"]["code"]) == (413, "file_too_large")
    assert (File.objects.count(), FileChunk.objects.count()) == (0, 0)


def test_files_are_listed_newest_first_and_by_purpose():
    caller = Caller()
    ids = {purpose: caller.upload(a_file(), purpose=purpose)[1]["id"] for purpose in PURPOSES}
    _, page = caller.get("/files")
    assert [file["id"] for file in page["data"]] == list(ids.values())[::-1]
    _, page = caller.get("/files", order="asc", limit=2)
    assert [file["id"] for file in page["data"]] == list(ids.values())[:2]
    assert page["has_more"]
    for purpose, file_id in ids.items():
        _, page = caller.get("/files", purpose=purpose)
        assert [file["id"] for file in page["data"]] == [file_id]


def test_rows_that_came_inside_a_request_are_no_file():
    caller = Caller()
    caller.new_run(caller.new_eval()["id"], run_body())
    assert File.objects.count() == 1
    assert caller.get("/files")[1]["data"] == []


def test_a_deleted_file_is_gone():
    caller = Caller()
    file_id = caller.upload(a_file())[1]["id"]
    answer = {"id": file_id, "object": "file", "deleted": True}
    assert caller.delete(f"/files/{file_id}") == (200, answer)
    assert [caller.get(f"/files/{file_id}{path}")[0] for path in ("", "/content")] == [404, 404]
    assert caller.delete(f"/files/{file_id}")[0] == 404


def test_another_accounts_file_is_not_found():
    file_id = Caller(make_actor()).upload(a_file())[1]["id"]
    caller = Caller()
    assert [caller.get(f"/files/{file_id}{path}")[0] for path in ("", "/content")] == [404, 404]
    assert caller.delete(f"/files/{file_id}")[0] == 404
    assert File.objects.present().count() == 1


@pytest.mark.parametrize("name", ["file-" + "0" * 22, "file-" + "z" * 22, "file-", "x", "%00"])
def test_an_unknown_or_malformed_file_id_is_not_found(name: str):
    caller = Caller()
    assert [caller.get(f"/files/{name}{path}")[0] for path in ("", "/content")] == [404, 404]


def test_a_name_in_any_script_stays_and_one_with_a_folder_loses_it():
    caller = Caller()
    file = caller.upload(a_file(name="Übung “1”.jsonl"))[1]
    assert file["filename"] == "Übung “1”.jsonl"
    assert content_of(caller, file["id"]) == CONTENT
    assert caller.upload(a_file(name="../../etc/passwd"))[1]["filename"] == "passwd"
