"""Figure B: how many pairs of 60 words five text graders mark a second, and the usual libraries.

    .venv/bin/python benchmarks/text_metrics.py [--pairs 20000] [--library-pairs 1000]

First the graders alone beside the libraries; then all pairs as a run over an uploaded file, graded
and stored by a served instance. Exits with 1 when a value differs from the libraries' by more than
1e-9. DATABASE_URL and REDIS_URL are used where they are set.
"""

import logging
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
from rapidfuzz import fuzz
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu import sentence_bleu

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from apps.grading.graders.base import PlainGrader
from apps.grading.graders.string_check import StringCheck
from apps.grading.graders.text_similarity import TextSimilarity
from apps.grading.samples import Sample
from benchmarks.figures import Figure, options_of, report
from benchmarks.platform_up import platform_up

WORDS_PER_TEXT = 60
TOLERANCE = 1e-9
ROUNDS = 3
POLL_SECONDS = 0.1

TEMPLATES = {"input": "{{sample.output_text}}", "reference": "{{item.reference}}"}
SIMILARITIES = ("fuzzy_match", "bleu", "rouge_1", "rouge_l")
GRADERS: tuple[PlainGrader, ...] = (
    StringCheck.from_settings({**TEMPLATES, "operation": "eq"}),
    *(TextSimilarity.from_settings({**TEMPLATES, "metric": metric}) for metric in SIMILARITIES),
)
CRITERIA = [
    {"type": "string_check", "name": "equality", "operation": "eq", **TEMPLATES},
    *(
        {
            "type": "text_similarity",
            "name": metric,
            "evaluation_metric": metric,
            "pass_threshold": 0.5,
            **TEMPLATES,
        }
        for metric in SIMILARITIES
    ),
]
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
    """Do as the engine does with recorded answers, short of storing: a sample a row, five marks."""
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


def stored_rate(pairs: list[Pair]) -> float:
    """Pairs a second from the run's creation until all are graded and stored."""
    with tempfile.TemporaryDirectory() as folder, platform_up() as platform:
        eval_id = platform.create_eval(CRITERIA)
        path = Path(folder) / "pairs.jsonl"
        for some in (pairs[:10], pairs):  # imports are not what is measured
            with path.open("wb") as file:
                for answer, reference in some:
                    row = {"item": {"reference": reference}, "sample": {"output_text": answer}}
                    file.write(orjson.dumps(row) + b"\n")
            source = {"type": "file_id", "id": platform.upload(path)}
            began = time.perf_counter()
            run = platform.start_run(eval_id, {"type": "jsonl", "source": source})
            platform.wait_for(run, len(some), POLL_SECONDS)
            seconds = time.perf_counter() - began
    return len(pairs) / seconds


def main() -> int:
    options = options_of(__doc__, pairs=20_000, library_pairs=1_000)
    logging.getLogger("sacrebleu").setLevel(logging.ERROR)

    pairs = made_pairs(options.pairs)
    few = pairs[: options.library_pairs]
    difference = max(
        abs(our - their)
        for our_scores, their_scores in zip(ours(few), libraries(few), strict=True)
        for our, their in zip(our_scores, their_scores, strict=True)
    )
    library_rate = best_rate(libraries, few)
    against = "usual libraries"
    metrics = f"equality, {', '.join(SIMILARITIES)}"
    report(
        [
            Figure(
                f"B: {metrics}; {len(pairs):,} pairs, one core, graders alone",
                best_rate(ours, pairs),
                "pairs/s",
                library_rate,
                against,
                at_least=5_000,
            ),
            Figure(
                f"B: the same from run to `completed`, {len(pairs):,} rows stored",
                stored_rate(pairs),
                "rows/s",
                library_rate,
                against,
                at_least=2_500,
            ),
            Figure(
                f"B: largest difference of a value, {len(few):,} pairs",
                difference,
                "",
                at_most=TOLERANCE,
            ),
        ],
        options,
    )
    return 0 if difference <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
