"""What people say of a result changes nothing of what the graders said, whoever reads it."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.urls import reverse

from apps.accounts.models import Actor
from apps.evaluations.exports import rows, summary_table
from apps.evaluations.models import Result, Run
from apps.evaluations.reports import VERDICTS, Wanted, read_items
from tests.factories import make_actor
from tests.web.worked import browser_of, contradict, make_run

ROOT = Path(__file__).parents[2]
# Where scores are told apart, where they are kept, and the one page that shows all, by whom.
READERS = {
    "apps/evaluations/models/verdicts.py",
    "apps/evaluations/models/results.py",
    "apps/evaluations/reports/items.py",
    "apps/evaluations/reports/verdicts.py",
    "apps/evaluations/admin/results.py",
}
# These write, move or remove whole rows, whoever judged.
WRITERS = {
    "apps/evaluations/engine/copy.py",
    "apps/evaluations/engine/purge.py",
    "apps/evaluations/services/history_import.py",
}


def read_everywhere(actor: Actor, run: Run) -> dict[str, Any]:
    results = list(Result.objects.filter(run=run).in_order())
    browser = browser_of(actor)
    page = reverse("web:run", args=[run.pk])
    shown = {
        query: [
            (line.result.pk, [(one.state, one.value) for one in line.verdicts])
            for line in browser.get(f"{page}{query}").context["lines"]
        ]
        for query in ("", *(f"?state={state}&criterion=1" for state in VERDICTS))
    }
    one = browser.get(reverse("web:result", args=[run.pk, results[0].pk]))
    return {
        "rows": list(rows(run)),
        "summary": summary_table(run),
        "pages": shown,
        "page": [explained.verdict for explained in one.context["explained"]],
        "error": browser.get(page).context["first_error"],
        "reasons": [result.reason() for result in results],
    }


@pytest.mark.django_db
def test_a_persons_answers_change_no_verdict_in_exports_and_pages():
    actor = make_actor()
    run = make_run(actor, ("pf", "fp", "pe", "ss"))
    before = read_everywhere(actor, run)
    contradict(run)
    assert read_everywhere(actor, run) == before
    (item,) = read_items(run, Result.objects.filter(run=run, row_index=0))
    assert (len(item.scores), len(item.verdicts)) == (4, 2)


@pytest.mark.django_db
@pytest.mark.parametrize("backwards", [False, True])
def test_results_are_found_by_what_a_criterion_said(backwards):
    run = make_run(make_actor(), ("p", "f", "e", "f"))
    contradict(run)
    criterion = run.evaluation.criteria.get()
    found = {
        state: [
            result.row_index
            for wanted in [Wanted(run, criterion, state)]
            for start, stop in wanted.spans(None, backwards=backwards)
            for result in wanted.results().filter(row_index__gte=start, row_index__lt=stop)
        ]
        for state in VERDICTS
    }
    assert found == {"passed": [0], "failed": [1, 3], "errored": [2]}


def faults_in(source: str) -> Iterator[str]:
    """The lines that look at scores by themselves."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Attribute(attr="scores"):
                yield f"{node.lineno}: .scores"
            case ast.Attribute(value=ast.Attribute(value=ast.Name(id="Score"), attr="Source")):
                yield f"{node.lineno}: Score.Source"
            case ast.Attribute(value=ast.Name(id="Score"), attr="Source" | "objects"):
                yield f"{node.lineno}: Score.{node.attr}"
            case ast.Name(id="ScoreSource") | ast.alias(name="ScoreSource"):
                yield f"{node.lineno}: ScoreSource"
            case ast.keyword(arg=str(name)) if name.startswith("scores__"):
                yield f"{node.value.lineno}: {name}"
            case ast.Call(args=args):
                for word in args:
                    if (
                        isinstance(word, ast.Constant)
                        and str(word.value).split("__")[0] == "scores"
                    ):
                        yield f"{word.lineno}: {word.value!r}"


@pytest.mark.parametrize(
    "line",
    [
        "result.scores.filter(source='machine')",
        "[score for score in item.scores if score.source == 'machine']",
        "Score.objects.filter(result=result)",
        "score.source == Score.Source.MACHINE",
        "Result.objects.filter(scores__source='machine')",
        "Result.objects.prefetch_related('scores')",
        "results.values('scores__passed')",
        "from apps.evaluations.models.verdicts import ScoreSource",
    ],
)
def test_a_look_at_scores_is_seen(line):
    assert list(faults_in(line))


def test_nobody_else_looks_at_scores():
    found = [
        f"{path.relative_to(ROOT)}:{fault}"
        for folder in ("apps", "evalplatform")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if str(path.relative_to(ROOT)) not in READERS | WRITERS and "migrations" not in path.parts
        for fault in faults_in(path.read_text())
    ]
    assert found == []
