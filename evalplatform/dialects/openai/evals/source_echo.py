"""Keep a run's data source and show it again, with the rows that were sent inside it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from apps.datasets.models import File, FileChunk
from apps.evaluations.models import Run
from apps.evaluations.services.runs import INLINE_PURPOSE
from apps.evaluations.targets import target_of_run
from apps.strict_json import parse_json
from evalplatform.dialects.kit.json import RawJSON
from evalplatform.dialects.openai.ids import FILE_ID
from evalplatform.dialects.openai.messages import as_text, echoed

# contract: openai section 7: the hosted service adds these to what it gives back
COMPLETIONS_EXTRAS = {"provider_credentials": None, "modalities": None, "sampling_params": None}


def kept_echo(sent: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a data source that is kept to be shown; rows are in their file already."""
    echo = dict(sent)
    if sent["source"]["type"] == "file_content":
        echo["source"] = {**sent["source"], "content": []}
    # Elsewhere input_messages would be a field that nobody knows, of any shape.
    if sent["type"] != "jsonl" and "input_messages" in sent:
        prompt = sent["input_messages"]
        if prompt["type"] == "template":
            echo["input_messages"] = {**prompt, "template": echoed(prompt["template"])}
    if sent["type"] == "completions":
        echo = {**COMPLETIONS_EXTRAS, **echo}
    return echo


def inline_bytes(runs: Iterable[Run]) -> int:
    """Return how many bytes of rows were sent inside the data sources of these runs."""
    return sum(file.byte_count for file in _came_along(runs))


def _came_along(runs: Iterable[Run]) -> Iterator[File]:
    """Yield the files of rows that were sent inside the data sources of these runs."""
    for run in runs:
        file = run.source_file
        if file is not None and file.is_inline and file.purpose == INLINE_PURPOSE:
            yield file


def inline_rows(runs: Sequence[Run]) -> dict[UUID, bytes]:
    """Read the rows that were sent inside data sources, as JSON arrays by file id, in one query."""
    chunks: dict[UUID, list[bytes]] = {file.pk: [] for file in _came_along(runs)}
    if chunks:
        found = FileChunk.objects.filter(file__in=chunks).order_by("file", "number")
        for file_id, data in found.values_list("file_id", "data"):
            chunks[file_id].append(bytes(data))
    # Each line is one compact JSON object, in which a line end cannot stand.
    return {
        file_id: b"[%b]" % b"".join(pieces).rstrip(b"\n").replace(b"\n", b",")
        for file_id, pieces in chunks.items()
    }


def data_source_shown(run: Run, rows: Mapping[UUID, bytes]) -> dict[str, Any]:
    """Show the data source as it was sent, with its rows where `rows` has them."""
    echo = parse_json(run.spec).get("data_source") or _in_vendors_words(run)
    # The rows of an imported run lie in a file of ours, wherever they came from.
    shows_rows = echo["source"]["type"] == "file_content"
    if shows_rows and run.source_file_id is not None and run.source_file_id in rows:
        echo["source"]["content"] = RawJSON(rows[run.source_file_id])
    return echo


def _in_vendors_words(run: Run) -> dict[str, Any]:
    """Describe the data source of a run that came in through another face."""
    source: dict[str, Any] = {"type": "file_content", "content": []}
    if run.source_file is not None and not run.source_file.is_inline:
        source = {"type": "file_id", "id": FILE_ID.to_representation(run.source_file.pk)}
    asked = target_of_run(run).prompt
    if asked is None:
        return {"type": "jsonl", "source": source}
    prompt: dict[str, Any]
    if asked.reference:
        prompt = {"type": "item_reference", "item_reference": asked.reference}
    else:
        texts = [
            {"role": message.get("role"), "content": as_text(message.get("content"))}
            for message in asked.messages or ()
        ]
        prompt = {"type": "template", "template": echoed(texts)}
    params = asked.params or None
    echo = {"type": "completions", "source": source, "model": run.model, "input_messages": prompt}
    return {**COMPLETIONS_EXTRAS, **echo, "sampling_params": params}
