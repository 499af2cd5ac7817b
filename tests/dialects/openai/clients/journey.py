"""The way of a script through the OpenAI client: create, run, poll, page, cancel, delete.

Run by the client release that is to be tested, with nothing of ours importable:
    python journey.py BASE_URL KEY MODEL
"""

import asyncio
import json
import os
import re
import sys
import time
from pathlib import Path

import openai

ROWS = 45
SCHEMA = {
    "type": "object",
    "properties": {"question": {"type": "string"}, "answer": {"type": "string"}},
    "required": ["question", "answer"],
}
CRITERIA = [
    {
        "type": "string_check",
        "name": "exact",
        "input": "{{ sample.output_text }}",
        "reference": "{{ item.answer }}",
        "operation": "eq",
    },
    {
        "type": "text_similarity",
        "name": "close",
        "input": "{{ sample.output_text }}",
        "reference": "{{ item.answer }}",
        "evaluation_metric": "fuzzy_match",
        "pass_threshold": 0.5,
    },
]
CONFIG = {"type": "custom", "item_schema": SCHEMA, "include_sample_schema": True}


def rows():
    """Every third answer is not what an echoing model says."""
    for number in range(ROWS):
        question = f"Repeat {number}"
        yield {"item": {"question": question, "answer": "no" if number % 3 == 0 else question}}


def source_of(file_id, model):
    return {
        "type": "completions",
        "model": model,
        "source": {"type": "file_id", "id": file_id},
        "input_messages": {
            "type": "template",
            "template": [
                {"role": "developer", "content": "Repeat what you are told."},
                {
                    "role": "user",
                    "content": {"type": "input_text", "text": "{{ item.question }}"},
                },
            ],
        },
        "sampling_params": {"temperature": 0.5, "max_completion_tokens": 20},
    }


# The contract's table; of the two paths that cancel a run, a release of the client knows one.
ROUTES = [
    (method, path)
    for method, path, *_ in json.loads(Path(__file__).with_name("routes.json").read_text())
]
CANCELS = {
    ("POST", "/evals/{eval_id}/runs/{run_id}"),
    ("POST", "/evals/{eval_id}/runs/{run_id}/cancel"),
}


def never_taken(called):
    """Return the routes of the table that none of these calls, (method, path), took."""

    def took(method, route):
        pattern = re.compile("/v1" + re.sub(r"{\w+}", "[^/]+", route))
        return any(verb == method and pattern.fullmatch(path) for verb, path in called)

    return {route for route in ROUTES if not took(*route)}


def upload(text):
    return {"file": ("rows.jsonl", text.encode()), "purpose": "evals"}


def refused(call, kind, param=None):
    try:
        call()
    except kind as error:
        assert error.body["message"], error.body
        if param is not None:
            assert error.param == param, (error.param, param)
        return
    raise AssertionError(f"not refused with {kind.__name__}")


def finished(fetch):
    deadline = time.monotonic() + float(os.environ["WAIT_SECONDS"])
    while True:
        run = fetch()
        if run.status not in ("queued", "in_progress"):
            return run
        assert time.monotonic() < deadline, run
        time.sleep(0.1)


def go(client, model):
    text = "".join(json.dumps(row) + "\n" for row in rows())
    file = client.files.create(**upload(text))
    assert file.purpose == "evals" and file.bytes == len(text), file
    assert client.files.content(file.id).read().decode() == text
    assert client.files.retrieve(file.id).filename == "rows.jsonl"
    assert file.id in [one.id for one in client.files.list(purpose="evals")]
    assert model in [one.id for one in client.models.list()]
    assert client.models.retrieve(model).id == model
    refused(lambda: client.models.retrieve("no/such:model"), openai.NotFoundError)

    made = client.evals.create(
        name="journey", data_source_config=CONFIG, testing_criteria=CRITERIA, metadata={"a": "b"}
    )
    assert made.id.startswith("eval_") and made.metadata == {"a": "b"}
    assert [one.type for one in made.testing_criteria] == ["string_check", "text_similarity"]
    assert client.evals.retrieve(made.id).name == "journey"
    assert client.evals.update(made.id, name="renamed").name == "renamed"
    assert made.id in [one.id for one in client.evals.list(limit=2, order="desc")]

    run = client.evals.runs.create(made.id, name="first", data_source=source_of(file.id, model))
    assert run.status in ("queued", "in_progress") and run.eval_id == made.id
    run = finished(lambda: client.evals.runs.retrieve(run.id, eval_id=made.id))
    assert run.status == "completed", run
    counts = run.result_counts
    assert (counts.total, counts.passed, counts.failed, counts.errored) == (45, 30, 15, 0), counts
    keys = [one.id for one in made.testing_criteria]
    assert [one.testing_criteria for one in run.per_testing_criteria_results] == keys
    assert run.per_model_usage[0].invocation_count == ROWS
    assert run.report_url.startswith("http")

    items = list(client.evals.runs.output_items.list(run.id, eval_id=made.id, limit=20))
    assert [one.datasource_item_id for one in items] == list(range(ROWS))
    assert items[1].sample.output[0].content == "Repeat 1"
    assert items[1].datasource_item == {"question": "Repeat 1", "answer": "Repeat 1"}
    failed = list(
        client.evals.runs.output_items.list(run.id, eval_id=made.id, status="fail", limit=4)
    )
    assert [one.datasource_item_id for one in failed] == list(range(0, ROWS, 3))
    one = client.evals.runs.output_items.retrieve(items[1].id, eval_id=made.id, run_id=run.id)
    assert one.status == "pass" and one.id == items[1].id
    assert [run.id] == [r.id for r in client.evals.runs.list(made.id, status="completed")]

    slow = {**source_of(file.id, "slow:30"), "model": "slow:30"}
    going = client.evals.runs.create(made.id, data_source=slow)
    stopped = client.evals.runs.cancel(going.id, eval_id=made.id)
    assert stopped.status == "canceled", stopped
    again = client.evals.runs.retrieve(going.id, eval_id=made.id)
    assert again.status == "canceled" and again.result_counts.total == 0

    refused(
        lambda: client.evals.runs.create(made.id, data_source=source_of("file-none", model)),
        openai.BadRequestError,
        "data_source.source.id",
    )
    refused(
        lambda: client.evals.runs.create(made.id, data_source=source_of(file.id, "nobody")),
        openai.BadRequestError,
        "data_source.model",
    )
    refused(lambda: client.with_options(api_key="wrong").evals.list(), openai.AuthenticationError)
    assert client.evals.runs.delete(going.id, eval_id=made.id).deleted
    assert client.files.delete(file.id).deleted
    gone = client.evals.delete(made.id)
    assert gone.deleted and gone.eval_id == made.id
    refused(lambda: client.evals.retrieve(made.id), openai.NotFoundError)


