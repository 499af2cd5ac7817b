"""Find runs and evaluations by id, with what a poll shows of them and nothing that is long."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from django.db.models import QuerySet

from apps.accounts.models import Actor
from apps.evaluations.models import Evaluation, Run
from apps.evaluations.targets import Target, target_of_run
from apps.kept import Kept
from apps.prepared import Prepared, PreparedPages

# Left out is what a poll does not show or what never changes; read, it is fetched by itself.
LEFT_OUT = {
    *("target", "spec", "endpoint_id", "plan_token", "plan_until", "plan_attempts"),
    *("on_error", "on_empty", "max_calls", "budget", "dialect", "created_by_id", "deleted_at"),
    *("retry_of_id", "finished_at", "updated_at"),
}
RUN = [field.attname for field in Run._meta.concrete_fields if field.attname not in LEFT_OUT]
EVALUATION = ("id", "account_id", "dialect", "imported_id")
WHOLE_EVALUATION = [field.attname for field in Evaluation._meta.concrete_fields]


def _runs(account_id: Any, **conditions: Any) -> QuerySet[Run, tuple[Any, ...]]:
    runs = Run.objects.owned_by(account_id).present().filter(**conditions)
    related = (f"evaluation__{name}" for name in EVALUATION)
    return runs.order_by().values_list(*RUN, *related)


def _evaluations(account_id: Any, **conditions: Any) -> QuerySet[Evaluation, tuple[Any, ...]]:
    evaluations = Evaluation.objects.owned_by(account_id).present().filter(**conditions)
    return evaluations.order_by().values_list(*EVALUATION)


def _whole(account_id: Any, **conditions: Any) -> QuerySet[Evaluation, tuple[Any, ...]]:
    evaluations = Evaluation.objects.owned_by(account_id).present().filter(**conditions)
    return evaluations.order_by().values_list(*WHOLE_EVALUATION)


_RUN_BY = {
    "pk": Prepared(lambda account_id, value: _runs(account_id, pk=value)),
    "imported_id": Prepared(lambda account_id, value: _runs(account_id, imported_id=value)),
}
_EVALUATION_BY = {
    "pk": Prepared(lambda account_id, value: _evaluations(account_id, pk=value)),
    "imported_id": Prepared(lambda account_id, value: _evaluations(account_id, imported_id=value)),
}
_RUNS_OF = PreparedPages(
    lambda account_id, evaluation_id: _runs(account_id, evaluation=evaluation_id),
    ("created_at", "id"),
)
_WHOLE_BY = {
    "pk": Prepared(lambda account_id, value: _whole(account_id, pk=value)),
    "imported_id": Prepared(lambda account_id, value: _whole(account_id, imported_id=value)),
}
_EVALUATIONS_BY = {
    field: PreparedPages(lambda account_id: _whole(account_id), (field, "id"))
    for field in ("created_at", "updated_at")
}
_TARGETS: Kept[Target] = Kept(4 * 1024 * 1024)
TARGET_BYTES = 4_000  # about, beside the text it is read from


def read_target(run: Run) -> Target:
    """Return the target that a run was started with, which never changes."""
    return _TARGETS.get_or_make(
        run.pk, lambda: (target_of_run(run), TARGET_BYTES + 4 * len(run.target))
    )


def find_run(actor: Actor, ids: Mapping[str, Any]) -> Run | None:
    """Find a present run of the actor's accounts by one of these ids, tried in their order.

    ids: by the name of the field, `pk` or `imported_id`. The run's longest fields are not loaded,
    and of its evaluation no more than EVALUATION.
    """
    row = _found(_RUN_BY, actor, ids)
    return None if row is None else _run(row)


def find_evaluation(actor: Actor, ids: Mapping[str, Any]) -> Evaluation | None:
    """Find a present evaluation as `find_run` finds a run, with no more of it than EVALUATION."""
    row = _found(_EVALUATION_BY, actor, ids)
    return None if row is None else Evaluation.from_db(Prepared.alias, EVALUATION, row)


def find_whole_evaluation(actor: Actor, ids: Mapping[str, Any]) -> Evaluation | None:
    """Find a present evaluation as `find_evaluation` does, with all of its fields."""
    row = _found(_WHOLE_BY, actor, ids)
    return None if row is None else Evaluation.from_db(Prepared.alias, WHOLE_EVALUATION, row)


def evaluations_of(
    account_id: UUID, order: str, place: Sequence[Any] | None, *, descending: bool, limit: int
) -> list[Evaluation]:
    """Return present evaluations of an account, with all of their fields.

    order: `created_at` or `updated_at`. place: that and the id of the one before.
    """
    rows = _EVALUATIONS_BY[order].rows(
        place, descending=descending, limit=limit, account_id=account_id
    )
    return [Evaluation.from_db(Prepared.alias, WHOLE_EVALUATION, row) for row in rows]


def runs_of(
    evaluation: Evaluation, place: Sequence[Any] | None, *, descending: bool, limit: int
) -> list[Run]:
    """Return present runs of an evaluation by their creation, loaded as `find_run` loads them.

    place: created_at and id of the one before.
    """
    rows = _RUNS_OF.rows(
        place,
        descending=descending,
        limit=limit,
        account_id=evaluation.account_id,
        evaluation_id=evaluation.pk,
    )
    return [_run(row) for row in rows]


def _run(row: Sequence[Any]) -> Run:
    run = Run.from_db(Prepared.alias, RUN, row[: len(RUN)])
    run.evaluation = Evaluation.from_db(Prepared.alias, EVALUATION, row[len(RUN) :])
    return run


def _found(
    statements: Mapping[str, Prepared], actor: Actor, ids: Mapping[str, Any]
) -> tuple[Any, ...] | None:
    found = (
        statements[name].first(account_id=account_id, value=value)
        for name, value in ids.items()
        for account_id in actor.account_ids
    )
    return next((row for row in found if row is not None), None)
