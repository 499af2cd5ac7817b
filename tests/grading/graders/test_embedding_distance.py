"""embedding_distance against the contract's own examples, by a real server's embeddings."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.clients import AdaptingClient, ChatClient, Lessons, Unlimited
from apps.clients.retries import RetryPolicy
from apps.errors import dotted
from apps.evaluations.engine.grading import Asker
from apps.grading.graders import build_grader
from apps.grading.graders.base import InvalidSetting, JudgeGrader, Mark
from apps.grading.graders.embedding_distance import closeness
from apps.grading.samples import Sample
from apps.inference.attached_models import Judge
from tests.model_server import ModelServer

WORKED = json.loads(Path(__file__).with_name("worked_distances.json").read_text())
HASTE = RetryPolicy(answered_tries=2, answered_seconds=0.5, connecting_seconds=0.5)


def judged(
    server: ModelServer, reply: Any, ideal: Any, upstream: str = "near", **settings: Any
) -> tuple[Mark, Asker]:
    grader = build_grader("embedding_distance", {"model": "vectors", **settings})
    assert isinstance(grader, JudgeGrader)
    plain = ChatClient(server.base_url, None, Unlimited(), allow_private=True, policy=HASTE)
    client = AdaptingClient(plain, Lessons())
    asker = Asker({"vectors": Judge(client, "vectors", upstream)})
    sample = Sample({"ideal": ideal}, {"output_text": reply, "choices": reply})

    async def work() -> Mark:
        try:
            return await grader.judge(sample, asker)
        finally:
            await client.close()

    return asyncio.run(work()), asker


@pytest.mark.parametrize("row", WORKED)
def test_every_example_of_the_contract_scores_as_it_says(
    server: ModelServer, row: dict[str, Any]
) -> None:
    mark, _ = judged(server, json.dumps(row["reply"]), json.dumps(row["ideal"]))
    if row["score"] is None:
        assert mark.error is not None
        assert mark.error.code == "embedding_failed"
        assert "one has 2 numbers, the other 3" in mark.error.message
    else:
        assert (mark.value, mark.passed) == (pytest.approx(row["score"], abs=1e-6), None)


def test_both_texts_go_in_one_request_the_reply_first_and_unchanged(server: ModelServer) -> None:
    mark, asker = judged(server, " Some tea ", "", pass_threshold=0.5)
    assert server.counts()["prompts"] == {'[" Some tea ", ""]': 1}
    assert mark.value == pytest.approx(1 / (1 + (1 + 2**2 + 1 + 1) ** 0.5))
    assert mark.passed is False
    [spent] = asker.spent
    assert (spent.model, spent.calls, spent.usage.prompt_tokens) == ("vectors", 1, 2)


def test_of_choices_the_first_content_is_embedded(server: ModelServer) -> None:
    reply = [{"index": 0, "message": {"role": "assistant", "content": "[1, 0]"}}]
    mark, _ = judged(server, reply, "[0, 1]", choices=True, input="{{ sample.choices }}")
    assert mark.value == pytest.approx(2**0.5 - 1)


@pytest.mark.parametrize("upstream", ["one-vector", "fail-400"])
def test_a_missing_vector_or_a_failure_makes_an_errored_mark(
    server: ModelServer, upstream: str
) -> None:
    mark, asker = judged(server, "a", "b", upstream)
    assert mark.error is not None
    assert mark.error.code == "embedding_failed"
    assert [spent.calls for spent in asker.spent] == [1]


@pytest.mark.parametrize("settings", [{}, {"model": ""}, {"model": 3}])
def test_a_grader_that_names_no_model_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(InvalidSetting) as refused:
        build_grader("embedding_distance", settings)
    assert dotted(refused.value.path) == "model"


PAIRS = st.integers(1, 6).flatmap(
    lambda size: st.tuples(
        *[
            st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=size, max_size=size)
            for _ in range(2)
        ]
    )
)


@given(PAIRS)
def test_closeness_is_symmetric_from_0_to_1_and_1_of_what_is_equal(pair: Any) -> None:
    one, other = pair
    assert 0 <= closeness(one, other) <= 1
    assert closeness(one, other) == closeness(other, one)
    assert closeness(one, one) == 1
