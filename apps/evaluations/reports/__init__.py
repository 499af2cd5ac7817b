"""The reading side of runs, which every face shares."""

from apps.evaluations.costs import Cost, shown_money
from apps.evaluations.reports.items import Item, Judgement, read_criteria, read_items, read_pages
from apps.evaluations.reports.summaries import (
    Counts,
    CriterionSummary,
    ModelCost,
    ModelUsage,
    Spending,
    Summary,
    count_results,
    summarize,
    summary,
)
from apps.evaluations.reports.verdicts import VERDICTS, Wanted

__all__ = [
    "VERDICTS",
    "Cost",
    "Counts",
    "CriterionSummary",
    "Item",
    "Judgement",
    "ModelCost",
    "ModelUsage",
    "Spending",
    "Summary",
    "Wanted",
    "count_results",
    "read_criteria",
    "read_items",
    "read_pages",
    "shown_money",
    "summarize",
    "summary",
]
