"""Single rows of a run are read from where they lie, and the bytes around them are not."""

import random

import pytest

from apps.datasets import stored_files
from apps.datasets.models import File, FileChunk
from apps.datasets.stored_files import store_file
from apps.evaluations.engine import plan as plan_module
from apps.evaluations.engine import row_places
from apps.evaluations.engine.row_places import rows_at
from apps.evaluations.models import Run
from apps.strict_json import dump_json
from tests.evaluations.engine.shards import plan
from tests.factories import make_actor, make_rows, make_run, make_version

pytestmark = pytest.mark.django_db

ROWS = [{"item": {**row["item"], "number": number}} for number, row in enumerate(make_rows(50))]

ENDS = [b"\n", b"\r\n\n \n"] * 25
LINES = [dump_json(row).encode() + end for row, end in zip(ROWS, ENDS, strict=True)]


@pytest.fixture(params=["file", "version"])
def run(request, monkeypatch) -> Run:
    monkeypatch.setattr(plan_module, "GRADING_ROWS", 7)
    monkeypatch.setattr(row_places, "WINDOW_ROWS", 20)
    # A line is longer than a piece, and some lie in two pieces of the file.
    monkeypatch.setattr(stored_files, "CHUNK_BYTES", 100)
    actor = make_actor()
    if request.param == "version":
        source = make_version(actor, items=[row["item"] for row in ROWS])
    else:
        source = store_file(actor, filename="rows.jsonl", purpose="evals", chunks=LINES)
    return plan(make_run(actor, source=source))


def test_any_rows_are_found_in_any_order_kept_places_or_not(run):
    chance = random.Random(7)
    for _ in range(30):
        wanted = chance.sample(range(55), chance.randint(1, 12))
        found = rows_at(run, wanted)
        assert {index: row.item for index, row in found.items()} == {
            index: ROWS[index]["item"] for index in wanted if index < 50
        }


def test_once_the_places_are_known_only_the_rows_own_bytes_are_read(run, monkeypatch):
    if run.source_file_id is None:
        return
    rows_at(run, range(50))
    read = []
    monkeypatch.setattr(
        row_places,
        "read_file",
        lambda *place: read.append(place) or stored_files.read_file(*place),
    )
    assert rows_at(run, [9, 10])[10].item == ROWS[10]["item"]
    ((_, start, stop),) = read
    lines = [dump_json(ROWS[index]) for index in (9, 10)]
    assert stop - start <= sum(map(len, lines)) + len("\r\n\n \n\n")


def test_the_rows_of_a_page_take_one_query_once_their_places_are_known(
    run, monkeypatch, django_assert_num_queries
):
    monkeypatch.setattr(stored_files, "CHUNK_BYTES", 1024 * 1024)
    FileChunk.objects.all().delete()
    FileChunk.objects.bulk_create(
        FileChunk(file=file, number=0, data=b"".join(LINES)) for file in File.objects.all()
    )
    rows_at(run, range(50))
    with django_assert_num_queries(1):
        assert rows_at(run, [8, 9, 12])[12].item == ROWS[12]["item"]
