"""Start, cancel, retry and delete runs."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.db import transaction
from django.utils import timezone

from apps.accounts.models import Actor
from apps.accounts.roles import Action
from apps.accounts.services.audit import record
from apps.datasets.models import NAME_LENGTH, DatasetVersion, File
from apps.datasets.stored_files import store_file
from apps.errors import Invalid, StateError, Unfit
from apps.evaluations.engine.close import finish_run
from apps.evaluations.engine.source import row_fault
from apps.evaluations.models import MOST_REPEATS, Evaluation, Run, new_number
from apps.evaluations.services.spending import limits_of_run
from apps.evaluations.targets import Target
from apps.evaluations.tasks import ring_on_commit
from apps.grading.graders import build_grader
from apps.grading.graders.base import InvalidSetting
from apps.grading.item_schemas import compile_schema
from apps.inference.served_models import find_judges, with_present_prices
from apps.strict_json import dump_json

INLINE_PURPOSE = "inline"
ORPHANED_AFTER = timedelta(hours=1)  # rows that no run reads


# A frozen version, an uploaded file, or rows in the request: {"item": {…}, "sample": {…}}.
RunSource = DatasetVersion | File | Sequence[Mapping[str, Any]]


def start_run(
    actor: Actor,
    evaluation: Evaluation,
    *,
    source: RunSource,
    target: Target,
    name: str = "",
    metadata: Mapping[str, str] | None = None,
    repeats: int = 1,
    on_error: str = Run.OnError.CONTINUE,
    on_empty: str = Run.OnEmpty.FAIL,
    dialect: str = "",
    spec: Mapping[str, Any] | None = None,
    fault: str | None = None,
    max_calls: int | None = None,
    budget: Decimal | None = None,
) -> Run:
    """Store a run and ring for it; planning and everything after happen in the background.

    fault: why nothing can come of it; the run is stored as failed by this, and nothing is asked.
    max_calls, budget: what it may ask and spend; None for what the account lets a run. Reached,
    no further call is made, and what is left is errored with the code `budget`.
    Rows in the request are checked now, a file's while planning. Raises Invalid with the path
    ("source", n), Unfit with ("messages",), ("reference",), ("criteria",) or ("budget",),
    UnknownModel, and ObjectDoesNotExist when the evaluation or the file has just been deleted.
    """
    actor.require(Action.EDIT, evaluation.account)
    if len(name) > NAME_LENGTH:
        raise Invalid(f"A name has at most {NAME_LENGTH} characters.", path="name")
    if not 1 <= repeats <= MOST_REPEATS:
        raise Invalid(f"repeats must be 1 to {MOST_REPEATS}, not {repeats}.", path="repeats")
    prepared = target.prepare(evaluation)
    kept = {**prepared.stored}
    if fault is None:
        kept |= judges_of(evaluation, evaluation.criteria_version)
    run = Run(
        number=new_number(),
        account=evaluation.account,
        evaluation=evaluation,
        criteria_version=evaluation.criteria_version,
        name=name or f"Run of {timezone.now():%Y-%m-%d %H:%M:%S}",
        metadata=dump_json(metadata or {}),
        model=target.model,
        target=dump_json(kept),
        endpoint=prepared.endpoint,
        repeats=repeats,
        on_error=on_error,
        on_empty=on_empty,
        **limits_of_run(evaluation.account, kept, max_calls=max_calls, budget=budget),
        dialect=dialect,
        spec=dump_json(spec or {}),
        created_by=actor.user,
    )
    if isinstance(source, DatasetVersion):
        run.source_version = source
    elif isinstance(source, File):
        run.source_file = source
    else:
        run.source_file = _keep_rows(actor, evaluation, source)
    with transaction.atomic():
        # Held until the run is there, so that neither can be deleted, and purged, beneath it.
        Evaluation.objects.present().select_for_update().get(pk=evaluation.pk)
        if run.source_file is not None:
            File.objects.present().select_for_update().get(pk=run.source_file.pk)
        run.save(force_insert=True)
        record(actor, "run.start", run, after={"name": run.name, "model": run.model})
        if fault is None:
            ring_on_commit()
        else:
            finish_run(run.pk, Run.State.FAILED, "not_runnable", fault)
            run.refresh_from_db()
    return run


def judges_of(evaluation: Evaluation, version: int) -> dict[str, Any]:
    """Find the addresses of the judges among a version's criteria. Raises UnknownModel.

    Raises Unfit for a criterion that was imported and that no grader here understands.
    """
    graders = []
    for one in evaluation.criteria.filter(version=version):
        try:
            graders.append(build_grader(one.kind, one.read_settings()))
        except InvalidSetting as error:
            message = f"The criterion {one.name!r} cannot be run here: {error.message}"
            raise Unfit(message, path="criteria") from error
    return find_judges(evaluation.account_id, graders)


def _keep_rows(actor: Actor, evaluation: Evaluation, rows: Sequence[Mapping[str, Any]]) -> File:
    """Check the rows of a request and store them as a file."""
    schema = compile_schema(evaluation.item_schema)
    for index, row in enumerate(rows):
        if fault := row_fault(row, schema):
            raise Invalid(f"Row {index}: {fault}", path=("source", index))

    def lines() -> Iterator[bytes]:
        for row in rows:
            yield dump_json(row).encode()
            yield b"\n"

    return store_file(
        actor,
        filename="rows.jsonl",
        purpose=INLINE_PURPOSE,
        chunks=lines(),
        # Nobody can delete these rows: they go with the last run that reads them.
        expires_at=timezone.now() + ORPHANED_AFTER,
        is_inline=True,
    )


@transaction.atomic
def cancel_run(actor: Actor, run: Run) -> Run:
    """Stop a run now; what is done stays. A run canceled before is returned as it is.

    Raises StateError for a run that has completed or failed.
    """
    actor.require(Action.EDIT, run.account)
    if finish_run(run.pk, Run.State.CANCELED):
        record(actor, "run.cancel", run, before={"state": run.state})
    run.refresh_from_db()
    if run.state != Run.State.CANCELED:
        raise StateError(f"This run is {run.state} and can no longer be canceled.")
    return run


def cancel_runs(runs: Any) -> None:
    """Stop each of the runs that is not over."""
    for pk in runs.unfinished().order_by("pk").values_list("pk", flat=True):
        finish_run(pk, Run.State.CANCELED)


@transaction.atomic
def delete_run(actor: Actor, run: Run) -> None:
    """Hide a run, stopped first where it is going; its rows are purged in the background."""
    actor.require(Action.EDIT, run.account)
    finish_run(run.pk, Run.State.CANCELED)
    if Run.objects.filter(pk=run.pk, deleted_at=None).update(deleted_at=timezone.now()):
        record(actor, "run.delete", run, before={"name": run.name})


def retry_errored(actor: Actor, run: Run) -> Run:
    """Start a run over the same rows that keeps finished results and asks for the rest.

    Raises StateError while the run is going, and when nothing in it is errored or missing.
    """
    actor.require(Action.EDIT, run.account)
    if not run.is_final:
        raise StateError("The run is still going: cancel it or wait until it ends.")
    if run.imported_id is not None:
        raise StateError("This run was imported: start a new one over its rows instead.")
    kept_count = run.passed_count + run.failed_count + run.unjudged_count
    if run.total_count and kept_count >= run.total_count:
        raise StateError("Nothing in this run is errored.")
    with transaction.atomic():
        # Held until its successor is there, whose planning then keeps it from being purged.
        Run.objects.present().select_for_update(of=("self",)).get(pk=run.pk)
        if run.answers_of_id is not None and not Run.objects.present().filter(pk=run.answers_of_id):
            raise StateError("The run whose answers this one graded is deleted.")
        again = successor_of(actor, run, "retry")
        again.retry_of = run
        again.answers_of_id = run.answers_of_id
        again.save(force_insert=True)
        record(actor, "run.retry", again, after={"retry_of": str(run.pk)})
        ring_on_commit()
    return again


def successor_of(actor: Actor, run: Run, reason: str) -> Run:
    """Make a run over the same source and target, by the same criteria; it is not stored yet."""
    return Run(
        number=new_number(),
        account=run.account,
        evaluation=run.evaluation,
        criteria_version=run.criteria_version,
        name=f"{run.name[: NAME_LENGTH - len(reason) - 3]} ({reason})",
        metadata=run.metadata,
        model=run.model,
        source_file=run.source_file,
        source_version=run.source_version,
        target=dump_json(with_present_prices(run.account_id, run.read_target())),
        max_calls=run.max_calls,
        budget=run.budget,
        endpoint=run.endpoint,
        repeats=run.repeats,
        on_error=run.on_error,
        on_empty=run.on_empty,
        dialect=run.dialect,
        spec=run.spec,
        created_by=actor.user,
    )
