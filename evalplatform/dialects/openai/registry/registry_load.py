"""Load the evals of a registry: a dataset and an evaluation each, and a file where wanted."""

from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from django.core.exceptions import ValidationError

from apps.accounts.models import Actor
from apps.accounts.roles import Action
from apps.datasets.import_export import import_cases
from apps.datasets.models import DatasetVersion
from apps.datasets.reading import read_cases
from apps.datasets.stored_files import store_file
from apps.datasets.tabular import Row, write_jsonl
from apps.errors import LimitError, StateError
from apps.evaluations.services.evaluations import check_criteria, check_judges
from apps.evaluations.services.named_runs import name_evaluation
from evalplatform.dialects.openai.ids import EVAL_ID, FILE_ID
from evalplatform.dialects.openai.registry.registry_criteria import Plan, plan_of
from evalplatform.dialects.openai.registry.registry_files import NotLoaded, Registry, RegistryEval
from evalplatform.dialects.openai.words import NAME

ITEM_SCHEMA = {"type": "object"}
PURPOSE = "evals"


@dataclass(frozen=True)
class LoadedEval:
    """An eval as it was loaded. eval_id, file_id: as its clients name them, "" for none."""

    name: str
    row_count: int
    criteria: tuple[str, ...]
    eval_id: str = ""
    file_id: str = ""


@dataclass
class LoadedRegistry:
    """The outcome of a load. problems: what was not loaded, by name, and why."""

    loaded: list[LoadedEval] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)


def load_registry(
    actor: Actor,
    root: Path,
    *,
    only: Container[str] = (),
    judge: str = "",
    with_files: bool = False,
    dry_run: bool = False,
) -> LoadedRegistry:
    """Load each eval that can be; one that cannot is named with the reason.

    only: names of evals, or of none for all. judge: the model that judges where one does.
    with_files: also keep the rows as a file, which runs can name. Raises NotLoaded where there is
    no registry.
    """
    actor.require(Action.EDIT)
    registry, done = Registry(root), LoadedRegistry()
    for one in registry.evals():
        if only and one.name not in only:
            continue
        try:
            plan = plan_of(registry, one, judge)
            done.loaded.append(_load(actor, registry, one, plan, with_files, dry_run))
        except (NotLoaded, StateError, LimitError) as error:
            done.problems.append((one.name, str(error)))
        except ValidationError as error:
            done.problems.append((one.name, " ".join(error.messages)))
    done.problems[:0] = registry.problems if not only else []
    return done


def _load(
    actor: Actor,
    registry: Registry,
    one: RegistryEval,
    plan: Plan,
    with_files: bool,
    dry_run: bool,
) -> LoadedEval:
    graders = check_criteria(plan.criteria, ITEM_SCHEMA)
    check_judges(actor.require(Action.EDIT).pk, graders)
    kinds = tuple(criterion.kind for criterion in plan.criteria)
    if dry_run:
        count = sum(1 for _ in plan.rows(registry, one))
        return LoadedEval(one.name, count, kinds)
    rows = (Row(number, row) for number, row in enumerate(plan.rows(registry, one), start=1))
    version = import_cases(actor, into=one.name, rows=rows, flat=True)
    evaluation = name_evaluation(
        actor,
        call_name=one.name,
        dataset_name=one.name,
        criteria=plan.criteria,
        item_schema=ITEM_SCHEMA,
        description=one.description,
        dialect=NAME,
    )
    file_id = ""
    if with_files:
        file = store_file(
            actor,
            filename=f"{one.name}.jsonl",
            purpose=PURPOSE,
            chunks=write_jsonl(_items(version)),
        )
        file_id = FILE_ID.of(file)
    return LoadedEval(one.name, version.case_count, kinds, EVAL_ID.of(evaluation), file_id)


def _items(version: DatasetVersion) -> Iterator[dict]:
    return ({"item": item} for item, _ in read_cases(version))
