"""Read saved runs as runs of the core."""

from collections.abc import Iterator, Mapping
from typing import Any

from apps.evaluations.models import Run
from apps.evaluations.services.saved_history import SavedRun
from apps.text import quoted
from evalplatform.dialects.openai.history.saved_values import (
    CODE_LENGTH,
    array_of,
    count_of,
    criterion_key,
    id_of,
    object_of,
    own_id,
    string_of,
    time_of,
)
from evalplatform.dialects.openai.ids import RUN_ID
from evalplatform.dialects.openai.words import RUN_STATE

USAGE = ("invocation_count", "prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens")


def saved_run(sent: Mapping[str, Any], criteria: Mapping[str, str]) -> tuple[SavedRun, list[str]]:
    """Read a saved run, and return it with a sentence for each thing that cannot be carried.

    criteria: the names by which results may call a criterion -> its key. Raises Unusable.
    """
    lost = []
    status = sent.get("status")
    state = RUN_STATE.get(status, "") if isinstance(status, str) else ""
    if state not in Run.FINAL:
        lost.append(f"its status, {quoted(status)}: what never ended there is canceled here")
        state = Run.State.CANCELED
    data_source = object_of(sent.get("data_source"))
    source = object_of(data_source.get("source"))
    rows = array_of(source.get("content")) if source.get("type") == "file_content" else []
    if not all(isinstance(row, dict) and isinstance(row.get("item"), dict) for row in rows):
        lost.append("the rows in its data source, which are no rows")
        rows = []
    spec = {}
    if data_source and not (string_of(data_source.get("type")) and string_of(source.get("type"))):
        lost.append("its data source, which is none")
    elif source:
        if "content" in source:
            source = {**source, "content": []}
        spec = {"data_source": {**data_source, "source": source}}
    properties, level = object_of(sent.get("properties")), string_of(sent.get("evaluation_level"))
    labels = {"properties": properties, "evaluation_level": level}
    error = object_of(sent.get("error"))
    name = id_of(sent)
    saved = SavedRun(
        imported_id=name,
        own_id=own_id(RUN_ID, name),
        evaluation_id=id_of(sent, "eval_id"),
        name=string_of(sent.get("name")) or f"Imported {name}",
        created_at=time_of(sent),
        model=string_of(sent.get("model")),
        metadata=object_of(sent.get("metadata")),
        spec={**spec, **{name: value for name, value in labels.items() if value}},
        state=state,
        error_code=string_of(error.get("code"))[:CODE_LENGTH],
        error_message=string_of(error.get("message")),
        counts=_counts(sent.get("result_counts")),
        criteria={
            criteria.get(key, key): (
                count_of(one, "passed"),
                count_of(one, "failed"),
                count_of(one, "errored"),
            )
            for one in map(object_of, array_of(sent.get("per_testing_criteria_results")))
            if (key := criterion_key(one.get("testing_criteria")))
        },
        usage={
            string_of(one.get("model_name")): [count_of(one, field) for field in USAGE]
            for one in map(object_of, array_of(sent.get("per_model_usage")))
        },
        rows=rows,
        shows_rows=not spec or source.get("type") == "file_content",
    )
    return saved, lost


def criteria_named(run: Mapping[str, Any]) -> Iterator[str]:
    """Yield the keys of the criteria that a saved run has figures for."""
    for one in map(object_of, array_of(run.get("per_testing_criteria_results"))):
        if key := criterion_key(one.get("testing_criteria")):
            yield key


def _counts(sent: Any) -> dict[str, int] | None:
    if not isinstance(sent, dict):
        return None
    counts = {name: count_of(sent, name) for name in ("passed", "failed", "errored")}
    counts["unjudged"] = max(0, count_of(sent, "total") - sum(counts.values()))
    return counts
