"""Exceptions become a list of problems in plain words, whichever library raised them."""

import pytest
from django.core.exceptions import ObjectDoesNotExist, PermissionDenied, ValidationError
from rest_framework import exceptions, serializers

from apps.errors import Invalid, LimitError, Problem, StateError, Unfit
from evalplatform.dialects.kit import problems
from evalplatform.dialects.kit.problems import Kind, problems_of


class Inner(serializers.Serializer):
    count = serializers.IntegerField()


class Outer(serializers.Serializer):
    name = serializers.CharField()
    many = serializers.ListField(child=Inner())

    def validate(self, attrs):
        raise serializers.ValidationError("No.", code="odd")


@pytest.mark.parametrize(("refused", "kind"), [(Invalid, Kind.INVALID), (Unfit, Kind.UNFIT)])
def test_a_refusals_problems_keep_their_paths_and_codes(refused, kind):
    given = [Problem("First.", ("criteria", 0), "a"), Problem("Second.", (), "b")]
    assert problems_of(refused(given)) == [
        problems.Problem(kind, "First.", ("criteria", 0), "a"),
        problems.Problem(kind, "Second.", (), "b"),
    ]


def test_a_tree_of_field_errors_is_read_whole_and_in_order():
    shape = Outer(data={"many": [{"count": 1}, {"count": "x"}, {}]})
    with pytest.raises(exceptions.ValidationError) as refused:
        shape.is_valid(raise_exception=True)
    found = [(one.path, one.code) for one in problems_of(refused.value)]
    assert found == [
        (("name",), "missing_required_parameter"),
        (("many", 1, "count"), "invalid_type"),
        (("many", 2, "count"), "missing_required_parameter"),
    ]


def test_what_no_field_says_is_said_of_the_whole():
    shape = Outer(data={"name": "a", "many": []})
    with pytest.raises(exceptions.ValidationError) as refused:
        shape.is_valid(raise_exception=True)
    assert problems_of(refused.value) == [problems.Problem(Kind.INVALID, "No.", (), "odd")]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValidationError(["One.", "Two."]), Kind.INVALID),
        (PermissionDenied("No."), Kind.FORBIDDEN),
        (ObjectDoesNotExist("None."), Kind.MISSING),
        (StateError("Not now."), Kind.STATE),
        (LimitError("Too much."), Kind.LIMIT),
        (exceptions.NotAuthenticated(), Kind.UNAUTHENTICATED),
    ],
)
def test_every_refusal_has_a_kind_and_a_message(error, kind):
    found = problems_of(error)
    assert {one.kind for one in found} == {kind}
    assert all(one.message for one in found)


def test_a_fault_of_our_own_is_no_problem_of_the_callers():
    assert problems_of(KeyError("name")) == []
