"""Real model outputs through the real client: GSM8K solutions recorded from four systems."""

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.dialects.openai.clients.waiting import wait_over
from tests.served import ROOT
from tests.shared_server import Platform

DATA = Path(
    os.environ.get(
        "GSM8K_SOLUTIONS", ROOT.parent / "shared" / "data" / "gsm8k_model_solutions.jsonl"
    )
)
# How many of the 1,319 answers are right, by the file's own `is_correct`.
PASSES = {
    "6b_finetuning": 286,
    "6b_verification": 515,
    "175b_finetuning": 458,
    "175b_verification": 742,
}


def final_answer(solution: str) -> str:
    """Return the text after the last `A:`, without the commas of thousands."""
    return solution.rpartition("A:")[2].strip().replace(",", "")


@pytest.fixture(scope="module")
def questions() -> list[dict[str, Any]]:
    if not DATA.exists():
        assert not os.environ.get("CI"), f"{DATA} is missing in CI"
        pytest.skip("the recorded GSM8K solutions are not here: name their file in GSM8K_SOLUTIONS")
    return [json.loads(line) for line in DATA.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def client(platform: Platform) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=platform.openai_url, api_key=platform.key) as client:
        yield client


@pytest.fixture(scope="module")
def evaluation(client: openai.OpenAI) -> Any:
    return client.evals.create(
        name="GSM8K",
        data_source_config={
            "type": "custom",
            "item_schema": {
                "type": "object",
                "properties": {"question": {"type": "string"}, "truth": {"type": "string"}},
                "required": ["question", "truth"],
            },
            "include_sample_schema": True,
        },
        testing_criteria=[
            {
                "type": "string_check",
                "name": "final answer",
                "input": "{{ sample.output_text }}",
                "reference": "{{ item.truth }}",
                "operation": "eq",
            }
        ],
    )


@pytest.mark.parametrize("system", PASSES)
def test_recorded_solutions_pass_exactly_where_the_file_says_they_are_correct(
    system: str, questions: list[dict[str, Any]], client: openai.OpenAI, evaluation: Any
) -> None:
    lines = (
        json.dumps(
            {
                "item": {
                    "question": question["question"],
                    "truth": final_answer(question["ground_truth"]),
                },
                "sample": {"output_text": final_answer(question[system]["solution"])},
            }
        )
        for question in questions
    )
    upload = io.BytesIO("\n".join(lines).encode())
    file = client.files.create(file=(f"{system}.jsonl", upload), purpose="evals")
    run = client.evals.runs.create(
        evaluation.id,
        name=system,
        data_source={"type": "jsonl", "source": {"type": "file_id", "id": file.id}},
    )
    run = wait_over(client, run)
    assert run.status == "completed", run.error
    assert run.result_counts.total == len(questions) == 1319
    assert run.result_counts.errored == 0
    assert run.result_counts.passed == PASSES[system]
    items = client.evals.runs.output_items.list(run.id, eval_id=evaluation.id, limit=100)
    verdicts = {item.datasource_item_id: item.status == "pass" for item in items}
    assert verdicts == {
        number: question[system]["is_correct"] for number, question in enumerate(questions)
    }
