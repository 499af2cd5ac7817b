"""text_similarity against the contract's vectors and the libraries it names."""

import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from nltk.translate.gleu_score import sentence_gleu
from nltk.translate.meteor_score import single_meteor_score
from rapidfuzz import fuzz
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu import sentence_bleu

from apps.errors import dotted
from apps.grading.graders import InvalidSetting, build_grader
from apps.grading.graders.text_similarity import METRICS
from apps.grading.samples import Sample

ROUGE = RougeScorer([*(f"rouge{order}" for order in range(1, 6)), "rougeL"])

COLUMNS = ("fuzzy_match", "bleu", "gleu", "meteor", "rouge_1", "rouge_2", "rouge_3", "rouge_l")
VECTORS = [
    (
        *("the cat sat on the mat", "the cat is on the mat"),
        (0.9302, 0.3799, 0.5000, 0.8067, 0.8333, 0.6000, 0.2500, 0.8333),
    ),
    (
        *("Paris is the capital of France", "the capital of France is Paris"),
        (0.7000, 0.5623, 0.6667, 0.9375, 1.0000, 0.6000, 0.5000, 0.6667),
    ),
    (
        *("Hello World", "hello world"),
        (0.8182, 0.0000, 0.0000, 0.9375, 1.0000, 1.0000, 0.0000, 1.0000),
    ),
    (
        *("red green blue", "one two three"),
        (0.3704, 0.0000, 0.0000, 0.0000, 0.0000, 0.0000, 0.0000, 0.0000),
    ),
    (
        *("a b c d e f", "a b c d e f"),
        (1.0000, 1.0000, 1.0000, 0.9977, 1.0000, 1.0000, 1.0000, 1.0000),
    ),
    (
        *("New York", "New York"),
        (1.0000, 1.0000, 1.0000, 0.9375, 1.0000, 1.0000, 0.0000, 1.0000),
    ),
]
FURTHER_VECTORS = [
    ("the cat sat on the mat", "the cat is on the mat", "rouge_4", 0.0),
    ("Paris is the capital of France", "the capital of France is Paris", "rouge_4", 0.3333),
    ("Paris is the capital of France", "the capital of France is Paris", "rouge_5", 0.0),
]

# Few words, so that texts share n-grams; endings, so that stems meet; cases, marks and scripts
# in which lower(), split() and the tokenisers could disagree.
WORDS = st.sampled_from(
    [
        *("the", "The", "cat", "cats", "relate", "relational", "happy", "happily", "hopping"),
        *("hop", "dies", "dying", "3.5", "1,000", "can't", "naïve", "STRASSE", "straße", "ΟΔΟΣ"),
        *("İstanbul", "東京", "мир", "\u212aelvin", "…", "-", "x*ding", "👍🏽", "e\u0301"),
    ]
)
SPACES = st.sampled_from([" ", " ", " ", "  ", "\n", "\t", "\u00a0", "\u3000", "\x1c", ", ", ""])
SENTENCES = st.lists(st.tuples(WORDS, SPACES), max_size=14).map(
    lambda parts: "".join(word + space for word, space in parts)
)
TEXTS = SENTENCES | st.text(max_size=30) | WORDS


class NoSynonyms:
    """A WordNet without an entry, which leaves nltk its exact and stem stages."""

    def synsets(self, word):
        return []


def rouge(text, reference, name):
    return ROUGE.score(reference, text)[name].fmeasure


REFERENCES = {
    "fuzzy_match": lambda text, reference: fuzz.ratio(text, reference) / 100,
    "bleu": lambda text, reference: (
        sentence_bleu(
            text, [reference], smooth_method="exp", tokenize="none", use_effective_order=True
        ).score
        / 100
    ),
    "gleu": lambda text, reference: sentence_gleu([reference.split()], text.split()),
    "meteor": lambda text, reference: single_meteor_score(
        reference.split(), text.split(), wordnet=NoSynonyms()
    ),
    "rouge_1": lambda text, reference: rouge(text, reference, "rouge1"),
    "rouge_2": lambda text, reference: rouge(text, reference, "rouge2"),
    "rouge_3": lambda text, reference: rouge(text, reference, "rouge3"),
    "rouge_4": lambda text, reference: rouge(text, reference, "rouge4"),
    "rouge_5": lambda text, reference: rouge(text, reference, "rouge5"),
    "rouge_l": lambda text, reference: rouge(text, reference, "rougeL"),
}


def similarity(metric, threshold=None):
    return build_grader(
        "text_similarity",
        {
            "input": "{{sample.output_text}}",
            "reference": "{{item.reference}}",
            "metric": metric,
            "pass_threshold": threshold,
        },
    )


def pair(text, reference):
    return Sample({"reference": reference}, {"output_text": text})


def score(metric, text, reference):
    return similarity(metric).grade(pair(text, reference)).value


@pytest.mark.parametrize(
    ("text", "reference", "metric", "expected"),
    [
        (text, reference, metric, value)
        for text, reference, values in VECTORS
        for metric, value in zip(COLUMNS, values, strict=True)
    ]
    + FURTHER_VECTORS,
)
def test_a_published_vector_is_met_to_four_decimals(text, reference, metric, expected):
    assert round(score(metric, text, reference), 4) == expected


def test_every_metric_has_a_library_to_agree_with():
    assert set(REFERENCES) == set(METRICS)


