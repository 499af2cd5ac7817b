"""Make the vendor's two tables of results: a row for each run, and one for each result and scorer.

Source: docs/contracts/spice.md, section 12.
"""

from collections.abc import Iterator
from typing import Any

from django.db.models import QuerySet

from apps.evaluations.models import Run
from apps.evaluations.reports import Item, read_pages, summarize
from apps.keyset import pages_of
from apps.strict_json import dump_json
from evalplatform.dialects.spice.evals import runtime_row, seconds

RUNS_AT_ONCE = 100
# Column -> what a Parquet file stores in it.
RUNS = {
    "id": "string",
    "created_at": "string",
    "completed_at": "string",
    "dataset": "string",
    "model": "string",
    "status": "string",
    "error_message": "string",
    "scorers": "texts",
    "metrics": "numbers",
}
RESULTS = {
    "run_id": "string",
    "created_at": "string",
    "input": "string",
    "actual": "string",
    "expected": "string",
    "scorer": "string",
    "value": "double",
}


def runs_table(runs: QuerySet[Run]) -> Iterator[dict[str, Any]]:
    """Yield a record for each run, the oldest first, with a null for each column that it lacks."""
    for page in _pages(runs):
        reports = summarize(page)
        for run in page:
            row = runtime_row(reports[run.pk])
            yield {column: row.get(column) for column in RUNS}


def results_table(runs: QuerySet[Run]) -> Iterator[dict[str, Any]]:
    """Yield a record for each result and scorer of the runs that completed."""
    for page in _pages(runs.filter(state=Run.State.COMPLETED)):
        for run in page:
            for items in read_pages(run):
                for item in items:
                    yield from _scored(run, item)


def _pages(runs: QuerySet[Run]) -> Iterator[list[Run]]:
    return pages_of(
        runs.select_related("evaluation", "source_version__dataset"), ("pk",), RUNS_AT_ONCE
    )


def _scored(run: Run, item: Item) -> Iterator[dict[str, Any]]:
    facts = {
        "run_id": run.pk.hex,
        "created_at": seconds(item.result.created_at),
        "input": _text(item.item.get("input")),
        "actual": _text((item.sample or {}).get("output_text")),
        "expected": _text(item.item.get("ideal")),
    }
    for score in item.verdicts.values():
        yield {**facts, "scorer": score.criterion.name, "value": score.value}


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else dump_json(value)
