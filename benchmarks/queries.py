"""Queries over the results of one run, each with its time at every size.

    .venv/bin/python benchmarks/queries.py [--sizes 100000,1000000] [--turns 5]

A database is filled with finished runs of two criteria, of which one gives values between 0 and 1,
and is asked in this process, as pages ask it. In turn with each the driver alone reads all results
of the run. Each figure is the median of some turns, processor time beside the wall's; that of
PostgreSQL's own processes is in neither. DATABASE_URL is used where it is set.
"""

import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.figures import Figure, options_of, report

if TYPE_CHECKING:
    from apps.evaluations.models import Run

PAGE = 100
BINS = 20
RARE = 50_021  # one row of so many has failed the first criterion
WITHOUT_VALUE = 1_009  # one row of so many could not be judged by the second
PAIR_MILLISECONDS = 500


@contextmanager
def filled() -> Iterator[None]:
    """Set Django up on a database of its own, or on the one that DATABASE_URL names."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DATA_DIR"] = folder
        os.environ["DJANGO_SETTINGS_MODULE"] = "evalplatform.settings"
        # Imported now: both read the environment.
        import django  # noqa: PLC0415  settings first
        from django.core.management import call_command  # noqa: PLC0415  settings first

        django.setup()
        call_command("migrate", verbosity=0)
        yield


def measure(
    call: Callable[[], Any], bare: Callable[[], Any], turns: int
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the medians of milliseconds and of the processor's, of both in turn."""
    call()
    taken: list[list[tuple[float, float]]] = [[], []]
    for _ in range(turns):
        for asked, took in zip((call, bare), taken, strict=True):
            began, used = time.perf_counter(), time.process_time()
            asked()
            wall, processor = time.perf_counter() - began, time.process_time() - used
            took.append((wall * 1000, processor * 1000))
    ours, theirs = (
        (statistics.median(one[0] for one in took), statistics.median(one[1] for one in took))
        for took in taken
    )
    return ours, theirs


def scan_of(run: "Run") -> Callable[[], Any]:
    """Make the reference: the driver alone counts a run's results by state, reading them all."""
    # Imported now: both want Django to be set up.
    from django.db import connection  # noqa: PLC0415  settings first

    from apps.evaluations.models import Result, key_of  # noqa: PLC0415  settings first

    table = Result._meta.db_table
    count = f"SELECT min(state), count(*), max(verdicts) FROM {table} WHERE id >= %s AND id < %s"
    keys = [key_of(run.number, 0), key_of(run.number + 1, 0)]

    def scan() -> Any:
        with connection.cursor() as cursor:
            cursor.execute(count, keys)
            return cursor.fetchall()

    return scan


