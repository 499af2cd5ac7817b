"""Create, change and delete evaluations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

from django.db import transaction
from django.utils import timezone

from apps.accounts.models import Actor
from apps.accounts.roles import Action
from apps.accounts.services.audit import record
from apps.datasets.models import NAME_LENGTH
from apps.errors import Invalid, Path, Problem, Unfit
from apps.evaluations.models import Criterion, Evaluation, Run
from apps.evaluations.services.runs import cancel_runs
from apps.grading.graders import build_grader
from apps.grading.graders.base import Grader, InvalidSetting
from apps.grading.item_schemas import BadSchema, check_item_schema
from apps.grading.templating import unknown_variables
from apps.ids import new_id
from apps.inference.served_models import EMBEDDING, UnknownModel, find_judges
from apps.strict_json import dump_json


@dataclass(frozen=True)
class NewCriterion:
    """A criterion that is not stored yet: a kind of grader, a name and the grader's settings."""

    kind: str
    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)


def create_evaluation(
    actor: Actor,
    *,
    criteria: Sequence[NewCriterion],
    name: str = "",
    metadata: Mapping[str, str] | None = None,
    item_schema: dict[str, Any] | None = None,
    has_sample: bool = False,
    dialect: str = "",
    spec: Mapping[str, Any] | None = None,
) -> Evaluation:
    """Create an evaluation. An empty name is replaced by one that tells the time.

    Raises Invalid with the path ("item_schema",) or ("criteria", n, <setting>), and Unfit for a
    judge whose model the account does not reach.
    """
    account = actor.require(Action.EDIT)
    schema = item_schema if item_schema is not None else {}
    try:
        schema_text = check_item_schema(schema)
    except BadSchema as error:
        raise Invalid(str(error), path="item_schema") from error
    graders = check_criteria(criteria, schema)
    check_judges(account.pk, graders)
    if len(name) > NAME_LENGTH:
        raise Invalid(f"A name has at most {NAME_LENGTH} characters.", path="name")
    with transaction.atomic():
        evaluation = Evaluation.objects.create(
            account=account,
            name=name or f"Evaluation of {timezone.now():%Y-%m-%d %H:%M}",
            metadata=dump_json(metadata or {}),
            item_schema=schema_text,
            has_sample=has_sample,
            dialect=dialect,
            spec=dump_json(spec or {}),
            created_by=actor.user,
        )
        store_criteria(evaluation, criteria, version=1)
        record(actor, "evaluation.create", evaluation, after={"name": evaluation.name})
    return evaluation


def check_judges(account_id: UUID, graders: Sequence[Grader]) -> None:
    """Raise Unfit for a judge whose model the account does not reach."""
    try:
        find_judges(account_id, graders)
    except UnknownModel as error:
        field = "model" if error.name != EMBEDDING else "metric"
        path = ("criteria", error.position or 0, field)
        raise Unfit(str(error), path=path, code="model_not_found") from error


def check_criteria(criteria: Sequence[NewCriterion], item_schema: Any) -> list[Grader]:
    """Build the graders of criteria. Raises Invalid with a problem for each that cannot judge."""
    graders: list[Grader] = []
    problems: list[Problem] = []
    for index, criterion in enumerate(criteria):
        path = ("criteria", index)
        try:
            grader = build_grader(criterion.kind, criterion.settings)
        except InvalidSetting as error:
            problems.append(Problem(error.message, (*path, *error.path), error.code))
            continue
        graders.append(grader)
        for template in grader.templates():
            if unknown := unknown_variables(template, item_schema, True):
                message = (
                    f"{{{{ {unknown[0]} }}}} names nothing that an item of this evaluation has."
                )
                problems.append(Problem(message, _path_to(template, criterion.settings, path)))
    if problems:
        raise Invalid(problems)
    return graders


def _path_to(template: str, settings: Mapping[str, Any], path: Path) -> Path:
    """Return the path to the setting that is this template, else to the criterion."""
    return next(((*path, key) for key, value in settings.items() if value == template), path)


def store_criteria(
    evaluation: Evaluation, criteria: Sequence[NewCriterion], *, version: int
) -> None:
    Criterion.objects.bulk_create(
        Criterion(
            id=new_id(),
            evaluation=evaluation,
            version=version,
            position=position,
            key=f"{criterion.name}-{uuid4()}",
            kind=criterion.kind,
            name=criterion.name,
            settings=dump_json(criterion.settings),
        )
        for position, criterion in enumerate(criteria)
    )


@transaction.atomic
def update_evaluation(
    actor: Actor,
    evaluation: Evaluation,
    *,
    name: str | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Evaluation:
    """Rename, or replace the metadata as a whole; None leaves a thing as it is."""
    actor.require(Action.EDIT, evaluation.account)
    if name is None and metadata is None:
        return evaluation
    before = {"name": evaluation.name, "metadata": evaluation.metadata}
    if name is not None:
        evaluation.name = name
    if metadata is not None:
        evaluation.metadata = dump_json(metadata)
    evaluation.updated_at = timezone.now()
    evaluation.save(update_fields=["name", "metadata", "updated_at"])
    after = {"name": evaluation.name, "metadata": evaluation.metadata}
    record(actor, "evaluation.update", evaluation, before=before, after=after)
    return evaluation


@transaction.atomic
def delete_evaluation(actor: Actor, evaluation: Evaluation) -> None:
    """Hide an evaluation with its runs, and stop those that are going."""
    actor.require(Action.EDIT, evaluation.account)
    if Evaluation.objects.filter(pk=evaluation.pk, deleted_at=None).update(
        deleted_at=timezone.now()
    ):
        record(actor, "evaluation.delete", evaluation, before={"name": evaluation.name})
    # Afterwards: a run that was just being started is there by now, and no other can be.
    cancel_runs(Run.objects.filter(evaluation=evaluation))
