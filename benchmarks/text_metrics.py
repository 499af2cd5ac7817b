"""Figure B: how many pairs of 60 words five text graders mark a second, and the usual libraries.

    .venv/bin/python benchmarks/text_metrics.py [--pairs 20000] [--library-pairs 1000]
        [--turns 5]

In turns: the libraries, the graders alone, and all pairs as a run over an uploaded file, graded and
stored by a served instance. Exits with 1 when a value differs from the libraries' by more than
1e-9. DATABASE_URL and REDIS_URL are used where they are set.
"""

import logging
import random
import statistics
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
from benchmarks.platform_up import Platform, platform_up

WORDS_PER_TEXT = 60
TOLERANCE = 1e-9
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


def seconds_of(
    work: Callable[[list[Pair]], list[Scores]], pairs: list[Pair]
) -> tuple[float, float]:
    """Seconds a pair, and of the processor."""
    began, used = time.perf_counter(), time.process_time()
    work(pairs)
    seconds, used = time.perf_counter() - began, time.process_time() - used
    return seconds / len(pairs), used / len(pairs)


def write_pairs(path: Path, pairs: list[Pair]) -> None:
    with path.open("wb") as file:
        for answer, reference in pairs:
            row = {"item": {"reference": reference}, "sample": {"output_text": answer}}
            file.write(orjson.dumps(row) + b"\n")


def seconds_stored(platform: Platform, eval_id: str, path: Path, count: int) -> tuple[float, float]:
    """Seconds a pair from the run's creation until all are graded and stored, and of all processes.

    The pairs are uploaded before.
    """
    source = {"type": "file_id", "id": platform.upload(path)}
    began, used = time.perf_counter(), platform.processor_seconds()
    run = platform.start_run(eval_id, {"type": "jsonl", "source": source})
    platform.wait_for(run, count, POLL_SECONDS)
    seconds = time.perf_counter() - began
    return seconds / count, (platform.processor_seconds() - used) / count


def measured(pairs: list[Pair], few: list[Pair], turns: int) -> dict[str, tuple[float, float]]:
    """The medians of wall and processor seconds a pair: of the libraries, of ours, and stored."""
    taken: dict[str, list[tuple[float, float]]] = {"libraries": [], "ours": [], "stored": []}
    with tempfile.TemporaryDirectory() as folder, platform_up() as platform:
        eval_id = platform.create_eval(CRITERIA)
        path, warm = Path(folder) / "pairs.jsonl", Path(folder) / "warm.jsonl"
        write_pairs(path, pairs)
        write_pairs(warm, pairs[:10])
        seconds_stored(platform, eval_id, warm, 10)  # imports are not what is measured
        for _ in range(turns):
            taken["libraries"].append(seconds_of(libraries, few))
            taken["ours"].append(seconds_of(ours, pairs))
            taken["stored"].append(seconds_stored(platform, eval_id, path, len(pairs)))
    return {
        name: (statistics.median(one[0] for one in took), statistics.median(one[1] for one in took))
        for name, took in taken.items()
    }


def main() -> int:
    options = options_of(__doc__, pairs=20_000, library_pairs=1_000, turns=5)
    logging.getLogger("sacrebleu").setLevel(logging.ERROR)

    pairs = made_pairs(options.pairs)
    few = pairs[: options.library_pairs]
    difference = max(
        abs(our - their)
        for our_scores, their_scores in zip(ours(few), libraries(few), strict=True)
        for our, their in zip(our_scores, their_scores, strict=True)
    )
    found = measured(pairs, few, options.turns)
    against = "usual libraries"
    works = {
        "ours": f"B: equality, {', '.join(SIMILARITIES)}; {len(pairs):,} pairs, one core, "
        "graders alone",
        "stored": f"B: the same from run to `completed`, {len(pairs):,} rows stored",
    }
    figures = []
    for name, wanted in (("ours", 8), ("stored", 7)):
        wall, processor = found[name]
        library_wall, library_processor = found["libraries"]
        work = works[name]
        figures += [
            Figure(work, 1 / wall, "pairs/s", 1 / library_wall, against, ratio_at_least=wanted),
            Figure(
                f"{work}, processor time a pair",
                processor * 1000,
                "ms",
                library_processor * 1000,
                against,
            ),
        ]
    work = f"B: largest difference of a value, {len(few):,} pairs"
    report([*figures, Figure(work, difference, "", at_most=TOLERANCE)], options)
    return 0 if difference <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
