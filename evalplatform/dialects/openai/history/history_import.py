"""Import evals, runs, output items and files that people saved of the hosted service or here."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from apps.accounts.models import Actor
from apps.accounts.roles import Action
from apps.datasets.models import File
from apps.datasets.stored_files import store_file
from apps.errors import LimitError, StateError
from apps.evaluations.models import Evaluation, Run
from apps.evaluations.services.history_import import (
    Imported,
    find_imported,
    import_evaluation,
    import_run,
)
from apps.evaluations.services.saved_history import SavedResult, SavedRun
from apps.text import quoted
from evalplatform.dialects.openai.history.saved_evals import saved_evaluation
from evalplatform.dialects.openai.history.saved_files import (
    EVAL,
    RUN,
    ImportProblem,
    ItemSpool,
    SavedFile,
    chunks_of,
    read_saved,
)
from evalplatform.dialects.openai.history.saved_items import row_index, saved_result
from evalplatform.dialects.openai.history.saved_runs import criteria_named, saved_run
from evalplatform.dialects.openai.history.saved_values import Unusable, criterion_key, id_of, own_id
from evalplatform.dialects.openai.ids import EVAL_ID, FILE_ID, RUN_ID, first_of
from evalplatform.dialects.openai.words import NAME

NAME_OF_PURPOSE = "evals"


@dataclass
class HistoryImport:
    """The outcome of an import. lost: sentences about what could not be carried."""

    evals: int = 0
    items: int = 0
    runs: list[str] = field(default_factory=list)
    imported: list[Run] = field(default_factory=list)
    files: int = 0
    known_evals: int = 0
    known_runs: int = 0
    known_files: int = 0
    problems: list[ImportProblem] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """Tell whether nothing was found to import, not even what is here already."""
        found = (self.evals, self.runs, self.files)
        return not any((*found, self.known_evals, self.known_runs, self.known_files))


@dataclass
class _Found:
    """The saved objects: evals and runs by id, output items on the spool."""

    spool: ItemSpool
    evals: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    # By eval: what its runs and items call its criteria, in order of appearance.
    named: dict[str, dict[str, None]] = field(default_factory=dict)


def import_history(actor: Actor, root: Path, *, dry_run: bool = False) -> HistoryImport:
    """Import all evals, runs, output items and files below `root`.

    What is here already stays as it is.

    dry_run: report what the import would do, and store nothing.
    """
    actor.require(Action.EDIT)
    done = HistoryImport()
    with ItemSpool() as spool:
        found = _Found(spool)
        for one in read_saved(root):
            if isinstance(one, ImportProblem):
                done.problems.append(one)
                continue
            if isinstance(one, SavedFile):
                _import_file(actor, one, done, dry_run=dry_run)
                continue
            try:
                _take(found, one)
            except Unusable as error:
                named = one.get("id") or one.get("object")
                done.problems.append(ImportProblem(str(named)[:100], f"was passed over: {error}."))
        _stand_in_for_missing(found, done)
        evaluations = dict(_import_evals(actor, found, done, dry_run=dry_run))
        for run in sorted(found.runs.values(), key=_age):
            _import_run(actor, found, evaluations, run, done, dry_run=dry_run)
    return done


def _import_file(actor: Actor, saved: SavedFile, done: HistoryImport, *, dry_run: bool) -> None:
    """Store a file under the id that it had, so that runs can name it."""
    present = File.objects.visible_to(actor).present().filter(is_inline=False)
    if first_of(present, FILE_ID.conditions(saved.id)) is not None:
        done.known_files += 1
        return
    try:
        if not dry_run:
            store_file(
                actor,
                filename=saved.path.name,
                purpose=NAME_OF_PURPOSE,
                chunks=chunks_of(saved.path),
                imported_id=saved.id,
            )
        done.files += 1
    except (LimitError, OSError) as error:
        done.problems.append(ImportProblem(saved.id, f"was passed over: {error}"))


def _take(found: _Found, sent: dict[str, Any]) -> None:
    name = id_of(sent)
    if sent["object"] == EVAL:
        found.evals.setdefault(name, sent)
        return
    eval_id = id_of(sent, "eval_id")
    named = found.named.setdefault(eval_id, {})
    if sent["object"] == RUN:
        found.runs.setdefault(name, sent)
        named.update(dict.fromkeys(criteria_named(sent)))
        return
    run_id = id_of(sent, "run_id")
    if not isinstance(sent.get("datasource_item"), dict):
        raise Unusable("its datasource_item is no object")
    found.spool.put(run_id, name, row_index(sent), sent)
    results = sent.get("results")
    for result in results if isinstance(results, list) else ():
        if isinstance(result, dict) and isinstance(result.get("name"), str):
            named[criterion_key(result["name"])] = None


def _stand_in_for_missing(found: _Found, done: HistoryImport) -> None:
    """Make runs of which only items were saved, and evals of which only runs were."""
    for run_id in found.spool.runs():
        if run_id not in found.runs:
            first = next(found.spool.items(run_id))[1]
            found.runs[run_id] = {
                "object": RUN,
                "id": run_id,
                "eval_id": first["eval_id"],
                "status": "completed",
                "created_at": first.get("created_at"),
            }
            done.lost.append(f"{run_id} was not saved itself: it is made of its output items.")
    for run in found.runs.values():
        eval_id = run["eval_id"]
        if eval_id not in found.evals:
            found.evals[eval_id] = {"id": eval_id, "created_at": run.get("created_at")}
            found.evals[eval_id]["object"] = "missing"


def _age(sent: Mapping[str, Any]) -> float:
    at = sent.get("created_at")
    return at if isinstance(at, (int, float)) else 0.0


def _import_evals(
    actor: Actor, found: _Found, done: HistoryImport, *, dry_run: bool
) -> Iterator[tuple[str, Evaluation | None]]:
    for name, sent in sorted(found.evals.items(), key=lambda pair: _age(pair[1])):
        known = find_imported(Evaluation.objects.all(), actor, name, own_id(EVAL_ID, name))
        if known is not None:
            done.known_evals += 1
            yield name, known
            continue
        if sent["object"] == "missing":
            done.lost.append(f"{name} was not saved itself: its criteria are known by name only.")
        done.evals += 1
        if dry_run:
            yield name, None
            continue
        saved = saved_evaluation(sent, [*found.named.get(name, ())])
        evaluation, lost = import_evaluation(actor, saved, dialect=NAME)
        done.lost += [f"{name} came without {thing}." for thing in lost]
        yield name, evaluation


def _import_run(
    actor: Actor,
    found: _Found,
    evaluations: Mapping[str, Evaluation | None],
    sent: dict[str, Any],
    done: HistoryImport,
    *,
    dry_run: bool,
) -> None:
    name = sent["id"]
    if find_imported(Run.objects.all(), actor, name, own_id(RUN_ID, name)) is not None:
        done.known_runs += 1
        return
    evaluation = evaluations[sent["eval_id"]]
    if dry_run or evaluation is None:
        done.runs.append(name)
        done.items += found.spool.count(name)
        return
    criteria = _keys_by_name(evaluation)
    saved, lost = saved_run(sent, criteria)
    try:
        results = _Results(found.spool, saved, criteria)
        imported = import_run(actor, evaluation, saved, results, dialect=NAME)
    except (LimitError, StateError, ValueError) as error:
        done.problems.append(ImportProblem(name, f"was passed over: {error}"))
        return
    done.runs.append(name)
    done.imported.append(imported.run)
    done.items += imported.result_count
    done.lost += [f"{name} came without {thing}." for thing in [*lost, *_misfits(saved, imported)]]


def _misfits(saved: SavedRun, imported: Imported) -> Iterator[str]:
    """Name what the output items do not bear out, and the verdicts of unknown criteria."""
    counts = imported.counts
    if saved.counts is not None:
        expected, found = sum(saved.counts.values()), imported.result_count
        if expected and not found:
            yield f"its {expected:,} output items, which were not saved; its counts are kept"
        elif expected > found:
            yield f"{expected - found:,} of its {expected:,} output items; its counts are kept"
        elif any(saved.counts.get(state, 0) != count for state, count in counts.items()):
            yield "counts that fit its output items; those that were saved are kept"
    for key in imported.unknown_criteria:
        yield f"the verdicts of {quoted(key)}, which is no criterion of its eval"


def _keys_by_name(evaluation: Evaluation) -> dict[str, str]:
    """Map what results may call a criterion to its key: the key, or a name that only one has."""
    criteria = list(evaluation.criteria.all())
    current = [one for one in criteria if one.version == evaluation.criteria_version]
    names = [criterion.name for criterion in current]
    said = {one.name: one.key for one in current if names.count(one.name) == 1}
    return {**said, **{one.key: one.key for one in criteria}}


class _Results:
    """The results of a saved run, which can be iterated more than once without holding them."""

    def __init__(self, spool: ItemSpool, run: SavedRun, criteria: Mapping[str, str]) -> None:
        self.spool, self.run, self.criteria = spool, run, criteria

    def __iter__(self) -> Iterator[SavedResult]:
        for index, sent in self.spool.items(self.run.imported_id):
            yield saved_result(sent, index, self.criteria, self.run.model)
