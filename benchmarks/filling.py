"""Fill a database with a finished run of any size in seconds, as if workers had stored it.

To be called in a process with the settings of that database, where its Evaluation is already:

    manage.py shell -c "from benchmarks.filling import fill; print(fill('<eval>', 1_000_000))"
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import orjson
from django.db import connection, transaction
from django.utils import timezone

from apps.bulk import insert_rows
from apps.datasets.models import CHUNK_BYTES, File, FileChunk
from apps.evaluations.engine.store import RESULT_COLUMNS
from apps.evaluations.models import (
    Column,
    Criterion,
    Evaluation,
    Result,
    Run,
    Shard,
    column_key,
    key_of,
    new_number,
)
from apps.evaluations.packing import Verdict, pack, pack_columns
from apps.evaluations.tally import Tally

STORED_AT = 1_790_000_000
SHARD_ROWS = 1_000
RESULTS_AT_ONCE = 20_000
MODEL = "m"


def row_of(number: int, *, is_asked: bool) -> dict[str, Any]:
    """Make a row of about 200 bytes; its answer is in it unless a model is asked."""
    answer = f"The answer to question {number} is {number * 7919 % 1_000_003}."
    question = f"What does the register of cases say about entry {number}, and why?"
    item = {"question": question, "answer": answer}
    return {"item": item} if is_asked else {"item": item, "sample": {"output_text": answer}}


def fill(
    evaluation_id: UUID | str,
    rows: int,
    *,
    is_asked: bool = False,
    said: Callable[[int], Sequence[Verdict]] | None = None,
    file: File | None = None,
) -> Run:
    """Store a completed run in which every row has passed every criterion, and return it.

    is_asked: the answers are a model's, and stand with their prompts in the results. said: gives
    the verdicts on a row instead. file: of an earlier run of as many rows, to be read again.
    """
    evaluation = Evaluation.objects.get(pk=evaluation_id)
    now = timezone.now()
    if file is None:
        file = File.objects.create(
            account=evaluation.account, filename="rows.jsonl", purpose="evals", ready_at=now
        )
        ends = _store_rows(file, rows, is_asked=is_asked)
    else:
        earlier = Shard.objects.filter(run=file.runs.earliest("created_at")).order_by("number")
        ends = [*earlier.values_list("stop", flat=True)]
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
        started_at=now,
        finished_at=now,
    )
    passed = [Verdict(1.0, True)] * len(criteria)
    filling = Filling(run, criteria, said or (lambda number: passed), is_asked)
    for number, stop in enumerate(ends):
        filling.add_shard(number, ends[number - 1] if number else 0, stop)
    filling.flush()
    Run.objects.filter(pk=run.pk).update(tally=filling.tally.dump(), **filling.counts)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    run.refresh_from_db()
    return run


class Filling:
    """Makes the shards, results and columns of a run, and stores some tens of shards at once."""

    def __init__(
        self,
        run: Run,
        criteria: Sequence[Criterion],
        said: Callable[[int], Sequence[Verdict]],
        is_asked: bool,
    ) -> None:
        self.tally = Tally()
        self.counts: Counter[str] = Counter()
        self._run = run
        self._keys = [criterion.pk.hex for criterion in criteria]
        self._said = said
        self._is_asked = is_asked
        self._shards: list[Shard] = []
        self._results: list[tuple[Any, ...]] = []
        self._columns: list[tuple[Any, ...]] = []

    def add_shard(self, number: int, start: int, stop: int) -> None:
        first = number * SHARD_ROWS
        count = min(SHARD_ROWS, self._run.row_count - first)
        tally, counts = Tally(), Counter[str]()
        results = []
        for index in range(first, first + count):
            verdicts = self._said(index)
            for criterion, one in zip(self._keys, verdicts, strict=True):
                tally.judge(criterion, one.value, one.passed, one.value is None)
            state = _state(verdicts)
            counts[f"{state}_count"] += 1
            answered = _answered(index) if self._is_asked else (None, None)
            key = key_of(self._run.number, index)
            results.append((key, STORED_AT, state, *answered, "", "", *pack(verdicts)))
        self._results += results
        self._columns += [
            (column_key(self._run.number, position, first), *column)
            for position, column in enumerate(pack_columns([(row[7], row[8]) for row in results]))
        ]
        shard = Shard(
            account_id=self._run.account_id,
            run=self._run,
            number=number,
            first_row=first,
            row_count=count,
            start=start,
            stop=stop,
            done_count=count,
            tally=tally.dump(),
            finished_at=self._run.finished_at,
        )
        for name, value in counts.items():
            setattr(shard, name, value)
        self._shards.append(shard)
        self.tally.add(tally)
        self.counts += counts
        if len(self._results) >= RESULTS_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        with transaction.atomic():
            Shard.objects.bulk_create(self._shards)
            insert_rows(Result, RESULT_COLUMNS, self._results)
            insert_rows(Column, ("id", "letters", "numbers"), self._columns)
        for held in (self._shards, self._results, self._columns):
            held.clear()


def _state(verdicts: Sequence[Verdict]) -> str:
    if any(one.value is None for one in verdicts):
        return Result.State.ERRORED.value
    is_passed = all(one.passed for one in verdicts)
    return Result.State.PASSED.value if is_passed else Result.State.FAILED.value


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


def _answered(number: int) -> tuple[str, str]:
    item = row_of(number, is_asked=True)["item"]
    question, answer = item["question"], item["answer"]
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