def go_without_evals(client, model):
    """Try graders, and keep and find completions."""
    graders = client.fine_tuning.alpha.graders
    assert graders.validate(grader=CRITERIA[0]).grader.name == "exact"
    tried = graders.run(grader=CRITERIA[0], model_sample="yes", item={"answer": "yes"})
    assert tried.reward == 1 and tried.metadata.errors.other_error is False, tried
    refused(
        lambda: graders.validate(grader={**CRITERIA[0], "operation": "neq"}),
        openai.BadRequestError,
        "grader.operation",
    )

    completions = client.chat.completions
    said = [{"role": "developer", "content": "Repeat."}, {"role": "user", "content": "hello"}]
    mark = {"journey": openai.__version__}
    made = [
        completions.create(model=model, messages=said, store=True, metadata=mark).id
        for _ in range(3)
    ]
    assert [one.id for one in completions.list(metadata=mark, model=model, limit=2)] == made
    kept = completions.retrieve(made[0])
    assert kept.choices[0].message.content == "hello" and kept.metadata == mark, kept
    messages = completions.messages.list(made[0], limit=1)
    assert [(one.role, one.content) for one in messages] == [
        ("developer", "Repeat."),
        ("user", "hello"),
    ]
    assert completions.update(made[0], metadata={"a": "b"}).metadata == {"a": "b"}
    for one in made:
        assert completions.delete(one).deleted
    refused(lambda: completions.retrieve(made[0]), openai.NotFoundError)


async def go_async(client, model):
    made = await client.evals.create(
        name="async", data_source_config=CONFIG, testing_criteria=CRITERIA
    )
    content = {"type": "file_content", "content": list(rows())}
    source = {**source_of("", model), "source": content}
    run = await client.evals.runs.create(made.id, data_source=source)
    deadline = time.monotonic() + float(os.environ["WAIT_SECONDS"])
    while run.status in ("queued", "in_progress"):
        assert time.monotonic() < deadline, run
        await asyncio.sleep(0.1)
        run = await client.evals.runs.retrieve(run.id, eval_id=made.id)
    assert run.status == "completed" and run.result_counts.passed == 30, run
    seen = [
        item.datasource_item_id
        async for item in client.evals.runs.output_items.list(run.id, eval_id=made.id, limit=7)
    ]
    assert seen == list(range(ROWS)), seen
    slow = {**source, "model": "slow:30"}
    going = await client.evals.runs.create(made.id, data_source=slow)
    assert (await client.evals.runs.cancel(going.id, eval_id=made.id)).status == "canceled"
    assert (await client.evals.delete(made.id)).deleted


def main():
    base_url, key, model = sys.argv[1:]
    called = []
    hooks = {"request": [lambda sent: called.append((sent.method, sent.url.raw_path))]}
    http = openai.DefaultHttpxClient(event_hooks=hooks)
    with openai.OpenAI(base_url=base_url, api_key=key, max_retries=0, http_client=http) as client:
        go(client, model)
        go_without_evals(client, model)
    paths = [(method, path.decode().partition("?")[0]) for method, path in called]
    left = never_taken(paths)
    assert len(left) == 1 and left < CANCELS, left

    async def main_async():
        async with openai.AsyncOpenAI(base_url=base_url, api_key=key, max_retries=0) as client:
            await go_async(client, model)

    asyncio.run(main_async())
    print(f"openai {openai.__version__} went the whole way")


if __name__ == "__main__":
    main()