def questions(run: "Run", other: "Run", elsewhere: "Run | None") -> dict[str, Callable[[], Any]]:
    """Name each query with the call that answers it.

    other: a run over the same file. elsewhere: one over a file of its own with the same rows.
    """
    # Imported now: models want Django to be set up.
    from apps.evaluations.engine.row_places import rows_at  # noqa: PLC0415  settings first
    from apps.evaluations.models import Result, Shard, key_of  # noqa: PLC0415  settings first
    from apps.evaluations.packing import Verdict  # noqa: PLC0415  settings first
    from apps.evaluations.reports import (  # noqa: PLC0415  settings first
        Wanted,
        pair_runs,
        read_criteria,
        read_items,
        read_values,
        read_versions,
        rows_with,
    )
    from apps.evaluations.services.pushed_results import put_result  # noqa: PLC0415  settings first
    from apps.leases import database_now  # noqa: PLC0415  settings first
    from tests.factories import make_actor  # noqa: PLC0415  settings first

    exact, score = read_criteria(run)
    rows = run.row_count

    def page_of(keys: Sequence[int]) -> None:
        results = Result.objects.in_bulk(keys)
        assert len(read_items(run, [results[key] for key in keys])) == len(keys)

    def sorted_page(**options: Any) -> None:
        places = read_values(run, score).sorted_keys(PAGE, **options)
        assert len(places) == PAGE
        page_of([place.key for place in places])

    middle = read_values(run, score).sorted_keys(rows // 2)[-1]
    scattered = random.Random(1).sample(range(rows), PAGE)

    def by_field(row: int) -> None:
        found = rows_with(run, ["answer"], answer_of(row), limit=PAGE)
        assert found == [row]
        page_of([key_of(run.number, row)])

    def by_verdict(state: str, wanted: int, key: int | None = None) -> None:
        found = Wanted(run, exact, state).find(key, backwards=False, limit=PAGE)
        assert len(found) == wanted
        read_items(run, found)

    def by_state(state: str) -> None:
        results = Result.objects.of_run(run).filter(state=state).in_order()[:PAGE]
        assert len(read_items(run, results)) == min(PAGE, -(-rows // WITHOUT_VALUE))

    def histogram() -> None:
        counts = read_values(run, score).histogram([number / BINS for number in range(BINS + 1)])
        assert sum(counts) == rows - -(-rows // WITHOUT_VALUE)

    def paired(with_run: "Run") -> None:
        pairs = pair_runs((run, score), (with_run, score))
        assert len(pairs.rows) == rows - -(-rows // WITHOUT_VALUE)

    actor = make_actor(account=run.account)
    changing = key_of(run.number, rows // 3)

    def changed() -> None:
        put_result(actor, run, rows // 3, verdicts=[Verdict(0.0, False), Verdict(0.5, True)])

    found: dict[str, Callable[[], Any]] = {
        "sorted by value, the first page": sorted_page,
        "sorted by value, a page in the middle": lambda: sorted_page(after=middle),
        "value from 0.2 to 0.3, highest first": lambda: sorted_page(
            low=0.2, high=0.3, descending=True
        ),
        "a histogram of 20 bins": histogram,
        "one criterion failed, 1 row of 50,021": lambda: by_verdict("failed", -(-rows // RARE)),
        "one criterion passed, a page in the middle": lambda: by_verdict(
            "passed", PAGE, key_of(run.number, rows // 2)
        ),
        "state errored, 1 row of 1,009": lambda: by_state("errored"),
        "an item's field, the only such row, in the middle": lambda: by_field(rows // 2),
        "paired with a run over the same file": lambda: paired(other),
        "a result from outside in the place of another, whose history is kept": changed,
        "the history of a result": lambda: read_versions(Result.objects.get(pk=changing)),
        "the next shard to claim, shards in random order": lambda: Shard.objects.next_of(
            run.pk, database_now(), ()
        ),
        "100 rows of random places": lambda: rows_at(run, scattered),
    }
    if elsewhere is not None:
        found["paired with a run over another file"] = lambda: paired(elsewhere)
    return found


def answer_of(row: int) -> str:
    from benchmarks.filling import row_of  # noqa: PLC0415  it wants Django to be set up

    return row_of(row, is_asked=False)["item"]["answer"]


def fill_runs(rows: int) -> "tuple[Run, Run, Run | None]":
    # Imported now: models want Django to be set up.
    from apps.evaluations.models import Shard  # noqa: PLC0415  settings first
    from apps.evaluations.packing import Verdict  # noqa: PLC0415  settings first
    from apps.evaluations.services.evaluations import NewCriterion  # noqa: PLC0415  settings first
    from benchmarks.filling import fill  # noqa: PLC0415  settings first
    from tests.factories import SAME, make_actor, make_evaluation  # noqa: PLC0415  settings first

    similar = NewCriterion(
        "text_similarity",
        "similar",
        {
            "input": "{{ sample.output_text }}",
            "reference": "{{ item.answer }}",
            "metric": "fuzzy_match",
            "pass_threshold": 0.0,
        },
    )
    evaluation = make_evaluation(make_actor(), criteria=(SAME, similar))
    chance = random.Random(rows)

    def said(row: int) -> list[Verdict]:
        exact = Verdict(0.0, False) if row % RARE == 0 else Verdict(1.0, True)
        if row % WITHOUT_VALUE == 0:
            return [exact, Verdict(None, None, "odd", "It could not be judged.")]
        return [exact, Verdict(chance.random(), True)]

    run = fill(evaluation.pk, rows, said=said)
    assert run.source_file is not None
    other = fill(evaluation.pk, rows, said=said, file=run.source_file)
    elsewhere = fill(evaluation.pk, rows, said=said) if rows <= 100_000 else None
    # As if it were to be worked on in random order: numbers tell the order, rows the place.
    shards = list(Shard.objects.filter(run=run))
    numbers = [len(shards) + shard.number for shard in shards]
    chance.shuffle(numbers)
    for shard, number in zip(shards, numbers, strict=True):
        shard.number = number
        shard.finished_at = None
    Shard.objects.bulk_update(shards, ["number", "finished_at"], batch_size=200)
    return run, other, elsewhere


def main() -> None:
    options = options_of(__doc__, sizes=(100_000, 1_000_000), turns=5)
    figures: list[Figure] = []
    with filled():
        for rows in options.sizes:
            runs = fill_runs(rows)
            for name, call in questions(*runs).items():
                ours, bare = measure(call, scan_of(runs[0]), options.turns)
                bound = PAIR_MILLISECONDS if "paired" in name and rows <= 100_000 else None
                work = f"queries: {name}, {rows:,} results"
                against = "bare scan of the run"
                figures += [
                    Figure(work, ours[0], "ms", bare[0], against, at_most=bound),
                    Figure(f"{work}, processor time", ours[1], "ms", bare[1], against),
                ]
    report(figures, options)


if __name__ == "__main__":
    main()
