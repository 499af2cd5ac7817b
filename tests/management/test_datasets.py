"""import_dataset and export_dataset."""

import gzip
import io
import json
import os
import pty
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from apps.accounts.roles import Role
from apps.datasets.models import Dataset, TestCase
from apps.datasets.reading import find_version, read_cases
from tests.factories import make_account, make_actor, make_version
from tests.patience import patience, wait_until
from tests.served import ROOT, Template

TICKETS = (
    '{"text": "Charged twice", "label": "billing"}\n{"text": "Does not start", "label": "fault"}\n'
)


@pytest.fixture
def owner(db):
    return make_actor(account=make_account("Acme"))


def run(*words: str) -> tuple[str, str]:
    out, err = io.StringIO(), io.StringIO()
    call_command(*words, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def file_with(folder: Path, text: str, name: str = "support-tickets.jsonl") -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_file_becomes_the_first_version_of_a_dataset_of_its_name(owner, tmp_path):
    path = file_with(tmp_path, TICKETS)
    out, err = run("import_dataset", path, "--account", "Acme", "--label-field", "label")
    assert out == (
        "Imported 2 rows into support-tickets version 1. The file was read as JSONL, in UTF-8.\n"
    )
    assert err == ""
    version = find_version(owner.account.pk, "support-tickets")
    assert version.dataset.label_field == "label"
    assert version.created_by == owner.user


def test_a_csv_is_read_by_its_ending_and_the_next_version_takes_its_name(owner, tmp_path):
    path = file_with(tmp_path, "text,n\nhello,1\n", "rows.csv")
    run("import_dataset", path, "--account", "Acme", "--name", "t")
    out, _ = run("import_dataset", path, "--account", "Acme", "--name", "t")
    assert out.startswith(
        "Imported 1 row into t version 2. The file was read as CSV with commas, 2 "
    )
    assert list(read_cases(find_version(owner.account.pk, "t"))) == [
        ({"text": "hello", "n": "1"}, None)
    ]


def test_rows_come_from_standard_input(owner, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(TICKETS.encode())))
    with pytest.raises(CommandError, match="--name"):
        run("import_dataset", "-", "--account", "Acme")
    out, _ = run("import_dataset", "-", "--account", "Acme", "--name", "t")
    assert out.startswith("Imported 2 rows into t version 1. ")


def test_recorded_answers_are_unwrapped_unless_told_otherwise(owner, tmp_path):
    row = {"item": {"a": 1}, "sample": {"output_text": "x"}}
    path = file_with(tmp_path, '{"item":{"a":1},"sample":{"output_text":"x"}}')
    run("import_dataset", path, "--account", "Acme", "--name", "t")
    assert list(read_cases(find_version(owner.account.pk, "t"))) == [(row["item"], row["sample"])]
    run("import_dataset", path, "--account", "Acme", "--name", "t", "--flat")
    assert list(read_cases(find_version(owner.account.pk, "t"))) == [(row, None)]


