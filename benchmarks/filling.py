"""Fill a database with a finished run of any size in seconds, as if workers had stored it.

To be called in a process with the settings of that database, where its Evaluation is already:

    manage.py shell -c "from benchmarks.filling import fill; print(fill('<eval>', 1_000_000))"
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import Any
from uuid import UUID

import orjson
from django.db import connection, transaction
from django.utils import timezone

from apps.datasets.models import CHUNK_BYTES, File, FileChunk
from apps.evaluations.models import Criterion, Evaluation, Result, Run, Shard, key_of, new_number
from apps.evaluations.tally import Tally

SHARD_ROWS = 1_000
RESULTS_AT_ONCE = 20_000
MODEL = "m"


def row_of(number: int, *, is_asked: bool) -> dict[str, Any]:
    """Make a row of about 200 bytes; its answer is in it unless a model is asked."""
    answer = f"The answer to question {number} is {number * 7919 % 1_000_003}."
    question = f"What does the register of cases say about entry {number}, and why?"
    item = {"question": question, "answer": answer}
    return {"item": item} if is_asked else {"item": item, "sample": {"output_text": answer}}


def fill(evaluation_id: UUID | str, rows: int, *, is_asked: bool = False) -> Run:
    """Store a completed run in which every row has passed every criterion, and return it.

    is_asked: the answers are a model's, and stand with their prompts in the results.
    """
    evaluation = Evaluation.objects.get(pk=evaluation_id)
    now = timezone.now()
    file = File.objects.create(
        account=evaluation.account, filename="rows.jsonl", purpose="evals", ready_at=now
    )
    ends = _store_rows(file, rows, is_asked=is_asked)
    criteria = [*evaluation.criteria.filter(version=evaluation.criteria_version)]
    run = Run.objects.create(
        account=evaluation.account,
        evaluation=evaluation,
        criteria_version=evaluation.criteria_version,
        name=f"{rows:,} rows",
        number=new_number(),
        model=MODEL if is_asked else "",
        target='{"kind":"chat","model":"m"}' if is_asked else '{"kind":"recorded"}',
        source_file=file,
        state=Run.State.COMPLETED,
        row_count=rows,
        total_count=rows,
        passed_count=rows,
        tally=_tally(criteria, rows).dump(),
        started_at=now,
        finished_at=now,
    )
    Shard.objects.bulk_create(_shards(run, ends, rows, now), batch_size=500)
    with transaction.atomic():
        _insert(_results(run, rows, len(criteria), now, is_asked=is_asked))
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    return run


def _store_rows(file: File, rows: int, *, is_asked: bool) -> list[int]:
    """Store the file's bytes; return where each shard's rows end in them."""
    held, size, ends, chunks = bytearray(), 0, [], []
    for number in range(rows):
        line = orjson.dumps(row_of(number, is_asked=is_asked)) + b"\n"
        held += line
        size += len(line)
        if (number + 1) % SHARD_ROWS == 0 or number + 1 == rows:
            ends.append(size)
        while len(held) >= CHUNK_BYTES:
            chunks.append(bytes(held[:CHUNK_BYTES]))
            del held[:CHUNK_BYTES]
    if held:
        chunks.append(bytes(held))
    FileChunk.objects.bulk_create(
        (FileChunk(file=file, number=number, data=data) for number, data in enumerate(chunks)),
        batch_size=20,
    )
    File.objects.filter(pk=file.pk).update(byte_count=size)
    return ends


def _shards(run: Run, ends: Sequence[int], rows: int, now: datetime) -> Iterator[Shard]:
    start = 0
    for number, stop in enumerate(ends):
        first = number * SHARD_ROWS
        count = min(SHARD_ROWS, rows - first)
        yield Shard(
            account_id=run.account_id,
            run=run,
            number=number,
            first_row=first,
            row_count=count,
            start=start,
            stop=stop,
            done_count=count,
            passed_count=count,
            tally=run.tally,
            finished_at=now,
        )
        start = stop


def _tally(criteria: Sequence[Criterion], rows: int) -> Tally:
    sums = [rows, 0, 0, rows, float(rows), float(rows)]
    return Tally(criteria={criterion.pk.hex: [*sums] for criterion in criteria})


def _results(
    run: Run, rows: int, criteria: int, now: datetime, *, is_asked: bool
) -> Iterator[Result]:
    stored_at, verdicts = int(now.timestamp()), "p" * criteria
    for number in range(rows):
        result = Result(
            pk=key_of(run.number, number), stored_at=stored_at, state=Result.State.PASSED
        )
        result.verdicts = verdicts
        if is_asked:
            item = row_of(number, is_asked=True)["item"]
            result.sample, result.exchange = _answered(item["question"], item["answer"])
        yield result


def _answered(question: str, answer: str) -> tuple[str, str]:
    message = {"role": "assistant", "content": answer}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    usage = {"prompt_tokens": 24, "completion_tokens": 16, "total_tokens": 40}
    sample = {
        "model": MODEL,
        "choices": choices,
        "output_text": answer,
        "output_json": None,
        "output_tools": [],
        "output_audio": None,
    }
    asked = [{"role": "user", "content": question}]
    exchange = {"input": asked, "usage": usage, "calls": 1, "seconds": 0.051}
    return orjson.dumps(sample).decode(), orjson.dumps(exchange).decode()


def _insert(results: Iterator[Result]) -> None:
    fields = Result._meta.concrete_fields
    names = ", ".join(connection.ops.quote_name(field.column) for field in fields)
    table = connection.ops.quote_name(Result._meta.db_table)
    lines = (tuple(getattr(one, field.attname) for field in fields) for one in results)
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            with cursor.copy(f"COPY {table} ({names}) FROM STDIN") as copy:
                for line in lines:
                    copy.write_row(line)
            return
        marks = ", ".join(["%s"] * len(fields))
        while piece := list(islice(lines, RESULTS_AT_ONCE)):
            cursor.executemany(f"INSERT INTO {table} ({names}) VALUES ({marks})", piece)
