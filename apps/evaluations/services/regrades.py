"""Grade the answers of a finished run again, by other criteria, as a new run."""

from collections.abc import Sequence

from django.db import transaction
from django.db.models import Count, F, OuterRef, Q, Subquery

from apps.accounts.models import Actor
from apps.accounts.roles import Action
from apps.accounts.services.audit import record
from apps.errors import StateError, Unfit
from apps.evaluations.models import Result, Run, key_of
from apps.evaluations.services.criteria import check_criteria_of, hold_evaluation, keep_criteria
from apps.evaluations.services.evaluations import NewCriterion
from apps.evaluations.services.runs import judges_of, successor_of
from apps.evaluations.tasks import ring_on_commit
from apps.strict_json import dump_json


def regrade_run(actor: Actor, run: Run, *, criteria: Sequence[NewCriterion] | None = None) -> Run:
    """Start a run over the rows and answers of a finished one; only judges are asked.

    criteria: None for those that the evaluation has now. Others become a version that this run
    has; the evaluation's own stay as they are. What was not answered stays errored, with its
    reason, and so is what that run never came to. Raises StateError while the run is going or
    when nothing of it is there, Invalid as create_evaluation does, and UnknownModel.
    """
    actor.require(Action.EDIT, run.account)
    check_regradable(run)
    if criteria is not None:
        check_criteria_of(run.evaluation, criteria)
    with transaction.atomic():
        # Both held until the new run is there, whose work then keeps them from being purged.
        evaluation = hold_evaluation(run.evaluation)
        Run.objects.present().select_for_update(of=("self",)).get(pk=run.pk)
        version = evaluation.criteria_version
        if criteria is not None:
            version = keep_criteria(evaluation, criteria)
        if not evaluation.criteria.filter(version=version).exists():
            raise Unfit("There is no criterion to grade by.", path="criteria")
        kept = run.read_target()
        target = {key: kept[key] for key in kept if key != "judges"}
        again = successor_of(actor, run, "graded again")
        again.criteria_version = version
        again.target = dump_json(target | judges_of(evaluation, version))
        # To look again is to look at everything, whatever is errored.
        again.on_error = Run.OnError.CONTINUE
        again.answers_of = run
        again.save(force_insert=True)
        after = {"answers_of": str(run.pk), "criteria_version": version}
        record(actor, "run.regrade", again, after=after)
        ring_on_commit()
    return again


def check_regradable(run: Run) -> None:
    """Raise StateError for a run that is going, and for one that has no rows or no answers."""
    if not run.is_final:
        raise StateError("The run is still going: cancel it or wait until it ends.")
    if not is_regradable(run):
        raise StateError("Nothing of this run is there to be graded again.")


def is_regradable(run: Run) -> bool:
    """Tell whether the run has ended, with rows and, where a model was asked, with some answers."""
    has_answers = not run.model or Result.objects.of_run(run).exists()
    return run.is_final and run.row_count > 0 and has_answers


def differing_verdicts(old: Run, new: Run) -> tuple[int, int]:
    """Count the items that have another state in `new`, and the items that both runs have."""
    # The keys of two runs' results for one item differ by their runs' numbers alone.
    twin = Result.objects.filter(pk=OuterRef("pk") + key_of(old.number, 0) - key_of(new.number, 0))
    both = (
        Result.objects.of_run(new)
        .annotate(before=Subquery(twin.order_by().values("state")[:1]))
        .exclude(before=None)
    )
    found = both.aggregate(total=Count("pk"), differing=Count("pk", filter=~Q(state=F("before"))))
    return found["differing"], found["total"]
