"""Rank texts by how well their words match a query's, with BM25."""

import re
from collections.abc import Iterable
from typing import Any, Self

_WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """Split into lower-case runs of letters, digits and underscores, of any script.

    Scripts that put no space between words come out as one word a run.
    """
    return _WORD.findall(text.lower())


class Bm25Index:
    """Texts, to be found again by their position, from 0, in the order they were given.

    Lucene's BM25 with k1 1.5 and b 0.75: a word that a text shares with the query always counts
    for it, the more the rarer it is. Source: Kamphuis et al. 2020, "Which BM25 do you mean?".
    """

    def __init__(self, ranker: Any) -> None:
        self._ranker = ranker

    @classmethod
    def build(cls, texts: Iterable[str]) -> Self:
        """Index the texts; there may be none, or some without a word."""
        import bm25s  # noqa: PLC0415  it brings numpy and costs half a second of import

        corpus = [words(text) for text in texts]
        if not any(corpus):
            return cls(None)
        ranker = bm25s.BM25(method="lucene", k1=1.5, b=0.75)
        ranker.index(corpus, show_progress=False)
        return cls(ranker)

    def nearest(self, query: str, k: int) -> list[tuple[int, float]]:
        """Return the best k texts as (position, score), best first, of equals the earlier first.

        Only texts that share a word with the query: there may be fewer than k, or none.
        """
        known = self._ranker.get_tokens_ids(words(query)) if self._ranker else []
        if not known:
            return []
        scores = self._ranker.get_scores_from_ids(known)
        sharing = scores.nonzero()[0]
        best = sharing[(-scores[sharing]).argsort(kind="stable")[:k]]
        return [(int(position), float(scores[position])) for position in best]
