"""The grader that measures the similarity of two texts by a metric of choice."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from rapidfuzz import fuzz

from apps.grading.graders import meteor, ngrams
from apps.grading.graders.base import InvalidSetting, Mark, PlainGrader
from apps.grading.graders.sides import warn_of_list
from apps.grading.samples import Sample
from apps.text import quoted, shown

LARGEST_TABLE = 10**10


@dataclass(frozen=True)
class Metric:
    """A similarity metric.

    measure: computes it from a sample, a text and a reference. quadratic: its time grows with the
    product of the lengths. evidence: is shown beside every score. warn: says of a sample and its
    two texts what makes their score worthless, "" if nothing does.
    """

    measure: Callable[[Sample, str, str], float]
    quadratic: bool = False
    evidence: str = ""
    warn: Callable[[Sample, str, str], str] | None = None


def _words(sample: Sample, text: str) -> list[str]:
    return sample.memo((ngrams.words, text), partial(ngrams.words, text))


def _alphanumerics(sample: Sample, text: str) -> list[bytes]:
    return sample.memo((ngrams.alphanumerics, text), partial(ngrams.alphanumerics, text))


def _overlap(sample: Sample, text: str, reference: str) -> ngrams.Overlap:
    return sample.memo(
        (ngrams.overlap, text, reference),
        lambda: ngrams.overlap(_words(sample, text), _words(sample, reference)),
    )


def _fuzzy_match(sample: Sample, text: str, reference: str) -> float:
    return fuzz.ratio(text, reference) / 100


def _bleu(sample: Sample, text: str, reference: str) -> float:
    return ngrams.bleu(_overlap(sample, text, reference))


def _gleu(sample: Sample, text: str, reference: str) -> float:
    return ngrams.gleu(_overlap(sample, text, reference))


def _meteor(sample: Sample, text: str, reference: str) -> float:
    return meteor.meteor(_words(sample, text.lower()), _words(sample, reference.lower()))


def _rouge_n(order: int, sample: Sample, text: str, reference: str) -> float:
    tokens, reference_tokens = _alphanumerics(sample, text), _alphanumerics(sample, reference)
    return ngrams.rouge_n(tokens, reference_tokens, order)


def _rouge_l(sample: Sample, text: str, reference: str) -> float:
    return ngrams.rouge_l(_alphanumerics(sample, text), _alphanumerics(sample, reference))


def _warn_of_scripts(sample: Sample, text: str, reference: str) -> str:
    """Warn of texts in which ROUGE finds nothing to count, such as Chinese or Russian ones."""
    for side in (text, reference):
        if not _alphanumerics(sample, side) and any(map(str.isalnum, side)):
            return f"ROUGE counts a-z and 0-9 alone, of which this has none: {shown(side)}"
    return ""


METRICS: dict[str, Metric] = {
    "fuzzy_match": Metric(_fuzzy_match, quadratic=True),
    "bleu": Metric(_bleu),
    "gleu": Metric(_gleu),
    "meteor": Metric(_meteor, evidence=", ".join(meteor.STAGES)),
    **{
        f"rouge_{order}": Metric(partial(_rouge_n, order), warn=_warn_of_scripts)
        for order in range(1, 6)
    },
    "rouge_l": Metric(_rouge_l, quadratic=True, warn=_warn_of_scripts),
}


@dataclass(frozen=True)
class TextSimilarity(PlainGrader):
    """Score the similarity of `input` and `reference`, from 0 to 1, by `metric`.

    input, reference: templates. pass_threshold: pass at this score or above; without one the
    score neither passes nor fails. Metrics, each defined in its function:
    fuzzy_match   rapidfuzz's fuzz.ratio / 100 on the raw texts: normalised Indel similarity
    bleu          sentence BLEU of 1- to 4-grams on whitespace words, smoothed exponentially
    gleu          the lesser of precision and recall over all 1- to 4-grams
    meteor        alignment of words in stages, which the evidence names
    rouge_1 .. 5  F-measure of n-grams of lower-cased a-z and 0-9; text in other scripts has none,
                  of which a `warning` beside the score tells
    rouge_l       F-measure of the longest common subsequence of the same tokens
    Both texts empty: fuzzy_match is 1, all others 0. One empty: 0. Texts whose lengths in
    characters multiply to more than LARGEST_TABLE are errored by fuzzy_match and rouge_l, which
    would hold up all other work for seconds.
    The metric cosine compares embeddings: it is a grader of its own, `cosine.CosineSimilarity`.
    Source: docs/contracts/openai.md, section 13.2.
    """

    kind = "text_similarity"

    input: str
    reference: str
    metric: str
    pass_threshold: float | None = None

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            known, given = ", ".join([*METRICS, "cosine"]), quoted(self.metric)
            raise InvalidSetting("metric", f"metric must be one of {known}, not {given}.")

    def templates(self) -> tuple[str, ...]:
        return (self.input, self.reference)

    def mark(self, sample: Sample) -> Mark:
        text, reference = sample.render(self.input), sample.render(self.reference)
        metric = METRICS[self.metric]
        if metric.quadratic and len(text) * len(reference) > LARGEST_TABLE:
            return too_long(self.metric, text, reference)
        value = min(max(metric.measure(sample, text, reference), 0.0), 1.0)
        passed = None if self.pass_threshold is None else value >= self.pass_threshold
        warning = warn_of_list(sample, self.reference, reference)
        if not warning and metric.warn is not None:
            warning = metric.warn(sample, text, reference)
        if warning:
            return Mark(value, passed, warning, notes={"warning": warning})
        return Mark(value, passed, metric.evidence)


def too_long(metric: str, text: str, reference: str) -> Mark:
    """Build the errored mark of two texts that a quadratic metric must not compare."""
    return Mark.errored_by(
        "text_too_long",
        f"{metric} cannot compare texts of {len(text):,} and {len(reference):,} characters: "
        f"the product may be at most {LARGEST_TABLE:,}.",
    )
