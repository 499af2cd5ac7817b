"""Try criteria on a few rows at once, before anything is stored."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from apps.accounts.models import Actor
from apps.accounts.roles import Action
from apps.datasets.models import DatasetVersion
from apps.errors import Invalid, Unfit
from apps.evaluations.engine.row_places import rows_at
from apps.evaluations.engine.source import row_fault
from apps.evaluations.models import Evaluation, Result, Run
from apps.evaluations.services.criteria import check_criteria_of
from apps.evaluations.services.evaluations import NewCriterion
from apps.evaluations.services.quick_judging import (
    AnsweredRow,
    Preview,
    judge_items,
    with_recorded_answer,
)
from apps.evaluations.tally import Tally
from apps.evaluations.targets.recorded import Kept, KeptAnswers
from apps.grading.item_schemas import compile_schema
from apps.strict_json import parse_json

ROWS = 20  # at most, since somebody waits for the answer

# A run with its stored answers, a frozen version, or rows {"item": {…}, "sample": {…}}.
PreviewSource = Run | DatasetVersion | Sequence[Mapping[str, Any]]


def try_criteria(
    actor: Actor,
    evaluation: Evaluation,
    *,
    criteria: Sequence[NewCriterion],
    source: PreviewSource,
    count: int = ROWS,
) -> list[Preview]:
    """Judge the first rows of a source by criteria that are not the evaluation's yet.

    Nothing is stored. Raises Invalid as create_evaluation does, or for rows that the evaluation
    would not take, and LimitError while an endpoint's slots are all taken and when judging takes
    too long.
    """
    actor.require(Action.EDIT, evaluation.account)
    if not 1 <= count <= ROWS:
        raise Invalid(f"A preview takes 1 to {ROWS} rows, not {count}.", path="count")
    graders = check_criteria_of(evaluation, criteria)
    if not graders:
        raise Invalid("There is no criterion to grade by.", path="criteria")
    if isinstance(source, Run):
        items = _items_of_run(source, count)
    elif isinstance(source, DatasetVersion):
        cases = source.cases(0).values_list("item", "sample")[:count]
        items = [
            with_recorded_answer(index, parse_json(item), parse_json(sample) if sample else None)
            for index, (item, sample) in enumerate(cases)
        ]
    else:
        items = _items_given(evaluation, source[:count])
    if not items:
        raise Unfit("There are no rows to try the criteria on.", path="rows")
    return judge_items(evaluation.account_id, graders, items)


def _items_of_run(run: Run, count: int) -> list[AnsweredRow]:
    columns = ("row_index", "repeat", *Kept._fields)
    found = list(Result.objects.of_run(run).in_order().values_list(*columns)[:count])
    answers = {(index, repeat): Kept(*kept) for index, repeat, *kept in found}
    target = KeptAnswers(answers, in_rows=not run.model)
    rows = rows_at(run, (index for index, _ in answers))
    return [(rows[index], target.at_once(rows[index], repeat)) for index, repeat in answers]


def _items_given(evaluation: Evaluation, rows: Sequence[Mapping[str, Any]]) -> list[AnsweredRow]:
    schema = compile_schema(evaluation.item_schema)
    for index, row in enumerate(rows):
        if fault := row_fault(row, schema):
            raise Invalid(f"Row {index + 1}: {fault}", path=("rows", index))
    return [
        with_recorded_answer(index, row["item"], row.get("sample"))
        for index, row in enumerate(rows)
    ]


def usage_of(previews: Iterable[Preview]) -> dict[str, list[int]]:
    """Sum up by model the calls and the prompt, completion, total and cached tokens."""
    tally = Tally()
    for preview in previews:
        for spent in preview.outcome.spent:
            tally.use(spent.model, spent.counts)
    return tally.models