# Texts take longer to make up than to measure: each pair is tried with every metric.
@settings(max_examples=200)
@given(text=TEXTS, reference=TEXTS)
@example(text="", reference="")
@example(text="", reference="word")
@example(text="word", reference="")
@example(text="word", reference="word")
@example(text="a a a b", reference="a b a a a")
def test_every_metric_equals_its_library(text, reference):
    for metric, measure in REFERENCES.items():
        # sacrebleu can exceed 1 by a rounding error; the contract clamps.
        expected = min(measure(text, reference), 1.0)
        assert score(metric, text, reference) == pytest.approx(expected, abs=1e-9), metric


@given(text=TEXTS, reference=TEXTS, order=st.permutations(list(METRICS)))
def test_graders_that_share_a_sample_do_not_change_each_other(text, reference, order):
    shared = pair(text, reference)
    for metric in order:
        assert similarity(metric).grade(shared).value == score(metric, text, reference)


@given(text=TEXTS, reference=TEXTS)
def test_a_score_lies_between_0_and_1(text, reference):
    for metric in METRICS:
        value = score(metric, text, reference)
        assert 0.0 <= value <= 1.0, metric
        assert not math.isnan(value), metric


@pytest.mark.parametrize("metric", METRICS)
def test_empty_texts_are_unlike_except_to_fuzzy_match(metric):
    assert score(metric, "", "") == (1.0 if metric == "fuzzy_match" else 0.0)
    assert score(metric, "a b c d e f", "") == 0.0
    assert score(metric, "", "a b c d e f") == 0.0


@given(text=st.lists(st.sampled_from(["ab", "c", "d1"]), min_size=5, max_size=40).map(" ".join))
def test_identical_texts_score_exactly_1(text):
    for metric in set(METRICS) - {"meteor"}:
        assert similarity(metric, 1.0).grade(pair(text, text)).passed, metric


@given(st.lists(st.sampled_from(["ab", "c", "d1"]), min_size=1, max_size=20))
def test_meteor_of_identical_texts_lacks_half_over_the_cube_of_their_length(words):
    text = " ".join(words)
    assert score("meteor", text, text) == pytest.approx(1 - 0.5 / len(words) ** 3, abs=1e-12)


@given(text=TEXTS, reference=TEXTS)
def test_symmetric_metrics_do_not_care_which_text_is_the_reference(text, reference):
    for metric in ("fuzzy_match", "gleu", "rouge_1", "rouge_2", "rouge_l"):
        assert score(metric, text, reference) == score(metric, reference, text), metric


def test_a_score_equal_to_the_threshold_passes():
    value = score("rouge_1", "a b c", "a b d")
    assert similarity("rouge_1", value).grade(pair("a b c", "a b d")).passed is True
    above = math.nextafter(value, 1)
    assert similarity("rouge_1", above).grade(pair("a b c", "a b d")).passed is False


def test_without_a_threshold_a_score_has_no_verdict():
    assert similarity("bleu").grade(pair("a", "a")).passed is None


def test_fuzzy_match_minds_the_case():
    assert score("fuzzy_match", "PARIS", "paris") == 0.0


def test_the_evidence_of_meteor_names_the_stages_that_ran():
    assert similarity("meteor").grade(pair("cats", "cat")).evidence == "exact, stem"


@pytest.mark.parametrize("metric", ["rouge_6", "rouge_0", "ROUGE_1", "rouge", "levenshtein", ""])
def test_an_unknown_metric_is_refused_by_name(metric):
    with pytest.raises(InvalidSetting) as caught:
        similarity(metric)
    assert dotted(caught.value.path) == "metric"
    assert caught.value.message.endswith(f'rouge_l, cosine, not "{metric}".')


@pytest.mark.parametrize("metric", METRICS)
def test_texts_too_long_for_a_table_are_errored_where_one_is_needed(metric):
    mark = similarity(metric).grade(pair("ab " * 40_000, "cd " * 40_000))
    if metric in {"fuzzy_match", "rouge_l"}:
        assert (mark.error.code, mark.value, mark.passed) == ("text_too_long", None, None)
        assert metric in mark.error.message
        assert "120,000" in mark.error.message
    else:
        assert mark.value == 0.0


@pytest.mark.parametrize("metric", [name for name in METRICS if name.startswith("rouge")])
@pytest.mark.parametrize(
    ("text", "reference"),
    [("巴黎", "巴黎"), ("パリです", "Paris"), ("Paris", "ปารีส"), ("Париж", "Париж")],
)
def test_rouge_warns_of_texts_in_which_it_has_nothing_to_count(metric, text, reference):
    settings = {"input": "{{item.a}}", "reference": "{{item.b}}", "metric": metric}
    grader = build_grader("text_similarity", settings)
    mark = grader.grade(Sample({"a": text, "b": reference}, None))
    assert (mark.value, mark.error) == (0.0, None)
    assert mark.notes == {"warning": mark.evidence}
    assert "has none" in mark.evidence


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("text", "reference"), [("", ""), ("...", "Paris"), ("Caf\xe9", "caf\xe9")]
)
def test_nothing_else_is_warned_of(metric, text, reference):
    settings = {"input": "{{item.a}}", "reference": "{{item.b}}", "metric": metric}
    grader = build_grader("text_similarity", settings)
    assert grader.grade(Sample({"a": text, "b": reference}, None)).notes is None
