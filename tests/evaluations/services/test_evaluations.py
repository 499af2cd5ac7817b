"""Evaluations are created, changed and deleted, by those who may."""

import pytest
from django.core.exceptions import PermissionDenied

from apps.accounts.roles import Role
from apps.evaluations.models import Criterion, Evaluation, Run
from apps.evaluations.services.evaluations import (
    NewCriterion,
    create_evaluation,
    delete_evaluation,
    update_evaluation,
)
from apps.evaluations.services.runs import cancel_run, delete_run, retry_errored, start_run
from apps.evaluations.targets import Recorded
from tests.evaluations.refusals import actions, refused
from tests.factories import (
    SAME,
    make_account,
    make_actor,
    make_evaluation,
    make_run,
)

pytestmark = pytest.mark.django_db
TEXTS = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}


@pytest.fixture
def actor():
    return make_actor()


def test_an_evaluation_keeps_its_criteria_in_order_under_keys_of_their_own(actor):
    criteria = [NewCriterion(SAME.kind, name, SAME.settings) for name in ("b", "a", "b")]
    evaluation = create_evaluation(actor, criteria=criteria, has_sample=True, name="Tickets")
    kept = list(evaluation.criteria.all())
    assert [one.name for one in kept] == ["b", "a", "b"]
    assert len({one.key for one in kept}) == 3
    assert all(one.key.startswith(f"{one.name}-") for one in kept)
    assert kept[0].read_settings() == SAME.settings
    assert "evaluation.create" in actions()


def test_an_evaluation_without_a_name_gets_one(actor):
    assert create_evaluation(actor, criteria=[]).name.startswith("Evaluation of ")


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"item_schema": {"type": "nonsense"}}, "item_schema"),
        ({"item_schema": {"type": "array"}}, "item_schema"),
        ({"item_schema": {"$ref": "https://example.com/schema"}}, "item_schema"),
        ({"name": "x" * 3_001}, "name"),
        ({"criteria": [NewCriterion("nonsense", "a")]}, "criteria[0].type"),
        (
            {"criteria": [SAME, NewCriterion("string_check", "a", {"input": "", "reference": ""})]},
            "criteria[1].operation",
        ),
        (
            {"criteria": [NewCriterion("string_check", "a", {**SAME.settings, "operation": "is"})]},
            "criteria[0].operation",
        ),
        (
            {
                "criteria": [
                    NewCriterion("string_check", "a", {**SAME.settings, "input": "{{ item.typo }}"})
                ],
                "item_schema": {**TEXTS, "additionalProperties": False},
            },
            "criteria[0].input",
        ),
    ],
)
def test_an_evaluation_that_could_not_judge_is_refused_by_its_path(actor, fields, path):
    refused(
        lambda: create_evaluation(actor, **{"criteria": [], "has_sample": True, **fields}), path
    )
    assert not Evaluation.objects.exists()
    assert not Criterion.objects.exists()


def test_an_update_replaces_what_is_given_and_leaves_the_rest(actor):
    evaluation = make_evaluation(actor, name="old", metadata={"a": "1"})
    update_evaluation(actor, evaluation, name="new")
    evaluation.refresh_from_db()
    assert (evaluation.name, evaluation.metadata) == ("new", '{"a":"1"}')
    update_evaluation(actor, evaluation, metadata={"b": "2"})
    evaluation.refresh_from_db()
    assert (evaluation.name, evaluation.metadata) == ("new", '{"b":"2"}')


def test_deleting_an_evaluation_stops_and_hides_its_runs(actor):
    evaluation = make_evaluation(actor)
    run = make_run(actor, evaluation=evaluation)
    other = make_run(actor)
    delete_evaluation(actor, evaluation)
    run.refresh_from_db()
    assert run.state == Run.State.CANCELED
    assert list(Run.objects.visible_to(actor).present()) == [other]
    assert not Evaluation.objects.visible_to(actor).present().filter(pk=evaluation.pk).exists()


@pytest.mark.parametrize("role", [Role.VIEWER, Role.ANNOTATOR])
def test_who_may_only_look_changes_nothing(actor, role):
    evaluation = make_evaluation(actor)
    run = make_run(actor, evaluation=evaluation)
    looker = make_actor(role, account=actor.account)
    before = actions()
    for call in (
        lambda: create_evaluation(looker, criteria=[]),
        lambda: update_evaluation(looker, evaluation, name="x"),
        lambda: delete_evaluation(looker, evaluation),
        lambda: start_run(looker, evaluation, source=[], target=Recorded()),
        lambda: cancel_run(looker, run),
        lambda: delete_run(looker, run),
        lambda: retry_errored(looker, run),
    ):
        with pytest.raises(PermissionDenied):
            call()
    assert actions() == before
    run.refresh_from_db()
    assert (run.state, run.deleted_at) == (Run.State.QUEUED, None)


def test_an_editor_of_another_account_changes_nothing(actor):
    run = make_run(actor)
    stranger = make_actor(Role.OWNER, account=make_account())
    for call in (cancel_run, delete_run, retry_errored):
        with pytest.raises(PermissionDenied):
            call(stranger, run)
