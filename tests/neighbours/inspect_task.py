"""A task of Inspect, whose interpreter runs this file: echoed words, scored by exact match."""

from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.scorer import exact


@task
def echoed() -> Task:
    return Task(
        dataset=[Sample(input=f"word {n}", target=f"word {n}") for n in range(5)], scorer=exact()
    )
