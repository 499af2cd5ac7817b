"""Find a run by its id, with what a poll shows of it and nothing that is long."""

from collections.abc import Iterator, Mapping
from typing import Any

from django.db.models import QuerySet

from apps.accounts.models import Actor
from apps.evaluations.models import Evaluation, Run
from apps.evaluations.targets import Target, target_of_run
from apps.kept import Kept
from apps.prepared import Prepared

# Left out is what a poll does not show or what never changes; read, it is fetched by itself.
LEFT_OUT = {
    *("target", "spec", "endpoint_id", "plan_token", "plan_until", "plan_attempts"),
    *("on_error", "on_empty", "max_calls", "budget", "dialect", "created_by_id", "deleted_at"),
    *("retry_of_id", "finished_at", "updated_at"),
}
RUN = [field.attname for field in Run._meta.concrete_fields if field.attname not in LEFT_OUT]
EVALUATION = ("id", "dialect", "imported_id")


def _runs(account_id: Any, **conditions: Any) -> QuerySet[Run, tuple[Any, ...]]:
    runs = Run.objects.owned_by(account_id).present().filter(**conditions)
    related = (f"evaluation__{name}" for name in EVALUATION)
    return runs.order_by().values_list(*RUN, *related)


_BY = {
    "pk": Prepared(lambda account_id, value: _runs(account_id, pk=value)),
    "imported_id": Prepared(lambda account_id, value: _runs(account_id, imported_id=value)),
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
    and of its evaluation no more than its ids and its dialect.
    """
    return next(_found(actor, ids), None)


def _found(actor: Actor, ids: Mapping[str, Any]) -> Iterator[Run]:
    for name, value in ids.items():
        statement = _BY[name]
        for account_id in actor.account_ids:
            row = statement.first(account_id=account_id, value=value)
            if row is not None:
                run = Run.from_db(statement.alias, RUN, row[: len(RUN)])
                run.evaluation = Evaluation.from_db(statement.alias, EVALUATION, row[len(RUN) :])
                yield run