def test_each_bad_row_is_named_by_its_line_and_nothing_is_imported(owner, tmp_path):
    path = file_with(tmp_path, TICKETS + "oops\n\n[1]\n")
    err = io.StringIO()
    with pytest.raises(CommandError, match="Nothing was imported") as caught:
        call_command("import_dataset", path, "--account", "Acme", stderr=err)
    assert caught.value.returncode == 1
    assert [line.split(":")[0] for line in err.getvalue().splitlines()] == ["line 3", "line 5"]
    assert not Dataset.objects.exists()
    assert not TestCase.objects.exists()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["missing.jsonl", "--account", "Acme"], "No such file"),
        (["missing.txt", "--account", "Acme"], "No such file"),
        (["missing.jsonl", "--account", "Nobody"], "no account named"),
        (["missing.jsonl", "--account", "Acme", "--email", "a@b.example"], "not a member"),
    ],
)
def test_what_cannot_be_found_is_said(owner, words, reason):
    with pytest.raises(CommandError, match=reason):
        run("import_dataset", *words)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (
            "t.csv",
            "q;a\nOù?;là\n".encode("latin-1"),
            "CSV with semicolons, 2 columns, in Windows-1",
        ),
        ("t.tsv", "q\ta\nOù?\tlà\n".encode("utf-16"), "CSV with tabs, 2 columns, in UTF-16"),
        ("t.json", '{"data": [{"q": "Où?", "a": "là"}]}'.encode(), "a JSON object whose 'data'"),
        ("t.jsonl", '[{"q": "Où?", "a": "là"}]'.encode(), "a JSON array, in UTF-8"),
        (
            "t.csv.gz",
            gzip.compress(",q,a\n0,Où?,là\n".encode(), mtime=0),
            "left out, in UTF-8, unpacked",
        ),
    ],
)
def test_how_a_file_is_written_is_found_out_and_said(owner, tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    out, err = run("import_dataset", str(tmp_path / name), "--account", "Acme")
    assert out.startswith("Imported 1 row into t version 1. The file was read as ")
    assert words in out
    assert err == ""
    version = find_version(owner.account.pk, "t")
    assert [item for item, _ in read_cases(version)] == [{"q": "Où?", "a": "là"}]


def test_what_cannot_be_found_out_is_asked_for(owner, tmp_path):
    path = file_with(tmp_path, "a;b,c\n1;2,3\n", "t.csv")
    words = ["import_dataset", path, "--account", "Acme"]
    with pytest.raises(
        CommandError, match=r"by commas or by semicolons\. Name what .* --delimiter"
    ):
        run(*words)
    with pytest.raises(CommandError, match=r"no encoding 'klingon'\. Name it: --encoding cp1252"):
        run(*words, "--encoding", "klingon", "--delimiter", ",")
    with pytest.raises(CommandError, match="one character"):
        run(*words, "--delimiter", "ab")
    run(*words, "--delimiter", ";", "--encoding", "ascii")
    version = find_version(owner.account.pk, "t")
    assert [item for item, _ in read_cases(version)] == [{"a": "1", "b,c": "2,3"}]


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("t.csv", "a,b\n1,2\n3\n4,5\n", ("line 3", "1 cells under a header of 2", "3")),
        ("t.jsonl", '{"a": 1}\n{oops\n{"a": 2}\n', ("line 2", "expected", "{oops")),
        ("t.json", '[{"a": 1}, [7], {"a": 2}]', ("row 2", "a row must be a JSON object", "[7]")),
    ],
)
def test_bad_rows_are_skipped_into_a_file_where_that_is_wanted(owner, tmp_path, name, text, line):
    path = file_with(tmp_path, text, name)
    words = ["import_dataset", path, "--account", "Acme", "--on-error", "skip"]
    out, err = run(*words)
    assert out.startswith("Imported 2 rows into t version 1, skipped 1. ")
    skipped = Path(f"{path}.skipped.jsonl")
    assert str(skipped) in err
    [told] = map(json.loads, skipped.read_text().splitlines())
    place, reason, row = line
    assert (told["place"], told["row"]) == (place, row)
    assert reason in told["reason"]
    with pytest.raises(CommandError, match="exists: name another with --skipped"):
        run(*words)
    run(*words, "--skipped", str(tmp_path / "more.jsonl"))
    assert (tmp_path / "more.jsonl").read_bytes() == skipped.read_bytes()


def test_where_every_row_is_bad_nothing_is_imported(owner, tmp_path):
    path = file_with(tmp_path, "a,b\n1\n2\n", "t.csv")
    with pytest.raises(CommandError, match=r"no row can be taken\. line 2: 1 cells under"):
        run("import_dataset", path, "--account", "Acme", "--on-error", "skip")
    assert not Dataset.objects.exists()


def test_a_viewer_imports_nothing(owner, tmp_path):
    viewer = make_actor(Role.VIEWER, account=owner.account)
    words = [file_with(tmp_path, TICKETS), "--account", "Acme", "--email", viewer.user.email]
    with pytest.raises(CommandError, match="does not allow"):
        run("import_dataset", *words)
    assert not Dataset.objects.exists()


