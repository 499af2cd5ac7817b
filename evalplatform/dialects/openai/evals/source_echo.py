"""Keep what was sent with a run and show it again, with the rows that were inside it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from apps.datasets.models import File, FileChunk
from apps.datasets.stored_files import read_file
from apps.evaluations.models import Run
from apps.evaluations.services.runs import INLINE_PURPOSE
from apps.evaluations.targets import target_of_run
from apps.kept import Kept
from apps.strict_json import parse_json
from evalplatform.dialects.kit.json import RawJSON, write_json
from evalplatform.dialects.openai.ids import FILE_ID
from evalplatform.dialects.openai.messages import as_text, echoed

# What was sent with a run, by its field.
Echo = dict[str, RawJSON]

# contract: openai section 7: the hosted service adds these to what it gives back
COMPLETIONS_EXTRAS = {"provider_credentials": None, "modalities": None, "sampling_params": None}

# contract: openai, the additions to section 7: rows are echoed whole up to this, in lists too
WHOLE_BYTES = 1024 * 1024
FIRST_BYTES = 64 * 1024
ECHOES_AT_ONCE = 20
_ECHOES: Kept[Echo] = Kept(8 * 1024 * 1024)

# contract: openai, the additions about doors: Azure's clients send these, and read them again
LABELS = ("properties", "evaluation_level")


def kept_spec(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is kept of a run's body to be shown again."""
    labels = {name: body[name] for name in LABELS if body.get(name) is not None}
    return {"data_source": _kept_source(body["data_source"]), **labels}


def _kept_source(sent: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a data source that is kept; its rows are in their file already."""
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


def echoes_shown(runs: Sequence[Run]) -> dict[UUID, Echo]:
    """Show what was sent with runs, with the rows in their data sources, by the runs' ids.

    Rows above WHOLE_BYTES are shown by the first of them. None of it ever changes, so a poll finds
    it kept; of the others each 20 are read by two statements.
    """
    shown = {run.pk: echo for run in runs if (echo := _ECHOES.get(run.pk)) is not None}
    missing = [run for run in runs if run.pk not in shown]
    for start in range(0, len(missing), ECHOES_AT_ONCE):
        for run_id, echo in _read_echoes(missing[start : start + ECHOES_AT_ONCE]):
            shown[run_id] = echo
            _ECHOES.put(run_id, echo, sum(len(field.text) for field in echo.values()))
    return shown


def bytes_to_read(runs: Sequence[Run]) -> int:
    """Return how many bytes of rows it takes to show the data sources that are not kept."""
    files = [
        run.source_file_id for run in runs if run.source_file_id and _ECHOES.get(run.pk) is None
    ]
    if not files:
        return 0
    came_along = File.objects.filter(pk__in=files, is_inline=True, purpose=INLINE_PURPOSE)
    return sum(min(size, WHOLE_BYTES) for size in came_along.values_list("byte_count", flat=True))


def whole_echo(run: Run) -> Echo:
    """Show what was sent with a run, with all rows in its data source."""
    rows = b"".join(read_file(run.source_file_id)) if run.source_file_id else b""
    return _written(run, rows)


def _read_echoes(missing: Sequence[Run]) -> Iterator[tuple[UUID, Echo]]:
    known = Run.objects.select_related("source_file").in_bulk([run.pk for run in missing])
    files = [run.source_file_id for run in known.values() if _came_along(run.source_file)]
    pieces = FileChunk.objects.filter(file__in=files, number=0).order_by()
    first = {file_id: bytes(data) for file_id, data in pieces.values_list("file_id", "data")}
    for run in known.values():
        rows = first.get(run.source_file_id, b"") if run.source_file_id else b""
        if run.source_file is not None and run.source_file.byte_count > WHOLE_BYTES:
            rows = _first_rows(rows)
        yield run.pk, _written(run, rows)


def _came_along(file: File | None) -> bool:
    """Tell whether a file holds rows that were sent inside a data source."""
    return file is not None and file.is_inline and file.purpose == INLINE_PURPOSE


def _first_rows(rows: bytes) -> bytes:
    """Return the lines that end within FIRST_BYTES, or else the first where it ends at all."""
    end = rows.rfind(b"\n", 0, FIRST_BYTES)
    return rows[: (end if end >= 0 else rows.find(b"\n")) + 1]


def _written(run: Run, rows: bytes) -> Echo:
    """Write each field as JSON. rows: lines of JSON objects, used where they were sent."""
    spec = parse_json(run.spec)
    echo = spec.get("data_source") or _in_vendors_words(run)
    # The rows of an imported run lie in a file of ours, wherever they came from.
    if echo["source"]["type"] == "file_content" and _came_along(run.source_file):
        # Each line is one compact JSON object, in which a line end cannot stand.
        content = b"[%b]" % rows.rstrip(b"\n").replace(b"\n", b",")
        echo["source"]["content"] = RawJSON(content)
    fields = {"data_source": echo, **{name: spec[name] for name in LABELS if name in spec}}
    return {name: RawJSON(write_json(value)) for name, value in fields.items()}


def _in_vendors_words(run: Run) -> dict[str, Any]:
    """Describe the data source of a run that came in through another face."""
    source: dict[str, Any] = {"type": "file_content", "content": []}
    if run.source_file is not None and not run.source_file.is_inline:
        source = {"type": "file_id", "id": FILE_ID.of(run.source_file)}
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
