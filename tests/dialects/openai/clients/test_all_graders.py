"""One run that is judged in every way at once, by models that answer 500 and 429 now and then."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from apps.grading.graders import GRADERS
from apps.sandbox import find_runner
from tests.dialects.openai.clients.waiting import wait_over
from tests.model_server import ModelServer
from tests.shared_server import Platform

ROWS = 300
# What no retry helps: the answer to these rows, the verdict on those.
LOST_ANSWERS, LOST_VERDICTS, LOST_VECTORS = {7, 201}, {8, 299}, {9}
TRIES = 5

TARGET = "uncertain:echo"
LABEL = 'uncertain:answer:{"steps": [], "result": "good"}'
# It refuses structured outputs, then the JSON mode, and gives a bare number when it is instructed.
BARE = "uncertain:unstructured:answer:0.75"
# Its first reply to each row is no verdict, its second repeats the prompt, which is one.
SLOW_WITTED = "flaky:1:empty"
REFEREE = 'uncertain:answer:{"score": 0.25}'
COSINE, DISTANCE = "uncertain:cosine", "uncertain:distance"
MODELS = [TARGET, LABEL, BARE, SLOW_WITTED, REFEREE]
METRICS = ["fuzzy_match", "bleu", "gleu", "meteor", "rouge_1", "rouge_2", "rouge_l"]

BOTH = {"input": "{{ sample.output_text }}", "reference": "{{ item.answer }}"}
VECTORS = {"input": "{{ item.vector }}", "reference": "{{ item.vectors.far }}"}


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


CRITERIA: list[dict[str, Any]] = [
    {"type": "string_check", "name": "same", **BOTH, "operation": "eq"},
    *(
        {
            "type": "text_similarity",
            "name": f"by {metric}",
            **BOTH,
            "evaluation_metric": metric,
            "pass_threshold": 0.5,
        }
        for metric in METRICS
    ),
    {
        "type": "text_similarity",
        "name": "cosine",
        **VECTORS,
        "evaluation_metric": "cosine",
        "pass_threshold": 0.5,
    },
    {
        "type": "python",
        "name": "code",
        "source": "def grade(sample, item):\n    return sample['output_text'] == item['answer']\n",
    },
    {
        "type": "label_model",
        "name": "label",
        "model": LABEL,
        "input": said("Label {{ item.number }}: {{ sample.output_text }} {{ item.mood }}"),
        "labels": ["good", "bad"],
        "passing_labels": ["good"],
    },
    {
        "type": "score_model",
        "name": "bare",
        "model": BARE,
        "input": said("Score {{ item.number }}: {{ sample.output_text }}"),
    },
    {
        "type": "score_model",
        "name": "second thoughts",
        "model": SLOW_WITTED,
        "input": said('{"result": 0.{{ item.number }}}'),
        "pass_threshold": 0,
    },
    *(
        {"type": kind, "name": kind, **BOTH}
        for kind in ("match", "includes", "fuzzy_match", "json_match")
    ),
    {"type": "levenshtein", "name": "levenshtein", **BOTH, "pass_threshold": 0.5},
    {
        "type": "embedding_distance",
        "name": "distance",
        "model": DISTANCE,
        **VECTORS,
        "pass_threshold": 0.5,
    },
    {
        "type": "prompt_judge",
        "name": "referee",
        "model": REFEREE,
        "prompt": "Rate {{ actual }} as an answer to {{ input }}.",
        "is_template": True,
        "input": "{{ item.number }}",
        "actual": "{{ sample.output_text }}",
        "pass_threshold": 0.2,
    },
]


def row(number: int) -> dict[str, Any]:
    question = f"Repeat {number}" + " hopeless" * (number in LOST_ANSWERS)
    answer = "no" if number % 3 == 0 else question
    vector = f"hopeless {number}" if number in LOST_VECTORS else f"[1, {number}]"
    return {
        "number": number,
        "question": question,
        "answer": answer,
        "mood": "hopeless" if number in LOST_VERDICTS else "calm",
        "vector": vector,
        "vectors": {"far": f"[2, {2 * number}]"},
    }


@pytest.fixture
def models(platform: Platform) -> ModelServer:
    """With nothing counted yet."""
    platform.models.reset()
    return platform.models


@pytest.fixture
def client(platform: Platform, models: ModelServer) -> Iterator[openai.OpenAI]:
    vectors = ("--embedding-model", COSINE, "--embedding-model", DISTANCE)
    key = platform.open_account("all graders", *MODELS, *vectors, concurrency=32)
    with openai.OpenAI(base_url=platform.openai_url, api_key=key, max_retries=0) as client:
        yield client


def finished(client: openai.OpenAI, eval_id: str, data_source: Any) -> Any:
    run = client.evals.runs.create(eval_id, data_source=data_source)
    return wait_over(client, run, 180)


def given_up(courses: dict[str, dict[str, list[int]]]) -> dict[str, set[str]]:
    """Return the prompts that never got an answer, by model; each was tried as often as allowed."""
    lost = defaultdict(set)
    for model, prompts in courses.items():
        for prompt, statuses in prompts.items():
            if statuses[-1] != 200:
                assert statuses == [500] * TRIES, (model, prompt, statuses)
                lost[model].add(prompt)
    return lost


def test_there_is_a_criterion_of_every_kind() -> None:
    in_evals = set(GRADERS) - {"multi"}  # contract: openai section 4: not in an eval
    assert {criterion["type"] for criterion in CRITERIA} == in_evals


@pytest.mark.once("graders and models know no database; runs are claimed and stored by others")
@pytest.mark.slow
@pytest.mark.skipif(find_runner() is None, reason="no sandbox on this machine")
def test_what_fails_now_and_then_costs_calls_and_what_always_fails_errs_its_rows_alone(
    client: openai.OpenAI, models: ModelServer
) -> None:
    config: Any = {"type": "custom", "item_schema": {"type": "object"}}
    criteria: Any = CRITERIA
    made = client.evals.create(
        name="every kind",
        data_source_config={**config, "include_sample_schema": True},
        testing_criteria=criteria,
    )
    keys = {one.id: one.name for one in made.testing_criteria}
    rows = [{"item": row(number)} for number in range(ROWS)]
    source: Any = {
        "type": "completions",
        "model": TARGET,
        "source": {"type": "file_content", "content": rows},
        "input_messages": {"type": "template", "template": said("{{ item.question }}")},
    }
    run = finished(client, made.id, source)
    assert run.status == "completed", run.error
    told = models.counts()

    # Every call that the server counted is accounted for, and no other.
    usage = {one.model_name: one.invocation_count for one in run.per_model_usage}
    assert usage == told["models"]
    assert sum(usage.values()) == told["total"]
    statuses = [
        status
        for prompts in told["courses"].values()
        for course in prompts.values()
        for status in course
    ]
    assert usage[SLOW_WITTED] == 2 * (ROWS - len(LOST_ANSWERS))
    for status in (500, 429):
        assert statuses.count(status) >= 0.019 * len(statuses)

    # Errored are the rows whose calls were all refused, as the server remembers them.
    lost = given_up(told["courses"])
    assert {model: len(prompts) for model, prompts in lost.items()} == {
        TARGET: len(LOST_ANSWERS),
        LABEL: len(LOST_VERDICTS),
        COSINE: len(LOST_VECTORS),
        DISTANCE: len(LOST_VECTORS),
    }
    errored = LOST_ANSWERS | LOST_VERDICTS | LOST_VECTORS
    counts = run.result_counts
    assert (counts.total, counts.errored) == (ROWS, len(errored))
    assert counts.passed + counts.failed + counts.errored == ROWS
    of_criteria = {keys[one.testing_criteria]: one for one in run.per_testing_criteria_results}
    assert list(of_criteria) == list(keys.values())
    more = {"label": LOST_VERDICTS, "cosine": LOST_VECTORS, "distance": LOST_VECTORS}
    for name, one in of_criteria.items():
        assert one.errored == len(LOST_ANSWERS | more.get(name, set())), name
        assert one.passed + one.failed + one.errored == ROWS, name

    items = list(client.evals.runs.output_items.list(run.id, eval_id=made.id, limit=100))
    assert [item.datasource_item_id for item in items] == [*range(ROWS)]
    assert {item.datasource_item_id for item in items if item.status == "error"} == errored
    for item in items:
        scores = {keys[one.name]: one for one in item.results}
        number = item.datasource_item_id
        if number not in LOST_ANSWERS:
            same = item.datasource_item["question"] == item.datasource_item["answer"]
            assert scores["same"].passed is scores["code"].passed is same
            assert scores["bare"].score == 0.75
            assert scores["second thoughts"].score == float(f"0.{number}")
        for name in ("label", "cosine", "distance"):
            assert ("500" in str(getattr(scores[name], "error", ""))) is (
                number in LOST_ANSWERS | more[name]
            )
