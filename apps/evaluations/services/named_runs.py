"""Name evaluations, with a dataset and scorers by their names, and run them on any model."""

import re
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

from django.core.exceptions import ObjectDoesNotExist
from django.db import IntegrityError, transaction
from django.utils import timezone

from apps.accounts.models import Actor
from apps.accounts.roles import Action
from apps.accounts.services.audit import record
from apps.clients.messages import ROLES
from apps.datasets.models import DatasetVersion
from apps.datasets.reading import find_version
from apps.errors import Invalid, StateError
from apps.evaluations.models import Evaluation, Run
from apps.evaluations.services.criteria import (
    change_criteria,
    hold_evaluation,
    keep_criteria,
)
from apps.evaluations.services.evaluations import NewCriterion, create_evaluation
from apps.evaluations.services.runs import start_run
from apps.evaluations.targets import Chat
from apps.grading.graders import BUILT_IN_SCORERS, build_grader
from apps.grading.graders.base import InvalidSetting
from apps.grading.graders.sides import read_ideal
from apps.inference.models import ServedModel
from apps.inference.served_models import find_model
from apps.strict_json import dump_json, parse_json

UNKNOWN = "unknown_scorer"  # the kind of a criterion whose name means nothing yet
NAME_LENGTH = 200
# A name is part of an address. A joined emoji holds characters that are not printable either.
UNFIT_FOR_A_NAME = re.compile(r"[/\x00-\x1f\x7f-\x9f]")

_MESSAGES = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["role"],
        "properties": {"role": {"enum": sorted(ROLES)}},
    },
}
_CHOICES = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["index", "message"],
        "properties": {"message": {"type": "object", "required": ["role"]}},
    },
}
_TEXT = {"type": ["string", "null"]}
_TEXTS = {"type": "array", "items": {"type": "string"}}
# contract: docs/contracts/spice.md, sections 10.2, 10.3 and 20.
ITEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["input", "ideal"],
    "properties": {
        "input": {"anyOf": [_TEXT, _MESSAGES]},
        "ideal": {"anyOf": [_TEXT, _TEXTS, _CHOICES]},
    },
}


class UnknownDataset(ObjectDoesNotExist):
    """The evaluation's dataset does not exist, or has no frozen version."""


def find_by_name(actor: Actor, name: str) -> Evaluation | None:
    """Return the account's evaluation that is run by this name."""
    account = actor.require(Action.READ)
    return Evaluation.objects.present().filter(account=account, call_name=name).first()


def scorer_names(evaluation: Evaluation) -> list[str]:
    """List the names of its scorers, in order; where it has none, those of its criteria."""
    names = evaluation.read_scorers()
    if names is not None:
        return names
    return [one.name for one in evaluation.criteria_of(evaluation.criteria_version)]


def name_evaluation(
    actor: Actor,
    *,
    call_name: str,
    dataset_name: str,
    scorers: Sequence[str] = (),
    criteria: Sequence[NewCriterion] | None = None,
    item_schema: dict[str, Any] = ITEM_SCHEMA,
    description: str = "",
    dialect: str = "",
) -> Evaluation:
    """Create the evaluation of this name, or change the one there is; past runs keep theirs.

    Neither the dataset nor the scorers need to be there yet. criteria: take the place of scorers.
    dialect: of a new one. Raises Invalid, and Unfit as `create_evaluation` does.
    """
    account = actor.require(Action.EDIT)
    if not 0 < len(call_name) <= NAME_LENGTH or UNFIT_FOR_A_NAME.search(call_name):
        raise Invalid(
            f"A name has 1 to {NAME_LENGTH} characters, neither a slash nor control characters, "
            f"unlike {call_name[:60]!r}.",
            path="call_name",
        )
    changes = {
        "description": description,
        "dataset_name": dataset_name,
        "scorers": dump_json(list(scorers)) if criteria is None else "",
    }
    named = Evaluation.objects.present().filter(account=account, call_name=call_name)
    with transaction.atomic():
        evaluation = named.select_for_update().first()
        if evaluation is None:
            evaluation = create_evaluation(
                actor,
                criteria=criteria or [],
                name=call_name,
                item_schema=item_schema,
                has_sample=True,
                dialect=dialect,
            )
            changes["call_name"] = call_name
        for field, value in changes.items():
            setattr(evaluation, field, value)
        evaluation.updated_at = timezone.now()
        # One that was made before may have an older one.
        evaluation.item_schema = dump_json(item_schema)
        try:
            evaluation.save(update_fields=[*changes, "item_schema", "updated_at"])
        except IntegrityError as error:
            raise StateError(f"Somebody else has just named an eval {call_name!r}.") from error
        _criteria_version(evaluation, choices=False)
        if criteria is not None:
            change_criteria(actor, evaluation, criteria)
        record(actor, "evaluation.name", evaluation, after=changes)
    return evaluation


