"""import_openai_export: uploaded files that were saved beside evals keep their ids."""

import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError

from apps.datasets.models import File
from tests.dialects.openai.caller import ROWS, Caller, work
from tests.dialects.openai.history.saved import EVAL, ITEMS, RUN, save, take_in
from tests.factories import make_account, make_actor

LINES = "".join(json.dumps(row) + "\n" for row in ROWS)
FILE_ID = "file-WcVHsjv9AzwEfn5dJq1MVH"

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def caller(db: Any) -> Caller:
    return Caller(make_actor(account=make_account("Acme")))


@pytest.fixture
def rescued(tmp_path: Path) -> Path:
    """A folder as a widely copied script leaves it: a document an eval, and the files it names."""
    source = {"type": "file_id", "id": FILE_ID}
    run = {**RUN, "data_source": {"type": "jsonl", "source": source}}
    document = {"eval": EVAL, "rows": [], "runs": [{"run": run, "output_items": ITEMS}]}
    save(tmp_path / "evals" / "eval_old.json", document)
    for name in (FILE_ID, "file-abc", "file-0123456789abcdef01234567"):
        path = tmp_path / "files" / f"{name}.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_text(LINES)
    return tmp_path


@pytest.mark.parametrize("name", [FILE_ID, "file-abc", "file-0123456789abcdef01234567"])
def test_a_script_that_names_a_saved_file_runs(caller: Caller, rescued: Path, name: str):
    out, err = take_in(caller, rescued)
    assert (out, err) == ("Imported 1 evals, 1 runs, 3 output items, 3 files.\n", "")
    status, shown = caller.get(f"/files/{name}")
    assert (status, shown["id"], shown["filename"]) == (200, name, f"{name}.jsonl")
    content = caller.client.get(f"/v1/files/{name}/content")
    assert b"".join(content) == LINES.encode()  # type: ignore[arg-type]  # it streams
    source = {"type": "file_id", "id": name}
    body = {"data_source": {"type": "jsonl", "source": source}}
    created = caller.new_eval()
    status, run = caller.post(f"/evals/{created['id']}/runs", body)
    assert (status, run["data_source"]["source"]) == (201, source)
    work()
    _, run = caller.get(f"/evals/{created['id']}/runs/{run['id']}")
    assert run["result_counts"] == {"total": 3, "errored": 1, "failed": 1, "passed": 1}


def test_saved_files_are_listed_paged_and_deleted_by_their_ids(caller: Caller, rescued: Path):
    take_in(caller, rescued)
    _, listed = caller.get("/files", limit=2)
    assert len(listed["data"]) == 2
    _, rest = caller.get("/files", limit=2, after=listed["last_id"])
    ids = [file["id"] for file in [*listed["data"], *rest["data"]]]
    assert sorted(ids) == sorted([FILE_ID, "file-abc", "file-0123456789abcdef01234567"])
    deleted = caller.client.delete(
        "/v1/files/file-abc", headers={"authorization": f"Bearer {caller.secret}"}
    )
    assert deleted.json() == {"id": "file-abc", "object": "file", "deleted": True}
    assert caller.get("/files/file-abc")[0] == 404


def test_what_is_here_already_stays_and_what_was_deleted_comes_back(caller: Caller, rescued: Path):
    out, _ = take_in(caller, rescued, "--dry-run")
    assert out == "Would import 1 evals, 1 runs, 3 output items, 3 files.\n"
    assert not File.objects.exists()
    take_in(caller, rescued)
    out, _ = take_in(caller, rescued)
    assert out.endswith("Here already: 1 evals, 1 runs, 3 files.\n")
    caller.client.delete("/v1/files/file-abc", headers={"authorization": f"Bearer {caller.secret}"})
    out, _ = take_in(caller, rescued)
    assert out.startswith("Imported 0 evals, 0 runs, 0 output items, 1 file.\n")
    assert caller.get("/files/file-abc")[0] == 200


def test_another_account_sees_none_of_them_and_may_have_the_same(caller: Caller, rescued: Path):
    take_in(caller, rescued)
    stranger = Caller(make_actor(account=make_account("Other")))
    assert stranger.get("/files/file-abc")[0] == 404
    assert stranger.get("/files")[1]["data"] == []
    out, _ = take_in(stranger, rescued / "files")
    assert out == "Imported 0 evals, 0 runs, 0 output items, 3 files.\n"
    assert stranger.get("/files/file-abc")[0] == 200


def test_a_file_that_is_too_large_or_gone_is_named_and_passed_over(
    caller: Caller, rescued: Path, settings: Any
):
    settings.MAX_UPLOAD_BYTES = 10
    with pytest.raises(CommandError, match="Nothing was imported"):
        take_in(caller, rescued / "files")
    settings.MAX_UPLOAD_BYTES = 1_000_000
    (rescued / "files" / "file-abc.jsonl").unlink()
    (rescued / "files" / "file-abc.jsonl").symlink_to(rescued / "nowhere")
    out, _ = take_in(caller, rescued / "files")
    assert "2 files" in out
