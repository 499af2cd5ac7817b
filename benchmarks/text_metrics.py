"""Figure B: how many pairs of 60 words five text graders mark a second, and the usual libraries.

Run: python benchmarks/text_metrics.py [--pairs 20000] [--library-pairs 1000]
Exits with 1 when a value differs from the libraries' by more than 1e-9.
"""

import argparse
import logging
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rapidfuzz import fuzz
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu import sentence_bleu

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from apps.evaluations.graders.base import PlainGrader, Sample
from apps.evaluations.graders.string_check import StringCheck
from apps.evaluations.graders.text_similarity import TextSimilarity

WORDS_PER_TEXT = 60
TOLERANCE = 1e-9
ROUNDS = 3

TEMPLATES = {"input": "{{sample.output_text}}", "reference": "{{item.reference}}"}
SIMILARITIES = ("fuzzy_match", "bleu", "rouge_1", "rouge_l")
GRADERS: tuple[PlainGrader, ...] = (
    StringCheck.from_settings({**TEMPLATES, "operation": "eq"}),
    *(
        TextSimilarity.from_settings({**TEMPLATES, "evaluation_metric": metric})
        for metric in SIMILARITIES
    ),
)
ROUGE = RougeScorer(["rouge1", "rougeL"])

Pair = tuple[str, str]
Scores = tuple[Any, ...]


def made_pairs(count: int) -> list[Pair]:
    """References in the word frequencies of English, and answers that keep three words in four."""
    chance = random.Random(20)
    vocabulary = [
        "".join(chance.choices("etaoinshrdlucmfw", k=1 + min(9, rank.bit_length())))
        for rank in range(5000)
    ]
    frequencies = [1 / (rank + 1) for rank in range(5000)]

    def text(words: list[str]) -> str:
        words = [word + "," if chance.random() < 0.08 else word for word in words]
        return " ".join(words).capitalize() + "."

    pairs = []
    for _ in range(count):
        reference = chance.choices(vocabulary, frequencies, k=WORDS_PER_TEXT)
        others = chance.choices(vocabulary, frequencies, k=WORDS_PER_TEXT)
        answer = [
            word if chance.random() < 0.75 else other
            for word, other in zip(reference, others, strict=True)
        ]
        pairs.append((text(answer), text(reference)))
    return pairs


def ours(pairs: list[Pair]) -> list[Scores]:
    """What the engine does with recorded answers, short of storing: a sample a row, five marks."""
    scores = []
    for answer, reference in pairs:
        sample = Sample({"reference": reference}, {"output_text": answer})
        scores.append(tuple(grader.grade(sample).value for grader in GRADERS))
    return scores


def libraries(pairs: list[Pair]) -> list[Scores]:
    """The same five by the packages whose values are the definition."""
    scores: list[Scores] = []
    for answer, reference in pairs:
        rouge = ROUGE.score(reference, answer)
        bleu = sentence_bleu(
            answer,
            [reference],
            smooth_method="exp",
            tokenize="none",
            use_effective_order=True,
        )
        scores.append(
            (
                float(answer == reference),
                fuzz.ratio(answer, reference) / 100,
                bleu.score / 100,
                rouge["rouge1"].fmeasure,
                rouge["rougeL"].fmeasure,
            )
        )
    return scores


def best_rate(work: Callable[[list[Pair]], list[Scores]], pairs: list[Pair]) -> float:
    """Pairs a second of processor time, of the quickest of some rounds."""
    seconds = []
    for _ in range(ROUNDS):
        start = time.process_time()
        work(pairs)
        seconds.append(time.process_time() - start)
    return len(pairs) / min(seconds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=20_000)
    parser.add_argument("--library-pairs", type=int, default=1_000)
    arguments = parser.parse_args()
    logging.getLogger("sacrebleu").setLevel(logging.ERROR)

    pairs = made_pairs(arguments.pairs)
    few = pairs[: arguments.library_pairs]
    difference = max(
        abs(our - their)
        for our_scores, their_scores in zip(ours(few), libraries(few), strict=True)
        for our, their in zip(our_scores, their_scores, strict=True)
    )
    our_rate, library_rate = best_rate(ours, pairs), best_rate(libraries, few)
    print(f"equality, {', '.join(SIMILARITIES)} on pairs of {WORDS_PER_TEXT} words, one core")
    print(f"graders      {our_rate:>8,.0f} pairs/s  ({len(pairs):,} pairs)")
    print(f"libraries    {library_rate:>8,.0f} pairs/s  ({len(few):,} pairs)")
    print(f"ratio        {our_rate / library_rate:>8.1f}")
    print(f"difference   {difference:>8.1e}  (at most {TOLERANCE:.0e})")
    return 0 if difference <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