@pytest.mark.parametrize("format_name", ["jsonl", "csv"])
def test_what_is_exported_imports_again(owner, tmp_path, format_name):
    items = [{"text": "a, b\n'c'", "label": "x"}, {"text": "ü", "label": "y"}]
    make_version(owner, items=items, name="t")
    path = tmp_path / f"out.{format_name}"
    words = ["t", "--account", "Acme", "--format", format_name, "--output", str(path)]
    out, _ = run("export_dataset", *words)
    assert out == "Exported 2 rows of t version 1.\n"
    assert os.listdir(tmp_path) == [path.name]
    run("import_dataset", str(path), "--account", "Acme", "--name", "again")
    assert [item for item, _ in read_cases(find_version(owner.account.pk, "again"))] == items


def test_an_older_version_can_be_exported_and_csv_has_every_field(owner, tmp_path):
    make_version(owner, items=[{"a": 1}, {"b": None, "a": [2]}], name="t")
    path = file_with(tmp_path, '{"c": 3}')
    run("import_dataset", path, "--account", "Acme", "--name", "t")
    words = ["export_dataset", "t", "--account", "Acme"]
    assert run(*words) == ('{"c":3}\n', "")
    assert run(*words, "--version", "1") == ('{"a":1}\n{"b":null,"a":[2]}\n', "")
    assert run(*words, "--version", "1", "--format", "csv")[0] == "a,b\r\n1,\r\n[2],\r\n"
    for num in ("0", "3"):
        with pytest.raises(CommandError, match=f"version {num}"):
            run(*words, "--version", num)


class Installation:
    """A file database of its own, to which commands run as processes."""

    def __init__(self, folder: Path) -> None:
        self.environment = {**os.environ, "DATA_DIR": str(folder)}
        self.environment.pop("DATABASE_URL", None)
        self.database = folder / "db.sqlite3"
        template = Template(Path(os.environ[Template.FOLDER]))
        shutil.copyfile(template.file(), self.database)
        self.command("create_api_key", "--account", "Acme")

    def start(self, *words: str, **options: Any) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(ROOT / "manage.py"), *words]
        return subprocess.Popen(command, env=self.environment, **options)

    def command(self, *words: str) -> str:
        process = self.start(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out, err = process.communicate(timeout=patience(60))
        assert process.returncode == 0, err.decode()
        return out.decode()

    def value(self, sql: str) -> Any:
        with closing(
            sqlite3.connect(self.database, isolation_level=None, timeout=patience(10))
        ) as database:
            return database.execute(sql).fetchone()[0]


@pytest.fixture(scope="module")
def installation(tmp_path_factory):
    return Installation(tmp_path_factory.mktemp("installation"))


@pytest.mark.slow
def test_an_import_killed_half_way_leaves_nothing_that_is_seen_and_can_be_repeated(
    installation, tmp_path
):
    # Far more than the command stores until it is killed.
    path = file_with(tmp_path, '{"text": "never to be seen"}\n' * 1_000_000, "large.jsonl")
    words = ["import_dataset", path, "--account", "Acme", "--name", "killed"]
    with installation.start(*words) as process:
        wait_until(lambda: installation.value("SELECT count(*) FROM datasets_testcase") > 0, 20)
        process.kill()
    assert installation.value("SELECT count(*) FROM datasets_datasetversion") == 0
    assert installation.value("SELECT count(*) FROM datasets_dataset WHERE deleted_at IS NULL") == 0
    installation.value("UPDATE datasets_dataset SET import_until = '2000-01-01' RETURNING 1")
    path = file_with(tmp_path, TICKETS)
    installation.command("import_dataset", path, "--account", "Acme", "--name", "killed")
    exported = installation.command("export_dataset", "killed", "--account", "Acme")
    assert len(exported.splitlines()) == 2


@pytest.mark.slow
def test_a_terminal_is_shown_a_bar_of_the_bytes_read(installation, tmp_path):
    path = file_with(tmp_path, TICKETS)
    leader, follower = pty.openpty()
    words = ["import_dataset", path, "--account", "Acme"]
    process = installation.start(*words, stdout=subprocess.PIPE, stderr=follower)
    out, _ = process.communicate(timeout=patience(60))
    os.close(follower)
    shown = os.read(leader, 10_000).decode()
    os.close(leader)
    assert out.startswith(b"Imported 2 rows into support-tickets version 1. ")
    assert "[##############################] 0.0 MB of 0.0 MB (100%)\r\n" in shown
