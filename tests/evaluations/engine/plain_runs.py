"""Criteria, rows and targets of plain runs, and one slice of work on them."""

from typing import Any

from apps.evaluations.engine.worker import Worker
from apps.evaluations.models import Run
from apps.evaluations.services.evaluations import NewCriterion
from apps.evaluations.targets import Chat

SAME = NewCriterion(
    "string_check",
    "same",
    {"input": "{{ sample.output_text }}", "reference": "{{ item.text }}", "operation": "eq"},
)
GOOD = 'answer:{"steps": [], "result": "good"}'
INPUT = [{"role": "user", "content": "Judge {{ sample.output_text }}"}]


def rows(count: int, right: int) -> list[dict[str, Any]]:
    """Recorded rows of which the first `right` pass."""
    return [
        {
            "item": {"text": f"text {number}"},
            "sample": {"output_text": f"text {number}" if number < right else "else"},
        }
        for number in range(count)
    ]


def chat(model: str = "m") -> Chat:
    return Chat(model, messages=[{"role": "user", "content": "{{ item.text }}"}])


def worked(run: Run) -> Run:
    Worker().run()
    run.refresh_from_db()
    return run


def labels(model: str = GOOD) -> NewCriterion:
    settings: dict[str, Any] = {
        "model": model,
        "input": INPUT,
        "labels": ["good", "bad"],
        "passing_labels": ["good"],
    }
    return NewCriterion("label_model", "label", settings)
