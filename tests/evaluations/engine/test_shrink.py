"""What is purged leaves SQLite's file as well."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from apps.datasets.models import FileChunk
from apps.datasets.stored_files import store_file
from apps.evaluations.engine import shrink
from tests.factories import make_actor

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "sqlite", reason="PostgreSQL has no such file"),
]


def pages(kind: str = "page_count") -> int:
    with connection.cursor() as cursor:
        return cursor.execute(f"PRAGMA {kind}").fetchone()[0]


def fill(mebibytes: int) -> None:
    chunks = [bytes(1024 * 1024)] * mebibytes
    store_file(make_actor(), filename="rows.jsonl", purpose="evals", chunks=chunks)


def test_free_pages_are_cut_off_but_for_some_to_spare(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shrink, "SPARE_PAGES", 100)
    fill(8)
    before = pages()
    FileChunk.objects.all().delete()
    free = pages("freelist_count")
    assert free > 1_900
    assert shrink.shrink_database() == free - 100
    assert pages("freelist_count") == 100
    assert pages() <= before - (free - 100)
    assert shrink.shrink_database() == 0


def test_no_piece_is_begun_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shrink, "SPARE_PAGES", 0)
    fill(2)
    FileChunk.objects.all().delete()
    before = pages("freelist_count")
    assert shrink.shrink_database(seconds=0) == 0
    assert pages("freelist_count") == before


def test_a_file_made_before_can_shrink_when_it_is_rewritten(tmp_path: Path) -> None:
    old = sqlite3.connect(tmp_path / "old.sqlite3", isolation_level=None)
    old.execute("PRAGMA journal_mode=WAL")
    old.execute("CREATE TABLE t (x)")

    class Cursor:
        def __enter__(self) -> Any:
            return old

        def __exit__(self, *_: object) -> None:
            pass

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(connection, "cursor", Cursor)
        assert not shrink.can_shrink()
        shrink.rewrite_database()
        assert shrink.can_shrink()
    old.close()
