"""Settings have the vendor's names on the wire and the core's behind it."""

import pytest

from apps.grading.graders.text_similarity import TextSimilarity
from evalplatform.dialects.kit.problems import Kind, Problem
from evalplatform.dialects.openai.evals.criteria import in_vendors_words, new_criterion, renamed
from tests.dialects.openai.caller import TEXT_SIMILARITY


def test_the_core_reads_a_metric_under_its_own_name():
    criterion = new_criterion(TEXT_SIMILARITY)
    grader = TextSimilarity.from_settings(criterion.settings)
    assert grader.metric == TEXT_SIMILARITY["evaluation_metric"]


def test_all_that_was_sent_is_given_back_in_its_order():
    sent = {"metric": "mine", "input": "a", "evaluation_metric": "bleu"}
    kept = renamed("text_similarity", sent)
    assert kept == {"evaluation_metric": "mine", "input": "a", "metric": "bleu"}
    assert [*renamed("text_similarity", kept).items()] == [*sent.items()]
    assert renamed("string_check", sent) == sent


@pytest.mark.parametrize("above", [(), ("criteria", 1), ("graders", "near")])
def test_a_problem_names_a_setting_as_the_vendor_does(above):
    said = Problem(Kind.INVALID, "metric is required.", (*above, "metric"))
    shown = in_vendors_words(said)
    assert shown.message == "evaluation_metric is required."
    assert shown.path == (*above, "evaluation_metric")


@pytest.mark.parametrize("path", [(), ("name",), ("graders", "metric"), ("criteria", 0)])
def test_what_is_said_of_something_else_stays(path):
    said = Problem(Kind.INVALID, "metric is odd.", path)
    assert in_vendors_words(said) == said
