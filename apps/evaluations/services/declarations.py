"""Store datasets, models and evaluations that are declared together, all of them or none."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import TypeVar

from django.db import transaction

from apps.accounts.models import Actor
from apps.accounts.roles import Action
from apps.datasets.bulk_insert import Body, Fill
from apps.datasets.import_export import begin_import, show_version
from apps.datasets.models import Dataset
from apps.datasets.row_readers import RowFile
from apps.datasets.unpacking import BadFile
from apps.errors import Invalid, Refusal, StateError
from apps.evaluations.models import Evaluation
from apps.evaluations.services.named_runs import name_evaluation
from apps.grading.graders import BUILT_IN_SCORERS
from apps.grading.prompts import BadPrompt, compile_prompt
from apps.inference.declared_models import DeclaredModel, declare_models, names_of_models
from apps.strict_json import dump_json

LOOK_ROWS = 500
LEFT_OUT = "it is left out, since nothing that is declared uses it"

T = TypeVar("T")


@dataclass(frozen=True)
class DeclaredDataset:
    """A name and the rows that become the dataset's next version, each an item.

    nullable: fields that are null in a row without them, once some other row has them. fields: the
    only ones that are taken, each of which some row has, or None for all. limit: take so many rows.
    optional: leave it out with a warning where its rows cannot be read.
    """

    name: str
    file: RowFile
    nullable: Sequence[str] = ()
    fields: Sequence[str] | None = None
    limit: int | None = None
    optional: bool = False


@dataclass(frozen=True)
class DeclaredEvaluation:
    """An evaluation that programs run by name; its dataset and scorers need not be there yet."""

    name: str
    dataset_name: str
    scorers: Sequence[str]
    description: str = ""


@dataclass(frozen=True)
class Declarations:
    """All that is declared. Names are unique among datasets, among models and among evaluations."""

    datasets: Sequence[DeclaredDataset] = ()
    models: Sequence[DeclaredModel] = ()
    evaluations: Sequence[DeclaredEvaluation] = ()


@dataclass(frozen=True)
class Stored:
    """A declared thing as it was stored. what: dataset, model, embedding model or evaluation."""

    what: str
    name: str
    is_new: bool
    detail: str

    def line(self, *, dry_run: bool = False) -> str:
        """Put a text on one line."""
        done = "created" if self.is_new else "replaced"
        return f"{self.what} {self.name!r} {'would be ' if dry_run else ''}{done}: {self.detail}"


@dataclass
class Declared:
    stored: list[Stored] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def declare(actor: Actor, declarations: Declarations, *, dry_run: bool = False) -> Declared:
    """Store everything that is declared, in place of what has the same names.

    What is not declared stays; runs keep the version of the rows they began with. Nothing is seen
    before the one transaction at the end, and a dry run does all the same and takes it back.
    Raises Invalid, StateError and BadFile's text as Invalid; then nothing is stored.
    """
    actor.require(Action.MANAGE if declarations.models else Action.EDIT)
    with ExitStack() as stack:
        filled: list[_Filled] = []
        left_out: list[str] = []
        nulls = [_try(one, partial(_nulls, one), left_out) for one in declarations.datasets]
        for one, fields in zip(declarations.datasets, nulls, strict=True):
            if fields is None:
                continue
            fill = _try(one, partial(begin_import, actor, into=one.name), left_out)
            if fill is None:
                continue
            stack.callback(fill.abandon)
            earlier = [each.fill for each in filled]
            work = partial(_fill, fill, earlier, one, fields, dry_run=dry_run)
            count = _try(one, work, left_out)
            if count is None:
                fill.abandon()
            else:
                filled.append(_Filled(one, fill, count))
        with transaction.atomic():
            declared = _store(actor, declarations, filled)
            transaction.set_rollback(dry_run)
        declared.warnings[:0] = left_out
        if not dry_run:
            stack.pop_all()
    return declared


@dataclass(frozen=True)
class _Filled:
    """A dataset whose rows are there, unseen yet."""

    declared: DeclaredDataset
    fill: Fill
    count: int


def _try(one: DeclaredDataset, work: Callable[[], T], left_out: list[str]) -> T | None:
    """Return what the work makes of a dataset; None, and a warning, for one that is left out."""
    try:
        return work()
    except (Refusal, StateError) as error:
        if not one.optional:
            raise
        reason = error.messages[0] if isinstance(error, Refusal) else str(error)
        left_out.append(f"{reason.removesuffix('.')}: {LEFT_OUT}")
        return None


def _rows(one: DeclaredDataset) -> Iterator[dict]:
    try:
        yield from one.file.rows()
    except BadFile as error:
        raise Invalid(f"The dataset {one.name!r}: {error}.", path="datasets") from error


def _chosen(one: DeclaredDataset) -> Iterator[dict]:
    """Yield the rows as they are declared: as many, and with those fields."""
    rows = islice(_rows(one), one.limit)
    if one.fields is None:
        return rows
    fields = one.fields
    return ({name: row.get(name) for name in fields} for row in rows)


def _nulls(one: DeclaredDataset) -> dict[str, None]:
    """Find the nullable fields that some row has; they are null in rows without them.

    Before the rows are stored, since a first row may lack what the last one has; most often the
    first row tells all. Raises Invalid for a field to be taken that no row has.
    """
    unseen = {*one.nullable, *(one.fields or ())}
    for row in _rows(one):
        unseen -= row.keys()
        if not unseen:
            break
    if missing := [name for name in one.fields or () if name in unseen]:
        message = f"The dataset {one.name!r}: {one.file.label} has no column {missing[0]!r}."
        raise Invalid(message, path="datasets")
    if one.fields is not None:
        return {}
    return {name: None for name in one.nullable if name not in unseen}


def _fill(
    fill: Fill,
    earlier: Sequence[Fill],
    one: DeclaredDataset,
    nulls: dict[str, None],
    *,
    dry_run: bool,
) -> int:
    """Insert a dataset's rows, renewing the leases of the fills before it; return how many."""
    count = 0
    for row in _chosen(one):
        if not dry_run:
            fill.add(Body(dump_json(row if nulls.keys() <= row.keys() else row | nulls | row)))
        count += 1
        if count % LOOK_ROWS == 0:
            _keep([*earlier, fill])
    fill.flush()
    _keep([*earlier, fill])
    return count


