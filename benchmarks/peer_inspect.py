"""The work of figure A as a task of Inspect, whose interpreter runs this file (see peers.py)."""

from inspect_ai import Task, task
from inspect_ai.dataset import json_dataset
from inspect_ai.scorer import exact


@task
def chat(rows: str) -> Task:
    """rows: a JSONL file with `input` and `target`."""
    return Task(dataset=json_dataset(rows), scorer=exact())
