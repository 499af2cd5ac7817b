"""Embeddings compared: the cosine itself, and what is asked of an embedding model."""

import asyncio
import math
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from apps.clients import CallFailed
from apps.grading.graders import build_grader
from apps.grading.graders.base import Mark
from apps.grading.graders.cosine import CosineSimilarity, cosine
from apps.grading.samples import Sample

SETTINGS = {
    "input": "{{ item.a }}",
    "reference": "{{ item.b }}",
    "metric": "cosine",
    "pass_threshold": 0.5,
}
VECTORS = {"east": [1.0, 0.0], "north": [0.0, 2.0], "north-east": [3.0, 3.0], "west": [-1.0, 0.0]}


class Embedding:
    """Knows a few texts; any other fails as a server would."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    async def chat(self, request: dict[str, Any]) -> dict[str, Any]:
        raise AssertionError("embeddings need no chat")

    async def embed(self, model: str, texts: list[str]) -> list[list[float]]:
        assert model == ""
        self.asked.append(texts)
        try:
            return [VECTORS[text] for text in texts]
        except KeyError as error:
            raise CallFailed("model_server_error", "no such text") from error


def judge(a: str, b: str) -> tuple[Mark, Embedding]:
    grader = build_grader("text_similarity", SETTINGS)
    assert isinstance(grader, CosineSimilarity)
    ask = Embedding()
    return asyncio.run(grader.judge(Sample({"a": a, "b": b}, None), ask)), ask


def test_the_score_is_the_cosine_of_the_angle_clamped_at_0() -> None:
    assert judge("east", "east")[0].value == pytest.approx(1)
    assert judge("north-east", "north")[0].value == pytest.approx(math.sqrt(0.5))
    assert judge("east", "north")[0].value == 0
    assert judge("east", "west")[0].value == 0


def test_the_threshold_is_inclusive_and_both_texts_go_in_one_call() -> None:
    mark, ask = judge("north-east", "east")
    assert mark.passed is True
    assert ask.asked == [["north-east", "east"]]
    assert judge("east", "north")[0].passed is False


def test_an_empty_text_scores_0_without_asking() -> None:
    for a, b in (("", "east"), ("east", ""), ("", "")):
        mark, ask = judge(a, b)
        assert (mark.value, mark.passed, ask.asked) == (0.0, False, [])


def test_a_model_that_fails_makes_an_errored_mark() -> None:
    mark, _ = judge("east", "unknown")
    assert mark.value is None
    assert mark.error is not None
    assert mark.error.code == "embedding_failed"


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=8))
def test_a_vector_is_at_no_angle_to_itself(vector: list[float]) -> None:
    assume(math.hypot(*vector) > 1e-100)
    assert cosine(vector, vector) == pytest.approx(1)


def test_a_vector_of_zeros_has_no_angle() -> None:
    assert cosine([0.0, 0.0], [1.0, 0.0]) == 0


def test_vectors_of_different_lengths_have_nothing_in_common() -> None:
    assert cosine([1.0], [1.0, 0.0]) == 0