def _keep(fills: Sequence[Fill]) -> None:
    for fill in fills:
        fill.keep()


def _store(actor: Actor, declarations: Declarations, filled: Sequence[_Filled]) -> Declared:
    declared = Declared()
    for each in filled:
        version = show_version(actor, each.fill)
        rows = "1 row" if each.count == 1 else f"{each.count:,} rows"
        is_new = each.fill.dataset.deleted_at is not None
        detail = f"{rows}, version {version.num}, read as {each.declared.file.told}"
        declared.stored.append(Stored("dataset", each.declared.name, is_new, detail))
    _store_models(actor, declarations.models, declared)
    _store_evaluations(actor, declarations.evaluations, declared)
    return declared


def _store_models(actor: Actor, models: Sequence[DeclaredModel], declared: Declared) -> None:
    if not models:
        return
    put_models, refused = declare_models(actor, models)
    declared.warnings.extend(f"{reason.removesuffix('.')}: {LEFT_OUT}" for reason in refused)
    for put in put_models:
        row = put.row
        what = "embedding model" if row.kind == row.Kind.EMBEDDING else "model"
        detail = f"{(row.upstream_name or row.name)!r} at {row.endpoint.base_url}"
        declared.stored.append(Stored(what, row.name, put.is_new, detail))
        if put.was_registered:
            declared.warnings.append(
                f"{what} {row.name!r} was registered already: whoever asks it gets what is "
                "declared here from now on"
            )
        if row.prompt_is_template and (fault := _fault_of(row.system_prompt)):
            declared.warnings.append(
                f"{what} {row.name!r}: its prompt is no template that can be filled in, and a run "
                f"that it judges fails: {fault}"
            )


def _fault_of(prompt: str) -> str | None:
    try:
        compile_prompt(prompt)
    except BadPrompt as error:
        return str(error)
    return None


def _store_evaluations(
    actor: Actor, evaluations: Sequence[DeclaredEvaluation], declared: Declared
) -> None:
    account = actor.require(Action.EDIT)
    names = {one.name for one in evaluations}
    present = set(
        Evaluation.objects.present()
        .filter(account=account, call_name__in=names)
        .values_list("call_name", flat=True)
    )
    scorers = {scorer for one in evaluations for scorer in one.scorers}
    known = {*BUILT_IN_SCORERS, *names_of_models(account, scorers)}
    wanted = {one.dataset_name for one in evaluations}
    datasets = set(
        Dataset.objects.present()
        .filter(account=account, name__in=wanted, archived_at=None, latest_num__gt=0)
        .values_list("name", flat=True)
    )
    for one in evaluations:
        name_evaluation(
            actor,
            call_name=one.name,
            description=one.description,
            dataset_name=one.dataset_name,
            scorers=list(one.scorers),
        )
        scorers_told = ", ".join(map(repr, one.scorers)) or "no scorers"
        detail = f"the dataset {one.dataset_name!r} by {scorers_told}"
        declared.stored.append(Stored("evaluation", one.name, one.name not in present, detail))
        if one.dataset_name not in datasets:
            declared.warnings.append(
                f"evaluation {one.name!r}: there is no dataset {one.dataset_name!r} yet, and a run "
                "is refused without it"
            )
        declared.warnings.extend(
            f"evaluation {one.name!r}: there is no scorer {scorer!r}, and a run fails without it"
            for scorer in dict.fromkeys(one.scorers)
            if scorer not in known
        )
