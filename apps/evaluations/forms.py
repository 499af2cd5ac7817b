"""Forms in which people write criteria and try them, before they keep them or grade by them."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from typing import Any

from django import forms
from django.core.exceptions import ObjectDoesNotExist
from django.db.models import F

from apps.accounts.models import Actor
from apps.datasets.models import DatasetVersion
from apps.datasets.row_readers import open_rows
from apps.datasets.tabular import BadRow, Row
from apps.datasets.unpacking import BadFile
from apps.errors import Invalid, LimitError, Problem, Refusal, StateError, Unfit, dotted
from apps.evaluations.models import Evaluation, Result, Run
from apps.evaluations.reports import ModelUsage
from apps.evaluations.services.criteria import change_criteria, read_criteria, write_criteria
from apps.evaluations.services.estimates import Estimate, estimate_regrade
from apps.evaluations.services.evaluations import NewCriterion
from apps.evaluations.services.previews import ROWS, PreviewSource, try_criteria, usage_of
from apps.evaluations.services.quick_judging import Preview
from apps.evaluations.services.regrades import regrade_run
from apps.grading.graders.base import Fault, Mark
from apps.strict_json import dump_json

OFFERED = 30  # newest runs, and newest datasets
EXCERPT = 400  # characters of an item or an answer
PASTED = 1_000_000  # characters at most
COUNTS = (5, 10, ROWS)
RUN, DATASET, PASTE = "run", "dataset", "rows"
REFUSALS = (Refusal, ObjectDoesNotExist, StateError, LimitError)


@dataclass(frozen=True)
class TriedMark:
    """A criterion's mark on a row. state: a word of Result.State."""

    name: str
    state: str
    mark: Mark


@dataclass(frozen=True)
class TriedRow:
    """A row as it would be judged. fault: why it has no answer."""

    number: int
    repeat: int
    state: str
    item: str
    answer: str
    fault: Fault | None
    marks: Sequence[TriedMark]


@dataclass(frozen=True)
class Trial:
    """The marks of a trial of criteria, and the calls of models that it took."""

    names: Sequence[str]
    rows: Sequence[TriedRow]
    usage: Sequence[ModelUsage]

    @classmethod
    def of(cls, criteria: Sequence[NewCriterion], previews: Sequence[Preview]) -> "Trial":
        names = [criterion.name for criterion in criteria]
        usage = sorted(usage_of(previews).items())
        return cls(
            names,
            [_row(names, preview) for preview in previews],
            [ModelUsage(model, *counts) for model, counts in usage],
        )


def _row(names: Sequence[str], preview: Preview) -> TriedRow:
    row, sample, outcome = preview.row, preview.answer.sample or {}, preview.outcome
    answer = sample.get("output_text") or sample.get("output_tools") or ""
    marks = [one.mark for one in outcome.judged]
    return TriedRow(
        number=row.index,
        repeat=outcome.repeat,
        state=outcome.state,
        item=dump_json(row.item)[:EXCERPT],
        answer=(answer if isinstance(answer, str) else dump_json(answer))[:EXCERPT],
        fault=outcome.fault,
        marks=[TriedMark(*pair) for pair in zip(names, map(_state, marks), marks, strict=True)],
    )


def _state(mark: Mark) -> str:
    if mark.errored:
        return Result.State.ERRORED
    if mark.passed is None:
        return Result.State.UNJUDGED
    return Result.State.PASSED if mark.passed else Result.State.FAILED


class CriteriaForm(forms.Form):
    """Criteria of an evaluation as JSON, and how many rows to try them on."""

    criteria = forms.CharField(
        max_length=PASTED,
        widget=forms.Textarea(attrs={"rows": 12, "cols": 90, "spellcheck": "false"}),
        help_text="A JSON array: each criterion an object with type, name and its settings.",
    )
    count = forms.TypedChoiceField(
        label="Try on the first",
        coerce=int,
        choices=[(count, f"{count} rows") for count in COUNTS],
    )

    def __init__(self, actor: Actor, evaluation: Evaluation, *args: Any, **fields: Any) -> None:
        self.actor, self.evaluation = actor, evaluation
        self.trial: Trial | None = None
        shown = evaluation.criteria.filter(version=self.shown_version())
        fields.setdefault("initial", {}).setdefault("criteria", write_criteria(shown))
        super().__init__(*args, **fields)
        for field in self.fields.values():
            is_long = isinstance(field.widget, forms.Textarea)
            field.widget.attrs["class"] = "input mono" if is_long else "input"

    def shown_version(self) -> int:
        return self.evaluation.criteria_version

    def source(self) -> PreviewSource:
        """Return the rows to try the criteria on. Raises Invalid or Unfit."""
        raise NotImplementedError

    def read(self) -> list[NewCriterion]:
        return read_criteria(self.cleaned_data["criteria"])

    def try_out(self) -> bool:
        """Judge a few rows into `trial`; what is refused becomes errors of the form."""
        if not self.is_valid():
            return False
        try:
            criteria = self.read()
            previews = try_criteria(
                self.actor,
                self.evaluation,
                criteria=criteria,
                source=self.source(),
                count=self.cleaned_data["count"],
            )
        except REFUSALS as error:
            self.refuse(error)
            return False
        self.trial = Trial.of(criteria, previews)
        return True

    def refuse(self, error: Exception) -> None:
        """Show a refusal at the field that it speaks of."""
        problem = error.problems[0] if isinstance(error, Refusal) else Problem(str(error))
        place = f"{dotted(problem.path)}: " if len(problem.path) > 1 else ""
        field = next(iter(problem.path), None)
        self.add_error(field if field in self.fields else None, f"{place}{problem.message}")


