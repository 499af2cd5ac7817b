"""Write a run as a folder of the vendor's objects, which can be imported with equal counts."""

from collections.abc import Iterator
from copy import copy
from pathlib import Path
from typing import Any, cast

from django.utils import timezone
from rest_framework.request import Request

from apps.evaluations.exports import summary_table
from apps.evaluations.models import Run
from apps.evaluations.reports import Item, Judgement, read_pages
from evalplatform.dialects.kit.json import RawJSON, write_json
from evalplatform.dialects.openai.evals.evals import EvalSerializer
from evalplatform.dialects.openai.evals.output_items import items_shown
from evalplatform.dialects.openai.evals.runs import runs_shown
from evalplatform.dialects.openai.evals.source_echo import whole_echo
from evalplatform.dialects.openai.history.saved_files import MANIFEST
from evalplatform.dialects.openai.history.saved_values import EXTRAS

FILES = ("eval.json", "run.json", "output_items.jsonl", "manifest.json")


class _Nowhere:
    """A stand-in for the request where there is none: addresses are written without a host."""

    def build_absolute_uri(self, path: str) -> str:
        return path


def write_folder(run: Run, folder: Path) -> int:
    """Write FILES into an existing folder, and return the number of output items."""
    evaluation = copy(run.evaluation)
    evaluation.criteria_version = run.criteria_version  # as it was when the run began
    (folder / "eval.json").write_bytes(_json(EvalSerializer(evaluation).data))
    echoes = {run.pk: whole_echo(run)}
    (shown,) = runs_shown([run], cast(Request, _Nowhere()), echoes)
    (folder / "run.json").write_bytes(_json(shown))
    count = 0
    with (folder / "output_items.jsonl").open("wb") as file:
        for item in _items(run):
            file.write(_json(item))
            count += 1
    manifest = {
        "object": MANIFEST,
        "exported_at": int(timezone.now().timestamp()),
        "output_items": count,
        "summary": summary_table(run),
    }
    (folder / "manifest.json").write_bytes(_json(manifest))
    return count


def _items(run: Run) -> Iterator[dict[str, Any]]:
    for page in read_pages(run):
        shown_page = items_shown(run, [item.result for item in page])
        for item, shown in zip(page, shown_page, strict=True):
            yield _with_extras(item, shown)


def _with_extras(item: Item, shown: dict[str, Any]) -> dict[str, Any]:
    """Add to an output item, under a key of our own, what the vendor's shape leaves out."""
    result = item.result
    scores = {score.criterion.key: score for score in item.verdicts.values()}
    verdicts = [
        {**verdict, EXTRAS: _score_extras(score)}
        if (score := scores.get(verdict["name"]))
        else verdict
        for verdict in shown["results"]
    ]
    extras = {
        "state": result.state,
        "sample": item.sample if result.sample else None,
        "exchange": RawJSON(result.exchange) if result.exchange else None,
        "row_sample": None if result.sample else item.sample,
    }
    return {**shown, "results": verdicts, EXTRAS: extras}


def _score_extras(score: Judgement) -> dict[str, Any]:
    return {
        "value": score.value,
        "passed": score.passed,
        "evidence": score.evidence,
        "exchange": RawJSON(score.exchange) if score.exchange else None,
    }


def _json(value: Any) -> bytes:
    return write_json(value) + b"\n"
