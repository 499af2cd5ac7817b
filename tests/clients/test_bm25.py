"""BM25 against its formula, and what it does with nothing."""

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.clients.bm25 import Bm25Index, words

TEXTS = [
    "Where is my parcel? It was due on Monday.",
    "The parcel arrived broken, I want my money back.",
    "How do I change my password?",
    "",
    "Password reset mail never arrived",
]


def bm25(query: str, texts: list[str]) -> list[float]:
    """The formula, word by word."""
    corpus = [words(text) for text in texts]
    average = sum(map(len, corpus)) / len(corpus)
    scores = []
    for document in corpus:
        counts = Counter(document)
        score = 0.0
        for word in words(query):
            holding = sum(word in other for other in corpus)
            rarity = math.log(1 + (len(corpus) - holding + 0.5) / (holding + 0.5))
            length = 1.5 * (1 - 0.75 + 0.75 * len(document) / average)
            score += rarity * counts[word] / (counts[word] + length)
        scores.append(score)
    return scores


def test_words_are_lower_case_runs_of_any_script():
    assert words("Größe: 3,5 cm — Ärger_1 ДОМ\n東京!") == [
        "größe",
        "3",
        "5",
        "cm",
        "ärger_1",
        "дом",
        "東京",
    ]
    assert words(" \n?!") == []


def test_the_nearest_text_shares_the_rarest_words():
    index = Bm25Index.build(TEXTS)
    assert [position for position, _ in index.nearest("password change", 5)] == [2, 4]
    assert index.nearest("PARCEL parcel broken", 1)[0][0] == 1


def test_what_shares_no_word_is_not_returned():
    index = Bm25Index.build(TEXTS)
    assert index.nearest("zebra", 3) == []
    assert index.nearest("", 3) == []
    assert index.nearest("?", 3) == []
    assert [position for position, _ in index.nearest("zebra broken", 3)] == [1]


@pytest.mark.parametrize("texts", [[], [""], ["", "?!"]])
def test_a_corpus_without_words_finds_nothing(texts):
    assert Bm25Index.build(texts).nearest("anything", 3) == []


def test_equal_texts_come_in_their_order():
    index = Bm25Index.build(["other words", "same text", "text same", "same text"] * 50)
    found = index.nearest("text same", 6)
    assert [position for position, _ in found] == [1, 2, 3, 5, 6, 7]
    assert len({score for _, score in found}) == 1


LETTERS = st.lists(st.sampled_from("abcdefg"), max_size=8).map(" ".join)


@given(st.lists(LETTERS, min_size=1, max_size=12), LETTERS, st.integers(1, 15))
def test_scores_are_those_of_the_formula(texts, query, k):
    expected = bm25(query, texts) if any(texts) else [0.0] * len(texts)
    found = Bm25Index.build(texts).nearest(query, k)
    assert len(found) == min(k, sum(score > 0 for score in expected))
    assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)
    for position, score in found:
        assert score == pytest.approx(expected[position], rel=1e-5)
    left_out = set(range(len(texts))) - {position for position, _ in found}
    if found:
        assert max((expected[p] for p in left_out), default=0) <= found[-1][1] + 1e-6
