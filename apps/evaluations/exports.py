"""Export a run as a table, a row a result and a group of columns a criterion, and a summary."""

from collections.abc import Iterator
from typing import Any

from apps.evaluations.costs import Cost
from apps.evaluations.models import Run
from apps.evaluations.reports import Item, read_criteria, read_pages, summary
from apps.grading.statistics import Mean, mean_from_sums, rate

COLUMNS = ("row_index", "repeat", "state", "item", "answer", "error")
VERDICT = ("score", "passed", "error", "evidence")
DIGITS = 6


def criterion_columns(run: Run) -> dict[Any, str]:
    """Name the columns of each criterion: by its name, numbered where several have it."""
    titles: dict[Any, str] = {}
    for criterion in read_criteria(run):
        title, number = criterion.name, 1
        while title in titles.values():
            number += 1
            title = f"{criterion.name} {number}"
        titles[criterion.pk] = title
    return titles


def columns(run: Run) -> list[str]:
    groups = criterion_columns(run).values()
    return [*COLUMNS, *(f"{title}.{part}" for title in groups for part in VERDICT)]


def rows(run: Run) -> Iterator[dict[str, Any]]:
    """Yield every result as a flat record with the keys of `columns`, a page at a time."""
    titles = criterion_columns(run)
    for page in read_pages(run):
        for item in page:
            yield _row(item, titles)


def _row(item: Item, titles: dict[Any, str]) -> dict[str, Any]:
    verdicts = item.verdicts
    answer = (item.sample or {}).get("output_text")
    row = {
        "row_index": item.result.row_index,
        "repeat": item.result.repeat,
        "state": item.result.state,
        "item": item.item,
        "answer": answer if isinstance(answer, str) else _text_of(item.sample),
        "error": _error(item.result),
    }
    for pk, title in titles.items():
        score = verdicts.get(pk)
        row[f"{title}.score"] = score.value if score else None
        row[f"{title}.passed"] = score.passed if score else None
        row[f"{title}.error"] = _error(score) if score else None
        row[f"{title}.evidence"] = (score.evidence or None) if score else None
    return row


def _text_of(sample: dict[str, Any] | None) -> str | None:
    """Return the text of an answer that was recorded as a bare chat completion."""
    try:
        content = (sample or {})["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError):
        return None
    return content if isinstance(content, str) else None


def _error(row: Any) -> str | None:
    return f"{row.error_code}: {row.error_message}" if row.error_code else None


def summary_table(run: Run) -> dict[str, Any]:
    """Return the run's counts, its cost, and each criterion's rate and mean."""
    report = summary(run)
    counts = report.counts
    return {
        "run": str(run.pk),
        "name": run.name,
        "state": run.state,
        "model": run.model,
        "results": {
            "total": counts.done,
            "passed": counts.passed,
            "failed": counts.failed,
            "errored": counts.errored,
            "unjudged": counts.unjudged,
        },
        "criteria": [
            {
                "name": line.criterion.name,
                "id": line.criterion.key,
                "passed": line.passed,
                "failed": line.failed,
                "errored": line.errored,
                "pass_rate": _rounded(rate(line.passed, line.passed + line.failed).value),
                **_mean(mean_from_sums(line.scored, line.total, line.squares)),
            }
            for line in report.criteria
        ],
        "cost": {
            "answers": _amount(report.spending.answers),
            "judges": _amount(report.spending.judges),
            "total": _amount(report.spending.total),
            "unknown_prices": sorted(report.spending.total.unknown),
        },
    }


def _amount(cost: Cost) -> str | None:
    """Write a cost exactly, as text; None where a part of it is not known."""
    return f"{cost.amount:f}" if cost.is_known else None


def _mean(mean: Mean) -> dict[str, Any]:
    return {
        "scored": mean.count,
        "mean": _rounded(mean.value),
        "standard_error": _rounded(mean.standard_error),
        "low": _rounded(mean.low),
        "high": _rounded(mean.high),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, DIGITS)
