"""Browsers that are signed in, and runs with results, made without workers.

What became of each row of a run is said in a letter a criterion:
p passed, f failed, e errored, s a score of 0.5 that neither passes nor fails.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from django.test import Client
from django.utils import timezone

from apps.accounts.models import Actor
from apps.datasets.models import DatasetVersion
from apps.evaluations.engine.close import finish_run
from apps.evaluations.engine.plan import claim_plan, plan_run
from apps.evaluations.models import Evaluation, Result, Run, key_of
from apps.evaluations.packing import Verdict
from apps.evaluations.services.evaluations import NewCriterion, create_evaluation
from apps.evaluations.services.runs import start_run
from apps.evaluations.tally import Tally
from apps.evaluations.targets import Recorded
from tests.judgements import put_verdicts

STORED_AT = 1_790_000_000
MARKS: dict[str, tuple[float | None, bool | None]] = {
    "p": (1.0, True),
    "f": (0.0, False),
    "e": (None, None),
    "s": (0.5, None),
}


def browser_of(actor: Actor) -> Client:
    client = Client()
    client.force_login(actor.user)
    return client


def make_evaluation(actor: Actor, *, criteria: int = 1, name: str = "Capitals") -> Evaluation:
    settings = {
        "input": "{{ sample.output_text }}",
        "reference": "{{ item.capital }}",
        "operation": "eq",
    }
    return create_evaluation(
        actor,
        name=name,
        criteria=[NewCriterion("string_check", f"same {n + 1}", settings) for n in range(criteria)],
        has_sample=True,
    )


def rows_of(marks: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {
            "item": {"country": f"Country {n}", "capital": f"Capital {n}"},
            "sample": {"output_text": f"Answer {n}"},
        }
        for n in range(len(marks))
    ]


def make_run(
    actor: Actor,
    marks: Sequence[str] = ("p", "f", "e"),
    *,
    evaluation: Evaluation | None = None,
    rows: DatasetVersion | Sequence[Mapping[str, Any]] | None = None,
    is_finished: bool = True,
    **fields: Any,
) -> Run:
    """Make a recorded run with these results; unless finished it is going, with one row to do."""
    evaluation = evaluation or make_evaluation(actor, criteria=len(marks[0]) if marks else 1)
    if rows is None:
        rows = rows_of(marks if is_finished else [*marks, ""])
    run = start_run(actor, evaluation, source=rows, target=Recorded(), **fields)
    claimed = claim_plan()
    assert claimed == run
    plan_run(claimed)
    _store(run, evaluation, marks)
    if is_finished:
        finish_run(run.pk, Run.State.COMPLETED)
    run.refresh_from_db()
    return run


def _store(run: Run, evaluation: Evaluation, marks: Sequence[str]) -> None:
    criteria = list(evaluation.criteria.order_by("position"))
    for shard in run.shards.all():
        tally = Tally()
        inside = range(shard.first_row, min(shard.first_row + shard.row_count, len(marks)))
        for index in inside:
            state = _state(marks[index])
            result = Result.objects.create(
                id=key_of(run.number, index), stored_at=STORED_AT, state=state
            )
            setattr(shard, f"{state}_count", getattr(shard, f"{state}_count") + 1)
            verdicts = {}
            for criterion, letter in zip(criteria, marks[index], strict=True):
                value, passed = MARKS[letter]
                is_errored = letter == "e"
                verdicts[criterion.name] = Verdict(
                    value,
                    passed,
                    error_code="odd_answer" if is_errored else "",
                    error_message=f"Row {index} is odd." if is_errored else "",
                    evidence=f"evidence of row {index}",
                )
                tally.judge(criterion.pk.hex, value, passed, is_errored)
            put_verdicts(result, **verdicts)
        shard.tally, shard.done_count = tally.dump(), len(inside)
        if shard.done_count == shard.row_count:
            shard.finished_at = timezone.now()
        shard.save()


def _state(marks: str) -> str:
    for letter, state in (("e", Result.State.ERRORED), ("f", Result.State.FAILED)):
        if letter in marks:
            return state
    return Result.State.PASSED if "p" in marks else Result.State.UNJUDGED