class RegradeForm(CriteriaForm):
    """Other criteria for the answers of a finished run."""

    def __init__(self, actor: Actor, run: Run, *args: Any, **fields: Any) -> None:
        self.run = run
        super().__init__(actor, run.evaluation, *args, **fields)

    def shown_version(self) -> int:
        return self.run.criteria_version

    def source(self) -> PreviewSource:
        return self.run

    def start(self) -> Run | None:
        """Start the run and return it; None where it was refused."""
        if not self.is_valid():
            return None
        try:
            return regrade_run(self.actor, self.run, criteria=self.read())
        except REFUSALS as error:
            self.refuse(error)
            return None

    def estimate(self) -> Estimate | None:
        """Estimate the cost of grading by the form's criteria; None while they cannot be used."""
        text = self.data.get("criteria") if self.is_bound else self.initial["criteria"]
        try:
            return estimate_regrade(self.actor, self.run, criteria=read_criteria(text or ""))
        except REFUSALS:
            return None


class ChangeForm(CriteriaForm):
    """Other criteria for an evaluation, tried on rows of one kind or another."""

    rows_from = forms.ChoiceField(
        label="Rows from",
        choices=[(RUN, "a run"), (DATASET, "a dataset"), (PASTE, "the lines below")],
    )
    run = forms.ChoiceField(required=False)
    dataset = forms.ChoiceField(required=False)
    rows = forms.CharField(
        required=False,
        max_length=PASTED,
        label="Rows as JSONL",
        widget=forms.Textarea(attrs={"rows": 4, "cols": 90, "spellcheck": "false"}),
        help_text='A line each: {"item": {…}, "sample": {"output_text": "…"}}.',
    )

    def __init__(self, actor: Actor, evaluation: Evaluation, *args: Any, **fields: Any) -> None:
        super().__init__(actor, evaluation, *args, **fields)
        self._runs = evaluation.runs.present().filter(state__in=Run.FINAL, row_count__gt=0)
        self._versions = DatasetVersion.objects.filter(
            account=evaluation.account, dataset__deleted_at=None, num=F("dataset__latest_num")
        )
        runs = list(self._runs.order_by("-created_at", "-id")[:OFFERED])
        versions = list(self._versions.select_related("dataset").order_by("-pk")[:OFFERED])
        self._choices(
            "run", [(one.pk, f"{one.name[:80]} ({one.row_count:,} rows)") for one in runs]
        )
        self._choices("dataset", [(one.pk, str(one)[:90]) for one in versions])
        self.initial.setdefault("rows_from", RUN if runs else DATASET if versions else PASTE)

    def _choices(self, name: str, choices: list[tuple[Any, str]]) -> None:
        field = self.fields[name]
        assert isinstance(field, forms.ChoiceField)
        field.choices = choices or [("", "there is none yet")]

    def source(self) -> PreviewSource:
        kind = self.cleaned_data["rows_from"]
        if kind == PASTE:
            return _pasted(self.cleaned_data["rows"], self.cleaned_data["count"])
        chosen = self.cleaned_data[kind]
        if not chosen:
            raise Unfit(f"There is no {kind} to take rows from.", path="rows_from")
        return self._runs.get(pk=chosen) if kind == RUN else self._versions.get(pk=chosen)

    def save(self) -> bool:
        """Give the evaluation the form's criteria; False where they were refused."""
        if not self.is_valid():
            return False
        try:
            change_criteria(self.actor, self.evaluation, self.read())
        except REFUSALS as error:
            self.refuse(error)
            return False
        return True


def _pasted(text: str, count: int) -> list[Any]:
    """Read rows as they would be read from a file. Raises Invalid."""
    try:
        with open_rows(BytesIO(text.encode(errors="replace")), "rows.jsonl") as reading:
            rows = list(islice(reading, count))
    except BadFile as error:
        raise Invalid(f"The rows cannot be read: {error}.", path="rows") from error
    for row in rows:
        if isinstance(row, BadRow):
            raise Invalid(f"{row.place.capitalize()}: {row.message}", path="rows")
    return [row.value for row in rows if isinstance(row, Row)]
