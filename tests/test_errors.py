"""What services raise: problems in a list, each with the path to it."""

import pytest
from django.core.exceptions import ValidationError

from apps.errors import Invalid, Problem, Unfit, dotted


@pytest.mark.parametrize("kind", [Invalid, Unfit])
def test_one_problem_is_raised_by_its_words(kind):
    refused = kind("It is taken.", path="name", code="taken")
    assert refused.problems == (Problem("It is taken.", ("name",), "taken"),)
    assert (refused.messages, refused.code) == (["It is taken."], "taken")
    assert isinstance(refused, ValidationError)
    nested = kind("It is wrong.", path=("criteria", 0, "operation"))
    assert nested.problems == (Problem("It is wrong.", ("criteria", 0, "operation")),)
    assert kind("All of it is wrong.").problems[0].path == ()


def test_several_problems_keep_their_order():
    problems = [Problem("First.", ("b",)), Problem("Second.", ("a", 1), "invalid_type")]
    refused = Invalid(problems)
    assert refused.problems == tuple(problems)
    assert refused.messages == ["First.", "Second."]


@pytest.mark.parametrize(
    ("path", "spelled"),
    [
        ((), ""),
        (("name",), "name"),
        (("criteria", 0, "operation"), "criteria[0].operation"),
        (("source", 2), "source[2]"),
        (("graders", "a b", "type"), "graders.a b.type"),
        ((1, "a"), "[1].a"),
    ],
)
def test_a_path_is_spelled_with_dots_and_brackets(path, spelled):
    assert dotted(path) == spelled
