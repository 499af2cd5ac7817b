"""The reading side of runs, which every face shares."""

from apps.evaluations.costs import Cost, shown_money
from apps.evaluations.reports.criteria import criteria_at, criteria_at_all, read_criteria
from apps.evaluations.reports.fields import rows_with
from apps.evaluations.reports.items import (
    Item,
    Judgement,
    read_items,
    read_pages,
    read_results,
)
from apps.evaluations.reports.lookup import (
    evaluations_of,
    find_evaluation,
    find_run,
    find_whole_evaluation,
    read_target,
    runs_of,
)
from apps.evaluations.reports.pairs import Pairs, pair_runs
from apps.evaluations.reports.refused_forms import RefusedForms, refused_forms
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
from apps.evaluations.reports.values import Place, Values, read_values
from apps.evaluations.reports.verdicts import VERDICTS, Wanted
from apps.evaluations.reports.versions import read_versions

__all__ = [
    "VERDICTS",
    "Cost",
    "Counts",
    "CriterionSummary",
    "Item",
    "Judgement",
    "ModelCost",
    "ModelUsage",
    "Pairs",
    "Place",
    "RefusedForms",
    "Spending",
    "Summary",
    "Values",
    "Wanted",
    "count_results",
    "criteria_at",
    "criteria_at_all",
    "evaluations_of",
    "find_evaluation",
    "find_run",
    "find_whole_evaluation",
    "pair_runs",
    "read_criteria",
    "read_items",
    "read_pages",
    "read_results",
    "read_target",
    "read_values",
    "read_versions",
    "refused_forms",
    "rows_with",
    "runs_of",
    "shown_money",
    "summarize",
    "summary",
]