def start_run_by_name(actor: Actor, evaluation: Evaluation, *, model: str) -> Run:
    """Start a run of a model over the evaluation's dataset, with its scorers as they are now.

    The first row that cannot be answered or scored fails the run; one whose scorer is unknown or
    has a broken prompt has failed when it starts. Raises UnknownModel and UnknownDataset.
    """
    actor.require(Action.EDIT, evaluation.account)
    find_model(evaluation.account_id, model)
    try:
        source = find_version(evaluation.account_id, evaluation.dataset_name)
    except ObjectDoesNotExist as error:
        raise UnknownDataset(str(error)) from error
    with transaction.atomic():
        evaluation = hold_evaluation(evaluation)
        fault = _criteria_version(evaluation, choices=_answers_in_choices(source))
        return start_run(
            actor,
            evaluation,
            source=source,
            target=Chat(model, reference="item.input", takes_text=True),
            name=f"{evaluation.call_name} · {model}",
            on_error=Run.OnError.FAIL,
            on_empty=Run.OnEmpty.COMPLETE,
            fault=fault,
        )


def _answers_in_choices(source: DatasetVersion) -> bool:
    """Tell whether the first row expects a list of choices; then every reply keeps its own."""
    first = source.cases().values_list("item", flat=True).first()
    return first is not None and isinstance(read_ideal(parse_json(first).get("ideal")), list)


def _criteria_version(evaluation: Evaluation, *, choices: bool) -> str | None:
    """Make the scorers the current version of a locked evaluation's criteria.

    Returns why nothing can be scored, if so.
    """
    names = evaluation.read_scorers()
    if names is None:
        return None
    wanted = [*_resolve(evaluation.account_id, names, choices=choices)]
    version = keep_criteria(evaluation, wanted)
    if version != evaluation.criteria_version:
        evaluation.criteria_version = version
        evaluation.save(update_fields=["criteria_version"])
    return next(filter(None, map(_fault_of, wanted)), None)


def _fault_of(scorer: NewCriterion) -> str | None:
    if scorer.kind == UNKNOWN:
        return f"The scorer {scorer.name!r} does not exist."
    try:
        build_grader(scorer.kind, scorer.settings)
    except InvalidSetting as error:
        return f"The scorer {scorer.name!r} cannot be used: {error.message}"
    return None


def _resolve(account_id: UUID, names: Sequence[str], *, choices: bool) -> Iterator[NewCriterion]:
    """Resolve each name to a scorer of ours, an embedding model, or a model that judges."""
    models = {
        model.name: model
        for model in ServedModel.objects.filter(
            account_id=account_id, name__in=set(names), endpoint__disabled_at=None
        )
    }
    answer = "{{ sample.choices }}" if choices else "{{ sample.output_text }}"
    sides = {"input": answer, "reference": "{{ item.ideal }}", "choices": True}
    for name in names:
        model = models.get(name)
        if name in BUILT_IN_SCORERS:
            yield NewCriterion(name, name, sides)
        elif model is None:
            yield NewCriterion(UNKNOWN, name)
        elif model.kind == ServedModel.Kind.EMBEDDING:
            yield NewCriterion("embedding_distance", name, {"model": name, **sides})
        else:
            asked = {
                "model": name,
                "prompt": model.system_prompt,
                "is_template": model.prompt_is_template,
                "params": parse_json(model.params),
                "actual": answer,
                "choices": True,
            }
            yield NewCriterion("prompt_judge", name, asked)
